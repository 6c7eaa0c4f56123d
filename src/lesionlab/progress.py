"""How long work tells of itself: one callback, drawn by the command line, ignored by default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Step:
    """Progress of one task.

    Attributes:
        task: what is being done, a few words; also the key of its progress bar.
        done: units finished so far.
        total: units in all, or None where that is not known.
        unit: "images", "bytes", "epochs", ...
        note: a short remark to show behind the bar ("loss 0.71").
        line: a sentence on what was finished just now, for where no bar can be drawn.
    """

    task: str
    done: float
    total: float | None = None
    unit: str = ""
    note: str = ""
    line: str = ""


@dataclass(frozen=True)
class Notice:
    """One sentence for the user, now."""

    text: str
    level: Literal["info", "warning"] = "info"


Listener = Callable[[Step | Notice], None]


def silent(event: Step | Notice) -> None:
    """Listen to nothing: what every function does unless it is told otherwise."""
