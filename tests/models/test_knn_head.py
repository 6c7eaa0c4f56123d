from __future__ import annotations

import numpy as np
import pytest
import torch

from lesionlab.models import factory
from lesionlab.models.heads import head_of
from lesionlab.models.knn_head import LEAST, NeighboursHead
from lesionlab.recipe.schema import Images, Model, NeighboursProbe

CLASSES = ("akiec", "bcc", "mel")


def points(seed=0, n=30, d=8):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)).astype(np.float32), rng.integers(0, 3, n)


@pytest.mark.parametrize("balanced", [True, False])
def test_votes_are_those_of_the_nearest_by_cosine(balanced):
    bank, targets = points()
    targets[:20] = 0  # the classes are far from equal
    asked, _ = points(1, n=5)
    settings = NeighboursProbe(neighbours=7, temperature=0.3, balanced=balanced)
    head = NeighboursHead(8, 3, settings)
    head.fit(torch.from_numpy(bank), torch.from_numpy(targets))
    found = head(torch.from_numpy(asked)).softmax(dim=1).numpy()
    for row, vector in enumerate(asked):
        cosine = bank @ vector / np.linalg.norm(bank, axis=1) / np.linalg.norm(vector)
        votes = np.zeros(3)
        for near in np.argsort(-cosine)[:7]:
            share = (targets == targets[near]).mean() if balanced else 1
            votes[targets[near]] += np.exp(cosine[near] / 0.3) / share
        np.testing.assert_allclose(found[row], votes / votes.sum(), atol=1e-5)


def test_a_class_without_votes_keeps_a_finite_logit():
    head = NeighboursHead(2, 3, NeighboursProbe(neighbours=1))
    head.fit(torch.eye(2), torch.tensor([0, 1]))
    logits = head(torch.tensor([[5.0, 0.1]]))
    assert logits.isfinite().all()
    assert logits.softmax(dim=1)[0].tolist() == pytest.approx([1, 0, 0], abs=2 * LEAST)


def test_more_neighbours_than_there_are_means_all():
    bank, targets = map(torch.from_numpy, points(n=4))
    few, many = (NeighboursHead(8, 3, NeighboursProbe(neighbours=k)) for k in (4, 1000))
    few.fit(bank, targets)
    many.fit(bank, targets)
    assert torch.equal(few(bank), many(bank))


def test_lengths_of_embeddings_do_not_matter():
    bank, targets = map(torch.from_numpy, points())
    plain, long = (NeighboursHead(8, 3, NeighboursProbe()) for _ in range(2))
    plain.fit(bank, targets)
    long.fit(bank * torch.linspace(0.1, 100, 30)[:, None], targets)
    torch.testing.assert_close(plain(bank), long(bank * 7))


@pytest.mark.parametrize("name", ["lenet", "test_vit"])
def test_a_network_keeps_its_bank_when_it_is_saved(name, tmp_path):
    model = Model(name=name, head=NeighboursProbe(neighbours=3))
    architecture = factory.Architecture.of(model, CLASSES, Images(size=(160, 160)))
    network = factory.build(architecture).eval()
    head = head_of(network)
    images = torch.rand(2, 3, 160, 160)
    assert torch.equal(network(images), torch.zeros(2, 3))  # nothing fitted: all alike
    bank, targets = map(torch.from_numpy, points(d=head.in_features))
    head.fit(bank, targets)
    factory.save(network, architecture, tmp_path)
    again, described = factory.load(tmp_path)
    assert described == architecture
    assert len(head_of(again).bank) == 30
    assert torch.equal(again(images), network(images))
    assert network(images).abs().sum() > 0
