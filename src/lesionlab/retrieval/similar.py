"""Known cases that look like a new image, with their diagnoses."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.data.images.reader import Reader
from lesionlab.display import Result
from lesionlab.errors import DataError
from lesionlab.prediction.bundle import Bundle
from lesionlab.prediction.predictor import Predictor
from lesionlab.retrieval.case_index import CaseIndex
from lesionlab.retrieval.projection import Floats
from lesionlab.taxonomy import full_name

NEIGHBOURS = 15
"""Lesions whose diagnoses vote."""
SAME = 0.02
"""Distance below which an image is taken for a copy of a known one."""


@dataclass(frozen=True, eq=False, repr=False)
class Similar(Result):
    """The known cases nearest to one image, each of another lesion.

    Attributes:
        name: of the image.
        cases: a row per case, the nearest first: image_id, lesion_id, target, name (of the
            diagnosis), confirmed (how, "" = unknown), distance (0: the same, 2: the opposite).
        votes: by class, its share among the 15 nearest lesions, 0-1, the greatest first.
        predicted: the model's likeliest class.
        rows: of the index, in the order of `cases`.
    """

    _tables: ClassVar[tuple[str, ...]] = ("cases",)

    name: str
    cases: pd.DataFrame
    votes: pd.Series
    predicted: str
    rows: tuple[int, ...]

    @property
    def nearest(self) -> str:
        """The class with most votes."""
        return str(self.votes.index[0])

    @property
    def agree(self) -> bool:
        """Whether the cases vote for the model's likeliest class."""
        return self.nearest == self.predicted

    @property
    def text(self) -> str:
        """What the cases say beside the model, in a sentence."""
        share = f"{self.votes.iloc[0]:.0%} of the nearest lesions"
        if self.agree:
            return f"The nearest cases agree with the model: {self.nearest} ({share})."
        return (
            f"The nearest cases disagree with the model: {self.nearest} ({share}), where the model "
            f"says {self.predicted}. Look at them before you trust either."
        )

    def _remarks(self) -> tuple[str, ...]:
        return () if self.agree else (self.text,)


def similar(
    image: str | Path | bytes,
    *,
    index: CaseIndex | str | Path,
    model: Predictor | Bundle | str | Path | None = None,
    most: int = 6,
) -> Similar:
    """Find the known cases that look most like an image.

    No case is of the image's own lesion: where the index holds the same file, or an image that can
    hardly be told from it, that lesion is left out. Every lesion stands once, by its nearest image.

    Args:
        image: a file or its bytes.
        index: of cases, from `index`.
        model: the bundle that the index was made with; by default the model that comes with
            lesionlab.
        most: cases that are given.

    Raises:
        ImageFault: if the image cannot be read.
        BundleError: if the index was made with another bundle.
    """
    cases = index if isinstance(index, CaseIndex) else CaseIndex.open(index)
    predictor = model if isinstance(model, Predictor) else Predictor(model)
    cases.check(predictor.bundle)
    content = image if isinstance(image, bytes) else Reader(Path()).bytes_of(str(image))
    name = "the image" if isinstance(image, bytes) else Path(image).name
    answers = predictor.answers(predictor.read(content, name)[None], features=True)
    assert answers.features is not None  # asked for
    own = hashlib.sha256(content).hexdigest()
    return nearest_cases(
        cases, answers.features[0], answers.predicted[0], name=name, sha256=own, most=most
    )


def nearest_cases(
    cases: CaseIndex,
    features: Floats,
    predicted: str,
    *,
    name: str = "the image",
    sha256: str = "",
    most: int = 6,
) -> Similar:
    """As `similar`, of an image whose features are known.

    Args:
        cases: the index.
        features: of the image, shape (features,).
        predicted: the model's likeliest class.
        name: of the image.
        sha256: of its file.
        most: cases that are given.
    """
    like = cases.vectors @ cases.projection(features[None])[0]
    distance = np.sqrt(np.maximum(2 - 2 * like, 0))
    copies = distance < SAME
    if sha256:
        copies |= cases.hashes == sha256
    own = set(cases.lesion[copies])
    rows = nearest_lesions(distance, cases.lesion, own, max(most, NEIGHBOURS))
    voters = rows[:NEIGHBOURS]
    votes = cases.table["target"].iloc[voters].value_counts(normalize=True)
    shown = rows[:most]
    table = cases.table.iloc[shown]
    found = pd.DataFrame(
        {
            "image_id": table["image_id"].to_numpy(),
            "lesion_id": table["lesion_id"].to_numpy(),
            "target": table["target"].to_numpy(),
            "name": [full_name(each) for each in table["target"]],
            "confirmed": table["dx_type"].to_numpy(),
            "distance": distance[shown].round(3),
        }
    )
    return Similar(name, found, votes, predicted, tuple(map(int, shown)))


def nearest_lesions(
    distance: Floats, lesion: NDArray[np.object_], own: set[str], most: int
) -> NDArray[np.intp]:
    """The nearest image of each of the nearest lesions but some, the nearest first.

    Raises:
        DataError: if no lesion is left.
    """
    asked = most
    while True:  # several images of a lesion stand together: ask for more until there are enough
        asked = min(4 * asked, len(distance))
        near = np.argpartition(distance, asked - 1)[:asked]
        near = near[np.lexsort((near, distance[near]))]
        near = near[[name not in own for name in lesion[near]]]
        first = np.sort(np.unique(lesion[near].astype(str), return_index=True)[1])
        if len(first) >= most or asked == len(distance):
            break
    if not len(first):
        raise DataError("The index holds no case of another lesion.")
    return np.asarray(near[first[:most]])
