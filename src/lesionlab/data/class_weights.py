"""Class weights from class counts: what an image of each class counts for, the rarer the more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lesionlab.errors import DataError

if TYPE_CHECKING:
    from lesionlab.recipe.schema import Weights


def class_weights(
    counts: NDArray[np.integer], scheme: Weights, beta: float = 0.999
) -> NDArray[np.float64]:
    """Class weights as their source defines them, not yet scaled to any mean.

    No scheme gives a class with more images a larger weight than one with fewer.

    Args:
        counts: images per class, all above 0, shape (classes,).
        scheme: "none": 1; "inverse": 1 / n; "sqrt": 1 / sqrt(n); "median": median of the counts
            / n (Eigen and Fergus, ICCV 2015, for images of one label each);
            "effective": (1 - beta) / (1 - beta^n) (Cui et al., CVPR 2019, equation 3).
        beta: of "effective" alone, 0 to below 1; 0 gives every class the same weight.

    Returns:
        float64, all above 0, shape (classes,).

    Raises:
        DataError: if a class has no image.
    """
    counts = np.asarray(counts, np.float64)
    if not len(counts) or counts.min() < 1:
        raise DataError(
            "A class without images has no weight: leave it out of the catalogue, or put some of "
            "its images into the training part."
        )
    if scheme == "inverse":
        return np.asarray(1 / counts)
    if scheme == "sqrt":
        return np.asarray(1 / np.sqrt(counts))
    if scheme == "median":
        return np.asarray(np.median(counts) / counts)
    if scheme == "effective":
        return np.asarray((1 - beta) / (1 - np.power(beta, counts)))
    return np.ones_like(counts)


def mean_one(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale weights to mean 1 over the classes, so that no scheme changes the loss's size much."""
    return np.asarray(weights / weights.mean())
