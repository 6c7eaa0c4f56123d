"""Risk against coverage: what is left of the errors if the least sure images go to a doctor.

The selective risk at a coverage is the mean loss of the surest images, the coverage their share
(Geifman and El-Yaniv, NeurIPS 2017); the area under that curve is AURC, and what it has above the
best possible order of the same losses is the excess AURC (Geifman, Uziel and El-Yaniv, ICLR 2019).
Images of equal confidence are let in together, by equal parts, so that their order in a file makes
no difference: if all are equally sure, AURC is the plain mean loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from lesionlab.evaluation.intervals.bootstrap import Weights
from lesionlab.evaluation.intervals.estimate import Values
from lesionlab.numerics import ratio

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]
Confidence = Literal["max", "margin", "entropy", "benign", "cost"]

CONFIDENCES: tuple[Confidence, ...] = ("max", "margin", "entropy", "benign", "cost")


def confidence(probabilities: Floats, kind: Literal["max", "margin", "entropy"]) -> Floats:
    """How sure a model is of each image, by its probabilities alone; higher = surer, shape (n,).

    Args:
        probabilities: shape (n, k).
        kind: "max": the largest probability. "margin": what it has before the second. "entropy":
            minus the entropy, in nats.
    """
    if kind == "entropy":
        logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
        return np.asarray((probabilities * logs).sum(axis=1))
    best = np.sort(probabilities, axis=1)[:, ::-1]
    return np.asarray(best[:, 0] if kind == "max" else best[:, 0] - best[:, 1])


@dataclass(frozen=True)
class Curve:
    """Images in the order of falling confidence, with their losses: sorted once.

    Attributes:
        order: rows, the surest first, shape (n,).
        starts: where a group of equally sure images begins in that order, shape (g,).
        losses: of all images, in the order of the table, shape (n,), 0 or more.
        classes: the true class of each image where every class weighs the same; None: every image
            weighs the same. Losses are 0 and 1 then.
    """

    order: Index
    starts: Index
    losses: Floats
    classes: Index | None = None

    @classmethod
    def of(cls, sureness: Floats, losses: Floats, classes: Index | None = None) -> Curve:
        """Sort images by how sure the model is of them."""
        order = np.argsort(-sureness, kind="stable")
        ranked = sureness[order]
        starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
        return cls(order, starts, losses, classes)

    def image_weights(self, weights: Weights) -> Weights:
        """What each image's loss weighs, shape (r, n).

        Where classes are equal: an image of a class that is half as common weighs twice as much,
        and all weights of a row add up to its images.
        """
        if self.classes is None:
            return weights
        members = np.eye(int(self.classes.max()) + 1)[self.classes]
        counts = weights @ members
        present = (counts > 0).sum(axis=1, keepdims=True)
        each = ratio(weights.sum(axis=1, keepdims=True), present * counts)
        return weights * np.nan_to_num(each)[:, self.classes]

    def groups(self, weights: Weights) -> tuple[Floats, Floats, Floats]:
        """Images, what they weigh and their weighted losses, of each group, shape (r, g)."""
        heavy = self.image_weights(weights)
        wanted = (weights, heavy, heavy * self.losses)
        images, heavy, lost = (
            np.add.reduceat(each[:, self.order], self.starts, axis=1) for each in wanted
        )
        return images, heavy, lost

    def aurc(self, weights: Weights) -> Values:
        """Area under the curve of risk against coverage, shape (r,): the mean over all coverages.

        Args:
            weights: shape (r, n), whole numbers: how often each image is there.
        """
        return _area(*self.groups(weights))

    def best_aurc(self, weights: Weights) -> Values:
        """AURC of the best possible order of the same losses, shape (r,)."""
        if self.classes is None:
            return Curve.of(-self.losses, self.losses).aurc(weights)
        heavy = self.image_weights(weights)
        wrong = self.losses > 0
        members = np.eye(int(self.classes.max()) + 1)[self.classes] * wrong[:, None]
        images, lost = weights @ members, heavy @ members
        cheap = np.argsort(ratio(lost, images), axis=1)  # nan last: of a class without errors
        images, lost = (np.take_along_axis(each, cheap, axis=1) for each in (images, lost))
        right = (weights[:, ~wrong].sum(axis=1), heavy[:, ~wrong].sum(axis=1))
        first = [each[:, None] for each in right]
        return _area(
            np.hstack([first[0], images]),
            np.hstack([first[1], lost]),
            np.hstack([np.zeros_like(first[0]), lost]),
        )

    def best_risks(self, coverages: Sequence[float]) -> Floats:
        """Selective risk of the best possible order of the same losses, shape (coverages,)."""
        ones = np.ones((1, len(self.order)))
        weights = self.image_weights(ones)[0]
        best = Curve.of(-self.losses * weights, self.losses, self.classes)
        return np.array([values[0] for values in best.risks(ones, coverages).values()])

    def risks(self, weights: Weights, coverages: Sequence[float]) -> Mapping[float, Values]:
        """Selective risk at fixed coverages, shape (r,) each; straight lines within a group.

        Args:
            weights: shape (r, n).
            coverages: shares of the images, above 0 up to 1.
        """
        wanted = np.asarray(coverages, dtype=np.float64)
        found = np.empty((len(weights), len(wanted)))
        groups = (np.cumsum(each, axis=1) for each in self.groups(weights))
        for row, (images, heavy, lost) in enumerate(zip(*groups, strict=True)):
            at, reached = wanted * images[-1], np.append(0.0, images)
            risk = np.interp(at, reached, np.append(0.0, lost))
            found[row] = ratio(risk, np.interp(at, reached, np.append(0.0, heavy)))
        return dict(zip(coverages, found.T, strict=True))


def _area(images: Floats, weights: Floats, lost: Floats) -> Values:
    """Mean over all images of the risk as they are let in one by one, groups by equal parts.

    The j-th image of a group of m, after images that weigh V and lose S, makes the risk
    (S + j s) / (V + j v). The sum over j = 1..m is m s / v + (S - s V / v) / v times a difference
    of harmonic numbers, which are digamma functions.
    """
    before, spent = np.cumsum(weights, axis=1) - weights, np.cumsum(lost, axis=1) - lost
    own = np.nan_to_num(ratio(lost, weights))
    each = ratio(weights, images)
    at = np.nan_to_num(ratio(before, each))
    steps = digamma(at + images + 1) - digamma(at + 1)
    beyond = np.nan_to_num(ratio(spent - own * before, each))
    return ratio((own * images + beyond * steps).sum(axis=1), images.sum(axis=1))


def threshold_at_coverage(sureness: Floats, coverage: float) -> float:
    """The largest threshold at which at least this share of the images is decided.

    An image is decided if its confidence is the threshold or more.

    Args:
        sureness: confidence of each image, shape (n,).
        coverage: above 0 up to 1.
    """
    needed = max(1, int(np.ceil(coverage * len(sureness) - 1e-9)))
    return float(np.sort(sureness)[::-1][needed - 1])


def threshold_at_risk(curve: Curve, sureness: Floats, risk: float) -> float:
    """The smallest threshold at which the risk of what is decided is at most this.

    Args:
        curve: of these images.
        sureness: confidence of each image, shape (n,).
        risk: mean loss.

    Returns:
        The threshold; the next number above the highest confidence if no threshold will do.
    """
    _, weights, lost = (
        np.cumsum(each, axis=1)[0] for each in curve.groups(np.ones((1, len(sureness))))
    )
    good = np.flatnonzero(lost <= risk * weights + 1e-12)
    if not len(good):
        return float(np.nextafter(sureness.max(), np.inf))
    return float(sureness[curve.order[curve.starts[good[-1]]]])
