"""The section of a report on groups of patients and images: each against the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lesionlab.display import p_value
from lesionlab.evaluation.comparison.compare import shown
from lesionlab.evaluation.subgroups.result import USUAL, Gap, Subgroups, first_word
from lesionlab.reporting.figures.distributions import titled
from lesionlab.reporting.figures.forest import whisker
from lesionlab.reporting.figures.model import ACCENT, short
from lesionlab.reporting.figures.style import MUTED, TEXT, to_svg
from lesionlab.reporting.page.section import Exhibit, Section

WORDS = {
    "age": "Age",
    "sex": "Sex",
    "site": "Site on the body",
    "dx_type": "Confirmation of the diagnosis",
    "source": "Source",
}
_NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "macro_auroc": "macro AUROC",
    "auroc": "AUROC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "mean_specificity": "mean specificity",
    "accuracy": "accuracy",
    "overconfidence": "overconfidence",
}


def section(result: Subgroups) -> Section:
    """Figures of groups and their gaps, a figure and a table for each way of grouping.

    Args:
        result: from `subgroups`.
    """
    exhibits = [_of(result, each, first=not place) for place, each in enumerate(result.groups)]
    if result.widest:
        exhibits.append(_widest(result))
    return Section(
        "subgroups", "For whom it works", tuple(exhibits), tuple(result.notes), "Subgroups"
    )


def _of(result: Subgroups, grouping: str, *, first: bool) -> Exhibit:
    panels = [name for name in result.metrics if first_word(name) in USUAL]
    names = " and ".join(WORDS[each].lower() for each in grouping.split("+"))
    title = f"{names[0].upper()}{names[1:]}: each group against all other images"
    reading = (
        "Dots: the group's figure minus that of all other images, in points of a percentage; "
        "whiskers: 95 % interval. Filled: a difference once all groups are allowed for (adjusted p "
        "below 0.05). Balanced accuracy is compared over the classes that both sides have, so that "
        "more of an easy class makes no group better."
    )
    if not first:
        reading = "To be read as the figure above."
    gaps = [
        (group, name)
        for group in result.groups[grouping]
        for name in panels
        if (gap := result.gaps.get((grouping, group, name))) is not None and gap.differs
    ]
    differing = "; ".join(f"{group} in {_name(name, result)}" for group, name in gaps)
    reading = f"Beyond chance differ: {differing or 'no group'}. {reading}"
    if "dx_type" in grouping:
        reading += (
            " How a diagnosis was confirmed depends on the diagnosis, so the other figures of the "
            "table differ here for that reason alone."
        )
    table = _table(result, grouping, result.metrics)
    return Exhibit(
        f"gaps_by_{grouping.replace('+', '_and_')}",
        title,
        reading,
        table,
        _forest(result, grouping, panels, title),
    )


def _table(result: Subgroups, grouping: str, metrics: Sequence[str]) -> pd.DataFrame:
    """A row per group and metric, in words."""
    rows = []
    for group in result.groups[grouping]:
        images, lesions, _ = result.sizes[grouping, group]
        if why := result.suppressed.get((grouping, group, "")):
            rows.append((group, images, lesions, "all", f"none: {why}", "", "", ""))
            continue
        for metric in metrics:
            key = grouping, group, metric
            gap = result.gaps.get(key)
            figure = result.figures.get(key)
            rows.append(
                (
                    group,
                    images,
                    lesions,
                    _name(metric, result),
                    str(figure) if figure else f"none: {result.suppressed.get(key, '')}",
                    shown(gap.estimate, signed=True) if gap else "",
                    p_value(gap.adjusted) if gap else "",
                    " ".join(gap.classes) if gap else "",
                )
            )
    columns = ["group", "images", "lesions", "figure", "value", "minus the rest", "adjusted p"]
    return pd.DataFrame(rows, columns=[*columns, "classes"])


def _name(metric: str, result: Subgroups) -> str:
    """A metric for people: "sensitivity for mel"."""
    word = _NAMES[first_word(metric)]
    return f"{word} for {result.positive}" if metric.endswith(f"/{result.positive}") else word


def _forest(result: Subgroups, grouping: str, panels: Sequence[str], title: str) -> str:
    """One panel per metric, one row per group."""
    groups = result.groups[grouping]
    words = []
    with titled(0.85 + 0.36 * len(groups), title, grid="x") as figure:
        axes_of = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, metric in zip(axes_of, panels, strict=True):
            gaps = [result.gaps.get((grouping, group, metric)) for group in groups]
            _draw(axes, gaps)
            axes.set_title(_name(metric, result), fontsize=8.5, fontweight="normal", loc="center")
            for group, gap in zip(groups, gaps, strict=True):
                if gap is not None:
                    text = shown(gap.estimate, signed=True)
                    words.append(f"{_name(metric, result)}, {group} {text}")
        labels = [
            f"{short(group, 17)}\n{result.sizes[grouping, group][1]:,} lesions" for group in groups
        ]
        axes_of[0].set_yticks(range(len(groups)), labels, fontsize=7.5)
        axes_of[0].set_ylim(len(groups) - 0.5, -0.5)
        figure.supxlabel("points, group minus the rest", fontsize=8.5, color=MUTED)
        return to_svg(figure, f"{title}. {'; '.join(words)}.")


def _draw(axes: Axes, gaps: Sequence[Gap | None]) -> None:
    axes.axvline(0, color=MUTED, linewidth=1)
    ends = [0.05]
    for row, gap in enumerate(gaps):
        if gap is None or not gap.estimate.defined:
            continue
        each = gap.estimate
        ends += [abs(x) for x in (each.value, each.low, each.high) if not math.isnan(x)]
        whisker(axes, each, row, ACCENT, markersize=6, markeredgewidth=1.4,
                markerfacecolor=ACCENT if gap.differs else "#ffffff")  # fmt: skip
    reach = 1.12 * max(ends)
    for row, gap in enumerate(gaps):
        if gap is None or not gap.estimate.defined:
            axes.text(0.04 * reach, row, "too few", va="center", fontsize=7.5, color=MUTED)
    axes.set_xlim(-reach, reach)
    axes.xaxis.set_major_locator(MaxNLocator(4, symmetric=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(_points))
    axes.tick_params(axis="y", length=0, labelcolor=TEXT)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines["left"].set_visible(False)


def _points(value: float, _: object) -> str:
    """A share as signed points."""
    return f"{100 * value:+.0f}" if round(100 * value) else "0"


def _widest(result: Subgroups) -> Exhibit:
    rows = [
        (
            WORDS.get(grouping, grouping.replace("+", " and ")).lower(),
            _name(metric, result),
            highest,
            gap.against,
            shown(gap.estimate, signed=True),
            p_value(gap.adjusted),
            " ".join(gap.classes),
        )
        for (grouping, metric), (highest, gap) in result.widest.items()
    ]
    columns = ["grouped by", "figure", "highest", "lowest", "gap", "adjusted p", "classes"]
    return Exhibit(
        "widest_gaps",
        "The widest gap of each figure",
        "The outermost two groups were picked for being outermost, and the interval and p value "
        "allow for that. Groups of unknown values and those that are too small take no part.",
        pd.DataFrame(rows, columns=columns),
    )
