"""Normalisation by the training part: the mean and deviation of its pixels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lesionlab.augmentation.colour_constancy import gains
from lesionlab.data.images.cache import Cache
from lesionlab.errors import DataError
from lesionlab.models.factory import Architecture
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.recipe.schema import Recipe
from lesionlab.training.datasets import shown

_NEAR = 0.02  # means and deviations that differ by less, about five grey levels, are the same
_FLAT = 1e-6


def normalised(
    architecture: Architecture,
    recipe: Recipe,
    table: pd.DataFrame,
    pixels: Cache,
    listen: Listener = silent,
) -> Architecture:
    """The architecture with the normalisation that the recipe asks for.

    Only images of part train are looked at, and of these only those that the run ever shows, each
    once, whatever the sampling. The statistics are a function of these images alone, so a run that
    goes on finds the same again.

    Args:
        architecture: with the normalisation of its weights.
        recipe: all settings.
        table: a catalogue's table with `part`.
        pixels: the cache of its images.
        listen: told of the progress and of what was found.

    Raises:
        DataError: if a channel is the same everywhere.
    """
    if recipe.model.normalisation == "weights":
        return architecture
    train = table[table["part"] == "train"]
    numbers = {name: index for index, name in enumerate(architecture.classes)}
    targets = np.asarray(train["target"].map(numbers), np.int64)
    kept = shown(targets, recipe.sampling, recipe.seed)
    rows = pixels.rows(list(train["sha256"].iloc[kept]))
    mean, std = statistics_of(pixels.pixels, rows, recipe.images.colour_constancy, listen)
    told = f"mean {_spoken(mean)}, deviation {_spoken(std)}"
    given = (*architecture.mean, *architecture.std)
    if recipe.model.pretrained is not False and not np.allclose((*mean, *std), given, atol=_NEAR):
        expected = f"mean {_spoken(architecture.mean)}, deviation {_spoken(architecture.std)}"
        listen(
            Notice(
                f"The weights were made with {expected}; model.normalisation gives them the "
                f"training part's {told}. What is frozen cannot adapt to that: let all layers "
                "learn, or leave model.normalisation at weights.",
                "warning",
            )
        )
    else:
        listen(Notice(f"Normalised by the {len(rows)} images of the training part: {told}."))
    return replace(architecture, mean=mean, std=std)


def statistics_of(
    pixels: NDArray[np.uint8],
    rows: NDArray[np.int64],
    colour_constancy: str = "none",
    listen: Listener = silent,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel over all pixels of some images, in one pass.

    One image is in memory at a time. Sums of an image are exact, and images are added up exactly,
    so neither the order of the images nor that of the cache moves a digit.

    Args:
        pixels: uint8, shape (images, height, width, 3).
        rows: which of them, shape (n,); one that is named twice counts twice.
        colour_constancy: a method of `constancy.gains`, applied first.
        listen: told of the progress.

    Returns:
        Mean and deviation (of the population), in units of `pixel * gain / 255`.

    Raises:
        DataError: if a channel is the same everywhere.
    """
    sums = np.empty((len(rows), 2, 3))
    for number, row in enumerate(np.sort(rows)):
        image = np.array(pixels[row])
        values = image.reshape(-1, 3).T.astype(np.float64, order="C")
        gain = gains(torch.from_numpy(image[None]), colour_constancy).double().numpy()[0]
        sums[number] = values.sum(axis=1) * gain, np.einsum("ij,ij->i", values, values) * gain**2
        if (number + 1) % 64 == 0 or number + 1 == len(rows):
            listen(Step("measuring pixels", number + 1, len(rows), "images"))
    count = len(rows) * math.prod(pixels.shape[1:3])
    first, second = (
        [math.fsum(sums[:, k, c]) / count / 255 ** (k + 1) for c in range(3)] for k in (0, 1)
    )
    std = tuple(math.sqrt(max(0.0, s - m * m)) for m, s in zip(first, second, strict=True))
    if min(std) < _FLAT:
        raise DataError(
            "The training part's pixels cannot be normalised by their own deviation: a colour "
            "channel is the same everywhere. Set model.normalisation to weights."
        )
    return tuple(first), std


def _spoken(values: tuple[float, ...]) -> str:
    return " ".join(f"{each:.3f}" for each in values)
