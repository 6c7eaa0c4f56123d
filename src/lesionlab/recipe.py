"""Recipe: every setting of a training run, as frozen dataclasses, one YAML file and dotted flags.

A recipe says how to train. It never says where data lie or which image is in which part.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from lesionlab import settings
from lesionlab.errors import SettingsError
from lesionlab.files import fingerprint, write_text
from lesionlab.settings import knob as _knob

SCHEMA = 1
"""Raised when a default changes its meaning, so that old fingerprints stay true."""


@dataclass(frozen=True)
class Images:
    """What an image goes through before the network: decoding, upright turn, RGB, resize."""

    size: tuple[int, int] = _knob((225, 300), "height and width in pixels", low=16, high=2048)
    fit: Literal["stretch", "crop", "pad"] = _knob(
        "stretch",
        "what to do with an image of another shape: stretch it, crop it, or pad with black",
    )


@dataclass(frozen=True)
class Model:
    """The network."""

    name: str = _knob("mobilenetv4_conv_small", "any model name of timm")
    pretrained: bool | str = _knob(
        False, "true: timm's weights from its hub; a path: a local .safetensors or .pth file"
    )
    drop: float = _knob(0.2, "dropout before the classifier", low=0, high=0.95)


@dataclass(frozen=True)
class Augment:
    """Random views of the training images; validation and test images are never changed."""

    flip: bool = _knob(True, "mirror left-right and top-bottom, each with probability 1/2")
    rotate: float = _knob(180.0, "largest rotation, degrees either way", low=0, high=180)
    scale: float = _knob(1.25, "largest zoom factor, in and out", low=1, high=4)
    shift: float = _knob(0.1, "largest shift, share of a side", low=0, high=0.5)
    shear: float = _knob(0.0, "largest shear, tangent of the angle", low=0, high=1)
    perspective: float = _knob(0.0, "largest perspective tilt, share of a side", low=0, high=0.4)
    colour: float = _knob(
        0.2, "largest change of brightness, contrast, saturation", low=0, high=0.9
    )
    hue: float = _knob(0.03, "largest turn of the hue, share of the circle", low=0, high=0.5)
    cutout: float = _knob(
        0.0, "side of the erased square, share of the shorter side", low=0, high=0.9
    )
    mixup: float = _knob(0.0, "alpha of mixup's Beta distribution; 0 = off", low=0, high=8)


@dataclass(frozen=True)
class Natural:
    """Every training image once per epoch."""

    kind: Literal["natural"] = "natural"


@dataclass(frozen=True)
class Balanced:
    """Classes drawn evenly, with repetition: an epoch has as many draws as training images."""

    kind: Literal["balanced"] = "balanced"


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy, plain or weighted by class."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    weights: Literal["none", "inverse"] = _knob(
        "none", "class weights: none, or inverse frequency in the training part (mean 1)"
    )
    smoothing: float = _knob(0.0, "label smoothing", low=0, high=0.5)


@dataclass(frozen=True)
class LogitAdjusted:
    """Cross-entropy on logits shifted by tau x log class frequency (Menon et al., ICLR 2021)."""

    kind: Literal["logit_adjusted"] = "logit_adjusted"
    tau: float = _knob(1.0, "strength; 1 aims at balanced accuracy", low=0, high=4)
    smoothing: float = _knob(0.0, "label smoothing", low=0, high=0.5)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    kind: Literal["adamw"] = "adamw"
    lr: float = _knob(1e-3, "learning rate", above=0, high=10)
    weight_decay: float = _knob(
        0.05, "decay of weights; biases and norms are spared", low=0, high=1
    )


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, ICLR 2015)."""

    kind: Literal["adam"] = "adam"
    lr: float = _knob(1e-3, "learning rate", above=0, high=10)


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: float = _knob(0.05, "learning rate", above=0, high=100)
    momentum: float = _knob(0.9, "momentum", low=0, high=0.999)
    nesterov: bool = _knob(True, "Nesterov's momentum")
    weight_decay: float = _knob(5e-4, "L2 penalty; biases and norms are spared", low=0, high=1)


@dataclass(frozen=True)
class Constant:
    """One learning rate after the warm-up."""

    kind: Literal["constant"] = "constant"
    warmup: float = _knob(0.0, "share of the phase spent warming up", low=0, high=0.5)


@dataclass(frozen=True)
class Cosine:
    """Warm-up, then half a cosine down to `floor` times the learning rate."""

    kind: Literal["cosine"] = "cosine"
    warmup: float = _knob(0.05, "share of the phase spent warming up", low=0, high=0.5)
    floor: float = _knob(0.0, "last learning rate, as a share of the first", low=0, high=1)


@dataclass(frozen=True)
class Plateau:
    """Warm-up, then multiply by `factor` when the selection metric stops rising."""

    kind: Literal["plateau"] = "plateau"
    warmup: float = _knob(0.0, "share of the phase spent warming up", low=0, high=0.5)
    factor: float = _knob(0.5, "what the learning rate is multiplied by", above=0, high=0.99)
    patience: int = _knob(3, "epochs without a better value before that", low=0)
    floor: float = _knob(0.001, "smallest learning rate, as a share of the first", low=0, high=1)


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own depth, optimiser and schedule."""

    depth: Literal["head", "all"] = _knob(
        "all", "what learns: the classifier alone (the rest frozen, batch norm included), or all"
    )
    epochs: int = _knob(30, "how often the training part is gone through", low=1, high=10_000)
    optim: AdamW | Adam | Sgd = _knob(AdamW, "the optimiser")
    schedule: Cosine | Plateau | Constant = _knob(Cosine, "the learning rate over time")


@dataclass(frozen=True)
class NoAverage:
    """The weights as they are after each step."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True)
class Ema:
    """Exponential moving average of the weights; it is what gets validated and kept."""

    kind: Literal["ema"] = "ema"
    decay: float = _knob(
        0.998,
        "decay per step, reached gradually: min(decay, (1 + t) / (10 + t))",
        low=0,
        high=0.99999,
    )


@dataclass(frozen=True)
class Select:
    """Which epoch is kept, and when to stop early."""

    metric: Literal["balanced_accuracy", "macro_auroc"] = _knob(
        "balanced_accuracy",
        "measured on the validation part after every epoch; the best epoch is kept",
    )
    patience: int = _knob(0, "stop after so many epochs without a better value; 0 = never", low=0)


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run.

    Example:
        >>> Recipe().but({"model.name": "resnet18", "phases.0.epochs": 5}).model.name
        'resnet18'
    """

    images: Images = _knob(Images, "decoding and size")
    model: Model = _knob(Model, "the network")
    augment: Augment = _knob(Augment, "random views of training images")
    sampling: Natural | Balanced = _knob(Natural, "which images an epoch shows")
    loss: CrossEntropy | LogitAdjusted = _knob(CrossEntropy, "what is minimised")
    phases: tuple[Phase, ...] = _knob(
        lambda: (Phase(),), "stretches of training, one after another"
    )
    average: NoAverage | Ema = _knob(Ema, "averaging of the weights")
    select: Select = _knob(Select, "which epoch is kept")
    batch: int = _knob(64, "images per step", low=2, high=65_536)
    precision: Literal["auto", "float32", "bf16"] = _knob(
        "auto", "auto: bf16 on CUDA where the card has it, float32 elsewhere"
    )
    seed: int = _knob(0, "seed of every random draw", low=0, high=2**31 - 1)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe from a YAML file; what the file leaves out keeps its default.

        Raises:
            SettingsError: naming every mistyped key and wrong value at once.
        """
        return cls.load_with(path, {})

    @classmethod
    def load_with(cls, path: str | Path, changes: Mapping[str, Any]) -> Recipe:
        """Read a recipe from a YAML file and change some settings, as `but` does.

        Raises:
            SettingsError: naming every fault of the file and of the changes at once.
        """
        values = settings.merged(cls().to_dict(), settings.read_yaml(Path(path)))
        return cls._changed(values, changes, str(path))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], origin: str = "the recipe") -> Recipe:
        """Build a recipe from nested plain values.

        Raises:
            SettingsError: naming every mistyped key and wrong value at once.
        """
        return cls._changed(settings.merged(cls().to_dict(), dict(values)), {}, origin)

    @classmethod
    def _changed(cls, values: dict[str, Any], changes: Mapping[str, Any], origin: str) -> Recipe:
        faults = [
            fault
            for key, value in changes.items()
            if (fault := settings.put(cls, values, key, value))
        ]
        recipe = settings.build(cls, values, "", faults)
        if not faults and not recipe.phases:
            faults.append("phases: needs at least one phase")
        if faults:
            listed = "\n".join(f"  {fault}" for fault in faults)
            raise SettingsError(
                f"{origin} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listed}\n"
                "`lesionlab train --help` lists every setting with its range."
            )
        return typing.cast("Recipe", recipe)

    def to_dict(self) -> dict[str, Any]:
        """All settings as nested plain values, defaults included."""
        return typing.cast("dict[str, Any]", settings.plain(self))

    def save(self, path: str | Path) -> None:
        """Write all settings to a YAML file, defaults included."""
        write_text(Path(path), self.to_yaml())

    def to_yaml(self) -> str:
        """All settings as YAML, defaults included."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, width=100)

    def but(self, changes: Mapping[str, Any], origin: str = "the recipe") -> Recipe:
        """Return a copy with some settings changed.

        Args:
            changes: values by dotted key: {"model.name": "resnet18", "phases.0.epochs": 5}. A new
                `kind` starts from that kind's defaults and keeps the knobs that both kinds have.
            origin: what to call the result in messages.

        Raises:
            SettingsError: naming every mistyped key and wrong value at once.
        """
        return self._changed(self.to_dict(), changes, origin)

    def fingerprint(self) -> str:
        """16 hexadecimal digits; equal for recipes that mean the same, however written."""
        return fingerprint(
            {"schema": SCHEMA, "recipe": settings.without_defaults(self, type(self)())}
        )

    def differences(self, other: Recipe) -> list[str]:
        """What differs from `other`, one line per setting: "model.name: resnet18 -> resnet50"."""
        mine, theirs = dict(settings.leaves(self.to_dict())), dict(settings.leaves(other.to_dict()))
        keys = [*mine, *(key for key in theirs if key not in mine)]
        return [
            f"{key}: {mine.get(key, '(absent)')} -> {theirs.get(key, '(absent)')}"
            for key in keys
            if mine.get(key) != theirs.get(key)
        ]
