from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lesionlab.recipe import (
    Adam,
    AdamW,
    Balanced,
    Constant,
    Cosine,
    CrossEntropy,
    LogitAdjusted,
    Natural,
    Plateau,
    Sgd,
)
from lesionlab.training import losses
from lesionlab.training.batches import EpochBatches, TrainingImages, order_of
from lesionlab.training.module import optimiser, pace


def test_rare_classes_weigh_more_than_common_ones():
    weights = losses.inverse_frequency(np.array([6705, 115, 1113]))
    assert weights[1] > weights[2] > weights[0]
    assert weights.mean() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(6705 / 115)


def test_plain_cross_entropy_is_torchs():
    logits, targets = torch.randn(9, 3), torch.randint(0, 3, (9,))
    loss = losses.build(CrossEntropy(), np.array([5, 3, 1]))
    assert loss(logits, targets).item() == pytest.approx(
        nn.CrossEntropyLoss()(logits, targets).item()
    )


def test_logit_adjustment_asks_more_of_rare_classes():
    counts = np.array([90, 10])
    loss = losses.build(LogitAdjusted(tau=1.0), counts)
    undecided = torch.zeros(1, 2)
    common, rare = (loss(undecided, torch.tensor([c])).item() for c in (0, 1))
    assert common == pytest.approx(-math.log(0.9), abs=1e-6)
    assert rare == pytest.approx(-math.log(0.1), abs=1e-6)
    plain = losses.build(LogitAdjusted(tau=0.0), counts)
    assert plain(undecided, torch.tensor([1])).item() == pytest.approx(math.log(2), abs=1e-6)


@given(st.integers(0, 1000), st.integers(0, 50))
def test_natural_sampling_shows_every_image_once(seed, epoch):
    targets = np.arange(23) % 3
    order = order_of(targets, Natural(), seed, epoch)
    assert sorted(order) == list(range(23))
    assert (order == order_of(targets, Natural(), seed, epoch)).all()
    assert (order != order_of(targets, Natural(), seed, epoch + 1)).any()


def test_balanced_sampling_draws_classes_evenly():
    targets = np.repeat([0, 1, 2], [9000, 900, 100])
    shares = np.bincount(targets[order_of(targets, Balanced(), 0, 0)]) / len(targets)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)


@given(st.integers(1, 300), st.integers(2, 80))
def test_batches_cover_an_epoch_in_nearly_equal_parts(count, batch):
    parts = list(EpochBatches(count, batch))
    assert np.concatenate(parts).tolist() == list(range(count))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1


def test_the_view_of_an_image_does_not_depend_on_the_batch_size():
    pixels = np.random.default_rng(0).integers(0, 255, (12, 4, 5, 3), dtype=np.uint8)
    rows, targets = np.arange(12), np.arange(12) % 2
    images = TrainingImages(pixels, rows, targets, Natural(), seed=1)
    images.set_epoch(3)
    small = [images[places]["draws"] for places in EpochBatches(12, 2)]
    large = [images[places]["draws"] for places in EpochBatches(12, 6)]
    assert torch.equal(torch.cat(small), torch.cat(large))


def test_schedules():
    warm = [pace(Cosine(warmup=0.1), step, 100) for step in range(100)]
    assert warm[0] < warm[5] < warm[9] <= 1
    assert warm[10] == pytest.approx(1)
    assert all(a >= b for a, b in pairwise(warm[10:]))
    assert warm[-1] < 0.01
    assert pace(Cosine(warmup=0, floor=0.1), 100, 100) == pytest.approx(0.1)
    assert pace(Constant(), 5, 10) == 1
    assert pace(Plateau(), 5, 10, slowdown=0.25) == 0.25


@pytest.mark.parametrize("settings", [AdamW(), Adam(), Sgd()])
def test_norms_and_biases_are_spared_weight_decay(settings):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    groups = optimiser(net, settings).param_groups
    for group in groups:
        for parameter in group["params"]:
            if parameter.ndim == 1:
                assert group["weight_decay"] == 0
    decays = {group["weight_decay"] for group in groups for p in group["params"] if p.ndim > 1}
    assert decays == {getattr(settings, "weight_decay", 0.0)}


def test_frozen_means_frozen():
    import timm

    from lesionlab.models.zoo import Architecture
    from lesionlab.recipe import Images, Model, Phase, Recipe
    from lesionlab.training.module import Classifier

    for name in ("test_efficientnet", "test_vit", "test_convnext"):
        model = Model(name=name)
        architecture = Architecture.of(model, ("a", "b"), Images(size=(160, 160)))
        net = timm.create_model(name, num_classes=2)
        loss = losses.build(CrossEntropy(), np.array([1, 1]))
        module = Classifier(net, architecture, Recipe(), Phase(depth="head"), loss, 1)
        module.train()
        before = {key: value.clone() for key, value in net.state_dict().items()}
        optim = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
        for _ in range(2):
            net(torch.randn(4, 3, 160, 160)).square().sum().backward()
            optim.step()
        head = {id(p) for p in net.get_classifier().parameters()}
        head_names = {key for key, p in net.named_parameters() if id(p) in head}
        moved = {
            key for key, value in net.state_dict().items() if not torch.equal(value, before[key])
        }
        assert moved == head_names
