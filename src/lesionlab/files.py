"""Files and folders written whole or not at all, locks between processes, content hashes."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionlab.errors import DataError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` only if the block ends well.

    A crash or an error leaves the old file as it was and no new one.

    Raises:
        DataError: if the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise cannot_write(path, error) from error
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> DataError:
    """Say in one sentence why `path` could not be written and what helps."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"The disk is full: {path} was not written, and nothing half written was left. "
            "Free some space, or choose a folder on another disk, and run the same command again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DataError(
            f"{path} may not be written ({error.strerror}). Choose another folder with --out."
        )
    return DataError(f"{path} could not be written: {error.strerror or error}.")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a path beside `folder`; what is made there becomes `folder` if the block ends well.

    `folder` may be there if it is empty by the end of the block.

    Raises:
        DataError: if it is the current folder, which cannot be replaced.
    """
    folder = _replaceable(folder)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    yield part
    part.replace(folder)


def discard(folder: Path) -> None:
    """Remove a folder and all that is in it: gone at once, whatever stops us.

    Raises:
        DataError: if it is the current folder.
    """
    folder = _replaceable(folder)
    old = folder.with_name(f".{folder.name}.old")
    if old.exists():  # of a removal that was killed
        shutil.rmtree(old)
    if folder.exists():
        shutil.rmtree(folder.replace(old))


def _replaceable(folder: Path) -> Path:
    folder = folder.resolve()
    if folder == Path.cwd() or folder.parent == folder:
        raise DataError(
            f"{folder} is the current folder, which cannot be replaced. Name a folder in it with "
            "--out, or give the command from another one."
        )
    return folder


@contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keep other processes, and threads, out of a block; a dead holder lets go by itself.

    Args:
        path: of the lock file, gone again after the block.
        waiting: called once if somebody else has the lock.

    Raises:
        DataError: if the file cannot be written.
    """
    told = False
    while (handle := _try_lock(path)) is None:
        if not told:
            waiting()
            told = True
        time.sleep(0.1)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            path.unlink()
        os.close(handle)


def _try_lock(path: Path) -> int | None:
    """The open and locked file; None if somebody else has it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            os.close(handle)
            return None
        return handle  # a file system without locks
    try:
        if os.path.samestat(path.stat(), os.fstat(handle)):
            return handle
    except FileNotFoundError:
        pass
    os.close(handle)  # removed by its holder after it was opened here
    return None


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: if it is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not the JSON that lesionlab wrote: {error}.") from error


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV with every digit of its floats, whole or not at all."""
    with replacing(path) as part:
        table.to_csv(part, index=False, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """SHA-256, 16 hexadecimal digits, of a value's canonical JSON.

    Equal values give equal fingerprints whatever the order of their keys.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
