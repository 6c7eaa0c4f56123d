"""The metadata of a collection in tables: who, where, how often, and what is not known.

Every function takes the frame that `prepare` makes, in which unknown words are a category of their
own, always the last. Nothing is filled in: an age that is missing stays missing, and age 0 is an
age.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import get_args

import numpy as np
import pandas as pd

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.class_weights import class_weights, mean_one
from lesionlab.data.summary import ages
from lesionlab.recipe.schema import Weights
from lesionlab.tables import CATALOGUE, PARTS
from lesionlab.taxonomy import GROUPINGS, full_name

UNKNOWN = "unknown"
WORDS = ("sex", "site", "dx_type", "source")
"""Columns whose values are words; `prepare` makes them categories."""
DICTIONARY: Mapping[str, str] = MappingProxyType(
    {
        "image_id": "unique name of the image",
        "path": "file, relative to the data folder; file#row for a row of an array",
        "target": "the diagnosis: one of the collection's classes",
        "lesion_id": "images of one lesion share it",
        "patient_id": "images of one patient share it",
        "dx_type": "how the diagnosis was confirmed: histo, follow_up, consensus, confocal",
        "age": "the patient's age in years; 0 is an infant",
        "sex": "male or female, as the source recorded it",
        "site": "where on the body, in the source's words",
        "source": "the collection that the image came from",
        "part": "train, val or test where the source has an official split",
        "width": "pixels of the stored file",
        "height": "pixels of the stored file",
        "bytes": "size of the file",
        "sha256": "fingerprint of the file, or of the pixels where many images share a file",
    }
)
"""What each column of a catalogue means, in a few words; docs/data-dictionary.md says more."""


def prepare(data: Catalogue, parts: pd.Series | None = None) -> pd.DataFrame:
    """Make the frame that the other functions take.

    Args:
        data: the catalogue.
        parts: the part of every image, indexed by image_id; by default the source's own.

    Returns:
        The catalogue's table, with target, sex, site, dx_type, source, part and age_group as
        ordered categories, the lesion of each image (`lesion`: its lesion_id, or a name of its own
        where that is unknown), the number of images of that lesion (`siblings`) and `aspect`
        (height / width).
    """
    table = data.table.copy()
    if parts is not None:
        table["part"] = table["image_id"].map(parts).fillna("")
    table["target"] = pd.Categorical(table["target"], list(data.classes), ordered=True)
    for name in WORDS:
        table[name] = _category(table[name], _by_frequency(table[name], name))
    table["part"] = _category(table["part"], [each for each in PARTS if each in set(table["part"])])
    table["age_group"] = _category(*ages.groups(table["age"]))
    known = table["lesion_id"] != ""
    table["lesion"] = table["lesion_id"].where(known, "\0" + table["image_id"])
    table["siblings"] = table.groupby("lesion")["lesion"].transform("size")
    table["aspect"] = table["height"] / table["width"]
    return table


def _by_frequency(values: pd.Series, name: str) -> list[str]:
    counts = values[values != ""].value_counts()
    return sorted(counts.index) if name == "sex" else list(counts.index)


def _category(values: pd.Series, order: list[str]) -> pd.Categorical:
    nothing = [UNKNOWN] if (values == "").any() else []
    return pd.Categorical(values.where(values != "", UNKNOWN), [*order, *nothing], ordered=True)


def has(frame: pd.DataFrame, column: str) -> bool:
    """Whether a column says anything at all."""
    if column == "target":
        return bool(len(frame))
    return bool(_known(frame[column]).any())


def _known(values: pd.Series) -> pd.Series:
    return values.notna() & (values != "") & (values != UNKNOWN)


def classes(frame: pd.DataFrame) -> pd.DataFrame:
    """Count every class.

    Returns:
        Columns class, images, share (of all images), lesions, lesion_share, images_per_lesion
        (mean), shared (share of its images whose lesion has other images), times_rarer (how many
        images the largest class has for each of its own; NaN for a class without images) and name.
    """
    made = _counted(frame, "target", "class")
    grouped = frame["siblings"].gt(1).groupby(frame["target"], observed=False)
    images = made["images"].where(made["images"] > 0)
    made["lesion_share"] = made["lesions"] / made["lesions"].sum()
    made["images_per_lesion"] = images / made["lesions"]
    made["shared"] = grouped.mean().to_numpy(float)
    made["times_rarer"] = made["images"].max() / images
    made["name"] = [full_name(label) for label in made["class"]]
    return made


def values(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Count the values of a column of words, unknown last: value, images, share, lesions."""
    return _counted(frame, column, "value")


def _counted(frame: pd.DataFrame, column: str, name: str) -> pd.DataFrame:
    grouped = frame.groupby(column, observed=False)
    made = pd.DataFrame({"images": grouped.size(), "lesions": grouped["lesion"].nunique()})
    made.insert(1, "share", made["images"] / max(1, len(frame)))
    made.insert(0, name, made.index.astype(str))
    return made.reset_index(drop=True)


def cross(frame: pd.DataFrame, rows: str, columns: str) -> pd.DataFrame:
    """Count images by two columns: index `rows` (target: "class"), a column per value of the other.

    Values that a category has but no image shows are counted as 0.
    """
    made = pd.crosstab(frame[rows], frame[columns], dropna=False)
    made.index = made.index.astype(str).rename("class" if rows == "target" else rows)
    made.columns = made.columns.astype(str)
    return made


def row_shares(counts: pd.DataFrame) -> pd.DataFrame:
    """Each row of a table of counts as shares of its sum; NaN where a row is empty."""
    return counts.div(counts.sum(axis=1).where(lambda total: total > 0), axis=0)


def weights(frame: pd.DataFrame, *, scaled: bool = True) -> pd.DataFrame:
    """What an image of each class weighs under every scheme of `lesionlab.data.class_weights`.

    Args:
        frame: from `prepare`; classes without images are left out.
        scaled: to mean 1 over the classes, as in training; else as each scheme defines them.

    Returns:
        Columns class, images and one per scheme.
    """
    counts = frame["target"].value_counts(sort=False)
    counts = counts[counts > 0]
    images = np.asarray(counts, np.int64)
    made = pd.DataFrame({"class": counts.index.astype(str), "images": images})
    for scheme in get_args(Weights):
        raw = class_weights(images, scheme)
        made[scheme] = mean_one(raw) if scaled else raw
    return made


def is_malignant(frame: pd.DataFrame) -> pd.Series | None:
    """Whether each image's class counts as malignant; None unless every class has a rule."""
    labels = [str(label) for label in frame["target"].cat.categories]
    kinds = GROUPINGS["malignant-benign"].groups
    if not set(labels) <= set(kinds):
        return None
    return frame["target"].astype(str).isin([each for each in labels if kinds[each] == "malignant"])


def malignancy(frame: pd.DataFrame) -> pd.DataFrame | None:
    """Count benign and malignant by `taxonomy.MALIGNANT_RULE`, or None where it does not apply.

    Returns:
        Columns kind, images, share, lesions.
    """
    bad = is_malignant(frame)
    if bad is None:
        return None
    kind = pd.Categorical(np.where(bad, "malignant", "benign"), ["benign", "malignant"])
    return _counted(frame.assign(kind=kind), "kind", "kind")


def malignancy_by_sex_and_age(frame: pd.DataFrame) -> pd.DataFrame | None:
    """The malignant share of each sex, over all ages and within each age group.

    A difference between the sexes may come from their ages alone: compare within a row.

    Returns:
        Columns age_group ("all" first) and, for each known sex, the number of images and the
        malignant share ("female", "female_malignant", ...); None without the rule or two sexes.
    """
    bad = is_malignant(frame)
    sexes = [name for name in frame["sex"].cat.categories if name != UNKNOWN]
    if bad is None or len(sexes) < 2:
        return None
    groups = [("all", pd.Series(True, frame.index))]
    for name in frame["age_group"].cat.categories:
        groups.append((str(name), frame["age_group"] == name))
    rows = []
    for name, inside in groups:
        row: dict[str, object] = {"age_group": name}
        for sex in sexes:
            chosen = bad[inside & (frame["sex"] == sex)]
            row[str(sex)], row[f"{sex}_malignant"] = len(chosen), chosen.mean()
        rows.append(row)
    return pd.DataFrame(rows)


def shapes(frame: pd.DataFrame) -> pd.DataFrame:
    """Count the sizes of the stored images, commonest first.

    Returns:
        Columns width, height (pixels), aspect (height / width), images, share (of all images).
    """
    known = frame.dropna(subset=["width", "height"])
    grouped = known.groupby(["width", "height"]).size().rename("images").reset_index()
    grouped.insert(2, "aspect", grouped["height"] / grouped["width"])
    grouped["share"] = grouped["images"] / max(1, len(frame))
    whole = grouped.astype({"width": int, "height": int})
    return whole.sort_values(["images", "width"], ascending=False).reset_index(drop=True)


def columns(data: Catalogue) -> pd.DataFrame:
    """What each column holds and lacks.

    Returns:
        Columns column, meaning, kind (number or text), known, unknown, unknown_share, distinct
        (values), most_frequent ("" where that says nothing) and its_images. Age 0 is known.
    """
    rows = []
    for name in CATALOGUE:
        values = data.table[name]
        known = values[_known(values)]
        counts = known.value_counts()
        told = len(counts) < len(known) and name not in ("lesion_id", "bytes", "sha256")
        rows.append(
            {
                "column": name,
                "meaning": DICTIONARY[name],
                "kind": "number" if pd.api.types.is_numeric_dtype(values) else "text",
                "known": len(known),
                "unknown": len(values) - len(known),
                "unknown_share": 1 - len(known) / max(1, len(values)),
                "distinct": len(counts),
                "most_frequent": _plain(counts.index[0]) if told else "",
                "its_images": int(counts.iloc[0]) if told else pd.NA,
            }
        )
    return pd.DataFrame(rows).astype({"its_images": "Int64"})


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Describe the columns of numbers: count, mean, std, min, quartiles and max of each."""
    named = frame[["age", "width", "height", "aspect", "bytes"]].astype(float)
    return named.describe().T.rename_axis("column").reset_index()


def unknown_by_class(frame: pd.DataFrame) -> pd.DataFrame:
    """The share of each class's images whose age, sex, site or dx_type is not known.

    Returns:
        Columns class, age_unknown_share, sex_..., site_..., dx_type_...; NaN for a class without
        images.
    """
    grouped = frame["target"]
    made = pd.DataFrame(
        {
            f"{name}_unknown_share": (~_known(frame[name])).groupby(grouped, observed=False).mean()
            for name in ("age", "sex", "site", "dx_type")
        }
    )
    made.insert(0, "class", made.index.astype(str))
    return made.reset_index(drop=True)


def examples(frame: pd.DataFrame, per_class: int = 5, seed: int = 0) -> dict[str, list[str]]:
    """Draw images of every class at random, no lesion twice.

    Args:
        frame: from `prepare`.
        per_class: images of each class, at most.
        seed: of the draw; a class's images do not depend on the other classes.

    Returns:
        Image ids by class; first, under "", as many drawn from all images, whatever their class.
    """
    groups = {"": frame}
    groups |= {str(label): rows for label, rows in frame.groupby("target", observed=False)}
    made = {}
    for number, (label, rows) in enumerate(groups.items()):
        order = np.random.default_rng([seed, number]).permutation(len(rows))
        chosen = rows.iloc[order].drop_duplicates("lesion").head(per_class)
        if len(chosen):
            made[label] = [str(each) for each in chosen["image_id"]]
    return made
