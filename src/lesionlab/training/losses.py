"""What is minimised: functions from logits and targets to a number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lesionlab.recipe import CrossEntropy, LogitAdjusted

Loss = Callable[[Tensor, Tensor], Tensor]


def inverse_frequency(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Class weights 1 / count, scaled to mean 1: the rarer, the heavier.

    Args:
        counts: training images per class, all above 0, shape (classes,).

    Returns:
        float64, shape (classes,).
    """
    weights = 1.0 / counts
    return np.asarray(weights / weights.mean())


def build(settings: CrossEntropy | LogitAdjusted, counts: NDArray[np.int64]) -> Loss:
    """A loss for one training part.

    Args:
        settings: the recipe's loss.
        counts: training images per class, all above 0, shape (classes,).

    Returns:
        A function of logits, shape (n, classes), and targets: class indices, shape (n,), or class
        probabilities, shape (n, classes). It gives the mean loss of the batch.
    """
    if isinstance(settings, LogitAdjusted):
        # Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, equation 10.
        shift = torch.tensor(settings.tau * np.log(counts / counts.sum()), dtype=torch.float32)
        return lambda logits, targets: functional.cross_entropy(
            logits.float() + shift.to(logits.device), targets, label_smoothing=settings.smoothing
        )
    weight: Tensor | None = None
    if settings.weights == "inverse":
        weight = torch.tensor(inverse_frequency(counts), dtype=torch.float32)
    return lambda logits, targets: functional.cross_entropy(
        logits.float(),
        targets,
        weight=None if weight is None else weight.to(logits.device),
        label_smoothing=settings.smoothing,
    )
