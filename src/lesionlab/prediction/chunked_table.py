"""A long table that is written in parts, so that whatever stops it costs one part at most.

Beside `predictions.csv` lies the folder `predictions.csv.parts`. Its predict.json says what the
table is of; until it is finished the folder holds its rows, a file per chunk.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import pandas as pd

from lesionlab.errors import DataError, RunError, SettingsError
from lesionlab.files import discard, hash_file, read_json, replacing, write_json, write_text
from lesionlab.run import holds, identity_differences, refuse_differences

DEFAULT = "predictions.csv"
"""The table where no other is named."""

STATE = "predict.json"
FIRST = 20
"""Rows that `Parts.head` gives."""

_Row = Sequence[Any]


@dataclass(frozen=True)
class Parts:
    """The parts of a table.

    Attributes:
        out: the table, .csv or .parquet.
        columns: its columns; `reason` and `error` are among them.
        rows: how many it will have.
        chunk: rows of a part; the last one may be shorter.
    """

    out: Path
    columns: tuple[str, ...]
    rows: int
    chunk: int

    @property
    def folder(self) -> Path:
        """Where the parts lie."""
        return self.out.with_name(f"{self.out.name}.parts")

    def check(self, identity: Mapping[str, Any]) -> None:
        """Make sure that the table can be taken up, or begun, without anything being lost.

        Args:
            identity: everything that decides what the table will be, as plain values.

        Raises:
            RunError: if it was begun otherwise, with every difference; if the table was changed
                since, or is of something else.
        """
        if not holds(self.folder, STATE):
            if self.out.exists():
                raise RunError(
                    f"{self.out} is there, and this command did not write it. Choose another file "
                    "with --out, or overwrite it with --fresh."
                )
            return
        if self._removed():
            return
        state = read_json(self.folder / STATE)
        refuse_differences(self.out, identity_differences(state["identity"], identity), "file")
        if state["table"] and hash_file(self.out) != state["table"]["sha256"]:
            raise RunError(
                f"{self.out} was changed since it was written. Choose another file with --out, or "
                "make it again with --fresh."
            )

    def begin(self, identity: Mapping[str, Any], *, fresh: bool) -> bool:
        """Take up the table, or begin it.

        Args:
            identity: see `check`.
            fresh: discard what is there.

        Returns:
            Whether it is finished already.

        Raises:
            RunError: see `check`.
        """
        if fresh:
            discard(self.folder)
        self._sweep()
        if not fresh:
            self.check(identity)
        if not holds(self.folder, STATE) or self._removed():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / STATE, {"identity": dict(identity), "table": None})
        return bool(read_json(self.folder / STATE)["table"])

    def missing(self) -> list[int]:
        """Numbers of the parts that are still to be written."""
        done = {each.name for each in self.folder.iterdir()}
        count = -(-self.rows // self.chunk)
        return [number for number in range(count) if _name(number) not in done]

    def write(self, number: int, rows: Sequence[_Row]) -> None:
        """Write a part, whole or not at all."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(map(_printable, row) for row in rows)
        write_text(self.folder / _name(number), text.getvalue())

    def finish(self) -> dict[str, int]:
        """Put the table together; the parts are gone then.

        Returns:
            How many rows have each reason, "" among them.

        Raises:
            DataError: if not one image could be read; then nothing is left.
            RunError: if a part is damaged.
        """
        reason, error = self.columns.index("reason"), self.columns.index("error")
        tally: Counter[str] = Counter()
        fault = ""
        with replacing(self.out) as path:
            with ExitStack() as stack:
                write = (_parquet if _is_parquet(self.out) else _csv)(path, self.columns, stack)
                for number in range(-(-self.rows // self.chunk)):
                    content = (self.folder / _name(number)).read_bytes().decode()
                    rows = list(csv.reader(io.StringIO(content, newline="")))
                    if len(rows) != min(self.chunk, self.rows - number * self.chunk):
                        raise RunError(
                            f"{self.folder / _name(number)} is damaged. Remove it and give the "
                            "same command again."
                        )
                    write(content, rows)
                    tally.update(row[reason] for row in rows)
                    fault = fault or rows[0][error]
            if tally["unreadable"] == self.rows:
                discard(self.folder)
                raise DataError(f"None of the {self.rows} images can be read. The first: {fault}.")
        state = read_json(self.folder / STATE)
        told = {"rows": self.rows, "sha256": hash_file(self.out), "reasons": dict(tally)}
        write_json(self.folder / STATE, {**state, "table": told})
        for number in range(-(-self.rows // self.chunk)):
            (self.folder / _name(number)).unlink(missing_ok=True)
        return dict(tally)

    def reasons(self) -> dict[str, int]:
        """Of a finished table, how many rows have each reason, "" among them."""
        found: dict[str, int] = read_json(self.folder / STATE)["table"]["reasons"]
        return found

    def head(self) -> pd.DataFrame:
        """The first rows of a finished table, numbers as numbers and missing text as ""."""
        return read_rows(self.out, self.columns, FIRST)

    def _removed(self) -> bool:
        """Whether the table was finished, and somebody has removed it since."""
        return bool(read_json(self.folder / STATE)["table"]) and not self.out.is_file()

    def _sweep(self) -> None:
        """Remove what somebody who was killed had half written."""
        half = f".{self.out.name}."
        for folder, start in ((self.out.parent, half), (self.folder, ".")):
            for each in folder.iterdir() if folder.is_dir() else ():
                if each.name.startswith(start) and each.name.endswith(".part"):
                    each.unlink(missing_ok=True)


class Kept:
    """The parts of a table that stays in memory, in the place of `Parts`.

    Args:
        columns: of the table.
        rows: how many it will have.
    """

    chunk = 128

    def __init__(self, columns: tuple[str, ...], rows: int) -> None:
        self.columns = columns
        self.rows = rows
        self._written: list[_Row] = []

    def missing(self) -> list[int]:
        """Numbers of all parts."""
        return list(range(-(-self.rows // self.chunk)))

    def write(self, number: int, rows: Sequence[_Row]) -> None:  # noqa: ARG002 - they come in order
        """Keep a part."""
        self._written += rows

    def table(self) -> pd.DataFrame:
        """All rows that were written."""
        return pd.DataFrame(self._written, columns=list(self.columns))


def read_rows(path: Path, columns: Sequence[str], most: int | None = None) -> pd.DataFrame:
    """Rows of a finished table, numbers as numbers and missing text as "".

    Args:
        path: of the table.
        columns: of it.
        most: how many rows; None: all.
    """
    if _is_parquet(path):
        from pyarrow import parquet

        file = parquet.ParquetFile(path)
        made = file.read() if most is None else next(file.iter_batches(most))
        return pd.DataFrame(made.to_pylist(), columns=list(columns))
    with path.open(encoding="utf-8", newline="") as handle:
        rows = [
            [_value(name, cell) for name, cell in zip(columns, row, strict=True)]
            for row in islice(csv.reader(handle), 1, None if most is None else most + 1)
        ]
    return pd.DataFrame(rows, columns=list(columns))


def free_name(identity: Mapping[str, Any]) -> Path:
    """predictions.csv in the current folder, or predictions-2.csv, -3, ...: one of nothing else.

    Args:
        identity: everything that decides what the table will be, as plain values.
    """
    out = Path(DEFAULT)
    for number in count(2):
        try:
            Parts(out, (), 0, 1).check(identity)
        except RunError:
            out = out.with_stem(f"{Path(DEFAULT).stem}-{number}")
        else:
            break
    return out


def check_name(out: Path) -> None:
    """Make sure that a table of this name can be written.

    Raises:
        SettingsError: if it is neither CSV nor Parquet, or pyarrow is not installed.
    """
    if out.suffix.lower() not in (".csv", ".parquet"):
        raise SettingsError(f"{out}: the table is written as CSV or Parquet; end its name so.")
    if out.is_dir():
        raise SettingsError(f"{out} is a folder. Name a file in it.")
    if _is_parquet(out):
        try:
            import pyarrow.parquet  # noqa: F401 - now, and not after hours
        except ImportError as error:
            raise SettingsError(
                f"Writing {out} needs pyarrow: pip install pyarrow. Or take --out "
                f"{out.with_suffix('.csv')}."
            ) from error


def _printable(cell: Any) -> Any:
    """A cell as any reader of CSV takes it: a file's name may be of any bytes."""
    if isinstance(cell, str):
        return cell.replace("\r", "\\r").encode("utf-8", "backslashreplace").decode()
    return "" if cell != cell else cell  # nan


def _name(number: int) -> str:
    return f"{number:07d}.csv"


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _is_number(column: str) -> bool:
    named = column in ("novelty", "malignancy")
    return named or column.startswith(("p_", "logit_")) or column.endswith("_p")


def _value(column: str, text: str) -> Any:
    """A cell of a CSV table as its column has it."""
    if _is_number(column):
        return float(text) if text else float("nan")
    return text == "True" if column == "refer" else text


_Write = Callable[[str, list[list[str]]], None]


def _csv(path: Path, columns: Sequence[str], stack: ExitStack) -> _Write:
    handle = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
    csv.writer(handle, lineterminator="\n").writerow(columns)

    def write(content: str, _rows: list[list[str]]) -> None:
        handle.write(content)

    return write


def _parquet(path: Path, columns: Sequence[str], stack: ExitStack) -> _Write:
    import pyarrow
    from pyarrow import parquet

    def kind(column: str) -> Any:
        if _is_number(column):
            return pyarrow.float64()
        return pyarrow.bool_() if column == "refer" else pyarrow.string()

    schema = pyarrow.schema([(name, kind(name)) for name in columns])
    writer = stack.enter_context(parquet.ParquetWriter(path, schema))

    def write(_content: str, rows: list[list[str]]) -> None:
        by_column: Iterator[tuple[str, ...]] = zip(*rows, strict=True)
        arrays = [
            [_value(name, text) for text in cells]
            for name, cells in zip(columns, by_column, strict=True)
        ]
        table = pyarrow.table(dict(zip(columns, arrays, strict=True)), schema=schema)
        writer.write_table(table)

    return write
