"""The tutorial, run cell by cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "tutorial.ipynb"


def test_the_notebook_is_one_that_jupyter_reads():
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert book["nbformat"] == 4
    assert {cell["cell_type"] for cell in book["cells"]} == {"markdown", "code"}
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])


@pytest.mark.slow
def test_every_cell_runs(monkeypatch, tmp_path, capsys):
    """On drawn lesions, in order, in one namespace; plots go nowhere."""
    monkeypatch.delenv("LESIONLAB_HAM10000", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    told = capsys.readouterr().out
    assert "group_crosses" in told  # the image-level split is refused
    assert {"lenet", "modern"} <= {path.name for path in tmp_path.glob("lesionlab-*/*")}
    assert names["maps"].images
    assert len(names["both"].predictions) == len(names["data"])
