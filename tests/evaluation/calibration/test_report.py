import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from lesionlab.errors import SettingsError
from lesionlab.evaluation.calibration.debiased_bins import Tally, bins_of
from lesionlab.evaluation.calibration.errors import Binned, measure
from lesionlab.evaluation.calibration.reliability_diagram import COLUMNS, TOP, reliability_curve
from lesionlab.evaluation.calibration.report import calibration_errors
from lesionlab.evaluation.intervals.bootstrap import lesion_codes, lesion_weights
from lesionlab.evaluation.predictions.load import arrays_of
from lesionlab.tables import classes_of

TOOL = Path(__file__).parents[3] / "tools" / "calibration_coverage.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("calibration_coverage", TOOL)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def as_table(data, part="test"):
    table = pd.DataFrame(data.probabilities, columns=["p_a", "p_b", "p_c", "p_d"])
    names = np.array(["a", "b", "c", "d"])
    return table.assign(
        image_id=[f"{part}{i:06d}" for i in range(len(table))],
        lesion_id=[f"{part}L{i:05d}" for i in data.lesions],
        target=names[data.targets],
        part=part,
    )


def naive_square(gaps, bins, lesions, weights):
    """Mean product of two images of two lesions, by the definition."""
    total = 0.0
    for b in np.unique(bins):
        here = np.flatnonzero(bins == b)
        up = down = 0.0
        for i in here:
            for j in here:
                if lesions[i] != lesions[j]:
                    up += weights[i] * weights[j] * gaps[i] * gaps[j]
                    down += weights[i] * weights[j]
        total += weights[here].sum() / weights.sum() * (up / down if down else 0)
    return total


def test_squares_without_bias_are_products_of_different_lesions(fake):
    table = fake(120, seed=3, per_lesion=2.0)
    targets, p = arrays_of(table)
    lesions, _ = lesion_codes(table["lesion_id"])
    gaps = (targets == 5) - p[:, 5]
    weights = lesion_weights(table["lesion_id"], 3, 0)
    for kind in ("mass", "width"):
        bins = bins_of(p[:, 5], lesions, 6, kind)
        tally = Tally.of(weights.T.copy(), bins)
        found = tally.squares(tally.sums(gaps))
        expected = [naive_square(gaps, bins.index, lesions, row) for row in weights]
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


def test_with_single_images_a_square_is_the_mean_squared_minus_its_variance():
    rng = np.random.default_rng(0)
    gaps, lesions = rng.normal(0.1, 1, 50), np.arange(50)
    tally = Tally.of(np.ones((50, 1)), bins_of(np.full(50, 0.5), lesions, 1, "width"))
    expected = gaps.mean() ** 2 - gaps.var(ddof=1) / 50
    assert tally.squares(tally.sums(gaps))[0] == pytest.approx(expected, rel=1e-12)


def test_a_bin_of_one_lesion_adds_nothing():
    lesions = np.array([0, 0, 0, 1, 2])
    scores = np.array([0.1, 0.1, 0.1, 0.9, 0.9])
    gaps = np.array([0.7, 0.1, 1 / 3, 0.5, 0.5])
    tally = Tally.of(np.full((5, 1), 0.1), bins_of(scores, lesions, 2, "width"))
    assert tally.squares(tally.sums(gaps))[0] == pytest.approx(0.4 * 0.25)


@pytest.mark.parametrize(("kind", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_the_curve_is_scikit_learns(fake, kind, strategy):
    table = fake(500, seed=1, digits=None)
    curve = reliability_curve(table, bins=8, kind=kind, replicates=30)
    assert tuple(curve.columns) == COLUMNS
    for label in ("mel", "nv"):
        seen, said = calibration_curve(
            table["target"] == label, table[f"p_{label}"], n_bins=8, strategy=strategy
        )
        own = curve[curve["curve"] == label]
        np.testing.assert_allclose(own["observed"], seen, rtol=1e-12)
        np.testing.assert_allclose(own["predicted"], said, rtol=1e-12)
        assert own["images"].sum() == 500
        interval = own.dropna(subset=["low"])
        assert (
            (interval["low"] <= interval["observed"]) & (interval["observed"] <= interval["high"])
        ).all()
    top = curve[curve["curve"] == TOP]
    ece = (top["images"] * (top["observed"] - top["predicted"]).abs()).sum() / 500
    found = calibration_errors(table, bins=8, replicates=0)
    assert ece == pytest.approx(found[f"ece_equal_{kind}"].value, rel=1e-10)


def test_brier_adds_up_and_is_that_of_the_definition(fake):
    table = fake(300, seed=2, digits=None)
    found = calibration_errors(table, replicates=0)
    targets, p = arrays_of(table)
    brier = ((np.eye(7)[targets] - p) ** 2).sum(axis=1).mean()
    assert found["brier"].value == pytest.approx(brier, rel=1e-12)
    names = ("reliability", "resolution", "uncertainty", "within")
    parts = {name: found[f"brier_{name}"].value for name in names}
    whole = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within"]
    assert whole == pytest.approx(brier, rel=1e-12)
    assert parts["resolution"] > 0
    frequencies = np.bincount(targets, minlength=7) / 300
    assert parts["uncertainty"] == pytest.approx(1 - (frequencies**2).sum(), abs=0.02)
    assert found["log_loss"].value == pytest.approx(log_loss(targets, p, labels=range(7)))
    right = p.argmax(axis=1) == targets
    assert found["overconfidence"].value == pytest.approx(p.max(axis=1).mean() - right.mean())


def test_weights_count_like_repeated_lesions(fake):
    table = fake(80, seed=5, digits=None)
    targets, p = arrays_of(table)
    codes, _ = lesion_codes(table["lesion_id"])
    classes = classes_of(table)
    binned = Binned.of(p, codes, 5)
    weights = lesion_weights(table["lesion_id"], 4, 0)
    together = measure(targets, p, classes, binned).compute(weights)
    alone = measure(targets, p, classes, binned).compute(weights[3:4])
    for name, values in together.items():
        np.testing.assert_allclose(values[3], alone[name][0], rtol=1e-12, atol=1e-15)


def test_a_calibrated_model_is_not_distinguishable_from_0_and_one_too_sure_is(tool):
    for power, apart in ((1.0, False), (2.0, True)):
        data = tool.draw(np.random.default_rng(7), 800, (0.5, 0.3, 0.2), power)
        found = calibration_errors(as_table(data), replicates=200)
        for name in tool.NAMES:
            assert found.distinguishable(name) is apart, name
            assert ("not distinguishable" in found.describe(name)) is not apart
            assert (found[name].low == 0) is not apart
        assert np.isnan(found["ece_equal_mass"].low)  # no interval that would mislead
        assert found.expected["ece_equal_mass"] > 0.01
        assert set(found.table()["metric"]) >= {*tool.NAMES, "brier", "log_loss"}


def test_interval_and_test_say_the_same(tool, monkeypatch):
    import lesionlab.evaluation.calibration.report as module

    table = as_table(tool.draw(np.random.default_rng(7), 300, (0.5, 0.5), 2.0))
    assert calibration_errors(table, replicates=60)["calibration_error"].low > 0
    real = module.if_calibrated
    monkeypatch.setattr(
        module,
        "if_calibrated",
        lambda *words: {name: values + 1 for name, values in real(*words).items()},
    )
    found = calibration_errors(table, replicates=60)
    assert found.p_values["calibration_error"] == 1
    assert found["calibration_error"].low == 0


def test_estimates_are_unbiased_and_intervals_hold_the_truth_with_clustered_errors(tool):
    tool.SETTINGS["small"] = (150, (0.2, 0.2, 0.2, 0.2, 0.2))
    for power in (1.0, 1.5):
        found = tool.simulate("small", power, runs=20, replicates=50, seed=3, bins=8, many=60_000)
        for name in tool.NAMES:
            true, values, held, apart = found[name].T
            error = values.std() / 20**0.5
            assert abs((values - true).mean()) < 4 * error, name
            assert held.mean() >= 0.8, name
            if power == 1:
                assert apart.mean() <= 0.2, name  # 5 %, by chance of 20 runs
        plain = found[tool.ECE].T
        assert plain[1].mean() > plain[0].mean() + 0.002  # the plain ECE is too large


def test_no_bins_are_refused(fake):
    with pytest.raises(SettingsError, match="bins is 0"):
        calibration_errors(fake(20), bins=0)
    with pytest.raises(SettingsError, match="bins is 0"):
        reliability_curve(fake(20), bins=0)


def test_sure_answers_and_one_lesion_are_survived(fake):
    table = fake(6)
    table["lesion_id"] = "L"
    columns = [f"p_{label}" for label in classes_of(table)]
    table[columns] = np.eye(7)[:6]
    found = calibration_errors(table, replicates=20)
    assert found["calibration_error"].value == 0
    assert np.isnan(found["calibration_error"].low)
