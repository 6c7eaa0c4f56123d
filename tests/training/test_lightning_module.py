from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from lesionlab.recipe.schema import Adam, AdamW, Constant, Cosine, CrossEntropy, Plateau, Sgd
from lesionlab.training import losses
from lesionlab.training.lightning_module import optimiser, pace


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

    from lesionlab.models.factory import Architecture
    from lesionlab.recipe.schema import Images, Model, Phase, Recipe
    from lesionlab.training.lightning_module import Classifier

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
