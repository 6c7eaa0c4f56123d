"""Predictions of a trained network: from cached images, files or folders to a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from lesionlab.augmentation.batch import normalise
from lesionlab.data.images import EXTENSIONS, ImageFault, Reader
from lesionlab.errors import DataError, RunError
from lesionlab.files import write_csv
from lesionlab.models import zoo
from lesionlab.models.zoo import Architecture
from lesionlab.progress import Listener, Step, silent
from lesionlab.run import Run

Device = Literal["auto", "cpu", "cuda"]

CHUNK = 128
"""Images per step; fixed, so that no batch size can change a digit."""


def predict_rows(
    network: nn.Module,
    architecture: Architecture,
    pixels: NDArray[np.uint8],
    rows: NDArray[np.int64],
    *,
    listen: Listener = silent,
) -> NDArray[np.float32]:
    """Logits of decoded images.

    Args:
        network: from `zoo.build` or `zoo.load`; set to evaluation mode here.
        architecture: its classes and normalisation.
        pixels: uint8, shape (images, height, width, 3).
        rows: which of them, shape (n,).
        listen: told of the progress.

    Returns:
        float32, shape (n, classes).
    """
    network.eval()
    device = next(network.parameters()).device
    found = np.empty((len(rows), len(architecture.classes)), np.float32)
    with torch.inference_mode():
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            images = torch.from_numpy(pixels[rows[part]]).to(device)
            logits = network(normalise(images, architecture.mean, architecture.std))
            found[part] = logits.float().cpu().numpy()
            listen(Step("predicting", min(start + CHUNK, len(rows)), len(rows), "images"))
    return found


def choose_device(device: Device) -> str:
    """Turn "auto" into "cuda" where there is one, else "cpu".

    Raises:
        DataError: if CUDA is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DataError("There is no CUDA device here. Take --device cpu, or auto.")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities in float64, shape (n, classes); each row adds up to 1."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def predictions_table(
    table: pd.DataFrame, classes: Sequence[str], logits: NDArray[np.float32]
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
    chances = softmax(logits)
    for index, name in enumerate(classes):
        made[f"p_{name}"] = chances[:, index]
    for index, name in enumerate(classes):
        made[f"logit_{name}"] = logits[:, index].astype(np.float64)
    return made


def predict(
    run: Run | str | Path,
    images: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    device: Device = "auto",
    listen: Listener = silent,
) -> pd.DataFrame:
    """Class probabilities of image files and of all images in folders.

    An image that cannot be read becomes a row with its error and does not end the call.

    Args:
        run: a finished run.
        images: files, and folders that are searched through.
        out: where to write the table as CSV; None writes nothing.
        device: "auto" takes CUDA where there is one.
        listen: told of the progress.

    Returns:
        One row per image: image_id, path, p_<class>..., predicted (the likeliest class), error.

    Raises:
        RunError: if the run is not finished.
        DataError: if there is no image at all, or none that can be read.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    if not run.complete:
        raise RunError(
            f"{run.folder} is not finished: give the same `lesionlab train` command again first."
        )
    files = _image_files([Path(each) for each in images])
    network, architecture = zoo.load(run.folder)
    network.to(choose_device(device))
    logits = np.full((len(files), len(architecture.classes)), np.nan, np.float32)
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
        logits[start : start + CHUNK] = predict_rows(network, architecture, pixels, rows)
        listen(Step("predicting", min(start + CHUNK, len(files)), len(files), "images"))
    failed = np.array([bool(error) for error in errors])
    if failed.all():
        raise DataError(f"None of the {len(files)} images can be read. The first: {errors[0]}.")
    chances = softmax(logits)
    chances[failed] = np.nan
    table = pd.DataFrame(
        {"image_id": [each.stem for each in files], "path": [str(each) for each in files]}
    )
    for index, name in enumerate(architecture.classes):
        table[f"p_{name}"] = chances[:, index]
    likeliest = np.where(failed, 0, np.nan_to_num(chances).argmax(axis=1))
    table["predicted"] = np.where(failed, "", np.array(architecture.classes)[likeliest])
    table["error"] = errors
    if out is not None:
        write_csv(Path(out), table)
    return table


def _image_files(given: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.suffix.lower() in EXTENSIONS)
            if not inside:
                raise DataError(f"{path} holds no images ({', '.join(EXTENSIONS)}).")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path} does not exist. Give image files or folders of images.")
    if not found:
        raise DataError("Give at least one image file or folder.")
    return found
