"""What is to be predicted: a catalogue, with the part that each image belongs to, or files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.catalogue.entity_matching import isic_names
from lesionlab.data.splits import Split
from lesionlab.errors import DataError, RunError
from lesionlab.prediction.image_sources import files_of
from lesionlab.progress import Listener, Notice
from lesionlab.run import SPLIT, Run
from lesionlab.tables import PARTS


def catalogue_of(run: Run, data: Catalogue | str | Path | None) -> Catalogue:
    """The catalogue that somebody names, or else the one that a run was trained on.

    Raises:
        RunError: if that is gone or has changed.
    """
    if data is not None:
        return Catalogue.open(data)
    trained_on = Path(run.info["catalogue"])
    hint = "Give the one to predict with --data DIR, or give images."
    if not trained_on.exists():
        raise RunError(f"The catalogue of {run.folder} is not at {trained_on} any more. {hint}")
    opened = Catalogue.open(trained_on)
    if opened.fingerprint != run.info["identity"]["catalogue"]:
        raise RunError(f"The catalogue at {trained_on} has changed since {run.folder}. {hint}")
    return opened


def parts_of(run: Run, data: Catalogue, listen: Listener) -> pd.Series:
    """The part of every image of a catalogue, in its order.

    An image that the run's split knows keeps its part, under whatever id if its content is the
    same, and so does one whose lesion or patient is known there: what a run has learnt from is
    never scored as test. All others are test.

    Whose lesion and patient is known, the split tells, and the run's own catalogue as long as it is
    where it was; that alone knows the content of images.
    """
    split = Split.open(run.folder / SPLIT)
    known = split.parts(run.info["identity"]["fold"])
    if data.fingerprint == run.info["identity"]["catalogue"]:
        return data.table["image_id"].map(known)
    own = _own_catalogue(run)
    told = [(isic_names(split.table["image_id"]), known.reset_index(drop=True))]
    parts = isic_names(data.table["image_id"]).map(_parts_of_ids(told))
    if own is not None:
        told = [(own.table["sha256"], own.table["image_id"].map(known))]
        parts = most_learnt([parts, data.table["sha256"].map(_parts_of_ids(told))])
    unproved: list[str] = [] if own is not None or parts.notna().all() else ["copies of images"]
    for column, word in (("lesion_id", "lesions"), ("patient_id", "patients")):
        told = [(data.table[column], parts)]
        if own is not None:
            told.append((own.table[column], own.table["image_id"].map(known)))
        if "group" in split.table.columns:  # of patients too: without one, a group is a lesion
            told.append((split.table["group"], known.reset_index(drop=True)))
        proved = own is not None or ("group" in split.table.columns and column == split.by)
        if not proved and (data.table[column][parts.isna()] != "").any():
            unproved.append(f"of {word}")
        parts = parts.fillna(data.table[column].map(_parts_of_ids(told)).astype(parts.dtype))
    if unproved:
        listen(
            Notice(
                f"The catalogue of {run.folder} is not at {run.info['catalogue']} any more, or has "
                f"changed: whether other images are {' or '.join(unproved)} that the run has "
                "learnt from cannot be checked. They count as test.",
                "warning",
            )
        )
    parts = parts.fillna("test")
    if seen := int((parts != "test").sum()):
        listen(
            Notice(
                f"{seen} of {len(parts)} images, or other images of their lesions or patients, are "
                "in the run's train or val part. They keep that part and are not scored as test.",
                "warning",
            )
        )
    return parts


def _own_catalogue(run: Run) -> Catalogue | None:
    """The catalogue that a run was trained on; None where it is gone or has changed."""
    try:
        return catalogue_of(run, None)
    except (DataError, RunError):
        return None


def _parts_of_ids(told: Sequence[tuple[pd.Series, pd.Series]]) -> pd.Series:
    """The part of each lesion or patient: of several, the one that a run learns from most.

    Args:
        told: ids ("" where unknown) and parts (nan where unknown) of the same images.
    """
    ids = pd.concat([ids for ids, _ in told], ignore_index=True)
    parts = pd.concat([parts for _, parts in told], ignore_index=True)
    ranks = parts.map({name: rank for rank, name in enumerate(PARTS)})[ids != ""]
    first = ranks.groupby(ids[ids != ""]).min().dropna()
    return first.map(dict(enumerate(PARTS)))


def most_learnt(parts: Sequence[pd.Series]) -> pd.Series:
    """Row by row, of several parts (nan where unknown) the one that a run learns from most."""
    rank = {name: rank for rank, name in enumerate(PARTS)}
    ranks = pd.concat([each.map(rank) for each in parts], axis=1).min(axis=1)
    return ranks.map(dict(enumerate(PARTS)))


def image_files(given: Sequence[Path]) -> list[Path]:
    """Image files, and those of folders and patterns; see `files_of`.

    Raises:
        DataError: if there is none.
    """
    return [Path(each) for each in files_of(given)]
