"""What every verb gives back, and what several of them show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lesionlab.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd

    from lesionlab.evaluation import Evaluation


@dataclass
class Outcome:
    """What a verb has to show.

    Attributes:
        tables: titles and tables, in order.
        lines: sentences behind the tables.
        code: exit code: 0 done, 1 findings.
    """

    tables: list[tuple[str, pd.DataFrame]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    code: int = 0


def pairs(columns: list[str] | None) -> dict[str, str] | None:
    """Turn ours=yours words into a mapping."""
    if not columns:
        return None
    wrong = [each for each in columns if "=" not in each]
    if wrong:
        raise SettingsError(
            f"--columns takes ours=yours pairs, not {wrong[0]!r}: image_id=name target=label"
        )
    return dict(each.split("=", 1) for each in columns)


def training_room() -> Any:
    """The room that trains.

    Raises:
        SettingsError: if its extra is not installed.
    """
    try:
        from lesionlab.training import fit
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"This needs {error.name}, part of the training extra: pip install '.[train]'"
        ) from error
    return fit


def shares(counts: pd.DataFrame) -> pd.DataFrame:
    """Counts per class, ready to be shown."""
    from lesionlab.taxonomy import full_name

    shown = counts.assign(share=counts["share"].map("{:.1%}".format))
    shown.insert(1, "name", shown["class"].map(full_name))
    return shown


def headline(result: Evaluation, title: str) -> Outcome:
    """The figures of an evaluation that come first, and those per class."""
    import pandas as pd

    rows = [
        (name, str(result[key]))
        for name, key in (
            ("balanced accuracy (mean recall)", "balanced_accuracy"),
            ("macro AUROC", "macro_auroc"),
            (
                f"{result.positive} sensitivity at 90 % specificity",
                f"sensitivity_at_90_specificity/{result.positive}",
            ),
            ("accuracy", "accuracy"),
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
    )


_PER_CLASS = ("recall", "precision")
