"""Verbs that train many times.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lesionlab.cli.outcome import (
    Outcome,
    WarningsLast,
    catalogue_and_split,
    headline,
    training_room,
)
from lesionlab.errors import SettingsError
from lesionlab.progress import Listener

if TYPE_CHECKING:
    import pandas as pd

    from lesionlab.evaluation.evaluation_result import Evaluation

_MOST_TRIALS = 10  # that are shown


def folds(
    recipe: Path,
    *,
    data: Path,
    out: Path,
    split: Path | None = None,
    only: list[str] | None = None,
    cache: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    fresh: bool = False,
    changes: Mapping[str, Any],
    listen: Listener,
) -> Outcome:
    """Train a network for every fold of a split, and pool their predictions of unseen images.

    Each fold is an ordinary run in OUT/fold_0, OUT/fold_1, ... OUT/predictions.csv holds every test
    image once, predicted by the network that never saw its lesion; `evaluate OUT` and `report OUT`
    read it. The same command again goes on where it was stopped. Any setting of the recipe can be
    changed with its dotted name.

    Example: lesionlab folds recipes/mobilenetv4_conv_small.yaml --data data/ham10000 --out runs/cv

    Args:
        recipe: a YAML file of settings.
        data: the catalogue's folder.
        out: the folder of the folds, new or unfinished.
        split: the split's CSV, of several folds; by default split.csv beside the catalogue.
        only: train these folds alone, such as 0,2; another machine may train the others.
        cache: folder of caches; by default `cache` beside the catalogue.
        device: auto takes CUDA where there is one.
        fresh: discard what that folder holds, or with --only those folds.
    """
    from lesionlab.recipe.schema import Recipe

    settings = Recipe.load_with(recipe, changes)
    opened, parts = catalogue_and_split(data, split)
    chosen = _numbers(only)
    training = training_room("training.cross_validation")
    from lesionlab.evaluation.evaluate import evaluate

    made = training.folds(
        settings,
        opened,
        parts,
        out=out,
        only=chosen,
        cache_to=cache,
        device=device,
        fresh=fresh,
        listen=listen,
    )
    if not made.complete:
        missing = sorted(set(range(parts.folds)) - set(made.runs))
        return Outcome(
            lines=[
                f"Trained: fold {', '.join(map(str, made.runs))}. Still missing: fold "
                f"{', '.join(map(str, missing))}. The tables are written when all are there."
            ]
        )
    pooled = evaluate(made.predictions, listen=WarningsLast(listen))  # the headline brings them
    outcome = headline(pooled, f"{out}, every fold's test part together")
    outcome.tables.insert(0, ("Each fold by itself", _per_fold(made.summary, pooled)))
    outcome.lines += [
        "Pooled AUROC ranks the scores of different networks against each other: expect it below "
        "the mean of the folds.",
        f"Written: {out}. Next: lesionlab report {out} --data {data} --out report.html",
    ]
    return outcome


def _numbers(words: list[str] | None) -> list[int] | None:
    if words is None:
        return None
    parts = [part for word in words for part in word.split(",") if part]
    if wrong := [part for part in parts if not part.isdecimal()]:
        raise SettingsError(f"--only takes folds, such as --only 0,2, not {', '.join(wrong)}.")
    return [int(part) for part in parts]


def _per_fold(summary: pd.DataFrame, pooled: Evaluation) -> pd.DataFrame:
    """Figures of each fold, their mean and spread, and those of all images together."""
    import pandas as pd

    counted = [name for name in ("images", "lesions") if name in summary]
    names = map(str, summary)
    figures = [name for name in names if "accuracy" in name or "auroc" in name or "/" in name]
    rows = [
        {
            "fold": str(int(row["fold"])),
            **{name: str(int(row[name])) for name in counted},
            **{name: f"{row[name]:.3f}" for name in figures},
        }
        for row in summary.to_dict("records")
    ]
    values = summary[figures]
    rows.append(
        {
            "fold": "mean ± sd",
            **{name: f"{values[name].mean():.3f} ± {values[name].std():.3f}" for name in figures},
        }
    )
    sizes = {"images": pooled["accuracy"].n, "lesions": pooled["accuracy"].groups}
    rows.append(
        {
            "fold": "pooled",
            **{name: str(sizes[name]) for name in counted},
            **{name: str(pooled[name]) for name in figures if name in pooled},
        }
    )
    table = pd.DataFrame(rows).fillna("")
    return table.rename(columns=lambda name: str(name).replace("_", " ").replace("/", " "))


def tune(
    recipe: Path,
    *,
    data: Path,
    out: Path,
    space: Path | None = None,
    try_: list[str] | None = None,
    split: Path | None = None,
    fold: int = 0,
    trials: int | None = None,
    minutes: float | None = None,
    sampler: Literal["tpe", "random", "grid"] = "tpe",
    prune: bool = False,
    workers: int = 1,
    cache: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    fresh: bool = False,
    changes: Mapping[str, Any],
    listen: Listener,
) -> Outcome:
    """Search for better settings: train trial after trial and judge each on val, never on test.

    Trials are compared by the recipe's select.metric on the val part; part test is not predicted.
    OUT/best.yaml is the best trial's recipe, OUT/trials.csv has them all, OUT/trial_0007 is a run
    folder. The same command again finishes what was stopped, with more --trials it goes on.

    Example: lesionlab tune recipe.yaml --data data/ham10000 --out runs/search
    --try phases.0.optim.lr=1e-4..1e-2:log loss.kind=cross_entropy,focal --trials 30

    Args:
        recipe: a YAML file of settings that the search starts from.
        data: the catalogue's folder.
        out: the folder of the search, new or unfinished.
        space: a YAML file of what to try: by dotted key {low: 1e-4, high: 1e-2, log: true} or
            {choices: [...]}.
        try_: what to try, in words: key=low..high, key=low..high:log or key=a,b,c; wins over
            --space.
        split: the split's CSV; by default split.csv beside the catalogue.
        fold: which fold is the test part that stays unseen.
        trials: how many in all; by default 20, every combination for grid, or as many as fit into
            --minutes.
        minutes: begin no trial after so long.
        sampler: tpe learns from the trials before, random does not, grid tries every combination.
        prune: end trials early that fall below the median of the others.
        workers: processes that train at the same time.
        cache: folder of caches; by default `cache` beside the catalogue.
        device: auto takes CUDA where there is one.
        fresh: discard an earlier search in that folder.
    """
    from lesionlab.recipe.schema import Recipe
    from lesionlab.recipe.validation import read_yaml

    settings = Recipe.load_with(recipe, changes)
    opened, parts = catalogue_and_split(data, split)
    searching = training_room("training.tuning.tune")
    from lesionlab.training.tuning.search_space import read_words

    given = {**(read_yaml(space) if space else {}), **read_words(try_ or [])}
    made = searching.tune(
        settings,
        opened,
        parts,
        given,
        out=out,
        fold=fold,
        trials=trials,
        minutes=minutes,
        sampler=sampler,
        prune=prune,
        workers=workers,
        cache_to=cache,
        device=device,
        fresh=fresh,
        listen=listen,
    )
    metric = settings.select.metric
    table = made.trials.sort_values("value", ascending=False, kind="stable")
    states = made.trials["state"].value_counts()
    shown = table[["trial", "state", "value", "epochs", "minutes", *given]].rename(
        columns={"value": metric.replace("_", " ")}
    )
    return Outcome(
        [("The best trials, judged on val", _short(shown.head(_MOST_TRIALS)))],
        [
            ", ".join(f"{count} {state}" for state, count in states.items()) + ".",
            f"Best: trial {made.best_trial}, {metric} {made.value:.3f} on val. The best of many on "
            "the same images flatters; test was neither predicted nor scored.",
            f"Written: {out}. Next: lesionlab train {out / 'best.yaml'} --data {data} "
            "--out NEW_FOLDER",
        ],
    )


def _short(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text: numbers with four digits, nothing where there is none."""
    import pandas as pd

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return "" if pd.isna(value) else f"{value:.4g}"
        return str(value)

    return pd.DataFrame({name: [cell(each) for each in table[name]] for name in table.columns})
