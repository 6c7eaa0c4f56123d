"""Random views of a batch: one homography and one colour matrix per image.

All geometry of an image is multiplied into one 3 x 3 homography, so its pixels are interpolated
once; all colour is multiplied into one 3 x 4 matrix that ends in the network's normalisation.
That is both sharper and several times faster than a chain of transforms. Colour constancy is a gain
per channel, measured on the stored pixels, and goes into the same matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from lesionlab.augmentation.colour_constancy import gains
from lesionlab.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lesionlab.recipe.schema import Augment

DRAWS = 19
"""Uniform random numbers that one view of one image takes."""

FIRST_DRAWS = 16
"""How many of them come from an epoch's first table; the others, later additions, from a second,
so that a knob that is added changes no view of a recipe that does not use it."""

MOVES = 10
"""How many of them, the first, move the picture; the others change its light or erase a part."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
# Rotation about the grey axis happens in YIQ: its inverse below, its rows here.
_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


_PADDING = {"reflect": "reflection", "nearest": "border", "black": "zeros"}


def normalise(
    images: Tensor, mean: Sequence[float], std: Sequence[float], colour_constancy: str = "none"
) -> Tensor:
    """Turn stored pixels into the network's input: all that an unaugmented image goes through.

    Args:
        images: uint8, shape (n, height, width, 3).
        mean: of each channel, in 0-1.
        std: of each channel, in 0-1.
        colour_constancy: a method of `constancy.gains`, applied first.

    Returns:
        float32, shape (n, 3, height, width): `(pixel * gain / 255 - mean) / std`, channels last in
        memory.
    """
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device)
    offset = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=images.device)
    if colour_constancy != "none":
        scale = (scale * gains(images, colour_constancy))[:, None, None]
    return (images * scale + offset).permute(0, 3, 1, 2)


_OWN: dict[str, Callable[[Tensor], Tensor]] = {}


def register_augmentation(
    name: str,
) -> Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]:
    """Register an augmentation, so that recipes can name it: `augment.own: [NAME]`.

    Args:
        name: what to call it.

    Returns:
        A decorator of a function from normalised views, float32, shape (n, 3, height, width), on
        the device that trains, to views of that shape. Draw from torch's random state: the
        recipe's seed sets it.

    Example:
        >>> @register_augmentation("noise")  # doctest: +SKIP
        ... def noise(views):
        ...     return views + 0.05 * torch.randn_like(views)
    """

    def register(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        _OWN[name] = function
        return function

    return register


def check_augmentations(settings: Augment) -> None:
    """Make sure that augmentations of one's own are registered.

    Raises:
        SettingsError: naming those that are.
    """
    if missing := [name for name in settings.own if name not in _OWN]:
        raise SettingsError(
            f"augment.own: {', '.join(missing)} is not registered in this process, only "
            f"{', '.join(_OWN) or 'none'}. Import the file that calls register_augmentation first."
        )


def augment(
    images: Tensor,
    settings: Augment,
    draws: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    colour_constancy: str = "none",
) -> Tensor:
    """Draw one random view of every image, normalised.

    Args:
        images: uint8, shape (n, height, width, 3).
        settings: how far each kind of change may go.
        draws: uniform numbers in 0-1, shape (n, DRAWS); the view is a function of them alone, so
            the same draws give the same view on any machine, in any batch.
        mean: of each channel, in 0-1, as in `normalise`.
        std: of each channel, in 0-1.
        colour_constancy: as in `normalise`, measured on the image before it is changed.

    Returns:
        float32, shape (n, 3, height, width).
    """
    n, height, width, _ = images.shape
    draws = draws.to(images.device)
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    if settings.moves:
        matrices = homographies(settings, draws, width / height)
        pixels = warp(pixels, matrices, settings.fill)
    matrix, offset = colour_matrices(settings, draws, mean, std)
    if colour_constancy != "none":
        matrix = matrix * gains(images, colour_constancy)[:, None, :]
    views = torch.baddbmm(offset, matrix, pixels.reshape(n, 3, -1)).reshape(n, 3, height, width)
    if settings.cutout > 0:
        _cut(views, settings.cutout, draws)
    for name in settings.own:
        views = _OWN[name](views)
    return views


def homographies(settings: Augment, draws: Tensor, aspect: float = 1.0) -> Tensor:
    """Matrices that take a view's coordinates to the image's.

    Coordinates are those of `torch.nn.functional.grid_sample`: -1 to 1 between the outer edges.

    Args:
        settings: how far rotation (degrees), scale (factor; in and out, or in alone), shift (share
            of a side), shear (tangent) and perspective (share of a side) may go; each is drawn
            evenly within.
        draws: uniform numbers, shape (n, DRAWS).
        aspect: width divided by height, so that a rotation does not shear.

    Returns:
        float32, shape (n, 3, 3).
    """
    signed = draws * 2 - 1
    zero = torch.zeros_like(draws[:, 0])
    one = torch.ones_like(zero)
    angle = signed[:, 0] * math.radians(settings.rotate)
    inwards = signed[:, 1] if settings.zoom == "both" else draws[:, 1]
    zoom = torch.exp(-inwards * math.log(settings.scale))
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    shear_x, shear_y = signed[:, 2] * settings.shear, signed[:, 3] * settings.shear
    # Work in units of half the height, so that the two axes are alike; `aspect` enters and leaves.
    turn = _matrix((cos, -sin, zero), (sin, cos, zero), (zero, zero, one))
    slant = _matrix((one, shear_x, zero), (shear_y, one, zero), (zero, zero, one))
    square = _matrix((one * aspect, zero, zero), (zero, one, zero), (zero, zero, one))
    oblong = _matrix((one / aspect, zero, zero), (zero, one, zero), (zero, zero, one))
    move = _matrix(
        (one, zero, signed[:, 4] * 2 * settings.shift),
        (zero, one, signed[:, 5] * 2 * settings.shift),
        (signed[:, 6] * settings.perspective, signed[:, 7] * settings.perspective, one),
    )
    if settings.flip != "none":
        across, down = settings.flip != "vertical", settings.flip != "horizontal"
        mirror_x = torch.where(draws[:, 8] < 0.5 * across, -one, one)
        mirror_y = torch.where(draws[:, 9] < 0.5 * down, -one, one)
        square = square * torch.stack((mirror_x, mirror_y, one), dim=1)[:, None, :]
    return move @ oblong @ turn @ slant @ square


def _matrix(*rows: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def warp(pixels: Tensor, matrices: Tensor, fill: str = "reflect") -> Tensor:
    """Draw pictures anew from where homographies say, by linear interpolation.

    Args:
        pixels: float, shape (n, channels, height, width).
        matrices: from a view's coordinates to the picture's, as of `homographies`, (n, 3, 3).
        fill: what lies beyond the picture: its reflection ("reflect"), the nearest pixel of its
            border ("nearest"), or 0 ("black").

    Returns:
        Of the same shape.
    """
    n, _, height, width = pixels.shape
    ys = (torch.arange(height, device=pixels.device) * 2 + 1) / height - 1
    xs = (torch.arange(width, device=pixels.device) * 2 + 1) / width - 1
    points = torch.stack(
        (xs.repeat(height), ys.repeat_interleave(width), torch.ones_like(xs).repeat(height))
    )
    mapped = torch.bmm(matrices, points.expand(n, 3, -1))
    grid = (mapped[:, :2] / mapped[:, 2:]).transpose(1, 2).reshape(n, height, width, 2)
    return functional.grid_sample(
        pixels, grid, mode="bilinear", padding_mode=_PADDING[fill], align_corners=False
    )


def colour_matrices(
    settings: Augment, draws: Tensor, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Matrices that take stored pixels (0-255) to the network's input, colours changed on the way.

    Args:
        settings: `colour` is how far brightness, contrast and saturation may go from 1; `hue` how
            far the hue may turn, as a share of the colour circle; `illumination` how far from 1 the
            gain of each channel may go, as under a lamp of another colour.
        draws: uniform numbers, shape (n, DRAWS).
        mean: of each channel, in 0-1.
        std: of each channel, in 0-1.

    Returns:
        Matrices, shape (n, 3, 3), and offsets, shape (n, 3, 1), for `matrix @ rgb + offset`.
        Nothing is clipped on the way.
    """
    signed = draws[:, 10:14] * 2 - 1
    device = draws.device
    brightness, contrast, saturation = (1 + signed[:, :3] * settings.colour).unbind(1)
    angle = signed[:, 3] * settings.hue * 2 * math.pi
    luma = torch.tensor(_LUMA, device=device).expand(3, 3)
    eye = torch.eye(3, device=device)
    saturate = saturation[:, None, None] * eye + (1 - saturation)[:, None, None] * luma
    yiq = torch.tensor(_YIQ, device=device)
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = (
        torch.linalg.inv(yiq)
        @ _matrix((one, zero, zero), (zero, cos, -sin), (zero, sin, cos))
        @ yiq
    )
    gain = (contrast * brightness)[:, None, None]
    scale = 1 / torch.tensor(std, device=device)
    matrix = gain * (turn @ saturate) * scale[:, None] / 255
    if settings.illumination > 0:  # the light comes first, whatever the camera makes of it
        lamp = 1 + (draws[:, 16:19] * 2 - 1) * settings.illumination
        matrix = matrix * lamp[:, None, :]
    centre = torch.tensor(mean, device=device)
    # Contrast turns about the middle grey 0.5, which saturation and hue leave where it is.
    offset = (((1 - contrast) * 0.5)[:, None] - centre) * scale
    return matrix, offset[:, :, None]


def _cut(views: Tensor, side: float, draws: Tensor) -> None:
    """Set one square per image to the mean colour: zero, after normalisation."""
    n, _, height, width = views.shape
    half = side * min(height, width) / 2
    ys = torch.arange(height, device=views.device) + 0.5
    xs = torch.arange(width, device=views.device) + 0.5
    inside_y = (ys - draws[:, 14, None] * height).abs() < half
    inside_x = (xs - draws[:, 15, None] * width).abs() < half
    hole = (inside_y[:, :, None] & inside_x[:, None, :]).reshape(n, 1, height, width)
    views.masked_fill_(hole, 0.0)
