"""The sentence under a figure says what its numbers say."""

from __future__ import annotations

import numpy as np
import pandas as pd
from drawn_runs import draw_predictions

from lesionlab.evaluation.evaluate import evaluate
from lesionlab.reporting.page import findings


def test_counts_name_the_most_and_the_fewest_but_for_unknown():
    counts = pd.Series({"male": 50, "female": 29, "unknown": 1})
    text = findings.of_counts(counts, 80).replace("\u00a0", " ")
    assert text == "Most: male, 50 images (62.5 %); fewest: female, 29 (36.2 %). "


def test_shares_name_the_widest_difference_between_rows_that_are_no_luck():
    table = pd.DataFrame({"nv": [80, 30, 1], "mel": [20, 70, 0]}, index=["back", "face", "foot"])
    text = findings.of_shares(table).replace("\u00a0", " ")
    assert text == "Widest difference: nv is 80.0 % of back and 30.0 % of face. "
    assert "luck" in findings.of_shares(table.tail(2))


def test_groups_name_the_highest_and_the_lowest_median():
    groups = {"nv": np.full(30, 45.0), "akiec": np.full(30, 70.0), "df": np.array([5.0])}
    assert findings.of_groups(groups, "years") == ("Medians go from 45 years (nv) to 70 (akiec). ")


def test_an_evaluation_names_its_commonest_mistake():
    result = evaluate(draw_predictions(), replicates=0)
    wrong = result.confusion.to_numpy() - np.diag(np.diag(result.confusion))
    said = findings.of_evaluation(result)
    assert f"({wrong.max()} images)" in said["confusion"]
    worst = min(result.classes, key=lambda label: result[f"recall/{label}"].value)
    assert f"least: {worst}" in said["recalls"]


def test_a_history_tells_the_best_epoch_and_both_ends():
    table = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "train_loss": [1.0, 0.5, 0.1],
            "train_accuracy": [0.5, 0.8, 0.99],
            "val_loss": [1.0, 0.8, 1.2],
            "val_accuracy": [0.5, 0.6, 0.6],
            "val_balanced_accuracy": [0.3, 0.4, 0.5],
        }
    )
    text = findings.of_history(table)
    assert "highest in epoch 3 (0.500), its loss lowest in epoch 2" in text
    assert "0.100 in training and 1.200" in text
    assert "accuracy 0.990 and 0.600" in text


def test_reliability_tells_a_model_that_is_too_sure():
    bins = pd.DataFrame({"predicted": [0.9, 0.5], "observed": [0.7, 0.4], "images": [10, 10]})
    assert "surer than it should be" in findings.of_reliability(bins)
    assert "the two agree" in findings.of_reliability(bins.assign(observed=bins["predicted"]))
