"""Age, sex and site as numbers that a network can look up; needs no torch.

Only these three may ever be features. 0 stands for unknown everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import DataError, SettingsError
from lesionlab.progress import Listener, Notice, silent
from lesionlab.recipe.schema import FEATURES, NO_FEATURES
from lesionlab.tables import known_words, read_csv

YEARS = 10
"""Width of an age group. Ages are known to five years only, and ISIC's end at 85."""

OLDEST = 120
"""Years; no age is above."""


@dataclass(frozen=True)
class MetadataEncoder:
    """Which number each value of age, sex and site has.

    Attributes:
        categories: for each field in order, the values that the training part has; the first is
            number 1. Those of age are the first years of the age groups.
        years: width of an age group, 5 or 10; age 0 belongs to the first group.

    Raises:
        SettingsError: if a field is none of `recipe.FEATURES`.
    """

    categories: Mapping[str, tuple[Any, ...]]
    years: int = YEARS

    def __post_init__(self) -> None:
        check_fields(tuple(self.categories))
        if self.years not in (5, 10):
            raise SettingsError(f"Age groups are 5 or 10 years wide, not {self.years}.")

    @classmethod
    def fit(
        cls, table: pd.DataFrame, fields: Sequence[str] = FEATURES, years: int = YEARS
    ) -> MetadataEncoder:
        """Number the values that occur in a table.

        Args:
            table: the training part of a catalogue, and nothing else.
            fields: which of age, sex and site.
            years: width of an age group, 5 or 10.

        Raises:
            SettingsError: if a field may not be a feature, or no value of it is known.
        """
        check_fields(fields)
        found = {name: tuple(sorted(set(_values(table, name, years)) - {None})) for name in fields}
        if unknown := [name for name in fields if not found[name]]:
            raise SettingsError(
                f"model.fusion.fields: the training part knows no {' and no '.join(unknown)}. "
                "Leave it out of the fields, or set model.fusion.kind none."
            )
        return cls(found, years)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields in the order of the columns."""
        return tuple(self.categories)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers each field has, unknown included."""
        return tuple(len(each) + 1 for each in self.categories.values())

    def encode(self, table: pd.DataFrame) -> NDArray[np.int64]:
        """Numbers of a table's values; what the training part never had is unknown, too.

        Args:
            table: columns age (years, NaN = unknown), sex and site ("" = unknown); a column that
                it lacks is unknown. Other columns are not looked at.

        Returns:
            int64, shape (rows, fields), 0 = unknown.
        """
        numbers = np.zeros((len(table), len(self.fields)), np.int64)
        for column, (name, values) in enumerate(self.categories.items()):
            number = {value: index + 1 for index, value in enumerate(values)}
            if name in table.columns:
                numbers[:, column] = [
                    number.get(value, 0) for value in _values(table, name, self.years)
                ]
        return numbers

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for model.json."""
        return {"years": self.years, "categories": {k: list(v) for k, v in self.categories.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MetadataEncoder:
        """From what `to_dict` gave."""
        return cls({k: tuple(v) for k, v in values["categories"].items()}, values["years"])


def check_fields(fields: Sequence[str]) -> None:
    """Make sure that only age, sex and site become features.

    Raises:
        SettingsError: naming every other field, and the reason.
    """
    if wrong := [name for name in fields if name not in FEATURES]:
        raise SettingsError(
            f"{', '.join(wrong)} cannot be a feature: take any of {', '.join(FEATURES)}; "
            f"{NO_FEATURES}."
        )


def _values(table: pd.DataFrame, name: str, years: int) -> list[Any]:
    """A column's values as the encoder counts them, None where unknown."""
    if name == "age":
        ages = pd.to_numeric(table[name].replace("", None), errors="coerce").to_numpy(float)
        return [int(age // years * years) if np.isfinite(age) else None for age in ages]
    return [str(word).strip().lower() or None for word in table[name].fillna("")]


def read_metadata(
    given: pd.DataFrame | str | Path, images: Sequence[str], *, listen: Listener = silent
) -> pd.DataFrame:
    """Age, sex and site of images that are to be predicted, from anybody's table.

    Args:
        given: a table, or a CSV, with image_id and any of age, sex and site. Images and columns
            that it lacks are unknown; other columns are left out, which is said.
        images: ids, in the order wanted.
        listen: told of what is left out.

    Returns:
        image_id, age (NaN = unknown), sex and site ("" = unknown), one row per image.

    Raises:
        DataError: naming repeated images and impossible ages at once.
    """
    table = given.copy() if isinstance(given, pd.DataFrame) else read_csv(Path(given))
    if "image_id" not in table.columns:
        raise DataError("The metadata have no column image_id, so they belong to no image.")
    table = table.astype(object).where(table.notna(), "").astype(str)
    faults = [
        f"{each} stands twice"
        for each in table["image_id"][table["image_id"].duplicated()].unique()
    ]
    told = pd.DataFrame({"image_id": list(images)})
    for name in FEATURES:
        values = known_words(table[name]).str.lower() if name in table.columns else ""
        by_image = dict(zip(table["image_id"], pd.Series(values, index=table.index), strict=True))
        told[name] = [by_image.get(each, "") for each in images]
    ages = pd.to_numeric(told["age"].where(told["age"] != "", None), errors="coerce").astype(float)
    for image, text, age in zip(told["image_id"], told["age"], ages, strict=True):
        if text and not 0 <= age <= OLDEST:
            faults.append(f"{image} has the age {text!r}; ages are years, 0 to {OLDEST}")
    if faults:
        listed = "\n".join(f"  {each}" for each in faults[:20])
        raise DataError(f"The metadata have {len(faults)} faults:\n{listed}")
    told["age"] = ages
    _tell(table, told, listen)
    return told


def _tell(table: pd.DataFrame, told: pd.DataFrame, listen: Listener) -> None:
    """Say what of the metadata is not used, and what is missing."""
    other = [name for name in map(str, table.columns) if name not in ("image_id", *FEATURES)]
    if other:
        listen(Notice(f"Not used of the metadata: {', '.join(other)}; {NO_FEATURES}."))
    if lacking := [name for name in FEATURES if name not in table.columns]:
        listen(Notice(f"The metadata have no column {' and no '.join(lacking)}: taken as unknown."))
    if absent := int((~told["image_id"].isin(table["image_id"])).sum()):
        listen(Notice(f"{absent} of {len(told)} images are not in the metadata: taken as unknown."))


def numbers_of(encoder: Mapping[str, Any] | None, table: pd.DataFrame) -> NDArray[np.int64]:
    """Metadata of a table's images as an architecture's own numbers.

    Args:
        encoder: `Architecture.metadata`; None where the network takes no metadata.
        table: see `MetadataEncoder.encode`.

    Returns:
        int64, shape (rows, fields), 0 = unknown; shape (rows, 0) without an encoder.
    """
    if encoder is None:
        return np.zeros((len(table), 0), np.int64)
    return MetadataEncoder.from_dict(encoder).encode(table)


def hidden(places: int, fields: int, hide: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which metadata training takes away, so that a network also learns to do without them.

    Args:
        places: how many images an epoch shows.
        fields: how many fields.
        hide: probability that all fields of an image are taken away; each of them by itself is
            taken away with half of that.
        rng: drawn from a fixed number of times.

    Returns:
        Shape (places, fields).
    """
    drawn = rng.random((places, fields + 1))
    return np.asarray((drawn[:, :1] < hide) | (drawn[:, 1:] < hide / 2))
