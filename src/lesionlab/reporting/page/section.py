"""Exhibits of a page on a collection: a table with its figure, and the two commonest kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from lesionlab import taxonomy
from lesionlab.data.summary import ages, metadata_tables
from lesionlab.reporting.figures import distributions
from lesionlab.reporting.page import findings

MOST_ROWS = 24
"""Rows of a figure, at most; the tables hold all."""
SEXES = {"female": "#C9702B", "male": "#2E86B5"}
PARTS = {"train": "#0072B2", "val": "#E69F00", "test": "#009E73"}


@dataclass(frozen=True)
class Exhibit:
    """One table, and perhaps a figure of it.

    Attributes:
        name: of its files, and of its place on the page.
        title: what it is, above a table; a figure bears a title of its own.
        reading: how to read it, in a sentence or two.
        table: the numbers.
        svg: an `<svg>` element, or "".
        more: further tables that are written beside it but not shown, by file name.
        shown: the table as it stands on the page, where that is another one.
    """

    name: str
    title: str
    reading: str
    table: pd.DataFrame
    svg: str = ""
    more: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    shown: pd.DataFrame | None = None

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All its tables by file name, the one that is shown first."""
        return {self.name: self.table, **self.more}


@dataclass(frozen=True)
class Section:
    """Exhibits that belong together.

    Attributes:
        name: its place on the page.
        title: its heading.
        exhibits: in order.
        absent: what cannot be shown, and why, one sentence each.
        short: the title in a line of links; by default the title.
    """

    name: str
    title: str
    exhibits: tuple[Exhibit, ...]
    absent: tuple[str, ...] = ()
    short: str = ""


def counted(
    frame: pd.DataFrame,
    column: str,
    title: str,
    reading: str,
    colours: Mapping[str, str] | None = None,
) -> Exhibit:
    """The values of a column of words, as bars.

    Args:
        frame: from `metadata_tables.prepare`.
        column: also the exhibit's name.
        title: of the figure, without n.
        reading: how to read it.
        colours: by value.
    """
    table = metadata_tables.values(frame, column)
    title = f"{title}, n = {len(frame):,} images"
    drawn = table.set_index("value")["images"].head(MOST_ROWS)
    reading = findings.of_counts(table.set_index("value")["images"], len(frame)) + reading
    svg = distributions.bars(drawn, title, "images", colours=colours, of=len(frame))
    return Exhibit(column, title, reading + cut(len(table)), table, svg)


def within(
    frame: pd.DataFrame,
    rows: str,
    columns: str,
    name: str,
    title: str,
    label: str,
    reading: str,
    colours: Mapping[str, str],
) -> Exhibit:
    """One column of words within another one, as stacks of 100 %.

    Args:
        frame: from `metadata_tables.prepare`.
        rows: the column that makes the rows.
        columns: the column that makes the stacks.
        name: of the exhibit.
        title: of the figure, without n.
        label: what a row is.
        reading: how to read it.
        colours: by value of `columns`.
    """
    counts = metadata_tables.cross(frame, rows, columns)
    title = f"{title}, n = {len(frame):,} images"
    svg = distributions.stacks(counts.head(MOST_ROWS), title, label, colours)
    reading = findings.of_shares(counts) + reading
    return Exhibit(name, title, reading + cut(len(counts)), flat(counts), svg, shares(counts, name))


def numbers(
    frame: pd.DataFrame,
    rows: str,
    columns: str,
    name: str,
    title: str,
    colours: Mapping[str, str],
) -> Exhibit:
    """One column of words by another one, as stacks of counts: long where there are many images.

    Args:
        frame: from `metadata_tables.prepare`.
        rows: the column that makes the rows.
        columns: the column that makes the stacks.
        name: of the exhibit.
        title: of the figure, without n.
        colours: by value of `columns`.
    """
    counts = metadata_tables.cross(frame, rows, columns)
    title = f"{title}, n = {len(frame):,} images"
    svg = distributions.stacks(counts.head(MOST_ROWS), title, rows, colours, counted=True)
    reading = findings.of_counts(counts.sum(axis=1), len(frame))
    reading += "The same numbers as counts: the rows are as long as they have images."
    return Exhibit(name, title, reading + cut(len(counts)), flat(counts), svg)


def palette(frame: pd.DataFrame) -> dict[str, str]:
    """The colour of each class."""
    return taxonomy.colours([str(each) for each in frame["target"].cat.categories])


def known(frame: pd.DataFrame, column: str) -> str:
    """How many images a figure is about: those whose value is known."""
    return f"n = {frame[column].notna().sum():,} images"


def ages_by(frame: pd.DataFrame, column: str, name: str, title: str, reading: str) -> Exhibit:
    """The ages of each value of a column, as boxes.

    Args:
        frame: from `metadata_tables.prepare`.
        column: target or part.
        name: of the exhibit.
        title: of the figure, without n.
        reading: how to read it.
    """
    groups = {
        str(label): rows["age"].dropna().to_numpy(float)
        for label, rows in frame.groupby(column, observed=False)
    }
    shade = palette(frame) if column == "target" else distributions.shades(list(groups), PARTS)
    title = f"{title}, {known(frame, 'age')}"
    label = "class" if column == "target" else column
    svg = distributions.boxes(groups, title, "age (years)", label, shade)
    reading = findings.of_groups(groups, "years") + reading
    return Exhibit(name, title, reading, ages.describe(frame, column), svg)


def cut(rows: int) -> str:
    """What to say where a figure has fewer rows than its table; "" where it has all."""
    if rows <= MOST_ROWS:
        return ""
    return f" The figure has the {MOST_ROWS} commonest of {rows} rows; the table has all."


def flat(counts: pd.DataFrame) -> pd.DataFrame:
    """A table of counts with its index as a column."""
    return counts.rename_axis(columns=None).reset_index()


def shares(counts: pd.DataFrame, name: str) -> dict[str, pd.DataFrame]:
    """The same table as shares of each row, under a file name."""
    return {f"{name}_shares": flat(metadata_tables.row_shares(counts))}
