"""What is minimised: functions from logits and targets to a number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lesionlab.data.class_weights import class_weights, mean_one
from lesionlab.errors import SettingsError
from lesionlab.recipe.schema import Focal, Ldam, LogitAdjusted, OwnLoss
from lesionlab.recipe.schema import Loss as Settings

Loss = Callable[[Tensor, Tensor], Tensor]


_OWN: dict[str, Loss] = {}


def register_loss(name: str) -> Callable[[Loss], Loss]:
    """Register a loss, so that recipes can name it: `loss: {kind: own, name: NAME}`.

    Args:
        name: what to call it.

    Returns:
        A decorator of a function from logits, shape (n, classes), and targets (class indices, shape
        (n,), or with mixup probabilities, shape (n, classes)) to the mean loss of the batch.

    Example:
        >>> @register_loss("hinge")  # doctest: +SKIP
        ... def hinge(logits, targets):
        ...     return torch.nn.functional.multi_margin_loss(logits, targets)
    """

    def register(loss: Loss) -> Loss:
        _OWN[name] = loss
        return loss

    return register


def check(settings: Settings) -> None:
    """Make sure that a loss of one's own is registered.

    Raises:
        SettingsError: naming those that are.
    """
    if isinstance(settings, OwnLoss) and settings.name not in _OWN:
        raise SettingsError(
            f"loss.name: no loss {settings.name!r} is registered in this process, only "
            f"{', '.join(_OWN) or 'none'}. Import the file that calls register_loss first."
        )


def build(settings: Settings, counts: NDArray[np.int64]) -> Loss:
    """A loss for one training part.

    Args:
        settings: the recipe's loss.
        counts: training images per class, all above 0, shape (classes,).

    Returns:
        A function of logits, shape (n, classes), and targets: class indices, shape (n,), or class
        probabilities such as mixup makes, shape (n, classes). It gives the mean loss of the batch,
        which with class weights is torch's: over the weights of the targets where they are
        indices, over n where they are probabilities.

    Raises:
        DataError: if weights are asked for and a class has no image.
        SettingsError: if a loss of one's own is not registered.
    """
    check(settings)
    if isinstance(settings, OwnLoss):
        return _OWN[settings.name]
    if isinstance(settings, LogitAdjusted):
        return _logit_adjusted(settings, counts)
    weight = None
    if settings.weights != "none":
        weight = _tensor(mean_one(class_weights(counts, settings.weights, settings.beta)))
    if isinstance(settings, Focal):
        return _focal(settings, weight)
    if isinstance(settings, Ldam):
        return _ldam(settings, weight, counts)
    smoothing = settings.smoothing
    return lambda logits, targets: functional.cross_entropy(
        logits.float(),
        targets,
        weight=None if weight is None else weight.to(logits.device),
        label_smoothing=smoothing,
    )


def _logit_adjusted(settings: LogitAdjusted, counts: NDArray[np.int64]) -> Loss:
    # Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, equation 10.
    shift = _tensor(settings.tau * np.log(counts / counts.sum()))
    return lambda logits, targets: functional.cross_entropy(
        logits.float() + shift.to(logits.device), targets, label_smoothing=settings.smoothing
    )


def _focal(settings: Focal, weight: Tensor | None) -> Loss:
    """Every term of cross-entropy times (1 - p)^gamma of its own class.

    For a plain target that is equation 4 of Lin et al., "Focal loss for dense object detection",
    ICCV 2017, with softmax in place of the sigmoid.
    """

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        log_p = functional.log_softmax(logits.float(), dim=1)
        # a sure network has 1 - p = 0, where the slope of a power below 1 is infinite
        doubt = (-log_p.expm1()).clamp_min(1e-8)
        return _mean(doubt.pow(settings.gamma) * log_p, targets, weight, settings.smoothing)

    return loss


def _ldam(settings: Ldam, weight: Tensor | None, counts: NDArray[np.int64]) -> Loss:
    """Cross-entropy after the true class's logit is lowered by a margin of n^(-1/4).

    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS
    2019, equations 10 and 13. The paper normalises features and classifier and multiplies the
    cosines by `scale` 30; logits of an ordinary classifier need no scale. The target of a mixed
    image is a mixture, and so is its loss: each class's share times the loss of that class.
    """
    margins = counts.astype(np.float64) ** -0.25
    lowered = torch.diag(_tensor(settings.margin * margins / margins.max()))

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        each = logits.float()[:, None, :] - lowered.to(logits.device)  # [image, if true, logit]
        log_p = functional.log_softmax(settings.scale * each, dim=2).diagonal(dim1=1, dim2=2)
        return _mean(log_p, targets, weight, 0.0)

    return loss


def _mean(log_p: Tensor, targets: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
    """Mean of minus the terms at the targets, smoothed and weighted as torch's cross-entropy is.

    Args:
        log_p: each class's term if it were the target, shape (n, classes).
        targets: class indices, shape (n,), or probabilities, shape (n, classes).
        weight: of each class, or None.
        smoothing: share of the target that goes to all classes evenly.
    """
    count, classes = log_p.shape
    soft = targets if targets.ndim == 2 else functional.one_hot(targets, classes)
    soft = (1 - smoothing) * soft.to(log_p) + smoothing / classes
    if weight is None:
        return -(soft * log_p).sum() / count
    weight = weight.to(log_p)
    total = weight[targets].sum() if targets.ndim == 1 else count
    return -(soft * weight * log_p).sum() / total


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
