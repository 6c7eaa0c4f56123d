"""How exhibits are set on a page and written as files."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.files import write_csv, write_text
from lesionlab.reporting.figures.style import standalone
from lesionlab.reporting.formatting import csv_link, percent, span
from lesionlab.reporting.page.section import Exhibit, Section

SHARES = ("share", "shared", "leaked", "malignant")
"""Last words of the names of columns that hold shares."""

SIGNED = ("difference", "gap")
"""Last words of the names of columns whose values bear a sign."""


def shown_sections(sections: Iterable[Section], prefix: str = "") -> list[dict[str, Any]]:
    """Sections as the templates take them.

    Args:
        sections: in order.
        prefix: of all ids, where a page has the same section twice.
    """
    return [
        {
            "name": f"{prefix}{section.name}",
            "title": section.title,
            "short": section.short or section.title,
            "absent": section.absent,
            "exhibits": [_shown(exhibit, prefix) for exhibit in section.exhibits],
        }
        for section in sections
    ]


def write_exhibits(sections: Iterable[Section], folder: str | Path) -> None:
    """Write each figure as an SVG file and each table as CSV."""
    for section in sections:
        for exhibit in section.exhibits:
            if exhibit.svg:
                write_text(Path(folder) / f"{exhibit.name}.svg", standalone(exhibit.svg))
            for name, table in exhibit.tables.items():
                write_csv(Path(folder) / f"{name}.csv", table)


def _shown(exhibit: Exhibit, prefix: str) -> dict[str, Any]:
    return {
        "name": f"{prefix}{exhibit.name}",
        "title": exhibit.title,
        "reading": exhibit.reading,
        "svg": Markup(exhibit.svg),
        "shown": cells(exhibit.table if exhibit.shown is None else exhibit.shown),
        "links": [(name, csv_link(table)) for name, table in exhibit.tables.items()],
    }


def cells(table: pd.DataFrame) -> dict[str, Any]:
    """A table as text.

    Shares are in percent, whole numbers whole, others have two decimals, or three where the whole
    column lies between -1 and 1; differences and gaps bear a sign. A value with its interval
    (columns value, low, high, or x, x_low, x_high) becomes one cell, a pair of texts: "0.587" and
    "0.539–0.639".

    Returns:
        head, rows, and in words the places of columns that are text.
    """
    head: list[str] = []
    columns: list[list[str | tuple[str, str]]] = []
    words: list[int] = []
    names = [str(name) for name in table.columns]
    for place, name in enumerate(names):
        values = table.iloc[:, place]
        if _is_end(name, names):
            continue
        if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            words.append(len(head))
            columns.append([_text(each) for each in values])
        elif ends := _ends(name, names):
            low, high = (table.iloc[:, end].to_numpy(float, na_value=math.nan) for end in ends)
            middle = values.to_numpy(float, na_value=math.nan)
            last = name.rpartition("_")[2]
            columns.append(
                [
                    _estimate(*each, last in SHARES, last in SIGNED)
                    for each in zip(middle, low, high, strict=True)
                ]
            )
        elif name.rpartition("_")[2] in SHARES:
            columns.append([percent(each) for each in values.to_numpy(float)])
        else:
            columns.append(_numbers(values.to_numpy(float, na_value=math.nan)))
        head.append(name.replace("_", " "))
    return {"head": head, "rows": list(zip(*columns, strict=True)), "words": words}


def _ends(name: str, names: list[str]) -> tuple[int, int] | None:
    """Where the ends of a column's interval stand, if it has one."""
    for low, high in ((f"{name}_low", f"{name}_high"), ("low", "high")):
        if low in names and high in names and (low != "low" or _before(names) == name):
            return names.index(low), names.index(high)
    return None


def _is_end(name: str, names: list[str]) -> bool:
    for word in ("low", "high"):
        if name == word and {"low", "high"} <= set(names) and _before(names):
            return True
        stem = name.removesuffix(f"_{word}")
        if stem != name and stem in names and {f"{stem}_low", f"{stem}_high"} <= set(names):
            return True
    return False


def _before(names: list[str]) -> str:
    """The column that "low" and "high" belong to: the one before them."""
    place = min(names.index("low"), names.index("high"))
    return names[place - 1] if place else ""


def _estimate(value: float, low: float, high: float, share: bool, signed: bool) -> tuple[str, str]:
    """A value and its interval; with signs where asked for, or where the interval goes below 0."""
    if math.isnan(value):
        return "–", ""
    if share:
        return percent(value), span(Estimate(value, low, high, 0, 0))
    signed = signed or value < 0 or low < 0
    form, between = ("{:+.3f}", " to ") if signed else ("{:.3f}", "–")
    known = not (math.isnan(low) or math.isnan(high))
    inner = f"{form.format(low)}{between}{form.format(high)}" if known else ""
    return form.format(value).replace("-", "−"), inner.replace("-", "−")


def _numbers(values: NDArray[np.float64]) -> list[str | tuple[str, str]]:
    known = values[~np.isnan(values)]
    small = len(known) > 0 and bool((np.abs(known) <= 1).all())
    return [_number(each, 3 if small else 2) for each in values]


def _number(value: float, decimals: int) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.{decimals}f}"


def _text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return "–" if value is None or value is pd.NA or value != value else str(value)
