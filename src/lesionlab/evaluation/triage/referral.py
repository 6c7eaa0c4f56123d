"""`referral`: decide what the model is sure of, refer the rest, and see what risk is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.display import Result
from lesionlab.errors import SettingsError
from lesionlab.evaluation.calibration.calibrate import leak
from lesionlab.evaluation.intervals.bootstrap import Measure, Weights, estimates
from lesionlab.evaluation.intervals.estimate import Estimate, Values
from lesionlab.evaluation.metrics.classification import decide
from lesionlab.evaluation.predictions.binary_target import (
    Question,
    Unit,
    ends,
    question_of,
    units_of,
)
from lesionlab.evaluation.predictions.load import Source, arrays_of, open_predictions
from lesionlab.evaluation.triage.decision_costs import Costs, read_costs
from lesionlab.evaluation.triage.risk_coverage import (
    CONFIDENCES,
    Confidence,
    Curve,
    confidence,
    threshold_at_coverage,
    threshold_at_risk,
)
from lesionlab.files import write_csv, write_json
from lesionlab.numerics import ratio
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import Part, classes_of

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]
Loss = Literal["error", "balanced", "cost"]

LOSSES: tuple[Loss, ...] = ("error", "balanced", "cost")
COVERAGES = tuple(round(0.05 * each, 2) for each in range(1, 21))
"""Coverages at which the curve is given."""

POINTS = (0.9, 0.8, 0.7)
"""Coverages that a threshold is chosen for unless others are asked for."""


@dataclass(frozen=True, eq=False, repr=False)
class Referral(Result):
    """Risk against coverage, and what thresholds chosen on val did.

    Attributes:
        estimates: "aurc", "best_aurc" (of the best order of the same losses), "excess_aurc" (aurc
            less that), and "risk_at_90_coverage" for every coverage of the curve.
        points: one row per wish: wanted ("coverage 0.9"), threshold, val_coverage, val_risk, and on
            the scored part coverage and risk, each with _low and _high, and the share decided of
            each class as "coverage/mel".
        best: risk of the best possible order at each coverage of the curve.
        settings: confidence, loss, unit, positive (of confidence benign).
        part: the part that was scored.
        n: how many images, or lesions.
        warnings: what a reader must know.
    """

    _tables: ClassVar[tuple[str, ...]] = ("points",)

    estimates: Mapping[str, Estimate]
    points: pd.DataFrame
    best: Floats
    settings: Mapping[str, Any]
    part: str
    n: int
    warnings: tuple[str, ...]

    def __getitem__(self, name: str) -> Estimate:
        return self.estimates[name]

    def curve(self) -> pd.DataFrame:
        """The curve: columns coverage, risk, low, high, best and decided (images or lesions)."""
        rows = [
            (float(name.split("_")[2]) / 100, *ends(each), each.n)
            for name, each in self.estimates.items()
            if name.startswith("risk_at_")
        ]
        made = pd.DataFrame(rows, columns=["coverage", "risk", "low", "high", "decided"])
        made.insert(4, "best", self.best)
        return made

    def to_json(self) -> dict[str, Any]:
        """The thresholds and how they were chosen, as plain values."""
        kept = ["wanted", "threshold", "val_coverage", "val_risk"]
        return {
            "kind": "lesionlab referral 1",
            **self.settings,
            "part": self.part,
            "points": self.points[kept].to_dict("records"),
            "warnings": list(self.warnings),
        }

    def save(self, path: str | Path) -> None:
        """Write the curve as CSV; beside it, named after it, the points as CSV and as JSON."""
        path = Path(path)
        write_csv(path, self.curve())
        write_csv(path.with_name(f"{path.stem}_points.csv"), self.points)
        write_json(path.with_suffix(".json"), self.to_json())

    def __repr__(self) -> str:
        return f"<Referral: AURC {self['aurc']}, of {self.n} {self.settings['unit']}s>"


def referral(
    predictions: Source,
    *,
    confidence: Confidence = "max",
    loss: Loss = "error",
    costs: Costs | pd.DataFrame | Path | str | None = None,
    coverages: Sequence[float] = POINTS,
    risks: Sequence[float] = (),
    positive: str | None = None,
    part: Part = "test",
    unit: Unit = "image",
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Referral:
    """Refer what the model is least sure of: the risk that is left, at every coverage.

    Thresholds for a wanted coverage or risk are chosen on val and applied to the scored part, as
    they would be in use. That val reaches a risk is no guarantee (Geifman and El-Yaniv, NeurIPS
    2017, give one for independent images): what the other part shows is what to look at.

    Args:
        predictions: anything that `evaluate` takes; with rows of part val if thresholds are wanted.
        confidence: max (the largest probability), margin (before the second), entropy (minus it),
            benign (1 less the risk of `positive`) or cost (minus the expected cost of the cheapest
            action).
        loss: error (1 for a wrong class), balanced (the same, but every class weighs as much in
            all; at full coverage 1 less the balanced accuracy) or cost (what the model's cheapest
            action, never refer, costs for the true class).
        costs: for either cost: see `read_costs`.
        coverages: shares of the images to be decided, above 0 up to 1.
        risks: mean losses of what is decided that are wanted at most.
        positive: of confidence benign: what the risk is of; by default malignant.
        part: the part to score: train or test; val without thresholds only.
        unit: image, or lesion (the mean of its images' probabilities).
        replicates: of the bootstrap over lesions; 0 gives no intervals.
        seed: of the bootstrap.
        listen: told of the progress and of every warning.

    Raises:
        DataError: if there is no val part and thresholds are wanted, or nothing to score.
        FindingsError: with every fault of the table at once.
        SettingsError: if a setting makes no sense.

    Example:
        >>> referral("runs/first", risks=[0.1]).points  # doctest: +SKIP
    """
    wanted = [("coverage", each) for each in coverages] + [("risk", each) for each in risks]
    _check(confidence, loss, costs, coverages, risks, part, bool(wanted))
    table = open_predictions(predictions)
    classes = classes_of(table)
    known = costs
    if known is not None and not isinstance(known, Costs):
        known = read_costs(known, classes)
    question = question_of(table, positive) if confidence == "benign" else None
    rows = units_of(table, part, unit)
    sureness, curve = _scored(rows, confidence, loss, known, question)
    targets, _ = arrays_of(rows)
    measures = [_measure(curve, unit_share=loss != "cost")]
    thresholds: dict[str, float] = {}
    of_val: dict[str, tuple[float, float]] = {}
    if wanted:
        val = units_of(table, "val", unit)
        thresholds, of_val = _choose(*_scored(val, confidence, loss, known, question), wanted)
        decided = {name: sureness >= threshold for name, threshold in thresholds.items()}
        measures.append(_points(curve, decided, targets, classes, share=loss == "error"))
    found = estimates(
        measures,
        rows["lesion_id"].to_numpy(dtype=object),
        replicates=replicates,
        seed=seed,
        listen=listen,
    )
    warnings = [
        f"On val no threshold reaches a {name}: everything is referred. Ask for a higher risk."
        for name in thresholds
        if of_val[name][0] == 0
    ]
    if wanted and (crossing := leak(table, "val", part)):
        warnings.append(crossing)
    for text in warnings:
        listen(Notice(text, "warning"))
    settings: dict[str, Any] = {"confidence": confidence, "loss": loss, "unit": unit}
    settings |= {"positive": question.name} if question else {}
    points = _table(found, thresholds, of_val, classes)
    curves = {name: each for name, each in found.items() if " " not in name}
    best = curve.best_risks(COVERAGES)
    return Referral(curves, points, best, settings, part, len(rows), tuple(warnings))


def _scored(
    rows: pd.DataFrame,
    kind: Confidence,
    loss: Loss,
    costs: Costs | None,
    question: Question | None,
) -> tuple[Floats, Curve]:
    """Confidence of each row, and the curve of its losses."""
    targets, probabilities = arrays_of(rows)
    action = None
    if costs is not None:
        action = costs.cheapest(probabilities, costs.own())
    if kind == "benign" and question is not None:
        sureness = 1 - question.risks(rows)
    elif kind == "cost" and costs is not None and action is not None:
        expected = probabilities @ costs.values
        sureness = -expected[np.arange(len(rows)), action]
    else:
        sureness = confidence(probabilities, kind)  # type: ignore[arg-type]
    if loss == "cost" and costs is not None:
        losses = costs.values[targets, action]
    else:
        losses = (decide(probabilities) != targets).astype(np.float64)
    return sureness, Curve.of(sureness, losses, targets if loss == "balanced" else None)


def _choose(
    sureness: Floats, curve: Curve, wanted: Sequence[tuple[str, float]]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Thresholds by wish, and the coverage and risk that they have on these very images."""
    weights = curve.image_weights(np.ones((1, len(sureness))))[0]
    thresholds, reached = {}, {}
    for kind, goal in wanted:
        threshold = (
            threshold_at_coverage(sureness, goal)
            if kind == "coverage"
            else threshold_at_risk(curve, sureness, goal)
        )
        name = f"{kind} of {goal:g}"
        decided = sureness >= threshold
        risk = ratio((weights * curve.losses)[decided].sum(), weights[decided].sum())
        thresholds[name], reached[name] = threshold, (float(decided.mean()), float(risk))
    return thresholds, reached


def _measure(curve: Curve, *, unit_share: bool) -> Measure[str]:
    """AURC and the risk at the coverages of the curve."""

    def compute(weights: Weights) -> Mapping[str, Values]:
        found, best = curve.aurc(weights), curve.best_aurc(weights)
        at = curve.risks(weights, COVERAGES)
        return {"aurc": found, "best_aurc": best, "excess_aurc": found - best} | {
            f"risk_at_{100 * each:g}_coverage": values for each, values in at.items()
        }

    n = len(curve.order)
    basis = {}
    for each in COVERAGES:
        mask = np.zeros(n, dtype=bool)
        mask[curve.order[: max(1, round(each * n))]] = True
        basis[f"risk_at_{100 * each:g}_coverage"] = mask
    shares = frozenset(basis) if unit_share and curve.classes is None else frozenset[str]()
    return Measure(compute, basis, shares)


def _points(
    curve: Curve,
    decided: Mapping[str, Mask],
    targets: Index,
    classes: tuple[str, ...],
    *,
    share: bool,
) -> Measure[str]:
    """Coverage, risk and each class's coverage of fixed thresholds."""
    members = {f"/{label}": targets == place for place, label in enumerate(classes)}
    members = {"": np.ones(len(targets), dtype=bool), **members}

    def compute(weights: Weights) -> Mapping[str, Values]:
        heavy = curve.image_weights(weights)
        values: dict[str, Values] = {}
        for name, yes in decided.items():
            kept = yes.astype(np.float64)
            values[f"risk {name}"] = ratio(heavy @ (kept * curve.losses), heavy @ kept)
            for tail, mask in members.items():
                own = mask.astype(np.float64)
                values[f"coverage {name}{tail}"] = ratio(weights @ (own * kept), weights @ own)
        return values

    shares = {f"coverage {name}{tail}": mask for name in decided for tail, mask in members.items()}
    of_risk = {f"risk {name}": yes for name, yes in decided.items()}
    return Measure(compute, shares | of_risk, frozenset(shares | (of_risk if share else {})))


def _table(
    found: Mapping[str, Estimate],
    thresholds: Mapping[str, float],
    of_val: Mapping[str, tuple[float, float]],
    classes: tuple[str, ...],
) -> pd.DataFrame:
    rows = [
        (
            name,
            threshold,
            *of_val[name],
            *ends(found[f"coverage {name}"]),
            *ends(found[f"risk {name}"]),
            *(found[f"coverage {name}/{label}"].value for label in classes),
        )
        for name, threshold in thresholds.items()
    ]
    columns = ["wanted", "threshold", "val_coverage", "val_risk"]
    columns += ["coverage", "coverage_low", "coverage_high", "risk", "risk_low", "risk_high"]
    return pd.DataFrame(rows, columns=[*columns, *(f"coverage/{label}" for label in classes)])


def _check(
    kind: str,
    loss: str,
    costs: object,
    coverages: Sequence[float],
    risks: Sequence[float],
    part: str,
    wanted: bool,
) -> None:
    faults = []
    if kind not in CONFIDENCES:
        faults.append(f"there is no confidence {kind!r}; choose one of {', '.join(CONFIDENCES)}")
    if loss not in LOSSES:
        faults.append(f"there is no loss {loss!r}; choose one of {', '.join(LOSSES)}")
    if "cost" in (kind, loss) and costs is None:
        faults.append("a cost takes a table of costs: give costs")
    if any(not 0 < each <= 1 for each in coverages):
        faults.append("coverages are shares of the images, above 0 up to 1")
    if any(not each >= 0 for each in risks):
        faults.append("risks are mean losses, 0 or more")
    if part == "val" and wanted:
        faults.append("thresholds are chosen on val; choose part test, or train")
    if faults:
        raise SettingsError("Refer or decide: " + "; ".join(faults) + ".", faults)
