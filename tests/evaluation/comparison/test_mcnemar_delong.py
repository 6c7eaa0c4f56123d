"""McNemar and DeLong, plain and by lesion: against slow code, published figures and simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr
from scipy.stats import binomtest

from lesionlab.errors import SettingsError
from lesionlab.evaluation.comparison.compare import compare
from lesionlab.evaluation.comparison.mcnemar_delong import components, delong, mcnemar
from lesionlab.evaluation.intervals.p_values import bootstrap_p, holm, least_p, too_few

# Donner and Petryshen, Psychiatry Res. 28:41-46, 1989: 29 psychiatrists, their patients, and how
# often only one of the two found a question relevant. Statistics of these data in Durkalski et al.,
# Stat. Med. 22:2417-2428, 2003: McNemar 11.8451, Obuchowski 7.19.
ONLY_PATIENT = [0, 1, 1, 1, 0, 3, 3, 3, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 1, 1, 2, *[0] * 7]
ONLY_DOCTOR = [
    4,
    2,
    3,
    2,
    1,
    3,
    0,
    2,
    2,
    4,
    2,
    4,
    3,
    2,
    1,
    3,
    1,
    2,
    0,
    0,
    0,
    2,
    1,
    2,
    2,
    0,
    0,
    1,
    1,
]


def lesion_ids(n, rng, most=4):
    """n images, 1 to `most` to a lesion."""
    sizes = rng.integers(1, most + 1, n)
    return np.repeat([f"L{i}" for i in range(n)], sizes)[:n]


def test_mcnemar_gives_the_published_figures():
    first, second, ids = [], [], []
    for number, (one, other) in enumerate(zip(ONLY_PATIENT, ONLY_DOCTOR, strict=True)):
        first += [True] * one + [False] * other
        second += [False] * one + [True] * other
        ids += [f"K{number}"] * (one + other)
    found = mcnemar(np.array(first), np.array(second), ids)
    k = 29
    assert found.statistic * (k - 1) / k == pytest.approx(7.19, abs=0.005)
    assert (found.first, found.second) == (21, 50)
    assert (found.first - found.second) ** 2 / 71 == pytest.approx(11.8451, abs=1e-4)
    assert found.p_images == pytest.approx(binomtest(21, 71).pvalue)
    assert found.p_images < 0.001 < found.p  # clusters err together


def test_the_exact_test_by_lesion_is_a_count_of_all_signs():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 30)) < 0.6
    ids = lesion_ids(30, rng)
    net = pd.Series(first.astype(int) - second.astype(int)).groupby(ids).sum().to_numpy()
    net = net[net != 0]
    signs = np.array(np.meshgrid(*[(-1, 1)] * len(net))).reshape(len(net), -1)
    sums = np.abs(signs.T @ np.abs(net))
    found = mcnemar(first, second, ids)
    assert len(net) > 6
    assert found.p == pytest.approx((sums >= abs(net.sum())).mean(), abs=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_alone_in_their_lesions_images_get_the_textbook_tests(seed):
    rng = np.random.default_rng(seed)
    n = 80
    first, second = rng.random((2, n)) < ((0.8,), (0.65,))
    found = mcnemar(first, second, [f"L{i}" for i in range(n)])
    b, c = (first & ~second).sum(), (second & ~first).sum()
    assert found.p == pytest.approx(binomtest(int(b), int(b + c)).pvalue, abs=1e-12)
    assert found.p == pytest.approx(found.p_images, abs=1e-12)
    assert found.statistic == pytest.approx((b - c) ** 2 / (b + c))
    assert found == mcnemar(first, second, [""] * n)
    positive = rng.random(n) < 0.3
    scores = rng.integers(0, 6, (2, n)) + 2.0 * positive
    pair = delong(positive, *scores, [""] * n)
    assert pair.error == pytest.approx(pair.error_images, abs=1e-14)
    assert 0 < pair.p == pytest.approx(pair.p_images)


def naive(positive, first, second):
    """DeLong by every pair of images: areas and the variance of their difference."""
    wins = []
    for scores in (first, second):
        high, low = scores[positive][:, None], scores[~positive][None, :]
        wins.append((high > low) + 0.5 * (high == low))
    gap = wins[0] - wins[1]
    return [each.mean() for each in wins], (
        gap.mean(axis=1).var(ddof=1) / gap.shape[0] + gap.mean(axis=0).var(ddof=1) / gap.shape[1]
    )


def test_large_tables_are_quick_and_right():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 60_000)) < ((0.752,), (0.748,))
    found = mcnemar(first, second, [""] * 60_000)
    assert found.first + found.second > 20_000
    assert found.p == pytest.approx(found.p_images, rel=1e-3)
    exact = mcnemar(first[:30_000], second[:30_000], [""] * 30_000)
    assert exact.p == pytest.approx(exact.p_images, abs=1e-12)


@pytest.mark.parametrize("levels", [3, 1000])
def test_delong_is_that_of_every_pair(levels):
    rng = np.random.default_rng(levels)
    positive = rng.random(150) < 0.2
    scores = np.round(rng.normal(size=(2, 150)) * levels / 3 + positive * levels / 5)
    found = delong(positive, *scores, [""] * 150)
    areas, variance = naive(positive, *scores)
    assert [found.first, found.second] == pytest.approx(areas, abs=1e-13)
    assert found.error == pytest.approx(math.sqrt(variance), abs=1e-13)
    z = found.difference / found.error
    assert found.p == pytest.approx(2 * ndtr(-abs(z)))
    low, high = found.interval
    assert (low + high) / 2 == pytest.approx(found.difference)


def test_delong_by_lesion_sums_components_within_lesions():
    """Also where a cluster has images of both sides, by the formulas of the paper."""
    rng = np.random.default_rng(4)
    n = 120
    positive = rng.random(n) < 0.4
    scores = rng.normal(size=(2, n)) + positive
    ids = lesion_ids(n, rng)
    (x1, y1), (x2, y2) = (components(positive, each) for each in scores)
    x, y = x1 - x2, y1 - y2
    theta = x.mean()
    names = np.unique(ids)
    own = np.array([(x - theta)[ids[positive] == name].sum() for name in names])
    other = np.array([(y - theta)[ids[~positive] == name].sum() for name in names])
    k1, k0, k = len(set(ids[positive])), len(set(ids[~positive])), len(names)
    m, q = positive.sum(), (~positive).sum()
    assert k1 + k0 > k  # some lesions have both
    s10 = k1 / ((k1 - 1) * m) * (own**2).sum()
    s01 = k0 / ((k0 - 1) * q) * (other**2).sum()
    s11 = k / (k - 1) * (own * other).sum()
    variance = s10 / m + s01 / q + 2 * s11 / (m * q)
    assert delong(positive, *scores, ids).error == pytest.approx(math.sqrt(variance), abs=1e-14)


def test_what_is_not_defined_is_said_to_be_so():
    truth = np.array([True, True, False, False])
    scores = np.array([0.9, 0.8, 0.2, 0.1])
    assert math.isnan(delong(np.ones(4, bool), scores, scores, [""] * 4).p)
    same = delong(truth, scores, scores, [""] * 4)
    assert (same.difference, same.p) == (0, 1)
    assert math.isnan(delong(truth, scores, -scores, ["a", "a", "b", "b"]).p)
    turned = delong(truth, scores, -scores, [""] * 4)
    assert turned.difference == 1
    assert math.isnan(turned.p)  # an error of 0 is no evidence
    never = mcnemar(truth, truth, [""] * 4)
    assert (never.p, never.p_images, never.statistic) == (1, 1, 0)


def test_by_lesion_the_tests_hold_their_level_and_by_image_they_do_not():
    """Two models equally good by construction, whose errors belong to lesions."""
    rng = np.random.default_rng(0)
    runs, lesions, each = 400, 50, 4
    ids = np.repeat([f"L{i}" for i in range(lesions)], each)
    rejected = dict.fromkeys(("mcnemar", "mcnemar_images", "delong", "delong_images"), 0)
    for _ in range(runs):
        truth = np.repeat(rng.random(lesions) < 0.4, each)
        own = np.repeat(rng.normal(size=(2, lesions)), each, axis=1)
        scores = truth + own + 0.5 * rng.normal(size=(2, len(ids)))
        right = (scores > 0.5) == truth
        one, two = mcnemar(*right, ids), delong(truth, *scores, ids)
        for name, test in (("mcnemar", one), ("delong", two)):
            rejected[name] += test.p < 0.05
            rejected[f"{name}_images"] += test.p_images < 0.05
    shares = {name: count / runs for name, count in rejected.items()}
    assert 0.02 < shares["mcnemar"] < 0.07
    assert 0.03 < shares["delong"] < 0.08
    assert shares["mcnemar_images"] > 0.12
    assert shares["delong_images"] > 0.15


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04, math.nan, 0.03]) == pytest.approx([0.06, math.nan, 0.06], nan_ok=True)
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_a_bootstrap_p_goes_with_its_interval():
    rng = np.random.default_rng(0)
    for shift in np.linspace(-3.2, 3.2, 41):
        values = np.concatenate([[shift], rng.normal(shift, 1, 999)])
        low, high = np.quantile(values[1:], [0.025, 0.975])
        p = bootstrap_p(values)
        assert p == pytest.approx(2 * ndtr(-abs(shift)), abs=0.08)
        assert (p < 0.05) == (low > 0 or high < 0) or 0.04 < p < 0.06
    assert bootstrap_p(np.ones(1000)) == least_p(999) == 0.002
    assert bootstrap_p(np.zeros(1000)) == 1
    assert math.isnan(bootstrap_p(np.ones(1)))
    assert math.isnan(bootstrap_p(np.array([1.0] + [np.nan] * 9 + [1.0] * 91)))
    assert "Take 800 replicates" in too_few(100, 20)
    assert not too_few(1000, 20)


def test_compare_brings_them_all(fake):
    first = pd.concat([fake(500, seed=1), fake(250, seed=2, part="val", prefix="V")])
    second = fake(500, seed=5, skill=2.5)
    second = first[first["part"] == "test"].assign(
        **{name: second[name].to_numpy() for name in second if name.startswith("p_")}
    )
    third = first[first["part"] == "test"]
    found = compare({"a": first, "b": second, "c": third}, replicates=200, metrics=["accuracy"])
    assert found.adjusted == dict(
        zip(found.p_values, holm(list(found.p_values.values())), strict=True)
    )
    assert found.p_values["c", "a", "accuracy"] == 1
    by_name = {(each.model, each.reference, each.metric): each for each in found.tests}
    own = by_name["b", "a", "accuracy"]
    each = found.differences["b", "a", "accuracy"]
    assert own.difference == pytest.approx(each.value)
    assert (own.images, own.lesions, own.test) == (each.n, each.groups, "mcnemar")
    area = by_name["b", "a", "auroc/mel"]
    areas = compare({"a": first, "b": second}, replicates=500, metrics=["auroc/mel", "recall/mel"])
    gap = areas.differences["b", "a", "auroc/mel"]
    assert area.difference == pytest.approx(gap.value, abs=1e-12)
    assert (area.low, area.high) == pytest.approx((gap.low, gap.high), abs=0.02)
    recall = areas.differences["b", "a", "recall/mel"]
    assert by_name["b", "a", "recall/mel"].difference == pytest.approx(recall.value)
    same = by_name["c", "a", "auroc/df"]
    assert (same.difference, same.p, same.adjusted) == (0, 1, 1)
    for test in ("mcnemar", "delong"):
        family = [each for each in found.tests if each.test == test]
        assert [each.adjusted for each in family] == holm([each.p for each in family])
        assert len(family) == 3 * (8 if test == "mcnemar" else 7)
    table = found.table()
    assert list(table["test"].unique()) == ["", "bootstrap", "mcnemar", "delong"]
    assert table["p_adjusted"].notna().sum() == 3 + len(found.tests)
    many = compare({"a": first, "b": second, "c": third}, replicates=100)
    assert not any("differences were tested at once" in note for note in found.notes)
    assert any("differences were tested at once" in note for note in many.notes)


def test_one_model_against_all_others_asks_fewer_questions(fake):
    tables = {
        name: fake(300, seed=1, skill=skill) for name, skill in zip("abc", (1, 2, 3), strict=True)
    }
    whole = compare(tables, replicates=100, metrics=["accuracy", "macro_auroc"])
    found = compare(tables, replicates=100, metrics=["accuracy", "macro_auroc"], focus="b")
    assert {key[:2] for key in found.differences} == {("b", "a"), ("b", "c")}
    assert {(each.model, each.reference) for each in found.tests} == {("b", "a"), ("b", "c")}
    assert found.differences["b", "a", "accuracy"] == whole.differences["b", "a", "accuracy"]
    back = found.differences["b", "c", "accuracy"]
    assert back.value == -whole.differences["c", "b", "accuracy"].value
    least = found.adjusted["b", "a", "accuracy"] / found.p_values["b", "a", "accuracy"]
    assert least < whole.adjusted["b", "a", "accuracy"] / whole.p_values["b", "a", "accuracy"]
    assert "b - c" in str(found)
    assert "c - a" not in str(found)
    with pytest.raises(SettingsError, match="no model 'x'"):
        compare(tables, replicates=0, focus="x")
