"""Whether an answer changes when what a map marks is taken away, and what rests on the lesion.

Deletion and insertion: Petsiuk, Das and Saenko, "RISE: randomized input sampling for explanation of
black-box models", BMVC 2018. What is taken away is replaced by a blur of the picture, or by its
mean colour; either makes pictures that nobody has photographed, and a network may answer them
oddly. So every curve stands beside one of a random order, which suffers from that as much.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lesionlab.explanation.grad_cam import spread

Substitute = Literal["blur", "mean"]
"""What stands where something was taken away."""

Score = Callable[[Tensor], Tensor]
"""From pictures, shape (n, 3, height, width), to one number each, shape (n,)."""

BLUR = 0.1
"""Standard deviation of the blur, as a share of the picture's shorter side."""
_LITTLE = 1e-4  # weight of the mean colour where the blur reaches nothing that was kept


def substitutes(images: Tensor, how: Substitute, kept: Tensor | None = None) -> Tensor:
    """What to put in the place of pixels: the picture's blur or its mean colour.

    Args:
        images: float32, shape (n, 3, height, width).
        how: "blur" or "mean".
        kept: bool, shape (n, 1, height, width): colours come from these pixels alone, so that
            nothing of the others is left but their outline. None: from all.

    Returns:
        Of the images' shape. Where nothing is kept, the mean colour of all.
    """
    weights = torch.ones_like(images[:, :1]) if kept is None else kept.to(images.dtype)
    empty = weights.sum(dim=(2, 3), keepdim=True) == 0
    weights = torch.where(empty, torch.ones_like(weights), weights)
    mean = (images * weights).sum(dim=(2, 3), keepdim=True) / weights.sum(dim=(2, 3), keepdim=True)
    if how == "mean":
        return mean.expand_as(images)
    near = _blurred(torch.cat([images * weights, weights], dim=1))
    return (near[:, :-1] + _LITTLE * mean) / (near[:, -1:] + _LITTLE)


def _blurred(images: Tensor) -> Tensor:
    """Gaussian blur, reflected at the borders."""
    sigma = BLUR * min(images.shape[2:])
    for dim in (2, 3):
        reach = min(round(3 * sigma), images.shape[dim] - 1)
        at = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
        kernel = torch.exp(-((at / sigma) ** 2) / 2)
        shape = [1, 1, 1, 1]
        shape[dim] = len(kernel)
        weight = (kernel / kernel.sum()).reshape(shape).repeat(images.shape[1], 1, 1, 1)
        padding = (reach, reach, 0, 0) if dim == 3 else (0, 0, reach, reach)
        images = functional.conv2d(
            functional.pad(images, padding, mode="reflect"), weight, groups=images.shape[1]
        )
    return images


def random_maps(
    image_ids: list[str], grid: tuple[int, int], size: tuple[int, int], seed: int
) -> NDArray[np.float32]:
    """Maps of random numbers on the same places as a network's, spread in the same way.

    Args:
        image_ids: an image's map depends on its id and the seed alone.
        grid: places down and across.
        size: height and width of the pictures.
        seed: of the numbers.

    Returns:
        Above 0 to 1, shape (n, *size).
    """
    drawn = [
        np.random.default_rng([seed, zlib.crc32(name.encode())]).uniform(0.01, 1, grid)
        for name in image_ids
    ]
    return spread(np.stack(drawn).astype(np.float32), size)


def order(maps: NDArray[np.floating], ties: NDArray[np.floating]) -> NDArray[np.int64]:
    """The order in which maps take pixels away, the highest first.

    Args:
        maps: shape (n, height, width).
        ties: other maps, which decide between equal values; a blank map has their order.

    Returns:
        Of each pixel its place, 0 to height * width - 1, shape (n, height, width).
    """
    made = np.empty((len(maps), maps[0].size), np.int64)
    for row, heat, tie in zip(made, maps, ties, strict=True):
        row[np.lexsort((tie.ravel(), heat.ravel()))[::-1]] = np.arange(heat.size)
    return made.reshape(maps.shape)


def curve(
    score: Score,
    images: Tensor,
    instead: Tensor,
    places: NDArray[np.int64],
    ends: tuple[Tensor, Tensor],
    steps: int,
    *,
    insert: bool = False,
) -> NDArray[np.float64]:
    """Scores while pixels are replaced in an order, in equal steps: deletion, or insertion.

    Args:
        score: of a batch of pictures.
        images: shape (n, 3, height, width).
        instead: what stands where a pixel was replaced, of the same shape.
        places: from `order`.
        ends: scores of `images` and of `instead`, shape (n,) each.
        steps: from nothing to everything.
        insert: put pixels back into the replaced picture, in the same order. That is the deletion
            of the reversed order, read backwards.

    Returns:
        Shape (n, steps + 1): with 0, 1 / steps, ... and all pixels replaced, or put back.
    """
    if insert:
        places = places[0].size - 1 - places
    where = torch.from_numpy(places)[:, None].to(images.device)
    pixels = places[0].size
    found = [ends[0]]
    for step in range(1, steps):
        gone = where < round(step * pixels / steps)
        found.append(score(torch.where(gone, instead, images)))
    made = torch.stack([*found, ends[1]], dim=1).double().cpu().numpy()
    return made[:, ::-1] if insert else made


def area_under(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area under curves over shares from 0 to 1, by trapezoids: shape (n, steps + 1) to (n,)."""
    return np.asarray((curves[:, 1:] + curves[:, :-1]).mean(axis=1) / 2)


def only(images: Tensor, kept: Tensor, how: Substitute) -> Tensor:
    """Pictures of which a part is left, the rest filled with colours of that part.

    Args:
        images: float32, shape (n, 3, height, width).
        kept: bool, shape (n, 1, height, width).
        how: what the rest is filled with.
    """
    return torch.where(kept, images, substitutes(images, how, kept))
