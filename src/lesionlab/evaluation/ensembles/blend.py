"""Ensembles from predictions tables: several models' probabilities made one.

Whatever is fitted (weights, a stack) is fitted on the rows of part val and on nothing else: no row
of test has any part in it. An ensemble of one is that one, whatever the method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import DataError, FindingsError, SettingsError
from lesionlab.evaluation.ensembles.member_weights import (
    best_weights,
    greedy_weights,
    mixture_weights,
)
from lesionlab.evaluation.ensembles.result import Blend
from lesionlab.evaluation.ensembles.stacking import Stack, stack
from lesionlab.evaluation.intervals.bootstrap import lesion_codes
from lesionlab.evaluation.predictions.align import disagreements, in_class_order, known_lesions
from lesionlab.evaluation.predictions.load import Source, open_all
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import PARTS, Finding, classes_of, describe, findings_table

Floats = NDArray[np.float64]
Method = Literal["mean", "weighted", "rank", "greedy", "stacking"]
Metric = Literal["log_loss", "balanced_accuracy", "macro_auroc", "accuracy"]

METHODS: Mapping[str, tuple[str, ...]] = {
    "mean": (),
    "rank": (),
    "weighted": ("log_loss", "balanced_accuracy", "macro_auroc", "accuracy"),
    "greedy": ("log_loss", "balanced_accuracy", "macro_auroc", "accuracy"),
    "stacking": ("log_loss", "balanced_accuracy"),
}
"""Every method with the figures of val that it can be fitted for, the default first."""


def blend(
    members: Sequence[Source] | Mapping[str, Source],
    *,
    method: Method = "mean",
    metric: Metric | None = None,
    seed: int = 0,
    listen: Listener = silent,
) -> Blend:
    """Combine models by their predictions on the same images.

    - mean: the mean of the probabilities, class by class (Keras' Average layer).
    - weighted: a mean with weights of 0 or more that add up to 1, the best ones on val.
    - rank: within each part, an image's probability of a class becomes the share of the part's
      images that have a lower one (equal ones counted half); these are averaged over the members
      and divided by their sum over the classes. It needs members that rank well, not calibrated
      ones, and it depends on which images are predicted together. The result is no probability.
    - greedy: starting from none, again and again the member that helps the mean most on val, with
      repetition (Caruana et al., ICML 2004).
    - stacking: multinomial logistic regression on the members' log-probabilities (Wolpert, Neural
      Networks 5:241-259, 1992). Its regularisation is chosen on val in folds that keep lesions
      together, and the rows of val get the answers of the folds that had not seen them. Fitted for
      balanced_accuracy, every class weighs the same; for log_loss, every image.

    Of weighted and greedy, figures on val are slightly too good: their weights were fitted there.

    Args:
        members: runs, their folders, tables or files; as a mapping, under names of your own.
        method: one of the above.
        metric: what is fitted for: log_loss (the default), balanced_accuracy, macro_auroc or
            accuracy; only for weighted, greedy and stacking (the first two of the four).
        seed: of the random candidates of weighted and the folds of stacking.
        listen: told what was left out.

    Returns:
        The ensemble: parts that all members have, sorted by image_id, classes in the first member's
        order. One member alone comes back as it is, bit for bit.

    Raises:
        FindingsError: with all that the members disagree about: classes, images that one lacks,
            targets, lesions, and parts (one has trained on what another is tested on).
        DataError: if there is no common part, or no val to fit on.
        SettingsError: if a method or metric does not exist, or do not belong together.
    """
    chosen = _metric_of(method, metric)
    tables = in_class_order(_named(members))
    names = tuple(tables)
    if len(tables) == 1:
        alone = {names[0]: 1.0} if method not in ("rank", "stacking") else {}
        return Blend(tables[names[0]], names, method, "", seed, alone)
    rows, probabilities = _aligned(tables, listen)
    classes = classes_of(tables[names[0]])
    targets = pd.Index(classes).get_indexer(pd.Index(rows["target"]))
    val = (rows["part"] == "val").to_numpy(dtype=bool)
    fitted_on: dict[str, Any] = {}
    if METHODS[method]:
        fitted_on = _fitted_on(rows[val], method)
    seen, truth = probabilities[:, val], targets[val]
    weights: Floats | None = None
    fitted: Stack | None = None
    if method == "mean":
        weights = np.full(len(names), 1 / len(names))
        made = probabilities.mean(axis=0)
    elif method == "rank":
        made = _ranked(probabilities, rows["part"])
    elif method == "stacking":
        lesions = lesion_codes(rows.loc[val, "lesion_id"].to_numpy(dtype=object))[0]
        fitted, own = stack(seen, truth, lesions, classes, metric=chosen, seed=seed)
        made = fitted.answer(probabilities)
        made[val] = own
    else:
        if method == "greedy":
            weights = greedy_weights(seen, truth, chosen)
        elif chosen == "log_loss":
            weights = mixture_weights(seen, truth)
        else:
            weights = best_weights(seen, truth, chosen, seed)
        made = np.tensordot(weights, probabilities, axes=1)
    columns = pd.DataFrame(made, columns=[f"p_{label}" for label in classes])
    shares = {} if weights is None else dict(zip(names, map(float, weights), strict=True))
    table = pd.concat([rows, columns], axis=1)
    return Blend(table, names, method, chosen, seed, shares, fitted_on, fitted)


def _metric_of(method: str, metric: str | None) -> str:
    if method not in METHODS:
        raise SettingsError(f"{method!r} is no method. Choose one of {', '.join(METHODS)}.")
    can = METHODS[method]
    if metric is None:
        return can[0] if can else ""
    if not can:
        raise SettingsError(f"{method} fits nothing: leave out the metric ({metric}).")
    if metric not in can:
        raise SettingsError(f"{method} is fitted for {' or '.join(can)}, not for {metric!r}.")
    return metric


def _named(members: Sequence[Source] | Mapping[str, Source]) -> dict[str, pd.DataFrame]:
    if not len(members):
        raise SettingsError("There is nothing to blend: name at least one run or predictions CSV.")
    return open_all(members)


def _aligned(
    tables: Mapping[str, pd.DataFrame], listen: Listener
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """The images of the common parts, and the probabilities, shape (members, images, classes)."""
    parts = [part for part in PARTS if all((t["part"] == part).any() for t in tables.values())]
    faults = disagreements(tables, ("target", "part", "lesion_id"))
    common = {name: t[t["part"].isin(parts)].set_index("image_id") for name, t in tables.items()}
    images = pd.Index(sorted(set().union(*(set(table.index) for table in common.values()))))
    for name, table in tables.items():
        for image in images.difference(pd.Index(table["image_id"]), sort=True):
            text = f"{image} is not in {name}"
            faults.append(Finding("missing_image", text, column="image_id", image_id=str(image)))
    if faults:
        found = findings_table(faults)
        raise FindingsError(
            f"These predictions cannot be blended:\n{describe(found)}\n"
            "Members must have been trained on the same split and predict the same images: what "
            "one has learnt from and another is tested on would make the ensemble look too good.",
            found,
        )
    if not parts:
        listed = "; ".join(
            f"{name}: {', '.join(sorted(set(table['part']))) or 'no rows at all'}"
            for name, table in tables.items()
        )
        raise DataError(
            f"No part (train, val, test) is in all predictions ({listed}). Predict the same part "
            "with every member."
        )
    left = sorted(set().union(*(set(table["part"]) for table in tables.values())) - set(parts))
    if left:
        listen(Notice(f"Left out: part {' and '.join(left)}, which not every member predicts."))
    first = common[next(iter(common))].loc[images]
    rows = first[["target", "part"]].reset_index(names="image_id")
    rows.insert(1, "lesion_id", known_lesions(tables, rows["image_id"]))
    columns = [f"p_{label}" for label in classes_of(first)]
    return rows, np.stack([t.loc[images, columns].to_numpy(np.float64) for t in common.values()])


def _fitted_on(val: pd.DataFrame, method: str) -> dict[str, Any]:
    if val.empty:
        raise DataError(
            f"{method} is fitted on part val, which these predictions do not all have, and never "
            "on test. Predict val images too and mark them so in column part, or take the mean."
        )
    lesions = lesion_codes(val["lesion_id"].to_numpy(dtype=object))[1]
    return {"part": "val", "images": len(val), "lesions": lesions}


def _ranked(probabilities: Floats, part: pd.Series) -> Floats:
    """Shares of lower values within each part, averaged over the members, rows adding up to 1."""
    shares = np.empty_like(probabilities)
    for name in part.unique():
        here = (part == name).to_numpy(dtype=bool)
        for member, values in enumerate(probabilities):
            ranks = pd.DataFrame(values[here]).rank(method="average").to_numpy()
            shares[member, here] = (ranks - 0.5) / here.sum()
    mean = shares.mean(axis=0)
    return np.asarray(mean / mean.sum(axis=1, keepdims=True))
