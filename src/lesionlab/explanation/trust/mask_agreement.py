"""How well a map agrees with a mask, and how alike two maps are.

Maps are non-negative and lie over their pictures, pixel by pixel. Every figure comes with the one
that a map without any knowledge of the picture gets: chance.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, uniform_filter
from scipy.stats import rankdata

from lesionlab.explanation.lesion_masks import Mask

Map = NDArray[np.floating]
"""All >= 0, shape (height, width)."""

TOLERANCE = 0.03
"""How far from the lesion a pointer still hits it, as a share of the picture's longer side: the 15
pixels of Zhang et al. on pictures of 500."""

SPREAD = 0.25
"""Standard deviation of the centre prior, as a share of each side."""

WINDOW = 8
"""How many windows of the structural similarity fit along the shorter side."""


def inside_share(heat: Map, mask: Mask) -> float:
    """Share of a map that lies in the lesion, 0-1; nan of a blank map.

    The energy-based pointing game of Wang et al., "Score-CAM", CVPR workshops 2020. A map that is
    the same everywhere gets the lesion's share of the picture.
    """
    whole = float(heat.sum())
    return float(heat[mask].sum()) / whole if whole > 0 else math.nan


def near(mask: Mask, tolerance: float = TOLERANCE) -> Mask:
    """A lesion and what is no farther from it than the tolerance, a share of the longer side."""
    if not mask.any():
        return mask
    return np.asarray(distance_transform_edt(~mask) <= tolerance * max(mask.shape))


def pointing(heat: Map, close: Mask) -> float:
    """Whether a map's maximum lies in or near the lesion: 0 or 1; nan of a blank map.

    The pointing game of Zhang et al., "Top-down neural attention by excitation backprop", IJCV
    126:1084-1102, 2018. Of several maxima, the share that hits, so that a map that is the same
    everywhere gets the share of the picture that counts as a hit.

    Args:
        heat: the map.
        close: from `near`.
    """
    if not heat.any():
        return math.nan
    return float(close[heat == heat.max()].mean())


def overlap(heat: Map, mask: Mask) -> float:
    """Intersection over union of the lesion and as many pixels where the map is highest, 0-1.

    Of pixels with equal values each counts with its chance to be among them; a map that is the same
    everywhere gets area / (2 - area). nan of a blank map and of an empty mask.
    """
    size = int(mask.sum())
    if not heat.any() or not size:
        return math.nan
    values = np.sort(heat, axis=None)
    edge = values[-size]
    above, tied = heat > edge, heat == edge
    share = (size - int(above.sum())) / int(tied.sum())
    common = float(above[mask].sum()) + share * float(tied[mask].sum())
    return common / (2 * size - common)


def chance_overlap(area: float) -> float:
    """What `overlap` is for a map that is the same everywhere.

    Args:
        area: the lesion's share of the picture.
    """
    return area / (2 - area)


def centre_prior(size: tuple[int, int]) -> NDArray[np.float32]:
    """A Gaussian in the picture's middle: a map that knows how photographs are framed, no more.

    Args:
        size: height and width.

    Returns:
        Shape `size`, 1 in the middle; its standard deviation is a quarter of each side.
    """
    down, across = (((np.arange(n) + 0.5) / n - 0.5) / SPREAD for n in size)
    made: NDArray[np.float32] = np.exp(-(down[:, None] ** 2 + across[None] ** 2) / 2)
    return made.astype(np.float32)


def rank_similarity(one: Map, other: Map) -> float:
    """Spearman's rank correlation of two maps over their places.

    nan where the first is the same everywhere (blank, say): then there is nothing to compare. 0
    where only the second is: it has nothing in common with the first.
    """
    ranks = [rankdata(each.ravel()) for each in (one, other)]
    if np.ptp(ranks[0]) == 0:
        return math.nan
    if np.ptp(ranks[1]) == 0:
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])


def structural_similarity(one: Map, other: Map) -> float:
    """Mean structural similarity of two maps, each divided by its own maximum; 1 if alike.

    SSIM of Wang et al., IEEE Trans. Image Process. 13:600-612, 2004, with its constants and even
    windows of an eighth of the shorter side. nan where the first map is blank.
    """
    if not one.any():
        return math.nan
    x, y = (np.asarray(each, float) / (float(each.max()) or 1.0) for each in (one, other))
    side = max(3, round(min(x.shape) / WINDOW))

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(uniform_filter(values, side, mode="reflect"))

    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    both = mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    parts = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    whole = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float((parts / whole).mean())
