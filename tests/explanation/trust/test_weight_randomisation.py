"""Forgetting, and the check that tells a map of the picture from a map of what was learnt."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

from lesionlab.explanation.grad_cam import grad_cam
from lesionlab.explanation.target_layers import Layer
from lesionlab.explanation.trust import image_metrics
from lesionlab.explanation.trust.aggregate import Bootstrap, means
from lesionlab.explanation.trust.weight_randomisation import cascade
from lesionlab.models import factory
from lesionlab.models.layer_groups import groups
from lesionlab.progress import silent
from lesionlab.recipe.schema import Images, Model

SIZE = (32, 32)


def build(name, seed, size=(64, 64)):
    torch.manual_seed(seed)
    architecture = factory.Architecture.of(
        Model(name=name, drop=0.0), ("mel", "nv"), Images(size=size)
    )
    return factory.build(architecture).eval()


def same(one, other):
    return {
        name: torch.equal(value, other.state_dict()[name])
        for name, value in one.state_dict().items()
    }


@pytest.mark.parametrize("name", ["test_resnet", "cnn_64"])
def test_weights_become_random_from_the_top_down_until_nothing_is_left(name):
    trained, fresh = build(name, 0), build(name, 1)
    for each in (trained, fresh):  # as after training: batch norms have statistics of their own
        for key, buffer in each.named_buffers():
            if key.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand_like(buffer))
    before = copy.deepcopy(trained.state_dict())
    names, forgotten = [], []
    for step, network in cascade(trained, fresh):
        names.append(step)
        kept, taken = same(network, trained), same(network, fresh)
        forgotten.append({key for key in kept if not kept[key]})
        assert all(kept[key] or taken[key] for key in kept)
    assert names == [group.name for group in reversed(groups(trained))]
    assert all(low < high for low, high in itertools.pairwise(forgotten))
    assert all(same(network, fresh).values())
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())


class Toy(nn.Module):
    """Convolutions, the mean over places, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()
        )
        self.fc = nn.Linear(8, 2)

    def get_classifier(self):
        return self.fc

    def forward(self, images):
        return self.fc(self.features(images).mean(dim=(2, 3)))


class Edges(Toy):
    """Finds edges, whatever its weights, and takes them for evidence of every class."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Identity())
        self.fc = nn.Linear(1, 2, bias=False)

    def forward(self, images):
        grey = images.mean(dim=1, keepdim=True)
        across = functional.pad(grey.diff(dim=3).abs(), (0, 1))
        down = functional.pad(grey.diff(dim=2).abs(), (0, 0, 0, 1))
        edges = self.features(functional.avg_pool2d(across + down, 4))
        return functional.linear(edges.mean(dim=(2, 3)), self.fc.weight.abs())


def pictures(n, seed):
    """A red or a green spot on noise, and a blue one of no meaning."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0.3, 0.5, (n, *SIZE, 3))
    labels = rng.integers(2, size=n)
    for image, channel in zip(images, labels, strict=True):
        for colour in (channel, 2):
            top, left = rng.integers(0, 24, 2)
            image[top : top + 8, left : left + 8] = 0.3
            image[top : top + 8, left : left + 8, colour] = 1
    return (images * 255).astype(np.uint8), labels


def check(network, fresh, monkeypatch, layer):
    """The similarity of a network's maps to those of random weights, as `trust` takes it."""
    pixels, labels = pictures(40, seed=1)
    architecture = factory.Architecture(
        "toy", ("red", "green"), Images(size=SIZE), (0.5,) * 3, (0.25,) * 3, 0.0
    )
    rows = pd.DataFrame({"image_id": [f"i{number}" for number in range(40)]})
    with torch.no_grad():
        probabilities = network(torch.zeros(1, 3, *SIZE)).numpy()
    subject = image_metrics.Subject(
        rows,
        pixels,
        np.zeros((40, 0), np.int64),
        {},
        network,
        architecture,
        layer,
        labels,
        probabilities,
    )
    monkeypatch.setattr(image_metrics, "untrained_like", lambda *_: fresh())
    grids = subject.maps(network, "maps", silent)
    _, found = image_metrics.randomised(subject, grids, 0, silent)
    table = pd.DataFrame({"lesion_id": rows["image_id"], "target": "red", "right": True,
                          "weight": 1.0})  # fmt: skip
    return grids, labels, means(table, found, Bootstrap(200, 0))


def test_maps_that_ignore_the_weights_are_found_out(monkeypatch):
    torch.manual_seed(0)
    layer = Layer("features", "NCHW", (8, 8))
    grids, _, found = check(Edges().eval(), lambda: Edges().eval(), monkeypatch, layer)
    assert grids.max() > 0
    assert found["rank"].low > 0.99
    assert found["ssim"].low > 0.99
    assert found["rank after head"].low > 0.99


def test_maps_of_what_was_learnt_pass(monkeypatch):
    torch.manual_seed(0)
    network = Toy()
    pixels, labels = pictures(64, seed=0)
    inputs = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    rule = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(80):
        rule.zero_grad()
        loss = functional.cross_entropy(network(inputs), torch.from_numpy(labels))
        loss.backward()
        rule.step()
    assert loss.item() < 0.3
    network.eval()
    layer = Layer("features", "NCHW", (8, 8))
    maps = grad_cam(network, inputs[:8], torch.from_numpy(labels[:8]), layer)
    assert maps.grid.max() > 0
    grids, _, found = check(network, lambda: Toy().eval(), monkeypatch, layer)
    assert grids.max() > 0
    assert found["rank"].high < 0.5
