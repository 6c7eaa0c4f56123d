"""Collections as people have them, drawn by a script beside the tree: each is read right."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.images import decode
from lesionlab.data.sources.patient_metadata import read_metadata
from lesionlab.errors import DataError
from lesionlab.tables import read_predictions
from lesionlab.taxonomy import HAM7

MAKE = Path(__file__).resolve().parents[3] / "shared" / "cases" / "make.py"
MAKE = Path(os.environ.get("LESIONLAB_CASES", MAKE))


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    if not MAKE.is_file():
        pytest.skip(f"the cases' script is not at {MAKE}")
    out = tmp_path_factory.mktemp("drawn") / "cases"
    done = subprocess.run([sys.executable, MAKE, out], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the cases cannot be drawn: {done.stderr.splitlines()[-1]}")
    return out


def adds_up(data):
    """Whether the account of a catalogue adds up, and says what the table holds."""
    files, rows = data.account["files"], data.account["rows"]
    return (
        files["seen"] == files["taken"] + sum(files["left_out"].values())
        and rows["read"] == rows["taken"] + sum(rows["left_out"].values())
        and rows["taken"] == len(data)
    )


def classes(data):
    return data.table["target"].value_counts().to_dict()


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("folders/parts", {"mel": 30, "nv": 30}),
        ("folders/same_names", {"benign": 20, "malignant": 20}),
        ("folders/linked", {"mel": 20, "nv": 20}),
        ("folders/junk", {"mel": 10, "nv": 10}),
        ("folders/deeper", {"bkl": 10, "mel": 10, "nv": 10}),
        ("folders/unnamed", {"mel": 2, "nv": 10}),
        ("folders/spelled", dict.fromkeys(HAM7, 6)),
        ("tables/semicolon_decimal_comma", {"mel": 8, "nv": 8}),
        ("tables/semicolon_beside_another", {"mel": 8, "nv": 8}),
        ("tables/utf16_tabs", {"mel": 8, "nv": 8}),
        ("tables/tabs_txt", {"mel": 8, "nv": 8}),
        ("tables/sep_line", {"mel": 8, "nv": 8}),
        ("tables/blank_behind_id", {"mel": 8, "nv": 8}),
        ("tables/id_case", {"mel": 8, "nv": 8}),
        ("tables/float_ids", {"mel": 8, "nv": 8}),
        ("tables/accents", {"mel": 8, "nv": 8}),
        ("tables/odd_ages", {"mel": 8, "nv": 8}),
        ("arrays/fine.npz", {"class_0": 18, "class_1": 18}),
        ("published/isic2020", {"benign": 72, "malignant": 12}),
        ("published/fitzpatrick17k", {"benign": 52, "malignant": 22}),
        ("published/archive", {"mel": 1, "nv": 1, "vasc": 1}),
    ],
)
def test_a_case_is_read_whole(cases, case, expected):
    data = catalogue(cases / case)
    assert classes(data) == expected
    assert adds_up(data)


def test_parts_are_kept_as_official(cases):
    data = catalogue(cases / "folders/parts")
    assert data.table["part"].value_counts().to_dict() == {"train": 40, "test": 20}


def test_ids_tell_the_class_where_names_repeat(cases):
    data = catalogue(cases / "folders/same_names")
    assert {"benign/1", "malignant/1"} <= set(data.table["image_id"])


def test_junk_is_counted_as_hidden(cases):
    assert catalogue(cases / "folders/junk").account["files"]["left_out"] == {"hidden": 4}


@pytest.mark.parametrize("heic", [True, False])
def test_images_that_cannot_be_decoded_are_named_with_a_count(cases, monkeypatch, heic):
    monkeypatch.setattr(decode, "_heic", lambda: heic)
    data = catalogue(cases / "folders/suffixes")
    assert classes(data) == {"benign": 12, "malignant": 22 if heic else 21}
    assert any("1 .heic" in note for note in data.notes) is not heic
    assert adds_up(data)


def test_inner_folders_are_offered_and_taken_as_patients(cases):
    data = catalogue(cases / "folders/deeper")
    assert any("--columns patient_id=folder" in note for note in data.notes)
    data = catalogue(cases / "folders/deeper", columns={"patient_id": "folder"})
    assert set(data.table["patient_id"]) == {"", "patient1", "patient2"}


def test_near_names_are_for_the_user_to_decide(cases):
    with pytest.raises(DataError) as caught:
        catalogue(cases / "folders/near_names")
    assert all(word in str(caught.value) for word in ("SCC", "scc", "Nevus", "nevi", "--relabel"))
    data = catalogue(cases / "folders/near_names", relabel={"SCC": "scc"})
    assert classes(data) == {"scc": 12, "nv": 12}
    data = catalogue(cases / "folders/near_names", relabel={"SCC": "SCC", "scc": "scc"})
    assert classes(data) == {"SCC": 6, "scc": 6, "nv": 12}


@pytest.mark.parametrize(
    ("case", "other", "kept"),
    [
        ("masks_beside", "annotations", "images/"),
        ("thumbs_beside", "64x64", "HAM10000_images_part_1/"),
    ],
)
def test_two_files_of_one_name_are_refused_until_one_folder_is_ignored(cases, case, other, kept):
    with pytest.raises(DataError, match=rf"{other}/.* or {kept}"):
        catalogue(cases / "folders" / case)
    data = catalogue(cases / "folders" / case, ignore=[other])
    assert data.table["path"].str.startswith(kept).all()
    assert classes(data) == {"mel": 10, "nv": 10}
    assert data.account["files"]["left_out"]["ignored as asked"] == 20


def test_photographs_without_a_row_are_said_with_a_count(cases):
    data = catalogue(cases / "folders/unnamed")
    assert any("8 of 20 photographs have no row" in note for note in data.notes)


def test_decimal_commas_are_ages(cases):
    data = catalogue(cases / "tables/semicolon_decimal_comma")
    assert set(data.table["age"]) == {40.5 + k for k in range(8)}


def test_odd_ages_are_unknown_and_listed(cases):
    data = catalogue(cases / "tables/odd_ages")
    assert sorted(data.table["age"].dropna()) == [0, 40, 45, 45.5, 85]
    note = next(note for note in data.notes if "no age in years" in note)
    assert all(repr(word) in note for word in ("60+", ">90", "[40-45]", "-1", "130", "forty"))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("many_labels", "14 labels per image"),
        ("float_0_1", "holds float32"),
        ("normalised", "holds float32"),
        ("labels_short", "20 images and 17 labels"),
    ],
)
def test_arrays_of_another_form_are_refused_with_the_reason(cases, case, reason):
    with pytest.raises(DataError, match=reason):
        catalogue(cases / "arrays" / f"{case}.npz")


def test_isic2019_has_a_carcinoma_class_of_its_own(cases):
    data = catalogue(cases / "published/isic2019")
    assert classes(data) == {**dict.fromkeys(HAM7, 12), "akiec": 8, "scc": 4}
    assert data.table["lesion_id"].ne("").all()
    assert data.table["age"].notna().any()
    assert set(data.table["site"]) == {"anterior torso"}


def test_isic2020_is_of_patients(cases):
    data = catalogue(cases / "published/isic2020")
    assert data.table["patient_id"].nunique() == 21


def test_derm7pt_takes_the_dermoscopic_image(cases):
    data = catalogue(cases / "published/derm7pt")
    assert classes(data) == dict.fromkeys(HAM7, 12)
    assert not data.table["path"].str.endswith("c.jpg").any()
    assert data.account["files"]["left_out"]["a clinical photograph"] == 84


def test_pad_ufes_20_names_a_lesion_by_patient_and_lesion(cases):
    data = catalogue(cases / "published/pad_ufes_20")
    assert data.lesions == 42
    assert data.table["patient_id"].nunique() == 21
    assert data.table["lesion_id"].str.startswith("PAT_").all()
    assert classes(data)["scc"] == 12


def test_three_decimals_are_probabilities(cases):
    table = read_predictions(cases / "tables/three_decimals.csv")
    chances = table.filter(regex="^p_").to_numpy()
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-12)
    raw = pd.read_csv(cases / "tables/three_decimals.csv").filter(regex="^p_").to_numpy()
    assert np.abs(chances - raw).max() < 0.004


@pytest.mark.parametrize("case", ["suffix", "heads", "words"])
def test_metadata_are_applied_to_all_images_or_refused_with_the_words(cases, case):
    data = catalogue(cases / "tables/id_case")
    words = {"sex": ("female", "male"), "site": ("back", "face", "trunk")}
    given = cases / f"tables/metadata_{case}.csv"
    said = []

    def read():
        return read_metadata(
            given, list(data.table["image_id"]), words=words, listen=lambda each: said.append(each)
        )

    if case == "words":
        with pytest.raises(DataError, match=r"'head/neck' \(16\).*back, face, trunk"):
            read()
        return
    found = read()
    assert set(found["age"]) == {55}
    assert set(found["sex"]) == {"male"}
    assert set(found["site"]) == {"back"}
    assert any("of 16 images" in each.text for each in said)
