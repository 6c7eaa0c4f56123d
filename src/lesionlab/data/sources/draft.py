"""What a reader of a layout gives: a draft table, and what became of every row and file."""

from __future__ import annotations

import filecmp
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lesionlab.data.sources.inventory import Inventory, TableFile
from lesionlab.data.sources.matching import Finder, said, spelled_otherwise, without_suffix
from lesionlab.data.sources.patient_metadata import column_for
from lesionlab.errors import DataError, FindingsError
from lesionlab.recipe.schema import FEATURES
from lesionlab.tables import Finding, describe, findings_table, known_words

COPY = "a copy of an image taken"
NO_FILE = "no file"
NO_CLASS = "none of the classes"
UNNAMED = "no row names it"


@dataclass
class Draft:
    """What a layout says, before anything is checked.

    Attributes:
        table: columns image_id, path and whatever else of `tables.CATALOGUE` the source knows.
        classes: the classes the source may use; empty where any label is good.
        root: folder that `path` is relative to.
        layout: name of the reader.
        notes: what a reader of reports has to know about this source.
        inventory: all files of the folder; None where it was not searched.
        files_left_out: files that belong to a row or an image taken, and why they are not taken.
        rows_left_out: how many rows were left out for which reason.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    root: Path
    layout: str = ""
    notes: list[str] = field(default_factory=list)
    inventory: Inventory | None = None
    files_left_out: dict[str, str] = field(default_factory=dict)
    rows_left_out: Counter[str] = field(default_factory=Counter)

    def leave_out(self, rows: pd.Series, reason: str) -> None:
        """Take rows out of the table, with their files, and count them under a reason."""
        for path in self.table["path"][rows]:
            self.files_left_out.setdefault(str(path), reason)
        if number := int(rows.sum()):
            self.rows_left_out[reason] += number
        self.table = self.table[~rows].reset_index(drop=True)


@dataclass
class Source:
    """What a reader of one layout is given.

    Attributes:
        inventory: all files of the folder.
        tables: those that this layout goes by.
        columns: what the user says of a table's columns, ours to its own.
        relabel: what the user says that a label is to count as.
    """

    inventory: Inventory
    tables: Sequence[Path]
    columns: Mapping[str, str] = field(default_factory=dict)
    relabel: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder that was searched."""
        return self.inventory.folder


def draft(
    source: Source,
    table: pd.DataFrame,
    classes: Iterable[str],
    *,
    notes: Iterable[str] = (),
    images: Sequence[str] | None = None,
    missing: str = "fault",
) -> Draft:
    """Give a table's rows their files.

    Args:
        source: with the files.
        table: image_id, as the source writes it, and whatever else it knows; `path` where the
            source tells that itself.
        classes: the classes it may use; empty where any label is good.
        notes: see `Draft`.
        images: files to search; None: all photographs of the folder.
        missing: "fault" keeps rows without a file, which will be refused; "leave out" counts them.

    Raises:
        FindingsError: if a name fits several files with different content.
    """
    made = Draft(table, tuple(classes), source.folder, notes=list(notes))
    made.inventory = source.inventory
    if "path" not in table.columns:
        _locate(made, source.inventory.images if images is None else images)
    made.table["image_id"] = [without_suffix(str(each).strip()) for each in made.table["image_id"]]
    if missing == "leave out":
        there = set(source.inventory.images)
        lacking = ~made.table["path"].isin(there)
        number, rows = int(lacking.sum()), len(made.table)
        made.leave_out(lacking, NO_FILE)
        if number:
            made.notes.append(f"{number:,} of {rows:,} rows have no image here: left out.")
    return made


def _locate(made: Draft, images: Sequence[str]) -> None:
    """Give each row its file: exactly, else by ordinary variations of its name."""
    finder = Finder(images)
    folder = made.root
    paths: list[str] = []
    ways: list[str] = []
    faults: list[Finding] = []
    several: list[str] = []
    for name in map(str, made.table["image_id"]):
        found = finder.find(name) if name.strip() else finder.find("")
        same = [each for each in found.names[1:] if _identical(folder, found.names[0], each)]
        if len(found.names) > 1 + len(same):
            several += found.names
            faults.append(
                Finding(
                    "several_files",
                    f"{name} could be {' or '.join(found.names)}",
                    column="path",
                    image_id=name,
                )
            )
        for each in same:
            made.files_left_out[each] = COPY
        if found.names and not found.exact:
            ways.append(spelled_otherwise(name, found.names[0].rpartition("/")[2]))
        paths.append(found.names[0] if found.names else f"{without_suffix(name.strip())}.jpg")
    if faults:
        found_faults = findings_table(faults)
        folders = sorted({path.rpartition("/")[0] or "." for path in several})
        raise FindingsError(
            f"{len(faults)} images have several files with different content, and nothing tells "
            f"which is the photograph:\n{describe(found_faults)}\n"
            "Say which folders hold masks, smaller copies or other photographs with --ignore: "
            f"they are in {', '.join(folders)}.",
            found_faults,
        )
    made.table["path"] = paths
    if ways:
        made.notes.append(said(ways, "image names of the table"))


def _identical(folder: Path, one: str, other: str) -> bool:
    """Whether two files hold the same bytes; their sizes are compared first."""
    return filecmp.cmp(folder / one, folder / other, shallow=False)


def tables_with(inventory: Inventory, *needed: str, name: str = "") -> list[TableFile]:
    """Tables whose heads hold all of the needed ones and whose file name matches a pattern."""
    return [
        each
        for each in inventory.tables
        if {*needed} <= {*each.columns} and (not name or re.search(name, each.path.name, re.I))
    ]


def person(raw: pd.DataFrame) -> dict[str, pd.Series]:
    """The columns age, sex and site of a table, under whichever public heads it has them.

    Cells stay as they are but for the ways of saying "unknown"; `catalogue` reads them.
    """
    found = {name: column_for(name, list(raw.columns)) for name in FEATURES}
    return {
        name: known_words(raw[column]).str.lower()
        for name, column in found.items()
        if column is not None
    }


def words(raw: pd.DataFrame, column: str) -> pd.Series:
    """A column without blanks and words for "unknown"; "" everywhere where it is missing."""
    if column not in raw.columns:
        return pd.Series("", index=raw.index)
    return known_words(raw[column])


def one_hot(raw: pd.DataFrame, classes: Mapping[str, str]) -> pd.Series:
    """The class of each row of one-hot columns; "(not one-hot)" where a row is none.

    Args:
        raw: the table.
        classes: our class of each column.
    """
    hot = raw[list(classes)].apply(pd.to_numeric, errors="coerce")
    one = (hot == 1).sum(axis=1).eq(1) & (hot == 0).sum(axis=1).eq(len(classes) - 1)
    column = hot.fillna(0).to_numpy().argmax(axis=1)
    names = list(classes.values())
    return pd.Series([names[each] for each in column], raw.index).where(one, "(not one-hot)")


def keep_classes(made: Draft, known: Callable[[str], str], what: str) -> Draft:
    """Translate labels, and leave out the rows whose label is none of the classes.

    Args:
        made: its targets are the source's own labels.
        known: the class of a label, "" where it is none.
        what: the collection's name, for the warning.

    Raises:
        DataError: if no row is of any class.
    """
    labels = made.table["target"]
    targets = labels.map({label: known(label) for label in set(labels)})
    other = (targets == "") & (labels != "")
    made.table["target"] = targets
    if other.any():
        counts = Counter(labels[other])
        listed = ", ".join(f"{label} ({count})" for label, count in counts.most_common(10))
        more = f" and {len(counts) - 10} more" if len(counts) > 10 else ""
        text = (
            f"{int(other.sum()):,} of {len(made.table):,} images have diagnoses that are none of "
            f"the classes of {what} and are left out: {listed}{more}."
        )
        if other.all():
            raise DataError(text)
        made.leave_out(other, NO_CLASS)
        made.notes.append(text)
    return made
