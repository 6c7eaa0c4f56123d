"""`calibrate`: probabilities that mean what they say, by scaling their logarithms.

    temperature  p' ~ exp(w log p), one number for all (Guo et al., ICML 2017; w is 1 / temperature)
    vector       p' ~ exp(w_k log p_k + b_k), two numbers per class (the same paper)
    dirichlet    p' ~ exp(W log p + b), a matrix (Kull et al., NeurIPS 2019)

All are fitted on part val by maximum likelihood and applied to every part. Logarithms of
probabilities are scaled, not logits: logits are known up to a number per image, which would change
what a vector scaling makes of them and nothing else. Where a table has logits that agree with its
probabilities, they give the logarithms without loss; else a probability below `FLOOR` counts as
that.

Vector and Dirichlet scaling are held back by a penalty, lest the few lesions of a rare class be
learned by heart: of vector scaling, on b and on how far the w_k are from their mean, so that the
strongest penalty leaves a temperature; of Dirichlet scaling, on b and on all that is off the
diagonal of W (ODIR, section 4.1 there). Its strength is chosen in folds of val that keep lesions
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import DataError, SettingsError
from lesionlab.numerics import log_softmax, softmax
from lesionlab.tables import classes_of

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Method = Literal["temperature", "vector", "dirichlet"]

METHODS: tuple[Method, ...] = ("temperature", "vector", "dirichlet")

FLOOR = float(np.finfo(np.float32).eps)
"""Probabilities below this count as this (1.2e-7): a softmax in 32 bits resolves no less near 1."""

STRENGTHS = tuple(10.0**power for power in range(-4, 3))
"""Strengths of the penalty that are tried."""

FOLDS = 5

STEPS = 100
"""Newton steps at most; where the classes of val are told apart without error there is no end."""

AGREE = 1e-4
"""Logits are used where their softmax is everywhere this near to the probabilities."""

_KIND = "lesionlab scaling 1"


@dataclass(frozen=True, eq=False)
class Scaling:
    """A fitted scaling.

    Attributes:
        method: temperature, vector or dirichlet.
        classes: names, length k.
        matrix: W, shape (k, k); diagonal but for dirichlet.
        offsets: b, shape (k,).
        strength: of the penalty, as chosen; 0 for temperature.
    """

    method: Method
    classes: tuple[str, ...]
    matrix: Floats
    offsets: Floats
    strength: float = 0.0

    @property
    def temperature(self) -> float:
        """What logits are divided by, for method temperature; above 1 makes answers less sure."""
        return float(1 / self.matrix[0, 0])

    def logits(self, logs: Floats) -> Floats:
        """New log-probabilities, shape (n, k), from old ones."""
        return log_softmax(logs @ self.matrix.T + self.offsets)

    def apply(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Scale a checked predictions table; its logits, where it has them, are scaled along.

        Raises:
            DataError: if it has other classes, or the same in another order.
        """
        if classes_of(predictions) != self.classes:
            raise DataError(
                f"The scaling was fitted for the classes {', '.join(self.classes)}, the table has "
                f"{', '.join(classes_of(predictions))}. Fit one for this table."
            )
        scaled = self.logits(log_probabilities(predictions))
        made = predictions.copy()
        for i, label in enumerate(self.classes):
            made[f"p_{label}"] = np.exp(scaled[:, i])
            if f"logit_{label}" in made.columns:
                made[f"logit_{label}"] = scaled[:, i]
        return made

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "kind": _KIND,
            "method": self.method,
            "classes": list(self.classes),
            "features": f"natural log of the probabilities, at least {FLOOR:g} without logits",
            "matrix": self.matrix.tolist(),
            "offsets": self.offsets.tolist(),
            "temperature": self.temperature if self.method == "temperature" else None,
            "strength": self.strength,
        }

    @classmethod
    def from_json(cls, value: Any) -> Scaling:
        """Read what `to_json` gave.

        Raises:
            DataError: if it is something else.
        """
        if not isinstance(value, Mapping) or value.get("kind") != _KIND:
            raise DataError("This is no scaling. `lesionlab calibrate` writes one.")
        return cls(
            value["method"],
            tuple(value["classes"]),
            np.asarray(value["matrix"], dtype=np.float64),
            np.asarray(value["offsets"], dtype=np.float64),
            float(value["strength"]),
        )


def log_probabilities(predictions: pd.DataFrame) -> Floats:
    """Natural logs of a table's probabilities, shape (n, k), from its logits if they agree."""
    classes = classes_of(predictions)
    probabilities = predictions[[f"p_{label}" for label in classes]].to_numpy(dtype=np.float64)
    columns = [f"logit_{label}" for label in classes]
    if set(columns) <= set(predictions.columns):
        logits = predictions[columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        if np.isfinite(logits).all() and np.allclose(softmax(logits), probabilities, 0, AGREE):
            return log_softmax(logits)
    return log_softmax(np.log(np.maximum(probabilities, FLOOR)))


def fit(
    logs: Floats,
    targets: Index,
    lesions: Index,
    classes: Sequence[str],
    *,
    method: Method = "temperature",
    seed: int = 0,
) -> tuple[Scaling, float]:
    """Fit a scaling, its penalty chosen in folds that keep lesions together.

    Args:
        logs: log-probabilities, shape (n, k).
        targets: true classes as positions, shape (n,).
        lesions: numbers of the lesions, shape (n,).
        classes: names, length k.
        method: one of `METHODS`.
        seed: of the folds.

    Returns:
        The scaling, fitted on all rows; and the mean negative log-likelihood of rows that folds
        were fitted without, nan with fewer than two lesions.

    Raises:
        SettingsError: if there is no such method.
    """
    if method not in METHODS:
        raise SettingsError(f"There is no method {method!r}. Choose one of {', '.join(METHODS)}.")
    folds = _folds(targets, lesions, seed)
    best, strength = np.nan, 0.0
    for each in (0.0,) if method == "temperature" else STRENGTHS[::-1]:
        loss = 0.0
        for train, rest in folds:
            matrix, offsets = _fit(logs[train], targets[train], method, each)
            scaled = log_softmax(logs[rest] @ matrix.T + offsets)
            loss -= float(scaled[np.arange(len(rest)), targets[rest]].sum())
        loss = loss / len(targets) if folds else np.nan
        if np.isnan(best) or loss < best:
            best, strength = loss, each
    matrix, offsets = _fit(logs, targets, method, strength)
    return Scaling(method, tuple(classes), matrix, offsets, strength), best


def _folds(targets: Index, lesions: Index, seed: int) -> list[tuple[Index, Index]]:
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold

    number = min(FOLDS, len(np.unique(lesions)))
    if number < 2:
        return []
    folder = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        try:
            return [pair for pair in folder.split(targets, targets, lesions) if len(pair[1])]
        except ValueError:  # no class has that many lesions
            return []


def _fit(logs: Floats, targets: Index, method: Method, strength: float) -> tuple[Floats, Floats]:
    """W, shape (k, k), and b, shape (k,), by damped Newton steps; the loss is convex."""
    n, k = logs.shape
    features = np.column_stack([logs, np.ones(n)])
    truth = np.eye(k)[targets]
    basis, held = _basis(method, k)  # all of [W b], row by row, out of the free numbers
    ridge = 2 * strength * held.T @ held + 1e-9 * np.eye(basis.shape[1])
    identity = np.column_stack([np.eye(k), np.zeros(k)]).reshape(-1)
    free: Floats = np.asarray(np.linalg.lstsq(basis, identity)[0], dtype=np.float64)

    def loss(values: Floats) -> tuple[float, Floats]:
        scaled = log_softmax(features @ (basis @ values).reshape(k, k + 1).T)
        return -float((truth * scaled).sum()) / n + float(values @ ridge @ values) / 2, scaled

    total, scaled = loss(free)
    for _ in range(STEPS):
        p = np.exp(scaled)
        slope = basis.T @ ((p - truth).T @ features / n).reshape(-1) + ridge @ free
        curve = basis.T @ _curvature(p, features) @ basis + ridge
        step = np.linalg.solve(curve, slope)
        size = 1.0
        while size > 1e-6 and loss(free - size * step)[0] > total:
            size /= 2
        if size <= 1e-6 or slope @ step < 1e-14:
            break
        free = free - size * step
        total, scaled = loss(free)
    if method == "temperature":
        free = np.maximum(free, 1e-3)  # a model that is right when it is unsure: no information
    full = (basis @ free).reshape(k, k + 1)
    return full[:, :k], full[:, k]


def _basis(method: Method, k: int) -> tuple[Floats, Floats]:
    """How [W b] comes out of the free numbers, and what of them is held back, as matrices."""
    unit = np.eye(k * (k + 1)).reshape(k, k + 1, -1)  # [row, column, place]
    diagonal = np.stack([unit[i, i] for i in range(k)], axis=1)
    offsets = np.stack([unit[i, k] for i in range(k)], axis=1)
    if method == "temperature":
        return diagonal.sum(axis=1, keepdims=True), np.zeros((1, 1))
    if method == "vector":
        held = np.zeros((2 * k, 2 * k))
        held[:k, :k] = (np.eye(k) - 1 / k) / np.sqrt(k)
        held[k:, k:] = np.eye(k) / np.sqrt(k)
        return np.concatenate([diagonal, offsets], axis=1), held
    held = np.full((k, k + 1), 1 / np.sqrt(k * (k - 1)))
    held[:, k] = 1 / np.sqrt(k)
    held[np.arange(k), np.arange(k)] = 0.0
    return np.eye(k * (k + 1)), np.diag(held.reshape(-1))


def _curvature(p: Floats, features: Floats) -> Floats:
    """Second derivatives of the mean loss by all of [W b], row by row."""
    n, k = p.shape
    f = features.shape[1]
    out = np.zeros((k, f, k, f))
    for i in range(k):
        for j in range(i + 1):
            weight = p[:, i] * ((i == j) - p[:, j]) / n
            out[i, :, j, :] = out[j, :, i, :] = (features * weight[:, None]).T @ features
    return out.reshape(k * f, k * f)
