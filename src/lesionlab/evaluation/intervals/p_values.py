"""p values of a bootstrap, and what many of them at once are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from lesionlab.evaluation.intervals.estimate import LEVEL, UNDEFINED_LIMIT, Values

ALPHA = 1 - LEVEL
"""Adjusted p values below this are called a difference."""

Key = TypeVar("Key")


def bootstrap_p(values: Values) -> float:
    """The p value of "the difference is 0" that goes with its percentile interval, two-sided.

    Twice the smaller share of replicates on one side of 0, the value itself counted among them
    (Davison and Hinkley, Bootstrap Methods and their Application, 1997, ch. 4): below 0.05 just
    where the 95 % interval excludes 0, and never below 2 / (replicates + 1).

    Args:
        values: differences, shape (replicates + 1,); the first is the value itself.

    Returns:
        0-1; nan where there is no interval.
    """
    drawn = values[1:]
    usable = drawn[~np.isnan(drawn)]
    if math.isnan(values[0]) or not len(usable):
        return math.nan
    if len(usable) < (1 - UNDEFINED_LIMIT) * len(drawn):
        return math.nan
    side = min(int((usable <= 0).sum()), int((usable >= 0).sum()))
    return min(1.0, 2 * (side + 1) / (len(usable) + 1))


def least_p(replicates: int) -> float:
    """The smallest p value that `bootstrap_p` can give; 1 without replicates."""
    return min(1.0, 2 / (replicates + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values so that the chance of one false finding among all of them stays at the level.

    Holm's step-down method (Scand. J. Stat. 6:65-70, 1979); valid however the tests depend on one
    another.

    Args:
        p_values: 0-1; nan = not tested, and not counted.

    Returns:
        Adjusted p values in the same order, nan where there was none.
    """
    given = np.asarray(p_values, dtype=np.float64)
    made = np.full(len(given), np.nan)
    tested = np.flatnonzero(~np.isnan(given))
    order = tested[np.argsort(given[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    made[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * factors))
    return [float(each) for each in made]


def holm_by_key(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """`holm` of a mapping's values, under the same keys."""
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))


def too_few(replicates: int, tests: int) -> str:
    """What to say where so few replicates could call no single difference real; "" elsewhere."""
    floor = least_p(replicates) * tests
    if not replicates or floor < ALPHA:
        return ""
    needed = math.ceil(2 * tests / ALPHA)
    return (
        f"{tests} differences were tested at once, and with {replicates} replicates no single one "
        f"can get an adjusted p below {min(1.0, floor):.2g}. Take {needed} replicates or more."
    )
