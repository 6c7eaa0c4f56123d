"""Verbs that read predictions and runs.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lesionlab.cli.outcome import (
    Outcome,
    WarningsLast,
    headline,
    parts_side_by_side,
    side_by_side,
    training_room,
)
from lesionlab.progress import Listener


def evaluate(
    predictions: Path,
    *,
    part: Literal["train", "val", "test"] = "test",
    positive: str | None = None,
    as_: Literal["malignant-benign"] | None = None,
    replicates: int = 1000,
    seed: int = 0,
    out: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Score a predictions table, anybody's, with 95 % intervals that respect lesions.

    Example: lesionlab evaluate runs/first
    Example: lesionlab evaluate runs/first --as malignant-benign

    Args:
        predictions: a folder of `lesionlab train`, `lesionlab folds` or `lesionlab blend`, or a CSV
            with image_id, target, p_<class>, and optionally lesion_id and part.
        part: which part to score; thresholds always come from val.
        positive: the class of the sensitivity figures; by default mel, or malignant.
        as_: read seven classes as these two: their probabilities are added up.
        replicates: of the lesion-level bootstrap.
        seed: of the bootstrap.
        out: write all figures as JSON.
    """
    from lesionlab.evaluation.evaluate import evaluate as score

    result = score(
        predictions,
        part=part,
        replicates=replicates,
        seed=seed,
        positive=positive,
        as_=as_,
        listen=WarningsLast(listen),  # the headline brings them
    )
    outcome = headline(result, f"{predictions}, part {part}")
    if out:
        result.save(out)
        outcome.lines.append(f"Written: {out}")
    return outcome


def blend(
    members: list[Path],
    *,
    out: Path,
    method: Literal["mean", "weighted", "rank", "greedy", "stacking"] | None = None,
    metric: Literal["log_loss", "balanced_accuracy", "macro_auroc", "accuracy"] | None = None,
    runs: Path = Path("runs"),
    seed: int | None = None,
    listen: Listener,
) -> Outcome:
    """Make one predictions table out of several models' and score it: an ensemble.

    Weights and stacks are fitted on val, never on test. Members must have been trained on the same
    split and predict the same images.

    Example: lesionlab blend runs/first runs/second --method weighted --out runs/both
    Example: lesionlab blend recipes/c_ensemble.yaml --runs runs --out runs/c_ensemble

    Args:
        members: run folders and predictions tables; or one blend recipe, a YAML file.
        out: a folder for predictions.csv and blend.json, or the table's CSV.
        method: mean, weighted, rank, greedy or stacking; by default the recipe's, else mean.
        metric: what weighted, greedy and stacking are fitted for; by default log_loss.
        runs: the folder with the runs that a blend recipe names.
        seed: of the fit; by default the recipe's, else 0.
    """
    import pandas as pd

    from lesionlab.evaluation.ensembles.blend import blend as blend_predictions
    from lesionlab.evaluation.ensembles.recipe import BlendRecipe
    from lesionlab.evaluation.evaluate import evaluate as score

    recipe, sources = BlendRecipe(), list[Path]()
    if len(members) == 1 and members[0].suffix in (".yaml", ".yml"):
        recipe = BlendRecipe.load(members[0])
    else:
        sources = members
    own = recipe.metric if method in (None, recipe.method) else ""  # of the recipe's method
    made = blend_predictions(
        sources or recipe.folders(runs),
        method=method or recipe.method,
        metric=metric or own or None,  # type: ignore[arg-type]  # checked there
        seed=recipe.seed if seed is None else seed,
        listen=listen,
    )
    path = made.save(out)
    outcome = Outcome(lines=["There is no test part, so nothing was scored."])
    if (made.predictions["part"] == "test").any():
        result = score(made.predictions, listen=WarningsLast(listen))  # the headline brings them
        outcome = headline(result, f"{out}, part test")
    if made.weights:
        weights = pd.DataFrame(made.weights.items(), columns=["member", "weight"]).round(4)
        outcome.tables.insert(0, (f"Ensemble: {made.method}", weights))
    if made.fitted_on:
        size = f"{made.fitted_on['images']:,} images of {made.fitted_on['lesions']:,} lesions"
        outcome.lines.append(f"Fitted on part val ({size}) for {made.metric}; test had no say.")
    outcome.lines.append(f"Written: {path}")
    return outcome


def compare(
    predictions: list[Path],
    *,
    part: Literal["train", "val", "test"] = "test",
    metric: list[str] | None = None,
    positive: str | None = None,
    as_: Literal["malignant-benign"] | None = None,
    focus: str | None = None,
    replicates: int = 1000,
    seed: int = 0,
    out: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Set models side by side on the same images, with paired differences and their intervals.

    Takes anybody's predictions: a CSV with image_id, target and one p_<class> per class. Images
    that not every table has are left out. An interval of a difference that excludes 0 says that
    other lesions of the same kind would very likely show a difference, too; of many differences
    some do by chance, which the adjusted p value (Holm) allows for. McNemar and DeLong beside them.

    Example: lesionlab compare runs/first runs/second automl.csv --out table.csv

    Args:
        predictions: two or more folders of `lesionlab train`, `folds` or `blend`, or CSVs.
        part: which part to score; thresholds come from each model's own val part.
        metric: what to compare, such as macro_f1 or recall/mel; by default balanced_accuracy,
            macro_auroc, accuracy, sensitivity_at_90_specificity and log_loss.
        positive: the class of the sensitivity figures; by default mel, or malignant.
        as_: read seven classes as these two, so that a model of seven can be set beside one of two.
        focus: a model's name as the tables show it: compare it with each of the others only.
        replicates: of the lesion-level bootstrap.
        seed: of the bootstrap.
        out: write all figures and differences as CSV.
    """
    from lesionlab.evaluation.comparison.compare import METRICS
    from lesionlab.evaluation.comparison.compare import compare as set_side_by_side

    result = set_side_by_side(
        predictions,
        part=part,
        metrics=metric or METRICS,
        positive=positive,
        as_=as_,
        focus=focus,
        replicates=replicates,
        seed=seed,
        listen=WarningsLast(listen),  # the outcome brings them
    )
    outcome = side_by_side(result)
    if out:
        result.save(out)
        outcome.lines.append(f"Written: {out}")
    return outcome


def gaps(
    predictions: list[Path],
    *,
    metric: list[str] | None = None,
    replicates: int = 1000,
    seed: int = 0,
    out: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Score models on train, val and test, and give the gap between train and test.

    A wide gap is overfitting, two low figures are underfitting; docs/how-to/overfitting.md says
    what helps against each.

    Example: lesionlab gaps runs/first runs/second --out gaps.csv

    Args:
        predictions: folders of `lesionlab train`, or CSVs with a column part.
        metric: what to show, such as macro_f1 or recall/mel; by default balanced_accuracy,
            macro_auroc, accuracy and log_loss (less is better).
        replicates: of the lesion-level bootstrap.
        seed: of the bootstrap.
        out: write the table as CSV.
    """
    from lesionlab.evaluation.comparison.train_test_gap import METRICS
    from lesionlab.evaluation.comparison.train_test_gap import train_test_gap as by_part
    from lesionlab.files import write_csv

    table = by_part(
        predictions, metrics=metric or METRICS, replicates=replicates, seed=seed, listen=listen
    )
    outcome = parts_side_by_side(table)
    if out:
        write_csv(out, table)
        outcome.lines.append(f"Written: {out}")
    return outcome


def explain(
    run: Path,
    *,
    images: list[str] | None = None,
    files: list[Path] | None = None,
    count: int = 6,
    classes: list[str] | None = None,
    part: Literal["train", "val", "test"] = "test",
    untrained: bool = False,
    data: Path | None = None,
    out: Path = Path("explained"),
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    listen: Listener,
) -> Outcome:
    """Show which places of an image speak for a class (Grad-CAM), on right and wrong answers.

    A map is no proof of what the network attends to, and a good-looking one makes no answer right.

    Example: lesionlab explain runs/first --count 12 --untrained --out explained

    Args:
        run: the run's folder.
        images: ids of catalogued images; without them, and without files, some are drawn.
        files: image files that need not be in any catalogue, and folders of them.
        count: how many images to draw, right and wrong answers in turn, class after class.
        classes: which maps of each image: predicted, target, all, or classes by name; by default
            predicted target.
        part: which part to draw from.
        untrained: beside every map that of the same network with random weights. Where both are
            alike, the map shows the image and not what was learnt.
        data: the folder of the images' catalogue; by default the one trained on.
        out: a folder for the page, a PNG per image, the table and the maps; or an .html file for
            the page alone.
        seed: of the draw and of the random weights.
        device: auto takes CUDA where there is one.
    """
    explain_run = training_room("explanation.explain").explain
    last = WarningsLast(listen)
    made = explain_run(
        run,
        images or (),
        files=files or (),
        count=count,
        classes=classes or ("predicted", "target"),
        part=part,
        untrained=untrained,
        data=data,
        out=out,
        seed=seed,
        device=device,
        listen=last,
    )
    table = made.table()
    shown = table[["image_id", "target", "predicted", "class"]].assign(
        probability=table["probability"].map("{:.3f}".format),
        **({"likeness": table["likeness"].map("{:.2f}".format)} if untrained else {}),
    )
    page = out if out.suffix.lower() in (".html", ".htm") else out / "explain.html"
    return Outcome(
        [(f"Maps at {made.layer}", shown)],
        [f"Written: {page}. Open it in a browser."],
        last.warnings,
    )


def report(
    runs: list[Path],
    *,
    out: Path = Path("report.html"),
    data: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Write one self-contained HTML page: data, figures with intervals, curves, pictures, settings.

    Example: lesionlab report runs/first --out report.html

    Args:
        runs: run folders, folders of `lesionlab folds`, or predictions tables.
        out: the page to write.
        data: the catalogue's folder, for the example pictures; by default the one trained on.
    """
    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.reporting.report.report import report as write_report

    opened = Catalogue.open(data) if data else None
    last = WarningsLast(listen)
    path = write_report(runs, out, data=opened, listen=last)
    return Outcome(
        lines=[f"Written: {path}. Open it in a browser."],
        warnings=last.warnings,
    )
