"""How ill a class fits an image, and the quantile that a new lesion stays under, as promised.

Images of a lesion are not exchangeable with those of others, lesions are. Each calibration
lesion has weight 1 / (K + 1), shared evenly among its m images, and the new lesion's own weight
lies at infinity. The quantile of that distribution covers a random image of a new lesion with a
probability of 1 - alpha or more, in finite samples, whatever the model (hierarchical conformal
prediction: Lee, Barber and Willett, arXiv:2306.06342, section 3). Drawing one image per lesion
promises the same (Dunn, Wasserman and Ramdas, J. Am. Stat. Assoc. 118:2491-2502, 2023, "single
subsampling"), but throws images away and depends on the draw. With one image per lesion all three
are the usual split conformal quantile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Method = Literal["lac", "aps", "raps"]

METHODS: tuple[Method, ...] = ("lac", "aps", "raps")


def scores(
    probabilities: Floats,
    method: Method,
    draws: Floats | None = None,
    penalty: float = 0.1,
    free: int = 2,
) -> Floats:
    """How ill each class fits each image; higher = worse.

    Args:
        probabilities: shape (n, k).
        method: "lac": 1 - p (Sadinle, Lei and Wasserman, J. Am. Stat. Assoc. 114:223-234, 2019).
            "aps": what all likelier classes have together, and a part of the class's own
            (Romano, Sesia and Candès, NeurIPS 2020). "raps": aps, and a penalty for every place
            in the ranking after the first few (Angelopoulos et al., ICLR 2021).
        draws: uniform on 0-1, shape (n,): which part of the class's own probability counts. None:
            nothing of it, so that the likeliest class always fits (the set is the smallest
            whose probability reaches the quantile).
        penalty: of raps, 0 or more.
        free: of raps, how many places cost nothing.

    Returns:
        Shape (n, k).
    """
    if method == "lac":
        return np.asarray(1 - probabilities)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    upto = np.cumsum(ranked, axis=1)
    upto = upto - (1 if draws is None else 1 - draws[:, None]) * ranked
    if method == "raps":
        upto = upto + penalty * np.maximum(np.arange(1, ranked.shape[1] + 1) - free, 0)
    out = np.empty_like(upto)
    np.put_along_axis(out, order, upto, axis=1)
    return out


def quantile(values: Floats, lesions: Index, alpha: float, weights: Floats | None = None) -> float:
    """The score that a random image of a new lesion exceeds with probability alpha at most.

    Args:
        values: scores of calibration images for their true class, shape (n,).
        lesions: numbers of their lesions, shape (n,).
        alpha: 0-1.
        weights: of the images, where a new lesion's is 1, shape (n,); None: all are alike.

    Returns:
        Infinity where there are too few lesions for this level (fewer than 1 / alpha - 1).
    """
    _, number, sizes = np.unique(lesions, return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    shares = (1 / sizes)[number] if weights is None else weights / sizes[number]
    reached = np.cumsum(shares[order])  # in lesions
    needed = (1 - alpha) * (shares.sum() + 1)
    place = int(np.searchsorted(reached, needed - 1e-9))  # 1e-9: sums of 1/3 are rounded
    return float(values[order[place]]) if place < len(values) else float("inf")


def in_lesions(weights: Floats, lesions: Index) -> Floats:
    """Weights so scaled that those of a new lesion are 1: they add up to the effective lesions.

    The weight of a new lesion is what one has on average where lesions come as the weights say;
    the sum over all, each spread over its images, is then Kish's effective number.

    Args:
        weights: of images, shape (n,), not all 0.
        lesions: numbers of their lesions, shape (n,).
    """
    _, number, sizes = np.unique(lesions, return_inverse=True, return_counts=True)
    shares = weights / sizes[number]
    return np.asarray(weights * shares.sum() / (weights * shares).sum())


def effective_lesions(weights: Floats, lesions: Index) -> float:
    """How many lesions weighted images are worth."""
    _, number, sizes = np.unique(lesions, return_inverse=True, return_counts=True)
    return float((in_lesions(weights, lesions) / sizes[number]).sum()) if weights.any() else 0.0


def draws_of(images: Sequence[str], seed: int) -> Floats:
    """A number in 0-1 for each image, shape (n,), the same in any table and order."""
    hashes = (
        hashlib.blake2b(f"{seed}/{image}".encode(), digest_size=8).digest() for image in images
    )
    return np.array([(int.from_bytes(each, "big") >> 11) / 2.0**53 for each in hashes])
