"""Heads: what turns a network's features into logits, in the place of timm's own classifier."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from lesionlab.errors import SettingsError
from lesionlab.models.knn_head import NeighboursHead
from lesionlab.recipe.schema import Dense, Head, LogisticProbe, NeighboursProbe


def head_of(network: nn.Module) -> nn.Module:
    """The classifier of a timm network, whatever its name there."""
    head = cast("Any", network).get_classifier()
    return nn.ModuleList(head) if isinstance(head, tuple | list) else cast("nn.Module", head)


def attach(network: nn.Module, head: Head, classes: int, name: str) -> None:
    """Give a network the head that a recipe asks for; a linear one it has already.

    Args:
        network: a timm model with a classifier for `classes`; changed in place.
        head: kind and knobs.
        classes: how many.
        name: what to call the network in messages.

    Raises:
        SettingsError: if this architecture cannot have such a head.
    """
    if isinstance(head, Dense):
        _convolutions_only(network)
        _choose_pooling(network, head.pool, classes, name)
        replace(network, lambda features: DenseHead(features, classes, head), name)
    elif isinstance(head, NeighboursProbe):
        replace(network, lambda features: NeighboursHead(features, classes, head), name)
    else:
        if isinstance(head, LogisticProbe):
            _features(network, name)
        start_small(head_of(network))


def replace(network: nn.Module, make: Callable[[int], nn.Module], name: str) -> None:
    """Put another classifier in the place of a network's own; it is found where that was found.

    Args:
        network: a timm model; changed in place.
        make: gives the new classifier for so many features. The number is read from the classifier
            that goes, so that it cannot be wrong.
        name: what to call the network in messages.

    Raises:
        SettingsError: if the network has no single linear classifier.
    """
    features = _features(network, name)
    old = head_of(network)
    path = next(path for path, module in network.named_modules() if module is old)
    network.set_submodule(path, make(features).train(old.training))


def _features(network: nn.Module, name: str) -> int:
    """How many features the classifier of a network gets; refuses all but one linear layer."""
    head = head_of(network)
    if isinstance(head, nn.Linear):
        return head.in_features
    if isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1):
        return head.in_channels
    raise SettingsError(
        f"model.head: {name} ends in {type(head).__name__}, not in one linear layer, so it "
        "keeps its own head: choose model.head.kind linear."
    )


class DenseHead(nn.Module):
    """Dense layers with ReLU and dropout, one linear layer.

    Weights start by He et al. (ICCV 2015), those of the last layer small, so that an untrained
    network finds all classes alike.

    Args:
        in_features: length of the pooled features.
        classes: how many logits.
        settings: widths, batch norm and dropout.
    """

    def __init__(self, in_features: int, classes: int, settings: Dense) -> None:
        super().__init__()
        before = in_features
        for number, width in enumerate(settings.widths, start=1):
            dense = nn.Linear(before, width)
            nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
            nn.init.zeros_(dense.bias)
            self.add_module(f"dense{number}", dense)
            if settings.batch_norm:
                self.add_module(f"norm{number}", nn.BatchNorm1d(width))
            self.add_module(f"relu{number}", nn.ReLU())
            self.add_module(f"drop{number}", nn.Dropout(settings.drop))
            before = width
        self.logits = nn.Linear(before, classes)
        start_small(self.logits)
        self.in_features, self.out_features = in_features, classes

    def forward(self, features: Tensor) -> Tensor:
        """Logits, shape (n, classes), of features, shape (n, features) or (n, features, 1, 1)."""
        features = features.flatten(1)
        for layer in self.children():
            features = layer(features)
        return features


def start_small(head: nn.Module) -> None:
    """Let an untrained classifier begin near "all classes alike".

    Some of timm's start as for a thousand classes: with seven, their first logits are so large that
    the first epochs go into shrinking them.
    """
    for layer in head.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _convolutions_only(network: nn.Module) -> None:
    """Take VGG's fully connected layers out, which stand before its classifier.

    A dense head takes their place: source C's VGG16 has 14,980,935 parameters this way and would
    have 136 million with them.
    """
    if isinstance(getattr(network, "pre_logits", None), nn.Module) and hasattr(network, "features"):
        cast("Any", network).prune_intermediate_layers(prune_head=True)


def _choose_pooling(network: nn.Module, pool: str, classes: int, name: str) -> None:
    """Set how the feature map is pooled, and make sure that it is."""
    if _pooling(network) != pool:
        reset = cast("Any", network).reset_classifier
        try:
            if "global_pool" not in inspect.signature(reset).parameters:
                raise ValueError("it has no choice of pooling")
            reset(classes, global_pool=pool)
        except Exception as error:
            raise _no_pooling(name, pool, str(error)) from error
        if _pooling(network) != pool:
            raise _no_pooling(name, pool, "it has no choice of pooling")
    if isinstance(head_of(network), nn.Identity):
        cast("Any", network).reset_classifier(classes)


def _pooling(network: nn.Module) -> str | None:
    """How a timm network pools its last feature map: "avg", "max", "token", ...; None: unknown."""
    for owner in (network, getattr(network, "head", None)):
        for attribute in ("global_pool", "pool_type"):
            found = getattr(owner, attribute, None)
            found = getattr(found, "pool_type", found)
            if isinstance(found, str):
                return found
    return None


def _no_pooling(name: str, pool: str, why: str) -> SettingsError:
    first = (why.strip() or "?").splitlines()[0]
    return SettingsError(
        f"model.head.pool: {name} cannot pool its features by {pool!r} ({first}). "
        "Choose model.head.kind linear, or another model.name."
    )
