"""How unlike the training images an image is: scores of what a network made of it, no torch.

From embeddings: the Mahalanobis distance to the nearest class (Lee et al., NeurIPS 2018), the same
less the distance to all training images as one class (relative: Ren et al., arXiv:2106.09022), and
the distance to the k-th nearest training image on the unit sphere (Sun et al., ICML 2022). From
logits: the largest probability (Hendrycks and Gimpel, ICLR 2017), the entropy and the energy (Liu
et al., NeurIPS 2020), all turned so that higher = more unlike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.conformal.scores import quantile
from lesionlab.evaluation.intervals.bootstrap import lesion_codes
from lesionlab.files import read_json, replacing, write_json
from lesionlab.numerics import log_softmax

Floats = NDArray[np.float64]
Method = Literal["mahalanobis", "relative", "neighbours", "probability", "energy", "entropy"]

METHODS: tuple[Method, ...] = (
    "mahalanobis",
    "relative",
    "neighbours",
    "probability",
    "energy",
    "entropy",
)
OF_EMBEDDINGS = METHODS[:3]
"""The scores that need the embeddings of the training part; the others need logits alone."""

NEIGHBOURS = 10
ALARMS = 0.05
"""How often an image like those of training may be called unlike."""

KIND = "lesionlab detector 1"
_ROWS = 512  # images whose distances are in memory at once


@dataclass(frozen=True, eq=False, repr=False)
class Detector:
    """A score and the threshold above which an image is called unlike the training images.

    Attributes:
        method: one of `METHODS`.
        threshold: of the score.
        alarms: how often an image of a new lesion like those of val exceeds it, at most.
        features: what an image is given as: the length of its embedding, or of its logits.
        arrays: what was fitted, plain numbers: "means" (k, d) and "precision" (d, d), and for
            relative "mean" (d,) and "background" (d, d); or "vectors" (n, d) on the unit sphere;
            or, of a small one, "means", "axes" (rank, d), "gains" (rank,) and "rest" ().
        neighbours: k of neighbours.
        fitted_on: images and lesions of train and val.
        classes: in their order.
    """

    method: Method
    threshold: float
    alarms: float
    features: int
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    neighbours: int = NEIGHBOURS
    fitted_on: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def score(self, given: NDArray[np.floating]) -> Floats:
        """How unlike the training images each image is, shape (n,); higher = more unlike.

        Args:
            given: embeddings, or logits for a score of those, shape (n, features).

        Raises:
            DataError: if they have another length, or are not all numbers.
        """
        given = np.asarray(given)
        if given.ndim != 2 or given.shape[1] != self.features:
            raise DataError(
                f"This detector takes {self.features} numbers per image, not {given.shape[1:]}: "
                "give what the very network made that it was fitted with."
            )
        blocks = [
            _score(self.method, self.arrays, self.neighbours, given[start : start + _ROWS])
            for start in range(0, len(given), _ROWS)
        ]
        return np.concatenate(blocks) if blocks else np.empty(0)

    def unlike(self, given: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which images are called unlike the training images, shape (n,)."""
        return np.asarray(self.score(given) > self.threshold)

    def to_json(self) -> dict[str, Any]:
        """All but the arrays, as plain values."""
        return {
            "kind": KIND,
            "method": self.method,
            "threshold": self.threshold,
            "alarms": self.alarms,
            "features": self.features,
            "neighbours": self.neighbours,
            "fitted_on": dict(self.fitted_on),
            "classes": list(self.classes),
            "arrays": {name: list(each.shape) for name, each in self.arrays.items()},
        }

    def save(self, path: str | Path) -> None:
        """Write the settings as JSON, and beside it the arrays, if any, as .npz (no pickle)."""
        path = Path(path).with_suffix(".json")
        if self.arrays:
            with replacing(path.with_suffix(".npz")) as part, part.open("wb") as handle:
                np.savez_compressed(handle, allow_pickle=False, **dict(self.arrays))
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Detector:
        """Read what `save` wrote.

        Raises:
            DataError: if a file is missing or is something else.
        """
        path = Path(path).with_suffix(".json")
        told = read_json(path)
        if not isinstance(told, dict) or told.get("kind") != KIND:
            raise DataError(f"{path} is no detector that lesionlab wrote.")
        arrays: dict[str, NDArray[Any]] = {}
        if told["arrays"]:
            try:
                with np.load(path.with_suffix(".npz"), allow_pickle=False) as found:
                    arrays = {name: found[name] for name in told["arrays"]}
            except (OSError, ValueError, KeyError) as error:
                raise DataError(
                    f"{path.with_suffix('.npz')} is not that detector's: {error}."
                ) from error
        return detector_of(told, arrays)

    def __repr__(self) -> str:
        return f"<Detector: {self.method}, threshold {self.threshold:.4g}>"


def detector_of(told: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Detector:
    """A detector of what `Detector.to_json` gave, and its arrays."""
    kept = ("method", "threshold", "alarms", "features", "neighbours", "fitted_on")
    return Detector(
        **{name: told[name] for name in kept}, classes=tuple(told["classes"]), arrays=arrays
    )


def fit_detector(
    train: NDArray[np.floating],
    targets: NDArray[np.intp],
    val: NDArray[np.floating],
    val_lesions: NDArray[Any],
    *,
    method: Method = "mahalanobis",
    alarms: float = ALARMS,
    neighbours: int = NEIGHBOURS,
    classes: tuple[str, ...] = (),
    rank: int = 0,
) -> Detector:
    """Fit a score on training images, and its threshold on val.

    The threshold is the conformal one: a random image of a new lesion like those of val exceeds it
    with probability `alarms` at most.

    Args:
        train: embeddings of part train, shape (n, d); for a score of logits only their number of
            columns counts.
        targets: classes of those as positions, shape (n,).
        val: the same of part val, shape (m, d).
        val_lesions: lesion ids of val, shape (m,); "" = a lesion of its own.
        method: one of `METHODS`.
        alarms: above 0 and below 1.
        neighbours: k of neighbours.
        classes: in their order.
        rank: of method mahalanobis: keep so many axes of the covariance and let the others have the
            mean of their variances (probabilistic PCA: Tipping and Bishop, J. R. Stat. Soc. B
            61:611-622, 1999), which takes rank x d numbers and not d x d; 0 keeps all.

    Raises:
        DataError: if an array is not all numbers, or val has too few lesions for so few alarms.
        SettingsError: if a setting makes no sense.
    """
    _check(method, alarms, neighbours, len(train))
    for name, each in (("train", train), ("val", val)):
        if not len(each) or not np.isfinite(each).all():
            raise DataError(f"Part {name} is empty or holds numbers that are none: fit on others.")
    arrays = _fitted(np.asarray(train, np.float64), targets, method)
    if rank and method == "mahalanobis" and rank < train.shape[1]:
        arrays = _small(arrays["means"], arrays["precision"], rank)
    codes, lesions = lesion_codes(val_lesions)
    scores = _score(method, arrays, neighbours, np.asarray(val))
    threshold = quantile(scores, codes, alarms)
    if np.isinf(threshold):
        raise DataError(
            f"Part val has {lesions} lesions: too few for a threshold that {alarms:g} of new "
            f"lesions exceed at most; it takes {int(np.ceil(1 / alarms - 1 - 1e-9))}."
        )
    sizes = {"train_images": len(train), "val_images": len(val), "val_lesions": lesions}
    return Detector(
        method, threshold, alarms, train.shape[1], arrays, neighbours, sizes, tuple(classes)
    )


def _fitted(
    train: Floats, targets: NDArray[np.intp], method: Method
) -> dict[str, NDArray[np.float64]]:
    if method == "neighbours":
        return {"vectors": _on_sphere(train)}
    if method not in OF_EMBEDDINGS:
        return {}
    present = np.unique(targets)
    means = np.stack([train[targets == each].mean(axis=0) for each in present])
    places = np.searchsorted(present, targets)
    fitted = {"means": means, "precision": _precision(train - means[places])}
    if method == "relative":
        fitted["mean"] = train.mean(axis=0)
        fitted["background"] = _precision(train - fitted["mean"])
    return fitted


def _precision(centred: Floats) -> Floats:
    """Inverse of the covariance, shrunk towards a sphere.

    Features that never vary, such as those of a dead unit, would have no inverse. The shrinkage is
    Ledoit and Wolf's (J. Multivar. Anal. 88:365-411, 2004): next to nothing for many images.
    """
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(centred, assume_centered=True)
    if not np.trace(covariance) > 0:
        raise DataError("All training images have the same embedding: there is nothing to fit.")
    return np.linalg.inv(covariance)


def _small(means: Floats, precision: Floats, rank: int) -> dict[str, NDArray[Any]]:
    """A precision matrix by its axes of the largest variance, and one number for the others."""
    inverse, axes = np.linalg.eigh(precision)  # ascending: the largest variance first
    rest = 1 / float((1 / inverse[rank:]).mean())
    return {
        "means": means.astype(np.float32),
        "axes": axes[:, :rank].T.astype(np.float32),
        "gains": inverse[:rank] - rest,
        "rest": np.array(rest),
    }


def _score(
    method: Method, arrays: Mapping[str, NDArray[Any]], neighbours: int, given: NDArray[np.floating]
) -> Floats:
    rows = np.asarray(given, dtype=np.float64)
    if not np.isfinite(rows).all():
        raise DataError("What the network made of an image is not all numbers: leave it out.")
    if method == "neighbours":
        near = 2 - 2 * _on_sphere(rows) @ arrays["vectors"].T  # squared distances
        place = min(neighbours, near.shape[1]) - 1
        return np.sqrt(np.maximum(np.partition(near, place, axis=1)[:, place], 0.0))
    if "axes" in arrays:
        means, axes = (arrays[name].astype(np.float64) for name in ("means", "axes"))
        away = (rows**2).sum(axis=1)[:, None] - 2 * rows @ means.T + (means**2).sum(axis=1)
        along = (rows @ axes.T)[:, None] - means @ axes.T
        return np.asarray((along**2 @ arrays["gains"] + arrays["rest"] * away).min(axis=1))
    if method in ("mahalanobis", "relative"):
        nearest = np.min(
            [_squared(rows - mean, arrays["precision"]) for mean in arrays["means"]], axis=0
        )
        if method == "relative":
            nearest = nearest - _squared(rows - arrays["mean"], arrays["background"])
        return np.asarray(nearest)
    logs = log_softmax(rows)
    if method == "probability":
        return np.asarray(-np.exp(logs.max(axis=1)))
    if method == "entropy":
        return np.asarray(-(np.exp(logs) * logs).sum(axis=1))
    return np.asarray(logs[:, 0] - rows[:, 0])  # minus the logarithm of the sum of exponentials


def _squared(away: Floats, precision: Floats) -> Floats:
    return np.asarray(np.einsum("nd,nd->n", away @ precision, away))


def _on_sphere(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _check(method: str, alarms: float, neighbours: int, images: int) -> None:
    faults = []
    if method not in METHODS:
        faults.append(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")
    if not 0 < alarms < 1:
        faults.append(f"alarms is {alarms}; choose a number above 0 and below 1, such as 0.05")
    if not 1 <= neighbours <= max(images, 1):
        faults.append(f"neighbours is {neighbours}; choose 1 to {images}, the training images")
    if faults:
        raise SettingsError("Out of distribution: " + "; ".join(faults) + ".", faults)
