import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.metrics.operating_points import (
    operating_points,
    threshold_at_sensitivity,
    threshold_at_specificity,
)
from lesionlab.evaluation.roc_curve import roc


def test_threshold_is_the_smallest_that_will_do():
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.35, 0.99])
    positive = np.array([False] * 10 + [True] * 2)
    assert threshold_at_specificity(positive, scores, 0.8) == 0.9
    assert threshold_at_specificity(positive, scores, 0.9) == 0.95
    assert threshold_at_specificity(positive, scores, 0.95) == 0.99
    assert threshold_at_specificity(positive, scores, 0.3) == 0.35
    assert threshold_at_specificity(positive, scores, 0.0) == 0.1


def test_threshold_where_no_score_will_do_or_nothing_is_negative():
    positive = np.array([False, False, True])
    found = threshold_at_specificity(positive, np.array([1.0, 1.0, 1.0]), 0.9)
    assert found == np.nextafter(1.0, 2)
    assert math.isnan(threshold_at_specificity(np.array([True]), np.array([0.5]), 0.9))


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.95, 1.0]),
)
@settings(max_examples=80, deadline=None)
def test_threshold_reaches_the_target_and_the_next_lower_does_not(rows, target):
    positive = np.array([row[0] for row in rows])
    scores = np.array([row[1] for row in rows]) / 8
    found = threshold_at_specificity(positive, scores, target)
    if positive.all():
        assert math.isnan(found)
        return
    negatives = scores[~positive]
    assert (negatives < found).mean() >= target - 1e-12
    for lower in scores[scores < found]:
        assert (negatives < lower).mean() < target


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.95, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_threshold_at_sensitivity_is_the_largest_that_will_do(rows, target):
    positive = np.array([row[0] for row in rows])
    scores = np.array([row[1] for row in rows]) / 8
    found = threshold_at_sensitivity(positive, scores, target)
    if not positive.any():
        assert math.isnan(found)
        return
    own = scores[positive]
    assert (own >= found).mean() >= target - 1e-12
    for higher in own[own > found]:
        assert (own >= higher).mean() < target


def test_specificity_at_fixed_sensitivity_has_its_threshold_from_val(fake):
    test, val = fake(300, seed=1), fake(200, seed=2, part="val", prefix="V", skill=0.5)
    found = evaluate(pd.concat([test, val]), replicates=0)
    truth = (val["target"] == "mel").to_numpy()
    threshold = found.thresholds["at_90_sensitivity/mel"]
    assert threshold == threshold_at_sensitivity(truth, val["p_mel"].to_numpy(), 0.9)
    rest = test["target"] != "mel"
    assert found["specificity_at_90_sensitivity/mel"].value == pytest.approx(
        (test["p_mel"] < threshold)[rest].mean(), abs=1e-12
    )
    without = evaluate(pd.concat([test, val[~truth]]), replicates=0)
    assert "specificity_at_90_specificity/mel" in without
    assert "specificity_at_90_sensitivity/mel" not in without
    assert "Specificity at fixed sensitivity" in " ".join(without.notes)


def test_operating_points_weigh_their_images():
    positive = np.array([True, True, False, False])
    scores = np.array([0.9, 0.4, 0.6, 0.1])
    measure = operating_points(positive, scores, {"at_90_specificity/mel": 0.5})
    found = measure.compute(np.array([[1.0, 1, 1, 1], [3, 1, 0, 2], [0, 0, 1, 1]]))
    assert found["sensitivity_at_90_specificity/mel"][:2].tolist() == [0.5, 0.75]
    assert np.isnan(found["sensitivity_at_90_specificity/mel"][2])
    assert found["specificity_at_90_specificity/mel"].tolist() == [0.5, 1, 0.5]


def test_thresholds_are_chosen_on_val_and_applied_to_test(fake):
    test, val = fake(300, seed=1), fake(200, seed=2, part="val", prefix="V", skill=0.5)
    found = evaluate(pd.concat([test, val]), replicates=50)
    threshold = found.thresholds["at_90_specificity/mel"]
    truth = (val["target"] == "mel").to_numpy()
    assert threshold == threshold_at_specificity(truth, val["p_mel"].to_numpy(), 0.9)
    mel = test["target"] == "mel"
    yes = test["p_mel"] >= threshold
    sensitivity = found["sensitivity_at_90_specificity/mel"]
    assert sensitivity.value == pytest.approx(yes[mel].mean(), abs=1e-12)
    assert sensitivity.n == mel.sum()
    assert sensitivity.groups == test["lesion_id"][mel].nunique()
    specificity = found["specificity_at_90_specificity/mel"]
    assert specificity.value == pytest.approx(1 - yes[~mel].mean(), abs=1e-12)
    # what is scored has no say in the threshold
    other = fake(300, seed=9, skill=4)
    assert evaluate(pd.concat([other, val]), replicates=0).thresholds == found.thresholds
    assert not found.notes


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t, _: (t, "test"), "no val part"),
        (lambda t, v: (pd.concat([t, v]), "val"), "val is what is scored"),
        (lambda t, v: (pd.concat([t[t["target"] != "mel"], v]), "test"), "has no image of it"),
        (lambda t, v: (pd.concat([t, v[v["target"] == "mel"]]), "test"), "every image of part val"),
        (
            lambda t, v: (
                pd.concat([t, v])
                .rename(columns={"p_mel": "p_m"})
                .replace({"target": {"mel": "m"}}),
                "test",
            ),
            "no such class",
        ),
    ],
)
def test_no_operating_points_and_a_note_that_says_why(fake, change, why):
    table, part = change(fake(200, seed=1), fake(200, seed=2, part="val", prefix="V"))
    found = evaluate(table, part=part, replicates=0)
    assert not found.thresholds
    assert not any("_at_" in name for name in found)
    assert len(found.notes) == 1
    assert why in found.notes[0]


@pytest.mark.parametrize("digits", [None, 1])
def test_roc_equals_scikit_learn(fake, digits):
    table = fake(200, digits=digits)
    points = roc(table, "mel")
    fpr, tpr, thresholds = roc_curve(
        table["target"] == "mel", table["p_mel"], drop_intermediate=False
    )
    np.testing.assert_allclose(points["fpr"], fpr, atol=1e-15)
    np.testing.assert_allclose(points["tpr"], tpr, atol=1e-15)
    np.testing.assert_array_equal(points["threshold"], thresholds)


def test_roc_says_what_it_cannot_do(fake):
    table = fake(50)
    with pytest.raises(SettingsError, match="no class 'wart'"):
        roc(table, "wart")
    with pytest.raises(DataError, match="no images of part 'val'"):
        roc(table, "mel", "val")
    with pytest.raises(DataError, match="0 of the"):
        roc(table[table["target"] != "mel"], "mel")
