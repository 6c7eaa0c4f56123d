"""The space of a search: which settings of a recipe are tried, and over what."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lesionlab.errors import SettingsError
from lesionlab.models import factory
from lesionlab.recipe import validation
from lesionlab.recipe.schema import Recipe

_MOST_COMBINATIONS = 256  # that are checked beforehand
_REFUSED = {
    "select.metric": "is what trials are compared by, so it must be the same in all of them",
    "seed": "is no setting: the best of several seeds is luck, which the next data take back",
}


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: the smallest.
        high: the largest.
        log: whether their logarithms are drawn evenly.
        whole: whether they are whole numbers.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Choices:
    """Values to choose from: numbers, texts, lists or whole parts of a recipe."""

    values: tuple[Any, ...]


Space = dict[str, Range | Choices]


def read_words(words: Sequence[str]) -> dict[str, Any]:
    """Read `--try` words: key=low..high, key=low..high:log, key=a,b,c.

    Raises:
        SettingsError: naming every word that is none of these.
    """
    wrong = [each for each in words if "=" not in each]
    if wrong:
        raise SettingsError(
            f"--try takes key=low..high, key=low..high:log or key=a,b,c, not {', '.join(wrong)}"
        )
    return dict(each.split("=", 1) for each in words)


def read_space(
    recipe: Recipe, given: Mapping[str, Any], *, grid: bool = False, also: Sequence[str] = ()
) -> Space:
    """Read a space and make sure that every combination in it is a recipe.

    Args:
        recipe: what the search starts from.
        given: by dotted key {low, high} with or without log, {choices: [...]}, a list of choices,
            or a text: "low..high", "low..high:log", "a,b,c".
        grid: whether every combination is to be tried, so that ranges are refused.
        also: faults found elsewhere, to be told with those found here.

    Raises:
        SettingsError: naming every fault at once.
    """
    faults = [*also, *([] if given else ["it is empty: name at least one setting"])]
    space: Space = {}
    for key, value in given.items():
        if key in _REFUSED:
            faults.append(f"{key}: {_REFUSED[key]}")
            continue
        found = _dimension(recipe, key, value, faults)
        if grid and isinstance(found, Range):
            faults.append(f"{key}: grid needs choices, such as {key}: {{choices: [...]}}")
        if found:
            space[key] = found
    for combination in _combinations(space):
        faults += [fault for fault in _faults(recipe, combination) if fault not in faults]
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise SettingsError(
            f"The search has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listed}\n"
            "Every combination must be a recipe. A knob that belongs to one kind goes into choices "
            "of the whole part: loss: {choices: [cross_entropy, {kind: focal, gamma: 1.0}]}",
            faults,
        )
    return space


def applied(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with a trial's values; whole parts and kinds first, then the knobs in them.

    Raises:
        SettingsError: naming every fault at once.
    """
    order = sorted(values, key=lambda key: (key.count("."), not key.endswith(".kind")))
    return recipe.but({key: values[key] for key in order})


def plain(space: Space) -> dict[str, Any]:
    """A space as nested plain values, in the form that `read_space` takes."""
    return {
        key: {"choices": json.loads(json.dumps(each.values))}
        if isinstance(each, Choices)
        else {"low": each.low, "high": each.high, "log": each.log}
        for key, each in space.items()
    }


def combinations(space: Space) -> list[dict[str, Any]]:
    """Every combination of a space of choices, the last key changing fastest."""
    values = [each.values for each in space.values() if isinstance(each, Choices)]
    return [dict(zip(space, each, strict=True)) for each in itertools.product(*values)]


def _dimension(recipe: Recipe, key: str, given: Any, faults: list[str]) -> Range | Choices | None:
    if isinstance(given, str):
        given = _text(given)
    if isinstance(given, list):
        given = {"choices": given}
    if isinstance(given, Mapping) and set(given) == {"choices"}:
        values = given["choices"]
        if isinstance(values, list) and values:
            return Choices(tuple(values))
        faults.append(f"{key}: choices expects a list of one value or more, got {values!r}")
        return None
    if isinstance(given, Mapping) and {"low", "high"} <= set(given) <= {"low", "high", "log"}:
        return _range(recipe, key, given, faults)
    faults.append(
        f"{key}: expects {{low: ..., high: ..., log: true}} or {{choices: [...]}}, got {given!r}"
    )
    return None


def _text(text: str) -> Any:
    if match := re.fullmatch(r"(.+?)\.\.(.+?)(:log)?", text.strip()):
        return {"low": match[1], "high": match[2], "log": bool(match[3])}
    try:
        return yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        return text


def _range(recipe: Recipe, key: str, given: Mapping[str, Any], faults: list[str]) -> Range | None:
    """A range of whole numbers where the recipe has one."""
    now = dict(validation.leaves(recipe.to_dict())).get(key)
    if isinstance(now, bool) or not isinstance(now, int | float):
        unknown = _faults(recipe, {key: given["low"]}) if now is None else []
        faults += unknown or [f"{key}: a range needs a setting that is a number; take choices"]
        return None
    whole = isinstance(now, int)
    ends = [_number(given[name], whole) for name in ("low", "high")]
    low, high = ends
    if low is None or high is None:
        kind = "whole numbers" if whole else "numbers"
        faults.append(f"{key}: low and high must be {kind}, got {given['low']}..{given['high']}")
        return None
    log = given.get("log", False)
    if not isinstance(log, bool):
        faults.append(f"{key}: log is true or false, not {log!r}")
        return None
    if low >= high:
        faults.append(f"{key}: low {low:g} is not below high {high:g}")
        return None
    if log and low <= 0:
        faults.append(f"{key}: low must be above 0 for log, not {low:g}")
        return None
    return Range(low, high, log, whole)


def _number(value: Any, whole: bool) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)  # YAML 1.1 reads 1e-3 as text
    except (TypeError, ValueError):
        return None
    if not math.isfinite(number):
        return None
    if whole:
        return int(number) if number.is_integer() else None
    return number


def _combinations(space: Space) -> Iterator[dict[str, Any]]:
    """Combinations that show every value at least once, and all of them where they are few."""
    probes = {
        key: each.values if isinstance(each, Choices) else (each.low, each.high)
        for key, each in space.items()
    }
    first = {key: values[0] for key, values in probes.items()}
    if not first:
        return
    yield first
    for key, values in probes.items():
        for value in values[1:]:
            yield {**first, key: value}
    for each in itertools.islice(itertools.product(*probes.values()), _MOST_COMBINATIONS):
        yield dict(zip(probes, each, strict=True))


def _faults(recipe: Recipe, values: Mapping[str, Any]) -> list[str]:
    faults: list[str] = []
    for check in (lambda: applied(recipe, values), lambda: _check_name(values.get("model.name"))):
        try:
            check()
        except SettingsError as error:
            faults += error.faults or (str(error),)
    return faults


def _check_name(name: Any) -> None:
    if isinstance(name, str):
        factory.check_name(name)
