"""Run and Folds: the folders of one training and of one per fold, opened again without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pandas as pd

import lesionlab
from lesionlab._methods import PublicFunction
from lesionlab.advice import command
from lesionlab.display import Result
from lesionlab.errors import RunError
from lesionlab.files import read_json, write_json
from lesionlab.recipe.schema import Recipe
from lesionlab.tables import check_predictions, read_csv

if TYPE_CHECKING:
    from lesionlab.results import Answer, Predictions

INFO = "run.json"
RECIPE = "recipe.yaml"
SPLIT = "split.csv"
HISTORY = "history.csv"
PREDICTIONS = "predictions.csv"
CHECKPOINTS = "checkpoints"
FOLDS = "folds.json"
VAL_PREDICTIONS = "val_predictions.csv"
SUMMARY = "summary.csv"
_HINTS = {"catalogue": " (another data set)"}


@dataclass(frozen=True)
class Folder:
    """A folder of results, known by a file in it that says what they are.

    Attributes:
        folder: where it is.
        marker: the file's name.
        kind: what to call such a folder in messages.
        hint: how to make one.
    """

    folder: Path

    marker: ClassVar[str]
    kind: ClassVar[str]
    hint: ClassVar[str]

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open one that is there.

        Raises:
            RunError: if the folder is none of this kind.
        """
        folder = Path(folder)
        if not (folder / cls.marker).is_file():
            raise RunError(f"{folder} is no {cls.kind}: it has no {cls.marker}. {cls.hint}")
        return cls(folder)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def info(self) -> dict[str, Any]:
        """What that file says: identity, classes and so on."""
        info: dict[str, Any] = read_json(self.folder / self.marker)
        return info


@dataclass(frozen=True, repr=False)
class Run(Result, Folder):
    """A folder that holds one training.

    Files: run.json (identity, state, classes, sources, notes, where the weights are from,
    environment, kept epoch, day), recipe.yaml (every setting), split.csv, history.csv (one row per
    epoch), model.json and model.safetensors (the kept epoch), predictions.csv (train, val and
    test), and checkpoints/ while it is not finished.
    """

    marker = INFO
    kind = "run folder"
    hint = f"Train first: {command('train', 'RECIPE', data='DATA', out='NEW_FOLDER')}"

    calibrate = PublicFunction(lambda: lesionlab.calibrate)
    card = PublicFunction(lambda: lesionlab.card)
    conformal = PublicFunction(lambda: lesionlab.conformal)
    evaluate = PublicFunction(lambda: lesionlab.evaluate)
    explain = PublicFunction(lambda: lesionlab.explain)
    export = PublicFunction(lambda: lesionlab.export)
    report = PublicFunction(lambda: lesionlab.report)
    subgroups = PublicFunction(lambda: lesionlab.subgroups)
    trust = PublicFunction(lambda: lesionlab.trust)

    def predict(self, images: Any = None, **options: Any) -> Answer | Predictions:
        """`lesionlab.predict` with this run as its model."""
        return lesionlab.predict(images, model=self, **options)

    def shown(self) -> list[tuple[str, pd.DataFrame]]:
        """The last epochs, as `Result.shown` says."""
        if not (self.folder / HISTORY).is_file():
            return []
        return [("Last epochs", self.history.tail(5))]

    def __repr__(self) -> str:
        state = f"kept {self.kept}" if self.complete else "not finished"
        return f"<Run {self.folder}: {state}>"

    @classmethod
    def finished(cls, run: Run | str | Path) -> Run:
        """A run that is finished.

        Args:
            run: opened, or its folder.

        Raises:
            RunError: if the folder is no run, or the run is not finished.
        """
        run = run if isinstance(run, Run) else cls.open(run)
        if not run.complete:
            raise RunError(
                f"{run.folder} is not finished: give the same `lesionlab train` command again "
                "first."
            )
        return run

    @property
    def complete(self) -> bool:
        """Whether training and prediction are finished."""
        return bool(self.info["state"] == "complete")

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the catalogue's order."""
        return tuple(self.info["classes"])

    @property
    def kept(self) -> str:
        """What was kept of a finished run: "epoch 7 of 30", or which candidate of a probe."""
        info = self.info
        if "probe" not in info:
            return f"epoch {info['kept_epoch']} of {info['epochs']}"
        strength = info["probe"].get("strength")
        if strength is None:
            return "the one candidate of a probe"
        return f"strength {strength:g}, candidate {info['kept_epoch']} of {info['epochs']}"

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


@dataclass(frozen=True)
class Folds(Folder):
    """A folder that holds one run per fold of a split, and their out-of-fold predictions.

    Files: folds.json (identity, classes, number of folds), recipe.yaml, split.csv, and fold_0,
    fold_1, ..., each a run folder. Once every fold is trained also predictions.csv (every test
    image, predicted by the one network that had no part of its lesion), val_predictions.csv (an
    image once for every fold that has it in val) and summary.csv (figures per fold).
    """

    marker = FOLDS
    kind = "folder of folds"
    hint = f"Train first: {command('train --folds', 'RECIPE', data='DATA', out='NEW_FOLDER')}"

    @property
    def runs(self) -> dict[int, Run]:
        """The finished runs by fold."""
        found = (
            (number, Run(self.run_folder(number))) for number in range(int(self.info["folds"]))
        )
        return {n: run for n, run in found if (run.folder / INFO).is_file() and run.complete}

    @property
    def complete_runs(self) -> dict[int, Run]:
        """The run of every fold.

        Raises:
            RunError: if not every fold is trained.
        """
        self._refuse_incomplete("predictions")
        return self.runs

    def run_folder(self, fold: int) -> Path:
        """Where the run of a fold is."""
        return self.folder / f"fold_{fold}"

    @property
    def complete(self) -> bool:
        """Whether every fold is trained and the out-of-fold table is written."""
        return (self.folder / SUMMARY).is_file()  # the last file written

    @property
    def recipe(self) -> Recipe:
        """The recipe of every fold."""
        return Recipe.load(self.folder / RECIPE)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The out-of-fold predictions table: part is "test", column fold says whose test part.

        Raises:
            RunError: if not every fold is trained.
        """
        return check_predictions(self._table(PREDICTIONS), str(self.folder / PREDICTIONS))

    @cached_property
    def val_predictions(self) -> pd.DataFrame:
        """Each fold's predictions of its own val part, for whatever is fitted fold by fold.

        One fold of it is a predictions table; the whole is none: images are in val several times.

        Raises:
            RunError: if not every fold is trained.
        """
        table = self._table(VAL_PREDICTIONS)
        folds = [check_predictions(rows) for _, rows in table.groupby("fold", sort=False)]
        return pd.concat(folds, ignore_index=True)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Figures of each fold's own test part: fold, images, lesions, balanced_accuracy, ..."""
        table: pd.DataFrame = self._table(SUMMARY).apply(pd.to_numeric)
        return table

    def _table(self, name: str) -> pd.DataFrame:
        self._refuse_incomplete(name)
        return read_csv(self.folder / name)

    def _refuse_incomplete(self, wanted: str) -> None:
        if not self.complete:
            missing = sorted(set(range(int(self.info["folds"]))) - set(self.runs))
            raise RunError(
                f"{self.folder} has no {wanted} yet: fold "
                f"{', '.join(map(str, missing)) or 'tables'} not finished. Give the same "
                "`lesionlab train --folds` command again: it goes on where it stopped."
            )


def holds(out: Path, marker: str) -> bool:
    """Whether a folder holds what one of these files says; not if it is empty or not there.

    Raises:
        RunError: if it holds anything else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / marker).is_file():
        raise RunError(f"{out} holds other files. Choose a new or empty folder with --out.")
    return True


def identity_differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """Each entry that differs as "name: its value -> yours"; those of a mapping entry by entry.

    An entry that is absent is one that is "": older folders know no metadata.
    """

    def entries(identity: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        parts = {k: v if isinstance(v, Mapping) else {k: v} for k, v in identity.items()}
        return {(k, name): value for k, part in parts.items() for name, value in part.items()}

    its, yours = entries(theirs), entries(mine)
    return [
        f"{key[1]}{_HINTS.get(key[1], '')}: "
        + " -> ".join(str(each.get(key, "(absent)")) for each in (its, yours))
        for key in dict.fromkeys([*its, *yours])
        if its.get(key, "") != yours.get(key, "")
    ]


def refuse_differences(out: Path, lines: Sequence[str], kind: str = "folder") -> None:
    """Refuse a folder, or a file, that was begun otherwise.

    Args:
        out: the folder or file.
        lines: each difference, its value -> yours.
        kind: "folder" or "file".

    Raises:
        RunError: if there are any.
    """
    if lines:
        listed = "\n".join(f"  {line}" for line in lines)
        raise RunError(
            f"{out} was begun with other settings or data (its value -> yours):\n{listed}\n"
            f"Choose another {kind} with --out, or discard what it holds with --fresh."
        )


def open_run(folder: str | Path) -> Run | Folds:
    """Open a run folder or a folder of folds.

    Raises:
        RunError: if the folder is neither.
    """
    return Folds.open(folder) if (Path(folder) / FOLDS).is_file() else Run.open(folder)
