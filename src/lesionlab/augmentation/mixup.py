"""Mixed images: each view of a batch blended with its neighbour's, and so are the labels.

A view's neighbour is the one before it in the batch, which is in random order. The draws come from
torch's random state, which training seeds before every step: its Beta distribution takes no
generator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from lesionlab.recipe.schema import Augment


def mix(views: Tensor, targets: Tensor, settings: Augment, classes: int) -> tuple[Tensor, Tensor]:
    """Apply mixup or cutmix, whichever the settings ask for.

    Args:
        views: shape (n, 3, height, width).
        targets: class indices, int64, shape (n,).
        settings: `mixup` and `cutmix` are the alpha of a Beta distribution, 0 = off.
        classes: how many there are.

    Returns:
        Views, and targets: shares of each class, shape (n, classes), each row adding up to 1; both
        as they came where neither is asked for.
    """
    if settings.mixup > 0:
        return mixup(views, targets, settings.mixup, classes)
    if settings.cutmix > 0:
        return cutmix(views, targets, settings.cutmix, classes)
    return views, targets


def mixup(views: Tensor, targets: Tensor, alpha: float, classes: int) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al., ICLR 2018): blend each view and its label with its neighbour's.

    Args and returns as in `mix`; an image's share is drawn from Beta(alpha, alpha).
    """
    share = _shares(len(views), alpha).to(views)
    by = share[:, None, None, None]
    return by * views + (1 - by) * views.roll(1, 0), _soft(targets, share, classes)


def cutmix(views: Tensor, targets: Tensor, alpha: float, classes: int) -> tuple[Tensor, Tensor]:
    """CutMix (Yun et al., ICCV 2019): paste a box of each view's neighbour into it.

    The box has the image's shape and is meant to cover 1 - Beta(alpha, alpha) of it; its centre is
    anywhere, and what would stick out is cut off. The label is shared by the area that is really
    covered.

    Args and returns as in `mix`.
    """
    n, _, height, width = views.shape
    share = _shares(n, alpha)
    centre = torch.rand(2, n)
    side = (1 - share).sqrt()
    inside_y, rows = _span(centre[0], side, height)
    inside_x, columns = _span(centre[1], side, width)
    box = (inside_y[:, None, :, None] & inside_x[:, None, None, :]).to(views.device)
    kept = 1 - rows * columns / (height * width)
    return torch.where(box, views.roll(1, 0), views), _soft(targets, kept.to(views), classes)


def _shares(n: int, alpha: float) -> Tensor:
    parameter = torch.tensor(alpha)
    return torch.distributions.Beta(parameter, parameter).sample((n,))


def _span(centre: Tensor, side: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Which of `length` pixels a stretch covers: bool, shape (n, length); and how many, (n,)."""
    half = (side * length / 2).floor()
    middle = (centre * length).floor()
    places = torch.arange(length)
    inside = (places >= (middle - half)[:, None]) & (places < (middle + half)[:, None])
    return inside, inside.sum(dim=1)


def _soft(targets: Tensor, share: Tensor, classes: int) -> Tensor:
    hot = functional.one_hot(targets, classes).to(share)
    return share[:, None] * hot + (1 - share)[:, None] * hot.roll(1, 0)
