"""Split: who may see what. Groups (lesions or patients) never cross, and a test proves it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.advice import command
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.display import Result
from lesionlab.errors import DataError, FindingsError
from lesionlab.files import fingerprint, read_json, write_csv, write_json
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import PARTS, Finding, describe, findings_table, lesions_of, read_csv


@dataclass(frozen=True, repr=False)
class Split(Result):
    """Parts of a catalogue's images.

    Attributes:
        table: image_id, group, target, and one column per fold (fold_0, fold_1, ...) that says
            train, val or test; a holdout has one fold. Rows sorted by image_id.
        by: the catalogue's column that groups: lesion_id or patient_id; "" where the catalogue
            names neither, so that nothing can be said.
        kind: official, holdout or folds.
        seed: of the random draw; -1 for official.
        catalogue: fingerprint of the catalogue that was split.
    """

    table: pd.DataFrame
    by: str
    kind: str
    seed: int
    catalogue: str

    _tables: ClassVar[tuple[str, ...]] = ("counts",)

    def __repr__(self) -> str:
        parts = " / ".join(f"{(self.parts() == part).sum():,} {part}" for part in PARTS)
        more = "" if self.folds == 1 else f" in fold 0 of {self.folds}"
        return f"<Split of {len(self.table):,} images: {parts}{more}>"

    @property
    def folds(self) -> int:
        """Number of folds; 1 for a holdout."""
        return sum(str(name).startswith("fold_") for name in self.table.columns)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over who is in which part."""
        told = self.table.drop(columns=["target"], errors="ignore")
        return fingerprint(told.astype(str).to_numpy().tolist())

    def parts(self, fold: int = 0) -> pd.Series:
        """The part of every image in one fold, indexed by image_id.

        Raises:
            DataError: if there is no such fold.
        """
        if not 0 <= fold < self.folds:
            raise DataError(f"There is no fold {fold}: this split has folds 0 to {self.folds - 1}.")
        return self.table.set_index("image_id")[f"fold_{fold}"]

    def counts(self, fold: int = 0) -> pd.DataFrame:
        """Images and groups per class and part: columns class, part, images, lesions."""
        table = self.table.assign(part=self.parts(fold).to_numpy())
        grouped = table.groupby(["target", "part"])
        counts = grouped.agg(
            images=("image_id", "size"), lesions=("group", "nunique")
        ).reset_index()
        return counts.rename(columns={"target": "class"})

    def save(self, path: str | Path) -> None:
        """Write the table as CSV and, beside it under the same name, a JSON that describes it."""
        path = Path(path)
        write_csv(path, self.table)
        write_json(
            path.with_suffix(".json"),
            {
                "fingerprint": self.fingerprint,
                "catalogue": self.catalogue,
                "kind": self.kind,
                "by": self.by,
                "folds": self.folds,
                "seed": self.seed,
            },
        )

    @classmethod
    def open(cls, path: Split | str | Path) -> Split:
        """Open a split that `save` wrote, or a CSV of image_id and part made elsewhere.

        A split is returned as it is, so that what takes a split takes its file as well.

        Raises:
            DataError: if it cannot be read or was changed since.
        """
        if isinstance(path, Split):
            return path
        path = Path(path)
        table = read_csv(path, required=("image_id",))
        if path.with_suffix(".json").is_file():
            side = read_json(path.with_suffix(".json"))
        else:
            side = {"by": "lesion_id", "kind": "own", "seed": -1, "catalogue": ""}
        if "fold_0" not in table.columns:
            table = table.rename(columns={"part": "fold_0"})
        if "group" not in table.columns:
            table = table.rename(columns={"lesion_id": "group"})
        folds = [name for name in table.columns if str(name).startswith("fold_")]
        if folds != [f"fold_{number}" for number in range(max(1, len(folds)))]:
            raise DataError(
                f"{path} has no column 'part' and no 'fold_0', 'fold_1', ..., so it is no split."
            )
        wrong = sorted(set(table[folds].to_numpy().ravel()) - set(PARTS))
        if wrong:
            raise DataError(
                f"{path} has parts other than train, val and test: {', '.join(wrong[:5])}."
            )
        split = cls(table, side["by"], side["kind"], side["seed"], side["catalogue"])
        if side.get("fingerprint", split.fingerprint) != split.fingerprint:
            raise DataError(
                f"{path} was changed after lesionlab wrote it. Make it again with "
                f"`lesionlab split`, or delete {path.with_suffix('.json').name} to use it as a "
                "split of your own."
            )
        return split

    def check(self, data: Catalogue) -> None:
        """Make sure that this split belongs to a catalogue and that no group crosses in any fold.

        Raises:
            FindingsError: naming every group that crosses, and images that one of the two lacks.
            DataError: if it was made for another catalogue.
        """
        if self.catalogue and self.catalogue != data.fingerprint:
            raise DataError(
                f"This split was made for another catalogue ({self.catalogue}, "
                f"not {data.fingerprint}). Make one for this catalogue: "
                f"{command('split', data.home or 'DATA')}"
            )
        faults: list[Finding] = []
        mine, theirs = set(self.table["image_id"]), set(data.table["image_id"])
        for image in sorted(theirs - mine):
            text = f"{image} is in no part"
            faults.append(Finding("no_part", text, "error", "image_id", image))
        for image in sorted(mine - theirs):
            faults.append(
                Finding("no_image", f"{image} is not in the catalogue", "error", "image_id", image)
            )
        for image in self.table["image_id"][self.table["image_id"].duplicated()]:
            faults.append(
                Finding("duplicate_image_id", f"{image} stands twice", "error", "image_id", image)
            )
        for column in ("lesion_id", "patient_id") if self.by == "patient_id" else ("lesion_id",):
            if not faults:
                faults += self._crossings(data, column)
        if faults:
            found = findings_table(faults)
            raise FindingsError(
                f"This split cannot be used:\n{describe(found)}\n"
                "A group in two parts lets a model be tested on what it has seen. "
                "Make a split that keeps groups together: "
                f"{command('split', data.home or 'DATA')}",
                found,
            )

    def left_open(self, data: Catalogue) -> list[str]:
        """Sentences on what this split lets cross, and on classes that a part has no image of."""
        said = []
        if self.by == "lesion_id" and (crossing := self._crossings(data, "patient_id")):
            patients = {each.detail.split(" is in ")[0] for each in crossing}
            said.append(
                f"{len(patients):,} patients have images in more than one part, though no lesion "
                "has: split with --by patient_id to keep them together."
            )
        for part in PARTS:
            lacking = [
                f"{name} (fold {fold})" if self.folds > 1 else name
                for fold in range(self.folds)
                if part in set(self.table[f"fold_{fold}"])
                for name in data.classes
                if name in set(self.table["target"])
                and name not in set(self.table["target"][self.table[f"fold_{fold}"] == part])
            ]
            if lacking:
                said.append(f"Part {part} has no image of {', '.join(lacking)}.")
        return said

    def proof(self, data: Catalogue) -> str:
        """One sentence on what cannot be on two sides of this split, and of how many images."""
        column = self.by
        if not column:
            return "No image has a lesion or patient id: whether lesions cross cannot be checked"
        known = data.table["lesion_id"] != ""
        if column == "patient_id":
            known |= data.table["patient_id"] != ""
        share = "" if known.all() else f", of the {int(known.sum()):,} images where one is known"
        return f"No {column.removesuffix('_id')} is in two parts{share}"

    def _crossings(self, data: Catalogue, column: str) -> list[Finding]:
        groups = self.table["image_id"].map(data.table.set_index("image_id")[column])
        faults = []
        for fold in range(self.folds):
            known = groups != ""
            parts = self.table.loc[known, f"fold_{fold}"].groupby(groups[known]).unique()
            for group, found in parts[parts.map(len) > 1].items():
                faults.append(
                    Finding(
                        "group_crosses",
                        f"{group} is in {' and '.join(sorted(found))} of fold {fold}",
                        column=column,
                    )
                )
        return faults


def split(
    data: Catalogue | str | Path,
    *,
    kind: Literal["folds", "holdout", "official"] = "folds",
    by: Literal["auto", "lesion_id", "patient_id"] = "auto",
    folds: int = 5,
    shares: Sequence[float] = (0.7, 0.1, 0.2),
    val: float = 0.1,
    seed: int = 0,
    listen: Listener = silent,
) -> Split:
    """Part the images of a catalogue so that no group is on two sides.

    Every class is dealt out lesion by lesion, largest first, so that each part holds its share of
    the lesions of every class to within one lesion, and its share of the images to within the size
    of one lesion. Groups that hold several classes (patients) go through scikit-learn's
    StratifiedGroupKFold instead, which is as even as such groups allow.

    Args:
        data: the catalogue, or its folder.
        kind: folds (each fold is once the test part, and a grouped share of the rest is val),
            holdout (one train, val and test part), or official (the source's own parts).
        by: what must not cross: patient_id or lesion_id; "auto" takes the patient where any is
            known, else the lesion. Images without a patient go with their lesion; images that have
            neither are groups of their own.
        folds: number of folds, for kind folds.
        shares: of train, val and test, for kind holdout; 0 for test where a network is to learn
            from all that calibration does not need, and folds have told how well it does.
        val: share of all but the test fold that becomes val, for kind folds.
        seed: of the random draw.
        listen: told what cannot be proved (missing groups, patients that may cross).

    Returns:
        The split.

    Raises:
        DataError: if the asked kind is impossible for this catalogue, or official parts leak.
    """
    data = Catalogue.open(data)
    if by not in ("auto", "lesion_id", "patient_id"):
        raise DataError(f"Images are grouped by lesion_id or patient_id, not by {by!r}.")
    if by == "auto":
        by = "patient_id" if (data.table["patient_id"] != "").any() else "lesion_id"
    table = data.table[["image_id", "target"]].copy()
    named = data.table["lesion_id"] != ""
    if by == "patient_id":
        named |= data.table["patient_id"] != ""
    table["group"] = _groups(data.table, by)
    if missing := int((~named).sum()):
        names = "lesion_id" if by == "lesion_id" else "patient_id and no lesion_id"
        text = (
            f"{missing} of {len(table)} images have no {names}: whether they cross cannot be "
            "checked."
        )
        if missing == len(table) == table["group"].nunique() and kind != "official":
            text += " Every image is treated as a lesion of its own, which may leak."
        listen(Notice(text, "warning"))
    for note in data.notes:
        listen(Notice(note))
    rng = np.random.default_rng(seed)
    if kind == "official":
        table["fold_0"] = _official(data)
    elif kind == "holdout":
        if len(shares) != 3 or min(shares) < 0 or min(shares[:2]) == 0:
            raise DataError(
                "Shares of train, val and test must be three numbers above 0, or 0 for test, not "
                f"{shares}."
            )
        dealt = np.trim_zeros(np.asarray(shares, float), "b")
        table["fold_0"] = np.array(PARTS)[_deal(table, dealt, rng)]
    elif kind == "folds":
        if not 2 <= folds <= table["group"].nunique():
            raise DataError(f"{folds} folds are impossible with {table['group'].nunique()} groups.")
        if not 0 < val < 0.9:
            raise DataError(f"The share of val must be above 0 and below 0.9, not {val}.")
        fold_of = _deal(table, np.ones(folds), rng)
        for fold in range(folds):
            part = np.where(fold_of == fold, "test", "train").astype(object)
            rest = fold_of != fold
            chosen = _deal(
                table[rest], np.array([1 - val, val]), np.random.default_rng([seed, fold])
            )
            part[np.flatnonzero(rest)[chosen == 1]] = "val"
            table[f"fold_{fold}"] = part
    else:
        raise DataError(f"{kind!r} is no kind of split. Kinds: folds, holdout, official.")
    table = table[
        ["image_id", "group", "target", *(n for n in table.columns if n.startswith("fold_"))]
    ]
    made = Split(
        table.astype(str).reset_index(drop=True),
        by if named.any() else "",
        kind,
        -1 if kind == "official" else seed,
        data.fingerprint,
    )
    made.check(data)
    for text in made.left_open(data):
        listen(Notice(text, "warning"))
    return made


def like(data: Catalogue, other: Split, *, listen: Listener = silent) -> Split:
    """Carry a split over to another catalogue of the same images: each stays in its part.

    For another question to the same images (`Catalogue.regrouped`), or a catalogue with some of
    them left out: two models can be compared only if neither has learnt from what is tested.

    Args:
        data: the catalogue to part; every image of it must be in `other`.
        other: the split to follow, with all its folds.
        listen: told how many images of the split the catalogue lacks.

    Raises:
        FindingsError: if the split says nothing about an image, or a group would cross.
    """
    target = data.table.set_index("image_id")["target"]
    known = other.table["image_id"].isin(target.index)
    if lacking := int((~known).sum()):
        listen(Notice(f"{lacking} images of the split are not in this catalogue."))
    table = other.table[known].copy()
    table["target"] = table["image_id"].map(target)
    made = replace(other, table=table.reset_index(drop=True), catalogue=data.fingerprint)
    made.check(data)
    return made


def _groups(table: pd.DataFrame, by: str) -> pd.Series:
    """The group of each image: its lesion, or its patient, or as much of the two as is known."""
    alone = lesions_of(table)
    if by == "lesion_id":
        return alone
    known = table["patient_id"].where(table["patient_id"] != "")  # one image may speak for a lesion
    return known.groupby(alone).transform("first").fillna(alone)


def _official(data: Catalogue) -> pd.Series:
    parts = data.table["part"]
    present = set(parts)
    if not {"train", "test"} <= present <= {*PARTS}:
        raise DataError(
            "This source has no official split: its catalogue does not say train, val or test for "
            "every image. Take --kind folds or --kind holdout."
        )
    return parts


def _deal(
    table: pd.DataFrame, shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Deal groups out to parts in proportion to `shares`; the part of each row, shape (rows,)."""
    shares = shares / shares.sum()
    if table.groupby("group")["target"].nunique().max() > 1:
        return _deal_mixed(table, shares, rng)
    sizes = table.groupby("group", sort=True).agg(
        images=("image_id", "size"), target=("target", "first")
    )
    part_of: dict[str, int] = {}
    total = np.zeros(len(shares))  # images dealt to each part so far, all classes
    for _, groups in sizes.groupby("target", sort=True):
        order = rng.permutation(len(groups))
        order = order[np.argsort(-groups["images"].to_numpy()[order], kind="stable")]
        quota = _quota(len(groups), shares, total)
        want = groups["images"].sum() * shares
        have = np.zeros(len(shares))
        for position in order:
            deficit = np.where(quota > 0, (want - have) / shares, -np.inf)
            part = int(np.argmax(deficit))
            have[part] += groups["images"].iloc[position]
            quota[part] -= 1
            part_of[str(groups.index[position])] = part
        total += have
    return np.asarray(table["group"].map(part_of), np.int64)


def _quota(
    groups: int, shares: NDArray[np.float64], total: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Groups that each part gets: its share rounded down, or up for the parts furthest behind."""
    exact = groups * shares
    quota = np.floor(exact + 1e-9).astype(np.int64)
    left = groups - int(quota.sum())
    behind = np.lexsort((total / shares, -(exact - quota).round(9)))
    quota[behind[:left]] += 1
    return quota


def _deal_mixed(
    table: pd.DataFrame, shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedGroupKFold

    even = np.ptp(shares) < 1e-9
    count = len(shares) if even else max(2, round(1 / max(shares.min(), 0.02)))
    fewest = min(table["group"].nunique(), table["target"].value_counts().max())
    count = count if even else min(count, fewest)
    if not len(shares) <= count <= fewest:
        raise DataError(
            f"{fewest} groups or images of one class are too few for {len(shares)} parts."
        )
    folder = StratifiedGroupKFold(count, shuffle=True, random_state=int(rng.integers(2**31)))
    found = np.zeros(len(table), np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        for number, (_, rows) in enumerate(folder.split(table, table["target"], table["group"])):
            found[rows] = number
    if even:
        return found
    # every part is a run of slices, at least one
    edges = np.maximum(np.round(np.cumsum(shares) * count), np.arange(1, len(shares) + 1))
    edges = np.minimum(edges, count - np.arange(len(shares))[::-1])
    return np.asarray(np.searchsorted(edges, found, side="right"), np.int64)
