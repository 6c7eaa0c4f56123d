"""Areas under the ROC curve where sensitivity is high: two quantities that are often confused.

`pauc_above_80_sensitivity` is what ISIC 2024 (SLICE-3D) was scored by: the area between the curve
and the line at 80 % sensitivity, 0-0.2; a random score gives 0.02. `auc_sens_80` is what the
scorer of the earlier ISIC challenges prints: the area down to the axis under the part of the
curve that is at 80 % sensitivity or more, 0-1; a random score gives 0.18. Neither is
scikit-learn's partial AUC, which limits the other axis and rescales.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from lesionlab.evaluation.intervals.bootstrap import Weights
from lesionlab.evaluation.intervals.estimate import Values
from lesionlab.evaluation.metrics.ranking import Floats, Ranking, Sums, blockwise
from lesionlab.numerics import ratio

SENSITIVITY = 0.80
"""Where both areas begin."""


def pauc_above_80_sensitivity(weights: Weights, ranking: Ranking) -> Values:
    """Area between the ROC curve and the line at 80 % sensitivity, shape (r,), 0-0.2.

    The metric of the ISIC 2024 challenge. Equal scores are joined by a straight line, as in
    `auroc`. nan where a side has no weight.

    Args:
        weights: shape (r, n); worked through in blocks.
        ranking: of the same n images.
    """
    return blockwise((areas_of,), weights, ranking)[0][:, 0]


def auc_sens_80(weights: Weights, ranking: Ranking) -> Values:
    """Area from the axis up to the ROC curve where sensitivity is 80 % or more, shape (r,), 0-1.

    The figure of that name of `isic-challenge-scoring`. Where the curve runs level at exactly 80 %,
    that stretch counts. nan where a side has no weight.

    Args:
        weights: shape (r, n); worked through in blocks.
        ranking: of the same n images.
    """
    return blockwise((areas_of,), weights, ranking)[0][:, 1]


def areas_of(sums: Sums, ranking: Ranking) -> Floats:
    """Both areas of sums that are there already.

    Seen from the sensitivity axis, every group of equally scored images of the class takes one
    stretch of it; the area right of the curve over that stretch is the share of other images that
    score lower. So the work grows with the images of the class alone.

    Returns:
        pauc_above_80_sensitivity and auc_sens_80, shape (r, 2).
    """
    every, others = sums.positive[:, -1:], sums.negative[:, -1:]
    start = np.unique(ranking.first[: _needed(sums)])
    if not len(start):
        return np.full((len(every), 2), np.nan)
    stop = np.append(start[1:], np.searchsorted(ranking.first, start[-1], side="right"))
    # going down the sensitivities: that at a group's score, then that just above it
    steps = ratio(every - sums.positive[:, np.append(start, stop[-1])], every)
    high, low = steps[:, :-1], steps[:, 1:]
    lower = ratio(sums.negative[:, ranking.below[start]], others)  # specificity at its score
    upto = ratio(sums.negative[:, ranking.upto[start]], others)  # and just above it
    slope = (upto - lower) / np.where(high > low, high - low, 1.0)
    begin = np.maximum(low, SENSITIVITY)
    length = np.maximum(high - begin, 0.0)
    above = (length * (upto - slope * (begin + length / 2 - low))).sum(axis=1)
    crosses = (low < SENSITIVITY) & (high >= SENSITIVITY)
    there = np.where(crosses, upto - slope * (SENSITIVITY - low), 0.0).sum(axis=1)
    return np.stack([above, above + SENSITIVITY * there], axis=1)


def _needed(sums: Sums) -> int:
    """How many images of the class, lowest scores first, reach below the line in every row."""
    reached = sums.positive[:, 1:]  # of whole rows no more than a few columns are looked at
    every = sums.positive[:, -1]

    def below(count: int) -> bool:
        return not (ratio(every - reached[:, count], every) >= SENSITIVITY).any()

    return bisect_left(range(reached.shape[1]), True, key=below) + 1
