"""One sentence under a figure: what it shows, computed from the numbers that it is drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.data.summary.metadata_tables import UNKNOWN
from lesionlab.display import percent
from lesionlab.evaluation.evaluation_result import Evaluation


def of_counts(counts: pd.Series, whole: int, unit: str = "images") -> str:
    """The largest and the smallest of some counts.

    Args:
        counts: index label.
        whole: what shares refer to.
        unit: what is counted.
    """
    known = {
        str(label): int(number)
        for label, number in counts.items()
        if str(label) != UNKNOWN and number > 0
    }
    if not known or not whole:
        return ""
    most, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    text = f"Most: {most}, {known[most]:,} {unit} ({percent(known[most] / whole)})"
    if most != least:
        text += f"; fewest: {least}, {known[least]:,} ({percent(known[least] / whole)})"
    return f"{text}. "


def of_shares(counts: pd.DataFrame, few: int = 20) -> str:
    """The share of a column that differs most between the rows of a table of counts.

    Args:
        counts: index row, one column per kind.
        few: rows with fewer images than this are passed over: their shares are luck.
    """
    names = [str(name) for name in counts.columns]
    shares = {
        str(label): dict(zip(names, map(float, row / row.sum()), strict=True))
        for label, row in zip(counts.index, counts.to_numpy(float), strict=True)
        if row.sum() >= few and str(label) != UNKNOWN
    }
    columns = [name for name in names if name != UNKNOWN]
    if len(shares) < 2 or not columns:
        return f"Fewer than two rows have {few} images: differences between rows are luck. "

    def ends(name: str) -> tuple[str, str]:
        return (
            max(shares, key=lambda label: shares[label][name]),
            min(shares, key=lambda label: shares[label][name]),
        )

    def width(name: str) -> float:
        high, low = ends(name)
        return shares[high][name] - shares[low][name]

    widest = max(columns, key=width)
    high, low = ends(widest)
    return (
        f"Widest difference: {widest} is {percent(shares[high][widest])} of {high} and "
        f"{percent(shares[low][widest])} of {low}. "
    )


def of_groups(groups: Mapping[str, NDArray[np.float64]], unit: str, few: int = 20) -> str:
    """The groups with the highest and the lowest median; those with few values are passed over."""
    medians = {name: float(np.median(each)) for name, each in groups.items() if len(each) >= few}
    if len(medians) < 2:
        return f"Fewer than two groups have {few} values: differences between them are luck. "
    high, low = max(medians, key=medians.__getitem__), min(medians, key=medians.__getitem__)
    return f"Medians go from {medians[low]:g} {unit} ({low}) to {medians[high]:g} ({high}). "


def of_values(counts: pd.Series, unit: str) -> str:
    """The commonest value of some numbers, and between which values half of them lie.

    Args:
        counts: how often, index value.
        unit: of the values.
    """
    if not len(counts):
        return ""
    values = np.repeat(counts.index.to_numpy(float), counts.to_numpy(int))
    low, high = np.percentile(values, [25, 75])
    most = float(counts.index[int(np.argmax(counts.to_numpy()))])
    return f"Commonest: {most:g} {unit}; the middle half lies from {low:g} to {high:g}. "


def of_evaluation(result: Evaluation) -> dict[str, str]:
    """What the figures of recalls, of confusions and of ROC curves show; "" where nothing is."""
    made = dict.fromkeys(("recalls", "confusion", "rocs"), "")
    if ends := _best_and_worst(result, "recall"):
        (best, highest), (worst, lowest) = ends
        made["recalls"] = (
            f"Best recognised: {best}, {percent(highest)}; least: {worst}, {percent(lowest)}. "
        )
    counts = result.confusion.to_numpy(float)
    wrong = counts - np.diag(np.diag(counts))
    if wrong.any():
        truth, called = np.unravel_index(int(wrong.argmax()), wrong.shape)
        made["confusion"] = (
            f"{int(np.trace(counts)):,} of {int(counts.sum()):,} images are right; the commonest "
            f"mistake is {result.classes[truth]} called {result.classes[called]} "
            f"({int(wrong.max()):,} images). "
        )
    elif counts.any():
        made["confusion"] = f"All {int(counts.sum()):,} images are right. "
    if ends := _best_and_worst(result, "auroc"):
        (best, highest), (worst, lowest) = ends
        made["rocs"] = (
            f"Best told from the rest: {best}, AUROC {highest:.3f}; least: {worst}, {lowest:.3f}. "
        )
    return made


def _best_and_worst(
    result: Evaluation, metric: str
) -> tuple[tuple[str, float], tuple[str, float]] | None:
    """The classes with the highest and the lowest value; None: fewer than two have one."""
    values = {label: result[f"{metric}/{label}"].value for label in result.classes}
    known = [(label, value) for label, value in values.items() if value == value]
    if len(known) < 2:
        return None
    return max(known, key=itemgetter(1)), min(known, key=itemgetter(1))


def of_history(history: pd.DataFrame) -> str:
    """How far train and val lie apart at the end of training, and when val was best."""
    if not len(history):
        return ""
    rows = history.to_dict("records")
    last = rows[-1]
    best = max(rows, key=lambda row: float(row["val_balanced_accuracy"]))
    least = min(rows, key=lambda row: float(row["val_loss"]))
    text = (
        f"Balanced accuracy on validation is highest in epoch {best['epoch']:g} "
        f"({best['val_balanced_accuracy']:.3f}), its loss lowest in epoch {least['epoch']:g}; at "
        f"the end the loss is {last['train_loss']:.3f} in training and {last['val_loss']:.3f} on "
        "validation"
    )
    accuracies = {"train_accuracy", "val_accuracy"} <= set(history.columns)
    if accuracies and last["train_accuracy"] == last["train_accuracy"]:
        text += f", the accuracy {last['train_accuracy']:.3f} and {last['val_accuracy']:.3f}"
    return f"{text}. "


def of_reliability(bins: pd.DataFrame) -> str:
    """Whether a model is surer than it should be: what it gave and what was seen, on average.

    Args:
        bins: columns predicted, observed (0-1) and images, a row per bin.
    """
    images = bins["images"].to_numpy(float)
    if not images.sum():
        return ""
    given, seen = (
        float(np.average(bins[name], weights=images)) for name in ("predicted", "observed")
    )
    word = (
        "surer than" if given > seen + 0.005 else "less sure than" if given < seen - 0.005 else ""
    )
    verdict = f"the model is {word} it should be" if word else "on average the two agree"
    return f"Given on average {percent(given)}, seen {percent(seen)}: {verdict}. "
