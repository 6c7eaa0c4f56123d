"""Operating points of one class: a threshold chosen on one part, applied to another; ROC curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lesionlab.evaluation.intervals.bootstrap import Measure, Weights
from lesionlab.evaluation.intervals.estimate import Values
from lesionlab.numerics import ratio

Fixed = Literal["specificity", "sensitivity"]
"""What a threshold was chosen to reach."""

SPECIFICITIES = (0.80, 0.90, 0.95)
"""The specificities at which sensitivity is reported."""

SENSITIVITIES = (0.80, 0.90, 0.95)
"""The sensitivities at which specificity is reported."""


def point_name(share: float, label: str, fixed: Fixed = "specificity") -> str:
    """Name of an operating point, such as "at_90_specificity/mel": the key of its threshold."""
    return f"at_{share * 100:g}_{fixed}/{label}"


def fixes_specificity(name: str) -> bool:
    """Whether a threshold, or a metric of one, is of an operating point of fixed specificity."""
    return name.partition("/")[0].endswith("_specificity")


def threshold_at_specificity(
    positive: NDArray[np.bool_], scores: NDArray[np.float64], specificity: float
) -> float:
    """Choose the smallest threshold whose specificity is at least what is asked.

    An image is called positive if its score is the threshold or more. Candidates are the scores
    that occur and, where none of them will do, the next number above the highest.

    Args:
        positive: which images are of the class, shape (n,).
        scores: probability of the class, shape (n,).
        specificity: share of the other images to be called negative at least, 0-1.

    Returns:
        The threshold; nan if there is no negative image to choose it on.
    """
    negatives = np.sort(scores[~positive])
    if not len(negatives):
        return float("nan")
    highest = float(scores.max())
    candidates = np.append(np.unique(scores), np.nextafter(highest, np.inf))
    reached = np.searchsorted(negatives, candidates, side="left") / len(negatives)
    return float(candidates[np.argmax(reached >= specificity - 1e-12)])


def threshold_at_sensitivity(
    positive: NDArray[np.bool_],
    scores: NDArray[np.float64],
    sensitivity: float,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """Choose the largest threshold whose sensitivity is at least what is asked.

    An image is called positive if its score is the threshold or more.

    Args:
        positive: which images are of the class, shape (n,).
        scores: probability of the class, shape (n,).
        sensitivity: share of the class's images to be called positive at least, 0-1.
        weights: of the images, shape (n,); None: all alike.

    Returns:
        The threshold, one of the scores of the class or, for 0, the next number above the highest
        of all; nan if there is no image of the class to choose it on.
    """
    order = np.argsort(-scores[positive], kind="stable")
    own = scores[positive][order]
    if not len(own):
        return float("nan")
    called = np.cumsum(np.ones(len(own)) if weights is None else weights[positive][order])
    needed = sensitivity * called[-1] - 1e-9
    if needed <= 0:
        return float(np.nextafter(scores.max(), np.inf))
    return float(own[np.searchsorted(called, needed)])


def operating_points(
    positive: NDArray[np.bool_],
    scores: NDArray[np.float64],
    thresholds: Mapping[str, float],
) -> Measure[str]:
    """Sensitivity and specificity of fixed thresholds.

    The thresholds are given, so the intervals hold for these very thresholds: how they would vary
    with other images to choose them on is not in them.

    Args:
        positive: which of the scored images are of the class, shape (n,).
        scores: probability of the class, shape (n,).
        thresholds: by name of the operating point, as `point_name` gives it.

    Returns:
        A measure of "sensitivity_" and "specificity_" plus each name.
    """
    called = {name: scores >= threshold for name, threshold in thresholds.items()}

    def compute(weights: Weights) -> Mapping[str, Values]:
        values: dict[str, Values] = {}
        for name, yes in called.items():
            for kind, basis, right in (
                ("sensitivity", positive, positive & yes),
                ("specificity", ~positive, ~positive & ~yes),
            ):
                hits = weights @ right.astype(np.float64)
                values[f"{kind}_{name}"] = ratio(hits, weights @ basis.astype(np.float64))
        return values

    basis = {f"sensitivity_{name}": positive for name in thresholds}
    basis |= {f"specificity_{name}": ~positive for name in thresholds}
    return Measure(compute, basis, frozenset(basis))
