"""`evaluate`: score one part of a predictions table, and say aloud what is odd about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import SettingsError
from lesionlab.evaluation.evaluation_result import Evaluation, confusion_table
from lesionlab.evaluation.intervals.bootstrap import estimates, lesion_codes
from lesionlab.evaluation.intervals.estimate import UNDEFINED_LIMIT, Estimate
from lesionlab.evaluation.metrics.classification import classification, confusion, decide
from lesionlab.evaluation.metrics.operating_points import (
    SENSITIVITIES,
    SPECIFICITIES,
    operating_points,
    point_name,
    threshold_at_sensitivity,
    threshold_at_specificity,
)
from lesionlab.evaluation.predictions.load import (
    Source,
    arrays_of,
    grouping_of,
    open_predictions,
    read_as,
    rows_of,
)
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import Part, classes_of

COLLAPSE = 0.95
"""A class that takes a larger share of the predictions than this is warned of."""

POSITIVES = ("mel", "malignant")
"""The class of the sensitivities, unless another is asked for: the first of these that there is."""

FEW_LESIONS = 20
"""Classes with fewer lesions than this are warned of."""


def evaluate(
    predictions: Source,
    *,
    part: Part = "test",
    replicates: int = 1000,
    seed: int = 0,
    positive: str | None = None,
    as_: str | None = None,
    listen: Listener = silent,
) -> Evaluation:
    """Score a predictions table: metrics with 95 % intervals from a bootstrap over lesions.

    Thresholds are chosen on the rows of part val and applied to the part that is scored; without a
    val part there are none. The predicted class is the likeliest one, of equals the first in the
    class order.

    Args:
        predictions: a table with image_id, target and p_<class> columns, optionally lesion_id and
            part; its CSV or Parquet file; or a run, folds or a blend, or its folder.
        part: which rows to score: train, val or test.
        replicates: bootstrap replicates; 0 gives values without intervals.
        seed: of the bootstrap.
        positive: the class whose sensitivity at fixed specificity is given; by default mel, or
            malignant where the classes are benign and malignant.
        as_: another question, such as malignant-benign: probabilities are added up
            and read as the answer to that question. The rule is among the notes.
        listen: told of the progress, of every warning and of every note.

    Raises:
        DataError: if the file cannot be read, the part has no images, or a class is not known to
            the grouping.
        FindingsError: with every fault of the table at once.
        SettingsError: if `replicates` is negative, or there is no class `positive` (only the
            default may be absent) or no such grouping.

    Example:
        >>> table = pd.DataFrame({
        ...     "image_id": ["a", "b", "c"], "target": ["mel", "nv", "nv"],
        ...     "p_mel": [0.8, 0.6, 0.1], "p_nv": [0.2, 0.4, 0.9],
        ... })
        >>> evaluate(table, replicates=0)["balanced_accuracy"].value
        0.75
    """
    table = open_predictions(predictions)
    rounded = table.attrs.get("note")
    if as_ is not None:
        table = read_as(table, as_)
    classes = classes_of(table)
    if positive is None:
        positive = usual_positive(classes)
    elif positive not in classes and positive != POSITIVES[0]:
        raise SettingsError(
            f"There is no class {positive!r} to be the positive one. "
            f"Choose one of {', '.join(classes)}."
        )
    rows = rows_of(table, part)
    targets, probabilities = arrays_of(rows)
    measures = [classification(targets, probabilities, classes)]
    thresholds, notes = choose_thresholds(table, part, positive)
    if rounded:
        notes.append(rounded)
    if as_ is not None:
        notes.append(f"Read as {as_}: {grouping_of(as_).rule}.")
    if thresholds:
        at = classes.index(positive)
        measures.append(operating_points(targets == at, probabilities[:, at], thresholds))

    lesions = rows["lesion_id"].to_numpy(dtype=object)
    found = estimates(measures, lesions, replicates=replicates, seed=seed, listen=listen)
    if replicates:
        notes += _without_interval(found)
    notes += _never_predicted(found, classes)
    k = len(classes)
    counts = confusion(np.ones((1, len(rows))), targets, decide(probabilities), k)[0]
    result = Evaluation(
        estimates=_in_order(found),
        classes=classes,
        support=_support(targets, lesions, classes),
        confusion=confusion_table(counts, classes),
        warnings=[],
        notes=notes,
        thresholds=thresholds,
        part=part,
        positive=positive,
        replicates=replicates,
        seed=seed,
        predictions=table,
    )
    result.warnings.extend(oddities(result, table))
    for text in result.warnings:
        listen(Notice(text, "warning"))
    for text in notes:
        listen(Notice(text))
    return result


def _never_predicted(found: Mapping[str, Estimate], classes: Sequence[str]) -> list[str]:
    """Why a mean of precisions is blank, and what those who count 0 there would print."""
    present = [label for label in classes if not math.isnan(found[f"recall/{label}"].value)]
    values = {label: found[f"precision/{label}"].value for label in present}
    never = [label for label, value in values.items() if math.isnan(value)]
    if not never or len(never) == len(present):
        return []
    zero = sum(0.0 if label in never else value for label, value in values.items()) / len(values)
    return [
        f"Macro and weighted precision are not defined: no image is called {', '.join(never)}. "
        f"Macro precision would be {zero:.3f} if that counted as a precision of 0."
    ]


def usual_positive(classes: Sequence[str]) -> str:
    """The class whose sensitivity matters most: mel, or malignant where there is no mel."""
    return next((name for name in POSITIVES if name in classes), POSITIVES[0])


def choose_thresholds(
    predictions: pd.DataFrame, part: Part, positive: str
) -> tuple[dict[str, float], list[str]]:
    """Choose the operating points of class `positive` on part val.

    Args:
        predictions: a checked table.
        part: the part to be scored.
        positive: the class.

    Returns:
        Thresholds by name, and, where there are none, one note that says why.
    """
    what = f"Sensitivity at fixed specificity is not given for {positive}"
    if positive not in classes_of(predictions):
        return {}, [f"{what}: the predictions have no such class."]
    if part == "val":
        return {}, [
            f"{what}: val is what is scored, and thresholds are never chosen on the images that "
            "are scored."
        ]
    if not ((predictions["part"] == part) & (predictions["target"] == positive)).any():
        return {}, [f"{what}: part {part!r} has no image of it."]
    val = predictions[predictions["part"] == "val"]
    if val.empty:
        return {}, [
            f"{what}: there is no val part, and thresholds are never chosen on the images that "
            "are scored. Predict a validation part too to get it."
        ]
    truth = (val["target"] == positive).to_numpy(dtype=bool)
    if truth.all():
        return {}, [f"{what}: every image of part val is {positive}."]
    scores = val[f"p_{positive}"].to_numpy(dtype=np.float64)
    found = {
        point_name(target, positive): threshold_at_specificity(truth, scores, target)
        for target in SPECIFICITIES
    }
    if not truth.any():
        return found, [
            f"Specificity at fixed sensitivity is not given for {positive}: part val has no image "
            "of it to choose a threshold on."
        ]
    found |= {
        point_name(target, positive, "sensitivity"): threshold_at_sensitivity(truth, scores, target)
        for target in SENSITIVITIES
    }
    return found, []


def oddities(result: Evaluation, predictions: pd.DataFrame) -> list[str]:
    """What a reader must know before trusting a figure of `result`, one sentence or two each.

    Args:
        result: an evaluation.
        predictions: the checked table that it was made from, all parts.
    """
    images, lesions = result.support["images"], result.support["lesions"]
    scored = predictions[predictions["part"] == result.part]
    lines: list[str] = []

    perfect = [name for name in ("balanced_accuracy", "macro_auroc") if result[name].value == 1.0]
    if perfect:
        lines.append(
            f"A perfect score ({' and '.join(perfect)} = 1.0): look for a leak before believing it."
        )
    known = predictions[predictions["lesion_id"] != ""]
    parts = known.groupby("lesion_id")["part"].nunique()
    shared = sorted(parts.index[parts > 1])
    if shared:
        lines.append(
            f"Leak: {_some(shared, 'lesion')} in more than one part. The model "
            "has seen what it is scored on; split again by lesion_id and train again."
        )
    if "learnt_from" in scored.columns:
        learnt = int(scored["learnt_from"].eq("yes").sum())
        lines.append(
            f"No test: the model has learnt from the collection of {learnt:,} of the "
            f"{len(scored):,} images that are scored (column learnt_from): figures are too good."
            if learnt
            else "Whether the model has learnt from these images is unknown (column learnt_from): "
            "see its card for the collection."
        )
    predicted = result.confusion.sum(axis=0)
    most = str(predicted.idxmax())
    if predicted[most] > COLLAPSE * len(scored):
        lines.append(
            f"{predicted[most] / len(scored):.1%} of the predictions are {most}: the model hardly "
            "tells the classes apart, whatever its accuracy."
        )
    lines += [
        f"Recall of {label} is 0: none of its {images[label]} images is recognised."
        for label in result.classes
        if images[label] and result[f"recall/{label}"].value == 0
    ]
    absent = [label for label in result.classes if not images[label]]
    if absent:
        lines.append(
            f"Part {result.part!r} has no image of {', '.join(absent)}: recall and AUROC are not "
            "defined there, and means run over the other classes."
        )
    few = [
        f"{label} ({lesions[label]})"
        for label in result.classes
        if images[label] and lesions[label] < FEW_LESIONS
    ]
    if few:
        lines.append(
            f"Fewer than {FEW_LESIONS} lesions: {', '.join(few)}. "
            "Intervals are wide and rough there."
        )
    blank = int((scored["lesion_id"] == "").sum())
    if blank:
        which = "are missing" if blank == len(scored) else f"are missing for {blank} images"
        lines.append(
            f"Lesion ids {which}: intervals assume that every such image is a lesion of its own. "
            "They are too narrow if images share lesions."
        )
    return lines


def _some(names: Sequence[str], noun: str, examples: int = 3) -> str:
    """Count things and name the first of them: "2 lesions (L1, L2) stand"."""
    shown = ", ".join(names[:examples]) + (", ..." if len(names) > examples else "")
    return (
        f"1 {noun} ({shown}) stands" if len(names) == 1 else f"{len(names)} {noun}s ({shown}) stand"
    )


def _without_interval(found: Mapping[str, Estimate]) -> list[str]:
    names = [name for name, each in found.items() if each.defined and np.isnan(each.low)]
    if not names:
        return []
    return [
        f"No interval for {', '.join(names)}: not defined in more than {UNDEFINED_LIMIT:.0%} of "
        "the replicates, the same in all of them, or resting on a single lesion."
    ]


def _in_order(found: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """Headline figures first: overall ones, operating points, then class by class."""

    def key(name: str) -> int:
        return 0 if "/" not in name else 1 if "_at_" in name else 2

    return {name: found[name] for name in sorted(found, key=key)}


def _support(
    targets: NDArray[np.intp], lesions: NDArray[np.object_], classes: tuple[str, ...]
) -> pd.DataFrame:
    codes, _ = lesion_codes(lesions)
    return pd.DataFrame(
        {
            "images": [int((targets == i).sum()) for i in range(len(classes))],
            "lesions": [len(np.unique(codes[targets == i])) for i in range(len(classes))],
        },
        index=pd.Index(classes, name="class"),
    )
