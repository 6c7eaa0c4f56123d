import numpy as np
import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.calibration.prevalence import (
    em,
    estimate,
    predictive_values,
    reweight,
)
from lesionlab.files import write_csv
from lesionlab.progress import Notice

CLASSES = ("a", "b", "c")
HERE = np.array([0.6, 0.3, 0.1])
THERE = np.array([0.2, 0.3, 0.5])


def drawn(n, shares, seed, part, apart=2.0):
    """Calibrated where shares are HERE; classes look the same everywhere."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(3, size=n, p=shares)
    features = apart * np.eye(3)[targets] + rng.normal(size=(n, 3))
    odds = HERE * np.exp(apart * features)
    table = pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), columns=["p_a", "p_b", "p_c"])
    return table.assign(
        image_id=[f"{part}{i}" for i in range(n)],
        lesion_id=[f"{part}L{i // 2}" for i in range(n)],
        target=np.array(CLASSES)[targets],
        part=part,
    )


@pytest.fixture(scope="module")
def shifted():
    tables = [drawn(6000, HERE, 1, "val"), drawn(2000, THERE, 2, "test")]
    return pd.concat(tables, ignore_index=True)


def loss(table):
    rows = table[table["part"] == "test"]
    p = rows[["p_a", "p_b", "p_c"]].to_numpy()
    chosen = p[np.arange(len(rows)), rows["target"].map(CLASSES.index)]
    return -np.log(chosen).mean()


def test_reweighting_is_bayes_rule_and_helps_where_it_is_right(shifted):
    known = dict(zip(CLASSES, HERE, strict=True))
    there = dict(zip(CLASSES, THERE, strict=True))
    made = reweight(shifted, there, known=known)
    p = shifted[["p_a", "p_b", "p_c"]].to_numpy() * THERE / HERE
    expected = p / p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(made[["p_a", "p_b", "p_c"]], expected, rtol=1e-12)
    assert loss(made) < loss(shifted) - 0.05
    back = reweight(made, known, known=there)
    np.testing.assert_allclose(
        back[["p_a", "p_b", "p_c"]], shifted[["p_a", "p_b", "p_c"]], rtol=1e-9
    )


@pytest.mark.parametrize("method", ["em", "bbse"])
def test_shares_are_estimated_without_labels(shifted, method):
    found = estimate(shifted, method=method, replicates=60)
    for label, share in zip(CLASSES, THERE, strict=True):
        each = found.shares[label]
        assert each.value == pytest.approx(share, abs=0.04)
        assert each.low < each.value < each.high
        assert each.low - 0.02 < share < each.high + 0.02
    assert sum(found.values().values()) == pytest.approx(1)
    blind = shifted.copy()
    blind.loc[blind["part"] == "test", "target"] = "a"
    assert estimate(blind, method=method, replicates=0).values() == pytest.approx(found.values())


def test_em_is_the_naive_loop(shifted):
    p = shifted.loc[shifted["part"] == "test", ["p_a", "p_b", "p_c"]].to_numpy()[:200]
    weights = np.random.default_rng(0).integers(0, 3, (2, 200)).astype(float)
    found = em(p, HERE, weights)
    for row, weight in zip(found, weights, strict=True):
        shares = HERE
        for _ in range(500):
            q = p * shares / HERE
            q /= q.sum(axis=1, keepdims=True)
            shares = (weight[:, None] * q).sum(axis=0) / weight.sum()
        np.testing.assert_allclose(row, shares, atol=1e-4)


def test_a_model_that_confuses_classes_is_warned_of():
    parts = [drawn(500, HERE, 1, "val", apart=0.1), drawn(500, THERE, 2, "test", apart=0.1)]
    found = estimate(pd.concat(parts), method="bbse", replicates=0)
    assert found.condition > 20
    assert "ill-conditioned" in found.warnings[0]


def test_uncalibrated_probabilities_are_warned_of(shifted):
    heard = []
    off = shifted.copy()
    off[["p_a", "p_b", "p_c"]] = [1 / 3, 1 / 3, 1 / 3]
    reweight(off, dict.fromkeys(CLASSES, 1 / 3), listen=heard.append)
    assert any(isinstance(each, Notice) and "Calibrate first" in each.text for each in heard)


def test_wrong_shares_are_refused_all_at_once(shifted):
    with pytest.raises(SettingsError) as caught:
        reweight(shifted, {"a": 1.2, "x": 0.1, "b": 0.1})
    assert len(caught.value.faults) == 3
    with pytest.raises(SettingsError, match=r"add up to 0\.9"):
        reweight(shifted, {"a": 0.5, "b": 0.3, "c": 0.1})
    with pytest.raises(SettingsError, match="never was there"):
        reweight(shifted, {"a": 0.5, "b": 0.3, "c": 0.2}, known={"a": 0.5, "b": 0.5, "c": 0.0})
    with pytest.raises(SettingsError, match="part test or train"):
        estimate(shifted, part="val")
    with pytest.raises(DataError, match="part 'val'"):
        estimate(shifted[shifted["part"] == "test"])


def test_predictive_values_are_those_of_counts():
    # of 1000: 20 ill, 18 of them found; 980 well, 196 of them called ill
    ppv, npv = predictive_values(0.9, 0.8, 0.02)
    assert float(ppv) == pytest.approx(18 / (18 + 196))
    assert float(npv) == pytest.approx(784 / (784 + 2))
    assert np.isnan(predictive_values(0.0, 1.0, 0.5)[0])
    assert predictive_values([0.9, 0.8], 0.5, [[0.1], [0.2]])[0].shape == (2, 2)
    with pytest.raises(SettingsError, match="sensitivity and prevalence"):
        predictive_values(1.1, 0.5, -0.1)


def test_the_verb_estimates_and_reweights(shifted, tmp_path, capsys):
    write_csv(tmp_path / "p.csv", shifted)
    words = ["calibrate", "--prevalence", str(tmp_path / "p.csv"), "--replicates", "20"]
    assert main([*words, "--method", "bbse"]) == 0
    assert "known share" in " ".join(capsys.readouterr().out.split())
    out = tmp_path / "there.csv"
    assert main([*words, "--to", "a=0.2", "b=0.3", "c=0.5", "--out", str(out)]) == 0
    assert loss(pd.read_csv(out)) < loss(shifted) - 0.05
    assert main([*words, "--to", "a=0.2", "b=0.3", "c=0.5"]) == 2
    assert main([*words, "--to", "a=most", "--out", str(out)]) == 2
