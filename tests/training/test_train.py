from __future__ import annotations

import hashlib
import shutil
from datetime import date

import numpy as np
import pandas as pd
import pytest
import torch

from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.splits import Split, split
from lesionlab.errors import DataError, FindingsError, RunError, SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.files import write_csv
from lesionlab.models import factory
from lesionlab.models.heads import head_of
from lesionlab.prediction.run_predictor import predict_run
from lesionlab.progress import Notice, Step
from lesionlab.recipe.schema import Recipe
from lesionlab.run import CHECKPOINTS, PREDICTIONS, Run
from lesionlab.training.run_folders import started_from
from lesionlab.training.train import train


class Killed(Exception):
    """Stands for a process that ends in the middle of an epoch."""


def killer(epochs: float):
    """A listener that ends the training once so many epochs are done."""

    def listen(event):
        if isinstance(event, Step) and event.task == "training" and event.done > epochs:
            raise Killed

    return listen


def notices(collected):
    return lambda event: collected.append(event.text) if isinstance(event, Notice) else None


SMALL = Recipe().but(
    {
        "images.size": [32, 40],
        "model.name": "test_efficientnet",
        "model.drop": 0.3,
        "phases.0.epochs": 4,
        "phases.0.optim.lr": 2e-3,
        "average.decay": 0.9,
        "batch": 16,
        "seed": 3,
    }
)
"""A tiny net with everything that has state: batch norm, dropout, averages."""


@pytest.fixture(scope="module")
def whole(drawn, tmp_path_factory):
    """One finished run."""
    data, parts = drawn
    return train(SMALL, data, parts, out=tmp_path_factory.mktemp("run") / "whole"), SMALL


def test_a_run_folder_holds_what_it_promises(whole, drawn):
    run, recipe = whole
    data, parts = drawn
    assert run.complete
    assert run.recipe == recipe
    assert run.classes == data.classes
    assert len(run.history) == 4
    table = run.predictions
    assert sorted(table["image_id"]) == sorted(data.table["image_id"])
    given = parts.parts()
    assert (table.set_index("image_id")["part"] == given[table["image_id"]]).all()
    assert not (run.folder / CHECKPOINTS).exists()
    assert Split.open(run.folder / "split.csv").fingerprint == parts.fingerprint
    assert run.info["sources"] == ["drawn by lesionlab"]
    assert run.info["weights"] == {}  # random
    assert run.info["precision"] == "float32"  # too short to try another
    assert date.fromisoformat(run.info["finished"])


def test_where_pretrained_weights_come_from_is_recorded(tmp_path):
    assert started_from("lenet", False) == {}
    of_timm = started_from("resnet18", True)  # on its hub still
    assert of_timm["tag"] == "a1_in1k"
    assert of_timm["hub"] == "timm/resnet18.a1_in1k"
    file = tmp_path / "secret" / "mine.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    told = started_from("resnet18", str(file))
    assert told == {"file": "mine.safetensors", "sha256": hashlib.sha256(b"weights").hexdigest()}


def test_the_kept_epoch_is_the_best_on_val_and_its_figure_is_that_of_the_predictions(whole):
    run, _ = whole
    history = run.history
    best = history["val_balanced_accuracy"].idxmax()
    assert run.info["kept_epoch"] == history["epoch"][best]
    measured = evaluate(run.predictions, part="val", replicates=0)
    assert measured["balanced_accuracy"].value == pytest.approx(
        history["val_balanced_accuracy"][best], abs=1e-6
    )
    assert measured["macro_auroc"].value == pytest.approx(
        history["val_macro_auroc"][best], abs=1e-4
    )


@pytest.mark.parametrize("after", [0.5, 1.5, 3.5])
def test_a_killed_run_ends_as_if_it_had_never_been_killed(whole, drawn, tmp_path, after):
    run, recipe = whole
    data, parts = drawn
    with pytest.raises(Killed):
        train(recipe, data, parts, out=tmp_path / "run", listen=killer(after))
    unfinished = Run.open(tmp_path / "run")
    assert not unfinished.complete
    with pytest.raises(RunError, match="goes on where it stopped"):
        _ = unfinished.predictions
    said = []
    again = train(recipe, data, parts, out=tmp_path / "run", listen=notices(said))
    if after > 1:
        assert any(f"Going on after epoch {int(after)}" in text for text in said)
    assert (again.folder / PREDICTIONS).read_bytes() == (run.folder / PREDICTIONS).read_bytes()
    left = again.history.drop(columns="seconds")
    pd.testing.assert_frame_equal(left, run.history.drop(columns="seconds"))


def test_killed_at_the_very_end_nothing_is_trained_again(whole, drawn, tmp_path, monkeypatch):
    from lesionlab.training import train as module

    run, recipe = whole
    data, parts = drawn
    for name in ("predict_rows", "write_csv"):
        with monkeypatch.context() as patch:

            def end(*_, **__):
                raise Killed

            patch.setattr(module, name, end)
            with pytest.raises(Killed):
                train(recipe, data, parts, out=tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", end)
        with pytest.raises(Killed):
            train(recipe, data, parts, out=tmp_path / "run")
    steps = []
    again = train(recipe, data, parts, out=tmp_path / "run", listen=steps.append)
    assert not any(isinstance(each, Step) and each.task == "training" for each in steps)
    assert (again.folder / PREDICTIONS).read_bytes() == (run.folder / PREDICTIONS).read_bytes()
    assert not (again.folder / CHECKPOINTS).exists()


def test_plateau_early_stopping_and_phases_go_on_too(drawn, tmp_path):
    data, parts = drawn
    recipe = SMALL.but(
        {
            "phases": [
                {"depth": "head", "epochs": 2, "optim": {"kind": "sgd", "lr": 0.05}},
                {
                    "depth": "all",
                    "epochs": 6,
                    "optim": {"kind": "adam", "lr": 0.002},
                    "schedule": {"kind": "plateau", "patience": 1, "factor": 0.3},
                },
            ],
            "select.patience": 2,
            "sampling.kind": "balanced",
            "loss": {"kind": "cross_entropy", "weights": "inverse", "smoothing": 0.05},
            "augment.mixup": 0.4,
        }
    )
    run = train(recipe, data, parts, out=tmp_path / "whole")
    history = run.history
    assert list(history["phase"][:2]) == [1, 1]
    assert history["lr"].iloc[2:].nunique() > 1  # the plateau came down
    assert len(history) < 8  # and training stopped early
    for number, after in enumerate((1.5, 2.5, 4.5)):
        out = tmp_path / f"killed{number}"
        with pytest.raises(Killed):
            train(recipe, data, parts, out=out, listen=killer(after))
        train(recipe, data, parts, out=out)
        assert (out / PREDICTIONS).read_bytes() == (run.folder / PREDICTIONS).read_bytes()


def test_the_same_seed_gives_the_same_run_and_another_seed_another(whole, drawn, tmp_path):
    run, recipe = whole
    data, parts = drawn
    torch.manual_seed(99)
    torch.rand(17)
    before = torch.get_rng_state()
    same = train(recipe, data, parts, out=tmp_path / "same")
    assert torch.equal(before, torch.get_rng_state())  # nobody else's random state is touched
    assert (same.folder / PREDICTIONS).read_bytes() == (run.folder / PREDICTIONS).read_bytes()
    other = train(recipe.but({"seed": 4}), data, parts, out=tmp_path / "other")
    assert (other.folder / PREDICTIONS).read_bytes() != (run.folder / PREDICTIONS).read_bytes()


def test_a_frozen_body_does_not_move_in_a_real_run(whole, drawn, tmp_path):
    run, recipe = whole
    settings = recipe.but(
        {
            "model.pretrained": str(run.folder / factory.WEIGHTS),
            "phases": [{"depth": "head", "epochs": 2, "optim": {"lr": 0.01}}],
        }
    )
    again = train(settings, *drawn, out=tmp_path / "run")
    before, after = (factory.load(each.folder)[0] for each in (run, again))
    head = {id(each) for each in head_of(before).parameters()}
    heads = {name for name, each in before.named_parameters() if id(each) in head}
    old, new = before.state_dict(), after.state_dict()
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert moved
    assert moved <= heads


def test_a_run_goes_on_rightly_after_a_phase_that_stopped_early(drawn, tmp_path):
    data, parts = drawn
    recipe = SMALL.but(
        {
            "phases": [
                {"depth": "head", "epochs": 6, "optim": {"lr": 1e-7}},
                {"depth": "all", "epochs": 3, "optim": {"lr": 0.002}},
            ],
            "select.patience": 1,
        }
    )
    run = train(recipe, data, parts, out=tmp_path / "whole")
    assert (run.history["phase"] == 1).sum() < 6
    assert run.history["epoch"].iloc[-1] > 6
    with pytest.raises(Killed):
        train(recipe, data, parts, out=tmp_path / "killed", listen=killer(7.2))
    train(recipe, data, parts, out=tmp_path / "killed")
    assert (tmp_path / "killed" / PREDICTIONS).read_bytes() == (
        run.folder / PREDICTIONS
    ).read_bytes()


def test_a_training_that_diverges_says_so(drawn, tmp_path):
    recipe = SMALL.but({"phases.0.optim": {"kind": "sgd", "lr": 100.0}, "average.kind": "none"})
    with pytest.raises(RunError, match=r"diverged.*phases\.0\.optim\.lr"):
        train(recipe.but({"phases.0.epochs": 40}), *drawn, out=tmp_path / "run")


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_one_batch_without_a_number_is_not_passed_over(drawn, tmp_path, monkeypatch, where):
    """It may be the last: then only the loss of that batch, or of val, tells."""
    from lesionlab.training import losses

    recipe = SMALL.but({"phases.0.epochs": 1, "average.kind": "none"})
    built, steps = losses.build, []

    def failing(settings, counts):
        loss = built(settings, counts)
        batches = -(-int(counts.sum()) // recipe.batch)

        def measured(logits, targets):
            steps.append(len(logits))
            value = loss(logits, targets)
            if len(steps) < batches:
                return value
            if where == "loss":
                return value + torch.nan  # the weights stay numbers
            return value + (0 * logits.sum()).sqrt()  # 0, whose slope is none

        return measured

    monkeypatch.setattr(losses, "build", failing)
    with pytest.raises(RunError, match=r"diverged in epoch 1: .*nan"):
        train(recipe, *drawn, out=tmp_path / "run")


def test_a_class_that_val_lacks_is_no_class_that_is_never_recognised(drawn, tmp_path):
    """The figures of val are those of `evaluate`, of an epoch as of a probe's candidate."""
    data, parts = drawn
    moved = parts.table.assign(
        fold_0=parts.table["fold_0"].mask(
            (parts.table["fold_0"] == "val") & parts.table["target"].isin(["bkl", "vasc"]), "train"
        )
    )
    own = Split(moved, parts.by, "own", -1, "")
    trained = SMALL.but({"average.kind": "none", "phases.0.epochs": 2})
    for recipe in (trained, trained.but({"model.head.kind": "logistic_probe"})):
        run = train(recipe, data, own, out=tmp_path / recipe.model.head.kind)
        measured = evaluate(run.predictions, part="val", replicates=0)
        kept = run.history.iloc[run.info["kept_epoch"] - 1]
        for name in ("balanced_accuracy", "macro_auroc"):
            assert kept[f"val_{name}"] == pytest.approx(measured[name].value, abs=1e-4)


def test_a_disk_that_fills_up_in_training_is_one_message(drawn, tmp_path, monkeypatch):
    import errno
    from pathlib import Path

    write = Path.write_bytes

    def full(path, content):
        write(path, content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="disk is full"):
        train(SMALL, *drawn, out=tmp_path / "run")
    assert not list((tmp_path / "run").rglob("best*"))


def test_a_finished_run_says_so(whole, drawn):
    run, recipe = whole
    said = []
    before = (run.folder / PREDICTIONS).stat().st_mtime_ns
    train(recipe, *drawn, out=run.folder, listen=notices(said))
    assert any("is complete" in text for text in said)
    assert (run.folder / PREDICTIONS).stat().st_mtime_ns == before


def test_a_changed_recipe_is_refused_with_the_difference(whole, drawn):
    run, recipe = whole
    changed = recipe.but({"phases.0.optim.lr": 0.01, "batch": 8})
    with pytest.raises(RunError) as caught:
        train(changed, *drawn, out=run.folder)
    assert "phases.0.optim.lr: 0.002 -> 0.01" in str(caught.value)
    assert "batch: 16 -> 8" in str(caught.value)
    assert "--fresh" in str(caught.value)


def test_a_run_of_another_data_set_is_refused(whole, drawn, ham_copy, tmp_path):
    run, recipe = whole
    table = pd.read_csv(ham_copy / "HAM10000_metadata.csv").iloc[1:]
    table.to_csv(ham_copy / "HAM10000_metadata.csv", index=False)
    other = catalogue(ham_copy, out=tmp_path)
    with pytest.raises(RunError, match="another data set"):
        train(recipe, other, split(other, kind="holdout", shares=(0.6, 0.2, 0.2)), out=run.folder)


def test_fresh_discards_what_was_there(whole, drawn, tmp_path):
    run, recipe = whole
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / ".run.old" / "checkpoints").mkdir(parents=True)  # of a --fresh that was killed
    shorter = recipe.but({"phases.0.epochs": 1})
    again = train(shorter, *drawn, out=tmp_path / "run", fresh=True)
    assert len(again.history) == 1


def test_a_leaking_split_is_refused_and_nothing_is_written(drawn, tmp_path):
    data, parts = drawn
    lesion = data.table["lesion_id"].value_counts().index[0]
    images = set(data.table["image_id"][data.table["lesion_id"] == lesion])
    table = parts.table.copy()
    inside = table["image_id"].isin(images)
    table.loc[inside, "fold_0"] = ["train", "test", *["train"] * (inside.sum() - 2)]
    write_csv(tmp_path / "own.csv", table[["image_id", "fold_0"]])
    with pytest.raises(FindingsError, match=lesion):
        train(SMALL, data, Split.open(tmp_path / "own.csv"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_split_without_val_is_refused(drawn, tmp_path):
    data, parts = drawn
    table = parts.table.copy()
    table["fold_0"] = table["fold_0"].replace("val", "train")
    write_csv(tmp_path / "own.csv", table[["image_id", "fold_0"]])
    with pytest.raises(DataError, match="no val part"):
        train(SMALL, data, Split.open(tmp_path / "own.csv"), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.name": "mobilnetv4_conv_small"}, "mobilenetv4_conv_small"),
        ({"model.name": "inception_v3", "images.size": [32, 32]}, "images.size"),
        ({"model.pretrained": "nowhere.safetensors"}, "does not exist"),
    ],
)
def test_a_model_that_cannot_be_is_refused_and_nothing_is_written(drawn, tmp_path, change, words):
    with pytest.raises(SettingsError, match=words):
        train(SMALL.but(change), *drawn, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_files_is_refused(drawn, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(RunError, match="holds other files"):
        train(SMALL, *drawn, out=tmp_path, fresh=True)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_files_predict_as_the_run_did(whole, drawn, ham, tmp_path):
    run, _ = whole
    data, _ = drawn
    chosen = data.table.iloc[:5]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no")
    table = predict_run(run, [*(data.root / path for path in chosen["path"]), broken])
    expected = run.predictions.set_index("image_id").loc[chosen["image_id"]]
    columns = [f"p_{name}" for name in run.classes]
    np.testing.assert_allclose(table[columns].to_numpy()[:5], expected[columns], atol=1e-5)
    assert table["error"].iloc[5] != ""
    assert table[columns].iloc[5].isna().all()
    assert list(table["predicted"][:5]) == [c[2:] for c in expected[columns].idxmax(axis=1)]


def test_weights_of_a_run_start_another(whole, drawn, tmp_path):
    run, recipe = whole
    path = str(run.folder / factory.WEIGHTS)
    again = train(
        recipe.but({"model.pretrained": path, "phases.0.epochs": 1, "phases.0.optim.lr": 1e-6}),
        *drawn,
        out=tmp_path / "run",
    )
    a, b = factory.load(run.folder)[0], factory.load(again.folder)[0]
    first = next(iter(a.state_dict().values())) - next(iter(b.state_dict().values()))
    assert first.abs().max() < 1e-3
