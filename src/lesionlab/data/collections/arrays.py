"""Collections whose images are rows of an array: MedMNIST's .npz, X.npy, Kaggle's hmnist tables."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab import taxonomy
from lesionlab.data.collections.isic_challenges import LESIONS_NOT_PATIENTS
from lesionlab.data.collections.published import _PIXELS, ham_tables, read_ham10000
from lesionlab.data.images.reader import array_fault, read_pixel_table
from lesionlab.data.sources.draft import Draft, Source, tables_with
from lesionlab.data.sources.inventory import Inventory
from lesionlab.errors import DataError
from lesionlab.tables import PARTS

HMNIST = ("akiec", "bcc", "bkl", "df", "nv", "vasc", "mel")
"""Label order of Kaggle's hmnist tables."""


def find_medmnist(inventory: Inventory) -> list[Path]:
    """Files directly in the folder with MedMNIST's arrays."""
    files = [
        inventory.folder / name
        for name in sorted(inventory.left_out)
        if name.lower().endswith(".npz") and "/" not in name
    ]
    return [path for path in files if _has_arrays(path)]


def _has_arrays(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not a whole .npz file. Fetch it again.")
    with np.load(path) as arrays:
        return {"train_images", "train_labels", "test_images", "test_labels"} <= set(arrays.files)


def read_medmnist(source: Source) -> Draft:
    """Images of official parts in MedMNIST's form: <part>_images and <part>_labels.

    Raises:
        DataError: if arrays are not images of 0 to 255, or not one label for each.
    """
    if len(source.tables) > 1:
        sets = ", ".join(path.name for path in source.tables)
        raise DataError(f"{source.folder} holds several sets: {sets}. Give one of these files.")
    path = source.tables[0]
    name = path.stem
    derma = name.lower().startswith("dermamnist")
    rows = []
    names: tuple[str, ...] = taxonomy.HAM7 if derma else ()
    with np.load(path) as arrays:
        for part in (each for each in PARTS if f"{each}_labels" in arrays.files):
            labels = _labels(path, part, arrays[f"{part}_labels"])
            images = arrays[f"{part}_images"]
            if fault := array_fault(images.shape, images.dtype):
                raise DataError(f"{path}: {part}_images {fault}.")
            if len(images) != len(labels):
                raise DataError(
                    f"{path}: {part} has {len(images):,} images and {len(labels):,} labels, so "
                    "nothing tells which belongs to which."
                )
            for row, label in enumerate(labels):
                target = label
                if label.isdecimal():
                    target = names[int(label)] if int(label) < len(names) else f"class_{label}"
                rows.append(
                    (f"{name}-{part}-{row:05d}", f"{path.name}#{part}_images/{row}", target, part)
                )
    table = pd.DataFrame(rows, columns=["image_id", "path", "target", "part"])
    table["source"] = name
    notes = [
        "MedMNIST names no lesions: whether images of one lesion cross parts cannot be checked."
    ]
    if derma:
        notes = ["MedMNIST names no lesions, and those of DermaMNIST's official parts do cross."]
    classes = names or taxonomy.order(list(table["target"]))
    return Draft(table, classes, path.parent, notes=notes, inventory=source.inventory)


def _labels(path: Path, part: str, labels: NDArray[Any]) -> list[str]:
    """One label per image as text: whole numbers, or names of classes.

    Raises:
        DataError: if there are several labels per image, or numbers that are not whole.
    """
    if labels.size != len(labels):
        raise DataError(
            f"{path}: {part}_labels has {labels.size // max(len(labels), 1)} labels per image; "
            "lesionlab takes one diagnosis per image. Choose one column and save it again."
        )
    flat = labels.reshape(-1)
    if flat.dtype.kind in "SU":
        return [
            taxonomy.canonical(each.decode() if isinstance(each, bytes) else str(each))
            for each in flat
        ]
    whole = flat.dtype.kind in "biu" or (
        flat.dtype.kind == "f" and np.isfinite(flat).all() and (flat == np.round(flat)).all()
    )
    if not whole or (flat.size and flat.min() < 0):
        raise DataError(
            f"{path}: {part}_labels holds {flat.dtype} that are no numbers of classes (0, 1, 2 "
            "...). Save one whole number, or one name, per image."
        )
    return [str(int(each)) for each in flat]


def find_npy(inventory: Inventory) -> list[Path]:
    """X.npy beside y.npy, or X_train.npy beside y_train.npy and so on, directly in the folder."""
    names = sorted(name for name in inventory.left_out if _NPY.fullmatch(name))
    return [inventory.folder / name for name in names if f"y{name[1:]}" in inventory.left_out]


def read_npy(source: Source) -> Draft:
    """Images in X.npy and a label for each in y.npy: a number, a name, or a column per class.

    Raises:
        DataError: if arrays are not images of 0 to 255, or not one label for each.
    """
    rows = []
    for path in source.tables:
        images = np.load(path, mmap_mode="r")
        labels = np.load(path.with_name(f"y{path.name[1:]}"))
        if labels.ndim == 2 and labels.shape[1] > 1 and (labels.sum(axis=1) == 1).all():
            labels = labels.argmax(axis=1)
        texts = _labels(path.parent, "y", labels)
        if fault := array_fault(images.shape, images.dtype):
            raise DataError(f"{path} {fault}.")
        if len(images) != len(texts):
            raise DataError(
                f"{path} has {len(images):,} images and y{path.name[1:]} {len(texts):,} labels, so "
                "nothing tells which belongs to which."
            )
        part = path.stem.partition("_")[2]
        rows += [
            (f"{path.stem}-{row:05d}", f"{path.name}#{row}", text, part if part in PARTS else "")
            for row, text in enumerate(texts)
        ]
    table = pd.DataFrame(rows, columns=["image_id", "path", "target", "part"])
    numbers = table["target"].str.isdecimal()
    table.loc[numbers, "target"] = "class_" + table["target"]
    notes = ["Arrays name no lesions: whether images of one lesion cross parts cannot be checked."]
    if numbers.any():
        notes.append(
            "The labels are numbers, and nothing in the files names their classes: say what they "
            "are, such as --relabel class_0=akiec."
        )
    classes = taxonomy.order(list(table["target"]))
    return Draft(table, classes, source.folder, notes=notes, inventory=source.inventory)


_NPY = re.compile(r"X(_(train|val|test))?\.npy")


def find_hmnist(inventory: Inventory) -> list[Path]:
    """Kaggle's pixel tables."""
    return [each.path for each in tables_with(inventory, name=_PIXELS)]


def read_hmnist(source: Source) -> Draft:
    """The largest pixel table, with HAM10000's own table for what else is known."""
    path = max(source.tables, key=lambda each: each.stat().st_size)
    _, labels = read_pixel_table(path)
    folder = source.folder
    table = pd.DataFrame(
        {
            "image_id": [f"{path.stem}-{row:05d}" for row in range(len(labels))],
            "path": [f"{path.relative_to(folder).as_posix()}#{row}" for row in range(len(labels))],
            "target": [
                HMNIST[label] if 0 <= label < len(HMNIST) else str(label) for label in labels
            ],
            "source": "hmnist",
        }
    )
    notes = ["Kaggle's pixel tables name no lesions: whether they cross parts cannot be checked."]
    metadata = [each for each in ham_tables(source.inventory) if each.parent == path.parent]
    if metadata:
        ham = read_ham10000(Source(source.inventory, metadata)).table
        if list(ham["target"]) == list(table["target"]):  # the same images in the same order
            for name in {"lesion_id", "dx_type", "age", "sex", "site"} & set(ham.columns):
                table[name] = ham[name]
            notes = [LESIONS_NOT_PATIENTS]
    return Draft(table, taxonomy.HAM7, folder, notes=notes, inventory=source.inventory)
