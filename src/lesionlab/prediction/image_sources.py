"""Where images to predict come from: files, folders, patterns or a catalogue, in a stable order."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lesionlab.data.catalogue.catalogue import FILE_NAME, Catalogue
from lesionlab.data.images.decode import HEIC, decodable
from lesionlab.data.images.dicom import is_dicom_file
from lesionlab.errors import DataError, SettingsError


@dataclass(frozen=True, eq=False)
class Sources:
    """Images that are to be predicted.

    Attributes:
        paths: each once, in order; those of a catalogue relative to its root.
        root: folder that they are relative to.
        catalogue: that they are of; None: they are files.
        fingerprint: 16 hexadecimal digits over paths, sizes and times of change.
        repeated: how many were given more than once.
    """

    paths: list[str]
    root: Path
    catalogue: Catalogue | None
    fingerprint: str
    repeated: int = 0


def open_sources(given: Sequence[str | Path]) -> Sources:
    """Look up all images, before the first is read.

    Args:
        given: files, folders (searched through), patterns such as "photos/**/*.jpg", or the folder
            of a catalogue by itself.

    Raises:
        DataError: if something is not there, or there is no image at all.
        SettingsError: if a catalogue stands beside other sources.
    """
    catalogues = [each for each in given if _is_catalogue(Path(each))]
    if catalogues and len(given) > 1:
        raise SettingsError(
            f"{catalogues[0]} holds a catalogue. Give it by itself, or images without it."
        )
    if catalogues:
        data = Catalogue.open(catalogues[0])
        paths = [str(each) for each in data.table["path"]]
        return Sources(paths, data.root, data, _fingerprint(paths, data.root))
    found = [os.path.normpath(each) for each in files_of(given)]
    paths = list(dict.fromkeys(found))
    return Sources(paths, Path(), None, _fingerprint(paths, Path()), len(found) - len(paths))


def files_of(given: Sequence[str | Path]) -> Iterator[str]:
    """Image files in the order given; those of a folder or a pattern by their names.

    A file that is named is taken whatever it is. Folders are searched through for files with one of
    `decodable()` and HEIC, and for DICOM files without any; what is hidden in them is left out.

    Args:
        given: files, folders and patterns.

    Raises:
        DataError: if something is not there, a folder holds no image, or nothing is given.
    """
    if not given:
        raise DataError("Give at least one image file or folder.")
    for each in given:
        name = str(each)
        matching = [name]
        if not os.path.lexists(name) and glob.has_magic(name):
            matching = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - absolute ones, too
            if not matching:
                raise DataError(f"Nothing matches {name}.")
        for path in matching:
            yield from _files_at(path, named=path == name)


def _files_at(path: str, *, named: bool) -> Iterator[str]:
    if Path(path).is_file():
        yield path
    elif Path(path).is_dir():
        empty = True
        for file in _inside(path, ()):
            empty = False
            yield file
        if empty and named:  # a pattern may match folders without images
            raise DataError(f"{path} holds no images ({', '.join(decodable())}).")
    else:
        raise DataError(f"{path} does not exist. Give image files or folders of images.")


def _inside(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Image files of a folder and those below it, one folder at a time."""
    try:
        at = Path(folder).stat()
        if (at.st_dev, at.st_ino) in above:  # a link to where it lies
            return
        with os.scandir(folder) as entries:
            listed = sorted(
                (each.name, each.is_dir()) for each in entries if not each.name.startswith(".")
            )
    except OSError as error:
        raise DataError(f"{folder} cannot be searched ({error.strerror}).") from error
    for name, is_folder in listed:
        path = os.path.join(folder, name)  # noqa: PTH118 - of hundreds of thousands
        if is_folder:
            yield from _inside(path, (*above, (at.st_dev, at.st_ino)))
        elif name.lower().endswith((*decodable(), *HEIC)) or (
            "." not in name and is_dicom_file(path)
        ):
            yield path


def _is_catalogue(path: Path) -> bool:
    return (path / FILE_NAME).is_file() or (path.name == FILE_NAME and path.is_file())


def _fingerprint(paths: Sequence[str], root: Path) -> str:
    """Over paths, sizes and times; a file that is not there counts, too."""
    digest = hashlib.sha256()
    for path in paths:
        file = path.rpartition("#")[0] or path  # a row of an array
        try:
            found = os.stat(os.path.join(root, file))  # noqa: PTH116, PTH118
            facts = f"{found.st_size} {found.st_mtime_ns}"
        except (OSError, ValueError):
            facts = "missing"
        digest.update(f"{path}\0{facts}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]
