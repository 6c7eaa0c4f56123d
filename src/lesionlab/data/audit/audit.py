"""Audit: everything that is odd about a collection, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from lesionlab.data.audit import near_duplicates
from lesionlab.data.audit.other_photographs import other_photographs
from lesionlab.data.catalogue.catalogue import FILE_NAME, Catalogue, examine
from lesionlab.data.catalogue.layouts import Reading, read_layout
from lesionlab.data.catalogue.merge_lesions import read_verdicts, with_verdicts
from lesionlab.data.sources.draft import Draft
from lesionlab.display import Result
from lesionlab.errors import DataError
from lesionlab.files import write_csv
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import Finding, findings_table


@dataclass(repr=False, frozen=True)
class Audit(Result):
    """What an audit found.

    Attributes:
        findings: one row per fault, columns `tables.FINDINGS`, errors first.
        counts: images and lesions per class: columns class, images, share, lesions.
        images: number of rows looked at.
        lesions: number of lesions; images without a lesion id count as one each.
        data: all rows that were looked at, faults included.
        pairs: near-duplicates and other photographs of one lesion, columns `near_duplicates.PAIRS`;
            None where nobody looked for them.
    """

    _tables: ClassVar[tuple[str, ...]] = ("counts", "findings")

    findings: pd.DataFrame
    counts: pd.DataFrame
    images: int
    lesions: int
    data: Catalogue
    pairs: pd.DataFrame | None = None

    @property
    def faults(self) -> pd.DataFrame:
        """Errors and warnings, without the notes."""
        return self.findings[self.findings["severity"] != "note"]

    def save(self, path: str | Path) -> None:
        """Write the findings as CSV; `catalogue --exclude` reads it."""
        write_csv(Path(path), self.findings)

    def save_pairs(self, path: str | Path) -> None:
        """Write the pairs as CSV; with verdicts in it, `catalogue --merge` reads it."""
        write_csv(
            Path(path),
            self.pairs
            if self.pairs is not None
            else pd.DataFrame(columns=list(near_duplicates.PAIRS)),
        )


def audit(
    data: Catalogue | str | Path,
    *,
    layout: str = "auto",
    table: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
    relabel: Mapping[str, str] | None = None,
    near: bool | None = None,
    judged: str | Path | None = None,
    listen: Listener = silent,
) -> Audit:
    """Look at every row and decode every image of a collection, and list all that is odd.

    Args:
        data: a catalogue, or a folder as `catalogue` takes it; one with faults is welcome.
        layout: the layout's name, or "auto".
        table: the table to read, where the folder holds several.
        columns: the table's own column for each of ours.
        ignore: folders in it whose files are left out.
        relabel: what a label is to count as.
        near: whether to look for near-duplicates and other photographs of one lesion, which takes
            minutes; None looks where there are no more than 20,000 images.
        judged: a pairs.csv of an earlier audit: its verdicts are taken over, and pairs that it
            calls different are no fault any more.
        listen: told of the progress.

    Returns:
        Findings (unreadable, truncated, empty, blank and oddly shaped images; identical files and
        pixels under two ids; near-duplicates; other photographs of one lesion; lesions with two
        diagnoses; odd ages and sexes) and class counts.

    Raises:
        DataError: if nothing readable is there at all, or if all verdicts of `judged` are on images
            of another collection.
        FindingsError: if `judged` holds words that are no verdicts.
    """
    if not isinstance(data, Catalogue):
        folder = Path(data)
        reading = Reading(
            folder,
            layout,
            Path(table) if table else None,
            columns or {},
            tuple(ignore),
            relabel or {},
        )
        if reading.plain and ((folder / FILE_NAME).is_file() or folder.name == FILE_NAME):
            data = Catalogue.open(folder)
        else:
            draft = read_layout(reading)
    if isinstance(data, Catalogue):
        draft = Draft(data.table, data.classes, data.root, data.layout, list(data.notes))
    full, findings = examine(draft, decode=True, listen=listen)
    everything = Catalogue(full, draft.classes or tuple(sorted(set(full["target"]))), draft.root)
    pairs = None
    if near is None and len(full) > near_duplicates.UP_TO:
        text = f"Near-duplicates are not looked for among {len(full):,} images: it would take long."
        listen(Notice(f"{text} To look for them all the same: --near"))
    elif near is not False:
        verdicts = None
        if judged:
            verdicts = read_verdicts(Path(judged))
            _check_verdicts(verdicts, full, Path(judged))
        pairs = near_duplicates.near_duplicates(full, draft.root, listen=listen)
        others = other_photographs(full, draft.root, known=pairs, listen=listen)
        pairs = near_duplicates.in_order(pd.concat([pairs, others], ignore_index=True))
        if verdicts is not None:
            pairs = with_verdicts(pairs, verdicts)
        findings += near_duplicates.findings(
            pairs, dict(zip(full["image_id"], full["pixel_hash"], strict=True))
        )
    counts = everything.counts()
    for name, lesions in zip(counts["class"], counts["lesions"], strict=True):
        if lesions < 20:
            text = f"{name} has {lesions} lesions: intervals will be wide"
            findings.append(Finding("small_class", text, "note", "target"))
    listed = findings_table(findings)
    return Audit(listed, counts, len(full), everything.lesions, everything, pairs)


def _check_verdicts(verdicts: pd.DataFrame, table: pd.DataFrame, path: Path) -> None:
    """Refuse verdicts of another collection: these pairs would be written over them."""
    given = verdicts[verdicts["verdict"] != ""]
    ids = set(table["image_id"])
    if len(given) and not (given["image_id"].isin(ids) | given["other"].isin(ids)).any():
        raise DataError(
            f"{path} holds {len(given)} verdicts on pairs of another collection, which this audit "
            "would write over. Write elsewhere: --out FOLDER/findings.csv"
        )
