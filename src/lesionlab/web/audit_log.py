"""The audit trail: who asked when about which image, and what the answer was.

It keeps hashes of images and of keys, and never an image, a file's name or a key.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionlab.advice import command
from lesionlab.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("time", "key", "sha256", "model", "predicted", "reason", "error", "answer")
_SWEEP = 3600  # seconds between two looks for rows that are too old
_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    key TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    model TEXT NOT NULL,
    predicted TEXT NOT NULL,
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    answer TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_time ON answers (time);
"""


def short_hash(key: str) -> str:
    """12 hexadecimal digits that stand for an API key; "" stays ""."""
    return hashlib.sha256(key.encode()).hexdigest()[:12] if key else ""


class Trail:
    """A SQLite file that keeps answers for some days.

    Args:
        path: of the file; made if it is not there, readable by its owner alone.
        retention: days after which rows are deleted, and overwritten on the disk.

    Raises:
        DataError: if it cannot be opened or is something else.
    """

    def __init__(self, path: Path, retention: int) -> None:
        self.path, self._retention = path, timedelta(days=retention)
        self._thread = ThreadPoolExecutor(1, "trail")
        self._swept = 0.0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._base = sqlite3.connect(path, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._base.execute("PRAGMA secure_delete = ON")
            self._base.executescript(_TABLE)
            self._base.commit()
        except (OSError, sqlite3.Error) as error:
            raise _unusable(path, error) from error
        self._sweep()

    def write(self, key: str, model: str, answers: list[tuple[str, dict[str, Any]]]) -> None:
        """Keep answers, all or none; returns when they are on the disk.

        Args:
            key: short hash of the API key; "" = none was asked for.
            model: fingerprint of the bundle.
            answers: SHA-256 of an image and what was answered about it.

        Raises:
            DataError: if they cannot be kept.
        """
        self._thread.submit(self._write, key, model, answers).result()

    def close(self) -> None:
        """Finish writing and close the file."""
        self._thread.shutdown()
        self._base.close()

    def _write(self, key: str, model: str, answers: list[tuple[str, dict[str, Any]]]) -> None:
        now = _stamp(datetime.now(UTC))
        rows = [(now, key, sha256, model, *_kept(each)) for sha256, each in answers]
        try:
            with self._base:
                self._base.executemany(
                    f"INSERT INTO answers ({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    rows,
                )
            if time.monotonic() - self._swept > _SWEEP:
                self._sweep()
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from error

    def _sweep(self) -> None:
        self._swept = time.monotonic()
        forget(self._base, datetime.now(UTC) - self._retention)


def forget(base: sqlite3.Connection, before: datetime) -> int:
    """Delete the rows of a trail that are older than a moment; gives how many."""
    with base:
        gone = base.execute("DELETE FROM answers WHERE time < ?", (_stamp(before),)).rowcount
    base.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else the rows would live on in the log
    return gone


def trail_table(path: Path, since: datetime | None = None) -> pd.DataFrame:
    """An audit trail as a table, the oldest first; a server may be writing to it meanwhile.

    Args:
        path: of the file.
        since: leave out what is older.

    Returns:
        Columns time (UTC), key, sha256, model, predicted, reason, error and answer (JSON: the
        probability of each class, and the conformal set).

    Raises:
        DataError: if there is none, or it is something else.
    """
    import pandas as pd

    if not path.is_file():
        raise DataError(f"{path} does not exist. Make one: {command('serve', audit=path)}")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
            rows = base.execute(
                f"SELECT {', '.join(COLUMNS)} FROM answers WHERE time >= ? ORDER BY id",
                ("" if since is None else _stamp(since),),
            ).fetchall()
    except sqlite3.Error as error:
        raise _unusable(path, error) from error
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _kept(answer: dict[str, Any]) -> tuple[str, str, str, str]:
    probabilities = {each["label"]: each["probability"] for each in answer["classes"]}
    text = (
        json.dumps({"probabilities": probabilities, "set": answer["set"]}) if probabilities else ""
    )
    error = answer["error"]["kind"] if answer["error"] else ""
    return answer["predicted"] or "", answer["reason"], error, text


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _unusable(path: Path, error: Exception) -> DataError:
    return DataError(f"The audit trail {path} cannot be used: {error}. Name another file.")
