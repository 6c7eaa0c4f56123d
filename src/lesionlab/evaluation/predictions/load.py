"""What evaluation takes in: predictions tables, checked, by name, by part, in other classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import DataError, SettingsError
from lesionlab.run import FOLDS, INFO, PREDICTIONS, Folds, Run, open_run
from lesionlab.tables import PARTS, check_predictions, classes_of, read_predictions
from lesionlab.taxonomy import GROUPINGS, Grouping, order


class HasPredictions(Protocol):
    """A run, folds, a blend: whatever has a predictions table."""

    @property
    def predictions(self) -> pd.DataFrame:
        """The table, as `tables.check_predictions` describes it."""
        ...


Source = pd.DataFrame | HasPredictions | Path | str
"""Where predictions come from: a table, a run, folds, a blend, a CSV or Parquet file, a folder."""


def open_predictions(source: Source) -> pd.DataFrame:
    """Check a predictions table, or read one.

    Args:
        source: a table; a run, folds or a blend; a CSV or Parquet file; the folder of a run, of
            folds or of a blend.

    Raises:
        DataError: if the file cannot be read.
        FindingsError: with every fault of the table at once.
        RunError: if the run is not finished.
    """
    if isinstance(source, pd.DataFrame):
        return check_predictions(source)
    if isinstance(source, Run | Folds):
        return source.predictions
    if not isinstance(source, str | Path):
        return check_predictions(source.predictions)
    path = Path(source)
    if not path.is_dir():
        return read_predictions(path)
    if (path / INFO).is_file() or (path / FOLDS).is_file():
        return open_run(path).predictions
    if not (path / PREDICTIONS).is_file():
        raise DataError(
            f"{path} holds no {PREDICTIONS}. Name a run's folder, a blend's, or a predictions CSV."
        )
    return read_predictions(path / PREDICTIONS)


def open_all(sources: Sequence[Source] | Mapping[str, Source]) -> dict[str, pd.DataFrame]:
    """Open several predictions tables under distinct names.

    Args:
        sources: by name; or in a row, and then a file or folder lends its own name, as much of its
            path as it takes to tell them apart, and a table is called "table 1", "table 2", ...;
            what stands there twice is numbered.

    Raises:
        DataError, FindingsError, RunError: as `open_predictions`.
    """
    if not isinstance(sources, Mapping):
        sources = dict(zip(names_of(sources), sources, strict=True))
    return {name: open_predictions(source) for name, source in sources.items()}


def names_of(sources: Sequence[Any]) -> list[str]:
    """The names that `open_all` gives to sources, and to recipes or their files, in a row."""
    paths = [_path_of(source) for source in sources]
    names = [
        f"table {number}" if path is None else _tail(path, 1)
        for number, path in enumerate(paths, start=1)
    ]
    for length in range(2, max((len(path.parts) for path in paths if path), default=1) + 1):
        names = [
            _tail(path, length) if path and names.count(name) > 1 else name
            for path, name in zip(paths, names, strict=True)
        ]
    names = [  # no path tells one source from itself
        _tail(path, 1) if path and names.count(name) > 1 else name
        for path, name in zip(paths, names, strict=True)
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({names[:place].count(name) + 1})"
        for place, name in enumerate(names)
    ]


def _path_of(source: Any) -> Path | None:
    if not isinstance(source, Run | Folds | str | Path):
        return None
    path = source.folder if isinstance(source, Run | Folds) else Path(source)
    if path.name == PREDICTIONS:
        path = path.parent
    elif path.suffix in (".csv", ".parquet", ".yaml", ".yml"):
        path = path.with_suffix("")
    return path.resolve() if path.name in ("", "..") else path


def _tail(path: Path, length: int) -> str:
    return str(Path(*path.parts[-length:]))


def read_as(predictions: pd.DataFrame, as_: str) -> pd.DataFrame:
    """Read a predictions table as the answer to another question: add up its probabilities.

    A table that is of the new classes already stays as it is.

    Args:
        predictions: a checked table.
        as_: a name of `taxonomy.GROUPINGS`.

    Returns:
        The table with the new classes in their order; logits are left out.

    Raises:
        DataError: naming every class that the grouping does not know; or if it makes one of all.
        SettingsError: if there is no such grouping.
    """
    grouping = grouping_of(as_)
    classes = classes_of(predictions)
    if unknown := [name for name in classes if name not in grouping.groups]:
        raise DataError(
            f"The predictions cannot be read as {as_}: the rule ({grouping.rule}) does not say "
            f"what {', '.join(unknown)} would be."
        )
    groups = {grouping.groups[name] for name in classes}
    if len(groups) == 1:
        raise DataError(
            f"All classes of this table ({', '.join(classes)}) are {groups.pop()} when read as "
            f"{as_}: there is nothing to tell apart. Leave out --as to score them as they are."
        )
    if all(grouping.groups[name] == name for name in classes):
        return predictions
    kept = [name for name in predictions.columns if not str(name).startswith(("p_", "logit_"))]
    made = predictions[kept].assign(target=predictions["target"].map(dict(grouping.groups)))
    for group in order(list(grouping.groups.values())):
        members = [f"p_{name}" for name in classes if grouping.groups[name] == group]
        made[f"p_{group}"] = predictions[members].sum(axis=1).clip(0.0, 1.0)
    return made


def grouping_of(as_: str) -> Grouping:
    """The grouping of that name.

    Raises:
        SettingsError: if there is none.
    """
    if as_ not in GROUPINGS:
        raise SettingsError(f"There is no grouping {as_!r}. Choose one of {', '.join(GROUPINGS)}.")
    return GROUPINGS[as_]


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
