"""`subgroups`: the same figures for groups of patients and images, and how far they lie apart.

A gap between two groups is often a gap between their classes: nevi are easy, and one group has more
of them. So whatever is a mean over classes runs over the classes that both sides have, each with
the same weight (direct standardisation by class), and says which these are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.errors import SettingsError
from lesionlab.evaluation.evaluate import choose_thresholds, usual_positive
from lesionlab.evaluation.metrics.operating_points import point_name
from lesionlab.evaluation.predictions.catalogue_join import catalogue_of, rows_in
from lesionlab.evaluation.predictions.load import (
    Source,
    arrays_of,
    grouping_of,
    open_predictions,
    read_as,
    rows_of,
)
from lesionlab.evaluation.subgroups.group_bootstrap import LEAST_LESIONS, GroupWork
from lesionlab.evaluation.subgroups.group_metrics import Scored
from lesionlab.evaluation.subgroups.grouping import UNKNOWN, group_by
from lesionlab.evaluation.subgroups.result import Gap as Gap
from lesionlab.evaluation.subgroups.result import Subgroups
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import Part, classes_of

BY = ("age", "sex", "site", "dx_type", "source")
"""What images are grouped by unless something else is asked for."""


def subgroups(
    predictions: Source,
    data: Catalogue | str | Path | None = None,
    *,
    by: Sequence[str] = BY,
    part: Part = "test",
    positive: str | None = None,
    as_: str | None = None,
    replicates: int = 2000,
    seed: int = 0,
    listen: Listener = silent,
) -> Subgroups:
    """Score groups of patients and images, and compare each with the rest.

    Lesions are drawn once for all groups, so a gap has an interval of its own. The threshold of the
    positive class is the one that gives 90 % specificity on val, the same for every group.

    Args:
        predictions: a run, its folder, a table or its file.
        data: the catalogue of its images; None takes the one that a run was trained on.
        by: age, sex, site, dx_type, source, or two of them joined, such as "age+sex".
        part: which part to score.
        positive: the class of the sensitivities; by default as for `evaluate`.
        as_: read the table as the answer to another question, such as malignant-benign.
        replicates: bootstrap replicates; 0 gives values without intervals or p values.
        seed: of the bootstrap.
        listen: told of the progress and of every note.

    Raises:
        DataError: if no catalogue is known, it lacks images, or the part has none.
        FindingsError: with every fault of the table at once.
        SettingsError: if images cannot be grouped that way, or there is no such class.

    Example:
        >>> found = subgroups("runs/a", by=["sex", "age+sex"])  # doctest: +SKIP
        >>> found.gaps["sex", "female", "balanced_accuracy"].adjusted  # doctest: +SKIP
    """
    catalogue = catalogue_of(predictions, data)
    table = open_predictions(predictions)
    table = read_as(table, as_) if as_ else table
    classes = classes_of(table)
    positive = usual_positive(classes) if positive is None else positive
    rows = rows_of(table, part)
    people = rows_in(catalogue, rows["image_id"])
    groupings, notes = group_by(people, by)
    thresholds, why = choose_thresholds(table, part, positive)
    if positive not in classes and positive != usual_positive(classes):
        raise SettingsError(
            f"There is no class {positive!r} to be the positive one. "
            f"Choose one of {', '.join(classes)}."
        )
    point = point_name(0.90, positive)
    threshold = thresholds.get(point, math.nan)
    named = rows["lesion_id"].where(rows["lesion_id"] != "", people["lesion_id"])
    lesions = named.to_numpy(dtype=object)
    scored = Scored.of(*arrays_of(rows), classes, lesions, positive, threshold)
    names = _metrics(point, positive, classes, math.isnan(threshold))
    notes = [*([f"Read as {as_}: {grouping_of(as_).rule}."] if as_ else []), *notes, *why]
    work = GroupWork(scored, groupings, names)
    work.run(lesions, replicates, seed, listen)
    made = work.result(positive, part, replicates, seed, notes)
    made.notes.extend(_remarks(made, people, scored, threshold))
    for text in made.notes:
        listen(Notice(text))
    return made


def _metrics(
    point: str, positive: str, classes: Sequence[str], without_threshold: bool
) -> tuple[str, ...]:
    names = ["balanced_accuracy", "macro_auroc"]
    if positive in classes:
        names.append(f"auroc/{positive}")
        if not without_threshold:
            words = ("sensitivity", "specificity", "mean_specificity")
            names += [f"{word}_{point}" for word in words]
    return (*names, "accuracy", "overconfidence")


def _remarks(made: Subgroups, people: pd.DataFrame, scored: Scored, threshold: float) -> list[str]:
    lines = [
        "Nothing here is about skin tone: the catalogue has no such column. Figures on light skin "
        "say little about dark skin."
    ]
    if not math.isnan(threshold):
        lines.append(
            f"Sensitivity and specificity of {made.positive} are at the threshold {threshold:.4g}, "
            "which gives 90 % specificity on val, for every group."
        )
    small = [f"{group} ({grouping})" for (grouping, group, metric) in made.suppressed if not metric]
    if small:
        lines.append(
            f"Fewer than {LEAST_LESIONS} lesions, so no figures: {', '.join(small)}. "
            "They still count in the rest of the others."
        )
    if "dx_type" in made.groups:
        shown = pd.crosstab(people["dx_type"], np.array(scored.classes)[scored.targets])
        single = [
            f"{name or UNKNOWN} ({', '.join(row.index[row > 0])})"
            for name, row in shown.iterrows()
            if (row > 0).sum() * 2 <= len(scored.classes)
        ]
        lines.append(
            "How a diagnosis was confirmed depends on the diagnosis"
            + (f": few classes come by {'; '.join(single)}" if single else "")
            + ". Of gaps by dx_type only those of means over common classes, and of sensitivity, "
            "are not gaps between classes."
        )
    return lines
