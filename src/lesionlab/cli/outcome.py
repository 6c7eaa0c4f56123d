"""What every command gives back, and what several of them show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lesionlab.advice import command
from lesionlab.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.data.splits import Split
    from lesionlab.display import Result


@dataclass
class Outcome:
    """What a command has to show.

    Attributes:
        tables: titles and tables, in order.
        lines: sentences behind the tables.
        warnings: what a reader must know before trusting a figure; shown last, where it is seen.
        code: exit code: 0 done, 1 findings.
        text: to be printed as it is, before all else.
    """

    tables: list[tuple[str, pd.DataFrame]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    code: int = 0
    text: str = ""


def catalogue_and_split(data: Path, split: Path | None) -> tuple[Catalogue, Split]:
    """Open a catalogue and its split: the one given, or else split.csv beside it.

    Raises:
        SettingsError: if there is no split.
    """
    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.data.splits import Split

    opened = Catalogue.open(data)
    path = split or (opened.home or data) / "split.csv"
    if not path.is_file():
        raise SettingsError(
            f"{path} does not exist. Make a split first: {command('split', data, out=split)}"
        )
    return opened, Split.open(path)


def class_counts(data: Catalogue) -> tuple[str, pd.DataFrame]:
    """A catalogue's size, and its counts per class, ready to be shown."""
    from lesionlab.taxonomy import full_name

    counts = data.counts()
    shown = counts.assign(share=counts["share"].map("{:.1%}".format))
    shown.insert(1, "name", shown["class"].map(full_name))
    if (data.table["lesion_id"] == "").all():
        shown = shown.drop(columns="lesions")  # each image would count as a lesion of its own
    return data.size, shown


def shown(result: Result, title: str = "") -> Outcome:
    """A result as it shows itself, with its warnings.

    Args:
        result: of a public function.
        title: of its first table, if not its own.
    """
    tables = list(result.shown())
    if title:
        tables[0] = title, tables[0][1]
    return Outcome(tables, list(result.legend), warnings=list(getattr(result, "warnings", ())))


def saved(outcome: Outcome, result: Any, out: Path | None) -> Outcome:
    """Write a result, or a table as CSV, where that is wanted, and say so."""
    if out is not None:
        if hasattr(result, "save"):
            result.save(out)
        else:
            from lesionlab.files import write_csv

            write_csv(out, result)
        outcome.lines.append(f"Written: {out}")
    return outcome
