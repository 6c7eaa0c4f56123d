"""ROC curve of one class of a predictions table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.predictions.load import open_predictions, rows_of
from lesionlab.tables import classes_of


def roc(predictions: pd.DataFrame | Path | str, label: str, part: str = "test") -> pd.DataFrame:
    """Points of the ROC curve of one class against the rest, equal scores collapsed to one point.

    Args:
        predictions: a predictions table or its file.
        label: the class.
        part: train, val or test.

    Returns:
        Columns threshold (descending, inf first), fpr and tpr (both ascending from 0 to 1): the
        shares of other images and of the class's images that score the threshold or more.

    Raises:
        DataError: if the part has no images, none of the class, or none of another class.
        FindingsError: with every fault of the table at once.
        SettingsError: if there is no such class.
    """
    table = open_predictions(predictions)
    classes = classes_of(table)
    if label not in classes:
        raise SettingsError(f"There is no class {label!r}. Choose one of {', '.join(classes)}.")
    rows = rows_of(table, part)
    positive = (rows["target"] == label).to_numpy(dtype=bool)
    if positive.all() or not positive.any():
        raise DataError(
            f"{int(positive.sum())} of the {len(rows)} images of part {part!r} are {label}: "
            "a ROC curve needs images of the class and of others. Choose another class or part."
        )
    scores = rows[f"p_{label}"].to_numpy(dtype=np.float64)
    thresholds = np.unique(scores)[::-1]

    def share(values: NDArray[np.float64]) -> NDArray[np.float64]:
        below = np.searchsorted(np.sort(values), thresholds, side="left")
        return np.append(0.0, (len(values) - below) / len(values))

    return pd.DataFrame(
        {
            "threshold": np.append(np.inf, thresholds),
            "fpr": share(scores[~positive]),
            "tpr": share(scores[positive]),
        }
    )
