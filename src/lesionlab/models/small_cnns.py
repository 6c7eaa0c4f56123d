"""The sources' own small networks, registered with timm so that they are models like any other.

`lenet` is source E's, after LeCun et al., "Gradient-based learning applied to document
recognition", Proc. IEEE 86(11), 1998; `cnn_64` is source C's baseline; `cnn_224` source D's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, cast

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional


class SmallNet(nn.Module):
    """Convolutions with ReLU and 2 x 2 max pooling, dense layers with ReLU, one linear layer.

    It has the methods that timm's models have. The dense layers make the input size a part of the
    architecture.

    Args:
        channels: of each convolution.
        kernel: side of the convolutions, in pixels.
        padding: pixels around the input of each convolution.
        dense: units of each dense layer.
        glorot: start as Keras does (Glorot uniform, zero biases); without, as torch does.
        num_classes: outputs; 0 leaves the last layer out.
        in_chans: channels of the input.
        img_size: height and width of the input, or its side.
        drop_rate: dropout before the last layer.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        kernel: int,
        padding: tuple[int, ...],
        dense: tuple[int, ...],
        glorot: bool,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 224,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        stages: list[nn.Module] = []
        before = in_chans
        for after, border in zip(channels, padding, strict=True):
            convolution = nn.Conv2d(before, after, kernel, padding=border)
            stages.append(nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2)))
            lost = kernel - 1 - 2 * border
            height, width, before = (height - lost) // 2, (width - lost) // 2, after
        if height < 1 or width < 1:
            raise ValueError(f"an input of {img_size} pixels is too small for this network")
        self.features = nn.Sequential(*stages)
        units = (before * height * width, *dense)
        pairs = itertools.pairwise(units)
        self.hidden = nn.Sequential(*(nn.Sequential(nn.Linear(*p), nn.ReLU()) for p in pairs))
        self.drop_rate = drop_rate
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = units[-1]
        self.fc: nn.Module = nn.Linear(units[-1], num_classes) if num_classes else nn.Identity()
        if glorot:
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.zeros_(cast("Tensor", layer.bias))

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:  # noqa: ARG002
        """Which parameters form which group of layers, bottom to top."""
        dense = [(rf"^hidden\.{i}", (90_000 + i,)) for i in range(len(self.hidden))]
        return {"stem": r"^features\.0", "blocks": [(r"^features\.(\d+)", None), *dense]}

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:  # noqa: ARG002
        """Replace the last layer."""
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, images: Tensor) -> Tensor:
        """The last feature map, shape (n, channels, height, width)."""
        return self.features(images)  # type: ignore[no-any-return]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits, or what the last layer would get."""
        hidden: Tensor = self.hidden(features.flatten(1))
        hidden = functional.dropout(hidden, self.drop_rate, self.training)
        return hidden if pre_logits else self.fc(hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (n, classes), of float32 images, shape (n, 3, height, width)."""
        return self.forward_head(self.forward_features(images))


def _configuration(side: int, **more: Any) -> dict[str, Any]:
    return {
        "input_size": (3, side, side),
        "pool_size": None,
        "fixed_input_size": True,
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "classifier": "fc",
        "first_conv": "features.0.0",
        **more,
    }


default_cfgs = generate_default_cfgs(
    {
        "lenet.untrained": _configuration(224),
        "cnn_64.untrained": _configuration(64),
        "cnn_224.untrained": _configuration(224),
    }
)


def _build(name: str, pretrained: bool, settings: dict[str, Any], **fixed: Any) -> nn.Module:
    made: nn.Module = build_model_with_cfg(SmallNet, name, pretrained, **fixed, **settings)
    return made


def _register(model: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    registered: Callable[..., nn.Module] = register_model(model)
    return registered


@_register
def lenet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """LeNet as source E has it: 5 x 5 convolutions of 6 and 16 channels, the first padded by 2."""
    return _build(
        "lenet", pretrained, kwargs, channels=(6, 16), kernel=5, padding=(2, 0), dense=(120, 84),
        glorot=False,
    )  # fmt: skip


@_register
def cnn_64(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Source C's baseline: 3 x 3 convolutions of 16, 32 and 64 channels, 512 units; 64 x 64."""
    kwargs.setdefault("img_size", 64)
    return _build(
        "cnn_64", pretrained, kwargs, channels=(16, 32, 64), kernel=3, padding=(1, 1, 1),
        dense=(512,), glorot=True,
    )  # fmt: skip


@_register
def cnn_224(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Source D's network: 3 x 3 convolutions of 32, 64 and 128 channels, 256 units; 224 x 224."""
    return _build(
        "cnn_224", pretrained, kwargs, channels=(32, 64, 128), kernel=3, padding=(0, 0, 0),
        dense=(256,), glorot=True,
    )  # fmt: skip


__all__ = ["SmallNet", "cnn_64", "cnn_224", "lenet"]
