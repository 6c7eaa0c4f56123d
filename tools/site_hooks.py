"""Hooks of the documentation site: pages made of what the repository holds, and two checks.

MkDocs loads this file (mkdocs.yml). Made at build time: the API reference (a page per room, from
the public names and their docstrings), the changelog and the
course's notebooks with their outputs. A public name without a docstring, and anything loaded from
elsewhere, ends the build.
"""

from __future__ import annotations

import json
import re
from ast import literal_eval
from collections import defaultdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

import lesionlab

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {  # in the order in which somebody meets them
    "data": "Data",
    "recipe": "Recipes",
    "augmentation": "Augmentation",
    "models": "Networks",
    "training": "Training",
    "run": "Runs",
    "prediction": "Prediction",
    "embeddings": "Embeddings",
    "evaluation": "Evaluation",
    "explanation": "Explanation",
    "retrieval": "Similar cases",
    "reporting": "Reports and cards",
    "deployment": "Bundles",
    "client": "Client of a server",
}
BESIDE = ("client.Client", "client.ServerError")  # public by a path of their own, for an extra
FOREIGN = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//|<link\b[^>]*"
    r"\brel=[\"']?(?:stylesheet|icon|preconnect|preload)[^>]*href=[\"']?(?:https?:)?//"
)


class Examples(griffe.Extension):
    """Docstrings say `Example:`, as there is one; griffe knows `Examples:` alone."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for everything that has been read."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """A setting's default and meaning stand in `knob(default, meaning, ...)`."""
        call = attr.value
        if isinstance(call, griffe.ExprCall) and str(call.function) == "_knob":
            default, meaning = call.arguments[:2]
            attr.value = default.body if isinstance(default, griffe.ExprLambda) else default
            if isinstance(meaning, str):  # and not a name of one
                attr.docstring = griffe.Docstring(literal_eval(meaning), parent=attr)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The pages of the reference take their place in the navigation."""
    pages = [{title: f"reference/{room}.md"} for room, title in ROOMS.items() if room in public()]
    for entry in config.nav or []:
        if "API" in entry:
            entry["API"] = ["reference/index.md", *pages]
    config.watch += [str(ROOT / "src"), str(ROOT / "CHANGELOG.md")]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and the recipes that pages link to."""
    pages = {"reference/index.md": _overview()}
    pages |= {f"reference/{room}.md": _reference(room) for room in public()}
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text("utf-8")
    for path in sorted((ROOT / "docs" / "course").glob("*.ipynb")):
        pages[f"course/{path.stem}.md"] = _notebook(path)
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        files.append(File.generated(config, f"recipes/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to recipes lead out of docs/ in the repository alone; notebooks are pages here."""
    markdown = re.sub(r"\]\(((?:\.\./)?(?:course/)?\d_\w+)\.ipynb", r"](\1.md", markdown)
    return markdown.replace("](../recipes/", "](recipes/").replace(
        "](../../recipes/", "](../recipes/"
    )


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse what would be loaded from elsewhere."""
    if found := FOREIGN.search(output):
        raise PluginError(f"{page.file.src_uri} loads from elsewhere: {found[0]}")
    return output


def public() -> dict[str, dict[str, griffe.Object]]:
    """The public names and their objects, by room; functions first, then in alphabetical order.

    Raises:
        PluginError: if one, or a public member of a class, has no docstring, or its room no title.
    """
    if not _PUBLIC:
        package = griffe.load("lesionlab", search_paths=[str(ROOT / "src")], resolve_aliases=True)
        bare = []
        for name in _names():
            entry = package[name]
            thing = entry.final_target if isinstance(entry, griffe.Alias) else entry
            room = thing.canonical_path.split(".")[1]
            if room not in ROOMS:
                raise PluginError(f"{thing.path}: tools/site_hooks.py has no title for {room!r}")
            _PUBLIC[room][name] = thing
            bare += [each.path for each in (thing, *_members(thing)) if not each.has_docstring]
        if bare:
            raise PluginError("public names without a docstring: " + ", ".join(bare))
        for room, things in _PUBLIC.items():
            order = sorted(things, key=lambda name: (things[name].is_class, name.lower()))
            _PUBLIC[room] = {name: things[name] for name in order}
    return _PUBLIC


_PUBLIC: dict[str, dict[str, griffe.Object]] = defaultdict(dict)


def _names() -> list[str]:
    """Every public name as it is written behind `ll.`; those of a module with its name."""
    names = []
    for name in dir(lesionlab):
        if find_spec(f"lesionlab.{name}"):
            names += [f"{name}.{each}" for each in dir(import_module(f"lesionlab.{name}"))]
        else:
            names.append(name)
    return [name for name in names if "__" not in name] + list(BESIDE)


def _members(thing: griffe.Object) -> list[griffe.Object]:
    """Public methods and properties of a class; its fields stand in its own docstring."""
    if not thing.is_class:
        return []
    return [
        each
        for name, each in thing.members.items()
        if isinstance(each, griffe.Object)
        and not name.startswith("_")
        and (each.is_function or "property" in each.labels)
    ]


def _summary(thing: griffe.Object) -> str:
    assert thing.docstring
    return " ".join(thing.docstring.value.split("\n\n")[0].split()).replace("|", "\\|")


def _overview() -> str:
    lines = [
        "# API reference",
        "",
        "Every public name of `import lesionlab as ll`. They load on first use: what needs no",
        "PyTorch never imports it. Everything else may change without notice.",
    ]
    for room, title in ROOMS.items():
        if things := public().get(room):
            lines += ["", f"## {title}", "", "| | |", "|---|---|"]
            lines += [
                f"| [`ll.{name}`]({room}.md#{thing.path}) | {_summary(thing)} |"
                for name, thing in things.items()
            ]
    return "\n".join(lines)


def _reference(room: str) -> str:
    """A page: what a room's own files hold, then a heading per folder."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, thing in public()[room].items():
        parts = thing.canonical_path.split(".")
        nested = (ROOT / "src" / "lesionlab" / room / parts[2]).is_dir()
        groups[parts[2].replace("_", " ").capitalize() if nested else ""].append(name)
    lines = [f"# {ROOMS[room]}"]
    for group in sorted(groups):
        if len(groups) > 1:
            lines += ["", f"## {group or 'In general'}"]
        for name in groups[group]:
            lines += ["", f"::: {public()[room][name].path}", "    options:"]
            lines += [f"      heading: {name}", f"      toc_label: {name}"]
    return "\n".join(lines)


def _notebook(path: Path) -> str:
    """A notebook's texts, code and outputs, as a page."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        text = "".join(cell["source"]).strip()
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        parts += [_output(each) for each in cell.get("outputs", [])]
    place = path.relative_to(ROOT).as_posix()
    return "\n\n".join([*parts, f"*This page is the notebook `{place}`.*"])


def _output(output: dict[str, Any]) -> str:
    """What a cell shows: a picture, a table, or text."""
    data = output.get("data", {})
    if "image/png" in data:
        picture = "".join(data["image/png"]).replace("\n", "")
        return f'<img class="output" alt="Figure" src="data:image/png;base64,{picture}">'
    if "text/html" in data:
        html = re.sub(r"<table [^>]*>", "<table>", "".join(data["text/html"]))
        lines = re.sub(r"(?s)<style.*?</style>", "", html).splitlines()
        # an empty line would end the element
        table = "\n".join(each.strip() for each in lines if each.strip())
        return f'<div class="output">{table}</div>'
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```text\n{text.rstrip()}\n```"
