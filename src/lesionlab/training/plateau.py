"""The plateau schedule: what it watches, and when it lowers the learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lesionlab.recipe.schema import Plateau


@dataclass
class Watch:
    """What a plateau schedule remembers from epoch to epoch; plain numbers, for the checkpoint.

    Patience and cooldown count as those of Keras's ReduceLROnPlateau, from which the sources'
    figures come: the rate falls in the epoch that is the `patience`-th without a better value, and
    the last epoch of a cooldown counts towards the next fall, so cooldowns of 0 and 1 are the same.
    Unlike Keras, a value is better however little it is.

    Attributes:
        best: best value so far; higher is better.
        stale: epochs without a better value.
        rest: epochs of the cooldown that are left.
        slowdown: what the learning rate is multiplied by now, 1 at first.
    """

    best: float = -math.inf
    stale: int = 0
    rest: int = 0
    slowdown: float = 1.0

    def see(self, schedule: Plateau, value: float) -> None:
        """Take in an epoch's value (higher is better) and adapt `slowdown`."""
        if self.rest:
            self.rest, self.stale = self.rest - 1, 0
        if value > self.best:
            self.best, self.stale = value, 0
        elif not self.rest:
            self.stale += 1
        if self.stale >= schedule.patience and self.slowdown > schedule.floor:
            self.slowdown = max(schedule.floor, self.slowdown * schedule.factor)
            self.stale, self.rest = 0, schedule.cooldown


def watched(schedule: Plateau, values: Mapping[str, float], selection: str) -> float:
    """The value that a plateau watches, turned so that higher is better.

    Args:
        schedule: its `metric` says which.
        values: the epoch's figures of the whole val part.
        selection: the metric by which epochs are chosen.
    """
    if schedule.metric == "loss":
        return -values["val_loss"]
    return values["val_accuracy" if schedule.metric == "accuracy" else f"val_{selection}"]
