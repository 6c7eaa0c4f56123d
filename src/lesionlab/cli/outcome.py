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
    from lesionlab.evaluation.evaluation_result import Evaluation


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


def shares(counts: pd.DataFrame) -> pd.DataFrame:
    """Counts per class, ready to be shown."""
    from lesionlab.taxonomy import full_name

    shown = counts.assign(share=counts["share"].map("{:.1%}".format))
    shown.insert(1, "name", shown["class"].map(full_name))
    return shown


def headline(result: Evaluation, title: str) -> Outcome:
    """The figures of an evaluation that come first, those per class, and its warnings."""
    import pandas as pd

    rows = [
        (name, str(result[key]))
        for name, key in (
            ("balanced accuracy (mean recall)", "balanced_accuracy"),
            ("macro AUROC", "macro_auroc"),
            ("macro F1", "macro_f1"),
            ("macro precision", "macro_precision"),
            ("weighted F1", "weighted_f1"),
            ("weighted precision", "weighted_precision"),
            (
                f"{result.positive} sensitivity at 90 % specificity",
                f"sensitivity_at_90_specificity/{result.positive}",
            ),
            ("accuracy", "accuracy"),
            ("log loss (less is better)", "log_loss"),
            ("accuracy of always guessing the majority", "majority_accuracy"),
        )
        if key in result
    ]
    per_class = [
        (name, result[f"recall/{name}"].n, *(str(result[f"{key}/{name}"]) for key in _PER_CLASS))
        for name in result.classes
        if f"recall/{name}" in result
    ]
    return Outcome(
        [
            (title, pd.DataFrame(rows, columns=["metric", "value (95 % interval)"])),
            (
                "Per class",
                pd.DataFrame(per_class, columns=["class", "images", *_PER_CLASS]),
            ),
        ],
        warnings=list(result.warnings),
    )


_PER_CLASS = ("recall", "precision", "f1")


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
