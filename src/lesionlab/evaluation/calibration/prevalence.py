"""Another prevalence: probabilities re-weighted to it, and how common classes are without labels.

All of it assumes that classes look the same there and only their shares differ (label shift), and
that the probabilities are calibrated where they come from. A model trained with balanced classes is
not: `calibrate` it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lesionlab.display import Result
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.calibration.calibrate import FEW_LESIONS
from lesionlab.evaluation.intervals.bootstrap import (
    Weights,
    lesion_codes,
    lesion_weights,
    rows_per_block,
    weight_blocks,
)
from lesionlab.evaluation.intervals.estimate import Estimate, Values
from lesionlab.evaluation.intervals.estimate import estimate as with_interval
from lesionlab.evaluation.metrics.classification import confusion, decide
from lesionlab.evaluation.predictions.load import Source, arrays_of, open_predictions, rows_of
from lesionlab.numerics import ratio
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import Part, classes_of

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Method = Literal["em", "bbse"]

CONDITION_LIMIT = 20.0
"""Beyond this, BBSE is warned of: an error in the predicted shares may grow that much."""

OFF_BY = 0.05
"""A class is warned of whose mean probability is further from its share than this."""

_STEPS = 1000
_TOLERANCE = 1e-6


@dataclass(frozen=True, repr=False)
class Prevalence(Result):
    """How common the classes are where nobody has looked.

    Attributes:
        shares: by class, each with its 95 % interval.
        known: share of each class in the part that the model was fitted to.
        method: em or bbse.
        part: whose images were estimated from, without their labels.
        condition: of the confusion matrix, for bbse; nan for em.
        warnings: what a reader must know.
    """

    shares: Mapping[str, Estimate]
    known: Mapping[str, float]
    method: Method
    part: str
    condition: float
    warnings: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """Columns class, share with low and high, and known: its share in the part of the fit."""
        rows = [
            (label, each.value, each.low, each.high, self.known[label])
            for label, each in self.shares.items()
        ]
        return pd.DataFrame(rows, columns=["class", "share", "low", "high", "known_share"])

    def shown(self) -> list[tuple[str, pd.DataFrame]]:
        """The shares beside the known ones, as `Result.shown` says."""
        table = self.table().rename(columns={"known_share": "known share"})
        return [(f"Prevalence in part {self.part} by {self.method}", table)]

    def values(self) -> dict[str, float]:
        """The shares alone, as `reweight` takes them."""
        return {label: each.value for label, each in self.shares.items()}


def reweight(
    predictions: Source,
    to: Mapping[str, float],
    *,
    known: str | Mapping[str, float] = "val",
    listen: Listener = silent,
) -> pd.DataFrame:
    """Give probabilities as they would be where the classes are otherwise common.

    p'(y | x) ~ p(y | x) p'(y) / p(y) (Saerens, Latinne and Decaestecker, Neural Comput. 14:21-41,
    2002, equation 2.4). Logits are left out.

    Args:
        predictions: anything that `evaluate` takes.
        to: share of every class there, adding up to 1.
        known: share of every class where the probabilities are calibrated; or the part whose
            labels give them.
        listen: warned of probabilities that do not add up to the known shares.

    Returns:
        The table, all parts, with other probabilities.

    Raises:
        DataError: if the part has no images.
        SettingsError: with every fault of the shares at once.

    Example:
        >>> reweight("runs/first", {"nv": 0.9, "mel": 0.1})  # doctest: +SKIP
    """
    table = open_predictions(predictions)
    classes = classes_of(table)
    new = _shares(to, classes, "to")
    old = _known(table, known, classes, listen)
    if impossible := [c for c, a, b in zip(classes, old, new, strict=True) if a == 0 and b > 0]:
        raise SettingsError(
            f"The known share of {', '.join(impossible)} is 0: what never was there cannot be "
            "re-weighted. Give other known shares."
        )
    columns = [f"p_{label}" for label in classes]
    weighted = table[columns].to_numpy(dtype=np.float64) * ratio(new, old)[None].clip(0)
    weighted = np.nan_to_num(weighted)
    total = weighted.sum(axis=1, keepdims=True)
    if lost := int((total == 0).sum()):
        raise SettingsError(
            f"{lost} images have probability 0 for every class that is there under the new shares. "
            "Give no class a share of 0 that the model may be sure of."
        )
    made = table[[name for name in table.columns if not str(name).startswith("logit_")]].copy()
    made[columns] = weighted / total
    return made


def estimate(
    predictions: Source,
    *,
    method: Method = "em",
    part: Part = "test",
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Prevalence:
    """Estimate how common the classes are in a part, from its predictions and not from its labels.

    Args:
        predictions: anything that `evaluate` takes, with rows of part val.
        method: "em": the shares under which the probabilities are likeliest (Saerens et al. 2002);
            takes them as calibrated, and its intervals do, too. "bbse": those that explain how
            often each class is predicted, given the confusion matrix of val (Lipton, Wang and
            Smola, ICML 2018, with what is negative set to 0); needs no calibrated ones.
        part: train or test; its labels are not looked at.
        replicates: of the bootstrap over lesions, of val and of the part apart; 0: no intervals.
        seed: of the bootstrap.
        listen: told of every warning.

    Raises:
        DataError: if val or the part has no images, or val lacks a class.
        SettingsError: if there is no such method, or part is val.
    """
    if method not in ("em", "bbse") or part == "val":
        raise SettingsError("Prevalence is estimated by em or bbse, for part test or train.")
    table = open_predictions(predictions)
    classes = classes_of(table)
    val, rows = rows_of(table, "val"), rows_of(table, part)
    truth, of_val = arrays_of(val)
    known = _known(table, "val", classes, listen)
    if absent := [name for name, share in zip(classes, known, strict=True) if share == 0]:
        raise DataError(f"Part val has no image of {', '.join(absent)}: take a larger val part.")
    probabilities = arrays_of(rows)[1]
    lesions = rows["lesion_id"].to_numpy(dtype=object)
    blocks = weight_blocks(lesions, replicates, seed, rows_per_block(len(rows)))
    warnings = []
    condition = float("nan")
    if method == "em":
        found = np.concatenate([em(probabilities, known, block) for block in blocks])
        codes, _ = lesion_codes(val["lesion_id"].to_numpy(dtype=object))
        counts = {c: len(np.unique(codes[truth == i])) for i, c in enumerate(classes)}
        if few := [f"{c} ({count})" for c, count in counts.items() if count < FEW_LESIONS]:
            warnings.append(
                f"Part val has fewer than {FEW_LESIONS} lesions of {', '.join(few)}: nobody knows "
                "how good their probabilities are, and em takes them as exact. Its intervals are "
                "those of the drawn lesions alone; bbse's count in what val leaves open."
            )
    else:
        apart = int(np.random.SeedSequence(seed).generate_state(1)[0])
        drawn = lesion_weights(val["lesion_id"].to_numpy(dtype=object), replicates, apart)
        answers = decide(of_val), decide(probabilities)
        seen = np.concatenate([answered(block, answers[1], len(classes)) for block in blocks])
        found, condition = bbse(drawn, truth, answers[0], seen, len(classes))
        if not condition <= CONDITION_LIMIT:
            warnings.append(
                f"The confusion matrix of val is ill-conditioned ({condition:.0f}): the model "
                "takes some classes for others too often for their shares to be told apart. Take "
                "em on calibrated predictions, or fewer classes."
            )
    for text in warnings:
        listen(Notice(text, "warning"))
    count = lesion_codes(lesions)[1]
    return Prevalence(
        {c: with_interval(found[:, i], len(rows), count) for i, c in enumerate(classes)},
        {c: float(share) for c, share in zip(classes, known, strict=True)},
        method,
        part,
        condition,
        tuple(warnings),
    )


def em(probabilities: Floats, known: Floats, weights: Weights) -> Floats:
    """Shares under which the probabilities are likeliest, shape (r, k), by EM.

    Args:
        probabilities: calibrated to `known`, shape (n, k).
        known: shares, all above 0, shape (k,).
        weights: shape (r, n).
    """
    shares = np.tile(known, (len(weights), 1))
    moving = np.arange(len(weights))  # every row ends by itself, whatever it is computed with
    for _ in range(_STEPS):
        factors = shares[moving] / known
        fractions = ratio(weights, factors @ probabilities.T)
        new = factors * (np.nan_to_num(fractions) @ probabilities)
        new /= new.sum(axis=1, keepdims=True)
        still = np.abs(new - shares[moving]).max(axis=1) >= _TOLERANCE
        shares[moving] = new
        if not still.all():
            moving, weights = moving[still], weights[still]
        if not len(moving):
            break
    return shares


def answered(weights: Weights, answers: Index, k: int) -> Floats:
    """How often each class is predicted, shape (r, k), adding up to 1.

    Args:
        weights: shape (r, n).
        answers: what is predicted, shape (n,).
        k: how many classes there are.
    """
    counts = np.stack([weights[:, answers == i].sum(axis=1) for i in range(k)], axis=1)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def bbse(val: Weights, truth: Index, answers: Index, seen: Floats, k: int) -> tuple[Floats, float]:
    """Shares that explain how often each class is predicted, shape (r, k), and a condition number.

    Args:
        val: weights of the labelled images, shape (r, m).
        truth: their classes, shape (m,).
        answers: what is predicted for them, shape (m,).
        seen: how often each class is predicted for the others, as `answered` gives it.
        k: how many classes there are.
    """
    counts = confusion(val, truth, answers, k)
    given = np.nan_to_num(ratio(counts, counts.sum(axis=2, keepdims=True)))  # [r, truth, answer]
    shares = np.stack(
        [np.linalg.lstsq(g.T, s, rcond=None)[0] for g, s in zip(given, seen, strict=True)]
    )
    shares = np.maximum(shares, 0.0)
    return ratio(shares, shares.sum(axis=1, keepdims=True)), float(np.linalg.cond(given[0]))


def predictive_values(
    sensitivity: ArrayLike, specificity: ArrayLike, prevalence: ArrayLike
) -> tuple[Values, Values]:
    """Positive and negative predictive value at a stated prevalence, by Bayes' rule.

    Args:
        sensitivity: 0-1; any shape that broadcasts with the others.
        specificity: 0-1.
        prevalence: 0-1.

    Returns:
        PPV and NPV; nan where nobody tests positive, or negative.

    Raises:
        SettingsError: if something is outside 0-1.

    Example:
        >>> ppv, npv = predictive_values(0.9, 0.8, 0.02)
        >>> round(float(ppv), 3), round(float(npv), 4)
        (0.084, 0.9975)
    """
    se, sp, share = (
        np.asarray(each, np.float64) for each in (sensitivity, specificity, prevalence)
    )
    named = {"sensitivity": se, "specificity": sp, "prevalence": share}
    if wrong := [name for name, each in named.items() if not ((each >= 0) & (each <= 1)).all()]:
        raise SettingsError(f"{' and '.join(wrong)}: give numbers from 0 to 1.")
    positive = ratio(se * share, se * share + (1 - sp) * (1 - share))
    negative = ratio(sp * (1 - share), sp * (1 - share) + (1 - se) * share)
    return positive, negative


def _shares(given: Mapping[str, float], classes: tuple[str, ...], what: str) -> Floats:
    faults = [f"{name} is no class of this table" for name in given if name not in classes]
    faults += [f"{name} is missing" for name in classes if name not in given]
    faults += [f"{name} is {x}" for name, x in given.items() if not 0 <= x <= 1]
    total = sum(given.values())
    if not faults and not abs(total - 1) <= 1e-6:
        faults.append(f"they add up to {total:.6g}, not to 1")
    if faults:
        raise SettingsError(
            f"Shares of the classes ({what}): {'; '.join(faults)}. Give every class of "
            f"{', '.join(classes)} a share from 0 to 1.",
            faults,
        )
    return np.array([float(given[name]) for name in classes])


def _known(
    table: pd.DataFrame,
    known: str | Mapping[str, float],
    classes: tuple[str, ...],
    listen: Listener,
) -> Floats:
    if not isinstance(known, str):
        return _shares(known, classes, "known")
    targets, probabilities = arrays_of(rows_of(table, known))
    shares = np.bincount(targets, minlength=len(classes)) / len(targets)
    said = probabilities.mean(axis=0)
    if off := [
        f"{name} ({said[i]:.3f}, is {shares[i]:.3f})"
        for i, name in enumerate(classes)
        if abs(said[i] - shares[i]) > OFF_BY
    ]:
        text = (
            f"Mean probabilities on {known} are not the shares of the classes: {', '.join(off)}. "
            "Calibrate first (vector or dirichlet scaling), or what follows is off as well."
        )
        listen(Notice(text, "warning"))
    return np.asarray(shares, dtype=np.float64)
