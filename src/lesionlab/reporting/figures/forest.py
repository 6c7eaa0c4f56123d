"""Rows of values with their intervals, drawn for the width of a phone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lesionlab.display import percent
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.reporting.figures.distributions import chart, name_rows
from lesionlab.reporting.figures.model import percent_axes
from lesionlab.reporting.figures.style import TEXT, to_svg

Row = tuple[str, Estimate | None, str, str]
"""Label, estimate (None: the label is a heading), colour and marker."""


def dots(
    rows: Sequence[Row],
    title: str,
    axis: str,
    *,
    line: float | None = None,
    shares: bool = True,
    form: str = ".2f",
    from_zero: bool = True,
) -> str:
    """Draw a value with its 95 % interval per row, and the value at the right.

    Args:
        rows: from top to bottom; one without an estimate is a heading.
        title: of the figure.
        axis: what the values are.
        line: where to draw a line of "nothing to see".
        shares: write values as per cent.
        form: how to write other values.
        from_zero: whether the axis holds 0; it always holds the line.
    """
    words = []
    known = [each for _, each, _, _ in rows if each is not None and each.defined]
    ends = [x for each in known for x in (each.value, each.low, each.high) if not math.isnan(x)]
    ends += [line] if line is not None else []
    ends += [0.0] if from_zero or not ends else []
    least, most = min(ends), max(ends)
    wide = (most - least) or 1.0
    with chart(0.75 + 0.205 * len(rows), title, grid="x") as (figure, axes):
        if line is not None:
            axes.axvline(line, color=TEXT, linewidth=0.9, linestyle=(0, (1, 2)))
        for place, (label, each, colour, marker) in enumerate(rows):
            if each is None:
                words.append(label)
                continue
            if not each.defined:
                continue
            size, edge = (10, 2) if marker == "|" else (6, 0.8)
            whisker(axes, each, place, colour, marker, faint=True, markersize=size,
                    markeredgewidth=edge)  # fmt: skip
            text = percent(each.value) if shares else format(each.value, form)
            axes.text(most + 0.05 * wide, place, text, va="center", fontsize=8.5)
            words.append(f"{label} {text}")
        name_rows(axes, [label for label, *_ in rows], longest=None, margin=0.6)
        for tick, (_, each, _, _) in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_fontweight("bold" if each is None else "normal")
        low, high = least - 0.03 * wide, most + 0.3 * wide
        axes.set_xlim(low, high)
        ticks = MaxNLocator(5).tick_values(least, most)
        axes.set_xticks([tick for tick in ticks if low <= tick <= most + 0.01 * wide])
        if shares:
            percent_axes(axes, "x")
        axes.set_xlabel(axis)
        return to_svg(figure, f"{title}. {'; '.join(words)}.")


def whisker(
    axes: Axes,
    each: Estimate,
    row: float,
    colour: str,
    marker: str = "o",
    *,
    faint: bool = False,
    **mark: Any,
) -> None:
    """Draw a value and, where there is one, its interval as a line behind it.

    Args:
        axes: to draw on.
        each: the value; must be defined.
        row: its place on the vertical axis.
        colour: of both.
        marker: matplotlib's sign for the value.
        faint: draw the line paler.
        mark: how the marker is drawn, in matplotlib's words.
    """
    if not math.isnan(each.low):
        look = {"linewidth": 1.8, "alpha": 0.65} if faint else {"linewidth": 1.6}
        axes.plot([each.low, each.high], [row, row], color=colour, **look)  # type: ignore[arg-type]
    axes.plot([each.value], [row], marker, color=colour, **mark)
