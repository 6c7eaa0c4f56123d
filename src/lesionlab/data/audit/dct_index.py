"""Pictures in a few numbers, so that a photograph and its altered copy have nearly the same ones.

A picture is described by the slow part of its cosine transform (DCT-II), of log lightness and of
two log colour ratios. A factor on a channel (brightness, white balance) adds a constant to a log
and leaves all but the mean untouched; a mirrored or turned picture has the same coefficients with
other signs or transposed; and the coefficients of a part of a picture follow from the picture
without cutting it out. So a picture stands in the index as a whole and as crops to 80 %, and is
asked for in all eight positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Index = NDArray[np.intp]

SYMMETRIES = 8
"""The positions of a square: number g transposes if g & 4, then flips rows if g & 1, columns if
g & 2."""
CROP = 0.8
"""Width and height of an indexed crop, as shares of the picture's."""
_EDGES = (0.0, 0.05, 0.1, 0.15, 0.2)  # up to 1 - CROP
CROPS = ((0.0, 0.0, 1.0), *((top, left, CROP) for top in _EDGES for left in _EDGES))
"""What of a picture is indexed: top and left edge and side, as shares of height and width."""
_WAVES = (9, 5, 5)  # half waves per picture, of lightness and both colours
_DARK = 16.0  # added before the logarithm: black has no colour
_LEAST = 0.003  # spread of a coefficient below which it is noise
_WHITEN = 0.7  # 1 gives every frequency the same say; less trusts the slow ones more
BLOCK = 64
"""Pictures that are asked for at once."""

_grid = np.mgrid[: max(_WAVES), : max(_WAVES)]
_radius = np.hypot(*_grid)
_channel, _row, _column = np.nonzero(
    np.stack([(_radius > 0) & (_radius < waves) for waves in _WAVES])
)
_number = {each: n for n, each in enumerate(zip(_channel, _row, _column, strict=True))}
_transposed = np.array([_number[c, j, i] for c, i, j in _number])
_starts = np.searchsorted(_channel, np.arange(len(_WAVES)))


def posed(picture: NDArray[Any], symmetry: int) -> NDArray[Any]:
    """A square picture in one of its eight positions.

    Args:
        picture: shape (..., side, side).
        symmetry: its number, 0 to 7; 0 leaves the picture as it is.
    """
    if symmetry & 4:
        picture = picture.swapaxes(-1, -2)
    if symmetry & 1:
        picture = picture[..., ::-1, :]
    return picture[..., ::-1] if symmetry & 2 else picture


def inverse(symmetry: int) -> int:
    """The position that undoes one: a quarter turn is undone by the other quarter turn."""
    return {5: 6, 6: 5}.get(symmetry, symmetry)


def coefficients(
    pixels: NDArray[np.uint8], crops: Sequence[tuple[float, float, float]] = CROPS
) -> Floats:
    """The slow cosine coefficients of pictures and of their indexed crops.

    Args:
        pixels: square pictures, shape (n, side, side, 3).
        crops: what to index, the first ones of `CROPS`.

    Returns:
        Shape (crops, n, values), the values channel by channel: lightness, red to green, and blue
        to both.
    """
    side = pixels.shape[1]
    edges = sorted({(top, size) for top, _, size in crops})
    bases = np.concatenate([_basis(low, low + size, side) for low, size in edges])
    place = {edge: number for number, edge in enumerate(edges)}
    down = np.array([place[top, size] for top, _, size in crops]) * max(_WAVES)
    right = np.array([place[left, size] for _, left, size in crops]) * max(_WAVES)
    made = np.empty((len(crops), len(pixels), len(_row)), np.float32)
    for number, picture in enumerate(pixels):
        red, green, blue = np.moveaxis(np.log(picture.astype(np.float32) + _DARK), -1, 0)
        both = (red + green) / 2
        channels = np.stack([(red + green + blue) / 3, red - green, blue - both])
        waves = np.matmul(np.matmul(bases, channels), bases.T)
        made[:, number] = waves[_channel, down[:, None] + _row, right[:, None] + _column]
    return made


def _basis(low: float, high: float, side: int) -> Floats:
    """Cosines over a part of a picture's side, integrated over each pixel, shape (waves, side)."""
    edges = np.clip((np.arange(side + 1) / side - low) / (high - low), 0, 1)
    k = np.arange(1, max(_WAVES))[:, None]
    waves = np.sqrt(2) * np.diff(np.sin(np.pi * k * edges) / (np.pi * k), axis=1)
    return np.vstack([np.diff(edges)[None], waves]).astype(np.float32)


@dataclass(frozen=True)
class Candidates:
    """Pictures that may show the same photograph.

    Attributes:
        query: number of the picture that may be the part, shape (n,).
        target: number of the picture that may hold it, shape (n,).
        symmetry: position of the query that fits, shape (n,).
    """

    query: Index
    target: Index
    symmetry: Index

    def of(self, query: int) -> Candidates:
        """Those of one picture."""
        own = self.query == query
        return Candidates(self.query[own], self.target[own], self.symmetry[own])


class Descriptions:
    """The index of a collection: descriptions of pictures and of their crops.

    Attributes:
        index: unit vectors, shape (crops, n, values); the whole pictures come first.
    """

    def __init__(self, waves: Floats) -> None:
        """Take what `coefficients` returned of all pictures, and change it in place."""
        spread = np.sqrt(np.mean(waves[0] ** 2, axis=0))
        spread = (spread + spread[_transposed]) / 2  # the same in all eight positions
        weights = np.maximum(spread, _LEAST) ** -_WHITEN
        for rows in waves:
            rows *= weights
            energy = np.add.reduceat(rows**2, _starts, axis=1)  # each channel has a third
            rows /= ((np.sqrt(energy) + _LEAST) * np.sqrt(3))[:, _channel]
        self.index = waves

    def __len__(self) -> int:
        return len(self.index[0])

    def asked(self, pictures: Index) -> Floats:
        """Whole pictures in all eight positions, shape (pictures, 8, values)."""
        whole = self.index[0, pictures]
        made = np.stack([whole, whole[:, _transposed]], 1).repeat(4, 1)
        made[:, [1, 3, 5, 7]] *= (-1.0) ** _row
        made[:, [2, 3, 6, 7]] *= (-1.0) ** _column
        return made

    def candidates(self, nearest: int, least: float) -> Iterator[Candidates]:
        """For every picture the others that it looks most like a part of, some pictures at a time.

        Args:
            nearest: targets per picture, at most.
            least: the least cosine of both descriptions that counts.
        """
        n = len(self)
        for start in range(0, n, BLOCK):
            block = np.arange(start, min(start + BLOCK, n))
            asked = self.asked(block)
            best = np.full((len(block), n), -1, np.float32)
            for rows in self.index:
                scores = asked.reshape(-1, asked.shape[-1]) @ rows.T
                np.maximum(best, scores.reshape(len(block), SYMMETRIES, n).max(1), out=best)
            best[np.arange(len(block)), block] = -1
            near = np.argpartition(-best, min(nearest, n) - 1, axis=1)[:, :nearest]
            which, column = np.nonzero(np.take_along_axis(best, near, 1) >= least)
            target = near[which, column]
            scores = np.einsum("psv,cpv->psc", asked[which], self.index[:, target], optimize=True)
            yield Candidates(block[which], target, scores.max(2).argmax(1))
