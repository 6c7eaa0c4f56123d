import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.triage.risk_control import (
    ReferralRule,
    RiskLimit,
    fit_referral,
    operating_points,
    strictest,
    threshold_at_miss,
)
from lesionlab.prediction.bundle import Sets
from lesionlab.taxonomy import HAM7

MALIGNANT = [HAM7.index(label) for label in ("akiec", "bcc", "mel")]

vectors = (
    hnp.arrays(float, (5, 7), elements=st.sampled_from([0.0, 1e-9, 0.2, 0.25, 0.5, 1.0]))
    .filter(lambda rows: (rows.sum(axis=1) > 0).all())
    .map(lambda rows: rows / rows.sum(axis=1, keepdims=True))
)
shares = st.sampled_from([1e-6, 0.1, 1 / 7, 0.25, 0.5, 1.0])


@st.composite
def rules(draw):
    limits = (
        RiskLimit("malignancy", ("akiec", "bcc", "mel"), draw(shares), 0.05, 200),
        RiskLimit("melanoma", ("mel",), draw(shares), 0.03, 100),
    )
    return ReferralRule(HAM7, ("akiec", "bcc", "mel"), (), limits)


@given(vectors, rules())
def test_no_rule_leaves_a_likely_or_possible_malignancy_unreferred(probabilities, rule):
    referred = rule.refers(probabilities)
    likeliest = probabilities.argmax(axis=1)
    assert referred[np.isin(likeliest, MALIGNANT)].all()
    malignancy = probabilities[:, MALIGNANT].sum(axis=1)
    assert referred[malignancy >= rule.limits[0].threshold].all()
    assert referred[probabilities[:, 4] >= rule.limits[1].threshold].all()
    left = probabilities[~referred]
    assert (left[:, MALIGNANT].sum(axis=1) < rule.limits[0].threshold).all()
    for label, start in rule.refers_from.items():  # said beside the class
        assert referred[probabilities[:, HAM7.index(label)] >= start].all()
        assert start <= min(each.threshold for each in rule.limits if label in each.classes)


@given(vectors, shares, st.tuples(shares, shares, shares))
def test_an_answer_that_is_not_referred_points_to_nothing_malignant(vector, quantile, at):
    """Not in its set, not by an operating point that it shows, not as its likeliest class."""
    sets = Sets(0.1, (1 - quantile,) * 7, 100)
    thresholds = {
        f"at_{level}_sensitivity/{HAM7[place]}": threshold
        for place, threshold in zip(MALIGNANT, at, strict=True)
        for level in (90, 95)
    }
    malignant = ("akiec", "bcc", "mel")
    floors = dict(zip(HAM7, sets.floors, strict=True))
    points = operating_points(malignant, thresholds, floors)
    limits = (RiskLimit("malignancy", malignant, 0.5, 0.05, 200),)
    left = ~ReferralRule(HAM7, malignant, (), limits, points).refers(vector)
    assert not sets.inside(vector)[left][:, MALIGNANT].any()
    assert (vector[left][:, MALIGNANT] < np.array(at)).all()
    assert not np.isin(vector[left].argmax(axis=1), MALIGNANT).any()


@given(vectors, st.sampled_from([(), ("nv",)]))
def test_without_limits_or_with_an_unknown_class_everything_is_referred(probabilities, unknown):
    rule = ReferralRule(HAM7, ("akiec", "bcc", "mel"), unknown)
    assert rule.refers(probabilities).all()


def test_a_malignant_class_that_shares_the_first_place_is_likely():
    tied = np.array([[0, 0, 0, 0, 0.4, 0.4, 0.2]])
    split = np.array([[0.2, 0.15, 0, 0, 0.15, 0.4, 0.1]])  # nv first, malignancy likelier than not
    rule = ReferralRule.of(HAM7)
    assert rule.likely(tied).all()
    assert rule.likely(split).all()


def brute_force(probabilities, lesions, miss, referred):
    """Every possible threshold tried, by the definition."""
    names = np.unique(lesions)
    best = 0.0
    for threshold in [*np.unique(probabilities), 1.0]:
        lost = [
            np.mean((probabilities < threshold)[lesions == name] & ~referred[lesions == name])
            for name in names
        ]
        if (sum(lost) + 1) / (len(names) + 1) <= miss + 1e-12:
            best = max(best, float(threshold))
    return best


@given(st.data())
def test_the_threshold_is_the_largest_that_the_theorem_allows(data):
    n = data.draw(st.integers(1, 40))
    p = data.draw(hnp.arrays(float, n, elements=st.sampled_from([0.0, 0.1, 0.3, 0.7, 0.9])))
    lesions = data.draw(hnp.arrays(int, n, elements=st.integers(0, 12)))
    referred = data.draw(hnp.arrays(bool, n))
    miss = data.draw(st.sampled_from([0.05, 0.1, 0.25, 0.5]))
    found = threshold_at_miss(p, lesions, miss, referred=referred)
    assert found == brute_force(p, lesions, miss, referred)


def test_too_few_lesions_for_a_promise_refer_everything_and_say_so():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(7), 60)
    targets = np.arange(60) % 7
    rule = fit_referral(probabilities, targets, np.arange(60), HAM7, miss=0.05, miss_melanoma=0.03)
    assert [each.threshold > 0 for each in rule.limits] == [True, False]  # 26 and 8 lesions
    assert rule.refers(probabilities).all()
    assert rule.promise.startswith("Every image is referred")
    assert "3 of 100 melanomas takes 33 of them to calibrate on, and there were 8" in rule.promise


def test_nineteen_lesions_are_enough_for_five_of_a_hundred_and_eighteen_are_not():
    for n, enough in ((19, True), (18, False)):
        threshold = threshold_at_miss(np.linspace(0.2, 0.9, n), np.arange(n), 0.05)
        assert threshold == (pytest.approx(0.2) if enough else 0.0)


def test_images_of_a_lesion_share_its_weight():
    p = np.array([0.1, 0.9, 0.9, 0.2, 0.8])  # one of three images, and one of two, below 0.5
    lesions = np.array([0, 0, 0, 1, 1])
    assert threshold_at_miss(p, lesions, (1 / 3 + 1) / 3) == 0.2  # may lose a third of a lesion
    assert threshold_at_miss(p, lesions, (1 / 3 + 1 / 2 + 1) / 3) == 0.8


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_of_new_lesions_the_promised_share_is_missed_at_most(share):
    """The tool risk_control.py does this with 2,000 repetitions and writes the figures down."""
    rng = np.random.default_rng(1)
    missed = []
    for _ in range(300):
        own = rng.normal(size=(150, 1)) + rng.normal(size=(150, 3))  # images of a lesion are alike
        p = 1 / (1 + np.exp(-own))
        threshold = threshold_at_miss(p[:149].ravel(), np.repeat(np.arange(149), 3), share)
        missed.append((p[149] < threshold).mean())
    spread = np.std(missed) / np.sqrt(300)
    assert share - 1 / 150 - 4 * spread <= np.mean(missed) <= share + 3 * spread


def test_the_strictest_of_two_rules_keeps_the_lower_thresholds():
    one, two = (
        ReferralRule.of(("mel", "nv")),
        ReferralRule.of(("mel", "nv")),
    )
    limits = [RiskLimit("malignancy", ("mel",), t, 0.05, 50) for t in (0.2, 0.1)]
    one, two = (ReferralRule(one.classes, one.malignant, (), (each,)) for each in limits)
    assert strictest([one, two]).limits[0].threshold == 0.1
    with pytest.raises(DataError, match="different classes"):
        strictest([one, ReferralRule.of(("bcc", "nv"))])


def test_a_rule_comes_back_from_its_plain_values():
    rng = np.random.default_rng(2)
    probabilities = rng.dirichlet(np.ones(7), 700)
    rule = fit_referral(probabilities, np.arange(700) % 7, np.arange(700), HAM7)
    again = ReferralRule.from_json(rule.to_json(), HAM7)
    assert again == rule
    assert "at most 5 of 100 malignant lesions and 3 of 100 melanomas are missed" in rule.promise
    with pytest.raises(ValueError, match="other classes"):
        ReferralRule.from_json(rule.to_json(), HAM7[:3])


def test_thresholds_are_rounded_down_and_never_above_one_half():
    probabilities = np.array([[0.1234567891, 0.8765432109]] * 40 + [[0.9, 0.1]] * 400)
    targets = np.zeros(440, dtype=int)
    rule = fit_referral(probabilities, targets, np.arange(440), ("mel", "nv"))
    assert rule.limits[0].threshold == pytest.approx(0.123455, abs=1e-12)
    sure = fit_referral(probabilities[40:], targets[40:], np.arange(400), ("mel", "nv"))
    assert sure.limits[0].threshold == 0.5


def test_classes_beyond_the_printed_rule_are_named_or_all_is_referred():
    classes = ("mel", "nv", "merkel")
    probabilities = np.random.default_rng(3).dirichlet(np.ones(3), 300)
    targets = np.arange(300) % 3
    rule = fit_referral(probabilities, targets, np.arange(300), classes)
    assert rule.unknown == ("merkel",)
    assert rule.refers(probabilities).all()
    assert "whether merkel is malignant was not said" in rule.promise
    told = fit_referral(
        probabilities, targets, np.arange(300), classes, malignant=["mel", "merkel"]
    )
    assert told.malignant == ("mel", "merkel")
    assert not told.refers_all
    with pytest.raises(SettingsError, match="no class of the model"):
        fit_referral(probabilities, targets, np.arange(300), classes, malignant=["bcc"])
    with pytest.raises(SettingsError, match="miss is 1"):
        fit_referral(probabilities, targets, np.arange(300), classes, miss=1)


def test_without_limits_operating_points_decide_and_no_risk_is_stated():
    points = operating_points(("mel",), {"at_95_sensitivity/mel": 0.1}, {"mel": 0.15})
    rule = ReferralRule(("mel", "nv"), ("mel",), (), points=points)
    assert rule.refers(np.array([[0.1, 0.9], [0.09, 0.91], [0.6, 0.4]])).tolist() == [
        True, False, True,
    ]  # fmt: skip
    assert rule.promise.startswith("No risk is stated")
