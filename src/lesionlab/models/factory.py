"""Networks by name: built, saved and loaded together with the preprocessing that they expect."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from lesionlab.errors import RunError, SettingsError
from lesionlab.files import read_json, replacing, write_json
from lesionlab.models import small_cnns  # noqa: F401 - registers the sources' own networks with timm
from lesionlab.models.heads import attach
from lesionlab.models.metadata_encoder import MetadataEncoder
from lesionlab.models.metadata_fusion import fuse
from lesionlab.models.pretrained import load_local, normalisation_of
from lesionlab.models.published import find, load_package, ways_out
from lesionlab.progress import Listener, Notice, silent
from lesionlab.recipe import validation
from lesionlab.recipe.schema import Fusion, Head, Images, Linear, Model, NoFusion

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


@dataclass(frozen=True)
class Architecture:
    """Everything but the weights that is needed to use a network.

    Attributes:
        name: the model's name in timm.
        classes: in the order of the network's outputs.
        images: size and fit of its input.
        mean, std: of each channel in 0-1: those that the weights were made with, or the
            architecture, or those of the training part.
        drop: dropout before the head.
        head: what turns features into logits.
        fusion: how age, sex and site come in.
        metadata: the fitted encoder of age, sex and site as plain values; None without fusion.
    """

    name: str
    classes: tuple[str, ...]
    images: Images
    mean: tuple[float, ...]
    std: tuple[float, ...]
    drop: float
    head: Head = field(default_factory=Linear)
    fusion: Fusion = field(default_factory=NoFusion)
    metadata: dict[str, Any] | None = None

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...], str]:
        """Mean, std and colour constancy: what turns stored pixels into the network's input."""
        return self.mean, self.std, self.images.colour_constancy

    @classmethod
    def of(
        cls,
        model: Model,
        classes: Sequence[str],
        images: Images,
        metadata: dict[str, Any] | None = None,
    ) -> Architecture:
        """Look the model up in timm, its normalisation included.

        The weights of a run bring its own normalisation. That of a training part, which a recipe
        may ask for, is put in its place by `train`, once there are pixels to measure.

        Raises:
            SettingsError: if timm knows no such model; names the nearest.
        """
        check_name(model.name)
        config = timm.get_pretrained_cfg(model.name)
        mean = config.mean if config else IMAGENET_DEFAULT_MEAN
        std = config.std if config else IMAGENET_DEFAULT_STD
        if isinstance(model.pretrained, str):
            mean, std = normalisation_of(Path(model.pretrained)) or (mean, std)
        return cls(
            model.name,
            tuple(classes),
            images,
            tuple(mean),
            tuple(std),
            model.drop,
            model.head,
            model.fusion,
            metadata,
        )


def check_name(name: str) -> None:
    """Make sure that timm knows a model.

    Raises:
        SettingsError: with the nearest names.
    """
    base, _, tag = name.partition(".")
    if timm.is_model(base):
        known = timm.list_pretrained(f"{base}.*")
        if tag and name not in known:
            listed = ", ".join(known) or "none"
            raise SettingsError(f"model.name: {base} has no weights {tag!r}. It has: {listed}.")
        return
    close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise SettingsError(f"model.name: timm knows no model {name!r}.{hint}")


def build(
    architecture: Architecture, pretrained: bool | str = False, listen: Listener = silent
) -> nn.Module:
    """Build a network with a classifier for the architecture's classes, channels last in memory.

    Args:
        architecture: from `Architecture.of` or a saved model.json.
        pretrained: False for random weights (from torch's random state), True for published ones
            (see `published.find`), or the path of a local .safetensors or .pth file of the same
            architecture.
        listen: told which published weights were taken.

    Returns:
        A module from float32 images, shape (n, 3, height, width), to logits, shape (n, classes).

    Raises:
        SettingsError: if the input size does not fit or the weights cannot be had.
    """
    network = _timms(architecture, pretrained is True, listen)
    attach(network, architecture.head, len(architecture.classes), architecture.name)
    if isinstance(pretrained, str):
        load_local(network, Path(pretrained))
    if not isinstance(architecture.fusion, NoFusion):
        if architecture.metadata is None:
            raise SettingsError(
                "model.fusion: the numbers of ages, sexes and sites come from a training part. "
                "Give Architecture.of the encoder's: metadata=MetadataEncoder.fit(...).to_dict()"
            )
        sizes = MetadataEncoder.from_dict(architecture.metadata).sizes
        network = fuse(network, architecture.fusion, sizes, architecture.images.size)
    _try_input(network, architecture)
    return network.to(memory_format=torch.channels_last)


def _timms(architecture: Architecture, pretrained: bool, listen: Listener) -> nn.Module:
    """The network as timm makes it, with published weights if they are asked for."""
    options: dict[str, Any] = {
        "num_classes": len(architecture.classes),
        "drop_rate": architecture.drop,
    }
    found = find(architecture.name) if pretrained else None
    if pretrained and found is None:
        raise SettingsError(
            f"model.pretrained: there are no published weights of {architecture.name}. Give a "
            "local file with --model.pretrained FILE, or train from scratch with "
            "--model.pretrained false."
        )
    package = found.package if found else None
    config = timm.get_pretrained_cfg(architecture.name)
    if config is not None and config.fixed_input_size:
        options["img_size"] = architecture.images.size
    try:
        network: nn.Module = timm.create_model(
            architecture.name, pretrained=pretrained and package is None, **options
        )
    except (OSError, RuntimeError, AssertionError, ValueError, TypeError) as error:
        hint = (
            f"Its weights could not be fetched from timm's hub. {ways_out(architecture.name)} "
            if pretrained and package is None
            else f"Try another images.size than {list(architecture.images.size)}. "
        )
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SettingsError(f"{architecture.name} could not be built. {hint}({first})") from error
    if package:
        load_package(network, package)
    if found:
        listen(Notice(f"Starting from {found}."))
    return network


def _try_input(network: nn.Module, architecture: Architecture) -> None:
    """Run one blank image, so that a size that does not fit fails now and in plain words."""
    training = network.training
    try:
        with torch.inference_mode():
            output: Tensor = network.eval()(torch.zeros(1, 3, *architecture.images.size))
    except Exception as error:
        raise SettingsError(
            f"{architecture.name} does not take images of {list(architecture.images.size)} pixels: "
            f"choose another images.size. ({(str(error).strip() or '?').splitlines()[0]})"
        ) from error
    finally:
        network.train(training)
    if output.shape != (1, len(architecture.classes)):
        raise SettingsError(
            f"{architecture.name} is no image classifier: its output is {tuple(output.shape)}."
        )


def save(network: nn.Module, architecture: Architecture, folder: Path) -> None:
    """Write weights (safetensors) and description (JSON) of a network, each whole or not at all."""
    save_weights(network, folder / WEIGHTS)
    write_json(folder / DESCRIPTION, validation.plain(architecture))


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights as safetensors, whole or not at all."""
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    with replacing(path) as part:
        part.write_bytes(serialise(weights))  # as an OSError, a full disk is told in plain words


def load(folder: Path) -> tuple[nn.Module, Architecture]:
    """Load a network that `save` wrote, ready to predict.

    Raises:
        RunError: if the folder holds none, or its files do not belong together.
    """
    if not (folder / DESCRIPTION).is_file() or not (folder / WEIGHTS).is_file():
        raise RunError(
            f"{folder} holds no trained model yet. Give the same `lesionlab train` command again: "
            "it goes on where it stopped."
        )
    architecture = architecture_of(folder)
    network = build(architecture)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        raise RunError(
            f"{folder / WEIGHTS} does not belong to {architecture.name}: {error}"
        ) from error
    return network.eval(), architecture


def architecture_of(folder: Path) -> Architecture:
    """The architecture of a saved network, without its weights."""
    return _described(read_json(folder / DESCRIPTION), folder / DESCRIPTION)


def _described(side: dict[str, Any], path: Path) -> Architecture:
    """An architecture of its plain values; what earlier versions did not write has its default."""
    metadata = side.pop("metadata", None)
    faults: list[str] = []
    built = validation.build(Architecture, side, "", faults)
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise RunError(
            f"{path} describes a network that this version of lesionlab cannot build:\n{listed}\n"
            "Use the version that trained it (run.json names it)."
        )
    return replace(cast("Architecture", built), metadata=metadata)
