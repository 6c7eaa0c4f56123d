"""Runs of a folder: what differs between them, and their figures."""

from __future__ import annotations

import pytest
from drawn_runs import draw_predictions, make_run

from lesionlab.cli.app import main
from lesionlab.errors import RunError
from lesionlab.evaluation.comparison.runs import list_runs
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.recipe.schema import Recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("home") / "runs"
    one = make_run(home / "one", draw_predictions(0), None)
    make_run(home / "deep" / "two", draw_predictions(1), None, kept_epoch=2)
    Recipe().but({"loss.kind": "focal"}).save(one.folder / "recipe.yaml")
    half = make_run(home / "half", draw_predictions(2), None)
    half.update(state="training")
    return home


def test_settings_that_differ_and_figures_the_best_on_val_first(folder):
    table = list_runs(folder)
    assert list(table["run"]) == ["half", "one", "deep/two"]
    one = table.set_index("run").loc["one"]
    expected = evaluate(draw_predictions(0), replicates=0)["balanced_accuracy"].value
    assert one["test"] == pytest.approx(expected)
    assert one["val"] == pytest.approx(0.55)
    assert one["epochs"] == "5/6"
    assert one["loss.kind"] == "focal"
    assert "model.name" not in table
    half = table.set_index("run").loc["half"]
    assert half["state"] == "training"
    assert half["test"] != half["test"]


def test_the_terminal_has_the_settings_of_a_run_in_one_cell(folder, capsys):
    assert main(["runs", str(folder)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "loss.kind=focal" in "".join(out.split())


def test_a_folder_without_runs_says_how_to_make_one(tmp_path):
    with pytest.raises(RunError, match="lesionlab train"):
        list_runs(tmp_path)
