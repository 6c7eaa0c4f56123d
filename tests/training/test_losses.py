from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lesionlab.data.class_weights import class_weights, mean_one
from lesionlab.recipe.schema import CrossEntropy, Focal, Ldam, LogitAdjusted
from lesionlab.training import losses

COUNTS = np.array([6705, 115, 1113, 40])
WEIGHTS = ("none", "inverse", "sqrt", "effective", "median")
ALL = [CrossEntropy(), Focal(), Ldam(), LogitAdjusted()]


def batch(seed: int, soft: bool, n: int = 11, size: float = 3.0):
    """Random logits and targets, plain or mixed."""
    generator = torch.Generator().manual_seed(seed)
    logits = size * torch.randn(n, 4, generator=generator)
    hard = torch.randint(0, 4, (n,), generator=generator)
    if not soft:
        return logits, hard
    share = torch.rand(n, 1, generator=generator)
    hot = functional.one_hot(hard, 4).float()
    return logits, share * hot + (1 - share) * hot.roll(1, 0)


def torch_weight(scheme):
    return torch.tensor(mean_one(class_weights(COUNTS, scheme)), dtype=torch.float32)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("scheme", WEIGHTS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_with_weights_of_mean_1(scheme, smoothing, soft):
    logits, targets = batch(0, soft)
    mine = losses.build(CrossEntropy(weights=scheme, smoothing=smoothing), COUNTS)
    theirs = functional.cross_entropy(
        logits, targets, weight=torch_weight(scheme), label_smoothing=smoothing
    )
    assert mine(logits, targets).item() == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("scheme", WEIGHTS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), smoothing=st.sampled_from([0.0, 0.1, 0.5]))
def test_focal_loss_at_gamma_0_is_cross_entropy(scheme, soft, seed, smoothing):
    logits, targets = batch(seed, soft)
    plain = losses.build(CrossEntropy(weights=scheme, smoothing=smoothing), COUNTS)
    focal = losses.build(Focal(gamma=0.0, weights=scheme, smoothing=smoothing), COUNTS)
    assert focal(logits, targets).item() == pytest.approx(plain(logits, targets).item(), rel=2e-6)


def test_focal_loss_is_the_papers_sum_over_images():
    logits, targets = batch(1, soft=False)
    p = logits.softmax(dim=1)[torch.arange(len(targets)), targets].double()
    by_hand = -((1 - p) ** 2.5 * p.log()).mean()
    assert losses.build(Focal(gamma=2.5), COUNTS)(logits, targets).item() == pytest.approx(
        by_hand.item(), rel=1e-5
    )


def test_focal_loss_discounts_easy_images_more_than_hard_ones():
    easy, hard = torch.tensor([[4.0, 0, 0, 0]]), torch.tensor([[0.0, 1, 0, 0]])
    target = torch.tensor([0])
    plain, focal = losses.build(CrossEntropy(), COUNTS), losses.build(Focal(), COUNTS)
    discount = [(focal(each, target) / plain(each, target)).item() for each in (easy, hard)]
    assert discount[0] < 0.01 < 0.5 < discount[1] < 1


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_loss_has_a_slope_where_the_network_is_sure(gamma):
    logits = torch.tensor([[200.0, 0, 0, 0], [0, 200.0, 0, 0]], requires_grad=True)
    loss = losses.build(Focal(gamma=gamma), COUNTS)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad[1].abs().sum() > 0.1  # wrong and sure: still learns


def test_ldam_lowers_the_true_logit_by_a_margin_that_grows_as_classes_get_rarer():
    logits, targets = batch(2, soft=False)
    margins = COUNTS**-0.25 / (40**-0.25) * 0.5
    assert margins.max() == pytest.approx(0.5)
    lowered = logits.clone()
    for row, target in enumerate(targets):
        lowered[row, target] -= margins[target]
    expected = functional.cross_entropy(30 * lowered, targets, weight=torch_weight("effective"))
    found = losses.build(Ldam(scale=30, weights="effective"), COUNTS)(logits, targets)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    plain = losses.build(Ldam(margin=0.0), COUNTS)(logits, targets)
    assert plain.item() == pytest.approx(functional.cross_entropy(logits, targets).item(), rel=1e-6)


@pytest.mark.parametrize("loss", ALL)
def test_plain_targets_are_the_end_of_mixed_ones(loss):
    logits, targets = batch(3, soft=False)
    built = losses.build(loss, COUNTS)
    hot = functional.one_hot(targets, 4).float()
    assert built(logits, targets).item() == pytest.approx(built(logits, hot).item(), rel=1e-6)


@pytest.mark.parametrize("loss", ALL)
def test_a_mixed_target_costs_the_mixture_of_both(loss):
    logits, _ = batch(4, soft=False, n=1)
    built = losses.build(loss, COUNTS)
    one, other = (built(logits, torch.tensor([each])).item() for each in (1, 3))
    mixed = built(logits, torch.tensor([[0, 0.3, 0, 0.7]])).item()
    assert mixed == pytest.approx(0.3 * one + 0.7 * other, rel=1e-5)


@pytest.mark.parametrize("kind", [CrossEntropy, Focal, Ldam])
@pytest.mark.parametrize("scheme", WEIGHTS[1:])
def test_m11_an_image_of_a_rare_class_pulls_harder(kind, scheme):
    logits = torch.zeros(4, 4, requires_grad=True)
    loss = losses.build(kind(weights=scheme), COUNTS)
    loss(logits, torch.arange(4)).backward()
    pull = logits.grad.diagonal().abs().numpy()
    assert np.argsort(pull).tolist() == np.argsort(-COUNTS).tolist()


def test_logit_adjustment_asks_more_of_rare_classes():
    counts = np.array([90, 10])
    loss = losses.build(LogitAdjusted(tau=1.0), counts)
    undecided = torch.zeros(1, 2)
    common, rare = (loss(undecided, torch.tensor([c])).item() for c in (0, 1))
    assert common == pytest.approx(-math.log(0.9), abs=1e-6)
    assert rare == pytest.approx(-math.log(0.1), abs=1e-6)
    plain = losses.build(LogitAdjusted(tau=0.0), counts)
    assert plain(undecided, torch.tensor([1])).item() == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("loss", [*ALL, Focal(weights="inverse"), Ldam(weights="sqrt")])
@pytest.mark.parametrize("soft", [False, True])
def test_losses_of_half_precision_logits_are_in_float32(loss, soft):
    logits, targets = batch(5, soft)
    found = losses.build(loss, COUNTS)(logits.bfloat16(), targets)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(
        losses.build(loss, COUNTS)(logits, targets).item(), rel=0.05
    )
