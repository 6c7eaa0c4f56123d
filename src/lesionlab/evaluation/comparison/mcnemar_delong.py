"""Classical tests of two models on the same images: McNemar and DeLong, by image and by lesion.

The textbook versions take images as independent. Those of one lesion are not, and then the textbook
p value is too small. Here each test comes in both versions; they agree exactly where every lesion
has one image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, gammaln, ndtr

from lesionlab.evaluation.intervals.bootstrap import lesion_codes

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST_EXACT = 20_000
"""Above so many images that one model alone gets right, McNemar by lesion is approximated."""

_Z = 1.959963984540054  # standard normal quantile at 0.975


@dataclass(frozen=True)
class McNemar:
    """Which of two models is right where they differ.

    Attributes:
        first: images that only the first model gets right.
        second: images that only the second one gets right.
        images: how many were compared.
        lesions: how many they show.
        p: by lesion, see `mcnemar`.
        p_images: as if every image were a lesion: the exact binomial test.
        statistic: Obuchowski's for clustered pairs (Stat. Med. 17:1495-1507, 1998) without its
            factor (lesions - 1) / lesions, so that it is McNemar's own where every lesion has one
            image; about chi-squared with one degree of freedom.
    """

    first: int
    second: int
    images: int
    lesions: int
    p: float
    p_images: float
    statistic: float

    @property
    def difference(self) -> float:
        """Share of images that the first model gets right, minus that of the second."""
        return (self.first - self.second) / self.images if self.images else math.nan


def mcnemar(first: Mask, second: Mask, lesions: ArrayLike) -> McNemar:
    """Test whether two models are right equally often.

    By lesion: if neither model is better, the two may swap their answers to all images of a lesion
    without changing the chances of anything. So each lesion's net difference (images that only
    the first gets right minus those that only the second does) takes either sign with probability
    1/2, lesions independently of each other. p is the chance that their sum is then as far from 0
    as it was, computed exactly by adding lesion after lesion (approximated by a normal distribution
    beyond `MOST_EXACT`). With one image per lesion that is the exact binomial McNemar test
    (Psychometrika 12:153-157, 1947).

    Args:
        first: whether the first model is right, shape (n,).
        second: whether the second one is, shape (n,).
        lesions: lesion ids, shape (n,); "" = a lesion of its own.
    """
    codes, count = lesion_codes(lesions)
    net = np.bincount(codes, first.astype(int) - second.astype(int), minlength=count)
    net = np.rint(net).astype(int)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    squares = int((net**2).sum())
    rarer = min(only_first, only_second)
    return McNemar(
        first=only_first,
        second=only_second,
        images=len(codes),
        lesions=count,
        p=_sign_flips(np.abs(net[net != 0]), abs(int(net.sum()))),
        p_images=min(1.0, 2 * float(bdtr(rarer, only_first + only_second, 0.5))),
        statistic=float(net.sum() ** 2 / squares) if squares else 0.0,
    )


def _sign_flips(sizes: NDArray[np.int_], reached: int) -> float:
    """Chance that whole numbers of random signs add up to `reached` or more, either way."""
    total = int(sizes.sum())
    if total > MOST_EXACT:
        spread = math.sqrt(float((sizes.astype(np.float64) ** 2).sum()))
        return min(1.0, float(2 * ndtr((1 - reached) / spread)))  # sums go in steps of 2
    probabilities = np.ones(1)  # of the sums -total ... total
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        own = np.zeros(2 * size * count + 1)
        own[:: 2 * size] = _halves(count)
        probabilities = np.convolve(probabilities, own)
    sums = np.abs(np.arange(-total, total + 1))
    return min(1.0, float(probabilities[sums >= reached].sum()))


@dataclass(frozen=True)
class DeLong:
    """Two AUROCs on the same images, and their difference.

    Attributes:
        first: AUROC of the first model.
        second: AUROC of the second.
        error: standard error of the difference, by lesion.
        error_images: as if every image were a lesion: DeLong's own.
        positives: images of the class.
        lesions: lesions of all images.
    """

    first: float
    second: float
    error: float
    error_images: float
    positives: int
    lesions: int

    @property
    def difference(self) -> float:
        """The first AUROC minus the second."""
        return self.first - self.second

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference, by lesion."""
        return self.difference - _Z * self.error, self.difference + _Z * self.error

    @property
    def p(self) -> float:
        """Of "the two are equal", by lesion, two-sided; nan where it is not defined."""
        return _normal_p(self.difference, self.error)

    @property
    def p_images(self) -> float:
        """DeLong's own p, as if every image were a lesion."""
        return _normal_p(self.difference, self.error_images)


def _normal_p(difference: float, error: float) -> float:
    if difference == 0 and error == 0:
        return 1.0
    return math.nan if not error > 0 else float(2 * ndtr(-abs(difference) / error))


def delong(positive: Mask, first: Floats, second: Floats, lesions: ArrayLike) -> DeLong:
    """Compare two AUROCs of one class against the rest.

    The variance is that of DeLong, DeLong and Clarke-Pearson (Biometrics 44:837-845, 1988), with
    its structural components from sorted scores in n log n steps (as Sun and Xu, IEEE Signal
    Process. Lett. 21:1389-1393, 2014, get them from midranks); by lesion it is Obuchowski's
    (Biometrics 53:567-578, 1997), who sums the components within each cluster first.

    Args:
        positive: which images are of the class, shape (n,).
        first: scores of the first model, shape (n,); only their order counts.
        second: scores of the second one, shape (n,).
        lesions: lesion ids, shape (n,); "" = a lesion of its own.

    Returns:
        Areas and errors; errors are nan with fewer than two lesions on a side, and all is nan with
        an empty side.
    """
    codes, count = lesion_codes(lesions)
    if positive.all() or not positive.any():
        return DeLong(math.nan, math.nan, math.nan, math.nan, int(positive.sum()), count)
    parts = [components(positive, scores) for scores in (first, second)]
    areas = [float(of_positives.mean()) for of_positives, _ in parts]
    own = parts[0][0] - parts[1][0] - (areas[0] - areas[1])
    others = parts[0][1] - parts[1][1] - (areas[0] - areas[1])
    each = np.arange(len(codes))
    return DeLong(
        areas[0],
        areas[1],
        error=_error(own, others, codes[positive], codes[~positive], count),
        error_images=_error(own, others, each[positive], each[~positive], len(each)),
        positives=int(positive.sum()),
        lesions=count,
    )


def components(positive: Mask, scores: Floats) -> tuple[Floats, Floats]:
    """DeLong's structural components: how each image ranks among those of the other side.

    Args:
        positive: which images are of the class, shape (n,).
        scores: shape (n,).

    Returns:
        For each positive the share of negatives that score lower, for each negative the share
        of positives that score higher, ties counted half; both means are the AUROC.
    """
    high, low = scores[positive], scores[~positive]
    ordered_low, ordered_high = np.sort(low), np.sort(high)
    beaten = np.searchsorted(ordered_low, high, "left") + np.searchsorted(
        ordered_low, high, "right"
    )
    upto = np.searchsorted(ordered_high, low, "left") + np.searchsorted(ordered_high, low, "right")
    return beaten / (2 * len(low)), 1 - upto / (2 * len(high))


def _error(
    own: Floats,
    others: Floats,
    own_codes: NDArray[np.intp],
    other_codes: NDArray[np.intp],
    count: int,
) -> float:
    """Standard error of a mean of differing components, summed by cluster (Obuchowski 1997)."""
    clusters = len(np.unique(own_codes)), len(np.unique(other_codes))
    if min(clusters) < 2:
        return math.nan
    sums = [
        np.bincount(codes, values, minlength=count)
        for codes, values in ((own_codes, own), (other_codes, others))
    ]
    variance = sum(
        k / (k - 1) * float((each**2).sum()) / size**2
        for k, each, size in zip(clusters, sums, (len(own), len(others)), strict=True)
    )
    variance += 2 * count / (count - 1) * float(sums[0] @ sums[1]) / (len(own) * len(others))
    return math.sqrt(max(0.0, variance))


def _halves(count: int) -> Floats:
    """Probabilities of 0 ... count heads in as many throws of a fair coin."""
    heads = np.arange(count + 1)
    logs = gammaln(count + 1) - gammaln(heads + 1) - gammaln(count - heads + 1)
    return np.asarray(np.exp(logs - count * np.log(2.0)))
