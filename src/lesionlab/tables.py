"""The columns of every table, and checks that report all faults at once, grouped by column."""

from __future__ import annotations

import codecs
import csv
import gzip
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TextIO, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesionlab.errors import DataError, FindingsError

CATALOGUE = (
    "image_id",  # unique name of the image
    "path",  # file, relative to the root; "name.npz#images/3" or "name.csv#3" for a row of an array
    "target",  # diagnosis, one of the catalogue's classes
    "lesion_id",  # images of one lesion share it; "" = unknown
    "patient_id",  # "" = unknown
    "dx_type",  # histo | follow_up | consensus | confocal | "" = unknown
    "age",  # years; NaN = unknown
    "sex",  # male | female | "" = unknown
    "site",  # where on the body, in the source's words; "" = unknown
    "source",  # the collection that the image came from
    "part",  # train | val | test where the source has an official split, else ""
    "width",  # pixels as stored; NaN where the file cannot be read
    "height",
    "bytes",  # size of the file
    "sha256",  # of the file, or of the pixels where many images share a file
)

FINDINGS = ("severity", "kind", "column", "image_id", "path", "detail", "exclude")
Severity = Literal["error", "warning", "note"]

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
OLDEST = 120
"""Years; no age of a person is above."""


@dataclass(frozen=True)
class Finding:
    """One fault of one row.

    Attributes:
        kind: machine-readable name, such as "truncated".
        detail: what is wrong, for people.
        severity: "error" stops `catalogue`; "warning" makes `audit` end with 1; "note" neither.
        column: the column at fault.
        image_id: the image, or "" where the fault belongs to none.
        path: the file, relative to the data folder.
        exclude: whether `catalogue --exclude findings.csv` leaves the image out.
    """

    kind: str
    detail: str
    severity: Severity = "error"
    column: str = ""
    image_id: str = ""
    path: str = ""
    exclude: bool = False


def findings_table(rows: Iterable[Finding]) -> pd.DataFrame:
    """A table of findings, errors first, otherwise in the order given."""
    table = pd.DataFrame([asdict(row) for row in rows], columns=list(FINDINGS))
    rank = table["severity"].map({"error": 0, "warning": 1, "note": 2})
    return table.iloc[np.argsort(rank.to_numpy(), kind="stable")].reset_index(drop=True)


def describe(findings: pd.DataFrame, examples: int = 3) -> str:
    """Tell all findings in a few lines, grouped by column and kind, with examples of each."""
    lines: list[str] = []
    for column, of_column in findings.groupby("column", sort=False):
        lines.append(f"  {str(column) or 'table'}")
        for kind, group in of_column.groupby("kind", sort=False):
            details = [str(detail) for detail in group["detail"].unique()]
            shown = "; ".join(details[:examples])
            more = f"; and {len(details) - examples} more" if len(details) > examples else ""
            lines.append(f"    {kind!s} ({len(group)}): {shown}{more}")
    return "\n".join(lines)


TABLE_SUFFIXES = (
    ".csv", ".tsv", ".tab", ".txt", ".csv.gz", ".tsv.gz", ".xlsx", ".xls", ".ods", ".jsonl",
    ".parquet",
)  # fmt: skip
"""Suffixes of files that may be tables; of some only how to make them one is said."""
_OTHERS = {
    ".xlsx": "a spreadsheet: save its sheet as CSV",
    ".xls": "a spreadsheet: save its sheet as CSV",
    ".ods": "a spreadsheet: save its sheet as CSV",
    ".json": "JSON: write a CSV with a row per image",
    ".jsonl": "JSON: write a CSV with a row per image",
    ".parquet": "Parquet: save it as CSV",
}
_SEPARATORS = (",", "\t", ";", "|")


def no_csv(path: Path) -> str:
    """What a table is that is no CSV, and how to make it one; "" for what may be one."""
    return _OTHERS.get(path.suffix.lower(), "")


def header(path: Path) -> tuple[str, ...]:
    """The column heads of a table, or () where its first line is none; reads no rows."""
    if no_csv(path):
        return ()
    try:
        with _opened(path) as handle:
            line, separator = _header_line(handle)
        heads = next(csv.reader([line], delimiter=separator or _separator(line)), [])
    except (OSError, ValueError, csv.Error, zlib.error):
        return ()
    return tuple(each.strip() for each in heads)


def read_csv(
    path: Path,
    required: Sequence[str] = (),
    separator: str | None = None,
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read a CSV or tab-separated table as text, empty cells as "".

    Takes UTF-8 and UTF-16, the first line "sep=;" of spreadsheet programs, and .gz.

    Args:
        path: the file.
        required: columns that it must have.
        separator: ",", ";", "|" or a tab; None looks at the header line.
        names: of the columns of a table that has no header line.

    Raises:
        DataError: if the file is missing, empty or not a table, or a column stands there twice.
        FindingsError: if columns are missing (all of them are named).
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist. Check the path.")
    if other := no_csv(path):
        raise DataError(f"{path} is {other} (UTF-8), and give that file.")
    try:
        with _opened(path) as handle:
            first, said = _header_line(handle)
            if first.lstrip().startswith("<"):
                raise ValueError("it is a web page or XML; a download may have failed")
            separator = separator or said or _separator(first)
            if not first.strip() or "\x00" in first:
                raise ValueError("its first line is not a header")
            if names is None and (
                twice := _twice(
                    name.strip() for name in next(csv.reader([first], delimiter=separator))
                )
            ):
                raise ValueError(f"it has two columns called {twice[0]!r}; leave one out")
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                table: pd.DataFrame = pd.read_csv(  # type: ignore[call-overload]
                    _Again(first, handle),
                    sep=separator,
                    dtype=str,
                    keep_default_na=False,
                    names=None if names is None else list(names),
                    index_col=False,  # rows longer than the header must not shift its columns
                )
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile, pd.errors.ParserWarning) as error:
        raise DataError(
            f"{path} is not a CSV table ({_first_line(error)}). "
            "Save it as comma-separated UTF-8 text with one header line, and run again."
        ) from error
    table.columns = [str(name).strip() for name in table.columns]
    missing = [name for name in required if name not in table.columns]
    if missing:
        rows = [
            Finding("missing_column", f"{path.name} has no column {name!r}", column=name)
            for name in missing
        ]
        raise FindingsError(
            f"{path} lacks {len(missing)} of the columns it needs: {', '.join(missing)}. "
            f"It has: {', '.join(map(str, table.columns))}. {_way_out(table, missing)}",
            findings_table(rows),
        )
    return table


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """A table's text, unpacked if it is packed, in the encoding that its first bytes tell."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as handle:
        start = handle.read(2)
    encoding = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    with opener(path, "rt", encoding=encoding, newline="") as text:
        yield cast(TextIO, text)


def _header_line(handle: TextIO) -> tuple[str, str | None]:
    """The line with the column heads, and the separator that a line "sep=;" before it tells."""
    first = handle.readline()
    said = re.fullmatch(r"\"?sep=(.)\"?\s*", first, re.IGNORECASE)
    return (handle.readline(), said[1]) if said else (first, None)


def _separator(line: str) -> str:
    """The separator that parts a header line into the most columns."""
    return max(_SEPARATORS, key=lambda mark: len(next(csv.reader([line], delimiter=mark), [])))


class _Again:
    """A text whose first line was read already, from that line on; pandas reads such."""

    def __init__(self, first: str, rest: TextIO) -> None:
        self._first, self._rest = first, rest

    def read(self, size: int = -1) -> str:
        """The next characters, at least as many as asked if there are."""
        first, self._first = self._first, ""
        return first + self._rest.read(size)

    def __iter__(self) -> Iterator[str]:
        return iter(self.read().splitlines(keepends=True))


def _way_out(table: pd.DataFrame, missing: Sequence[str]) -> str:
    """What helps a table that lacks columns."""
    if list(missing) == ["target"] and any(str(name).startswith("p_") for name in table.columns):
        return (
            "These are predictions of images whose diagnosis nobody told: make a catalogue of them "
            "(`lesionlab catalogue`) and predict that (`lesionlab predict --data`)."
        )
    return (
        "Rename them, or tell `lesionlab catalogue` which is which with --columns image_id=... "
        "target=..."
    )


def _twice(names: Iterable[str]) -> list[str]:
    counts = Counter(name for name in names if name)
    return [name for name, count in counts.items() if count > 1]


def known_words(values: pd.Series) -> pd.Series:
    """Words as written, without blanks around them, and every way of saying "unknown" as ""."""
    words = values.str.strip()
    return words.where(~words.str.lower().isin(_NOTHING), "")


_NOTHING = ("unknown", "nan", "na", "n/a", "none", "null", "[]", "{}", "()", "''", '""', "['']")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def lesions_of(table: pd.DataFrame) -> pd.Series:
    """The lesion of each image of a table; one of unknown lesion is a lesion under its own name."""
    return table["lesion_id"].where(table["lesion_id"] != "", table["image_id"])


def classes_of(predictions: pd.DataFrame) -> tuple[str, ...]:
    """The classes of a predictions table, in the order of its `p_<class>` columns."""
    return tuple(str(name)[2:] for name in predictions.columns if str(name).startswith("p_"))


def check_predictions(table: pd.DataFrame, origin: str = "the table") -> pd.DataFrame:
    """Check a predictions table and give it its types.

    Args:
        table: columns image_id, target, at least two p_<class>; optional lesion_id (absent or "":
            the image is a lesion of its own) and part (absent: everything is "test").
        origin: what to call the table in messages.

    Returns:
        A copy with lesion_id and part filled in and float64 probabilities, shape (n, columns).
        Rounded ones that do not add up are divided by their sums; `attrs["note"]` says so.

    Raises:
        FindingsError: with every fault of the table at once.
    """
    faults: list[Finding] = []
    for name in _twice(map(str, table.columns)):
        faults.append(Finding("column_twice", f"{name!r} stands there twice", column=name))
    for name in ("image_id", "target"):
        if name not in table.columns:
            faults.append(Finding("missing_column", f"no column {name!r}", column=name))
    classes = classes_of(table)
    if len(classes) < 2:
        faults.append(
            Finding(
                "missing_column",
                f"needs two or more p_<class> columns, has {len(classes)}",
                column="p_*",
            )
        )
    if "" in classes:
        faults.append(Finding("no_class", "a column p_ names no class", column="p_*"))
    if faults:
        raise FindingsError(_not_predictions(origin, faults), findings_table(faults))

    table = table.copy()
    for name in ("image_id", "target", "lesion_id"):
        table[name] = _words(table[name]) if name in table.columns else ""
    table["part"] = _words(table["part"]) if "part" in table.columns else "test"
    if nameless := int((table["image_id"] == "").sum()):
        faults.append(Finding("no_image_id", f"{nameless} rows have none", column="image_id"))
    named = table["image_id"][table["image_id"] != ""]
    for image in named[named.duplicated()].unique():
        faults.append(
            Finding("duplicate", f"{image} stands twice", column="image_id", image_id=image)
        )
    if unlabelled := int((table["target"] == "").sum()):
        faults.append(Finding("no_target", f"{unlabelled} rows have none", column="target"))
    for label in sorted(set(table["target"]) - {"", *classes}):
        faults.append(
            Finding("unknown_class", f"{label!r} has no column p_{label}", column="target")
        )
    for label in sorted(set(table["part"]) - set(PARTS)):
        faults.append(
            Finding("unknown_part", f"{label!r} is not train, val or test", column="part")
        )
    columns = [f"p_{label}" for label in classes]
    given = {name: table[name] for name in columns}
    for name in columns:
        table[name] = _numbers(table[name])
    values = table[columns].to_numpy()
    for name, column in zip(columns, values.T, strict=True):
        bad = ~((column >= 0) & (column <= 1))
        if bad.any():
            first = table["image_id"].to_numpy()[bad][0]
            said = given[name].to_numpy()[bad][0]
            faults.append(
                Finding(
                    "not_a_probability",
                    f"{int(bad.sum())} rows outside 0-1, first {first} ({said or 'empty'})",
                    column=name,
                )
            )
    if not any(fault.kind == "not_a_probability" for fault in faults):
        off = np.abs(values.sum(axis=1) - 1) > 1e-3
        if off.any() and (np.abs(values.sum(axis=1) - 1) <= _rounding(values)).all():
            table[columns] = values / values.sum(axis=1, keepdims=True)
            table.attrs["note"] = (
                f"The probabilities of {origin} are rounded: {int(off.sum())} rows do not add up "
                "to 1, and all are divided by their sums."
            )
        elif off.any():
            first = table["image_id"].to_numpy()[off][0]
            faults.append(
                Finding(
                    "sum", f"{int(off.sum())} rows do not add up to 1, first {first}", column="p_*"
                )
            )
    if faults:
        raise FindingsError(_not_predictions(origin, faults), findings_table(faults))
    return table


def _rounding(values: npt.NDArray[np.float64]) -> float:
    """By how much rows of rounded probabilities may miss 1; 0 where they are not rounded.

    Args:
        values: shape (n, classes).
    """
    for decimals in (2, 3, 4):
        if np.allclose(values, values.round(decimals), rtol=0, atol=1e-9):
            return float(values.shape[1] * 0.5 * 10.0**-decimals + 1e-9)
    return 0.0


def _numbers(values: pd.Series) -> pd.Series:
    """Values as numbers; nan for what is none."""
    if pd.api.types.is_complex_dtype(values):
        return pd.Series(np.nan, index=values.index)
    return pd.to_numeric(values, errors="coerce").astype(np.float64)


def _words(values: pd.Series) -> pd.Series:
    """Values as text, missing ones as ""; whole numbers that became 17.0 beside them as "17"."""
    known = values[values.notna()]
    if pd.api.types.is_float_dtype(values) and (known == known.round()).all():
        known = known.astype(np.int64)
    return known.astype(str).reindex(values.index, fill_value="")


def read_predictions(path: Path) -> pd.DataFrame:
    """Read and check a predictions table from CSV, or from Parquet where pyarrow is installed.

    Raises:
        DataError: if the file cannot be read.
        FindingsError: with every fault of the table at once.
    """
    if path.suffix == ".parquet":
        try:
            table = pd.read_parquet(path)
        except ImportError as error:
            raise DataError(f"Reading {path} needs pyarrow: pip install pyarrow.") from error
        except (ValueError, OSError) as error:
            raise DataError(
                f"{path} cannot be read as Parquet ({_first_line(error)}). Check the path, or "
                "write the file again."
            ) from error
    else:
        table = read_csv(path, required=("image_id", "target"))
    return check_predictions(table, origin=str(path))


def _not_predictions(origin: str, faults: list[Finding]) -> str:
    return (
        f"{origin} is not a predictions table:\n{describe(findings_table(faults))}\n"
        "It needs image_id, target and one p_<class> column per class; "
        "lesion_id and part are optional."
    )


def count(number: int, noun: str) -> str:
    """A number and its noun: "1 image", "2,003 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
