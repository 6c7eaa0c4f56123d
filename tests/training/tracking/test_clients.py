"""A history is passed on whole, once, and goes on where it was."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from drawn_runs import draw_predictions, make_run

from lesionlab.errors import MissingExtraError, SettingsError
from lesionlab.training.tracking.clients import Mlflow, Tracked, Wandb, check, tracked


class Notebook:
    """Takes notes of what it is told."""

    def __init__(self):
        self.begun, self.epochs, self.ended = [], [], []

    def begin(self, name, settings, known):
        self.begun.append((name, settings["model.name"], known))
        return known or "id-1"

    def log(self, figures, epoch):
        self.epochs.append((epoch, figures))

    def end(self, facts, *, finished):
        self.ended.append((finished, facts))


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "mine", draw_predictions(), None)


def rows(count):
    return [{"epoch": n + 1, "val_loss": 1.0 / (n + 1)} for n in range(count)]


def test_every_epoch_is_passed_on_once_even_if_the_run_was_stopped(run):
    first, second = Notebook(), Notebook()
    before = Tracked(run, {"mlflow": first})
    before(rows(1))
    before(rows(2))
    after = Tracked(run, {"mlflow": second})
    after(rows(3))
    after.end()
    assert first.begun == [("mine", "mobilenetv4_conv_small", "")]
    assert second.begun == [("mine", "mobilenetv4_conv_small", "id-1")]
    assert [epoch for epoch, _ in first.epochs + second.epochs] == [1, 2, 3]
    assert second.epochs[0][1] == {"val_loss": pytest.approx(1 / 3)}
    assert second.ended == [
        (True, {"kept_epoch": 5, "kept_value": 0.55, "minutes": 12.5, "parameters": 2_500_000})
    ]


def test_a_place_that_is_away_costs_no_training_and_gets_what_it_missed(run):
    place, told = Notebook(), []
    follower = Tracked(run, {"wandb": place}, told.append)
    log, place.log = place.log, lambda *_: 1 / 0
    follower(rows(1))
    follower(rows(2))
    place.log = log
    follower(rows(3))
    assert [epoch for epoch, _ in place.epochs] == [1, 2, 3]
    assert [notice.level for notice in told] == ["warning"]


def test_a_place_that_is_unknown_or_not_installed_is_refused_before_training(monkeypatch):
    with pytest.raises(SettingsError, match="mlflow and wandb"):
        check(["comet"])
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"lesionlab\[wandb\]"):
        check(["wandb"])


def test_without_a_place_nothing_is_written(run):
    with tracked(run, ()) as trackers:
        assert trackers == []
    assert not (run.folder / "tracking.json").exists()


def test_mlflow_gets_settings_figures_and_the_end(run, monkeypatch, tmp_path):
    """The real client where it is installed, on files of this folder."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    with tracked(run, ["mlflow"]) as (follower,):
        follower(rows(2))
    client = mlflow.MlflowClient()
    (home,) = [e for e in client.search_experiments() if e.name == "lesionlab"]
    (found,) = client.search_runs([home.experiment_id])
    assert found.data.params["model.name"] == "mobilenetv4_conv_small"
    history = client.get_metric_history(found.info.run_id, "val_loss")
    assert [(each.step, each.value) for each in history] == [(1, 1.0), (2, 0.5)]
    assert found.info.status == "FINISHED"


def test_wandb_writes_an_offline_run(run, monkeypatch):
    """The real client where it is installed, without a network."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with tracked(run, ["wandb"]) as (follower,):
        follower(rows(2))
    assert list((run.folder / "wandb").glob("offline-run-*/run-*.wandb"))


def test_what_the_two_clients_are_asked_for(run, monkeypatch):
    """Their calls, with stand-ins of the clients: CI has neither package."""
    asked = []

    def note(name, **answer):
        def call(*args, **kwargs):
            asked.append((name, args))
            return SimpleNamespace(**answer)

        return call

    client = SimpleNamespace(
        get_experiment_by_name=lambda _: None,
        create_experiment=lambda _: "7",
        create_run=note("create_run", info=SimpleNamespace(run_id="abc")),
        log_param=note("param"),
        log_metric=note("metric"),
        set_terminated=note("end"),
    )
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda: client))
    follower = Tracked(run, {"mlflow": Mlflow()})
    follower(rows(1))
    follower.end()
    assert ("create_run", ("7",)) in asked
    assert ("param", ("abc", "batch", 64)) in asked
    assert ("metric", ("abc", "val_loss", 1.0)) in asked
    assert asked[-1] == ("end", ("abc", "FINISHED"))

    asked.clear()
    started = SimpleNamespace(
        id="xyz",
        log=note("log"),
        finish=note("finish"),
        summary=SimpleNamespace(update=note("sum")),
    )
    fake = SimpleNamespace(init=lambda **given: asked.append(("init", given["project"])) or started)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    follower = Tracked(run, {"wandb": Wandb(run.folder)})
    follower(rows(1))
    follower.end()
    assert [name for name, _ in asked] == ["init", "log", "sum", "finish"]
