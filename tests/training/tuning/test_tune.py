from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest
from filelock import FileLock

from lesionlab.cli.app import main
from lesionlab.data.splits import Split
from lesionlab.errors import DataError, DivergenceError, RunError, SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.files import write_csv
from lesionlab.progress import Notice, Step
from lesionlab.recipe.schema import Recipe
from lesionlab.run import INFO, PREDICTIONS, Run
from lesionlab.training.train import train
from lesionlab.training.tuning import trials
from lesionlab.training.tuning.search_space import (
    Choices,
    Range,
    applied,
    combinations,
    read_space,
    read_words,
)
from lesionlab.training.tuning.tune import BEST, Tuning, tune

SMALL = Recipe().but(
    {
        "images.size": [32, 32],
        "model.name": "test_efficientnet",
        "phases.0.epochs": 1,
        "average.kind": "none",
        "select.metric": "macro_auroc",
        "batch": 32,
    }
)
SPACE = {
    "phases.0.optim.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "loss": {"choices": ["cross_entropy", {"kind": "focal", "gamma": 1.0}]},
    "batch": {"low": 8, "high": 32},
}


class Killed(Exception):
    """Stands for a process that ends."""


@pytest.fixture(scope="module")
def whole(drawn, tmp_path_factory):
    """A finished search of three trials."""
    return tune(SMALL, *drawn, SPACE, out=tmp_path_factory.mktemp("tune") / "whole", trials=3)


def table_of(search):
    """What must not depend on crashes: all but the minutes."""
    return pd.read_csv(search.folder / "trials.csv").drop(columns="minutes")


def journal(folder):
    return [json.loads(line) for line in (folder / trials.JOURNAL).read_text().splitlines()]


# The space


def test_a_space_is_read_with_the_types_of_the_recipe():
    space = read_space(SMALL, {**SPACE, "model.drop": "0.1..0.3", "precision": "auto,float32"})
    assert space["phases.0.optim.lr"] == Range(1e-4, 1e-1, log=True, whole=False)
    assert space["batch"] == Range(8, 32, log=False, whole=True)
    assert space["loss"] == Choices(("cross_entropy", {"kind": "focal", "gamma": 1.0}))
    assert space["model.drop"] == Range(0.1, 0.3)
    assert space["precision"] == Choices(("auto", "float32"))


def test_words_say_the_same_as_a_file():
    words = read_words(
        ["phases.0.optim.lr=1e-4..1e-1:log", "batch=8..32", "images.size=[32,32],[64,48]"]
    )
    space = read_space(SMALL, words)
    assert space.pop("images.size") == Choices(([32, 32], [64, 48]))
    assert space == read_space(SMALL, {k: SPACE[k] for k in ("phases.0.optim.lr", "batch")})
    with pytest.raises(SettingsError, match="not nothing, lr"):
        read_words(["nothing", "batch=1", "lr"])


def test_all_faults_of_a_space_come_at_once():
    with pytest.raises(SettingsError) as caught:
        read_space(
            SMALL,
            {
                "phases.0.optim.lr": {"low": 1e-2, "high": 1e-4},
                "phases.0.optim.weight_decay": {"low": 0, "high": 0.1, "log": True},
                "batch": {"low": 8.5, "high": 32},
                "model.drop": {"low": 0.5, "high": 2.0},
                "model.drp": {"low": 0.1, "high": 0.2},
                "model.name": {"choices": ["resnet18", "resnet19"]},
                "loss.gamma": {"choices": [1.0]},
                "augment.flip": {"low": 0, "high": 1},
                "sampling.kind": {"choices": []},
                "precision": {"from": 1},
                "select.metric": {"choices": ["macro_auroc"]},
                "seed": {"low": 0, "high": 9},
            },
            also=["--trials must be above 0, not 0"],
        )
    text = str(caught.value)
    for words in (
        "13 faults",
        "--trials must be above 0",
        "phases.0.optim.lr: low 0.01 is not below high 0.0001",
        "phases.0.optim.weight_decay: low must be above 0 for log",
        "batch: low and high must be whole numbers",
        "model.drop: 2 is out of range",
        "model.drp: no such setting; did you mean 'drop'",
        "Did you mean resnet18",
        "loss.gamma: belongs to kind focal",
        "augment.flip: a range needs a setting that is a number",
        "sampling.kind: choices expects a list of one value or more",
        "precision: expects {low",
        "select.metric: is what trials are compared by",
        "seed: is no setting",
    ):
        assert words in text, words


def test_a_knob_that_some_combinations_lack_is_a_fault():
    space = {
        "phases.0.optim.kind": {"choices": ["adamw", "adam"]},
        "phases.0.optim.weight_decay": {"choices": [0.01, 0.1]},
    }
    with pytest.raises(SettingsError, match="weight_decay: belongs to kind adamw or sgd, not to a"):
        read_space(SMALL, space)
    space["phases.0.optim.kind"] = {"choices": ["adamw", "sgd"]}
    read = read_space(SMALL, dict(reversed(space.items())))  # whatever the order of the keys
    for values in combinations(read):
        assert applied(SMALL, values).phases[0].optim.weight_decay in (0.01, 0.1)
    parts = {"loss.smoothing": [0.1], "loss": ["cross_entropy", {"kind": "focal"}]}
    losses = [applied(SMALL, values).loss for values in combinations(read_space(SMALL, parts))]
    assert [(each.kind, each.smoothing) for each in losses] == [
        ("cross_entropy", 0.1),
        ("focal", 0.1),
    ]


def test_an_empty_space_is_refused(drawn, tmp_path):
    with pytest.raises(SettingsError, match=r"(?s)workers must be above 0.*it is empty"):
        tune(SMALL, *drawn, {}, out=tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()


# The search


def test_every_trial_is_a_run_judged_on_val_and_test_stays_unseen(whole, drawn):
    table = whole.trials
    assert list(table["trial"]) == [0, 1, 2]
    assert set(table["state"]) == {"complete"}
    assert table["phases.0.optim.lr"].between(1e-4, 1e-1).all()
    assert table["phases.0.optim.lr"].nunique() == 3
    assert table["batch"].between(8, 32).all()
    for number, row in table.iterrows():
        run = Run.open(whole.folder / f"trial_{number:04d}")
        assert run.complete
        assert set(run.predictions["part"]) == {"val"}
        assert run.recipe.phases[0].optim.lr == pytest.approx(row["phases.0.optim.lr"])
        assert run.recipe.batch == row["batch"]
        measured = evaluate(run.predictions, part="val", replicates=0)["macro_auroc"].value
        assert row["value"] == pytest.approx(measured)
        assert row["value"] == pytest.approx(run.history["val_macro_auroc"].max(), abs=1e-4)


def test_the_best_trial_is_a_recipe_that_trains(whole, drawn, tmp_path):
    best = whole.trials.sort_values("value", ascending=False).iloc[0]
    assert whole.best_trial == best["trial"]
    assert whole.value == best["value"]
    assert whole.best == Run.open(whole.folder / f"trial_{whole.best_trial:04d}").recipe
    text = (whole.folder / BEST).read_text()
    assert text.startswith(f"# The best of 3 finished trials: trial_{whole.best_trial:04d}, macro_")
    run = train(whole.best, *drawn, out=tmp_path / "run")
    again = Run.open(whole.folder / f"trial_{whole.best_trial:04d}").predictions
    mine = run.predictions[run.predictions["part"] == "val"].reset_index(drop=True)
    numbers = dict.fromkeys(mine.filter(regex="^logit_"), float)  # read as text
    pd.testing.assert_frame_equal(  # predicted in chunks of other sizes
        mine.astype(numbers), again.astype(numbers), rtol=1e-6
    )


def interrupted(drawn, out, when):
    """Begin the search of `whole` and end it as soon as an event of training says so."""

    def listen(event):
        if isinstance(event, Step) and when(event):
            raise Killed

    with pytest.raises(Killed):
        tune(SMALL, *drawn, SPACE, out=out, trials=3, listen=listen)


def in_second_trial(task):
    count = []

    def when(event):
        count.append(event.task == task and event.done == event.total)
        return sum(count) == 2

    return when


@pytest.mark.parametrize("task", ["training", "predicting"])
def test_a_search_that_was_killed_comes_out_the_same(whole, drawn, tmp_path, task):
    out = tmp_path / "run"
    interrupted(drawn, out, in_second_trial(task))
    first = (out / "trial_0000" / PREDICTIONS).stat().st_mtime_ns
    again = tune(SMALL, *drawn, SPACE, out=out, trials=3)
    assert (out / "trial_0000" / PREDICTIONS).stat().st_mtime_ns == first
    pd.testing.assert_frame_equal(table_of(again), table_of(whole))
    assert (out / BEST).read_text() == (whole.folder / BEST).read_text()
    assert sum(each["op_code"] == 4 for each in journal(out)) == 3  # trials ever begun


@pytest.mark.parametrize("place", ["evaluate", "train", "_drawn"])
def test_whatever_was_not_put_down_is_done_and_nothing_twice(
    whole, drawn, tmp_path, monkeypatch, place
):
    """Killed when a trial is trained but not told, drawn but not begun, numbered but not drawn."""
    real = getattr(trials, place)
    calls = []

    def killed(*given, **named):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(trials, place, killed)
        with pytest.raises(Killed):
            tune(SMALL, *drawn, SPACE, out=tmp_path / "run", trials=3)
    with (tmp_path / "run" / trials.JOURNAL).open("a") as handle:
        handle.write('{"op_code":4,"wor')  # torn by a crash
    steps = []
    again = tune(SMALL, *drawn, SPACE, out=tmp_path / "run", trials=3, listen=steps.append)
    trained = sum(each.task == "training" and each.done == 1 for each in steps)
    assert trained == (1 if place == "evaluate" else 2)
    pd.testing.assert_frame_equal(table_of(again), table_of(whole))


def test_a_finished_search_says_the_same_and_more_trials_go_on(whole, drawn, tmp_path):
    import shutil

    out = shutil.copytree(whole.folder, tmp_path / "run")
    steps = []
    again = tune(SMALL, *drawn, SPACE, out=out, trials=3, listen=steps.append)
    assert not any(each.task == "training" for each in steps)
    pd.testing.assert_frame_equal(again.trials, whole.trials)
    more = tune(SMALL, *drawn, SPACE, out=out, trials=4)
    assert len(more.trials) == 4
    pd.testing.assert_frame_equal(more.trials.iloc[:3][["value"]], whole.trials[["value"]])


def test_a_trial_that_somebody_works_on_is_left_to_him(drawn, tmp_path, monkeypatch):
    out = tmp_path / "run"
    space = {"batch": {"choices": [8, 16]}}

    def end(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(trials, "train", end)
        with pytest.raises(Killed):
            tune(SMALL, *drawn, space, out=out, sampler="grid")
    with FileLock(out / ".locks" / "trial_0000"):
        others = tune(SMALL, *drawn, space, out=out, sampler="grid")
        assert list(others.trials["state"]) == ["running", "complete"]
    mine = tune(SMALL, *drawn, space, out=out, sampler="grid")
    assert list(mine.trials["state"]) == ["complete", "complete"]


def test_other_settings_are_refused_with_the_difference(whole, drawn):
    space = {**SPACE, "batch": {"low": 8, "high": 64}}
    with pytest.raises(RunError) as caught:
        tune(SMALL.but({"seed": 4}), *drawn, space, out=whole.folder, sampler="random")
    for words in ("seed: 0 -> 4", "batch: {'low': 8, 'high': 32", "sampler: tpe -> random"):
        assert words in str(caught.value)


def test_grid_tries_every_combination_in_order(drawn, tmp_path):
    space = {"phases.0.optim.lr": [1e-3, 1e-2], "loss.kind": ["cross_entropy", "focal"]}
    made = tune(SMALL, *drawn, space, out=tmp_path / "run", sampler="grid")
    tried = list(zip(made.trials["phases.0.optim.lr"], made.trials["loss.kind"], strict=True))
    assert tried == [
        (1e-3, "cross_entropy"),
        (1e-3, "focal"),
        (1e-2, "cross_entropy"),
        (1e-2, "focal"),
    ]
    with pytest.raises(SettingsError, match=r"phases\.0\.optim\.lr: grid needs choices"):
        tune(SMALL, *drawn, SPACE, out=tmp_path / "other", sampler="grid")


def pretending(monkeypatch, outcome):
    """Replace training by a function of the recipe that gives val figures per epoch, or raises."""

    class Done:
        def __init__(self, value):
            value = float(value)
            self.predictions = value

    def fake(recipe, data, split, *, after_epoch, **_):
        values = outcome(recipe)
        rows = []
        for epoch, value in enumerate(values, start=1):
            rows.append({"epoch": epoch, "val_macro_auroc": value})
            for each in after_epoch:
                each(rows)
        return Done(max(values))

    class Figure(dict):
        def __missing__(self, name):
            return self

    def score(value, **_):
        figure = Figure()
        figure.value = value
        return figure

    monkeypatch.setattr(trials, "train", fake)
    monkeypatch.setattr(trials, "evaluate", score)


def test_tpe_learns_and_random_does_not(drawn, tmp_path, monkeypatch):
    def peak(recipe):
        return [1 - abs(recipe.model.drop - 0.7)]

    pretending(monkeypatch, peak)
    found = {}
    for sampler in ("tpe", "random"):
        made = tune(
            SMALL, *drawn, {"model.drop": "0..0.95"}, out=tmp_path / sampler, sampler=sampler,
            trials=40,
        )  # fmt: skip
        found[sampler] = (made.trials["model.drop"][20:] - 0.7).abs().median()
    assert found["tpe"] < 0.6 * found["random"]


def test_pruning_ends_trials_below_the_median(drawn, tmp_path, monkeypatch):
    def figures(recipe):
        good = recipe.batch < 16
        return [0.8, 0.85, 0.9] if good else [0.3, 0.3, 0.99]

    pretending(monkeypatch, figures)
    space = {"batch": [8, 9, 10, 11, 12, 20]}
    options = {"sampler": "grid", "prune": True}
    made = tune(SMALL, *drawn, space, out=tmp_path / "run", **options)
    assert list(made.trials["state"]) == ["complete"] * 5 + ["pruned"]
    assert made.trials["why"].iloc[-1] == "below the median of the others"
    assert made.best.batch == 8  # of equals the first
    unpruned = tune(SMALL, *drawn, space, out=tmp_path / "all", sampler="grid")
    assert unpruned.best.batch == 20


def test_trials_that_cannot_be_trained_are_told_and_the_others_go_on(drawn, tmp_path, monkeypatch):
    real = trials.train

    def diverging(recipe, *given, **named):
        if recipe.batch == 8:
            raise DivergenceError("Training diverged in epoch 3.")
        return real(recipe, *given, **named)

    monkeypatch.setattr(trials, "train", diverging)
    space = {"batch": [8, 32], "model.name": ["inception_v3", "test_efficientnet"]}
    said = []
    made = tune(
        SMALL, *drawn, space, out=tmp_path / "run", sampler="grid",
        listen=lambda event: said.append(event.text) if isinstance(event, Notice) else None,
    )  # fmt: skip
    assert list(made.trials["state"]) == ["pruned", "pruned", "fail", "complete"]
    assert made.best_trial == 3
    assert made.trials["why"].iloc[0].startswith("Training diverged")
    assert "images.size" in made.trials["why"].iloc[2]
    assert any(text.startswith("Trial 2 cannot be trained") for text in said)


@pytest.mark.parametrize("place", ["evaluate", "train"])
def test_a_trial_that_fails_does_not_hold_up_the_others(drawn, tmp_path, monkeypatch, place):
    pretending(monkeypatch, lambda recipe: [0.1 * recipe.batch])
    real = getattr(trials, place)
    calls = []

    def failing(*given, **named):
        calls.append(1)
        if len(calls) == 1:
            error = {"evaluate": DataError, "train": SettingsError}[place]
            raise error("nothing of a class is left")
        return real(*given, **named)

    monkeypatch.setattr(trials, place, failing)
    made = tune(SMALL, *drawn, {"batch": [8, 9]}, out=tmp_path / "run", sampler="grid")
    assert list(made.trials["state"]) == ["fail", "complete"]
    assert made.trials["why"].iloc[0] == "nothing of a class is left"


def test_a_full_disk_stops_the_search_and_leaves_the_trial_to_the_next_call(
    drawn, tmp_path, monkeypatch
):
    pretending(monkeypatch, lambda _: [0.5])
    with monkeypatch.context() as patch:

        def full(*_, **__):
            raise DataError("The disk is full")

        patch.setattr(trials, "train", full)
        with pytest.raises(DataError, match="disk is full"):
            tune(SMALL, *drawn, {"batch": [8]}, out=tmp_path / "run", sampler="grid")
    made = tune(SMALL, *drawn, {"batch": [8]}, out=tmp_path / "run", sampler="grid")
    assert list(made.trials["state"]) == ["complete"]


def test_a_report_that_a_kill_has_lost_is_made_up_for(drawn, tmp_path, monkeypatch):
    rows = [{"epoch": number, "val_macro_auroc": number / 10} for number in (1, 2, 3)]
    with monkeypatch.context() as patch:

        def killed(*_, after_epoch, **__):
            after_epoch[0](rows[:1])
            raise Killed

        patch.setattr(trials, "train", killed)
        with pytest.raises(Killed):
            tune(SMALL, *drawn, {"batch": [8]}, out=tmp_path / "run", sampler="grid", prune=True)

    def resumed(*_, after_epoch, **__):
        after_epoch[0](rows)
        raise DivergenceError("over")

    monkeypatch.setattr(trials, "train", resumed)
    with pytest.raises(RunError, match="None of the 1 trials"):
        tune(SMALL, *drawn, {"batch": [8]}, out=tmp_path / "run", sampler="grid", prune=True)
    told = [each["intermediate_value"] for each in journal(tmp_path / "run") if "step" in each]
    assert told == [0.1, 0.2, 0.3]


def test_a_split_or_recipe_that_cannot_be_is_refused_before_anything_is_written(drawn, tmp_path):
    data, parts = drawn
    with pytest.raises(DataError, match="no fold 3"):
        tune(SMALL, data, parts, SPACE, out=tmp_path / "run", fold=3)
    own = parts.table.assign(fold_0=parts.table["fold_0"].replace("val", "train"))
    write_csv(tmp_path / "own.csv", own[["image_id", "fold_0"]])
    with pytest.raises(DataError, match="no val part"):
        tune(SMALL, data, Split.open(tmp_path / "own.csv"), SPACE, out=tmp_path / "run")
    times = SMALL.but({"sampling": {"kind": "oversampled", "times": {"nevus": 2}}})
    with pytest.raises(SettingsError, match="no class nevus"):
        tune(times, data, parts, SPACE, out=tmp_path / "run")
    with pytest.raises(SettingsError, match="resnet19"):
        tune(SMALL.but({"model.name": "resnet19"}), data, parts, SPACE, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_space_of_tuples_goes_on(drawn, tmp_path, monkeypatch):
    pretending(monkeypatch, lambda _: [0.5])
    space = {"images.size": {"choices": [(32, 32), (48, 32)]}}
    for _ in range(2):
        made = tune(SMALL, *drawn, space, out=tmp_path / "run", sampler="grid")
    assert len(made.trials) == 2


def test_other_metadata_are_another_search_where_networks_see_them(drawn, tmp_path, monkeypatch):
    pretending(monkeypatch, lambda _: [0.5])
    data, parts = drawn
    other = replace(data, table=data.table.assign(site="back"))
    fusion = {"model.fusion.kind": ["none", "gating"]}
    for name, space in (("images", {"batch": [8]}), ("fused", fusion)):
        out = tmp_path / name
        tune(SMALL, data, parts, space, out=out, sampler="grid")
        tune(SMALL, data, parts, space, out=out, sampler="grid")
        if name == "images":
            marker = json.loads((out / "tune.json").read_text())
            assert marker["identity"].pop("metadata") == ""
            (out / "tune.json").write_text(json.dumps(marker))  # as of before there was one
            tune(SMALL, other, parts, space, out=out, sampler="grid")
        else:
            with pytest.raises(RunError, match="metadata: "):
                tune(SMALL, other, parts, space, out=out, sampler="grid")


def test_a_search_without_a_finished_trial_says_why(drawn, tmp_path):
    with pytest.raises(RunError, match=r"None of the 1 trials.*\n.*images\.size"):
        tune(SMALL, *drawn, {"model.name": ["inception_v3"]}, out=tmp_path / "run", trials=1)


def test_no_trial_begins_when_time_is_up(drawn, tmp_path, monkeypatch):
    now = [1e9]
    monkeypatch.setattr(time, "time", lambda: now[0])

    def an_hour(recipe):
        now[0] += 3600
        return [recipe.model.drop]

    pretending(monkeypatch, an_hour)
    space = {"model.drop": "0..0.9"}
    made = tune(SMALL, *drawn, space, out=tmp_path / "run", minutes=150)
    assert len(made.trials) == 3  # the third began after two hours
    assert len(tune(SMALL, *drawn, space, out=tmp_path / "run", minutes=150).trials) == 3
    assert len(tune(SMALL, *drawn, space, out=tmp_path / "run", minutes=180).trials) == 6
    both = tune(SMALL, *drawn, space, out=tmp_path / "both", minutes=1000, trials=2)
    assert len(both.trials) == 2


def test_without_optuna_it_says_what_to_install(drawn, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SettingsError, match=r"optuna.*\.\[train,tune\]"):
        tune(SMALL, *drawn, SPACE, out=tmp_path / "run")


# The verb


def files(drawn, folder):
    data, parts = drawn
    SMALL.but({"batch": 64}).save(folder / "recipe.yaml")
    parts.save(folder / "split.csv")
    (folder / "space.yaml").write_text(
        "phases.0.optim.lr: {low: 1e-4, high: 1e-2, log: true}\nbatch: [8, 16]\n"
    )
    words = ["recipe.yaml", "--data", str(data.home), "--split", "split.csv"]
    return ["tune", *words, "--space", "space.yaml"]


def test_the_verb_takes_a_file_and_words_and_says_that_test_is_unseen(
    drawn, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = files(drawn, tmp_path)
    words += ["--try", "batch=24..32", "--try", "loss.kind=focal", "--trials", "1", "--out", "s"]
    assert main([*words, "--model.drop", "0.1"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "test was neither predicted nor scored" in out
    assert "Next: lesionlab train s/best.yaml" in out
    best = Tuning(tmp_path / "s").best
    assert 24 <= best.batch <= 32
    assert best.loss.kind == "focal"
    assert best.model.drop == 0.1
    assert main([*words[:-2], "--out", "t", "--try", "seed=1..3", "--workers", "0"]) == 2
    assert "2 faults" in capsys.readouterr().err


def command(words):
    return [sys.executable, "-m", "lesionlab", *words]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_kill_9_takes_nothing_from_a_search(drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*files(drawn, tmp_path), "--trials", "4", "--phases.0.epochs", "3"]
    quiet = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "env": environment(),
        "start_new_session": True,
    }
    subprocess.run(command([*words, "--out", "whole"]), check=True, **quiet)
    for number in (1, 2):
        process = subprocess.Popen(command([*words, "--out", "killed"]), **quiet)
        waited_for = tmp_path / "killed" / f"trial_{number:04d}" / "checkpoints" / "last.ckpt"
        while process.poll() is None and not waited_for.exists():
            time.sleep(0.005)
        assert process.poll() is None, "the search ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    stamp = (tmp_path / "killed" / "trial_0000" / PREDICTIONS).stat().st_mtime_ns
    subprocess.run(command([*words, "--out", "killed"]), check=True, **quiet)
    assert (tmp_path / "killed" / "trial_0000" / PREDICTIONS).stat().st_mtime_ns == stamp
    searches = [Tuning(tmp_path / name) for name in ("whole", "killed")]
    pd.testing.assert_frame_equal(*map(table_of, searches))
    for number in range(4):
        left, right = (
            (each.folder / f"trial_{number:04d}" / PREDICTIONS).read_bytes() for each in searches
        )
        assert left == right


def lock_is_free(path):
    with FileLock(path, timeout=30):
        return True


@pytest.mark.slow
def test_workers_share_the_trials_and_die_with_their_parent(drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*files(drawn, tmp_path), "--trials", "5", "--workers", "2", "--out", "s"]
    words += ["--phases.0.epochs", "4"]
    process = subprocess.Popen(
        command(words), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder = tmp_path / "s"

    def unfinished():
        return [
            each
            for each in folder.glob("trial_*/" + INFO)
            if '"training"' in each.read_text(encoding="utf-8")
        ]

    while process.poll() is None and len(unfinished()) < 2:  # two at the same time
        time.sleep(0.01)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for each in unfinished():
        assert lock_is_free(folder / ".locks" / each.parent.name)  # nobody is at it any more
    assert main(words) == 0
    made = Tuning(folder)
    assert list(made.trials["trial"]) == [0, 1, 2, 3, 4]
    assert set(made.trials["state"]) == {"complete"}
    assert sum(each["op_code"] == 4 for each in journal(folder)) == 5


@pytest.mark.slow
def test_a_worker_that_dies_is_told_and_its_trial_is_not_lost(drawn, tmp_path, monkeypatch):
    from lesionlab.training.tuning import worker_processes

    monkeypatch.setattr(worker_processes, "_CODE", "raise SystemExit('no memory')")
    with pytest.raises(RunError, match=r"2 of 2 workers ended early: no memory.*goes on"):
        tune(SMALL, *drawn, SPACE, out=tmp_path / "run", trials=1, workers=2)
    monkeypatch.undo()
    made = tune(SMALL, *drawn, SPACE, out=tmp_path / "run", trials=1, workers=2)
    assert list(made.trials["state"]) == ["complete"]
