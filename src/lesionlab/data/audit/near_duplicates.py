"""Near-duplicates: one photograph under two names, whatever was done to it in between.

Two steps. `descriptors` finds, for every picture, the dozen others that it looks most like a part
of, in any of eight positions. `registration` then lays the one over the other and correlates their
fine structure. Photographs of two lesions, and two photographs of one lesion, hardly correlate; one
photograph mirrored, turned, cropped, brightened, recoloured, resized or compressed does.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.data.audit.dct_index import (
    BLOCK,
    CROPS,
    Candidates,
    Descriptions,
    coefficients,
    inverse,
)
from lesionlab.data.audit.image_registration import (
    SIDE,
    Alignment,
    Floats,
    Relief,
    align,
    coarse,
    place,
    relief,
)
from lesionlab.data.catalogue.merge_lesions import DIFFERENT
from lesionlab.data.images.decode import to_pixels
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.progress import Listener, Step, silent
from lesionlab.recipe.schema import Images
from lesionlab.tables import Finding, lesions_of

PAIRS = (
    "image_id",
    "other",
    "lesion_id",
    "other_lesion",
    "target",
    "other_target",
    "kind",  # SAME_PHOTOGRAPH or OTHER_PHOTOGRAPH
    "transform",  # what makes the other out of the image
    "similarity",  # correlation of fine structure, 0-1; of one photograph alone
    "probability",  # that both show one lesion, 0-1; of other photographs alone
    "verdict",  # for the user: same | different | "" = not judged
)
SAME_PHOTOGRAPH, OTHER_PHOTOGRAPH = "same photograph", "same lesion, other photograph"
"""Kinds of pairs; `other_photographs` finds the latter."""
LEAST = 0.65
"""Similarity from which two pictures count as one photograph; docs/near-duplicates.md says why."""
SMALLEST = 40
"""Shorter side, in pixels, below which a picture has too little structure to be compared."""
UP_TO = 20_000
"""Images that are compared without being asked for: the work grows with their square."""
NEAREST, NEAREST_SQUARES = 20, 5
"""Candidates of each picture that are compared: they lie less exactly where crops are asked for."""
_LOOKS = 0.6  # least cosine of descriptions
_FITS = 0.35  # least correlation at a coarse place
_CHUNK = 64
_TASK = ("near-duplicates", "near-duplicates, middle squares")
_WHOLE = 0.97  # share of the side from which nothing was cropped
_DIGITS = 3  # of a similarity
_LIGHTER = 1.06  # ratio of mean values that is worth a word

_POSITIONS = (
    "",
    "mirrored top to bottom",
    "mirrored left to right",
    "turned 180°",
    "mirrored left to right, turned 90° left",
    "turned 90° left",
    "turned 90° right",
    "mirrored left to right, turned 90° right",
)

Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Pictures:
    """What is kept of all pictures, whole (squeezed to a square) and of their middle squares.

    Attributes:
        waves: coefficients, of the whole with its crops, and of the middle.
        reliefs: of the whole, and of the middle.
        means: mean colours, shape (n, 3).
        rows: of the table, shape (n,).
    """

    waves: tuple[Floats, Floats]
    reliefs: tuple[Relief, Relief]
    means: Floats
    rows: NDArray[np.intp]


def near_duplicates(
    table: pd.DataFrame,
    root: Path,
    *,
    least: float = LEAST,
    workers: int | None = None,
    listen: Listener = silent,
) -> pd.DataFrame:
    """Find pairs of images that are one photograph, altered or not.

    Time and memory: 10,000 images take some minutes on two cores and about 0.5 GB; the time grows
    with the square of their number.

    Args:
        table: a catalogue's table. Images that cannot be read, or whose shorter side has under 40
            pixels, are passed over.
        root: the folder that `path` is relative to.
        least: similarity from which a pair is given, 0-1.
        workers: threads; by default one per core.
        listen: told of the progress.

    Returns:
        Columns `PAIRS`. Pairs across lesions come first, then those within one, each by falling
        similarity; verdict is "". Of a pair the image whose id sorts first stands first.
    """
    workers = workers or os.cpu_count() or 1
    table = table.sort_values("image_id", kind="stable").reset_index(drop=True)
    pictures = _read(table, Reader(root), workers, listen)
    found = pd.DataFrame(columns=list(PAIRS))
    if len(pictures.rows) > 1:
        fits = _compared(pictures, least, workers, listen)
        if fits:
            found = _table(table, pictures, fits)
    return in_order(found)


def in_order(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs across lesions first, the surest of each kind first, then those within one lesion."""
    within = (lesions(pairs, "lesion_id") == lesions(pairs, "other_lesion")).to_numpy(bool)
    other = (pairs["kind"] == OTHER_PHOTOGRAPH).to_numpy(bool)
    sure = pairs["similarity"].astype(float).fillna(pairs["probability"].astype(float))
    return pairs.iloc[np.lexsort((-sure.to_numpy(), other, within))].reset_index(drop=True)


def lesions(pairs: pd.DataFrame, column: str) -> pd.Series:
    """The lesion of each pair's image (column lesion_id) or other (column other_lesion)."""
    image = pairs["image_id" if column == "lesion_id" else "other"]
    return lesions_of(pd.DataFrame({"lesion_id": pairs[column], "image_id": image}))


def _read(table: pd.DataFrame, reader: Reader, workers: int, listen: Listener) -> _Pictures:
    shorter = table[["width", "height"]].astype(float).min(axis=1, skipna=False).to_numpy()
    rows = np.flatnonzero(shorter >= SMALLEST)
    paths = table["path"].to_numpy()
    whole, middle = Images(size=(SIDE, SIDE)), Images(size=(SIDE, SIDE), fit="crop")

    def look(chunk: NDArray[np.intp]) -> tuple[NDArray[Any], ...]:
        pixels, known = [], []
        for row in chunk:
            try:
                image, _ = reader.upright(paths[row])
                pixels.append([to_pixels(image, each, paths[row]) for each in (whole, middle)])
                known.append(row)
            except ImageFault:
                continue
        stack = np.array(pixels, np.uint8).reshape(-1, 2, SIDE, SIDE, 3)
        return (
            coefficients(stack[:, 0]),
            coefficients(stack[:, 1], CROPS[:1]),
            relief(stack[:, 0]),
            relief(stack[:, 1]),
            stack[:, 0].mean((1, 2), dtype=np.float32) + 1,
            np.array(known, np.intp),
        )

    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    parts = [look(rows[:0])]
    done = 0
    for part in threads(look, chunks, workers):
        parts.append(part)
        done += _CHUNK
        listen(Step("describing images", min(done, len(rows)), len(rows), "images"))
    columns = list(zip(*parts, strict=True))
    waves, cores = (np.concatenate(each, 1) for each in columns[:2])
    reliefs, squares, means, known = map(np.concatenate, columns[2:])
    return _Pictures((waves, cores), (reliefs, squares), means, known)


@dataclass(frozen=True)
class _Hit:
    """A picture that fits into another at first sight: numbers of both, and where.

    `square` says that only the middle squares of both were compared.
    """

    square: bool
    fit: float
    whole: int
    part: int
    symmetry: int
    where: NDArray[np.float64]

    @property
    def pair(self) -> tuple[int, int]:
        return min(self.whole, self.part), max(self.whole, self.part)


def _compared(
    pictures: _Pictures, least: float, workers: int, listen: Listener
) -> list[tuple[_Hit, Alignment]]:
    """Pairs of pictures at least this similar, each once, with how they lie."""
    made: dict[tuple[int, int], tuple[_Hit, Alignment]] = {}

    def lay(hit: _Hit) -> tuple[_Hit, Alignment]:
        reliefs = pictures.reliefs[hit.square]
        return hit, align(reliefs[hit.whole], reliefs[hit.part], hit.symmetry, hit.where)

    for square in (False, True):  # whole pictures first: they tell more of how a pair lies
        best: dict[tuple[int, int], _Hit] = {}
        sure = {pair for pair, (_, how) in made.items() if how.similarity >= LEAST}
        for hit in _hits(pictures, square, workers, listen):
            known = best.get(hit.pair)
            if hit.pair not in sure and (known is None or known.fit < hit.fit):
                best[hit.pair] = hit
        for number, (hit, how) in enumerate(threads(lay, best.values(), workers), 1):
            before = made[hit.pair][1].similarity if hit.pair in made else least
            if round(how.similarity, _DIGITS) >= before:
                made[hit.pair] = hit, how
            if number % _CHUNK == 0 or number == len(best):
                listen(Step(f"comparing {_TASK[square]}", number, len(best), "pairs"))
    return list(made.values())


def _hits(pictures: _Pictures, square: bool, workers: int, listen: Listener) -> Iterator[_Hit]:
    """All hits among whole pictures, or among their middle squares.

    The latter find what was turned by 90 degrees on its old canvas, or cut to a square.
    """
    described = Descriptions(pictures.waves[square])
    reliefs = pictures.reliefs[square]
    small = coarse(reliefs)

    def look(found: Candidates) -> list[_Hit]:
        hits = []
        for query in np.unique(found.query).tolist():
            own = found.of(query)
            fits, where = place(reliefs[query], small[own.target], own)
            for k in np.flatnonzero(fits >= _FITS).tolist():
                target, symmetry = int(own.target[k]), int(own.symmetry[k])
                hits.append(_Hit(square, float(fits[k]), target, query, symmetry, where[k]))
        return hits

    n, done = len(described), 0
    task = f"looking for {_TASK[square]}"
    nearest = NEAREST_SQUARES if square else NEAREST
    for hits in threads(look, described.candidates(nearest, _LOOKS), workers):
        yield from hits
        done = min(done + BLOCK, n)
        listen(Step(task, done, n, "images"))


def threads(
    work: Callable[[Work], Result], items: Iterable[Work], workers: int
) -> Iterator[Result]:
    """Results of threads in order; no more than a few items are taken before their turn."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:  # what was asked to stop must not work on first
            pool.shutdown(cancel_futures=True)
            raise


def _table(
    table: pd.DataFrame, pictures: _Pictures, fits: list[tuple[_Hit, Alignment]]
) -> pd.DataFrame:
    """The pairs as `PAIRS`."""
    ends = np.array([hit.pair for hit, _ in fits])
    first, second = (table.iloc[pictures.rows[ends[:, k]]].reset_index(drop=True) for k in (0, 1))
    transforms = []
    for hit, alignment in fits:
        light = pictures.means[hit.pair[1]] / pictures.means[hit.pair[0]]
        transforms.append(_words(hit, alignment, light))
    return pd.DataFrame(
        {
            "image_id": first["image_id"],
            "other": second["image_id"],
            "lesion_id": first["lesion_id"],
            "other_lesion": second["lesion_id"],
            "target": first["target"],
            "other_target": second["target"],
            "kind": SAME_PHOTOGRAPH,
            "transform": transforms,
            "similarity": [min(1.0, round(alignment.similarity, _DIGITS)) for _, alignment in fits],
            "probability": np.nan,
            "verdict": "",
        }
    )


def _words(hit: _Hit, alignment: Alignment, light: Floats) -> str:
    """What makes the other picture out of the first."""
    part_is_other = hit.part == hit.pair[1]
    symmetry = alignment.symmetry
    said = [_POSITIONS[inverse(symmetry) if part_is_other else symmetry]]
    share = float(np.prod(alignment.sides)) ** 0.5
    if hit.square:
        said.append("middle squares alike")
    elif share < _WHOLE:
        said.append(f"{'other' if part_is_other else 'image'} cropped to {100 * share:.0f} %")
    else:
        level = float(light.mean())
        if not 1 / _LIGHTER < level < _LIGHTER:
            said.append("brighter" if level > 1 else "darker")
        if light.max() / light.min() > _LIGHTER:
            said.append("other colours")
    return ", ".join(each for each in said if each) or "same view"


def position(transform: str) -> int:
    """The position, as `descriptors.posed` takes it, that a pair's transform speaks of."""
    said = [name for name in _POSITIONS if name and transform.startswith(name)]
    return _POSITIONS.index(max(said, key=len, default=""))


def findings(pairs: pd.DataFrame, identical: Mapping[str, str] | None = None) -> list[Finding]:
    """Pairs as findings: a warning for each across lesions, one note for all within lesions.

    Other photographs that are less than 50 % probable are notes.

    Args:
        pairs: from `near_duplicates`.
        identical: a key of each image's content, by image_id; pairs of one key are left to the
            findings on identical images. Pairs that were judged different are no finding.
    """
    found = []
    across = lesions(pairs, "lesion_id") != lesions(pairs, "other_lesion")
    for row in pairs[across].itertuples():
        image, other = str(row.image_id), str(row.other)
        labels = str(row.other_target), str(row.target)
        if row.verdict == DIFFERENT:
            continue
        if identical and identical[image] and identical[image] == identical[other]:
            continue
        clash = labels[0] != labels[1]
        if row.kind == OTHER_PHOTOGRAPH:
            code = "same_lesion"
            text = f"{other} may show the lesion of {image} ({row.probability:.0%} probable)"
        else:
            code = "near_duplicate"
            text = f"{other} looks like {image} ({row.transform}; similarity {row.similarity:.2f})"
        if clash:
            text += f", with two diagnoses: {labels[0]} and {labels[1]}"
        found.append(
            Finding(
                f"{code}_with_two_diagnoses" if clash else code,
                text,
                severity="note" if float(str(row.probability)) < 0.5 else "warning",
                column="lesion_id",
                image_id=other,
            )
        )
    if within := int((~across).sum()):
        text = f"{within} pairs of images of one lesion look like one photograph"
        found.append(Finding("near_duplicate_within_a_lesion", text, "note", "lesion_id"))
    return found
