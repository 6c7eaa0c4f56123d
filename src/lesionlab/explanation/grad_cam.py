"""Gradient-weighted class activation maps (Grad-CAM) of any network of the zoo.

Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
localization", ICCV 2017: the channels of the last feature map, each weighed by the mean gradient of
the class's logit over the places, added up; what speaks against the class is cut off at zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lesionlab.errors import RunError
from lesionlab.explanation.target_layers import Layer, evaluating, target_layer
from lesionlab.models.metadata_fusion import image_net, logits_of


@dataclass(frozen=True)
class Maps:
    """Maps of where the evidence for a class lies, one per image.

    Attributes:
        grid: float32, shape (n, height, width) in the layer's places, all >= 0. Values are in
            logits, not comparable between layers or networks.
        layer: where they were taken.
    """

    grid: NDArray[np.float32]
    layer: Layer

    @property
    def blank(self) -> NDArray[np.bool_]:
        """Whether a map is zero everywhere, shape (n,): nothing in the image speaks for the class.

        That is a finding about the network and no picture: it must not be stretched into one.
        """
        return np.asarray(self.grid.max(axis=(1, 2)) <= 0)

    def scaled(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """The maps over their images; see `spread`."""
        return spread(self.grid, size)


def spread(grid: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Spread maps over their images, each divided by its own maximum; blank ones stay zero.

    Args:
        grid: all >= 0, shape (n, rows, columns).
        size: height and width in pixels.

    Returns:
        float32 in 0-1, shape (n, *size), bilinear between the middles of the places.
    """
    top = grid.max(axis=(1, 2), keepdims=True)
    shares = np.divide(grid, top, out=np.zeros_like(grid), where=top > 0)
    large = functional.interpolate(
        torch.from_numpy(shares)[:, None], size=size, mode="bilinear", align_corners=False
    )
    made: NDArray[np.float32] = large[:, 0].clamp_(0, 1).numpy()
    return made


def grad_cam(
    network: nn.Module,
    images: Tensor,
    classes: Tensor,
    layer: Layer | None = None,
    *,
    metadata: Tensor | None = None,
) -> Maps:
    """Grad-CAM of one class per image.

    The network is left as it was: its mode, its gradients and what of it learns. It may be frozen.

    Args:
        network: from images to logits, fused or not.
        images: float32, normalised, shape (n, 3, height, width), on the network's device.
        classes: int64, the index of the class that each image's map is for, shape (n,).
        layer: from `target_layer`; None finds it.
        metadata: of a fused network, shape (n, fields); None: unknown.

    Raises:
        SettingsError: if no layer keeps places apart.
        RunError: if the network gives no numbers.
    """
    layer = layer or target_layer(network, (images.shape[2], images.shape[3]))
    kept: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        # From here on gradients are recorded, and from nowhere below: so nothing needs to learn,
        # and no memory goes into layers that the map does not need.
        torch.set_grad_enabled(True)
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()  # what follows may work in place

    module = image_net(network).get_submodule(layer.path)
    handle = module.register_forward_hook(hook)
    try:
        with evaluating(network), torch.no_grad():
            logits = logits_of(network, images, metadata)
            score = logits.gather(1, classes[:, None].to(logits.device)).sum()
            found = _gradient(score, kept[-1])
    finally:
        handle.remove()
    output, gradient = layer.spatial(kept[-1].detach()), layer.spatial(found)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    grid = (weights * output).sum(dim=1).relu().float().cpu().numpy()
    if not np.isfinite(grid).all():
        raise RunError(
            "The network's features or gradients are no numbers (NaN or infinite), so it can be "
            "neither explained nor used. Train it again with a lower learning rate."
        )
    return Maps(grid, layer)


def _gradient(score: Tensor, output: Tensor) -> Tensor:
    """Of the score with respect to the layer's output; zero where the score does not depend on it.

    (The head of a nearest-neighbour probe without embeddings is such a case.)
    """
    if not score.requires_grad:
        return torch.zeros_like(output)
    (found,) = torch.autograd.grad(score, output, allow_unused=True)
    return torch.zeros_like(output) if found is None else found
