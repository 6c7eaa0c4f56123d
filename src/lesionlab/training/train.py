"""Train: from a recipe, a catalogue and a split to a run folder with predictions."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from lesionlab.advice import command
from lesionlab.augmentation.random_views import check_augmentations, normalise
from lesionlab.data.catalogue.catalogue import Catalogue, cache_home
from lesionlab.data.images.cache import Cache, cache
from lesionlab.data.images.decode import preprocessing_fingerprint
from lesionlab.data.splits import Split
from lesionlab.errors import DataError, SettingsError
from lesionlab.files import discard, fingerprint, write_csv
from lesionlab.models import factory, layer_groups
from lesionlab.models.device import Device, choose_device
from lesionlab.models.metadata_encoder import MetadataEncoder, numbers_of
from lesionlab.models.metadata_fusion import Fused, count
from lesionlab.models.summary import counted
from lesionlab.prediction.run_predictor import predict_rows, predictions_table
from lesionlab.progress import Listener, Notice, silent
from lesionlab.recipe.schema import NaiveBayes, NoAverage, NoFusion, Recipe
from lesionlab.run import CHECKPOINTS, PREDICTIONS, Run
from lesionlab.tables import PARTS
from lesionlab.training import losses, probes, smote
from lesionlab.training.checkpoints import LAST, AfterEpoch, Averaging, Keeper
from lesionlab.training.datasets import EvaluationImages, TrainingImages, check_sampling
from lesionlab.training.distributed.launch import launch, to_launch
from lesionlab.training.distributed.processes import (
    agreed,
    join,
    leave,
    place,
    settings,
    wait_for_all,
)
from lesionlab.training.lightning_module import Classifier, hash_seed
from lesionlab.training.malloc import kept_memory
from lesionlab.training.normalisation import normalised
from lesionlab.training.precision import IMAGES, choose_precision
from lesionlab.training.run_folders import (
    check_predicted,
    finished_run,
    open_run_folder,
    warn_of_seen_lesions,
)
from lesionlab.training.tracking.clients import Tracker, tracked
from lesionlab.training.tracking.clients import check as check_tracking
from lesionlab.training.tracking.tensorboard import Curves


def train(
    recipe: Recipe | str | Path,
    data: Catalogue | str | Path,
    split: Split | str | Path,
    *,
    out: str | Path,
    fold: int = 0,
    cache_to: str | Path | None = None,
    device: Device = "auto",
    devices: int = 1,
    nodes: int = 1,
    fresh: bool = False,
    parts: Sequence[str] = PARTS,
    after_epoch: Sequence[AfterEpoch] = (),
    track: Sequence[Tracker] = (),
    listen: Listener = silent,
) -> Run:
    """Train a network and predict train, val and test with the epoch that was best on val.

    The same call again goes on where a stopped run was, or says that it is complete.

    With several devices a process trains on each, on its share of every batch, and what is learnt
    is what one device learns, to rounding: the loss and batch norms are those of the whole batch.
    Only mixup, cutmix and dropout draw in each process by themselves. Under torchrun its count
    of processes is taken. A script that calls this keeps its own work under
    `if __name__ == "__main__"`, as every process imports it.

    Args:
        recipe: all settings, or their YAML file; `batch` is shared out over the devices.
        data: the catalogue, or its folder.
        split: its split, or the split's CSV; refused if a group crosses.
        out: the run's folder; of several machines one that all of them see.
        fold: which fold of the split is the test part.
        cache_to: folder of the image caches; by default `cache` beside the catalogue.
        device: "auto" takes CUDA where there is one.
        devices: of this machine, a process for each: CUDA devices, or shares of the processor.
        nodes: machines. Give the same command on each of them, with the environment variables
            MASTER_ADDR and MASTER_PORT of the first one, and NODE_RANK, 0 to nodes - 1.
        fresh: discard what the folder holds of an earlier run.
        parts: which parts are predicted at the end; a search for settings leaves test out.
        after_epoch: each is given the history after every epoch; what one of them raises ends the
            call, and the run can be taken up again.
        track: pass the history on to mlflow, wandb or both, besides history.csv and TensorBoard.
            Where to is theirs to know: MLFLOW_TRACKING_URI, WANDB_MODE=offline.
        listen: told of the progress.

    Returns:
        The finished run.

    Raises:
        FindingsError: if the split leaks or does not belong to the catalogue.
        SettingsError: if the recipe names a model that does not exist or does not fit, or has a
            batch too small for the devices.
        RunError: if the folder holds something else; the differences are named. If the process of
            a device died.
    """
    recipe, data, split = Recipe.load(recipe), Catalogue.open(data), Split.open(split)
    out = Path(out)
    here = place()
    if to_launch(devices, nodes):
        arguments = {"recipe": recipe, "data": data, "split": split, "out": out, "fold": fold}
        arguments |= {"cache_to": cache_to, "device": device, "fresh": fresh, "parts": parts}
        arguments |= {"after_epoch": after_epoch, "track": track}
        launch(train, arguments, devices=devices, nodes=nodes, listen=listen)
        return Run.open(out)
    if not here.first:
        listen, track, after_epoch = silent, (), ()
    split.check(data)
    factory.check_name(recipe.model.name)
    check_tracking(track)
    losses.check(recipe.loss)
    check_augmentations(recipe.augment)
    check_sampling(recipe.sampling, data.classes)
    table = data.table.assign(part=data.table["image_id"].map(split.parts(fold)))
    check_parts(table, data.classes)
    counts = table["target"][table["part"] == "train"].value_counts()
    smote.check_neighbours(recipe.sampling, counts[list(data.classes)].tolist(), data.classes)
    metadata = _encoder(recipe, table)
    architecture = factory.Architecture.of(recipe.model, data.classes, recipe.images, metadata)
    identity = {
        "catalogue": data.fingerprint,
        "split": split.fingerprint,
        "fold": fold,
        "preprocessing": preprocessing_fingerprint(recipe.images),
        "recipe": recipe.fingerprint(),
        "metadata": _of_metadata(architecture, table),
    }
    accelerator = choose_device(device)
    if here.size > 1 and recipe.probing:
        raise SettingsError(
            "A probe is fitted in one process, in seconds: leave --devices and --nodes out."
        )
    if found := finished_run(out, identity, recipe, fresh, listen):
        check_predicted(found, set(parts) & set(table["part"]))
        return found
    if "test" in parts:
        warn_of_seen_lesions(recipe.model.pretrained, table, listen)
    with _own_random_state(recipe.seed, accelerator):
        network = factory.build(architecture, recipe.model.pretrained, listen)
    if isinstance(network, Fused) and isinstance(recipe.model.fusion, NaiveBayes):
        learnt = table[table["part"] == "train"]
        targets = pd.Categorical(learnt["target"], categories=list(data.classes)).codes
        count(network, recipe.model.fusion, numbers_of(metadata, learnt), targets.astype(np.int64))
    layer_groups.check(network, [phase.depth for phase in recipe.phases])
    _warn_of_random_features(recipe, listen)
    home = cache_home(data, cache_to)
    pixels = cache(data.table, data.root, recipe.images, home, listen=listen)
    architecture = normalised(architecture, recipe, table, pixels, listen)
    seen = table[table["part"].isin({"train", "val", *parts})]
    table = table[table["part"].isin(parts)]
    join(accelerator)
    if here.first:
        if fresh and out.exists():
            listen(Notice(f"Discarding what {out} held."))
            discard(out)
        open_run_folder(out, identity, recipe, data, split, accelerator)
    wait_for_all()
    run = Run.open(out)
    with tracked(run, track, listen) as trackers:
        after_epoch = (*trackers, *after_epoch)
        with _own_random_state(recipe.seed, accelerator), _quiet_lightning(), kept_memory():
            if recipe.probing:
                network.to(accelerator)
                kept, logits = probes.probe(
                    run, recipe, architecture, network, seen, pixels, listen, after_epoch
                )
                logits = logits[seen["part"].isin(parts)]
            else:
                keeper = _fit_phases(
                    run,
                    recipe,
                    architecture,
                    network,
                    seen,
                    pixels,
                    accelerator,
                    listen,
                    after_epoch,
                )
                leave()
                if not here.first:
                    return run
                kept = keeper.summary()
                network.load_state_dict(load_file(keeper.best_file))
                rows = pixels.rows(list(table["sha256"]))
                started = time.monotonic()
                logits = predict_rows(
                    network.to(accelerator),
                    architecture,
                    pixels.pixels,
                    rows,
                    metadata=numbers_of(metadata, table),
                    listen=listen,
                )
                seconds = max(time.monotonic() - started, 1e-3)
                kept["images_per_second"] = round(len(rows) / seconds, 1)
        factory.save(network, architecture, out)
        write_csv(out / PREDICTIONS, predictions_table(table, data.classes, logits))
        today = datetime.now(UTC).date().isoformat()
        run.update(state="complete", **counted(network, recipe), finished=today, **kept)
    shutil.rmtree(out / CHECKPOINTS)  # last: killed before, the run goes on from them
    return Run.open(out)


def _fit_phases(
    run: Run,
    recipe: Recipe,
    architecture: factory.Architecture,
    network: torch.nn.Module,
    table: pd.DataFrame,
    pixels: Cache,
    accelerator: str,
    listen: Listener,
    after_epoch: Sequence[AfterEpoch],
) -> Keeper:
    classes = {name: index for index, name in enumerate(architecture.classes)}
    rows = pixels.rows(list(table["sha256"]))
    targets = table["target"].map(classes).to_numpy(np.int64)
    part = table["part"].to_numpy()
    metadata = numbers_of(architecture.metadata, table)
    training = TrainingImages(
        pixels.pixels,
        rows[part == "train"],
        targets[part == "train"],
        recipe.sampling,
        recipe.seed,
        architecture.classes,
        metadata[part == "train"],
        getattr(recipe.model.fusion, "hide", 0.0),
        recipe.augment.worst_of,
    )
    here = place()
    share = here.rank, here.size
    validation = EvaluationImages(
        pixels.pixels, rows[part == "val"], targets[part == "val"], metadata[part == "val"]
    )
    loss = losses.build(recipe.loss, _counts(training.shown_targets, len(classes)))
    last = run.folder / CHECKPOINTS / LAST
    before = _saved_state(last)
    curves = Curves(run.folder)
    for number, phase in enumerate(recipe.phases):
        followers: tuple[AfterEpoch, ...] = (curves, *after_epoch) if here.first else ()
        keeper = Keeper(run.folder, recipe, number, training, listen, followers)
        saved = before if before and before["phase"] == number else None
        if before and before["phase"] > number:
            continue
        if saved and saved["done"]:
            keeper.load_state_dict(saved)
            continue
        if before:
            keeper.inherit(before)
            if not saved:
                network.load_state_dict(load_file(keeper.best_file))
        done = int(keeper.rows[-1]["epoch"]) if saved else keeper.first_epoch
        training.set_epoch(done)
        loader = training.loader(recipe.batch, share)
        module = Classifier(
            network, architecture, recipe, phase, loss, len(loader), first_epoch=keeper.first_epoch
        )
        precision = run.info.get("precision", "")
        if here.first and not precision:  # a run that was stopped goes on in what it began in
            some = rows[part == "train"][:IMAGES]
            precision = choose_precision(
                recipe.precision,
                accelerator,
                network,
                normalise(torch.from_numpy(pixels.pixels[some]), *architecture.normalisation),
                torch.from_numpy(metadata[part == "train"][:IMAGES]),
                len(loader) * sum(stretch.epochs for stretch in recipe.phases),
            )
            run.update(precision=precision)
        precision = agreed(precision)
        average = recipe.average
        averaging = []
        if not isinstance(average, NoAverage):
            averaging.append(Averaging(average, module.steps, accelerator))
        trainer = lp.Trainer(
            accelerator="gpu" if accelerator == "cuda" else "cpu",
            **settings(here),
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            max_epochs=phase.epochs,
            gradient_clip_val=phase.clip or None,
            callbacks=[*averaging, keeper],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=run.folder,
        )
        if saved:
            listen(Notice(f"Going on after epoch {done} of {run.folder}."))
        try:
            trainer.fit(
                module,
                loader,
                validation.loader(share),
                ckpt_path=str(last) if saved else None,
                weights_only=True,
            )
        except SystemExit as stopped:  # how Lightning ends after Ctrl-C
            raise KeyboardInterrupt from stopped
        if trainer.interrupted:
            raise KeyboardInterrupt
        before = keeper.state_dict()
    if here.first:
        curves(keeper.rows)  # of a run that was killed just before it could draw its last epoch
    return keeper


def _warn_of_random_features(recipe: Recipe, listen: Listener) -> None:
    """Warn of phases that leave random layers as they are: nothing below learns to see."""
    if recipe.model.pretrained or recipe.probing:
        return
    numbers = [i for i, phase in enumerate(recipe.phases) if phase.depth != layer_groups.ALL]
    if numbers:
        depth = recipe.phases[numbers[0]].depth
        listen(
            Notice(
                f"phases.{numbers[0]}.depth is {depth}, but the network starts from random "
                "weights: the layers below stay random meanwhile, and what learns above them sees "
                "noise. Set model.pretrained, or the depth to all.",
                "warning",
            )
        )


def _encoder(recipe: Recipe, table: pd.DataFrame) -> dict[str, Any] | None:
    """The numbers of the training part's ages, sexes and sites; None if the network takes none."""
    if isinstance(recipe.model.fusion, NoFusion):
        return None
    train = table[table["part"] == "train"]
    return MetadataEncoder.fit(train, recipe.model.fusion.fields).to_dict()


def _of_metadata(architecture: factory.Architecture, table: pd.DataFrame) -> str:
    """Fingerprint of the metadata that a network sees; a catalogue's own does not cover them."""
    if architecture.metadata is None:
        return ""
    numbers = numbers_of(architecture.metadata, table)
    return fingerprint([architecture.metadata, list(table["image_id"]), numbers.tolist()])


def _saved_state(last: Path) -> dict[str, Any] | None:
    if not last.is_file():
        return None
    callbacks = torch.load(last, map_location="cpu", weights_only=True)["callbacks"]
    state: dict[str, Any] = next(v for k, v in callbacks.items() if "Keeper" in k)
    return state


def _counts(targets: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    return np.bincount(targets, minlength=classes)


def check_parts(table: pd.DataFrame, classes: tuple[str, ...]) -> None:
    """Make sure that a network can be trained and chosen on these parts.

    Raises:
        DataError: if there is no train or no val part, or a class that train lacks.
    """
    parts = set(table["part"].unique())
    if lacking := [name for name in ("train", "val") if name not in parts]:
        raise DataError(
            f"The split has no {' and no '.join(lacking)} part; the epoch to keep is chosen on "
            f"val, never on test. Make a split with all three: {command('split', 'DATA')}"
        )
    present = set(table["target"][table["part"] == "train"])
    if absent := [name for name in classes if name not in present]:
        raise DataError(
            f"The training part has no image of {', '.join(absent)}: a network cannot learn a "
            "class that it never sees. Leave the class out of the catalogue, or make another split."
        )


@contextmanager
def _own_random_state(seed: int, accelerator: str) -> Iterator[None]:
    """Give torch a random state of its own, from the seed, and put the caller's back afterwards."""
    devices = [torch.cuda.current_device()] if accelerator == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(hash_seed(seed))
        yield


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says to everybody; what matters to a user goes through `listen`."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    on_interrupt = signal.getsignal(signal.SIGINT)  # Lightning ignores Ctrl-C for good after one
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*No (negative|positive) samples in targets.*")
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, on_interrupt)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
