"""What `subgroups` gives back: figures of groups, the gaps between them, and what is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
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


def _row(each: Estimate, p: float = math.nan, adjusted: float = math.nan) -> tuple[float, ...]:
    return each.value, each.low, each.high, p, adjusted, each.n, each.groups


def _gap_row(kind: str, grouping: str, group: str, metric: str, gap: Gap) -> tuple[object, ...]:
    row = _row(gap.estimate, gap.p, gap.adjusted)
    return kind, grouping, group, gap.against, metric, *row, " ".join(gap.classes), ""


def first_word(metric: str) -> str:
    """What a metric is, without operating point and class."""
    return metric.partition("/")[0].partition("_at_")[0]
