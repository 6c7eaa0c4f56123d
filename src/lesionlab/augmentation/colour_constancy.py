"""Colour constancy: take the colour of the light out of an image.

The light is estimated from the image alone and divided out, channel by channel. What is left of two
photographs of one lesion under a bluish and a yellowish lamp differs at most in brightness.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NORM = 6
"""Minkowski norm of shades of grey: the best of Finlayson and Trezzi (2004)."""

_DARKEST = 1 / 255  # light below one grey level is noise: a black image stays black and finite


def gains(images: Tensor, method: str) -> Tensor:
    """What each channel of each image is multiplied by.

    The gain of a channel is `|e| / (e * sqrt(3))`, e being the light's estimated colour, so that
    white light gives gains of 1. Nothing but elementary tensor operations, so that it can be
    exported with the network.

    Args:
        images: stored pixels in 0-255, uint8 or float, shape (n, height, width, 3).
        method: how the light is estimated: `grey_world`, the mean (Buchsbaum, J. Franklin
            Institute 310, 1980); `shades_of_grey`, the Minkowski norm of order `NORM` (Finlayson
            and Trezzi, Color Imaging Conference 2004); `max_rgb`, the brightest value of each
            channel (white patch; Land, Scientific American 237, 1977); or `none`.

    Returns:
        float32, shape (n, 3), all positive and finite.

    Raises:
        ValueError: if there is no such method.
    """
    if method == "none":
        return torch.ones(images.shape[0], 3, device=images.device)
    if method == "max_rgb":
        light = images.amax(dim=(1, 2)).to(torch.float32) / 255
    elif method == "grey_world":
        light = images.to(torch.float32).mean(dim=(1, 2)) / 255
    elif method == "shades_of_grey":
        square = (images.to(torch.float32) / 255).square()
        light = (square * square * square).mean(dim=(1, 2)) ** (1 / NORM)
    else:
        raise ValueError(f"no colour constancy is called {method!r}")
    light = light.clamp_min(_DARKEST)
    strength: Tensor = torch.linalg.vector_norm(light, dim=1, keepdim=True)
    return strength / (light * math.sqrt(3))
