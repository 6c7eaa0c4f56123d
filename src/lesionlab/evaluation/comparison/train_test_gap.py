"""How much better a model is on what it learned from: train, val and test side by side.

Source B's table has train and val for each technique. A wide gap is overfitting; two low figures
are underfitting; a val far above test was chosen on too often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.evaluate import choose_thresholds
from lesionlab.evaluation.intervals.bootstrap import Replicates, replicate
from lesionlab.evaluation.intervals.estimate import Estimate, estimate
from lesionlab.evaluation.metrics.classification import classification
from lesionlab.evaluation.metrics.operating_points import operating_points
from lesionlab.evaluation.predictions.load import Source, arrays_of, open_all, rows_of
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import PARTS, classes_of

METRICS = ("balanced_accuracy", "macro_auroc", "accuracy", "log_loss")
"""What is shown unless something else is asked for."""

ENDS = ("train", "test")
GAP = "train - test"
GAPS = {GAP: ENDS, "train - val": ("train", "val")}
"""Differences between parts: test is what counts, val is what source B's table has."""


def train_test_gap(
    predictions: Sequence[Source] | Mapping[str, Source],
    *,
    metrics: Sequence[str] = METRICS,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> pd.DataFrame:
    """Score each model on each part, and give the difference between train and test.

    Train and test show different lesions, so the two are resampled apart. The images are scored as
    they are, without the random views and the dropout that the loss in `history.csv` was measured
    with. Figures of test are those of `evaluate`.

    Args:
        predictions: runs, their folders, tables or files with a train and a test part; as a
            mapping, under names of your own.
        metrics: names as `evaluate` gives them, but for those that need a threshold.
        replicates: bootstrap replicates; 0 gives values without intervals.
        seed: of the bootstrap.
        listen: told of the progress, and warned of lesions that are in train and in test.

    Returns:
        One row per model, metric and part, the last "train - test": columns model, metric, part,
        value, low, high, images and lesions. Of log_loss and brier, less is better: their gap is
        negative where a model overfits.

    Raises:
        DataError: if a table lacks the train or the test part.
        SettingsError: if a metric does not exist.

    Example:
        >>> train_test_gap(["runs/a", "runs/b"])  # doctest: +SKIP
    """
    rows = []
    for model, table in open_all(predictions).items():
        _check_parts(model, table, listen)
        found = figures_by_part(table, metrics, replicates=replicates, seed=seed, listen=listen)
        rows += [
            (model, metric, part, e.value, e.low, e.high, e.n, e.groups)
            for metric in metrics
            for (part, name), e in found.items()
            if name == metric and part in (*PARTS, GAP)
        ]
    columns = ["model", "metric", "part", "value", "low", "high", "images", "lesions"]
    return pd.DataFrame(rows, columns=columns)


def _check_parts(model: str, table: pd.DataFrame, listen: Listener) -> None:
    lesions = {part: set(table.loc[table["part"] == part, "lesion_id"]) for part in ENDS}
    if missing := [part for part in ENDS if not lesions[part]]:
        raise DataError(
            f"{model} has no images of part {' and '.join(missing)}, so there is no gap to "
            "measure. `lesionlab train` predicts every part; a table of your own needs a column "
            "`part` with train, val and test."
        )
    if crossing := set.intersection(*lesions.values()) - {""}:
        text = (
            f"{model}: {len(crossing)} lesions are in train and in test, so the gap is smaller "
            "than it would be for lesions never seen."
        )
        listen(Notice(text, "warning"))


def figures_by_part(
    table: pd.DataFrame,
    metrics: Sequence[str],
    parts: Sequence[str] = PARTS,
    *,
    replicates: int,
    seed: int,
    positive: str | None = None,
    listen: Listener = silent,
) -> dict[tuple[str, str], Estimate]:
    """Each metric of one model by part, then by `GAPS`, those whose two parts there are.

    Args:
        table: a checked predictions table.
        metrics: by their full names; one with a threshold, such as
            sensitivity_at_90_specificity/mel, is missing where there is no val to choose it on.
        parts: which of the table's parts.
        replicates: bootstrap replicates.
        seed: of the bootstrap.
        positive: the class of the thresholds; None: no metric has any.
        listen: told of the progress.

    Raises:
        SettingsError: if a metric does not exist.
    """
    result: dict[tuple[str, str], Estimate] = {}
    drawn: dict[str, Replicates[str]] = {}
    classes = classes_of(table)
    others = np.random.SeedSequence(seed).generate_state(len(PARTS))
    seeds = {part: int(each) for part, each in zip(PARTS, others, strict=True)}
    for part in (part for part in PARTS if part in parts and (table["part"] == part).any()):
        rows = rows_of(table, part)
        targets, probabilities = arrays_of(rows)
        measures = [classification(targets, probabilities, classes)]
        thresholds = choose_thresholds(table, part, positive)[0] if positive else {}
        if positive and thresholds:
            at = classes.index(positive)
            measures.append(operating_points(targets == at, probabilities[:, at], thresholds))
        lesions = rows["lesion_id"].to_numpy(dtype=object)
        own = seed if part == ENDS[1] else seeds[part]
        drawn[part] = replicate(measures, lesions, replicates=replicates, seed=own, listen=listen)
        known = drawn[part].values
        if unknown := [n for n in metrics if n not in known and not (positive and "_at_" in n)]:
            overall = ", ".join(name for name in known if "/" not in name)
            raise SettingsError(
                f"There is no metric {', '.join(map(repr, unknown))} here. Choose among "
                f"{overall}; and of one class as in recall/{classes[0]}."
            )
        result |= {(part, name): drawn[part].estimate(name) for name in metrics if name in known}
    for gap, (one, other) in GAPS.items():
        for name in metrics:
            if (one, name) in result and (other, name) in result:
                first, last = result[one, name], result[other, name]
                difference = drawn[one].values[name] - drawn[other].values[name]
                size = first.n + last.n, first.groups + last.groups
                result[gap, name] = estimate(difference, *size)
    return result
