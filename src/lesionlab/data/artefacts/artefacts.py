"""What the camera, the light and the preparation left in each image, measured.

None of it is the lesion. Where it goes with the diagnosis, a network can learn it in place of the
lesion: a shortcut. Pixels are measured at one scale, `SIDE` on the longer side, so that
images of several sizes can be compared.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.data.artefacts.rulers import COARSE, FINE, longest_row
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.images.decode import to_pixels
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.errors import DataError, FindingsError
from lesionlab.files import write_csv
from lesionlab.progress import Listener, Step, silent
from lesionlab.recipe.schema import Images
from lesionlab.tables import Finding, describe, findings_table, read_csv

FILE_NAME = "artefacts.csv"
VERSION = 1
"""Of the definitions below; raised when a number changes."""
SIDE = 320
"""Pixels on the longer side of the image that is measured."""
SMALLEST = 160
"""Images whose longer side is shorter say nothing of hair or rulers: not measured."""
_HAIRY = 0.02  # share of hair above which three hairs may look like a ruler
_CHUNK = 250  # images between two writes of the table

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Artefact:
    """One measure.

    Attributes:
        kind: file (how it was stored), light (camera and illumination) or mark (what lies on it).
        unit: of its values.
        text: its definition.
    """

    kind: str
    unit: str
    text: str


ARTEFACTS = {
    "width": Artefact("file", "pixels", "width of the stored file"),
    "height": Artefact("file", "pixels", "height of the stored file"),
    "bytes_per_pixel": Artefact(
        "file", "bytes", "size of the stored file over its pixels: compression, but detail too"
    ),
    "jpeg_quantisation": Artefact(
        "file",
        "steps",
        "mean entry of the JPEG's first quantisation table: the higher, the coarser",
    ),
    "skin_brightness": Artefact(
        "light", "0-1", "luma (Rec. 601) of the brighter half of the border band"
    ),
    "warmth": Artefact("light", "octaves", "log2 of red over blue there"),
    "greenness": Artefact(
        "light", "octaves", "log2 of green over the geometric mean of red and blue there"
    ),
    "vignette": Artefact(
        "light",
        "octaves",
        "log2 of the 75th percentile of luma halfway out over the median luma of the corners, "
        "without black frame; 0 where the corners are as bright or brighter",
    ),
    "sharpness": Artefact(
        "light", "log10", "median absolute Laplacian of luma in the border band, which few hairs do"
        " not change",
    ),
    "black_frame": Artefact(
        "mark",
        "share of the corners",
        "luma below 0.16, connected to a corner of the image, in the corners (beyond 0.85 of the "
        "half diagonal)",
    ),
    "hair": Artefact(
        "mark",
        "share of the border band",
        "dark lines by black-hat (9 x 9, above 0.07), 0.12 of the width or longer, thin or crossing"
        " half the image",
    ),
    "fine_ruler": Artefact(
        "mark",
        "marks",
        "longest row of evenly spaced, parallel, short, faint dark marks near the border; below 4 "
        "is 0",
    ),
    "coarse_ruler": Artefact(
        "mark",
        "marks",
        "the same of black marks, often a corner of a scale; below 3 is 0, and below 4 where there "
        "is hair",
    ),
    "ink": Artefact(
        "mark",
        "share of the border band",
        "coloured, blue rather than red, much bluer than the image's own skin (by half an octave), "
        "and not connected to the middle, which may be a blue lesion; below 0.005 is 0",
    ),
}  # fmt: skip
"""Every measure by its column, in order."""


def measure_artefacts(
    data: Catalogue | str | Path,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    listen: Listener = silent,
) -> pd.DataFrame:
    """Measure every image of a catalogue; see `ARTEFACTS`.

    Args:
        data: the catalogue, or its folder.
        out: a CSV that keeps what was measured, by content: images in it are not measured again,
            and a run that was stopped goes on. None keeps nothing.
        workers: threads; by default one per core.
        listen: told of the progress.

    Returns:
        One row per image in the order of the catalogue: image_id and the columns of `ARTEFACTS`.
        What cannot be measured is NaN: all but the file's facts where the longer side is below
        `SMALLEST`, jpeg_quantisation where the image is no JPEG file.

    Raises:
        FindingsError: with every image that cannot be read; the others are kept in `out`.
        DataError: if `out` is another table.

    Example:
        >>> measure_artefacts(data, out="data/ham10000/artefacts.csv")  # doctest: +SKIP
    """
    data = Catalogue.open(data)
    path = Path(out) if out is not None else None
    kept = _kept(path) if path is not None and path.is_file() else {}
    todo = data.table.drop_duplicates("sha256")
    todo = todo[~todo["sha256"].isin(kept.keys())]
    faults: list[Finding] = []
    for done, (row, result) in enumerate(_measured(todo, data.root, workers), start=1):
        if isinstance(result, Finding):
            faults.append(result)
        else:
            kept[row.sha256] = result
        if done % 50 == 0 or done == len(todo):
            listen(Step("measuring images", done, len(todo), "images"))
        if path is not None and done % (4 * _CHUNK) == 0:
            _keep(path, kept)
    if path is not None and len(todo):
        _keep(path, kept)
    if faults:
        found = findings_table(faults)
        raise FindingsError(
            f"{len(faults)} of {len(data)} images cannot be measured:\n{describe(found)}\n"
            "`lesionlab audit` lists them all, and says how to leave them out.",
            found,
        )
    rows = pd.DataFrame([kept[sha] for sha in data.table["sha256"]], columns=list(ARTEFACTS))
    rows.insert(0, "image_id", data.table["image_id"].to_numpy())
    return rows


def _kept(path: Path) -> dict[str, dict[str, float]]:
    table = read_csv(path)
    if not {"sha256", "version"} <= set(table.columns):
        raise DataError(f"{path} is no table of measured artefacts. Name another file.")
    table = table[table["version"] == str(VERSION)]
    if missing := [name for name in ARTEFACTS if name not in table.columns]:
        raise DataError(f"{path} lacks {', '.join(missing)}. Delete it, and run again.")
    values = table[list(ARTEFACTS)].apply(pd.to_numeric, errors="coerce").to_dict("records")
    return dict(zip(table["sha256"], values, strict=True))


def _keep(path: Path, kept: dict[str, dict[str, float]]) -> None:
    table = pd.DataFrame(list(kept.values()), columns=list(ARTEFACTS))
    table.insert(0, "sha256", list(kept))
    table.insert(1, "version", VERSION)
    write_csv(path, table)


def _measured(
    todo: pd.DataFrame, root: Path, workers: int | None
) -> Iterator[tuple[Any, dict[str, float] | Finding]]:
    """Each image with what was measured, in order."""
    rows = list(todo[["image_id", "path", "sha256"]].itertuples(index=False))
    reader = Reader(root)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            try:
                results = pool.map(lambda row: _one(reader, *row), chunk)
                yield from zip(chunk, results, strict=True)
            except BaseException:  # what was asked to stop must not measure on first
                pool.shutdown(cancel_futures=True)
                raise


def _one(reader: Reader, image_id: str, path: str, sha256: str) -> dict[str, float] | Finding:
    try:
        size = len(reader.bytes_of(path))
        image, (height, width) = reader.upright(path, sha256)
        tables = getattr(image, "quantization", None)
        facts = {
            "width": float(width),
            "height": float(height),
            "bytes_per_pixel": size / (width * height),
            "jpeg_quantisation": float(np.mean(tables[0])) if tables else np.nan,
        }
        scale = SIDE / max(width, height)
        if max(width, height) < SMALLEST or min(width, height) * scale < 16:
            return {name: facts.get(name, np.nan) for name in ARTEFACTS}
        sized = Images(size=(round(height * scale), round(width * scale)))
        return facts | measure(to_pixels(image, sized, path))
    except ImageFault as fault:
        return Finding(
            fault.kind, str(fault), column="path", image_id=image_id, path=path, exclude=True
        )


@dataclass(frozen=True)
class _Zones:
    """Where to look, of one image size: masks of shape (height, width).

    Attributes:
        corners: further from the centre than 0.85 of the half diagonal.
        band: within 0.12 of the height or width of a border: seldom lesion.
        wide: the same within 0.2, where rulers lie.
        ring: 0.45 to 0.65 of the half diagonal from the centre.
        inner: within 0.4 of it.
    """

    corners: Mask
    band: Mask
    wide: Mask
    ring: Mask
    inner: Mask


@lru_cache(maxsize=8)
def _zones(height: int, width: int) -> _Zones:
    y, x = np.mgrid[:height, :width]
    middle = (height - 1) / 2, (width - 1) / 2
    out = np.hypot(y - middle[0], x - middle[1]) / np.hypot(*middle)
    edge = np.minimum(np.minimum(y, height - 1 - y) / height, np.minimum(x, width - 1 - x) / width)
    return _Zones(out > 0.85, edge < 0.12, edge < 0.2, (out > 0.45) & (out < 0.65), out < 0.4)


def measure(pixels: NDArray[np.uint8]) -> dict[str, float]:
    """Measure light and marks of one image.

    Args:
        pixels: uint8, shape (height, width, 3), `SIDE` on the longer side.

    Returns:
        The measures of `ARTEFACTS` of kind light and mark; vignette is NaN where the corners are
        black.
    """
    from scipy import ndimage

    # three planes: numpy is slow along an axis of three
    planes: Floats = np.ascontiguousarray(np.moveaxis(pixels, 2, 0)).astype(
        np.float32
    ) / np.float32(255)
    luma: Floats = 0.299 * planes[0] + 0.587 * planes[1] + 0.114 * planes[2]
    zones = _zones(*luma.shape)
    frame = _frame(luma)
    black = ndimage.binary_dilation(frame, iterations=4) if frame.any() else frame
    skin = zones.band & ~black
    if skin.sum() < 0.01 * skin.size:
        skin = zones.ring
    bright = skin & (luma >= np.median(luma[skin]))
    red, green, blue = (float(plane[bright].mean()) + 0.01 for plane in planes)
    corners, ring = zones.corners & ~black, zones.ring & ~black
    vignette = np.nan
    if corners.sum() >= 0.05 * zones.corners.sum() and ring.any():
        ratio = (np.percentile(luma[ring], 75) + 0.01) / (np.median(luma[corners]) + 0.01)
        vignette = max(0.0, float(np.log2(ratio)))  # below 0 is a large lesion
    edges = np.abs(ndimage.laplace(luma))[skin]
    hollow = ndimage.grey_closing(luma, size=(9, 9)) - luma  # black-hat: dark and narrow
    hair = float(_hair((hollow > 0.07) & ~black)[zones.band].mean())
    fine, coarse = (
        longest_row((hollow > kind.contrast) & zones.wide & ~black, kind) for kind in (FINE, COARSE)
    )
    ink = float(_ink(planes, skin, black, zones.inner)[zones.band].mean())
    return {
        "skin_brightness": 0.299 * red + 0.587 * green + 0.114 * blue - 0.01,
        "warmth": float(np.log2(red / blue)),
        "greenness": float(np.log2(green / np.sqrt(red * blue))),
        "vignette": vignette,
        "sharpness": float(np.log10(np.median(edges) + 1e-4)),
        "black_frame": float(frame[zones.corners].mean()),
        "hair": hair,
        "fine_ruler": float(fine),
        "coarse_ruler": float(coarse) if coarse >= 4 or hair < _HAIRY else 0.0,
        "ink": ink if ink >= 0.005 else 0.0,
    }


def _frame(luma: Floats) -> Mask:
    """Dark pixels that are connected to a corner of the image."""
    from scipy import ndimage

    labels, _ = ndimage.label(luma < 0.16)
    touching = np.unique(labels[[0, 0, -1, -1], [0, -1, 0, -1]])
    touching = touching[touching > 0]
    frame: Mask = np.isin(labels, touching) if len(touching) else np.zeros(luma.shape, bool)
    return frame


def _hair(narrow: Mask) -> Mask:
    """Of narrow dark pixels, those in long and thin pieces, or in a tangle across the image."""
    from scipy import ndimage

    width = narrow.shape[1]
    labels, count = ndimage.label(narrow, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    keep = np.zeros(count + 1, bool)
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        extent = np.hypot(*(each.stop - each.start for each in place))
        thin = areas[number] <= 5 * extent
        keep[number] = extent >= 0.12 * width and (thin or extent >= 0.5 * width)
    found: Mask = keep[labels]
    return found


def _ink(planes: Floats, skin: Mask, black: Mask, inner: Mask) -> Mask:
    """Pixels much bluer than the skin of the same image, coloured, not connected to the middle."""
    from scipy import ndimage

    red, green, blue = planes
    blueness = np.log2((blue + 0.02) / (red + 0.02))
    most = np.maximum(np.maximum(red, green), blue)
    least = np.minimum(np.minimum(red, green), blue)
    found: Mask = (
        (blueness - np.median(blueness[skin]) > 0.5)
        & (blueness > 0.1)
        & (most - least > 0.15)
        & (most > 0.2)
        & ~black
    )
    if not found.any():
        return found
    found = ndimage.binary_opening(found, structure=np.ones((3, 3)))
    labels, _ = ndimage.label(ndimage.binary_dilation(found, iterations=3))
    lesion = np.unique(labels[inner])
    return found & ~np.isin(labels, lesion[lesion > 0])
