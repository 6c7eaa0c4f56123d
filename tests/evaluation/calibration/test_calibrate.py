import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from lesionlab.cli.app import main
from lesionlab.errors import DataError, RunError, SettingsError
from lesionlab.evaluation.calibration.calibrate import calibrate, load_scaling
from lesionlab.evaluation.calibration.scaling import FLOOR, METHODS, _basis, _fit, log_probabilities
from lesionlab.evaluation.predictions.load import open_predictions
from lesionlab.files import write_csv
from lesionlab.numerics import log_softmax, softmax
from lesionlab.progress import Notice
from lesionlab.tables import classes_of


def truthful(n, seed, part, classes="abc"):
    """A calibrated model: classes are drawn from the probabilities."""
    rng = np.random.default_rng(seed)
    p = softmax(rng.normal(scale=2, size=(n, len(classes))))
    lesions = rng.integers(0, n, n)
    drawn = (rng.random(n)[:, None] > p.cumsum(axis=1)[:, :-1]).sum(axis=1)
    table = pd.DataFrame(p, columns=[f"p_{name}" for name in classes])
    return table.assign(
        image_id=[f"{part}{i:05d}" for i in range(n)],
        lesion_id=[f"{part}L{i}" for i in lesions],
        target=np.array(list(classes))[drawn],
        part=part,
    )


def changed(table, function):
    columns = [f"p_{name}" for name in classes_of(table)]
    made = table.copy()
    made[columns] = softmax(function(np.log(table[columns].to_numpy())))
    return made


@pytest.fixture(scope="module")
def honest():
    return pd.concat([truthful(1500, 1, "val"), truthful(500, 2, "test")], ignore_index=True)


def p_of(table):
    return table[[f"p_{name}" for name in classes_of(table)]].to_numpy()


def test_a_temperature_is_found_again(honest):
    made = calibrate(changed(honest, lambda logs: logs * 2.5))
    assert made.scaling.temperature == pytest.approx(2.5, rel=0.1)
    assert np.abs(p_of(made.predictions) - p_of(honest)).mean() < 0.01
    assert (p_of(made.predictions).argmax(1) == p_of(honest).argmax(1)).all()
    assert made.log_loss["after"] < made.log_loss["before"]
    assert made.log_loss["unseen"] == pytest.approx(made.log_loss["after"], abs=0.02)


@pytest.mark.parametrize("method", ["vector", "dirichlet"])
def test_shifted_classes_are_put_right(honest, method):
    off = changed(honest, lambda logs: logs * [1.5, 1.0, 0.8] + [1.0, 0.0, -1.0])
    made = calibrate(off, method=method)
    assert np.abs(p_of(made.predictions) - p_of(honest)).mean() < 0.02
    assert np.abs(p_of(off) - p_of(honest)).mean() > 0.05  # there was something to mend


def test_only_val_is_looked_at(honest):
    honest = honest[(honest["part"] == "test") | (honest.index % 5 == 0)]
    other = honest.copy()
    test = other["part"] == "test"
    other.loc[test, "target"] = "a"
    for method in METHODS:
        one, two = calibrate(honest, method=method), calibrate(other, method=method)
        np.testing.assert_array_equal(one.scaling.matrix, two.scaling.matrix)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_the_fit_is_that_of_a_general_optimiser(method, strength):
    rng = np.random.default_rng(0)
    logs, targets = log_softmax(rng.normal(size=(200, 3))), rng.integers(0, 3, 200)
    basis, held = _basis(method, 3)

    def loss(free):
        full = (basis @ free).reshape(3, 4)
        scaled = log_softmax(logs @ full[:, :3].T + full[:, 3])
        return -scaled[np.arange(200), targets].mean() + strength * ((held @ free) ** 2).sum()

    # without a penalty parameters can trade off; the loss cannot
    best = minimize(loss, np.zeros(basis.shape[1]), options={"gtol": 1e-9})
    matrix, offsets = _fit(logs, targets, method, strength)
    scaled = log_softmax(logs @ matrix.T + offsets)
    full = np.column_stack([matrix, offsets]).reshape(-1)
    free = np.linalg.lstsq(basis, full, rcond=None)[0]
    assert loss(free) == pytest.approx(best.fun, abs=1e-7)
    assert scaled.shape == (200, 3)


def test_penalties_hold_back_what_they_should():
    rng = np.random.default_rng(1)
    logs, targets = log_softmax(rng.normal(size=(200, 3)) * 2), rng.integers(0, 3, 200)
    one, _ = _fit(logs, targets, "temperature", 0.0)
    matrix, offsets = _fit(logs, targets, "vector", 1e6)
    np.testing.assert_allclose(matrix, one, atol=1e-4)
    np.testing.assert_allclose(offsets, 0, atol=1e-4)
    matrix, offsets = _fit(logs, targets, "dirichlet", 1e6)
    np.testing.assert_allclose(matrix - np.diag(np.diag(matrix)), 0, atol=1e-4)
    np.testing.assert_allclose(offsets, 0, atol=1e-4)


def test_logits_are_taken_where_they_agree_and_a_probability_of_0_counts_as_little(fake):
    table = open_predictions(fake(50, seed=1))
    p = p_of(table)
    logs = log_probabilities(table)
    assert (p == 0).any()
    assert np.isfinite(logs).all()
    assert np.exp(logs).min() == pytest.approx(FLOOR, rel=0.01)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=p.shape) * 30
    for i, name in enumerate(classes_of(table)):
        table[f"logit_{name}"] = logits[:, i]
    np.testing.assert_array_equal(log_probabilities(table), logs)  # another model's: not taken
    for i, name in enumerate(classes_of(table)):
        table[f"p_{name}"] = softmax(logits)[:, i]
    np.testing.assert_array_equal(log_probabilities(table), log_softmax(logits))
    made = calibrate(table.assign(part=["val"] * 30 + ["test"] * 20)).predictions
    scaled = made[[f"logit_{name}" for name in classes_of(made)]].to_numpy()
    np.testing.assert_allclose(softmax(scaled), p_of(made), rtol=1e-12)


def test_few_lesions_and_useless_fits_are_said(honest):
    heard = []
    small = honest[(honest["part"] == "test") | honest["image_id"].isin(honest["image_id"][:40])]
    made = calibrate(small, method="dirichlet", listen=heard.append)
    assert any("fewer than 20 lesions of" in text and "a (" in text for text in made.warnings)
    assert [each.text for each in heard if isinstance(each, Notice)] == list(made.warnings)
    assert not any("fewer than" in text for text in calibrate(small).warnings)


def test_a_leak_is_said(honest):
    shared = honest.assign(
        lesion_id=honest["lesion_id"].str.removeprefix("val").str.removeprefix("test")
    )
    assert any("are in val and in test" in text for text in calibrate(shared).warnings)


def test_what_cannot_be_fitted_is_refused(honest):
    with pytest.raises(DataError, match="part 'val'"):
        calibrate(honest[honest["part"] == "test"])
    with pytest.raises(SettingsError, match="no method"):
        calibrate(honest, method="platt")
    without = honest[(honest["part"] == "test") | (honest["target"] != "c")]
    with pytest.raises(DataError, match="no lesion of c"):
        calibrate(without, method="vector")
    calibrate(without)


def test_what_is_saved_does_the_same_again(honest, tmp_path):
    made = calibrate(honest, method="dirichlet")
    path = made.save(tmp_path / "made")
    again = load_scaling(tmp_path / "made" / "calibration.json").apply(open_predictions(honest))
    pd.testing.assert_frame_equal(again, made.predictions)
    np.testing.assert_allclose(p_of(open_predictions(path)), p_of(made.predictions))
    with pytest.raises(DataError, match="fitted for"):
        load_scaling(tmp_path / "made" / "calibration.json").apply(
            open_predictions(honest.rename(columns={"p_a": "p_x"}).assign(target="x"))
        )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(RunError, match="holds a run"):
        made.save(tmp_path / "run")


def test_the_verb_shows_before_and_after(honest, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    write_csv(tmp_path / "p.csv", changed(honest, lambda logs: logs * 3))
    words = ["calibrate", str(tmp_path / "p.csv"), "--out", str(tmp_path / "made")]
    words += ["--replicates", "60", "--curves", str(tmp_path / "curves.csv")]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "before" in said
    assert "not distinguishable from 0" in said
    kept = json.loads((tmp_path / "made" / "calibration.json").read_text())
    assert f"temperature {kept['temperature']:.3f}" in said
    assert kept["temperature"] == pytest.approx(3, rel=0.1)
    assert kept["fitted_on"]["part"] == "val"
    assert set(pd.read_csv(tmp_path / "curves.csv")["when"]) == {"before", "after"}
