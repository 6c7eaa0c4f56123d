"""Find a ruler in an image: a row of evenly spaced, parallel, short dark marks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MOST_MARKS = 80  # the longest, where there are more; a tangle of hair has thousands
_TURN = 0.2  # radians between two marks that count as parallel
_SLIP = 0.5  # how far along itself a mark may be off, in lengths: long and short marks share an end


@dataclass(frozen=True)
class Kind:
    """What the marks of a ruler look like, in pixels of an image about 320 wide.

    Attributes:
        contrast: how much darker than what is around them, 0-1.
        length: the shortest.
        width: the widest.
        slender: length over width, at least.
        spacing: from one to the next, least and most.
        least: a shorter row is chance.
    """

    contrast: float
    length: float
    width: float
    slender: float
    spacing: tuple[float, float]
    least: int


FINE = Kind(contrast=0.04, length=5, width=4, slender=2.2, spacing=(3.5, 32), least=4)
"""A faint scale of many marks along a border."""
COARSE = Kind(contrast=0.15, length=6, width=5, slender=1.8, spacing=(8, 40), least=3)
"""A black scale, of which often only a corner is seen."""
_LONGEST = 30


@dataclass(frozen=True)
class Marks:
    """Short, straight, thin pieces.

    Attributes:
        places: centres, shape (n, 2), x and y in pixels.
        axes: unit vectors along them, shape (n, 2).
        lengths: in pixels, shape (n,).
    """

    places: Floats
    axes: Floats
    lengths: Floats


def marks(narrow: Mask, kind: Kind) -> Marks:
    """Connected pieces of narrow dark pixels, shape (height, width), that look like marks."""
    from scipy import ndimage

    labels, count = ndimage.label(narrow, structure=np.ones((3, 3)))
    y, x = np.nonzero(narrow)
    label = labels[y, x]
    size = np.maximum(np.bincount(label, minlength=count + 1), 1)

    def mean(values: Floats) -> Floats:
        sums = np.bincount(label, values, minlength=count + 1).astype(np.float64)
        made: Floats = sums / size
        return made

    middle_x, middle_y = mean(x.astype(np.float64)), mean(y.astype(np.float64))
    off_x, off_y = x - middle_x[label], y - middle_y[label]
    xx, yy, xy = mean(off_x**2), mean(off_y**2), mean(off_x * off_y)
    half, spread = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    # a bar of length l has the variance (l^2 - 1) / 12 along itself
    length = np.sqrt(12 * (half + spread) + 1)
    width = np.sqrt(12 * np.maximum(half - spread, 0) + 1)
    chosen = (length >= kind.length) & (length <= _LONGEST) & (width <= kind.width)
    chosen &= length >= kind.slender * width
    chosen[0] = False
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(-length[rows], kind="stable")[:_MOST_MARKS]]
    angles = np.arctan2(2 * xy[rows], xx[rows] - yy[rows]) / 2
    return Marks(
        np.stack([middle_x[rows], middle_y[rows]], axis=1),
        np.stack([np.cos(angles), np.sin(angles)], axis=1),
        length[rows],
    )


def longest_row(narrow: Mask, kind: Kind) -> int:
    """How many marks the longest row has; 0 if fewer than `kind.least`.

    A row goes on from two parallel marks side by side as long as the next stands where the spacing
    says, give or take a tenth of it.

    Args:
        narrow: narrow dark pixels where a ruler may be, shape (height, width).
        kind: of marks.
    """
    found = marks(narrow, kind)
    places, axes, lengths = found.places, found.axes, found.lengths
    if len(places) < kind.least:
        return 0
    steps = places[None] - places[:, None]
    along = np.abs(np.einsum("ijk,ik->ij", steps, axes))
    across = steps[..., 1] * axes[:, None, 0] - steps[..., 0] * axes[:, None, 1]
    parallel = np.abs(axes @ axes.T) > np.cos(_TURN)
    longer = np.maximum(lengths[:, None], lengths[None])
    shorter = np.minimum(lengths[:, None], lengths[None])
    gaps = np.abs(across)
    pairs = parallel & (gaps >= kind.spacing[0]) & (gaps <= kind.spacing[1])
    pairs &= (along <= _SLIP * longer) & (longer <= 2.5 * shorter) & (shorter >= 0.3 * gaps)
    best = 0
    for first, second in np.argwhere(pairs):
        gap = across[first, second]
        limit = max(1.2, 0.1 * abs(gap))
        count, at = 2, second
        while count <= len(places):
            off = places - places[at]
            missed = np.abs(off[:, 1] * axes[first, 0] - off[:, 0] * axes[first, 1] - gap)
            slipped = np.abs(off @ axes[first]) > _SLIP * np.maximum(lengths, lengths[at])
            missed[~parallel[first] | slipped] = np.inf
            following = int(missed.argmin())
            if missed[following] > limit:
                break
            count, at = count + 1, following
        best = max(best, count)
    return best if best >= kind.least else 0
