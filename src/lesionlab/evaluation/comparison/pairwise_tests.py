"""McNemar and DeLong of every pair of models, to stand beside the bootstrap's differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import SettingsError
from lesionlab.evaluation.comparison.mcnemar_delong import delong, mcnemar
from lesionlab.evaluation.intervals.bootstrap import lesion_codes
from lesionlab.evaluation.intervals.p_values import holm
from lesionlab.evaluation.metrics.classification import decide
from lesionlab.evaluation.predictions.load import arrays_of
from lesionlab.tables import classes_of


@dataclass(frozen=True)
class PairedTest:
    """One classical test of two models.

    Attributes:
        model: the model.
        reference: the model that it is compared with.
        test: "mcnemar" or "delong".
        metric: what differs: accuracy or recall/<class> for McNemar, auroc/<class> for DeLong.
        difference: the model's figure minus the reference's.
        low: lower end of its 95 % interval, by lesion; nan for McNemar, which has none.
        high: upper end.
        p: by lesion.
        p_images: the textbook version, as if every image were a lesion; too small where they are
            not.
        adjusted: `p` adjusted (Holm) over all pairs and metrics of the same test.
        images: that it rests on.
        lesions: that these show.
    """

    model: str
    reference: str
    test: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_images: float
    adjusted: float
    images: int
    lesions: int


def pairs_of(models: Sequence[str], focus: str | None = None) -> list[tuple[str, str]]:
    """Pairs of a reference and a model: all, or one model with each of the others.

    Raises:
        SettingsError: if there is no model `focus`.
    """
    if focus is None:
        return list(combinations(models, 2))
    if focus not in models:
        raise SettingsError(f"There is no model {focus!r}. Choose one of {', '.join(models)}.")
    return [(other, focus) for other in models if other != focus]


def paired_tests(
    rows: Mapping[str, pd.DataFrame], pairs: Sequence[tuple[str, str]]
) -> tuple[PairedTest, ...]:
    """Test pairs of models with McNemar and DeLong.

    McNemar takes decisions, on all images (accuracy) and on those of each class (recall); DeLong
    takes the probabilities of each class.

    Args:
        rows: by model, the rows to score: the same images in the same order, the same class order.
        pairs: from `pairs_of`.
    """
    first = next(iter(rows.values()))
    classes = classes_of(first)
    targets, _ = arrays_of(first)
    lesions = first["lesion_id"].to_numpy(dtype=object)
    probabilities = {model: arrays_of(each)[1] for model, each in rows.items()}
    right = {model: decide(each) == targets for model, each in probabilities.items()}
    made = []
    for reference, model in pairs:
        pair = model, reference
        masks = {"accuracy": np.ones(len(targets), dtype=bool)}
        masks |= {f"recall/{label}": targets == i for i, label in enumerate(classes)}
        for metric, mask in masks.items():
            if mask.any():
                made.append(_mcnemar(pair, metric, right, mask, lesions))
        for i, label in enumerate(classes):
            scores = [probabilities[each][:, i] for each in pair]
            if 0 < (targets == i).sum() < len(targets):
                made.append(_delong(pair, f"auroc/{label}", targets == i, scores, lesions))
    adjusted = {
        test: iter(holm([each.p for each in made if each.test == test]))
        for test in ("mcnemar", "delong")
    }
    return tuple(replace(each, adjusted=next(adjusted[each.test])) for each in made)


def _mcnemar(
    pair: tuple[str, str],
    metric: str,
    right: Mapping[str, NDArray[np.bool_]],
    mask: NDArray[np.bool_],
    lesions: NDArray[np.object_],
) -> PairedTest:
    found = mcnemar(right[pair[0]][mask], right[pair[1]][mask], lesions[mask])
    return PairedTest(
        *pair,
        "mcnemar",
        metric,
        found.difference,
        np.nan,
        np.nan,
        found.p,
        found.p_images,
        np.nan,
        found.images,
        found.lesions,
    )


def _delong(
    pair: tuple[str, str],
    metric: str,
    positive: NDArray[np.bool_],
    scores: Sequence[NDArray[np.float64]],
    lesions: NDArray[np.object_],
) -> PairedTest:
    found = delong(positive, scores[0], scores[1], lesions)
    return PairedTest(
        *pair,
        "delong",
        metric,
        found.difference,
        *found.interval,
        found.p,
        found.p_images,
        np.nan,
        len(positive),
        lesion_codes(lesions)[1],
    )
