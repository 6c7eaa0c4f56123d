"""Figures as inline SVG: one style, drawn for the width of a phone and scaled up elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from lesionlab.evaluation.evaluation_result import Evaluation
from lesionlab.evaluation.metrics.operating_points import fixes_specificity
from lesionlab.reporting.figures.style import LINE, MUTED, TEXT, WIDTH, canvas, to_svg
from lesionlab.taxonomy import colours

ACCENT = "#2E86B5"
WARM = "#C9702B"
_RIGHT, _WRONG = "#1F6F9F", "#B5541C"  # cells of the confusion matrix: white is readable on both


def curves(history: pd.DataFrame, kept: int | None = None) -> str:
    """Draw loss, accuracy and validation metrics epoch by epoch.

    Args:
        history: columns epoch, train_loss, val_loss, val_balanced_accuracy; optional phase,
            val_macro_auroc; train_accuracy and val_accuracy, which are a panel of their own.
        kept: the epoch whose weights were kept, or None.

    Returns:
        An `<svg>` element.
    """
    epochs = history["epoch"].to_numpy(float)
    dots = {"marker": "o", "markersize": 3.0} if len(epochs) < 15 else {}
    both = {"train_accuracy", "val_accuracy"} <= set(history.columns)
    with canvas(6.0 if both else 4.2) as figure:
        loss, *middle, score = figure.subplots(3 if both else 2, 1, sharex=True)
        for accuracy in middle:
            _line(accuracy, epochs, history["train_accuracy"], MUTED, "training", dots, (3, 2))
            _line(accuracy, epochs, history["val_accuracy"], ACCENT, "validation", dots)
            accuracy.set_title("Accuracy")
            accuracy.set_ylim(0, 1.02)
        _line(loss, epochs, history["train_loss"], MUTED, "training", dots, dashes=(3, 2))
        _line(loss, epochs, history["val_loss"], ACCENT, "validation", dots)
        loss.set_title("Loss")
        values = history["val_balanced_accuracy"]
        _line(score, epochs, values, ACCENT, "balanced accuracy", dots)
        if "val_macro_auroc" in history.columns:
            _line(
                score, epochs, history["val_macro_auroc"], WARM, "macro AUROC", dots, dashes=(5, 2)
            )
        score.set_title("Validation")
        score.set_ylim(0, 1.02)
        score.set_xlabel("epoch")
        score.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        words = f"Training curves over {len(history)} epochs."
        at = history.index[history["epoch"] == kept]
        if kept is not None and len(at):
            value = float(values.loc[at[0]])
            for axes in (loss, *middle, score):
                axes.axvline(kept, color=TEXT, linewidth=0.9, linestyle=(0, (1, 2)))
            score.plot([kept], [value], "o", markersize=6.5, color=ACCENT, markeredgecolor=TEXT)
            left = kept > epochs.mean()
            score.annotate(
                f"kept: epoch {kept}, {value:.3f}",
                (kept, 0.05),
                xytext=(-6 if left else 6, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                fontsize=8.5,
            )
            words += f" Epoch {kept} was kept: balanced accuracy on validation {value:.3f}."
        if "phase" in history.columns:
            for start in epochs[1:][np.diff(history["phase"].to_numpy(float)) != 0]:
                for axes in (loss, *middle, score):
                    axes.axvline(start - 0.5, color=LINE, linewidth=1.2)
        for axes in (loss, *middle, score):
            axes.legend(
                loc="lower right", bbox_to_anchor=(1.02, 0.98), ncols=2, handlelength=1.4,
                columnspacing=0.9, handletextpad=0.4, borderaxespad=0.2, fontsize=8,
            )  # fmt: skip
        return to_svg(figure, words)


def confusion(evaluation: Evaluation) -> str:
    """Draw the confusion matrix: per row the shares of a true class, the diagonal being recall."""
    table = evaluation.confusion.to_numpy(float)
    classes = evaluation.classes
    k = len(classes)
    rows = table.sum(axis=1, keepdims=True)
    shares = np.divide(table, rows, out=np.zeros_like(table), where=rows > 0)
    size = max(4.5, min(9.0, 9.0 * 7 / k))
    with canvas(WIDTH * 0.93, grid="") as figure:
        axes = figure.subplots()
        axes.set_xlim(-0.5, k - 0.5)
        axes.set_ylim(k - 0.5, -0.5)
        for row, column in np.ndindex(k, k):
            share, number = shares[row, column], int(table[row, column])
            diagonal = row == column
            strength = 0.05 + 0.95 * share
            axes.add_patch(
                Rectangle(
                    (column - 0.47, row - 0.47), 0.94, 0.94,
                    facecolor=_RIGHT if diagonal else _WRONG, alpha=float(strength),
                    linewidth=0,
                )
            )  # fmt: skip
            if diagonal:
                axes.add_patch(
                    Rectangle(
                        (column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor=_RIGHT,
                        linewidth=1.4,
                    )
                )  # fmt: skip
            if not number:
                continue
            ink = "#ffffff" if strength > 0.82 else TEXT
            weight = "bold" if diagonal else "normal"
            axes.text(column, row - 0.13, f"{share:.0%}", ha="center", va="center", color=ink,
                      fontsize=size, fontweight=weight)  # fmt: skip
            axes.text(column, row + 0.24, f"{number:,}", ha="center", va="center", color=ink,
                      fontsize=size * 0.78)  # fmt: skip
        _class_ticks(axes, classes, axis="y")
        axes.set_xticks(range(k), [short(label, 7 if k <= 10 else 5) for label in classes])
        axes.tick_params(length=0, labelsize=max(5.5, min(9.0, 9.0 * 8 / k)), labelcolor=TEXT)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel("called", labelpad=6)
        axes.set_ylabel("truth")
        for spine in axes.spines.values():
            spine.set_visible(False)
        recalls = ", ".join(
            f"{label} {shares[i, i]:.0%}" for i, label in enumerate(classes) if rows[i, 0]
        )
        return to_svg(figure, f"Confusion matrix. Share of each class recognised: {recalls}.")


def rocs(
    points: Mapping[str, pd.DataFrame],
    evaluation: Evaluation,
) -> str:
    """Draw one ROC curve per class, with the operating points of the positive class.

    Args:
        points: by class, columns fpr and tpr, as `lesionlab.evaluation.roc` gives them.
        evaluation: of the same images; its AUROCs stand in the legend.
    """
    palette = colours(evaluation.classes)
    below = 0.62 + 0.17 * ((len(points) + 1) // 2)  # inches: axis label and legend
    side = 3.5
    height = below + side + 0.1
    with canvas(height, arranged=False) as figure:
        axes = figure.add_axes((0.64 / WIDTH, below / height, side / WIDTH, side / height))
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=1.2)
        for label, curve in points.items():
            fpr, tpr = corners(curve["fpr"].to_numpy(float), curve["tpr"].to_numpy(float))
            weights = label == evaluation.positive
            text = f"{short(label)}  {evaluation[f'auroc/{label}'].value:.3f}"
            axes.plot(fpr, tpr, color=palette[label], label=text, linewidth=2.4 if weights else 1.4,
                      zorder=4 if weights else 3)  # fmt: skip
        for name in evaluation:
            if name.startswith("sensitivity_at_") and fixes_specificity(name):
                fpr_at = 1 - evaluation[name.replace("sensitivity", "specificity", 1)].value
                axes.plot([fpr_at], [evaluation[name].value], "o", markersize=5.5, zorder=5,
                          color=palette[evaluation.positive], markeredgecolor=TEXT)  # fmt: skip
        axes.set_xlim(-0.01, 1)
        axes.set_ylim(0, 1.01)
        percent_axes(axes, "xy")
        axes.set_xlabel("1 − specificity: others wrongly called the class")
        axes.set_ylabel("sensitivity")
        figure.legend(
            loc="lower center",
            bbox_to_anchor=((0.64 + side / 2) / WIDTH, 0),
            ncols=2,
            handlelength=1.4,
            columnspacing=2.2,
            borderaxespad=0.2,
        )
        listed = ", ".join(f"{label} {evaluation[f'auroc/{label}'].value:.3f}" for label in points)
        return to_svg(figure, f"ROC curve of each class against the rest. AUROC: {listed}.")


def recalls(evaluation: Evaluation) -> str:
    """Draw the recall of every class with its 95 % interval, and their mean."""
    classes = evaluation.classes
    palette = colours(classes)
    mean = evaluation["balanced_accuracy"].value
    with canvas(0.6 + 0.48 * len(classes), grid="x") as figure:
        axes = figure.subplots()
        words = []
        for row, label in enumerate(classes):
            each = evaluation[f"recall/{label}"]
            if not each.defined:
                axes.text(0.01, row, "no image", va="center", color=MUTED, fontsize=8.5)
                continue
            axes.barh(row, each.value, height=0.62, color=palette[label], alpha=0.38)
            axes.plot(
                [each.value] * 2, [row - 0.31, row + 0.31], color=palette[label], linewidth=2.6
            )
            if not np.isnan(each.low):
                axes.errorbar(
                    [each.value], [row], xerr=[[each.value - each.low], [each.high - each.value]],
                    fmt="none", ecolor=TEXT, elinewidth=1.1, capsize=3,
                )  # fmt: skip
            axes.text(1.04, row, f"{each.value:.0%}", va="center", ha="left", fontweight="bold")
            axes.text(1.45, row, f"n {each.n:,}", va="center", ha="right", color=MUTED, fontsize=8)
            words.append(f"{label} {each.value:.0%}")
        if not np.isnan(mean):
            axes.axvline(mean, color=TEXT, linewidth=1, linestyle=(0, (1, 2)), zorder=0.9)
        axes.set_xlim(0, 1.46)  # with room for the numbers
        axes.spines["bottom"].set_bounds(0, 1)
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        percent_axes(axes, "x")
        _class_ticks(axes, classes, axis="y")
        axes.tick_params(axis="y", length=0, labelcolor=TEXT)
        axes.spines["left"].set_visible(False)
        text = f"Recall of each class with 95 % interval: {', '.join(words)}. Mean {mean:.0%}."
        return to_svg(figure, text)


def class_counts(counts: pd.DataFrame) -> str:
    """Draw how many images of each class stand in each part.

    Args:
        counts: images, index class, one column per part.
    """
    classes = [str(label) for label in counts.index]
    palette = colours(classes)
    shades = dict(zip(counts.columns, np.linspace(1.0, 0.3, len(counts.columns)), strict=True))
    top = float(counts.sum(axis=1).max())
    with canvas(0.75 + 0.38 * len(classes), grid="x") as figure:
        axes = figure.subplots()
        for row, label in enumerate(classes):
            left = 0.0
            for part, shade in shades.items():
                number = float(counts.loc[label, part])  # type: ignore[arg-type]
                axes.barh(
                    row, number, left=left, height=0.66, color=palette[label], alpha=float(shade)
                )
                left += number
            axes.text(left + 0.015 * top, row, f"{left:,.0f}", va="center", fontsize=8.5)
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set_xlim(0, 1.13 * top)
        thousands(axes.xaxis, bins=5)
        _class_ticks(axes, classes, axis="y")
        axes.tick_params(axis="y", length=0, labelcolor=TEXT)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("images, dark to light: " + ", ".join(map(str, counts.columns)))
        listed = ", ".join(f"{label} {counts.loc[label].sum():,.0f}" for label in classes)
        return to_svg(figure, f"Images per class: {listed}.")


def corners(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Drop the points of a line at which it does not turn; the line stays the same.

    Args:
        x: shape (n,).
        y: shape (n,).
    """
    moved = np.concatenate([[True], (np.diff(x) != 0) | (np.diff(y) != 0)])
    x, y = x[moved], y[moved]
    dx, dy = np.diff(x), np.diff(y)
    turns = ~np.isclose(dx[:-1] * dy[1:], dx[1:] * dy[:-1], rtol=0, atol=1e-12)
    keep = np.concatenate([[True], turns, [True]]) if len(x) > 2 else np.ones(len(x), bool)
    return x[keep], y[keep]


def _line(
    axes: Axes,
    x: NDArray[np.float64],
    y: pd.Series,
    colour: str,
    label: str,
    dots: Mapping[str, object],
    dashes: tuple[int, int] | None = None,
) -> None:
    style = (0, dashes) if dashes else "-"
    axes.plot(x, y.to_numpy(float), color=colour, label=label, linestyle=style, **dots)  # type: ignore[arg-type]


def _class_ticks(axes: Axes, classes: Sequence[str], axis: str) -> None:
    (axes.set_yticks if axis == "y" else axes.set_xticks)(
        range(len(classes)), [short(label) for label in classes]
    )


def percent_axes(axes: Axes, which: str) -> None:
    """Write the shares along "x", "y" or "xy" as per cent."""
    form = FuncFormatter(lambda value, _: f"{100 * value:.0f} %")
    for name in which:
        (axes.xaxis if name == "x" else axes.yaxis).set_major_formatter(form)


def thousands(axis: Axis, bins: int) -> None:
    """Write the whole numbers along an axis with commas, at about so many places."""
    axis.set_major_locator(MaxNLocator(integer=True, nbins=bins))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def short(label: str, length: int = 12) -> str:
    """A label cut to a length, with an ellipsis where something is lost."""
    return label if len(label) <= length else label[: length - 1] + "…"
