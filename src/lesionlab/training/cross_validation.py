"""Folds: a run for each fold of a split, and what they say together of images none had seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lesionlab.advice import command
from lesionlab.cluster.spread import check, spread
from lesionlab.data.catalogue.catalogue import Catalogue, cache_home
from lesionlab.data.images.cache import cache
from lesionlab.data.splits import Split
from lesionlab.errors import DataError, RunError, SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.files import discard, locked, write_csv
from lesionlab.models.device import Device
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.recipe.schema import NoFusion, Recipe
from lesionlab.run import FOLDS, PREDICTIONS, SUMMARY, VAL_PREDICTIONS, Folds
from lesionlab.training.run_folders import open_folder, seen_metadata
from lesionlab.training.tracking.clients import Tracker
from lesionlab.training.train import check_parts, train

FIGURES = ("balanced_accuracy", "macro_auroc", "accuracy")


def cross_validate(
    recipe: Recipe | str | Path,
    data: Catalogue | str | Path,
    split: Split | str | Path,
    *,
    out: str | Path,
    only: Sequence[int] | None = None,
    cache_to: str | Path | None = None,
    device: Device = "auto",
    on: str = "local",
    cpus: int | None = None,
    gpus: float = 0.0,
    fresh: bool = False,
    track: Sequence[Tracker] = (),
    listen: Listener = silent,
) -> Folds:
    """Train a network for each fold and gather their predictions of their own test parts.

    Each fold is an ordinary run in `out`/fold_0, `out`/fold_1, ... The same call again goes on
    where it was stopped; several calls with different `only` may share the work.

    Args:
        recipe: all settings, or their YAML file; the same for every fold.
        data: the catalogue, or its folder.
        split: its split, or the split's CSV, of two folds or more, whose test parts have no image
            in common.
        out: the folder of the folds.
        only: train these folds alone; the tables are written when all are trained.
        cache_to: folder of the image caches; by default `cache` beside the catalogue.
        device: "auto" takes CUDA where there is one.
        on: "local" trains one fold after the other. "ray" trains them side by side on the machines
            of a Ray cluster that share `out` and the data: the one that RAY_ADDRESS names or that
            this machine is part of; or name its head, "ray://HOST:10001". A fold whose machine goes
            away goes on at another one.
        cpus: processors that train a fold; on a cluster 1 by default. As many give the same bytes,
            wherever they are.
        gpus: on a cluster, GPUs that each fold asks for.
        fresh: discard what the folder holds of an earlier call, or with `only` of these folds.
        track: pass each fold's history on to mlflow, wandb or both, as in `train`.
        listen: told of the progress.

    Returns:
        The folds; `complete` says whether all of them are trained.

    Raises:
        FindingsError: if the split leaks or does not belong to the catalogue.
        DataError: if the folds' test parts overlap, or a fold cannot be trained on.
        SettingsError: if the split has one fold, or `only` names one that it has not.
        RunError: if the folder holds something else; the differences are named.
    """
    recipe, data, split = Recipe.load(recipe), Catalogue.open(data), Split.open(split)
    out = Path(out)
    check(on, cpus, gpus)
    chosen = _chosen(split, only)
    split.check(data)
    for fold in chosen:
        parts = data.table["image_id"].map(split.parts(fold))
        check_parts(data.table.assign(part=parts), data.classes)
    _check_tests(split, listen)
    identity = {
        "catalogue": data.fingerprint,
        "split": split.fingerprint,
        "recipe": recipe.fingerprint(),
        "metadata": seen_metadata(data, not isinstance(recipe.model.fusion, NoFusion)),
    }
    content = {"identity": identity, "classes": list(data.classes), "folds": split.folds}
    open_folder(out, FOLDS, content, recipe, split, fresh=fresh and only is None)
    opened = Folds.open(out)
    if fresh:
        (out / SUMMARY).unlink(missing_ok=True)
    if opened.complete:
        listen(Notice(f"{out} is complete: nothing to do. --fresh would train it again."))
        return opened
    if on != "local":  # here and once: a fold that is begun again at another machine goes on
        for fold in chosen if fresh else ():
            discard(opened.run_folder(fold))
        fresh = False
        cache(data.table, data.root, recipe.images, cache_home(data, cache_to), listen=listen)
    arguments = {"recipe": recipe, "data": data, "split": split, "cache_to": cache_to}
    arguments |= {"device": device, "fresh": fresh, "track": track}
    order = [(out, fold, number, len(chosen)) for number, fold in enumerate(chosen)]
    spreading: dict[str, Any] = {"on": on, "cpus": cpus, "gpus": gpus}
    for done, _ in enumerate(
        spread(_train_fold, (arguments, cpus), order, **spreading, listen=listen), 1
    ):
        listen(Step("folds", done, len(chosen), "folds"))
    if len(opened.runs) == split.folds:
        _gather(opened)
    return opened


def _train_fold(
    shared: tuple[dict[str, Any], int | None], each: tuple[Path, int, int, int], listen: Listener
) -> None:
    """Train one fold, here or on a machine of a cluster."""
    (arguments, cpus), (out, fold, number, count) = shared, each
    line = f"fold {fold} ({number + 1} of {count})"
    listen(Step("folds", number, count, "folds", f"fold {fold}", line))
    folder = Folds.open(out).run_folder(fold)

    def waiting() -> None:
        listen(Notice(f"Another process trains {folder}: waiting for it.", "warning"))

    before = torch.get_num_threads()
    torch.set_num_threads(cpus or before)
    try:  # a machine that was taken for dead may still be at it
        with locked(folder.with_name(f".{folder.name}.lock"), waiting):
            train(**arguments, out=folder, fold=fold, listen=listen)
    finally:
        torch.set_num_threads(before)


def _chosen(split: Split, only: Sequence[int] | None) -> list[int]:
    if split.folds < 2:
        raise SettingsError(
            "This split has a single fold. Make one with several: "
            f"{command('split', 'DATA', folds=5)}"
        )
    chosen = sorted(set(range(split.folds) if only is None else only))
    if not chosen or not set(chosen) <= set(range(split.folds)):
        raise SettingsError(f"--only takes folds 0 to {split.folds - 1}, such as --only 0,2.")
    return chosen


def _check_tests(split: Split, listen: Listener) -> None:
    """Every image is to be tested once: more often is refused, never is told."""
    names = [f"fold_{fold}" for fold in range(split.folds)]
    times = (split.table[names] == "test").sum(axis=1)
    if (times > 1).any():
        first = split.table["image_id"][times > 1].iloc[0]
        raise DataError(
            f"{int((times > 1).sum())} images are in the test part of several folds, the first "
            f"{first}: they would be counted more than once. Make folds: "
            f"{command('split', 'DATA', folds=5)}"
        )
    if never := int((times == 0).sum()):
        listen(Notice(f"{never} of {len(times)} images are in no fold's test part.", "warning"))


def _gather(done: Folds) -> None:
    """Write the tables of all folds; the summary last, as it says that all is there.

    Raises:
        RunError: if a folder holds another run than its name says.
    """
    ours = done.info["identity"]
    foreign = []
    for fold, run in done.runs.items():
        identity, expected = run.info["identity"], {**ours, "fold": fold}
        names = ("catalogue", "split", "fold", "recipe")
        if differing := [each for each in names if identity.get(each) != expected[each]]:
            foreign.append(f"{run.folder} (other {', '.join(differing)})")
    if foreign:
        raise RunError(
            f"These are runs of something else: {'; '.join(foreign)}. Remove them, and give the "
            "same `lesionlab train --folds` command again."
        )
    parts: dict[str, list[pd.DataFrame]] = {"test": [], "val": []}
    rows = []
    for fold, run in done.runs.items():
        table = run.predictions
        for part, tables in parts.items():
            of_part = table[table["part"] == part]
            tables.append(of_part.assign(fold=fold))
        rows.append({"fold": fold, **_figures(table), **_told(run.info)})
    write_csv(done.folder / VAL_PREDICTIONS, pd.concat(parts["val"]))
    write_csv(done.folder / PREDICTIONS, pd.concat(parts["test"]))
    write_csv(done.folder / SUMMARY, pd.DataFrame(rows))


def _figures(table: pd.DataFrame) -> dict[str, float]:
    result = evaluate(table, replicates=0)
    operating = f"sensitivity_at_90_specificity/{result.positive}"
    names = [*FIGURES, *([operating] if operating in result else [])]
    sizes = {"images": result["accuracy"].n, "lesions": result["accuracy"].groups}
    return {**sizes, **{name: result[name].value for name in names}}


def _told(info: dict[str, Any]) -> dict[str, Any]:
    return {name: info.get(name) for name in ("kept_epoch", "epochs", "minutes")}
