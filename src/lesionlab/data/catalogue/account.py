"""What became of every file and every row of a folder, in figures that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lesionlab.data.images.reader import file_of
from lesionlab.data.sources.draft import UNNAMED, Draft
from lesionlab.data.sources.inventory import CANNOT, OTHER


@dataclass(frozen=True)
class Account:
    """Files seen and rows read, what was taken, and what was left out for which reason.

    Attributes:
        files: how many there are in the folder, hidden ones included.
        files_taken: how many of them hold images of the catalogue.
        files_left_out: how many of the others there are for each reason.
        rows: how many rows the tables, arrays or class folders have.
        rows_taken: how many of them are images of the catalogue.
        rows_left_out: how many of the others there are for each reason.
    """

    files: int
    files_taken: int
    files_left_out: Mapping[str, int]
    rows: int
    rows_taken: int
    rows_left_out: Mapping[str, int]

    def __str__(self) -> str:
        """One line that adds up."""
        return (
            f"{_sum('Files', self.files, self.files_taken, self.files_left_out)} "
            f"{_sum('Rows', self.rows, self.rows_taken, self.rows_left_out)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for catalogue.json."""
        return {
            "files": {
                "seen": self.files,
                "taken": self.files_taken,
                "left_out": dict(self.files_left_out),
            },
            "rows": {
                "read": self.rows,
                "taken": self.rows_taken,
                "left_out": dict(self.rows_left_out),
            },
        }


def account_of(draft: Draft, table: pd.DataFrame) -> Account | None:
    """The account of a draft whose images stand in a table; None where no folder was searched."""
    if draft.inventory is None:
        return None
    inventory = draft.inventory
    taken = {file_of(path) for path in table["path"]}
    left_out: Counter[str] = Counter()
    for path in inventory.images:
        if path not in taken:
            left_out[draft.files_left_out.get(path, UNNAMED)] += 1
    for path, why in inventory.left_out.items():
        if path not in taken:
            suffix = Path(path).suffix.lower() or Path(path).name
            left_out[f"{suffix}: {why}" if why in (OTHER, CANNOT) else why] += 1
    known = {*inventory.images, *inventory.left_out}
    return Account(
        inventory.files + len(taken - known),  # a table may name files elsewhere
        len(taken),
        dict(left_out.most_common()),
        len(table) + draft.rows_left_out.total(),
        len(table),
        dict(draft.rows_left_out.most_common()),
    )


def _sum(what: str, seen: int, taken: int, left_out: Mapping[str, int]) -> str:
    if not left_out:
        return f"{what}: {seen:,}, all taken."
    listed = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
    return f"{what}: {seen:,} = {taken:,} taken + {sum(left_out.values()):,} left out ({listed})."
