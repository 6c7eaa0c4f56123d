from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lesionlab.evaluation.intervals.estimate import estimate
from lesionlab.evaluation.misclassifications import confusions


def draw(n: int = 300, seed: int = 0, classes=("bcc", "mel", "nv")) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    targets = rng.integers(len(classes), size=n)
    scores = rng.dirichlet(np.ones(len(classes)), n) + 0.5 * np.eye(len(classes))[targets]
    table = pd.DataFrame(scores / scores.sum(1, keepdims=True), columns=[f"p_{c}" for c in classes])
    table.insert(0, "image_id", [f"i{i}" for i in range(n)])
    table.insert(1, "lesion_id", [f"l{i // 2}" for i in range(n)])
    table.insert(2, "target", np.array(classes)[targets])
    return table.assign(part="test")


def test_counts_are_those_of_a_cross_table():
    table = draw()
    predicted = table[["p_bcc", "p_mel", "p_nv"]].idxmax(axis=1).str[2:]
    counts = pd.crosstab(table["target"], predicted)
    found = confusions(table, replicates=0).pairs
    assert len(found) == 6
    for row in found.itertuples():
        assert row.images == counts.loc[row.truth, row.predicted]
        assert row.of == counts.loc[row.truth].sum()
        assert row.share == pytest.approx(row.images / row.of, abs=1e-15)
    assert found["share"].is_monotonic_decreasing


def test_malignant_called_benign_and_the_other_way_round():
    table = draw()
    called = table[["p_bcc", "p_mel", "p_nv"]].idxmax(axis=1).str[2:]
    ill, flagged = table["target"] != "nv", called != "nv"
    found = confusions(table, replicates=200)
    assert found.missed.value == pytest.approx((ill & ~flagged).sum() / ill.sum(), abs=1e-15)
    assert found.alarmed.value == pytest.approx((~ill & flagged).sum() / (~ill).sum(), abs=1e-15)
    assert found.missed.low < found.missed.value < found.missed.high
    assert found.missed_images == (
        (ill & ~flagged).sum(),
        table["lesion_id"][ill & ~flagged].nunique(),
    )
    assert "malignant = mel" in found.rule


def test_an_interval_is_that_of_a_loop_over_drawn_lesions():
    table = draw(80)
    found = confusions(table, replicates=100, seed=3).missed
    predicted = table[["p_bcc", "p_mel", "p_nv"]].idxmax(axis=1).str[2:]
    ids = sorted(table["lesion_id"].unique())
    rows = table.sort_values("image_id").assign(predicted=predicted)
    rng = np.random.default_rng(3)
    values = []
    for _ in range(100):
        drawn = [ids[i] for i in rng.integers(len(ids), size=len(ids))]
        sample = pd.concat([rows[rows["lesion_id"] == each] for each in drawn])
        ill = sample[sample["target"] != "nv"]
        values.append((ill["predicted"] == "nv").mean())
    naive = estimate(np.array([found.value, *values]), found.n, found.groups, proportion=True)
    assert (found.low, found.high) == pytest.approx((naive.low, naive.high))
    assert found.groups == rows[rows["target"] != "nv"]["lesion_id"].nunique()


def test_other_classes_have_no_rule_and_one_kind_alone_no_share():
    found = confusions(draw(classes=("cat", "dog")), replicates=10)
    assert found.missed is None
    assert found.rule == ""
    table = draw()
    found = confusions(table[table["target"] == "nv"], replicates=10)
    assert found.missed is None
    assert found.alarmed is not None


def test_a_perfect_model_fails_nowhere():
    table = draw()
    for label in ("bcc", "mel", "nv"):
        table[f"p_{label}"] = (table["target"] == label).astype(float)
    found = confusions(table, replicates=20)
    assert found.pairs.empty
    assert found.missed.value == 0
    assert found.missed_images == (0, 0)
