"""Conformal risk control of referral: thresholds that miss at most a promised share of lesions.

A lesion's loss at a threshold is the share of its images that are not referred: between 0 and 1,
and never smaller at a higher threshold. Of n calibration lesions with mean loss R(t) the largest t
with

    n / (n + 1) R(t) + 1 / (n + 1) <= miss

loses `miss` of a new lesion at most, in expectation over calibration lesions and the new one, in
finite samples and whatever the model (Angelopoulos, Bates, Fisch, Lei and Schuster, Conformal Risk
Control, ICLR 2024, arXiv:2208.02814, theorem 1). What it takes is that the new lesion is like those
of calibration: another clinic's need not be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.conformal.scores import in_lesions
from lesionlab.taxonomy import MALIGNANT_RULE, canonical, malignancy_of

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

MISS = 0.05
"""Of malignant lesions, the share that a rule may leave unreferred unless another is asked for."""

MISS_MELANOMA = 0.03
"""Of melanomas, likewise."""

LIKELY = 0.5
"""Malignancy is likely from this probability on: no promise moves a threshold above it."""

_STEP = 1e-6  # thresholds lie at least so far below: processors differ by 1e-7 in a probability
_SLACK = 1e-9  # of lesions: sums of thirds are rounded


@dataclass(frozen=True)
class RiskLimit:
    """A threshold on the probability of some classes together, and what it promises.

    Attributes:
        name: such as malignancy or melanoma.
        classes: whose probabilities add up.
        threshold: from it on an image is referred, 0-1; 0 refers all.
        miss: share of such lesions that it leaves unreferred at most, 0-1.
        lesions: of these classes, that it rests on.
    """

    name: str
    classes: tuple[str, ...]
    threshold: float
    miss: float
    lesions: int

    @property
    def kept(self) -> bool:
        """Whether there were enough lesions for the promise; without, all is referred."""
        return _allowed(self.lesions, self.miss) >= 0


@dataclass(frozen=True)
class ReferralRule:
    """Which images are to be referred lest something malignant be missed.

    Referred is every image whose likeliest class is malignant (one that shares the first place
    counts), every one with a probability of malignancy of `LIKELY` or more, and every one that
    reaches a limit or an operating point, since an answer that shows a point reached and does not
    refer would contradict itself. A class of which nobody said whether it is malignant might be:
    with such a class, or without any malignant one, nothing can be promised and everything is
    referred.

    Attributes:
        classes: of the model, in their order.
        malignant: those that are.
        unknown: those that may be.
        limits: thresholds that keep a promise.
        points: by malignant class, the probability from which it is referred without a promise; see
            `operating_points`.
    """

    classes: tuple[str, ...]
    malignant: tuple[str, ...]
    unknown: tuple[str, ...]
    limits: tuple[RiskLimit, ...] = ()
    points: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, classes: Sequence[str], malignant: Sequence[str] | None = None) -> ReferralRule:
        """A rule without limits yet.

        Args:
            classes: of the model, in their order.
            malignant: those that are; None: by `taxonomy.MALIGNANT_RULE`.

        Raises:
            SettingsError: if one of those is no class.
        """
        kinds: dict[str, bool | None] = malignancy_of(classes)
        if malignant is not None:
            if wrong := [label for label in malignant if label not in classes]:
                raise SettingsError(
                    f"{', '.join(wrong)}: no class of the model. Malignant may be: "
                    f"{', '.join(classes)}."
                )
            kinds = {label: label in malignant for label in classes}
        return cls(
            tuple(classes),
            tuple(label for label in classes if kinds[label]),
            tuple(label for label in classes if kinds[label] is None),
        )

    @property
    def melanoma(self) -> tuple[str, ...]:
        """The malignant class that is melanoma, if there is one."""
        return tuple(label for label in self.malignant if canonical(label) == "mel")

    @property
    def refers_from(self) -> dict[str, float]:
        """By malignant class, the probability from which it is referred for itself alone."""
        return {
            label: min(
                self.points.get(label, 1.0),
                *(each.threshold for each in self.limits if label in each.classes),
                LIKELY,
            )
            for label in self.malignant
        }

    @property
    def refers_all(self) -> bool:
        """Whether nothing is left unreferred."""
        return (
            bool(self.unknown)
            or not self.malignant
            or not (self.limits or self.points)
            or any(each.threshold <= 0 for each in self.limits)
            or any(point <= 0 for point in self.points.values())
        )

    def is_malignant(self, label: str) -> bool | None:
        """Whether a class is malignant; None: nobody said."""
        return None if label in self.unknown else label in self.malignant

    def probability(self, probabilities: Floats, classes: Sequence[str]) -> Floats:
        """Probability of some classes together, shape (n,), from shape (n, classes)."""
        places = [self.classes.index(label) for label in classes]
        return np.asarray(probabilities[:, places].sum(axis=1).clip(0.0, 1.0))

    def likely(self, probabilities: Floats) -> Mask:
        """Which images are likely malignant, shape (n,)."""
        if not self.malignant:
            return np.zeros(len(probabilities), dtype=bool)
        malignant = probabilities[:, [self.classes.index(label) for label in self.malignant]]
        first = malignant.max(axis=1) >= probabilities.max(axis=1)
        return np.asarray(first | (malignant.sum(axis=1) >= LIKELY))

    def possible(self, probabilities: Floats) -> Mask:
        """Which images reach a limit or a point, shape (n,)."""
        if self.refers_all:
            return np.ones(len(probabilities), dtype=bool)
        thresholds = [(each.classes, each.threshold) for each in self.limits]
        thresholds += [((label,), point) for label, point in self.points.items()]
        reached = [
            self.probability(probabilities, classes) >= threshold
            for classes, threshold in thresholds
        ]
        return np.asarray(np.any(reached, axis=0))

    def refers(self, probabilities: Floats) -> Mask:
        """Which images are referred, shape (n,)."""
        return self.likely(probabilities) | self.possible(probabilities)

    @property
    def promise(self) -> str:
        """What is promised and to whom, in one sentence."""
        if not self.malignant or self.unknown:
            return f"Nothing can be promised, so every image is referred: {self._unanswerable}."
        missing = [each for each in self.limits if not each.kept]
        if missing:
            texts = [
                f"{per_hundred(each.miss)} of 100 {_cases(each.name)} takes "
                f"{_needed(each.miss)} of them to calibrate on, and there were {each.lesions}"
                for each in missing
            ]
            return f"Every image is referred: a promise to miss at most {'; '.join(texts)}."
        if not self.limits:
            return (
                "No risk is stated: this bundle was made before referral was fitted to one. It "
                "refers what its thresholds for 95 % sensitivity and its sets point to. Export the "
                "model again to get a promise."
            )
        shares = " and ".join(
            f"{per_hundred(each.miss)} of 100 {_cases(each.name)}" for each in self.limits
        )
        text = f"For lesions like those tested, at most {shares} are missed by this rule"
        return f"{text}; it takes to refer every image." if self.refers_all else f"{text}."

    @property
    def _unanswerable(self) -> str:
        if self.unknown:
            named = ", ".join(self.unknown)
            return f"whether {named} is malignant was not said ({MALIGNANT_RULE})"
        return f"none of the model's classes is malignant ({MALIGNANT_RULE})"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "method": "conformal risk control",
            "malignant": list(self.malignant),
            "unknown": list(self.unknown),
            "promise": self.promise,
            "limits": [
                {
                    "name": each.name,
                    "classes": list(each.classes),
                    "threshold": each.threshold,
                    "miss": each.miss,
                    "lesions": each.lesions,
                }
                for each in self.limits
            ],
            "points": dict(self.points),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], classes: Sequence[str]) -> ReferralRule:
        """Read what `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: if it is something else.
        """
        limits = tuple(
            RiskLimit(
                str(each["name"]),
                tuple(map(str, each["classes"])),
                float(each["threshold"]),
                float(each["miss"]),
                int(each["lesions"]),
            )
            for each in value["limits"]
        )
        points = {str(label): float(point) for label, point in value["points"].items()}
        malignant, unknown = tuple(value["malignant"]), tuple(value["unknown"])
        rule = cls(tuple(classes), malignant, unknown, limits, points)
        named = [malignant, unknown, points, *(each.classes for each in limits)]
        if not all(set(each) <= set(classes) for each in named):
            raise ValueError("referral by other classes")
        shares = [*points.values(), *(each.threshold for each in limits)]
        if not all(0 <= each <= 1 for each in shares) or not all(0 < e.miss < 1 for e in limits):
            raise ValueError("a threshold or a promise of referral that is no probability")
        return rule


def _cases(name: str) -> str:
    """What a limit is about, in words."""
    known = {"malignancy": "malignant lesions", "melanoma": "melanomas"}
    return known.get(name, f"lesions of {name}")


def threshold_at_miss(
    probabilities: Floats,
    lesions: Index,
    miss: float,
    *,
    referred: Mask | None = None,
    weights: Floats | None = None,
) -> float:
    """The largest threshold that leaves at most a promised share of new lesions unreferred.

    Args:
        probabilities: of what is looked for, of images of calibration lesions that are it,
            shape (n,), 0-1.
        lesions: numbers of their lesions, shape (n,).
        miss: the promised share, above 0 and below 1.
        referred: which of the images are referred whatever the threshold, shape (n,).
        weights: of the images, where a new lesion's is 1, shape (n,); None: all are alike.

    Returns:
        One of the probabilities, 1 where even that keeps the promise, or 0, which refers all, where
        there are too few lesions for it (fewer than 1 / miss - 1). An image is referred if its
        probability is the threshold or more.
    """
    _, number, sizes = np.unique(lesions, return_inverse=True, return_counts=True)
    loss = (1 / sizes)[number] if len(sizes) else np.zeros(0)
    if weights is not None:
        loss = loss * weights
    allowed = _allowed(float(loss.sum()), miss)
    if allowed < 0:
        return 0.0
    if referred is not None:
        loss = np.where(referred, 0.0, loss)
    order = np.argsort(probabilities, kind="stable")
    candidates, first = np.unique(probabilities[order], return_index=True)
    below = np.concatenate([[0.0], np.cumsum(loss[order])])  # what thresholds at each place lose
    good = np.flatnonzero(below[first] <= allowed + _SLACK)
    if below[-1] <= allowed + _SLACK:
        return 1.0
    return float(candidates[good[-1]])


def fit_referral(
    probabilities: Floats,
    targets: Index,
    lesions: Index,
    classes: Sequence[str],
    *,
    miss: float = MISS,
    miss_melanoma: float = MISS_MELANOMA,
    malignant: Sequence[str] | None = None,
    weights: Floats | None = None,
) -> ReferralRule:
    """Fit the limits of referral on calibration images, for malignancy and for melanoma.

    Each limit keeps its promise alone, so the rule, which refers what reaches either, keeps both.

    Args:
        probabilities: as they are shown, calibrated and averaged over views, shape (n, k).
        targets: positions of the true classes, shape (n,).
        lesions: numbers of the lesions, shape (n,).
        classes: k names.
        miss: share of malignant lesions that may go unreferred, above 0 and below 1.
        miss_melanoma: share of melanomas that may.
        malignant: the malignant ones of the classes; None: by `taxonomy.MALIGNANT_RULE`.
        weights: of the images where the promise is to hold for others too, as `density_ratio` gives
            them, shape (n,): the lower of both thresholds counts, and without weights where these
            leave too few lesions.

    Raises:
        SettingsError: if a share is not between 0 and 1, or what is malignant is no class.
    """
    for name, share in (("miss", miss), ("miss-melanoma", miss_melanoma)):
        if not 0 < share < 1:
            raise SettingsError(f"{name} is {share:g}: give a share above 0 and below 1, say 0.05.")
    rule = ReferralRule.of(classes, malignant)
    wanted = {"malignancy": (rule.malignant, miss)} if rule.malignant else {}
    if rule.melanoma:
        wanted["melanoma"] = (rule.melanoma, miss_melanoma)
    referred = rule.likely(probabilities)
    limits = []
    for name, (members, share) in wanted.items():
        cases = np.isin(targets, [rule.classes.index(label) for label in members])
        own = rule.probability(probabilities, members)[cases], lesions[cases]
        threshold = threshold_at_miss(*own, share, referred=referred[cases])
        if weights is not None and weights[cases].any():
            counted = in_lesions(weights[cases], lesions[cases])
            there = threshold_at_miss(*own, share, referred=referred[cases], weights=counted)
            threshold = min(threshold, there) if there > 0 else threshold
        threshold = min(LIKELY, _lowered(threshold))
        limits.append(RiskLimit(name, members, threshold, share, len(np.unique(lesions[cases]))))
    return replace(rule, limits=tuple(limits))


def strictest(rules: Sequence[ReferralRule]) -> ReferralRule:
    """Of rules for the same classes, the one with the lowest of their thresholds.

    It keeps the promise wherever one of them does: with age, sex and site known, say, and without.

    Raises:
        DataError: if they are of different classes or limits.
    """
    shapes = {(rule.classes, tuple(each.name for each in rule.limits)) for rule in rules}
    if len(shapes) != 1:
        raise DataError("Rules of different classes or limits have no strictest one.")
    limits = zip(*(rule.limits for rule in rules), strict=True)
    return replace(
        rules[0], limits=tuple(min(each, key=lambda limit: limit.threshold) for each in limits)
    )


def operating_points(
    malignant: Sequence[str], thresholds: Mapping[str, float], coverage_limits: Mapping[str, float]
) -> dict[str, float]:
    """Where an answer itself points to a malignant class, so that it has to be referred.

    Args:
        malignant: classes.
        thresholds: operating points by name, such as at_95_sensitivity/mel.
        coverage_limits: of each class, the probability from which it is in the conformal set.

    Returns:
        By malignant class, the lowest of its points of a sensitivity and of its way into the set.
    """
    return {
        label: _lowered(
            min(
                [coverage_limits[label]]
                + [at for name, at in thresholds.items() if name.endswith(f"_sensitivity/{label}")]
            )
        )
        for label in malignant
    }


def per_hundred(share: float) -> str:
    """A share as a number of 100, such as 5 or 2.5."""
    return f"{100 * share:.3g}"


def _lowered(threshold: float) -> float:
    """A threshold a little lower, with few digits; never below 0."""
    return max(0.0, round((floor(threshold / _STEP) - 1) * _STEP, 6))


def _allowed(lesions: float, miss: float) -> float:
    """How many lesions may be lost at most; below 0: there are too few for the promise."""
    allowed = miss * (lesions + 1) - 1
    return 0.0 if -_SLACK <= allowed < 0 else allowed


def _needed(miss: float) -> int:
    """Lesions that a promise takes."""
    return ceil(1 / miss - 1 - _SLACK)
