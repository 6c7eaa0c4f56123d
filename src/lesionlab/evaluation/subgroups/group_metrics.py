"""Figures of a group of images on bootstrap replicates, class by class, for means to be chosen.

A mean over classes is only comparable between groups if it runs over the same classes. So recall,
AUROC and specificity are kept per class, and `Figures.metric` averages those it is told to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lesionlab.evaluation.intervals.bootstrap import Weights, lesion_codes
from lesionlab.evaluation.intervals.estimate import Values
from lesionlab.evaluation.metrics.classification import confusion, decide, recall
from lesionlab.evaluation.metrics.ranking import auroc, rank
from lesionlab.numerics import ratio

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

MEANS = ("balanced_accuracy", "macro_auroc", "mean_specificity")
"""Metrics, by the first word of their names, that are means over chosen classes."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Everything of the scored images that figures need.

    Attributes:
        targets: true classes as positions, shape (n,).
        probabilities: shape (n, k).
        classes: their names, length k.
        lesions: lesion numbers, shape (n,).
        positive: position of the class of the operating point; -1 where there is none.
        threshold: of its probability, chosen on val; nan where there is none.
    """

    targets: Index
    probabilities: Floats
    classes: tuple[str, ...]
    lesions: Index
    positive: int
    threshold: float

    @classmethod
    def of(
        cls,
        targets: Index,
        probabilities: Floats,
        classes: tuple[str, ...],
        lesions: Sequence[str] | NDArray[np.object_],
        positive: str,
        threshold: float,
    ) -> Scored:
        """Put the pieces together; lesions by their ids."""
        at = classes.index(positive) if positive in classes else -1
        return cls(targets, probabilities, classes, lesion_codes(lesions)[0], at, threshold)

    def lesions_of(self, mask: Mask) -> int:
        """How many lesions some images show."""
        return len(np.unique(self.lesions[mask]))

    def present(self, mask: Mask, least: int) -> Mask:
        """Which classes have at least so many lesions among some images, shape (k,)."""
        counts = [self.lesions_of(mask & (self.targets == i)) for i in range(len(self.classes))]
        return np.array(counts) >= least


@dataclass(frozen=True, eq=False)
class Figures:
    """One group's figures, a row per replicate, nan where not defined.

    Attributes:
        recall: share of each class's images that are recognised, shape (r, k).
        auroc: of each class against the others within the group, shape (r, k).
        spared: share of each class's images that are below the threshold, shape (r, k).
        accuracy: shape (r,).
        overconfidence: mean probability of the decision minus accuracy, shape (r,).
        specificity: share of all images but the positive class's that are below it, shape (r,).
    """

    recall: Floats
    auroc: Floats
    spared: Floats
    accuracy: Values
    overconfidence: Values
    specificity: Values

    @classmethod
    def of(cls, weights: Weights, scored: Scored, mask: Mask, wanted: Mask) -> Figures:
        """Compute them.

        Args:
            weights: replicate weights of all scored images, shape (r, n).
            scored: these images.
            mask: the group, shape (n,).
            wanted: classes whose AUROC is needed, shape (k,); the others get nan.
        """
        own = weights[:, mask]
        targets, probabilities = scored.targets[mask], scored.probabilities[mask]
        k = len(scored.classes)
        decided = decide(probabilities)
        confusions = confusion(own, targets, decided, k)
        total = own.sum(axis=1)
        accuracy = ratio(np.diagonal(confusions, axis1=1, axis2=2).sum(axis=1), total)
        confidence = probabilities[np.arange(len(targets)), decided]
        areas = np.full((len(own), k), np.nan)
        for i in np.flatnonzero(wanted):
            areas[:, i] = auroc(own, rank(targets == i, probabilities[:, i]))
        below = probabilities[:, scored.positive] < scored.threshold
        truth = targets[:, None] == np.arange(k)
        counts = own @ truth.astype(np.float64)
        spared = own @ (truth & below[:, None]).astype(np.float64)
        others = np.arange(k) != scored.positive
        return cls(
            recall(confusions),
            areas,
            ratio(spared, counts),
            accuracy,
            ratio((own * confidence).sum(axis=1), total) - accuracy,
            ratio(spared[:, others].sum(axis=1), counts[:, others].sum(axis=1)),
        )

    @classmethod
    def joined(cls, blocks: Sequence[Figures]) -> Figures:
        """Blocks of replicates as one."""
        return cls(
            *(
                np.concatenate([getattr(each, name) for each in blocks])
                for name in cls.__dataclass_fields__
            )
        )

    def softened(self, scored: Scored, mask: Mask, rng: np.random.Generator) -> Figures:
        """The same, with uncertainty where the bootstrap sees none: in shares of exactly 0 or 1.

        A share of 12 out of 12 is 1 in every replicate, as if it were known. Its replicates are
        drawn instead from what 12 trials leave open: from the distribution whose quantiles are the
        exact binomial limits (Clopper and Pearson, Biometrika 26:404-413, 1934), with lesions as
        trials. Values stay.

        Args:
            scored: the images.
            mask: the group, shape (n,).
            rng: for the draws.
        """
        k = len(scored.classes)
        own = [scored.lesions_of(mask & (scored.targets == i)) for i in range(k)]
        others = scored.lesions_of(mask & (scored.targets != scored.positive))
        return replace(
            self,
            recall=_softened(self.recall, own, rng),
            spared=_softened(self.spared, own, rng),
            accuracy=_softened(self.accuracy[:, None], [scored.lesions_of(mask)], rng)[:, 0],
            specificity=_softened(self.specificity[:, None], [others], rng)[:, 0],
        )

    def metric(self, name: str, positive: int, over: Mask) -> Values:
        """One metric, shape (r,).

        Args:
            name: its first word, such as "balanced_accuracy".
            positive: position of the positive class.
            over: classes to average, shape (k,); only for `MEANS`.
        """
        if name == "sensitivity":
            return 1 - self.spared[:, positive]
        if name == "auroc":
            return self.auroc[:, positive]
        if name in MEANS:
            table = {
                "balanced_accuracy": self.recall,
                "macro_auroc": self.auroc,
                "mean_specificity": self.spared,
            }[name]
            chosen = table[:, over]
            return ratio(chosen.sum(axis=1), np.full(len(chosen), float(over.sum())))
        found: Values = getattr(self, name)
        return found


def _softened(shares: Floats, trials: Sequence[int], rng: np.random.Generator) -> Floats:
    """Columns whose first value is 0 or 1, drawn anew below it; shape (r, columns)."""
    made = shares.copy()
    for column, count in enumerate(trials):
        value = shares[0, column]
        drawn = rng.beta(1, max(count, 1), len(shares) - 1)  # always: no draw shifts another's
        if value in (0.0, 1.0):
            new = drawn if value == 0 else 1 - drawn
            made[1:, column] = np.where(np.isnan(shares[1:, column]), np.nan, new)
    return made
