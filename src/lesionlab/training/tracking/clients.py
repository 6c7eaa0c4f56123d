"""The history once more, where people keep their experiments: MLflow and Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from lesionlab.errors import MissingExtraError, SettingsError
from lesionlab.files import read_json, write_json
from lesionlab.progress import Listener, Notice, silent
from lesionlab.recipe import validation
from lesionlab.run import Run

Tracker = Literal["mlflow", "wandb"]
"""Where a history may go besides history.csv and TensorBoard's files."""

PROJECT = "lesionlab"
IDS = "tracking.json"  # in the run folder: a run that goes on goes on there, too


class Tracking(Protocol):
    """What takes an experiment in."""

    def begin(self, name: str, settings: Mapping[str, Any], known: str) -> str:
        """Open the experiment, the one of this id if there is one; gives its id."""

    def log(self, figures: Mapping[str, float], epoch: int) -> None:
        """Take in the figures of an epoch."""

    def end(self, facts: Mapping[str, Any], *, finished: bool) -> None:
        """Close it, with what a finished run says of itself."""


class Mlflow:
    """MLflow, at MLFLOW_TRACKING_URI, in the experiment MLFLOW_EXPERIMENT_NAME or `lesionlab`.

    Without a server its client keeps files if MLFLOW_ALLOW_FILE_STORE is true, or a database with
    the whole package, `mlflow`.
    """

    def __init__(self) -> None:
        import mlflow

        self._client = mlflow.MlflowClient()
        self._id = ""

    def begin(self, name: str, settings: Mapping[str, Any], known: str) -> str:
        """As `Tracking.begin`."""
        if known:
            self._id = known
            self._client.set_terminated(known, "RUNNING")
            return known
        wanted = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(wanted)
        home = found.experiment_id if found else self._client.create_experiment(wanted)
        self._id = str(self._client.create_run(home, run_name=name).info.run_id)
        for key, value in settings.items():
            self._client.log_param(self._id, key, value)
        return self._id

    def log(self, figures: Mapping[str, float], epoch: int) -> None:
        """As `Tracking.log`."""
        for key, value in figures.items():
            self._client.log_metric(self._id, key, value, step=epoch)

    def end(self, facts: Mapping[str, Any], *, finished: bool) -> None:
        """As `Tracking.end`."""
        for key, value in facts.items():
            self._client.log_metric(self._id, key, value)
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")


class Wandb:
    """Weights & Biases, in the project WANDB_PROJECT or `lesionlab`; WANDB_MODE=offline is heeded.

    Args:
        folder: where its own files go.
    """

    def __init__(self, folder: Path) -> None:
        import wandb

        self._wandb, self._folder = wandb, folder
        self._run: Any = None

    def begin(self, name: str, settings: Mapping[str, Any], known: str) -> str:
        """As `Tracking.begin`."""
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            dir=str(self._folder),
            config=dict(settings),
            id=known or None,
            resume="allow" if known else None,
        )
        return str(self._run.id)

    def log(self, figures: Mapping[str, float], epoch: int) -> None:
        """As `Tracking.log`."""
        self._run.log(dict(figures), step=epoch)

    def end(self, facts: Mapping[str, Any], *, finished: bool) -> None:
        """As `Tracking.end`."""
        self._run.summary.update(dict(facts))
        self._run.finish(exit_code=0 if finished else 1)


class Tracked:
    """Passes each new epoch of a history on; called as every `AfterEpoch` is.

    A place that cannot be begun is refused before training; one that fails later ends no training:
    it is warned of once, and what it missed is passed on with the next epoch that it takes.

    Args:
        run: begun; its name, settings and folder are used.
        places: by name, where to.
        listen: told of a place that fails.

    Raises:
        SettingsError: if a place cannot be begun; in its own words.
    """

    def __init__(self, run: Run, places: Mapping[str, Tracking], listen: Listener = silent) -> None:
        self._run, self._places, self._listen = run, places, listen
        self._failed: set[str] = set()
        path = run.folder / IDS
        known: dict[str, Any] = read_json(path) if path.is_file() else {}
        settings = dict(validation.leaves(run.recipe.to_dict()))
        self._state: dict[str, dict[str, Any]] = {}
        for name, place in places.items():
            before = known.get(name, {})
            try:
                identity = place.begin(run.name, settings, str(before.get("id", "")))
            except Exception as error:  # every client has kinds of its own
                raise SettingsError(f"--track {name} could not begin: {error}") from error
            self._state[name] = {"id": identity, "epochs": int(before.get("epochs", 0))}
        write_json(path, {**known, **self._state})

    def __call__(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Pass on what of a history was not passed on yet."""
        for name, place in self._places.items():
            with self._forgiven(name):
                for row in rows[self._state[name]["epochs"] :]:
                    figures = {key: float(value) for key, value in row.items() if key != "epoch"}
                    place.log(figures, int(row["epoch"]))
                    self._state[name]["epochs"] += 1
        path = self._run.folder / IDS
        write_json(path, {**read_json(path), **self._state})

    def end(self) -> None:
        """Close every place; of a finished run with what run.json says in numbers."""
        info = self._run.info
        finished = info["state"] == "complete"
        names = ("kept_epoch", "kept_value", "minutes", "parameters", "trainable")
        facts = {name: info[name] for name in names if name in info}
        for name, place in self._places.items():
            with self._forgiven(name):
                place.end(facts if finished else {}, finished=finished)

    @contextmanager
    def _forgiven(self, name: str) -> Iterator[None]:
        """Warn of what a place raises, once, and go on."""
        try:
            yield
        except Exception as error:  # a server that is away must not cost a night of training
            if name not in self._failed:
                self._failed.add(name)
                self._listen(Notice(f"--track {name}: {error}. Training goes on.", "warning"))


@contextmanager
def tracked(
    run: Run, track: Sequence[Tracker], listen: Listener = silent
) -> Iterator[list[Tracked]]:
    """A tracker of a run's history for as long as it is trained; none where none is wanted.

    Args:
        run: begun.
        track: where to.
        listen: told of a place that fails.
    """
    if not track:
        yield []
        return
    places: dict[str, Tracking] = {name: _opened(name, run.folder) for name in dict.fromkeys(track)}
    follower = Tracked(run, places, listen)
    try:
        yield [follower]
    finally:
        follower.end()


def check(track: Sequence[str]) -> None:
    """Make sure, before anything is trained, that the places are known and their packages there.

    Raises:
        SettingsError: if there is no such place.
        MissingExtraError: if its package is not installed.
    """
    from importlib.util import find_spec

    for name in track:
        if name not in ("mlflow", "wandb"):
            raise SettingsError(f"--track takes mlflow and wandb, not {name!r}.")
        if find_spec(name) is None:
            error = ModuleNotFoundError(f"No module named {name!r}", name=name)
            raise MissingExtraError.of(f"--track {name}", error, name) from error


def _opened(name: str, folder: Path) -> Tracking:
    return Mlflow() if name == "mlflow" else Wandb(folder)
