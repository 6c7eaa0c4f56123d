import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lesionlab.cli.outcome import class_counts
from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
from lesionlab.data.splits import split
from lesionlab.errors import DataError, FindingsError
from lesionlab.progress import Notice
from lesionlab.tables import CATALOGUE


@pytest.fixture(scope="module")
def data(ham):
    return catalogue(ham)


def test_a_catalogue_comes_back_from_its_folder(data, tmp_path):
    saved = data.save(tmp_path / "out")
    back = Catalogue.open(tmp_path / "out")
    pd.testing.assert_frame_equal(back.table, data.table)
    assert (back.classes, back.root, back.layout, back.notes) == (
        data.classes,
        data.root,
        data.layout,
        data.notes,
    )
    assert back.fingerprint == data.fingerprint
    assert back.home == saved.home == tmp_path / "out"
    assert tuple(back.table.columns) == CATALOGUE
    pd.testing.assert_frame_equal(
        Catalogue.open(tmp_path / "out" / "catalogue.csv").table, data.table
    )


def test_the_folder_opens_by_itself_once_catalogued(ham_copy):
    made = catalogue(ham_copy, out=ham_copy)
    assert (ham_copy / "catalogue.json").is_file()
    shutil.rmtree(ham_copy / "HAM10000_images_part_1")  # read from the table, not from the files
    assert catalogue(ham_copy).fingerprint == made.fingerprint
    assert catalogue(ham_copy / "catalogue.csv").fingerprint == made.fingerprint


def test_a_catalogue_beside_its_images_moves_with_them(ham_copy, tmp_path):
    catalogue(ham_copy, out=ham_copy)
    moved = ham_copy.rename(tmp_path / "elsewhere")
    data = catalogue(moved)
    assert data.root == moved
    assert (data.root / data.table["path"][0]).is_file()


def test_unknown_numbers_come_back_unknown(tmp_path):
    arrays = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = np.random.default_rng(1).integers(0, 9, (3, 28, 28), np.uint8)
        arrays[f"{part}_labels"] = np.arange(3)[:, None]
    np.savez(tmp_path / "dermamnist.npz", **arrays)
    data = catalogue(tmp_path, out=tmp_path / "out")
    assert data.table["age"].isna().all()
    pd.testing.assert_frame_equal(Catalogue.open(tmp_path / "out").table, data.table)


def test_fingerprint_is_not_of_paths_nor_of_the_order_of_rows(data, ham_copy):
    for image in ham_copy.glob("HAM10000_images_part_2/*"):
        image.rename(ham_copy / "HAM10000_images_part_1" / image.name)
    (ham_copy / "HAM10000_images_part_1").rename(ham_copy / "photos")
    lines = (ham_copy / "HAM10000_metadata.csv").read_text().splitlines()
    (ham_copy / "HAM10000_metadata.csv").write_text("\n".join([lines[0], *lines[:0:-1]]))
    moved = catalogue(ham_copy)
    assert list(moved.table["path"]) != list(data.table["path"])
    assert moved.fingerprint == data.fingerprint
    backwards = replace(data, table=data.table[::-1])
    assert backwards.fingerprint == data.fingerprint


@pytest.mark.parametrize("column", ["image_id", "target", "lesion_id", "patient_id", "sha256"])
def test_fingerprint_sees_what_makes_a_data_set(data, column):
    table = data.table.copy()
    table.loc[3, column] = {"target": "df" if table.loc[3, "target"] == "nv" else "nv"}.get(
        column, "another"
    )
    assert replace(data, table=table).fingerprint != data.fingerprint
    assert replace(data, classes=data.classes[::-1]).fingerprint != data.fingerprint


def test_fingerprint_sees_a_changed_file(data, ham_copy):
    image = next(ham_copy.glob("HAM10000_images_part_1/*.jpg"))
    image.write_bytes(image.read_bytes()[:-2] + b"\0\xff\xd9")
    assert catalogue(ham_copy).fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("target", "nv", ""),
        ("target", "wart", "'wart'; known"),
        ("lesion_id", "HAM_X", ""),
        ("sha256", "0" * 64, ""),
        ("image_id", "ISIC_X", ""),
        ("age", "old", "'old'"),
    ],
)
def test_an_edited_catalogue_is_refused(data, tmp_path, column, value, told):
    data.save(tmp_path)
    table = pd.read_csv(tmp_path / "catalogue.csv", dtype=str, keep_default_na=False)
    row = table.index[table["target"] != "nv"][0]
    table.loc[row, column] = value
    table.to_csv(tmp_path / "catalogue.csv", index=False)
    with pytest.raises(DataError, match=r"was changed after lesionlab wrote it") as caught:
        Catalogue.open(tmp_path)
    assert told in str(caught.value)
    assert "lesionlab catalogue" in str(caught.value)


def test_a_row_taken_from_a_catalogue_is_noticed(data, tmp_path):
    data.save(tmp_path)
    lines = (tmp_path / "catalogue.csv").read_text().splitlines()
    (tmp_path / "catalogue.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(DataError, match="was changed"):
        Catalogue.open(tmp_path)


def test_a_catalogue_without_its_sidecar_or_at_all(data, tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        Catalogue.open(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no catalogue\.csv\. Make one first"):
        Catalogue.open(tmp_path)
    data.save(tmp_path)
    (tmp_path / "catalogue.json").unlink()
    with pytest.raises(DataError, match=r"catalogue\.json does not exist"):
        Catalogue.open(tmp_path)


def test_classes_without_images_are_told(ham_copy):
    path = ham_copy / "HAM10000_metadata.csv"
    lines = [line for line in path.read_text().splitlines() if ",df," not in line]
    path.write_text("\n".join(lines))
    heard = []
    data = catalogue(ham_copy, listen=heard.append)
    assert Notice("No image of class 'df'.", "warning") in heard
    assert "df" in data.classes
    assert data.counts().set_index("class").loc["df", "images"] == 0


def test_findings_that_say_nothing_to_leave_out(ham, data, tmp_path):
    (tmp_path / "f.csv").write_text(
        "image_id,kind,exclude\n" + f"{data.table['image_id'][0]},x,False\n"
    )
    assert len(catalogue(ham, exclude=tmp_path / "f.csv")) == len(data)
    (tmp_path / "f.csv").write_text("image_id,exclude\n")
    with pytest.raises(FindingsError, match="lacks 1 of the columns it needs: kind"):
        catalogue(ham, exclude=tmp_path / "f.csv")


def test_everything_left_out_is_told(ham, data, tmp_path):
    rows = "".join(f"{image},mine,true\n" for image in data.table["image_id"])
    (tmp_path / "f.csv").write_text("image_id,kind,exclude\n" + rows)
    with pytest.raises(DataError, match="nothing is left to work with"):
        catalogue(ham, exclude=tmp_path / "f.csv")


def test_a_catalogue_that_cannot_be_written_is_told(data, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="could not be written"):
        data.save(tmp_path / "file")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_the_source_folder_is_left_as_it_was(ham, tmp_path):
    before = sorted((str(p), p.stat().st_mtime_ns) for p in ham.rglob("*"))
    catalogue(ham, out=tmp_path / "out")
    assert sorted((str(p), p.stat().st_mtime_ns) for p in ham.rglob("*")) == before


def test_lesions_are_counted_only_where_their_ids_are_known(data):
    assert data.size == f"{len(data)} images of {data.lesions} lesions"
    unnamed = replace(data, table=data.table.assign(lesion_id=""))
    assert unnamed.size == f"{len(data)} images of unknown lesions"
    title, counts = class_counts(unnamed)
    assert title == unnamed.size
    assert list(counts.columns) == ["class", "name", "images", "share"]


def test_what_takes_a_catalogue_takes_its_folder(data, tmp_path):
    data.save(tmp_path)
    assert split(tmp_path, folds=2).fingerprint == split(data, folds=2).fingerprint
