"""What the README and the pages of docs/ show can be typed."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import lesionlab
from lesionlab.cli.app import command_of, declared
from lesionlab.cli.options import parse
from lesionlab.errors import SettingsError

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("docs/*/*.ipynb"))
}


def test_every_public_name_on_the_pages_exists():
    for page, text in PAGES.items():
        for name in set(re.findall(r"\bll\.([A-Za-z_]+)", text)):
            assert name in dir(lesionlab), f"{page}: ll.{name}"


def test_every_import_on_the_pages_works():
    for page, text in PAGES.items():
        for module, names in re.findall(r"from (lesionlab[\w.]*) import ([\w, ]+)", text):
            for name in names.split(", "):
                assert hasattr(import_module(module), name), f"{page}: {module}.{name}"


def test_every_command_on_the_pages_can_be_typed():
    for page, text in PAGES.items():
        text = text.replace("\\\n", " ")
        for line in re.findall(r"^lesionlab (.+)$|`lesionlab ([^`\n]+)`", text, re.MULTILINE):
            typed = re.split(r" [>|&#(] ?|\\n", "".join(line))[0]
            words = [word for word in shlex.split(typed) if word not in ("...", "…")]
            if words[0].isupper() or words[0].startswith("-"):
                continue
            name, rest = command_of(words)
            assert not fault(name, rest), f"{page}: lesionlab {typed}: {fault(name, rest)}"


def fault(name: str, words: list[str]) -> str:
    """What is wrong with a command; a sentence may leave out what the command needs."""
    try:
        parse(name, declared(name), words)
    except SettingsError as error:
        return "" if "are required" in str(error) else str(error)
    except SystemExit:
        pass
    return ""


def test_every_link_of_the_readme_leads_to_a_file():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES["README.md"])
    assert links
    assert not [link for link in links if not (ROOT / link).is_file()]
