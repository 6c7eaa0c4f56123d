"""What `trust` gives: figures of images, estimates over them, and the files they are written to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from lesionlab.display import Result
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.files import write_csv, write_json
from lesionlab.reporting.report.explanation_trust import CURVES, FACTS, FORGETTING, IMAGES, SUMMARY
from lesionlab.reporting.report.explanation_verdicts import Answer, answers, find


@dataclass(frozen=True, eq=False, repr=False)
class Trust(Result):
    """Whether a run's maps are to be believed.

    Attributes:
        table: one row per image.
        summary: estimates: measure, group, value, low, high, images, lesions.
        curves: mean deletion and insertion curves with their intervals.
        forgetting: how alike the maps stay while the network forgets.
        facts: what was looked at, and how.
        warnings: what to know before looking at the figures.
    """

    _tables: ClassVar[tuple[str, ...]] = ("summary",)

    table: pd.DataFrame
    summary: pd.DataFrame
    curves: pd.DataFrame
    forgetting: pd.DataFrame
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()

    def __getitem__(self, key: str | tuple[str, str]) -> Estimate:
        """An estimate by measure, of all images; or by measure and group."""
        measure, group = (key, "all") if isinstance(key, str) else key
        found = find(self.summary, measure, group)
        if found is None:
            raise KeyError(key)
        return found

    @property
    def answers(self) -> tuple[Answer, ...]:
        """What the figures say, question by question."""
        return answers(self.summary, self.facts)

    @property
    def passed(self) -> bool:
        """Whether the maps change when the weights are random."""
        return self.answers[0].verdict != "no"

    def save(self, folder: Path) -> None:
        """Write trust.csv, summary.csv, curves.csv, randomised.csv and trust.json."""
        write_csv(folder / IMAGES, self.table)
        write_csv(folder / SUMMARY, self.summary)
        write_csv(folder / CURVES, self.curves)
        write_csv(folder / FORGETTING, self.forgetting)
        write_json(folder / FACTS, {**self.facts, "warnings": list(self.warnings)})
