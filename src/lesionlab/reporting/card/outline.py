"""What a card consists of: facts under stable keys, tables, and the outline that orders them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Literal

import pandas as pd

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.evaluation.calibration.report import CalibrationErrors
from lesionlab.evaluation.comparison.metadata_worth import MetadataWorth
from lesionlab.evaluation.evaluation_result import Evaluation
from lesionlab.evaluation.triage.referral_cost import MeasuredReferral
from lesionlab.reporting.card.author_answers import FIELDS
from lesionlab.reporting.card.standards import read_data
from lesionlab.run import Folds, Run

By = Literal["run", "publication", "author"]
"""Who says it: the files of the run, what the collection's publishers say, or the author."""


@dataclass(frozen=True)
class Told:
    """A fact as it was found.

    Attributes:
        text: what there is to say.
        by: who says it.
        applies: False if the text says why the question does not arise.
    """

    text: str
    by: By = "run"
    applies: bool = True


@dataclass(frozen=True)
class Fact:
    """A fact of a card.

    Attributes:
        key: its stable name, such as "training.loss".
        label: what it is called.
        text: what there is to say, "" where it is not known.
        by: who says it; None where it is not known.
        applies: False if the text says why the question does not arise.
    """

    key: str
    label: str
    text: str = ""
    by: By | None = None
    applies: bool = True

    @property
    def known(self) -> bool:
        """Whether there is anything to say."""
        return bool(self.text)


@dataclass(frozen=True)
class CardTable:
    """A table of a card.

    Attributes:
        name: its stable name, and that of its CSV file.
        title: what it is.
        reading: how to read it.
        data: the numbers.
        shown: the same as text, as it is printed.
    """

    name: str
    title: str
    reading: str
    data: pd.DataFrame
    shown: pd.DataFrame


@dataclass(frozen=True)
class Subject:
    """What a card is about, opened.

    Attributes:
        name: of the run, or of the file of predictions.
        predictions: checked.
        result: the evaluation of one part.
        calibration: of the same part.
        replicates: of both.
        run: the run; of folds the first one, whose settings are those of all.
        folds: the folds, if that is what it is.
        data: the catalogue, if it is at hand.
        subgroups: figures group by group, made elsewhere.
        referral: what a rule of referral did on that part.
        worth: what age, sex and site were worth there.
    """

    name: str
    predictions: pd.DataFrame
    result: Evaluation
    calibration: CalibrationErrors
    replicates: int
    run: Run | None = None
    folds: Folds | None = None
    data: Catalogue | None = None
    subgroups: pd.DataFrame | None = None
    referral: MeasuredReferral | None = None
    worth: MetadataWorth | None = None

    @property
    def info(self) -> Mapping[str, Any]:
        """What run.json says; empty without a run."""
        return self.run.info if self.run else {}

    @property
    def own_folder(self) -> str:
        """The name of the folder that the run's catalogue lay in; never a path."""
        return PurePath(str(self.info.get("catalogue", ""))).name


@dataclass(frozen=True)
class Heading:
    """A section of a card.

    Attributes:
        name: its stable name.
        title: its heading.
        labels: the facts that stand under it, what each is called by its key.
        tables: names of the tables that stand under it.
    """

    name: str
    title: str
    labels: Mapping[str, str]
    tables: tuple[str, ...] = ()


def _heading(name: str, entry: Mapping[str, Any]) -> Heading:
    labels = {f"{name}.{key}": label for key, label in entry.get("facts", {}).items()}
    labels |= {f"author.{key}": FIELDS[key][0] for key in entry.get("fields", ())}
    return Heading(name, entry["title"], MappingProxyType(labels), tuple(entry.get("tables", ())))


OUTLINE = tuple(_heading(*each) for each in read_data("outline.yaml")["outline"].items())
"""The sections of a card in order, with every fact that there is."""


def keys() -> dict[str, str]:
    """Every key of a fact, with its label."""
    return {key: label for heading in OUTLINE for key, label in heading.labels.items()}
