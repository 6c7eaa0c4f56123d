"""Labels that a model does not believe: which to look at first, and what that says of the labels.

Confident learning (Northcutt, Jiang and Chuang, J. Artif. Intell. Res. 70:1373-1411, 2021): an
image is confidently of a class if its probability is at least the mean one among the images with
that label. A label is suspect where the image is confidently of another class, and the most so.

A suspect is a request to look, not a mistake: a hard image of a right label and an easy image of a
wrong one look the same from here. How many suspects a model would raise if every label were right
and its probabilities were, is therefore drawn and given beside their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.display import Result
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.intervals.bootstrap import lesion_codes, replicate, shares
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.evaluation.intervals.p_values import holm
from lesionlab.evaluation.predictions.load import Source, arrays_of, open_predictions, rows_of
from lesionlab.files import write_csv
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.tables import Finding, classes_of, findings_table, lesions_of

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

HISTOLOGY = "histo"
"""The dx_type that the others are set beside."""
FEW = 10
"""Lesions that each side of a comparison needs."""
KIND = "suspect_label"


@dataclass(frozen=True)
class Expected:
    """How many suspects a calibrated model would raise if every label were right.

    Attributes:
        mean: over the draws.
        low: 2.5 % of the draws have fewer.
        high: 2.5 % have more.
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.0f} ({self.low:.0f}–{self.high:.0f})"


@dataclass(frozen=True, eq=False, repr=False)
class LabelErrors(Result):
    """Images and lesions in the order in which to look at their labels.

    Attributes:
        table: one row per image: rank, image_id, lesion_id, target, looks_like, p_target,
            p_looks_like, margin (p_target - p_looks_like, -1 to 1; the ranking), suspect,
            lesion_suspect, lesion_rank, dx_type ("" = unknown).
        lesions: the same by lesion and label, with the number of images; probabilities are means
            over the lesion's images.
        by_class: class, images, suspects, share with low and high, lesions, suspect_lesions.
        by_dx_type: the same per class and dx_type, of those that have both; empty without dx_type.
        differences: within a class, share of suspects of a dx_type less that of histology:
            difference, low, high, p, p_adjusted (Holm).
        joint: images by label (row) and by the class that they are confidently of (column): the
            confident joint. Images that are confidently of no class are in none of its cells.
        thresholds: of each class, its mean probability among the images with that label.
        share: of the images that are suspects.
        expected: images that would be if labels and probabilities were right.
        expected_lesions: the same of lesions.
        part: what was looked at.
        classes: in order.
    """

    _tables: ClassVar[tuple[str, ...]] = ("by_class", "images")

    table: pd.DataFrame
    lesions: pd.DataFrame
    by_class: pd.DataFrame
    by_dx_type: pd.DataFrame
    differences: pd.DataFrame
    joint: pd.DataFrame
    thresholds: Mapping[str, float]
    share: Estimate
    expected: Expected
    expected_lesions: Expected
    part: str
    classes: tuple[str, ...]

    @property
    def images(self) -> pd.DataFrame:
        """The suspect images alone."""
        return self.table[self.table["suspect"]]

    @property
    def suspect_lesions(self) -> pd.DataFrame:
        """The suspect lesions alone."""
        return self.lesions[self.lesions["suspect"]]

    def findings(self, paths: Mapping[str, str] | None = None) -> pd.DataFrame:
        """The suspects as findings, notes that leave nothing out; `catalogue --exclude` reads them.

        Args:
            paths: of the files, by image_id.
        """
        rows = [
            Finding(
                KIND,
                f"labelled {row.target} (p {row.p_target:.3f}), looks like {row.looks_like} "
                f"(p {row.p_looks_like:.3f}); rank {row.rank}",
                "note",
                "target",
                str(row.image_id),
                (paths or {}).get(str(row.image_id), ""),
            )
            for row in self.images.itertuples()
        ]
        return findings_table(rows)

    def save(self, out: str | Path) -> Path:
        """Write the table of images as CSV, and beside it those of lesions, classes and dx_type."""
        out = Path(out)
        write_csv(out, self.table)
        for name, table in (
            ("lesions", self.lesions),
            ("by_class", self.by_class),
            ("by_dx_type", self.by_dx_type),
            ("dx_type_differences", self.differences),
            ("joint", self.joint.reset_index()),
        ):
            if len(table):
                write_csv(out.with_name(f"{out.stem}_{name}.csv"), table)
        return out


def label_errors(
    predictions: Source,
    *,
    data: pd.DataFrame | None = None,
    part: Literal["test", "val", "both"] = "test",
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> LabelErrors:
    """Find labels that a model confidently contradicts, of images that it has not learnt from.

    The predictions of a run cover its test part; those of `train --folds` every image, out of fold.

    Args:
        predictions: a table, a run, folds, a blend, a file or a folder.
        data: a catalogue's table, for dx_type; images are matched by image_id.
        part: test, val or both. A network knows the labels of train by heart, right or wrong.
        replicates: of the lesion-level bootstrap, and at most 200 of them for what is expected.
        seed: of both.
        listen: told of the progress, and warned of classes with few lesions.

    Returns:
        All images in the order to look at them; shares of suspects with intervals, which take the
        thresholds as they are.

    Raises:
        DataError: if the part has no images, or `data` none of them.
        SettingsError: if another part is asked for.

    Example:
        >>> label_errors("runs/first").images.head()  # doctest: +SKIP
    """
    table = open_predictions(predictions)
    if part not in ("test", "val", "both"):
        raise SettingsError(
            f"part is {part!r}; choose test, val or both. What a network has learnt from it knows "
            "by heart, wrong labels included: `lesionlab train --folds` predicts every image "
            "unseen."
        )
    parts = ("val", "test") if part == "both" else (part,)
    rows = pd.concat([rows_of(table, each) for each in parts]).reset_index(drop=True)
    classes = classes_of(rows)
    targets, probabilities = arrays_of(rows)
    codes, _ = lesion_codes(rows["lesion_id"].to_numpy(dtype=object))
    _warn(rows, classes, listen)
    dx_type = _dx_types(rows, data)
    by_image = _ranked(targets, probabilities, classes)
    owner, unit_targets, unit_chances = by_lesion(codes, targets, probabilities)
    by_unit = _ranked(unit_targets, unit_chances, classes)
    lesions = pd.DataFrame(
        {
            "lesion_id": lesions_of(rows).groupby(owner).first(),
            "images": np.bincount(owner),
            "target": [classes[each] for each in unit_targets],
            **by_unit,
        }
    )
    images = pd.DataFrame(
        {
            "image_id": rows["image_id"],
            "lesion_id": rows["lesion_id"],
            "target": rows["target"],
            **by_image,
            "lesion_suspect": np.asarray(by_unit["suspect"])[owner],
            "lesion_rank": np.asarray(by_unit["rank"])[owner],
            "dx_type": dx_type,
        }
    )
    flags = np.asarray(by_image["suspect"], dtype=bool)
    tables, differences, overall = _shares(
        images, flags, classes, rows["lesion_id"], replicates, seed, listen
    )
    alone = np.arange(len(unit_targets))
    draws = min(200, max(replicates, 20))
    return LabelErrors(
        table=_in_order(images),
        lesions=_in_order(lesions),
        by_class=tables["class"].assign(
            suspect_lesions=[
                int((lesions["suspect"] & (lesions["target"] == name)).sum())
                for name in tables["class"]["class"]
            ]
        ),
        by_dx_type=tables["dx_type"],
        differences=differences,
        joint=_joint(targets, confident(targets, probabilities), classes),
        thresholds=dict(zip(classes, thresholds(targets, probabilities).tolist(), strict=True)),
        share=overall,
        expected=_expected(codes, probabilities, draws, seed, listen),
        expected_lesions=_expected(alone, unit_chances, draws, seed, listen),
        part=part,
        classes=classes,
    )


def thresholds(targets: Index, probabilities: Floats) -> Floats:
    """Mean probability of each class among the images with that label; nan without such, (k,)."""
    k = probabilities.shape[1]
    counts = np.bincount(targets, minlength=k)
    sums = np.bincount(targets, probabilities[np.arange(len(targets)), targets], minlength=k)
    means: Floats = np.divide(sums, counts, out=np.full(k, np.nan), where=counts > 0)
    return means


def confident(targets: Index, probabilities: Floats) -> Index:
    """The class that each image is confidently of, -1 where of none, shape (n,).

    Of the classes whose threshold an image reaches, the likeliest.

    Args:
        targets: labels as positions, shape (n,).
        probabilities: probabilities, shape (n, k).
    """
    limits = thresholds(targets, probabilities)
    reached = probabilities >= np.where(np.isnan(limits), np.inf, limits)
    best: Index = np.where(reached, probabilities, -1.0).argmax(axis=1)
    return np.where(reached.any(axis=1), best, -1)


def by_lesion(codes: Index, targets: Index, probabilities: Floats) -> tuple[Index, Index, Floats]:
    """Put the images of a lesion together; one with two labels counts once for each.

    Args:
        codes: the lesion of each image, shape (n,).
        targets: labels as positions, shape (n,).
        probabilities: probabilities, shape (n, k).

    Returns:
        The unit of each image, shape (n,); of each unit its label, shape (m,), and its mean
        probabilities, shape (m, k).
    """
    k = probabilities.shape[1]
    keys, owner = np.unique(codes * k + targets, return_inverse=True)
    sums = np.zeros((len(keys), k))
    np.add.at(sums, owner, probabilities)
    return owner, (keys % k).astype(np.intp), sums / np.bincount(owner)[:, None]


def _ranked(
    targets: Index, probabilities: Floats, classes: Sequence[str]
) -> dict[str, NDArray[np.generic]]:
    """What is said of each image or lesion; rank 1 is the first to look at."""
    rows = np.arange(len(targets))
    own = probabilities[rows, targets]
    others = probabilities.copy()
    others[rows, targets] = -1.0
    other = others.argmax(axis=1)
    found = confident(targets, probabilities)
    suspect = (found >= 0) & (found != targets)
    other = np.where(suspect, found, other)
    margin = own - probabilities[rows, other]
    rank = np.empty(len(rows), dtype=np.intp)
    rank[np.argsort(margin, kind="stable")] = rows + 1
    return {
        "looks_like": np.asarray(classes, dtype=object)[other],
        "p_target": own,
        "p_looks_like": probabilities[rows, other],
        "margin": margin,
        "suspect": suspect,
        "rank": rank,
    }


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rank first, best first."""
    columns = ["rank", *(name for name in table.columns if name != "rank")]
    return table[columns].sort_values("rank", kind="stable").reset_index(drop=True)


def _joint(targets: Index, found: Index, classes: Sequence[str]) -> pd.DataFrame:
    k = len(classes)
    sure = found >= 0
    counts = np.bincount(targets[sure] * k + found[sure], minlength=k * k).reshape(k, k)
    names = pd.Index(classes, name="label")
    return pd.DataFrame(counts, index=names, columns=list(classes))


def _expected(
    lesions: Index, probabilities: Floats, draws: int, seed: int, listen: Listener
) -> Expected:
    """Suspects among labels drawn from the probabilities, one number per lesion."""
    rng = np.random.default_rng([seed, 1])
    steps = np.cumsum(probabilities, axis=1)
    counts = []
    for number in range(draws):
        drawn = rng.random(lesions.max() + 1)[lesions] * steps[:, -1]
        labels = np.minimum((drawn[:, None] >= steps).sum(axis=1), probabilities.shape[1] - 1)
        found = confident(labels, probabilities)
        counts.append(int(((found >= 0) & (found != labels)).sum()))
        listen(Step("if labels were right", number + 1, draws, "draws"))
    low, high = np.quantile(counts, [0.025, 0.975])
    return Expected(float(np.mean(counts)), float(low), float(high))


def _dx_types(rows: pd.DataFrame, data: pd.DataFrame | None) -> list[str]:
    if data is None:
        return [""] * len(rows)
    known = dict(zip(data["image_id"].astype(str), data["dx_type"].astype(str), strict=True))
    if not rows["image_id"].isin(known.keys()).any():
        raise DataError(
            "The catalogue has none of the predicted images. Name the one that was predicted."
        )
    return [known.get(each, "") for each in rows["image_id"]]


def _warn(rows: pd.DataFrame, classes: Sequence[str], listen: Listener) -> None:
    lesions = lesions_of(rows).groupby(rows["target"]).nunique()
    if few := [f"{name} ({lesions.get(name, 0)})" for name in classes if lesions.get(name, 0) < 20]:
        listen(
            Notice(
                f"Fewer than 20 lesions of {', '.join(few)}: what counts as confident there rests "
                "on little.",
                "warning",
            )
        )


def _shares(
    images: pd.DataFrame,
    flags: NDArray[np.bool_],
    classes: Sequence[str],
    lesion_id: pd.Series,
    replicates: int,
    seed: int,
    listen: Listener,
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, Estimate]:
    """Shares of suspects: overall, by class, by class and dx_type; differences to histology."""
    target, kind = images["target"].to_numpy(), images["dx_type"].to_numpy()
    masks = {("", ""): np.ones(len(images), bool)}
    masks |= {(name, ""): target == name for name in classes}
    kinds = sorted({str(each) for each in kind if each}, key=lambda name: (name != HISTOLOGY, name))
    masks |= {(name, each): (target == name) & (kind == each) for name in classes for each in kinds}
    masks = {key: mask for key, mask in masks.items() if mask.any()}

    drawn = replicate(
        [shares({key: (flags, mask) for key, mask in masks.items()})],
        lesion_id.to_numpy(dtype=object),
        replicates=replicates,
        seed=seed,
        listen=listen,
    )
    found = {key: drawn.estimate(key) for key in masks}
    rows = [
        (*key, e.n, e.groups, int(flags[masks[key]].sum()), e.value, e.low, e.high)
        for key, e in found.items()
    ]
    columns = ["class", "dx_type", "images", "lesions", "suspects", "share", "low", "high"]
    table = pd.DataFrame(rows, columns=columns)
    gaps = [
        (key, (key[0], HISTOLOGY))
        for key in masks
        if key[1] not in ("", HISTOLOGY)
        and (key[0], HISTOLOGY) in masks
        and min(found[key].groups, found[key[0], HISTOLOGY].groups) >= FEW
    ]
    made = []
    for key, other in gaps:
        gap, p = drawn.difference(key, other)
        made.append((*key, gap.value, gap.low, gap.high, p))
    differences = pd.DataFrame(made, columns=["class", "dx_type", "difference", "low", "high", "p"])
    differences["p_adjusted"] = holm(differences["p"].tolist())
    tables = {
        "class": table[(table["class"] != "") & (table["dx_type"] == "")]
        .drop(columns="dx_type")
        .reset_index(drop=True),
        "dx_type": table[table["dx_type"] != ""].reset_index(drop=True),
    }
    return tables, differences, found["", ""]
