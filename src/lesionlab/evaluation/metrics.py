"""Metrics of a classifier as functions of replicate weights, shape (r, n).

With unit weights every value equals scikit-learn's; with bootstrap weights it equals
scikit-learn's on the rows really drawn. Sums of whole weights are exact, so no count depends on
block size, number of threads or order of rows. What is not defined is nan, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlab.evaluation.bootstrap import Measure, Values, Weights, rows_per_block

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]


def decide(probabilities: Floats) -> Index:
    """The predicted class of each image: the likeliest; of equals, the first in the class order.

    Args:
        probabilities: shape (n, k).

    Returns:
        Positions in the class order, shape (n,).
    """
    best: Index = np.argmax(probabilities, axis=1)
    return best


def ratio(part: Floats, whole: Floats) -> Floats:
    """Divide element by element; nan where the whole is 0."""
    out = np.full(np.broadcast(part, whole).shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def confusion(weights: Weights, targets: Index, predicted: Index, classes: int) -> Floats:
    """Weighted confusion matrices, by matrix products.

    Args:
        weights: shape (r, n).
        targets: true classes 0..classes - 1, shape (n,).
        predicted: predicted classes 0..classes - 1, shape (n,).
        classes: how many classes there are (k).

    Returns:
        Shape (r, k, k): [replicate, truth, prediction].
    """
    out = np.zeros((len(weights), classes, classes))
    columns = np.arange(classes)
    for label in range(classes):
        rows = np.flatnonzero(targets == label)
        answers = (predicted[rows, None] == columns).astype(np.float64)
        out[:, label] = weights[:, rows] @ answers
    return out


def recall(confusions: Floats) -> Floats:
    """Share of each class's images that are recognised, shape (r, k); nan for an absent class."""
    return ratio(_hits(confusions), confusions.sum(axis=2))


def precision(confusions: Floats) -> Floats:
    """Share of right answers among a class's predictions, shape (r, k); nan if never predicted."""
    return ratio(_hits(confusions), confusions.sum(axis=1))


def f1(confusions: Floats) -> Floats:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), shape (r, k).

    0 for a class that is present and never predicted, nan only for one that is neither.
    """
    return ratio(2 * _hits(confusions), confusions.sum(axis=1) + confusions.sum(axis=2))


def macro(values: Floats, over: Mask | None = None) -> Values:
    """Mean over classes, every class with the same weight.

    Args:
        values: shape (r, k).
        over: the classes to average, shape (k,). nan among them gives nan: a mean over other
            classes would be another quantity. None: all that are defined, replicate by replicate.

    Returns:
        Shape (r,); nan where there is nothing to average.
    """
    if over is not None:
        chosen = values[:, over]
        return ratio(chosen.sum(axis=1), np.full(len(values), float(chosen.shape[1])))
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1).astype(np.float64))


def balanced_accuracy(confusions: Floats, over: Mask | None = None) -> Values:
    """Mean recall over the classes present among the targets, shape (r,), 0-1.

    The primary metric of ISIC 2018 task 3 (challenge.isic-archive.com/landing/2018/47). It is the
    mean of recalls, not of precisions, which some papers print under the same name.

    Args:
        confusions: shape (r, k, k).
        over: as in `macro`; None takes the classes present in each replicate, as scikit-learn does.
    """
    return macro(recall(confusions), over)


def accuracy(confusions: Floats) -> Values:
    """Share of images whose class is right, shape (r,), 0-1."""
    return ratio(_hits(confusions).sum(axis=1), confusions.sum(axis=(1, 2)))


def majority_accuracy(confusions: Floats) -> Values:
    """Accuracy of always answering the most frequent class among the targets, shape (r,)."""
    support = confusions.sum(axis=2)
    return ratio(support.max(axis=1), support.sum(axis=1))


def log_loss(weights: Weights, targets: Index, probabilities: Floats) -> Values:
    """Mean of -log of the true class's probability, shape (r,), 0 or more; lower is better.

    A probability of 0 counts as 2.2e-16, as in scikit-learn: a sure and wrong answer costs 36.

    Args:
        weights: shape (r, n).
        targets: true classes as positions, shape (n,).
        probabilities: shape (n, k), 0-1.
    """
    chosen = probabilities[np.arange(len(targets)), targets]
    losses = -np.log(np.maximum(chosen, np.finfo(np.float64).eps))
    # no matrix product: summed row by row, no block size changes a digit
    return ratio((weights * losses).sum(axis=1), weights.sum(axis=1))


def _hits(confusions: Floats) -> Floats:
    return np.diagonal(confusions, axis1=1, axis2=2)


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
    return _blockwise((_auroc,), weights, ranking)[0]


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
    return _blockwise((_average_precision,), weights, ranking)[0]


@dataclass(frozen=True)
class _Sums:
    """Running weights along a ranking: gathered once, used by every metric of it.

    Attributes:
        chosen: weights of the positives, shape (r, p).
        positive: weight of the first 0, 1, ... positives, shape (r, p + 1).
        negative: weight of the first 0, 1, ... negatives, shape (r, q + 1).
    """

    chosen: Floats
    positive: Floats
    negative: Floats


def _blockwise(
    functions: Sequence[Callable[[_Sums, Ranking], Values]], weights: Weights, ranking: Ranking
) -> list[Values]:
    rows = rows_per_block(weights.shape[1])
    blocks: list[list[Values]] = [[] for _ in functions]
    for start in range(0, len(weights), rows):
        block = weights[start : start + rows]
        chosen = block[:, ranking.positives]
        sums = _Sums(chosen, _running(chosen), _running(block[:, ranking.negatives]))
        for out, function in zip(blocks, functions, strict=True):
            out.append(function(sums, ranking))
    return [np.concatenate(out) for out in blocks]


def _running(weights: Weights) -> Floats:
    sums = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _auroc(sums: _Sums, ranking: Ranking) -> Values:
    beaten = (sums.negative[:, ranking.below] + sums.negative[:, ranking.upto]) / 2
    pairs = sums.positive[:, -1] * sums.negative[:, -1]
    return ratio(np.einsum("rp,rp->r", sums.chosen, beaten), pairs)


def _average_precision(sums: _Sums, ranking: Ranking) -> Values:
    right = sums.positive[:, -1:] - sums.positive[:, ranking.first]
    wrong = sums.negative[:, -1:] - sums.negative[:, ranking.below]
    at_score = np.nan_to_num(ratio(right, right + wrong))  # nan only where the weight is 0
    return ratio(np.einsum("rp,rp->r", sums.chosen, at_score), sums.positive[:, -1])


def classification(targets: Index, probabilities: Floats, classes: Sequence[str]) -> Measure:
    """All metrics of decisions and of rankings that need nothing but the scored images.

    Macro means run over the classes present among `targets`; a replicate in which one of these was
    not drawn is not defined.

    Args:
        targets: true classes as positions in `classes`, shape (n,).
        probabilities: shape (n, k), 0-1.
        classes: names, length k.

    Returns:
        A measure of balanced_accuracy, macro_auroc, macro_f1, macro_precision,
        macro_average_precision, accuracy, majority_accuracy, log_loss and, for each class, recall,
        precision, f1, auroc and average_precision as "recall/mel".
    """
    k = len(classes)
    predicted = decide(probabilities)
    present = np.bincount(targets, minlength=k) > 0
    rankings = [rank(targets == i, probabilities[:, i]) for i in range(k)]

    def compute(weights: Weights) -> Mapping[str, Values]:
        counts = confusion(weights, targets, predicted, k)
        ranked = [_blockwise((_auroc, _average_precision), weights, each) for each in rankings]
        per_class = {
            "recall": recall(counts),
            "precision": precision(counts),
            "f1": f1(counts),
            "auroc": np.stack([each[0] for each in ranked], axis=1),
            "average_precision": np.stack([each[1] for each in ranked], axis=1),
        }
        drawn = (counts.sum(axis=2)[:, present] > 0).all(axis=1)

        def mean(name: str) -> Values:
            return np.where(drawn, macro(per_class[name], present), np.nan)

        values: dict[str, Values] = {
            "balanced_accuracy": mean("recall"),
            "macro_auroc": mean("auroc"),
            "macro_f1": mean("f1"),
            "macro_precision": mean("precision"),
            "macro_average_precision": mean("average_precision"),
            "accuracy": accuracy(counts),
            "majority_accuracy": majority_accuracy(counts),
            "log_loss": log_loss(weights, targets, probabilities),
        }
        for name, table in per_class.items():
            values |= {f"{name}/{label}": table[:, i] for i, label in enumerate(classes)}
        return values

    basis: dict[str, Mask] = {}
    for i, label in enumerate(classes):
        truth, answer = targets == i, predicted == i
        basis |= {f"recall/{label}": truth, f"precision/{label}": answer}
        basis[f"f1/{label}"] = truth | answer
    shares = {f"{name}/{label}" for name in ("recall", "precision") for label in classes}
    return Measure(compute, basis, frozenset(shares | {"accuracy"}))
