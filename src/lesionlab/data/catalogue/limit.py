"""A smaller catalogue: some of the lesions, every class with its share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.errors import SettingsError
from lesionlab.tables import lesions_of


def limited(data: Catalogue, lesions: int, *, seed: int = 0) -> Catalogue:
    """Draw some lesions of a catalogue, stratified by class, with all of their images.

    Every class keeps its share of the lesions to within one, and at least one lesion: what is left
    over after rounding down goes to the classes with the largest remainders.

    Args:
        data: the catalogue; it is not changed.
        lesions: how many to draw; as many as there are classes at least. A lesion with several
            diagnoses counts with its first.
        seed: of the draw.

    Returns:
        The drawn rows, in their order; the whole catalogue where it has no more lesions.

    Raises:
        SettingsError: if there are fewer than classes.
    """
    codes = lesions_of(data.table)
    first = data.table.assign(lesion=codes.to_numpy()).drop_duplicates("lesion")
    if lesions >= len(first):
        return data
    groups = {
        name: np.sort(rows["lesion"].to_numpy(dtype=object))
        for name, rows in first.groupby("target", sort=True)
    }
    if lesions < len(groups):
        raise SettingsError(
            f"--limit {lesions} is too few: there are {len(groups)} classes, and each keeps a "
            "lesion at least."
        )
    exact = np.array([len(each) for each in groups.values()]) / len(first) * lesions
    counts = np.maximum(np.floor(exact), 1).astype(int)
    while counts.sum() < lesions:
        counts[(exact - counts).argmax()] += 1
    while counts.sum() > lesions:  # rare classes were rounded up to one
        counts[np.where(counts > 1, exact - counts, np.inf).argmin()] -= 1
    generator = np.random.default_rng(seed)
    drawn = [
        generator.choice(each, count, replace=False)
        for each, count in zip(groups.values(), counts, strict=True)
    ]
    rows = codes.isin(np.concatenate(drawn)).to_numpy()
    note = (
        f"Drawn: {lesions:,} of {len(first):,} lesions, every class with its share (seed {seed})."
    )
    return replace(
        data,
        table=data.table[rows].reset_index(drop=True),
        notes=(*data.notes, note),
        home=None,
    )
