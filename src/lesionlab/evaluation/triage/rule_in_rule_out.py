"""Two thresholds, rule-out and rule-in: what lies in between is left for a doctor.

Both are chosen on part val and applied to another part. What that would have meant for 1,000
patients is told at a stated prevalence: the shares of the cases and of the others that fall into
each zone are measured, how common cases are is said. A patient stands for one lesion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.display import Result
from lesionlab.errors import SettingsError
from lesionlab.evaluation.calibration.calibrate import FEW_LESIONS, leak
from lesionlab.evaluation.calibration.prevalence import predictive_values
from lesionlab.evaluation.intervals.bootstrap import estimates, lesion_codes
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.evaluation.metrics.operating_points import (
    threshold_at_sensitivity,
    threshold_at_specificity,
)
from lesionlab.evaluation.predictions.binary_target import (
    Question,
    Unit,
    both_sides,
    check_prevalence,
    ends,
    question_of,
    units_of,
)
from lesionlab.evaluation.predictions.load import Source, open_predictions
from lesionlab.evaluation.triage.patient_flow import ROWS, complete, zones
from lesionlab.files import write_csv, write_json
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import Part

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

PATIENTS = 1000
PREVALENCE = 0.05
SENSITIVITY = 0.95
SPECIFICITY = 0.95


@dataclass(frozen=True, eq=False, repr=False)
class TwoThresholds(Result):
    """Two thresholds and what they did.

    Attributes:
        rule_out: a risk below it counts as no case.
        rule_in: a risk of it or more counts as a case; above 1 if none does.
        estimates: on the part that was scored: sensitivity and specificity of either threshold
            ("sensitivity_out", "specificity_out", "sensitivity_in", "specificity_in"); shares of
            the cases and of the others in each zone ("cases_out", ...); at the stated prevalence
            "npv" of those below, "ppv" of those above, and numbers of patients: "ruled_out",
            "missed", "ruled_in", "false", "between", "between_cases".
        chosen: on val: images or lesions, cases and sensitivity or specificity reached.
        question: what is looked for.
        settings: what was asked for: sensitivity, specificity, ppv, prevalence, patients, unit.
        part: the part that was scored.
        warnings: what a reader must know.
    """

    _tables: ClassVar[tuple[str, ...]] = ("table", "figures")

    rule_out: float
    rule_in: float
    estimates: Mapping[str, Estimate]
    chosen: Mapping[str, Any]
    question: Question
    settings: Mapping[str, Any]
    part: str
    warnings: tuple[str, ...]

    def __getitem__(self, name: str) -> Estimate:
        return self.estimates[name]

    def table(self) -> pd.DataFrame:
        """What would have become of the patients: columns zone, patients, low and high."""
        rows = [(text, *ends(self[name])) for name, text in ROWS.items()]
        return pd.DataFrame(rows, columns=["zone", "patients", "low", "high"])

    def figures(self) -> pd.DataFrame:
        """All estimates: columns figure, value, low, high, n (units) and lesions they rest on."""
        rows = [(name, *ends(e), e.n, e.groups) for name, e in self.estimates.items()]
        return pd.DataFrame(rows, columns=["figure", "value", "low", "high", "n", "lesions"])

    def to_json(self) -> dict[str, Any]:
        """The thresholds and how they came about, as plain values."""
        return {
            "kind": "lesionlab thresholds 1",
            "positive": self.question.name,
            "rule": self.question.rule,
            "rule_out_below": self.rule_out,
            "rule_in_from": self.rule_in,
            "settings": dict(self.settings),
            "chosen_on_val": dict(self.chosen),
            "part": self.part,
            "warnings": list(self.warnings),
        }

    def save(self, path: str | Path) -> None:
        """Write the figures as CSV, and beside it as JSON the thresholds."""
        write_csv(Path(path), self.figures())
        write_json(Path(path).with_suffix(".json"), self.to_json())

    def __repr__(self) -> str:
        return (
            f"<TwoThresholds of {self.question.name}: out below {self.rule_out:.4g}, "
            f"in from {self.rule_in:.4g}>"
        )


def two_thresholds(
    predictions: Source,
    *,
    positive: str | None = None,
    sensitivity: float = SENSITIVITY,
    specificity: float = SPECIFICITY,
    ppv: float | None = None,
    prevalence: float = PREVALENCE,
    patients: int = PATIENTS,
    part: Part = "test",
    unit: Unit = "lesion",
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> TwoThresholds:
    """Choose a rule-out and a rule-in threshold on val and say what they do on another part.

    The intervals are those of the scored part: they hold for these very thresholds and this very
    prevalence.

    Args:
        predictions: anything that `evaluate` takes, with rows of part val.
        positive: what is looked for: a class, several ("mel+bcc"), or malignant, the default.
        sensitivity: share of val's cases that must not be below the lower one, above 0 up to 1.
        specificity: share of val's others that must not be above the upper one, 0-1; not used with
            a ppv.
        ppv: instead of a specificity: share of cases among those above the upper one, on val and at
            the stated prevalence.
        prevalence: share of the patients that are cases, above 0 and below 1.
        patients: how many patients to tell of.
        part: the part to apply them to: train or test.
        unit: lesion (one decision for each, by the mean of its images' risks) or image.
        replicates: of the bootstrap over lesions; 0 gives no intervals.
        seed: of the bootstrap.
        listen: told of the progress and of every warning.

    Raises:
        DataError: if there is no val part or nothing to score, or one of them has no cases or
            only cases.
        FindingsError: with every fault of the table at once.
        SettingsError: if a setting makes no sense, or part is val.

    Example:
        >>> two_thresholds("runs/first", prevalence=0.02).table()  # doctest: +SKIP
    """
    _check(sensitivity, specificity, ppv, prevalence, patients, part)
    table = open_predictions(predictions)
    question = question_of(table, positive)
    val, rows = units_of(table, "val", unit), units_of(table, part, unit)
    known = both_sides(val, question, unit, why="choosing thresholds")
    cases = both_sides(rows, question, unit, why="saying what thresholds do")
    seen = question.risks(val)
    low = threshold_at_sensitivity(known, seen, sensitivity)
    if ppv is None:
        high = threshold_at_specificity(known, seen, specificity)
    else:
        high = threshold_at_ppv(known, seen, ppv, prevalence)
    overlap = high < low
    high = max(low, high)  # where they overlap, both promises hold at the lower one
    risks = question.risks(rows)
    out, into = risks < low, risks >= high
    groups = rows["lesion_id"].to_numpy(dtype=object)
    found = estimates(
        [zones(cases, out, into, prevalence, patients)],
        groups,
        replicates=replicates,
        seed=seed,
        listen=listen,
    )
    chosen = _on_val(val, known, seen, low, high, unit)
    warnings = _warnings(chosen, known, seen, high, ppv, overlap)
    if crossing := leak(table, "val", part):
        warnings.append(crossing)
    for text in warnings:
        listen(Notice(text, "warning"))
    return TwoThresholds(
        low,
        high,
        complete(found, prevalence, patients),
        chosen,
        question,
        {
            "sensitivity": sensitivity,
            "specificity": None if ppv is not None else specificity,
            "ppv": ppv,
            "prevalence": prevalence,
            "patients": patients,
            "unit": unit,
        },
        part,
        tuple(warnings),
    )


def threshold_at_ppv(cases: Mask, risks: Floats, ppv: float, prevalence: float) -> float:
    """The smallest threshold whose PPV, at a prevalence, is at least what is asked.

    Args:
        cases: which of the units are cases, shape (n,).
        risks: shape (n,).
        ppv: share of cases among those above it, 0-1.
        prevalence: share of cases where it is to be used, above 0 and below 1.

    Returns:
        One of the risks; the next number above the highest if none will do.
    """
    candidates = np.unique(risks)
    rates = [
        1 - np.searchsorted(np.sort(each), candidates, side="left") / len(each)
        for each in (risks[cases], risks[~cases])
    ]
    reached, _ = predictive_values(rates[0], 1 - rates[1], prevalence)
    good = np.flatnonzero(reached >= ppv - 1e-12)
    return float(candidates[good[0]] if len(good) else np.nextafter(candidates[-1], np.inf))


def _on_val(
    val: pd.DataFrame, cases: Mask, risks: Floats, low: float, high: float, unit: Unit
) -> dict[str, Any]:
    codes, lesions = lesion_codes(val["lesion_id"].to_numpy(dtype=object))
    return {
        f"{unit}s": len(val),
        "lesions": lesions,
        "cases": int(cases.sum()),
        "lesions_of_cases": len(np.unique(codes[cases])),
        "sensitivity_out": float((risks[cases] >= low).mean()),
        "specificity_out": float((risks[~cases] < low).mean()),
        "sensitivity_in": float((risks[cases] >= high).mean()),
        "specificity_in": float((risks[~cases] < high).mean()),
    }


def _warnings(
    chosen: Mapping[str, Any],
    cases: Mask,
    risks: Floats,
    high: float,
    ppv: float | None,
    overlap: bool,
) -> list[str]:
    texts = []
    if chosen["lesions_of_cases"] < FEW_LESIONS:
        texts.append(
            f"The thresholds were chosen on {chosen['lesions_of_cases']} lesions of val that are "
            "cases: with others they would be elsewhere."
        )
    if high > risks.max():
        texts.append(
            f"On val no threshold reaches {f'a PPV of {ppv:g}' if ppv else 'that specificity'} at "
            "this prevalence: nothing is above the upper threshold. Ask for less."
        )
    elif ppv is not None and (count := int((risks >= high).sum())) < FEW_LESIONS:
        texts.append(
            f"The rule-in threshold rests on {count} units of val, "
            f"{int(cases[risks >= high].sum())} of them cases: the PPV that they show says little."
        )
    if overlap:
        texts.append(
            "The two thresholds overlap on val: both promises hold at the rule-out threshold, so "
            "it serves for both and nothing is left in between."
        )
    return texts


def _check(
    sensitivity: float,
    specificity: float,
    ppv: float | None,
    prevalence: float,
    patients: int,
    part: str,
) -> None:
    faults = []
    if not 0 < sensitivity <= 1:
        faults.append(f"sensitivity is {sensitivity}; choose a number above 0 up to 1")
    if not 0 <= specificity <= 1:
        faults.append(f"specificity is {specificity}; choose a number from 0 to 1")
    if ppv is not None and not 0 < ppv <= 1:
        faults.append(f"ppv is {ppv}; choose a number above 0 up to 1")
    if patients < 1:
        faults.append(f"patients is {patients}; tell of at least one")
    if part == "val":
        faults.append("the thresholds are chosen on val; choose part test, or train")
    if faults:
        raise SettingsError("Two thresholds: " + "; ".join(faults) + ".", faults)
    check_prevalence(prevalence)
