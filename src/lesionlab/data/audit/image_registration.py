"""Whether one picture lies in another, and where: correlation of fine structure after alignment.

Compared is the relief of a picture: its logarithm less a blurred copy of it, over the local
contrast. What differs between two photographs of a kind (hair, furrows, the network of pigment)
stands out, what they share (a dark blob in the middle, dark corners, the light) is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from lesionlab.data.audit.dct_index import Candidates, posed

Floats = NDArray[np.float32]
Relief = NDArray[np.int8]

SIDE = 96
"""Pixels on the side of a relief; a photograph is squeezed to a square first."""
_COARSE = SIDE // 2
_SCALES = (1.0, 0.94, 0.87, 0.80, 0.74)  # sides tried of the part in the whole
_SLACK = 5  # coarse pixels, a tenth of the side, that a part may stick out of the whole
_UNIT = 40.0  # relief of one local contrast, in int8
_FINE, _BROAD, _AROUND = 0.75, 2.0, 4.0  # blurs, in pixels of a relief
_FLAT = 0.008  # local contrast, in log units, below which there is only noise
_BLACK = 40  # of 255: dark corners, whose edge is not the skin's
_STEPS = 15
_OVERLAP = 0.5  # of the part that must lie in the whole


def relief(pixels: NDArray[np.uint8]) -> Relief:
    """The fine structure of square pictures.

    Args:
        pixels: shape (n, 96, 96, 3).

    Returns:
        Shape (n, 96, 96); 40 is one local contrast, 0 also marks what is too dark to tell.
    """
    made = np.empty(pixels.shape[:3], np.int8)
    for number, picture in enumerate(pixels):
        light = np.log(picture.astype(np.float32) + 16).mean(-1)
        band = _blur(light, _FINE) - _blur(light, _BROAD)
        contrast = np.sqrt(_blur(band * band, _AROUND) + _FLAT**2)
        rough = np.clip(_UNIT * band / contrast, -127, 127)
        black = (picture.max(-1) < _BLACK).astype(np.float32)
        rough[_blur(black, _BROAD) > 0.05] = 0
        made[number] = rough.round()
    return made


def _blur(picture: Floats, sigma: float) -> Floats:
    matrix = _gaussian(sigma)
    return np.asarray(matrix @ picture @ matrix.T, np.float32)


@cache
def _gaussian(sigma: float) -> Floats:
    """Matrix that blurs the rows of a relief."""
    made = ndimage.gaussian_filter1d(np.eye(SIDE), sigma, axis=0)
    return np.asarray(made, np.float32)


@dataclass(frozen=True)
class Alignment:
    """How the part lies in the whole.

    Attributes:
        similarity: correlation of both reliefs where they overlap, -1 to 1.
        symmetry: the part's position, as `descriptors.posed` takes it.
        matrix: shape (2, 3), from the posed part's (row, column), counted from its middle, to the
            whole's; the last column is in pixels of a relief.
    """

    similarity: float
    symmetry: int
    matrix: NDArray[np.float64]

    @property
    def sides(self) -> tuple[float, float]:
        """Height and width of the part in the whole, as shares of the whole's."""
        return float(np.hypot(*self.matrix[:, 0])), float(np.hypot(*self.matrix[:, 1]))


@cache
def _shrink(side: int, to: int) -> Floats:
    """Matrix that averages `side` pixels to `to`, each weighed by how much of it is covered."""
    low = np.arange(to)[:, None] * side / to
    high = (np.arange(to)[:, None] + 1) * side / to
    pixel = np.arange(side)[None]
    covered = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)
    return np.asarray(covered / (side / to), np.float32)


@cache
def _shifts(side: int) -> NDArray[np.bool_]:
    """Shifts, modulo the coarse side, that keep a part of this side inside, shape (48, 48)."""
    shift = (np.arange(_COARSE) + _SLACK) % _COARSE - _SLACK
    fits = shift <= _COARSE - side + _SLACK
    return fits[:, None] & fits[None]


def coarse(reliefs: Relief) -> Floats:
    """Reliefs at half the size, shape (n, 48, 48), for `place`."""
    half = _shrink(SIDE, _COARSE)
    made = np.empty((len(reliefs), _COARSE, _COARSE), np.float32)
    for number, each in enumerate(reliefs):
        made[number] = half @ each.astype(np.float32) @ half.T
    return made


def place(part: Relief, wholes: Floats, found: Candidates) -> tuple[Floats, NDArray[np.float64]]:
    """Look for one picture in its candidates: the best of a few sizes and all places.

    Args:
        part: relief of the picture, shape (96, 96).
        wholes: coarse reliefs of its candidates, shape (m, 48, 48).
        found: the candidates.

    Returns:
        The correlation at the best place, shape (m,), and side, row and column of the part's middle
        from the whole's middle, the latter in pixels of a relief, shape (m, 3).
    """
    keys = [
        (int(symmetry), round(_COARSE * scale), number)
        for number, symmetry in enumerate(found.symmetry)
        for scale in _SCALES
    ]
    of = {key: number for number, key in enumerate(dict.fromkeys(key[:2] for key in keys))}
    parts = np.zeros((len(of), _COARSE, _COARSE), np.float32)
    for (symmetry, side), number in of.items():
        shrink = _shrink(SIDE, side)
        small = shrink @ posed(part, symmetry).astype(np.float32) @ shrink.T
        parts[number, :side, :side] = small
    energy = (parts**2).sum((1, 2))
    which = np.array([of[key[:2]] for key in keys])
    side, target = np.array([key[1:] for key in keys]).T
    waves = fft.rfft2(wholes)[target] * np.conj(fft.rfft2(parts))[which]
    fit = fft.irfft2(waves, (_COARSE, _COARSE))
    fit[~np.stack([_shifts(each) for each in side.tolist()])] = -np.inf
    top = fit.reshape(len(fit), -1).argmax(1)
    shift = (np.stack(np.divmod(top, _COARSE), 1) + _SLACK) % _COARSE - _SLACK
    sums = np.pad((wholes**2).cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    low = np.clip(shift, 0, _COARSE)
    high = np.clip(shift + side[:, None], 0, _COARSE)
    there = (
        sums[target, high[:, 0], high[:, 1]]
        - sums[target, low[:, 0], high[:, 1]]
        - sums[target, high[:, 0], low[:, 1]]
        + sums[target, low[:, 0], low[:, 1]]
    )
    norm = np.sqrt(np.maximum(there, 0) * energy[which]) + _COARSE * _COARSE
    score = fit.reshape(len(fit), -1)[np.arange(len(fit)), top] / norm
    order = np.lexsort((-score, target))
    first = order[np.unique(target[order], return_index=True)[1]]
    middle = (shift + (side[:, None] - _COARSE) / 2) * (SIDE / _COARSE)
    where = np.column_stack([side / _COARSE, middle])
    return score[first].astype(np.float32), where[first]


def align(whole: Relief, part: Relief, symmetry: int, where: NDArray[np.float64]) -> Alignment:
    """Fit a part into a whole, with free sides, place, tilt and shear (Gauss-Newton).

    Args:
        whole: relief, shape (96, 96).
        part: relief, shape (96, 96).
        symmetry: position of the part.
        where: side, row and column, from `place`.
    """
    target = whole.astype(np.float64)
    source = np.ascontiguousarray(posed(part, symmetry), np.float64)
    middle = (SIDE - 1) / 2
    rows, columns = (np.mgrid[:SIDE, :SIDE] - middle).reshape(2, -1)
    slopes = np.gradient(target)
    values = source.ravel()
    matrix = np.array([[where[0], 0, where[1]], [0, where[0], where[2]]])
    best = Alignment(-1.0, symmetry, matrix)
    for _ in range(_STEPS):
        at = matrix @ np.stack([rows, columns, np.ones_like(rows)]) + middle
        inside = ((at >= 0) & (at <= SIDE - 1)).all(0)
        if inside.mean() < _OVERLAP:
            break
        at = at[:, inside]
        there, down, right = (
            ndimage.map_coordinates(each, at, order=1) for each in (target, *slopes)
        )
        here = values[inside] - values[inside].mean()
        there -= there.mean()
        spread = np.sqrt((there**2).mean() * (here**2).mean())
        if spread < 1e-6:
            break
        similarity = float((here * there).mean() / spread)
        if similarity > best.similarity:
            best = Alignment(similarity, symmetry, matrix)
        y, x = rows[inside] / middle, columns[inside] / middle
        slope = np.stack([down * y, down * x, down, right * y, right * x, right])
        error = here * np.sqrt((there**2).mean() / (here**2).mean()) - there
        curvature = slope @ slope.T + 1e-3 * len(error) * np.eye(6)
        step = np.linalg.solve(curvature, slope @ error).reshape(2, 3)
        matrix = matrix + step / [middle, middle, 1]
        if np.abs(step).max() < 0.02:
            break
    return best
