"""Weights of an ensemble's members, fitted on the rows that are given and on nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionlab.errors import DataError
from lesionlab.evaluation.metrics.classification import (
    accuracy,
    balanced_accuracy,
    confusion,
    decide,
    log_loss,
)
from lesionlab.evaluation.metrics.ranking import auroc, rank

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

GREEDY_STEPS = 50
"""How many members, with repetition, a greedy ensemble may have."""

CANDIDATES = 500
"""Random weights that are tried for a figure that has no gradient."""

_TOLERANCE = 1e-9
_STEPS = 100_000


def score(metric: str, targets: Index, probabilities: Floats) -> float:
    """One figure of some rows, turned so that higher is better.

    Args:
        metric: log_loss, balanced_accuracy, macro_auroc or accuracy.
        targets: true classes as positions, shape (n,).
        probabilities: shape (n, k), 0-1.

    Raises:
        DataError: if macro_auroc is asked of rows that are all of one class.
    """
    ones, k = np.ones((1, len(targets))), probabilities.shape[1]
    if metric == "log_loss":
        return -float(log_loss(ones, targets, probabilities)[0])
    if metric == "macro_auroc":
        present = np.unique(targets)
        if len(present) < 2:
            raise DataError(
                "Nothing can be fitted for macro_auroc: all images of part val are of one class, "
                "and AUROC compares two. Take another metric, such as log_loss."
            )
        areas = [auroc(ones, rank(targets == i, probabilities[:, i]))[0] for i in present]
        return float(np.mean(areas))
    counts = confusion(ones, targets, decide(probabilities), k)
    function = {"balanced_accuracy": balanced_accuracy, "accuracy": accuracy}
    return float(function[metric](counts)[0])


def mixture_weights(probabilities: Floats, targets: Index) -> Floats:
    """The weights with the lowest log loss, by expectation maximisation of a mixture's shares.

    The loss is convex in the weights. Each step multiplies a weight by the mean of its member's
    part in the mixture (Dempster, Laird and Rubin, J. R. Stat. Soc. B 39:1-38, 1977), so weights
    stay 0 or more and add up to 1; it ends where no factor is above 1 by more than 1e-9, which
    bounds how far the loss is from the lowest.

    Args:
        probabilities: shape (m, n, k), 0-1.
        targets: true classes as positions, shape (n,).

    Returns:
        Shape (m,).
    """
    of_truth = probabilities[:, np.arange(len(targets)), targets]
    of_truth = np.maximum(of_truth, np.finfo(np.float64).eps)
    weights = np.full(len(probabilities), 1 / len(probabilities))
    for _ in range(_STEPS):
        factors = (of_truth / (weights @ of_truth)).mean(axis=1)
        if factors.max() <= 1 + _TOLERANCE:
            break
        weights = weights * factors
        weights /= weights.sum()
    return np.asarray(weights)


def best_weights(probabilities: Floats, targets: Index, metric: str, seed: int) -> Floats:
    """The best of many weights for a figure that moves in steps, such as balanced accuracy.

    Tried are each member alone, equal weights, those of the lowest log loss, and random ones; of
    equally good ones those with the lowest log loss are taken.

    Args:
        probabilities: shape (m, n, k), 0-1.
        targets: true classes as positions, shape (n,).
        metric: see `score`.
        seed: of the random ones.

    Returns:
        Shape (m,), 0 or more, adding up to 1.
    """
    m, rng = len(probabilities), np.random.default_rng(seed)
    tried = np.concatenate(
        [
            [np.full(m, 1 / m), mixture_weights(probabilities, targets)],
            np.eye(m),
            rng.dirichlet(np.full(m, 1.0), CANDIDATES // 2),  # anywhere
            rng.dirichlet(np.full(m, 10.0), CANDIDATES // 2),  # nearer to equal weights
        ]
    )
    mixed = [np.tensordot(weights, probabilities, axes=1) for weights in tried]
    values = [(score(metric, targets, p), score("log_loss", targets, p)) for p in mixed]
    return np.asarray(tried[max(range(len(tried)), key=values.__getitem__)])


def greedy_weights(probabilities: Floats, targets: Index, metric: str) -> Floats:
    """Weights from adding, step by step and with repetition, the member that helps the mean most.

    Ensemble selection (Caruana, Niculescu-Mizil, Crew and Ksikes, ICML 2004), from none, for
    `GREEDY_STEPS` steps; the best step is kept, of equal ones the first.

    Args:
        probabilities: shape (m, n, k), 0-1.
        targets: true classes as positions, shape (n,).
        metric: see `score`.

    Returns:
        Shape (m,), 0 or more, adding up to 1.
    """
    counts = np.zeros(len(probabilities))
    total = np.zeros(probabilities.shape[1:])
    best, kept = -np.inf, counts
    for step in range(1, GREEDY_STEPS + 1):
        values = [score(metric, targets, (total + each) / step) for each in probabilities]
        chosen = int(np.argmax(values))
        total = total + probabilities[chosen]
        counts = counts + (np.arange(len(counts)) == chosen)
        if values[chosen] > best:
            best, kept = values[chosen], counts
    return np.asarray(kept / kept.sum())
