from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
from lesionlab.data.imputation import clean, clean_table
from lesionlab.data.splits import Split, split
from lesionlab.errors import DataError, SettingsError
from lesionlab.progress import Notice


def table_of(rows):
    """A table from (part, age, sex, site, target), one lesion each, and its parts."""
    parts, ages, sexes, sites, targets = zip(*rows, strict=True)
    ids = [f"i{n:04d}" for n in range(len(rows))]
    table = pd.DataFrame(
        {
            "image_id": ids,
            "lesion_id": [f"L{n:04d}" for n in range(len(rows))],
            "target": targets,
            "age": np.array(ages, float),
            "sex": sexes,
            "site": sites,
        }
    )
    return table, pd.Series(parts, index=ids)


NAN = float("nan")
ROWS = [
    ("train", 0, "male", "back", "nv"),
    ("train", 0, "male", "back", "nv"),
    ("train", 40, "male", "back", "nv"),
    ("train", 70, "female", "face", "mel"),
    ("train", NAN, "", "", "mel"),
    ("val", 85, "female", "foot", "mel"),
    ("val", NAN, "female", "", "mel"),
    ("test", 85, "female", "foot", "mel"),
    ("test", 85, "female", "foot", "mel"),
    ("test", 85, "", "foot", "mel"),
]


def test_by_default_unknown_stays_unknown():
    table, parts = table_of(ROWS)
    made, report = clean_table(table, parts)
    pd.testing.assert_frame_equal(made, table)
    assert list(report["unknown"]) == [2, 2, 2]
    assert list(report["filled"]) == [0, 0, 0]


def test_figures_come_from_the_training_part_alone():
    table, parts = table_of(ROWS)
    before = table.copy()
    made, report = clean_table(table, parts, age="median", sex="mode", site="mode")
    pd.testing.assert_frame_equal(table, before)
    assert list(made["age"][[4, 6]]) == [20.0, 20.0]  # of 0, 0, 40, 70; over all parts it is 77.5
    assert list(made["sex"][[4, 9]]) == ["male", "male"]  # over all parts it is female
    assert list(made["site"][[4, 6]]) == ["back", "back"]
    assert list(report["filled"]) == [2, 2, 2]
    others = ["image_id", "lesion_id", "target"]
    pd.testing.assert_frame_equal(made[others], table[others])


def test_m24_age_0_is_an_age_and_not_missing():
    table, parts = table_of(ROWS)
    made, report = clean_table(table, parts, age="median")
    assert list(made["age"][:2]) == [0.0, 0.0]
    assert report.set_index("column")["filled"]["age"] == 2
    assert "20, the median of 4 known ages" in report["how"][0]  # without the zeros it would be 55


def test_m24_on_the_real_table(real_ham):
    raw = pd.read_csv(real_ham / "HAM10000_metadata.csv", keep_default_na=False)
    table = pd.DataFrame(
        {
            "image_id": raw["image_id"],
            "lesion_id": raw["lesion_id"],
            "age": pd.to_numeric(raw["age"], errors="coerce"),
            "sex": raw["sex"].replace("unknown", ""),
            "site": raw["localization"].replace("unknown", ""),
        }
    )
    parts = pd.Series("train", index=table["image_id"])
    made, report = clean_table(table, parts, age="median", sex="fill", site="fill")
    assert list(report["filled"]) == [57, 57, 234]
    assert (made["age"] == 0).sum() == 39
    assert (made["age"] == 50).sum() == (table["age"] == 50).sum() + 57


@pytest.mark.parametrize(
    "policy", ["by_diagnosis", "mode_per_class", "mode_by_target", "label", "by_dx"]
)
def test_m5_no_policy_may_use_the_diagnosis(policy):
    table, parts = table_of(ROWS)
    with pytest.raises(SettingsError) as caught:
        clean_table(table, parts, site=policy, sex=policy, age=policy)
    for name in ("age", "sex", "site"):
        assert f"{name}: '{policy}' would fill in the {name} from the diagnosis" in str(
            caught.value
        )
    assert "answer into the question" in str(caught.value)


@pytest.mark.parametrize("policy", ["fill", "mode"])
def test_m5_what_is_filled_in_says_nothing_of_the_diagnosis(policy):
    """In truth all nv are on the back and all mel on the face; of the unknown ones neither."""
    rows = [("train", 50, "male", "back", "nv")] * 600 + [
        ("train", 50, "male", "face", "mel")
    ] * 400
    rows += [("train", 50, "male", "", "nv"), ("train", 50, "male", "", "mel")] * 500
    table, parts = table_of(rows)
    made, _ = clean_table(table, parts, site=policy)
    filled = made[table["site"] == ""]
    share = (filled["site"] == "back").groupby(filled["target"]).mean()
    assert abs(share["mel"] - share["nv"]) < 0.1
    shuffled = table.assign(target=table["target"].to_numpy()[::-1])
    again, _ = clean_table(shuffled, parts, site=policy)
    assert list(again["site"]) == list(made["site"])


def test_draws_follow_the_marginals_the_seed_and_the_lesion():
    rows = [("train", 50, "male", "a", "nv")] * 30 + [("train", 50, "female", "b", "nv")] * 10
    rows += [("test", 50, "", "", "nv")] * 1000
    table, parts = table_of(rows)
    table.loc[40:, "lesion_id"] = [f"L{n // 2}" for n in range(1000)]
    made, _ = clean_table(table, parts, sex="fill", seed=1)
    drawn = made["sex"][40:]
    assert (drawn == "male").mean() == pytest.approx(0.75, abs=0.06)
    assert (drawn.groupby(made["lesion_id"][40:]).nunique() == 1).all()
    same, _ = clean_table(table, parts, sex="fill", site="fill", seed=1)
    assert list(same["sex"]) == list(made["sex"])  # whatever else is filled
    turned, _ = clean_table(table[::-1], parts, sex="fill", seed=1)
    assert list(turned["sex"][::-1]) == list(made["sex"])  # whatever the order of the rows
    other, _ = clean_table(table, parts, sex="fill", seed=2)
    assert list(other["sex"]) != list(made["sex"])


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_known_of_the_lesion_comes_before_any_policy(order):
    rows = [
        ("train", 40, "male", "back", "nv"),
        ("train", 30, "male", "back", "nv"),
        ("train", 80, "", "face", "nv"),  # of the lesion of the next two
        ("train", NAN, "female", "", "nv"),
        ("train", 70, "male", "foot", "nv"),
        ("test", NAN, "", "", "nv"),  # of that same lesion, too, but elsewhere
        ("test", NAN, "", "", "nv"),  # as the one before
        ("val", NAN, "", "", "nv"),  # without a lesion id, as the next
        ("val", 5, "female", "hand", "nv"),
    ]
    table, parts = table_of(rows)
    table.loc[2:6, "lesion_id"] = "shared"
    table.loc[7:, "lesion_id"] = ""
    made, report = clean_table(table[::order], parts, age="median", sex="mode", site="mode")
    made = made[::order]
    assert list(made["age"]) == [40, 30, 80, 80, 70, 55, 55, 55, 5]
    assert list(made["sex"])[2:8] == ["female", "female", "male", "male", "male", "male"]
    assert list(made["site"])[2:8] == ["face", "face", "foot", "back", "back", "back"]
    assert list(report["filled"]) == [4, 4, 4]
    assert report["how"][0] == (
        "1 from other images of their lesions; the others "
        "55, the median of 4 known ages of the training part"
    )
    only, report = clean_table(table[:5], parts, site="fill")
    assert list(only["site"])[3] == "face"
    assert report["how"][2] == "1 from other images of their lesions"


def test_a_mistyped_policy_is_named_with_those_that_there_are():
    table, parts = table_of(ROWS)
    with pytest.raises(SettingsError, match=r"no policy 'mean'. Take keep or median") as caught:
        clean_table(table, parts, age="mean", sex="drop")
    assert "Take keep, fill or mode" in str(caught.value)


def test_nothing_known_in_training_is_refused():
    table, parts = table_of([("train", NAN, "", "", "nv"), ("test", 3, "male", "back", "nv")])
    with pytest.raises(DataError, match="training part has a known age"):
        clean_table(table, parts, age="median")


@pytest.fixture
def drawn(ham_copy, tmp_path):
    path = ham_copy / "HAM10000_metadata.csv"
    raw = pd.read_csv(path)
    raw.loc[::7, "localization"] = "unknown"
    raw.to_csv(path, index=False)
    data = catalogue(ham_copy, out=tmp_path / "data")
    return data, split(data, folds=3)


def test_a_cleaned_catalogue_is_a_new_version_with_its_note_and_its_split(drawn, tmp_path):
    data, parts = drawn
    unknown = int((data.table["site"] == "").sum())
    assert unknown > 0
    before = (tmp_path / "data" / "catalogue.csv").read_bytes()
    made = clean(data, parts, fold=1, site="fill", out=tmp_path / "clean")
    assert (tmp_path / "data" / "catalogue.csv").read_bytes() == before
    opened = Catalogue.open(tmp_path / "clean")
    assert (opened.table["site"] != "").all()
    assert opened.root == data.root
    assert f"{unknown} images of unknown site were given one" in opened.notes[-1]
    own = Split.open(tmp_path / "clean" / "split.csv")
    own.check(opened)
    assert own.folds == 1
    assert (own.parts() == parts.parts(1)).all()
    assert len(made.report) == 3


def test_the_catalogue_itself_is_never_written_over(drawn, tmp_path):
    data, parts = drawn
    with pytest.raises(DataError, match="stays as it is"):
        clean(data, parts, sex="fill", out=tmp_path / "data")


def test_nothing_to_do_is_said(drawn):
    said = []
    made = clean(*drawn, listen=lambda e: said.append(e) if isinstance(e, Notice) else None)
    assert made.data.notes == drawn[0].notes
    assert "Nothing was filled in" in said[0].text


def test_the_verb(drawn, tmp_path, capsys):
    _, parts = drawn
    parts.save(tmp_path / "data" / "split.csv")
    words = ["clean", str(tmp_path / "data"), "--out", str(tmp_path / "clean")]
    assert main([*words, "--site", "mode_per_class"]) == 2
    assert "answer into the question" in capsys.readouterr().err
    assert not Path(tmp_path / "clean").exists()
    assert main([*words, "--age", "median", "--site", "fill"]) == 0
    assert "training part" in capsys.readouterr().out
    assert (Catalogue.open(tmp_path / "clean").table["site"] != "").all()
