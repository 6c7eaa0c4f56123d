"""Pictures of maps: red, green, blue, the right way up, warm where the map is high."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

from lesionlab.data.images.decode import to_pixels
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader, in_array
from lesionlab.explanation.lesion_masks import drawn_mask, framed
from lesionlab.recipe.schema import Images

SIDE = 360
"""Pixels on the longer side of a picture; smaller photographs stay as they are."""
STRENGTH = 0.5
"""How much of a picture is the map's colour, the rest being the photograph."""
_MASK = "{}_segmentation.png"
_COLOURS = "turbo"
_COLD, _WARM = 0.1, 0.93  # its ends are so dark that over skin both look brown


def photograph(
    reader: Reader, path: str, images: Images, sha256: str = "", side: int = SIDE
) -> NDArray[np.uint8]:
    """A photograph as the network frames it, but sharp enough to look at.

    Stretched images are shown in their own proportions, cropped and padded ones in the network's: a
    map that is spread over the picture lies where the network saw it.

    Args:
        reader: of the data folder.
        path: as in the catalogue.
        images: how the network gets it.
        sha256: if given, what the content must hash to.
        side: pixels on the longer side, at most.

    Returns:
        uint8, shape (height, width, 3).

    Raises:
        ImageFault: if the image cannot be read or is not the one that was catalogued.
    """
    image, (height, width) = reader.upright(path, sha256)
    longest = min(side, max(width, height))
    if images.fit != "stretch":
        height, width = images.size
    scale = longest / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return to_pixels(image, Images(size=size, fit=images.fit), path)


def lesion_mask(
    root: Path, path: str, images: Images, size: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """The segmentation of an image's lesion, framed like its photograph; None: there is none.

    Args:
        root: of the data.
        path: of the photograph, relative to it. A mask is called <its name>_segmentation.png and
            lies in its folder or any folder above up to the root, or one folder below these.
        images: how the network gets the image.
        size: height and width of the photograph.

    Returns:
        Shape (height, width), true inside.
    """
    if in_array(path):
        return None
    name = _MASK.format(Path(path).stem)
    folders = [root / each for each in Path(path).parents]
    found = next(
        (mask for each in folders for way in ("", "*/") for mask in each.glob(way + name)), None
    )
    if found is None:
        return None
    try:
        mask = drawn_mask(Reader(found.parent).open(name), str(found))
    except ImageFault:
        return None
    return framed(mask, Images(size=size, fit=images.fit))


def colours(shares: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colours of a map: blue at 0, through green and yellow, to red at 1.

    Args:
        shares: in 0-1, any shape.

    Returns:
        uint8, shape (..., 3): red, green, blue.
    """
    within = _COLD + (_WARM - _COLD) * np.asarray(shares)
    return np.asarray(matplotlib.colormaps[_COLOURS](within, bytes=True)[..., :3])


def overlay(picture: NDArray[np.uint8], shares: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A map's colours over its photograph.

    Args:
        picture: uint8, shape (height, width, 3).
        shares: the map in 0-1, shape (height, width).
    """
    mixed = (1 - STRENGTH) * picture + STRENGTH * colours(shares)
    return np.asarray(mixed.round().astype(np.uint8))


def outlined(picture: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """A photograph with its lesion's outline in white on black; without a mask, as it is."""
    if mask is None or not mask.any():
        return picture
    line = _grown(mask & _grown(~mask))
    drawn = picture.copy()
    drawn[_grown(line)] = 0
    drawn[line] = 255
    return drawn


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask and its neighbours above, below, left and right."""
    wide = np.pad(mask, 1)
    return np.asarray(
        wide[1:-1, 1:-1] | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
    )
