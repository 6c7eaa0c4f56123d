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


def _heading(
    name: str, title: str, /, *keys: str, tables: tuple[str, ...] = (), **own: str
) -> Heading:
    """A heading; author's fields by name, facts of the section as keyword and label."""
    labels = {f"{name}.{key}": label for key, label in own.items()}
    labels |= {f"author.{key}": FIELDS[key][0] for key in keys}
    return Heading(name, title, MappingProxyType(labels), tables)


OUTLINE = (
    _heading(
        "card",
        "In short",
        title="title",
        summary="summary",
    ),
    _heading(
        "answer",
        "What an answer is worth",
        tables=("answers", "referral"),
        promise="promise of referral",
        referral="what that promise cost and kept",
        metadata="what age, sex and site are worth",
    ),
    _heading(
        "use",
        "What it is for, and what not",
        "intended_use",
        "out_of_scope",
        "users",
        "context",
        "objectives",
        "population",
        "impact",
        "poor_input",
        "unlike",
        limits="limits of use",
        classes="conditions that it knows",
    ),
    _heading(
        "data",
        "The data",
        "device",
        "artefacts",
        "setting",
        "dates",
        "eligibility",
        "treatments",
        "skin_tone",
        "labelling",
        "agreement",
        "blinding",
        "deidentification",
        "ethics",
        tables=("classes", "people"),
        collection="collection",
        kind="kind of image",
        centres="where they come from",
        period="when they were taken",
        files="files",
        balance="classes",
        demographics="age, sex and site",
        missing="values that are not known",
        confirmation="how diagnoses were confirmed",
        confirmation_test="how those of the scored part were confirmed",
        histology="malignant lesions confirmed under the microscope",
        labelling="how diagnoses were made, as published",
        shift="training and scored part compared",
        citation="citation of the data",
        licence="licence of the data",
        homepage="where the data are",
    ),
    _heading(
        "split",
        "How the data were divided",
        "design",
        "sample_size",
        how="split",
        sizes="sizes",
        disjoint="lesions in two parts",
        patients="patients in two parts",
        same="differences between training and test by design",
    ),
    _heading(
        "preprocessing",
        "What happens to an image",
        images="decoding and size",
        normalisation="normalisation",
        missing="missing values",
        left_out="images left out",
        alike="alike for everybody",
    ),
    _heading(
        "model",
        "The model",
        architecture="network",
        classes="classes",
        predictors="what it looks at",
        assessors="who judged what it looks at",
        input="input",
        output="output",
        weights="weights at the start",
        file="weights that were kept",
        updating="changes after training",
    ),
    _heading(
        "training",
        "Training",
        "tuning",
        sampling="sampling",
        loss="loss",
        imbalance="treatment of rare classes",
        augment="random views",
        phases="phases",
        settings="further settings",
        selection="choice of the model",
        ensemble="several models",
        synthetic="made-up images",
        time="time and machine",
        software="software",
        identity="fingerprints",
        command="how to repeat it",
    ),
    _heading(
        "results",
        "How well it does",
        "external",
        "comparison",
        "robustness",
        "explanation",
        "clusters",
        "fairness",
        "interpretation",
        tables=(
            "figures",
            "by_class",
            "thresholds",
            "calibration",
            "subgroups",
            "confusion",
            "mistakes",
        ),
        headline="headline figures",
        measures="measures",
        intervals="intervals",
        classes="class by class",
        thresholds="operating points",
        calibration="what a probability is worth",
        subgroups="group by group",
        gap="training, validation and test",
        baseline="beside the simplest answer",
        failures="what it gets wrong",
        warnings="warnings",
    ),
    _heading("caveats", "Caveats", "limitations", "inequalities", "next_steps"),
    _heading(
        "legal",
        "Licences, citation and people",
        "weights_licence",
        "availability",
        "citation",
        "contacts",
        "funding",
        "conflicts",
        "protocol",
        "registration",
        "involvement",
        notice="regulatory notice",
        code="code",
        cite="what to cite",
    ),
)
"""The sections of a card in order, with every fact that there is."""


def keys() -> dict[str, str]:
    """Every key of a fact, with its label."""
    return {key: label for heading in OUTLINE for key, label in heading.labels.items()}
