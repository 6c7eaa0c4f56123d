"""What a blend gives back: an ensemble's predictions, and how they were made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lesionlab.display import Result
from lesionlab.errors import RunError
from lesionlab.evaluation.ensembles.stacking import Stack
from lesionlab.files import write_csv, write_json
from lesionlab.run import FOLDS, INFO, PREDICTIONS
from lesionlab.tables import classes_of

FILE_NAME = "blend.json"


@dataclass(frozen=True, eq=False, repr=False)
class Blend(Result):
    """An ensemble's predictions and how they came about.

    Attributes:
        predictions: those of the ensemble, as `tables.check_predictions` describes them.
        members: names of its members, in order.
        method: how they are combined.
        metric: what was fitted for; "" where nothing was fitted.
        seed: of the draws of the fit.
        weights: share of each member, adding up to 1; empty for rank and stacking.
        fitted_on: part, images and lesions of the fit; empty where nothing was fitted.
        stack: the fitted regression, for stacking.
    """

    predictions: pd.DataFrame
    members: tuple[str, ...]
    method: str
    metric: str = ""
    seed: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)
    fitted_on: Mapping[str, Any] = field(default_factory=dict)
    stack: Stack | None = None

    def shown(self) -> list[tuple[str, pd.DataFrame]]:
        """The weight of each member, as `Result.shown` says."""
        weights = [self.weights.get(name, math.nan) for name in self.members]
        table = pd.DataFrame({"member": self.members, "weight": weights})
        return [(f"Ensemble by {self.method}", table)]

    def to_json(self) -> dict[str, Any]:
        """How it was made, as plain values; everything but the predictions."""
        return {
            "kind": "lesionlab blend 1",
            "method": self.method,
            "members": list(self.members),
            "classes": list(classes_of(self.predictions)),
            "metric": self.metric,
            "seed": self.seed,
            "weights": dict(self.weights),
            "fitted_on": dict(self.fitted_on),
            "stack": self.stack.to_json() if self.stack else None,
        }

    def save(self, out: str | Path) -> Path:
        """Write the table and, as JSON, how it was made, as `write_made` does.

        Args:
            out: a CSV, or a folder, whose JSON is blend.json.
        """
        return write_made(out, self.predictions, FILE_NAME, self.to_json())


def write_made(out: str | Path, table: pd.DataFrame, side: str, told: Mapping[str, Any]) -> Path:
    """Write a made predictions table and, as JSON, how it was made.

    Args:
        out: a CSV, beside which the JSON gets the same name; or a folder, for predictions.csv and
            the JSON.
        table: the predictions.
        side: name of the JSON in a folder.
        told: what the JSON says.

    Returns:
        The table's path.

    Raises:
        RunError: if the folder is that of a run, or of folds.
    """
    out = Path(out)
    if out.suffix == ".csv":
        path, beside = out, out.with_suffix(".json")
    else:
        path, beside = out / PREDICTIONS, out / side
    for name, what in ((INFO, "a run"), (FOLDS, "folds")):
        if (path.parent / name).exists():
            raise RunError(
                f"{path.parent} holds {what}, whose files are not to be overwritten. Choose "
                "another folder with --out."
            )
    write_csv(path, table)
    write_json(beside, told)
    return path
