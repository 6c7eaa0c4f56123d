"""Shortcuts: what the camera, the light and the preparation say about the diagnosis.

If the black frame or the ruler of a photograph tells the class, a network can score well without a
look at the lesion (Winkler et al., JAMA Dermatol. 155:1135-1141, 2019, on ink; Bissoto, Valle and
Avila, CVPR Workshops 2020, on artefacts). Asked is how well measures that are not of the lesion
tell the classes apart, and whether a model's recall depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.data.artefacts.artefacts import ARTEFACTS
from lesionlab.display import Result
from lesionlab.errors import DataError
from lesionlab.evaluation.data_quality.tabular_classifier import (
    FOLDS,
    above_half_p,
    out_of_fold,
    within_folds,
)
from lesionlab.evaluation.intervals.bootstrap import Measure, lesion_codes, replicate, shares
from lesionlab.evaluation.intervals.estimate import Estimate, estimate
from lesionlab.evaluation.intervals.p_values import bootstrap_p, holm, too_few
from lesionlab.evaluation.metrics.classification import decide
from lesionlab.evaluation.predictions.load import Source, arrays_of, open_predictions, rows_of
from lesionlab.files import write_csv
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.tables import Part, classes_of, lesions_of
from lesionlab.taxonomy import order

ALL = "all together"
MEAN = "mean over classes"
FEW = 10
"""Lesions that each third of a class needs for its recall to be compared."""


@dataclass(frozen=True, eq=False, repr=False)
class Shortcuts(Result):
    """What the artefacts tell.

    Attributes:
        figures: area under the ROC curve of trees on one artefact, on those of one kind, on all:
            columns artefacts, kind, class ("mean over classes" first), auroc, low, high, images,
            lesions, p (of 0.5 or less, one-sided) and p_adjusted (Holm, over the means).
        values: artefact, unit, class, images, median, quartile_low, quartile_high, share_above_0.
        recalls: with predictions: a model's recall where an artefact is in the lowest and the
            highest third of a class: artefact, class, images_low, images_high, recall_low,
            recall_high, difference, low, high, p, p_adjusted; empty without.
        constant: artefacts that are the same everywhere, or nowhere known.
        left_out: classes with too few lesions.
    """

    _tables: ClassVar[tuple[str, ...]] = ("figures", "recalls")

    figures: pd.DataFrame
    values: pd.DataFrame
    recalls: pd.DataFrame
    constant: tuple[str, ...]
    left_out: tuple[str, ...]

    def auroc(self, artefact: str = ALL, label: str = MEAN) -> Estimate:
        """One figure.

        Raises:
            DataError: if there is none.
        """
        rows = self.figures[
            (self.figures["artefacts"] == artefact) & (self.figures["class"] == label)
        ]
        if rows.empty:
            raise DataError(
                f"There is no figure of {artefact!r} and {label!r}. There are: "
                f"{', '.join(self.figures['artefacts'].unique())}."
            )
        row = rows.iloc[0]
        return Estimate(row["auroc"], row["low"], row["high"], row["images"], row["lesions"])

    def save(self, out: str | Path) -> Path:
        """Write the figures as CSV, and beside them the values and the recalls."""
        out = Path(out)
        write_csv(out, self.figures)
        for name, table in (("values", self.values), ("recalls", self.recalls)):
            if len(table):
                write_csv(out.with_name(f"{out.stem}_{name}.csv"), table)
        return out


def shortcuts(
    measured: pd.DataFrame,
    data: pd.DataFrame,
    *,
    predictions: Source | None = None,
    part: Literal["train", "val", "test"] = "test",
    folds: int = FOLDS,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Shortcuts:
    """Ask whether artefacts tell the class, alone, by kind and together; and whether a model minds.

    Areas are of answers out of fold, folds grouped by lesion. Their intervals are of the images,
    not of the training: another draw of lesions to learn from is not in them.

    Args:
        measured: what `measure_artefacts` gives: image_id and one column per artefact.
        data: a catalogue's table with the same images. Its source is an artefact, too, where it has
            several.
        predictions: of a model on these images; compares its recall between thirds.
        part: of the predictions.
        folds: classes with fewer lesions are left out.
        replicates: of the lesion-level bootstrap.
        seed: of folds and bootstrap.
        listen: told of the progress, and warned of what is left out.

    Raises:
        DataError: if images are not measured, nothing varies, or fewer than two classes are left.

    Example:
        >>> shortcuts(measure_artefacts(data), data.table)  # doctest: +SKIP
    """
    table, kinds, constant = _features(measured, data)
    lesions = lesions_of(data)
    counts = lesions.groupby(data["target"]).nunique()
    classes = order([name for name in counts.index if counts[name] >= folds])
    left_out = tuple(name for name in counts.index if counts[name] < folds)
    if len(classes) < 2:
        raise DataError(
            f"Fewer than two classes have {folds} lesions. Take fewer folds or more images."
        )
    if left_out:
        listen(Notice(f"Left out, with fewer than {folds} lesions: {', '.join(left_out)}."))
    rows = data["target"].isin(classes).to_numpy()
    figures = _figures(table[rows], kinds, data[rows], classes, folds, replicates, seed, listen)
    recalls = pd.DataFrame(columns=list(RECALLS))
    if predictions is not None:
        known = table.set_index(data["image_id"])
        numbers = known.select_dtypes("number")
        recalls = recalls_by(numbers, predictions, part, replicates, seed, listen)
    for tests in (len(figures["artefacts"].unique()), len(recalls)):
        if text := too_few(replicates, tests):
            listen(Notice(text, "warning"))
    return Shortcuts(figures, _values(table, data, classes), recalls, constant, left_out)


def _features(
    measured: pd.DataFrame, data: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, str], tuple[str, ...]]:
    """The artefacts of each image of `data`, the kind of each, and those that do not vary."""
    given = measured.set_index("image_id")
    if missing := int((~data["image_id"].isin(given.index)).sum()):
        raise DataError(
            f"{missing} of {len(data)} images are not measured. Measure them: "
            "lesionlab.artefacts(catalogue)."
        )
    table = given.reindex(data["image_id"]).reset_index(drop=True)
    table.index = data.index
    if data["source"].nunique() > 1:
        table["source"] = data["source"]
    constant = tuple(str(name) for name in table.columns if table[name].nunique(dropna=True) < 2)
    table = table.drop(columns=list(constant))
    if table.empty or not len(table.columns):
        raise DataError("No artefact varies between these images: there is nothing to ask.")
    kinds = {
        str(name): ARTEFACTS[str(name)].kind if name in ARTEFACTS else "file"
        for name in table.columns
    }
    return table, kinds, constant


def _figures(
    table: pd.DataFrame,
    kinds: Mapping[str, str],
    data: pd.DataFrame,
    classes: Sequence[str],
    folds: int,
    replicates: int,
    seed: int,
    listen: Listener,
) -> pd.DataFrame:
    targets = pd.Index(classes).get_indexer(pd.Index(data["target"]))
    codes, count = lesion_codes(data["lesion_id"].to_numpy(dtype=object))
    sets = {name: [name] for name in table.columns}
    of_kind = dict(kinds)
    for kind in dict.fromkeys(kinds.values()):
        members = [name for name in table.columns if kinds[name] == kind]
        if len(members) > 1:
            sets[f"all of {kind}"], of_kind[f"all of {kind}"] = members, kind
    if len(table.columns) > 1:
        sets[ALL], of_kind[ALL] = list(table.columns), "all"
    answers = {}
    for number, (name, columns) in enumerate(sets.items(), start=1):
        answers[name] = out_of_fold(table[columns], targets, codes, folds=folds, seed=seed)
        listen(Step("learning classes from artefacts", number, len(sets), "sets"))
    groups = data["lesion_id"].to_numpy(dtype=object)
    values = replicate(
        [Measure(within_folds(answers, targets, classes))],
        groups,
        replicates=replicates,
        seed=seed,
        listen=listen,
    ).values
    lesions = [len(np.unique(codes[targets == i])) for i in range(len(classes))]
    sizes = np.bincount(targets, minlength=len(classes))
    rows = []
    for (name, label), drawn in values.items():
        place = classes.index(label) if label else -1
        n, groups_of = (int(sizes[place]), lesions[place]) if label else (len(data), count)
        each = estimate(drawn, n, groups_of)
        p = above_half_p(drawn)
        rows.append(
            (name, of_kind[name], label or MEAN, each.value, each.low, each.high, n, groups_of, p)
        )
    columns = ["artefacts", "kind", "class", "auroc", "low", "high", "images", "lesions", "p"]
    made = pd.DataFrame(rows, columns=columns)
    means = made["class"] == MEAN
    made["p_adjusted"] = np.nan
    made.loc[means, "p_adjusted"] = holm(made.loc[means, "p"].tolist())
    made.loc[~means, "p"] = np.nan  # told with intervals alone
    rank = made["artefacts"].map({name: i for i, name in enumerate(sets)})
    return made.iloc[np.lexsort([(~means).to_numpy(), rank.to_numpy()])].reset_index(drop=True)


def _values(table: pd.DataFrame, data: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    rows = []
    for name in table.select_dtypes("number").columns:
        for label in classes:
            each = table.loc[data["target"] == label, name].dropna()
            unit = ARTEFACTS[str(name)].unit if name in ARTEFACTS else ""
            if len(each):
                low, middle, high = np.percentile(each, [25, 50, 75])
                above = float((each > 0).mean())
                rows.append((name, unit, label, len(each), middle, low, high, above))
    columns = ["artefact", "unit", "class", "images", "median", "quartile_low", "quartile_high"]
    return pd.DataFrame(rows, columns=[*columns, "share_above_0"])


RECALLS = (
    "artefact",
    "class",
    "images_low",
    "images_high",
    "recall_low",
    "recall_high",
    "difference",
    "low",
    "high",
    "p",
    "p_adjusted",
)
"""Columns of `Shortcuts.recalls`."""


def recalls_by(
    table: pd.DataFrame,
    predictions: Source,
    part: Part = "test",
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> pd.DataFrame:
    """A model's recall of each class where a number is low and where it is high.

    Low and high are the outer thirds *within the class*, so a number that goes with the class is no
    reason for a difference. Where more than a third of a class has the lowest value (no
    hair at all), low is that value and high the upper half of the rest.

    Args:
        table: numbers, indexed by image_id, a column each.
        predictions: of a model.
        part: of them.
        replicates: of the lesion-level bootstrap.
        seed: of it.
        listen: told of the progress.

    Returns:
        See `Shortcuts.recalls`: for every column the mean over classes, then each class with
        `FEW` lesions in both thirds. p values are adjusted (Holm) among the means and among the
        classes.

    Raises:
        DataError: if no predicted image has a number.
    """
    rows = rows_of(open_predictions(predictions), part)
    rows = rows[rows["image_id"].isin(table.index)].reset_index(drop=True)
    if rows.empty:
        raise DataError(
            f"None of the predicted images of part {part!r} is in the catalogue. "
            "Name the catalogue that was predicted."
        )
    classes = classes_of(rows)
    targets, probabilities = arrays_of(rows)
    right = decide(probabilities) == targets
    codes, _ = lesion_codes(rows["lesion_id"].to_numpy(dtype=object))
    numbers = table.reindex(rows["image_id"])
    thirds: dict[tuple[str, str], tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {}
    for name in numbers.columns:
        values = numbers[name].to_numpy(dtype=float)
        for place, label in enumerate(classes):
            low, high = _outer_thirds(values, targets == place)
            if min(len(np.unique(codes[low])), len(np.unique(codes[high]))) >= FEW:
                thirds[str(name), label] = low, high

    drawn = replicate(
        [
            shares(
                {(*key, end): (right, ends[end]) for key, ends in thirds.items() for end in (0, 1)}
            )
        ],
        rows["lesion_id"].to_numpy(dtype=object),
        replicates=replicates,
        seed=seed,
        listen=listen,
    ).values
    made = []
    for name in dict.fromkeys(name for name, _ in thirds):
        labels = [label for other, label in thirds if other == name]
        ends = {label: (drawn[name, label, 0], drawn[name, label, 1]) for label in labels}
        sizes = {label: tuple(int(mask.sum()) for mask in thirds[name, label]) for label in labels}
        low, high = (np.mean([ends[each][i] for each in labels], axis=0) for i in (0, 1))
        whole = tuple(sum(sizes[each][i] for each in labels) for i in (0, 1))
        for label, pair, size in (
            (MEAN, (low, high), whole),
            *((each, ends[each], sizes[each]) for each in labels),
        ):
            gap = pair[1] - pair[0]
            each = estimate(gap, sum(size), 2 * FEW)
            made.append(
                (
                    *(name, label, *size, *(float(end[0]) for end in pair)),
                    *(each.value, each.low, each.high, bootstrap_p(gap), np.nan),
                )
            )
    table = pd.DataFrame(made, columns=list(RECALLS))
    for rows_ in (table["class"] == MEAN, table["class"] != MEAN):
        table.loc[rows_, "p_adjusted"] = holm(table.loc[rows_, "p"].tolist())
    return table


def _outer_thirds(
    values: NDArray[np.float64], within: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks of the lowest and the highest third among `within`; empty where nothing varies."""
    none = np.zeros(len(values), bool)
    known = within & ~np.isnan(values)
    if not known.any() or values[known].min() == values[known].max():
        return none, none
    low, high = np.quantile(values[known], [1 / 3, 2 / 3])
    if low > values[known].min():
        return known & (values <= low), known & (values >= high) & (values > low)
    above = known & (values > low)
    return known & ~above, above & (values >= np.median(values[above]))
