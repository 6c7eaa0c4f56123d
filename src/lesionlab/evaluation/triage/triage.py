"""Triage: what a model could decide alone, what to leave to a doctor, and at what price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lesionlab.display import Result
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.predictions.binary_target import Unit
from lesionlab.evaluation.predictions.load import Source, open_predictions
from lesionlab.evaluation.triage.decision_costs import decision_costs
from lesionlab.evaluation.triage.decision_curve import THRESHOLDS, DecisionCurve, decision_curve
from lesionlab.evaluation.triage.referral import POINTS, Loss, Referral, referral
from lesionlab.evaluation.triage.referral_cost import PREVALENCE, ReferralCosts, referral_costs
from lesionlab.evaluation.triage.risk_control import MISS, MISS_MELANOMA
from lesionlab.evaluation.triage.risk_coverage import Confidence
from lesionlab.evaluation.triage.rule_in_rule_out import TwoThresholds, two_thresholds
from lesionlab.files import write_csv
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import Part


@dataclass(frozen=True, eq=False, repr=False)
class Triage(Result):
    """What `triage` found; each part is a result of its own.

    Attributes:
        promises: what promised miss rates cost; None where that cannot be said.
        referral: the errors that are left if the least sure are referred.
        thresholds: patients below, above and between two thresholds.
        decision_curve: net benefit of acting on the model.
        costs: what each way to decide would have cost; None without costs.
        warnings: what a reader must know.
    """

    promises: ReferralCosts | None
    referral: Referral
    thresholds: TwoThresholds
    decision_curve: DecisionCurve
    costs: pd.DataFrame | None
    warnings: tuple[str, ...]

    def shown(self) -> list[tuple[str, pd.DataFrame]]:
        """One table of each part, as `Result.shown` says."""
        patients = self.thresholds.settings["patients"]
        tables = [] if self.promises is None else [("What a promise costs", self.promises.table)]
        tables += [
            ("Refer or decide", self.referral.points),
            (f"Of {patients:,} patients, by two thresholds", self.thresholds.table()),
            (f"Net benefit for {self.decision_curve.question.name}", self.decision_curve.table),
        ]
        return tables if self.costs is None else [*tables, ("Mean cost", self.costs)]

    def save(self, folder: str | Path) -> None:
        """Write all tables as CSV and the thresholds as JSON."""
        folder = Path(folder)
        if self.promises is not None:
            self.promises.save(folder / "promises.csv")
        self.referral.save(folder / "refer_or_decide.csv")
        self.thresholds.save(folder / "two_thresholds.csv")
        write_csv(folder / "patients.csv", self.thresholds.table())
        self.decision_curve.save(folder / "decision_curve.csv")
        if self.costs is not None:
            write_csv(folder / "costs.csv", self.costs)


def triage(
    predictions: Source,
    *,
    positive: str | None = None,
    confidence: Confidence = "max",
    loss: Loss = "error",
    coverages: Sequence[float] = POINTS,
    risks: Sequence[float] = (),
    sensitivity: float = 0.95,
    specificity: float = 0.95,
    ppv: float | None = None,
    prevalence: float = PREVALENCE,
    miss: float = MISS,
    miss_melanoma: float = MISS_MELANOMA,
    malignant: Sequence[str] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    costs: pd.DataFrame | str | Path | None = None,
    unit: Unit = "lesion",
    part: Part = "test",
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Triage:
    """Show what a model could decide alone, what it should leave to a doctor, and at what price.

    What a promise costs: how many benign lesions are referred lest more than so many of 100
    malignant ones, or melanomas, be missed. Refer or decide: the errors that are left if the least
    sure are referred. Two thresholds: who would be below the lower one, above the upper one and in
    between, of 1,000 patients. Decision curve: whether acting on the model is better than treating
    all or none. All thresholds are chosen on val.

    Args:
        predictions: anything that `evaluate` takes, with a part val.
        positive: what is looked for: a class, several (mel+bcc), or malignant, the default.
        confidence: max (the largest probability), margin (before the second), entropy, benign (1
            less the risk) or cost (the expected cost of the cheapest action; needs costs).
        loss: error, balanced (every class weighs as much) or cost (needs costs).
        coverages: shares to be decided, with a threshold from val for each.
        risks: losses wanted at most among what is decided, with a threshold from val for each.
        sensitivity: share of the cases that must not be below the lower of two thresholds.
        specificity: share of the others that must not be above the upper one.
        ppv: instead of a specificity, the share of cases among those above the upper threshold.
        prevalence: share of the patients that are cases, for the promises and the two thresholds;
            the decision curve is that of the part as it is.
        miss: share of malignant lesions that may go unreferred.
        miss_melanoma: share of melanomas that may.
        malignant: the malignant classes, where HAM10000's rule does not know all of yours.
        thresholds: risks from which somebody would treat.
        costs: a table, or a CSV, of a column class and a column of costs per action, one called
            refer or none; rows are the classes, or benign and malignant.
        unit: one decision per lesion (the mean over its images), or per image.
        part: the part to score.
        replicates: of the lesion-level bootstrap.
        seed: of the bootstrap.
        listen: told of the progress and warned of what a reader must know.

    Raises:
        DataError: if the predictions cannot be read, or lack part val.
        FindingsError: with every fault of the table at once.
        SettingsError: if an option makes no sense.

    Example:
        >>> triage("runs/first", prevalence=0.02).thresholds  # doctest: +SKIP
    """
    table = open_predictions(predictions)
    bootstrap: dict[str, Any] = {
        "part": part,
        "replicates": replicates,
        "seed": seed,
        "listen": listen,
    }
    referred = referral(
        table,
        confidence=confidence,
        loss=loss,
        costs=costs,
        coverages=coverages,
        risks=risks,
        positive=positive,
        unit=unit,
        **bootstrap,
    )
    two = two_thresholds(
        table,
        positive=positive,
        sensitivity=sensitivity,
        specificity=specificity,
        ppv=ppv,
        prevalence=prevalence,
        unit=unit,
        **bootstrap,
    )
    curve = decision_curve(table, positive=positive, thresholds=thresholds, unit=unit, **bootstrap)
    spent = None if costs is None else decision_costs(table, costs, unit=unit, **bootstrap)
    warnings: tuple[str, ...] = ()
    promises = None
    try:
        promises = referral_costs(
            table,
            miss=miss,
            miss_melanoma=miss_melanoma,
            malignant=malignant,
            prevalence=prevalence,
            **bootstrap,
        )
    except (DataError, SettingsError) as error:
        if malignant is not None or (miss, miss_melanoma) != (MISS, MISS_MELANOMA):
            raise  # it was asked for
        warnings = (f"What a promise costs cannot be said: {error}",)
        listen(Notice(warnings[0]))
    found = [each.warnings for each in (promises, referred, two) if each is not None]
    return Triage(
        promises=promises,
        referral=referred,
        thresholds=two,
        decision_curve=curve,
        costs=spent,
        warnings=tuple(dict.fromkeys((*warnings, *(text for some in found for text in some)))),
    )
