"""Rows of values with their intervals, drawn for the width of a phone."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lesionlab.evaluation.bootstrap import Estimate
from lesionlab.reporting.contents import percent
from lesionlab.reporting.svg import STYLE, TEXT, WIDTH, to_svg

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
    with titled(0.75 + 0.205 * len(rows), title) as figure:
        axes: Axes = figure.subplots()
        axes.grid(visible=False, axis="y")
        if line is not None:
            axes.axvline(line, color=TEXT, linewidth=0.9, linestyle=(0, (1, 2)))
        for place, (label, each, colour, marker) in enumerate(rows):
            if each is None:
                words.append(label)
                continue
            if not each.defined:
                continue
            axes.plot(_ends(each), [place, place], color=colour, linewidth=1.8, alpha=0.65)
            axes.plot([each.value], [place], marker, color=colour, markersize=6 if marker != "|"
                      else 10, markeredgewidth=2 if marker == "|" else 0.8)  # fmt: skip
            said = percent(each.value) if shares else f"{each.value:.2f}"
            axes.text(most + 0.05 * wide, place, said, va="center", fontsize=8.5)
            words.append(f"{label} {said}")
        axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
        for tick, (_, each, _, _) in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_color(TEXT)
            tick.set_fontsize(8.5)
            tick.set_fontweight("bold" if each is None else "normal")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(least - 0.03 * wide, most + 0.3 * wide)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if shares:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axes.set_xlabel(axis)
        return to_svg(figure, f"{title}. {'; '.join(words)}.")


def _ends(each: Estimate) -> tuple[float, float]:
    """The ends of the interval; the value twice where there is none."""
    if math.isnan(each.low) or math.isnan(each.high):
        return each.value, each.value
    return each.low, each.high


@contextmanager
def titled(height: float, title: str) -> Iterator[Figure]:
    """A figure of the page's width with a title at its left edge, in the report's style."""
    lines = textwrap.wrap(title, 52)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height + 0.15 * len(lines)), layout="constrained")
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=9.5, fontweight="bold")
        yield figure
