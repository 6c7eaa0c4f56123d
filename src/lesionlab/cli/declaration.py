"""A command's declaration: the library function that does it, and what the command adds to it.

Signature and Google docstring of the function are read from its source, which is not imported:
`train --help` answers at once, and without torch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import lesionlab
from lesionlab.errors import SettingsError
from lesionlab.progress import Listener, Notice, Step

if TYPE_CHECKING:
    from lesionlab.cli.outcome import Outcome

REQUIRED = object()
"""The default of a parameter that has none."""

UNKNOWN = object()
"""A default that is computed: the help leaves it out."""

_OUTPUTS = ("out", "to")  # never positional: a command line names first what it reads


@dataclass(frozen=True)
class Kind:
    """What one value of an option is.

    Attributes:
        type: makes it of a word.
        choices: the words that it may be; (): any.
        several: it is a list of such values.
        count: it is exactly so many such values; 0: one, or a list.
        pairs: it is a mapping, written key=value.
        switch: it is true or false, without a value.
        either: of a switch: neither is the default, so there is --no-x, too.
    """

    type: Callable[[str], Any] = str
    choices: tuple[Any, ...] = ()
    several: bool = False
    count: int = 0
    pairs: bool = False
    switch: bool = False
    either: bool = False


@dataclass(frozen=True)
class Parameter:
    """One parameter of a command.

    Attributes:
        name: in Python.
        kind: of its values.
        default: as in the signature, `REQUIRED` or `UNKNOWN`.
        positional: it is an argument and no option.
        help: from the docstring.
        own: the command takes it, not the library function.
    """

    name: str
    kind: Kind
    default: Any = REQUIRED
    positional: bool = False
    help: str = ""
    own: bool = False

    @property
    def flag(self) -> str:
        """The option as it is typed: as_ is --as, cache_to is --cache, by_class is --by-class."""
        name = re.sub(r"_(to|of)?$", "", self.name)
        return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class Function:
    """What the source of a function says of it.

    Attributes:
        parameters: by name, in order, without `listen`.
        text: the docstring before its sections.
        listens: it takes a listener, `listen`.
    """

    parameters: Mapping[str, Parameter]
    text: str
    listens: bool


class Call:
    """The library function of a command, with the options that were given.

    Attributes:
        options: what was given for the function, by name of the parameter; no defaults. What the
            command itself takes under such a name is among them.
        given: what the command's `inputs` were made of, as it was typed.
        listen: passes on what the function tells.
        warnings: texts of the warnings, each once, where they are kept for the end.
    """

    def __init__(
        self, target: str, options: Mapping[str, Any], listen: Listener, *, extra: str, last: bool
    ) -> None:
        self._target, self._extra = target, extra
        self._listen, self._last = listen, last
        self.options = dict(options)
        self.given: Mapping[str, Any] = {}
        self.warnings: list[str] = []

    def __call__(self, **more: Any) -> Any:
        """Call it; `more` are further arguments, which win over the options.

        Raises:
            SettingsError: if the extra that it needs is not installed.
        """
        listen = {"listen": self.listen} if read(self._target).listens else {}
        return library(self._target, self._extra)(**{**self.options, **more}, **listen)

    def listen(self, event: Step | Notice) -> None:
        """Pass an event on; a warning at once, or kept for the end, where it is seen."""
        if isinstance(event, Step) or event.level != "warning" or not self._last:
            self._listen(event)
        elif event.text not in self.warnings:
            self.warnings.append(event.text)


def library(target: str, extra: str = "train") -> Any:
    """A name of the library, such as "training.train.train", imported now.

    Raises:
        SettingsError: if the extra that it needs is not installed.
    """
    from importlib import import_module

    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(f"lesionlab.{module}"), name)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"This needs {error.name}, part of the extra {extra}: pip install 'lesionlab[{extra}]'"
        ) from error


_Show = TypeVar("_Show", bound="Callable[..., Outcome]")


@dataclass(frozen=True)
class Declaration:
    """How a command is declared.

    Attributes:
        show: the command: calls the library function and shows what came of it.
        target: the library function, as "evaluation.evaluate.evaluate"; "": it has none.
        examples: command lines, without `lesionlab`.
        without: parameters of the function that are no options.
        inputs: opens what several commands take alike: its arguments are options, too, and what it
            returns are arguments of the library function.
        extra: the optional part of the installation that the function needs.
        warnings_last: whether warnings are kept for the end; not where the command takes minutes.
    """

    show: Callable[..., Outcome]
    target: str = ""
    examples: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    inputs: Callable[..., dict[str, Any]] | None = None
    extra: str = "train"
    warnings_last: bool = True

    @property
    def takes_recipe_flags(self) -> bool:
        """Whether any setting of a recipe is an option, by its dotted name."""
        return any("changes" in _own(each).parameters for each in self._functions)

    @property
    def text(self) -> str:
        """What it does, in words; the command's own word comes before the function's."""
        own = _own(self.show).text
        return own or (read(self.target).text if self.target else "")

    def parameters(self) -> dict[str, Parameter]:
        """Those of the function, then those that the command adds; of one name, the command's."""
        given = dict(read(self.target).parameters) if self.target else {}
        given = {name: each for name, each in given.items() if name not in self.without}
        added = {k: v for each in self._functions for k, v in _own(each).parameters.items()}
        for name, own in added.items():
            if name not in ("call", "changes"):
                text = own.help or (given[name].help if name in given else "")
                given[name] = replace(own, help=text, own=True)
        return given

    def run(self, options: Mapping[str, Any], listen: Listener) -> Outcome:
        """Run it.

        Args:
            options: what was given, by name of the parameter.
            listen: told of what happens.
        """
        of_library = read(self.target).parameters if self.target else {}
        call = Call(
            self.target,
            {name: value for name, value in options.items() if name in of_library},
            listen,
            extra=self.extra,
            last=self.warnings_last,
        )
        *inputs, mine = (
            {name: value for name, value in options.items() if name in _own(each).parameters}
            for each in self._functions
        )
        if self.inputs is not None:
            call.given = inputs[0]
            call.options |= self.inputs(**inputs[0])
        outcome = self.show(call, **mine)
        outcome.warnings += [text for text in call.warnings if text not in outcome.warnings]
        return outcome

    @property
    def _functions(self) -> list[Callable[..., Any]]:
        """The command's own functions: what opens its inputs, if any, and what shows."""
        return [self.show] if self.inputs is None else [self.inputs, self.show]


def _own(function: Callable[..., Any]) -> Function:
    module = function.__module__.removeprefix("lesionlab.")
    return read(f"{module}.{function.__name__}", own=True)


DECLARED: dict[str, Declaration] = {}
"""Declarations by module and name of the function that shows."""


def command(
    target: str = "",
    *examples: str,
    without: tuple[str, ...] = (),
    inputs: Callable[..., dict[str, Any]] | None = None,
    extra: str = "train",
    warnings_last: bool = True,
) -> Callable[[_Show], _Show]:
    """Declare a command; see `Declaration`."""

    def declare(show: _Show) -> _Show:
        DECLARED[f"{show.__module__}.{show.__name__}"] = Declaration(
            show, target, examples, without, inputs, extra, warnings_last
        )
        return show

    return declare


@cache
def read(target: str, *, own: bool = False) -> Function:
    """Read a function's signature and docstring from its source; or a dataclass's fields.

    Args:
        target: its place below `lesionlab`, such as "evaluation.evaluate.evaluate".
        own: it is a command's own function: all but keyword-only parameters are arguments. Of a
            library function those are that have no default, and are not what it writes.
    """
    module, _, name = target.rpartition(".")
    source = _module(module)
    node = source.definitions[name]
    text, helps = documentation(ast.get_docstring(node) or "")
    if isinstance(node, ast.ClassDef):
        fields = {
            each.target.id: Parameter(
                each.target.id,
                source.kind(each.annotation),
                REQUIRED if each.value is None else source.value(each.value),
                help=helps.get(each.target.id, ""),
            )
            for each in node.body
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        }
        return Function(fields, text, listens=False)
    positional = [*node.args.posonlyargs, *node.args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    rows = list(zip(positional, [*defaults, *node.args.defaults], strict=True))
    rows += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    parameters = {}
    for place, (argument, default) in enumerate(rows):
        if argument.arg in ("listen", "self") or argument.annotation is None:
            continue
        argument_of_line = place < len(positional) and (
            own or (default is None and argument.arg not in _OUTPUTS)
        )
        parameters[argument.arg] = Parameter(
            argument.arg,
            source.kind(argument.annotation),
            REQUIRED if default is None else source.value(default),
            positional=argument_of_line,
            help=helps.get(argument.arg, ""),
        )
    names = {argument.arg for argument, _ in rows}
    return Function(parameters, text, listens="listen" in names)


def documentation(docstring: str) -> tuple[str, dict[str, str]]:
    """A Google docstring's text before its sections, and the help of each argument or attribute."""
    text, _, rest = re.sub("\nAttributes:\n", "\nArgs:\n", cleandoc(docstring)).partition(
        "\nArgs:\n"
    )
    helps: dict[str, str] = {}
    name = ""
    for line in rest.splitlines():
        if line and not line.startswith(" "):
            break  # the next section
        if match := re.match(r"    (\w+): (.*)", line):
            helps[name := match[1]] = match[2]
        elif line.strip() and name:
            helps[name] += f" {line.strip()}"
    text = re.split(r"\n(?:Returns|Raises|Example|Attributes|Yields):\n", text)[0]
    return text.strip(), helps


@dataclass(frozen=True)
class _Module:
    """What the top of a source file defines."""

    definitions: Mapping[str, ast.FunctionDef | ast.ClassDef]
    values: Mapping[str, ast.expr]
    imports: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def value(self, node: ast.expr) -> Any:
        """A constant, in this file or in one that it is imported from."""
        if isinstance(node, ast.Name):
            if node.id in self.values:
                return self.value(self.values[node.id])
            if node.id in self.imports:
                module, name = self.imports[node.id]
                return _module(module).value(ast.Name(name))
            return UNKNOWN
        if isinstance(node, ast.Tuple):
            items = tuple(map(self.value, node.elts))
            return UNKNOWN if UNKNOWN in items else items
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "Path"
        ):
            return self.value(node.args[0])
        try:
            return ast.literal_eval(node)
        except ValueError:
            return UNKNOWN

    def kind(self, node: ast.expr) -> Kind:
        """What a command line gives for an annotation."""
        choices = self._union(node)
        several = next((each for each in choices if each.several or each.count or each.pairs), None)
        single = [each for each in choices if not (each.several or each.count or each.pairs)]
        path = next((each for each in single if each.type is Path), None)
        if several is not None:
            return several if several.type is not str or path is None else _FILE
        if path is not None:
            return path
        if single and single[0].switch and any(each is _NOTHING for each in single):
            return Kind(switch=True, either=True)
        single = [each for each in single if each is not _NOTHING]
        return single[0] if single else Kind()

    def _union(self, node: ast.expr) -> list[Kind]:
        if isinstance(node, ast.BinOp):
            return self._union(node.left) + self._union(node.right)
        if isinstance(node, ast.Constant):
            return [_NOTHING] if node.value is None else self._union(_expression(str(node.value)))
        if isinstance(node, ast.Name):
            return self._named(node.id)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return self._generic(node.value.id, inner)
        return []  # a class that no word can make

    def _named(self, name: str) -> list[Kind]:
        if name in _PLAIN:
            return [_PLAIN[name]]
        if name in self.values:
            return self._union(self.values[name])
        if name in self.imports:
            module, there = self.imports[name]
            return _module(module)._named(there)
        return []

    def _generic(self, name: str, inner: list[ast.expr]) -> list[Kind]:
        if name == "Literal":
            words = tuple(ast.literal_eval(each) for each in inner)
            return [Kind(type(words[0]), words)]
        if name in ("Mapping", "dict"):
            value = self.kind(inner[1])
            return [Kind(value.type, pairs=True)]
        if name == "tuple" and not any(
            isinstance(each, ast.Constant) and each.value is ... for each in inner
        ):
            return [replace(self.kind(inner[0]), count=len(inner))]
        if name in ("Sequence", "list", "tuple", "Iterable"):
            return [replace(self.kind(inner[0]), several=True)]
        return []


_NOTHING = Kind()
_FILE = Kind(Path)
_PLAIN = {
    "str": Kind(str),
    "int": Kind(int),
    "float": Kind(float),
    "Path": _FILE,
    "bool": Kind(bool, switch=True),
}


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@cache
def _module(name: str) -> _Module:
    """The top of a source file below `lesionlab`."""
    home = Path(lesionlab.__file__).parent
    path = home.joinpath(*name.split(".")).with_suffix(".py")
    if not path.is_file():
        path = home.joinpath(*name.split("."), "__init__.py")
    definitions: dict[str, ast.FunctionDef | ast.ClassDef] = {}
    values: dict[str, ast.expr] = {}
    imports: dict[str, tuple[str, str]] = {}
    nodes = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while nodes:
        node = nodes.pop(0)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            values[node.target.id] = node.value
        elif isinstance(node, ast.If):
            nodes += node.body  # if TYPE_CHECKING
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lesionlab."):
            module = str(node.module).removeprefix("lesionlab.")
            imports |= {each.asname or each.name: (module, each.name) for each in node.names}
    return _Module(definitions, values, imports)
