"""Which images, lesions and patients of several collections are the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import CATALOGUE, Finding

IDS = ("auto", "shared", "own")
"""What one id in two collections means: the same thing, another one, or what can be shown."""
TWO_IMAGES = "image_id_of_two_images"
KNOWLEDGE = ("dx_type", "age", "sex", "site", "part")
"""Columns that an image takes over from its copies where it has none."""

_ISIC = r"(ISIC_\d{7})(?:_downsampled)?"
_WORLDWIDE = (
    r"(?:HAM|BCN|MSK\d?|IL|IP)_\d{7}"  # lesions and patients as the ISIC Archive names them
)


def isic_names(image_ids: pd.Series) -> pd.Series:
    """Image ids, with those of the ISIC Archive without ISIC 2019's "_downsampled"."""
    return image_ids.str.replace(f"^{_ISIC}$", r"\1", regex=True)


def linked(*keys: pd.Series) -> pd.Series:
    """Number rows so that those get one number that share a key, directly or through other rows.

    Args:
        keys: columns of one index; "" is no key.
    """
    index = keys[0].index
    found = pd.Series(range(len(index)), index)
    while True:
        before = found
        for key in keys:
            known = key != ""
            found = found.mask(known, found[known].groupby(key[known]).transform("min"))
        found = found.astype(int)
        if found.equals(before):
            return found


def same_images(rows: pd.DataFrame, ids: str = "auto") -> pd.Series:
    """Number the images of several collections; a copy has the number of what it is a copy of.

    Copies have the same content, or the same id of the ISIC Archive, which are given out once in
    the world; with `ids` "shared" any same id. Copies within one collection are left to its audit.

    Args:
        rows: image_id, sha256 and collection.
        ids: one of `IDS`.
    """
    content = rows["sha256"]
    crossing = rows["collection"].groupby(content).transform("nunique") > 1
    names = isic_names(rows["image_id"])
    if ids != "shared":
        names = names.where(names.str.fullmatch(_ISIC), "")
    return linked(content.where(crossing, ""), names)


@dataclass(frozen=True)
class Groups:
    """Lesions, or patients, of several collections.

    Attributes:
        number: of each row's group; a row whose image names no group has a number of its own.
        names: of each row's group, unique: as the first collection calls it; "" where no copy of
            the image names one.
        merged: names of groups that one collection takes for several and another for one.
        apart: ids that stand in several collections and were taken for different groups.
    """

    number: pd.Series
    names: pd.Series
    merged: tuple[str, ...]
    apart: tuple[str, ...]


def same_groups(
    rows: pd.DataFrame, column: str, images: pd.Series, within: pd.Series, ids: str = "auto"
) -> Groups:
    """Find the groups of several collections: one id means one group where its numbering is shared.

    Within a collection one id is one group. An id of the ISIC Archive means the same everywhere.
    Any other belongs to the numbering of its source, and two numberings are one if images that both
    have carry the same id more often than not. An image belongs to one group, whatever its copies
    call it.

    Args:
        rows: image_id, collection, source (never "") and the column.
        column: lesion_id or patient_id; "" is unknown.
        images: number of each row's image, from `same_images`.
        within: number of what belongs to one group whole: the images, or for patients the lesions.
        ids: one of `IDS`.
    """
    id_ = rows[column]
    known = id_ != ""
    worldwide = id_.str.fullmatch(_WORLDWIDE) | (ids == "shared")
    home = rows["collection" if ids == "own" else "source"]
    if ids == "auto":
        home = home.replace(_one_numbering(id_[known & ~worldwide], home, images))
    space = home.mask(worldwide, "")
    keys = [(each + "\n" + id_).where(known, "") for each in (space, rows["collection"])]
    number = linked(*keys, within.astype(str))
    told = rows[["collection"]].assign(number=number, id=id_, home=home)
    told = told.assign(rank=pd.factorize(rows["collection"])[0])[known]
    groups_of_id = told.groupby("id")["number"].nunique()
    apart = groups_of_id.index[groups_of_id > 1]
    nameless = ~known.groupby(images).transform("any")  # such an image is a group by its own name
    first = told.sort_values(["rank", "id"]).drop_duplicates("number").set_index("number")
    doubtful = first["id"].isin({*apart, *rows["image_id"][nameless]})
    label = first["id"].mask(doubtful, first["id"] + "@" + first["home"])
    ids_of_group = told.groupby(["number", "collection"])["id"].nunique()
    merged = ids_of_group.index[ids_of_group > 1].get_level_values("number").unique()
    return Groups(
        number,
        number.map(label).mask(nameless, "").astype(str),
        tuple(sorted(label[merged])),
        tuple(sorted(map(str, apart))),
    )


def _one_numbering(ids: pd.Series, homes: pd.Series, images: pd.Series) -> dict[str, str]:
    """New names of numberings, so that those have one name that call most common images alike."""
    told = pd.DataFrame({"id": ids, "home": homes[ids.index], "image": images[ids.index]})
    pairs = told.merge(told, on="image")
    pairs = pairs[pairs["home_x"] < pairs["home_y"]]
    alike = (pairs["id_x"] == pairs["id_y"]).groupby([pairs["home_x"], pairs["home_y"]]).mean()
    name = {home: home for home in homes.unique()}
    for one, other in alike.index[alike > 0.5]:
        name = {key: name[one] if at == name[other] else at for key, at in name.items()}
    return name


def merged(
    rows: pd.DataFrame, ids: str, listen: Listener = silent
) -> tuple[pd.DataFrame, list[Finding]]:
    """Merge the rows of several collections: each image once, under ids that say what is the same.

    Args:
        rows: `tables.CATALOGUE` and collection; of copies the first stays.
        ids: one of `IDS`.
        listen: told of groups that were merged, and of ids that were taken for different ones.

    Returns:
        The merged table, sorted by image_id, and its faults: image ids of two contents, and images
        whose copies have two diagnoses.
    """
    images = same_images(rows, ids)
    lesions = same_groups(rows, "lesion_id", images, images, ids)
    patients = same_groups(rows, "patient_id", images, lesions.number, ids)
    for word, groups in (("lesion", lesions), ("patient", patients)):
        if groups.merged:
            text = f"{len(groups.merged)} {word}s have several ids in one catalogue and one in "
            listen(Notice(f"{text}another; they count as one: {_some(groups.merged)}.", "warning"))
        if groups.apart:
            text = f"{len(groups.apart)} {word} ids stand in several catalogues and are taken for "
            text += f"different {word}s ({_some(groups.apart)}). If they are not: --ids shared"
            listen(Notice(text, "warning"))
    twofold = images.groupby(rows["image_id"]).transform("nunique") > 1
    faults = []
    if ids == "auto":
        for image, having in rows[twofold].groupby("image_id")["collection"]:
            text = f"{image} is another image in {' than in '.join(having)}"
            faults.append(Finding(TWO_IMAGES, text, "error", "image_id", str(image)))
    first = rows.groupby(images, sort=False)["collection"].transform("first") == rows["collection"]
    table = rows.assign(lesion_id=lesions.names, patient_id=patients.names)
    table["image_id"] = table["image_id"].mask(twofold, rows["image_id"] + "@" + rows["collection"])
    for name in KNOWLEDGE:
        known = table[name].mask(table[name].astype(str) == "")
        table[name] = known.fillna(known.groupby(images).transform("first"))
        if name != "age":
            table[name] = table[name].fillna("")
    unlike = rows["target"].groupby(images).transform("nunique") > 1
    for _, copies in table[unlike].groupby(images[unlike]):
        told = ", ".join(f"{row.target} in {row.collection}" for row in copies.itertuples())
        for image in copies["image_id"][first[copies.index]]:
            text = f"{image} is {told}"
            faults.append(Finding("image_with_two_diagnoses", text, "error", "target", image))
    made = table[first].sort_values("image_id").reset_index(drop=True)
    return made[list(CATALOGUE)], faults


def _some(names: Sequence[str], examples: int = 3) -> str:
    return ", ".join(names[:examples]) + (", ..." if len(names) > examples else "")
