"""Calibration errors as functions of replicate weights, and what they would be by chance alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlab.evaluation.calibration.debiased_bins import Bins, Tally, bins_of, one_bin, root
from lesionlab.evaluation.intervals.bootstrap import Measure, Weights, rows_per_block
from lesionlab.evaluation.intervals.estimate import Range, Values
from lesionlab.evaluation.metrics.classification import decide, log_loss
from lesionlab.numerics import ratio
from lesionlab.progress import Listener, Step, silent

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

PLAIN = ("ece_equal_width", "ece_equal_mass", "ece_classwise")
"""The usual, biased errors; they get no interval."""

DEBIASED = ("calibration_error", "calibration_error_equal_width", "calibration_error_classwise")
ERRORS = (*DEBIASED, *PLAIN)

BINS = 15
"""How many bins, unless another number is asked for: that of Guo et al., ICML 2017."""


@dataclass(frozen=True, eq=False)
class Binned:
    """All the bins that the figures need, fixed by the probabilities alone.

    Attributes:
        top: the likeliest class of each image, shape (n,).
        confidence: its probability, shape (n,).
        width: of the confidence, bins of equal width.
        mass: of the confidence, bins of as many images each.
        by_class: of each class's probability, bins of as many images each.
        by_class_width: of each class's probability, bins of equal width.
        whole: all images in one.
    """

    top: Index
    confidence: Floats
    width: Bins
    mass: Bins
    by_class: tuple[Bins, ...]
    by_class_width: tuple[Bins, ...]
    whole: Bins

    @classmethod
    def of(cls, probabilities: Floats, lesions: Index, number: int) -> Binned:
        """Bin probabilities of shape (n, k); lesions as numbers, shape (n,)."""
        top = decide(probabilities)
        confidence = probabilities[np.arange(len(top)), top]
        columns = list(probabilities.T)
        return cls(
            top,
            confidence,
            bins_of(confidence, lesions, number, "width"),
            bins_of(confidence, lesions, number, "mass"),
            tuple(bins_of(each, lesions, number, "mass") for each in columns),
            tuple(bins_of(each, lesions, number, "width") for each in columns),
            one_bin(lesions),
        )


def errors(
    weights: Floats, targets: Index, probabilities: Floats, classes: Sequence[str], binned: Binned
) -> dict[str, Values]:
    """Every binned error; the debiased ones as squares, which can be negative.

    Args:
        weights: replicates in columns, shape (n, r) or (n, 1).
        targets: true classes as positions, shape (n, r) or (n, 1).
        probabilities: shape (n, k).
        classes: names, length k.
        binned: of the same images.

    Returns:
        Each by name, shape (r,).
    """
    gaps = _columns((targets == binned.top[:, None]) - binned.confidence[:, None])
    found: dict[str, Values] = {}
    for name, bins in (("mass", binned.mass), ("width", binned.width)):
        tally = Tally.of(weights, bins)
        sums = tally.sums(gaps)
        found[f"ece_equal_{name}"] = tally.plain(sums)
        found["calibration_error" + ("_equal_width" if name == "width" else "")] = tally.squares(
            sums
        )
    plain, squares = [], []
    for i, (mass, width) in enumerate(zip(binned.by_class, binned.by_class_width, strict=True)):
        gaps = _columns((targets == i) - probabilities[:, i, None])
        tally = Tally.of(weights, width)
        plain.append(tally.plain(tally.sums(gaps)))
        tally = Tally.of(weights, mass)
        squares.append(tally.squares(tally.sums(gaps)))
    found["ece_classwise"] = np.mean(plain, axis=0)
    found["calibration_error_classwise"] = np.mean(squares, axis=0)
    return found | {
        f"calibration_error/{label}": each for label, each in zip(classes, squares, strict=True)
    }


def _columns(values: Floats) -> Floats:
    """Without the second axis where it is a single column."""
    return values[:, 0] if values.shape[1] == 1 else values


def measure(
    targets: Index, probabilities: Floats, classes: Sequence[str], binned: Binned
) -> Measure[str]:
    """All figures of `calibration_errors` by replicate weights; bins stay where they are.

    Args:
        targets: true classes as positions, shape (n,).
        probabilities: shape (n, k).
        classes: names, length k.
        binned: of the same images.
    """
    k = len(classes)
    right = binned.top == targets
    losses = ((np.eye(k)[targets] - probabilities) ** 2).sum(axis=1)

    def compute(weights: Weights) -> Mapping[str, Values]:
        columns = np.ascontiguousarray(weights.T)
        found = errors(columns, targets[:, None], probabilities, classes, binned)
        reliability = k * found["calibration_error_classwise"]
        resolution, uncertainty = _brier_parts(columns, targets, binned)
        total = weights.sum(axis=1)
        brier = ratio((weights * losses).sum(axis=1), total)
        named = {name: each if name in PLAIN else root(each) for name, each in found.items()}
        return {
            **{name: named[name] for name in ERRORS},
            "overconfidence": ratio((weights * (binned.confidence - right)).sum(axis=1), total),
            "brier": brier,
            "brier_reliability": reliability,
            "brier_resolution": resolution,
            "brier_uncertainty": uncertainty,
            "brier_within": brier - (reliability - resolution + uncertainty),
            "log_loss": log_loss(weights, targets, probabilities),
            **{name: values for name, values in named.items() if "/" in name},
        }

    return Measure(compute, ranges={"brier": Range(high=2.0), "log_loss": Range(high=np.inf)})


def _brier_parts(weights: Floats, targets: Index, binned: Binned) -> tuple[Values, Values]:
    """Resolution and uncertainty, summed over classes, in squares without bias, shape (r,) each."""
    resolution, uncertainty = np.zeros((2, weights.shape[1]))
    whole = Tally.of(weights, binned.whole)
    for i, bins in enumerate(binned.by_class):
        seen = np.asarray(targets == i, dtype=np.float64)
        sums = whole.sums(seen)
        overall = whole.squares(sums)
        tally = Tally.of(weights, bins)
        resolution += tally.squares(tally.sums(seen)) - overall
        uncertainty += whole.plain(sums) - overall  # frequencies are positive: |mean| is the mean
    return resolution, uncertainty


def if_calibrated(
    probabilities: Floats,
    lesions: Index,
    count: int,
    classes: Sequence[str],
    binned: Binned,
    replicates: int,
    seed: int,
    listen: Listener = silent,
) -> dict[str, Values]:
    """What `errors` would be if the probabilities were right: consistency resampling by lesion.

    Every replicate draws true classes from the probabilities themselves (Bröcker and Smith, Weather
    Forecast. 22:651-661, 2007). One number per lesion decides for all its images, so that images
    of a lesion which the model sees alike get the same class, as they would.

    Args:
        probabilities: shape (n, k).
        lesions: numbers of the lesions, shape (n,).
        count: how many lesions there are.
        classes: names, length k.
        binned: of the same images.
        replicates: how many to draw.
        seed: of the draws.
        listen: told of the progress.

    Returns:
        As `errors`, shape (replicates,).
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))  # not that of the bootstrap
    steps = np.cumsum(probabilities / probabilities.sum(axis=1, keepdims=True), axis=1)[:, :-1]
    ones = np.ones((len(lesions), 1))
    rows = rows_per_block(len(lesions))
    parts: dict[str, list[Values]] = {}
    for start in range(0, replicates, rows):
        drawn = rng.random((count, min(rows, replicates - start)))[lesions]
        targets = np.zeros(drawn.shape, dtype=np.intp)
        for step in steps.T:
            targets += drawn >= step[:, None]
        for name, values in errors(ones, targets, probabilities, classes, binned).items():
            parts.setdefault(name, []).append(values)
        listen(Step("if it were calibrated", start + drawn.shape[1], replicates, "replicates"))
    return {name: np.concatenate(values) for name, values in parts.items()}
