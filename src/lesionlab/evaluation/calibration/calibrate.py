"""`calibrate`: fit a scaling on part val, apply it to every part, and say what it changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lesionlab.display import Result
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.calibration.scaling import (
    METHODS,
    Method,
    Scaling,
    fit,
    log_probabilities,
)
from lesionlab.evaluation.ensembles.result import write_made
from lesionlab.evaluation.intervals.bootstrap import lesion_codes
from lesionlab.evaluation.predictions.load import Source, arrays_of, open_predictions, rows_of
from lesionlab.files import read_json
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import classes_of

FILE_NAME = "calibration.json"

FEW_LESIONS = 20
"""Classes with fewer lesions in val than this are warned of where each gets numbers of its own."""


@dataclass(frozen=True, eq=False, repr=False)
class CalibratedPredictions(Result):
    """Calibrated predictions and how they came about.

    Attributes:
        predictions: all parts, with new probabilities.
        scaling: what was fitted.
        fitted_on: part, images and lesions of the fit.
        log_loss: on val: "before", "after" (of the very images that it was fitted on) and
            "unseen" (of folds that were fitted without them).
        warnings: what a reader must know.
    """

    predictions: pd.DataFrame
    scaling: Scaling
    fitted_on: Mapping[str, Any]
    log_loss: Mapping[str, float]
    warnings: tuple[str, ...] = ()

    def shown(self) -> list[tuple[str, pd.DataFrame]]:
        """Log losses on val, as `Result.shown` says."""
        return [("Log loss on val", pd.DataFrame([self.log_loss]))]

    def to_json(self) -> dict[str, Any]:
        """How it was made, as plain values; everything but the predictions."""
        losses = {name: None if np.isnan(x) else x for name, x in self.log_loss.items()}
        return {
            **self.scaling.to_json(),
            "fitted_on": dict(self.fitted_on),
            "log_loss_on_val": losses,
            "warnings": list(self.warnings),
        }

    def save(self, out: str | Path) -> Path:
        """Write the table and, as JSON, what was fitted, as `ensemble.write_made` does.

        Args:
            out: a CSV, or a folder, whose JSON is calibration.json.
        """
        return write_made(out, self.predictions, FILE_NAME, self.to_json())

    def __repr__(self) -> str:
        return (
            f"<CalibratedPredictions by {self.scaling.method} on {self.fitted_on['images']} images>"
        )


def calibrate(
    predictions: Source,
    *,
    method: Method = "temperature",
    seed: int = 0,
    listen: Listener = silent,
) -> CalibratedPredictions:
    """Fit a scaling of the probabilities on part val and apply it to every part.

    Args:
        predictions: anything that `evaluate` takes, with rows of part val.
        method: temperature (one number; decisions stay as they are), vector (two per class) or
            dirichlet (a matrix).
        seed: of the folds in which the penalty is chosen.
        listen: told of every warning.

    Raises:
        DataError: if there is no val part; or if it lacks a class and the method has numbers of
            its own for each.
        FindingsError: with every fault of the table at once.
        SettingsError: if there is no such method.

    Example:
        >>> made = calibrate("runs/first")  # doctest: +SKIP
        >>> made.scaling.temperature  # doctest: +SKIP
    """
    if method not in METHODS:
        raise SettingsError(f"There is no method {method!r}. Choose one of {', '.join(METHODS)}.")
    table = open_predictions(predictions)
    classes = classes_of(table)
    rows = rows_of(table, "val")
    targets, _ = arrays_of(rows)
    codes, count = lesion_codes(rows["lesion_id"].to_numpy(dtype=object))
    lesions = {name: len(np.unique(codes[targets == i])) for i, name in enumerate(classes)}
    if method != "temperature" and (absent := [name for name in classes if not lesions[name]]):
        raise DataError(
            f"Part val has no lesion of {', '.join(absent)}, so {method} scaling would never "
            "answer with it. Take --method temperature, or a split with a larger val part."
        )
    logs = log_probabilities(rows)
    scaling, unseen = fit(logs, targets, codes, classes, method=method, seed=seed)
    each = np.arange(len(rows))
    losses = {
        "before": -float(logs[each, targets].mean()),
        "after": -float(scaling.logits(logs)[each, targets].mean()),
        "unseen": unseen,
    }
    warnings = _warnings(method, lesions, losses, table)
    for text in warnings:
        listen(Notice(text, "warning"))
    size = {"part": "val", "images": len(rows), "lesions": count, "lesions_by_class": lesions}
    return CalibratedPredictions(scaling.apply(table), scaling, size, losses, warnings)


def load_scaling(path: str | Path) -> Scaling:
    """Read the scaling that `Calibrated.save` wrote, to apply it to other tables of that model.

    Raises:
        DataError: if the file is missing or is something else.
    """
    return Scaling.from_json(read_json(Path(path)))


def _warnings(
    method: Method, lesions: Mapping[str, int], losses: Mapping[str, float], table: pd.DataFrame
) -> tuple[str, ...]:
    texts = []
    few = [f"{name} ({count})" for name, count in lesions.items() if count < FEW_LESIONS]
    if method != "temperature" and few:
        texts.append(
            f"Part val has fewer than {FEW_LESIONS} lesions of {', '.join(few)}: the numbers that "
            f"{method} scaling has for these rest on little."
        )
    if losses["unseen"] > losses["before"]:
        texts.append(
            f"On lesions of val that it was not fitted on, {method} scaling made the log loss "
            f"worse ({losses['before']:.4f} to {losses['unseen']:.4f}). Leave the predictions as "
            "they are, or take a method with fewer numbers."
        )
    if crossing := leak(table, "val", "test"):
        texts.append(crossing)
    return tuple(texts)


def leak(table: pd.DataFrame, one: str, other: str) -> str:
    """A sentence about lesions that are in two parts; "" where there are none."""
    of = {part: set(table.loc[table["part"] == part, "lesion_id"]) - {""} for part in (one, other)}
    shared = len(of[one] & of[other])
    return (
        f"{shared} lesions are in {one} and in {other}: what was fitted on {one} flatters {other}. "
        "Split again by lesion_id."
        if shared
        else ""
    )
