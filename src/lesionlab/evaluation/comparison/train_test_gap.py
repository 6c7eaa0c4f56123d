"""How much better a model is on what it learned from: train, val and test side by side.

Source B's table has train and val for each technique. A wide gap is overfitting; two low figures
are underfitting; a val far above test was chosen on too often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.intervals.bootstrap import lesion_codes, ranges_of, replicate
from lesionlab.evaluation.intervals.estimate import Estimate, Values, estimate
from lesionlab.evaluation.metrics.classification import classification
from lesionlab.evaluation.predictions.load import Source, arrays_of, open_all, rows_of
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import PARTS, classes_of

METRICS = ("balanced_accuracy", "macro_auroc", "accuracy", "log_loss")
"""What is shown unless something else is asked for."""

ENDS = ("train", "test")
GAP = "train - test"


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
        found = _of_one(table, metrics, replicates, seed, listen)
        rows += [
            (model, metric, part, e.value, e.low, e.high, e.n, e.groups)
            for metric in metrics
            for (part, name), e in found.items()
            if name == metric
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


def _of_one(
    table: pd.DataFrame, metrics: Sequence[str], replicates: int, seed: int, listen: Listener
) -> dict[tuple[str, str], Estimate]:
    """Each metric of one model by part, the gap last."""
    result: dict[tuple[str, str], Estimate] = {}
    drawn: dict[str, dict[str, Values]] = {}
    parts = [part for part in PARTS if (table["part"] == part).any()]
    others = iter(np.random.SeedSequence(seed).generate_state(len(PARTS)))
    for part in parts:
        rows = rows_of(table, part)
        measure = classification(*arrays_of(rows), classes_of(table))
        lesions = rows["lesion_id"].to_numpy(dtype=object)
        own = seed if part == ENDS[1] else int(next(others))
        drawn[part] = replicate([measure], lesions, replicates=replicates, seed=own, listen=listen)
        if unknown := [name for name in metrics if name not in drawn[part]]:
            overall = ", ".join(name for name in drawn[part] if "/" not in name)
            raise SettingsError(
                f"There is no metric {', '.join(map(repr, unknown))} here. Choose among "
                f"{overall}; and of one class as in recall/{classes_of(table)[0]}."
            )
        codes, _ = lesion_codes(lesions)
        ranges = ranges_of([measure], codes)
        for name in metrics:
            mask = measure.basis.get(name, np.ones(len(codes), dtype=bool))
            size = int(mask.sum()), len(np.unique(codes[mask]))
            share = name in measure.proportions
            result[part, name] = estimate(
                drawn[part][name], *size, proportion=share, within=ranges.get(name)
            )
    for name in metrics:
        first, last = (result[part, name] for part in ENDS)
        difference = drawn[ENDS[0]][name] - drawn[ENDS[1]][name]
        result[GAP, name] = estimate(difference, first.n + last.n, first.groups + last.groups)
    return result
