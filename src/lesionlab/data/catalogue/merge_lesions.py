"""Merge lesions that a judged pair of images shows to be one, before any split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lesionlab.errors import FindingsError
from lesionlab.tables import Finding, describe, findings_table, lesions_of, read_csv

SAME, DIFFERENT = "same", "different"
VERDICTS = (SAME, DIFFERENT, "")


def read_verdicts(path: Path) -> pd.DataFrame:
    """Read a pairs.csv in which somebody has judged.

    Args:
        path: columns image_id, other and verdict: same, different, or "" for not judged.

    Returns:
        The table, verdicts in lower case.

    Raises:
        DataError: if it cannot be read.
        FindingsError: naming every verdict that is none.
    """
    table = read_csv(path, required=("image_id", "other", "verdict"))
    table["verdict"] = table["verdict"].str.strip().str.lower()
    faults = [
        Finding(
            "unknown_verdict",
            f"{row.verdict!r} on {row.image_id} and {row.other}",
            column="verdict",
            image_id=str(row.image_id),
        )
        for row in table[~table["verdict"].isin(VERDICTS)].itertuples()
    ]
    if faults:
        found = findings_table(faults)
        raise FindingsError(
            f"{path} holds {len(faults)} verdicts that are none:\n{describe(found)}\n"
            "Write same, different or nothing in the column verdict.",
            found,
        )
    return table


def with_verdicts(pairs: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Pairs with the verdicts that were given on them before, whichever image stands first.

    Args:
        pairs: image_id, other and verdict.
        verdicts: from `read_verdicts`.
    """
    told = zip(verdicts["image_id"], verdicts["other"], verdicts["verdict"], strict=True)
    known = {frozenset((image, other)): verdict for image, other, verdict in told}
    ends = zip(pairs["image_id"], pairs["other"], strict=True)
    return pairs.assign(verdict=[known.get(frozenset(each), "") for each in ends])


def merge_lesions(table: pd.DataFrame, verdicts: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Give the lesions of images that were judged the same one id, and their patients.

    Merging is transitive: if a and b are the same and b and c are, all three lesions become one.
    The merged lesion has the least of their ids, and so has the patient.

    Args:
        table: image_id, lesion_id and patient_id; "" is unknown.
        verdicts: from `read_verdicts`; pairs with an image that the table lacks are passed over.

    Returns:
        The table with new lesion and patient ids, and how many lesions were merged into others.
    """
    same = verdicts[verdicts["verdict"] == SAME]
    place = pd.Series(np.arange(len(table)), table["image_id"])
    place = place[~place.index.duplicated()]
    known = same["image_id"].isin(place.index) & same["other"].isin(place.index)
    pairs = place[same["image_id"][known]].to_numpy(), place[same["other"][known]].to_numpy()
    before = lesions_of(table)
    group, names = _joined(before, *pairs)
    touched = np.isin(group, group[np.concatenate(pairs)])
    made = table.assign(lesion_id=table["lesion_id"].mask(touched, names))
    patients = table["patient_id"]
    told = np.flatnonzero(touched & (patients != "").to_numpy())
    if len(told):
        first = pd.Series(told).groupby(group[told]).transform("first").to_numpy()
        made["patient_id"] = _joined(patients, first, told)[1].mask(patients == "", "")
    return made, int(before.nunique() - lesions_of(made).nunique())


def _joined(
    ids: pd.Series, one: np.ndarray[tuple[int], np.dtype[np.intp]], other: object
) -> tuple[np.ndarray[tuple[int], np.dtype[np.intp]], pd.Series]:
    """Number the rows' ids so that paired rows' are one; the number and the least id of each."""
    from scipy.sparse import coo_array  # slow to import, and few catalogues are merged
    from scipy.sparse.csgraph import connected_components

    code, unique = pd.factorize(ids)
    n = len(unique)
    edges = coo_array((np.ones(len(one)), (code[one], code[np.asarray(other)])), shape=(n, n))
    group = connected_components(edges, directed=False)[1][code]
    return group, ids.groupby(group).transform("min")


def clashes(table: pd.DataFrame, verdicts: pd.DataFrame) -> list[Finding]:
    """Lesions that merging gave two diagnoses: one finding for each judged pair that clashes.

    Args:
        table: the merged table, without the images that were left out: image_id, lesion_id, target.
        verdicts: from `read_verdicts`.
    """
    same = verdicts[verdicts["verdict"] == SAME]
    named = same["image_id"].isin(table["image_id"]) | same["other"].isin(table["image_id"])
    judged = set(same["image_id"][named]) | set(same["other"][named])
    lesion = lesions_of(table)
    found = []
    for name in sorted(set(lesion[table["image_id"].isin(judged)])):
        rows = table[lesion == name]
        if rows["target"].nunique() > 1:
            told = "; ".join(
                f"{label}: {', '.join(images)}"
                for label, images in rows.groupby("target")["image_id"]
            )
            found.append(
                Finding(
                    "merged_lesion_with_two_diagnoses",
                    f"lesion {name} would have {rows['target'].nunique()} diagnoses ({told})",
                    column="lesion_id",
                    image_id=str(rows["image_id"].iloc[0]),
                )
            )
    return found
