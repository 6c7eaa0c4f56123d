"""How published collections outside the ISIC Archive lie on disk: one reader each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from lesionlab import taxonomy
from lesionlab.data.collections.isic_challenges import LESIONS_NOT_PATIENTS, NO_GROUPS, TWO
from lesionlab.data.sources.draft import (
    Draft,
    Source,
    draft,
    keep_classes,
    person,
    tables_with,
    words,
)
from lesionlab.data.sources.inventory import Inventory
from lesionlab.data.synthetic.dataset import SETTINGS
from lesionlab.errors import DataError
from lesionlab.tables import read_csv

NOT_PHOTOGRAPHS = (
    "These lesions are drawn by a program: no figure measured here says anything about real ones."
)
NOT_DERMOSCOPY = (
    "shows clinical photographs, not dermoscopy: a model of the one fails on the other."
)
PAD_UFES_20: Mapping[str, str] = MappingProxyType(
    {"ACK": "akiec", "BCC": "bcc", "MEL": "mel", "NEV": "nv", "SCC": "scc", "SEK": "bkl"}
)
BCN20000: Mapping[str, str] = MappingProxyType(
    {"AK": "akiec", "BCC": "bcc", "BKL": "bkl", "DF": "df", "MEL": "mel", "NV": "nv",
     "SCC": "scc", "VASC": "vasc"}
)  # fmt: skip
DERM7PT: Mapping[str, str] = MappingProxyType(
    {
        "actinic keratosis": "akiec",
        "basal cell carcinoma": "bcc",
        "dermatofibroma": "df",
        "port wine stain": "vasc",
        "seborrheic keratosis": "bkl",
        "vascular lesion": "vasc",
        **{
            f"{kind}nevus": "nv"
            for kind in ("", "blue ", "clark ", "combined ", "congenital ", "dermal ", "recurrent ",
                         "reed or spitz ")
        },
        **{
            f"melanoma{stage}": "mel"
            for stage in ("", " (in situ)", " (less than 0.76 mm)", " (0.76 to 1.5 mm)",
                          " (more than 1.5 mm)", " metastasis")
        },
    }
)  # fmt: skip
"""Class of each diagnosis of Derm7pt; lentigo, melanosis and miscellaneous are none of ours."""
_HAM_TABLE = r"^HAM10000_?metadata(\.csv|\.tab|\.tsv|\.txt)?$"
_PIXELS = r"^hmnist_\d+_\d+_(RGB|L)\.csv$"


# --- HAM10000


def find_ham10000(inventory: Inventory) -> list[Path]:
    """Its table by name or by its columns, unless its images are there only as pixel tables."""
    if tables_with(inventory, name=_PIXELS) and not inventory.images:
        return []
    return ham_tables(inventory)


def ham_tables(inventory: Inventory) -> list[Path]:
    """Its table under the names of Dataverse and Kaggle, or as an export with its columns."""
    named = [each.path for each in tables_with(inventory, name=_HAM_TABLE)]
    alike = [each.path for each in tables_with(inventory, "lesion_id", "dx", "localization")]
    return named[:1] or alike  # one table may be there as .csv and as .tab


def read_ham10000(source: Source) -> Draft:
    """10,015 dermatoscopic images of seven classes, as Dataverse, Kaggle or an export has them."""
    raw = pd.concat([_ham_rows(path) for path in source.tables], ignore_index=True)
    table = pd.DataFrame(
        {
            "image_id": raw["image_id"],
            "target": raw["dx"].map(taxonomy.canonical),
            "lesion_id": words(raw, "lesion_id"),
            "dx_type": words(raw, "dx_type").str.lower(),
            "source": words(raw, "dataset").str.lower().replace("", "ham10000"),
            **person(raw),
        }
    )
    if len(source.tables) > 1:
        table["part"] = raw["part"]
    made = draft(source, table, taxonomy.HAM7, notes=[LESIONS_NOT_PATIENTS])
    if (source.folder / SETTINGS).is_file():
        made.table["source"] = "drawn by lesionlab"
        made.notes = [NOT_PHOTOGRAPHS, *made.notes[1:]]
    return made


def _ham_rows(path: Path) -> pd.DataFrame:
    raw = read_csv(path, required=("lesion_id", "dx"))
    if "image_id" not in raw.columns:
        name = next((each for each in ("file_name", "image") if each in raw.columns), "")
        if not name:
            read_csv(path, required=("image_id",))  # says what is missing
        raw = raw.rename(columns={name: "image_id"})
    parts = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
    known = [parts[each] for each in re.split(r"[^a-z]+", str(path).lower()) if each in parts]
    return raw.assign(part=known[-1] if known else "")


# --- PAD-UFES-20


def find_pad_ufes_20(inventory: Inventory) -> list[Path]:
    """Its metadata.csv."""
    return [each.path for each in tables_with(inventory, "img_id", "diagnostic", "patient_id")]


def read_pad_ufes_20(source: Source) -> Draft:
    """2,298 photographs of 1,373 patients, taken with phones."""
    raw = read_csv(source.tables[0])
    table = pd.DataFrame(
        {
            "image_id": raw["img_id"],
            "target": words(raw, "diagnostic").str.upper(),
            "patient_id": words(raw, "patient_id"),
            # lesion_id alone repeats among patients
            "lesion_id": composed(raw, ("patient_id", "lesion_id")),
            "dx_type": words(raw, "biopsed").str.lower().eq("true").map({True: "histo", False: ""}),
            "source": "pad-ufes-20",
            **person(raw),
        }
    )
    classes = taxonomy.order(list(PAD_UFES_20.values()))
    notes = [
        f"PAD-UFES-20 {NOT_DERMOSCOPY}",
        "Its lesion ids repeat among patients: patient and lesion together name the lesion here.",
        "Its scc holds Bowen's disease, which HAM10000 counts as akiec.",
    ]
    made = draft(source, table, classes, notes=notes)
    return keep_classes(made, lambda label: PAD_UFES_20.get(label, ""), "PAD-UFES-20")


def composed(raw: pd.DataFrame, columns: tuple[str, ...]) -> pd.Series:
    """Columns that name something only together, joined by "/"; "" where one is unknown."""
    parts = [words(raw, name) for name in columns]
    known = pd.concat([part != "" for part in parts], axis=1).all(axis=1)
    joined = ["/".join(cells) for cells in zip(*parts, strict=True)]
    return pd.Series(joined, raw.index, dtype=object).where(known, "")


# --- BCN20000 as its own download; the Archive has it, too


def find_bcn20000(inventory: Inventory) -> list[Path]:
    """The table beside its images."""
    return [each.path for each in tables_with(inventory, "bcn_filename", "diagnosis")]


def read_bcn20000(source: Source) -> Draft:
    """Dermoscopic images of Barcelona's Hospital Clínic, nails and mucosa included."""
    raw = pd.concat([read_csv(path) for path in source.tables], ignore_index=True)
    table = pd.DataFrame(
        {
            "image_id": raw["bcn_filename"],
            "target": words(raw, "diagnosis").str.upper(),
            "lesion_id": words(raw, "lesion_id"),
            "source": "bcn20000",
            **person(raw),
        }
    )
    notes = [
        "BCN20000 names lesions, not patients: images of one patient may stand in different parts."
    ]
    classes = taxonomy.order(list(BCN20000.values()))
    made = draft(source, table, classes, notes=notes, missing="leave out")
    return keep_classes(made, lambda label: BCN20000.get(label, ""), "BCN20000")


# --- PH2


def find_ph2(inventory: Inventory) -> list[Path]:
    """Its text table."""
    return [
        inventory.folder / name
        for name in inventory.left_out
        if name.rpartition("/")[2].lower() == "ph2_dataset.txt"
    ]


def read_ph2(source: Source) -> Draft:
    """200 dermoscopic images, one folder per case with its masks, and a table drawn in text."""
    text = source.tables[0].read_text(encoding="utf-8", errors="replace")
    lines = [
        [cell.strip() for cell in line.strip().strip("|").split("||")]
        for line in text.splitlines()
        if "||" in line
    ]
    heads = next((line for line in lines if line[0].lower() == "name"), None)
    if heads is None or "Clinical Diagnosis" not in heads:
        raise DataError(f"{source.tables[0]} has no line with Name and Clinical Diagnosis.")
    place = heads.index("Clinical Diagnosis")
    rows = [line for line in lines if re.fullmatch(r"IMD\d+", line[0]) and len(line) > place]
    kinds = {"0": "nv", "1": "nv", "2": "mel"}  # common and atypical nevi, melanoma
    table = pd.DataFrame(
        {
            "image_id": [line[0] for line in rows],
            "target": [kinds.get(line[place], line[place]) for line in rows],
            "source": "ph2",
        }
    )
    notes = [
        f"PH2 {NO_GROUPS}",
        "Of PH2's diagnoses common and atypical nevi (80 each) are nv here, 40 images are mel.",
    ]
    return draft(source, table, ("mel", "nv"), notes=notes)


# --- Derm7pt


def find_derm7pt(inventory: Inventory) -> list[Path]:
    """Its meta.csv."""
    return [each.path for each in tables_with(inventory, "case_num", "derm", "diagnosis")]


def read_derm7pt(source: Source) -> Draft:
    """1,011 cases with a dermoscopic and a clinical image each; the dermoscopic one is taken."""
    path = source.tables[0]
    raw = read_csv(path)
    table = pd.DataFrame(
        {
            "image_id": raw["derm"],
            "target": words(raw, "diagnosis").str.lower(),
            "lesion_id": words(raw, "case_num").map(lambda number: number and f"case_{number}"),
            "source": "derm7pt",
            **person(raw),
        }
    )
    parts = {"train": "train", "valid": "val", "test": "test"}
    official = {
        int(row): part
        for name, part in parts.items()
        if (file := path.parent / f"{name}_indexes.csv").is_file()
        for row in read_csv(file, required=("indexes",))["indexes"]
    }
    table["part"] = [official.get(row, "") for row in range(len(table))]
    notes = [
        "Derm7pt names cases, not patients: images of one patient may stand in different parts.",
        "Derm7pt has a clinical photograph beside each dermoscopic image; those are left out.",
    ]
    made = draft(source, table, (), notes=notes)
    if "clinic" in raw.columns:
        clinical = draft(source, pd.DataFrame({"image_id": raw["clinic"]}), ())
        for image in clinical.table["path"]:
            made.files_left_out.setdefault(image, "a clinical photograph")
    made = keep_classes(made, lambda label: DERM7PT.get(label, ""), "Derm7pt")
    made.classes = taxonomy.order(list(made.table["target"]))
    return made


# --- Fitzpatrick17k


def find_fitzpatrick17k(inventory: Inventory) -> list[Path]:
    """Its table."""
    return [each.path for each in tables_with(inventory, "md5hash", "three_partition_label")]


def read_fitzpatrick17k(source: Source) -> Draft:
    """16,577 clinical photographs of two atlases: benign, malignant or non-neoplastic."""
    raw = read_csv(source.tables[0])
    table = pd.DataFrame(
        {
            "image_id": raw["md5hash"],
            "target": words(raw, "three_partition_label").str.lower(),
            "source": "fitzpatrick17k",
        }
    )
    notes = [
        f"Fitzpatrick17k {NOT_DERMOSCOPY}",
        f"Fitzpatrick17k {NO_GROUPS}",
        "Classes are its three_partition_label; its 114 labels: --columns image_id=md5hash "
        "target=label. No diagnosis was checked by histopathology, and some are wrong.",
    ]
    classes = ("benign", "malignant", "non-neoplastic")
    return draft(source, table, classes, notes=notes, missing="leave out")


# --- DDI


def find_ddi(inventory: Inventory) -> list[Path]:
    """Its ddi_metadata.csv."""
    return [each.path for each in tables_with(inventory, "DDI_file", "malignant")]


def read_ddi(source: Source) -> Draft:
    """656 clinical photographs of diverse skin tones, all diagnosed by histopathology."""
    raw = read_csv(source.tables[0])
    kinds = {"true": "malignant", "1": "malignant", "false": "benign", "0": "benign"}
    table = pd.DataFrame(
        {
            "image_id": raw["DDI_file"],
            "target": words(raw, "malignant").str.lower().map(lambda word: kinds.get(word, word)),
            "dx_type": "histo",
            "source": "ddi",
        }
    )
    notes = [f"DDI {NOT_DERMOSCOPY}", f"DDI {NO_GROUPS}"]
    return draft(source, table, TWO, notes=notes)
