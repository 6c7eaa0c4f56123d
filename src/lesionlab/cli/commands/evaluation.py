"""Commands that score predictions.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

from pathlib import Path

from lesionlab.cli.declaration import Call, command
from lesionlab.cli.outcome import Outcome, saved, shown
from lesionlab.errors import SettingsError


@command(
    "evaluation.evaluate.evaluate",
    "evaluate runs/first",
    "evaluate runs/first --as malignant-benign",
)
def evaluate(call: Call, *, out: Path | None = None) -> Outcome:
    """Score a predictions table, anybody's, with 95 % intervals that respect lesions.

    The table has image_id, target, p_<class>, and optionally lesion_id and part.

    Args:
        out: write all figures as JSON.
    """
    result = call()
    part = call.options.get("part", "test")
    return saved(shown(result, f"{call.options['predictions']}, part {part}"), result, out)


@command(
    "evaluation.comparison.compare.compare",
    "compare runs/first runs/second automl.csv --out table.csv",
)
def compare(call: Call, *, out: Path | None = None) -> Outcome:
    """Set models side by side on the same images, with paired differences and their intervals.

    Takes anybody's predictions: a CSV with image_id, target and one p_<class> per class. Images
    that not every table has are left out. An interval of a difference that excludes 0 says that
    other lesions of the same kind would very likely show a difference, too; of many differences
    some do by chance, which the adjusted p value (Holm) allows for. McNemar and DeLong beside them.

    `compare --parts` sets train, val and test side by side, `compare --baselines` a model beside
    two that see no lesion.

    Args:
        out: write all figures and differences as CSV.
    """
    result = call()
    return saved(shown(result), result, out)


@command(
    "evaluation.comparison.train_test_gap.train_test_gap",
    "compare --parts runs/first runs/second --out gaps.csv",
)
def compare_parts(call: Call, *, out: Path | None = None) -> Outcome:
    """Score models on train, val and test, and give the gap between train and test.

    A wide gap is overfitting, two low figures are underfitting; docs/how-to/overfitting.md says
    what helps against each.

    Args:
        out: write the table as CSV.
    """
    from lesionlab.evaluation.intervals.estimate import Estimate

    result = call()
    table = result.copy()
    columns = [table[name] for name in ("value", "low", "high", "images", "lesions")]
    table["figure"] = list(map(Estimate, *columns))
    table["metric"] = table["metric"].str.replace("_", " ")
    order = [(x, y) for x in table["metric"].unique() for y in table["model"].unique()]
    wide = table.pivot(index=["metric", "model"], columns="part", values="figure")
    wide = wide.reindex(index=order, columns=table["part"].unique()).dropna(how="all")
    shown = wide.reset_index().rename_axis(columns=None)
    return saved(Outcome([("Train, val and test", shown)]), result, out)


@command(
    "evaluation.comparison.leaderboard.leaderboard",
    "leaderboard runs/first runs/second automl.csv --columns train,val,gap,test,parameters",
    "leaderboard runs/* --columns val,test,test:macro_auroc,depth,minutes --out table.md",
    without=("models",),
)
def leaderboard(call: Call, models: list[Path], *, out: Path | None = None) -> Outcome:
    """Set models in one table, the best first: figures with intervals, and what they are made of.

    Columns with a figure are train, val, test, gap (train - test), val_gap (train - val) and
    difference (to the best on test, paired by lesion). They are of --metric, or of another one that
    stands behind: test:macro_auroc. Columns without are network, size, start, depth, keras_depth,
    parameters, trainable, epochs, minutes, images_per_second and warnings.

    Args:
        models: runs, folds and predictions tables; recipes, which have no figures.
        out: write the table as .csv, .md, .tex, .html or .txt.
    """
    result = call(models=models)
    return saved(Outcome(text=str(result)), result, out)


@command(
    "evaluation.comparison.baselines.baselines",
    "compare --baselines runs/first --out runs/first-baselines",
    without=("kinds",),
)
def compare_baselines(call: Call, *, data: Path | None = None, out: Path) -> Outcome:
    """Set a model beside two that look at no lesion: age, sex and site alone, and colours alone.

    Both are fitted on part train of the very split of the predictions, their one strength chosen on
    val. Each comes twice: as fitted, and re-weighted to classes of equal share, which is the one to
    beat in balanced accuracy. OUT gets four predictions tables like any other.

    Args:
        data: the catalogue's folder; not needed for a run whose catalogue is where it was.
        out: a folder for the tables.
    """
    result = call(data=data)
    call.warnings.clear()  # those of the baselines themselves are of no use
    outcome = shown(result)
    names = ", ".join(file.name for file in result.save(out))
    outcome.lines += [*result.notes, f"Written to {out}: {names}"]
    return outcome


@command(
    "evaluation.ensembles.blend.blend",
    "blend runs/first runs/second --method weighted --out runs/both",
    "blend recipes/c_ensemble.yaml --runs runs --out runs/c_ensemble",
)
def blend(call: Call, members: list[Path], *, out: Path, runs: Path = Path("runs")) -> Outcome:
    """Make one predictions table out of several models' and score it: an ensemble.

    Weights and stacks are fitted on val, never on test. Members must have been trained on the same
    split and predict the same images.

    Args:
        members: run folders and predictions tables; or one blend recipe, a YAML file.
        out: a folder for predictions.csv and blend.json, or the table's CSV.
        runs: the folder with the runs that a blend recipe names.
    """
    import pandas as pd

    from lesionlab.evaluation.ensembles.recipe import BlendRecipe
    from lesionlab.evaluation.evaluate import evaluate

    recipe, sources = BlendRecipe(), list(members)
    if len(members) == 1 and members[0].suffix in (".yaml", ".yml"):
        recipe, sources = BlendRecipe.load(members[0]), []
    method = call.options.get("method", recipe.method)
    fitted_for = recipe.metric if method == recipe.method else ""  # it is of the recipe's method
    ensemble = call(
        members=sources or recipe.folders(runs),
        method=method,
        metric=call.options.get("metric", fitted_for or None),
        seed=call.options.get("seed", recipe.seed),
    )
    path = ensemble.save(out)
    outcome = Outcome(lines=["There is no test part, so nothing was scored."])
    if (ensemble.predictions["part"] == "test").any():
        outcome = shown(evaluate(ensemble.predictions), f"{out}, part test")
    if ensemble.weights:
        weights = pd.DataFrame(ensemble.weights.items(), columns=["member", "weight"]).round(4)
        outcome.tables.insert(0, (f"Ensemble: {ensemble.method}", weights))
    if ensemble.fitted_on:
        size = "{images:,} images of {lesions:,} lesions".format(**ensemble.fitted_on)
        outcome.lines.append(f"Fitted on part val ({size}) for {ensemble.metric}; test had no say.")
    outcome.lines.append(f"Written: {path}")
    return outcome


@command(
    "evaluation.subgroups.subgroups.subgroups",
    "subgroups runs/first --by age sex age+sex --out groups.csv",
)
def subgroups(
    call: Call,
    *,
    data: Path | None = None,
    metrics: list[str] | None = None,
    out: Path | None = None,
) -> Outcome:
    """Score groups of patients and images, and tell real gaps between them from chance.

    Every group is compared with all other images. Means over classes run over the classes that both
    sides have, so that a group with more nevi is not called better for that. Groups with fewer than
    20 lesions get no figures; p values are adjusted (Holm) over all groups, metric by metric.

    Args:
        data: the catalogue's folder; not needed for a run whose catalogue is where it was.
        metrics: what to show, such as accuracy or overconfidence; by default balanced_accuracy and
            the sensitivity at 90 % specificity. --out writes all.
        out: write all figures and gaps as CSV.
    """
    result = call(data=data)
    known: dict[str, str] = {}
    for name in result.metrics:  # in full, without its class, and by its first word
        known |= {name.partition("/")[0].partition("_at_")[0]: name}
    known |= {name.partition("/")[0]: name for name in result.metrics}
    known |= {name: name for name in result.metrics}
    if wrong := [name for name in metrics or () if name not in known]:
        raise SettingsError(
            f"There is no metric {', '.join(map(repr, wrong))} here. Choose among "
            f"{', '.join(result.metrics)}."
        )
    chosen = list(dict.fromkeys(known[name] for name in metrics or ()))
    return saved(Outcome(result.shown(chosen), list(result.legend)), result, out)
