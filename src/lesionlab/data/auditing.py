"""Audit: everything that is odd about a collection, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lesionlab.data.catalogues import FILE_NAME, Catalogue, examine
from lesionlab.data.layouts import Draft, read_layout
from lesionlab.files import write_csv
from lesionlab.progress import Listener, silent
from lesionlab.tables import Finding, findings_table


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        findings: one row per fault, columns `tables.FINDINGS`, errors first.
        counts: images and lesions per class: columns class, images, share, lesions.
        images: number of rows looked at.
        lesions: number of lesions; images without a lesion id count as one each.
    """

    findings: pd.DataFrame
    counts: pd.DataFrame
    images: int
    lesions: int

    @property
    def faults(self) -> pd.DataFrame:
        """Errors and warnings, without the notes."""
        return self.findings[self.findings["severity"] != "note"]

    def save(self, path: str | Path) -> None:
        """Write the findings as CSV; `catalogue --exclude` reads it."""
        write_csv(Path(path), self.findings)


def audit(
    data: Catalogue | str | Path,
    *,
    layout: str = "auto",
    table: str | Path | None = None,
    columns: dict[str, str] | None = None,
    listen: Listener = silent,
) -> Audit:
    """Look at every row and decode every image of a collection, and list all that is odd.

    Args:
        data: a catalogue, or a folder as `catalogue` takes it; one with faults is welcome.
        layout: the layout's name, or "auto".
        table: the table to read, where the folder holds several.
        columns: the table's own column for each of ours.
        listen: told of the progress.

    Returns:
        Findings (unreadable, truncated, empty, blank and oddly shaped images; identical files and
        pixels under two ids; lesions with two diagnoses; odd ages and sexes) and class counts.

    Raises:
        DataError: if nothing readable is there at all.
    """
    if not isinstance(data, Catalogue):
        folder = Path(data)
        plain = layout == "auto" and table is None and columns is None
        if plain and ((folder / FILE_NAME).is_file() or folder.name == FILE_NAME):
            data = Catalogue.open(folder)
        else:
            draft = read_layout(folder, layout, Path(table) if table else None, columns)
    if isinstance(data, Catalogue):
        draft = Draft(data.table, data.classes, data.root, data.layout, list(data.notes))
    full, findings = examine(draft, decode=True, listen=listen)
    everything = Catalogue(full, draft.classes or tuple(sorted(set(full["target"]))), draft.root)
    counts = everything.counts()
    for name, lesions in zip(counts["class"], counts["lesions"], strict=True):
        if lesions < 20:
            text = f"{name} has {lesions} lesions: intervals will be wide"
            findings.append(Finding("small_class", text, "note", "target"))
    return Audit(findings_table(findings), counts, len(full), everything.lesions)
