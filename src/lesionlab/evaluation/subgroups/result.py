"""What `subgroups` gives back: figures of groups, the gaps between them, and what is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lesionlab.display import Result
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.evaluation.intervals.p_values import ALPHA
from lesionlab.evaluation.subgroups.group_metrics import MEANS
from lesionlab.files import write_csv

_COLUMNS = (
    *("kind", "grouping", "group", "against", "metric", "value", "low", "high", "p", "p_adjusted"),
    *("images", "lesions", "classes", "remark"),
)
USUAL = ("balanced_accuracy", "sensitivity")
"""What is shown of groups unless something else is asked for."""

Key = tuple[str, str, str]
"""Grouping, group and metric."""


@dataclass(frozen=True)
class Gap:
    """How far a group lies from the rest, or the two outermost groups from each other.

    Attributes:
        estimate: the difference with its interval.
        p: of "there is none", from the same replicates; nan without an interval.
        adjusted: `p` adjusted (Holm) over all groups of all groupings, metric by metric.
        classes: what a mean over classes ran over; () for other metrics.
        against: "rest", or the group with the lowest figure.
    """

    estimate: Estimate
    p: float
    adjusted: float
    classes: tuple[str, ...]
    against: str = "rest"

    @property
    def differs(self) -> bool:
        """Whether the adjusted p value calls it a difference."""
        return self.adjusted < ALPHA


@dataclass(frozen=True, eq=False, repr=False)
class Subgroups(Result):
    """Figures of groups and the gaps between them.

    Attributes:
        groups: by grouping, its groups in order, with those that are suppressed.
        sizes: by grouping and group: images, lesions, and lesions of the positive class.
        figures: by grouping, group and metric; what is suppressed is missing.
        classes: by grouping and group, the classes of its means.
        gaps: by grouping, group and metric: the group minus all other images of the part.
        widest: by grouping and metric: the highest group minus the lowest. The interval and p
            hold although the two were picked for being outermost.
        whole: by metric, the figure of the whole part.
        suppressed: by grouping, group and metric ("" = all of them), why there is no figure.
        metrics: full names, in order.
        positive: the class of the operating point.
        part: which part was scored.
        replicates: bootstrap replicates behind each interval.
        seed: of the bootstrap.
        notes: what a reader must know.
    """

    groups: Mapping[str, tuple[str, ...]]
    sizes: Mapping[tuple[str, str], tuple[int, int, int]]
    figures: Mapping[Key, Estimate]
    classes: Mapping[tuple[str, str], tuple[str, ...]]
    gaps: Mapping[Key, Gap]
    widest: Mapping[tuple[str, str], tuple[str, Gap]]
    whole: Mapping[str, Estimate]
    suppressed: Mapping[Key, str]
    metrics: tuple[str, ...]
    positive: str
    part: str
    replicates: int
    seed: int
    notes: list[str]

    def shown(self, metrics: Sequence[str] = ()) -> list[tuple[str, pd.DataFrame]]:
        """Figures of groups metric by metric, then the widest gaps, as `Result.shown` says.

        Args:
            metrics: which, by their full names; by default balanced accuracy and sensitivity.
        """
        usual = [name for name in self.metrics if first_word(name) in USUAL]
        tables = []
        for metric in metrics or usual:
            for grouping in self.groups:
                tables.append((f"{metric} by {grouping}", self._by_group(grouping, metric)))
            tables.append((f"Widest gaps of {metric}", self._widest(metric)))
        return [(title, table) for title, table in tables if len(table)]

    @property
    def legend(self) -> tuple[str, ...]:
        """What classes and p values are, as `Result.legend` says."""
        return (
            "Classes: those that a mean over classes ran over on both sides. An adjusted p below "
            "0.05 is a difference; the widest gap's interval holds although it was picked for "
            "being widest.",
        )

    def _by_group(self, grouping: str, metric: str) -> pd.DataFrame:
        """A row per group: its size, its figure or why there is none, its gap to the rest."""
        rows = []
        for group in self.groups[grouping]:
            key = grouping, group, metric
            why = self.suppressed.get(key) or self.suppressed.get((grouping, group, ""), "")
            figure = self.figures.get(key, f"none: {why}")
            _, lesions, _ = self.sizes[grouping, group]
            rows.append((group, lesions, figure, *self._gap_cells(self.gaps.get(key))))
        return _shown_gaps(rows, ["group", "lesions", "figure", "minus the rest"])

    def _widest(self, metric: str) -> pd.DataFrame:
        rows = [
            (grouping, f"{highest} - {gap.against}", *self._gap_cells(gap))
            for (grouping, name), (highest, gap) in self.widest.items()
            if name == metric
        ]
        return _shown_gaps(rows, ["by", "groups", "gap"])

    def _gap_cells(self, gap: Gap | None) -> tuple[Estimate | None, float, str]:
        """A gap, its adjusted p and its classes, in few letters where it has them all."""
        if gap is None:
            return None, math.nan, ""
        every = max(map(len, self.classes.values()), default=0)
        all_of_them = len(gap.classes) == every > 2
        classes = f"all {every}" if all_of_them else " ".join(gap.classes)
        return gap.estimate, gap.adjusted, classes

    def table(self) -> pd.DataFrame:
        """Everything, one figure or gap per row.

        Returns:
            Columns kind (whole, figure, gap, widest or suppressed), grouping, group, against,
            metric, value, low, high, p, p_adjusted, images and lesions, classes (those that a mean
            over classes ran over, with blanks between) and remark (why there is no figure).
        """
        rows = [
            ("whole", "", "", "", name, *_row(each), "", "") for name, each in self.whole.items()
        ]
        for (grouping, group, metric), each in self.figures.items():
            over = " ".join(self.classes[grouping, group]) if first_word(metric) in MEANS else ""
            rows.append(("figure", grouping, group, "", metric, *_row(each), over, ""))
        for (grouping, group, metric), gap in self.gaps.items():
            rows.append(_gap_row("gap", grouping, group, metric, gap))
        for (grouping, metric), (group, gap) in self.widest.items():
            rows.append(_gap_row("widest", grouping, group, metric, gap))
        for (grouping, group, metric), why in self.suppressed.items():
            images, lesions, _ = self.sizes[grouping, group]
            rows.append(
                (
                    "suppressed",
                    grouping,
                    group,
                    "",
                    metric,
                    *[math.nan] * 5,
                    images,
                    lesions,
                    "",
                    why,
                )
            )
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    def save(self, path: str | Path) -> None:
        """Write `table` as CSV."""
        write_csv(Path(path), self.table())

    def __repr__(self) -> str:
        count = sum(map(len, self.groups.values()))
        return f"<Subgroups of {self.part}: {count} groups by {', '.join(self.groups)}>"


def _shown_gaps(rows: Sequence[tuple[object, ...]], names: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=[*names, "adjusted p", "classes"])
    return table if table["classes"].any() else table.drop(columns="classes")


def _row(each: Estimate, p: float = math.nan, adjusted: float = math.nan) -> tuple[float, ...]:
    return each.value, each.low, each.high, p, adjusted, each.n, each.groups


def _gap_row(kind: str, grouping: str, group: str, metric: str, gap: Gap) -> tuple[object, ...]:
    row = _row(gap.estimate, gap.p, gap.adjusted)
    return kind, grouping, group, gap.against, metric, *row, " ".join(gap.classes), ""


def first_word(metric: str) -> str:
    """What a metric is, without operating point and class."""
    return metric.partition("/")[0].partition("_at_")[0]
