"""Predictions of a trained network: from cached images, files or folders to a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from lesionlab.augmentation.random_views import normalise
from lesionlab.augmentation.symmetries import symmetry
from lesionlab.data.catalogue.catalogue import Catalogue, cache_home
from lesionlab.data.images.cache import Cache, cache
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.data.sources.patient_metadata import read_metadata
from lesionlab.errors import DataError, RunError, SettingsError
from lesionlab.files import write_csv
from lesionlab.models import factory
from lesionlab.models.device import Device, choose_device
from lesionlab.models.factory import Architecture
from lesionlab.models.metadata_encoder import known_words_of, numbers_of
from lesionlab.models.metadata_fusion import logits_of
from lesionlab.numerics import softmax
from lesionlab.prediction.run_inputs import catalogue_of, image_files, parts_of
from lesionlab.prediction.test_time_views import averaged, check_views, remove_views, write_views
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.recipe.schema import FEATURES, NoFusion
from lesionlab.run import Folds, Run, open_run

CHUNK = 128
"""Images per step; fixed, so that no batch size can change a digit."""


def predict_rows(
    network: nn.Module,
    architecture: Architecture,
    pixels: NDArray[np.uint8],
    rows: NDArray[np.int64],
    *,
    metadata: NDArray[np.int64] | None = None,
    listen: Listener = silent,
) -> NDArray[np.float32]:
    """Logits of decoded images.

    Args:
        network: from `factory.build` or `factory.load`; set to evaluation mode here.
        architecture: its classes and normalisation.
        pixels: uint8, shape (images, height, width, 3).
        rows: which of them, shape (n,).
        metadata: age, sex and site of those, from `metadata.numbers_of`, shape (n, fields); None:
            unknown.
        listen: told of the progress.

    Returns:
        float32, shape (n, classes).
    """
    of_one: NDArray[np.float32] = predict_views(
        network, architecture, pixels, rows, 1, metadata=metadata, listen=listen
    )[0]
    return of_one


def predict_views(
    network: nn.Module,
    architecture: Architecture,
    pixels: NDArray[np.uint8],
    rows: NDArray[np.int64],
    views: int,
    *,
    metadata: NDArray[np.int64] | None = None,
    listen: Listener = silent,
) -> NDArray[np.float32]:
    """Logits of decoded images, each seen in its first symmetries.

    An image goes through colour constancy and normalisation first and is turned then, so that all
    its views have the same colours.

    Args:
        network: from `factory.build` or `factory.load`; set to evaluation mode here.
        architecture: its classes and normalisation.
        pixels: uint8, shape (images, height, width, 3).
        rows: which of them, shape (n,).
        views: how many of `symmetries.NAMES`, from the first on.
        metadata: as for `predict_rows`.
        listen: told of the progress.

    Returns:
        float32, shape (views, n, classes); the first are those of `predict_rows`, bit for bit.
    """
    network.eval()
    device = next(network.parameters()).device
    found = np.empty((views, len(rows), len(architecture.classes)), np.float32)
    with torch.inference_mode():
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            images = torch.from_numpy(pixels[rows[part]]).to(device)
            inputs = normalise(images, *architecture.normalisation)
            told = None if metadata is None else torch.from_numpy(metadata[part]).to(device)
            for view in range(views):
                turned = symmetry(inputs, view).contiguous(memory_format=torch.channels_last)
                found[view, part] = logits_of(network, turned, told).float().cpu().numpy()
            listen(Step("predicting", min(start + CHUNK, len(rows)), len(rows), "images"))
    return found


def predictions_table(
    table: pd.DataFrame, classes: Sequence[str], logits: NDArray[np.floating]
) -> pd.DataFrame:
    """The predictions table of images that were predicted in the order of `table`.

    Args:
        table: image_id, lesion_id, target and part; columns that it lacks become "".
        classes: in the order of the logits.
        logits: shape (n, classes).

    Returns:
        Columns image_id, lesion_id, target, part, p_<class>..., logit_<class>...
    """
    made = pd.DataFrame({"image_id": table["image_id"].to_numpy()})
    for name in ("lesion_id", "target", "part"):
        made[name] = table[name].to_numpy() if name in table.columns else ""
    probabilities = softmax(logits)
    for index, name in enumerate(classes):
        made[f"p_{name}"] = probabilities[:, index]
    for index, name in enumerate(classes):
        made[f"logit_{name}"] = logits[:, index].astype(np.float64)
    return made


def predict_run(
    run: Run | Folds | str | Path,
    images: Sequence[str | Path] = (),
    *,
    data: Catalogue | str | Path | None = None,
    out: str | Path | None = None,
    metadata: pd.DataFrame | str | Path | None = None,
    views: int = 1,
    cache_to: str | Path | None = None,
    device: Device = "auto",
    listen: Listener = silent,
) -> pd.DataFrame:
    """Class probabilities of image files and folders, or of a whole catalogue.

    With images, one that cannot be read becomes a row with its error and does not end the call.
    Without, the catalogue is predicted, through its cache, into a table that `evaluate` reads.
    There, images of the run's own split keep their part, and so do other images of its lesions or
    patients: what the run has learnt from is never scored as test. All others are test.

    Folds predict their own catalogue out of fold: every image of a test part, by the one network
    that learnt nothing of its lesion.

    Args:
        run: a finished run, or complete folds.
        images: files, and folders that are searched through.
        data: a catalogue to predict instead, or its folder; by default, where no images are given,
            the one that the run was trained on.
        out: where to write the table as CSV; None writes nothing. With several views the single
            ones go beside it, see `views.write_views`.
        metadata: for a run with fusion: a table, or a CSV, of image_id, age, sex and site. What it
            lacks is unknown. None: unknown for images, the catalogue's own for a catalogue.
        views: 1; or 2, 4 or 8 symmetries of each image (`symmetries.NAMES`), whose probabilities
            are averaged. The logits of several views are the logarithm of that mean.
        cache_to: folder of the image caches; by default `cache` beside the catalogue.
        device: "auto" takes CUDA where there is one.
        listen: told of the progress.

    Returns:
        Of images, one row each: image_id, path, p_<class>..., predicted (the likeliest class),
        error. Of a catalogue: see `predictions_table`; of folds with the column fold.

    Raises:
        RunError: if the run is not finished, or its catalogue is gone or has changed; if folds are
            to predict another.
        DataError: if there is no image at all, or none that can be read; if the catalogue has
            classes that the run does not know.
        SettingsError: if views is none of 1, 2, 4 and 8, if both images and a catalogue are given,
            metadata for a run that takes none, or images for folds.
    """
    check_views(views)
    given = run if isinstance(run, Run | Folds) else open_run(run)
    if images and isinstance(given, Folds):
        raise SettingsError(
            f"{given.folder} holds several runs, which predict their own catalogue out of fold. "
            f"For images of your own name one of them: {given.run_folder(0)}"
        )
    runs = given.complete_runs if isinstance(given, Folds) else {0: Run.finished(given)}
    run = runs[0]
    if images and data is not None:
        raise SettingsError("Give images or a catalogue, not both: leave out one of the two.")
    if metadata is not None and isinstance(run.recipe.model.fusion, NoFusion):
        raise SettingsError(
            f"{given.folder} was trained on images alone (model.fusion.kind none): leave the "
            "metadata out."
        )
    if images:
        files = image_files([Path(each) for each in images])
        table, named, logits = _predict_files(run, files, metadata, views, device, listen)
    else:
        opened = catalogue_of(run, data)
        if isinstance(given, Folds) and opened.fingerprint != given.info["identity"]["catalogue"]:
            raise RunError(f"{given.folder} was trained on another catalogue than {opened.home}.")
        if metadata is not None:
            words = known_words_of(factory.architecture_of(run.folder).metadata)
            told = read_metadata(
                metadata,
                list(opened.table["image_id"]),
                paths=list(opened.table["path"]),
                words=words,
                listen=listen,
            )
            filled = opened.table.assign(**{name: told[name].to_numpy() for name in FEATURES})
            opened = replace(opened, table=filled)
        if isinstance(given, Folds):
            table, named, logits = _out_of_fold(runs, opened, views, cache_to, device, listen)
        else:
            pixels = _cached(run, opened, cache_to, listen)
            table, named, logits = _predict_catalogue(run, opened, pixels, views, device, listen)
    if out is not None:
        remove_views(Path(out))
        write_csv(Path(out), table)
        if views > 1:
            path = write_views(Path(out), named, run.classes, logits)
            listen(Notice(f"Each view by itself: {path}."))
    return table


def predict_without_metadata(
    source: Run | Folds,
    *,
    data: Catalogue | str | Path | None = None,
    views: int = 1,
    cache_to: str | Path | None = None,
    device: Device = "auto",
    listen: Listener = silent,
) -> pd.DataFrame:
    """The images of a run's test part as it would predict them if age, sex and site were unknown.

    Args:
        source: a finished run, or complete folds: every image in its own test part.
        data: the catalogue that it was trained on; by default where it was.
        views: symmetries of each image; see `predict_run`.
        cache_to: folder of the image caches; by default `cache` beside the catalogue.
        device: "auto" takes CUDA where there is one.
        listen: told of the progress.

    Returns:
        See `predictions_table`.

    Raises:
        RunError: if the run is not finished, or its catalogue is gone or has changed.
    """
    runs = source.complete_runs if isinstance(source, Folds) else {0: Run.finished(source)}
    opened = catalogue_of(runs[0], data)
    pixels = _cached(runs[0], opened, cache_to, listen)
    blank = replace(opened, table=opened.table.assign(age=np.nan, sex="", site=""))
    tables = [
        _predict_catalogue(run, blank, pixels, views, device, listen, part="test")[0]
        for run in runs.values()
    ]
    return pd.concat(tables, ignore_index=True)


_Predicted = tuple[pd.DataFrame, pd.DataFrame, NDArray[np.float32]]
"""A table, the columns that name its images, and the logits of every view."""


def _predict_files(
    run: Run,
    files: list[Path],
    metadata: pd.DataFrame | str | Path | None,
    views: int,
    device: Device,
    listen: Listener,
) -> _Predicted:
    network, architecture = factory.load(run.folder)
    network.to(choose_device(device))
    named = pd.DataFrame(
        {"image_id": [each.stem for each in files], "path": [str(each) for each in files]}
    )
    told = named[["image_id"]]
    if metadata is not None:
        told = read_metadata(
            metadata,
            list(named["image_id"]),
            paths=list(named["path"]),
            words=known_words_of(architecture.metadata),
            listen=listen,
        )
    elif architecture.metadata is not None:
        fields = ", ".join(architecture.fusion.fields)  # type: ignore[union-attr]
        listen(Notice(f"This run also takes {fields}; unknown here. --metadata FILE gives them."))
    numbers = numbers_of(architecture.metadata, told)
    logits = np.full((views, len(files), len(architecture.classes)), np.nan, np.float32)
    errors = [""] * len(files)
    reader = Reader(Path())
    height, width = architecture.images.size
    for start in range(0, len(files), CHUNK):
        pixels = np.zeros((min(CHUNK, len(files) - start), height, width, 3), np.uint8)
        for offset, path in enumerate(files[start : start + CHUNK]):
            try:
                pixels[offset] = reader.pixels(str(path), architecture.images)
            except ImageFault as fault:
                errors[start + offset] = str(fault)
        rows = np.arange(len(pixels))
        part = slice(start, start + CHUNK)
        logits[:, part] = predict_views(
            network, architecture, pixels, rows, views, metadata=numbers[part]
        )
        listen(Step("predicting", min(start + CHUNK, len(files)), len(files), "images"))
    failed = np.array([bool(error) for error in errors])
    if failed.all():
        raise DataError(f"None of the {len(files)} images can be read. The first: {errors[0]}.")
    logits[:, failed] = np.nan
    probabilities = softmax(averaged(logits))
    table = named.copy()
    for index, name in enumerate(architecture.classes):
        table[f"p_{name}"] = probabilities[:, index]
    likeliest = np.where(failed, 0, np.nan_to_num(probabilities).argmax(axis=1))
    table["predicted"] = np.where(failed, "", np.array(architecture.classes)[likeliest])
    table["error"] = errors
    return table, named, logits


def _out_of_fold(
    runs: Mapping[int, Run],
    data: Catalogue,
    views: int,
    cache_to: str | Path | None,
    device: Device,
    listen: Listener,
) -> _Predicted:
    """Each run's own test part."""
    pixels = _cached(runs[0], data, cache_to, listen)
    found = {
        fold: _predict_catalogue(run, data, pixels, views, device, listen, part="test")
        for fold, run in runs.items()
    }
    tables = [table.assign(fold=fold) for fold, (table, _, _) in found.items()]
    return (
        pd.concat(tables, ignore_index=True),
        pd.concat([named for _, named, _ in found.values()], ignore_index=True),
        np.concatenate([logits for _, _, logits in found.values()], axis=1),
    )


def _cached(run: Run, data: Catalogue, cache_to: str | Path | None, listen: Listener) -> Cache:
    """A catalogue's images as the run takes them; it must know their classes."""
    if unknown := sorted(set(data.table["target"]) - set(run.classes)):
        raise DataError(
            f"The run knows {', '.join(run.classes)}, but the catalogue has {', '.join(unknown)} "
            "too. Predict a catalogue with the run's classes, or give image files instead."
        )
    home = cache_home(data, cache_to)
    return cache(data.table, data.root, run.recipe.images, home, listen=listen)


def _predict_catalogue(
    run: Run,
    data: Catalogue,
    pixels: Cache,
    views: int,
    device: Device,
    listen: Listener,
    part: str = "",
) -> _Predicted:
    """Predict the images of a part, or all of them."""
    table = data.table.assign(part=parts_of(run, data, listen))
    network, architecture = factory.load(run.folder)
    network.to(choose_device(device))
    if part:
        table = table[table["part"] == part]
    rows = pixels.rows(list(table["sha256"]))
    metadata = numbers_of(architecture.metadata, table)
    logits = predict_views(
        network, architecture, pixels.pixels, rows, views, metadata=metadata, listen=listen
    )
    predicted = predictions_table(table, architecture.classes, averaged(logits))
    return predicted, table[["image_id"]].reset_index(drop=True), logits
