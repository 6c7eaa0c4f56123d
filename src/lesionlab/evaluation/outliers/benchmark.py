"""`detect_outliers`: does a score tell other images from those that a network was made for?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.advice import command
from lesionlab.display import Result
from lesionlab.embeddings import Embeddings
from lesionlab.errors import DataError
from lesionlab.evaluation.intervals.bootstrap import Measure, Weights, estimates, lesion_codes
from lesionlab.evaluation.intervals.estimate import Estimate, Range, Values
from lesionlab.evaluation.metrics.ranking import Floats, Mask, auroc, rank
from lesionlab.evaluation.outliers.detectors import (
    ALARMS,
    METHODS,
    NEIGHBOURS,
    OF_EMBEDDINGS,
    Detector,
    Method,
    fit_detector,
)
from lesionlab.files import write_csv, write_json
from lesionlab.numerics import ratio
from lesionlab.progress import Listener, Notice, silent

TPR = 0.95
"""Share of our own images that are let through where `let_through_at_95` is read off."""

FEW_GROUPS = 10
"""With fewer lesions, or photographs, than this on a side no interval is given."""

FIGURES = ("auroc", "let_through_at_95", "alarms_ours", "alarms_others")


@dataclass(frozen=True, eq=False, repr=False)
class Outliers(Result):
    """Scores of our own and of other images, and how well they are told apart.

    Attributes:
        detectors: by method, to be kept and used.
        estimates: by (method, set of other images, figure): "auroc" (a random other image scores
            higher than a random one of part test); "let_through_at_95" (share of the others that
            pass where 95 % of part test pass: "FPR at 95 % TPR", ours being the positives);
            "alarms_ours" and "alarms_others" (shares above the threshold from val).
        scores: one row per image and method: image_id, set ("" = ours), method, score, unlike.
        warnings: what a reader must know.
    """

    detectors: Mapping[Method, Detector]
    estimates: Mapping[tuple[str, str, str], Estimate]
    scores: pd.DataFrame
    warnings: tuple[str, ...]

    def __getitem__(self, key: tuple[str, str, str]) -> Estimate:
        return self.estimates[key]

    def table(self) -> pd.DataFrame:
        """Columns method, others, figure, value, low, high, images and groups."""
        rows = [
            (*key, each.value, each.low, each.high, each.n, each.groups)
            for key, each in self.estimates.items()
        ]
        columns = ["method", "others", "figure", "value", "low", "high", "images", "groups"]
        return pd.DataFrame(rows, columns=columns)

    def save(self, folder: str | Path) -> None:
        """Write figures.csv, scores.csv, warnings and each detector (METHOD.json and .npz)."""
        folder = Path(folder)
        write_csv(folder / "figures.csv", self.table())
        write_csv(folder / "scores.csv", self.scores)
        write_json(folder / "warnings.json", list(self.warnings))
        for name, detector in self.detectors.items():
            detector.save(folder / name)

    def __repr__(self) -> str:
        told = {others for _, others, _ in self.estimates}
        return f"<Outliers: {', '.join(self.detectors)} against {', '.join(sorted(told))}>"


def detect_outliers(
    ours: Embeddings | Path | str,
    others: Mapping[str, Embeddings | Path | str] | Sequence[Path | str] = (),
    *,
    methods: Sequence[Method] = METHODS,
    alarms: float = ALARMS,
    neighbours: int = NEIGHBOURS,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Outliers:
    """Fit scores of unlikeness on part train, thresholds on val, and try them on other images.

    Args:
        ours: the folder that `embed` wrote of a run and the catalogue it was trained on.
        others: folders that `embed` wrote of the same run and other images, by name. Images without
            a lesion_id count as one each; photographs that were cut up should share one. None:
            detectors are fitted, and part test is scored alone.
        methods: mahalanobis, relative and neighbours are of embeddings, the others of logits.
        alarms: how often an image like those of val may be called unlike, above 0 and below 1.
        neighbours: k of method neighbours.
        replicates: of the bootstrap over lesions; 0 gives no intervals.
        seed: of the bootstrap.
        listen: told of the progress and of every warning.

    Raises:
        DataError: if ours has no train, val or test part, or others come from another network.
        RunError: if a folder is none of embeddings, or has no logits.
        SettingsError: if a setting makes no sense.

    Example:
        >>> detect_outliers("features", {"cats": "features_of_cats"}).table()  # doctest: +SKIP
    """
    opened = _open(ours)
    table = opened.table
    parts = {name: (table["part"] == name).to_numpy() for name in ("train", "val", "test")}
    if absent := [name for name, mask in parts.items() if not mask.any()]:
        raise DataError(
            f"{opened.folder} has no images of part {', '.join(absent)}. Embed the catalogue that "
            f"the run was trained on: {command('embed', 'RUN', data='DATA', out='NEW_FOLDER')}"
        )
    named = others if isinstance(others, Mapping) else {Path(each).name: each for each in others}
    strangers = {name: _open(each) for name, each in named.items()}
    _check_same(opened, strangers)
    classes = tuple(opened.info["classes"])
    targets = pd.Index(classes).get_indexer(pd.Index(table["target"]))
    lesions = table["lesion_id"].to_numpy(dtype=object)
    texts = _few(strangers)
    detectors: dict[Method, Detector] = {}
    found: dict[tuple[str, str, str], Estimate] = {}
    scored: list[pd.DataFrame] = []
    for method in methods:
        given = _given(opened, method)
        detector = fit_detector(
            given[parts["train"]],
            targets[parts["train"]],
            given[parts["val"]],
            lesions[parts["val"]],
            method=method,
            alarms=alarms,
            neighbours=neighbours,
            classes=classes,
        )
        detectors[method] = detector
        inside = detector.score(given[parts["test"]])
        scored.append(_listed(table["image_id"][parts["test"]], "", detector, inside))
        for name, each in strangers.items():
            outside = detector.score(_given(each, method))
            scored.append(_listed(each.table["image_id"], name, detector, outside))
            figures = told_apart(
                inside,
                lesions[parts["test"]],
                outside,
                each.table["lesion_id"].to_numpy(dtype=object),
                detector.threshold,
                replicates=replicates,
                seed=seed,
                listen=listen,
            )
            found |= {(method, name, figure): figures[figure] for figure in FIGURES}
    for text in texts:
        listen(Notice(text, "warning"))
    return Outliers(detectors, found, pd.concat(scored, ignore_index=True), tuple(texts))


def told_apart(
    inside: Floats,
    inside_groups: NDArray[Any],
    outside: Floats,
    outside_groups: NDArray[Any],
    threshold: float,
    *,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> dict[str, Estimate]:
    """How well scores tell other images from ours, with intervals.

    Lesions that stand on both sides, as where images were spoilt on purpose, are drawn together.

    Args:
        inside: scores of our own images, shape (n,).
        inside_groups: their lesions, shape (n,); "" = one of its own.
        outside: scores of the others, shape (m,).
        outside_groups: their lesions, or the photographs that they were cut from, shape (m,).
        threshold: above which an image is called unlike.
        replicates: of the bootstrap over groups.
        seed: of the bootstrap.
        listen: told of the progress.

    Returns:
        The figures of `FIGURES`. There is no interval where a side has fewer than `FEW_GROUPS`.
    """
    scores = np.concatenate([inside, outside])
    other = np.arange(len(scores)) >= len(inside)
    groups = np.concatenate([inside_groups, outside_groups])
    few = min(lesion_codes(each)[1] for each in (inside_groups, outside_groups)) < FEW_GROUPS
    ranking = rank(other, scores)
    rising = np.argsort(inside, kind="stable")
    alarmed = (scores > threshold).astype(np.float64)

    def compute(weights: Weights) -> Mapping[str, Values]:
        cut = inside[rising][_place(weights[:, : len(inside)][:, rising])]
        passed = (outside[None] <= cut[:, None]).astype(np.float64)
        ours, theirs = weights * ~other, weights * other
        return {
            "auroc": auroc(weights, ranking),
            "let_through_at_95": ratio(
                (weights[:, len(inside) :] * passed).sum(axis=1), theirs.sum(axis=1)
            ),
            "alarms_ours": ratio(ours @ alarmed, ours.sum(axis=1)),
            "alarms_others": ratio(theirs @ alarmed, theirs.sum(axis=1)),
        }

    basis: dict[str, Mask] = dict.fromkeys(FIGURES[1:], other)
    basis["alarms_ours"] = ~other
    return estimates(
        [Measure(compute, basis, frozenset(FIGURES[1:]), {"auroc": Range(strata=(other, ~other))})],
        groups,
        replicates=0 if few else replicates,
        seed=seed,
        listen=listen,
    )


def _place(weights: Weights) -> NDArray[np.intp]:
    """Where, among images in the order of rising scores, at least 95 % of the weight is reached."""
    reached = np.cumsum(weights, axis=1)
    return np.asarray(np.argmax(reached >= TPR * reached[:, -1:] - 1e-9, axis=1))


def _open(source: Embeddings | Path | str) -> Embeddings:
    return source if isinstance(source, Embeddings) else Embeddings.open(source)


def _given(source: Embeddings, method: Method) -> NDArray[np.float32]:
    return source.vectors if method in OF_EMBEDDINGS else source.logits


def _check_same(ours: Embeddings, others: Mapping[str, Embeddings]) -> None:
    """Refuse what another network, or another preprocessing, made."""
    same = ("preprocessing", "normalisation", "model", "weights")

    def made_by(each: Embeddings) -> dict[str, Any]:
        told = each.info
        return {**{key: told["identity"][key] for key in same}, "head": told.get("head")}

    mine = made_by(ours)
    wrong = []
    for name, each in others.items():
        theirs = made_by(each)
        if unlike := [key for key in mine if theirs[key] != mine[key]]:
            wrong.append(f"{name} (other {', '.join(unlike)})")
    if wrong:
        raise DataError(
            f"Made by another network than {ours.folder}: {'; '.join(wrong)}. Embed them with the "
            "same run."
        )


def _listed(
    images: pd.Series, name: str, detector: Detector, scores: NDArray[np.float64]
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": images.to_numpy(),
            "set": name,
            "method": detector.method,
            "score": scores,
            "unlike": scores > detector.threshold,
        }
    )


def _few(strangers: Mapping[str, Embeddings]) -> list[str]:
    texts = []
    for name, each in strangers.items():
        ids = each.table["lesion_id"]
        count = lesion_codes(ids.to_numpy(dtype=object))[1]
        if count < FEW_GROUPS:
            texts.append(
                f"{name} shows {count} lesions or photographs: too few for an interval, and for a "
                "statement about others."
            )
        elif (ids == "").all():
            texts.append(
                f"The images of {name} name no lesion: each counts as one of its own. If some show "
                "the same thing, the intervals are too narrow."
            )
    return texts
