"""Test-time views: the same image seen in several symmetries, and the mean of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import SettingsError
from lesionlab.files import replacing, write_csv
from lesionlab.numerics import log_softmax, softmax

Views = Literal[1, 2, 4, 8]
"""The image alone; with its mirror image; all four flips; all eight symmetries."""


def check_views(views: int) -> None:
    """Make sure that so many views are a group of symmetries.

    Raises:
        SettingsError: if they are not.
    """
    if views not in get_args(Views):
        raise SettingsError(
            f"views: {views} is not one of 1 (the image alone), 2 (and its mirror image), 4 (all "
            "flips) and 8 (all symmetries)."
        )


def averaged(
    logits: NDArray[np.float32], shares: NDArray[np.float64] | None = None
) -> NDArray[np.floating]:
    """Logits of the mean probability.

    Args:
        logits: of every view, shape (views, n, classes).
        shares: of each view, adding up to 1, shape (views, 1, 1); None: all the same.

    Returns:
        Shape (n, classes). One view's own logits, untouched; of several views the natural logarithm
        of the mean of their probabilities, float64: their softmax is that mean.
    """
    if len(logits) == 1:
        return np.asarray(logits[0])
    values = log_softmax(logits)
    top = values.max(axis=0)  # of log probabilities: no probability is too small to be averaged
    spread = np.exp(values - top)
    mean = spread.mean(axis=0) if shares is None else (shares * spread).sum(axis=0)
    return np.asarray(top + np.log(mean))


def remove_views(beside: Path) -> None:
    """Remove the views of an earlier table of this name."""
    for path in _files(beside):
        path.unlink(missing_ok=True)


def _files(beside: Path) -> tuple[Path, Path]:
    name = f"{beside.stem}.views"
    return beside.with_name(f"{name}.parquet"), beside.with_name(f"{name}.csv")


def write_views(
    beside: Path, images: pd.DataFrame, classes: Sequence[str], logits: NDArray[np.float32]
) -> Path:
    """Write what each view alone was given.

    Args:
        beside: a predictions table; the views go into its folder, under its name.
        images: the columns that name an image, one row each.
        classes: in the order of the logits.
        logits: of every view, shape (views, n, classes); NaN where an image could not be read.

    Returns:
        The file, of predictions.csv predictions.views.parquet where pyarrow is installed, else
        predictions.views.csv: the given columns, then view (0-7, see
        `lesionlab.augmentation.symmetries.NAMES`) and p_<class>..., an image's views one below the
        other, images that could not be read left out.
    """
    views, n, _ = logits.shape
    table = images.loc[images.index.repeat(views)].reset_index(drop=True)
    table["view"] = np.tile(np.arange(views), n)
    probabilities = softmax(logits).transpose(1, 0, 2).reshape(n * views, -1)
    for index, name in enumerate(classes):
        table[f"p_{name}"] = probabilities[:, index]
    table = table.dropna(subset=[f"p_{name}" for name in classes])
    as_parquet, as_csv = _files(beside)
    if find_spec("pyarrow") is None:
        write_csv(as_csv, table)
        return as_csv
    path = as_parquet
    with replacing(path) as part:
        table.to_parquet(part, index=False)
    return path
