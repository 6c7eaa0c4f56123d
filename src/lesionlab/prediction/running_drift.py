"""Whether what a server is shown lately looks like what its model was made for."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lesionlab.errors import SettingsError

if TYPE_CHECKING:
    from lesionlab.prediction.bundle import Bundle

FEWEST = 100
"""Images below which nothing is said."""

LARGEST = 0.15
"""Distance of two distributions that is no drift yet, however many images show it."""

_CHANCE = 1.95  # the Kolmogorov-Smirnov distance that chance exceeds once in 1,000, times the root


class Drift:
    """The last images that were answered, compared with what the bundle was made for.

    Compared are how unlike the training images they are, and how probable the likeliest class is:
    another camera changes the first, easier or harder images the second. The distance is
    Kolmogorov and Smirnov's, the largest gap between two cumulative shares.

    Args:
        bundle: that answers.
        last: how many images count.

    Raises:
        SettingsError: if the bundle keeps nothing to compare with.
    """

    def __init__(self, bundle: Bundle, last: int) -> None:
        if not bundle.usual:
            raise SettingsError(
                f"{bundle.path} keeps nothing to compare with: it was exported before bundles did. "
                "Export it again, or serve without --drift."
            )
        self._usual = {name: np.sort(each) for name, each in bundle.usual.items()}
        self._last = {name: deque[float](maxlen=last) for name in self._usual}

    def add(self, values: Mapping[str, float]) -> None:
        """Count an image in.

        Args:
            values: novelty and likeliest, as in `Bundle.usual`.
        """
        for name, kept in self._last.items():
            kept.append(values[name])

    def report(self) -> dict[str, Any]:
        """Images that were compared, the distance of each measure (0-1), and whether it is drift.

        Below `FEWEST` images there is no distance.
        """
        images = len(next(iter(self._last.values())))
        told: dict[str, Any] = {"images": images, "distances": {}, "drifted": False}
        if images < FEWEST:
            return told
        for name, usual in self._usual.items():
            found = distance(usual, np.sort(np.array(self._last[name])))
            told["distances"][name] = found
            by_chance = _CHANCE * (1 / len(usual) + 1 / images) ** 0.5
            told["drifted"] |= found > max(LARGEST, by_chance)
        return told


def distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The largest gap between the cumulative shares of two sorted samples, 0-1."""
    points = np.concatenate([one, other])
    shares = [np.searchsorted(each, points, side="right") / len(each) for each in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())
