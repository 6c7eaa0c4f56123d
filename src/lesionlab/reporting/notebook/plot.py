"""The report's figures as matplotlib axes, to be changed, combined and saved like any others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.splits import Split
from lesionlab.errors import SettingsError
from lesionlab.evaluation.calibration.reliability_diagram import TOP, reliability_curve
from lesionlab.evaluation.comparison.compare import compare as compare_models
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.predictions.load import Source, open_predictions
from lesionlab.evaluation.roc_curve import roc as roc_curve
from lesionlab.recipe.schema import Recipe
from lesionlab.reporting.figures import model
from lesionlab.reporting.figures import reliability as diagrams
from lesionlab.reporting.figures.distributions import grouped
from lesionlab.reporting.figures.pictures import pictures
from lesionlab.reporting.figures.style import figures_of
from lesionlab.reporting.report.comparison import drawn
from lesionlab.run import Run
from lesionlab.tables import Part


def roc(predictions: Source, *, part: Part = "test") -> Axes:
    """ROC curves, each class against the rest, with AUROC and the operating points.

    Args:
        predictions: anything that `lesionlab.evaluate` takes.
        part: which rows.

    Raises:
        DataError, FindingsError, RunError: as `lesionlab.evaluate`.

    Example:
        >>> axes = roc("runs/a")  # doctest: +SKIP
        >>> axes.figure.savefig("roc.pdf")  # doctest: +SKIP
    """
    table = open_predictions(predictions)
    result = evaluate(table, part=part, replicates=0)
    points = {
        label: roc_curve(table, label, part)
        for label in result.classes
        if result[f"auroc/{label}"].defined
    }
    return _axes(lambda: model.rocs(points, result))[0]


def confusion(predictions: Source, *, part: Part = "test") -> Axes:
    """The confusion matrix: of each true class, the shares that are called what.

    Args and raises: as `roc`.
    """
    result = evaluate(predictions, part=part, replicates=0)
    return _axes(lambda: model.confusion(result))[0]


def reliability(
    predictions: Source, label: str = TOP, *, part: Part = "test", replicates: int = 1000
) -> Axes:
    """The probability that a model gave, against how often it was right.

    Args:
        predictions: as for `roc`.
        label: a class; by default whichever is likeliest.
        part: which rows.
        replicates: of the bootstrap; 0 leaves out the intervals.

    Raises:
        SettingsError: if there is no such class.
    """
    table = open_predictions(predictions)
    curve = reliability_curve(table, part=part, bins=10, replicates=replicates)
    rows = curve[curve["curve"] == label]
    if rows.empty:
        known = ", ".join(map(str, curve["curve"].unique()))
        raise SettingsError(f"There is no curve of {label!r}. Choose one of {known}.")
    seen = "right" if label == TOP else f"{label} by diagnosis"
    title = f"Reliability, {label}, n = {int(rows['images'].sum()):,} images"
    return _axes(lambda: diagrams.reliability(rows, title, f"{seen}, share"))[0]


def curves(run: Run | str | Path) -> list[Axes]:
    """Loss, accuracy and validation metrics epoch by epoch, one below the other.

    Args:
        run: a run or its folder, finished or not.

    Raises:
        RunError: if it is no run, or has no finished epoch.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    return _axes(lambda: model.curves(run.history, run.info.get("kept_epoch")))


def compare(
    predictions: Sequence[Source] | Mapping[str, Source],
    metric: str = "balanced_accuracy",
    *,
    part: Part = "test",
    replicates: int = 1000,
) -> Axes:
    """Paired differences of a metric to the first model, with their 95 % intervals.

    Args and raises: as `lesionlab.compare`.
    """
    found = compare_models(predictions, part=part, metrics=[metric], replicates=replicates)
    return _axes(lambda: drawn(found, found.metrics[0]))[0]


def views(
    recipe: Recipe,
    data: Catalogue,
    split: Split,
    *,
    fold: int = 0,
    examples: int = 4,
    each: int = 4,
) -> list[Axes]:
    """Images of the first epoch: a row each, untouched as val and test see it, then random views.

    `lesionlab views` writes the same as a page, with the classes before and after sampling.

    Args:
        recipe: images, augment, sampling and seed are what counts.
        data: the catalogue.
        split: its split.
        fold: which fold of the split.
        examples: how many images.
        each: how many views of each.

    Raises:
        FindingsError: if the split leaks or does not belong to the catalogue.
        ImageFault: if an image cannot be read.
        SettingsError: if the recipe names what does not exist.
    """
    from lesionlab.training.views import draw_views

    shown = draw_views(recipe, data, split, fold=fold, examples=examples, each=each)
    return _axes(lambda: pictures([(target, row) for _, target, row in shown.rows]))


def sampling(recipe: Recipe, data: Catalogue, split: Split, *, fold: int = 0) -> Axes:
    """Shares of the classes in the training part, and in what an epoch shows of it.

    Args and raises: as `views`.
    """
    from lesionlab.training.views import SHADES, class_shares, first_epoch

    _, epoch = first_epoch(recipe, data, split, fold)
    shares = class_shares(epoch, data.classes)
    title = f"Sampling {recipe.sampling.kind}, n = {len(epoch.order):,} images an epoch"
    return _axes(lambda: grouped(shares, title, "share of the images", SHADES))[0]


def _axes(draw: Callable[[], Any]) -> list[Axes]:
    (figure,) = figures_of(draw)
    return list(figure.axes)
