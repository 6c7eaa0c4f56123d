"""Charts of a collection's metadata: bars, shares, heat maps, boxes and histograms.

Each takes plain tables, is drawn in the report's style and returns an `<svg>` element whose label
says in words what it shows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from lesionlab.data.summary.metadata_tables import UNKNOWN
from lesionlab.reporting.figures.model import ACCENT, WARM, percent_axes, short, thousands
from lesionlab.reporting.figures.style import LINE, MUTED, STYLE, TEXT, canvas, to_svg

_SPARE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#A6911C")
_NOTHING = "#8A949E"  # unknown, in every chart
_HEAT = "#1F6F9F"  # white is readable on it


def shades(labels: Sequence[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """A colour per label: those that are known, spare ones for others, grey for "unknown"."""
    made = dict(known or {})
    others = [each for each in labels if each not in made and each != UNKNOWN]
    made |= {each: _SPARE[i % len(_SPARE)] for i, each in enumerate(others)}
    return {each: _NOTHING if each == UNKNOWN else made[each] for each in labels}


def bars(
    counts: pd.Series,
    title: str,
    unit: str,
    *,
    inner: pd.Series | None = None,
    colours: Mapping[str, str] | None = None,
    of: int | None = None,
    form: str = "{:,.0f}",
) -> str:
    """Draw a horizontal bar per label, with its number and its share.

    Args:
        counts: index label.
        title: of the figure.
        unit: of the counts, for the axis: "images".
        inner: a second count within the first one, drawn darker; its `name` says of what.
        colours: by label.
        of: what shares refer to; by default the sum. 0 leaves shares out.
        form: how to write a count.
    """
    labels = [str(each) for each in counts.index]
    palette = shades(labels, colours or dict.fromkeys(labels, ACCENT))
    whole = int(counts.sum()) if of is None else of
    top = max(1.0, float(counts.max()))
    words = []
    with chart(0.85 + 0.3 * len(labels), title, grid="x") as (figure, axes):
        for row, (label, number) in enumerate(zip(labels, counts, strict=True)):
            faint = 0.45 if inner is not None else 0.8
            axes.barh(row, number, height=0.7, color=palette[label], alpha=faint)
            text = form.format(number)
            words.append(f"{label} {text}")
            if whole:
                text += f"  {_percent(number / whole)}"
                words[-1] += f" ({_percent(number / whole)})"
            if inner is not None:
                axes.barh(row, inner.iloc[row], height=0.7, color=palette[label])
                words[-1] += f" from {inner.iloc[row]:,.0f} {inner.name}"
            axes.text(number + 0.015 * top, row, text, va="center", fontsize=8.5)
        axes.set_xlim(0, 1.32 * top)
        name_rows(axes, labels)
        thousands(axes.xaxis, bins=4)
        axes.set_xlabel(unit if inner is None else f"{unit} (dark: {inner.name})")
        return to_svg(figure, f"{title}. {'; '.join(words)}.")


def stacks(
    counts: pd.DataFrame,
    title: str,
    rows: str,
    colours: Mapping[str, str],
    unit: str = "images",
    *,
    counted: bool = False,
) -> str:
    """Draw every row of a table of counts as shares of itself, with its sum at the right.

    Args:
        counts: index row, one column per part of the stack.
        title: of the figure.
        rows: what a row is, for the axis.
        colours: by column.
        unit: what is counted.
        counted: draw the counts, not shares of the row: a row is as long as its sum.
    """
    totals = counts.sum(axis=1)
    longest = max(1.0, float(totals.max()))
    parts = [str(each) for each in counts.columns]
    words = []
    legend = 0.2 * -(-len(parts) // 4)
    with chart(1.0 + legend + 0.32 * len(counts), title, grid="") as (figure, axes):
        for row, label in enumerate(counts.index):
            axes.text(1.15, row, f"{totals[label]:,}", ha="right", va="center", fontsize=8.5)
            if not totals[label]:
                continue
            left = 0.0
            told = []
            for part in parts:
                number = float(counts.loc[label, part])
                share = number / (longest if counted else totals[label])
                axes.barh(row, share, left=left, height=0.74, color=colours[part])
                if share >= 0.085:
                    text = f"{number:,.0f}" if counted else f"{100 * share:.0f}"
                    axes.text(left + share / 2, row, text, ha="center", va="center",
                              color=_ink(colours[part]), fontsize=8)  # fmt: skip
                if share > 0:
                    told.append(f"{part} {number:,.0f}" if counted else f"{part} {_percent(share)}")
                left += share
            words.append(f"{label}: {', '.join(told)}")
        axes.set_xlim(0, 1.16)
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        if counted:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x * longest:,.0f}"))
        else:
            percent_axes(axes, "x")
        name_rows(axes, [str(each) for each in counts.index])
        axes.set_xlabel(
            f"{unit if counted else f'share of the row{chr(39)}s {unit}'}; right: n ({unit})"
        )
        axes.set_ylabel(rows)
        figure.legend(
            [Patch(color=colours[part]) for part in parts],
            [short(part, 14) for part in parts],
            loc="outside lower center", ncols=min(4, len(parts)), handlelength=1.0,
            columnspacing=1.2, handletextpad=0.5,
        )  # fmt: skip
        return to_svg(figure, f"{title}. {'; '.join(words)}.")


def heat(counts: pd.DataFrame, title: str, rows: str, columns: str) -> str:
    """Draw a table of counts as a heat map: colour and large print are the share of the row.

    Args:
        counts: images, index row, one column per class.
        title: of the figure.
        rows: what a row is, for the axis.
        columns: what a column is, for the axis.
    """
    table = counts.to_numpy(float)
    totals = table.sum(axis=1)
    shares = np.divide(table, totals[:, None], out=np.zeros_like(table), where=totals[:, None] > 0)
    k = len(counts.columns)
    size = max(4.5, min(8.5, 8.5 * 7 / k))
    words = []
    with chart(1.1 + 0.36 * len(counts), title, grid="") as (figure, axes):
        for row, column in np.ndindex(*table.shape):
            share = shares[row, column]
            strength = 0.05 + 0.95 * share
            axes.add_patch(
                Rectangle((column - 0.48, row - 0.47), 0.96, 0.94, facecolor=_HEAT,
                          alpha=float(strength), linewidth=0)
            )  # fmt: skip
            if not table[row, column]:
                continue
            ink = "#ffffff" if strength > 0.75 else TEXT
            large = f"{100 * share:.0f}" if share >= 0.005 else "<1"
            axes.text(column, row - 0.15, large, ha="center", va="center", color=ink, fontsize=size)
            axes.text(column, row + 0.23, f"{table[row, column]:,.0f}", ha="center", va="center",
                      color=ink, fontsize=size * 0.75)  # fmt: skip
        for row, label in enumerate(counts.index):
            axes.text(k + 0.55, row, f"{totals[row]:,.0f}", ha="right", va="center", fontsize=size)
            if totals[row]:
                most = int(shares[row].argmax())
                words.append(f"{label}: most {counts.columns[most]}, {_percent(shares[row, most])}")
        axes.set_xlim(-0.5, k + 0.6)
        axes.set_xticks([*range(k), k + 0.3], [*(short(str(c), 7) for c in counts.columns), "n"])
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel(f"{columns}; large: % of the row, small: images")
        axes.set_ylabel(rows)
        name_rows(axes, [str(each) for each in counts.index])
        axes.tick_params(axis="x", length=0, labelcolor=TEXT, labelsize=size)
        axes.spines[:].set_visible(False)
        return to_svg(figure, f"{title}. {'; '.join(words)}.")


def boxes(
    groups: Mapping[str, NDArray[np.float64]],
    title: str,
    unit: str,
    rows: str,
    colours: Mapping[str, str],
) -> str:
    """Draw a box per group: quartiles, median, whiskers to 1.5 box lengths, dots beyond (Tukey).

    Args:
        groups: values by group, shape (n,) each; groups without values say so.
        title: of the figure.
        unit: of the values, for the axis.
        rows: what a group is, for the axis.
        colours: by group.
    """
    words = []
    right = max(1.0, *(float(np.max(each)) for each in groups.values() if len(each)))
    with chart(0.85 + 0.36 * len(groups), title, grid="x") as (figure, axes):
        for row, (label, found) in enumerate(groups.items()):
            axes.text(1.17 * right, row, f"{len(found):,}", ha="right", va="center", fontsize=8.5)
            if not len(found):
                continue
            low, middle, high = np.percentile(found, [25, 50, 75])
            inside = found[
                (found >= low - 1.5 * (high - low)) & (found <= high + 1.5 * (high - low))
            ]
            beyond = np.setdiff1d(found, inside)
            axes.plot([inside.min(), inside.max()], [row, row], color=MUTED, linewidth=1, zorder=2)
            axes.barh(row, high - low, left=low, height=0.62, color=colours[label], alpha=0.55,
                      zorder=2.5)  # fmt: skip
            axes.plot([middle] * 2, [row - 0.31, row + 0.31], color=TEXT, linewidth=2,
                      solid_capstyle="butt")  # fmt: skip
            axes.plot(beyond, np.full(len(beyond), row), "o", markersize=2.6, color=colours[label])
            words.append(f"{label}: median {middle:g}, middle half {low:g} to {high:g}")
        axes.set_xlim(-0.02 * right, 1.18 * right)
        axes.spines["bottom"].set_bounds(0, right)
        axes.set_xticks([tick for tick in MaxNLocator(6).tick_values(0, right) if tick <= right])
        name_rows(axes, list(groups))
        axes.set_xlabel(f"{unit}; right: n (images)")
        axes.set_ylabel(rows)
        return to_svg(figure, f"{title}. {'; '.join(words)}.")


def histogram(
    bins: pd.DataFrame, curves: pd.DataFrame, title: str, unit: str, marks: Mapping[str, float]
) -> str:
    """Draw a histogram, its smoothed density and its normal fit, as images per bin.

    Args:
        bins: columns from_*, to_* and images.
        curves: columns of the value, density and normal (per unit of the value); may be empty.
        title: of the figure.
        unit: of the values, for the axis.
        marks: vertical lines, by name.
    """
    low, high = bins.iloc[:, 0].to_numpy(float), bins.iloc[:, 1].to_numpy(float)
    area = float(bins["images"].sum() * (high[0] - low[0]))
    with chart(3.1, title, grid="y") as (figure, axes):
        axes.bar(low, bins["images"], high - low, align="edge", color=ACCENT, alpha=0.45,
                 linewidth=0.5, edgecolor=LINE)  # fmt: skip
        if len(curves):
            at = curves.iloc[:, 0].to_numpy(float)
            axes.plot(at, area * curves["density"], color=ACCENT, linewidth=2, label="density")
            axes.plot(at, area * curves["normal"], color=WARM, linestyle=(0, (5, 2)),
                      label="normal fit")  # fmt: skip
        for number, (name, value) in enumerate(marks.items()):
            style = (0, (1, 1.5) if number else (3, 2))
            axes.axvline(
                value, color=TEXT, linewidth=1, linestyle=style, label=f"{name} {value:.4g}"
            )
        thousands(axes.yaxis, bins=5)
        axes.set_xlabel(unit)
        axes.set_ylabel("images per bin")
        figure.legend(loc="outside lower center", ncols=4, handlelength=1.6, columnspacing=1.2)
        listed = ", ".join(f"{name} {value:.4g}" for name, value in marks.items())
        return to_svg(figure, f"{title}. From {low[0]:g} to {high[-1]:g}; {listed}.")


def spikes(counts: pd.Series, title: str, x: str, y: str, *, told: bool = False) -> str:
    """Draw a thin upright bar at every value that occurs.

    Args:
        counts: index value (a number).
        title: of the figure.
        x: what the values are, with their unit.
        y: what is counted.
        told: write each count above its bar.
    """
    at = counts.index.to_numpy(float)
    step = float(np.diff(at).min()) if len(at) > 1 else 0.05
    top = float(counts.max())
    with chart(2.6, title, grid="y") as (figure, axes):
        axes.bar(at, counts, 0.72 * step, color=ACCENT, alpha=0.8)
        if told:
            for value, number in zip(at, counts, strict=True):
                axes.text(value, number + 0.02 * top, f"{number:,}", ha="center", fontsize=8.5)
            axes.set_xticks(at, [f"{value:g}" for value in at.round(3)])
        axes.set_xlim(at[0] - 2 * step, at[-1] + 2 * step)
        axes.set_ylim(0, 1.12 * top)
        thousands(axes.yaxis, bins=5)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        listed = ", ".join(
            f"{value:g}: {number:,}" for value, number in zip(at, counts, strict=True)
        )
        return to_svg(figure, f"{title}. {x}, {y}: {listed}.")


def grouped(shares: pd.DataFrame, title: str, axis: str, colours: Mapping[str, str]) -> str:
    """Draw the columns of a table of shares beside one another, row by row.

    Args:
        shares: 0-1, index row, one column per colour.
        title: of the figure.
        axis: what the shares are of.
        colours: by column.
    """
    names = [str(each) for each in shares.columns]
    height = 0.8 / len(names)
    top = max(0.05, float(np.nanmax(shares.to_numpy(float))))
    words = []
    with chart(1.2 + 0.2 * shares.size, title, grid="x") as (figure, axes):
        for row, label in enumerate(shares.index):
            for place, name in enumerate(names):
                share = float(shares.loc[label, name])
                y = row - 0.4 + (place + 0.5) * height
                if np.isnan(share):
                    continue
                axes.barh(y, share, height=0.9 * height, color=colours[name])
                axes.text(share + 0.012 * top, y, _percent(share), va="center", fontsize=7.5)
                words.append(f"{label}, {name}: {_percent(share)}")
        axes.set_xlim(0, 1.15 * top)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        percent_axes(axes, "x")
        name_rows(axes, [str(each) for each in shares.index])
        axes.set_xlabel(axis)
        figure.legend(
            [Patch(color=colours[name]) for name in names], names,
            loc="outside lower center", ncols=min(4, len(names)), handlelength=1.0,
        )  # fmt: skip
        return to_svg(figure, f"{title}. {'; '.join(words)}.")


@contextmanager
def titled(height: float, title: str, grid: str = "both") -> Iterator[Figure]:
    """A figure of the page's width with a title at its left edge and no axes yet.

    Args:
        height: in inches, without the title.
        title: broken into lines where it is long.
        grid: of the axes to come: "x", "y", "both", or "" for none.
    """
    lines = textwrap.wrap(title, 52)
    with canvas(height + 0.15 * len(lines), grid) as figure:
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=9.5, fontweight="bold")
        yield figure


@contextmanager
def chart(height: float, title: str, grid: str) -> Iterator[tuple[Figure, Axes]]:
    """A figure as `titled` makes it, with axes that fill it."""
    with titled(height, title, grid) as figure:
        yield figure, figure.subplots()


def name_rows(
    axes: Axes,
    labels: Iterable[str],
    *,
    longest: int | None = 17,
    margin: float = 0.5,
    size: float = STYLE["ytick.labelsize"],
) -> None:
    """Name the rows of a chart, top to bottom, one unit apart.

    Args:
        axes: of the chart.
        labels: a name per row.
        longest: letters that a name may have; None: it is never cut.
        margin: room above the first row and below the last one, in rows.
        size: of the letters, in points.
    """
    names = [short(each, longest) if longest else each for each in labels]
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_ylim(len(names) - 1 + margin, -margin)
    axes.tick_params(axis="y", length=0, labelcolor=TEXT)
    axes.spines["left"].set_visible(False)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.9995 else "100 %"


def _ink(colour: str) -> str:
    """Black or white, whichever is easier to read on a colour (WCAG's relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"
