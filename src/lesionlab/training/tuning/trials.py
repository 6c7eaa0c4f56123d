"""The trials of a search: claimed, drawn, trained and put down, by one process or by several.

Trials are kept in optuna's journal, a file to which every process only appends; each trial is an
ordinary run folder. A process holds a lock for the trial that it works on, which the system takes
from it when it dies, so that the next one knows which trials to go on with.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.splits import Split
from lesionlab.errors import DataError, DivergenceError, SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.files import write_csv
from lesionlab.models.device import Device
from lesionlab.progress import Listener, Notice, Step
from lesionlab.recipe.schema import Recipe
from lesionlab.run import CHECKPOINTS, INFO, Run
from lesionlab.training.lightning_module import hash_seed
from lesionlab.training.train import train
from lesionlab.training.tuning.search_space import Choices, Range, Space, applied, combinations

if TYPE_CHECKING:
    import optuna
    from filelock import BaseFileLock

JOURNAL = "journal.log"
TRIALS = "trials.csv"

Sampler = Literal["tpe", "random", "grid"]


@dataclass(frozen=True)
class Job:
    """What every process of a search needs to know.

    Attributes:
        trials: how many in all, those of earlier calls included; None for no limit.
        deadline: when no further trial begins, in seconds since 1970; None for never.
    """

    recipe: Recipe
    data: Catalogue
    split: Split
    fold: int
    space: Space
    out: Path
    sampler: Sampler
    prune: bool
    trials: int | None
    deadline: float | None
    cache_to: Path | None
    device: Device

    @property
    def metric(self) -> str:
        """What trials are compared by, on val."""
        return self.recipe.select.metric

    def trial_folder(self, number: int) -> Path:
        """Where a trial's run is."""
        return self.out / f"trial_{number:04d}"

    def lock(self, name: str) -> BaseFileLock:
        """A lock between processes, free again when its holder dies."""
        from filelock import FileLock

        folder = self.out / ".locks"
        folder.mkdir(exist_ok=True)
        return FileLock(folder / name)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence what optuna says to everybody; what matters to a user goes through `listen`."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


def open_study(job: Job) -> optuna.Study:
    """Open the journal of a search, or begin one."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = job.out / JOURNAL
    lock: Any = job.lock("journal")  # optuna's own outlives its holder by half a minute
    with lock:
        _cut_torn_line(path)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path), lock_obj=lock)),
        study_name="tune",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner() if job.prune else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )


def _cut_torn_line(path: Path) -> None:
    """Forget a last line that was not written to its end, which optuna would stumble over."""
    if path.is_file() and not (text := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


def work(job: Job, study: optuna.Study, listen: Listener) -> None:
    """Train trials until there are enough of them or time is up."""
    while claimed := _claim(job, study):
        trial, lock = claimed
        try:
            tell(job, study, listen)
            _run(job, study, trial, _steps_and_warnings(listen))
            write_table(job, study)
        finally:
            lock.release()
    tell(job, study, listen)


def _steps_and_warnings(listen: Listener) -> Listener:
    """What of a trial's own messages is worth a user's eye."""
    return lambda event: (
        listen(event) if isinstance(event, Step) or event.level == "warning" else None
    )


def trials_of(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """All trials of a search, in their order."""
    return study.get_trials(deepcopy=False)


def _claim(job: Job, study: optuna.Study) -> tuple[optuna.Trial, BaseFileLock] | None:
    """A trial that nobody works on: one that was left unfinished, or else a new one."""
    import optuna
    from filelock import Timeout

    with job.lock("claim"):
        for number, left in enumerate(trials_of(study)):
            if left.state.is_finished():
                continue
            lock = job.lock(f"trial_{number:04d}")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue  # somebody is at it
            if not trials_of(study)[number].state.is_finished():  # nor was until a moment ago
                study.sampler = _sampler(job, number)
                return _drawn(job, optuna.Trial(study, left._trial_id)), lock
            lock.release()
        number = len(trials_of(study))
        if job.trials is not None and number >= job.trials:
            return None
        if job.deadline is not None and time.time() >= job.deadline:
            return None
        lock = job.lock(f"trial_{number:04d}")
        lock.acquire()
        study.sampler = _sampler(job, number)
        return _drawn(job, study.ask()), lock


def _sampler(job: Job, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial; seeded by its number, so that no crash changes what it draws."""
    import optuna

    seed = hash_seed(job.recipe.seed, 6, number) % 2**32
    if job.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    drawn = optuna.samplers.RandomSampler(seed=seed)
    if job.sampler == "random":
        return drawn
    values = combinations(job.space)[number]
    fixed = {key: json.dumps(value) for key, value in values.items()}
    return optuna.samplers.PartialFixedSampler(fixed, drawn)


def _drawn(job: Job, trial: optuna.Trial) -> optuna.Trial:
    """The trial with a value for every key; what it had stays, if it was stopped in between."""
    for key, each in job.space.items():
        if isinstance(each, Choices):
            trial.suggest_categorical(key, [json.dumps(value) for value in each.values])
        elif each.whole:
            trial.suggest_int(key, int(each.low), int(each.high), log=each.log)
        else:
            trial.suggest_float(key, each.low, each.high, log=each.log)
    return trial


def values_of(job: Job, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's values as a recipe takes them."""
    return {
        key: drawn[key] if isinstance(each, Range) else json.loads(drawn[key])
        for key, each in job.space.items()
        if key in drawn
    }


class _Pruned(Exception):
    """A trial that is not worth finishing."""


def _run(job: Job, study: optuna.Study, trial: optuna.Trial, listen: Listener) -> None:
    """Train one trial to its end and put down what came of it."""
    from optuna.trial import TrialState

    folder = job.trial_folder(trial.number)

    def after_epoch(rows: Sequence[Mapping[str, float]]) -> None:
        known = study.trials[trial.number].intermediate_values
        for row in rows:  # a kill between its checkpoint and its report may have lost an epoch's
            if (epoch := int(row["epoch"])) not in known:
                trial.report(float(row[f"val_{job.metric}"]), epoch)
        if trial.should_prune():
            raise _Pruned

    state, why, value = TrialState.COMPLETE, "", None
    run = None
    try:
        run = train(
            applied(job.recipe, values_of(job, trial.params)),
            job.data,
            job.split,
            out=folder,
            fold=job.fold,
            cache_to=job.cache_to,
            device=job.device,
            parts=("val",),
            after_epoch=(after_epoch,) if job.prune else (),
            listen=listen,
        )
    except _Pruned:
        state, why = TrialState.PRUNED, "below the median of the others"
    except DivergenceError as error:  # pruned: for the sampler as bad as can be
        state, why = TrialState.PRUNED, str(error)
    except (SettingsError, torch.OutOfMemoryError) as error:
        state, why = TrialState.FAIL, str(error)
        listen(Notice(f"Trial {trial.number} cannot be trained: {why}", "warning"))
    if run:
        try:
            value = evaluate(run.predictions, part="val", replicates=0)[job.metric].value
            if math.isnan(value):
                raise DataError(f"Part val has no {job.metric}: it has images of one class alone.")
        except DataError as error:  # the same would be said of it at every call
            state, why = TrialState.FAIL, str(error)
            listen(Notice(f"Trial {trial.number} cannot be scored: {why}", "warning"))
    if why:
        trial.set_user_attr("why", why)
    study.tell(trial.number, value, state)
    if why:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def tell(job: Job, study: optuna.Study, listen: Listener) -> None:
    """Tell how far the search is."""
    trials = trials_of(study)
    values = [(each.value, -each.number) for each in trials if each.value is not None]
    note = ""
    if values:
        best, number = max(values)
        note = f"best {best:.3f} (trial {-number})"
    done = sum(each.state.is_finished() for each in trials)
    of_all = f"/{job.trials}" if job.trials else ""
    line = f"trials finished: {done}{of_all}" + (f", {note}" if note else "")
    listen(Step("trials", done, job.trials, "trials", note, line))


def write_table(job: Job, study: optuna.Study) -> pd.DataFrame:
    """Write trials.csv, one row per trial in their order, and give it."""
    with job.lock("claim"):
        table = _table(job, study)
        write_csv(job.out / TRIALS, table)
    return table


def _table(job: Job, study: optuna.Study) -> pd.DataFrame:
    rows = []
    for each in trials_of(study):
        folder = job.trial_folder(each.number)
        info = Run(folder).info if (folder / INFO).is_file() else {}
        values = values_of(job, each.params)
        rows.append(
            {
                "trial": each.number,
                "state": each.state.name.lower(),
                "value": each.value,
                **{name: info.get(name) for name in ("kept_epoch", "epochs", "minutes")},
                **{key: _shown(values.get(key)) for key in job.space},
                "why": " ".join(str(each.user_attrs.get("why", "")).split()),
            }
        )
    return pd.DataFrame(rows)


def _shown(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value
