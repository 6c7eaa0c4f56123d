"""How well columns of a table tell classes apart: boosted trees, cross-validated by lesion."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.evaluation.intervals.bootstrap import Weights
from lesionlab.evaluation.intervals.estimate import Values
from lesionlab.evaluation.metrics.ranking import Ranking, auroc, rank
from lesionlab.numerics import ratio

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

FOLDS = 5
_MOST_WORDS = 200  # different words of one column; the rarer ones count as one


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Answers to rows that were not learnt from.

    Attributes:
        probabilities: shape (n, k).
        fold: which fold answered, shape (n,).
    """

    probabilities: Floats
    fold: Index


def features_of(table: pd.DataFrame) -> tuple[Floats, NDArray[np.bool_]]:
    """Columns as numbers: words become codes by frequency, what is unknown nan.

    Args:
        table: numbers, or words with "" for unknown.

    Returns:
        Values, shape (n, columns), and which columns are words, shape (columns,).
    """
    made, words = [], []
    for name in table.columns:
        column = table[name]
        words.append(not pd.api.types.is_numeric_dtype(column))
        if words[-1]:
            known = column[column.notna() & (column != "")]
            order = known.value_counts().index
            code = {each: min(i, _MOST_WORDS) for i, each in enumerate(order)}
            column = column.map(code)
        made.append(column.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.stack(made, axis=1), np.array(words, dtype=bool)


def out_of_fold(
    table: pd.DataFrame, targets: Index, lesions: Index, *, folds: int = FOLDS, seed: int = 0
) -> OutOfFold:
    """Learn classes from columns and answer every row by trees that have not seen its lesion.

    Gradient-boosted trees of 8 leaves (scikit-learn's HistGradientBoostingClassifier, 60 rounds at
    rate 0.1): they bend, combine columns, and take what is unknown as a value of its own.

    Args:
        table: one column per feature, n rows.
        targets: classes 0..k - 1, shape (n,).
        lesions: numbers of the lesions, shape (n,); a lesion stays in one fold.
        folds: at least 2; every class needs as many lesions.
        seed: of the folds.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedGroupKFold

    values, words = features_of(table)
    k = int(targets.max()) + 1
    made, fold = np.zeros((len(targets), k)), np.zeros(len(targets), dtype=np.intp)
    folder = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        parts = list(folder.split(values, targets, lesions))
    for number, (train, rest) in enumerate(parts):
        model = HistGradientBoostingClassifier(
            learning_rate=0.1,
            max_iter=60,
            max_leaf_nodes=8,
            min_samples_leaf=20,
            l2_regularization=1.0,
            early_stopping=False,
            categorical_features=words,
            random_state=seed,
        )
        model.fit(values[train], targets[train])
        made[np.ix_(rest, model.classes_)] = model.predict_proba(values[rest])
        fold[rest] = number
    return OutOfFold(made, fold)


def above_half_p(values: Values) -> float:
    """The one-sided p value of an area of 0.5 or less: the share of replicates there.

    An area below 0.5 is no finding. Sets that were made alike by stratifying give one, since
    what a fold lacks the others have.

    Args:
        values: areas, shape (replicates + 1,); the first is the value itself.

    Returns:
        At least 1 / (replicates + 1); nan where there is no area or no replicate.
    """
    drawn = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or not len(drawn):
        return float("nan")
    return (int((drawn <= 0.5).sum()) + 1) / (len(drawn) + 1)


def within_folds(
    answers: Mapping[str, OutOfFold], targets: Index, classes: Sequence[str]
) -> Callable[[Weights], Mapping[tuple[str, str], Values]]:
    """Areas under the ROC curve by replicate weights, of pairs of images of the same fold.

    Scores of two folds come from two models; pooled, they would put the area of a useless
    column below a half.

    Args:
        answers: by name.
        targets: shape (n,).
        classes: names, length k; with two, only the second one is told.

    Returns:
        A function of weights, shape (r, n), that gives (name, class) for every class and
        (name, "") for their mean, shape (r,).
    """
    told = range(len(classes)) if len(classes) > 2 else (1,)
    plans: dict[str, list[tuple[Index, list[Ranking]]]] = {}
    for name, each in answers.items():
        plans[name] = []
        for fold in np.unique(each.fold):
            rows = np.flatnonzero(each.fold == fold)
            ranked = [rank(targets[rows] == i, each.probabilities[rows, i]) for i in told]
            plans[name].append((rows, ranked))

    def compute(weights: Weights) -> Mapping[tuple[str, str], Values]:
        values: dict[tuple[str, str], Values] = {}
        for name, plan in plans.items():
            won = np.zeros((len(told), len(weights)))
            pairs = np.zeros_like(won)
            for rows, ranked in plan:
                part = weights[:, rows]
                whole = part.sum(axis=1)
                for place, ranking in enumerate(ranked):
                    own = part[:, ranking.positives].sum(axis=1)
                    count = own * (whole - own)
                    won[place] += np.nan_to_num(auroc(part, ranking)) * count
                    pairs[place] += count
            areas = ratio(won, pairs)
            if len(told) > 1:
                values |= {(name, classes[i]): area for i, area in zip(told, areas, strict=True)}
            values[name, ""] = areas.mean(axis=0)
        return values

    return compute
