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
) -> str:
    """Draw a value with its interval per row; a row without one is a heading."""
    words = []
    known = [each for _, each, _, _ in rows if each is not None and each.defined]
    least = min([0.0, *(min(each.value, *_ends(each)) for each in known)])
    most = max([line or 0.0, *(max(each.value, *_ends(each)) for each in known)])
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
            said = percent(each.value) if shares else f"{each.value:.2f}"
            axes.text(most + 0.05 * wide, place, said, va="center", fontsize=8.5)
            words.append(f"{label} {said}")
        name_rows(axes, [label for label, *_ in rows], longest=None, margin=0.6)
        for tick, (_, each, _, _) in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_fontweight("bold" if each is None else "normal")
        axes.set_xlim(least - 0.03 * wide, most + 0.3 * wide)
        axes.xaxis.set_major_locator(MaxNLocator(5))
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


def _ends(each: Estimate) -> tuple[float, float]:
    """The ends of the interval; the value twice where there is none."""
    if math.isnan(each.low) or math.isnan(each.high):
        return each.value, each.value
    return each.low, each.high
