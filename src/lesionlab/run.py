"""Run: the folder of one training, opened again without torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lesionlab.errors import RunError
from lesionlab.files import read_json, write_json
from lesionlab.recipe import Recipe
from lesionlab.tables import check_predictions, read_csv

INFO = "run.json"
RECIPE = "recipe.yaml"
SPLIT = "split.csv"
HISTORY = "history.csv"
PREDICTIONS = "predictions.csv"
CHECKPOINTS = "checkpoints"
IDENTITY = ("catalogue", "split", "fold", "preprocessing", "recipe")


@dataclass(frozen=True)
class Run:
    """A folder that holds one training.

    Files: run.json (identity, state, environment), recipe.yaml (every setting), split.csv,
    history.csv (one row per epoch), model.json and model.safetensors (the kept epoch),
    predictions.csv (train, val and test), and checkpoints/ while it is not finished.

    Attributes:
        folder: where it is.
    """

    folder: Path

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open a run folder.

        Raises:
            RunError: if the folder is none.
        """
        folder = Path(folder)
        if not (folder / INFO).is_file():
            raise RunError(
                f"{folder} is no run folder: it has no {INFO}. Train first: lesionlab train"
            )
        return cls(folder)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def info(self) -> dict[str, Any]:
        """What run.json says: identity, state, classes, notes, environment, kept epoch."""
        info: dict[str, Any] = read_json(self.folder / INFO)
        return info

    @property
    def complete(self) -> bool:
        """Whether training and prediction are finished."""
        return bool(self.info["state"] == "complete")

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the catalogue's order."""
        return tuple(self.info["classes"])

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return Recipe.load(self.folder / RECIPE)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per epoch: epoch, phase, lr, train_loss, val_loss, val_balanced_accuracy, ..."""
        path = self.folder / HISTORY
        if not path.is_file():
            raise RunError(f"{self.folder} has no finished epoch yet.")
        history: pd.DataFrame = read_csv(path).apply(pd.to_numeric)
        return history

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The predictions table of train, val and test.

        Raises:
            RunError: if the run is not finished.
        """
        path = self.folder / PREDICTIONS
        if not path.is_file():
            raise RunError(
                f"{self.folder} has no predictions yet. Give the same `lesionlab train` command "
                "again: it goes on where it stopped."
            )
        return check_predictions(read_csv(path), str(path))

    def update(self, **changes: Any) -> None:
        """Write changed entries of run.json."""
        write_json(self.folder / INFO, {**self.info, **changes})
