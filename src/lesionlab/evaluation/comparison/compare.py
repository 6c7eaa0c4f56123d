"""Two or more models on the same images: figures side by side, and their paired differences.

Both models of a pair are scored on the same bootstrap replicates of the lesions, so what makes some
images harder than others for both cancels out, and the interval is that of the difference. Of many
differences some are large by chance: their p values are adjusted for how many there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lesionlab.display import Result
from lesionlab.errors import SettingsError
from lesionlab.evaluation.comparison.pairwise_tests import PairedTest, paired_tests, pairs_of
from lesionlab.evaluation.evaluate import evaluate, usual_positive
from lesionlab.evaluation.evaluation_result import METRICS as KNOWN
from lesionlab.evaluation.evaluation_result import Evaluation
from lesionlab.evaluation.intervals.bootstrap import (
    Measure,
    Weights,
    lesion_codes,
    replicate,
)
from lesionlab.evaluation.intervals.estimate import Estimate, Values
from lesionlab.evaluation.intervals.p_values import holm_by_key, too_few
from lesionlab.evaluation.metrics.classification import classification
from lesionlab.evaluation.metrics.operating_points import operating_points
from lesionlab.evaluation.predictions.align import in_class_order, on_common_images, read_all_as
from lesionlab.evaluation.predictions.load import Source, arrays_of, grouping_of, open_all, rows_of
from lesionlab.files import write_csv
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import Part, classes_of

METRICS = (
    "balanced_accuracy",
    "macro_auroc",
    "accuracy",
    "sensitivity_at_90_specificity",
    "log_loss",
)
"""What is compared unless something else is asked for."""

_COLUMNS = (
    *("model", "reference", "metric", "value", "low", "high", "images", "lesions"),
    *("test", "p", "p_adjusted", "p_images"),
)

Key = tuple[str, str, str]
"""Model, reference and metric of a difference."""


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """Models on the same images.

    Attributes:
        models: their names, in order.
        metrics: what was compared; a metric of one class carries it behind a slash.
        figures: by model and metric; one that a model has not (no val to choose a threshold on) is
            missing.
        differences: by model, reference and metric: the model's figure minus the reference's, whose
            place in `models` is before. Missing where either figure is.
        p_values: of the same differences, from the same replicates; nan without an interval.
        adjusted: these p values adjusted (Holm) over all differences of the comparison: below 0.05
            a difference counts.
        tests: McNemar and DeLong of every pair.
        positive: the class of the sensitivities.
        focus: the model that all others are compared with, or None for every pair.
        left_out: by model, how many of its images of the part were not used.
        part: the part that was scored.
        images: how many images were scored, the same for all.
        lesions: how many lesions they show.
        warnings: what a reader must know before trusting a figure.
        notes: what was left out or assumed.
        replicates: bootstrap replicates behind each interval.
        seed: of the bootstrap.
    """

    models: tuple[str, ...]
    metrics: tuple[str, ...]
    figures: Mapping[tuple[str, str], Estimate]
    differences: Mapping[Key, Estimate]
    p_values: Mapping[Key, float]
    adjusted: Mapping[Key, float]
    tests: tuple[PairedTest, ...]
    positive: str
    focus: str | None
    left_out: Mapping[str, int]
    part: str
    images: int
    lesions: int
    warnings: list[str]
    notes: list[str]
    replicates: int
    seed: int

    def table(self) -> pd.DataFrame:
        """Figures, then differences, then classical tests, one per row.

        Returns:
            Columns model, reference ("" for a model's own figure; else the value is the model's
            minus the reference's), metric, value, low, high, images and lesions that it rests on,
            test ("" for a figure, else bootstrap, mcnemar or delong), p, p_adjusted (over all rows
            of the same test), and p_images, the textbook p that takes images as independent.
        """
        nothing = (math.nan,) * 3
        rows = [
            (model, "", metric, e.value, e.low, e.high, e.n, e.groups, "", *nothing)
            for (model, metric), e in self.figures.items()
        ]
        for key, e in self.differences.items():
            p = self.p_values[key], self.adjusted[key], math.nan
            rows.append((*key, e.value, e.low, e.high, e.n, e.groups, "bootstrap", *p))
        for t in self.tests:
            p = t.p, t.adjusted, t.p_images
            value = t.difference, t.low, t.high, t.images, t.lesions
            rows.append((t.model, t.reference, t.metric, *value, t.test, *p))
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    def save(self, path: str | Path) -> None:
        """Write `table` as CSV."""
        write_csv(Path(path), self.table())

    def __repr__(self) -> str:
        return f"<Comparison of {' and '.join(self.models)} on {self.images} images>"

    def shown(self) -> list[tuple[str, pd.DataFrame]]:
        """Figures side by side, differences, and the main tests, as `Result.shown` says."""
        figures = [
            (metric.replace("_", " "), *(self.figures.get((each, metric)) for each in self.models))
            for metric in self.metrics
        ]
        differences = [
            (
                *(f"{key[0]} - {key[1]}", key[2].replace("_", " "), each),
                *(self.p_values[key], self.adjusted[key]),
            )
            for key, each in self.differences.items()
        ]
        tests = [
            (
                f"{t.model} - {t.reference}",
                {"mcnemar": "McNemar", "delong": "DeLong"}[t.test],
                t.metric,
                Estimate(t.difference, t.low, t.high, t.images, t.lesions),
                *(t.p, t.adjusted, t.p_images),
            )
            for t in self.main_tests
        ]
        names = ["metric", "difference", "p", "adjusted p"]
        below = {
            "Differences": pd.DataFrame(differences, columns=["models", *names]),
            "Classical tests by lesion": pd.DataFrame(
                tests, columns=["models", "test", *names, "p by image"]
            ),
        }
        if len(self.models) == 2:  # the title says it; a column would only take room
            pair = " - ".join(self.models[::-1])
            below = {f"{name}, {pair}": rows.drop(columns="models") for name, rows in below.items()}
        title = f"Part {self.part}: {self.images:,} images of {self.lesions:,} lesions"
        table = pd.DataFrame(figures, columns=["metric", *self.models])
        return [(title, table), *below.items()]

    def between(self, model: str, reference: str, metric: str) -> tuple[Estimate, float]:
        """A model's figure minus another's, whichever comes first, and its adjusted p value.

        Raises:
            KeyError: if the two were not compared.
        """
        key = model, reference, metric
        if key in self.differences:
            return self.differences[key], self.adjusted[key]
        key = reference, model, metric
        each = self.differences[key]
        turned = Estimate(-each.value, -each.high, -each.low, each.n, each.groups)
        return turned, self.adjusted[key]

    @property
    def legend(self) -> tuple[str, ...]:
        """What the p values are, as `Result.legend` says."""
        mcnemar = sum(each.test == "mcnemar" for each in self.tests)
        return (
            f"Adjusted p (Holm): over the {len(self.differences)} differences above; of McNemar "
            f"over all {mcnemar} tests and of DeLong over all {len(self.tests) - mcnemar}, every "
            "class and pair, which `save` and --out write. p by image takes images of one lesion "
            "as independent, which they are not: it is what other programs print.",
        )

    @property
    def main_tests(self) -> tuple[PairedTest, ...]:
        """The tests of all images and of the positive class."""
        wanted = ("accuracy", f"recall/{self.positive}", f"auroc/{self.positive}")
        return tuple(each for each in self.tests if each.metric in wanted)


def compare(
    predictions: Sequence[Source] | Mapping[str, Source],
    *,
    part: Part = "test",
    metrics: Sequence[str] = METRICS,
    positive: str | None = None,
    as_: str | None = None,
    focus: str | None = None,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Comparison:
    """Score models on the images that all of them predict, and give paired differences.

    Each model's threshold for a sensitivity is chosen on its own val part. Lesion ids that one
    table lacks are taken from another. p values are adjusted over all pairs and metrics that are
    compared: ask for what you want to know, and no more.

    Args:
        predictions: two or more runs, their folders, tables or files; as a mapping, under names of
            your own.
        part: which part to score: train, val or test.
        metrics: names as `evaluate` gives them, such as macro_f1 or recall/mel.
        positive: the class of the sensitivities; by default as for `evaluate`.
        as_: read every table as the answer to another question, such as malignant-benign.
        focus: a model's name: only it minus each of the others, not these among themselves. Fewer
            questions cost less in adjusted p values.
        replicates: bootstrap replicates; 0 gives values without intervals.
        seed: of the bootstrap.
        listen: told of the progress, of every warning and of every note.

    Raises:
        DataError: if the tables have no image of the part in common.
        FindingsError: with every class set, target and lesion that the tables disagree about.
        SettingsError: if there are fewer than two tables, or a metric, class or model does not
            exist.

    Example:
        >>> found = compare(["runs/a", "automl.csv"])  # doctest: +SKIP
        >>> found.differences["automl", "a", "balanced_accuracy"]  # doctest: +SKIP
    """
    if isinstance(predictions, str | Path) or len(predictions) < 2:
        raise SettingsError("A comparison needs two or more runs or predictions tables.")
    tables = in_class_order(read_all_as(open_all(predictions), as_))
    models = tuple(tables)
    pairs = pairs_of(models, focus)
    tables, left_out = on_common_images(tables, part)
    classes = classes_of(tables[models[0]])
    positive = usual_positive(classes) if positive is None else positive
    lesions = rows_of(tables[models[0]], part)["lesion_id"].to_numpy(dtype=object)

    measures: list[tuple[str, Measure[str]]] = []
    warnings: dict[str, list[str]] = {}
    notes = [f"Read as {as_}: {grouping_of(as_).rule}."] if as_ else []
    for model, table in tables.items():
        alone = evaluate(table, part=part, replicates=0, positive=positive)
        warnings[model] = alone.warnings
        targets, probabilities = arrays_of(rows_of(table, part))
        measures.append((model, classification(targets, probabilities, classes)))
        if alone.thresholds:
            at = classes.index(positive)
            points = operating_points(targets == at, probabilities[:, at], alone.thresholds)
            measures.append((model, points))
        notes += [f"{model}: {note}" for note in alone.notes]
    notes += [
        f"{model}: {count} images of part {part} were left out, which not every table has there."
        for model, count in left_out.items()
        if count
    ]
    wanted = _wanted(metrics, alone)
    named = [_under(model, each, wanted) for model, each in measures]
    drawn = replicate(named, lesions, replicates=replicates, seed=seed, listen=listen)
    figures = {
        (model, metric): drawn.estimate((model, metric))
        for model in models
        for metric in wanted
        if (model, metric) in drawn.values
    }
    paired = {
        (model, reference, metric): drawn.difference((model, metric), (reference, metric))
        for reference, model in pairs
        for metric in wanted
        if {(model, metric), (reference, metric)} <= set(figures)
    }
    differences = {key: each for key, (each, _) in paired.items()}
    p_values = {key: p for key, (_, p) in paired.items()}
    tested = sum(not math.isnan(each) for each in p_values.values())
    if text := too_few(replicates, tested):
        notes.append(text)
    result = Comparison(
        models=models,
        metrics=wanted,
        figures=figures,
        differences=differences,
        p_values=p_values,
        adjusted=holm_by_key(p_values),
        tests=paired_tests({name: rows_of(table, part) for name, table in tables.items()}, pairs),
        positive=positive,
        focus=focus,
        left_out=left_out,
        part=part,
        images=len(lesions),
        lesions=lesion_codes(lesions)[1],
        warnings=_together(warnings),
        notes=notes,
        replicates=replicates,
        seed=seed,
    )
    for text in result.warnings:
        listen(Notice(text, "warning"))
    for text in notes:
        listen(Notice(text))
    return result


def _wanted(metrics: Sequence[str], scored: Evaluation) -> tuple[str, ...]:
    """The metrics by their full names, in order, each once."""
    points = [name for name in KNOWN if "_at_" in name]
    known = {*scored, *(f"{name}/{scored.positive}" for name in points)}
    full = [f"{name}/{scored.positive}" if name in points else name for name in metrics]
    unknown = [name for name, meant in zip(metrics, full, strict=True) if meant not in known]
    if unknown or not metrics:
        overall = [name for name in scored if "/" not in name]
        per_class = [name.removesuffix(f"/{scored.classes[0]}") for name in scored]
        per_class = [name for name in KNOWN if name in per_class and name not in overall]
        raise SettingsError(
            f"There is no metric {', '.join(map(repr, unknown))}. Choose among "
            f"{', '.join((*overall, *points))}; and of one class {', '.join(per_class)}, as in "
            f"recall/{scored.classes[0]}."
        )
    return tuple(dict.fromkeys(full))


def _under(model: str, measure: Measure[str], wanted: Sequence[str]) -> Measure[tuple[str, str]]:
    """The wanted metrics of a measure, each under the model's name."""

    def compute(weights: Weights) -> Mapping[tuple[str, str], Values]:
        found = measure.compute(weights)
        return {(model, name): found[name] for name in wanted if name in found}

    return Measure(
        compute,
        {(model, name): mask for name, mask in measure.basis.items()},
        frozenset((model, name) for name in measure.proportions),
        {(model, name): each for name, each in measure.ranges.items()},
    )


def _together(warnings: Mapping[str, list[str]]) -> list[str]:
    """What holds for all models once, the rest with the model's name."""
    lists = list(warnings.values())
    common = [text for text in lists[0] if all(text in each for each in lists)]
    return common + [
        f"{model}: {text}"
        for model, texts in warnings.items()
        for text in texts
        if text not in common
    ]


def shown(each: Estimate | None, *, signed: bool = False) -> str:
    """An estimate in words; a difference with its sign: "+0.012 (-0.003 to +0.027)"."""
    if each is None:
        return "none"
    if not signed or not each.defined:
        return str(each)
    if math.isnan(each.low):
        return f"{each.value:+.3f} (no interval)"
    return f"{each.value:+.3f} ({each.low:+.3f} to {each.high:+.3f})"
