"""What a recipe's network is, counted before anything is trained: layers, depth, parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lesionlab.display import Result
from lesionlab.models import factory, layer_groups
from lesionlab.models.listing import depth_of
from lesionlab.models.metadata_fusion import image_net
from lesionlab.recipe.schema import Dense, Linear, Model, NoFusion, Recipe
from lesionlab.taxonomy import HAM7

KERAS_DEPTH = {
    "cnn_64": 11,
    "vgg16": 23,
    "inception_v3": 315,
    "inception_resnet_v2": 784,
    "densenet201": 711,
}
"""Source C's column "depth": `len(model.layers)` of its Keras models with their heads.

Keras counts activations, paddings, concatenations and the input as layers; depth elsewhere in
lesionlab is the number of convolutions and linear layers on the longest way to the logits.
"""


@dataclass(frozen=True, repr=False)
class Summary(Result):
    """What a recipe's network is.

    Attributes:
        name: in timm.
        size: height and width of its input, in pixels.
        layers: a row per group of layers, bottom to top: group, layers (modules with parameters of
            their own), parameters, trainable.
        depth: convolutions and linear layers on the longest way from the image to the logits; None
            where that could not be measured.
        keras_depth: what source C prints for this network; None for all others.
        parameters: how many, head included.
        trainable: how many of them learn in at least one phase.
        statistics: running means and variances of batch norms, which Keras counts among the total.
        notes: what is not counted.
    """

    name: str
    size: tuple[int, int]
    layers: pd.DataFrame
    depth: int | None
    keras_depth: int | None
    parameters: int
    trainable: int
    statistics: int
    notes: tuple[str, ...] = ()

    _tables = ("layers",)

    def __repr__(self) -> str:
        return f"<Summary of {self.name}: {self.parameters:,} parameters, {self.trainable:,} learn>"


def summarise(recipe: Recipe, classes: Sequence[str] = HAM7) -> Summary:
    """Count the layers and parameters of a recipe's network, with its head. No weights are made.

    Args:
        recipe: all settings.
        classes: names of the classes.

    Raises:
        SettingsError: if timm knows no such network, or it does not fit the recipe.
    """
    architecture = factory.Architecture.of(
        replace(recipe.model, pretrained=False), classes, recipe.images
    )
    notes: tuple[str, ...] = ()
    if not isinstance(recipe.model.fusion, NoFusion):
        architecture = replace(architecture, fusion=NoFusion())
        notes = (
            "The branch of age, sex and site is not counted: its size depends on the values that "
            "the training part has.",
        )
    with torch.device("meta"):
        network = factory.build(architecture)
    learning = trainable_names(network, recipe)
    rows = []
    sizes = {name: each.numel() for name, each in network.named_parameters()}
    for group in layer_groups.groups(network):
        own = set(group.parameters)
        rows.append(
            {
                "group": group.name,
                "layers": len({name.rpartition(".")[0] for name in own}),
                "parameters": group.count,
                "trainable": sum(sizes[name] for name in own & learning),
            }
        )
    return Summary(
        name=recipe.model.name,
        size=recipe.images.size,
        layers=pd.DataFrame(rows),
        depth=depth_of(image_net(network), recipe.images.size),
        keras_depth=keras_depth(recipe.model),
        **counted(network, recipe),
        statistics=sum(
            each.numel()
            for norm in network.modules()
            if isinstance(norm, _BatchNorm)
            for each in (norm.running_mean, norm.running_var)
            if each is not None
        ),
        notes=notes,
    )


def keras_depth(model: Model) -> int | None:
    """What source C prints as depth of this network with its own head; None for all others."""
    head = model.head
    own = isinstance(head, Dense) and head.widths == (512,) and head.pool == "max"
    if own or (model.name == "cnn_64" and isinstance(head, Linear)):
        return KERAS_DEPTH.get(model.name)
    return None


def counted(network: nn.Module, recipe: Recipe) -> dict[str, int]:
    """The parameters of a network as they are, and how many of them a recipe lets learn."""
    sizes = {name: each.numel() for name, each in network.named_parameters()}
    learning = trainable_names(network, recipe)
    return {
        "parameters": sum(sizes.values()),
        "trainable": sum(sizes[name] for name in learning),
    }


def trainable_names(network: nn.Module, recipe: Recipe) -> set[str]:
    """Names of the parameters that learn in at least one phase; of a probe those of its head.

    Which parameters take gradients is changed on the way.
    """
    depths = [("head", "with_group")] if recipe.probing else []
    depths = depths or [(phase.depth, phase.norms) for phase in recipe.phases]
    found: set[str] = set()
    for depth, norms in depths:
        layer_groups.freeze(network, depth, norms)  # type: ignore[arg-type]
        found |= {name for name, each in network.named_parameters() if each.requires_grad}
    return found
