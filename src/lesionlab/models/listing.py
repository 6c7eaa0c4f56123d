"""The zoo: networks worth a user's choice, what is known of each, and what any of timm's is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pandas as pd
import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_INCEPTION_MEAN, OPENAI_CLIP_MEAN
from timm.models import PretrainedCfg
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from lesionlab.models import small_cnns  # noqa: F401 - registers the sources' own networks with timm
from lesionlab.models.factory import check_name
from lesionlab.models.layer_groups import Group, groups
from lesionlab.models.published import Weights, find
from lesionlab.taxonomy import HAM7

SIDES = range(16, 225, 8)
"""Sides of the square inputs among which the smallest is sought, in pixels."""


@dataclass(frozen=True)
class Entry:
    """A network of the zoo, with a linear head for seven classes, at its own input size.

    Attributes:
        name: in timm.
        parameters: how many.
        depth: convolutions and linear layers on the longest way from the image to the logits.
        smallest: side in pixels of the smallest square input of `SIDES` that it takes.
        groups: how many groups of layers it has, between which it can be frozen.
    """

    name: str
    parameters: int
    depth: int
    smallest: int
    groups: int


ZOO = (  # those of the sources, then a dozen of today; a slow test measures every figure again
    Entry("lenet", 5_612_471, 5, 16, 5),
    Entry("cnn_64", 2_124_839, 5, 16, 5),
    Entry("cnn_224", 22_246_471, 5, 24, 5),
    Entry("vgg16", 134_289_223, 16, 32, 15),
    Entry("vgg19", 139_598_919, 19, 32, 18),
    Entry("resnet18", 11_180_103, 18, 16, 6),
    Entry("resnet50", 23_522_375, 50, 16, 6),
    Entry("resnet152", 58_158_151, 152, 16, 6),
    Entry("resnetv2_50", 23_514_695, 50, 16, 7),
    Entry("densenet121", 6_961_031, 121, 32, 7),
    Entry("densenet169", 12_496_135, 169, 32, 7),
    Entry("densenet201", 18_106_375, 201, 32, 7),
    Entry("inception_v3", 21_799_911, 48, 80, 14),
    Entry("inception_resnet_v2", 54_317_223, 176, 80, 46),
    Entry("efficientnet_b0", 4_016_515, 82, 16, 9),
    Entry("tf_efficientnet_lite0", 3_379_975, 50, 16, 9),
    Entry("tf_efficientnet_lite1", 4_144_647, 65, 16, 9),
    Entry("tf_efficientnet_lite2", 4_820_039, 65, 16, 9),
    Entry("tf_efficientnetv2_s", 20_186_455, 171, 16, 8),
    Entry("mobilenetv4_conv_small", 2_501_991, 47, 16, 8),
    Entry("mobilenetv4_conv_medium", 8_443_479, 78, 16, 8),
    Entry("mobilenetv4_hybrid_medium", 9_802_615, 101, 16, 8),
    Entry("convnext_tiny", 27_825_511, 59, 32, 7),
    Entry("convnextv2_nano", 14_987_287, 47, 32, 7),
    Entry("convnextv2_tiny", 27_871_879, 59, 32, 7),
    Entry("swin_tiny_patch4_window7_224", 27_524_737, 53, 16, 7),
    Entry("swinv2_cr_tiny_ns_224", 27_569_851, 53, 16, 6),
    Entry("vit_small_patch16_224", 21_668_359, 50, 16, 14),
    Entry("vit_small_patch14_dinov2", 22_058_887, 50, 16, 14),
    Entry("deit3_small_patch16_224", 21_677_191, 50, 16, 14),
    Entry("eva02_tiny_patch14_224", 5_503_495, 50, 16, 15),
)


@dataclass(frozen=True)
class Description:
    """What is known of one network.

    Attributes:
        name: in timm.
        parameters: how many, with a linear head for seven classes.
        depth: convolutions and linear layers on the longest way from the image to the logits; None
            where that could not be measured.
        smallest: side in pixels of the smallest square input of `SIDES` that it takes; None: none.
        size: height and width that its weights were trained at.
        mean, std: of each channel in 0-1, that it expects.
        groups: of layers, bottom to top.
        weights: tags of published weights, the default one first; empty: there are none.
        found: the weights that model.pretrained: true would take here; None: there are none.
    """

    name: str
    parameters: int
    depth: int | None
    smallest: int | None
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    groups: tuple[Group, ...]
    weights: tuple[str, ...]
    found: Weights | None

    @property
    def normalisation(self) -> str:
        """Its mean and deviation by their usual name."""
        return _normalisation(self.mean)


def list_models() -> pd.DataFrame:
    """The zoo as a table: a row per network, those of the sources first.

    Returns:
        Columns name, parameters, depth, smallest_input, normalisation, groups, weights (their
        tag), place ("package", "cache" or "hub", see `published.Weights`) and licence.
    """
    rows = []
    for entry in ZOO:
        found = find(entry.name)
        rows.append(
            {
                "name": entry.name,
                "parameters": entry.parameters,
                "depth": entry.depth,
                "smallest_input": entry.smallest,
                "normalisation": _normalisation(_config(entry.name).mean),
                "groups": entry.groups,
                "weights": found.tag if found else "none",
                "place": found.place if found else "",
                "licence": found.licence if found else "",
            }
        )
    return pd.DataFrame(rows)


def list_others(text: str) -> pd.DataFrame:
    """Networks of timm, in the zoo or not, that have `text` in their name.

    Returns:
        Columns name, and weights: the tags that timm's hub has, the default one first.
    """
    names = [name for name in timm.list_models() if text.lower() in name.lower()]
    return pd.DataFrame(
        {"name": names, "weights": [", ".join(_tags(name)) or "none" for name in names]}
    )


def describe(name: str) -> Description:
    """All that is known of a network. Nothing is downloaded, and no weights are made.

    Args:
        name: any of timm's, with or without a tag of weights.

    Raises:
        SettingsError: if timm knows no such network.
    """
    check_name(name)
    config, tags = _config(name), _tags(name)
    with torch.device("meta"):
        network = _made(name)
    return Description(
        name=name,
        parameters=sum(each.numel() for each in network.parameters()),
        depth=longest_way(name),
        smallest=smallest_input(name),
        size=config.input_size[1:],
        mean=config.mean,
        std=config.std,
        groups=tuple(groups(network)),
        weights=tags,
        found=find(name),
    )


def smallest_input(name: str) -> int | None:
    """Side in pixels of the smallest square input of `SIDES` that a network takes."""
    network = None
    for side in SIDES:
        try:  # the errors have as many kinds as networks
            with torch.device("meta"), torch.no_grad():
                if network is None or _fixed(name):
                    network = _made(name, side)
                logits: Tensor = network(torch.zeros(1, 3, side, side))
        except Exception:
            continue
        if logits.shape == (1, len(HAM7)):
            return side
    return None


def longest_way(name: str) -> int | None:
    """Convolutions and linear layers on the longest way from the image to the logits."""
    side = _config(name).input_size[-1]
    try:
        with torch.device("meta"):
            network = _made(name, side)
    except Exception:  # the errors have as many kinds as networks
        return None
    return depth_of(network, (side, side))


def depth_of(network: nn.Module, size: tuple[int, int]) -> int | None:
    """The same of a network on the meta device, for images of such a height and width."""
    training = network.training
    try:
        with torch.device("meta"), torch.no_grad():
            image = torch.zeros(1, 3, *size).as_subclass(_Counted)
            return cast("int", network.eval()(image).layers)
    except Exception:  # some networks take no tensor but a plain one
        return None
    finally:
        network.train(training)


class _Counted(Tensor):
    """A tensor that knows how many weighted layers it has been through."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = super().__torch_function__(  # type: ignore[no-untyped-call]
            func, types, args, kwargs or {}
        )
        before = [_layers(each) for each in tree_leaves((args, kwargs))]
        here = max(before, default=0) + (func in (functional.linear, functional.conv2d))
        for each in tree_leaves(made):
            if isinstance(each, _Counted):
                each.layers = max(here, _layers(each))  # type: ignore[attr-defined]
        return made


def _layers(value: Any) -> int:
    return getattr(value, "layers", 0) if isinstance(value, _Counted) else 0


def _made(name: str, side: int | None = None) -> nn.Module:
    """The network with a linear head for seven classes; with a side, for such an input."""
    options: dict[str, Any] = {"img_size": (side, side)} if side and _fixed(name) else {}
    return timm.create_model(name, num_classes=len(HAM7), **options).eval()


def _config(name: str) -> PretrainedCfg:
    """What timm says of a network's weights and input; its defaults where it says nothing."""
    return timm.get_pretrained_cfg(name) or PretrainedCfg()


def _fixed(name: str) -> bool:
    """Whether a network is built for one input size."""
    return bool(_config(name).fixed_input_size)


def _tags(name: str) -> tuple[str, ...]:
    """Tags of a network's weights, the one that `name` means first."""
    base, _, tag = name.partition(".")
    config = _config(name)
    if not config.has_weights:
        return ()
    first = tag or config.tag or "default"
    known = [each.partition(".")[2] for each in timm.list_pretrained(f"{base}.*")]
    return (first, *(each for each in known if each != first))


def _normalisation(mean: tuple[float, ...]) -> str:
    return _MEANS.get(tuple(mean), " ".join(f"{each:g}" for each in mean))


_MEANS: dict[tuple[float, ...], str] = {
    IMAGENET_DEFAULT_MEAN: "ImageNet",
    IMAGENET_INCEPTION_MEAN: "0.5",
    OPENAI_CLIP_MEAN: "CLIP",
}
