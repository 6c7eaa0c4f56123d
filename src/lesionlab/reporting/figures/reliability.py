"""Charts of how a model did: figures with intervals, and reliability diagrams.

Each returns an `<svg>` element in the report's style whose label says in words what it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.reporting.figures.distributions import chart, name_rows
from lesionlab.reporting.figures.forest import whisker
from lesionlab.reporting.figures.model import ACCENT, percent_axes
from lesionlab.reporting.figures.style import MUTED, TEXT, to_svg

_MARKS = ("o", "D", "s", "^", "v")


def dots(
    series: Mapping[str, Sequence[Estimate]],
    rows: Sequence[str],
    title: str,
    axis: str,
    *,
    line: float | None = None,
    shade: Mapping[str, str] | None = None,
    percent: bool = True,
) -> str:
    """Draw a dot with its 95 % interval per row, for one series or several.

    Args:
        series: by name, an estimate per row; one that is not defined is left out.
        rows: their names, top to bottom.
        title: of the figure.
        axis: what the figures are.
        line: a value to compare with, drawn dotted.
        shade: the colour of a row; by default all are alike.
        percent: whether the figures are shares.
    """
    names = list(series)
    ends = [x for all_ in series.values() for e in all_ for x in (e.value, e.low, e.high)]
    known = [x for x in [*ends, *([line] if line is not None else [])] if not np.isnan(x)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    margin = 0.06 * max(high - low, 0.02)
    height = 0.28 if len(names) == 1 else 0.17 * len(names) + 0.13
    legend = 0.22 * -(-len(names) // 2) if len(names) > 1 else 0.0
    words = []
    with chart(0.75 + legend + height * len(rows), title, grid="x") as (figure, axes):
        for place, name in enumerate(names):
            offset = 0.0 if len(names) == 1 else 0.56 * (place / (len(names) - 1) - 0.5)
            for row, (label, each) in enumerate(zip(rows, series[name], strict=True)):
                if not each.defined:
                    continue
                colour = (shade or {}).get(label, ACCENT)
                y = row + offset
                whisker(axes, each, y, colour, _MARKS[place % len(_MARKS)], markersize=5.5,
                        markeredgecolor=TEXT, markeredgewidth=0.7)  # fmt: skip
                said = f"{label}, {name}" if len(names) > 1 else label
                words.append(f"{said}: {_said(each, percent)}")
        if line is not None:
            axes.axvline(line, color=TEXT, linewidth=1, linestyle=(0, (1, 2)), zorder=0.9)
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if percent:
            percent_axes(axes, "x")
        name_rows(axes, rows)
        axes.set_xlabel(axis)
        if len(names) > 1:
            figure.legend(
                [
                    Line2D([], [], marker=_MARKS[i % len(_MARKS)], color=MUTED, linewidth=1.6)
                    for i in range(len(names))
                ],
                names, loc="outside lower center", ncols=2, handlelength=1.8,
            )  # fmt: skip
        return to_svg(figure, f"{title}. {'; '.join(words)}.")


def reliability(bins: pd.DataFrame, title: str, axis: str) -> str:
    """Draw a reliability diagram: observed against predicted, with intervals, and the bins' sizes.

    Args:
        bins: columns predicted, observed, low, high (0-1) and images, a row per bin.
        title: of the figure.
        axis: what was observed.
    """
    said, seen = bins["predicted"].to_numpy(float), bins["observed"].to_numpy(float)
    low, high = bins["low"].to_numpy(float), bins["high"].to_numpy(float)
    with chart(3.6, title, grid="both") as (figure, axes):
        axes.plot([0, 1], [0, 1], color=TEXT, linewidth=1, linestyle=(0, (1, 2)))
        drawn = ~np.isnan(low)
        axes.vlines(said[drawn], low[drawn], high[drawn], color=ACCENT, linewidth=1.6)
        axes.plot(said, seen, "o", color=ACCENT, markersize=5.5, markeredgecolor=TEXT,
                  markeredgewidth=0.7)  # fmt: skip
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        percent_axes(axes, "xy")
        axes.set_xlabel("probability that the model gave")
        axes.set_ylabel(axis)
        words = "; ".join(
            f"said {100 * a:.0f} %, seen {100 * b:.0f} %" for a, b in zip(said, seen, strict=True)
        )
        return to_svg(figure, f"{title}. {words}.")


def _said(each: Estimate, percent: bool) -> str:
    if not percent:
        return str(each)
    inner = "" if np.isnan(each.low) else f" ({100 * each.low:.0f} to {100 * each.high:.0f})"
    return f"{100 * each.value:.0f} %{inner}"
