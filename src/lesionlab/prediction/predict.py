"""`predict`: answers about images, by a bundle (without torch) or by a run (with torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from lesionlab.data.catalogue.catalogue import FILE_NAME, Catalogue
from lesionlab.data.images.decode import to_pixels
from lesionlab.data.images.reader import Reader
from lesionlab.errors import DataError, MissingExtraError, SettingsError
from lesionlab.prediction.answer import Answer, answer_of_bundle, answer_of_run
from lesionlab.prediction.batch_job import Predictions, predict_files, predict_in_memory
from lesionlab.prediction.bundle import Bundle
from lesionlab.prediction.predictor import Predictor, metadata_of
from lesionlab.progress import Listener, silent
from lesionlab.recipe.schema import Images
from lesionlab.run import Folds, Run, open_run

if TYPE_CHECKING:
    from lesionlab.models.device import Device  # its file imports torch

Pixels = NDArray[np.uint8]
OneImage = str | Path | bytes | Image.Image | Pixels
Metadata = pd.DataFrame | str | Path


def predict(
    images: OneImage | Sequence[str | Path] | Catalogue | None = None,
    *,
    model: Bundle | Predictor | Run | Folds | str | Path | None = None,
    age: float | None = None,
    sex: str | None = None,
    site: str | None = None,
    metadata: Metadata | None = None,
    data: Catalogue | str | Path | None = None,
    out: str | Path | None = None,
    top: int = 3,
    workers: int | None = None,
    on: str = "local",
    cpus: int | None = None,
    fresh: bool = False,
    views: Literal[1, 2, 4, 8] = 1,
    cache: str | Path | None = None,
    device: Device = "auto",
    listen: Listener = silent,
) -> Answer | Predictions:
    """Give class probabilities of an image, of many, or of a whole catalogue.

    A bundle, such as the one that comes with lesionlab, needs nothing but onnxruntime: its
    probabilities are calibrated, each image has a conformal set and is referred or not, with the
    reason. A run predicts with torch, without calibration. Without images it predicts its own
    catalogue, or that of `data`, into a table that `evaluate` reads; what the run has learnt from
    keeps its part and is not scored as test. Folds predict their own catalogue out of fold.

    Args:
        images: one image, which gives an `Answer`: a file, its bytes, a PIL image or pixels (uint8,
            shape (height, width, 3)). Or several, which give `Predictions`: a list of files,
            folders (searched through) and patterns such as "archive/**/*.dcm"; one folder or
            pattern; a catalogue or its folder. Of DICOM files age, sex and site are taken, too.
        model: a bundle, a run, folds, or where one of them is; None: the bundle that comes with
            lesionlab.
        age: of the person on all images, in years; for a bundle that takes it.
        sex: of the person on all images, female or male; for a bundle that takes it.
        site: where on the body all images are from, such as back; for a bundle that takes it.
        metadata: instead of these three, a table, or a CSV, of image_id (a file's name without its
            suffix), age, sex and site. What it lacks is unknown; without it a catalogue and DICOM
            files have their own.
        data: a catalogue to predict instead of images, or its folder.
        out: a table to write of several images, .csv, or with a bundle .parquet (which needs
            pyarrow); with a bundle the same call again goes on where one was stopped. None writes
            nothing.
        top: with a bundle, how many of the likeliest classes get columns of their own.
        workers: with a bundle, threads; by default one per core.
        on: with a bundle, "local"; or "ray" to share a table out over the machines of a Ray cluster
            that see the same files: the one that RAY_ADDRESS names or that this machine is part of;
            or name its head, "ray://HOST:10001".
        cpus: on a cluster, processors that each task asks for, by default 1.
        fresh: with a bundle, discard what an earlier call has left of the same table.
        views: with a run, average each image's probabilities over so many of its symmetries: 2 adds
            the mirror image, 4 all flips, 8 all turns; each by itself goes into a second table
            beside the first, such as predictions.views.parquet (or .csv).
        cache: with a run, folder of the image caches; by default `cache` beside the catalogue.
        device: with a run, auto takes CUDA where there is one.
        listen: told of the progress.

    Returns:
        An `Answer` of one image, else `Predictions`. A bundle's table has image_id, path, of a
        catalogue lesion_id, target and part, then predicted, p_<class>..., top_<rank>..., set,
        malignancy, refer, reason, novelty, error, and of a catalogue logit_<class>...; a run's of
        images image_id, path, p_<class>..., predicted and error, of a catalogue a predictions table
        as `evaluate` reads it.

    Raises:
        ImageFault: if the one image cannot be read whole.
        DataError: if there is no image, or none that can be read; if the catalogue has classes that
            the model does not know.
        BundleError, RunError: if the model cannot be opened, or the run is not finished; if the
            table was begun with something else.
        SettingsError: if an option is out of range, or is of no use to this model.
        MissingExtraError: if the model needs torch or onnxruntime and that is not installed.

    Example:
        >>> answer = predict("photo.jpg", age=55, site="back")  # doctest: +SKIP
        >>> answer.predicted, answer.refer, answer.text  # doctest: +SKIP
        >>> predict(["photos/"], model="mole.bundle", out="predictions.csv")  # doctest: +SKIP
    """
    person = {"age": age, "sex": sex, "site": site}
    known = {name: value for name, value in person.items() if value is not None}
    if known and metadata is not None:
        names = ", ".join(known)
        raise SettingsError(f"metadata tells of each image, {names} of all: give one of them.")
    if images is not None and data is not None:
        raise SettingsError("Give images or a catalogue, not both: leave out one of the two.")
    opened = open_model(model)
    if isinstance(opened, Run | Folds):
        unused = {"top": top != 3, "workers": workers is not None, "fresh": fresh}
        unused |= {"on": on != "local", "cpus": cpus is not None}
        _refuse(unused | dict.fromkeys(known, True), "a bundle", f"{opened.folder} is a run")
        return _by_run(opened, images, metadata, data, out, views, cache, device, listen)
    unused = {"views": views != 1, "cache": cache is not None, "device": device != "auto"}
    _refuse(unused, "a run", f"{opened.bundle.path.name} is a bundle")
    if _is_one_image(images):
        return _one(opened, images, known or metadata)
    if isinstance(data, str | Path) and not _holds_catalogue(Path(data)):
        Catalogue.open(data)  # says how to make one
    sources = _sources(data if images is None else images)
    options: dict[str, Any] = {"metadata": known or metadata, "top": top, "workers": workers}
    if out is None and on != "local":
        raise SettingsError("A cluster predicts into a file: name one with `out`.")
    if out is None:
        return predict_in_memory(opened, sources, **options, listen=listen)
    options |= {"on": on, "cpus": cpus, "fresh": fresh}
    return predict_files(opened, sources, out=out, **options, listen=listen)


def open_model(
    model: Bundle | Predictor | Run | Folds | str | Path | None,
) -> Predictor | Run | Folds:
    """What `predict` asks, opened; None: the bundle that comes with lesionlab.

    Raises:
        BundleError, RunError: if it cannot be opened.
    """
    if isinstance(model, Predictor | Run | Folds):
        return model
    if isinstance(model, str | Path) and Path(model).is_dir():
        return open_run(model)
    return Predictor(model)


def _refuse(unused: Mapping[str, bool], owner: str, this: str) -> None:
    if names := [name for name, given in unused.items() if given]:
        raise SettingsError(f"{', '.join(names)}: for {owner} only, and {this}. Leave it out.")


def _is_one_image(images: Any) -> bool:
    if isinstance(images, str | Path):
        return Path(images).is_file() and Path(images).name != FILE_NAME
    return isinstance(images, bytes | Image.Image | np.ndarray)


def _one(predictor: Predictor, image: Any, metadata: Metadata | Mapping[str, Any] | None) -> Answer:
    name = Path(image).stem if isinstance(image, str | Path) else "image"
    reader = Reader(Path())
    told = None if metadata is None else metadata_of(predictor.bundle, metadata, [name])
    if isinstance(image, str | Path):
        pixels, facts = predictor.read_file(str(image), reader)
        told = predictor.completed(told, facts)
    elif isinstance(image, bytes):
        pixels = predictor.read(image)
    else:
        pixels = _pixels_of(image, predictor.bundle.images)
    answers = predictor.answers(pixels[None], told, maps=True)
    return answer_of_bundle(predictor.bundle, answers, name, pixels)


def _pixels_of(image: Image.Image | Pixels, images: Images) -> Pixels:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DataError(
                f"Pixels are uint8 of shape (height, width, 3), not {image.dtype} of {image.shape}."
            )
        image = Image.fromarray(image)
    return to_pixels(image, images)


def _sources(images: Any) -> list[str | Path]:
    if images is None:
        raise DataError("Give images to predict: a file, several, or a folder of them.")
    if isinstance(images, Catalogue):
        if images.home is None:
            raise DataError("This catalogue is only in memory: save it first, `data.save(folder)`.")
        return [images.home]
    if isinstance(images, str | Path):
        return [images]
    if wrong := [each for each in images if not isinstance(each, str | Path)]:
        raise SettingsError(
            f"Several images are given as files, not as {type(wrong[0]).__name__}; those in memory "
            "one by one."
        )
    return list(images)


def _by_run(
    run: Run | Folds,
    images: Any,
    metadata: Metadata | None,
    data: Catalogue | str | Path | None,
    out: str | Path | None,
    views: int,
    cache: str | Path | None,
    device: Device,
    listen: Listener,
) -> Answer | Predictions:
    try:
        from lesionlab.prediction.run_predictor import predict_run
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("A run", error) from error
    if isinstance(images, bytes | Image.Image | np.ndarray):
        raise SettingsError("With a run give the image's file: predict('photo.jpg', model=run).")
    if isinstance(images, Catalogue) or (
        isinstance(images, str | Path) and _holds_catalogue(Path(images))
    ):
        images, data = None, images
    one = _is_one_image(images)
    table = predict_run(
        run,
        _sources(images) if images is not None else (),
        data=data,
        out=None if one else out,
        metadata=metadata,
        views=views,
        cache_to=cache,
        device=device,
        listen=listen,
    )
    if one and isinstance(run, Run):
        pixels = Reader(Path()).pixels(str(images), run.recipe.images)
        return answer_of_run(str(run.folder), run.classes, table.iloc[0], pixels)
    reasons = {"unreadable": int((table["error"] != "").sum())} if "error" in table else {}
    return Predictions(len(table), reasons, None if out is None else Path(out), table)


def _holds_catalogue(path: Path) -> bool:
    return path.name == FILE_NAME or (path / FILE_NAME).is_file()
