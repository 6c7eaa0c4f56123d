"""A card as a page and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from lesionlab._version import __version__
from lesionlab.disclaimer import NOTICE
from lesionlab.reporting.card.model import CardContent
from lesionlab.reporting.card.outline import OUTLINE, CardTable
from lesionlab.reporting.card.standards import STATUSES, WHO, standards
from lesionlab.reporting.formatting import csv_link
from lesionlab.reporting.page.template import template

_SAID = {"author": "says the author", "publication": "as published"}
_WORDS = 3  # columns of a table that is made of words


def html(card: CardContent) -> str:
    """The page; every text in it is escaped by the template."""
    return template("card.html.jinja", "reporting/card", "reporting/page").render(
        card=card,
        outline=OUTLINE,
        standards=standards(),
        statuses=STATUSES,
        who=WHO,
        said=_SAID,
        notice=NOTICE,
        version=__version__,
        links={name: csv_link(table.data) for name, table in card.tables.items()},
        items_links={key: csv_link(items_table(card, key)) for key in card.standards},
        words={name: len(table.shown.columns) <= _WORDS for name, table in card.tables.items()},
    )


def items_table(card: CardContent, key: str) -> pd.DataFrame:
    """The answers to a standard: item, group, question, status, answer, author, lacking."""
    rows = [
        (
            each.item.id,
            each.item.group,
            each.item.ask,
            each.status,
            "; ".join(f"{fact.label}: {fact.text}" for fact in each.facts),
            each.author,
            "; ".join(each.lacking),
        )
        for each in card.standards[key]
    ]
    columns = ["item", "group", "question", "status", "answer", "author", "lacking"]
    return pd.DataFrame(rows, columns=columns)


def markdown(card: CardContent) -> str:
    """The card as Markdown; what could be read as markup in a text is escaped."""
    return "\n".join(_lines(card)).rstrip() + "\n"


def _lines(card: CardContent) -> Iterator[str]:
    yield f"# Model card: {_escaped(card.name)}"
    yield ""
    yield f"> **{_escaped(NOTICE)}**"
    for heading in OUTLINE:
        yield from ("", f"## {_escaped(heading.title)}", "")
        if heading.name == "caveats":
            yield from (f"- {_escaped(text)}" for text in card.caveats)
        unknown = []
        for key, label in heading.labels.items():
            fact = card.facts[key]
            if not fact.known:
                unknown.append(label)
                continue
            said = f" *({_SAID[fact.by]})*" if fact.by in _SAID else ""
            yield f"- **{_escaped(label)}**: {_escaped(fact.text)}{said}"
        if unknown:
            yield f"- **not known**: {_escaped('; '.join(unknown))}"
        for name in heading.tables:
            if name in card.tables:
                yield from _table(card.tables[name])
    yield from ("", "## What three standards ask", "")
    rows = [
        (standards()[key].title, len(card.standards[key]), *card.counts(key).values())
        for key in card.standards
    ]
    yield from _grid(["standard", "items", *STATUSES.values()], [list(map(str, r)) for r in rows])
    for key, answered in card.standards.items():
        yield from ("", f"### {_escaped(standards()[key].title)}", "")
        about = f"{standards()[key].citation} Questions are in our own words."
        yield _escaped(f"{about} {standards()[key].note}")
        yield ""
        cells = []
        for each in answered:
            told = "; ".join(f"{fact.label}: {fact.text}" for fact in each.facts)
            if each.author:
                told += f"{'; ' if told else ''}the author says: {each.author}"
            if each.status in ("not_known", "part"):
                open_ = f"not known: {', '.join(each.lacking)}; ask {WHO[each.item.who]}"
                told += f"{'; ' if told else ''}{open_}"
            cells.append([each.item.id, each.item.ask, STATUSES[each.status], told])
        yield from _grid(["item", "question", "", "answer"], cells)
    yield from ("", f"Made with lesionlab {__version__} from the run's own files.")


def _table(table: CardTable) -> Iterator[str]:
    yield from ("", f"**{_escaped(table.title)}.** {_escaped(table.reading)}".rstrip(), "")
    rows = [[str(cell) for cell in row] for row in table.shown.to_numpy(object)]
    yield from _grid([str(name) for name in table.shown.columns], rows)


def _grid(columns: list[str], rows: list[list[str]]) -> Iterator[str]:
    for row in (columns, ["---"] * len(columns), *rows):
        yield "| " + " | ".join(_escaped(cell) if cell != "---" else cell for cell in row) + " |"


def _escaped(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*\[\]|#])", r"\\\1", plain)
