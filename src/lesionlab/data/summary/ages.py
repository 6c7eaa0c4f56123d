"""Ages: groups, quartiles, histogram and density. Unknown is counted apart; 0 is an age."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

EDGES = (20, 40, 60, 80, 100)
"""Upper ends of the age groups in years, inclusive."""
BINS = 30
"""Bins of the histogram."""


def groups(years: pd.Series) -> tuple[pd.Series, list[str]]:
    """Sort ages into groups.

    Args:
        years: NaN = unknown. Age 0 belongs to the first group.

    Returns:
        The group of each age ("0–20", "21–40", ..., "81–100", "over 100"; "" where it is unknown),
        and the names of the groups in order, "over 100" only where somebody is.
    """
    lows = (0, *(edge + 1 for edge in EDGES[:-1]))
    names = [f"{low}–{high}" for low, high in zip(lows, EDGES, strict=True)]
    found = pd.cut(years, [-np.inf, *EDGES, np.inf], labels=[*names, "over 100"])
    over = ["over 100"] if (years > EDGES[-1]).any() else []
    return found.astype(object).where(years.notna(), ""), [*names, *over]


def describe(frame: pd.DataFrame, by: str = "target") -> pd.DataFrame:
    """Describe the ages of all images and of each group.

    Returns:
        Columns group ("all" first), images, known, unknown, at_zero, mean, sd (n - 1), min, q1,
        median, q3, max, all but the counts in years.
    """
    rows = [_of("all", frame["age"])]
    for name, group in frame.groupby(by, observed=False):
        rows.append(_of(str(name), group["age"]))
    return pd.DataFrame(rows)


def _of(name: str, values: pd.Series) -> dict[str, object]:
    known = values.dropna()
    low, q1, median, q3, high = known.quantile([0, 0.25, 0.5, 0.75, 1])
    return {
        "group": name,
        "images": len(values),
        "known": len(known),
        "unknown": len(values) - len(known),
        "at_zero": int((known == 0).sum()),
        "mean": known.mean(),
        "sd": known.std(),
        "min": low,
        "q1": q1,
        "median": median,
        "q3": q3,
        "max": high,
    }


def values(frame: pd.DataFrame) -> pd.DataFrame:
    """Count every age as it was recorded: columns age, images."""
    counts = frame["age"].value_counts().sort_index()
    return pd.DataFrame({"age": counts.index.to_numpy(float), "images": counts.to_numpy(int)})


def histogram(frame: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Count ages in bins of equal width over their range; the last bin holds its upper end.

    Returns:
        Columns from_age, to_age (years) and images; no row where no age is known.
    """
    known = frame["age"].dropna().to_numpy(float)
    if not len(known):
        return pd.DataFrame({"from_age": [], "to_age": [], "images": []})
    counts, edges = np.histogram(known, bins)
    return pd.DataFrame({"from_age": edges[:-1], "to_age": edges[1:], "images": counts})


def curves(frame: pd.DataFrame, points: int = 200) -> pd.DataFrame:
    """The density of the ages, smoothed and as a normal distribution with their mean and deviation.

    Returns:
        Columns age (years, over the known range), density and normal (both per year); no row where
        all known ages are one.
    """
    known = frame["age"].dropna().to_numpy(float)
    if len(known) < 2 or known.std() == 0:
        return pd.DataFrame({"age": [], "density": [], "normal": []})
    at = np.linspace(known.min(), known.max(), points)
    mean, deviation = known.mean(), known.std(ddof=1)
    normal = _gauss((at - mean) / deviation) / deviation
    return pd.DataFrame({"age": at, "density": kernel_density(known, at), "normal": normal})


def kernel_density(values: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian kernel density estimate with Scott's bandwidth, sd * n^(-1/5).

    D. W. Scott, Multivariate Density Estimation, Wiley 1992, section 6.5.

    Args:
        values: shape (n,), n of 2 or more, not all equal.
        at: where to estimate, shape (points,).

    Returns:
        Shape (points,), per unit of the values.
    """
    width = values.std(ddof=1) * len(values) ** -0.2
    distinct, counts = np.unique(values, return_counts=True)
    kernels = _gauss((at[:, None] - distinct) / width) @ counts
    return np.asarray(kernels / (len(values) * width))


def _gauss(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))
