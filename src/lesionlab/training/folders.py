"""Folders that hold several runs: opened anew, taken up again, or refused with the difference."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lesionlab.data.splitting import Split
from lesionlab.errors import RunError
from lesionlab.files import read_json, write_json
from lesionlab.recipe import Recipe
from lesionlab.run import RECIPE, SPLIT


def open_folder(
    out: Path,
    marker: str,
    content: Mapping[str, Any],
    recipe: Recipe,
    split: Split,
    *,
    fresh: bool,
) -> None:
    """Make a folder of several runs, or make sure that the one there is of the same settings.

    Args:
        out: the folder.
        marker: name of the JSON file that says what the folder is.
        content: what to write into it; its `identity` must be that of the folder that is there.
        recipe: that all runs start from; saved with the split.
        split: the split of all runs.
        fresh: discard what the folder holds.

    Raises:
        RunError: if the folder holds something else; the differences are named.
    """
    if out.exists() and any(out.iterdir()):
        if not (out / marker).is_file():
            raise RunError(f"{out} holds other files. Choose a new or empty folder with --out.")
        if not fresh:
            _refuse_others(out, marker, content["identity"], recipe)
            return
        shutil.rmtree(out.replace(out.with_name(f".{out.name}.old")))  # gone at once
    part = out.with_name(f".{out.name}.part")  # the folder appears whole or not at all
    shutil.rmtree(part, ignore_errors=True)
    recipe.save(part / RECIPE)
    split.save(part / SPLIT)
    write_json(part / marker, dict(content))
    part.replace(out)


def _refuse_others(out: Path, marker: str, mine: Mapping[str, Any], recipe: Recipe) -> None:
    theirs = read_json(out / marker)["identity"]
    lines = []
    for name, value in mine.items():
        if name == "recipe" and theirs.get(name) != value:
            lines += Recipe.load(out / RECIPE).differences(recipe)
        elif isinstance(value, dict):
            lines += _entries(theirs.get(name, {}), value)
        elif theirs.get(name) != value:
            lines.append(f"{name}: {theirs.get(name)} -> {value}")
    if lines:
        listed = "\n".join(f"  {line}" for line in lines)
        raise RunError(
            f"{out} was begun with other settings or data (its value -> yours):\n{listed}\n"
            "Choose another folder with --out, or discard what it holds with --fresh."
        )


def _entries(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> Iterator[str]:
    for key in [*theirs, *(key for key in mine if key not in theirs)]:
        if theirs.get(key) != mine.get(key):
            yield f"{key}: {theirs.get(key, '(absent)')} -> {mine.get(key, '(absent)')}"
