"""Decision curves: is acting on a model better than treating everybody, or nobody?

Whoever would treat from a risk of pt on finds one needless treatment pt / (1 - pt) times as bad as
a found case is good. The net benefit counts both in found cases per image (Vickers and Elkin, Med.
Decis. Making 26:565-574, 2006): TP / n - FP / n pt / (1 - pt). Divided by the prevalence it is the
standardised net benefit, 1 for a perfect model (Kerr et al., J. Clin. Oncol. 34:2534-2540, 2016).
A threshold is a matter of what is at stake, not of the data: nothing is chosen here. Costs imply
one: pt = c / (c + m), where c is what a needless treatment costs and m what a missed case does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.display import Result
from lesionlab.errors import SettingsError
from lesionlab.evaluation.intervals.bootstrap import Measure, Weights, estimates
from lesionlab.evaluation.intervals.estimate import Values
from lesionlab.evaluation.predictions.binary_target import (
    Question,
    Unit,
    both_sides,
    check_prevalence,
    ends,
    question_of,
    units_of,
)
from lesionlab.evaluation.predictions.load import Source, open_predictions, rows_of
from lesionlab.files import write_csv
from lesionlab.numerics import ratio
from lesionlab.progress import Listener, silent
from lesionlab.tables import Part

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

THRESHOLDS = tuple(round(0.01 * each, 2) for each in (1, 2, 5, *range(10, 65, 5)))
"""Threshold probabilities that are shown unless others are asked for."""

_KINDS = ("model", "all", "gain", "standardised", "sensitivity", "specificity")


@dataclass(frozen=True, eq=False, repr=False)
class DecisionCurve(Result):
    """Net benefit at each threshold probability.

    Attributes:
        table: one row per threshold: threshold; model (net benefit of acting on the model), all
            (of treating everybody; of nobody it is 0), gain (of the model over the better of these
            two), standardised (model / prevalence), sensitivity and specificity, each with _low and
            _high; spared, how many in 1,000 need not be treated, compared with treating everybody,
            without finding fewer cases.
        question: what is treated.
        prevalence: share of the cases that it holds for.
        shifted: whether that is another one than the part's own.
        part: the part that was scored.
        unit: image or lesion.
        n: how many units.
        cases: how many of them are cases.
    """

    table: pd.DataFrame
    question: Question
    prevalence: float
    shifted: bool
    part: str
    unit: Unit
    n: int
    cases: int

    def useful(self) -> list[tuple[float, float]]:
        """Ranges of the thresholds asked for at which the gain is above 0, its interval included.

        Where there are no intervals, the values count.
        """
        low = self.table["gain_low"].fillna(self.table["gain"])
        better = (low > 0).to_numpy()
        at = self.table["threshold"].to_numpy(dtype=np.float64)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], better, [False]]).astype(int)))
        return [
            (float(at[first]), float(at[stop - 1]))
            for first, stop in zip(edges[::2], edges[1::2], strict=True)
        ]

    def save(self, path: str | Path) -> None:
        """Write the table as CSV."""
        write_csv(Path(path), self.table)

    def __repr__(self) -> str:
        return f"<DecisionCurve of {self.question.name}, {self.cases} of {self.n} {self.unit}s>"


def decision_curve(
    predictions: Source,
    *,
    positive: str | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    prevalence: float | None = None,
    part: Part = "test",
    unit: Unit = "image",
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> DecisionCurve:
    """Net benefit of treating those whose risk is a threshold or more.

    Args:
        predictions: anything that `evaluate` takes, with calibrated probabilities.
        positive: what is to be treated: a class, several ("mel+bcc"), or malignant, the default.
        thresholds: risks from which somebody would treat, above 0 and below 1.
        prevalence: share of cases where the model is to be used, above 0 and below 1. Risks are
            re-weighted from the share in val to it (as `reweight` does) and rates weighed by it.
            None: the part as it is.
        part: train, val or test.
        unit: image, or lesion (the mean of its images' risks).
        replicates: of the bootstrap over lesions; 0 gives no intervals.
        seed: of the bootstrap.
        listen: told of the progress.

    Raises:
        DataError: if the part has no cases or only cases; if a prevalence is given and there is no
            val part.
        FindingsError: with every fault of the table at once.
        SettingsError: if there is no such class, or a number is outside its range.

    Example:
        >>> decision_curve("runs/first", thresholds=[0.05, 0.1]).table  # doctest: +SKIP
    """
    wanted = np.asarray(thresholds, dtype=np.float64)
    if not len(wanted) or not ((wanted > 0) & (wanted < 1)).all():
        raise SettingsError("Thresholds are risks above 0 and below 1, at least one.")
    wanted = np.unique(wanted)
    check_prevalence(prevalence)
    table = open_predictions(predictions)
    question = question_of(table, positive)
    rows = units_of(table, part, unit)
    cases = both_sides(rows, question, unit, why="net benefit")
    risks = question.risks(rows)
    if prevalence is not None:
        known = question.positive(both_known(table, question)).mean()
        risks = shift(risks, float(known), prevalence)
    lesions = rows["lesion_id"].to_numpy(dtype=object)
    found = estimates(
        [_measure(cases, risks, wanted, prevalence)],
        lesions,
        replicates=replicates,
        seed=seed,
        listen=listen,
    )
    made = []
    for place, at in enumerate(wanted):
        each = [found[f"{kind}/{place}"] for kind in _KINDS]
        spared = 1000 * (each[0].value - each[1].value) * (1 - at) / at
        made.append((at, *(number for one in each for number in ends(one)), spared))
    columns = [f"{kind}{end}" for kind in _KINDS for end in ("", "_low", "_high")]
    share = float(cases.mean()) if prevalence is None else prevalence
    return DecisionCurve(
        pd.DataFrame(made, columns=["threshold", *columns, "spared"]),
        question,
        share,
        prevalence is not None,
        part,
        unit,
        len(rows),
        int(cases.sum()),
    )


def both_known(table: pd.DataFrame, question: Question) -> pd.DataFrame:
    """The images of part val, whose share of cases the probabilities are calibrated to.

    Raises:
        DataError: if there is no val part, or it has no cases or only cases.
    """
    val = rows_of(table, "val")
    both_sides(val, question, "image", why="re-weighting to a prevalence")
    return val


def shift(risks: Floats, known: float, to: float) -> Floats:
    """Risks as they would be at another prevalence, shape (n,), 0-1.

    The odds of a case change by the ratio of the prevalences' odds (Saerens, Latinne and
    Decaestecker, Neural Comput. 14:21-41, 2002).

    Args:
        risks: shape (n,), calibrated where cases have the share `known`.
        known: above 0 and below 1.
        to: above 0 and below 1.
    """
    cases, others = risks * to / known, (1 - risks) * (1 - to) / (1 - known)
    return cases / (cases + others)


def _measure(
    cases: Mask, risks: Floats, thresholds: Floats, prevalence: float | None
) -> Measure[str]:
    treated = (risks[:, None] >= thresholds).astype(np.float64)  # (n, t)
    odds = thresholds / (1 - thresholds)
    yes = cases.astype(np.float64)

    def compute(weights: Weights) -> Mapping[str, Values]:
        total, sick = weights.sum(axis=1), weights @ yes
        found = ratio((weights * yes) @ treated, sick[:, None])
        needless = ratio((weights * (1 - yes)) @ treated, (total - sick)[:, None])
        share = (ratio(sick, total) if prevalence is None else np.full(len(total), prevalence))[
            :, None
        ]
        # a replicate without cases has no sensitivity, yet its cases are found all the same: none
        hit = np.where(share > 0, found * share, 0.0)
        miss = np.where(share < 1, needless * (1 - share), 0.0)
        model, everybody = hit - miss * odds, share - (1 - share) * odds
        by_kind = {
            "model": model,
            "all": everybody,
            "gain": model - np.maximum(everybody, 0.0),
            "standardised": ratio(model, np.broadcast_to(share, model.shape)),
            "sensitivity": found,
            "specificity": 1 - needless,
        }
        return {
            f"{kind}/{place}": values[:, place]
            for kind, values in by_kind.items()
            for place in range(len(thresholds))
        }

    names = {f"{kind}/{place}": kind for kind in _KINDS[4:] for place in range(len(thresholds))}
    basis = {name: cases if kind == "sensitivity" else ~cases for name, kind in names.items()}
    return Measure(compute, basis, frozenset(basis))
