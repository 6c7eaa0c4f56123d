"""Weights from a local file into a network, whatever classifier or input size they come from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lesionlab.errors import SettingsError
from lesionlab.files import read_json
from lesionlab.models.heads import head_of

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "module", "teacher")
_DESCRIPTION = "model.json"  # beside the weights of a run
_FILTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")


def load_local(network: nn.Module, path: Path) -> None:
    """Load the weights of a .safetensors or .pth file of the same architecture.

    A classifier of another shape stays as the network has it. Names of the original publications,
    and positions of another input size, go through timm's own conversion.

    Raises:
        SettingsError: if the file cannot be read safely or belongs to another architecture.
    """
    found = _read(path)
    if lacking := _lacking(network, found):
        try:
            with _trained_at(network, path.with_name(_DESCRIPTION)):
                found = _converted(network, found)
        except Exception as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SettingsError(
                f"model.pretrained: {path} does not fit this model at this images.size, and timm "
                f"could not convert it. Take the size that it was trained at. ({first})"
            ) from error
        lacking = _lacking(network, found)
    if lacking:
        raise SettingsError(
            f"model.pretrained: {path} lacks {len(lacking)} of the {len(_body(network))} weights "
            f"of this model (first: {lacking[0]}), so it belongs to another architecture or is cut."
        )
    network.load_state_dict(_fitting(network, found), strict=False)


def normalisation_of(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std that the weights of a run were trained with; None of any other file."""
    description = path.with_name(_DESCRIPTION)
    if not description.is_file():
        return None
    told = read_json(description)
    return (tuple(told["mean"]), tuple(told["std"])) if {"mean", "std"} <= set(told) else None


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise SettingsError(f"model.pretrained: {path} does not exist.")
    try:
        found: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
        while inner := next((found[key] for key in _WRAPPERS if key in found), None):
            found = inner
        return {
            name.removeprefix("module.").removeprefix("image_net."): value
            for name, value in found.items()
            if isinstance(value, Tensor)
        }
    except Exception as error:
        raise SettingsError(
            f"model.pretrained: {path} holds no weights that are safe to read."
        ) from error


def _fitting(network: nn.Module, found: dict[str, Tensor]) -> dict[str, Tensor]:
    mine = network.state_dict()
    return {k: v for k, v in found.items() if k in mine and mine[k].shape == v.shape}


def _body(network: nn.Module) -> set[str]:
    """Names of the parameters and batch-norm statistics below the classifier."""
    head = {id(each) for each in head_of(network).parameters()}
    names = {name for name, each in network.named_parameters() if id(each) not in head}
    inside = {id(each) for each in head_of(network).modules()}
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and id(module) not in inside:
            names |= {f"{name}.running_mean", f"{name}.running_var"} & set(network.state_dict())
    return names


def _lacking(network: nn.Module, found: dict[str, Tensor]) -> list[str]:
    return sorted(_body(network) - set(_fitting(network, found)))


def _converted(network: nn.Module, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """What timm makes of published weights of this family when it downloads them itself."""
    home = sys.modules[type(network).__module__]
    convert = next((getattr(home, name) for name in _FILTERS if hasattr(home, name)), None)
    if convert is None:
        return found
    try:
        converted: dict[str, Tensor] = convert(dict(found), network)
    except TypeError:  # some take the weights alone
        converted = convert(dict(found))
    return converted


@contextmanager
def _trained_at(network: nn.Module, description: Path) -> Iterator[None]:
    """Tell timm the input size of a run's weights: a grid of positions need not be square."""
    timms: Any = network
    before = getattr(network, "pretrained_model_args", {})
    if description.is_file():
        size = read_json(description)["images"]["size"]
        timms.pretrained_model_args = {**before, "img_size": tuple(size)}
    yield
    timms.pretrained_model_args = before
