"""The section of a report that sets the model beside what sees no lesion."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lesionlab.display import p_value
from lesionlab.evaluation.comparison.baselines import Baselines
from lesionlab.evaluation.comparison.compare import shown
from lesionlab.evaluation.intervals.p_values import ALPHA
from lesionlab.reporting.figures.distributions import name_rows, titled
from lesionlab.reporting.figures.forest import whisker
from lesionlab.reporting.figures.model import ACCENT, WARM
from lesionlab.reporting.figures.style import MUTED, to_svg
from lesionlab.reporting.page.section import Exhibit, Section

_DRAWN = ("balanced_accuracy", "macro_auroc", "sensitivity_at_90_specificity")
_NAMES = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_auroc": "Macro AUROC",
    "accuracy": "Accuracy",
    "log_loss": "Log loss",
}


def section(baselines: Baselines) -> Section:
    """The model and its baselines: dots with whiskers, and the differences.

    Args:
        baselines: from `baselines`.
    """
    result = baselines.comparison
    title = f"{baselines.model} beside what sees no lesion, n = {result.images:,} images"
    reading = (
        "Baselines are fitted on the same training part: age, sex and site alone (metadata), and "
        "how often each of 512 colours occurs (colours); each as it is, and re-weighted to classes "
        "of equal share (balanced), the one to beat in balanced accuracy. A filled dot differs "
        "from the model beyond chance (adjusted p below 0.05); a hollow one does not. A model that "
        "is no better than colours has not been shown to see more than colours."
    )
    metric = result.metrics[0]
    values = {name: result.figures.get((name, metric)) for name in baselines.tables}
    known = {name: each.value for name, each in values.items() if each is not None and each.defined}
    own = result.figures.get((baselines.model, metric))
    if known and own is not None and own.defined:
        best = max(known, key=known.__getitem__)
        reading = (
            f"In {_name(metric).lower()} the model has {own.value:.3f}, the best baseline "
            f"({best}) {known[best]:.3f}. {reading}"
        )
    rows = []
    for metric in result.metrics:
        name = _name(metric)
        rows.append(
            (name, baselines.model, shown(result.figures.get((baselines.model, metric))), "", "")
        )
        for baseline in baselines.tables:
            key = baselines.model, baseline, metric
            rows.append(
                (
                    name,
                    baseline,
                    shown(result.figures.get((baseline, metric))),
                    shown(result.differences.get(key), signed=True),
                    p_value(result.adjusted[key]) if key in result.adjusted else "–",
                )
            )
    columns = ["figure", "model", "value", f"{baselines.model} minus it", "adjusted p"]
    table = pd.DataFrame(rows, columns=columns)
    exhibit = Exhibit("baselines", title, reading, table, _dots(baselines, title))
    return Section(
        "baselines", "Beside what sees no lesion", (exhibit,), baselines.notes, "Baselines"
    )


def _name(metric: str) -> str:
    head, _, label = metric.partition("/")
    word = _NAMES.get(head, head.replace("_", " ").capitalize())
    return word.replace("at 90 specificity", "at 90 % specificity") + (
        f", {label}" if label else ""
    )


def _dots(baselines: Baselines, title: str) -> str:
    """A panel per metric, a row per model."""
    result = baselines.comparison
    metrics = [each for each in result.metrics if each.partition("/")[0] in _DRAWN]
    metrics = metrics or list(result.metrics[:3])
    names = [baselines.model, *reversed(list(baselines.tables))]
    height = 0.2 + len(metrics) * (0.6 + 0.23 * len(names))
    words = []
    with titled(height, title, grid="x") as figure:
        panels = figure.subplots(len(metrics), 1, squeeze=False)[:, 0]
        for axes, metric in zip(panels, metrics, strict=True):
            axes.set_title(_name(metric), fontsize=8.5, fontweight="normal")
            for row, name in enumerate(names):
                each = result.figures.get((name, metric))
                if each is None or not each.defined:
                    axes.text(0.01, row, "not known", va="center", fontsize=8, color=MUTED)
                    continue
                p = result.adjusted.get((baselines.model, name, metric), math.nan)
                colour = ACCENT if name == baselines.model else WARM
                whisker(
                    axes, each, row, colour, "D" if name == baselines.model else "o",
                    markersize=6, markeredgewidth=1.4,
                    markerfacecolor=colour if name == baselines.model or p < ALPHA else "#ffffff",
                )  # fmt: skip
                axes.text(1.13, row, f"{each.value:.3f}", va="center", ha="right", fontsize=8)
                words.append(f"{_name(metric)}, {name} {each}")
            _finish(axes, names)
        return to_svg(figure, f"{title}. {'; '.join(words)}.")


def _finish(axes: Axes, names: list[str]) -> None:
    name_rows(axes, names, longest=18, size=8)
    axes.set_xlim(0, 1.14)
    axes.spines["bottom"].set_bounds(0, 1)
    axes.set_xticks([tick for tick in MaxNLocator(5).tick_values(0, 1) if tick <= 1])
    axes.tick_params(axis="x", labelsize=8)
