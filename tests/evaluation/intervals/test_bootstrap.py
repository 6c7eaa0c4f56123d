import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lesionlab.errors import SettingsError
from lesionlab.evaluation.intervals import bootstrap
from lesionlab.evaluation.intervals.bootstrap import (
    Measure,
    estimates,
    lesion_codes,
    lesion_weights,
    ranges_of,
)
from lesionlab.evaluation.intervals.estimate import (
    Estimate,
    Range,
    estimate,
    transformed_interval,
    wilson,
)

IDS = st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=1, max_size=30)


def test_estimate_reads_as_a_sentence_part():
    assert str(Estimate(0.612, 0.5712, 0.65, 171, 120)) == "0.612 (0.571–0.650)"
    assert str(Estimate(0.612, math.nan, math.nan, 1, 1)) == "0.612 (no interval)"
    assert str(Estimate(math.nan, math.nan, math.nan, 0, 0)) == "not defined"
    assert f"{Estimate(1, 1, 1, 2, 2):>25}" == "      1.000 (1.000–1.000)"
    assert not Estimate(math.nan, math.nan, math.nan, 0, 0).defined


@given(IDS, st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_lesions_are_drawn_whole_and_as_many_as_there_are(ids, seed):
    weights = lesion_weights(ids, 20, seed)
    codes, count = lesion_codes(ids)
    assert weights.shape == (21, len(ids))
    assert (weights[0] == 1).all()
    _, first = np.unique(codes, return_index=True)
    per_lesion = weights[:, first]
    assert (per_lesion.sum(axis=1) == count).all()
    assert (weights == per_lesion[:, codes]).all()
    assert count == len(set(ids) - {""}) + ids.count("")


def test_images_without_a_lesion_are_lesions_of_their_own():
    codes, count = lesion_codes(["b", "", "a", "", "b", None, float("nan")])
    assert count == 6
    assert codes.tolist() == [1, 2, 0, 3, 1, 4, 5]


def test_singletons_give_the_ordinary_bootstrap():
    n = 25
    weights = lesion_weights([f"L{i:02d}" for i in range(n)], 50, 7)
    rng = np.random.default_rng(7)
    naive = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(50)]
    assert (weights[1:] == naive).all()
    assert (lesion_weights([""] * n, 50, 7) == weights).all()


def test_deterministic_in_seed_and_whatever_the_block(monkeypatch):
    ids = ["a", "a", "b", "", "c"] * 5
    weights = lesion_weights(ids, 30, 1)
    assert (lesion_weights(ids, 30, 1) == weights).all()
    assert (lesion_weights(ids, 30, 2) != weights).any()
    assert (lesion_weights(ids, 10, 1) == weights[:11]).all()
    for rows in (1, 7, 100):
        blocks = list(bootstrap.weight_blocks(ids, 30, 1, rows))
        assert max(map(len, blocks)) <= rows
        assert (np.concatenate(blocks) == weights).all()


def test_no_replicates_and_fewer_than_none():
    assert lesion_weights(["a", "b"], 0, 0).tolist() == [[1, 1]]
    assert lesion_weights([], 3, 0).shape == (4, 0)
    with pytest.raises(SettingsError, match="replicates is -1"):
        lesion_weights(["a"], -1, 0)


def test_percentile_interval():
    values = np.concatenate([[0.5], np.linspace(0, 1, 1001)])
    found = estimate(values, 10, 5)
    assert (found.value, found.low, found.high) == (0.5, pytest.approx(0.025), pytest.approx(0.975))
    assert (found.n, found.groups) == (10, 5)


def test_undefined_replicates_are_left_out_up_to_the_limit():
    values = np.concatenate([[0.5], np.linspace(0.4, 0.6, 100)])
    values[1:6] = np.nan
    assert not math.isnan(estimate(values, 10, 5).low)
    values[6] = np.nan
    found = estimate(values, 10, 5)
    assert found.value == 0.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert not estimate(np.full(101, np.nan), 0, 0).defined
    values[0] = np.nan
    assert not estimate(values, 10, 5).defined


def test_one_lesion_has_no_bootstrap_interval():
    assert math.isnan(estimate(np.full(101, 0.5), 10, 1).low)


def test_proportions_of_none_or_all_get_wilson():
    found = estimate(np.zeros(101), 30, 14, proportion=True)
    assert (found.low, found.high) == (0.0, pytest.approx(1.96**2 / (14 + 1.96**2), abs=1e-4))
    assert estimate(np.ones(101), 30, 14, proportion=True).low == pytest.approx(1 - found.high)
    assert estimate(np.ones(101), 30, 14).low == 1.0
    assert wilson(0.5, 10) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))


def test_one_replicate_makes_no_interval():
    for within in (None, Range()):
        assert math.isnan(estimate(np.array([0.5, 0.6]), 10, 5, within=within).low)
        assert math.isnan(estimate(np.array([0.5]), 10, 5, within=within).low)


def test_a_metric_with_a_range_gets_a_t_interval_on_the_log_odds():
    drawn = 0.9 + 0.02 * np.sin(np.arange(400))  # lighter tails than the normal distribution
    found = estimate(np.append(0.9, drawn), 100, 41, within=Range())
    half = stats.t.ppf(0.975, 40) * drawn.std(ddof=1) / (0.9 * 0.1)
    odds = np.log(0.9 / 0.1)
    ends = [1 / (1 + np.exp(-each)) for each in (odds - half, odds + half)]
    assert (found.low, found.high) == pytest.approx(ends, abs=1e-12)
    share = estimate(np.append(0.9, drawn), 100, 41, proportion=True)
    assert (share.low, share.high) == (found.low, found.high)
    twice = estimate(2 * np.append(0.9, drawn) - 1, 100, 41, within=Range(low=-1.0))
    assert (twice.low, twice.high) == pytest.approx([2 * each - 1 for each in ends], abs=1e-12)


def test_without_an_upper_end_the_scale_is_the_logarithm():
    drawn = 0.5 + 0.1 * np.sin(np.arange(400))
    found = estimate(np.append(0.5, drawn), 100, 41, within=Range(high=np.inf))
    half = stats.t.ppf(0.975, 40) * drawn.std(ddof=1) / 0.5
    assert (found.low, found.high) == pytest.approx((0.5 / np.exp(half), 0.5 * np.exp(half)))


def test_degrees_of_freedom_fall_with_tails_that_neither_skewness_nor_noise_explain():
    rng = np.random.default_rng(0)

    def width(drawn, lesions=200):
        scaled = 0.5 + 0.01 * (drawn - drawn.mean()) / drawn.std()
        low, high = transformed_interval(0.5, scaled, lesions, Range())
        return high - low

    normal = width(rng.normal(size=2000))
    assert width(rng.normal(size=2000), lesions=5) / normal == pytest.approx(
        stats.t.ppf(0.975, 4) / stats.t.ppf(0.975, 199), rel=0.01
    )
    few = np.repeat([0.0, 1.0], [1800, 200])  # its long tail is that of its skewness
    assert width(few) == pytest.approx(normal, rel=0.01)
    assert width(rng.laplace(size=2000)) > 1.1 * normal
    wild = rng.standard_t(1.5, size=2000)
    assert width(wild) == pytest.approx(
        stats.t.ppf(0.975, 6) / stats.t.ppf(0.975, 199) * normal, rel=0.01
    )


@given(
    st.floats(0.001, 0.999),
    st.lists(st.floats(0, 1), min_size=2, max_size=30),
    st.integers(2, 1000),
)
@settings(max_examples=60, deadline=None)
def test_an_interval_holds_its_value_and_stays_in_the_range(value, drawn, groups):
    found = estimate(np.array([value, *drawn]), 10, groups, within=Range(trials=5))
    if np.std(drawn) < 1e-9:
        assert math.isnan(found.low) == (abs(drawn[0] - value) > 1e-9)
        return
    assert 0 <= found.low <= value <= found.high <= 1


def test_a_perfect_score_is_worth_the_lesions_of_its_strata():
    rows = np.array([0, 0, 0, 1, 1, 1])
    codes = np.array([0, 0, 1, 2, 3, 4])  # two lesions of one class, three of the other
    strata = rows == 0, rows == 1
    measure = Measure(
        lambda _: {},
        ranges={
            "mean": Range(strata=strata, parts=2),
            "pairs": Range(strata=strata),
            "odd": Range(strata=(rows == 7,)),
            "unknown": Range(),
        },
    )
    found = ranges_of([measure], codes)
    assert found["mean"].trials == pytest.approx(4 / (1 / 2 + 1 / 3))
    assert found["pairs"].trials == pytest.approx(1 / (1 / 2 + 1 / 3))
    assert math.isnan(found["odd"].trials)
    assert math.isnan(found["unknown"].trials)
    ones = np.ones(101)
    assert estimate(ones, 6, 5, within=found["mean"]).low == wilson(1.0, 4.8)[0]
    assert math.isnan(estimate(ones, 6, 5, within=found["unknown"]).low)
    assert math.isnan(estimate(ones, 6, 1, within=found["mean"]).low)
    # an interval has the degrees of freedom of the smallest stratum
    assert found["mean"].fewest == found["pairs"].fewest == 2
    drawn = np.append(0.5, 0.5 + 0.01 * np.sin(np.arange(400)))
    few = estimate(drawn, 6, 5, within=found["mean"])
    assert few == estimate(drawn, 6, 5, within=Range(fewest=2))
    assert (few.low, few.high) == transformed_interval(0.5, drawn[1:], 2, Range())
    assert few.low < estimate(drawn, 6, 5, within=Range()).low


def test_estimates_give_each_metric_its_own_basis(monkeypatch):
    monkeypatch.setattr(bootstrap, "BLOCK_BYTES", 100)
    x = np.arange(6.0)
    some = np.array([True, True, False, False, False, True])
    measure = Measure(
        lambda w: {"mean": w @ x / w.sum(1), "some": (w[:, some] > 0).mean(1)}, {"some": some}
    )
    steps = []
    found = estimates(
        [measure], ["a", "a", "b", "c", "d", ""], replicates=50, seed=0, listen=steps.append
    )
    assert (found["mean"].value, found["mean"].n, found["mean"].groups) == (2.5, 6, 5)
    assert (found["some"].n, found["some"].groups) == (3, 2)
    assert (steps[-1].done, steps[-1].total) == (51, 51)
    assert len(steps) > 5
