"""Verbs that read predictions and runs.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lesionlab.progress import Listener
from lesionlab.verbs.outcome import Outcome, headline


def evaluate(
    predictions: Path,
    *,
    part: Literal["train", "val", "test"] = "test",
    positive: str = "mel",
    replicates: int = 1000,
    seed: int = 0,
    out: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Score a predictions table, anybody's, with 95 % intervals that respect lesions.

    Example: lesionlab evaluate runs/first

    Args:
        predictions: a run's folder, or a CSV with image_id, target, p_<class>, and optionally
            lesion_id and part.
        part: which part to score; thresholds always come from val.
        positive: the class of the sensitivity figures.
        replicates: of the lesion-level bootstrap.
        seed: of the bootstrap.
        out: write all figures as JSON.
    """
    from lesionlab.evaluation import evaluate as score
    from lesionlab.run import PREDICTIONS, Run

    path = predictions
    if path.is_dir():
        _ = Run.open(path).predictions
        path = path / PREDICTIONS
    result = score(
        path, part=part, replicates=replicates, seed=seed, positive=positive, listen=listen
    )
    outcome = headline(result, f"{predictions}, part {part}")
    if out:
        result.save(out)
        outcome.lines.append(f"Written: {out}")
    return outcome


def report(
    runs: list[Path],
    *,
    out: Path = Path("report.html"),
    data: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Write one self-contained HTML page: data, figures with intervals, curves, pictures, settings.

    Example: lesionlab report runs/first --out report.html

    Args:
        runs: run folders, or predictions tables.
        out: the page to write.
        data: the catalogue's folder, for the example pictures; by default the one trained on.
    """
    from lesionlab.data.catalogues import Catalogue
    from lesionlab.reporting.report import report as write_report

    opened = Catalogue.open(data) if data else None
    path = write_report(runs, out, data=opened, listen=listen)
    return Outcome(lines=[f"Written: {path}. Open it in a browser."])
