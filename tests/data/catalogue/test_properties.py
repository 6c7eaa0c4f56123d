"""Whatever lies on a disk: the account adds up, and no image gets a label that its row lacks."""

import csv
import gzip
import io
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.errors import DataError

NAMES = st.text(st.sampled_from("abAB01é_ .-"), min_size=1, max_size=6).filter(
    lambda name: name.strip(" .") == name
)
SPELLINGS = (
    lambda name, _: name,
    lambda name, suffix: f"{name}{suffix}",
    lambda name, suffix: f"{name}{suffix.lower()}",
    lambda name, _: f"{name} ",
    lambda name, _: name.upper(),
    lambda name, _: unicodedata.normalize("NFD", name),
)
"""How a table may write the name of a file."""
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".JPG": "JPEG", ".Jpeg": "JPEG", ".tif": "TIFF",
            ".TIFF": "TIFF", ".gif": "GIF", ".bmp": "BMP"}  # fmt: skip
TABLES = {"labels.csv": ",", "labels.CSV": ";", "labels.tsv": "\t", "labels.txt": "\t",
          "labels.csv.gz": ",", "labels.xlsx": ""}  # fmt: skip
"""Names of tables, and their separator."""
LABELS = ("mel", "nv", "Nevus", "lentigo, simple", "bkl")
FAULTS = ("no file", "no row", "copy", "mask", "two labels", "not decoded", "hidden", "text")


def png(seed, kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 18, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def written(name, rows, encoding):
    """The bytes of a table."""
    if name.endswith(".xlsx"):
        return b"PK\x03\x04"  # refused by its name
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=TABLES[name]).writerows(rows)
    raw = text.getvalue().encode(encoding)
    return gzip.compress(raw) if name.endswith(".gz") else raw


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def checked(folder, label_of):
    """Read a folder; None where it was refused with a reason.

    Args:
        folder: to be read.
        label_of: the labels that each picture may have, by its content.
    """
    try:
        data = catalogue(folder)
    except DataError:
        return None
    files, rows = data.account["files"], data.account["rows"]
    assert files["seen"] == sum(each.is_file() for each in folder.rglob("*"))
    assert files["seen"] == files["taken"] + sum(files["left_out"].values())
    assert rows["read"] == rows["taken"] + sum(rows["left_out"].values())
    assert rows["taken"] == len(data) <= files["taken"] + 1
    for row in data.table.itertuples():
        allowed = label_of[(data.root / row.path).read_bytes()]
        assert row.target in allowed, (row.path, row.target, allowed)
    return data


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    names=st.lists(NAMES, min_size=3, max_size=6, unique_by=lambda name: name.casefold()),
    labels=st.lists(st.sampled_from(LABELS), min_size=6, max_size=6),
    spelling=st.sampled_from(SPELLINGS),
    table=st.sampled_from(sorted(TABLES)),
    suffixes=st.lists(st.sampled_from(sorted(SUFFIXES)), min_size=6, max_size=6),
    encoding=st.sampled_from(("utf-8", "utf-8-sig", "utf-16")),
    folders=st.sampled_from((("",), ("images/",), ("a/", "b/c/"))),
    faults=st.sets(st.sampled_from(FAULTS), max_size=3),
)
def test_a_table_and_its_photographs(
    names, labels, spelling, table, suffixes, encoding, folders, faults
):
    canonical = {"Nevus": "nv"}
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "set"
        label_of, rows = {}, []
        for number, name in enumerate(names):
            label, suffix = labels[number], suffixes[number]
            content = png(number, SUFFIXES[suffix])
            label_of[content] = {canonical.get(label, label)}
            rows.append((spelling(name, suffix), label))
            if not (number == 0 and "no file" in faults):
                put(folder, f"{folders[number % len(folders)]}{name}{suffix}", content)
        if "no row" in faults:
            put(folder, "more/without a row.png", png(99))
            label_of[png(99)] = set()
        if "copy" in faults:
            put(folder, f"copies/{names[1]}{suffixes[1]}", png(1, SUFFIXES[suffixes[1]]))
        if "mask" in faults:
            put(folder, f"masks/{names[1]}.png", png(98))
            label_of[png(98)] = set()
        if "two labels" in faults:
            other = "mel" if labels[2] != "mel" else "nv"
            rows.append((spelling(names[2], suffixes[2]), other))
            label_of[png(2, SUFFIXES[suffixes[2]])] = set()
        if "not decoded" in faults:
            put(folder, "x.cr2", b"raw")
        if "hidden" in faults:
            put(folder, f".hidden/{names[1]}.png", png(97))
            label_of[png(97)] = set()
        if "text" in faults:
            put(folder, "README.txt", b"a,b\n")
        put(folder, table, written(table, [("image_id", "target"), *rows], encoding))
        data = checked(folder, label_of)
        if data is not None:
            assert not {"no file", "two labels"} & faults  # masks are left out, or refused
            assert table != "labels.xlsx"  # refused: to be saved as CSV
            assert len(data) == len(names)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    classes=st.lists(
        st.sampled_from(("mel", "Melanoma", "nevus ", "nevi", "SCC", "scc", "wart")),
        min_size=2,
        max_size=4,
        unique=True,
    ),
    parts=st.sampled_from((("",), ("train/", "test/"), ("Train/", "valid/", "Test/"), ("data/",))),
    deeper=st.booleans(),
    same=st.booleans(),
)
def test_class_folders(classes, parts, deeper, same):
    canonical = {"Melanoma": "mel", "nevus ": "nv", "nevi": "nv"}
    with tempfile.TemporaryDirectory() as home:
        folder, label_of, seed = Path(home) / "set", {}, 0
        for part in parts:
            for label in classes:
                for number in range(2):
                    seed += 1
                    inner = f"p{number}/" if deeper else ""
                    stem = number if same else seed
                    put(folder, f"{part}{label}/{inner}{stem}.png", png(seed))
                    label_of[png(seed)] = {canonical.get(label, label)}
        data = checked(folder, label_of)
        distinct = {canonical.get(label, label) for label in classes}
        if data is None:
            assert len(distinct) < 2 or {"SCC", "scc"} <= distinct
        else:
            assert len(data) == seed
            assert data.table["image_id"].is_unique
            assert set(data.classes) == distinct
            known = {"train/": "train", "test/": "test", "Train/": "train", "valid/": "val",
                     "Test/": "test"}  # fmt: skip
            assert set(data.table["part"]) == {known.get(part, "") for part in parts}
