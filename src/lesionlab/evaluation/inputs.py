"""What evaluation takes in: a predictions table, checked, and one part of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import DataError
from lesionlab.tables import PARTS, check_predictions, classes_of, read_predictions


def open_predictions(source: pd.DataFrame | Path | str) -> pd.DataFrame:
    """Check a predictions table, or read one from a CSV or Parquet file.

    Raises:
        DataError: if the file cannot be read.
        FindingsError: with every fault of the table at once.
    """
    if isinstance(source, pd.DataFrame):
        return check_predictions(source)
    return read_predictions(Path(source))


def rows_of(predictions: pd.DataFrame, part: str) -> pd.DataFrame:
    """The rows of one part, sorted by image_id so that no result depends on the order of a file.

    Args:
        predictions: a checked table.
        part: train, val or test.

    Raises:
        DataError: if there are none; says which parts there are.
    """
    rows = predictions[predictions["part"] == part]
    if rows.empty:
        counts = predictions["part"].value_counts()
        has = ", ".join(f"{name} ({counts[name]} images)" for name in PARTS if name in counts)
        raise DataError(
            f"The predictions have no images of part {part!r}. "
            f"They have: {has or 'no rows at all'}. Choose one of these parts, "
            "or predict the images that are missing."
        )
    return rows.sort_values("image_id", kind="stable").reset_index(drop=True)


def arrays_of(rows: pd.DataFrame) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Targets as positions in the class order, shape (n,), and probabilities, shape (n, k)."""
    classes = classes_of(rows)
    targets = pd.Index(classes).get_indexer(pd.Index(rows["target"]))
    return targets, rows[[f"p_{label}" for label in classes]].to_numpy(dtype=np.float64)
