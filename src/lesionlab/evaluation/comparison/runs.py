"""The runs of a folder as one table: the settings in which they differ, and what came of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from lesionlab.advice import command
from lesionlab.errors import RunError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.recipe import validation
from lesionlab.run import FOLDS, HISTORY, INFO, RECIPE, Folds, Run, open_run

FIGURES = ("run", "state", "epochs", "val", "test", "minutes")
"""Columns of every table of `list_runs`; the others are settings."""


def list_runs(folder: str | Path = "runs") -> pd.DataFrame:
    """List the runs in a folder, at any depth, the best on val first.

    Args:
        folder: where they are. The runs within folds are not listed by themselves.

    Returns:
        Columns run (its path in the folder), state ("complete", "training", or how many folds are
        there), epochs (kept and trained), val and test (balanced accuracy, of val that of the kept
        epoch or of the best one so far; of folds the mean over them, and the pooled figure), and
        minutes; then, by dotted name, every setting in which two of them differ.

    Raises:
        RunError: if there is no run.

    Example:
        >>> list_runs("runs")  # doctest: +SKIP
    """
    folder = Path(folder)
    markers = sorted([*folder.rglob(FOLDS), *folder.rglob(INFO)])
    homes = dict.fromkeys(path.parent for path in markers if (path.parent / RECIPE).is_file())
    homes = {home: None for home in homes if not (home.parent / FOLDS).is_file()}
    if not homes:
        train = command("train", "RECIPE", data="DATA", out=folder / "first")
        raise RunError(f"{folder} holds no run. Train one: {train}")
    opened = {str(home.relative_to(folder)) or ".": open_run(home) for home in homes}
    settings = {
        name: dict(validation.leaves(each.recipe.to_dict())) for name, each in opened.items()
    }
    keys = dict.fromkeys(key for leaves in settings.values() for key in leaves)
    differing = [key for key in keys if len({str(s.get(key)) for s in settings.values()}) > 1]
    rows = [
        {"run": name, **_figures(each), **{key: settings[name].get(key) for key in differing}}
        for name, each in opened.items()
    ]
    table = pd.DataFrame(rows, columns=[*FIGURES, *differing])
    return table.sort_values("val", ascending=False, kind="stable", ignore_index=True)


def packed(table: pd.DataFrame) -> pd.DataFrame:
    """What `list_runs` gives, with all settings of a run in one cell: for a terminal."""
    settings = [name for name in table if name not in FIGURES]
    words = [
        ", ".join(f"{key}={row[key]}" for key in settings if _known(row[key]))
        for row in table.to_dict("records")
    ]
    made = table[list(FIGURES)].assign(settings=words)
    return made if settings else made.drop(columns="settings")


def _known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _figures(opened: Run | Folds) -> dict[str, Any]:
    """State and figures of a run or of folds."""
    if isinstance(opened, Folds):
        runs = list(opened.runs.values())
        made = {
            "state": "complete" if opened.complete else f"{len(runs)} of {opened.info['folds']}",
            "epochs": "",
            "val": _mean([_val(run) for run in runs]),
            "minutes": sum(run.info.get("minutes", math.nan) for run in runs),
        }
    else:
        made = {
            "state": opened.info["state"],
            "epochs": _epochs(opened),
            "val": _val(opened),
            "minutes": opened.info.get("minutes", math.nan),
        }
    test = math.nan
    if opened.complete and (opened.predictions["part"] == "test").any():
        test = evaluate(opened.predictions, replicates=0)["balanced_accuracy"].value
    return {**made, "test": test}


def _epochs(run: Run) -> str:
    if run.complete:
        return f"{run.info['kept_epoch']}/{run.info['epochs']}"
    return str(len(run.history)) if (run.folder / HISTORY).is_file() else "0"


def _val(run: Run) -> float:
    """Balanced accuracy on val of the kept epoch, or of the best one so far."""
    if not (run.folder / HISTORY).is_file() or not len(run.history):
        return math.nan
    values = run.history.set_index("epoch")["val_balanced_accuracy"]
    return float(values.get(run.info.get("kept_epoch"), values.max()))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
