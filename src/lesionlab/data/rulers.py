"""Find a ruler in an image: a row of evenly spaced, parallel, short dark marks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MOST_MARKS = 80  # the longest, where there are more; a tangle of hair has thousands
_SPACING = (3.5, 32.0)  # pixels between neighbours
_TURN = 0.2  # radians between two marks that count as parallel
_ACROSS = np.radians(65)  # a row runs about across its marks


@dataclass(frozen=True)
class Marks:
    """Short, straight, thin pieces.

    Attributes:
        places: centres, shape (n, 2), x and y in pixels.
        angles: of their long axes, radians, shape (n,).
    """

    places: Floats
    angles: Floats


def marks(narrow: NDArray[np.bool_]) -> Marks:
    """Pieces of 5 to 30 pixels in length, at most 4 wide, at least 2.2 times as long as wide.

    Args:
        narrow: narrow dark pixels, shape (height, width).
    """
    from scipy import ndimage

    labels, count = ndimage.label(narrow, structure=np.ones((3, 3)))
    y, x = np.nonzero(narrow)
    label = labels[y, x]
    size = np.maximum(np.bincount(label, minlength=count + 1), 1)

    def mean(values: Floats) -> Floats:
        sums: Floats = np.bincount(label, values, minlength=count + 1)
        return sums / size

    middle_x, middle_y = mean(x.astype(float)), mean(y.astype(float))
    off_x, off_y = x - middle_x[label], y - middle_y[label]
    xx, yy, xy = mean(off_x**2), mean(off_y**2), mean(off_x * off_y)
    half, spread = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    # a bar of length l has the variance (l^2 - 1) / 12 along itself
    length = np.sqrt(12 * (half + spread) + 1)
    width = np.sqrt(12 * np.maximum(half - spread, 0) + 1)
    chosen = (length >= 5) & (length <= 30) & (width <= 4) & (length >= 2.2 * width)
    chosen[0] = False
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(-length[rows], kind="stable")[:_MOST_MARKS]]
    angles = np.arctan2(2 * xy[rows], xx[rows] - yy[rows]) / 2
    return Marks(np.stack([middle_x[rows], middle_y[rows]], axis=1), angles)


def longest_row(narrow: NDArray[np.bool_]) -> int:
    """How many marks the longest row has; 2 or fewer is chance.

    A row goes on from two parallel marks side by side as long as the next stands where the spacing
    says, give or take an eighth of it.

    Args:
        narrow: narrow dark pixels where a ruler may be, shape (height, width), about 320 wide.
    """
    found = marks(narrow)
    places, angles = found.places, found.angles
    if len(places) < 3:
        return 0
    steps = places[None] - places[:, None]
    distance = np.hypot(steps[..., 0], steps[..., 1])
    parallel = _turn(angles[:, None] - angles[None]) < _TURN
    way = np.arctan2(steps[..., 1], steps[..., 0])
    across = _turn(way - angles[:, None]) > _ACROSS
    near = (distance >= _SPACING[0]) & (distance <= _SPACING[1])
    best = 0
    for first, second in np.argwhere(near & parallel & across):
        step = places[second] - places[first]
        limit = max(1.2, 0.12 * distance[first, second])
        count, at = 2, second
        while count <= len(places):
            missed = np.hypot(*(places - places[at] - step).T)
            missed[~parallel[first]] = np.inf
            following = int(missed.argmin())
            if missed[following] > limit:
                break
            count, at = count + 1, following
        best = max(best, count)
    return best


def _turn(angles: Floats) -> Floats:
    """The angle between two axes, 0 to pi / 2."""
    turned: Floats = np.abs((angles + np.pi / 2) % np.pi - np.pi / 2)
    return turned
