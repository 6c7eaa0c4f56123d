import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon

from lesionlab.cli.app import main
from lesionlab.errors import DataError
from lesionlab.evaluation.data_quality.drift import divergence, drift
from lesionlab.progress import Notice


def people(lesions=120, seed=0, *, age=50.0, male=0.5, images=2, prefix="L"):
    """Images of lesions, `images` to each, with the age and the sex of their patient."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(lesions), images)
    ages = np.round(rng.normal(age, 15, lesions)).clip(0, 90)
    sexes = np.where(rng.random(lesions) < male, "male", "female")
    return pd.DataFrame(
        {
            "image_id": [f"{prefix}{k}" for k in range(len(rows))],
            "lesion_id": [f"{prefix}{k}" for k in rows],
            "target": np.where(rng.random(lesions) < 0.3, "mel", "nv")[rows],
            "age": ages[rows],
            "sex": sexes[rows],
            "sha256": [f"{prefix}{k}" for k in range(len(rows))],
            "width": 600,
        }
    )


def test_divergence_is_scipys():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 30, (2, 6, 5)).astype(float)
    for k, value in enumerate(divergence(first, second)):
        assert value == pytest.approx(jensenshannon(first[:, k], second[:, k], base=2) ** 2)
    assert divergence(np.array([[1.0], [0.0]]), np.array([[0.0], [2.0]]))[0] == 1


def test_what_differs_is_found_and_nothing_else():
    sets = {"here": people(seed=1, prefix="A"), "there": people(seed=2, age=62, prefix="B")}
    made = drift(sets, permutations=199, folds=2, replicates=100)
    assert made.constant == ("width",)
    assert made.found["column"].tolist() == ["age"]
    row = made.columns.set_index("column").loc["age"]
    assert row["standardised"] == pytest.approx(0.8, abs=0.3)
    assert row["second_value"] - row["first_value"] == pytest.approx(12, abs=4)
    assert made.auroc("here", "there").low > 0.55
    assert made.together["p_adjusted"].iloc[0] < 0.05


def test_a_word_that_becomes_commoner_is_named():
    sets = {"a": people(male=0.2, prefix="A"), "b": people(male=0.8, seed=5, prefix="B")}
    row = drift(sets, permutations=99, folds=2, replicates=0).columns.set_index("column").loc["sex"]
    assert row["statistic"] in ("female", "male")
    assert abs(row["second_value"] - row["first_value"]) > 0.4
    assert row["p"] == 0.01


@pytest.mark.slow
def test_many_images_of_a_lesion_are_no_evidence():
    """Ten images to a lesion: by image the test would reject most of the time."""
    rejected = areas = 0
    for seed in range(20):
        both = people(60, seed=seed, images=10)
        side = np.random.default_rng(100 + seed).random(60)[np.repeat(np.arange(60), 10)] < 0.5
        made = drift({"a": both[side], "b": both[~side]}, permutations=99, replicates=60)
        rejected += (made.columns["p"] < 0.05).sum()
        areas += made.together["p"].iloc[0] < 0.05
    assert rejected <= 9  # of 60; 3 are expected, by image 40 and more
    assert areas <= 5  # of 20


def test_three_parts_are_compared_in_pairs_and_p_values_adjusted_together():
    sets = {
        name: people(60, seed=k, prefix=name) for k, name in enumerate(("train", "val", "test"))
    }
    made = drift(sets, permutations=99, folds=2, replicates=20)
    pairs = [("train", "val"), ("train", "test"), ("val", "test")]
    assert list(made.together[["first", "second"]].itertuples(index=False, name=None)) == pairs
    assert len(made.columns) == 3 * 3
    least = made.columns["p"].min()
    assert made.columns["p_adjusted"].min() == pytest.approx(min(1, 9 * least))


def test_unknown_is_a_value_of_its_own_and_not_the_lowest():
    first, second = people(seed=1, prefix="A"), people(seed=2, prefix="B")
    first.loc[::2, "age"] = 0.0
    second.loc[::2, "age"] = np.nan
    made = drift({"a": first, "b": second}, permutations=99, folds=2, replicates=0)
    row = made.columns.set_index("column").loc["age"]
    assert row["p"] == 0.01
    assert row["divergence"] > 0.3
    assert (row["first_unknown"], row["second_unknown"]) == (0, 0.5)


def test_lesions_on_both_sides_are_warned_about_and_too_few_refused():
    table = people(40)
    told = []
    drift({"a": table[::2], "b": table[1::2]}, permutations=9, replicates=0, listen=told.append)
    assert any(
        isinstance(each, Notice) and "40 lesions are in a and in b" in each.text for each in told
    )
    with pytest.raises(DataError, match="this is one"):
        drift({"a": table})
    with pytest.raises(DataError, match="b has 2 lesions"):
        drift({"a": table, "b": people(2, prefix="B")})
    with pytest.raises(DataError, match="no column that varies"):
        drift({"a": table[["image_id", "lesion_id"]], "b": people(9, prefix="B")})


def test_on_the_command_line(drawn, tmp_path, capsys):
    data, split = drawn
    split.save(tmp_path / "split.csv")
    words = [
        "--permutations",
        "19",
        "--replicates",
        "20",
        "--folds",
        "2",
        "--out",
        str(tmp_path / "d.csv"),
    ]
    assert (
        main(["audit", "drift", str(data.home), "--split", str(tmp_path / "split.csv"), *words])
        == 0
    )
    shown = capsys.readouterr().out
    assert "differ beyond chance" in shown
    assert set(pd.read_csv(tmp_path / "d.csv")["first"]) == {"train", "val"}
    assert main(["audit", "drift", str(data.home), "--other", "x", "--split", "y"]) == 2
    data.save(tmp_path / "other")
    words[-1] = str(tmp_path / "e.csv")
    assert main(["audit", "drift", str(data.home), "--other", str(tmp_path / "other"), *words]) == 0
    assert "lesions are in" in capsys.readouterr().out
