"""How an export of the ISIC Archive reads: HAM10000, BCN20000, HIBA, MSK and all that it has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lesionlab import taxonomy
from lesionlab.data.collections.archive_diagnoses import LEGACY, class_of
from lesionlab.data.collections.isic_challenges import DX_TYPES, LESIONS_NOT_PATIENTS
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
from lesionlab.errors import DataError
from lesionlab.tables import read_csv

_HAM_IDS = range(24306, 34321)  # ISIC_0024306 to ISIC_0034320 are HAM10000
_ATTRIBUTIONS = (
    ("hospital italiano", "hiba"),
    ("hospital clínic de barcelona", "bcn20000"),
    ("hospital clinic de barcelona", "bcn20000"),
    ("memorial sloan", "msk"),
    ("vidir", "vidir"),
)
"""Short names of collections, by a part of the attribution that the Archive demands."""


def find_isic_archive(inventory: Inventory) -> list[Path]:
    """Tables with the Archive's ids and its diagnoses, of today or of before 2025."""
    tables = tables_with(inventory, "isic_id")
    return [
        each.path for each in tables if "diagnosis" in each.columns or "diagnosis_1" in each.columns
    ]


def read_isic_archive(source: Source) -> Draft:
    """Images with the class that the branch of their diagnosis has; others are left out by name."""
    exports = [read_csv(path, required=("isic_id",)) for path in source.tables]
    raw = pd.concat(exports, ignore_index=True).fillna("")
    levels = [name for name in (f"diagnosis_{i}" for i in range(1, 6)) if name in raw.columns]
    if levels:
        paths = raw[levels].agg(":".join, axis=1).str.strip(":")
    elif "diagnosis" in raw.columns:
        paths = words(raw, "diagnosis").str.lower()
    else:
        raise DataError(
            f"{source.tables[0]} has no diagnosis_1 ... diagnosis_5 and no diagnosis, so nothing "
            "to learn. Export the metadata of these images anew."
        )
    ham = raw["isic_id"].str.extract(r"^ISIC_(\d{7})$")[0].astype(float).isin(_HAM_IDS)
    attribution = words(raw, "attribution").str.lower()
    collection = pd.Series("isic-archive", index=raw.index)
    for part, name in _ATTRIBUTIONS:
        collection = collection.where(~attribution.str.contains(part, regex=False), name)
    table = pd.DataFrame(
        {
            "image_id": raw["isic_id"],
            "target": paths,
            "lesion_id": words(raw, "lesion_id"),
            "patient_id": words(raw, "patient_id"),
            "dx_type": words(raw, "diagnosis_confirm_type").str.lower().replace(dict(DX_TYPES)),
            "source": np.where(ham, "ham10000", collection),
            **person(raw),
        }
    )
    # HAM10000 counts invasive squamous cell carcinoma as akiec; elsewhere it is a class of its own.
    table["target"] = [
        "akiec" if of_ham and _class_of(path) == "scc" else path
        for path, of_ham in zip(table["target"], ham, strict=True)
    ]
    notes = [LESIONS_NOT_PATIENTS] if ham.any() and table["patient_id"].eq("").any() else []
    made = draft(source, table, taxonomy.HAM7, notes=notes)
    made = keep_classes(made, _class_of, "HAM10000, and scc")
    if "scc" in set(made.table["target"]):
        made.classes = taxonomy.order([*taxonomy.HAM7, "scc"])
    kinds = words(raw, "image_type").str.lower()
    other = kinds[(kinds != "") & ~kinds.str.startswith("dermoscopic")]
    if len(other):
        made.notes.append(
            f"{len(other):,} of {len(raw):,} images are no dermoscopy: "
            f"{', '.join(sorted(set(other))[:5])}."
        )
    return made


def _class_of(path: str) -> str:
    return path if path == "akiec" else LEGACY.get(path, "") or class_of(path)
