"""The eight symmetries of a picture: a lesion has no up and no left."""

from __future__ import annotations

import torch
from torch import Tensor

from lesionlab.augmentation.random_views import warp

NAMES = (
    "as it is",
    "mirrored left-right",
    "mirrored top-bottom",
    "turned by 180 degrees",
    "mirrored along the diagonal",
    "turned by 90 degrees clockwise",
    "turned by 90 degrees anticlockwise",
    "mirrored along the other diagonal",
)
"""What `symmetry` does, by its number."""


def symmetry(inputs: Tensor, number: int) -> Tensor:
    """One of the eight symmetries of a rectangle's picture, whole and with its shapes kept.

    The four that keep the sides' lengths are exact, and so are all eight of a square. An oblong
    picture that is turned on its side is made smaller until it fits, by interpolation, and what is
    then empty on both sides is filled with its reflection, as in training: nothing of the lesion is
    cut off or squeezed.

    Args:
        inputs: float, shape (n, channels, height, width).
        number: 0-7, see `NAMES`; the first 1, 2, 4 and 8 are groups.

    Returns:
        Of the same shape; 0 gives the inputs themselves.
    """
    if number & 4:
        inputs = _on_its_side(inputs)
    dims = [dim for dim, bit in ((3, 1), (2, 2)) if number & bit]
    return inputs.flip(dims) if dims else inputs


def _on_its_side(inputs: Tensor) -> Tensor:
    """Swap rows and columns."""
    height, width = inputs.shape[-2:]
    if height == width:
        return inputs.transpose(2, 3)
    aspect = width / height
    smaller = max(aspect, 1 / aspect)
    # In units of half the height: (x, y) of the view is (y, x) of the picture, times `smaller`.
    matrix = torch.tensor(
        [[0.0, smaller / aspect, 0.0], [smaller * aspect, 0.0, 0.0], [0.0, 0.0, 1.0]],
        device=inputs.device,
    )
    return warp(inputs, matrix.expand(inputs.shape[0], 3, 3))  # len would fix a graph's batch
