"""`leaderboard`: a row per model, the columns of your choice, the best model first.

The sources' tables are such tables: C has accuracy on val and test, depth and parameters; B train
beside val for each technique; A networks side by side; D accuracy and loss of all models.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lesionlab.display import Result, html_table, latex_table, markdown_table, p_value, text_table
from lesionlab.errors import DataError, FindingsError, SettingsError
from lesionlab.evaluation.comparison.compare import compare
from lesionlab.evaluation.comparison.train_test_gap import GAP, figures_by_part
from lesionlab.evaluation.evaluate import evaluate, usual_positive
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.evaluation.predictions.load import (
    Source,
    names_of,
    open_predictions,
    read_as,
)
from lesionlab.files import write_csv, write_text
from lesionlab.progress import Listener, Step, silent
from lesionlab.recipe.schema import Recipe
from lesionlab.run import FOLDS, INFO, RECIPE, Folds, Run, open_run
from lesionlab.tables import PARTS, classes_of

FIGURES: Mapping[str, str] = {
    **{part: part for part in PARTS},
    "gap": GAP,
    "val_gap": "train - val",
    "difference": "",
}
"""Columns that a metric may stand behind, as in test:macro_auroc; by what `figures_by_part` says.

gap is train minus test, val_gap train minus val, difference the model minus the best one on test,
on the images that all of them predict.
"""

FACTS: Mapping[str, str] = {
    "network": "the network's name",
    "size": "height x width of its input, in pixels",
    "start": "pretrained or random weights",
    "depth": "convolutions and linear layers on the longest way through it",
    "keras_depth": "layers as Keras counts them, where source C prints them",
    "parameters": "how many, with the recipe's head",
    "trainable": "how many of them learn",
    "epochs": "that were trained",
    "minutes": "of training",
    "images_per_second": "predicted at the end of training, on that machine",
    "warnings": "how many `evaluate` has about its test part",
}
"""Columns of a run, or a recipe, itself."""

COLUMNS = ("val", "test", "difference", "parameters")
"""What is shown unless something else is asked for."""

LESS_IS_BETTER = ("log_loss", "brier")
WIDTH = 80
"""Characters of a line of the table as text."""


@dataclass(frozen=True, eq=False, repr=False)
class Leaderboard(Result):
    """Models as the rows of one table, the best first.

    Attributes:
        table: columns model, then what was asked for; figures with x_low and x_high beside them, a
            difference also with x_p, adjusted (Holm) over all pairs of models; nan or "" where a
            model has none.
        metric: of the columns that name none.
        best: the model that the differences are to; "" without differences.
        notes: what was left out or assumed.
    """

    table: pd.DataFrame
    metric: str
    best: str
    notes: tuple[str, ...]

    def shown(self) -> Sequence[tuple[str, pd.DataFrame]]:
        """The table without empty columns and with p values in words, as `Result.shown` says."""
        made = self.table
        values = [name for name in made if str(name).endswith("_p")]
        for name in values:
            words = ["" if math.isnan(each) else p_value(each) for each in made[name]]
            made = made.assign(**{str(name): words})
        empty = [n for n in made if made[n].isna().all() or (made[n].astype(str) == "").all()]
        made = made.drop(columns=empty)
        if len(values) == 1:
            made = made.rename(columns={values[0]: "p"})
        figures = any(f"{name}_low" in self.table for name in self.table)
        about = f"{self.metric.replace('_', ' ').capitalize()}, 95 % intervals"
        return [(about if figures else "Models", made)]

    def save(self, path: str | Path) -> None:
        """Write the table: as text, CSV, Markdown, LaTeX or HTML, by the ending of the name.

        Raises:
            SettingsError: if the ending is none of .txt, .csv, .md, .tex, .html.
        """
        path = Path(path)
        ((title, table),) = self.shown()
        if path.suffix == ".csv":
            write_csv(path, self.table)
            return
        writers = {
            ".txt": lambda: str(self),
            ".md": lambda: markdown_table(table),
            ".tex": lambda: latex_table(table),
            ".html": lambda: html_table(table, title),
        }
        if path.suffix not in writers:
            raise SettingsError(f"{path}: give it one of the endings .csv, {', '.join(writers)}.")
        write_text(path, writers[path.suffix]() + "\n")

    def __repr__(self) -> str:
        return f"<Leaderboard of {len(self.table)} models by {self.metric}>"

    def __str__(self) -> str:
        ((title, table),) = self.shown()
        notes = [textwrap.fill(f"Note: {text}", WIDTH) for text in self.notes]
        return "\n".join([title, "", text_table(table, width=WIDTH), "", *notes]).rstrip()


def leaderboard(
    models: Sequence[Source | Recipe] | Mapping[str, Source | Recipe],
    *,
    columns: Sequence[str] = COLUMNS,
    metric: str = "balanced_accuracy",
    sort: str | None = None,
    as_: str | None = None,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Leaderboard:
    """Set models in one table, the best first: figures with intervals, and what they are made of.

    Columns with a figure are train, val, test, gap (train - test), val_gap (train - val) and
    difference (to the best on test, paired by lesion). They are of `metric`, or of another one that
    stands behind: test:macro_auroc. Columns without are network, size, start, depth, keras_depth,
    parameters, trainable, epochs, minutes, images_per_second and warnings.

    Args:
        models: runs, folds, predictions tables, their folders or files, or recipes (YAML files),
            which have no figures; as a mapping, under names of your own.
        columns: which, in order.
        metric: a name as `evaluate` gives it, such as accuracy or recall/mel.
        sort: the column to sort by; by default test, or else the first one with a figure.
        as_: read every table as the answer to another question, such as malignant-benign.
        replicates: bootstrap replicates; 0 gives values without intervals.
        seed: of the bootstrap.
        listen: told of the progress.

    Raises:
        SettingsError: if there is no model, no such column or no such metric.
        DataError, FindingsError, RunError: if predictions cannot be read.

    Example:
        >>> leaderboard(["runs/a", "runs/b"], columns=["val", "test", "depth"])  # doctest: +SKIP
    """
    if not models:
        raise SettingsError("A leaderboard needs at least one run, predictions table or recipe.")
    wanted = [_column(name, metric) for name in dict.fromkeys(columns)]
    if not wanted:
        raise SettingsError(f"Name at least one column of {', '.join((*FIGURES, *FACTS))}.")
    if not isinstance(models, Mapping):
        models = dict(zip(names_of(models), models, strict=True))
    entries = {name: _Entry.open(source, as_) for name, source in models.items()}
    notes: list[str] = []
    rows: dict[str, dict[str, Any]] = {}
    for number, (name, entry) in enumerate(entries.items()):
        listen(Step("leaderboard", number, len(entries), "models", name))
        rows[name] = _figures(entry, wanted, replicates, seed)
        facts = [kind for kind, _, _ in wanted if kind in FACTS]
        rows[name] |= _facts(entry, facts, notes)
    best = ""
    for kind, of, title in wanted:
        if kind == "difference":
            best = _differences(entries, rows, of, title, replicates, seed, notes) or best
    if any(isinstance(each.opened, Folds) for each in entries.values()) and any(
        kind in ("train", "val", "gap", "val_gap") for kind, _, _ in wanted
    ):
        notes.append(
            "Of folds, test is every image predicted by the one network that never saw its lesion; "
            "train, val and gaps are means over the folds, without an interval."
        )
    listen(Step("leaderboard", len(entries), len(entries), "models"))
    titles = [title for _, _, title in wanted]
    table = pd.DataFrame(
        [{"model": name, **{c: v for t in titles for c, v in _cells(t, row).items()}}
         for name, row in rows.items()]
    )  # fmt: skip
    table = _sorted(table, wanted, sort, metric)
    return Leaderboard(table, metric, best, tuple(dict.fromkeys(notes)))


@dataclass(frozen=True)
class _Entry:
    """A model: its predictions, and the run, the folds or the recipe that it is known by."""

    predictions: pd.DataFrame | None
    opened: Run | Folds | None
    recipe: Recipe | None
    as_: str | None

    @classmethod
    def open(cls, source: Source | Recipe, as_: str | None) -> _Entry:
        if isinstance(source, str | Path):
            path = Path(source)
            if path.suffix in (".yaml", ".yml"):
                source = Recipe.load(path)
            elif (path / INFO).is_file() or (path / FOLDS).is_file():
                source = open_run(path)
        if isinstance(source, Recipe):
            return cls(None, None, source, as_)
        opened = source if isinstance(source, Run | Folds) else None
        table = open_predictions(source)
        known = opened is not None and (opened.folder / RECIPE).is_file()
        recipe = opened.recipe if opened and known else None
        return cls(read_as(table, as_) if as_ else table, opened, recipe, as_)

    @property
    def folds(self) -> list[pd.DataFrame]:
        """The predictions of each fold's run."""
        if not isinstance(self.opened, Folds):
            return []
        tables = [run.predictions for run in self.opened.complete_runs.values()]
        return [read_as(table, self.as_) if self.as_ else table for table in tables]


def _column(name: str, metric: str) -> tuple[str, str, str]:
    """Kind of a column, its metric, and its title."""
    kind, _, of = name.partition(":")
    if kind not in FIGURES and (kind not in FACTS or of):
        raise SettingsError(
            f"There is no column {name!r}. Columns of the metric, or of another one behind a "
            f"colon as in test:macro_auroc: {', '.join(FIGURES)}. Others: {', '.join(FACTS)}."
        )
    if kind in FACTS or of in ("", metric):
        return kind, metric, kind
    return kind, of, f"{of}_{kind}"


def _full(metric: str, positive: str) -> str:
    return f"{metric}/{positive}" if "_at_" in metric and "/" not in metric else metric


def _figures(
    entry: _Entry, wanted: Sequence[tuple[str, str, str]], replicates: int, seed: int
) -> dict[str, Any]:
    """The figures of one model that need no other model, by title of their column."""
    figures = [each for each in wanted if FIGURES.get(each[0])]
    table = entry.predictions
    if table is None or not figures:
        return {}
    positive = usual_positive(classes_of(table))
    metrics = list(dict.fromkeys(_full(of, positive) for _, of, _ in figures))
    parts = {word for kind, _, _ in figures for word in FIGURES[kind].split(" - ")}
    given = {"replicates": replicates, "seed": seed, "positive": positive}
    found = figures_by_part(table, metrics, tuple(parts), **given)  # type: ignore[arg-type]
    if folds := entry.folds:
        each = [
            figures_by_part(one, metrics, tuple(parts), replicates=0, seed=seed, positive=positive)
            for one in folds
        ]
        for key in each[0]:
            values = [one[key] for one in each if key in one]
            if key not in found:
                sizes = sum(e.n for e in values), sum(e.groups for e in values)
                mean = float(np.mean([e.value for e in values]))
                found[key] = Estimate(mean, math.nan, math.nan, *sizes)
    return {title: found.get((FIGURES[kind], _full(of, positive))) for kind, of, title in figures}


def _facts(entry: _Entry, wanted: Sequence[str], notes: list[str]) -> dict[str, Any]:
    """What is known of a run, of folds or of a recipe."""
    found: dict[str, Any] = {}
    recipe, opened = entry.recipe, entry.opened
    if "warnings" in wanted and entry.predictions is not None:
        found["warnings"] = len(evaluate(entry.predictions, replicates=0).warnings)
    if recipe is None:
        return found
    height, width = recipe.images.size
    found["network"], found["size"] = recipe.model.name, f"{height}x{width}"
    found["start"] = "pretrained" if recipe.model.pretrained else "random"
    runs = list(opened.runs.values()) if isinstance(opened, Folds) else [opened] if opened else []
    infos = [run.info for run in runs]
    if infos:
        found |= {name: infos[0].get(name) for name in ("parameters", "trainable", "depth")}
        found["minutes"] = sum(info.get("minutes", math.nan) for info in infos)
        for name in ("epochs", "images_per_second"):
            values = [info.get(name, math.nan) for info in infos]
            found[name] = float(np.mean(values))
    if any(name in wanted and found.get(name) is None for name in _COUNTED):
        try:
            from lesionlab.models.summary import summarise
        except ModuleNotFoundError:
            notes.append(
                "Depth and parameters that a run does not record need torch: "
                "pip install 'lesionlab[train]'."
            )
            return found
        classes = infos[0]["classes"] if infos else None
        counted = summarise(recipe, classes) if classes else summarise(recipe)
        notes += counted.notes
        found |= {n: getattr(counted, n) for n in _COUNTED if found.get(n) is None}
    return found


_COUNTED = ("depth", "keras_depth", "parameters", "trainable")


def _differences(
    entries: Mapping[str, _Entry],
    rows: Mapping[str, dict[str, Any]],
    metric: str,
    title: str,
    replicates: int,
    seed: int,
    notes: list[str],
) -> str:
    """Write each model's difference to the best one into its row; the name of the best."""
    tables = {
        name: each.predictions
        for name, each in entries.items()
        if each.predictions is not None and (each.predictions["part"] == "test").any()
    }
    if len(tables) < 2:
        return ""
    try:
        found = compare(tables, metrics=[metric], replicates=replicates, seed=seed)
    except (DataError, FindingsError) as error:
        notes.append(f"No differences: {str(error).partition(chr(10))[0].rstrip(':. ')}.")
        return ""
    (name,) = found.metrics
    known = {m: found.figures[m, name].value for m in tables if (m, name) in found.figures}
    known = {m: value for m, value in known.items() if not math.isnan(value)}
    if not known:
        return ""
    best = (min if metric in LESS_IS_BETTER else max)(known, key=lambda model: known[model])
    for model in tables:
        if model != best and model in known:
            rows[model][title], rows[model][f"{title}_p"] = found.between(model, best, name)
    notes.append(
        f"difference: {metric.replace('_', ' ')} minus that of {best}, on the {found.images:,} "
        f"test images of {found.lesions:,} lesions that all of them predict; p adjusted (Holm) "
        "over all pairs, so that it holds although the best was picked on the same images."
    )
    return best


def _cells(title: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A value, and the ends of its interval where it is an estimate."""
    each = row.get(title)
    if title.rpartition("_")[2] not in _ESTIMATES:
        return {title: each}
    each = each or Estimate(math.nan, math.nan, math.nan, 0, 0)
    made = {title: each.value, f"{title}_low": each.low, f"{title}_high": each.high}
    if title.endswith("difference"):
        made[f"{title}_p"] = row.get(f"{title}_p", math.nan)
    return made


_ESTIMATES = ("train", "val", "test", "gap", "difference")


def _sorted(
    table: pd.DataFrame,
    wanted: Sequence[tuple[str, str, str]],
    sort: str | None,
    metric: str,
) -> pd.DataFrame:
    titles = {title: (kind, of) for kind, of, title in wanted}
    if sort is None:
        figures = [title for title, (kind, _) in titles.items() if FIGURES.get(kind)]
        sort = "test" if "test" in titles else (figures or list(titles))[0]
    else:
        sort = _column(sort, metric)[2]
    if sort not in titles:
        raise SettingsError(f"Sort by one of the columns: {', '.join(titles)}.")
    kind, of = titles[sort]
    ascending = kind in FACTS or of in LESS_IS_BETTER or kind in ("gap", "val_gap")
    return table.sort_values(sort, ascending=ascending, kind="stable", ignore_index=True)
