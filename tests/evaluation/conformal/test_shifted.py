"""Calibration for images whose answers are distributed otherwise."""

import numpy as np
import pytest

from lesionlab.evaluation.calibration.scaling import Scaling
from lesionlab.evaluation.conformal.scores import effective_lesions, in_lesions, quantile
from lesionlab.evaluation.conformal.shifted import (
    LARGEST,
    Reference,
    class_limits,
    density_ratio,
    recalibrated,
)
from lesionlab.evaluation.triage.risk_control import threshold_at_miss
from lesionlab.numerics import log_softmax

CLASSES = ("a", "b", "c")
PLAIN = Scaling("temperature", CLASSES, np.eye(3), np.zeros(3))


def drawn(images, hard, seed):
    """Log-probabilities and true classes; of a hard image they say less."""
    rng = np.random.default_rng(seed)
    scale = np.where(rng.random(images) < hard, 0.7, 3.0)[:, None]
    logs = log_softmax(scale * rng.normal(size=(images, 3)) + [0.0, -0.5, 0.5])
    targets = (rng.random((images, 1)) > np.exp(logs).cumsum(axis=1)).sum(axis=1)
    return logs, targets


def covered(logs, targets, scaling, limits):
    own = np.exp(scaling.logits(logs))[np.arange(len(targets)), targets]
    return float((1 - own <= limits[targets]).mean())


def reference_of(logs, targets):
    return Reference(logs, None, targets, np.arange(len(targets)), np.zeros(len(targets)))


def test_a_lesion_of_weight_two_counts_as_two():
    values = np.random.default_rng(0).normal(size=60)
    weights = np.where(np.arange(60) < 20, 2.0, 1.0)
    twice = np.concatenate([values, values[:20]])
    for alpha in (0.05, 0.1, 0.4):
        found = quantile(values, np.arange(60), alpha, weights)
        assert found == quantile(twice, np.arange(80), alpha)
        p = 1 / (1 + np.exp(values))
        lowest = threshold_at_miss(p, np.arange(60), alpha, weights=weights)
        assert lowest == threshold_at_miss(1 / (1 + np.exp(twice)), np.arange(80), alpha)


def test_equal_weights_of_any_size_are_worth_all_lesions_and_unequal_ones_fewer():
    lesions = np.repeat(np.arange(20), 3)
    assert effective_lesions(np.full(60, 4.0), lesions) == pytest.approx(20)
    assert effective_lesions((lesions < 5).astype(float), lesions) == pytest.approx(5)
    assert in_lesions(np.full(60, 4.0), lesions) == pytest.approx(1)
    assert effective_lesions(np.zeros(60), lesions) == 0


def test_answers_that_are_given_more_often_weigh_more():
    logs, _ = drawn(900, 0.2, 0)
    same, _ = drawn(900, 0.2, 1)
    harder, _ = drawn(900, 0.9, 2)
    lesions = np.arange(900) // 2
    alike = density_ratio(logs, lesions, same)
    assert 0.9 < np.median(alike) < 1.1
    weights = density_ratio(logs, lesions, harder)
    unsure = logs.max(axis=1) < np.log(0.6)
    assert weights[unsure].mean() > 1.5 * weights[~unsure].mean()
    assert weights.min() >= 0
    assert weights.max() <= LARGEST


def test_where_harder_images_come_the_promise_is_broken_and_kept_once_adapted():
    before, after = [], []
    for seed in range(5):
        logs, targets = drawn(1000, 0.1, 10 + seed)
        there, truth = drawn(2000, 0.8, 20 + seed)
        plain = class_limits([np.exp(logs)], targets, np.arange(1000), 3, 0.1)
        before.append(covered(there, truth, PLAIN, plain))
        made = recalibrated(reference_of(logs, targets), there[:200], PLAIN, 0.1)
        after.append(covered(there[200:], truth[200:], made.scaling, made.limits))
    assert np.mean(before) < 0.85
    assert 0.87 <= np.mean(after) <= 0.93


def test_a_class_of_few_lesions_has_the_quantile_of_all():
    logs, targets = drawn(300, 0.3, 3)
    few = np.flatnonzero(targets == 1)[10:]
    kept = np.setdiff1d(np.arange(300), few)
    limits = class_limits([np.exp(logs[kept])], targets[kept], kept, 3, 0.1)
    own = 1 - np.exp(logs)[kept, targets[kept]]
    assert limits[1] == quantile(own, kept, 0.1)
    assert limits[0] != limits[1]


def test_a_reference_comes_back_from_its_arrays_and_another_is_refused():
    logs, targets = drawn(30, 0.3, 4)
    made = Reference(logs, logs + 1, targets, np.arange(30), np.full(30, np.nan))
    again = Reference.of(made.arrays(), 3)
    np.testing.assert_allclose(again.alone, logs, atol=1e-5)
    np.testing.assert_allclose(again.logs[0], logs + 1, atol=1e-5)
    assert (again.targets == targets).all()
    for wrong in ({"targets": targets + 3}, {"lesions": np.arange(29)}, {"alone": logs[:, :2]}):
        with pytest.raises(ValueError, match="other classes"):
            Reference.of({**made.arrays(), **wrong}, 3)
