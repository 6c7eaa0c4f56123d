"""Which file, or which row, a table means by a name: exactly first, then by ordinary variations."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif",
    ".dcm", ".dicom", ".heic", ".heif", ".avif",
)  # fmt: skip
"""Suffixes that may stand behind an id; not all of them can be decoded."""


def without_suffix(name: str) -> str:
    """A name without the suffix of an image file; other dots belong to it."""
    return name[: name.rindex(".")] if name.lower().endswith(IMAGE_SUFFIXES) else name


def plain(name: str) -> str:
    """A name without what differs between programs.

    These are letter case, ways to write an accent (NFC, NFD), blanks around it, backslashes, and
    the ".0" behind a number that was read as a decimal.
    """
    words = unicodedata.normalize("NFC", name).strip().replace("\\", "/").casefold()
    parts = [part.strip() for part in without_suffix(words).split("/") if part not in ("", ".")]
    return re.sub(r"^(\d+)\.0+$", r"\1", "/".join(parts))


def spelled_otherwise(asked: str, found: str) -> str:
    """In which way two names of one `plain` form differ, in words."""
    pairs: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("blanks", str.strip),
        ("backslashes", lambda text: text.replace("\\", "/")),
        ("the way accents are written", lambda text: unicodedata.normalize("NFC", text)),
        ("letter case", str.casefold),
        ("a .0 behind the number", lambda text: re.sub(r"^(\d+)\.0+$", r"\1", text)),
    )
    a, b = without_suffix(asked.strip()), without_suffix(found)
    ways = ["blanks"] if asked != asked.strip() else []
    for way, same in pairs:
        if a != b and (same(a), same(b)) != (a, b):
            ways.append(way)
            a, b = same(a), same(b)
    return " and ".join(dict.fromkeys(ways)) or "spelling"


@dataclass(frozen=True)
class Found:
    """What a name may mean.

    Attributes:
        names: of those searched; more than one where it is ambiguous, none where nothing fits.
        exact: whether the name stands there letter by letter, suffix and folders apart.
    """

    names: tuple[str, ...]
    exact: bool = True


class Finder:
    """Finds paths or ids by the names that a table uses for them.

    Args:
        names: paths with "/", or ids; each once.
    """

    def __init__(self, names: Iterable[str]) -> None:
        names = list(names)
        self._exact = _index(names, _last)
        self._stems = _index(names, lambda name: without_suffix(_last(name)))
        self._plain = _index(names, lambda name: plain(_last(name)))

    def find(self, name: str) -> Found:
        """Look a name up: with its suffix, without, and then in its plain form.

        A name with folders in it fits only what lies in such folders.
        """
        for index, key, exact in (
            (self._exact, _last(name), True),
            (self._stems, without_suffix(_last(name)), True),
            (self._plain, plain(_last(name.replace("\\", "/"))), False),
        ):
            found = [each for each in index.get(key, ()) if _in_folders(name, each, exact)]
            if found:
                return Found(tuple(found), exact)
        return Found(())


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _index(names: Sequence[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(key(name), []).append(name)
    return found


def _in_folders(asked: str, found: str, exact: bool) -> bool:
    """Whether the folders that a name tells are those that a path ends with."""
    asked, found = (asked, found) if exact else (plain(asked), plain(found))
    folders = asked.rpartition("/")[0].removeprefix("./").strip("/")
    return not folders or f"/{found.rpartition('/')[0]}".endswith(f"/{folders}")


def said(ways: Iterable[str], what: str) -> str:
    """One sentence on names that were found by variations: how many, and which ways."""
    counts = Counter(ways)
    listed = ", ".join(f"{count} by {way}" for way, count in counts.most_common())
    return f"{counts.total()} {what} differ from the names found only in ordinary ways: {listed}."
