"""From a file to uint8 pixels: the one place that decodes, and the memory-mapped cache.

What happens here is the first half of the preprocessing (decode, turn upright, RGB, resize). The
second half (scaling, normalisation) belongs to the network.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lesionlab.errors import DataError, FindingsError
from lesionlab.files import cannot_write, fingerprint, locked, write_csv, write_json
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.tables import Finding, describe, findings_table

if TYPE_CHECKING:
    from lesionlab.recipe.schema import Images

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".dcm", ".dicom")
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""What is opened, told by the content; Pillow knows dozens more, each a way in for a bad file."""
PREPROCESSING = 1
"""Version of what `to_pixels` does; raised when its output changes."""
_CHUNK = 512  # images between two writes of the cache's index
_FORMATS_SAID = "a JPEG, PNG, BMP, TIFF or WebP image"
_LONGEST_SIDE = 65_535  # pixels, as in a JPEG
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # of a JPEG; 0 and restarts stand in its data
_MOST_MARKERS = 20_000
_MOST_PASSES = 12  # over an image of the most pixels: a progressive JPEG has about ten scans


def preprocessing_fingerprint(images: Images) -> str:
    """16 hexadecimal digits over everything that decides what `to_pixels` gives."""
    return fingerprint({"version": PREPROCESSING, "size": images.size, "fit": images.fit})


class ImageFault(DataError):
    """One image that cannot be used. `kind` is a word for tables, the text is for people."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Reader:
    """Reads images of a data folder by the `path` column of its catalogue.

    A path is a file ("part_1/ISIC_0024306.jpg") or a row of an array:
    "dermamnist.npz#train_images/17" or "hmnist_28_28_RGB.csv#17".
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._arrays: dict[str, NDArray[np.uint8]] = {}
        self._loading = Lock()

    def bytes_of(self, path: str) -> bytes:
        """The content of an image: its file's bytes, or the pixels of an array's row.

        Raises:
            ImageFault: if the file is missing, empty or cannot be read.
        """
        if in_array(path):
            return self._row(path).tobytes()
        try:
            content = (self.root / path).read_bytes()
        except FileNotFoundError as error:
            raise ImageFault("missing_image", f"{path} does not exist") from error
        except OSError as error:
            raise ImageFault("unreadable", f"{path} cannot be read ({error.strerror})") from error
        if not content:
            raise ImageFault("empty_file", f"{path} has 0 bytes")
        return content

    def open(self, path: str, content: bytes | None = None) -> Image.Image:
        """The image, not yet decoded where its format allows that.

        Raises:
            ImageFault: if the file is missing, empty or no image.
        """
        if in_array(path):
            return Image.fromarray(self._row(path))
        content = self.bytes_of(path) if content is None else content
        if content[128:132] == b"DICM":
            from lesionlab.data.images.dicom import open_dicom  # it imports from here

            return open_dicom(content, path)
        return open_image(content, path)

    def pixels(self, path: str, images: Images, sha256: str = "") -> NDArray[np.uint8]:
        """Decode, turn upright, convert to RGB and resize one image.

        Args:
            path: as in the catalogue.
            images: size and fit.
            sha256: if given, what the content must hash to.

        Returns:
            uint8, shape (height, width, 3).

        Raises:
            ImageFault: if the image cannot be read whole or is not the one that was catalogued.
        """
        return to_pixels(self._catalogued(path, sha256), images, path)

    def upright(self, path: str, sha256: str = "") -> tuple[Image.Image, tuple[int, int]]:
        """The image, and its height and width in pixels once it is turned upright.

        Args:
            path: as in the catalogue.
            sha256: if given, what the content must hash to.

        Raises:
            ImageFault: if the image cannot be read or is not the one that was catalogued.
        """
        image = self._catalogued(path, sha256)
        return image, upright_size(image, path)

    def _catalogued(self, path: str, sha256: str) -> Image.Image:
        content = self.bytes_of(path)
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise ImageFault("changed", f"{path} is not the file that was catalogued")
        return self.open(path, content)

    def _row(self, path: str) -> NDArray[np.uint8]:
        file, _, key = path.partition("#")
        array, _, row = key.rpartition("/")
        name = f"{file}#{array}"
        try:
            with self._loading:  # threads share one copy
                if name not in self._arrays:
                    self._arrays[name] = self._load(file, array)
            image: NDArray[np.uint8] = self._arrays[name][int(row)]
        except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
            raise ImageFault("unreadable", f"{path} cannot be read from its array") from error
        return image

    def _load(self, file: str, array: str) -> NDArray[np.uint8]:
        if not (self.root / file).is_file():
            raise ImageFault("missing_image", f"{file} does not exist")
        if not array:
            return read_pixel_table(self.root / file)[0]
        with np.load(self.root / file) as arrays:
            return np.asarray(arrays[array], np.uint8)


def open_image(
    content: bytes,
    name: str,
    max_pixels: int | None = None,
    formats: tuple[str, ...] = FORMATS,
) -> Image.Image:
    """Open an image by what it holds, whatever it is called; nothing is decoded yet.

    Args:
        content: a file's bytes.
        name: what to call it in messages.
        max_pixels: the most that its header may announce; None: what Pillow thinks is safe.
        formats: Pillow's names of those that it may be.

    Raises:
        ImageFault: "empty_file", "unreadable" (none of `formats`), "too_large" (more pixels), or
            "unsupported" (costs far more to decode than its size tells).
    """
    if not content:
        raise ImageFault("empty_file", f"{name} has 0 bytes")
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
    except Image.DecompressionBombError as error:
        raise ImageFault("too_large", f"{name} is too large to decode safely") from error
    except Exception as error:  # parsers of headers fail in many ways: struct.error, TypeError, ...
        said = _FORMATS_SAID if formats == FORMATS else f"a {' or '.join(formats)} image"
        raise ImageFault("unreadable", f"{name} is not {said} that can be read") from error
    width, height = image.size
    if max(width, height) > _LONGEST_SIDE:  # resizing makes the other side larger first
        raise ImageFault("too_large", f"{name} has {width} x {height} pixels: too long a side")
    if max_pixels is not None and width * height > max_pixels:
        raise ImageFault(
            "too_large",
            f"{name} has {width} x {height} pixels, and {max_pixels:,} in all are the most. "
            "Make it smaller, or crop it to the lesion",
        )
    passes = _MOST_PASSES * (max_pixels or Image.MAX_IMAGE_PIXELS or 0)
    if image.format in ("JPEG", "MPO") and _scans(content) * width * height > passes:
        raise ImageFault("unsupported", f"{name} holds too many scans. Save it as a plain JPEG")
    if image.tile and image.tile[0][0] == "bmp_rle":  # decoded in Python: seconds per megabyte
        raise ImageFault("unsupported", f"{name} is a run-length coded BMP. Save it as PNG")
    return image


def _scans(content: bytes) -> int:
    """How often a JPEG's decoder passes over the image; a few bytes can ask for one more."""
    scans, place = 0, 2
    for _ in range(_MOST_MARKERS):
        marker = _MARKER.search(content, place)
        if marker is None or marker[1] == b"\xd9":  # its end
            return scans
        place = marker.end()
        if marker[1] not in (b"\x01", b"\xd8"):  # all others tell their length
            scans += marker[1] == b"\xda"
            place += int.from_bytes(content[place : place + 2])
    return _MOST_MARKERS


def in_array(path: str) -> bool:
    """Whether a catalogue's path means a row of an array and not a file of its own."""
    return re.search(r"\.(npz|csv)#", path, re.IGNORECASE) is not None


def read_pixel_table(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read one of Kaggle's `hmnist_*` tables: a row per image, a column per pixel, the label last.

    Returns:
        Images, uint8, shape (n, side, side) or (n, side, side, 3), and labels, shape (n,).

    Raises:
        DataError: if the number of pixel columns fits no square image.
    """
    table = pd.read_csv(path)
    if "label" not in table.columns:
        raise DataError(f"{path} has no column 'label', so it is not one of the hmnist tables.")
    labels = table.pop("label").to_numpy(np.int64)
    pixels = table.to_numpy(np.uint8)
    for channels in (1, 3):
        side = round((pixels.shape[1] / channels) ** 0.5)
        if side * side * channels == pixels.shape[1]:
            shape = (len(pixels), side, side) + ((3,) if channels == 3 else ())
            return pixels.reshape(shape), labels
    raise DataError(f"{path} has {pixels.shape[1]} pixel columns, which is no square image.")


def to_pixels(image: Image.Image, images: Images, name: str = "the image") -> NDArray[np.uint8]:
    """Turn an opened image into pixels: the first half of the preprocessing, everywhere.

    A JPEG more than four times too large is decoded at half, quarter or eighth size first, which
    costs a fraction of the time; it is still at least twice the asked size before the last resize.

    Args:
        image: as `PIL.Image.open` gives it.
        images: size and fit.
        name: what to call it in messages.

    Returns:
        uint8, shape (height, width, 3).

    Raises:
        ImageFault: if the image is truncated or broken.
    """
    height, width = images.size
    with _decoding(name):
        turned = _on_its_side(image)
        image.draft("RGB", (2 * height, 2 * width) if turned else (2 * width, 2 * height))
        image.load()
        upright = ImageOps.exif_transpose(image)
    colour = to_rgb(upright, name)
    if images.fit == "crop":
        sized = ImageOps.fit(colour, (width, height), Image.Resampling.BILINEAR)
    elif images.fit == "pad":
        sized = ImageOps.pad(colour, (width, height), Image.Resampling.BILINEAR)
    else:
        sized = colour.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(sized)


def upright_size(image: Image.Image, name: str = "the image") -> tuple[int, int]:
    """Height and width in pixels of an opened image once it is turned upright.

    Raises:
        ImageFault: if the image is truncated or broken.
    """
    width, height = image.size
    with _decoding(name):
        return (width, height) if _on_its_side(image) else (height, width)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Whatever goes wrong in Pillow is a fault of the image."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ImageFault("too_large", f"{name} is too large to decode safely") from error
    except Exception as error:  # decoders of broken files fail in many ways
        kind = "truncated" if "truncated" in str(error) else "unreadable"
        raise ImageFault(kind, f"{name} cannot be decoded: {error}") from error


def _on_its_side(image: Image.Image) -> bool:
    return image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # its orientation


def to_rgb(image: Image.Image, name: str = "the image") -> Image.Image:
    """Convert a decoded image to RGB; 16-bit grey is scaled, not clipped.

    Raises:
        ImageFault: if its values have no known range.
    """
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageFault(
            "unsupported", f"{name} has 32 bits a channel and no known scale. Save it with 8 bits"
        )
    return image.convert("RGB")


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
            "Run `lesionlab audit` for the whole list, then "
            "`lesionlab catalogue ... --exclude findings.csv` to leave them out.",
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
