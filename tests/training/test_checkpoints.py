"""What happens after every epoch: measuring, keeping, averaging, slowing down, drawing curves."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from lesionlab.evaluation.evaluate import evaluate
from lesionlab.models import factory
from lesionlab.progress import Step
from lesionlab.recipe.schema import Plateau, Recipe
from lesionlab.run import CHECKPOINTS, HISTORY, PREDICTIONS, Run
from lesionlab.training import datasets
from lesionlab.training.checkpoints import Averaging, Keeper
from lesionlab.training.lightning_module import Classifier
from lesionlab.training.plateau import Watch, watched
from lesionlab.training.tracking import tensorboard
from lesionlab.training.train import train

SMALL = Recipe().but(
    {
        "images.size": [32, 32],
        "model.name": "test_efficientnet",
        "phases.0.epochs": 4,
        "phases.0.optim.lr": 2e-3,
        "average.kind": "none",
        "batch": 16,
        "seed": 3,
    }
)


class Killed(Exception):
    """Stands for a process that ends."""


def killer(epochs):
    """A listener that ends the training once so many epochs are done."""

    def listen(event):
        if isinstance(event, Step) and event.task == "training" and event.done > epochs:
            raise Killed

    return listen


def test_m17_what_is_watched_is_the_whole_val_part_in_its_own_order(drawn, tmp_path, monkeypatch):
    """Source C's plateau saw 448 of 902 images, drawn anew in every epoch."""
    data, parts = drawn
    monkeypatch.setattr(datasets, "CHUNK", 3)  # so that a part of val could be left out
    seen = []
    step = Classifier.validation_step

    def recorded(module, batch, number):
        seen.append((module.current_epoch, batch["target"].tolist()))
        step(module, batch, number)

    monkeypatch.setattr(Classifier, "validation_step", recorded)
    recipe = SMALL.but({"phases.0.epochs": 2})
    run = train(recipe, data, parts, out=tmp_path / "run")
    val = data.table[data.table["image_id"].map(parts.parts()) == "val"]
    expected = [data.classes.index(each) for each in val["target"]]
    assert len(expected) > 6
    for epoch in range(2):
        targets = [each for number, chunk in seen if number == epoch for each in chunk]
        assert targets == expected
    kept = run.history.iloc[run.info["kept_epoch"] - 1]
    measured = evaluate(run.predictions, part="val", replicates=0)
    assert kept["val_accuracy"] == pytest.approx(measured["accuracy"].value, abs=1e-6)
    table = run.predictions[run.predictions["part"] == "val"]
    probabilities = [row[f"p_{row['target']}"] for _, row in table.iterrows()]
    assert kept["val_loss"] == pytest.approx(-np.log(probabilities).mean(), rel=1e-4)


def test_m18_the_best_epoch_is_kept_and_not_the_last(drawn, tmp_path):
    """Source C kept the last epoch, in which the loss had just risen."""
    ruinous = {"depth": "all", "epochs": 2, "optim": {"kind": "sgd", "lr": 3.0}}
    recipe = SMALL.but(
        {
            "phases": [{"epochs": 4, "optim": {"lr": 3e-3}}, ruinous],
            "select.metric": "macro_auroc",
        }
    )
    run = train(recipe, *drawn, out=tmp_path / "run")
    values = run.history["val_macro_auroc"]
    assert values.max() > values.iloc[-1]
    assert run.info["kept_epoch"] == values.idxmax() + 1 < len(values)
    measured = evaluate(run.predictions, part="val", replicates=0)["macro_auroc"].value
    assert measured == pytest.approx(values.max(), abs=1e-4)


def test_the_last_epoch_is_kept_if_asked_for_also_by_a_run_that_was_killed(drawn, tmp_path):
    recipe = SMALL.but({"select.keep": "last"})
    whole = train(recipe, *drawn, out=tmp_path / "whole")
    assert whole.info["kept_epoch"] == 4
    assert whole.info["kept_value"] == whole.history["val_balanced_accuracy"].iloc[-1]
    with pytest.raises(Killed):
        train(recipe, *drawn, out=tmp_path / "killed", listen=killer(2.5))
    again = train(recipe, *drawn, out=tmp_path / "killed")
    pd.testing.assert_frame_equal(again.predictions, whole.predictions)
    assert again.info["identity"]["recipe"] != SMALL.fingerprint


@pytest.mark.parametrize("patience", [1, 2, 3])
@pytest.mark.parametrize("cooldown", [0, 1, 2, 4])
def test_a_plateau_counts_as_keras_does(patience, cooldown):
    # torch's own waits one epoch longer, and for a cooldown one longer again
    schedule = Plateau(patience=patience, cooldown=cooldown, factor=0.5, floor=0.1)
    rng = np.random.default_rng([patience, cooldown])
    for values in rng.integers(0, 12, (40, 20)) / 10:
        weight = torch.nn.Parameter(torch.zeros(1))
        reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
            torch.optim.SGD([weight], lr=1.0),
            mode="max",
            factor=0.5,
            patience=patience - 1,
            threshold=0,
            cooldown=max(0, cooldown - 1),
            min_lr=0.1,
        )
        watch = Watch()
        for value in values:
            watch.see(schedule, value)
            reference.step(value)
            assert watch.slowdown == pytest.approx(reference.get_last_lr()[0])


def test_a_plateau_falls_in_the_epochs_that_the_sources_settings_mean():
    watch = Watch()
    schedule = Plateau(factor=0.5, patience=3, cooldown=2)  # source C
    falls = []
    for epoch in range(1, 14):
        before = watch.slowdown
        watch.see(schedule, 0.7 if epoch == 1 else 0.6)
        if watch.slowdown < before:
            falls.append(epoch)
    assert falls == [4, 8, 12]


def expected_rates(values, schedule, lr):
    """What the learning rates must have been if these values were watched."""
    watch, rates = Watch(), []
    for value in values:
        rates.append(lr * watch.slowdown)
        watch.see(schedule, value)
    return rates


def test_a_plateau_watches_the_figure_that_it_is_told_to(drawn, tmp_path):
    recipe = SMALL.but(
        {
            "phases.0.schedule": {"kind": "plateau", "patience": 1, "metric": "loss"},
            "phases.0.epochs": 6,
            "phases.0.optim.lr": 0.02,
        }
    )
    history = train(recipe, *drawn, out=tmp_path / "run").history
    schedule = recipe.phases[0].schedule
    rates = expected_rates(-history["val_loss"], schedule, 0.02)
    assert list(history["lr"]) == pytest.approx(rates)
    for other in ("val_accuracy", "val_balanced_accuracy"):
        assert rates != expected_rates(history[other], schedule, 0.02)


def test_figures_of_val_are_turned_so_that_higher_is_better():
    values = {"val_loss": 0.4, "val_accuracy": 0.7, "val_macro_auroc": 0.8}
    expected = {"loss": -0.4, "accuracy": 0.7, "selection": 0.8}
    for metric, value in expected.items():
        assert watched(Plateau(metric=metric), values, "macro_auroc") == value


def test_a_plateau_waits_until_the_warm_up_is_over(drawn, tmp_path):
    recipe = SMALL.but(
        {
            "phases": [
                {
                    "depth": "head",
                    "epochs": 4,
                    "optim": {"lr": 1e-9},  # nothing ever gets better
                    "schedule": {"kind": "plateau", "patience": 1, "warmup": 0.5},
                }
            ]
        }
    )
    history = train(recipe, *drawn, out=tmp_path / "run").history
    assert list(history["lr"][2:]) == pytest.approx([1e-9, 0.5e-9])


C = {
    "images.size": [32, 32],
    "phases": [
        {
            "depth": "head",
            "epochs": 2,
            "optim": {"kind": "adam", "lr": 1e-4, "amsgrad": True},
            "schedule": {"kind": "constant"},
        },
        {
            "depth": "all",
            "epochs": 4,
            "optim": {"kind": "adam", "lr": 1e-4},
            "schedule": {
                "kind": "plateau",
                "factor": 0.5,
                "patience": 1,
                "cooldown": 2,
                "floor": 0.01,
                "metric": "accuracy",
            },
        },
    ],
}
"""Source C's two stages, in few epochs."""


def test_each_phase_has_its_own_optimiser_and_schedule(drawn, tmp_path, monkeypatch):
    made = []
    configure = Classifier.configure_optimizers

    def recorded(module):
        optimizer = configure(module)
        learning = sum(p.numel() for g in optimizer.param_groups for p in g["params"])
        made.append((type(optimizer).__name__, optimizer.defaults["amsgrad"], learning))
        return optimizer

    monkeypatch.setattr(Classifier, "configure_optimizers", recorded)
    recipe = SMALL.but(C)
    run = train(recipe, *drawn, out=tmp_path / "whole")
    network, _ = factory.load(run.folder)
    head = sum(each.numel() for each in network.get_classifier().parameters())
    assert made == [("Adam", True, head), ("Adam", False, run.info["parameters"])]
    second = run.history[run.history["phase"] == 2]
    assert list(run.history["phase"]) == [1, 1, 2, 2, 2, 2]
    assert list(second["lr"]) == pytest.approx(
        expected_rates(second["val_accuracy"], recipe.phases[1].schedule, 1e-4)
    )
    out = tmp_path / "killed"
    with pytest.raises(Killed):
        train(recipe, *drawn, out=out, listen=killer(4.5))
    train(recipe, *drawn, out=out)
    assert (out / PREDICTIONS).read_bytes() == (run.folder / PREDICTIONS).read_bytes()


SWA = SMALL.but({"average": {"kind": "swa", "start": 0.5}})


def test_swa_is_the_plain_mean_of_the_weights_after_its_start(drawn, tmp_path, monkeypatch):
    seen = []
    update = Averaging.on_train_batch_end

    def recorded(self, trainer, module, *rest):
        update(self, trainer, module, *rest)
        now = [module.network, self._average_model.module.network]
        seen.append([{k: v.clone() for k, v in each.state_dict().items()} for each in now])

    monkeypatch.setattr(Averaging, "on_train_batch_end", recorded)
    run = train(SWA, *drawn, out=tmp_path / "run")
    first = len(seen) // 2
    assert first > 2
    for number, (raw, average) in enumerate(seen):
        for name, value in average.items():
            if not value.is_floating_point():
                assert torch.equal(value, raw[name])
                continue
            steps = [weights[name] for weights, _ in seen[min(first, number) : number + 1]]
            torch.testing.assert_close(
                value, torch.stack(steps).mean(0), rtol=1e-4, atol=1e-6, msg=f"{number} {name}"
            )
    raw, average = seen[-1]
    assert not torch.equal(raw["classifier.weight"], average["classifier.weight"])
    kept = factory.load(run.folder)[0].state_dict()
    steps = len(seen) // len(run.history)
    _, average = seen[run.info["kept_epoch"] * steps - 1]
    assert torch.equal(kept["classifier.weight"], average["classifier.weight"])


def test_swa_is_validated_kept_and_taken_up_again(whole, drawn, tmp_path):
    run = train(SWA, *drawn, out=tmp_path / "whole")
    values = run.history["val_balanced_accuracy"]
    measured = evaluate(run.predictions, part="val", replicates=0)["balanced_accuracy"].value
    assert measured == pytest.approx(values.max(), abs=1e-6)
    out = tmp_path / "killed"
    with pytest.raises(Killed):
        train(SWA, *drawn, out=out, listen=killer(3.5))  # the mean began in epoch 3
    again = train(SWA, *drawn, out=out)
    assert (out / PREDICTIONS).read_bytes() == (run.folder / PREDICTIONS).read_bytes()
    left = again.history.drop(columns="seconds")
    pd.testing.assert_frame_equal(left, run.history.drop(columns="seconds"))
    same = list(whole.history["val_loss"] == run.history["val_loss"])
    assert same[:2] == [True, True]
    assert not any(same[2:])


def test_gradients_are_clipped_to_the_norm_of_the_phase(whole, drawn, tmp_path):
    moved = {}
    for clip in (0.0, 1e-3):
        recipe = SMALL.but(
            {
                "model.pretrained": str(whole.folder / factory.WEIGHTS),
                "phases": [
                    {
                        "epochs": 1,
                        "clip": clip,
                        "optim": {"kind": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0},
                        "schedule": {"kind": "constant"},
                    }
                ],
                "batch": 1000,  # one step
            }
        )
        run = train(recipe, *drawn, out=tmp_path / str(clip))
        before, after = (factory.load(each.folder)[0] for each in (whole, run))
        steps = [
            (old - new).detach().norm() ** 2
            for old, new in zip(before.parameters(), after.parameters(), strict=True)
        ]
        moved[clip] = float(sum(steps).sqrt())
    assert moved[1e-3] == pytest.approx(1e-3, rel=0.05)
    assert moved[0.0] > 0.01


@pytest.fixture(scope="module")
def whole(drawn, tmp_path_factory):
    """One finished run."""
    return train(SMALL, *drawn, out=tmp_path_factory.mktemp("run") / "whole")


def events(folder):
    """(step, scalar) by name, as they lie in the event files."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found = {}
    files = list((folder / tensorboard.FOLDER).iterdir())
    assert len(files) == 1
    for event in EventFileLoader(str(files[0])).Load():
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, make_ndarray(value.tensor).item()))
    return found


def assert_drawn(run):
    drawn = events(run.folder)
    history = run.history
    assert set(drawn) == set(history.columns) - {"epoch"}
    for name, points in drawn.items():
        assert [step for step, _ in points] == list(history["epoch"])
        assert [value for _, value in points] == pytest.approx(list(history[name]), rel=1e-6)


def test_tensorboard_draws_the_history_and_no_epoch_twice(whole, drawn, tmp_path):
    assert_drawn(whole)
    out = tmp_path / "run"
    with pytest.raises(Killed):
        train(SMALL, *drawn, out=out, listen=killer(2.5))
    assert [step for step, _ in events(out)["lr"]] == [1, 2]  # live, before the end
    assert_drawn(train(SMALL, *drawn, out=out))


def test_an_epoch_that_a_kill_kept_from_being_drawn_is_drawn_later(drawn, tmp_path, monkeypatch):
    draw = tensorboard.Curves.__call__

    def killed(self, rows):
        if len(rows) == 4:
            raise Killed
        draw(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(tensorboard.Curves, "__call__", killed)
        with pytest.raises(Killed):
            train(SMALL, *drawn, out=tmp_path / "run")
    assert_drawn(train(SMALL, *drawn, out=tmp_path / "run"))


def test_tensorboard_reads_it(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    opened = EventAccumulator(str(whole.folder / tensorboard.FOLDER))
    opened.Reload()
    assert set(opened.Tags()["scalars"]) == set(whole.history.columns) - {"epoch"}
    assert [each.step for each in opened.Scalars("val_loss")] == [1, 2, 3, 4]


@pytest.mark.parametrize("trouble", ["not installed", "disk"])
def test_without_tensorboard_there_is_the_csv(drawn, tmp_path, monkeypatch, trouble):
    if trouble == "disk":

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tensorboard.Curves, "_append_to", full)
    else:
        monkeypatch.setattr(tensorboard, "find_spec", lambda _: None)
    run = train(SMALL.but({"phases.0.epochs": 1}), *drawn, out=tmp_path / "run")
    assert not list(run.folder.glob(f"{tensorboard.FOLDER}/*"))
    assert len(pd.read_csv(run.folder / HISTORY)) == 1


def test_after_every_epoch_others_are_told_once_its_checkpoint_is_there(drawn, tmp_path):
    told = []

    def after_epoch(rows):
        told.append([int(row["epoch"]) for row in rows])
        assert (tmp_path / "run" / CHECKPOINTS / "last.ckpt").is_file()
        if len(told) == 1:
            raise Killed

    recipe = SMALL.but({"phases.0.epochs": 2})
    with pytest.raises(Killed):
        train(recipe, *drawn, out=tmp_path / "run", after_epoch=[after_epoch])
    run = train(recipe, *drawn, out=tmp_path / "run", after_epoch=[after_epoch])
    assert told == [[1], [1, 2]]
    assert run.complete


def test_the_state_of_a_keeper_is_plain_and_comes_back_whole(tmp_path):
    keeper = Keeper(tmp_path, SMALL, 0, None, lambda _: None)
    keeper.watch = Watch(0.5, 2, 1, 0.25)
    keeper.best, keeper.rows = 0.5, [{"epoch": 1.0}]
    state = keeper.state_dict()
    again = Keeper(tmp_path, SMALL, 0, None, lambda _: None)
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert again.watch == keeper.watch
    plain = itertools.chain(state.values(), state["watch"].values())
    assert all(isinstance(each, int | float | bool | list | dict) for each in plain)


def test_parts_that_were_left_out_are_not_predicted_and_train_says_so(drawn, tmp_path):
    from lesionlab.errors import RunError

    recipe = SMALL.but({"phases.0.epochs": 1})
    run = train(recipe, *drawn, out=tmp_path / "run", parts=("val",))
    assert set(run.predictions["part"]) == {"val"}
    with pytest.raises(RunError, match="leaves part test and train unseen"):
        train(recipe, *drawn, out=tmp_path / "run")
    assert Run.open(tmp_path / "run").complete
