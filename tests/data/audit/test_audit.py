"""Images stay where they are: nothing is copied into class folders (mistake M14 of the sources)."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from lesionlab.data.audit.audit import audit
from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.splits import split
from lesionlab.errors import DataError, FindingsError


def photos(folder, names):
    """Save one distinct image per name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rng = np.random.default_rng([ord(letter) for letter in name])
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{name}.png")


def files(folder):
    """Every file below a folder, with its content and the time it was last changed."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in found
    }


def by_class(folder):
    photos(folder / "mel", ["a", "b", "c"])
    photos(folder / "nv", ["d", "e", "f"])
    return {"a": "mel/a.png", "b": "mel/b.png", "c": "mel/c.png"}


def in_two_parts(folder):
    photos(folder / "HAM10000_images_part_1", ["a", "b"])
    photos(folder / "HAM10000_images_part_2", ["c", "d"])
    rows = "".join(
        f"HAM_{name},{name},{dx}\n" for name, dx in zip("abcd", 2 * ["mel", "nv"], strict=True)
    )
    (folder / "HAM10000_metadata.csv").write_text(f"lesion_id,image_id,dx\n{rows}")
    return {"a": "HAM10000_images_part_1/a.png", "c": "HAM10000_images_part_2/c.png"}


@pytest.mark.parametrize("lay", [by_class, in_two_parts])
def test_m14_images_are_read_where_they_lie(tmp_path, lay):
    raw = tmp_path / "raw"
    expected = lay(raw)
    before = files(raw)
    data = catalogue(raw, out=tmp_path / "made")
    split(data, kind="holdout", shares=(0.4, 0.3, 0.3)).save(tmp_path / "made" / "split.csv")
    audit(data)
    assert files(raw) == before
    assert {path.name for path in (tmp_path / "made").iterdir()} == {
        "catalogue.csv", "catalogue.json", "split.csv", "split.json",
    }  # fmt: skip
    paths = dict(zip(data.table["image_id"], data.table["path"], strict=True))
    assert {name: paths[name] for name in expected} == expected
    assert data.root == raw.resolve()


def test_m14_an_image_in_two_class_folders_is_refused_by_name(tmp_path):
    """What a copying loop leaves that never empties its list: each class holds those before it."""
    photos(tmp_path / "bcc", ["a", "b"])
    photos(tmp_path / "mel", ["a", "b", "c"])
    photos(tmp_path / "nv", ["a", "b", "c", "d"])
    with pytest.raises(FindingsError, match="no catalogue was made") as caught:
        catalogue(tmp_path, out=tmp_path / "made")
    found = caught.value.findings
    assert set(found["kind"]) == {"identical_files"}
    copies = [f"{label}/{name}" for label in ("bcc", "mel", "nv") for name in "abc"]
    assert set(found["image_id"]) == {*copies} - {"bcc/c"}
    assert found["exclude"].all()
    assert not (tmp_path / "made").exists()


def test_m14_a_copy_under_another_name_in_another_class_is_reported(tmp_path):
    by_class(tmp_path)
    shutil.copy(tmp_path / "mel" / "a.png", tmp_path / "nv" / "copy.png")
    found = audit(tmp_path).faults
    twins = found[found["kind"] == "identical_files"]
    assert set(twins["image_id"]) == {"a", "copy"}
    assert twins["detail"].str.contains("2 diagnoses").all()
    assert twins["exclude"].all()


def test_verdicts_of_another_collection_are_not_written_over(tmp_path):
    by_class(tmp_path / "mine")
    judged = tmp_path / "pairs.csv"
    judged.write_text("image_id,other,verdict\nx,y,same\n")
    with pytest.raises(DataError, match="1 verdicts on pairs of another collection"):
        audit(tmp_path / "mine", judged=judged)
    judged.write_text("image_id,other,verdict\na,b,same\n")
    assert audit(tmp_path / "mine", judged=judged).images == 6
