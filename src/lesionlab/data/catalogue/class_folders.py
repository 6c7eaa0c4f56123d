"""Class folders: one folder of images per class, with or without a folder per part above."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from lesionlab import taxonomy
from lesionlab.advice import command
from lesionlab.data.catalogue.labels import classes_of_labels
from lesionlab.data.sources.draft import Draft, Source
from lesionlab.data.sources.inventory import Inventory
from lesionlab.data.sources.matching import without_suffix
from lesionlab.errors import DataError
from lesionlab.tables import no_csv

PARTS: Mapping[str, str] = MappingProxyType(
    {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
     "test": "test", "testing": "test"}
)  # fmt: skip
"""Names of folders that are parts."""
_NO_CLASSES = re.compile(
    r"(ima?ge?s?|photos?|pictures?|data|jpe?g|png|masks?|annotations?|labels|thumb(nail)?s?"
    r"|segmentations?|\d+x\d+)"
    r"|.*_(part_\d|input|segmentations?)(_.*)?|.*(training|validation|test(_v2)?)_data",
    re.IGNORECASE,
)
"""Names of folders of images that are no diagnosis."""
NO_FOLDER = "in no class folder"


@dataclass(frozen=True)
class _Place:
    path: str
    part: str
    label: str
    inner: str


def _places(images: Sequence[str]) -> list[_Place]:
    """Part, class folder and inner folders of images; of those in no class folder label ""."""
    split = [each.split("/") for each in images]
    start = 0
    while (
        split
        and len({folders[start] for folders in split}) == 1
        and all(len(folders) > start + 2 for folders in split)
        and split[0][start].casefold().strip() not in PARTS
    ):
        start += 1
    first = {folders[start].casefold().strip() for folders in split if len(folders) > start + 1}
    parted = bool(first & {"train", "training"}) or first <= set(PARTS)
    found = []
    for path, folders in zip(images, split, strict=True):
        inside = folders[start:-1]
        part = PARTS.get(inside[0].casefold().strip(), "") if inside and parted else ""
        if parted:
            inside = inside[1:] if part else []
        label = inside[0].strip() if inside else ""
        inner = inside[1:]
        if not parted and inner and _known(label) and inner[0].casefold().strip() in PARTS:
            part, inner = PARTS[inner[0].casefold().strip()], inner[1:]  # mel/train
        found.append(_Place(path, part, label, "/".join(inner)))
    return found


def _known(label: str) -> bool:
    return taxonomy.canonical(label) in taxonomy.KNOWN


def unread_table(inventory: Inventory) -> str:
    """What a table beside class folders is that cannot be read, and may hold the labels.

    "" where there is none, or where all folders bear names of diagnoses.
    """
    labels = {place.label for place in _places(inventory.images) if place.label}
    tables = [table.path for table in inventory.tables if no_csv(table.path)]
    if not tables or all(map(_known, labels)):
        return ""
    return f"{tables[0]} is {no_csv(tables[0])}."


def find_folders(inventory: Inventory) -> list[Path]:
    """The images of two or more class folders; none where their names are no diagnoses."""
    places = _places(inventory.images)
    labels = {each.label for each in places if each.label}
    if len(labels) < 2 or any(_NO_CLASSES.fullmatch(each) for each in labels):
        return []
    return [inventory.folder / each.path for each in places if each.label]


def read_folders(source: Source) -> Draft:
    """Images with the name of their folder as class; a train, val or test folder is their part.

    Raises:
        DataError: if parts or known diagnoses stand below what would be the classes, or `columns`
            names one that folders cannot give.
    """
    folder = source.folder
    places = _places(source.inventory.images)
    taken = [each for each in places if each.label]
    _refuse_too_high(folder, taken)
    targets, notes = classes_of_labels(
        pd.Series([each.label for each in taken], dtype=object), source.relabel
    )
    table = pd.DataFrame(
        {
            "image_id": _ids([each.path for each in taken]),
            "path": [each.path for each in taken],
            "target": targets,
            "source": folder.resolve().name,
        }
    )
    if any(each.part for each in taken):
        table["part"] = [each.part for each in taken]
    inner = Counter(each.label for each in taken if each.inner)
    grouped = set(source.columns) & {"patient_id", "lesion_id"}
    for name in grouped:
        table[name] = [each.inner for each in taken]
    if odd := sorted(set(source.columns) - grouped):
        raise DataError(
            f"--columns {odd[0]}=folder: a folder inside a class folder is a patient_id or a "
            "lesion_id."
        )
    if inner and not grouped:
        example = next(each.inner for each in taken if each.inner)
        notes.append(
            f"Class folders hold folders, such as {next(iter(inner))}/{example}, whose images "
            f"({sum(inner.values()):,}) are taken. If such a folder is a patient or a lesion: "
            "--columns patient_id=folder, or lesion_id=folder."
        )
    if not grouped:
        notes.append(
            "Folders name no lesions: whether images of one lesion cross parts cannot be checked."
        )
    made = Draft(
        table,
        taxonomy.order(list(table["target"])),
        folder,
        notes=notes,
        inventory=source.inventory,
    )
    outside = [each.path for each in places if not each.label]
    made.files_left_out |= dict.fromkeys(outside, NO_FOLDER)
    if outside:
        made.notes.append(
            f"{len(outside):,} images are in no class folder and are left out, such as "
            f"{outside[0]}."
        )
    return made


def _refuse_too_high(folder: Path, taken: Sequence[_Place]) -> None:
    """Refuse a folder whose class folders would hold the true ones.

    Raises:
        DataError: naming the folders to give instead.
    """
    homes: Counter[str] = Counter()
    for each in taken:
        parts = each.path.split("/")[:-1]
        inner = each.inner.split("/") if each.inner else []
        for depth, name in enumerate(inner, start=len(parts) - len(inner)):
            plain = name.casefold().strip()
            if not _known(each.label) and (plain in PARTS or _known(name)):
                homes["/".join(parts[:depth])] += 1
                example = "/".join(parts[depth - 1 : depth + 2])
                break
    if not homes:
        return
    listed = "\n".join(
        f"  {command('catalogue', folder / home)} ({count:,} images)"
        for home, count in sorted(homes.items())[:10]
    )
    more = f"\n  and {len(homes) - 10} more" if len(homes) > 10 else ""
    labels = sorted({each.label for each in taken})
    raise DataError(
        f"{', '.join(labels[:5])} would be the classes, but folders inside them are parts or "
        f"diagnoses, such as {example}. Give the folder that holds those, one of:\n{listed}{more}"
    )


def _ids(paths: Sequence[str]) -> list[str]:
    """A name per image: its file's, with as many folders before it as tell it from all others."""
    parts = [without_suffix(path).split("/") for path in paths]
    names = ["/".join(part.strip() for part in each[-1:]) for each in parts]
    for depth in range(2, max(map(len, parts), default=1) + 1):
        repeated = {name for name, count in Counter(names).items() if count > 1}
        if not repeated:
            return names
        names = [
            "/".join(part.strip() for part in each[-depth:]) if name in repeated else name
            for name, each in zip(names, parts, strict=True)
        ]
    repeated = {name for name, count in Counter(names).items() if count > 1}
    return [path if name in repeated else name for name, path in zip(names, paths, strict=True)]
