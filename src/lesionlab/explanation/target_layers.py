"""Which layer of a network a class activation map is taken at, and how its output lies in space.

The layer is the last one whose output still keeps the places of an image apart and reaches the
class scores from all of them. Where a norm or an activation follows, it is the output after those:
that is what the layers above read, so that is what gradients are weights for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lesionlab.errors import SettingsError
from lesionlab.models.metadata_fusion import image_net

KNOWN = {  # by class of timm; a number counts a module's children, -1 being the last
    "SmallNet": "features.-1.1",  # the last ReLU, before its pooling
    "VGG": "features.-2",  # the last ReLU, before its pooling
    "ResNet": "layer4",
    "ResNetV2": "norm",  # batch norm and ReLU, which the last block stands before
    "DenseNet": "features.norm5",  # batch norm and ReLU
    "InceptionV3": "Mixed_7c",
    "InceptionResnetV2": "conv2d_7b",
    "EfficientNet": "bn2",  # conv_head, batch norm and activation, before the pooling
    "MobileNetV3": "blocks",  # V4 too; its conv_head comes after the pooling
    "ConvNeXt": "norm_pre",  # behind the stages; a norm only where that stands before the pooling
    "SwinTransformer": "norm",
    "SwinTransformerV2": "norm",
    "SwinTransformerV2Cr": "stages",
    # A classifier of the class token reads the other tokens through the last attention alone:
    # what stands behind that has no gradient at any place.
    "VisionTransformer": "blocks.-1.norm1",
    "Eva": "blocks.-1.norm1",
}
"""The layer of every architecture of the zoo, each of them tested."""

_INSIDE = (nn.Linear, nn.modules.conv._ConvNd, nn.Identity, nn.modules.dropout._DropoutNd)
"""Layers with another behind them that belongs to them, and layers that do nothing."""

_COARSE = 3  # places a side, below which a map says little of where
_UNEVEN = 1.2  # how far the factors of height and width may differ


@dataclass(frozen=True)
class Layer:
    """A layer of a network at one input size.

    Attributes:
        path: of the module, in the image network.
        layout: of its output: "NCHW" (n, channels, height, width), "NHWC", or "tokens" (n, tokens,
            channels).
        grid: height and width in places.
        prefix: tokens that stand for no place (class, registers), before the others.
        known: whether it is one of the tested layers; otherwise a probe found it.
    """

    path: str
    layout: Literal["NCHW", "NHWC", "tokens"]
    grid: tuple[int, int]
    prefix: int = 0
    known: bool = True

    def __str__(self) -> str:
        return f"{self.path}, {self.grid[0]} x {self.grid[1]} places"

    def spatial(self, output: Tensor) -> Tensor:
        """Its output, or the gradient of that, as (n, channels, height, width)."""
        if self.layout == "NHWC":
            return output.permute(0, 3, 1, 2)
        if self.layout == "tokens":
            places = output[:, self.prefix :].transpose(1, 2)
            return places.reshape(*places.shape[:2], *self.grid)
        return output

    def cautions(self, network: str) -> list[str]:
        """What somebody who looks at its maps must know, in sentences.

        Args:
            network: its name.
        """
        made = []
        if min(self.grid) < _COARSE:
            made.append(
                f"The maps have {self.grid[0]} x {self.grid[1]} places, too few to say where. A "
                "larger images.size gives more."
            )
        if not self.known:
            made.append(
                f"{network} is not one of the networks whose layer was tested. A probe found the "
                f"last layer that keeps places apart: {self.path}. See that the maps make sense."
            )
        return made


def target_layer(network: nn.Module, size: tuple[int, int]) -> Layer:
    """The layer for class activation maps: the tested one, or for other networks a probe's.

    Args:
        network: from images to logits, fused or not; left as it was.
        size: height and width of its input in pixels.

    Raises:
        SettingsError: if no layer keeps places apart at this size.
    """
    network = image_net(network)
    path = _known_path(network)
    if path is not None:
        outputs, _ = _probe(network, size, [path])
        if path in outputs and (found := _layer(network, path, outputs[path], size, True)):
            return found
    paths = [name for name, each in network.named_modules() if name and _may_be(each)]
    outputs, gradients = _probe(network, size, paths, reaching=True)
    for name in reversed(list(outputs)[len(outputs) // 4 :]):  # lower ones see edges and colours
        found = _layer(network, name, outputs[name], size, False)
        gradient = gradients[name]
        if found and gradient is not None and _several(found.spatial(gradient)):
            return found
    raise SettingsError(
        f"{type(network).__name__} has no layer that keeps the places of an image of {size[0]} x "
        f"{size[1]} pixels apart, so there is no map of where its evidence lies. Take a larger "
        "images.size, or another model.name."
    )


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and every module back into its own at the end."""
    modes = [(each, each.training) for each in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _known_path(network: nn.Module) -> str | None:
    """The path of the tested layer, with names for its numbers; None: there is none."""
    pattern = next((KNOWN[c.__name__] for c in type(network).__mro__ if c.__name__ in KNOWN), None)
    module, names = network, []
    for part in pattern.split(".") if pattern else ():
        children = dict(module.named_children())
        if part.lstrip("-").isdigit():
            part = list(children)[int(part)]
        if part not in children:
            return None
        module = children[part]
        names.append(part)
    return ".".join(names) or None


def _may_be(module: nn.Module) -> bool:
    kind = type(module).__name__.lower()
    return not isinstance(module, _INSIDE) and "pool" not in kind and "drop" not in kind


def _probe(
    network: nn.Module, size: tuple[int, int], paths: Sequence[str], reaching: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor | None]]:
    """Outputs of modules for one image of noise, in the order in which the modules end.

    Also, where `reaching`, the gradients of a mixture of all logits with respect to them.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str, output: object) -> None:
        outputs.pop(name, None)  # called again: it ends later
        if isinstance(output, Tensor) and (output.requires_grad or not reaching):
            outputs[name] = output

    device = next(network.parameters()).device
    noise = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    handles = [
        network.get_submodule(name).register_forward_hook(lambda _m, _i, o, n=name: keep(n, o))
        for name in paths
    ]
    try:
        with evaluating(network), torch.set_grad_enabled(reaching):
            logits: Tensor = network(noise.requires_grad_(reaching))
            gradients: Sequence[Tensor | None] = [None] * len(outputs)
            if outputs and logits.requires_grad:
                score = (logits * torch.linspace(-1, 2, logits.numel(), device=device)).sum()
                gradients = torch.autograd.grad(score, list(outputs.values()), allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, dict(zip(outputs, gradients, strict=True))


def _layer(
    network: nn.Module, path: str, output: Tensor, size: tuple[int, int], known: bool
) -> Layer | None:
    """How an output lies in space; None: it does not."""
    if output.ndim == 4:
        _, a, b, c = output.shape
        first = getattr(network, "output_fmt", None) == "NHWC"
        if _is_grid((a, b), size) and (first or not _is_grid((b, c), size)):
            return Layer(path, "NHWC", (a, b), known=known)
        if _is_grid((b, c), size):
            return Layer(path, "NCHW", (b, c), known=known)
    if output.ndim == 3:
        prefix = int(getattr(network, "num_prefix_tokens", 0))
        if grid := _grid_of(network, output.shape[1] - prefix, size):
            return Layer(path, "tokens", grid, prefix, known)
    return None


def _several(gradient: Tensor) -> bool:
    """Whether the scores depend on more than one place."""
    return int(gradient.abs().sum(dim=1).count_nonzero()) > 1


def _is_grid(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a grid of places may be an image's: smaller, and by about the same factor both ways.

    Not by the very same: sides are rounded, and convolutions without padding take a border off.
    """
    down, across = size[0] / grid[0], size[1] / grid[1]
    factor = math.sqrt(down * across)
    off = max(abs(grid[0] - size[0] / factor), abs(grid[1] - size[1] / factor))
    return min(down, across) >= 1 and (off <= 1 or max(down / across, across / down) <= _UNEVEN)


def _grid_of(network: nn.Module, tokens: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """The grid of so many places."""
    embed = getattr(network, "patch_embed", None)
    own = getattr(embed, "grid_size", None)
    if own is not None and math.prod(own) == tokens:
        return int(own[0]), int(own[1])
    grids = [(rows, tokens // rows) for rows in range(1, tokens + 1) if tokens % rows == 0]
    fitting = [grid for grid in grids if _is_grid(grid, size)]
    aspect = math.log(size[0] / size[1])
    return min(fitting, key=lambda grid: abs(math.log(grid[0] / grid[1]) - aspect), default=None)
