"""Recipe: every setting of a training run, as frozen dataclasses, one YAML file and dotted flags.

A recipe says how to train. It never says where data lie or which image is in which part.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from lesionlab.errors import SettingsError
from lesionlab.files import fingerprint, write_text

SCHEMA = 1
"""Raised when a default changes its meaning, so that old fingerprints stay true."""


def _knob(
    default: Any, text: str, low: float = -math.inf, high: float = math.inf, above: float = -math.inf
) -> Any:
    """A field with its help text and the range that its numbers keep: low <= x <= high, x > above."""
    limits = {"text": text, "low": low, "high": high, "above": above}
    if callable(default):
        return field(default_factory=default, metadata=limits)
    return field(default=default, metadata=limits)


@dataclass(frozen=True)
class Images:
    """What an image goes through before the network: decoding, upright turn, RGB, resize."""

    size: tuple[int, int] = _knob((225, 300), "height and width in pixels", low=16, high=2048)
    fit: Literal["stretch", "crop", "pad"] = _knob(
        "stretch", "what to do with an image of another shape: stretch it, crop it, or pad with black"
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
    colour: float = _knob(0.2, "largest change of brightness, contrast, saturation", low=0, high=0.9)
    hue: float = _knob(0.03, "largest turn of the hue, share of the circle", low=0, high=0.5)
    cutout: float = _knob(0.0, "side of the erased square, share of the shorter side", low=0, high=0.9)
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
    weight_decay: float = _knob(0.05, "decay of weights; biases and norms are spared", low=0, high=1)


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
        0.998, "decay per step, reached gradually: min(decay, (1 + t) / (10 + t))", low=0, high=0.99999
    )


@dataclass(frozen=True)
class Select:
    """Which epoch is kept, and when to stop early."""

    metric: Literal["balanced_accuracy", "macro_auroc"] = _knob(
        "balanced_accuracy", "measured on the validation part after every epoch; the best epoch is kept"
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
    phases: tuple[Phase, ...] = _knob(lambda: (Phase(),), "stretches of training, one after another")
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
        path = Path(path)
        return cls.from_dict(_read_yaml(path), origin=str(path))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], origin: str = "the recipe") -> Recipe:
        """Build a recipe from nested plain values.

        Raises:
            SettingsError: naming every mistyped key and wrong value at once.
        """
        faults: list[str] = []
        recipe = _build(cls, values, "", faults)
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
        return typing.cast("dict[str, Any]", _plain(self))

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
        values = self.to_dict()
        faults = [fault for key, value in changes.items() if (fault := _put(values, key, value))]
        if faults:
            raise SettingsError(f"{origin}: " + "; ".join(faults))
        return type(self).from_dict(values, origin)

    def fingerprint(self) -> str:
        """16 hexadecimal digits; equal for recipes that mean the same, however they were written."""
        return fingerprint({"schema": SCHEMA, "recipe": _without_defaults(self, type(self)())})

    def differences(self, other: Recipe) -> list[str]:
        """What differs from `other`, one line per setting: "model.name: resnet18 -> resnet50"."""
        mine, theirs = dict(_leaves(self.to_dict())), dict(_leaves(other.to_dict()))
        keys = [*mine, *(key for key in theirs if key not in mine)]
        return [
            f"{key}: {mine.get(key, '(absent)')} -> {theirs.get(key, '(absent)')}"
            for key in keys
            if mine.get(key) != theirs.get(key)
        ]


def settings_help() -> list[tuple[str, str, str]]:
    """Every setting of a recipe as (dotted key, default or range, meaning), for `--help`."""
    return list(_help(Recipe, ""))


def _help(cls: type, prefix: str) -> Iterator[tuple[str, str, str]]:
    hints = get_type_hints(cls)
    for each in fields(cls):
        key, kind = prefix + each.name, hints[each.name]
        if get_origin(kind) is tuple and is_dataclass(get_args(kind)[0]):
            yield from _help(get_args(kind)[0], f"{key}.0.")
        elif is_dataclass(kind):
            yield from _help(typing.cast("type", kind), f"{key}.")
        elif choices := _kinds(kind):
            default = each.default_factory
            yield f"{key}.kind", getattr(default, "kind", ""), " | ".join(choices)
            for name, choice in choices.items():
                for sub, value, text in _help(choice, f"{key}."):
                    if not sub.endswith(".kind"):
                        yield sub, value, f"({name}) {text}"
        elif each.name != "kind":
            default = each.default
            text = str(each.metadata.get("text", ""))
            if get_origin(kind) is Literal and all(str(a) not in text for a in get_args(kind)[1:]):
                text = f"{' | '.join(map(str, get_args(kind)))}: {text}"
            yield key, str(list(default) if isinstance(default, tuple) else default), text


def _read_yaml(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise SettingsError(f"{path} does not exist. Give the path of a recipe, a YAML file.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path} is not a recipe: it holds {type(values).__name__}, not settings.")
    return values


def _build(kind: Any, value: Any, key: str, faults: list[str], metadata: Any = None) -> Any:
    """Turn a plain value into `kind`, adding to `faults` whatever does not fit."""
    if choices := _kinds(kind):
        return _build_choice(choices, value, key, faults)
    if is_dataclass(kind):
        return _build_dataclass(typing.cast("type", kind), value, key, faults)
    if get_origin(kind) is tuple:
        return _build_tuple(kind, value, key, faults, metadata)
    return _build_scalar(kind, value, key, faults, metadata or {})


def _kinds(kind: Any) -> dict[str, type]:
    """The dataclasses of a union, by their `kind`; empty for any other type."""
    if get_origin(kind) not in (Union, types.UnionType):
        return {}
    return {getattr(choice, "kind"): choice for choice in get_args(kind) if is_dataclass(choice)}  # noqa: B009


def _build_choice(choices: dict[str, type], value: Any, key: str, faults: list[str]) -> Any:
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, Mapping):
        faults.append(f"{key}: expects a mapping with a kind, got {value!r}")
        return None
    name = value.get("kind", next(iter(choices)))
    if name not in choices:
        faults.append(f"{key}.kind: {name!r} is not one of {', '.join(choices)}{_nearest(name, choices)}")
        return None
    names = {each.name for each in fields(choices[name])}
    rest = dict(value)
    for knob in [k for k in value if k not in names]:
        owners = [n for n, c in choices.items() if knob in {each.name for each in fields(c)}]
        if owners:
            faults.append(f"{key}.{knob}: belongs to kind {' or '.join(owners)}, not to {name}")
            del rest[knob]
    return _build_dataclass(choices[name], rest, key, faults)


def _build_dataclass(cls: type, value: Any, key: str, faults: list[str]) -> Any:
    if not isinstance(value, Mapping):
        faults.append(f"{key or 'recipe'}: expects a mapping of settings, got {value!r}")
        return None
    prefix = f"{key}." if key else ""
    known = {each.name: each for each in fields(cls)}
    hints = get_type_hints(cls)
    made = {}
    for name, entry in value.items():
        if name not in known:
            faults.append(f"{prefix}{name}: no such setting{_nearest(name, known)}")
        else:
            made[name] = _build(hints[name], entry, prefix + name, faults, known[name].metadata)
    return cls(**made) if all(v is not None for v in made.values()) else None


def _build_tuple(kind: Any, value: Any, key: str, faults: list[str], metadata: Any) -> Any:
    inner = get_args(kind)
    if not isinstance(value, list | tuple):
        faults.append(f"{key}: expects a list, got {value!r}")
        return None
    if inner[-1] is Ellipsis:
        inner = (inner[0],) * len(value)
    if len(value) != len(inner):
        faults.append(f"{key}: expects {len(inner)} numbers, got {value!r}")
        return None
    before = len(faults)
    built = tuple(
        _build(each, entry, f"{key}.{i}", faults, metadata)
        for i, (each, entry) in enumerate(zip(inner, value, strict=True))
    )
    return built if len(faults) == before else None


def _build_scalar(kind: Any, value: Any, key: str, faults: list[str], metadata: Any) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            options = ", ".join(map(str, get_args(kind)))
            faults.append(f"{key}: {value!r} is not one of {options}{_nearest(value, get_args(kind))}")
            return None
        return value
    wanted = get_args(kind) or (kind,)
    if float in wanted and isinstance(value, str):
        try:  # YAML 1.1 reads 1e-3 as text
            value = float(value)
        except ValueError:
            pass
    if float in wanted and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not any(type(value) is each for each in wanted):
        names = " or ".join(_SPOKEN[each] for each in wanted)
        faults.append(f"{key}: expects {names}, got {value!r}")
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high, above = (metadata.get(name, d) for name, d in _NO_LIMITS)
        if not (low <= value <= high and value > above):
            least = f"above {above:g}" if above > -math.inf else f"at least {low:g}"
            faults.append(f"{key}: {value:g} is out of range ({least}, at most {high:g})")
            return None
    return value


_NO_LIMITS = (("low", -math.inf), ("high", math.inf), ("above", -math.inf))
_SPOKEN = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _nearest(word: object, known: Any) -> str:
    close = difflib.get_close_matches(str(word), [str(each) for each in known], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def _without_defaults(value: Any, default: Any) -> Any:
    if not is_dataclass(value):
        return [_without_defaults(v, None) for v in value] if isinstance(value, tuple) else value
    if type(value) is not type(default):
        default = type(value)()  # type: ignore[call-overload]
    kept = {
        each.name: _without_defaults(getattr(value, each.name), getattr(default, each.name))
        for each in fields(value)
        if each.name == "kind" or getattr(value, each.name) != getattr(default, each.name)
    }
    return kept


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _leaves(entry, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for i, entry in enumerate(value):
            yield from _leaves(entry, f"{key}.{i}")
    else:
        yield key, value


def _put(values: dict[str, Any], key: str, value: Any) -> str:
    """Set a dotted key in nested values; return what is wrong with the key, or ""."""
    *path, last = key.split(".")
    place: Any = values
    for step in path:
        if isinstance(place, list) and step.isdigit() and int(step) < len(place):
            place = place[int(step)]
        elif isinstance(place, dict) and step in place:
            place = place[step]
        else:
            known = place if isinstance(place, dict) else map(str, range(len(place)))
            return f"{key}: no such setting{_nearest(step, known)}"
    if not isinstance(place, dict):
        return f"{key}: no such setting; write {'.'.join(path)}.0.{last}"
    if last == "kind" and place.get("kind") != value:
        keep = _knobs_of_kind(key, value)
        for name in [name for name in place if name not in keep]:
            del place[name]
    place[last] = value
    return ""


def _knobs_of_kind(key: str, kind: Any) -> set[str]:
    """Names of the knobs of the dataclass that `kind` chooses at the dotted key `….kind`."""
    at: Any = Recipe
    for step in key.split(".")[:-1]:
        if step.isdigit():
            at = get_args(at)[0]
        else:
            at = get_type_hints(at)[step]
    choice = _kinds(at).get(kind)
    return {each.name for each in dataclasses.fields(choice)} if choice else set()
