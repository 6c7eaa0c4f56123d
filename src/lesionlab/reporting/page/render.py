"""How exhibits are set on a page and written as files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lesionlab.display import cells
from lesionlab.files import write_csv, write_text
from lesionlab.reporting.figures.style import standalone
from lesionlab.reporting.formatting import csv_link
from lesionlab.reporting.page.section import Exhibit, Section


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
