"""Settings: from nested plain values to frozen dataclasses and back, with all faults at once."""

from __future__ import annotations

import copy
import difflib
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from lesionlab.errors import SettingsError


def knob(
    default: Any,
    text: str,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    why: str = "",
) -> Any:
    """A field with its help text and the range of its numbers: low <= x <= high, x > above.

    `why` explains a choice of words; a fault gives it as the reason.
    """
    limits = {"text": text, "low": low, "high": high, "above": above, "why": why}
    if callable(default):
        return field(default_factory=default, metadata=limits)
    return field(default=default, metadata=limits)


def describe(cls: type, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every setting of a dataclass as (dotted key, default, meaning), for `--help`."""
    hints = get_type_hints(cls)
    for each in fields(cls):
        key, kind = prefix + each.name, hints[each.name]
        if get_origin(kind) is tuple and is_dataclass(get_args(kind)[0]):
            yield from describe(get_args(kind)[0], f"{key}.0.")
        elif is_dataclass(kind):
            yield from describe(typing.cast("type", kind), f"{key}.")
        elif choices := _kinds(kind):
            yield f"{key}.kind", getattr(each.default_factory, "kind", ""), " | ".join(choices)
            for name, choice in choices.items():
                for sub, value, text in describe(choice, f"{key}."):
                    if not sub.endswith(".kind"):
                        yield sub, value, f"({name}) {text}"
        elif each.name != "kind":
            default: Any = {} if each.default is MISSING else each.default
            text = str(each.metadata.get("text", ""))
            if get_origin(kind) is Literal and all(str(a) not in text for a in get_args(kind)[1:]):
                text = f"{' | '.join(map(str, get_args(kind)))}: {text}"
            yield key, str(list(default) if isinstance(default, tuple) else default), text


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Raises:
        SettingsError: if there is none.
    """
    if not path.is_file():
        raise SettingsError(f"{path} does not exist. Give the path of a recipe, a YAML file.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(
            f"{path} is not a recipe: it holds {type(values).__name__}, not settings."
        )
    return values


def build(kind: Any, value: Any, key: str, faults: list[str], metadata: Any = None) -> Any:
    """Turn a plain value into `kind`, adding to `faults` whatever does not fit."""
    if choices := _kinds(kind):
        return _choice(choices, value, key, faults)
    if is_dataclass(kind):
        return _dataclass(typing.cast("type", kind), value, key, faults)
    if get_origin(kind) is tuple:
        return _tuple(kind, value, key, faults, metadata)
    if get_origin(kind) is dict:
        return _mapping(kind, value, key, faults, metadata)
    return _scalar(kind, value, key, faults, metadata or {})


def _kinds(kind: Any) -> dict[str, type]:
    """The dataclasses of a union, by their `kind`; empty for any other type."""
    if get_origin(kind) not in (Union, types.UnionType):
        return {}
    choices: list[Any] = [choice for choice in get_args(kind) if is_dataclass(choice)]
    return {choice.kind: choice for choice in choices}


def _choice(choices: dict[str, type], value: Any, key: str, faults: list[str]) -> Any:
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, Mapping):
        faults.append(f"{key}: expects a mapping with a kind, got {value!r}")
        return None
    name = value.get("kind", next(iter(choices)))
    if not isinstance(name, str) or name not in choices:
        faults.append(
            f"{key}.kind: {name!r} is not one of {', '.join(choices)}{_nearest(name, choices)}"
        )
        return None
    names = {each.name for each in fields(choices[name])}
    rest = dict(value)
    for knob in [k for k in value if k not in names]:
        owners = [n for n, c in choices.items() if knob in {each.name for each in fields(c)}]
        if owners:
            faults.append(f"{key}.{knob}: belongs to kind {' or '.join(owners)}, not to {name}")
            del rest[knob]
    return _dataclass(choices[name], rest, key, faults)


def _dataclass(cls: type, value: Any, key: str, faults: list[str]) -> Any:
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
            made[name] = build(hints[name], entry, prefix + name, faults, known[name].metadata)
    return cls(**made) if all(v is not None for v in made.values()) else None


def _tuple(kind: Any, value: Any, key: str, faults: list[str], metadata: Any) -> Any:
    inner = get_args(kind)
    if isinstance(value, str) and not is_dataclass(inner[0]):  # 56x75, age,sex: as people type it
        separators = r"[,x×]" if value[:1].isdigit() else ","
        value = [yaml.safe_load(each) for each in re.split(separators, value)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list | tuple):
        faults.append(f"{key}: expects a list, got {value!r}")
        return None
    if inner[-1] is Ellipsis:
        inner = (inner[0],) * len(value)
    if len(value) != len(inner):
        faults.append(
            f"{key}: expects {len(inner)} numbers, such as [56, 75], 56,75 or 56x75, got {value!r}"
        )
        return None
    before = len(faults)
    built = tuple(
        build(each, entry, f"{key}.{i}", faults, metadata)
        for i, (each, entry) in enumerate(zip(inner, value, strict=True))
    )
    return built if len(faults) == before else None


def _mapping(kind: Any, value: Any, key: str, faults: list[str], metadata: Any) -> Any:
    if not isinstance(value, Mapping):
        faults.append(f"{key}: expects a mapping, got {value!r}")
        return None
    before = len(faults)
    built = {
        str(name): build(get_args(kind)[1], entry, f"{key}.{name}", faults, metadata)
        for name, entry in value.items()
    }
    return built if len(faults) == before else None


def _scalar(kind: Any, value: Any, key: str, faults: list[str], metadata: Any) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            options = ", ".join(map(str, get_args(kind)))
            hint = _nearest(value, get_args(kind))
            why = f"; {metadata['why']}" if metadata.get("why") else ""
            faults.append(f"{key}: {value!r} is not one of {options}{hint}{why}")
            return None
        return value
    wanted = get_args(kind) or (kind,)
    if float in wanted and isinstance(value, str):
        with suppress(ValueError):  # YAML 1.1 reads 1e-3 as text
            value = float(value)
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


def plain(value: Any) -> Any:
    """A settings dataclass as nested dicts, lists and scalars."""
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return dict(value) if isinstance(value, dict) else value


def without_defaults(value: Any, default: Any) -> Any:
    """What of a settings dataclass differs from its defaults, as plain values; kinds stay."""
    if not is_dataclass(value):
        return [without_defaults(v, None) for v in value] if isinstance(value, tuple) else value
    if type(value) is not type(default):
        default = typing.cast("type", type(value))()
    kept = {
        each.name: without_defaults(getattr(value, each.name), getattr(default, each.name))
        for each in fields(value)
        if each.name == "kind" or getattr(value, each.name) != getattr(default, each.name)
    }
    return kept


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every scalar of nested plain values with its dotted key."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from leaves(entry, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for i, entry in enumerate(value):
            yield from leaves(entry, f"{key}.{i}")
    else:
        yield key, value


def put(cls: type, values: dict[str, Any], key: str, value: Any) -> str:
    """Set a dotted key in the nested values of a dataclass; return what is wrong with it, or "".

    A new `kind` keeps of the old kind's knobs those that it has too and that were set to something
    else than their default; the rest get the new kind's defaults.
    """
    *path, last = key.split(".")
    place: Any = values
    for number, step in enumerate(path):
        if isinstance(place, list) and step.isdigit() and int(step) < len(place):
            place = place[int(step)]
        elif isinstance(place, dict) and step in place:
            if isinstance(place[step], str) and _kinds(_type_at(cls, path[: number + 1])):
                place[step] = {"kind": place[step]}  # `loss: cross_entropy` for short
            place = place[step]
        elif isinstance(place, dict) and _is_mapping(cls, path[:number], place, step):
            place = place.setdefault(step, {})
        else:
            known = place if isinstance(place, dict) else ()
            return f"{key}: no such setting{_nearest(step, known)}"
    if isinstance(place, list) and path and place and isinstance(place[0], dict):
        return f"{key}: no such setting; write {'.'.join(path)}.0.{last}"
    if not isinstance(place, dict):
        return f"{key}: no such setting"
    if last == "kind" and place.get("kind") != value:
        choices = _kinds(_type_at(cls, path))
        old = _defaults(choices.get(str(place.get("kind"))))
        new = _defaults(choices.get(str(value)))
        for name in list(place):
            if name not in new or place[name] == old.get(name):
                del place[name]
    place[last] = copy.deepcopy(value)  # a later key may change what is in it
    return ""


def _defaults(choice: type | None) -> dict[str, Any]:
    """The plain values of a kind that sets nothing; those of no kind are none."""
    return plain(choice()) if choice else {}


def _is_mapping(cls: type, path: Sequence[str], place: dict[str, Any], step: str) -> bool:
    """Whether a setting that is left out, of the kind at a path, maps names to values."""
    at = _type_at(cls, path)
    at = _kinds(at).get(str(place.get("kind")), at)
    return is_dataclass(at) and get_origin(get_type_hints(at).get(step)) is dict


def _type_at(cls: type, path: Sequence[str]) -> Any:
    """The type of the setting at a path; None where there is none that has a type of its own."""
    at: Any = cls
    for step in path:
        if get_origin(at) is tuple:
            at = get_args(at)[0]
        else:
            at = get_type_hints(at).get(step) if is_dataclass(at) else None
    return at


def merged(default: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Plain values with the defaults for what they leave out; another `kind` takes none of them."""
    if "kind" in given and given["kind"] != default.get("kind"):
        return dict(given)
    made = copy.deepcopy(default)  # list entries must not share what they leave out
    for key, value in given.items():
        base = default.get(key)
        if isinstance(base, dict) and isinstance(value, dict):
            made[key] = merged(base, value)
        elif (
            isinstance(base, list)
            and isinstance(value, list)
            and base
            and isinstance(base[0], dict)
        ):
            made[key] = [merged(base[0], v) if isinstance(v, dict) else v for v in value]
        else:
            made[key] = value
    return made


KNOWN_NETWORKS = ("lenet", "cnn_64", "cnn_224", "mobilenetv4_conv_small")
"""The sources' own and the default's: no need to look into timm, which takes seconds to import."""


def unknown_network(name: str) -> list[str]:
    """What is wrong with a network's name: nothing, or one fault with the nearest names.

    Without timm every name is taken: it is looked up where a network is built.
    """
    base = name.partition(".")[0]
    if base in KNOWN_NETWORKS or base.startswith("test_"):  # timm's tiny ones
        return []
    try:
        import timm
    except ModuleNotFoundError:
        return []
    if timm.is_model(base):
        return []
    close = difflib.get_close_matches(name, [*timm.list_models(), *KNOWN_NETWORKS], n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, dict.fromkeys(close)))}?" if close else ""
    return [f"model.name: timm knows no network {name!r}{hint}"]
