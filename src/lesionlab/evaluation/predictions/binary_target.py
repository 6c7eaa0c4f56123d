"""One question of yes or no put to a predictions table, image by image or lesion by lesion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.predictions.load import rows_of
from lesionlab.tables import classes_of, lesions_of
from lesionlab.taxonomy import GROUPINGS

Unit = Literal["image", "lesion"]

MALIGNANT = "malignant"


@dataclass(frozen=True)
class Question:
    """What is to be found, in terms of a table's classes.

    Attributes:
        name: such as "malignant", "mel" or "mel+bcc".
        members: the classes that are a yes, in class order.
        rule: the same in a sentence.
    """

    name: str
    members: tuple[str, ...]
    rule: str

    def positive(self, rows: pd.DataFrame) -> NDArray[np.bool_]:
        """Which rows are a yes by their target, shape (n,)."""
        return np.asarray(rows["target"].isin(self.members), dtype=bool)

    def risks(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Probability of a yes: that of its classes together, shape (n,), 0-1."""
        columns = [f"p_{name}" for name in self.members]
        return np.asarray(rows[columns].to_numpy(dtype=np.float64).sum(axis=1).clip(0.0, 1.0))


def question_of(predictions: pd.DataFrame, positive: str | None = None) -> Question:
    """Say which classes of a table are a yes.

    Args:
        predictions: a checked table.
        positive: a class; several, such as "mel+bcc"; or "malignant", which stands for the classes
            of `taxonomy.MALIGNANT_RULE` where the table has no such class. By default malignant,
            and mel where the rule does not know all classes.

    Raises:
        SettingsError: if there is no such class, if all classes are a yes, or if none is named and
            there is no default.
    """
    classes = classes_of(predictions)
    groups = GROUPINGS["malignant-benign"].groups
    known = all(name in groups for name in classes)
    if positive is None:
        positive = MALIGNANT if known else "mel"
    if positive == MALIGNANT and MALIGNANT not in classes and known:
        members = tuple(name for name in classes if groups[name] == MALIGNANT)
        rule = f"malignant = {' + '.join(members) or 'no class'}"
    else:
        named = [each.strip() for each in positive.split("+")]
        members = tuple(name for name in classes if name in named)
        rule = f"positive = {' + '.join(members)}"
        if unknown := [name for name in named if name not in classes]:
            raise SettingsError(
                f"There is no class {', '.join(map(repr, unknown))} to be found. Choose among "
                f"{', '.join(classes)}; several are joined by +, as in "
                f"{'+'.join(classes[:2])}."
            )
    if not members or len(members) == len(classes):
        raise SettingsError(
            f"{positive} is {'none' if not members else 'all'} of the classes "
            f"({', '.join(classes)}): there is nothing to find. Name others."
        )
    return Question(positive, members, rule)


def units_of(predictions: pd.DataFrame, part: str, unit: Unit = "image") -> pd.DataFrame:
    """The rows of one part, one per image or one per lesion.

    Args:
        predictions: a checked table.
        part: train, val or test.
        unit: of a lesion, the probabilities are the mean over its images of this part; its
            lesion_id stands in image_id too.

    Returns:
        Columns image_id, lesion_id, target, part and p_<class>, sorted by image_id.

    Raises:
        DataError: if there are none; or if images of one lesion have different targets.
        SettingsError: if there is no such unit.
    """
    if unit not in ("image", "lesion"):
        raise SettingsError(f"There is no unit {unit!r}. Choose image or lesion.")
    rows = rows_of(predictions, part)
    kept = ["image_id", "lesion_id", "target", "part"]
    columns = [f"p_{name}" for name in classes_of(rows)]
    if unit == "image":
        return rows[[*kept, *columns]]
    grouped = rows.groupby(lesions_of(rows), sort=True)
    if clashing := list(grouped["target"].nunique().loc[lambda counts: counts > 1].index):
        shown = ", ".join(map(str, clashing[:3]))
        raise DataError(
            f"{len(clashing)} lesions have images of different targets ({shown}): no lesion has "
            "two diagnoses. Correct the table, or decide by image."
        )
    made = grouped[columns].mean().rename_axis("image_id").reset_index()
    made["lesion_id"] = made["image_id"]
    made["target"] = grouped["target"].first().to_numpy()
    made["part"] = part
    return made[[*kept, *columns]]


def both_sides(
    rows: pd.DataFrame, question: Question, unit: Unit, *, why: str
) -> NDArray[np.bool_]:
    """Which rows are a yes, if there are some of either kind.

    Args:
        rows: of one part, from `units_of`.
        question: what is a yes.
        unit: what a row is.
        why: what it takes both kinds for, to be printed.

    Raises:
        DataError: if all or none of them are.
    """
    positive = question.positive(rows)
    if positive.all() or not positive.any():
        part = rows["part"].iloc[0]
        raise DataError(
            f"{int(positive.sum())} of the {len(rows):,} {unit}s of part {part!r} are "
            f"{question.name} ({question.rule}): {why} takes some that are and some that are not. "
            "Choose another class with positive, or a larger part."
        )
    return positive


def check_prevalence(prevalence: float | None) -> None:
    """Refuse a prevalence outside 0-1, ends excluded.

    Raises:
        SettingsError: if it is.
    """
    if prevalence is not None and not 0 < prevalence < 1:
        raise SettingsError(
            f"The prevalence is {prevalence}: give the share of patients, above 0 and below 1, "
            "such as 0.05."
        )


def ends(estimate: Any) -> tuple[float, float, float]:
    """Value and interval of an estimate, for three columns of a table."""
    return estimate.value, estimate.low, estimate.high
