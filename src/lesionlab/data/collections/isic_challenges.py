"""How the ISIC challenges' data sets lie on disk, 2016 to 2024, and MILK10k: one reader each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from lesionlab import taxonomy
from lesionlab.data.sources.draft import (
    Draft,
    Source,
    draft,
    one_hot,
    person,
    tables_with,
    words,
)
from lesionlab.data.sources.inventory import Inventory
from lesionlab.data.sources.matching import without_suffix
from lesionlab.tables import read_csv

ISIC2018 = MappingProxyType(
    {"MEL": "mel", "NV": "nv", "BCC": "bcc", "AKIEC": "akiec", "BKL": "bkl", "DF": "df",
     "VASC": "vasc"}
)  # fmt: skip
"""Our class of each column of the ISIC 2018 task 3 ground truth, in its order."""
ISIC2019 = MappingProxyType(
    {"MEL": "mel", "NV": "nv", "BCC": "bcc", "AK": "akiec", "BKL": "bkl", "DF": "df",
     "VASC": "vasc", "SCC": "scc", "UNK": "unk"}
)  # fmt: skip
MILK10K = MappingProxyType(
    {"AKIEC": "akiec", "BCC": "bcc", "BEN_OTH": "ben_oth", "BKL": "bkl", "DF": "df", "INF": "inf",
     "MAL_OTH": "mal_oth", "MEL": "mel", "NV": "nv", "SCCKA": "sccka", "VASC": "vasc"}
)  # fmt: skip
TWO = ("benign", "malignant")
_TWO_WORDS = {"0": "benign", "0.0": "benign", "1": "malignant", "1.0": "malignant"}
DX_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "histopathology": "histo",
        "serial imaging showing no change": "follow_up",
        "single image expert consensus": "consensus",
        "confocal microscopy with consensus dermoscopy": "confocal",
    }
)
"""Our word for each way in which the ISIC Archive confirms a diagnosis."""
LESIONS_NOT_PATIENTS = (
    "HAM10000 names lesions, not patients: images of one patient's different lesions may stand in "
    "different parts, and nothing in the public files can show it."
)
NO_GROUPS = "names neither lesions nor patients: whether either crosses parts cannot be checked."
_PARTS = MappingProxyType({"training": "train", "validation": "val", "test": "test"})


def part_of(name: str) -> str:
    """The official part that a file's name tells, or ""."""
    return next((part for word, part in _PARTS.items() if word in name.lower()), "")


def _paths(inventory: Inventory, pattern: str, *needed: str) -> list[Path]:
    return [each.path for each in tables_with(inventory, *needed, name=pattern)]


def _joined(other: Sequence[Path], key: str, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of other tables in the order of a table's image_id, "" where they have none."""
    if not other:
        return pd.DataFrame(index=table.index)
    raw = pd.concat([read_csv(path, required=(key,)) for path in other], ignore_index=True)
    raw[key] = raw[key].map(lambda name: without_suffix(name.strip()))
    raw = raw.drop_duplicates(key).set_index(key)
    names = table["image_id"].map(lambda name: without_suffix(name.strip()))
    return raw.reindex(names).fillna("").set_index(table.index)


# --- 2016


def find_isic2016(inventory: Inventory) -> list[Path]:
    """The ground truth of part 3, which has no header line."""
    whole = _paths(inventory, r"^ISBI2016_ISIC_Part3_(Training|Test)_GroundTruth\.csv$")
    return whole or _paths(inventory, r"^ISBI2016_ISIC_Part3B_(Training|Test)_GroundTruth\.csv$")


def read_isic2016(source: Source) -> Draft:
    """900 training and 379 test images, benign or malignant."""
    rows = []
    for path in source.tables:
        raw = read_csv(path, names=("image_id", "target"))
        target = words(raw, "target").str.lower().replace(_TWO_WORDS)
        rows.append(raw.assign(target=target, part=part_of(path.name)))
    table = pd.concat(rows, ignore_index=True).assign(source="isic2016")
    return draft(source, table, TWO, notes=[f"ISIC 2016 {NO_GROUPS}"])


# --- 2017


def find_isic2017(inventory: Inventory) -> list[Path]:
    """The ground truth of part 3."""
    needed = ("image_id", "melanoma", "seborrheic_keratosis")
    return [each.path for each in tables_with(inventory, *needed)]


def read_isic2017(source: Source) -> Draft:
    """2,000 training, 150 validation and 600 test images: melanoma, seborrheic keratosis, nevus."""
    rows = []
    for path in source.tables:
        raw = read_csv(path)
        hot = raw[["melanoma", "seborrheic_keratosis"]].apply(pd.to_numeric, errors="coerce")
        rest = (hot["melanoma"] == 0) & (hot["seborrheic_keratosis"] == 0)
        table = raw[["image_id"]].assign(part=part_of(path.name), source="isic2017")
        columns = {"melanoma": "mel", "seborrheic_keratosis": "bkl", "nevus": "nv"}
        table["target"] = one_hot(hot.assign(nevus=rest.astype(float)), columns)
        rows.append(table)
    table = pd.concat(rows, ignore_index=True)
    metadata = _paths(source.inventory, r"^ISIC-2017_.*_metadata\.csv$", "image_id")
    table = table.assign(**person(_joined(metadata, "image_id", table)))
    notes = [f"ISIC 2017 {NO_GROUPS}", "What is neither melanoma nor seborrheic keratosis is nv."]
    return draft(source, table, ("bkl", "mel", "nv"), notes=notes)


# --- 2018


def find_isic2018(inventory: Inventory) -> list[Path]:
    """The ground truth of task 3."""
    return _paths(inventory, r"^ISIC2018_Task3_\w+_GroundTruth\.csv$")


def read_isic2018(source: Source) -> Draft:
    """HAM10000 for training, and the official validation and test images."""
    rows = []
    for path in source.tables:
        raw = read_csv(path, required=("image", *ISIC2018))
        target = one_hot(raw, ISIC2018)
        rows.append(
            pd.DataFrame({"image_id": raw["image"], "target": target, "part": part_of(path.name)})
        )
    table = pd.concat(rows, ignore_index=True).assign(source="isic2018")
    notes = []
    groupings = _paths(source.inventory, r"^ISIC2018_Task3_.*LesionGroupings.*\.csv$")
    if groupings:
        lesions = _joined(groupings, "image", table)
        table["lesion_id"] = words(lesions, "lesion_id")
        confirm = next((name for name in lesions.columns if "confirm" in name), None)
        if confirm:
            table["dx_type"] = words(lesions, confirm).str.lower().replace(dict(DX_TYPES))
        notes.append(LESIONS_NOT_PATIENTS)
    if table.get("lesion_id", pd.Series("", table.index)).eq("").any():
        notes.append(
            "Some images have no lesion id: whether their lesions cross parts cannot be checked."
        )
    return draft(source, table, taxonomy.HAM7, notes=notes)


# --- 2019


def find_isic2019(inventory: Inventory) -> list[Path]:
    """The ground truth of the training part, and of the test part where it is there."""
    return [each.path for each in tables_with(inventory, "image", *ISIC2019)]


def read_isic2019(source: Source) -> Draft:
    """25,331 training images of eight classes; the test part has unknown ones (unk), too."""
    rows = []
    for path in source.tables:
        raw = read_csv(path)
        table = pd.DataFrame({"image_id": raw["image"], "target": one_hot(raw, ISIC2019)})
        rows.append(table.assign(part=part_of(path.name)))
    table = pd.concat(rows, ignore_index=True).assign(source="isic2019")
    metadata = _paths(source.inventory, r"^ISIC_2019_\w+_Metadata\.csv$", "image")
    facts = _joined(metadata, "image", table)
    table = table.assign(**person(facts), lesion_id=words(facts, "lesion_id"))
    notes = [
        "ISIC 2019 names lesions for most images and patients for none: images of one patient may "
        "stand in different parts.",
        "ISIC 2019 has squamous cell carcinoma (scc) apart; its AK is akiec here, without Bowen's "
        "disease, which HAM10000 counts as akiec.",
    ]
    present = set(table["target"])
    classes = [each for each in sorted(ISIC2019.values()) if each != "unk" or each in present]
    return draft(source, table, classes, notes=notes)


# --- 2020


def find_isic2020(inventory: Inventory) -> list[Path]:
    """The training table, of the challenge's page or of Kaggle."""
    found = tables_with(inventory, "image_name", "benign_malignant")
    found = sorted(found, key=lambda each: -len(each.columns))  # version 2 names lesions, too
    return [each.path for each in found[:1]]


def read_isic2020(source: Source) -> Draft:
    """33,126 training images of 2,056 patients, benign or malignant."""
    raw = read_csv(source.tables[0])
    table = pd.DataFrame(
        {
            "image_id": raw["image_name"],
            "target": words(raw, "benign_malignant").str.lower(),
            "patient_id": words(raw, "patient_id"),
            "lesion_id": words(raw, "lesion_id"),
            "source": "isic2020",
            **person(raw),
        }
    )
    notes = ["ISIC 2020 has 425 published pairs of duplicates: look with `lesionlab audit`."]
    images = source.inventory.images
    flat = [each for each in images if not each.lower().endswith((".dcm", ".dicom"))]
    made = draft(source, table, TWO, notes=notes, images=flat or images)
    if flat and len(flat) < len(images):
        made.notes.append("Of an image as JPEG and as DICOM the JPEG is taken.")
    return made


# --- 2024


def find_isic2024(inventory: Inventory) -> list[Path]:
    """The training metadata of Kaggle's SLICE-3D, or the permissive part's ground truth."""
    tables = [
        each
        for each in tables_with(inventory, "isic_id", "target")
        if any(name.startswith(("iddx_", "tbp_")) for name in each.columns)
    ]
    tables += tables_with(inventory, "isic_id", "malignant", name="^ISIC_2024")
    return [each.path for each in tables]


def read_isic2024(source: Source) -> Draft:
    """401,059 crops from total body photographs, benign or malignant, as files or in one HDF5."""
    raw = read_csv(source.tables[0])
    label = "target" if "target" in raw.columns else "malignant"
    table = pd.DataFrame({"image_id": raw["isic_id"], "source": "isic2024"})
    table["target"] = words(raw, label).replace(_TWO_WORDS)
    if "patient_id" not in raw.columns:  # the permissive part keeps them in a table beside
        metadata = _paths(source.inventory, "metadata", "isic_id", "patient_id")
        raw = _joined(metadata, "isic_id", table)
    table = table.assign(
        patient_id=words(raw, "patient_id"), lesion_id=words(raw, "lesion_id"), **person(raw)
    )
    notes = [
        "ISIC 2024 shows crops of total body photographs, not dermoscopy, and few of its benign "
        "labels are of histopathology.",
    ]
    stores = [
        name
        for name in source.inventory.left_out
        if name.lower().endswith((".hdf5", ".h5")) and "test" not in name.lower()
    ]
    if not source.inventory.images and len(stores) == 1:
        table["path"] = [f"{stores[0]}#{name}" for name in table["image_id"]]
    return draft(source, table, TWO, notes=notes)


# --- MILK10k


def find_milk10k(inventory: Inventory) -> list[Path]:
    """The ground truth, whose rows are lesions."""
    return [each.path for each in tables_with(inventory, "lesion_id", *MILK10K)]


def read_milk10k(source: Source) -> Draft:
    """5,240 lesions of eleven classes; of the two photographs of each the dermoscopic one."""
    truth = pd.concat([read_csv(path) for path in source.tables], ignore_index=True)
    of_lesion = dict(zip(truth["lesion_id"], one_hot(truth, MILK10K), strict=True))
    metadata = _paths(source.inventory, "metadata", "lesion_id", "isic_id", "image_type")
    raw = pd.concat(
        [read_csv(path) for path in metadata]
        or [pd.DataFrame(columns=["lesion_id", "isic_id", "image_type"], dtype=str)],
        ignore_index=True,
    )
    raw = raw[raw["lesion_id"].isin(of_lesion)].reset_index(drop=True)
    table = pd.DataFrame(
        {
            "image_id": raw["isic_id"],
            "target": raw["lesion_id"].map(of_lesion),
            "lesion_id": raw["lesion_id"],
            "source": "milk10k",
            **person(raw),
        }
    )
    made = draft(source, table, sorted(MILK10K.values()))
    clinical = ~words(raw, "image_type").str.lower().str.startswith("dermoscopic")
    if not clinical.all():
        made.leave_out(clinical, "a clinical photograph")
    made.notes += [
        "MILK10k names lesions, not patients: images of one patient may stand in different parts.",
        "MILK10k has a clinical photograph beside each dermoscopic image; those are left out.",
    ]
    return made
