"""Values with intervals: a bootstrap over lesions, all metrics in one pass over replicate weights.

Images of one lesion are not independent, so lesions are drawn, not images (the cluster bootstrap:
Field and Welsh, J. R. Stat. Soc. B 69:369-390, 2007). A replicate is a row of weights, one
per image: how often its lesion was drawn. A metric is a function of such rows, and row 0, all
ones, gives the plain value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lesionlab.errors import SettingsError
from lesionlab.evaluation.intervals.estimate import Estimate, Range, Values, estimate
from lesionlab.evaluation.intervals.p_values import bootstrap_p
from lesionlab.numerics import ratio
from lesionlab.progress import Listener, Step, silent

Key = TypeVar("Key", bound=Hashable)
"""What a metric is called: its name, or a tuple such as model and name."""

Mask = NDArray[np.bool_]

Weights = NDArray[np.float64]
"""Replicate weights, shape (replicates, images), 0 or more."""

BLOCK_BYTES = 8_000_000
"""Size of one block of weights: small enough for the processor's cache, whatever the table."""


@dataclass(frozen=True)
class Measure(Generic[Key]):
    """One or more metrics as a function of replicate weights.

    Attributes:
        compute: takes weights of shape (r, n), gives each metric by name with shape (r,). A row's
            values may depend on that row alone, so that rows can come in blocks of any size.
        basis: boolean masks, shape (n,), of the images that a metric rests on; all where not named.
        proportions: names of the metrics that are a share of the images of their basis.
        ranges: of the metrics that have a range and are no such share.
    """

    compute: Callable[[Weights], Mapping[Key, Values]]
    basis: Mapping[Key, Mask] = field(default_factory=dict)
    proportions: frozenset[Key] = frozenset()
    ranges: Mapping[Key, Range] = field(default_factory=dict)


def shares(masks: Mapping[Key, tuple[Mask, Mask]]) -> Measure[Key]:
    """Shares of images: by name, those that count and those of which they are a share, (n,)."""

    def compute(weights: Weights) -> Mapping[Key, Values]:
        return {
            name: ratio(weights[:, hits & of].sum(axis=1), weights[:, of].sum(axis=1))
            for name, (hits, of) in masks.items()
        }

    return Measure(compute, {name: of for name, (_, of) in masks.items()}, frozenset(masks))


@dataclass(frozen=True, eq=False)
class Replicates(Generic[Key]):
    """Every metric on every replicate, from which estimates and differences are made.

    Attributes:
        values: each metric by name, shape (replicates + 1,), the plain value first.
        basis: as `Measure.basis`.
        proportions: as `Measure.proportions`.
        ranges: of the metrics, as `ranges_of` gives them.
        codes: numbers of the lesions, shape (n,).
    """

    values: Mapping[Key, Values]
    basis: Mapping[Key, Mask]
    proportions: frozenset[Key]
    ranges: Mapping[Key, Range]
    codes: NDArray[np.intp]

    def size(self, *names: Key) -> tuple[int, int]:
        """Images and lesions that some metrics rest on, together."""
        if not all(name in self.basis for name in names):
            return len(self.codes), len(np.unique(self.codes))
        mask = np.any([self.basis[name] for name in names], axis=0)
        return int(mask.sum()), len(np.unique(self.codes[mask]))

    def estimate(self, name: Key) -> Estimate:
        """A metric's value with its interval, and the counts it rests on."""
        share, within = name in self.proportions, self.ranges.get(name)
        return estimate(self.values[name], *self.size(name), proportion=share, within=within)

    def difference(self, name: Key, other: Key) -> tuple[Estimate, float]:
        """A metric minus another on the same replicates, and the p value of "there is none".

        The p value is nan where there is no interval.
        """
        drawn = self.values[name] - self.values[other]
        each = estimate(drawn, *self.size(name, other))
        return each, math.nan if math.isnan(each.low) else bootstrap_p(drawn)


def lesion_codes(groups: ArrayLike) -> tuple[NDArray[np.intp], int]:
    """Number the lesions, in sorted order of their ids; an image without one is its own lesion.

    Args:
        groups: lesion ids, shape (n,); "" (or missing) = unknown.

    Returns:
        Codes 0..count - 1, shape (n,), and how many lesions there are.
    """
    ids = np.asarray(groups, dtype=object)
    blank = np.asarray(pd.isna(ids)) | (ids == "")
    known, names = pd.factorize(ids[~blank], sort=True)
    alone = int(blank.sum())
    codes = np.empty(len(ids), dtype=np.intp)
    codes[~blank] = known
    codes[blank] = len(names) + np.arange(alone)
    return codes, len(names) + alone


def weight_blocks(groups: ArrayLike, replicates: int, seed: int, rows: int) -> Iterator[Weights]:
    """Yield the rows of `lesion_weights` in blocks of at most `rows`; the same rows at any size.

    Raises:
        SettingsError: if `replicates` is negative.
    """
    if replicates < 0:
        raise SettingsError(f"replicates is {replicates}; choose 0 (no intervals) or more.")
    codes, count = lesion_codes(groups)
    rng = np.random.default_rng(seed)
    for start in range(0, replicates + 1, rows):
        stop = min(start + rows, replicates + 1)
        block = np.ones((stop - start, len(codes)))
        for row in range(max(start, 1), stop):
            drawn = rng.integers(count, size=count) if count else np.empty(0, dtype=np.int64)
            block[row - start] = np.bincount(drawn, minlength=count)[codes]
        yield block


def lesion_weights(groups: ArrayLike, replicates: int, seed: int) -> Weights:
    """Draw a cluster bootstrap as weights.

    Each replicate draws as many lesions as there are, with replacement; every image weighs as
    often as its lesion was drawn. Where every image is a lesion of its own, this is the ordinary
    bootstrap.

    Args:
        groups: lesion ids, shape (n,); images with "" are lesions of their own.
        replicates: how many to draw, 0 or more.
        seed: the same seed gives the same weights, on any machine and for any block size.

    Returns:
        Shape (replicates + 1, n): row 0 all ones, the others whole numbers from 0.

    Raises:
        SettingsError: if `replicates` is negative.

    Example:
        >>> lesion_weights(["a", "a", "b"], replicates=2, seed=0).shape
        (3, 3)
    """
    return np.concatenate(list(weight_blocks(groups, replicates, seed, replicates + 1)))


def rows_per_block(n: int) -> int:
    """How many rows of `n` weights make a block of about `BLOCK_BYTES`, at least one."""
    return max(1, BLOCK_BYTES // (8 * max(n, 1)))


def ranges_of(measures: Iterable[Measure[Key]], codes: NDArray[np.intp]) -> dict[Key, Range]:
    """The ranges of all metrics by name, with what a perfect score is worth and their lesions.

    What lies between 0 and 1 has no larger variance than a share with the same mean. So the mean of
    a stratum of m lesions counts as m trials, and a mean over `parts` of them, or over that many
    pairs of a class and the rest, as parts^2 / sum(1 / m).

    Args:
        measures: as for `replicate`.
        codes: numbers of the lesions, shape (n,).
    """
    found = {name: each for measure in measures for name, each in measure.ranges.items()}
    for name, each in found.items():
        sizes = [len(np.unique(codes[mask])) for mask in each.strata]
        if sizes and all(sizes):
            trials = each.parts**2 / sum(1 / size for size in sizes)
            found[name] = replace(each, trials=trials, fewest=min(sizes))
    return found


def replicate(
    measures: Iterable[Measure[Key]],
    groups: ArrayLike,
    *,
    replicates: int,
    seed: int,
    listen: Listener = silent,
) -> Replicates[Key]:
    """Compute every metric on every replicate, in one pass over blocks of weights.

    Args:
        measures: what to compute; a name may stand in one of them only.
        groups: lesion ids, shape (n,), row-aligned with the measures.
        replicates: how many to draw, 0 or more.
        seed: of the draws.
        listen: told of the progress.

    Raises:
        SettingsError: if `replicates` is negative.
    """
    measures = list(measures)
    parts: dict[Key, list[Values]] = {}
    done = 0
    for block in weight_blocks(groups, replicates, seed, rows_per_block(np.size(groups))):
        for measure in measures:
            for name, values in measure.compute(block).items():
                parts.setdefault(name, []).append(values)
        done += len(block)
        listen(Step("bootstrap over lesions", done, replicates + 1, "replicates"))
    codes, _ = lesion_codes(groups)
    return Replicates(
        {name: np.concatenate(values) for name, values in parts.items()},
        {name: mask for measure in measures for name, mask in measure.basis.items()},
        frozenset[Key]().union(*(measure.proportions for measure in measures)),
        ranges_of(measures, codes),
        codes,
    )


def estimates(
    measures: Iterable[Measure[Key]],
    groups: ArrayLike,
    *,
    replicates: int,
    seed: int,
    listen: Listener = silent,
) -> dict[Key, Estimate]:
    """Give every metric of `measures` its value, interval, and the counts it rests on.

    Arguments and errors are those of `replicate`; intervals are those of `estimate`.
    """
    found = replicate(measures, groups, replicates=replicates, seed=seed, listen=listen)
    return {name: found.estimate(name) for name in found.values}
