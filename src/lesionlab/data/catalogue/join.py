"""Join: several collections as one catalogue, in which what is one lesion is never two.

Nothing is copied and no image is read: the joined table names the files where they lie.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from lesionlab.data.catalogue.catalogue import JOINED, Catalogue
from lesionlab.data.catalogue.entity_matching import IDS, TWO_IMAGES, merged
from lesionlab.data.catalogue.validation import check_table
from lesionlab.errors import DataError, FindingsError, SettingsError
from lesionlab.progress import Listener, silent
from lesionlab.tables import CATALOGUE, Finding, describe, findings_table, lesions_of
from lesionlab.taxonomy import GROUPINGS, canonical, order

CLASSES = ("same", "union", *GROUPINGS)
CLASHES = ("refuse", "leave-out")
Collection = Catalogue | str | Path


def join(
    catalogues: Sequence[Collection] | Mapping[str, Collection],
    *,
    classes: Literal["same", "union", "malignant-benign"] = "same",
    relabel: Mapping[str, str] | None = None,
    ids: Literal["auto", "shared", "own"] = "auto",
    clashes: Literal["refuse", "leave-out"] = "refuse",
    out: str | Path | None = None,
    listen: Listener = silent,
) -> Catalogue:
    """Join collections to one catalogue, to be split, explored and trained on like any other.

    An image that several of them have stands once, with the file of the first and with what any of
    them knows of it. Its lesions become one lesion and its patients one patient, so that a split
    keeps them together; ids that only look alike get an "@" and the name of where they come from.

    Args:
        catalogues: two or more catalogues, or their folders; or the same by name. A folder lends
            its own name. The name becomes the `source` of images that have none.
        classes: same refuses collections of unlike classes; union takes the classes of all; a
            name of `taxonomy.GROUPINGS` makes its classes of theirs.
        relabel: what a class is to count as: scc as akiec, ...
        ids: what one id in two collections means, if it is none of the ISIC Archive's. "auto":
            lesions and patients of one source, or of numberings that common images show to be one,
            are the same, others are not, and an image id with two contents is refused; "shared":
            always the same; "own": never.
        clashes: refuse names what is given two diagnoses; leave-out leaves its lesion out.
        out: where to save; None keeps the catalogue in memory.
        listen: told of what was merged, and of ids that were taken for different things.

    Returns:
        The joined catalogue; its root is the folder that all images lie below.

    Raises:
        SettingsError: naming every option that is not one.
        DataError: if the classes do not fit, or a catalogue cannot be opened.
        FindingsError: with every image id of two contents and every lesion of two diagnoses.

    Example:
        >>> both = join(["data/ham10000", "data/clinic"], out="data/both")  # doctest: +SKIP
    """
    asked = {"classes": (classes, CLASSES), "ids": (ids, IDS), "clashes": (clashes, CLASHES)}
    wrong = [
        f"{name}: {word!r} is none of {', '.join(words)}."
        for name, (word, words) in asked.items()
        if word not in words
    ]
    if wrong:
        raise SettingsError("\n".join(wrong))
    opened = _one_taxonomy(_opened(catalogues, out), classes, relabel or {})
    sets = list(dict.fromkeys(each.classes for each in opened.values()))
    names = sets[0] if len(sets) == 1 else order([name for each in sets for name in each])
    root, rows = _one_table(opened)
    table, faults = merged(rows, ids, listen)
    faults += [each for each in check_table(table, names) if each.severity == "error"]
    notes = [*_notes(opened), _summary(opened, len(rows) - len(table)), *_only_one_has(rows)]
    if faults:
        if clashes == "refuse" or any(each.kind == TWO_IMAGES for each in faults):
            raise _refusal(faults)
        lesions = lesions_of(table)
        gone = lesions.isin(lesions[table["image_id"].isin({each.image_id for each in faults})])
        table = table[~gone].reset_index(drop=True)
        notes.append(
            f"{gone.sum()} images of {lesions[gone].nunique()} lesions are left out: the "
            "collections do not agree on their diagnoses."
        )
        if table.empty:
            raise DataError("The collections agree on no lesion's diagnosis: nothing is left.")
    made = Catalogue(table, names, root, JOINED, tuple(notes))
    return made.save(out) if out else made


def _opened(
    catalogues: Sequence[Collection] | Mapping[str, Collection], out: str | Path | None
) -> dict[str, Catalogue]:
    """The catalogues by name."""
    given = catalogues.values() if isinstance(catalogues, Mapping) else catalogues
    found = [each if isinstance(each, Catalogue) else Catalogue.open(each) for each in given]
    names = [(each.home or each.root).resolve().name for each in found]
    if isinstance(catalogues, Mapping):
        names = list(catalogues)
    if len(found) < 2:
        raise SettingsError("To join takes two catalogues or more.")
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise SettingsError(
            f"Several catalogues are called {', '.join(twice)}, and ids are told apart by these "
            "names. Give each its own: --names clinic archive"
        )
    homes = [each.home.resolve() for each in found if each.home]
    if out is not None and Path(out).resolve() in homes:
        raise DataError(
            f"{out} holds one of the catalogues, which stay as they are. Choose another folder "
            "for the joined one with --out."
        )
    return dict(zip(names, found, strict=True))


def _one_taxonomy(
    opened: Mapping[str, Catalogue], classes: str, relabel: Mapping[str, str]
) -> dict[str, Catalogue]:
    """The catalogues with classes that may stand side by side.

    Raises:
        SettingsError: if no catalogue has a class that is to be relabelled.
        DataError: naming every class that fits nowhere.
    """
    everything = {name for data in opened.values() for name in data.classes}
    if lost := sorted(set(relabel) - everything):
        raise SettingsError(
            f"relabel: no catalogue has {', '.join(lost)}. They have: "
            f"{', '.join(sorted(everything))}."
        )
    made = {}
    for collection, data in opened.items():
        groups = {name: relabel.get(name, canonical(name)) for name in data.classes}
        moved = [f"{name} counts as {new}" for name, new in groups.items() if name != new]
        made[collection] = data.regrouped(groups, f"{', '.join(moved)}.") if moved else data
    holders: dict[str, list[str]] = {}
    for collection, data in made.items():
        for name in data.classes:
            holders.setdefault(name, []).append(collection)
    if classes in GROUPINGS:
        rule = GROUPINGS[classes]
        if unknown := [name for name in holders if name not in rule.groups]:
            raise DataError(
                f"The rule ({rule.rule}) does not say what these are:\n{_listed(unknown, holders)}"
                "\nMake them one of its classes with --relabel, such as scc=akiec."
            )
        return {name: data.regrouped(rule.groups, rule.rule) for name, data in made.items()}
    unlike = [name for name, having in holders.items() if len(having) < len(made)]
    if unlike and classes == "same":
        raise DataError(
            f"The catalogues do not have the same classes:\n{_listed(unlike, holders)}\n"
            "Make them others with --relabel, such as scc=akiec; make two classes of all with "
            "--classes malignant-benign; or keep them with --classes union, if no image of the "
            "other catalogues could be one of them."
        )
    return made


def _listed(classes: Sequence[str], holders: Mapping[str, Sequence[str]]) -> str:
    return "\n".join(f"  {name}: only in {', '.join(holders[name])}" for name in classes)


def _one_table(opened: Mapping[str, Catalogue]) -> tuple[Path, pd.DataFrame]:
    """The folder above all images, and all rows with the collection that each is of."""
    try:
        root = Path(os.path.commonpath([data.root.resolve() for data in opened.values()]))
    except ValueError as error:
        raise DataError("These images lie on several drives: move them to one.") from error
    tables = []
    for name, data in opened.items():
        below = data.root.resolve().relative_to(root).as_posix()
        table = data.table[list(CATALOGUE)].assign(collection=name)
        table["source"] = table["source"].mask(table["source"] == "", name)
        if below != ".":
            table["path"] = below + "/" + table["path"]
        tables.append(table)
    return root, pd.concat(tables, ignore_index=True)


def _refusal(faults: Sequence[Finding]) -> FindingsError:
    found = findings_table(faults)
    hints = []
    if TWO_IMAGES in set(found["kind"]):
        hints.append(
            "An image id with two contents: --ids shared if it is one image in two versions, "
            "--ids own if the catalogues number their images (and lesions) each for itself."
        )
    if set(found["kind"]) - {TWO_IMAGES}:
        hints.append(
            "Two diagnoses: --clashes leave-out leaves these lesions out. If ids only look alike, "
            "--ids own tells them apart."
        )
    text = f"The catalogues do not fit together; nothing was joined:\n{describe(found)}\n"
    return FindingsError(text + "\n".join(hints), found)


def _notes(opened: Mapping[str, Catalogue]) -> list[str]:
    """The notes of all catalogues; what not all of them say is said of whom."""
    holders: dict[str, list[str]] = {}
    for name, data in opened.items():
        for note in dict.fromkeys(data.notes):
            holders.setdefault(note, []).append(name)
    return [
        note if len(having) == len(opened) else f"{', '.join(having)}: {note}"
        for note, having in holders.items()
    ]


def _summary(opened: Mapping[str, Catalogue], copies: int) -> str:
    told = " and ".join(f"{name} ({len(data):,} images)" for name, data in opened.items())
    twice = f"; {copies:,} that stand in several are kept once" if copies else ""
    return f"Joined from {told}{twice}."


def _only_one_has(rows: pd.DataFrame) -> list[str]:
    """A caution about the classes whose images are all of one collection."""
    having = rows.groupby("target")["collection"].unique()
    alone = having[having.map(len) == 1].map(lambda names: names[0])
    return [
        f"Only {name} has images of {', '.join(of_one.index)}: a network may tell the collections "
        "apart there instead of the lesions."
        for name, of_one in alone.groupby(alone)
    ]
