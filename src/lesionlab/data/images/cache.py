"""Image cache: every image decoded once, in one memory-mapped file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.data.images.decode import PREPROCESSING, preprocessing_fingerprint
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.errors import DataError, FindingsError
from lesionlab.files import cannot_write, locked, write_csv, write_json
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.tables import Finding, describe, findings_table

if TYPE_CHECKING:
    from lesionlab.recipe.schema import Images

_CHUNK = 512  # images between two writes of the cache's index


@dataclass(frozen=True)
class Cache:
    """Decoded images of one size, in one file.

    Attributes:
        folder: holds images.npy (uint8, shape (n, height, width, 3)), index.csv and cache.json.
    """

    folder: Path

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """All images, memory-mapped read-only: uint8, shape (n, height, width, 3)."""
        return np.load(self.folder / "images.npy", mmap_mode="r")  # type: ignore[no-any-return]

    @cached_property
    def index(self) -> dict[str, int]:
        """Row of each image, by the SHA-256 of its content."""
        return _read_index(self.folder)

    def rows(self, sha256: Sequence[str]) -> NDArray[np.int64]:
        """Rows of images, by the SHA-256 of their content, shape (n,).

        Raises:
            DataError: if some are not in the cache.
        """
        missing = sum(each not in self.index for each in sha256)
        if missing:
            raise DataError(
                f"{missing} of {len(sha256)} images are not in the cache {self.folder}. "
                "Run `lesionlab cache` for this catalogue and size, and try again."
            )
        return np.array([self.index[each] for each in sha256], dtype=np.int64)


def cache(
    table: pd.DataFrame,
    root: Path,
    images: Images,
    to: Path,
    *,
    workers: int | None = None,
    listen: Listener = silent,
) -> Cache:
    """Decode every image of a catalogue once, into one memory-mapped file.

    The cache is keyed by content: images already in it are not decoded again, new ones are added
    behind the others, and identical files share a row. Stopped at any moment, it goes on from the
    last finished few hundred images. A process that finds another one at it waits for it.

    Args:
        table: a catalogue's table; uses `path`, `sha256` and `image_id`.
        root: the folder that `path` is relative to.
        images: size and fit.
        to: folder that holds the caches of this data, one subfolder per preprocessing.
        workers: threads that decode; by default one per core.
        listen: told of the progress.

    Raises:
        FindingsError: with every image that could not be decoded; the others are kept.
        DataError: if the disk has no room.
    """
    key = preprocessing_fingerprint(images)
    folder = to / f"{images.size[0]}x{images.size[1]}-{key[:8]}"
    wanted = table.drop_duplicates("sha256")
    if wanted["sha256"].isin(index := _read_index(folder)).all():
        listen(Notice(f"The cache {folder} is complete: {len(index)} images."))
        return Cache(folder)

    def waiting() -> None:
        listen(Notice(f"Another process fills the cache {folder}: waiting for it."))

    with locked(to / f".{folder.name}.lock", waiting):
        faults = _fill(folder, wanted, root, images, workers, listen)
    if faults:
        found = findings_table(faults)
        raise FindingsError(
            f"{len(faults)} of {len(table)} images cannot be decoded:\n{describe(found)}\n"
            "`lesionlab audit` lists them all, and says how to leave them out.",
            found,
        )
    return Cache(folder)


def _fill(
    folder: Path,
    wanted: pd.DataFrame,
    root: Path,
    images: Images,
    workers: int | None,
    listen: Listener,
) -> list[Finding]:
    """Decode the images that are not in the cache yet; give those that cannot be."""
    index = _read_index(folder)
    todo = wanted[~wanted["sha256"].isin(index)]
    if todo.empty:  # somebody else has done it
        return []
    rows = iter(sorted(set(range(len(index) + len(todo))) - set(index.values())))
    memory = _grow(folder, len(index) + len(todo), images.size)
    kept = {"size": images.size, "fit": images.fit}
    write_json(folder / "cache.json", {"version": PREPROCESSING, "images": kept})
    faults: list[Finding] = []
    done = 0
    reader = Reader(root)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            for chunk in _chunks(todo):
                results = pool.map(lambda row: _decoded(reader, row, images), chunk)
                for row, result in zip(chunk, results, strict=True):
                    if isinstance(result, Finding):
                        faults.append(result)
                    else:
                        place = next(rows)
                        memory[place] = result
                        index[row.sha256] = place
                    done += 1
                    if done % 64 == 0:
                        listen(Step("decoding images", done, len(todo), "images"))
                memory.flush()
                _write_index(folder, index)
        except BaseException:  # what was asked to stop must not decode on first
            pool.shutdown(cancel_futures=True)
            raise
    listen(Step("decoding images", done, len(todo), "images"))
    return faults


def _chunks(table: pd.DataFrame) -> Iterator[list[Any]]:
    rows = list(table[["image_id", "path", "sha256"]].itertuples(index=False))
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]


def _decoded(reader: Reader, row: Any, images: Images) -> NDArray[np.uint8] | Finding:
    try:
        return reader.pixels(row.path, images, row.sha256)
    except ImageFault as fault:
        return Finding(
            fault.kind,
            str(fault),
            column="path",
            image_id=row.image_id,
            path=row.path,
            exclude=True,
        )


def _read_index(folder: Path) -> dict[str, int]:
    path = folder / "index.csv"
    if not path.is_file() or not (folder / "images.npy").is_file():
        return {}
    table = pd.read_csv(path, dtype={"sha256": str, "row": int})
    return dict(zip(table["sha256"], table["row"].tolist(), strict=True))


def _write_index(folder: Path, index: dict[str, int]) -> None:
    write_csv(folder / "index.csv", pd.DataFrame({"sha256": index.keys(), "row": index.values()}))


def _grow(folder: Path, count: int, size: tuple[int, int]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Open images.npy for `count` images, longer than before if need be, with its room reserved."""
    path = folder / "images.npy"
    shape = (count, *size, 3)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": shape, "fortran_order": False, "descr": "|u1"}
    )  # padded by numpy so that the first axis can grow in place
    length = len(header.getvalue()) + int(np.prod(shape))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if path.exists() else "w+b") as handle:
            if hasattr(os, "posix_fallocate"):  # a full disk shows now, not as a crash later
                os.posix_fallocate(handle.fileno(), 0, length)
            handle.truncate(length)
            handle.write(header.getvalue())
    except OSError as error:
        if not _read_index(folder):
            path.unlink(missing_ok=True)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise cannot_write(path, error) from error
    return np.lib.format.open_memmap(path, mode="r+")
