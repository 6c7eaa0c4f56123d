"""Values with intervals: a bootstrap over lesions, all metrics in one pass over replicate weights.

Images of one lesion are not independent, so lesions are drawn, not images (the cluster bootstrap:
Field and Welsh, J. R. Stat. Soc. B 69:369-390, 2007). A replicate is a row of weights, one
per image: how often its lesion was drawn. A metric is a function of such rows, and row 0, all
ones, gives the plain value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, stdtrit

from lesionlab.errors import SettingsError
from lesionlab.progress import Listener, Step, silent

Weights = NDArray[np.float64]
"""Replicate weights, shape (replicates, images), 0 or more."""

Values = NDArray[np.float64]
"""One metric, a value per replicate, nan where it is not defined, shape (replicates,)."""

LEVEL = 0.95
"""Every interval is a 95 % interval."""

UNDEFINED_LIMIT = 0.05
"""An interval is withheld where a larger share of its replicates is not defined."""

BLOCK_BYTES = 8_000_000
"""Size of one block of weights: small enough for the processor's cache, whatever the table."""

_Z = 1.959963984540054  # standard normal quantile at 0.975

LEAST_FREEDOM = 6.0
"""Degrees of freedom that tails can bring an interval down to: it is wider by at most a quarter."""

_FAR = 700.0  # exp of more is no number

_SAME = 1e-9  # replicates that differ by less are the same but for rounding


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval.

    Attributes:
        value: the metric on the images as they are; nan where it is not defined.
        low: lower end of the interval; nan where there is none.
        high: upper end of the interval; nan where there is none.
        n: images that it rests on (for a recall, those of the class).
        groups: lesions that these images show.

    Example:
        >>> print(Estimate(0.612, 0.571, 0.650, n=171, groups=120))
        0.612 (0.571–0.650)
    """

    value: float
    low: float
    high: float
    n: int
    groups: int

    @property
    def defined(self) -> bool:
        """Whether there is a value at all."""
        return not math.isnan(self.value)

    def __str__(self) -> str:
        if not self.defined:
            return "not defined"
        if math.isnan(self.low) or math.isnan(self.high):
            return f"{self.value:.3f} (no interval)"
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


@dataclass(frozen=True)
class Range:
    """Where a metric can lie, which decides on what scale its interval is made.

    Attributes:
        low: its least value.
        high: its largest value; inf where there is none.
        strata: masks, shape (n,), of the images whose means make up the metric; () = not known.
            Balanced accuracy has the classes, an AUROC the class and the rest.
        parts: over how many such means, or pairs of them, the metric is a mean.
        trials: how many independent trials a perfect score is worth, as `ranges_of` counts them;
            nan where that is not known.
        fewest: lesions of the smallest stratum, as `ranges_of` counts them.
    """

    low: float = 0.0
    high: float = 1.0
    strata: tuple[NDArray[np.bool_], ...] = ()
    parts: int = 1
    trials: float = math.nan
    fewest: float = math.inf


@dataclass(frozen=True)
class Measure:
    """One or more metrics as a function of replicate weights.

    Attributes:
        compute: takes weights of shape (r, n), gives each metric by name with shape (r,). A row's
            values may depend on that row alone, so that rows can come in blocks of any size.
        basis: boolean masks, shape (n,), of the images that a metric rests on; all where not named.
        proportions: names of the metrics that are a share of the images of their basis.
        ranges: of the metrics that have a range and are no such share.
    """

    compute: Callable[[Weights], Mapping[str, Values]]
    basis: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    proportions: frozenset[str] = frozenset()
    ranges: Mapping[str, Range] = field(default_factory=dict)


def lesion_codes(groups: ArrayLike) -> tuple[NDArray[np.intp], int]:
    """Number the lesions, in sorted order of their ids; an image without one is its own lesion.

    Args:
        groups: lesion ids, shape (n,); "" (or missing) = unknown.

    Returns:
        Codes 0..count - 1, shape (n,), and how many lesions there are.
    """
    ids = np.asarray(groups, dtype=object)
    blank = np.asarray(pd.isna(ids)) | (ids == "")
    known, names = pd.factorize(ids[~blank], sort=True)
    alone = int(blank.sum())
    codes = np.empty(len(ids), dtype=np.intp)
    codes[~blank] = known
    codes[blank] = len(names) + np.arange(alone)
    return codes, len(names) + alone


def weight_blocks(groups: ArrayLike, replicates: int, seed: int, rows: int) -> Iterator[Weights]:
    """Yield the rows of `lesion_weights` in blocks of at most `rows`; the same rows at any size.

    Raises:
        SettingsError: if `replicates` is negative.
    """
    if replicates < 0:
        raise SettingsError(f"replicates is {replicates}; choose 0 (no intervals) or more.")
    codes, count = lesion_codes(groups)
    rng = np.random.default_rng(seed)
    for start in range(0, replicates + 1, rows):
        stop = min(start + rows, replicates + 1)
        block = np.ones((stop - start, len(codes)))
        for row in range(max(start, 1), stop):
            drawn = rng.integers(count, size=count) if count else np.empty(0, dtype=np.int64)
            block[row - start] = np.bincount(drawn, minlength=count)[codes]
        yield block


def lesion_weights(groups: ArrayLike, replicates: int, seed: int) -> Weights:
    """Draw a cluster bootstrap as weights.

    Each replicate draws as many lesions as there are, with replacement; every image weighs as
    often as its lesion was drawn. Where every image is a lesion of its own, this is the ordinary
    bootstrap.

    Args:
        groups: lesion ids, shape (n,); images with "" are lesions of their own.
        replicates: how many to draw, 0 or more.
        seed: the same seed gives the same weights, on any machine and for any block size.

    Returns:
        Shape (replicates + 1, n): row 0 all ones, the others whole numbers from 0.

    Raises:
        SettingsError: if `replicates` is negative.

    Example:
        >>> lesion_weights(["a", "a", "b"], replicates=2, seed=0).shape
        (3, 3)
    """
    return np.concatenate(list(weight_blocks(groups, replicates, seed, replicates + 1)))


def rows_per_block(n: int) -> int:
    """How many rows of `n` weights make a block of about `BLOCK_BYTES`, at least one."""
    return max(1, BLOCK_BYTES // (8 * max(n, 1)))


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion (J. Am. Stat. Assoc. 22:209-212, 1927).

    Args:
        share: the observed proportion, 0-1.
        n: independent trials, 1 or more.

    Returns:
        Lower and upper end, 0-1.
    """
    middle = share + _Z**2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    low = (middle - half) / scale if share > 0 else 0.0
    high = (middle + half) / scale if share < 1 else 1.0
    return low, high


def estimate(
    values: Values,
    n: int,
    groups: int,
    *,
    proportion: bool = False,
    within: Range | None = None,
) -> Estimate:
    """Make an estimate of a metric's replicates.

    A metric with a range gets a t interval on the scale on which it has none (log odds; the log
    where only one end is closed), from the standard deviation of the replicates: see
    `transformed_interval`. It keeps the range and holds the value. Others, such as differences, get
    the percentile interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13).
    docs/intervals.md shows how often either holds the truth.

    Replicates that are not defined (a class that was not drawn) are left out; where they are more
    than `UNDEFINED_LIMIT` of all, or the images show fewer than two lesions, no interval is given
    (nan) rather than a doubtful one. A metric with a range that is the same in all replicates,
    such as a recall of 1, would have an interval without width: it gets Wilson's.

    Args:
        values: shape (replicates + 1,); the first is the value itself.
        n: images it rests on.
        groups: lesions it rests on.
        proportion: whether it is a share of those images: its range is 0-1, its trials are lesions.
        within: its range.
    """
    value = float(values[0])
    drawn = values[1:]
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan, n, groups)
    if proportion:
        within = Range(trials=groups)
    usable = drawn[~np.isnan(drawn)]
    same = len(usable) > 0 and np.abs(usable - value).max() < _SAME
    if within and same and (groups > 1 or (proportion and groups and value in (0.0, 1.0))):
        low, high = _without_spread(value, within)
        return Estimate(value, low, high, n, groups)
    if groups < 2 or len(usable) < 2 or len(usable) < (1 - UNDEFINED_LIMIT) * len(drawn):
        return Estimate(value, math.nan, math.nan, n, groups)
    if within:
        low, high = transformed_interval(value, usable, min(groups, within.fewest), within)
        return Estimate(value, low, high, n, groups)
    low, high = np.quantile(usable, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), n, groups)


def transformed_interval(
    value: float, drawn: Values, lesions: float, within: Range
) -> tuple[float, float]:
    """A t interval on the scale on which a metric has no bounds, carried back.

    The nearer a metric is to a perfect score, the fewer lesions its error rests on and the smaller
    its standard error comes out where luck made it too good. Log odds take care of the part of this
    that goes with the value. Degrees of freedom take care of the rest. A mean over strata has those
    of its smallest stratum, one less than its lesions: never too many (Welch, Biometrika 29:
    350-362, 1938). A variance whose own variance is e + 2/f of its square has 2 / (e + 2/f)
    (Satterthwaite, Biometrics Bull. 2:110-114, 1946): e is the replicates' excess kurtosis less
    their squared skewness, as far as the standard error of a kurtosis does not explain it. Tails
    also come from draws with next to no lesion of a class, hence `LEAST_FREEDOM`.

    Args:
        value: the metric, inside its range or at an end of it.
        drawn: its replicates, shape (r,), two or more, none of them nan.
        lesions: of its smallest stratum, or of all that it rests on; 1 counts as 2.
        within: its range.

    Returns:
        Lower and upper end; nan where the value is at an end of its range or all replicates are
        equal.
    """
    low, high = within.low, within.high
    away = drawn - drawn.mean()
    square = float(np.mean(away**2))
    if not low < value < high or square < _SAME**2:
        return math.nan, math.nan
    spread = math.sqrt(square * len(drawn) / (len(drawn) - 1))
    skewness = float(np.mean(away**3)) / square**1.5
    excess = float(np.mean(away**4)) / square**2 - 3 - skewness**2
    excess = max(0.0, excess - math.sqrt(24 / len(drawn)))
    most = max(1.0, lesions - 1)
    freedom = min(most, max(LEAST_FREEDOM, 2 / (excess + 2 / most)))
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * spread
    if math.isinf(high):
        factor = math.exp(min(half / (value - low), _FAR))
        return low + (value - low) / factor, low + (value - low) * factor
    share = (value - low) / (high - low)
    half /= (high - low) * share * (1 - share)
    first, last = low + (high - low) * expit(logit(share) + np.array([-half, half]))
    return float(first), float(last)


def _without_spread(value: float, within: Range) -> tuple[float, float]:
    size = within.high - within.low
    if math.isnan(within.trials) or math.isinf(size):
        return math.nan, math.nan
    low, high = wilson(min(1.0, max(0.0, (value - within.low) / size)), within.trials)
    return within.low + size * low, within.low + size * high


def ranges_of(measures: Iterable[Measure], codes: NDArray[np.intp]) -> dict[str, Range]:
    """The ranges of all metrics by name, with what a perfect score is worth and their lesions.

    What lies between 0 and 1 has no larger variance than a share with the same mean. So the mean of
    a stratum of m lesions counts as m trials, and a mean over `parts` of them, or over that many
    pairs of a class and the rest, as parts^2 / sum(1 / m).

    Args:
        measures: as for `replicate`.
        codes: numbers of the lesions, shape (n,).
    """
    found = {name: each for measure in measures for name, each in measure.ranges.items()}
    for name, each in found.items():
        sizes = [len(np.unique(codes[mask])) for mask in each.strata]
        if sizes and all(sizes):
            trials = each.parts**2 / sum(1 / size for size in sizes)
            found[name] = replace(each, trials=trials, fewest=min(sizes))
    return found


def replicate(
    measures: Iterable[Measure],
    groups: ArrayLike,
    *,
    replicates: int,
    seed: int,
    listen: Listener = silent,
) -> dict[str, Values]:
    """Compute every metric on every replicate, in one pass over blocks of weights.

    Args:
        measures: what to compute; a name may stand in one of them only.
        groups: lesion ids, shape (n,), row-aligned with the measures.
        replicates: how many to draw, 0 or more.
        seed: of the draws.
        listen: told of the progress.

    Returns:
        Each metric by name, shape (replicates + 1,), the plain value first.

    Raises:
        SettingsError: if `replicates` is negative.
    """
    measures = list(measures)
    parts: dict[str, list[Values]] = {}
    done = 0
    for block in weight_blocks(groups, replicates, seed, rows_per_block(np.size(groups))):
        for measure in measures:
            for name, values in measure.compute(block).items():
                parts.setdefault(name, []).append(values)
        done += len(block)
        listen(Step("bootstrap over lesions", done, replicates + 1, "replicates"))
    return {name: np.concatenate(values) for name, values in parts.items()}


def estimates(
    measures: Sequence[Measure],
    groups: ArrayLike,
    *,
    replicates: int,
    seed: int,
    listen: Listener = silent,
) -> dict[str, Estimate]:
    """Give every metric of `measures` its value, interval, and the counts it rests on.

    Arguments and errors are those of `replicate`; intervals are those of `estimate`.
    """
    table = replicate(measures, groups, replicates=replicates, seed=seed, listen=listen)
    codes, count = lesion_codes(groups)
    masks = {name: mask for measure in measures for name, mask in measure.basis.items()}
    shares = frozenset[str]().union(*(measure.proportions for measure in measures))
    ranges = ranges_of(measures, codes)
    result: dict[str, Estimate] = {}
    for name, values in table.items():
        mask = masks.get(name)
        n = len(codes) if mask is None else int(mask.sum())
        lesions = count if mask is None else len(np.unique(codes[mask]))
        result[name] = estimate(
            values, n, lesions, proportion=name in shares, within=ranges.get(name)
        )
    return result
