from __future__ import annotations

import pytest
import torch
from torch import nn

from lesionlab.training.depthwise import DepthwiseInFloat32


def gradients(layer, images, gradient):
    """Of the images and the weights, of one step in bfloat16."""
    images = images.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        made = layer(images)
    made.backward(gradient.to(made.dtype))
    return images.grad, *(each.grad for each in layer.parameters())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_of_a_depthwise_convolution_are_exact(stride, bias):
    """Those of bfloat16 are right to three digits; these are as right as its inputs allow."""
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 16, 5, stride, 2, groups=16, bias=bias)
    images = torch.randn(4, 16, 12, 10).bfloat16().float()
    gradient = torch.randn_like(layer(images)).bfloat16().float()
    with DepthwiseInFloat32():
        found = gradients(layer, images, gradient)
    exact = nn.Conv2d(16, 16, 5, stride, 2, groups=16, bias=bias)
    exact.load_state_dict({k: v.bfloat16().float() for k, v in layer.state_dict().items()})
    given = images.clone().requires_grad_()
    exact(given).backward(gradient)
    for mine, right in zip(found[1:], (each.grad for each in exact.parameters()), strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found[0], given.grad, rtol=0.01, atol=0.01)


def test_other_convolutions_are_as_without_it():
    torch.manual_seed(0)
    images, gradient = torch.randn(2, 8, 6, 6), torch.randn(2, 8, 6, 6)
    for layer in (nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=4)):
        plain = gradients(layer, images, gradient)
        with DepthwiseInFloat32():
            found = gradients(layer, images, gradient)
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, plain, strict=True))
