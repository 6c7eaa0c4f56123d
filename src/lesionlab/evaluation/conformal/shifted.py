"""Another clinic's images: calibration that keeps its promise there, without a label from there.

What a network answers is taken to mean there what it meant in part val: of images with the same
answer, the same share is melanoma. What differs is how often each answer is given, and that needs
no labels. A logistic regression tells the new images from those of val by their log-probabilities;
its odds are how much more often such answers are given there, and val images count by them
(weighted conformal prediction: Tibshirani, Barber, Candès and Ramdas, NeurIPS 2019; the odds as
weights: section 2.3 there).

Weights by answers, not by light or colours: those tell two cameras apart without error, and then
no image of val is like the new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lesionlab.evaluation.calibration.scaling import Scaling
from lesionlab.evaluation.conformal.scores import effective_lesions, in_lesions, quantile
from lesionlab.evaluation.intervals.bootstrap import lesion_codes
from lesionlab.numerics import log_softmax

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

OWN_QUANTILE = 15
"""Lesions of a class from which it has a conformal quantile of its own."""

LARGEST = 5.0
"""An image counts at most so often; a larger clip lets a few images decide, a smaller no shift."""

_FOLDS = 5
_LEAST = 1e-6  # a probability below it is this: its logarithm would outweigh all others
_STEEPEST = 4.0  # standard deviations from the mean, beyond which a log-probability is cut


@dataclass(frozen=True, eq=False)
class Reference:
    """What a bundle keeps of part val, to be calibrated again: no image, and no name of one.

    Attributes:
        alone: log-probabilities from the picture alone before calibration, shape (n, k).
        known: the same with age, sex and site, shape (n, k); None where they are not taken.
        targets: positions of the true classes, shape (n,).
        lesions: numbers of the lesions, shape (n,).
        novelty: what the bundle's detector gives, shape (n,); nan without one.
    """

    alone: Floats
    known: Floats | None
    targets: Index
    lesions: Index
    novelty: Floats

    @property
    def logs(self) -> tuple[Floats, ...]:
        """With age, sex and site where they are taken, and without."""
        return (self.alone,) if self.known is None else (self.known, self.alone)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All of it as small arrays, to be written."""
        kept: dict[str, NDArray[np.generic]] = {
            "alone": self.alone.astype(np.float32),
            "targets": self.targets.astype(np.int16),
            "lesions": self.lesions.astype(np.int32),
            "novelty": self.novelty.astype(np.float32),
        }
        return kept if self.known is None else {**kept, "known": self.known.astype(np.float32)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.generic]], classes: int) -> Reference:
        """Read what `arrays` gave.

        Raises:
            KeyError, ValueError: if it is something else.
        """
        targets, lesions = (arrays[name].astype(np.intp) for name in ("targets", "lesions"))
        logs = [arrays[name].astype(np.float64) for name in ("alone", "known") if name in arrays]
        novelty = arrays["novelty"].astype(np.float64)
        n = len(targets)
        if (
            any(each.shape != (n, classes) or not np.isfinite(each).all() for each in logs)
            or lesions.shape != (n,)
            or novelty.shape != (n,)
            or not ((targets >= 0) & (targets < classes)).all()
        ):
            raise ValueError("a reference of other classes, or of several lengths")
        return cls(logs[0], logs[1] if len(logs) > 1 else None, targets, lesions, novelty)


def density_ratio(reference: Floats, lesions: Index, new: Floats, *, seed: int = 0) -> Floats:
    """How much more often answers like each are given among the new images, shape (n,).

    Each image of the reference is judged by a regression that has not seen its lesion.

    Args:
        reference: log-probabilities, shape (n, k).
        lesions: numbers of their lesions, shape (n,).
        new: log-probabilities of the new images, shape (m, k).
        seed: of the folds.

    Returns:
        From 0 to `LARGEST`; 1 = as often.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    rows = np.maximum(np.concatenate([reference, new]), np.log(_LEAST))
    spread = rows.std(axis=0)
    rows = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    rows = rows.clip(-_STEEPEST, _STEEPEST)
    side = np.repeat([0, 1], [len(reference), len(new)])
    groups = np.concatenate([lesions, lesions.max() + 1 + np.arange(len(new))])
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    odds = np.zeros(len(rows))
    for train, rest in folds.split(rows, side, groups):
        model = LogisticRegression(class_weight="balanced", max_iter=1000)
        odds[rest] = np.exp(model.fit(rows[train], side[train]).decision_function(rows[rest]))
    return np.asarray(odds[: len(reference)].clip(0.0, LARGEST))


def class_limits(
    probabilities: Sequence[Floats],
    targets: Index,
    lesions: Index,
    classes: int,
    alpha: float,
    weights: Floats | None = None,
    *,
    images: bool = False,
) -> Floats:
    """Conformal quantiles of every class: its own where it has lesions enough, else that of all.

    One quantile for all keeps its promise at the expense of the classes that are hard to tell.

    Args:
        probabilities: calibrated, shape (n, classes), one table for each state of the metadata; the
            wider of their sets count.
        targets: true classes as positions, shape (n,).
        lesions: numbers of the lesions, shape (n,).
        classes: how many.
        alpha: how often a set may miss.
        weights: of the images, as `density_ratio` gives them; None: all alike.
        images: keep the promise for images as for lesions. Lesions photographed several times are
            harder than others: the quantile that counts every image is taken where it is wider.
    """
    weights = np.ones(len(targets)) if weights is None else weights
    limits = np.zeros(classes)
    each = np.arange(len(targets))
    for place in range(classes):
        some = targets == place
        if effective_lesions(weights[some], lesions[some]) < OWN_QUANTILE - 1e-9:
            some = np.ones(len(targets), bool)
        for rows, units in product(probabilities, (lesions, each) if images else (lesions,)):
            own = 1 - rows[each, targets]
            codes = lesion_codes(units[some])[0]
            counted = in_lesions(weights[some], codes)
            limits[place] = max(limits[place], quantile(own[some], codes, alpha, counted))
    return limits


@dataclass(frozen=True, eq=False)
class Recalibrated:
    """What `recalibrated` fitted.

    Attributes:
        scaling: of log-probabilities.
        limits: the conformal quantile of each class, shape (k,).
        weights: of the images of the reference, shape (n,).
        states: calibrated probabilities of the reference, as `Reference.logs`, shape (n, k).
    """

    scaling: Scaling
    limits: Floats
    weights: Floats
    states: tuple[Floats, ...]


def recalibrated(reference: Reference, new: Floats, scaling: Scaling, alpha: float) -> Recalibrated:
    """Temperature and conformal quantiles for where other images come from.

    Args:
        reference: of the bundle.
        new: log-probabilities of the new images, from the picture alone, shape (m, k).
        scaling: of the bundle.
        alpha: how often a set may miss.
    """
    targets, lesions = reference.targets, reference.lesions
    weights = density_ratio(reference.alone, lesions, new)
    made = sharpened(scaling, reference.logs, targets, weights)
    states = tuple(np.exp(made.logits(rows)) for rows in reference.logs)
    limits = class_limits(states, targets, lesions, new.shape[1], alpha, weights)
    return Recalibrated(made, limits, weights, states)


def sharpened(scaling: Scaling, logs: Sequence[Floats], targets: Index, weights: Floats) -> Scaling:
    """The scaling times the one number that makes weighted images likeliest.

    Args:
        scaling: that was fitted before.
        logs: log-probabilities, shape (n, k), one table for each state of the metadata.
        targets: true classes as positions, shape (n,).
        weights: of the images, shape (n,).
    """
    from scipy.optimize import minimize_scalar

    scaled = [scaling.logits(rows) for rows in logs]
    places = np.arange(len(targets))

    def loss(power: float) -> float:
        return -sum(
            float(weights @ log_softmax(np.exp(power) * rows)[places, targets]) for rows in scaled
        )

    power = np.exp(minimize_scalar(loss, bounds=(-1.5, 1.5), method="bounded").x)
    return Scaling(
        scaling.method,
        scaling.classes,
        scaling.matrix * power,
        scaling.offsets * power,
        scaling.strength,
    )
