"""Other photographs of one lesion under two lesion ids: moved, turned, in other light, another day.

`patch_index` proposes the few pictures that share small patches with each one, `local_features`
checks whether one similarity transform explains them. Their number says how probable it is that
both show the same skin.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lesionlab.data.audit.local_features import NOTHING, SIDE, Fit, Patches, fit, patches
from lesionlab.data.audit.near_duplicates import OTHER_PHOTOGRAPH, PAIRS, threads
from lesionlab.data.audit.patch_index import PatchIndex
from lesionlab.data.images.decode import to_pixels
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.progress import Listener, Step, silent
from lesionlab.recipe.schema import Images
from lesionlab.tables import lesions_of

MOST = 150
"""Pairs that are proposed, at most."""
LEAST = 0.1
"""Probability below which a pair is not proposed."""
NEAREST = 20
"""Pictures that are compared with each one, at most: those with the most votes."""
_VOTES = 3  # that agree on how one picture lies in the other, at least
_CHUNK = 16
_SMALLEST = 100  # pixels on the shorter side: below it patches are of the blur
_DIGITS = 3
_APART = 0.3  # of the middles, in shares of the longer side
_LEVEL, _SLOPE = -13.0, 1.3  # of the logit, and by which each patch raises it


def probability(how: Fit) -> float:
    """That two photographs of different lesion ids show one lesion, 0-1.

    A logistic function of the number of patches that fit; docs/near-duplicates.md says what it was
    fitted on. Where the middles lie far apart, the photographs show one place of skin, but perhaps
    two lesions side by side: it is not above one half.
    """
    fits = 1 / (1 + math.exp(-(_LEVEL + _SLOPE * min(how.patches, 40))))
    return min(fits, 0.5) if how.apart > _APART else fits


def other_photographs(
    table: pd.DataFrame,
    root: Path,
    *,
    known: pd.DataFrame | None = None,
    most: int = MOST,
    workers: int | None = None,
    listen: Listener = silent,
) -> pd.DataFrame:
    """Find pairs of photographs of different lesion ids that probably show one lesion.

    Memory: some 60 kB per image.

    Args:
        table: a catalogue's table. Images that cannot be read, or whose shorter side has under 100
            pixels, are passed over.
        root: the folder that `path` is relative to.
        known: pairs that were found before, columns image_id and other: they are left out.
        most: pairs that are given.
        workers: threads; by default one per core.
        listen: told of the progress.

    Returns:
        Columns `near_duplicates.PAIRS`, the most probable first; verdict is "". Of a pair the image
        whose id sorts first stands first.
    """
    workers = workers or os.cpu_count() or 1
    table = table.sort_values("image_id", kind="stable").reset_index(drop=True)
    with threadpool_limits(1):  # the products are small: threads of BLAS would only wait
        pictures = described(table, Reader(root), workers, listen)
        pairs = _candidates(pictures, lesions_of(table).to_numpy(), workers, listen)
        if known is not None:
            ids = table["image_id"].to_numpy()
            before = set(map(frozenset, zip(known["image_id"], known["other"], strict=True)))
            pairs = [(a, b) for a, b in pairs if frozenset((ids[a], ids[b])) not in before]

        def compare(pair: tuple[int, int]) -> Fit:
            return fit(pictures[pair[0]], pictures[pair[1]])

        fits = []
        for number, how in enumerate(threads(compare, pairs, workers), 1):
            fits.append(how)
            if number % 64 == 0 or number == len(pairs):
                listen(Step("comparing photographs of lesions", number, len(pairs), "pairs"))
    return _table(table, pairs, fits, most)


def described(table: pd.DataFrame, reader: Reader, workers: int, listen: Listener) -> list[Patches]:
    """The patches of every picture; none of one that cannot be read."""
    paths = table["path"].to_numpy()
    shorter = table[["width", "height"]].astype(float).min(axis=1, skipna=False).to_numpy()

    def look(row: int) -> Patches:
        if not shorter[row] >= _SMALLEST:
            return NOTHING
        try:
            return patches(squeezed(reader, paths[row]))
        except ImageFault:
            return NOTHING

    found = []
    for number, each in enumerate(threads(look, range(len(table)), workers), 1):
        found.append(each)
        if number % 64 == 0 or number == len(table):
            listen(Step("looking for patches", number, len(table), "images"))
    return found


def squeezed(reader: Reader, path: str) -> NDArray[np.uint8]:
    """Pixels of an image as `patches` takes them: the longer side `SIDE`, the shape kept.

    Raises:
        ImageFault: if it cannot be read.
    """
    image, (height, width) = reader.upright(path)
    scale = SIDE / max(height, width)
    return to_pixels(image, Images(size=(_side(height * scale), _side(width * scale))), path)


def _side(pixels: float) -> int:
    return max(16, round(pixels))


def _candidates(
    pictures: Sequence[Patches], lesions: NDArray[np.object_], workers: int, listen: Listener
) -> list[tuple[int, int]]:
    """Pairs of pictures of different lesions that share patches, in order."""
    index = PatchIndex(pictures)

    def ask(rows: range) -> list[tuple[int, int]]:
        pairs = []
        for row in rows:
            others, votes = index.votes(pictures[row])
            usable = (votes >= _VOTES) & (lesions[others] != lesions[row])
            others, votes = others[usable], votes[usable]
            for each in others[np.lexsort((others, -votes))][:NEAREST].tolist():
                pairs.append((min(row, each), max(row, each)))
        return pairs

    n, found = len(pictures), set()
    blocks = [range(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK)]
    for number, pairs in enumerate(threads(ask, blocks, workers), 1):
        found.update(pairs)
        done = min(number * _CHUNK, n)
        listen(Step("looking for photographs with like patches", done, n, "images"))
    return sorted(found)


def _table(
    table: pd.DataFrame, pairs: Sequence[tuple[int, int]], fits: Sequence[Fit], most: int
) -> pd.DataFrame:
    """The most probable pairs as `PAIRS`."""
    likely = [k for k, how in enumerate(fits) if probability(how) >= LEAST]
    order = {k: (-probability(fits[k]), -fits[k].patches, pairs[k]) for k in likely}
    likely = sorted(likely, key=lambda k: order[k])[:most]
    ends = np.array([pairs[k] for k in likely], np.intp).reshape(-1, 2)
    one, other = (table.iloc[ends[:, side]].reset_index(drop=True) for side in (0, 1))
    made = pd.DataFrame(
        {
            "image_id": one["image_id"],
            "other": other["image_id"],
            "lesion_id": one["lesion_id"],
            "other_lesion": other["lesion_id"],
            "target": one["target"],
            "other_target": other["target"],
            "kind": OTHER_PHOTOGRAPH,
            "transform": [_words(fits[k]) for k in likely],
            "similarity": np.nan,
            "probability": [round(probability(fits[k]), _DIGITS) for k in likely],
            "verdict": "",
        }
    )
    return made[list(PAIRS)]


def _words(how: Fit) -> str:
    """What the camera did between both photographs."""
    told = [f"{how.patches} patches fit"]
    if abs(how.turn) >= 5:
        told.append(f"turned {abs(how.turn):.0f}° {'right' if how.turn > 0 else 'left'}")
    if abs(math.log(how.size)) > 0.07:
        told.append(f"{'closer' if how.size > 1 else 'farther'} by {how.size:.2f}")
    if how.apart > _APART:
        told.append("the middles lie apart: perhaps neighbours")
    return ", ".join(told)
