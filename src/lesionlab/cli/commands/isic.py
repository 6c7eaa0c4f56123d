"""Commands for the files of the ISIC challenges.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

from pathlib import Path

from lesionlab.advice import command as typed
from lesionlab.cli.declaration import Call, command
from lesionlab.cli.outcome import Outcome


@command("evaluation.isic.files.write", "isic submit runs/first --out submission.csv")
def submit(call: Call) -> Outcome:
    """Write predictions as a submission to an ISIC challenge."""
    out, truth = call(), call.options.get("truth")
    line = f"Written: {out}"
    if truth:
        line += f" and {truth}. Next: {typed('isic score', truth, out)}"
    return Outcome(lines=[line])


@command(
    "evaluation.isic.scorer.score",
    "isic score ISIC2018_Task3_Test_GroundTruth.csv submission.csv",
    without=("quirks",),
)
def score(
    call: Call,
    *,
    own: bool = False,
    out: Path | None = None,
    predictions: Path | None = None,
) -> Outcome:
    """Score an ISIC challenge submission: the official scorer's very numbers.

    Equal to isic-challenge-scoring 5.6.0, its quirks included; docs/how-to/isic.md names them.

    Args:
        own: score by lesionlab's own definitions, those of `evaluate`, without the quirks.
        out: write the score as JSON, in the official scorer's layout.
        predictions: write the submission as a predictions table, which the other commands take.
    """
    import pandas as pd

    from lesionlab.evaluation.isic.files import read
    from lesionlab.evaluation.isic.scorer import COLUMNS
    from lesionlab.files import write_csv

    truth, submission = call.options["truth"], call.options["submission"]
    result = call(quirks=not own)
    head = pd.DataFrame(
        [
            (f"overall ({result.metric})", _digits(result.overall)),
            ("validation", _digits(result.validation)),
        ],
        columns=["score", "value"],
    )
    table = result.per_category.copy()
    table.loc["mean"] = pd.Series(dict(result.macro_average))
    rows = table.map(_digits).rename_axis("category").reset_index()
    how = "by lesionlab's own definitions" if own else "as the official scorer does"
    lines = [f"Scored {how}."]
    if out:
        result.save(out)
        lines.append(f"Written: {out}")
    if predictions:
        write_csv(predictions, read(truth, submission, quirks=not own, listen=call.listen))
        lines.append(f"Written: {predictions}. Next: {typed('evaluate', predictions)}")
    tables = [(f"{submission}, {result.images:,} images", head)]
    called = "decisions" if own else "called above 0.5"
    for title, names in ((f"Per category, {called}", COLUMNS[:6]), ("Ranked", COLUMNS[6:])):
        tables.append((title, rows[["category", *names]]))
    return Outcome(tables, lines)


def _digits(value: float) -> str:
    return f"{value:.4f}"
