"""From figures of single images to estimates: by right and wrong, by class, and what they tell.

Every image counts with what it stands for, and lesions are drawn for the intervals, not images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from lesionlab.evaluation.intervals.bootstrap import Measure, Weights, replicate
from lesionlab.evaluation.intervals.estimate import Estimate, Values, estimate
from lesionlab.evaluation.metrics.ranking import auroc, rank
from lesionlab.numerics import ratio
from lesionlab.progress import Listener, silent

ALL, RIGHT, WRONG = "all", "right", "wrong"
BALANCED = "mean of classes"
DIFFERENCE = "right - wrong"
WITHIN = "right - wrong within class"

PAIRED = {  # a difference of two figures of the same image
    "inside - area": ("inside", "area"),
    "inside - inside_centre": ("inside", "inside_centre"),
    "inside - inside_untrained": ("inside", "inside_untrained"),
    "pointing - pointing_chance": ("pointing", "pointing_chance"),
    "pointing - pointing_centre": ("pointing", "pointing_centre"),
    "pointing - pointing_untrained": ("pointing", "pointing_untrained"),
    "overlap - overlap_chance": ("overlap", "overlap_chance"),
    "overlap - overlap_centre": ("overlap", "overlap_centre"),
    "overlap - overlap_untrained": ("overlap", "overlap_untrained"),
    "deletion - deletion_random": ("deletion", "deletion_random"),
    "deletion - deletion_centre": ("deletion", "deletion_centre"),
    "insertion - insertion_random": ("insertion", "insertion_random"),
    "insertion - insertion_centre": ("insertion", "insertion_centre"),
    "right_whole - right_lesion": ("right_whole", "right_lesion"),
    "right_whole - right_context": ("right_whole", "right_context"),
    "right_lesion - right_context": ("right_lesion", "right_context"),
}
RATIOS = {"enrichment": ("inside", "area")}
"""Of two means, over the images that have both."""
RELATED = ("area", "inside", "inside - area", "overlap", "insertion - insertion_random")
"""Figures whose relation to the probability, and to being right, is told."""
_SHARES = ("right_", "same_", "blank")  # names of figures that are yes or no


@dataclass(frozen=True)
class Bootstrap:
    """How to draw lesions.

    Attributes:
        replicates: how many times.
        seed: of the draws.
        listen: told of the progress.
    """

    replicates: int
    seed: int
    listen: Listener = silent


@dataclass(frozen=True)
class _Frame:
    """Figures of images as arrays.

    Attributes:
        values: nan where not known, shape (n, figures).
        names: of the figures.
        weight: what each image stands for, shape (n,).
        lesions: ids, shape (n,).
        right: whether the answer is right, shape (n,).
        target: the class, shape (n,).
    """

    values: NDArray[np.float64]
    names: tuple[str, ...]
    weight: NDArray[np.float64]
    lesions: NDArray[np.object_]
    right: NDArray[np.bool_]
    target: NDArray[np.object_]


def summarise(
    table: pd.DataFrame,
    figures: Sequence[str],
    classes: Sequence[str],
    drawn: Bootstrap,
) -> pd.DataFrame:
    """Mean figures with 95 % intervals, by group, and their relation to probability and rightness.

    Args:
        table: one row per image: lesion_id, target, right, probability, weight and the figures, nan
            where an image has none.
        figures: columns to average; paired differences of them are added.
        classes: in order.
        drawn: how to draw.

    Returns:
        Columns measure, group, value, low, high, images, lesions. Groups are all, the mean of the
        classes' means, right, wrong, right - wrong, the same within classes (averaged by how many
        wrong answers a class has), and every class.
    """
    table = table.copy()
    for name, (one, other) in PAIRED.items():
        if one in figures and other in figures:
            table[name] = table[one] - table[other]
    names = [*figures, *(name for name in PAIRED if name in table)]
    frame = _frame(table, table[names])
    measures, keys = _means(frame, _groups(frame, classes))
    more, more_keys = _relations(frame, table)
    return _table(_estimates([*measures, *more], keys | more_keys, frame, drawn))


def means(table: pd.DataFrame, values: pd.DataFrame, drawn: Bootstrap) -> dict[str, Estimate]:
    """Means over all images with their intervals.

    Args:
        table: as for `summarise`; its own figures are left alone.
        values: figures of the same images, one per column.
        drawn: how to draw.
    """
    frame = _frame(table, values)
    measures, keys = _means(frame, _groups(frame, ()), (ALL,))
    return {name: found for name, _, found in _estimates(measures, keys, frame, drawn)}


def mean_curves(
    table: pd.DataFrame,
    curves: Mapping[tuple[str, str], NDArray[np.float64]],
    drawn: Bootstrap,
) -> pd.DataFrame:
    """Mean curves with intervals at every point, over all images, right and wrong ones.

    Args:
        table: as for `summarise`.
        curves: by kind (deletion, insertion) and order, shape (n, steps + 1) each.
        drawn: how to draw.

    Returns:
        Columns curve, order, group, share (of the pixels, 0-1), probability, low, high, images,
        lesions.
    """
    steps = next(iter(curves.values())).shape[1] - 1
    points = [(kind, way, step) for kind, way in curves for step in range(steps + 1)]
    wide = pd.DataFrame(
        np.concatenate(list(curves.values()), axis=1), columns=[str(n) for n in range(len(points))]
    )
    frame = _frame(table, wide)
    measures, keys = _means(frame, _groups(frame, ()), (ALL, RIGHT, WRONG))
    rows = []
    for name, group, e in _estimates(measures, keys, frame, drawn):
        kind, way, step = points[int(name)]
        rows.append((kind, way, group, step / steps, e.value, e.low, e.high, e.n, e.groups))
    columns = ["curve", "order", "group", "share", "probability", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "images", "lesions"])


def _estimates(
    measures: Sequence[Measure[_Key]], keys: _Keys, frame: _Frame, drawn: Bootstrap
) -> list[tuple[str, str, Estimate]]:
    """Figure, group and estimate of every key that rests on any image."""
    found = replicate(
        measures,
        frame.lesions,
        replicates=drawn.replicates,
        seed=drawn.seed,
        listen=drawn.listen,
    )
    rows = []
    for (measure, group), seen in keys.items():
        whole = group not in (BALANCED, DIFFERENCE, WITHIN) and " - " not in measure
        share = whole and measure.startswith(_SHARES)
        size = int(seen.sum()), len(np.unique(found.codes[seen]))
        if size[0]:
            rows.append(
                (measure, group, estimate(found.values[measure, group], *size, proportion=share))
            )
    return rows


def _frame(table: pd.DataFrame, values: pd.DataFrame) -> _Frame:
    return _Frame(
        values.to_numpy(np.float64),
        tuple(values.columns),
        table["weight"].to_numpy(np.float64),
        table["lesion_id"].to_numpy(dtype=object),
        table["right"].to_numpy(bool),
        table["target"].to_numpy(dtype=object),
    )


_Group = tuple[Callable[[Weights], NDArray[np.float64]], NDArray[np.bool_]]


def _groups(frame: _Frame, classes: Sequence[str]) -> dict[str, _Group]:
    """By name, what gives a group's means, shape (r, figures), and the images that it rests on."""
    every = np.ones(len(frame.right), bool)
    own = {label: frame.target == label for label in classes}
    own = {label: mask for label, mask in own.items() if mask.any()}
    mixed = {
        label: mask
        for label, mask in own.items()
        if (mask & frame.right).any() and (mask & ~frame.right).any()
    }
    both = np.logical_or.reduce([*mixed.values(), ~every])

    def of(mask: NDArray[np.bool_]) -> _Group:
        return (lambda weights: _mean(frame, weights, mask)), mask

    def balanced(weights: Weights) -> NDArray[np.float64]:
        each = np.stack([_mean(frame, weights, mask) for mask in own.values()])
        known = ~np.isnan(each)
        return ratio(np.where(known, each, 0).sum(axis=0), known.sum(axis=0).astype(float))

    def difference(weights: Weights) -> NDArray[np.float64]:
        return _mean(frame, weights, frame.right) - _mean(frame, weights, ~frame.right)

    def within(weights: Weights) -> NDArray[np.float64]:
        gap = np.stack(
            [
                _mean(frame, weights, mask & frame.right)
                - _mean(frame, weights, mask & ~frame.right)
                for mask in mixed.values()
            ]
        )
        heavy = np.stack(
            [(weights * frame.weight) @ (mask & ~frame.right) for mask in mixed.values()]
        )[:, :, None]
        known = ~np.isnan(gap)
        return ratio(np.where(known, gap * heavy, 0).sum(axis=0), (known * heavy).sum(axis=0))

    made: dict[str, _Group] = {ALL: of(every)}
    if own:
        made[BALANCED] = balanced, every
    made |= {RIGHT: of(frame.right), WRONG: of(~frame.right), DIFFERENCE: (difference, every)}
    if mixed:
        made[WITHIN] = within, both
    return made | {label: of(mask) for label, mask in own.items()}


def _mean(frame: _Frame, weights: Weights, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weighted means of the figures, then of the ratios, shape (r, figures + ratios)."""
    chosen = (weights * frame.weight)[:, mask]
    values = frame.values[mask]
    known = ~np.isnan(values)
    sums = chosen @ np.where(known, values, 0)
    made = [ratio(sums, chosen @ known.astype(float))]
    for name in _ratios(frame):
        one, other = (values[:, frame.names.index(each)] for each in RATIOS[name])
        seen = ~np.isnan(one) & ~np.isnan(other)
        top, bottom = (chosen @ np.where(seen, each, 0) for each in (one, other))
        made.append(ratio(top, bottom)[:, None])
    return np.concatenate(made, axis=1)


def _ratios(frame: _Frame) -> list[str]:
    return [name for name, pair in RATIOS.items() if set(pair) <= set(frame.names)]


_Key = tuple[str, str]
_Keys = dict[_Key, NDArray[np.bool_]]
"""By figure and group, the images that it rests on."""


def _means(
    frame: _Frame, groups: Mapping[str, _Group], wanted: Sequence[str] | None = None
) -> tuple[list[Measure[_Key]], _Keys]:
    """A measure per group; of each figure and group the images it rests on."""
    known = ~np.isnan(frame.values)
    names = list(frame.names)
    for name in _ratios(frame):
        one, other = (known[:, names.index(each)] for each in RATIOS[name])
        known = np.column_stack([known, one & other])
    names += _ratios(frame)
    measures, keys = [], _Keys()
    for group, (compute, mask) in groups.items():
        if wanted is not None and group not in wanted:
            continue
        own = [(name, group) for name in names]

        def named(
            weights: Weights,
            compute: Callable[[Weights], NDArray[np.float64]] = compute,
            own: Sequence[_Key] = own,
        ) -> dict[_Key, Values]:
            return dict(zip(own, compute(weights).T, strict=True))

        measures.append(Measure(named))
        for number, name in enumerate(names):
            keys[name, group] = mask & known[:, number]
    return measures, keys


def _relations(frame: _Frame, table: pd.DataFrame) -> tuple[list[Measure[_Key]], _Keys]:
    """Rank correlation with the probability, and how well a figure tells right from wrong."""
    chance = table["probability"].to_numpy(float)
    measures, keys = [], _Keys()
    related = [name for name in RELATED if name in frame.names]
    for name in (*related, "probability"):
        column = table[name].to_numpy(float)
        seen = ~np.isnan(column)
        if seen.sum() < 3:
            continue
        if name != "probability":
            pair = rankdata(column[seen]), rankdata(chance[seen])
            key = f"correlation of {name} with probability", ALL
            measures.append(Measure(_correlation(key, pair, seen, frame.weight)))
            keys[key] = seen
        if (right := frame.right[seen]).any() and not right.all():
            key = f"auroc of {name} for right", ALL
            measures.append(Measure(_auroc(key, right, column[seen], seen, frame.weight)))
            keys[key] = seen
    return measures, keys


def _correlation(
    key: _Key,
    pair: tuple[NDArray[np.float64], NDArray[np.float64]],
    seen: NDArray[np.bool_],
    weight: NDArray[np.float64],
) -> Callable[[Weights], dict[_Key, Values]]:
    """Pearson's correlation of ranks that were taken once, over all images."""

    def compute(weights: Weights) -> dict[_Key, Values]:
        own = (weights * weight)[:, seen]
        own = ratio(own, own.sum(axis=1, keepdims=True))
        x, y = (each - (own @ each)[:, None] for each in pair)
        spread = np.sqrt((own * x**2).sum(axis=1) * (own * y**2).sum(axis=1))
        return {key: ratio((own * x * y).sum(axis=1), spread)}

    return compute


def _auroc(
    key: _Key,
    right: NDArray[np.bool_],
    values: NDArray[np.float64],
    seen: NDArray[np.bool_],
    weight: NDArray[np.float64],
) -> Callable[[Weights], dict[_Key, Values]]:
    ranking = rank(right, values)
    return lambda weights: {key: auroc((weights * weight)[:, seen], ranking)}


def _table(rows: Sequence[tuple[str, str, Estimate]]) -> pd.DataFrame:
    columns = ["measure", "group", "value", "low", "high", "images", "lesions"]
    return pd.DataFrame(
        [(name, group, e.value, e.low, e.high, e.n, e.groups) for name, group, e in rows],
        columns=columns,
    )
