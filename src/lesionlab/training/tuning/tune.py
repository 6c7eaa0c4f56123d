"""Tune: a search over settings of a recipe, judged on val alone, in as many processes as asked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
import torch

from lesionlab.advice import command
from lesionlab.cluster.spread import check, spread
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.splits import Split
from lesionlab.display import Result
from lesionlab.errors import RunError, SettingsError
from lesionlab.files import read_json, write_json, write_text
from lesionlab.models import factory
from lesionlab.models.device import Device
from lesionlab.progress import Listener, silent
from lesionlab.recipe.schema import NoFusion, Recipe
from lesionlab.run import INFO, SPLIT
from lesionlab.training.datasets import check_sampling
from lesionlab.training.run_folders import open_folder, seen_metadata
from lesionlab.training.train import check_parts
from lesionlab.training.tuning.search_space import applied, combinations, plain, read_space
from lesionlab.training.tuning.trials import (
    TRIALS,
    Job,
    Sampler,
    open_study,
    quiet_optuna,
    tell,
    trials_of,
    values_of,
    work,
    write_table,
)
from lesionlab.training.tuning.worker_processes import work_in_processes

if TYPE_CHECKING:
    import optuna

MARKER = "tune.json"
BEST = "best.yaml"
TRIALS_IF_UNSAID = 20


@dataclass(frozen=True, repr=False)
class Tuning(Result):
    """A folder that holds a search.

    Files: tune.json (identity, space), recipe.yaml (what it started from), journal.log, trial_0000,
    trial_0001, ... (run folders that predict val alone), trials.csv and best.yaml.

    Attributes:
        folder: where it is.
    """

    _tables: ClassVar[tuple[str, ...]] = ("trials",)

    folder: Path

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial: trial, state, value, kept_epoch, epochs, minutes, each key, why."""
        return pd.read_csv(self.folder / TRIALS)

    @property
    def best_trial(self) -> int:
        """The finished trial with the highest value, of equals the first."""
        done = self.trials[self.trials["state"] == "complete"]
        return int(done["trial"].to_numpy()[done["value"].argmax()])

    @property
    def value(self) -> float:
        """The best trial's selection metric on val: the best of many, so it flatters."""
        return float(self.trials.set_index("trial")["value"][self.best_trial])

    @property
    def best(self) -> Recipe:
        """The best trial's recipe."""
        return Recipe.load(self.folder / BEST)


def tune(
    recipe: Recipe | str | Path,
    data: Catalogue | str | Path,
    split: Split | str | Path,
    space: Mapping[str, Any],
    *,
    out: str | Path,
    fold: int = 0,
    trials: int | None = None,
    minutes: float | None = None,
    sampler: Sampler = "tpe",
    prune: bool = False,
    workers: int = 1,
    on: str = "local",
    cpus: int | None = None,
    gpus: float = 0.0,
    cache_to: str | Path | None = None,
    device: Device = "auto",
    fresh: bool = False,
    listen: Listener = silent,
) -> Tuning:
    """Search for better settings: train one trial after another, judge each on val.

    Part test is neither scored nor predicted. The same call again finishes what was stopped; with
    more trials it goes on searching. A trial's draw is a function of the seed, of its number and of
    the trials finished before it, so with one worker a search that was killed ends as if it had
    not been.

    Args:
        recipe: what the search starts from; its `select.metric` is what trials are compared by.
        data: the catalogue, or its folder.
        split: its split, or the split's CSV; refused if a group crosses.
        space: what to try, by dotted key: {low, high} with or without log, or {choices: [...]}.
        out: the folder of the search.
        fold: which fold of the split is the test part that nobody looks at.
        trials: how many in all; by default 20, or every combination for grid, or no limit where
            `minutes` is given.
        minutes: begin no trial after so long; those that have begun are finished.
        sampler: "tpe" (tree-structured Parzen estimator; Bergstra et al., NeurIPS 2011), "random"
            or "grid" (every combination, in order).
        prune: end trials early that after some epoch are below the median of the others.
        workers: processes that train at the same time, here or on a cluster.
        on: "local": on this machine. "ray": on the machines of a Ray cluster that share `out` and
            the data: the one that RAY_ADDRESS names or that this machine is part of; or name its
            head, "ray://HOST:10001". A trial whose machine goes away goes on at another one.
        cpus: on a cluster, processors that each worker asks for, by default 1.
        gpus: on a cluster, GPUs that each worker asks for.
        cache_to: folder of the image caches; by default `cache` beside the catalogue.
        device: "auto" takes CUDA where there is one.
        fresh: discard what the folder holds of an earlier search.
        listen: told of the progress.

    Returns:
        The search.

    Raises:
        SettingsError: naming every fault of the space, or if optuna is not installed.
        FindingsError: if the split leaks or does not belong to the catalogue.
        DataError: if the fold cannot be trained on.
        RunError: if the folder holds something else, a worker died, or no trial could be finished.
    """
    _check_installed()
    check(on, cpus, gpus)
    recipe, data, split = Recipe.load(recipe), Catalogue.open(data), Split.open(split)
    out = Path(out)
    grid = sampler == "grid"
    wrong = _out_of_range(trials=trials, minutes=minutes, workers=workers)
    found = read_space(recipe, space, grid=grid, also=wrong)
    split.check(data)
    parts = data.table["image_id"].map(split.parts(fold))
    check_parts(data.table.assign(part=parts), data.classes)
    if not {"model", "model.name"} & set(found):
        factory.check_name(recipe.model.name)
    if not any(key.split(".")[0] == "sampling" for key in found):
        check_sampling(recipe.sampling, data.classes)
    fused = not isinstance(recipe.model.fusion, NoFusion)
    fused = fused or any(key == "model" or key.startswith("model.fusion") for key in found)
    if grid:
        trials = min(trials or 10**9, len(combinations(found)))
    elif trials is None and minutes is None:
        trials = TRIALS_IF_UNSAID
    identity = {
        "catalogue": data.fingerprint,
        "split": split.fingerprint,
        "fold": fold,
        "recipe": recipe.fingerprint(),
        "space": plain(found),
        "sampler": sampler,
        "prune": prune,
        "metadata": seen_metadata(data, fused),
    }
    open_folder(out, MARKER, {"identity": identity}, recipe, split, fresh=fresh)
    given = cache_to and Path(cache_to)
    begun = time.time()
    over = minutes is not None and read_json(out / MARKER).get("minutes", 0) >= minutes
    left = None if minutes is None else 0 if over else minutes * 60 - _spent(out) / workers
    job = Job(
        recipe,
        data,
        split,
        fold,
        found,
        out,
        sampler,
        prune,
        trials,
        None if left is None else begun + left,
        given or None,
        device,
    )
    with quiet_optuna():
        study = open_study(job)
        if on != "local":
            spreading: dict[str, Any] = {"on": on, "cpus": cpus, "gpus": gpus}
            look = partial(tell, job, study, listen)
            for _ in spread(
                _work, (job, cpus or 1), range(workers), **spreading, look=look, listen=listen
            ):
                look()
        elif workers == 1:
            work(job, study, listen)
        else:
            work_in_processes(job, workers, lambda: tell(job, study, listen))
        if minutes is not None and not (trials and len(trials_of(study)) >= trials):
            write_json(out / MARKER, {"identity": identity, "minutes": minutes})
        return _finish(job, study)


def _work(shared: tuple[Job, int], _number: int, listen: Listener) -> None:
    """Be a worker on a machine of a cluster."""
    job, threads = shared
    torch.set_num_threads(threads)
    with quiet_optuna():
        work(job, open_study(job), listen)


def _check_installed() -> None:
    try:
        import filelock  # noqa: F401
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"This needs {error.name}, part of the search extra: pip install '.[train,tune]'"
        ) from error


def _out_of_range(**numbers: float | None) -> list[str]:
    return [
        f"--{name} must be above 0, not {value:g}"
        for name, value in numbers.items()
        if value is not None and not value > 0
    ]


def _spent(out: Path) -> float:
    """Seconds that finished trials of earlier calls have trained."""
    infos = (read_json(path) for path in out.glob(f"trial_*/{INFO}"))
    return 60 * sum(float(info.get("minutes", 0)) for info in infos)


def _finish(job: Job, study: optuna.Study) -> Tuning:
    """Write what the search has come to."""
    table = write_table(job, study)
    done = table[table["state"] == "complete"]
    if done.empty:
        reasons = "\n".join(f"  {text}" for text in table["why"].unique() if text)
        raise RunError(
            f"None of the {len(table)} trials could be finished:\n{reasons}\n"
            "Take another space, or give more trials or minutes."
        )
    made = Tuning(job.out)
    number = made.best_trial
    again = command(
        "train",
        BEST,
        data="DATA",
        split=job.trial_folder(number).relative_to(job.out) / SPLIT,
        fold=job.fold or None,
        out="NEW_FOLDER",
    )
    best = applied(job.recipe, values_of(job, trials_of(study)[number].params))
    write_text(
        job.out / BEST,
        f"# The best of {len(done)} finished trials: {job.trial_folder(number).name}, "
        f"{job.metric} {made.value:.4f} on val.\n"
        "# The best of many on the same images flatters. Test is unseen yet; to score it once:\n"
        f"# {again}\n{best.to_yaml()}",
    )
    return made
