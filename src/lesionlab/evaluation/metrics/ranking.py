"""Metrics of the order that the scores of one class bring images into, by replicate weights.

Images are sorted once; every replicate is then a matter of running sums of its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlab.evaluation.intervals.bootstrap import Weights, rows_per_block
from lesionlab.evaluation.intervals.estimate import Values
from lesionlab.numerics import ratio

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class Ranking:
    """Images sorted once by the score of one class, for metrics that depend on the order alone.

    Attributes:
        positives: rows of the class's images, scores ascending, shape (p,).
        negatives: rows of the other images, scores ascending, shape (q,).
        below: for each positive, how many negatives score lower, shape (p,).
        upto: for each positive, how many negatives score lower or equal, shape (p,).
        first: for each positive, the first positive of equal score, shape (p,).
    """

    positives: Index
    negatives: Index
    below: Index
    upto: Index
    first: Index


def rank(positive: Mask, scores: Floats) -> Ranking:
    """Sort images by score.

    Args:
        positive: which images are of the class, shape (n,).
        scores: higher = more like the class, shape (n,).
    """
    order = np.argsort(scores, kind="stable")
    positives, negatives = order[positive[order]], order[~positive[order]]
    high, low = scores[positives], scores[negatives]
    return Ranking(
        positives=positives,
        negatives=negatives,
        below=np.searchsorted(low, high, side="left"),
        upto=np.searchsorted(low, high, side="right"),
        first=np.searchsorted(high, high, side="left"),
    )


def auroc(weights: Weights, ranking: Ranking) -> Values:
    """Area under the ROC curve of one class against the rest, ties counted half, shape (r,), 0-1.

    Exact: the weighted share of pairs in which the image of the class scores higher (Hanley and
    McNeil, Radiology 143:29-36, 1982). nan where a side has no weight.

    Args:
        weights: shape (r, n); worked through in blocks.
        ranking: of the same n images.
    """
    return blockwise((auroc_of,), weights, ranking)[0]


def average_precision(weights: Weights, ranking: Ranking) -> Values:
    """Average precision of one class: mean over its images of the precision at their score.

    Precision-recall curve summed in steps, without interpolation, as scikit-learn does. nan where
    the class has no weight.

    Args:
        weights: shape (r, n); worked through in blocks.
        ranking: of the same n images.

    Returns:
        Shape (r,), 0-1; a random score gives the class's share of the images.
    """
    return blockwise((average_precision_of,), weights, ranking)[0]


@dataclass(frozen=True)
class Sums:
    """Running weights along a ranking: gathered once, used by every metric of it.

    Attributes:
        chosen: weights of the positives, shape (r, p).
        positive: weight of the first 0, 1, ... positives, shape (r, p + 1).
        negative: weight of the first 0, 1, ... negatives, shape (r, q + 1).
    """

    chosen: Floats
    positive: Floats
    negative: Floats


def blockwise(
    functions: Sequence[Callable[[Sums, Ranking], Values]], weights: Weights, ranking: Ranking
) -> list[Values]:
    """Compute several metrics of one ranking, block by block of the replicates.

    Args:
        functions: each gives one row per replicate.
        weights: shape (r, n).
        ranking: of the same n images.

    Returns:
        What each function gives, r rows long.
    """
    rows = rows_per_block(weights.shape[1])
    blocks: list[list[Values]] = [[] for _ in functions]
    for start in range(0, len(weights), rows):
        block = weights[start : start + rows]
        chosen = block[:, ranking.positives]
        sums = Sums(chosen, _running(chosen), _running(block[:, ranking.negatives]))
        for out, function in zip(blocks, functions, strict=True):
            out.append(function(sums, ranking))
    return [np.concatenate(out) for out in blocks]


def _running(weights: Weights) -> Floats:
    sums = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def auroc_of(sums: Sums, ranking: Ranking) -> Values:
    """`auroc` of sums that are there already."""
    beaten = (sums.negative[:, ranking.below] + sums.negative[:, ranking.upto]) / 2
    pairs = sums.positive[:, -1] * sums.negative[:, -1]
    return ratio(np.einsum("rp,rp->r", sums.chosen, beaten), pairs)


def average_precision_of(sums: Sums, ranking: Ranking) -> Values:
    """`average_precision` of sums that are there already."""
    right = sums.positive[:, -1:] - sums.positive[:, ranking.first]
    wrong = sums.negative[:, -1:] - sums.negative[:, ranking.below]
    at_score = np.nan_to_num(ratio(right, right + wrong))  # nan only where the weight is 0
    return ratio(np.einsum("rp,rp->r", sums.chosen, at_score), sums.positive[:, -1])
