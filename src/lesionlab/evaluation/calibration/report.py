"""Whether probabilities mean what they say: calibration errors without bias, and a test against 0.

The usual expected calibration error (ECE) is positive for a perfectly calibrated model, the more
so the fewer images there are, and its bootstrap interval is too high as well. It stands here for
comparison with papers, without interval and beside what a calibrated model would get. The figures
to go by are `calibration_error...`: roots of squared errors that are free of that bias, also where
images share lesions (see `binning`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lesionlab.display import Result
from lesionlab.errors import SettingsError
from lesionlab.evaluation.calibration.debiased_bins import Kind
from lesionlab.evaluation.calibration.errors import (
    BINS,
    PLAIN,
    Binned,
    errors,
    if_calibrated,
    measure,
)
from lesionlab.evaluation.calibration.reliability_diagram import reliability_curve
from lesionlab.evaluation.intervals.bootstrap import estimates, lesion_codes
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.evaluation.predictions.load import Source, arrays_of, open_predictions, rows_of
from lesionlab.files import write_csv
from lesionlab.progress import Listener, silent
from lesionlab.tables import Part, classes_of

SIGNIFICANCE = 0.05
"""An error is told apart from 0 where a calibrated model would reach it more rarely than this."""


@dataclass(frozen=True, eq=False, repr=False)
class CalibrationErrors(Result):
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
        predictions: the table that was measured.
    """

    estimates: Mapping[str, Estimate]
    p_values: Mapping[str, float]
    expected: Mapping[str, float]
    classes: tuple[str, ...]
    part: Part
    bins: int
    replicates: int
    seed: int
    predictions: pd.DataFrame

    def reliability_curve(
        self, *, bins: int = BINS, kind: Kind = "mass", replicates: int = 1000
    ) -> pd.DataFrame:
        """Predicted and observed frequencies by bin, see `reliability_diagram`.

        Args:
            bins: how many, before equal scores are put together.
            kind: "mass": as many images in each; "width": the range 0-1 in equal steps.
            replicates: of the bootstrap over lesions; 0 gives no intervals.
        """
        return reliability_curve(
            self.predictions,
            part=self.part,
            bins=bins,
            kind=kind,
            replicates=replicates,
            seed=self.seed,
        )

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

    def describe(self, name: str) -> str:
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
        return f"<CalibrationErrors of {self.part}: {self.describe('calibration_error')}>"

    def __str__(self) -> str:
        names = [name for name in self if "/" not in name]
        size = self["log_loss"]
        lines = [f"{self.part}: {size.n} images of {size.groups} lesions, 95 % intervals"]
        return "\n".join(lines + [f"  {name:32}  {self.describe(name)}" for name in names])


def calibration_errors(
    predictions: Source,
    *,
    part: Part = "test",
    bins: int = BINS,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> CalibrationErrors:
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
        >>> print(calibration_errors("runs/first"))  # doctest: +SKIP
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
    return CalibrationErrors(
        found, p_values, expected, classes, part, bins, replicates, seed, table
    )
