"""Who belongs to which group of patients or images: age, sex, site, confirmation, source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.data.summary import ages
from lesionlab.errors import SettingsError

COLUMNS = ("age", "sex", "site", "dx_type", "source")
"""What images can be grouped by."""

UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class Grouping:
    """Images sorted into groups.

    Attributes:
        name: a column of `COLUMNS`, or two joined by "+".
        groups: their names: ages ascending, others by size; "unknown" is a group, the last.
        codes: the group of each image as a position in `groups`, shape (n,).
    """

    name: str
    groups: tuple[str, ...]
    codes: NDArray[np.intp]

    def mask(self, group: str) -> NDArray[np.bool_]:
        """Which images are of a group, shape (n,)."""
        chosen: NDArray[np.bool_] = self.codes == self.groups.index(group)
        return chosen


def group_by(rows: pd.DataFrame, by: Sequence[str]) -> tuple[list[Grouping], list[str]]:
    """Sort images into groups, once for each way asked for.

    Args:
        rows: catalogue rows, n of them.
        by: columns of `COLUMNS`, or two of them joined by "+", such as "age+sex".

    Returns:
        The groupings that have two groups or more, and a sentence for each that has not.

    Raises:
        SettingsError: naming every word that is no column.
    """
    asked = list(dict.fromkeys(by))
    wrong = [
        name
        for name in asked
        if len(set(name.split("+"))) != len(name.split("+"))
        or len(name.split("+")) > 2
        or any(each not in COLUMNS for each in name.split("+"))
    ]
    if wrong or not asked:
        raise SettingsError(
            f"Images cannot be grouped by {', '.join(map(repr, wrong)) or 'nothing'}. Choose among "
            f"{', '.join(COLUMNS)}, or two different ones joined by +, such as age+sex."
        )
    made, absent = [], []
    for name in asked:
        columns = name.split("+")
        nothing = [each for each in columns if not _known(rows[each])]
        grouping = _grouping(name, [_labels(rows, each) for each in columns])
        if nothing:
            absent.append(f"No groups by {name}: no image has a known {' and '.join(nothing)}.")
        elif len(grouping.groups) < 2:
            absent.append(f"No groups by {name}: all images are {grouping.groups[0]}.")
        else:
            made.append(grouping)
    return made, absent


def _known(values: pd.Series) -> bool:
    return bool((values.notna() & (values != "")).any())


def _labels(rows: pd.DataFrame, column: str) -> tuple[list[str], list[str]]:
    """Each image's group, and the groups in order."""
    if column == "age":
        found, order = ages.groups(rows["age"])
    else:
        found = rows[column].fillna("").astype(str)
        sizes = found[found != ""].value_counts()
        order = sorted(map(str, sizes.index), key=lambda each: (-int(sizes[each]), each))
    labels = [str(each) or UNKNOWN for each in found]
    present = set(labels)
    return labels, [each for each in (*order, UNKNOWN) if each in present]


def _grouping(name: str, parts: Sequence[tuple[list[str], list[str]]]) -> Grouping:
    labels, order = parts[0]
    for others, more in parts[1:]:
        labels = [f"{one}, {other}" for one, other in zip(labels, others, strict=True)]
        present = set(labels)
        order = [f"{one}, {other}" for one in order for other in more]
        order = [each for each in order if each in present]
    codes = pd.Index(order).get_indexer(pd.Index(labels))
    return Grouping(name, tuple(order), codes)
