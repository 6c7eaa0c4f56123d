"""Whether probabilities mean what they say: calibration errors without bias, and a test against 0.

The usual expected calibration error (ECE) is positive for a perfectly calibrated model, the more
so the fewer images there are, and its bootstrap interval is too high as well. It stands here for
comparison with papers, without interval and beside what a calibrated model would get. The figures
to go by are `calibration_error...`: roots of squared errors that are free of that bias, also where
images share lesions (see `binning`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import SettingsError
from lesionlab.evaluation.binning import Bins, Tally, bins_of, one_bin, root
from lesionlab.evaluation.bootstrap import (
    Estimate,
    Measure,
    Values,
    Weights,
    estimates,
    lesion_codes,
    rows_per_block,
)
from lesionlab.evaluation.inputs import Source, arrays_of, open_predictions, rows_of
from lesionlab.evaluation.metrics import decide, log_loss, ratio
from lesionlab.files import write_csv
from lesionlab.progress import Listener, Step, silent
from lesionlab.tables import classes_of

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

BINS = 15
"""How many bins, unless another number is asked for: that of Guo et al., ICML 2017."""

SIGNIFICANCE = 0.05
"""An error is told apart from 0 where a calibrated model would reach it more rarely than this."""

PLAIN = ("ece_equal_width", "ece_equal_mass", "ece_classwise")
"""The usual, biased errors; they get no interval."""

DEBIASED = ("calibration_error", "calibration_error_equal_width", "calibration_error_classwise")
ERRORS = (*DEBIASED, *PLAIN)


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """How far probabilities are from what was seen.

    Attributes:
        estimates: every figure by name, those of one class as "calibration_error/mel".
        p_values: of each debiased error, how often a calibrated model would show one as large;
            empty without replicates.
        expected: of each plain error, what a calibrated model would get on average.
        classes: in their order.
        part: the part that was measured.
        bins: how many bins there are.
        replicates: of the bootstrap and of the test.
        seed: of both.
    """

    estimates: Mapping[str, Estimate]
    p_values: Mapping[str, float]
    expected: Mapping[str, float]
    classes: tuple[str, ...]
    part: str
    bins: int
    replicates: int
    seed: int

    def __getitem__(self, name: str) -> Estimate:
        if name not in self.estimates:
            raise KeyError(f"{name!r} is not among the figures: {', '.join(self.estimates)}")
        return self.estimates[name]

    def __contains__(self, name: object) -> bool:
        return name in self.estimates

    def __iter__(self) -> Iterator[str]:
        return iter(self.estimates)

    def distinguishable(self, name: str) -> bool:
        """Whether a debiased error is told apart from 0; not without replicates."""
        return self.p_values.get(name, 1.0) < SIGNIFICANCE

    def said(self, name: str) -> str:
        """One figure in words, with what there is to say about it."""
        if name in self.p_values:
            p = self.p_values[name]
            verdict = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
            if not self.distinguishable(name):
                verdict = f"not distinguishable from 0, {verdict}"
            return f"{self[name]}, {verdict}"
        if name in self.expected:
            return f"{self[name].value:.3f} (a calibrated model: {self.expected[name]:.3f})"
        return str(self[name])

    def table(self) -> pd.DataFrame:
        """All figures, one per row.

        Returns:
            Columns metric, class ("" for all), value, low, high, images, lesions, p (of debiased
            errors), expected (of plain errors, for a calibrated model).
        """
        rows = []
        for name, each in self.estimates.items():
            metric, _, label = name.partition("/")
            others = self.p_values.get(name, np.nan), self.expected.get(name, np.nan)
            rows.append(
                (metric, label, each.value, each.low, each.high, each.n, each.groups, *others)
            )
        columns = ["metric", "class", "value", "low", "high", "images", "lesions", "p", "expected"]
        return pd.DataFrame(rows, columns=columns)

    def save(self, path: str | Path) -> None:
        """Write `table` as CSV."""
        write_csv(Path(path), self.table())

    def __repr__(self) -> str:
        return f"<Calibration of {self.part}: {self.said('calibration_error')}>"

    def __str__(self) -> str:
        names = [name for name in self if "/" not in name]
        size = self["log_loss"]
        lines = [f"{self.part}: {size.n} images of {size.groups} lesions, 95 % intervals"]
        return "\n".join(lines + [f"  {name:32}  {self.said(name)}" for name in names])


def calibration(
    predictions: Source,
    *,
    part: str = "test",
    bins: int = BINS,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Calibration:
    """Measure how far a table's probabilities are from what was seen.

    Args:
        predictions: anything that `evaluate` takes.
        part: train, val or test.
        bins: how many bins of confidence.
        replicates: of the bootstrap over lesions, and of the test; 0 gives values alone.
        seed: of both.
        listen: told of the progress.

    Returns:
        calibration_error (of the likeliest class, in bins of as many images each),
        calibration_error_equal_width, calibration_error_classwise (the root of the mean over
        classes of each one's squared error) and of each class as "calibration_error/mel": roots
        of debiased squares, 0-1. overconfidence: mean confidence minus accuracy. The plain ECE as
        in papers. brier: mean over images of the sum over classes of squared differences, 0-2;
        brier_reliability - brier_resolution + brier_uncertainty + brier_within is exactly brier,
        in debiased parts (Murphy, J. Appl. Meteorol. 12:595-600, 1973; Ferro and Fricker 2012);
        within is what bins hide. log_loss.

    Raises:
        DataError: if the file cannot be read or the part has no images.
        FindingsError: with every fault of the table at once.
        SettingsError: if `bins` or `replicates` makes no sense.

    Example:
        >>> print(calibration("runs/first"))  # doctest: +SKIP
    """
    if bins < 1:
        raise SettingsError(f"bins is {bins}; choose 1 or more, such as {BINS}.")
    table = open_predictions(predictions)
    rows, classes = rows_of(table, part), classes_of(table)
    targets, probabilities = arrays_of(rows)
    lesions = rows["lesion_id"].to_numpy(dtype=object)
    codes, count = lesion_codes(lesions)
    binned = Binned.of(probabilities, codes, bins)
    found = estimates(
        [measure(targets, probabilities, classes, binned)],
        lesions,
        replicates=replicates,
        seed=seed,
        listen=listen,
    )
    found |= {name: replace(found[name], low=np.nan, high=np.nan) for name in PLAIN}
    p_values: dict[str, float] = {}
    expected: dict[str, float] = {}
    if replicates:
        null = if_calibrated(probabilities, codes, count, classes, binned, replicates, seed, listen)
        plain = {name: values for name, values in null.items() if name in PLAIN}
        expected = {name: float(values.mean()) for name, values in plain.items()}
        ones = np.ones((len(targets), 1))
        seen = errors(ones, targets[:, None], probabilities, classes, binned)
        p_values = {
            name: float((1 + (values >= seen[name][0]).sum()) / (1 + replicates))
            for name, values in null.items()
            if name not in PLAIN
        }
    for name, p in p_values.items():
        if p >= SIGNIFICANCE and not np.isnan(found[name].low):
            found[name] = replace(found[name], low=0.0)  # test and interval say the same
    return Calibration(found, p_values, expected, classes, part, bins, replicates, seed)


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
) -> Measure:
    """All figures of `calibration` as a function of replicate weights; bins stay where they are.

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

    return Measure(compute)


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
