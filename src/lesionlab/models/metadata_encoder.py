"""Age, sex and site as numbers that a network can look up; needs no torch.

Only these three may ever be features. 0 stands for unknown everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import SettingsError
from lesionlab.recipe.schema import FEATURES, NO_FEATURES

YEARS = 10
"""Width of an age group. Ages are known to five years only, and ISIC's end at 85."""


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
        """Numbers of a table's values; a word that the training part never had is unknown, too.

        An age outside its age groups counts to the nearest: somebody of 92 is old, not of no age.

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
                found = _values(table, name, self.years)
                if name == "age":
                    found = [_nearest(value, values) for value in found]
                numbers[:, column] = [number.get(value, 0) for value in found]
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


def _nearest(age: int | None, groups: Sequence[int]) -> int | None:
    return age if age is None else min(groups, key=lambda group: (abs(group - age), group))


def known_words_of(encoder: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """The words of sex and site that an architecture's numbers are of, where it takes them."""
    categories = MetadataEncoder.from_dict(encoder).categories if encoder else {}
    return {name: tuple(words) for name, words in categories.items() if name != "age"}


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
