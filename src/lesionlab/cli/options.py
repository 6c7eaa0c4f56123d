"""Options of a command: a parser out of its declaration, and which words belong to which option."""

from __future__ import annotations

import re
from argparse import (
    SUPPRESS,
    Action,
    ArgumentParser,
    ArgumentTypeError,
    BooleanOptionalAction,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lesionlab.cli.declaration import REQUIRED, UNKNOWN, Declaration, Parameter
from lesionlab.disclaimer import NOTICE
from lesionlab.errors import SettingsError


def parse(name: str, declaration: Declaration, words: Sequence[str]) -> dict[str, Any]:
    """The options that were given, by name of the parameter; none that was not.

    Args:
        name: of the command, such as "audit labels".
        declaration: of it.
        words: what was typed after its name.

    Raises:
        SettingsError: if a word is no option of it, or no value of one.
        SystemExit: after --help was printed.
    """
    words = list(words)
    parser = parser_of(name, declaration)
    changes: dict[str, Any] = {}
    if declaration.takes_recipe_flags:
        changes, words = recipe_flags(words)
    options = vars(parser.parse_intermixed_args(one_word_each(parser, words)))
    for parameter in declaration.parameters().values():
        given = options.get(parameter.name)
        if parameter.positional and not given and parameter.default is not REQUIRED:
            options.pop(parameter.name, None)
        elif parameter.kind.pairs and given is not None:
            options[parameter.name] = dict(given)
        elif parameter.kind.count and given is not None:
            options[parameter.name] = tuple(given)
    if declaration.takes_recipe_flags:
        options["changes"] = changes
    return options


def parser_of(name: str, declaration: Declaration) -> ArgumentParser:
    """A parser out of a declaration: no option is written down twice."""
    text = declaration.text
    if declaration.examples:
        text += "\n\n" + "\n".join(f"Example: lesionlab {each}" for each in declaration.examples)
    parser = _Parser(
        prog=f"lesionlab {name}",
        description=text,
        epilog=f"{settings_help()}\n\n{NOTICE}" if declaration.takes_recipe_flags else NOTICE,
        formatter_class=lambda prog: RawDescriptionHelpFormatter(prog, width=100),
        allow_abbrev=False,
        argument_default=SUPPRESS,
    )
    for parameter in declaration.parameters().values():
        _add(parser, parameter)
    return parser


class _Parser(ArgumentParser):
    """A parser whose errors are those of the command line."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print.

        Raises:
            SettingsError: always.
        """
        raise SettingsError(
            f"{message.removeprefix('argument ')}. `{self.prog} --help` explains every option."
        )


class Several(Action):
    """An option of several values: each use of the flag adds to the list."""

    def __call__(
        self,
        parser: ArgumentParser,  # noqa: ARG002
        namespace: Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """Add the values of one use of the flag."""
        setattr(namespace, self.dest, [*getattr(namespace, self.dest, ()), *values])


def _add(parser: ArgumentParser, parameter: Parameter) -> None:
    kind, default = parameter.kind, parameter.default
    settings: dict[str, Any] = {"help": _help(parameter)}
    if kind.switch:
        settings["action"] = BooleanOptionalAction if kind.either else "store_true"
    elif kind.pairs:
        settings |= {"type": _pair(kind.type), "nargs": "+", "action": Several}
    else:
        settings["type"] = _number(kind.type) if kind.type in (int, float) else kind.type
        if kind.choices:
            settings["choices"] = kind.choices
        if kind.count:
            settings["nargs"] = kind.count
        elif kind.several:
            settings |= {"nargs": "+", "action": Several}
    name = parameter.flag[2:].replace("-", "_")
    if parameter.positional:
        settings.pop("action", None)
        if default is not REQUIRED:
            settings["nargs"] = "*" if kind.several else "?"
            settings["default"] = None  # argparse would give SUPPRESS to `type`, as if it was typed
        parser.add_argument(parameter.name, metavar=name.upper(), **settings)
        return
    if not (kind.switch or kind.choices):
        settings["metavar"] = "KEY=VALUE" if kind.pairs else name.upper()
    parser.add_argument(
        parameter.flag, dest=parameter.name, required=default is REQUIRED, **settings
    )


def _help(parameter: Parameter) -> str:
    text = re.sub(r"\bNone:? ", "by default ", parameter.help)  # nobody types None
    text = text.replace("`", "").replace("%", "%%")
    default = parameter.default
    if isinstance(default, tuple | list):
        default = " ".join(map(str, default))
    shown = default not in (REQUIRED, UNKNOWN, None, False, "")
    return f"{text} (default: {default})" if shown else text


def _pair(value: Callable[[str], Any]) -> Callable[[str], tuple[str, Any]]:
    """Reads key=value."""

    def read(word: str) -> tuple[str, Any]:
        key, equals, text = word.partition("=")
        if not (key and equals):
            raise ArgumentTypeError(f"it takes pairs such as key=value, not {word!r}")
        return key, _number(value)(text) if value in (int, float) else value(text)

    return read


def _number(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Reads a number, or says which word is none."""

    def read(word: str) -> Any:
        try:
            return kind(word)
        except ValueError as error:
            whole = "whole number" if kind is int else "number"
            raise ArgumentTypeError(f"{word!r} is no {whole}") from error

    return read


def one_word_each(parser: ArgumentParser, words: Sequence[str]) -> list[str]:
    """Write every value of a list option with a flag of its own: --by=age --by=sex.

    An option of several values takes more than one word only where no positional argument can be
    meant any more: where as many as the command takes stand before it. Elsewhere it takes one
    word, which may hold several values with commas between them (not of paths and key=value pairs).
    argparse itself would give it every word up to the next flag: `serve --hosts derm.example
    mole.bundle` would take the bundle for a host, and serve another model.

    Args:
        parser: of the command.
        words: what was typed after the command.
    """
    flags = {flag: action for action in parser._actions for flag in action.option_strings}
    positional = [action for action in parser._actions if not action.option_strings]
    room = len(positional)
    if any(action.nargs in ("*", "+") for action in positional):
        room = len(words) + 1
    taken: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            return [*taken, word, *queue]
        flag, equals, value = word.partition("=")
        action = flags.get(flag)
        if action is None or not word.startswith("-"):
            room -= not word.startswith("-")
            taken.append(word)
            continue
        if isinstance(action, Several):
            values = [value] if equals else []
            while queue and not queue[0].startswith("-") and (not values or room <= 0):
                values.append(queue.pop(0))
            if not values:
                taken.append(flag)  # argparse says that it needs one
            if action.type is not Path and not any("=" in each for each in values):
                values = [part for each in values for part in each.split(",") if part]
            taken += [f"{flag}={each}" for each in values]
        elif isinstance(action.nargs, int) and action.nargs > 1:
            given = [value] if equals else queue[:1]
            del queue[: 0 if equals else 1]
            parts = numbers_of(given[0]) if given else []
            if len(parts) == 1 and not equals:  # 56 75, in words of their own
                parts += queue[: action.nargs - 1]
                del queue[: action.nargs - 1]
            if len(parts) != action.nargs:
                parser.error(
                    f"{flag} takes {action.nargs} values, such as {flag} 56 75 or {flag} 56x75, "
                    f"not {' '.join(parts) or 'none'}"
                )
            taken += [flag, *parts]
        else:
            taken.append(word)
            if action.nargs is None and not equals:
                taken += queue[:1]
                del queue[:1]
    return taken


def numbers_of(word: str) -> list[str]:
    """The numbers of a word as people type them: "56x75", "56,75" and "[56, 75]"; else the word."""
    parts = re.split(r"\s*[,x×]\s*", word.strip().removeprefix("[").removesuffix("]").strip())
    return parts if all(map(_is_number, parts)) else [word]


def settings_help() -> str:
    """Every setting of a recipe, as a flag."""
    from lesionlab.recipe import validation
    from lesionlab.recipe.schema import Recipe

    lines = [
        f"  --{key:<28} {text}" + (f" (default: {default})" if default else "")
        for key, default, text in validation.describe(Recipe)
    ]
    return "settings of the recipe, each a flag that wins over the file:\n" + "\n".join(lines)


def recipe_flags(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Take the dotted flags that change the recipe out of the words; give them and the rest.

    A list is taken as people type it: --images.size 56 75, 56,75, 56x75 or "[56, 75]".

    Raises:
        SettingsError: naming a flag without a value, or with one that cannot be read.
    """
    from dataclasses import fields

    import yaml

    from lesionlab.recipe.schema import Recipe

    names = {each.name for each in fields(Recipe)}
    changes: dict[str, Any] = {}
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not ("." in key or key in names):
            rest.append(word)
            continue
        if not equals:
            if not queue or queue[0].startswith("--"):
                raise SettingsError(f"{word} needs a value: {word} VALUE")
            value = queue.pop(0)
        given = [value]
        while _is_number(value) and queue and _is_number(queue[0]):
            given.append(queue.pop(0))
        try:
            plain = [yaml.safe_load(each) for each in given]
        except yaml.YAMLError as error:
            raise SettingsError(f"{word}: {value!r} is not a value that YAML can read.") from error
        changes[key] = plain if len(plain) > 1 else plain[0]
    return changes, rest


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
