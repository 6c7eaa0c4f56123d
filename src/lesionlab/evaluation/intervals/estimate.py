"""Estimate: a value with its interval, from bootstrap replicates or a Wilson score."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
"""One metric, a value per replicate, nan where it is not defined, shape (replicates,)."""

LEVEL = 0.95
"""Every interval is a 95 % interval."""

UNDEFINED_LIMIT = 0.05
"""An interval is withheld where a larger share of its replicates is not defined."""

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
    from scipy.special import expit, logit, stdtrit  # slow to import: `predict` has no interval

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
