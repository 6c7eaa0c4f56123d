"""Age, sex and site of the person on an image, however a table spells them.

The one reader of such values: of `catalogue`, `predict --metadata`, the HTTP interface and Python.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from lesionlab.data.sources.matching import Finder, said, spelled_otherwise
from lesionlab.errors import DataError
from lesionlab.progress import Listener, Notice, silent
from lesionlab.recipe.schema import FEATURES, NO_FEATURES
from lesionlab.tables import OLDEST, known_words, read_csv

TOP_CODED = "85+"
"""How the ISIC Archive writes its oldest age group, which it counts as 85."""
COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "image_id": (
            "image_id", "image", "image_name", "isic_id", "img_id", "file_name", "filename", "file",
        ),
        "age": ("age", "age_approx", "age_approximate", "patient_age"),
        "sex": ("sex", "gender"),
        "site": (
            "site", "localization", "localisation", "anatom_site_general", "anatom_site",
            "anatom_site_general_challenge", "body_site", "location", "region",
        ),
    }
)  # fmt: skip
"""Heads under which public tables have these columns, in lower case; the first is ours."""
SEXES: Mapping[str, str] = MappingProxyType(
    {"f": "female", "female": "female", "woman": "female",
     "m": "male", "male": "male", "man": "male",
     "w": "female", "weiblich": "female", "frau": "female",
     "männlich": "male", "mann": "male",
     "femme": "female", "féminin": "female", "homme": "male", "masculin": "male",
     "mujer": "female", "femenino": "female", "hombre": "male", "masculino": "male",
     "feminino": "female", "mulher": "female", "homem": "male",
     "donna": "female", "femmina": "female", "uomo": "male", "maschio": "male"}
)  # fmt: skip
"""Words for a person's sex, in lower case."""
_MUJER = {"m", "h"}
"""Where h (hombre) stands beside m, m may be mujer: neither is read then."""
_AGE = re.compile(r"(\d{1,3}(?:[.,]\d+)?)\s*(?:y|yr|yrs|years?|years? old)?")


def head(name: str) -> str:
    """A column's head without what differs between programs: case, blanks, "-" and "_"."""
    return re.sub(r"[^a-z0-9]+", "_", str(name).casefold()).strip("_")


def column_for(name: str, columns: Sequence[str]) -> str | None:
    """The column of a table that holds one of `COLUMNS`, or None.

    Raises:
        DataError: if two columns may be it.
    """
    if name in columns:
        return name
    for known in COLUMNS[name]:
        found = [each for each in columns if head(each) == known]
        if len(found) > 1:
            raise DataError(f"{' and '.join(found)} may both be {name}: leave one of them out.")
        if found:
            return found[0]
    return None


def read_age(text: str) -> float:
    """Years of a cell: 45, 45.0, 45,5, 45y, 45 years, 85+ (as the ISIC Archive counts it).

    Returns:
        The age; NaN where the cell holds no single age from 0 to `OLDEST`.
    """
    text = text.strip().lower()
    if text == TOP_CODED:
        return 85.0
    found = _AGE.fullmatch(text)
    age = float(found[1].replace(",", ".")) if found else np.nan
    return age if age <= OLDEST else np.nan


def read_ages(cells: pd.Series) -> tuple[pd.Series, list[str]]:
    """Years of a column, and the cells that are neither empty nor an age, each as it is written."""
    words = known_words(cells.astype(object).where(cells.notna(), "").astype(str))
    ages = words.map(read_age).astype(np.float64)
    return ages, list(words[ages.isna() & (words != "")])


def read_sexes(cells: pd.Series) -> pd.Series:
    """Words for a sex as male and female; unknown ones as "", others in lower case as they are."""
    words = known_words(cells.astype(object).where(cells.notna(), "").astype(str)).str.lower()
    spanish = set(words) >= _MUJER
    return words.map(lambda word: word if spanish and word in _MUJER else SEXES.get(word, word))


def odd_sexes(sexes: pd.Series) -> str:
    """One sentence on words for a sex that are not understood; "" where there are none."""
    other = sexes[~sexes.isin(["female", "male", ""])]
    if other.empty:
        return ""
    listed = ", ".join(f"{word!r} ({count})" for word, count in Counter(other).most_common(8))
    return (
        f"{len(other)} words for a sex are not known, and no model learns from them: {listed}. "
        "Write female or male, or leave the cell empty."
    )


def read_sites(cells: pd.Series) -> pd.Series:
    """Sites in lower case, unknown ones as ""."""
    return known_words(cells.astype(object).where(cells.notna(), "").astype(str)).str.lower()


def read_person(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of one person, with sex and site in the words of tables that were read."""
    readers = {"sex": read_sexes, "site": read_sites}
    return {
        name: readers[name](pd.Series([value])).iloc[0]
        if name in readers and isinstance(value, str)
        else value
        for name, value in told.items()
    }


def read_metadata(
    given: pd.DataFrame | str | Path,
    images: Sequence[str],
    *,
    paths: Sequence[str] | None = None,
    words: Mapping[str, Sequence[str]] | None = None,
    listen: Listener = silent,
) -> pd.DataFrame:
    """Age, sex and site of images that are to be predicted, from anybody's table.

    Args:
        given: a table, or a CSV, with a column of the images' names and any of age, sex and site,
            under one of the heads of `COLUMNS`. Images and columns that it lacks are unknown;
            other columns are left out, which is said.
        images: ids, in the order wanted.
        paths: of the images, in the same order: with them a table may name files and folders.
        words: of sex and site, those that the model knows; None takes any.
        listen: told what was found and what not.

    Returns:
        image_id, age (NaN = unknown), sex and site ("" = unknown), one row per image.

    Raises:
        DataError: if no image is in the table, or a row or an image fits several, or all words of
            a column are none that the model knows.
    """
    table = given.copy() if isinstance(given, pd.DataFrame) else read_csv(Path(given))
    table.columns = [str(name) for name in table.columns]
    table = table.astype(object).where(table.notna(), "").astype(str)
    heads = {name: column_for(name, list(table.columns)) for name in ("image_id", *FEATURES)}
    if heads["image_id"] is None:
        raise DataError(
            f"The metadata have no column image_id ({', '.join(table.columns)}), so they belong to "
            "no image. Name the column with the images' names image_id."
        )
    rows = _rows(table[heads["image_id"]], images, paths or images, listen)
    here = rows >= 0
    found = pd.DataFrame({"image_id": list(images), "age": np.nan, "sex": "", "site": ""})
    readers = {"sex": read_sexes, "site": read_sites}
    for name in FEATURES:
        column = heads[name]
        if column is None:
            continue
        cells = table[column].iloc[rows[here]]
        if name == "age":
            ages, odd = read_ages(cells)
            found.loc[here, name] = ages.to_numpy()
            _tell_ages(odd, listen)
        else:
            values = readers[name](cells)
            allowed = (words or {}).get(name)
            if allowed is not None:
                values = _allowed(name, values, allowed, listen)
            found.loc[here, name] = values.to_numpy()
    _tell(table, heads, found, listen)
    return found


def tell_known(
    table: pd.DataFrame,
    fields: Sequence[str],
    words: Mapping[str, Sequence[str]],
    listen: Listener = silent,
) -> None:
    """Say of how many images of a catalogue a model learns age, sex and site, and what it does not.

    Args:
        table: age (NaN = unknown), sex and site ("" = unknown), one row per image.
        fields: those of the three that the model takes.
        words: of sex and site, those that the model knows.
        listen: told.
    """
    counts = {}
    for name in fields:
        if name == "age":
            counts[name] = int(table[name].notna().sum())
            continue
        other = table[name][(table[name] != "") & ~table[name].isin(list(words[name]))]
        counts[name] = int((table[name] != "").sum()) - len(other)
        if len(other):
            listen(Notice(f"{_not_known(name, other, words[name])} Taken as unknown.", "warning"))
    listed = ", ".join(f"{name} of {number:,}" for name, number in counts.items())
    listen(Notice(f"The catalogue tells {listed} of {len(table):,} images."))


def _rows(
    names: pd.Series, images: Sequence[str], paths: Sequence[str], listen: Listener
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The row of each image, -1 where it has none."""
    repeated = names[names.duplicated() & (names != "")].unique()
    faults = [f"{each} stands twice" for each in repeated]
    by_path = Finder(dict.fromkeys(paths))
    of_path = {path: number for number, path in enumerate(paths)}
    by_id = Finder(dict.fromkeys(images))
    of_id: dict[str, list[int]] = {}
    for number, image in enumerate(images):
        of_id.setdefault(image, []).append(number)
    rows = np.full(len(images), -1, np.int64)
    ways: list[str] = []
    for row, name in enumerate(names):
        if not name.strip():
            continue
        ids, files = by_id.find(name), by_path.find(name)
        found = ids if ids.names and (ids.exact or not files.exact or not files.names) else files
        places = (
            [place for each in ids.names for place in of_id[each]]
            if found is ids
            else [of_path[each] for each in files.names]
        )
        if len(places) > 1:
            listed = ", ".join(paths[place] for place in places[:3])
            faults.append(f"{name} fits {len(places)} images ({listed}): give it with its folder")
            continue
        for place in places:
            if rows[place] >= 0 and row != rows[place] and name not in repeated:
                faults.append(f"{paths[place]} has two rows: {names.iloc[rows[place]]} and {name}")
            rows[place] = row
            if not found.exact:
                ways.append(spelled_otherwise(name, found.names[0].rpartition("/")[2]))
    if faults:
        listed = "\n".join(f"  {each}" for each in faults[:20])
        raise DataError(f"The metadata have {len(faults)} faults:\n{listed}")
    if len(images) and not (rows >= 0).any():
        raise DataError(
            f"None of the {len(images)} images is in the metadata: they name {names.iloc[0]!r}, "
            f"the images are {images[0]!r} and so on."
            if len(names)
            else "The metadata have no rows."
        )
    if ways:
        listen(Notice(said(ways, "image names of the metadata")))
    return rows


def _allowed(name: str, values: pd.Series, allowed: Sequence[str], listen: Listener) -> pd.Series:
    """Values as the model knows them; others become unknown, which is said.

    Raises:
        DataError: if none of them is known.
    """
    other = values[(values != "") & ~values.isin(list(allowed))]
    if other.empty:
        return values
    text = _not_known(name, other, allowed)
    if len(other) == (values != "").sum():
        raise DataError(
            f"{text} None of the column's words is known: write them so, or leave it out."
        )
    listen(Notice(f"{text} Taken as unknown.", "warning"))
    return values.where(~values.index.isin(other.index), "")


def _not_known(name: str, other: pd.Series, allowed: Sequence[str]) -> str:
    """One sentence on words that a model does not know."""
    listed = ", ".join(f"{word!r} ({count})" for word, count in Counter(other).most_common(8))
    return f"This model does not know the {name} {listed}. It knows: {', '.join(allowed)}."


def _tell_ages(odd: Sequence[str], listen: Listener) -> None:
    if odd:
        listen(Notice(odd_ages(odd), "warning"))


def odd_ages(cells: Sequence[str]) -> str:
    """One sentence on cells that are no age."""
    counts = Counter(cells)
    listed = ", ".join(f"{word!r}" for word, _ in counts.most_common(8))
    more = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
    verb = "cell is" if len(cells) == 1 else "cells are"
    return (
        f"{len(cells)} {verb} no age in years from 0 to {OLDEST} and taken as unknown: "
        f"{listed}{more}."
    )


def _tell(
    table: pd.DataFrame, heads: Mapping[str, str | None], found: pd.DataFrame, listen: Listener
) -> None:
    """Say of how many images what is known, what is not used, and what is missing."""
    counts = {
        "age": int(found["age"].notna().sum()),
        "sex": int((found["sex"] != "").sum()),
        "site": int((found["site"] != "").sum()),
    }
    listed = ", ".join(f"{name} of {number:,}" for name, number in counts.items())
    listen(Notice(f"The metadata tell {listed} of {len(found):,} images."))
    other = [name for name in table.columns if name not in heads.values()]
    if other:
        listen(Notice(f"Not used of the metadata: {', '.join(other)}; {NO_FEATURES}."))
    if lacking := [name for name in FEATURES if heads[name] is None]:
        listen(Notice(f"The metadata have no column {' and no '.join(lacking)}: taken as unknown."))
