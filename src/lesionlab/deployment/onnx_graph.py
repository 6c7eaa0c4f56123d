"""The graph that a bundle holds: from stored pixels to logits, features and activation maps.

Grad-CAM weighs the channels of a feature map by the mean gradient of a class's logit over the
places. Where nothing but a mean over the places and layers on its result follow, that gradient is
the same at every place and needs no backward pass: it is the product of those layers' own
derivatives, which the graph computes beside the logits, for all classes at once.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.layers.norm import LayerNorm2d
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from lesionlab.augmentation.random_views import normalise
from lesionlab.augmentation.symmetries import symmetry
from lesionlab.deployment.quantisation import plain
from lesionlab.errors import BundleError, SettingsError
from lesionlab.explanation.target_layers import Layer, evaluating, target_layer
from lesionlab.models.factory import Architecture
from lesionlab.models.heads import head_of
from lesionlab.models.metadata_fusion import Fused, image_net
from lesionlab.prediction.embed import features_of

OUTPUTS = ("logits", "features", "middle", "maps")
_HALFWAY = 16
_CLOSE = 1e-4  # logits of the tail, followed by hand, against the network's own


class Graph(nn.Module):
    """A network with everything between stored pixels and answers.

    Args:
        network: fused or not; put into evaluation mode.
        architecture: its classes, normalisation and input.
        views: how many symmetries of an image are averaged: 1, 2, 4 or 8.

    Attributes:
        layer: where maps are taken; None where this network's maps have no closed form.
        features: how many numbers the classifier gets; 0 where they are not to be had.
        middle: how many channels the stage halfway has; 0 where there is none.
    """

    def __init__(self, network: nn.Module, architecture: Architecture, views: int = 1) -> None:
        super().__init__()
        self.network = network.eval()
        self.normalisation = architecture.normalisation
        self.views = views
        self._seen: dict[str, Tensor] = {}
        inner = image_net(network)
        head = head_of(inner)
        head.register_forward_pre_hook(lambda _, given: self._keep("features", given[0].flatten(1)))
        size = architecture.images.size
        self.features = _features(inner, size)
        self.middle = self._find_middle(inner, size)
        self.layer, self._tail = self._find_tail(inner, size)

    def forward(self, pixels: Tensor, metadata: Tensor | None = None) -> tuple[Tensor, ...]:
        """Answers about stored pixels.

        Args:
            pixels: uint8, shape (n, height, width, 3).
            metadata: int64, shape (n, fields), 0 = unknown; for a fused network alone.

        Returns:
            logits, shape (n, classes): of several views the logarithm of the mean probability;
            features of the image as it is, shape (n, features), if there are any; the mean over
            the places of the stage halfway, shape (n, middle), if there is one; and Grad-CAM of
            every class, shape (n, classes, rows, columns), if it has a closed form.
        """
        inputs = normalise(pixels, *self.normalisation)
        logits = self._logits(inputs, metadata)
        made = [logits[0]]
        if self.features:
            made.append(self._first(self._seen["features"]))
        if self.middle:
            made.append(self._first(self._seen["middle"]).mean(dim=(2, 3)))
        if self.layer is not None:
            made.append(self._maps(self.layer))
        if self.views > 1:
            mean = logits.softmax(dim=2).mean(dim=0)
            made[0] = mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
        return tuple(made)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` gives."""
        given = (True, self.features, self.middle, self.layer)
        return tuple(name for name, there in zip(OUTPUTS, given, strict=True) if there)

    def _logits(self, inputs: Tensor, metadata: Tensor | None) -> Tensor:
        """Logits of every view, shape (views, n, classes).

        They go through the network as one batch: what stands in a graph several times has its
        weights there several times, once it is quantised.
        """
        if self.views > 1:
            inputs = torch.cat([symmetry(inputs, view) for view in range(self.views)])
            metadata = None if metadata is None else metadata.repeat(self.views, 1)
        fused = isinstance(self.network, Fused)
        made: Tensor = self.network(inputs, metadata) if fused else self.network(inputs)
        return made.reshape(self.views, -1, made.shape[1])

    def _first(self, values: Tensor) -> Tensor:
        """Of what was computed for all views, that of the first, the image as it is."""
        return values.reshape(self.views, -1, *values.shape[1:])[0]

    def _keep(self, name: str, value: Tensor) -> None:
        self._seen[name] = value

    def _maps(self, layer: Layer) -> Tensor:
        places = self._first(layer.spatial(self._seen["layer"]))
        weights = _derivative(self._tail, places.mean(dim=(2, 3))) / math.prod(layer.grid)
        n, channels = places.shape[:2]
        flat = places.reshape(n, channels, math.prod(layer.grid))
        return (weights @ flat).relu().reshape(n, weights.shape[1], *layer.grid)

    def _find_middle(self, inner: nn.Module, size: tuple[int, int]) -> int:
        """Keep what the deepest stage makes that is no more than 16 times smaller than the image.

        The last features are made to tell the classes apart, and a photograph of something else may
        look to them like one of these; those halfway still tell what kind of picture it is.
        """
        stages = [
            stage
            for stage in getattr(inner, "feature_info", [])
            if isinstance(stage, dict) and stage["reduction"] <= _HALFWAY
        ]
        if not stages:
            return 0
        module = inner.get_submodule(stages[-1]["module"])
        handle = module.register_forward_hook(lambda _m, _i, made: self._keep("middle", made))
        with evaluating(inner), torch.inference_mode():
            inner(torch.zeros(1, 3, *size))
        made, channels = self._seen.get("middle"), int(stages[-1]["num_chs"])
        if isinstance(made, Tensor) and made.ndim == 4 and made.shape[1] == channels:
            return channels
        handle.remove()  # tokens, or channels last
        return 0

    def _find_tail(
        self, inner: nn.Module, size: tuple[int, int]
    ) -> tuple[Layer | None, list[nn.Module]]:
        """The layer of the maps, and the layers between the mean of its places and the logits."""
        gated = isinstance(self.network, Fused) and self.network.gating
        try:
            layer = target_layer(inner, size)
        except SettingsError:
            return None, []
        module = inner.get_submodule(layer.path)
        called: list[nn.Module] = []
        known = {m: m for m in inner.modules() if _back(m)}
        inside = {c for m in known for c in m.modules() if c is not m}
        handles = [
            each.register_forward_hook(lambda m, _i, _o: called.append(m))
            for each in known
            if each not in inside
        ]

        def keep(_module: nn.Module, _given: object, output: Tensor) -> None:
            called.clear()
            self._keep("layer", output)

        handle = module.register_forward_hook(keep)
        probe = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
        with evaluating(inner), torch.inference_mode():
            logits = inner(probe)
            tail = list(called)
            for hook in handles:
                hook.remove()
            followed = layer.spatial(self._seen["layer"]).mean(dim=(2, 3))
            try:
                pooled = followed
                for each in tail:
                    followed = _forward(each, followed)
                right = torch.allclose(followed, logits, rtol=_CLOSE, atol=_CLOSE)
                right = right and _derivative(tail, pooled).shape[1] == logits.shape[1]
            except (RuntimeError, ValueError, TypeError, AttributeError):
                right = False  # layers that are not followed: the graph has no maps
        if gated or not right:
            handle.remove()
            return None, []
        return layer, tail


def _features(network: nn.Module, size: tuple[int, int]) -> int:
    """How many numbers the classifier gets; 0: there is no single one, or it gets a map."""
    try:
        with torch.inference_mode():
            return features_of(network, torch.zeros(1, 3, *size)).shape[1]
    except SettingsError:
        return 0


def to_onnx(graph: Graph, architecture: Architecture) -> bytes:
    """A graph as ONNX, for any number of images at once, its weights inside.

    Args:
        graph: in evaluation mode.
        architecture: its input.

    Raises:
        BundleError: if torch cannot write this network as a graph.
    """
    given: tuple[Tensor, ...] = (torch.zeros(2, *architecture.images.size, 3, dtype=torch.uint8),)
    if architecture.metadata is not None:
        fields = len(architecture.metadata["categories"])
        given += (torch.zeros(2, fields, dtype=torch.int64),)
    names = ["pixels", "metadata"][: len(given)]
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what the graph keeps of an image's features
            program = torch.onnx.export(
                graph,
                given,
                dynamo=True,
                dynamic_shapes=tuple({0: torch.export.Dim("n")} for _ in given),
                input_names=names,
                output_names=list(graph.outputs),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch's exporter fails in many ways
        said = _reason(error)
        raise BundleError(
            f"torch cannot make {architecture.name} into an ONNX graph ({said}). Train another "
            "network for a bundle; `lesionlab models` lists those of the house."
        ) from error
    finally:
        quiet.setLevel(level)
    if program is None:
        raise BundleError(f"{architecture.name} could not be made into an ONNX graph.")
    return plain(program.model_proto)


def _reason(error: BaseException) -> str:
    """The first line of what made an export fail, below what torch says of its own steps."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def _forward(module: nn.Module, rows: Tensor) -> Tensor:
    """What a layer makes of pooled features, shape (n, channels)."""
    if isinstance(module, nn.Conv2d | nn.BatchNorm2d | LayerNorm2d):
        made: Tensor = module(rows[:, :, None, None]).flatten(1)
        return made
    made = module(rows.clone())  # an activation may work in place
    return made


def _derivative(tail: Sequence[nn.Module], pooled: Tensor) -> Tensor:
    """Of every logit by every pooled feature, shape (n, classes, channels)."""
    given = [pooled]
    for module in tail[:-1]:
        given.append(_forward(module, given[-1]))
    classes = _outputs(tail)
    slope = torch.eye(classes, dtype=pooled.dtype).expand(pooled.shape[0], classes, classes)
    for module, rows in zip(reversed(tail), reversed(given), strict=True):
        back = _back(module)
        if back is None:
            raise ValueError(f"no derivative of {type(module).__name__}")
        slope = back(module, rows, slope)
    return slope


def _outputs(tail: Sequence[nn.Module]) -> int:
    """How many logits a tail gives; behind the classifier may stand what keeps their number."""
    for module in reversed(tail):
        if isinstance(module, nn.Linear):
            return int(module.out_features)
        if isinstance(module, nn.Conv2d):
            return int(module.out_channels)
    raise ValueError("no classifier")


def _linear(module: Any, _rows: Tensor, slope: Tensor) -> Tensor:
    weights: Tensor = module.weight.flatten(1)
    return slope @ weights


def _norm(module: Any, _rows: Tensor, slope: Tensor) -> Tensor:
    scale = torch.rsqrt(module.running_var + module.eps)
    gain: Tensor = scale if module.weight is None else scale * module.weight
    return slope * gain


def _norm_act(module: Any, rows: Tensor, slope: Tensor) -> Tensor:
    scale = torch.rsqrt(module.running_var + module.eps) * module.weight
    shifted = (rows - module.running_mean) * scale + module.bias
    behind = _back(module.act)
    if behind is None:
        raise ValueError(f"no derivative of {type(module.act).__name__}")
    made: Tensor = behind(module.act, shifted, slope) * scale
    return made


def _layer_norm(module: Any, rows: Tensor, slope: Tensor) -> Tensor:
    centred = rows - rows.mean(dim=1, keepdim=True)
    scale = torch.rsqrt(centred.square().mean(dim=1, keepdim=True) + module.eps)
    unit, inner = (centred * scale)[:, None], slope * module.weight
    away = inner - inner.mean(dim=2, keepdim=True) - unit * (inner * unit).mean(2, keepdim=True)
    made: Tensor = away * scale[:, None]
    return made


def _relu(_module: Any, rows: Tensor, slope: Tensor) -> Tensor:
    return slope * (rows > 0).to(rows.dtype)[:, None]


def _hardswish(_module: Any, rows: Tensor, slope: Tensor) -> Tensor:
    middle = ((rows > -3) & (rows < 3)).to(rows.dtype) * (2 * rows + 3) / 6
    return slope * (middle + (rows >= 3).to(rows.dtype))[:, None]


def _silu(_module: Any, rows: Tensor, slope: Tensor) -> Tensor:
    share = rows.sigmoid()
    return slope * (share * (1 + rows * (1 - share)))[:, None]


def _same(_module: Any, _rows: Tensor, slope: Tensor) -> Tensor:
    return slope


def _back(module: nn.Module) -> Callable[[Any, Tensor, Tensor], Tensor] | None:
    """The rule of a layer, or of the class that its own is a kind of."""
    return next((_BACK[each] for each in type(module).__mro__ if each in _BACK), None)


_BACK: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], Tensor]] = {
    nn.Linear: _linear,
    nn.Conv2d: _linear,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    BatchNormAct2d: _norm_act,
    nn.LayerNorm: _layer_norm,
    LayerNorm2d: _layer_norm,
    nn.ReLU: _relu,
    nn.Hardswish: _hardswish,
    nn.SiLU: _silu,
    nn.Identity: _same,
    nn.Dropout: _same,
}
"""How the slope of the logits by a layer's output becomes that by its input."""
