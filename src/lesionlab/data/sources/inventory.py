"""What lies in a folder: every file once, as a photograph, a table, or left out for a reason."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from lesionlab.data.images.decode import decodable
from lesionlab.data.sources.matching import IMAGE_SUFFIXES
from lesionlab.errors import DataError
from lesionlab.tables import TABLE_SUFFIXES, header

OWN_FILES = ("catalogue.csv", "split.csv", "findings.csv", "pairs.csv", "predictions.csv")
"""Tables that lesionlab writes, which are no source of anything."""
_SYSTEM = ("__macosx", "thumbs.db", "desktop.ini")
_MASK = re.compile(r"_(segmentation|superpixels|mask)$", re.IGNORECASE)
_MASK_BESIDE = re.compile(
    r"(.+?)[ _-]?(segmentations?|superpixels?|masks?|segm?|contour|lesion|gt)", re.IGNORECASE
)
"""Names of masks that are only such where the image with the rest of the name lies beside them."""
_LOSSY = (".jpg", ".jpeg", ".jfif", ".heic", ".heif", ".webp")
HIDDEN, IGNORED, MASK, OTHER = "hidden", "ignored as asked", "a mask", "no image"
CANNOT = "cannot be decoded here"


@dataclass(frozen=True)
class TableFile:
    """A table and its columns' heads, read without its rows."""

    path: Path
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Inventory:
    """Every file below a folder.

    Attributes:
        folder: that was searched; links in it are followed.
        images: photographs that can be decoded, relative to `folder`, in alphabetical order.
        left_out: all other files, relative to `folder`, with the reason.
        tables: those of them that are tables, with their heads; none that lesionlab wrote.
    """

    folder: Path
    images: tuple[str, ...]
    left_out: Mapping[str, str]
    tables: tuple[TableFile, ...]

    @property
    def files(self) -> int:
        """How many files there are."""
        return len(self.images) + len(self.left_out)

    def undecoded(self) -> str:
        """One sentence on images that this installation cannot decode; "" where there are none."""
        suffixes = Counter(
            Path(path).suffix.lower() for path, why in self.left_out.items() if why == CANNOT
        )
        if not suffixes:
            return ""
        listed = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())
        heic = {".heic", ".heif"} & set(suffixes)
        way = "pip install 'lesionlab[heic]' reads .heic. " if heic else ""
        return f"Left out, since they cannot be decoded here: {listed}. {way}Or save them as JPEG."


def take_inventory(folder: Path, ignore: Sequence[str] = ()) -> Inventory:
    """List every file below a folder, hidden ones and those behind links included.

    Args:
        folder: to search.
        ignore: folders in it, by their way from it or by their name, whose files are left out; or
            patterns of files, such as "*mask.png".

    Raises:
        DataError: if a folder cannot be searched, or one to ignore is not there.
    """
    unused = {each.strip("/").casefold(): each for each in ignore}
    asked = dict(unused)
    images: list[str] = []
    left_out: dict[str, str] = {}
    tables: list[TableFile] = []
    for path, hidden in _files(folder, (), hidden=False):
        name = path.relative_to(folder).as_posix()
        suffix = path.suffix.lower()
        above = [part.casefold() for part in name.split("/")[:-1]]
        ways = {"/".join(above[: depth + 1]) for depth in range(len(above))}
        here = {*above, *ways, *_patterns(asked, name.casefold())}
        if ignored := asked.keys() & here:
            left_out[name] = IGNORED
            for each in ignored:
                unused.pop(each, None)
        elif hidden:
            left_out[name] = HIDDEN
        elif suffix in IMAGE_SUFFIXES and _MASK.search(path.stem):
            left_out[name] = MASK
        elif suffix in IMAGE_SUFFIXES:
            if suffix in decodable():
                images.append(name)
            else:
                left_out[name] = CANNOT
        else:
            left_out[name] = OTHER
            bare = re.fullmatch(r"HAM10000_?metadata", path.name, re.IGNORECASE)
            if path.name not in OWN_FILES and (path.name.lower().endswith(TABLE_SUFFIXES) or bare):
                tables.append(TableFile(path, header(path)))
    if unused:
        raise DataError(
            f"{folder} has no folder and no file {', '.join(unused.values())} to ignore. A pattern "
            "of files has a *, such as '*mask.png'."
        )
    masks = _masks_beside(images)
    left_out |= dict.fromkeys(masks, MASK)
    taken = tuple(sorted(each for each in images if each not in masks))
    return Inventory(folder, taken, left_out, tuple(tables))


def _patterns(asked: Iterable[str], name: str) -> list[str]:
    """Those of some words that are patterns which fit a file."""
    last = name.rpartition("/")[2]
    return [
        each
        for each in asked
        if "*" in each and (fnmatchcase(name, each) or fnmatchcase(last, each))
    ]


def _masks_beside(images: Sequence[str]) -> set[str]:
    """Images named as the mask of another one in the same folder: A1mask.png beside A1.png.

    "lesion", "seg", "contour" and "gt" may be part of a photograph's name, too: such a file is a
    mask only where it is stored without loss, as no camera does.
    """
    stems = {each.rpartition(".")[0].casefold() for each in images}
    found = set()
    for each in images:
        above, _, name = each.rpartition("/")
        stem, _, suffix = name.rpartition(".")
        match = _MASK_BESIDE.fullmatch(stem)
        if match is None or f"{above}/{match[1]}".strip("/").casefold() not in stems:
            continue
        plain = match[2].casefold().startswith(("mask", "segmentation", "superpixel"))
        if plain or f".{suffix.casefold()}" not in _LOSSY:
            found.add(each)
    return found


def _files(
    folder: Path, above: tuple[tuple[int, int], ...], *, hidden: bool
) -> Iterator[tuple[Path, bool]]:
    """Files of a folder and those below it, with whether they are hidden."""
    try:
        at = folder.stat()
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda each: each.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be searched ({error.strerror}).") from error
    for each in listed:
        path = folder / each.name
        concealed = hidden or each.name.startswith(".") or each.name.lower() in _SYSTEM
        if not each.is_dir():
            yield path, concealed
        else:
            below = path.stat()
            key = (below.st_dev, below.st_ino)
            if key not in above and key != (at.st_dev, at.st_ino):  # a link to where it lies
                yield from _files(path, (*above, (at.st_dev, at.st_ino)), hidden=concealed)
