"""Predictions of a trained network: from cached images, files or folders to a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from lesionlab.augmentation.batch import normalise
from lesionlab.models.zoo import Architecture
from lesionlab.progress import Listener, Step, silent

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
