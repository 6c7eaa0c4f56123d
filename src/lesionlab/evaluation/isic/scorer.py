"""Scores of an ISIC challenge submission, equal to those of the official scorer.

The reference is `isic-challenge-scoring` 5.6.0 under scikit-learn 1.9. With `quirks` every number
is the one that it prints:

- A class is called where its confidence is above 0.5: several may be, or none.
- In balanced accuracy an image whose highest confidence is shared by several classes is
  undecided, and so wrong.
- ISIC_0035068 has weight 0, whatever the file says.
- A ratio without a denominator is 1 (sensitivity, specificity, dice, ppv, npv); average precision
  without an image of the class is 0; an undefined area is left out of a mean, and so is an
  undefined recall.
- Images are sorted by name and the weights are not: where a ground truth is not sorted by name
  and its weights differ, most figures weigh the wrong images.
- Numbers of 16 digits and more are read as pandas 2 does, with which it runs: some that differ
  in the last digit are equal then.
- It ends in an error, whatever the version of scikit-learn, where a class has no image of weight
  above 0; and where no image has a validation weight, for which it printed nan for balanced
  accuracy under old versions (1.2).

Without, the definitions are those of `evaluate`: decisions by the likeliest class, of equals the
first; nan for what is not defined, and means over the classes that are there; weights belong to
their images, and no image is left out by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from lesionlab.display import Result
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.isic.files import (
    IGNORED,
    WEIGHTS,
    categories_of,
    class_of,
    read_submission,
    read_truth,
    same_images,
)
from lesionlab.evaluation.metrics.classification import confusion, decide, macro, recall
from lesionlab.evaluation.metrics.partial_auc import auc_sens_80
from lesionlab.evaluation.metrics.ranking import Floats, Mask, auroc, average_precision, rank
from lesionlab.files import write_json
from lesionlab.progress import Listener, Notice, silent

Metric = Literal["balanced_accuracy", "auc", "ap"]
METRICS: tuple[Metric, ...] = ("balanced_accuracy", "auc", "ap")
"""What a challenge may rank by; areas and average precisions are means over the classes."""

COLUMNS = (
    "accuracy",
    "sensitivity",
    "specificity",
    "dice",
    "ppv",
    "npv",
    "auc",
    "auc_sens_80",
    "ap",
)
"""The figures of each category, as the official scorer calls and orders them."""


@dataclass(frozen=True, eq=False, repr=False)
class IsicScore(Result):
    """The score of a submission.

    Attributes:
        metric: what it is ranked by.
        overall: that metric under the score weights.
        validation: the same under the validation weights.
        per_category: figures of each class against the rest; index category, columns `COLUMNS`.
        macro_average: the mean of each over the categories.
        aggregate: figures of all classes together: balanced_accuracy.
        quirks: whether these are the official scorer's numbers.
        images: how many images have a score weight above 0.
    """

    metric: Metric
    overall: float
    validation: float
    per_category: pd.DataFrame
    macro_average: Mapping[str, float]
    aggregate: Mapping[str, float]
    quirks: bool
    images: int

    def shown(self) -> list[tuple[str, pd.DataFrame]]:
        """Figures of each category, as `Result.shown` says."""
        title = f"{self.images:,} images, {self.metric} {self.overall:.4f}"
        return [(title, self.per_category.reset_index())]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values, in the official scorer's layout; not finite is None."""
        table = self.per_category
        return {
            "overall": _plain(self.overall),
            "validation": _plain(self.validation),
            "per_category": {
                name: {str(key): _plain(value) for key, value in table[name].items()}
                for name in COLUMNS
            },
            "macro_average": {key: _plain(value) for key, value in self.macro_average.items()},
            "aggregate": {key: _plain(value) for key, value in self.aggregate.items()},
        }

    def save(self, path: Path | str) -> None:
        """Write `to_json` to a file, whole or not at all."""
        write_json(Path(path), self.to_json())


@dataclass(frozen=True)
class _Case:
    """Truth and confidences in the order that they are scored in, both of shape (n, k).

    Attributes:
        truth: which image is of which class.
        given: the confidences.
        own: each image's weight, shape (n,).
        taken: the weight that the official scorer takes for it, shape (n,).
    """

    truth: Mask
    given: Floats
    own: Floats
    taken: Floats


def score(
    truth: Path | str,
    submission: Path | str,
    *,
    metric: Metric | None = None,
    quirks: bool = True,
    listen: Listener = silent,
) -> IsicScore:
    """Score a submission to an ISIC challenge.

    Args:
        truth: the ground truth's CSV.
        submission: the submission's CSV.
        metric: what it is ranked by; by default balanced_accuracy (ISIC 2018 and 2019), or auc
            where there is one category only (ISIC 2020, whose files the official scorer does not
            read: the numbers are what it would say).
        quirks: the official scorer's very numbers; otherwise those by our definitions.
        listen: told where the official scorer does something odd with these files.

    Raises:
        DataError: if a file cannot be read, or, with quirks, where the official scorer ends in an
            error.
        FindingsError: with every fault of a file at once.
        SettingsError: if there is no such metric, or it makes no sense of a single category.

    Example:
        >>> score("truth.csv", "submission.csv").overall  # doctest: +SKIP
        0.7123
    """
    table = read_truth(truth)
    categories = categories_of(table)
    given = read_submission(submission, categories, quirks=quirks)
    same_images(table, given)
    chosen = metric or ("balanced_accuracy" if len(categories) > 1 else "auc")
    if chosen not in METRICS or (chosen == METRICS[0] and len(categories) == 1):
        raise SettingsError(
            f"A submission of {len(categories)} categories is not ranked by {chosen!r}. Choose "
            f"{', '.join(METRICS[len(categories) == 1 :])}."
        )
    if quirks:
        table.loc[table["image"] == IGNORED, list(WEIGHTS)] = 0.0
    order = categories if quirks else sorted(categories, key=class_of)  # decides between equals
    scored, validated = (_case(table, given, order, name, quirks) for name in WEIGHTS)
    if quirks:
        _refuse(scored, validated, order)
        if not all(np.array_equal(case.own, case.taken) for case in (scored, validated)):
            text = (
                "The ground truth is not sorted by image and its weights differ: the official "
                "scorer gives most of them to the wrong images, and so do these numbers."
            )
            listen(Notice(text, "warning"))
    elif len(categories) > 1 and (scored.truth.sum(axis=1) != 1).any():
        raise DataError(
            f"{truth} has images without a class or with several, which have no recall. Score "
            "them as the official scorer does (quirks)."
        )
    balanced = math.nan
    if len(categories) > 1:
        balanced = _balanced(scored, quirks)
    rows = [_category(scored, at, quirks) for at in range(len(categories))]
    per_category = pd.DataFrame(rows, index=pd.Index(order, name="category"), columns=[*COLUMNS])
    per_category = per_category.loc[categories]
    means = {name: _mean(per_category[name].to_numpy()) for name in COLUMNS}
    if chosen == "balanced_accuracy":
        overall, validation = balanced, _balanced(validated, quirks)
    else:
        each = [_ranked(validated, at, quirks)[chosen] for at in range(len(categories))]
        overall, validation = means[chosen], _mean(np.array(each))
    return IsicScore(
        metric=chosen,
        overall=overall,
        validation=validation,
        per_category=per_category,
        macro_average=means,
        aggregate={"balanced_accuracy": balanced},
        quirks=quirks,
        images=int((scored.own > 0).sum()),
    )


def _case(
    table: pd.DataFrame, given: pd.DataFrame, categories: list[str], weight: str, quirks: bool
) -> _Case:
    order = table.set_index("image").sort_index()
    own = order[weight].to_numpy()
    return _Case(
        truth=order[categories].to_numpy() > 0.5,
        given=given.set_index("image").loc[order.index, categories].to_numpy(),
        own=own,
        taken=table[weight].to_numpy() if quirks else own,
    )


def _refuse(scored: _Case, validated: _Case, categories: list[str]) -> None:
    """Raise where the official scorer gives no score."""
    there = (scored.truth & (scored.own > 0)[:, None]).sum(axis=0)
    if missing := [name for name, count in zip(categories, there, strict=True) if not count]:
        raise DataError(
            f"No image of {', '.join(missing)} has a score weight above 0: the official scorer "
            "ends in an error there and gives no score. Score it by lesionlab's own definitions "
            "(`--own`, or quirks=False), which leave an absent class out of the means."
        )
    if not validated.own.any():
        raise DataError(
            "No image has a validation weight above 0: the official scorer ends in an error there "
            "(under scikit-learn 1.9) and gives no score. Score it by lesionlab's own definitions "
            "(`--own`, or quirks=False), or leave the column out."
        )


def _balanced(case: _Case, quirks: bool) -> float:
    """Mean recall of the decisions."""
    k = case.truth.shape[1]
    targets = case.truth.argmax(axis=1)
    if not quirks:
        counts = confusion(case.own[None], targets, decide(case.given), k)
        return float(macro(recall(counts))[0])
    best = case.given == case.given.max(axis=1, keepdims=True)
    decided = (case.truth.sum(axis=1) == 1) & (best.sum(axis=1) == 1)
    right = decided & (best.argmax(axis=1) == targets)
    labelled = case.truth.sum(axis=1) == 1
    hits = np.bincount(targets[right], case.taken[right], minlength=k)
    size = np.bincount(targets[labelled], case.own[labelled], minlength=k)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _mean(hits / size)


def _category(case: _Case, at: int, quirks: bool) -> dict[str, float]:
    """The figures of one category against the rest."""
    truth = case.truth[:, at]
    if quirks or case.truth.shape[1] == 1:
        called = case.given[:, at] > 0.5
    else:
        called = decide(case.given) == at
    tp, fn, fp, tn = (
        float((which * case.taken).sum())
        for which in (truth & called, truth & ~called, ~truth & called, ~truth & ~called)
    )

    def divide(part: float, whole: float) -> float:
        return part / whole if whole else 1.0 if quirks else math.nan

    return {
        "accuracy": (tp + tn) / (tp + tn + fp + fn) if tp + tn + fp + fn else math.nan,
        "sensitivity": divide(tp, tp + fn),
        "specificity": divide(tn, tn + fp),
        "dice": divide(2 * tp, 2 * tp + fp + fn),
        "ppv": divide(tp, tp + fp),
        "npv": divide(tn, tn + fn),
        **_ranked(case, at, quirks),
    }


def _ranked(case: _Case, at: int, quirks: bool) -> dict[str, float]:
    """The areas and the average precision of one category."""
    truth, given = case.truth[:, at], case.given[:, at]
    ranking = rank(truth, given)
    weights = case.taken[None]
    precise = float(average_precision(weights, ranking)[0])
    part = case.own != 0
    # images are left out by their own weight, and only then are the weights taken as they come
    left = case.taken[case.taken != 0]
    sensitive = auc_sens_80(left[None], rank(truth[part], given[part]))
    return {
        "auc": float(auroc(weights, ranking)[0]),
        "auc_sens_80": float(sensitive[0]),
        "ap": 0.0 if quirks and math.isnan(precise) else precise,
    }


def _mean(values: Floats) -> float:
    """Mean over what is defined; nan where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
