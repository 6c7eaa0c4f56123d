"""Networks of one's own: any module from images to features, registered under a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import generate_default_cfgs, is_model, register_model
from torch import Tensor, nn
from torch.nn import functional

from lesionlab.errors import SettingsError

Factory = Callable[[], nn.Module]

default_cfgs: dict[str, Any] = {}
"""timm looks here for the colours that a network was made for."""
__all__: list[str] = []

_SIDE = 64  # of the image by which the number of features is found


def register_network(name: str) -> Callable[[Factory], Factory]:
    """Register a network, so that recipes can name it: `model.name: NAME`.

    Dropout and the last linear layer are added; `model.depth` knows two groups of layers, the
    network and that layer. Register it in every process that trains or predicts.

    Args:
        name: not one that timm has.

    Returns:
        A decorator of a function without arguments that gives a module from float32 images, shape
        (n, 3, height, width), to features, shape (n, d) or (n, d, rows, columns), whose d does not
        depend on the size of the images.

    Raises:
        SettingsError: if there is such a model already.

    Example:
        >>> @register_network("tiny")  # doctest: +SKIP
        ... def tiny() -> nn.Module:
        ...     return nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU())
    """
    if is_model(name) and name not in default_cfgs:
        raise SettingsError(f"{name} is a model that timm has. Choose another name.")

    def register(factory: Factory) -> Factory:
        def build(pretrained: bool = False, **settings: Any) -> nn.Module:  # noqa: ARG001
            return OwnNetwork(factory(), settings["num_classes"], settings.get("drop_rate", 0.0))

        build.__name__, build.__module__ = name, __name__
        configuration = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
        configuration |= {"input_size": (3, 224, 224), "classifier": "fc"}  # type: ignore[dict-item]
        default_cfgs.update(generate_default_cfgs({f"{name}.untrained": configuration}))
        register_model(build)
        return factory

    return register


class OwnNetwork(nn.Module):
    """A module of features with what timm's models have: pooling, dropout and a last layer.

    Args:
        body: from images to features.
        num_classes: outputs; 0 leaves the last layer out.
        drop_rate: dropout before the last layer.
    """

    def __init__(self, body: nn.Module, num_classes: int, drop_rate: float) -> None:
        super().__init__()
        self.body = body
        self.drop_rate = drop_rate
        mode = body.training
        with torch.no_grad():
            self.num_features = int(body.eval()(torch.zeros(1, 3, _SIDE, _SIDE)).shape[1])
        body.train(mode)
        self.head_hidden_size = self.num_features
        self.reset_classifier(num_classes)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:  # noqa: ARG002
        """Which parameters form which group of layers, bottom to top."""
        return {"stem": r"^body", "blocks": []}

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:  # noqa: ARG002
        """Replace the last layer."""
        self.num_classes = num_classes
        self.fc: nn.Module = nn.Identity()
        if num_classes:
            self.fc = nn.Linear(self.num_features, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """What the module gives."""
        return self.body(images)  # type: ignore[no-any-return]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits, or what the last layer would get."""
        pooled = features.flatten(2).mean(dim=2) if features.ndim > 2 else features
        pooled = functional.dropout(pooled, self.drop_rate, self.training)
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (n, classes), of float32 images, shape (n, 3, height, width)."""
        return self.forward_head(self.forward_features(images))
