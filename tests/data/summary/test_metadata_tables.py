from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gaussian_kde, norm

from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
from lesionlab.data.splits import split
from lesionlab.data.summary import ages, leakage, metadata_tables
from lesionlab.tables import CATALOGUE

ROOT = Path(__file__).resolve().parents[3]


def made(classes=("mel", "nv"), **columns) -> Catalogue:
    """A catalogue in memory with these columns; what is not given is unknown."""
    n = len(next(iter(columns.values())))
    table = pd.DataFrame({name: [""] * n for name in CATALOGUE})
    table["image_id"] = [f"i{number:04}" for number in range(n)]
    table["target"] = classes[0]
    for name in ("age", "width", "height", "bytes"):
        table[name] = np.nan
    for name, values in columns.items():
        table[name] = list(values)
    return Catalogue(table, tuple(classes), ROOT)


# --- The real thing, against the figures that are published of it


@pytest.fixture(scope="module")
def frame(real):
    return metadata_tables.prepare(real)


def test_real_classes(frame):
    table = metadata_tables.classes(frame).set_index("class")
    assert table["images"].to_dict() == {
        "akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142,
    }  # fmt: skip
    assert table["lesions"].to_dict() == {
        "akiec": 228, "bcc": 327, "bkl": 727, "df": 73, "mel": 614, "nv": 5403, "vasc": 98,
    }  # fmt: skip
    assert table["images_per_lesion"].round(2).to_dict() == {
        "akiec": 1.43, "bcc": 1.57, "bkl": 1.51, "df": 1.58, "mel": 1.81, "nv": 1.24, "vasc": 1.45,
    }  # fmt: skip
    assert (100 * table["shared"]).round(1).to_dict() == {
        "akiec": 53.8, "bcc": 66.0, "bkl": 60.0, "df": 66.1, "mel": 79.3, "nv": 34.2, "vasc": 54.9,
    }  # fmt: skip
    assert table["times_rarer"].max() == pytest.approx(6705 / 115)
    kinds = metadata_tables.malignancy(frame).set_index("kind")["images"]
    assert kinds.to_dict() == {"benign": 8061, "malignant": 1954}


def test_real_ages(frame):
    table = ages.describe(frame).set_index("group")
    whole = table.loc["all"]
    assert round(whole["mean"], 2) == 51.86
    assert round(whole["sd"], 2) == 16.97
    assert (whole["median"], whole["min"], whole["max"]) == (50, 0, 85)
    assert (whole["known"], whole["unknown"], whole["at_zero"]) == (9958, 57, 39)
    assert table["images"].iloc[1:].sum() == 10_015
    groups = frame["age_group"].value_counts()
    assert groups["unknown"] == 57
    assert list(frame["age_group"].cat.categories) == [
        "0–20", "21–40", "41–60", "61–80", "81–100", "unknown",
    ]  # fmt: skip
    histogram = ages.histogram(frame)
    assert len(histogram) == 30
    assert histogram["images"].sum() == 9958
    assert histogram["images"].iloc[0] == 39


def test_real_sex_site_and_confirmation(frame):
    def counts(column):
        return metadata_tables.values(frame, column).set_index("value")["images"].to_dict()

    assert counts("sex") == {"female": 4552, "male": 5406, "unknown": 57}
    assert counts("dx_type") == {"histo": 5340, "follow_up": 3704, "consensus": 902, "confocal": 69}
    sites = counts("site")
    assert sites["unknown"] == 234
    assert list(sites)[-1] == "unknown"
    assert len(sites) == 15
    by_type = metadata_tables.cross(frame, "target", "dx_type")
    assert by_type.loc["nv"].to_dict() == {
        "histo": 2498, "follow_up": 3704, "consensus": 503, "confocal": 0,
    }  # fmt: skip
    assert by_type.loc["bkl"].to_dict() == {
        "histo": 766, "follow_up": 0, "consensus": 264, "confocal": 69,
    }  # fmt: skip
    by_site = metadata_tables.cross(frame, "site", "target")
    assert by_site.to_numpy().sum() == 10_015
    assert by_site.loc["face", "bkl"] == 319
    assert metadata_tables.row_shares(by_site).sum(axis=1).to_numpy() == pytest.approx(1)


def test_real_lesions_and_leak(frame):
    sizes = leakage.sharing(frame).set_index("images_per_lesion")["lesions"]
    assert sizes.to_dict() == {1: 5514, 2: 1423, 3: 490, 4: 34, 5: 5, 6: 4}
    leak = leakage.by_image(frame, 0.2).set_index("class")
    assert round(leak.loc["all", "shared"], 3) == 0.449
    assert round(leak.loc["all", "leaked"], 3) == 0.387
    rng = np.random.default_rng(0)
    lesions, names = pd.factorize(frame["lesion"])
    drawn = []
    for _ in range(100):
        test = np.zeros(len(frame), bool)
        test[rng.permutation(len(frame))[:2003]] = True
        trained = np.bincount(lesions[~test], minlength=len(names)) > 0
        drawn.append(trained[lesions[test]].mean())
    assert leak.loc["all", "leaked"] == pytest.approx(np.mean(drawn), abs=0.003)


def test_real_weights_are_those_that_source_e_prints(frame):
    table = metadata_tables.weights(frame, scaled=False).set_index("class")["median"]
    printed = {
        "akiec": 1.572, "bcc": 1.0, "bkl": 0.468, "df": 4.470, "mel": 0.462, "nv": 0.0767,
        "vasc": 3.620,
    }  # fmt: skip
    for label, value in printed.items():
        assert table[label] == pytest.approx(value, abs=5e-4)
    assert metadata_tables.weights(frame)["median"].mean() == pytest.approx(1)


def test_real_shapes_and_gaps(real, frame):
    shapes = metadata_tables.shapes(frame)
    assert shapes["aspect"].tolist() == [0.75]
    assert shapes["images"].tolist() == [10_015]
    unknown = metadata_tables.columns(real).set_index("column")["unknown"]
    assert unknown[["age", "sex", "site", "dx_type", "lesion_id"]].tolist() == [57, 57, 234, 0, 0]


def test_real_sexes_differ_the_other_way_round_among_the_young(frame):
    table = metadata_tables.malignancy_by_sex_and_age(frame).set_index("age_group")
    assert table.loc["all", "male_malignant"] > table.loc["all", "female_malignant"]
    assert table.loc["21–40", "male_malignant"] < table.loc["21–40", "female_malignant"]


# --- Small sets whose figures can be counted by hand


def test_m24_age_zero_is_an_age_and_no_age_is_not():
    data = made(target=["nv"] * 5, age=[0, 0, 40, 101, np.nan])
    frame = metadata_tables.prepare(data)
    whole = ages.describe(frame).iloc[0]
    assert (whole["known"], whole["unknown"], whole["at_zero"]) == (4, 1, 2)
    assert whole["mean"] == 141 / 4
    assert frame["age_group"].tolist() == ["0–20", "0–20", "21–40", "over 100", "unknown"]
    row = metadata_tables.columns(data).set_index("column").loc["age"]
    assert (row["known"], row["unknown"]) == (4, 1)
    assert ages.values(frame).to_numpy().tolist() == [[0, 2], [40, 1], [101, 1]]


def test_edges_of_age_groups():
    given = pd.Series([0, 20, 21, 40, 41, 60, 61, 80, 81, 100.0])
    names = ["0–20", "21–40", "41–60", "61–80", "81–100"]
    found, order = ages.groups(given)
    assert found.tolist() == [name for name in names for _ in range(2)]
    assert order == names


def test_density_and_normal_fit_agree_with_scipy():
    rng = np.random.default_rng(0)
    years = (5 * rng.integers(0, 18, 300)).astype(float)
    frame = metadata_tables.prepare(made(target=["nv"] * 300, age=years))
    table = ages.curves(frame, points=50)
    at = table["age"].to_numpy()
    assert table["density"].to_numpy() == pytest.approx(gaussian_kde(years, "scott")(at))
    assert table["normal"].to_numpy() == pytest.approx(
        norm.pdf(at, years.mean(), years.std(ddof=1))
    )
    assert ages.curves(metadata_tables.prepare(made(target=["nv"] * 3, age=[50.0] * 3))).empty


def test_unknown_words_are_a_value_of_their_own_and_the_last():
    frame = metadata_tables.prepare(
        made(
            target=["mel", "mel", "nv", "nv"],
            site=["", "hand", "back", "back"],
            sex=["male", "female", "", "male"],
        )
    )
    assert metadata_tables.values(frame, "site")["value"].tolist() == ["back", "hand", "unknown"]
    assert metadata_tables.values(frame, "sex")["value"].tolist() == ["female", "male", "unknown"]
    table = metadata_tables.cross(frame, "site", "target")
    assert table.loc["unknown"].tolist() == [1, 0]
    shares = metadata_tables.unknown_by_class(frame).set_index("class")["site_unknown_share"]
    assert shares.to_dict() == {"mel": 0.5, "nv": 0.0}


def test_a_class_without_images_is_counted_as_none_and_weighs_nothing():
    frame = metadata_tables.prepare(made(("bcc", "mel", "nv"), target=["nv", "nv", "mel"]))
    table = metadata_tables.classes(frame).set_index("class")
    assert table["images"].to_dict() == {"bcc": 0, "mel": 1, "nv": 2}
    assert np.isnan(table.loc["bcc", "times_rarer"])
    assert metadata_tables.weights(frame)["class"].tolist() == ["mel", "nv"]
    assert metadata_tables.cross(frame, "target", "sex").loc["bcc"].tolist() == [0]


def test_malignancy_is_not_guessed_for_other_classes():
    frame = metadata_tables.prepare(made(("wart", "nv"), target=["wart", "nv"]))
    assert metadata_tables.malignancy(frame) is None
    assert metadata_tables.malignancy_by_sex_and_age(frame) is None


def test_images_without_a_lesion_are_lesions_of_their_own():
    data = made(target=["nv"] * 5, lesion_id=["a", "a", "", "", "b"])
    frame = metadata_tables.prepare(data)
    assert frame["siblings"].tolist() == [2, 2, 1, 1, 1]
    assert (
        metadata_tables.classes(frame).set_index("class").loc["nv", "lesions"] == data.lesions == 4
    )


@pytest.mark.parametrize(
    ("sizes", "test"), [((1, 2, 3), 2), ((2, 2), 1), ((4, 1, 1), 3), ((5,), 5)]
)
def test_the_leak_is_what_trying_every_split_gives(sizes, test):
    from itertools import combinations

    lesion = [f"l{number}" for number, size in enumerate(sizes) for _ in range(size)]
    n = len(lesion)
    frame = metadata_tables.prepare(made(target=["nv"] * n, lesion_id=lesion))
    found = []
    for chosen in combinations(range(n), test):
        trained = {lesion[i] for i in range(n) if i not in chosen}
        found.append(np.mean([lesion[i] in trained for i in chosen]))
    leak = leakage.by_image(frame, test / n).set_index("class").loc["all", "leaked"]
    assert leak == pytest.approx(np.mean(found))


def test_a_split_by_lesion_leaks_nothing_and_one_by_image_is_counted():
    lesion = [f"l{number // 2}" for number in range(40)]
    data = made(target=["mel", "mel", "nv", "nv"] * 10, lesion_id=lesion)
    good = split(data, kind="holdout", shares=(0.5, 0.25, 0.25)).parts()
    assert leakage.across(metadata_tables.prepare(data, good))["leaked_images"].sum() == 0
    bad = pd.Series(["train", "test"] * 20, data.table["image_id"])
    table = leakage.across(metadata_tables.prepare(data, bad)).set_index("part")
    assert table["leaked_images"].to_dict() == {"train": 0, "test": 20}
    assert table.loc["test", "leaked"] == 1


def test_examples_are_drawn_from_the_seed_and_never_from_one_lesion_twice():
    lesion = [f"l{number // 4}" for number in range(80)]
    data = made(target=["mel"] * 40 + ["nv"] * 40, lesion_id=lesion)
    frame = metadata_tables.prepare(data)
    drawn = metadata_tables.examples(frame, 5, seed=1)
    assert list(drawn) == ["", "mel", "nv"]
    of = data.table.set_index("image_id")
    for label, names in drawn.items():
        assert len(names) == 5
        assert of.loc[names, "lesion_id"].is_unique
        assert label in ("", of.loc[names, "target"].unique().item() if label else "")
    assert drawn == metadata_tables.examples(frame, 5, seed=1)
    assert drawn != metadata_tables.examples(frame, 5, seed=2)


def test_the_drawn_set(ham):
    data = catalogue(ham)
    frame = metadata_tables.prepare(data)
    assert metadata_tables.classes(frame)["images"].sum() == len(data)
    assert metadata_tables.classes(frame)["lesions"].sum() == data.lesions == 60
    numbers = metadata_tables.numbers(frame).set_index("column")
    assert numbers.loc["width", "mean"] == 80
    assert numbers.loc["age", "count"] == data.table["age"].notna().sum()


def test_nothing_is_filled_in_or_changed(ham):
    data = catalogue(ham)
    before = data.table.copy()
    metadata_tables.prepare(data)
    metadata_tables.columns(replace(data))
    pd.testing.assert_frame_equal(data.table, before)


def test_the_dictionary_and_its_page_name_every_column():
    assert set(metadata_tables.DICTIONARY) == set(CATALOGUE)
    page = (ROOT / "docs" / "data-dictionary.md").read_text(encoding="utf-8")
    for name in CATALOGUE:
        assert f"| `{name}` |" in page
    for words in ("CC BY-NC 4.0", "GDPR", "HIPAA", "Age 0"):
        assert words in page
