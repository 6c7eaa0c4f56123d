"""Estimates over images, against plain numpy, scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from lesionlab.evaluation.intervals.bootstrap import lesion_weights
from lesionlab.explanation.trust.aggregate import Bootstrap, mean_curves, means, summarise

CLASSES = ("bcc", "mel", "nv")
FIGURES = ("area", "inside", "right_lesion")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    n = 90
    made = pd.DataFrame(
        {
            "lesion_id": [f"l{number // 2}" for number in range(n)],
            "target": rng.choice(CLASSES, n, p=[0.2, 0.3, 0.5]),
            "right": rng.random(n) < 0.6,
            "probability": rng.random(n),
            "weight": rng.choice([1.0, 3.0, 7.0], n),
            "area": rng.uniform(0.1, 0.6, n),
            "right_lesion": (rng.random(n) < 0.5).astype(float),
        }
    )
    made["inside"] = made["area"] + 0.2 * made["probability"] + rng.normal(0, 0.05, n)
    made.loc[[3, 17], "inside"] = np.nan
    return made


@pytest.fixture(scope="module")
def found(table):
    made = summarise(table, FIGURES, CLASSES, Bootstrap(200, 5))
    return made.set_index(["measure", "group"])


def mean(rows, name, weight=None):
    rows = rows[rows[name].notna()]
    return np.average(rows[name], weights=rows["weight"] if weight is None else weight)


def test_means_of_groups(table, found):
    groups = {
        "all": table,
        "right": table[table["right"]],
        "wrong": table[~table["right"]],
        **{label: table[table["target"] == label] for label in CLASSES},
    }
    for name in FIGURES:
        for group, rows in groups.items():
            row = found.loc[name, group]
            assert row["value"] == pytest.approx(mean(rows, name))
            known = rows[rows[name].notna()]
            assert row["images"] == len(known)
            assert row["lesions"] == known["lesion_id"].nunique()
        each = [mean(groups[label], name) for label in CLASSES]
        assert found.loc[name, "mean of classes"]["value"] == pytest.approx(np.mean(each))
        gap = mean(groups["right"], name) - mean(groups["wrong"], name)
        assert found.loc[name, "right - wrong"]["value"] == pytest.approx(gap)


def test_the_difference_within_classes_weighs_by_wrong_answers(table, found):
    gaps, weights = [], []
    for label in CLASSES:
        own = table[table["target"] == label]
        gaps.append(mean(own[own["right"]], "inside") - mean(own[~own["right"]], "inside"))
        weights.append(own.loc[~own["right"], "weight"].sum())
    row = found.loc["inside", "right - wrong within class"]
    assert row["value"] == pytest.approx(np.average(gaps, weights=weights))


def test_a_difference_that_classes_explain_is_none_within_them():
    """All of it comes from one class that is both harder and larger."""
    table = pd.DataFrame(
        {
            "lesion_id": [f"l{number}" for number in range(40)],
            "target": ["mel"] * 20 + ["nv"] * 20,
            "right": [True] * 5 + [False] * 15 + [True] * 15 + [False] * 5,
            "probability": 0.5,
            "weight": 1.0,
            "area": [0.6] * 20 + [0.2] * 20,
        }
    )
    made = summarise(table, ["area"], ["mel", "nv"], Bootstrap(50, 0))
    made = made.set_index(["measure", "group"])["value"]
    assert made["area", "right - wrong"] == pytest.approx(-0.2)
    assert made["area", "right - wrong within class"] == pytest.approx(0)


def test_ratios_are_of_means_over_images_that_have_both(table, found):
    known = table[table["inside"].notna()]
    row = found.loc["enrichment", "all"]
    assert row["value"] == pytest.approx(mean(known, "inside") / mean(known, "area"))
    assert row["images"] == 88


def test_paired_differences_are_of_the_same_images(table, found):
    known = table[table["inside"].notna()]
    gap = np.average(known["inside"] - known["area"], weights=known["weight"])
    assert found.loc["inside - area", "all"]["value"] == pytest.approx(gap)


def test_intervals_are_those_of_a_naive_loop_over_lesions(table, found):
    drawn = lesion_weights(table["lesion_id"], 200, 5)[1:]
    values = []
    for row in drawn:
        both = []
        for hit in (True, False):
            mask = (table["right"] == hit) & table["inside"].notna()
            weight = (row * table["weight"])[mask]
            both.append(np.average(table.loc[mask, "inside"], weights=weight))
        values.append(both[0] - both[1])
    row = found.loc["inside", "right - wrong"]
    np.testing.assert_allclose(
        [row["low"], row["high"]], np.quantile(values, [0.025, 0.975]), rtol=1e-12
    )


def test_relations_to_the_answer(table, found):
    known = table[table["inside"].notna()]
    row = found.loc["auroc of inside for right", "all"]
    wanted = roc_auc_score(known["right"], known["inside"], sample_weight=known["weight"])
    assert row["value"] == pytest.approx(wanted)
    wanted = roc_auc_score(table["right"], table["probability"], sample_weight=table["weight"])
    assert found.loc["auroc of probability for right", "all"]["value"] == pytest.approx(wanted)
    even = summarise(table.assign(weight=1.0), FIGURES, CLASSES, Bootstrap(0, 0))
    even = even.set_index(["measure", "group"])["value"]
    rho = spearmanr(known["inside"], known["probability"]).statistic
    assert even["correlation of inside with probability", "all"] == pytest.approx(rho)
    assert rho > 0.1


def test_shares_of_none_and_all_have_wilsons_interval(table):
    sure = table.assign(right_lesion=1.0)
    made = summarise(sure, ["right_lesion"], CLASSES, Bootstrap(50, 0))
    row = made.set_index(["measure", "group"]).loc["right_lesion", "all"]
    assert row["value"] == row["high"] == 1
    assert 0.9 < row["low"] < 1


def test_only_right_answers_leave_differences_out(table):
    sure = table.assign(right=True)
    made = summarise(sure, ["inside"], CLASSES, Bootstrap(20, 0))
    made = made.set_index(["measure", "group"])
    assert ("inside", "wrong") not in made.index
    assert np.isnan(made.loc["inside", "right - wrong"]["value"])
    assert ("inside", "right - wrong within class") not in made.index
    assert ("auroc of inside for right", "all") not in made.index


def test_curves_are_means_at_every_point(table):
    rng = np.random.default_rng(0)
    curves = {("deletion", "map"): rng.random((90, 5)), ("insertion", "map"): rng.random((90, 5))}
    made = mean_curves(table, curves, Bootstrap(50, 0))
    assert list(made["share"].unique()) == [0, 0.25, 0.5, 0.75, 1]
    rows = made.query("curve == 'insertion' and group == 'wrong'")
    mask = ~table["right"].to_numpy()
    wanted = np.average(curves["insertion", "map"][mask], axis=0, weights=table.loc[mask, "weight"])
    np.testing.assert_allclose(rows["probability"], wanted)
    assert (rows["low"] < rows["probability"]).all()
    assert (rows["high"] > rows["probability"]).all()


def test_plain_means(table):
    found = means(table, table[["area"]].rename(columns={"area": "x"}), Bootstrap(20, 0))
    assert list(found) == ["x"]
    assert found["x"].value == pytest.approx(mean(table, "area"))
