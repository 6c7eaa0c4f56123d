"""How results show themselves: a table with intervals, in a notebook as in a terminal."""

from __future__ import annotations

import base64
import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SHARES = ("share", "shared", "leaked", "malignant")
"""Last words of the names of columns that hold shares."""

SIGNED = ("difference", "gap", "minus")
"""Columns with such a word in their names bear a sign, and those called "a - b"."""

P_VALUES = ("p", "p_adjusted", "p_images", "adjusted_p", "p_by_image")
"""Names of columns that hold p values."""

MOST_ROWS = 60
"""Rows of a table that are shown of a result; `table()` and `save` have all."""


class Result:
    """What a public function found, shown as tables; in a notebook also as a figure if it has one.

    A class names in `_tables` what is shown: attributes or methods that give a DataFrame.
    """

    _tables: ClassVar[tuple[str, ...]] = ("table",)

    def shown(self) -> Sequence[tuple[str, pd.DataFrame]]:
        """Titles and tables, the most important first; values with their intervals beside them."""
        given = [(name, getattr(self, name)) for name in self._tables]
        tables = [(name, each() if callable(each) else each) for name, each in given]
        return [
            ("" if name == "table" else name.replace("_", " ").capitalize(), table)
            for name, table in tables
            if table is not None and len(table)
        ]

    @property
    def legend(self) -> tuple[str, ...]:
        """How to read the tables, in sentences."""
        return ()

    def _remarks(self) -> tuple[str, ...]:
        """What a reader must know before trusting a figure."""
        return tuple(getattr(self, "warnings", ()))

    def _notes(self) -> tuple[str, ...]:
        """How to read the tables, then what was left out or assumed."""
        return *self.legend, *(f"Note: {text}" for text in getattr(self, "notes", ()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __str__(self) -> str:
        parts = [f"{title}\n{text_table(each)}".lstrip() for title, each in self.shown()]
        notes = [*self._notes(), *(f"WARNING: {text}" for text in self._remarks())]
        return "\n\n".join([repr(self), *parts, *(["\n".join(notes)] if notes else [])])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What IPython shows in a terminal."""
        printer.text(repr(self) if cycle else str(self))

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from lesionlab import results  # a figure is drawn by a room that knows the results

        parts = [f"<p>{escape(repr(self))}</p>"]
        parts += [f"<p><strong>Warning:</strong> {escape(text)}</p>" for text in self._remarks()]
        parts += [html_table(table, title) for title, table in self.shown()]
        parts += [f"<p>{escape(text)}</p>" for text in self._notes()]
        figure = f'<div style="max-width:30em">{results.figure_of(self)}</div>'
        return f'<div class="lesionlab">{"".join(parts)}{figure}</div>'


def html_table(table: pd.DataFrame, title: str = "", most: int = MOST_ROWS) -> str:
    """A table as HTML that needs no style sheet; intervals in small type behind their values.

    Args:
        table: as `cells` takes it.
        title: its caption.
        most: rows that are shown; how many more there are is said.
    """
    text = cells(table.head(most))
    words = set(text["words"])

    def row(kind: str, values: Iterable[str | tuple[str, str]]) -> str:
        parts = []
        for place, each in enumerate(values):
            value, between = (each, "") if isinstance(each, str) else each
            small = f" <small>{escape(between)}</small>" if between else ""
            side = "left" if place in words else "right"
            parts.append(
                f'<{kind} style="padding:2px 8px;text-align:{side}">{escape(value)}{small}</{kind}>'
            )
        return f"<tr>{''.join(parts)}</tr>"

    caption = f'<caption style="text-align:left">{escape(title)}</caption>' if title else ""
    more = f"<p>{_more(table, most)}</p>" if len(table) > most else ""
    rows = "".join(row("td", each) for each in text["rows"])
    head = row("th", text["head"])
    return f"<table>{caption}<thead>{head}</thead><tbody>{rows}</tbody></table>{more}"


def text_table(table: pd.DataFrame, most: int = MOST_ROWS, width: int | None = None) -> str:
    """A table as plain text for a terminal: text to the left, numbers to the right.

    Args:
        table: as `cells` takes it.
        most: rows that are shown; how many more there are is said.
        width: characters of a line. A wider table has its intervals below their values and its
            words broken; if that is not enough, its last columns follow in a second block.
    """
    text = cells(table.head(most))
    rows = [[each if isinstance(each, str) else joined(*each) for each in r] for r in text["rows"]]
    lines = [text["head"], *rows]
    blocks = [_aligned([[[cell] for cell in line] for line in lines], text["words"])]
    if width is not None and max(map(len, blocks[0])) > width:
        blocks = _narrow(text, width)
    made = [line for block in blocks for line in (*block, "")][:-1]
    return "\n".join([*made, _more(table, most)] if len(table) > most else made)


def _narrow(text: dict[str, Any], width: int) -> list[list[str]]:
    """The lines of blocks of a table, each as many of its columns as a line takes."""
    for longest in (26, 20, 16, 26):  # of a cell of text: breaking names beats a second block
        tall = [[textwrap.wrap(name, 12) or [""] for name in text["head"]]]
        tall += [
            [
                (textwrap.wrap(each, longest) or [""])
                if isinstance(each, str)
                else [part for part in each if part]
                for each in row
            ]
            for row in text["rows"]
        ]
        widths = [max(len(part) for row in tall for part in row[i]) for i in range(len(tall[0]))]
        if sum(widths) + 2 * (len(widths) - 1) <= width:
            break
    chosen: list[list[int]] = [[0]]
    for place in range(1, len(widths)):
        if sum(widths[i] + 2 for i in (*chosen[-1], place)) - 2 > width and len(chosen[-1]) > 1:
            chosen.append([0])
        chosen[-1].append(place)
    return [
        _aligned(
            [[row[i] for i in places] for row in tall],
            [new for new, old in enumerate(places) if old in text["words"]],
        )
        for places in chosen
    ]


def _aligned(rows: Sequence[Sequence[Sequence[str]]], words: Sequence[int]) -> list[str]:
    """Lines of rows whose cells have one line or several; `words` are the places of text."""
    widths = [max(len(part) for row in rows for part in row[i]) for i in range(len(rows[0]))]
    made = []
    for row in rows:
        for number in range(max(map(len, row))):
            parts = [cell[number] if number < len(cell) else "" for cell in row]
            made.append(
                "  ".join(
                    f"{part:<{width}}" if place in words else f"{part:>{width}}"
                    for place, (part, width) in enumerate(zip(parts, widths, strict=True))
                ).rstrip()
            )
    return made


def markdown_table(table: pd.DataFrame) -> str:
    """A table in Markdown, intervals behind their values; as `cells` takes it."""
    head, rows, words = _plain(table)
    lines = [head, ["---" if i in words else "---:" for i in range(len(head))], *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def latex_table(table: pd.DataFrame) -> str:
    """A table as a LaTeX tabular that needs no package; as `cells` takes it."""
    head, rows, words = _plain(table)
    sides = "".join("l" if i in words else "r" for i in range(len(head)))
    lines = [" & ".join(map(_latex, line)) + r" \\" for line in (head, *rows)]
    parts = [rf"\begin{{tabular}}{{{sides}}}", r"\hline", lines[0], r"\hline", *lines[1:]]
    return "\n".join([*parts, r"\hline", r"\end{tabular}"])


def _plain(table: pd.DataFrame) -> tuple[list[str], list[list[str]], list[int]]:
    """Head, rows of one text per cell, and the places of text."""
    text = cells(table)
    rows = [[each if isinstance(each, str) else joined(*each) for each in r] for r in text["rows"]]
    return text["head"], rows, text["words"]


def _latex(text: str) -> str:
    for sign, written in (("\\", r"\textbackslash{}"), *((c, f"\\{c}") for c in "&%$#_{}")):
        text = text.replace(sign, written)
    for sign, written in (
        ("\u2013", "--"),
        ("\u2212", "$-$"),
        ("\u00a0", "~"),
        ("\u221e", r"$\infty$"),
    ):
        text = text.replace(sign, written)
    return text


def html_image(pixels: NDArray[np.uint8], text: str) -> str:
    """A picture as an HTML element that holds its own data.

    Args:
        pixels: uint8, shape (height, width, 3).
        text: what it shows, for whoever cannot see it.
    """
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    data = base64.b64encode(content.getvalue()).decode()
    style = "width:16em;max-width:48%"
    return (
        f'<img style="{style}" src="data:image/png;base64,{data}" alt="{escape(text, quote=True)}">'
    )


def joined(value: str, between: str) -> str:
    """A cell of `cells` with an interval, as one text."""
    return f"{value} ({between})" if between else value


def _more(table: pd.DataFrame, most: int) -> str:
    return f"... and {len(table) - most:,} more rows"


def percent(value: float) -> str:
    """A share as "61.2 %"; a dash where it is not defined."""
    return "–" if math.isnan(value) else f"{100 * value:.1f}\u00a0%"


def interval(low: float, high: float, share: bool = True) -> str:
    """A 95 % interval as "57.1–65.0 %" or "0.911–0.934"; "" where there is none."""
    if math.isnan(low) or math.isnan(high):
        return ""
    if share:
        return f"{100 * low:.1f}–{100 * high:.1f}\u00a0%"
    return f"{low:.3f}–{high:.3f}"


def decimal(value: float) -> str:
    """A figure from 0 to 1 as "0.923"; a dash where it is not defined."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def p_value(value: float) -> str:
    """A p value in words: "0.012", "< 0.001"; a dash where there is none."""
    if math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def cells(table: pd.DataFrame) -> dict[str, Any]:
    """A table as text.

    Shares are in percent, whole numbers whole, others have two decimals, or three where the whole
    column lies between -1 and 1; differences and gaps bear a sign. A value with its interval
    (columns value, low, high, or x, x_low, x_high, or a column of `Estimate`s) becomes one cell, a
    pair of texts: "0.587" and "0.539–0.639"; with one decimal where the column reaches 100.

    Returns:
        head, rows, and in words the places of columns that are text.
    """
    head: list[str] = []
    columns: list[list[str | tuple[str, str]]] = []
    words: list[int] = []
    titles = [str(name) for name in table.columns]
    texts = [not _is_numeric(table.iloc[:, place]) for place in range(len(titles))]
    names = ["" if text else name for name, text in zip(titles, texts, strict=True)]
    for place, name in enumerate(titles):
        values = table.iloc[:, place]
        if not texts[place] and _is_end(name, names):
            continue
        words_of = name.replace("_", " ").split()
        share, signed = bool({*words_of[-1:]} & {*SHARES}), bool({*words_of} & {*SIGNED, "-"})
        if texts[place]:
            if not any(map(_is_estimate, values)):
                words.append(len(head))
            columns.append(
                [
                    _estimate(each.value, each.low, each.high, share, signed, 3)
                    if _is_estimate(each)
                    else _text(each)
                    for each in values
                ]
            )
        elif ends := _ends(name, names):
            low, high = (table.iloc[:, end].to_numpy(float, na_value=math.nan) for end in ends)
            middle = values.to_numpy(float, na_value=math.nan)
            digits = 1 if np.nanmax(np.abs(middle), initial=0) >= 100 else 3
            columns.append(
                [
                    _estimate(*each, share, signed, digits)
                    for each in zip(middle, low, high, strict=True)
                ]
            )
        elif share:
            columns.append([percent(each) for each in values.to_numpy(float)])
        elif name.replace(" ", "_") in P_VALUES:
            columns.append([p_value(each) for each in values.to_numpy(float, na_value=math.nan)])
        else:
            columns.append(_numbers(values.to_numpy(float, na_value=math.nan)))
        head.append(name.replace("_", " "))
    return {"head": head, "rows": list(zip(*columns, strict=True)), "words": words}


def _is_numeric(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _is_estimate(value: Any) -> bool:
    """Whether it is an `Estimate`, which this file is below."""
    return hasattr(value, "low") and hasattr(value, "high")


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


def _estimate(
    value: float, low: float, high: float, share: bool, signed: bool, digits: int
) -> tuple[str, str]:
    """A value and its interval; with signs where asked for, or where the interval goes below 0."""
    if math.isnan(value):
        return "–", ""
    if share:
        return percent(value), interval(low, high)
    signed = signed or value < 0 or low < 0
    form, between = (f"{{:+.{digits}f}}", " to ") if signed else (f"{{:.{digits}f}}", "–")
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
