"""Several predictions tables about the same images: one class order, and what they disagree on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from lesionlab.errors import DataError, FindingsError
from lesionlab.evaluation.predictions.load import read_as, rows_of
from lesionlab.tables import Finding, classes_of, describe, findings_table
from lesionlab.taxonomy import GROUPINGS


def in_class_order(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables with their p_<class> columns in the order of the first one's.

    Raises:
        FindingsError: naming every table whose classes are not those of the first.
    """
    first, *_ = tables
    classes = classes_of(tables[first])
    faults = []
    for name, table in tables.items():
        own = classes_of(table)
        differing = [
            f"{words} {', '.join(labels)}"
            for words, labels in (
                ("lacks", [each for each in classes if each not in own]),
                ("also has", [each for each in own if each not in classes]),
            )
            if labels
        ]
        if differing:
            text = f"{name} {' and '.join(differing)}"
            faults.append(Finding("other_classes", text, column="p_*"))
    if faults:
        found = findings_table(faults)
        raise FindingsError(
            f"The tables do not have the classes of {first} ({', '.join(classes)}):\n"
            f"{describe(found)}\n{_advice(tables)}",
            found,
        )
    return {name: _ordered(table, classes) for name, table in tables.items()}


def _ordered(table: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    if classes_of(table) == classes:
        return table
    columns = [f"p_{label}" for label in classes]
    rest = [name for name in table.columns if not str(name).startswith("p_")]
    return table[[*rest, *columns]]


def _advice(tables: Mapping[str, pd.DataFrame]) -> str:
    names = [label for table in tables.values() for label in classes_of(table)]
    for name, grouping in GROUPINGS.items():
        if all(label in grouping.groups for label in names):
            return f"To read them all as {name}, compare them with --as {name}."
    return "Only models of the same classes can be set side by side."


def disagreements(tables: Mapping[str, pd.DataFrame], columns: Iterable[str]) -> list[Finding]:
    """Every image about which two tables say different things; unknown ("") contradicts nothing.

    Args:
        tables: checked tables by name.
        columns: of target, part and lesion_id, those to compare.
    """
    faults = []
    for column in columns:
        said = pd.DataFrame(
            {name: table.set_index("image_id")[column] for name, table in tables.items()}
        )
        said = said.where(said != "")
        first = said.bfill(axis=1).iloc[:, 0]
        differing = (said.notna() & said.ne(first, axis=0)).any(axis=1)
        for image, row in said[differing].iterrows():
            known = row.dropna()
            words = ", ".join(
                f"{value} in {' and '.join(known.index[known == value])}"
                for value in known.unique()
            )
            text = f"{image} is {words}"
            faults.append(Finding(f"other_{column}", text, column=column, image_id=str(image)))
    return faults


def known_lesions(tables: Mapping[str, pd.DataFrame], images: pd.Series) -> pd.Series:
    """The lesion of each image, from the first table that names one; "" where none does."""
    found = pd.Series("", index=images, dtype=object)
    for table in tables.values():
        own = table.set_index("image_id")["lesion_id"].reindex(images).fillna("")
        found = found.where(found != "", own)
    return found.astype(str).reset_index(drop=True)


def read_all_as(tables: Mapping[str, pd.DataFrame], as_: str | None) -> dict[str, pd.DataFrame]:
    """The tables, as they are or as the answer to another question; see `inputs.read_as`."""
    if as_ is None:
        return dict(tables)
    return {name: read_as(table, as_) for name, table in tables.items()}


def on_common_images(
    tables: Mapping[str, pd.DataFrame], part: str
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """The tables with the same images in `part` and the same lesion ids; how many each lost.

    Raises:
        DataError: if no image of the part is in all of them.
        FindingsError: with every target and lesion that the tables disagree about.
    """
    own = {name: set(rows_of(table, part)["image_id"]) for name, table in tables.items()}
    common = set.intersection(*own.values())
    if not common:
        listed = ", ".join(f"{name} has {len(images)}" for name, images in own.items())
        raise DataError(
            f"No image is in part {part!r} of every table ({listed}). Do they name their images "
            "the same way? image_id is the file's name without its ending."
        )
    kept = {
        name: table[(table["part"] != part) | table["image_id"].isin(common)]
        for name, table in tables.items()
    }
    scored = {name: table[table["part"] == part] for name, table in kept.items()}
    if faults := disagreements(scored, ("target", "lesion_id")):
        found = findings_table(faults)
        raise FindingsError(
            f"The tables disagree about what the images show:\n{describe(found)}\n"
            "Models can be compared on the same truth only.",
            found,
        )
    images = pd.Series(sorted(common))
    lesion_of = pd.Series(known_lesions(scored, images).to_numpy(), index=images)
    for name, table in kept.items():
        known = table["image_id"].map(lesion_of).fillna(table["lesion_id"])
        kept[name] = table.assign(lesion_id=known)
    return kept, {name: len(images - common) for name, images in own.items()}
