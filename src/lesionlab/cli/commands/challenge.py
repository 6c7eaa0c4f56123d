"""Verbs for the files of the ISIC challenges.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lesionlab.cli.outcome import Outcome, WarningsLast
from lesionlab.progress import Listener


def submit(
    predictions: Path,
    *,
    out: Path,
    part: Literal["train", "val", "test"] = "test",
    year: Literal["2018", "2019", "2020"] | None = None,
    truth: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Write predictions as a submission to an ISIC challenge.

    Example: lesionlab submit runs/first --out submission.csv

    Args:
        predictions: a run's folder, or a predictions table, anybody's.
        out: the CSV to write.
        part: which part.
        year: whose columns; by default those of the first challenge that has all classes.
        truth: write the ground truth of the same images too, so that `isic` can score it.
    """
    from lesionlab.evaluation.isic.files import write

    kept = WarningsLast(listen)
    write(predictions, out, part=part, year=year, truth=truth, listen=kept)
    lines = [f"Written: {out}"]
    if truth:
        lines = [f"Written: {out} and {truth}. Next: lesionlab isic {truth} {out}"]
    return Outcome(lines=lines, warnings=kept.warnings)


def isic(
    truth: Path,
    submission: Path,
    *,
    metric: Literal["balanced_accuracy", "auc", "ap"] | None = None,
    own: bool = False,
    out: Path | None = None,
    predictions: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Score an ISIC challenge submission: the official scorer's very numbers.

    Equal to isic-challenge-scoring 5.6.0, its quirks included; docs/how-to/isic.md names them.

    Example: lesionlab isic ISIC2018_Task3_Test_GroundTruth.csv submission.csv

    Args:
        truth: the challenge's ground truth, a CSV.
        submission: the submission, a CSV.
        metric: what it is ranked by; by default balanced_accuracy, or auc for ISIC 2020.
        own: score by lesionlab's own definitions, those of `evaluate`, without the quirks.
        out: write the score as JSON, in the official scorer's layout.
        predictions: write the submission as a predictions table, which the other verbs take.
    """
    import pandas as pd

    from lesionlab.evaluation.isic.files import read
    from lesionlab.evaluation.isic.scorer import COLUMNS, score
    from lesionlab.files import write_csv

    kept = WarningsLast(listen)
    scored = score(truth, submission, metric=metric, quirks=not own, listen=kept)
    said = "by lesionlab's own definitions" if own else "as the official scorer does"
    head = pd.DataFrame(
        [
            (f"overall ({scored.metric})", _digits(scored.overall)),
            ("validation", _digits(scored.validation)),
        ],
        columns=["score", "value"],
    )
    table = scored.per_category.copy()
    table.loc["mean"] = pd.Series(dict(scored.macro_average))
    rows = table.map(_digits).rename_axis("category").reset_index()
    lines = [f"Scored {said}."]
    if out:
        scored.save(out)
        lines.append(f"Written: {out}")
    if predictions:
        made = read(truth, submission, quirks=not own, listen=kept)
        write_csv(predictions, made)
        lines.append(f"Written: {predictions}. Next: lesionlab evaluate {predictions}")
    tables = [(f"{submission}, {scored.images:,} images", head)]
    called = "decisions" if own else "called above 0.5"
    for title, names in ((f"Per category, {called}", COLUMNS[:6]), ("Ranked", COLUMNS[6:])):
        tables.append((title, rows[["category", *names]]))
    return Outcome(tables, lines, kept.warnings)


def _digits(value: float) -> str:
    return f"{value:.4f}"
