"""A stack: logistic regression on several models' log-probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlab.errors import DataError
from lesionlab.evaluation.metrics.classification import log_loss
from lesionlab.numerics import softmax

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

FLOOR = 1e-6
"""Probabilities below this count as this, so that no logarithm runs away."""

STRENGTHS = tuple(10.0**power for power in range(-4, 3))
"""Inverse strengths of the ridge penalty (scikit-learn's C) that are tried."""

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Stack:
    """A fitted regression.

    Attributes:
        coefficients: shape (k, m * k): for each class, of each member's log-probabilities in turn.
        intercepts: shape (k,).
        strength: the chosen inverse strength of the penalty.
        folds: how many folds it was chosen in.
    """

    coefficients: Floats
    intercepts: Floats
    strength: float
    folds: int

    def answer(self, probabilities: Floats) -> Floats:
        """Probabilities of the stack, shape (n, k), from those of the members, shape (m, n, k)."""
        return softmax(_features(probabilities) @ self.coefficients.T + self.intercepts)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "features": f"log of the members' probabilities, at least {FLOOR:g}, member by member",
            "coefficients": self.coefficients.tolist(),
            "intercepts": self.intercepts.tolist(),
            "strength": self.strength,
            "folds": self.folds,
        }


def stack(
    probabilities: Floats,
    targets: Index,
    lesions: Index,
    classes: Sequence[str],
    *,
    metric: str,
    seed: int,
) -> tuple[Stack, Floats]:
    """Fit a stack, its penalty chosen in folds that keep lesions together.

    Args:
        probabilities: shape (m, n, k), 0-1.
        targets: true classes as positions, shape (n,).
        lesions: numbers of the lesions, shape (n,).
        classes: names, length k.
        metric: log_loss weighs every image the same, balanced_accuracy every class.
        seed: of the folds.

    Returns:
        The stack, fitted on all rows; and for the same rows the answers of the folds that were
        fitted without them, shape (n, k).

    Raises:
        DataError: if a class has fewer than two lesions.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    k = len(classes)
    counts = [len(np.unique(lesions[targets == label])) for label in range(k)]
    if few := [f"{classes[i]} ({counts[i]})" for i in range(k) if counts[i] < 2]:
        raise DataError(
            f"Stacking needs two lesions of every class in part val; there are fewer of "
            f"{', '.join(few)}. Take another method, or a split with a larger val part."
        )
    features = _features(probabilities)
    share = np.bincount(targets, minlength=k) / len(targets)
    weights = 1 / (k * share[targets]) if metric == "balanced_accuracy" else np.ones(len(targets))
    number = min(FOLDS, *counts)
    folder = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        folds = list(folder.split(features, targets, lesions))
    best, kept, strength = np.inf, np.empty((len(targets), k)), STRENGTHS[0]
    for each in STRENGTHS:
        answers = np.empty_like(kept)
        for train, rest in folds:
            fitted = _fit(features[train], targets[train], weights[train], each, k)
            answers[rest] = softmax(features[rest] @ fitted[0].T + fitted[1])
        loss = float(log_loss(weights[None], targets, answers)[0])
        if loss < best:
            best, kept, strength = loss, answers, each
    coefficients, intercepts = _fit(features, targets, weights, strength, k)
    return Stack(coefficients, intercepts, strength, number), kept


def _fit(
    features: Floats, targets: Index, weights: Floats, strength: float, k: int
) -> tuple[Floats, Floats]:
    """Coefficients (k, f) and intercepts (k,); a class without targets is never answered.

    Two classes get a row each, too: half of scikit-learn's single one, with opposite signs.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=5000)
    model.fit(features, targets, sample_weight=weights)
    rows, offsets = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
    coefficients = np.zeros((k, features.shape[1]))
    intercepts = np.full(k, np.log(FLOOR) * 10)
    coefficients[model.classes_], intercepts[model.classes_] = rows, offsets
    return coefficients, intercepts


def _features(probabilities: Floats) -> Floats:
    logs = np.log(np.maximum(probabilities, FLOOR))
    return np.concatenate(list(logs), axis=1)
