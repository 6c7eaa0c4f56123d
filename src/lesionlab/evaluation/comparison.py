"""Two or more models on the same images: figures side by side, and their paired differences.

Both models of a pair are scored on the same bootstrap replicates of the lesions, so what makes some
images harder than others for both cancels out, and the interval is that of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import DataError, FindingsError, SettingsError
from lesionlab.evaluation.alignment import (
    disagreements,
    in_class_order,
    known_lesions,
    read_all_as,
)
from lesionlab.evaluation.bootstrap import (
    Estimate,
    Measure,
    Values,
    Weights,
    estimate,
    lesion_codes,
    replicate,
)
from lesionlab.evaluation.inputs import Source, arrays_of, grouping_of, open_all, rows_of
from lesionlab.evaluation.metrics import classification
from lesionlab.evaluation.operating import operating_points
from lesionlab.evaluation.result import METRICS as KNOWN
from lesionlab.evaluation.result import Evaluation
from lesionlab.evaluation.scoring import evaluate, usual_positive
from lesionlab.files import write_csv
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import classes_of, describe, findings_table

METRICS = (
    "balanced_accuracy",
    "macro_auroc",
    "accuracy",
    "sensitivity_at_90_specificity",
    "log_loss",
)
"""What is compared unless something else is asked for."""

_COLUMNS = ("model", "reference", "metric", "value", "low", "high", "images", "lesions")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Models on the same images.

    Attributes:
        models: their names, in order.
        metrics: what was compared; a metric of one class carries it behind a slash.
        figures: by model and metric; one that a model has not (no val to choose a threshold on) is
            missing.
        differences: by model, reference and metric: the model's figure minus the reference's, whose
            place in `models` is before. Missing where either figure is.
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
    differences: Mapping[tuple[str, str, str], Estimate]
    left_out: Mapping[str, int]
    part: str
    images: int
    lesions: int
    warnings: list[str]
    notes: list[str]
    replicates: int
    seed: int

    def table(self) -> pd.DataFrame:
        """Figures, then differences, one per row.

        Returns:
            Columns model, reference ("" for a model's own figure; else the value is the model's
            minus the reference's), metric, value, low, high, images and lesions that it rests on.
        """
        rows = [(model, "", metric, each) for (model, metric), each in self.figures.items()]
        rows += [(*key, each) for key, each in self.differences.items()]
        listed = [
            (model, reference, metric, e.value, e.low, e.high, e.n, e.groups)
            for model, reference, metric, e in rows
        ]
        return pd.DataFrame(listed, columns=list(_COLUMNS))

    def save(self, path: str | Path) -> None:
        """Write `table` as CSV."""
        write_csv(Path(path), self.table())

    def __repr__(self) -> str:
        return f"<Comparison of {' and '.join(self.models)} on {self.images} images>"

    def __str__(self) -> str:
        lines = [
            f"{self.part}: {self.images} images of {self.lesions} lesions, 95 % intervals",
            *(f"WARNING: {text}" for text in self.warnings),
        ]
        width = max(map(len, self.metrics))
        for model in self.models:
            lines.append(model)
            for metric in self.metrics:
                lines.append(f"  {metric:{width}}  {shown(self.figures.get((model, metric)))}")
        for reference, model in combinations(self.models, 2):
            lines.append(f"{model} - {reference}")
            for metric in self.metrics:
                each = self.differences.get((model, reference, metric))
                lines.append(f"  {metric:{width}}  {shown(each, signed=True)}")
        return "\n".join(lines + [f"Note: {text}" for text in self.notes])


def compare(
    predictions: Sequence[Source] | Mapping[str, Source],
    *,
    part: str = "test",
    metrics: Sequence[str] = METRICS,
    positive: str | None = None,
    as_: str | None = None,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Comparison:
    """Score models on the images that all of them predict, and give paired differences.

    Each model's threshold for a sensitivity is chosen on its own val part. Lesion ids that one
    table lacks are taken from another.

    Args:
        predictions: two or more runs, their folders, tables or files; as a mapping, under names of
            your own.
        part: which part to score: train, val or test.
        metrics: names as `evaluate` gives them, such as macro_f1 or recall/mel.
        positive: the class of the sensitivities; by default as for `evaluate`.
        as_: a name of `taxonomy.GROUPINGS`: read every table as the answer to that question.
        replicates: bootstrap replicates; 0 gives values without intervals.
        seed: of the bootstrap.
        listen: told of the progress, of every warning and of every note.

    Raises:
        DataError: if the tables have no image of the part in common.
        FindingsError: with every class set, target and lesion that the tables disagree about.
        SettingsError: if there are fewer than two tables, or a metric or class does not exist.

    Example:
        >>> found = compare(["runs/a", "automl.csv"])  # doctest: +SKIP
        >>> found.differences["automl", "a", "balanced_accuracy"]  # doctest: +SKIP
    """
    if len(predictions) < 2:
        raise SettingsError("A comparison needs two or more runs or predictions tables.")
    tables = in_class_order(read_all_as(open_all(predictions), as_))
    models = tuple(tables)
    tables, left_out = _on_common_images(tables, part)
    classes = classes_of(tables[models[0]])
    positive = usual_positive(classes) if positive is None else positive
    lesions = rows_of(tables[models[0]], part)["lesion_id"].to_numpy(dtype=object)

    measures: list[tuple[str, Measure]] = []
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
    values = replicate(named, lesions, replicates=replicates, seed=seed, listen=listen)
    figures, differences = _estimates(values, named, models, wanted, lesions)
    result = Comparison(
        models=models,
        metrics=wanted,
        figures=figures,
        differences=differences,
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


def _on_common_images(
    tables: Mapping[str, pd.DataFrame], part: str
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """The tables with the same images in `part` and the same lesion ids; how many each lost."""
    own = {name: set(rows_of(table, part)["image_id"]) for name, table in tables.items()}
    common = set.intersection(*own.values())
    if not common:
        listed = ", ".join(f"{name} has {len(images)}" for name, images in own.items())
        raise DataError(
            f"No image is in part {part!r} of every table ({listed}). Do they name their images "
            "the same way? image_id is the file's name without its ending."
        )
    kept = {
        name: table[(table["part"] != part) | table["image_id"].isin(common)]
        for name, table in tables.items()
    }
    scored = {name: table[table["part"] == part] for name, table in kept.items()}
    if faults := disagreements(scored, ("target", "lesion_id")):
        found = findings_table(faults)
        raise FindingsError(
            f"The tables disagree about what the images show:\n{describe(found)}\n"
            "Models can be compared on the same truth only.",
            found,
        )
    images = pd.Series(sorted(common))
    lesion_of = pd.Series(known_lesions(scored, images).to_numpy(), index=images)
    for name, table in kept.items():
        known = table["image_id"].map(lesion_of).fillna(table["lesion_id"])
        kept[name] = table.assign(lesion_id=known)
    return kept, {name: len(images - common) for name, images in own.items()}


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


def _under(model: str, measure: Measure, wanted: Sequence[str]) -> Measure:
    """The wanted metrics of a measure, each under the model's name."""

    def compute(weights: Weights) -> Mapping[str, Values]:
        found = measure.compute(weights)
        return {_key(model, name): found[name] for name in wanted if name in found}

    return Measure(
        compute,
        {_key(model, name): mask for name, mask in measure.basis.items()},
        frozenset(_key(model, name) for name in measure.proportions),
    )


def _key(model: str, metric: str) -> str:
    """One name for both; what stands between them is in no file's name and in no metric's."""
    return f"{model}\0{metric}"


def _estimates(
    values: Mapping[str, Values],
    measures: Sequence[Measure],
    models: Sequence[str],
    metrics: Sequence[str],
    lesions: NDArray[np.object_],
) -> tuple[dict[tuple[str, str], Estimate], dict[tuple[str, str, str], Estimate]]:
    codes, count = lesion_codes(lesions)
    masks = {name: mask for measure in measures for name, mask in measure.basis.items()}
    shares = frozenset[str]().union(*(measure.proportions for measure in measures))

    def size(*names: str) -> tuple[int, int]:
        """Images and lesions that some figures rest on, together."""
        if not all(name in masks for name in names):
            return len(codes), count
        mask = np.any([masks[name] for name in names], axis=0)
        return int(mask.sum()), len(np.unique(codes[mask]))

    figures = {
        (model, metric): estimate(values[name], *size(name), proportion=name in shares)
        for model in models
        for metric in metrics
        if (name := _key(model, metric)) in values
    }
    differences = {}
    for reference, model in combinations(models, 2):
        for metric in metrics:
            pair = _key(model, metric), _key(reference, metric)
            if all(name in values for name in pair):
                gap = estimate(values[pair[0]] - values[pair[1]], *size(*pair))
                differences[model, reference, metric] = gap
    return figures, differences


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
