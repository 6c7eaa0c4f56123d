from __future__ import annotations

import pytest
import torch
from torch import distributed as dist
from torch.nn import functional

from lesionlab.training.distributed.batch_norm import SynchronisedNorms


@pytest.fixture
def alone(monkeypatch):
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def norm_of(images, weight, bias, training=True):
    mean, variance = torch.full((3,), 0.5), torch.full((3,), 2.0)
    images, weight, bias = (each.clone().requires_grad_() for each in (images, weight, bias))
    found = functional.batch_norm(images, mean, variance, weight, bias, training, 0.2, 1e-3)
    found.pow(3).sum().backward()
    return found, mean, variance, images.grad, weight.grad, bias.grad


@pytest.mark.parametrize("training", [True, False])
def test_a_synchronised_batch_norm_is_torchs_where_one_process_has_all_images(alone, training):
    torch.manual_seed(0)
    given = torch.randn(5, 3, 4, 6) + 100, torch.randn(3), torch.randn(3)
    expected = norm_of(*given, training)
    with SynchronisedNorms():
        found = norm_of(*given, training)
    for mine, torchs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, torchs, rtol=1e-4, atol=1e-3)
