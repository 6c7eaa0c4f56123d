"""Zips from strangers, unpacked whole or not at all, and never outside their folder."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from lesionlab.data.collections.http import check_disk
from lesionlab.errors import DownloadError
from lesionlab.files import cannot_write
from lesionlab.progress import Listener, Step

_BOMB_BYTES = 1 << 30  # an archive that unpacks to more than this ...
_BOMB_RATIO = 20  # ... and to more than this many times its own size is refused


def unpack(archive: Path, listen: Listener) -> tuple[Path, int, int]:
    """Unpack a zip into the folder beside it that is named like it.

    Everything goes to a hidden folder first and moves when it is whole, so an interrupted unpacking
    leaves nothing; files that are in the folder already stay, unless the archive has them too. A
    single folder of the same name inside the archive is not nested. `__MACOSX` and `.DS_Store` are
    left out.

    Args:
        archive: a zip.
        listen: told of progress in unpacked bytes.

    Returns:
        The folder, the number of files, and their bytes in all.

    Raises:
        DownloadError: if the archive is damaged, empty, would write outside its folder, holds links
            or devices, is encrypted, or is absurdly larger unpacked than packed.
        DataError: if the disk is full or the folder cannot be written.
    """
    target = archive.with_suffix("")
    hidden = archive.with_name(f".{archive.stem}.unpacking")
    try:
        shutil.rmtree(hidden, ignore_errors=True)
        with zipfile.ZipFile(archive) as opened:
            members = _members(opened, archive)
            total = sum(info.file_size for _, info in members)
            check_disk(archive.parent, total, f"unpacking {archive.name}")
            done = 0
            for parts, info in members:
                destination = hidden.joinpath(*parts)
                destination.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(info) as source, destination.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                done += info.file_size
                listen(Step(f"unpack {archive.name}", done, total, "bytes"))
        nested = {parts[0] for parts, _ in members} == {archive.stem} and all(
            len(parts) > 1 for parts, _ in members
        )
        _merge(hidden / archive.stem if nested else hidden, target)
        return target, len(members), total
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise DownloadError(
            f"{archive} is damaged ({error}). Delete it and run the same command again."
        ) from error
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _merge(source: Path, target: Path) -> None:
    """Move a finished folder to its place; into it, file by file, where it exists."""
    if not target.exists():
        source.rename(target)
        return
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


def _members(
    opened: zipfile.ZipFile, archive: Path
) -> list[tuple[tuple[str, ...], zipfile.ZipInfo]]:
    """The files of a zip with the parts of their paths, each proved to stay inside the folder."""
    members: dict[tuple[str, ...], zipfile.ZipInfo] = {}
    for info in opened.infolist():
        name = info.filename.replace("\\", "/")
        kind = stat.S_IFMT(info.external_attr >> 16)
        parts = tuple(each for each in name.split("/") if each not in ("", "."))
        if name.startswith("/") or ".." in parts or ":" in name:
            raise _unsafe(archive, f"{info.filename!r} would be written outside its folder")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _unsafe(archive, f"{info.filename!r} is a link or a device, not a file")
        if info.flag_bits & 0x1:
            raise _unsafe(archive, f"{info.filename!r} is encrypted")
        if not parts or name.endswith("/") or "__MACOSX" in parts or parts[-1] == ".DS_Store":
            continue
        members[parts] = info
    total = sum(info.file_size for info in members.values())
    if total > _BOMB_BYTES and total > _BOMB_RATIO * archive.stat().st_size:
        raise _unsafe(archive, f"its {archive.stat().st_size:,} bytes unpack to {total:,}")
    if not members:
        raise _unsafe(archive, "it holds no files")
    return list(members.items())


def _unsafe(archive: Path, reason: str) -> DownloadError:
    return DownloadError(
        f"{archive} was not unpacked: {reason}. Nothing was written. This is not what the "
        "publisher meant to share: delete the file, and do not unpack it by hand."
    )
