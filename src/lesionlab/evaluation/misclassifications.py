"""Where a model fails: which classes it takes for which, and malignant lesions it calls benign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.display import Result
from lesionlab.evaluation.intervals.bootstrap import estimates, shares
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.evaluation.metrics.classification import decide
from lesionlab.evaluation.predictions.load import Source, arrays_of, open_predictions, rows_of
from lesionlab.progress import Listener, silent
from lesionlab.tables import Part, classes_of
from lesionlab.taxonomy import GROUPINGS

Mask = NDArray[np.bool_]

COLUMNS = ("truth", "predicted", "images", "of", "share", "low", "high", "lesions")


@dataclass(frozen=True, eq=False, repr=False)
class Confusions(Result):
    """What goes wrong, and how often.

    Attributes:
        pairs: a row per pair of classes that occurs, the largest share of a true class first:
            truth, predicted, images, of (images of the true class), share with low and high (95 %,
            by lesion), lesions (of the true class).
        missed: of the images of a malignant class, the share called a benign one; None where
            the classes are not those that the rule knows, or one kind has no image.
        alarmed: of the images of a benign class, the share called a malignant one; or None.
        missed_images: how many of those there are, and of how many malignant lesions.
        rule: what is called malignant.
    """

    _tables: ClassVar[tuple[str, ...]] = ("pairs",)

    pairs: pd.DataFrame
    missed: Estimate | None
    alarmed: Estimate | None
    missed_images: tuple[int, int]
    rule: str


def confusions(
    predictions: Source,
    *,
    part: Part = "test",
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Confusions:
    """Count which classes are taken for which, with intervals by lesion.

    A decision is the likeliest class.

    Args:
        predictions: anything that `evaluate` takes.
        part: train, val or test.
        replicates: of the bootstrap over lesions; 0 gives no intervals.
        seed: of the bootstrap.
        listen: told of the progress.

    Raises:
        DataError, FindingsError, SettingsError: as `evaluate`.

    Example:
        >>> confusions("runs/first").pairs.head()  # doctest: +SKIP
    """
    table = open_predictions(predictions)
    classes = classes_of(table)
    rows = rows_of(table, part)
    targets, probabilities = arrays_of(rows)
    called = decide(probabilities)
    masks: dict[str | tuple[int, int], tuple[Mask, Mask]] = {}
    for i, j in np.ndindex(len(classes), len(classes)):
        hit = (targets == i) & (called == j)
        if i != j and hit.any():
            masks[i, j] = (hit, targets == i)
    rule = GROUPINGS["malignant-benign"]
    kinds = np.array([rule.groups.get(name, "") for name in classes])
    known = bool((kinds != "").all()) and set(kinds) == {"malignant", "benign"}
    if known:
        ill, flagged = kinds[targets] == "malignant", kinds[called] == "malignant"
        masks["missed"] = (ill & ~flagged, ill)
        masks["alarmed"] = (~ill & flagged, ~ill)
    lesions = rows["lesion_id"].to_numpy(dtype=object)
    found = estimates([shares(masks)], lesions, replicates=replicates, seed=seed, listen=listen)
    listed = [
        (
            *(*(classes[i] for i in name), *(int(each.sum()) for each in (hit, of))),
            *(e.value, e.low, e.high, e.groups),
        )
        for name, (hit, of) in masks.items()
        if not isinstance(name, str) and (e := found[name])
    ]
    pairs_table = pd.DataFrame(listed, columns=list(COLUMNS)).sort_values(
        ["share", "images"], ascending=False, kind="stable", ignore_index=True
    )
    wrong = masks["missed"][0] if known else np.zeros(len(rows), bool)
    ids = rows.loc[wrong, "lesion_id"]
    count = len(set(ids) - {""}) + int((ids == "").sum())
    missed, alarmed = found.get("missed"), found.get("alarmed")
    return Confusions(
        pairs_table,
        missed if missed is not None and missed.defined else None,
        alarmed if alarmed is not None and alarmed.defined else None,
        (int(wrong.sum()), count),
        rule.rule if known else "",
    )
