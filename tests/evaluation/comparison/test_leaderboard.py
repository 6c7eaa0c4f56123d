"""One table of models: its figures are those of `evaluate`, and it fits a terminal."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from drawn_runs import draw_predictions, make_run

from lesionlab.errors import SettingsError
from lesionlab.evaluation.comparison.leaderboard import leaderboard
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.files import write_csv, write_json
from lesionlab.recipe.schema import Recipe
from lesionlab.run import Folds


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs, the second one the best."""
    home = tmp_path_factory.mktemp("runs")
    return [
        make_run(home / name, draw_predictions(seed, skill), None, trainable=900, depth=47)
        for seed, (name, skill) in enumerate((("weak", 0.5), ("strong", 3.0), ("middle", 1.5)))
    ]


def row(board, name):
    return board.table.set_index("model").loc[name]


def test_the_best_model_is_first_and_its_figures_are_those_of_evaluate(runs):
    board = leaderboard(runs, columns=["val", "test", "gap", "test:log_loss"], replicates=50)
    assert list(board.table["model"]) == ["strong", "middle", "weak"]
    for run in runs:
        found, scored = row(board, run.name), evaluate(run.predictions, replicates=50)
        of_train = evaluate(run.predictions, part="train", replicates=0)["balanced_accuracy"].value
        expected = scored["balanced_accuracy"]
        assert tuple(found[["test", "test_low", "test_high"]]) == (
            expected.value, expected.low, expected.high,
        )  # fmt: skip
        assert found["gap"] == pytest.approx(of_train - expected.value)
        assert found["log_loss_test"] == scored["log_loss"].value


def test_less_log_loss_is_better(runs):
    board = leaderboard(runs, columns=["test"], metric="log_loss", replicates=0)
    assert list(board.table["model"]) == ["strong", "middle", "weak"]


def test_a_difference_is_to_the_best_and_its_p_value_is_adjusted_over_all_pairs(runs):
    board = leaderboard(runs, columns=["test", "difference"], replicates=200)
    assert board.best == "strong"
    assert np.isnan(row(board, "strong")["difference"])
    gap = row(board, "weak")["test"] - row(board, "strong")["test"]
    assert row(board, "weak")["difference"] == pytest.approx(gap)
    assert row(board, "weak")["difference_p"] < 0.05
    assert "over all pairs" in board.notes[0]


def test_tables_on_other_images_have_figures_and_no_difference(runs):
    other = draw_predictions(5, 1.0).assign(image_id=lambda t: "x" + t["image_id"])
    board = leaderboard({"a": runs[0], "b": other}, columns=["test", "difference"], replicates=0)
    assert board.table["test"].notna().all()
    assert board.best == ""
    assert board.notes[0].startswith("No differences")


def test_facts_are_those_of_the_run_and_a_recipe_has_no_figures(runs, tmp_path):
    Recipe().but({"model.name": "lenet", "images.size": [224, 224]}).save(tmp_path / "e.yaml")
    columns = ["test", "network", "size", "depth", "parameters", "trainable", "minutes"]
    board = leaderboard([runs[0], tmp_path / "e.yaml"], columns=columns, replicates=0)
    assert tuple(row(board, "weak")[["depth", "parameters", "trainable", "minutes"]]) == (
        47, 2_500_000, 900, 12.5,
    )  # fmt: skip
    recipe = row(board, "e")
    assert np.isnan(recipe["test"])
    assert tuple(recipe[["network", "size", "depth", "parameters", "trainable"]]) == (
        "lenet", "224x224", 5, 5_612_471, 5_612_471,
    )  # fmt: skip


def test_of_folds_train_and_val_are_means_over_the_folds(runs, tmp_path):
    """Two folds whose networks are two of the runs."""
    folder = tmp_path / "folds"
    for number, run in enumerate(runs[:2]):
        shutil.copytree(run.folder, folder / f"fold_{number}")
    write_json(folder / "folds.json", {"folds": 2, "identity": {}, "classes": ["bcc", "mel", "nv"]})
    shutil.copy(runs[0].folder / "recipe.yaml", folder)
    tests = [run.predictions[lambda t: t["part"] == "test"] for run in runs[:2]]
    pooled = pd.concat([tests[0].iloc[:30], tests[1].iloc[30:]])
    write_csv(folder / "predictions.csv", pooled)
    write_csv(folder / "summary.csv", pd.DataFrame({"fold": [0, 1]}))
    board = leaderboard([Folds.open(folder)], columns=["train", "test", "minutes"], replicates=0)
    each = [evaluate(run, part="train", replicates=0)["balanced_accuracy"] for run in runs[:2]]
    found = row(board, "folds")
    assert found["train"] == pytest.approx(np.mean([e.value for e in each]))
    assert found["test"] == evaluate(pooled, replicates=0)["balanced_accuracy"].value
    assert found["minutes"] == 25.0
    assert "means over the folds" in board.notes[-1]


def test_the_table_fits_eighty_columns_whatever_it_holds(runs):
    names = {"a_rather_long_name_of_a_run_that_somebody_gave": runs[0], "b": runs[1]}
    columns = ["train", "val", "test", "gap", "test:macro_auroc", "difference", "parameters"]
    text = str(leaderboard(names, columns=columns, replicates=20))
    assert max(map(len, text.splitlines())) <= 80
    assert "2,500,000" in text


@pytest.mark.parametrize(
    ("ending", "expected"),
    [(".md", "| strong |"), (".tex", r"strong & "), (".html", "<td"), (".csv", "strong,")],
)
def test_it_is_written_by_the_ending(runs, tmp_path, ending, expected):
    board = leaderboard(runs, columns=["test", "parameters"], replicates=20)
    board.save(tmp_path / f"table{ending}")
    assert expected in (tmp_path / f"table{ending}").read_text()


def test_what_does_not_exist_is_refused_with_what_does(runs, tmp_path):
    with pytest.raises(SettingsError, match="keras_depth"):
        leaderboard(runs, columns=["speed"])
    with pytest.raises(SettingsError, match="balanced_accuracy"):
        leaderboard(runs, metric="speed", columns=["test"], replicates=0)
    with pytest.raises(SettingsError, match=r"\.md"):
        leaderboard(runs, columns=["minutes"]).save(tmp_path / "table.docx")
