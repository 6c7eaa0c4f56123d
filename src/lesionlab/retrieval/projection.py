"""A distance in which a lesion is near itself, learnt from features of a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import linalg

Floats = NDArray[np.float32]

DIMENSIONS = 64
_SHRINKAGE = 0.1  # share of the within-lesion scatter that is taken as equal in all directions
_ENOUGH = 50  # lesions of several images, below which classes stand in for lesions


@dataclass(frozen=True, eq=False)
class Projection:
    """From features to unit vectors whose Euclidean distance is that of the lesions.

    Attributes:
        mean: of the features, shape (features,).
        axes: shape (features, dimensions).
    """

    mean: Floats
    axes: Floats

    def __call__(self, features: Floats) -> Floats:
        """Unit vectors, shape (n, dimensions)."""
        made = (features - self.mean) @ self.axes
        norm = np.linalg.norm(made, axis=1, keepdims=True)
        return np.asarray(made / np.maximum(norm, 1e-6), np.float32)


def fit_projection(
    features: Floats, lesions: pd.Series, targets: pd.Series, dimensions: int = DIMENSIONS
) -> Projection:
    """Learn the directions in which lesions differ, and photographs of one lesion do not.

    Linear discriminant analysis with lesions as its classes, the scatter within them shrunk towards
    a multiple of the identity. Where fewer than 50 lesions have several images, the diagnoses are
    its classes.

    Args:
        features: shape (n, features).
        lesions: the lesion of each image.
        targets: the diagnosis of each image.
        dimensions: that are kept, at most.
    """
    repeated = lesions.groupby(lesions.to_numpy()).transform("size").to_numpy() > 1
    groups = lesions if lesions[repeated].nunique() >= _ENOUGH else targets
    known = groups.groupby(groups.to_numpy()).transform("size").to_numpy() > 1
    values = features.astype(np.float64)
    mean = values.mean(0)
    values = values - mean
    number, names = pd.factorize(groups[known])
    inside = values[known]
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, number, inside)
    inside = inside - (sums / np.bincount(number, minlength=len(names))[:, None])[number]
    total = values.T @ values / len(values)
    within = inside.T @ inside / max(1, len(inside) - len(names))
    level = np.trace(within) / len(within) or np.trace(total) / len(total) or 1.0
    shrunk = (1 - _SHRINKAGE) * within + _SHRINKAGE * level * np.eye(len(within))
    kept = min(dimensions, len(total))
    axes = linalg.eigh(total, shrunk, subset_by_index=(len(total) - kept, len(total) - 1))[1]
    return Projection(mean.astype(np.float32), axes[:, ::-1].astype(np.float32))
