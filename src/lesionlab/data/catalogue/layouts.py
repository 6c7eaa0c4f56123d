"""How collections lie on disk: one reader per layout, from a folder to a draft table.

A reader only translates words. It checks nothing and guesses nothing: what a source does not say
is "" or NaN, and what makes no sense is left for `lesionlab.data.audit` to name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from lesionlab import taxonomy
from lesionlab.advice import command
from lesionlab.data.catalogue.class_folders import find_folders, read_folders, unread_table
from lesionlab.data.catalogue.labels import classes_of_labels
from lesionlab.data.collections import arrays, isic_archive, isic_challenges, published
from lesionlab.data.collections.isic_challenges import NO_GROUPS
from lesionlab.data.sources.draft import Draft, Source, draft, person, words
from lesionlab.data.sources.inventory import Inventory, TableFile, take_inventory
from lesionlab.data.sources.patient_metadata import head
from lesionlab.errors import DataError
from lesionlab.tables import CATALOGUE, header, known_words, no_csv, read_csv

_OWN = tuple(name for name in CATALOGUE if name not in ("width", "height", "bytes", "sha256"))
_TARGETS = (
    "target", "dx", "diagnosis", "diagnostic", "label", "class", "category", "lesion_type",
    "malignant", "benign_malignant",
)  # fmt: skip
"""Heads that tables of one's own give the diagnosis, for a proposal and never as a guess."""
_NAMES = (
    "image_id", "image", "image_name", "isic_id", "img_id", "file_name", "filename", "file", "id",
    "name", "img", "path", "photo",
)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """How a folder is to be read.

    Attributes:
        folder: the data folder, or one file of a known kind.
        layout: a key of `LAYOUTS`, or "auto" to look for the files of each in turn.
        table: the table to read, where a folder holds several.
        columns: the table's own column for each of ours: {"image_id": "name", "target": "label"};
            "patient_id+lesion_id" joins two that name something only together. Of class folders,
            {"patient_id": "folder"} takes the folders inside them.
        ignore: folders in it whose files are left out.
        relabel: what a label is to count as.
    """

    folder: Path
    layout: str = "auto"
    table: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    relabel: Mapping[str, str] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Whether nothing but the folder is given."""
        return self == Reading(self.folder)

    def to_dict(self) -> dict[str, Any]:
        """What differs from reading the folder alone, as plain values."""
        table = self.table
        if table is not None and table.resolve().is_relative_to(self.folder.resolve()):
            table = table.resolve().relative_to(self.folder.resolve())
        values = {
            "layout": "" if self.layout == "auto" else self.layout,
            "table": "" if table is None else table.as_posix(),
            "columns": dict(self.columns),
            "ignore": list(self.ignore),
            "relabel": dict(self.relabel),
        }
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_dict(cls, folder: Path, values: Mapping[str, Any]) -> Reading:
        """What `to_dict` gave, for the same folder."""
        return cls(
            folder,
            values.get("layout") or "auto",
            Path(values["table"]) if values.get("table") else None,
            values.get("columns") or {},
            tuple(values.get("ignore") or ()),
            values.get("relabel") or {},
        )

    def command(self, verb: str, **more: object) -> str:
        """A command that reads the folder in the same way."""
        options = {
            "layout": None if self.layout == "auto" else self.layout,
            "table": self.table,
            "columns": self.columns,
            "ignore": self.ignore,
            "relabel": self.relabel,
        }
        return command(verb, self.folder, **(options | more))


@dataclass(frozen=True)
class Layout:
    """One way in which collections lie on disk.

    Attributes:
        find: the tables that this layout goes by; none where it is another one.
        read: the draft of those.
        expected: what it looks for, in words.
        relabels: whether `read` itself takes account of `Reading.relabel`.
    """

    find: Callable[[Inventory], list[Path]]
    read: Callable[[Source], Draft]
    expected: str
    relabels: bool = False


def register_layout(name: str, layout: Layout) -> None:
    """Add a layout of one's own: `catalogue` then finds it, and takes `layout=NAME`.

    Args:
        name: what to call it.
        layout: which tables it goes by, and how they become a draft.

    Example:
        >>> register_layout("clinic", Layout(find, read, "clinic.csv"))  # doctest: +SKIP
    """
    own = {name: layout, **{key: each for key, each in LAYOUTS.items() if key != name}}
    LAYOUTS.clear()
    LAYOUTS.update(own)  # its own first: a folder may look like a general layout, too


def read_layout(reading: Reading) -> Draft:
    """Read a folder in any known layout.

    Returns:
        The draft of a catalogue.

    Raises:
        DataError: if there is nothing there, or nothing that any reader knows.
    """
    folder, table, columns = reading.folder, reading.table, dict(reading.columns)
    layout = reading.layout
    if not folder.exists():
        raise DataError(f"{folder} does not exist. Give the folder that the download unpacked to.")
    if folder.is_file():
        folder, table = folder.parent, folder
    if table is not None and not table.is_file():
        if not (folder / table).is_file():
            raise DataError(f"{table} does not exist, neither here nor in {folder}.")
        table = folder / table
    if layout not in ("auto", *LAYOUTS):
        raise DataError(f"{layout!r} is no known layout. Known: auto, {', '.join(LAYOUTS)}.")
    if unknown := sorted(set(columns) - set(CATALOGUE)):
        raise DataError(
            f"--columns maps our columns to the table's own, and {', '.join(unknown)} "
            f"{'are' if len(unknown) > 1 else 'is'} none of ours. Ours: {', '.join(_OWN)}."
        )
    inventory = take_inventory(folder, reading.ignore)
    if table is not None and table.resolve() not in [t.path.resolve() for t in inventory.tables]:
        inventory = replace(inventory, tables=(*inventory.tables, TableFile(table, header(table))))
    if columns:
        layout = "folders" if set(columns.values()) == {"folder"} else "csv"
    if columns and layout == "csv":
        table = table or _mapped_table(inventory, columns)
    source = Source(inventory, (), columns, reading.relabel)
    for name, each in LAYOUTS.items():
        if layout not in ("auto", name):
            continue
        tables = [table] if layout == name and table else each.find(inventory)
        if table and table.resolve() not in [path.resolve() for path in tables]:
            continue
        if table:
            tables = [table]
        if tables:
            if name == "folders" and layout == "auto" and (unread := unread_table(inventory)):
                raise DataError(
                    f"{unread} If its labels count, do that; if the names of the folders are the "
                    "classes, say --layout folders."
                )
            return _read(name, replace(source, tables=tables))
        if layout == name:
            raise DataError(
                f"{folder} holds none of the files of layout {name!r}: {each.expected}."
                f"{_looked_at(reading, inventory)}"
            )
    if table:  # one of one's own in our words, or one that is to be told what it lacks
        _propose(reading, table)
        return _read("csv", replace(source, tables=[table]))
    raise DataError(_nothing_known(reading, inventory))


def _read(name: str, source: Source) -> Draft:
    made = LAYOUTS[name].read(source)
    made.layout = name
    made.inventory = made.inventory or source.inventory
    if source.relabel and not LAYOUTS[name].relabels:
        targets, notes = classes_of_labels(made.table["target"], source.relabel)
        made.classes = taxonomy.order(
            [source.relabel.get(each, each) for each in (made.classes or set(targets))]
        )
        made.table["target"] = targets
        made.notes += notes
    return made


def _nothing_known(reading: Reading, inventory: Inventory) -> str:
    """Why no layout fits, and what helps."""
    folder = inventory.folder
    if not inventory.images and not inventory.tables:
        return (
            f"{folder} holds no images and no table that lesionlab knows. "
            f"{inventory.undecoded()} Give the folder that the download unpacked to, or fetch "
            f"one: {command('fetch', 'ham10000')}"
        ).replace("  ", " ")
    known = "\n".join(f"  {name}: {each.expected}" for name, each in LAYOUTS.items())
    return (
        f"{folder} holds {len(inventory.images):,} images, but in no layout that lesionlab "
        f"knows.{_looked_at(reading, inventory)}\nKnown layouts:\n{known}"
    )


def _looked_at(reading: Reading, inventory: Inventory) -> str:
    """What each table of a folder has and lacks, with a command that may read it."""
    lines = []
    for each in inventory.tables[:8]:
        if other := no_csv(each.path):
            lines.append(f"{each.path} is {other}.")
            continue
        if len(each.columns) < 2:
            continue
        heads = {head(name) for name in each.columns}
        lacks = " and no ".join(name for name in ("image_id", "target") if name not in heads)
        has = ", ".join(each.columns[:12]) + (", ..." if len(each.columns) > 12 else "")
        line = f"{each.path} has {has}" + (f"; no {lacks}." if lacks else ".")
        line += _one_hot(each.columns)
        if proposal := _proposal(each.columns):
            asked = replace(reading, table=each.path, columns=proposal, layout="auto")
            line += f" If that is meant: {asked.command('catalogue')}"
        lines.append(line)
    if not lines:
        return ""
    return "\nTables looked at:\n" + "\n".join(f"  {line}" for line in lines)


def _proposal(columns: Sequence[str]) -> dict[str, str]:
    """Which of a table's columns may be the image's name and the diagnosis; {} if none."""
    by_head = {head(name): name for name in reversed(columns)}
    name = next((by_head[each] for each in _NAMES if each in by_head), "")
    target = next((by_head[each] for each in _TARGETS if each in by_head), "")
    if not (name and target):
        return {}
    part = next((by_head[each] for each in _PART_HEADS if each in by_head), "")
    return {"image_id": name, "target": target} | ({"part": part} if part else {})


def _one_hot(columns: Sequence[str]) -> str:
    """A sentence on columns that are called as classes are; "" where there are no two."""
    classes = [name for name in columns if taxonomy.canonical(name.lower()) in taxonomy.KNOWN]
    if len(classes) < 2 or "target" in map(head, columns):
        return ""
    return (
        f" {', '.join(classes)} look like a column per class: write the class of each image into "
        "one column, target."
    )


_PART_HEADS = ("part", "split", "subset", "partition")


def _propose(reading: Reading, table: Path) -> None:
    """Say which columns a table of one's own may mean.

    Raises:
        DataError: if it lacks image_id or target but has columns that may be they.
    """
    columns = header(table)
    proposal = _proposal(columns)
    if {"image_id", "target"} <= {head(name) for name in columns} or not proposal:
        return
    asked = replace(reading, columns=proposal)
    lacks = " and no ".join(
        name for name in ("image_id", "target") if name not in map(head, columns)
    )
    raise DataError(
        f"{table} has no {lacks}: it has {', '.join(columns)}.{_one_hot(columns)} If that is "
        "meant: "
        f"{asked.command('catalogue')}"
    )


# --- Tables of one's own


def find_csv(inventory: Inventory) -> list[Path]:
    """Tables with image_id and target, those nearest to the folder's top."""
    found = [
        each.path
        for each in inventory.tables
        if {"image_id", "target"} <= {head(name) for name in each.columns}
    ]
    depth = min((len(path.relative_to(inventory.folder).parts) for path in found), default=0)
    return [path for path in found if len(path.relative_to(inventory.folder).parts) == depth]


def read_csv_table(source: Source) -> Draft:
    """A table with image_id and target, or with columns that the user says are they."""
    parts = _parts(source.tables)
    drafts = []
    notes: list[str] = []
    for path in source.tables:
        table, renamed = _own_columns(path, source.columns)
        if parts:
            table["part"] = parts[path]
        drafts.append(table)
        notes += [f"{path.name}: {renamed}"] if renamed else []
    table = pd.concat(drafts, ignore_index=True)
    table["target"], said = classes_of_labels(known_words(table["target"]), source.relabel)
    notes += said
    if "lesion_id" not in table.columns and "patient_id" not in table.columns:
        notes.append(f"The table {NO_GROUPS}")
    classes = taxonomy.order([each for each in table["target"] if each])
    return draft(source, table, classes, notes=notes)


def _own_columns(path: Path, columns: Mapping[str, str]) -> tuple[pd.DataFrame, str]:
    """Our columns of a table, and one sentence on those that are called otherwise there."""
    raw = read_csv(path)
    heads = {head(name): name for name in reversed(list(map(str, raw.columns)))}
    names = {
        ours: ours if ours in raw.columns else heads.get(ours, ours)
        for ours in _OWN
        if ours in raw.columns or ours in heads or ours in ("image_id", "target")
    } | dict(columns)
    composed = {
        ours: tuple(theirs.split("+"))
        for ours, theirs in names.items()
        if theirs not in raw.columns and "+" in theirs
    }
    needed = [each for ours, theirs in names.items() for each in composed.get(ours, (theirs,))]
    raw = read_csv(path, required=tuple(needed))
    table = pd.DataFrame(
        {
            ours: published.composed(raw, composed[ours]) if ours in composed else raw[theirs]
            for ours, theirs in names.items()
        }
    )
    for name in {"lesion_id", "patient_id"} & set(table.columns):
        table[name] = known_words(table[name])
    for name in {"dx_type", "part", "source"} & set(table.columns):
        table[name] = words(table, name).str.lower() if name != "source" else words(table, name)
    if "path" in table.columns:
        table["path"] = table["path"].str.strip().str.replace("\\", "/", regex=False)
    facts = person(table)
    table = table.assign(**facts)
    other = {ours: theirs for ours, theirs in names.items() if ours != theirs}
    other = {ours: theirs for ours, theirs in other.items() if ours not in columns}
    renamed = ", ".join(f"{theirs} is read as {ours}" for ours, theirs in other.items())
    return table, f"{renamed}." if renamed else ""


_PART_WORDS = MappingProxyType(
    {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
     "test": "test", "testing": "test"}
)  # fmt: skip


def _parts(tables: Sequence[Path]) -> dict[Path, str]:
    """The part of each of several tables, by a word in its name; {} of a single one.

    Raises:
        DataError: if the names tell no parts, so that it is unknown which table counts.
    """
    if len(tables) == 1:
        return {}
    found = {}
    for path in tables:
        told = {
            _PART_WORDS[each]
            for each in re.split(r"[^a-z]+", path.stem.lower())
            if each in _PART_WORDS
        }
        if len(told) == 1:
            found[path] = told.pop()
    if len(found) < len(tables) or max(Counter(found.values()).values()) > 1:
        raise DataError(
            f"{len(tables)} tables name images and diagnoses: {', '.join(map(str, tables))}. Say "
            "which to read with --table FILE, or call them train.csv, val.csv and test.csv."
        )
    return found


def _mapped_table(inventory: Inventory, columns: Mapping[str, str]) -> Path:
    """The one table of a folder that has the columns that `--columns` names.

    Raises:
        DataError: if there is none, or more than one.
    """
    folder = inventory.folder
    top = [each for each in inventory.tables if each.path.parent == folder]
    tables = top or list(inventory.tables)
    if not tables:
        raise DataError(
            f"{folder} holds no table (.csv, .tsv, .tab or .txt). Give one with --table FILE."
        )
    if len(tables) == 1:
        return tables[0].path

    def has(each: TableFile) -> bool:
        return all(
            name in each.columns or set(name.split("+")) <= {*each.columns}
            for name in columns.values()
        )

    found = [each for each in tables if has(each)]
    if len(found) != 1:
        listed = ", ".join(each.path.name for each in found or tables)
        raise DataError(
            f"{len(found) or 'None'} of the tables in {folder} ({listed}) have the columns "
            f"{', '.join(columns.values())}. Say which to read with --table FILE."
        )
    return found[0].path


LAYOUTS: dict[str, Layout] = {
    "ham10000": Layout(
        published.find_ham10000,
        published.read_ham10000,
        "HAM10000_metadata.csv or .tab, beside one or more image folders",
    ),
    "isic2016": Layout(
        isic_challenges.find_isic2016,
        isic_challenges.read_isic2016,
        "ISBI2016_ISIC_Part3_<part>_GroundTruth.csv, beside <part>_Data folders",
    ),
    "isic2017": Layout(
        isic_challenges.find_isic2017,
        isic_challenges.read_isic2017,
        "ISIC-2017_<part>_Part3_GroundTruth.csv, beside <part>_Data folders",
    ),
    "isic2018": Layout(
        isic_challenges.find_isic2018,
        isic_challenges.read_isic2018,
        "ISIC2018_Task3_<part>_GroundTruth.csv, beside <part>_Input folders",
    ),
    "isic2019": Layout(
        isic_challenges.find_isic2019,
        isic_challenges.read_isic2019,
        "ISIC_2019_<part>_GroundTruth.csv, beside <part>_Input folders",
    ),
    "isic2020": Layout(
        isic_challenges.find_isic2020,
        isic_challenges.read_isic2020,
        "train.csv or ISIC_2020_Training_GroundTruth.csv, with image_name, benign_malignant",
    ),
    "isic2024": Layout(
        isic_challenges.find_isic2024,
        isic_challenges.read_isic2024,
        "train-metadata.csv with isic_id and target, beside train-image or train-image.hdf5",
    ),
    "milk10k": Layout(
        isic_challenges.find_milk10k,
        isic_challenges.read_milk10k,
        "MILK10k_Training_GroundTruth.csv and MILK10k_Training_Metadata.csv",
    ),
    "pad-ufes-20": Layout(
        published.find_pad_ufes_20,
        published.read_pad_ufes_20,
        "metadata.csv with img_id, diagnostic and patient_id",
    ),
    "bcn20000": Layout(
        published.find_bcn20000,
        published.read_bcn20000,
        "a table with bcn_filename and diagnosis",
    ),
    "derm7pt": Layout(published.find_derm7pt, published.read_derm7pt, "meta/meta.csv and images/"),
    "fitzpatrick17k": Layout(
        published.find_fitzpatrick17k,
        published.read_fitzpatrick17k,
        "fitzpatrick17k.csv, beside images called by their MD5",
    ),
    "ddi": Layout(published.find_ddi, published.read_ddi, "ddi_metadata.csv"),
    "ph2": Layout(
        published.find_ph2,
        published.read_ph2,
        "PH2_dataset.txt, beside a folder per case",
    ),
    "hmnist": Layout(
        arrays.find_hmnist, arrays.read_hmnist, "hmnist_28_28_RGB.csv and the like, from Kaggle"
    ),
    "isic-archive": Layout(
        isic_archive.find_isic_archive,
        isic_archive.read_isic_archive,
        "a metadata.csv with isic_id and diagnosis_1, exported from the ISIC Archive",
    ),
    "medmnist": Layout(
        arrays.find_medmnist,
        arrays.read_medmnist,
        "an .npz with train_images, train_labels, ...",
    ),
    "npy": Layout(
        arrays.find_npy,
        arrays.read_npy,
        "X.npy and y.npy, or such a pair per part: X_train.npy and y_train.npy, ...",
    ),
    "csv": Layout(
        find_csv,
        read_csv_table,
        "a table with image_id and target, or any with --columns",
        relabels=True,
    ),
    "folders": Layout(
        find_folders,
        read_folders,
        "one folder of images per class, or of such folders per part (train, val, test)",
        relabels=True,
    ),
}
"""Every layout by its name, in the order in which they are looked for."""
