"""Metrics of a classifier as functions of replicate weights, shape (r, n).

With unit weights every value equals scikit-learn's; with bootstrap weights it equals
scikit-learn's on the rows really drawn. Sums of whole weights are exact, so no count depends on
block size, number of threads or order of rows. What is not defined is nan, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lesionlab.evaluation.intervals.bootstrap import Measure, Weights
from lesionlab.evaluation.intervals.estimate import Range, Values
from lesionlab.evaluation.metrics.partial_auc import areas_of
from lesionlab.evaluation.metrics.ranking import auroc_of, average_precision_of, blockwise, rank
from lesionlab.numerics import ratio

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]


def decide(probabilities: Floats) -> Index:
    """The predicted class of each image: the likeliest; of equals, the first in the class order.

    Args:
        probabilities: shape (n, k).

    Returns:
        Positions in the class order, shape (n,).
    """
    best: Index = np.argmax(probabilities, axis=1)
    return best


def confusion(weights: Weights, targets: Index, predicted: Index, classes: int) -> Floats:
    """Weighted confusion matrices, by matrix products.

    Args:
        weights: shape (r, n).
        targets: true classes 0..classes - 1, shape (n,).
        predicted: predicted classes 0..classes - 1, shape (n,).
        classes: how many classes there are (k).

    Returns:
        Shape (r, k, k): [replicate, truth, prediction].
    """
    out = np.zeros((len(weights), classes, classes))
    columns = np.arange(classes)
    for label in range(classes):
        rows = np.flatnonzero(targets == label)
        answers = (predicted[rows, None] == columns).astype(np.float64)
        out[:, label] = weights[:, rows] @ answers
    return out


def recall(confusions: Floats) -> Floats:
    """Share of each class's images that are recognised, shape (r, k); nan for an absent class."""
    return ratio(_hits(confusions), confusions.sum(axis=2))


def precision(confusions: Floats) -> Floats:
    """Share of right answers among a class's predictions, shape (r, k); nan if never predicted."""
    return ratio(_hits(confusions), confusions.sum(axis=1))


def f1(confusions: Floats) -> Floats:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), shape (r, k).

    0 for a class that is present and never predicted, nan only for one that is neither.
    """
    return ratio(2 * _hits(confusions), confusions.sum(axis=1) + confusions.sum(axis=2))


def specificity(confusions: Floats) -> Floats:
    """Share of the other classes' images that are not called this class, shape (r, k)."""
    answered = confusions.sum(axis=1)
    others = confusions.sum(axis=(1, 2))[:, None] - confusions.sum(axis=2)
    return ratio(others - (answered - _hits(confusions)), others)


def macro(values: Floats, over: Mask | None = None) -> Values:
    """Mean over classes, every class with the same weight.

    Args:
        values: shape (r, k).
        over: the classes to average, shape (k,). nan among them gives nan: a mean over other
            classes would be another quantity. None: all that are defined, replicate by replicate.

    Returns:
        Shape (r,); nan where there is nothing to average.
    """
    if over is not None:
        chosen = values[:, over]
        return ratio(chosen.sum(axis=1), np.full(len(values), float(chosen.shape[1])))
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1).astype(np.float64))


def balanced_accuracy(confusions: Floats, over: Mask | None = None) -> Values:
    """Mean recall over the classes present among the targets, shape (r,), 0-1.

    The primary metric of ISIC 2018 task 3 (challenge.isic-archive.com/landing/2018/47). It is the
    mean of recalls, not of precisions, which some papers print under the same name.

    Args:
        confusions: shape (r, k, k).
        over: as in `macro`; None takes the classes present in each replicate, as scikit-learn does.
    """
    return macro(recall(confusions), over)


def accuracy(confusions: Floats) -> Values:
    """Share of images whose class is right, shape (r,), 0-1."""
    return ratio(_hits(confusions).sum(axis=1), confusions.sum(axis=(1, 2)))


def majority_accuracy(confusions: Floats) -> Values:
    """Accuracy of always answering the most frequent class among the targets, shape (r,)."""
    support = confusions.sum(axis=2)
    return ratio(support.max(axis=1), support.sum(axis=1))


def cohen_kappa(confusions: Floats) -> Values:
    """Agreement of decision and truth beyond chance, shape (r,), -1 to 1, 0 = chance.

    Cohen, Educ. Psychol. Meas. 20:37-46, 1960. nan where chance agrees always: one class on both
    sides.
    """
    total = confusions.sum(axis=(1, 2))
    chance = (confusions.sum(axis=1) * confusions.sum(axis=2)).sum(axis=1)
    return ratio(_hits(confusions).sum(axis=1) * total - chance, total**2 - chance)


def matthews(confusions: Floats) -> Values:
    """Matthews correlation of decision and truth for any number of classes, shape (r,), -1 to 1.

    Gorodkin, Comput. Biol. Chem. 28:367-374, 2004. 0 where only decision or truth is of one class;
    nan where both are of the same one, for which scikit-learn says 0.
    """
    total = confusions.sum(axis=(1, 2))
    answers, truths = confusions.sum(axis=1), confusions.sum(axis=2)
    chance = (answers * truths).sum(axis=1)
    spread = (total**2 - (answers**2).sum(axis=1)) * (total**2 - (truths**2).sum(axis=1))
    values = ratio(_hits(confusions).sum(axis=1) * total - chance, np.sqrt(spread))
    return np.where((spread == 0) & (total**2 > chance), 0.0, values)


def places(targets: Index, probabilities: Floats) -> Index:
    """Where the true class stands among all, likeliest first: 0 is the decision itself.

    Of equals, the first in the class order stands first, as in `decide`.

    Args:
        targets: true classes as positions, shape (n,).
        probabilities: shape (n, k).
    """
    own = probabilities[np.arange(len(targets)), targets][:, None]
    earlier = np.arange(probabilities.shape[1]) < targets[:, None]
    ahead: Index = ((probabilities > own) | ((probabilities == own) & earlier)).sum(axis=1)
    return ahead


def share(weights: Weights, which: Mask) -> Values:
    """Share of the images that `which` marks, shape (r,), 0-1."""
    return ratio(weights @ which.astype(np.float64), weights.sum(axis=1))


def brier(weights: Weights, targets: Index, probabilities: Floats) -> Values:
    """Brier score: squared errors of all classes' probabilities, summed, mean over images.

    Brier's own definition (Mon. Weather Rev. 78:1-3, 1950), 0-2, lower is better: 2 is a sure and
    wrong answer, 1 - 1/k the same probability for every class. With two classes it is twice the
    binary score.

    Args:
        weights: shape (r, n).
        targets: true classes as positions, shape (n,).
        probabilities: shape (n, k), 0-1.
    """
    truth = np.arange(probabilities.shape[1]) == targets[:, None]
    errors = ((probabilities - truth) ** 2).sum(axis=1)
    # as in `log_loss`: no matrix product
    return ratio((weights * errors).sum(axis=1), weights.sum(axis=1))


def log_loss(weights: Weights, targets: Index, probabilities: Floats) -> Values:
    """Mean of -log of the true class's probability, shape (r,), 0 or more; lower is better.

    A probability of 0 counts as 2.2e-16, as in scikit-learn: a sure and wrong answer costs 36.

    Args:
        weights: shape (r, n).
        targets: true classes as positions, shape (n,).
        probabilities: shape (n, k), 0-1.
    """
    chosen = probabilities[np.arange(len(targets)), targets]
    losses = -np.log(np.maximum(chosen, np.finfo(np.float64).eps))
    # no matrix product: summed row by row, no block size changes a digit
    return ratio((weights * losses).sum(axis=1), weights.sum(axis=1))


def _hits(confusions: Floats) -> Floats:
    return np.diagonal(confusions, axis1=1, axis2=2)


def classification(targets: Index, probabilities: Floats, classes: Sequence[str]) -> Measure[str]:
    """All metrics of decisions and of rankings that need nothing but the scored images.

    Macro means run over the classes present among `targets`; a replicate in which one of these was
    not drawn is not defined.

    Args:
        targets: true classes as positions in `classes`, shape (n,).
        probabilities: shape (n, k), 0-1.
        classes: names, length k.

    Returns:
        A measure of balanced_accuracy, macro_auroc, macro_f1, macro_precision,
        macro_average_precision, weighted_f1, weighted_precision, accuracy, majority_accuracy,
        log_loss, brier, cohen_kappa, matthews, top_2_accuracy and top_3_accuracy (with more
        classes than that) and, for each class, recall, precision, f1, specificity, auroc,
        average_precision,
        pauc_above_80_sensitivity and auc_sens_80 as "recall/mel".
    """
    k = len(classes)
    predicted = decide(probabilities)
    present = np.bincount(targets, minlength=k) > 0
    rankings = [rank(targets == i, probabilities[:, i]) for i in range(k)]
    place = places(targets, probabilities)
    tops = {f"top_{most}_accuracy": place < most for most in (2, 3) if most < k}

    def compute(weights: Weights) -> Mapping[str, Values]:
        counts = confusion(weights, targets, predicted, k)
        functions = (auroc_of, average_precision_of, areas_of)
        ranked = [blockwise(functions, weights, each) for each in rankings]
        per_class = {
            "recall": recall(counts),
            "precision": precision(counts),
            "f1": f1(counts),
            "specificity": specificity(counts),
            "auroc": np.stack([each[0] for each in ranked], axis=1),
            "average_precision": np.stack([each[1] for each in ranked], axis=1),
            "pauc_above_80_sensitivity": np.stack([each[2][:, 0] for each in ranked], axis=1),
            "auc_sens_80": np.stack([each[2][:, 1] for each in ranked], axis=1),
        }
        drawn = (counts.sum(axis=2)[:, present] > 0).all(axis=1)

        def mean(name: str) -> Values:
            return np.where(drawn, macro(per_class[name], present), np.nan)

        support = counts.sum(axis=2)

        def weighted(name: str) -> Values:
            parts = np.where(support > 0, support * per_class[name], 0.0)
            return ratio(parts.sum(axis=1), support.sum(axis=1))

        values: dict[str, Values] = {
            "balanced_accuracy": mean("recall"),
            "macro_auroc": mean("auroc"),
            "macro_f1": mean("f1"),
            "macro_precision": mean("precision"),
            "macro_average_precision": mean("average_precision"),
            "weighted_f1": weighted("f1"),
            "weighted_precision": weighted("precision"),
            "accuracy": accuracy(counts),
            "majority_accuracy": majority_accuracy(counts),
            "log_loss": log_loss(weights, targets, probabilities),
            "brier": brier(weights, targets, probabilities),
            "cohen_kappa": cohen_kappa(counts),
            "matthews": matthews(counts),
        }
        values |= {name: share(weights, right) for name, right in tops.items()}
        for name, table in per_class.items():
            values |= {f"{name}/{label}": table[:, i] for i, label in enumerate(classes)}
        return values

    basis: dict[str, Mask] = {}
    for i, label in enumerate(classes):
        truth, answer = targets == i, predicted == i
        basis |= {f"recall/{label}": truth, f"precision/{label}": answer}
        basis |= {f"f1/{label}": truth | answer, f"specificity/{label}": ~truth}
    kinds = ("recall", "precision", "specificity")
    shares = {f"{name}/{label}" for name in kinds for label in classes}
    return Measure(
        compute, basis, frozenset(shares | {"accuracy", *tops}), _ranges(targets, basis, classes)
    )


def _ranges(targets: Index, basis: Mapping[str, Mask], classes: Sequence[str]) -> dict[str, Range]:
    """The ranges of all that is no plain share of images, with the strata of each."""
    of_class = {label: targets == i for i, label in enumerate(classes)}
    present = {label: mask for label, mask in of_class.items() if mask.any()}
    alone = tuple(present.values())
    sides = tuple(each for mask in alone for each in (mask, ~mask))
    everyone = (np.ones(len(targets), dtype=bool),)
    macro_of_shares = Range(strata=alone, parts=len(alone))
    macro_of_pairs = Range(strata=sides, parts=len(alone))
    found = {
        "balanced_accuracy": macro_of_shares,
        "macro_f1": macro_of_shares,
        "macro_precision": macro_of_shares,
        "macro_auroc": macro_of_pairs,
        "macro_average_precision": macro_of_pairs,
        "majority_accuracy": Range(strata=everyone),
        "weighted_f1": Range(strata=everyone),
        "weighted_precision": Range(strata=everyone),
        "log_loss": Range(high=np.inf),
        "brier": Range(high=2.0),
        "cohen_kappa": Range(low=-1.0),
        "matthews": Range(low=-1.0),
    }
    for label, mask in of_class.items():
        pairs = Range(strata=(mask, ~mask))
        found |= {
            f"{name}/{label}": pairs for name in ("auroc", "average_precision", "auc_sens_80")
        }
        found[f"pauc_above_80_sensitivity/{label}"] = Range(high=0.2, strata=pairs.strata)
        found[f"f1/{label}"] = Range(strata=(basis[f"f1/{label}"],))
    return found
