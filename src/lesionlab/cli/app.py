"""The command line: a static table of verbs, their options, and everything that is printed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lesionlab._version import __version__
from lesionlab.cli.options import Several, one_word_each
from lesionlab.disclaimer import NOTICE
from lesionlab.errors import LesionlabError
from lesionlab.progress import Notice, Step

if TYPE_CHECKING:
    from argparse import ArgumentParser

    import pandas as pd
    from rich.console import Console
    from rich.progress import Progress

    from lesionlab.cli.outcome import Outcome

VERBS = {  # the module of lesionlab.cli.commands that holds it, and what it does
    "fetch": ("collecting", "download a known collection, checked and resumable"),
    "catalogue": ("collecting", "make the table of a folder of images"),
    "join": ("collecting", "several collections as one; what they share stands once"),
    "audit": ("inspecting", "list everything odd about a collection"),
    "explore": ("inspecting", "its metadata in tables and figures, on one page"),
    "split": ("collecting", "part it into train, val and test; no lesion crosses"),
    "clean": ("collecting", "fill in unknown ages, sexes and sites; never from the label"),
    "cache": ("collecting", "decode every image once"),
    "models": ("learning", "the networks to choose from, and where they can be cut"),
    "train": ("learning", "train a network from a recipe"),
    "embed": ("learning", "a frozen backbone's features of every image, once"),
    "folds": ("repeating", "train every fold of a split, and pool what they had never seen"),
    "tune": ("repeating", "search for better settings, judged on val alone"),
    "predict": ("predicting", "answers about images, folders, DICOM or a catalogue"),
    "blend": ("judging", "make an ensemble out of several models' predictions"),
    "evaluate": ("judging", "score predictions, with intervals that respect lesions"),
    "compare": ("judging", "models side by side, with paired differences"),
    "gaps": ("judging", "train, val and test side by side: what a model learned by heart"),
    "baselines": ("grouping", "a model beside the metadata alone and the colours alone"),
    "subgroups": ("grouping", "age, sex, site, ...: figures of groups, and gaps beyond chance"),
    "calibrate": ("trusting", "probabilities that mean what they say, fitted on val"),
    "conformal": ("trusting", "sets of classes that hold the true one as often as promised"),
    "prevalence": ("trusting", "how common classes are without labels; re-weight to it"),
    "triage": ("triaging", "what to decide, what to leave to a doctor, and at what price"),
    "outliers": ("triaging", "images that a run was not made for, told by a score"),
    "suspects": ("suspecting", "labels that a model contradicts, the most doubtful first"),
    "shortcuts": ("suspecting", "do camera, light, hair, rulers or ink tell the diagnosis?"),
    "drift": ("suspecting", "do the parts of a split, or two catalogues, differ?"),
    "explain": ("judging", "which places of an image speak for a class"),
    "trust": ("believing", "whether such maps show the lesion and what was learnt"),
    "report": ("judging", "write one page with figures, curves and pictures"),
    "card": ("describing", "a model card, and three reporting standards item by item"),
    "export": ("shipping", "one file that answers without torch: a bundle"),
    "submit": ("challenge", "predictions as an ISIC challenge submission"),
    "isic": ("challenge", "score a submission: the official ISIC scorer's numbers"),
    "serve": ("serving", "answer over HTTP, with a page"),
    "trail": ("serving", "what a server answered, where it was told to keep it"),
    "demo": ("machine", "the default model, then the whole chain, on drawn lesions or yours"),
    "doctor": ("machine", "what this machine has, and what is missing"),
}

_EPILOGUE = """The usual order:
  lesionlab fetch ham10000 --to data/ham10000
  lesionlab catalogue data/ham10000
  lesionlab audit data/ham10000
  lesionlab split data/ham10000
  lesionlab train recipes/mobilenetv4_conv_small.yaml --data data/ham10000 --out runs/first
  lesionlab report runs/first --out report.html

`lesionlab VERB --help` explains a verb. Exit codes: 0 done, 1 findings, 2 you must act."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: the words after `lesionlab`; by default those of the process.

    Returns:
        0 done, 1 findings, 2 the user must act, 130 stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"lesionlab {__version__}")
        return 0
    verb, rest = words[0].replace("-", "_"), words[1:]
    if verb not in VERBS:
        import difflib

        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        print(
            f"There is no verb {words[0]!r}.{hint} `lesionlab --help` lists them.", file=sys.stderr
        )
        return 2
    return _run(verb, rest)


def _overview() -> str:
    width = max(map(len, VERBS)) + 2
    listed = "\n".join(f"  {name:<{width}}{text}" for name, (_, text) in VERBS.items())
    title = f"lesionlab {__version__}: classifiers of skin lesions, measured honestly"
    return f"{title}\n{NOTICE}\n\nUsage: lesionlab VERB ...\n\n{listed}\n\n{_EPILOGUE}"


def _run(verb: str, words: list[str]) -> int:
    from importlib import import_module

    home = import_module(f"lesionlab.cli.commands.{VERBS[verb][0]}")
    function: Callable[..., Outcome] = getattr(home, verb)
    try:
        flags = _takes_recipe_flags(function)
        changes, words = _recipe_flags(words) if flags else ({}, words)
        parser = _parser(verb, function)
        words = one_word_each(parser, words)
        options = vars(parser.parse_intermixed_args(words))  # options may stand between images
    except LesionlabError as error:
        return _fail(str(error))
    except SystemExit as error:  # argparse: --help or a bad option
        return 0 if error.code in (0, None) else 2
    if flags:
        options["changes"] = changes
    screen = _Screen()
    try:
        with screen:
            outcome = function(**options, listen=screen)
    except LesionlabError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail(
            "Stopped. Nothing half written was left; the same command goes on or starts anew.", 130
        )
    except OSError as error:
        return _fail(_of_the_system(error))
    screen.show(outcome)
    return outcome.code


def _of_the_system(error: OSError) -> str:
    """What the operating system refused, in words."""
    import errno
    from pathlib import Path

    from lesionlab.files import cannot_write

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return str(cannot_write(Path(error.filename or "a file"), error))
    return f"{error.filename or 'The system'}: {error.strerror or error}. Check the path."


def _fail(message: str, code: int = 2) -> int:
    print(f"lesionlab: {message}", file=sys.stderr)
    return code


def _parser(verb: str, function: Callable[..., Any]) -> ArgumentParser:
    """A parser out of a verb's signature and docstring: no option is written down twice."""
    from argparse import ArgumentParser, RawDescriptionHelpFormatter
    from inspect import Parameter, signature
    from typing import get_type_hints

    text, helps = _documentation(function)
    parser = ArgumentParser(
        prog=f"lesionlab {verb}",
        description=text,
        epilog=f"{_settings_help()}\n\n{NOTICE}" if _takes_recipe_flags(function) else NOTICE,
        formatter_class=lambda prog: RawDescriptionHelpFormatter(prog, width=100),
        allow_abbrev=False,
    )
    hints = get_type_hints(function)
    for name, parameter in signature(function).parameters.items():
        if name in ("listen", "changes"):
            continue
        options = _option(hints[name])
        default = parameter.default
        required = default is Parameter.empty
        options["help"] = helps[name]
        if not (default is None or default is False or required):
            shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
            options["help"] += f" (default: {shown})"
        if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD:
            if not required:
                options["nargs"] = "*" if "nargs" in options else "?"
            options.pop("action", None)
            parser.add_argument(name, metavar=name.upper(), **options)
            continue
        if "choices" not in options and "action" not in options:
            options["metavar"] = name.strip("_").upper()
        flag = f"--{name.rstrip('_').replace('_', '-')}"  # try_: a name that Python keeps
        parser.add_argument(
            flag, dest=name, required=required, default=None if required else default, **options
        )
    return parser


def _option(hint: Any) -> dict[str, Any]:
    """What argparse needs to know of a type: X, X | None, Literal, list[X], tuple[X, X], bool."""
    from typing import Literal, get_args, get_origin

    kinds = [each for each in get_args(hint) if each is not type(None)]
    if hint == bool | None:
        from argparse import BooleanOptionalAction

        return {"action": BooleanOptionalAction}  # --x, --no-x, or neither
    if type(None) in get_args(hint):
        return _option(kinds[0])
    if hint is bool:
        return {"action": "store_true"}
    if get_origin(hint) is Literal:
        return {"choices": kinds, "type": type(kinds[0])}
    if get_origin(hint) is list:
        return {"type": kinds[0], "nargs": "+", "action": Several}
    if get_origin(hint) is tuple:
        return {"type": kinds[0], "nargs": len(kinds)}
    return {"type": hint}


def _documentation(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """A Google docstring's text before "Args:", and the help of each argument."""
    from inspect import cleandoc

    text, _, args = cleandoc(function.__doc__ or "").partition("\nArgs:\n")
    helps: dict[str, str] = {}
    for line in args.splitlines():
        if match := re.match(r"    (\w+): (.*)", line):
            helps[name := match[1]] = match[2]
        elif line.strip():
            helps[name] += f" {line.strip()}"
    return text.strip(), {key: value.replace("%", "%%") for key, value in helps.items()}


def _settings_help() -> str:
    from lesionlab.recipe import validation
    from lesionlab.recipe.schema import Recipe

    lines = [
        f"  --{key:<28} {text}" + (f" (default: {default})" if default else "")
        for key, default, text in validation.describe(Recipe)
    ]
    return "settings of the recipe, each a flag that wins over the file:\n" + "\n".join(lines)


def _takes_recipe_flags(function: Callable[..., Any]) -> bool:
    from inspect import signature

    return "changes" in signature(function).parameters


def _recipe_flags(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Take the dotted flags that change the recipe out of the words; give them and the rest."""
    from dataclasses import fields

    import yaml

    from lesionlab.errors import SettingsError
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
        try:
            changes[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SettingsError(f"{word}: {value!r} is not a value that YAML can read.") from error
    return changes, rest


class _Screen:
    """Draws progress bars and notices on standard error, tables on standard output."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Screen:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, event: Step | Notice) -> None:
        """Draw an event."""
        if isinstance(event, Notice):
            style = "bold yellow" if event.level == "warning" else "dim"
            prefix = "Warning: " if event.level == "warning" else ""
            self._bars().console.print(
                f"{prefix}{event.text}", style=style, highlight=False, markup=False
            )
            return
        bars = self._bars()
        if event.task not in self._tasks:
            self._tasks[event.task] = bars.add_task(
                event.task, total=event.total, note="", count=""
            )
        count = _amount(event)
        task = self._tasks[event.task]
        if event.done < bars.tasks[task].completed:  # it starts over: another fold, another trial
            bars.reset(task, total=event.total)
        bars.update(task, completed=event.done, total=event.total, note=event.note, count=count)

    def _bars(self) -> Progress:
        if self._progress is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
            from rich.table import Column

            whole = Column(no_wrap=True)
            self._progress = Progress(
                TextColumn("{task.description}", table_column=whole),
                BarColumn(bar_width=12),
                TextColumn("{task.fields[count]}", table_column=whole),
                TimeRemainingColumn(elapsed_when_finished=True, compact=True, table_column=whole),
                TextColumn("{task.fields[note]}", style="dim", table_column=Column(ratio=1)),
                console=Console(stderr=True),
            )
            self._progress.start()
        return self._progress

    def show(self, outcome: Outcome) -> None:
        """Print what a verb has to show."""
        from rich.console import Console

        console = Console(markup=False)
        for title, table in outcome.tables:
            _print_table(console, title, table)
        for line in outcome.lines:
            console.print(line, highlight=False, soft_wrap=True)
        for text in outcome.warnings:
            console.print(f"WARNING: {text}", style="bold yellow", highlight=False, soft_wrap=True)


def _amount(event: Step) -> str:
    if event.unit == "bytes":
        total = f"/{event.total / 1e6:,.0f}" if event.total else ""
        return f"{event.done / 1e6:,.0f}{total} MB"
    done = f"{event.done:,.2f}" if event.done % 1 else f"{event.done:,.0f}"
    return f"{done}/{event.total:,.0f} {event.unit}" if event.total else f"{done} {event.unit}"


def _print_table(console: Console, title: str, table: pd.DataFrame) -> None:
    from pandas.api.types import is_numeric_dtype
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for name in table.columns:
        drawn.add_column(
            str(name),
            justify="right" if is_numeric_dtype(table[name]) else "left",
            overflow="fold",  # a name cut short could not be typed
        )
    for row in table.itertuples(index=False):
        drawn.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    console.print(drawn)


if __name__ == "__main__":
    sys.exit(main())
