"""Verbs that show the whole chain and the machine.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from pathlib import Path

from lesionlab.cli.outcome import Outcome, WarningsLast, headline, training_room
from lesionlab.progress import Listener


def demo(
    *,
    data: Path | None = None,
    out: Path = Path("demo"),
    fresh: bool = False,
    listen: Listener,
) -> Outcome:
    """Show the default model, then draw lesions, audit and split them, train a net, report.

    Example: lesionlab demo
    Example: lesionlab demo --data data/ham10000 --out runs/demo

    Args:
        data: a folder of real images to use instead of drawn ones.
        out: folder for everything that the demo makes.
        fresh: draw and train anew, whatever an earlier demo left there.
    """
    training_room()
    from lesionlab.demo import demonstrate

    last = WarningsLast(listen)
    result, page = demonstrate(out, data=data, fresh=fresh, listen=last)
    outcome = headline(result, "Test part: lesions the network has never seen")
    outcome.lines.append(f"Report: {page}")
    outcome.warnings = last.warnings
    return outcome


def doctor(*, listen: Listener) -> Outcome:  # noqa: ARG001
    """Say what is installed, what the machine has, and what is missing for which verb.

    Example: lesionlab doctor
    """
    from lesionlab.environment import diagnose

    table, lines = diagnose()
    return Outcome([("This machine", table)], lines)
