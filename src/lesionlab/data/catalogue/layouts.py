"""How public collections lie on disk: one reader per layout, from a folder to a draft table.

A reader only translates words. It checks nothing and guesses nothing: what a source does not say
is "" or NaN, and what makes no sense is left for `lesionlab.data.audit.audit` to name.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from lesionlab import taxonomy
from lesionlab.data.images.decode import EXTENSIONS
from lesionlab.data.images.reader import read_pixel_table
from lesionlab.data.synthetic import dataset
from lesionlab.errors import DataError
from lesionlab.tables import CATALOGUE, PARTS, known_words, read_csv

ISIC2018 = ("mel", "nv", "bcc", "akiec", "bkl", "df", "vasc")
"""Column order of the ISIC 2018 task 3 ground truth."""
HMNIST = ("akiec", "bcc", "bkl", "df", "nv", "vasc", "mel")
"""Label order of Kaggle's hmnist tables."""

NOT_PHOTOGRAPHS = (
    "These lesions are drawn by a program: no figure measured here says anything about real ones."
)
LESIONS_NOT_PATIENTS = (
    "HAM10000 names lesions, not patients: images of one patient's different lesions may stand in "
    "different parts, and nothing in the public files can show it."
)
_ARCHIVE_DX_TYPE = MappingProxyType(
    {
        "histopathology": "histo",
        "serial imaging showing no change": "follow_up",
        "single image expert consensus": "consensus",
        "confocal microscopy with consensus dermoscopy": "confocal",
    }
)
_ARCHIVE_CLASSES = (  # first match wins, against "diagnosis_1:diagnosis_2:...", lower case
    ("mel", r"melanoma"),
    ("nv", r"nevus"),
    ("bcc", r"basal cell carcinoma"),
    ("akiec", r"actinic keratosis|squamous cell carcinoma in situ|bowen"),
    ("bkl", r"seborrheic keratosis|solar lentigo|lichen planus.like|pigmented benign keratosis"),
    ("df", r"dermatofibroma"),
    ("vasc", r"hemangioma|angiokeratoma|pyogenic granuloma|hemorrhage|proliferations - vascular"),
)
_HAM_IDS = range(24306, 34321)  # ISIC_0024306 to ISIC_0034320 are HAM10000


@dataclass
class Draft:
    """What a layout says, before anything is checked.

    Attributes:
        table: columns image_id, path and whatever else of `tables.CATALOGUE` the source knows.
        classes: the classes the source may use; empty where any label is good.
        root: folder that `path` is relative to.
        layout: name of the reader.
        notes: what a reader of reports has to know about this source.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    root: Path
    layout: str = ""
    notes: list[str] = field(default_factory=list)


def read_layout(
    folder: Path,
    layout: str = "auto",
    table: Path | None = None,
    columns: Mapping[str, str] | None = None,
) -> Draft:
    """Read a folder in any known layout.

    Args:
        folder: the data folder, or one file of a known kind.
        layout: a key of `LAYOUTS`, or "auto" to look for the files of each in turn.
        table: the table to read, where a folder holds several.
        columns: for layout "csv": the table's own column for each of ours,
            {"image_id": "name", "target": "label"}.

    Returns:
        The draft of a catalogue.

    Raises:
        DataError: if there is nothing there, or nothing that any reader knows.
    """
    if not folder.exists():
        raise DataError(f"{folder} does not exist. Give the folder that the download unpacked to.")
    if folder.is_file():
        folder, table = folder.parent, folder
    if table is not None and not table.is_file():
        if not (folder / table).is_file():
            raise DataError(f"{table} does not exist, neither here nor in {folder}.")
        table = folder / table
    if columns:
        layout = "csv"
        if unknown := sorted(set(columns) - set(CATALOGUE)):
            raise DataError(
                f"--columns maps our columns to the table's own, and {', '.join(unknown)} "
                f"{'are' if len(unknown) > 1 else 'is'} none of ours. Ours: {', '.join(_OWN)}."
            )
        table = table or _mapped_table(folder, columns)
    if layout not in ("auto", *LAYOUTS):
        raise DataError(f"{layout!r} is no known layout. Known: auto, {', '.join(LAYOUTS)}.")
    for name, (find, read) in LAYOUTS.items():
        if layout not in ("auto", name):
            continue
        tables = [table] if layout == name and table else find(folder)
        if table and table.resolve() not in [each.resolve() for each in tables]:
            continue
        if table:
            tables = [table]
        if tables:
            draft = read(folder, tables, columns or {})
            draft.layout = name
            return draft
        if layout == name:
            raise DataError(
                f"{folder} holds none of the files of layout {name!r}: {_EXPECTED[name]}."
            )
    if table:  # one of one's own in our words, or one that is to be told what it lacks
        draft = _read_csv_table(folder, [table], {})
        draft.layout = "csv"
        return draft
    if not any(each.suffix.lower() in EXTENSIONS for each in folder.rglob("*")):
        raise DataError(
            f"{folder} holds no images and no table that lesionlab knows. Give the folder that "
            "the download unpacked to, or fetch one: `lesionlab fetch ham10000`."
        )
    known = "\n".join(f"  {name}: {text}" for name, text in _EXPECTED.items())
    raise DataError(
        f"{folder} holds images, but in no layout that lesionlab knows:\n{known}\n"
        "For a table of your own: --table FILE --columns image_id=COLUMN target=COLUMN ..."
    )


def image_files(folder: Path) -> dict[str, str]:
    """All images below a folder that are not masks: their relative paths, by name without suffix.

    Of two files with one name the first in alphabetical order counts, as with two unpacked copies.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if _is_photo(path) and "__MACOSX" not in path.parts:
            found.setdefault(path.stem, path.relative_to(folder).as_posix())
    return found


def _is_photo(path: Path) -> bool:
    """Whether a file's name is that of an image, not of a mask or of macOS's own notes."""
    mask = re.search(r"^\._|_(segmentation|superpixels)$", path.stem)
    return path.suffix.lower() in EXTENSIONS and not mask


def _stem(image_id: str) -> str:
    """An image id without the suffix of an image file."""
    return Path(image_id).stem if image_id.lower().endswith(EXTENSIONS) else image_id


def _paths(folder: Path, image_ids: pd.Series) -> list[str]:
    """The file of each image; where there is none, the name it should have."""
    files = image_files(folder)
    stems = [_stem(each) for each in image_ids]
    return [files.get(stem, f"{stem}.jpg") for stem in stems]


def _matching(folder: Path, pattern: str) -> list[Path]:
    regex = re.compile(pattern, re.IGNORECASE)
    return sorted(
        each for each in folder.rglob("*") if each.is_file() and regex.fullmatch(each.name)
    )


def _unknown(values: pd.Series) -> pd.Series:
    """Lower-case words, with every way of saying "unknown" as ""."""
    return known_words(values).str.lower()


def _read_ham10000(folder: Path, tables: Sequence[Path], _columns: Mapping[str, str]) -> Draft:
    raw = read_csv(tables[0], required=("lesion_id", "image_id", "dx"))
    empty = pd.Series("", index=raw.index)
    table = pd.DataFrame(
        {
            "image_id": raw["image_id"],
            "path": _paths(folder, raw["image_id"]),
            "target": raw["dx"].map(taxonomy.canonical),
            "lesion_id": known_words(raw["lesion_id"]),
            "dx_type": _unknown(raw.get("dx_type", empty)),
            "age": _unknown(raw.get("age", empty)),
            "sex": _unknown(raw.get("sex", empty)),
            "site": _unknown(raw.get("localization", empty)),
            "source": _unknown(raw.get("dataset", empty)).replace("", "ham10000"),
        }
    )
    if (folder / dataset.SETTINGS).is_file():
        table["source"] = "drawn by lesionlab"
        return Draft(table, taxonomy.HAM7, folder, notes=[NOT_PHOTOGRAPHS])
    return Draft(table, taxonomy.HAM7, folder, notes=[LESIONS_NOT_PATIENTS])


def _read_isic2018(folder: Path, tables: Sequence[Path], _columns: Mapping[str, str]) -> Draft:
    rows = []
    for path in tables:
        raw = read_csv(path, required=("image", *(code.upper() for code in ISIC2018)))
        hot = raw[[code.upper() for code in ISIC2018]].apply(pd.to_numeric, errors="coerce")
        target = pd.Series(np.array(ISIC2018)[hot.fillna(0).to_numpy().argmax(axis=1)], raw.index)
        one = (hot == 1).sum(axis=1).eq(1) & (hot == 0).sum(axis=1).eq(len(ISIC2018) - 1)
        part = next((v for k, v in _ISIC_PARTS.items() if k in path.name.lower()), "")
        image_id = raw["image"].map(_stem)
        target = target.where(one, "(not one-hot)")
        rows.append(pd.DataFrame({"image_id": image_id, "target": target, "part": part}))
    table = pd.concat(rows, ignore_index=True)
    table["path"] = _paths(folder, table["image_id"])
    table["source"] = "isic2018"
    notes = []
    groupings = _matching(folder, r"ISIC2018_Task3_.*LesionGroupings.*\.csv")
    if groupings:
        lesions = pd.concat([read_csv(path, required=("image", "lesion_id")) for path in groupings])
        lesions["image"] = lesions["image"].map(_stem)
        lesions = lesions.drop_duplicates("image").set_index("image")
        table["lesion_id"] = known_words(table["image_id"].map(lesions["lesion_id"]).fillna(""))
        confirm = next((name for name in lesions.columns if "confirm" in name), None)
        if confirm:
            kinds = _unknown(table["image_id"].map(lesions[confirm]).fillna(""))
            table["dx_type"] = kinds.replace(dict(_ARCHIVE_DX_TYPE))
        notes.append(LESIONS_NOT_PATIENTS)
    if table.get("lesion_id", pd.Series("", table.index)).eq("").any():
        notes.append(
            "Some images have no lesion id: whether their lesions cross parts cannot be checked."
        )
    return Draft(table, taxonomy.HAM7, folder, notes=notes)


_ISIC_PARTS = MappingProxyType({"training": "train", "validation": "val", "test": "test"})


def _read_isic_archive(folder: Path, tables: Sequence[Path], _columns: Mapping[str, str]) -> Draft:
    raw = read_csv(tables[0], required=("isic_id",))
    levels = [name for name in (f"diagnosis_{i}" for i in range(1, 6)) if name in raw.columns]
    if not levels:
        raise DataError(
            f"{tables[0]} has no diagnosis_1 ... diagnosis_5, so nothing to learn. Exports made "
            "before 2025 called it 'diagnosis': map it with "
            "--columns image_id=isic_id target=diagnosis."
        )
    empty = pd.Series("", index=raw.index)
    trail = raw[levels].agg(":".join, axis=1)
    ham = raw["isic_id"].str.extract(r"^ISIC_(\d{7})$")[0].astype(float).isin(_HAM_IDS)
    target = trail.map(_archive_class)
    # HAM10000 counts invasive squamous cell carcinoma as akiec; ISIC 2019 has a class of its own.
    scc = ham & trail.str.contains("squamous cell carcinoma", case=False)
    target = target.where(~scc, "akiec")
    table = pd.DataFrame(
        {
            "image_id": raw["isic_id"],
            "path": _paths(folder, raw["isic_id"]),
            "target": target,
            "lesion_id": known_words(raw.get("lesion_id", empty)),
            "patient_id": known_words(raw.get("patient_id", empty)),
            "dx_type": _unknown(raw.get("diagnosis_confirm_type", empty)).replace(
                dict(_ARCHIVE_DX_TYPE)
            ),
            "age": _unknown(raw.get("age_approx", empty)),
            "sex": _unknown(raw.get("sex", empty)),
            "site": _unknown(raw.get("anatom_site_general", empty)),
            "source": np.where(ham, "ham10000", "isic-archive"),
        }
    )
    notes = [LESIONS_NOT_PATIENTS] if ham.any() and table["patient_id"].eq("").any() else []
    return Draft(table, taxonomy.HAM7, folder, notes=notes)


def _archive_class(trail: str) -> str:
    """The HAM10000 class of an ISIC Archive diagnosis path, or the path itself."""
    lower = trail.lower()
    for code, pattern in _ARCHIVE_CLASSES:
        if re.search(pattern, lower):
            return code
    return trail.strip(":")


def _read_class_folders(folder: Path, tables: Sequence[Path], _columns: Mapping[str, str]) -> Draft:
    rows = [
        (path.stem, path.relative_to(folder).as_posix(), taxonomy.canonical(path.parent.name))
        for path in tables
    ]
    table = pd.DataFrame(rows, columns=["image_id", "path", "target"])
    table["source"] = folder.resolve().name
    notes = ["Folders name no lesions: whether images of one lesion cross parts cannot be checked."]
    return Draft(table, taxonomy.order(list(table["target"])), folder, notes=notes)


def _class_folder_images(folder: Path) -> list[Path]:
    children = [each for each in sorted(folder.iterdir()) if each.is_dir()]
    found = {
        child: [each for each in sorted(child.iterdir()) if _is_photo(each)] for child in children
    }
    full = [child for child, paths in found.items() if paths]
    parts = r"_(part_\d|input|segmentations?)"
    if len(full) < 2 or any(re.search(parts, each.name, re.IGNORECASE) for each in full):
        return []
    return [path for child in full for path in found[child]]


def _read_medmnist(_folder: Path, tables: Sequence[Path], _columns: Mapping[str, str]) -> Draft:
    path = tables[0]
    name = path.stem
    derma = name.lower().startswith("dermamnist")
    rows = []
    names = taxonomy.HAM7 if derma else ()
    with np.load(path) as arrays:
        for part in (each for each in PARTS if f"{each}_labels" in arrays.files):
            labels = arrays[f"{part}_labels"].reshape(-1)
            for row, label in enumerate(labels):
                target = names[label] if 0 <= label < len(names) else f"class_{label}"
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
    return Draft(table, classes, path.parent, notes=notes)


def _is_medmnist(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not a whole .npz file. Fetch it again.")
    with np.load(path) as arrays:
        return {"train_images", "train_labels", "test_images", "test_labels"} <= set(arrays.files)


def _read_hmnist(folder: Path, tables: Sequence[Path], _columns: Mapping[str, str]) -> Draft:
    path = max(tables, key=lambda each: each.stat().st_size)
    _, labels = read_pixel_table(path)
    names = [f"{path.stem}-{row:05d}" for row in range(len(labels))]
    table = pd.DataFrame(
        {
            "image_id": names,
            "path": [f"{path.relative_to(folder).as_posix()}#{row}" for row in range(len(labels))],
            "target": [
                HMNIST[label] if 0 <= label < len(HMNIST) else str(label) for label in labels
            ],
            "source": "hmnist",
        }
    )
    notes = ["Kaggle's pixel tables name no lesions: whether they cross parts cannot be checked."]
    metadata = _ham_table(path.parent)
    if metadata:
        ham = _read_ham10000(folder, metadata, {}).table
        if list(ham["target"]) == list(table["target"]):  # the same images in the same order
            for name in ("lesion_id", "dx_type", "age", "sex", "site"):
                table[name] = ham[name]
            notes = [LESIONS_NOT_PATIENTS]
    return Draft(table, taxonomy.HAM7, folder, notes=notes)


def _read_csv_table(folder: Path, tables: Sequence[Path], columns: Mapping[str, str]) -> Draft:
    names = {"image_id": "image_id", "target": "target", **columns}
    raw = read_csv(tables[0], required=tuple(names.values()))
    names |= {name: name for name in _OWN if name in raw.columns and name not in names}
    table = pd.DataFrame({ours: raw[theirs] for ours, theirs in names.items()})
    table["target"] = known_words(table["target"]).map(taxonomy.canonical)
    for name in {"dx_type", "age", "sex", "site"} & set(table.columns):
        table[name] = _unknown(table[name])
    for name in {"lesion_id", "patient_id"} & set(table.columns):
        table[name] = known_words(table[name])
    if "path" not in table.columns:
        table["path"] = _paths(folder, table["image_id"])
    table["image_id"] = table["image_id"].map(_stem)
    notes = []
    if "lesion_id" not in table.columns and "patient_id" not in table.columns:
        notes = ["The table names no lesions: whether their images cross parts cannot be checked."]
    classes = taxonomy.order([each for each in table["target"] if each])
    return Draft(table, classes, folder, notes=notes)


_OWN = tuple(name for name in CATALOGUE if name not in ("width", "height", "bytes", "sha256"))


def _mapped_table(folder: Path, columns: Mapping[str, str]) -> Path:
    """The one table of a folder that has the columns that `--columns` names.

    Raises:
        DataError: if there is none, or more than one.
    """
    tables = _headed(folder)
    if len(tables) > 1:
        found = _headed(folder, *columns.values())
        if len(found) != 1:
            raise DataError(
                f"{len(found) or 'None'} of the tables in {folder} "
                f"({', '.join(each.name for each in found or tables)}) have the columns "
                f"{', '.join(columns.values())}. Say which to read with --table FILE."
            )
        return found[0]
    if not tables:
        raise DataError(f"{folder} holds no .csv, .tab or .tsv table. Give one with --table FILE.")
    return tables[0]


def _headed(folder: Path, *needed: str) -> list[Path]:
    """Tables directly in a folder whose header has all of the needed columns."""
    found = []
    for path in sorted([*folder.glob("*.csv"), *folder.glob("*.tab"), *folder.glob("*.tsv")]):
        if path.name in _OURS:
            continue
        with path.open(encoding="utf-8-sig", errors="replace") as handle:
            header = set(re.split(r"[,\t]", handle.readline().strip()))
        if {*needed} <= {each.strip().strip('"') for each in header}:
            found.append(path)
    return found


_OURS = ("catalogue.csv", "split.csv", "findings.csv", "predictions.csv")


def _ham_table(folder: Path) -> list[Path]:
    return _matching(folder, r"HAM10000_?metadata(\.csv|\.tab|\.tsv|\.txt)?")


def _ham_table_of_images(folder: Path) -> list[Path]:
    """HAM10000's table, unless its images are there only as Kaggle's pixel tables."""
    pixels_only = _pixel_tables(folder) and not image_files(folder)
    return [] if pixels_only else _ham_table(folder)


def _pixel_tables(folder: Path) -> list[Path]:
    return _matching(folder, r"hmnist_\d+_\d+_(RGB|L)\.csv")


_Find = Callable[[Path], list[Path]]
_Read = Callable[[Path, Sequence[Path], Mapping[str, str]], Draft]
LAYOUTS: Mapping[str, tuple[_Find, _Read]] = MappingProxyType(
    {
        "ham10000": (_ham_table_of_images, _read_ham10000),
        "isic2018": (
            lambda folder: _matching(folder, r"ISIC2018_Task3_\w+_GroundTruth\.csv"),
            _read_isic2018,
        ),
        "hmnist": (_pixel_tables, _read_hmnist),
        "isic-archive": (lambda folder: _headed(folder, "isic_id"), _read_isic_archive),
        "medmnist": (
            lambda folder: [path for path in sorted(folder.glob("*.npz")) if _is_medmnist(path)],
            _read_medmnist,
        ),
        "csv": (lambda folder: _headed(folder, "image_id", "target"), _read_csv_table),
        "folders": (_class_folder_images, _read_class_folders),
    }
)
_EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "ham10000": "HAM10000_metadata.csv or .tab, beside one or more image folders",
        "isic2018": "ISIC2018_Task3_<part>_GroundTruth.csv, beside <part>_Input folders",
        "hmnist": "hmnist_28_28_RGB.csv and the like, from Kaggle",
        "isic-archive": "a metadata.csv with isic_id, exported from the ISIC Archive",
        "medmnist": "an .npz with train_images, train_labels, ...",
        "csv": "a .csv with image_id and target, or any with --columns",
        "folders": "one folder of images per class",
    }
)
