"""Age, sex and site from anybody's table: found under public heads, or refused with the words."""

import numpy as np
import pandas as pd
import pytest

from lesionlab.data.sources.patient_metadata import read_age, read_metadata, tell_known
from lesionlab.errors import DataError

IDS = ["a", "b", "z"]


def told(table, images=IDS, **options):
    said = []
    found = read_metadata(
        pd.DataFrame(table), images, listen=lambda event: said.append(event.text), **options
    )
    return found, said


@pytest.mark.parametrize(
    ("cell", "years"),
    [
        ("45", 45), ("45.0", 45), ("45,5", 45.5), (" 45 years", 45), ("40y", 40), ("045", 45),
        ("0", 0), ("85+", 85), ("120", 120),
        ("60+", None), (">90", None), ("[40-45]", None), ("-1", None), ("130", None),
        ("1e1", None), ("forty", None), ("", None), ("NaN", None), ("40;", None),
    ],
)  # fmt: skip
def test_an_age_is_one_number_of_years_or_unknown(cell, years):
    assert read_age(cell) == years or (years is None and np.isnan(read_age(cell)))


def test_values_come_in_the_order_of_the_images_and_the_rest_is_unknown(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("image_id,sex,age,dx_type\nb,Female,0,histo\na,unknown,45.0,histo\n")
    found, said = told(pd.read_csv(path, keep_default_na=False))
    assert list(found["image_id"]) == IDS
    assert found["age"].tolist()[:2] == [45.0, 0.0]
    assert np.isnan(found["age"][2])
    assert list(found["sex"]) == ["", "female", ""]
    assert list(found["site"]) == ["", "", ""]
    assert said[0] == "The metadata tell age of 2, sex of 1, site of 0 of 3 images."
    assert "Not used of the metadata: dx_type" in said[1]
    assert "no column site" in said[2]
    pd.testing.assert_frame_equal(read_metadata(path, IDS), found)


@pytest.mark.parametrize(
    ("names", "heads"),
    [
        (["a.jpg", "b.JPG"], ["image_id", "age", "sex", "site"]),
        (["A", "B "], ["Image_ID", "Age", "Sex", "Site"]),
        (["x/a.jpg", "x\\b.jpg"], ["image", "age_approx", "gender", "localization"]),
        (["a", "b"], ["isic_id", "AGE", "Gender", "anatom_site_general"]),
    ],
)
def test_public_heads_suffixes_and_folders_are_known(names, heads):
    rows = [(names[0], 50, "M", "back"), (names[1], 60, "woman", "face")]
    found, said = told(pd.DataFrame(rows, columns=heads), paths=["x/a.jpg", "x/b.jpg", "x/z.jpg"])
    assert found["age"].tolist()[:2] == [50, 60]
    assert list(found["sex"]) == ["male", "female", ""]
    assert list(found["site"]) == ["back", "face", ""]
    assert "age of 2, sex of 2, site of 2 of 3 images" in "".join(said)


def test_no_match_at_all_stops():
    with pytest.raises(DataError, match=r"None of the 3 images is in the metadata.*'q'"):
        told({"image_id": ["q"], "age": [5]})
    with pytest.raises(DataError, match="no column image_id"):
        told({"age": [1]})


def test_a_row_that_fits_two_images_is_refused_until_it_names_the_folder():
    images, paths = ["a", "a"], ["left/a.jpg", "right/a.jpg"]
    with pytest.raises(DataError, match=r"a fits 2 images \(left/a.jpg, right/a.jpg\)"):
        told({"image_id": ["a"], "age": [5]}, images, paths=paths)
    table = {"image_id": ["right/a.jpg", "left/a.jpg"], "age": [5, 6]}
    assert list(told(table, images, paths=paths)[0]["age"]) == [6, 5]


def test_two_rows_of_one_image_are_refused():
    with pytest.raises(DataError, match="a stands twice"):
        told({"image_id": ["a", "a"], "age": ["3", "4"]})
    with pytest.raises(DataError, match="a has two rows: a and A"):
        told({"image_id": ["a", "A"], "age": ["3", "4"]})


def test_words_that_the_model_does_not_know_are_listed():
    words = {"sex": ("female", "male"), "site": ("back", "face")}
    table = {"image_id": ["a", "b"], "sex": ["m", "f"], "site": ["back", "head/neck"]}
    found, said = told(table, words=words)
    assert list(found["site"]) == ["back", "", ""]
    assert "'head/neck' (1)" in said[0]
    with pytest.raises(DataError, match=r"does not know the site 'head/neck' \(2\).*back, face"):
        told(table | {"site": "head/neck"}, words=words)


def test_a_catalogue_says_what_the_model_does_not_know():
    table = pd.DataFrame({"age": [50, np.nan], "sex": ["w", "male"], "site": ["back", "cheek"]})
    said = []
    words = {"sex": ("female", "male"), "site": ("back", "face")}
    tell_known(table, ["age", "sex", "site"], words, lambda event: said.append(event.text))
    assert "the sex 'w' (1)" in said[0]
    assert "the site 'cheek' (1)" in said[1]
    assert said[2] == "The catalogue tells age of 1, sex of 1, site of 1 of 2 images."


def test_cells_that_are_no_age_are_listed():
    found, said = told({"image_id": ["a", "b"], "age": ["old", "50"]})
    assert list(found["age"].isna()) == [True, False, True]
    assert "1 cell is no age" in said[0]
    assert "'old'" in said[0]
