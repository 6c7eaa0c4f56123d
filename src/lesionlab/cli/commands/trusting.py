"""Verbs about what a probability is worth.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lesionlab.cli.outcome import Outcome, WarningsLast, pairs
from lesionlab.errors import SettingsError
from lesionlab.progress import Listener


def calibrate(
    predictions: Path,
    *,
    out: Path,
    method: Literal["temperature", "vector", "dirichlet"] = "temperature",
    bins: int = 15,
    replicates: int = 1000,
    seed: int = 0,
    curves: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Make probabilities mean what they say: fit a scaling on val, apply it to every part.

    OUT/predictions.csv is a table like any other, OUT/calibration.json what was fitted. Shown are
    the calibration errors of part test before and after, free of the usual upward bias, and
    whether they can be told apart from 0.

    Example: lesionlab calibrate runs/first --out runs/first-calibrated

    Args:
        predictions: a folder of `lesionlab train`, `folds` or `blend`, or a CSV with a column part.
        out: a new folder, or the new table's CSV.
        method: temperature (one number; no decision changes), vector (two per class) or dirichlet
            (a matrix); the latter two also mend a model that over- or underrates classes.
        bins: of confidence.
        replicates: of the lesion-level bootstrap, and of the test.
        seed: of the folds that choose the penalty, of the bootstrap and of the test.
        curves: write the reliability curves, before and after, as CSV.
    """
    import pandas as pd

    from lesionlab.evaluation.calibration.calibrate import calibrate as fit
    from lesionlab.evaluation.calibration.reliability_diagram import reliability_curve
    from lesionlab.evaluation.calibration.report import calibration_errors
    from lesionlab.evaluation.predictions.load import open_predictions
    from lesionlab.files import write_csv

    last = WarningsLast(listen)
    table = open_predictions(predictions)
    made = fit(table, method=method, seed=seed, listen=last)
    path = made.save(out)
    outcome = Outcome(warnings=last.warnings)
    tables = {"before": table, "after": made.predictions}
    tested = (table["part"] == "test").any()
    if tested:
        found = {
            name: calibration_errors(
                each, bins=bins, replicates=replicates, seed=seed, listen=listen
            )
            for name, each in tables.items()
        }
        rows = [
            (name.replace("_", " "), *(each.said(name) for each in found.values()))
            for name in found["before"]
            if "/" not in name
        ]
        size = found["before"]["log_loss"]
        title = f"Part test: {size.n:,} images of {size.groups:,} lesions"
        outcome.tables.append((title, pd.DataFrame(rows, columns=["figure", *tables])))
        if curves:
            drawn = [
                reliability_curve(
                    each, bins=bins, replicates=replicates, seed=seed, listen=listen
                ).assign(when=name)
                for name, each in tables.items()
            ]
            write_csv(curves, pd.concat(drawn))
            outcome.lines.append(f"Written: {curves}")
    else:
        outcome.lines.append("There is no test part, so nothing was measured.")
    what = f", temperature {made.scaling.temperature:.3f}" if method == "temperature" else ""
    size_of = f"{made.fitted_on['images']:,} images of {made.fitted_on['lesions']:,} lesions"
    losses = ", ".join(f"{name} {loss:.4f}" for name, loss in made.log_loss.items())
    outcome.lines += [
        f"Fitted on val ({size_of}){what}. Log loss there: {losses}.",
        f"Written: {path}",
    ]
    return outcome


def conformal(
    predictions: Path,
    *,
    alpha: float = 0.1,
    method: Literal["lac", "aps", "raps"] = "lac",
    by_class: bool = False,
    deterministic: bool = False,
    part: Literal["train", "test"] = "test",
    replicates: int = 1000,
    seed: int = 0,
    out: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Give each image the set of classes that it may be, right as often as asked for.

    Quantiles come from val, one lesion one voice; the promise holds for an image of a new lesion of
    the same kind, on average over such val parts. Shown are the coverage that came of it and the
    size of the sets, every lesion with the same weight.

    Example: lesionlab conformal runs/first --alpha 0.1 --by-class --out sets.csv

    Args:
        predictions: a folder of `lesionlab train`, `folds` or `blend`, or a CSV with a column part.
        alpha: how often a set may miss the true class.
        method: lac (the smallest sets), aps (larger for hard images) or raps (aps without tails).
        by_class: keep the promise within every class.
        deterministic: of aps and raps, without a random draw per image; sets are larger.
        part: the part to make sets for.
        replicates: of the lesion-level bootstrap.
        seed: of the draws and of the bootstrap.
        out: write the sets as CSV, and beside it, as JSON, quantiles and figures.
    """
    import pandas as pd

    from lesionlab.evaluation.conformal.prediction_sets import conformal as make

    last = WarningsLast(listen)
    made = make(
        predictions,
        alpha=alpha,
        method=method,
        by_class=by_class,
        randomised=not deterministic,
        part=part,
        replicates=replicates,
        seed=seed,
        listen=last,
    )
    rows = []
    for label in ("", *made.classes):
        tail = f"/{label}" if label else ""
        held, size = made[f"coverage{tail}"], made[f"size{tail}"]
        of_val = made.lesions[label]
        rows.append((label or "all", held.n, held.groups, str(held), str(size), of_val))
    columns = ["class", "images", "lesions", "coverage", "classes in a set", "val lesions"]
    outcome = Outcome(
        [
            (
                f"Sets that hold the true class with {1 - alpha:.4g}",
                pd.DataFrame(rows, columns=columns),
            )
        ],
        [f"Sets of one class: {made['single']}. Empty sets: {made['empty']}."],
        last.warnings,
    )
    if out:
        made.save(out)
        outcome.lines.append(f"Written: {out} and {out.with_suffix('.json')}")
    return outcome


def prevalence(
    predictions: Path,
    *,
    method: Literal["em", "bbse"] = "em",
    part: Literal["train", "test"] = "test",
    to: list[str] | None = None,
    replicates: int = 1000,
    seed: int = 0,
    out: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Estimate how common the classes are without labels, or re-weight predictions to it.

    Example: lesionlab prevalence runs/first-calibrated --method bbse
    Example: lesionlab prevalence two.csv --to malignant=0.02 benign=0.98 --out clinic.csv

    Args:
        predictions: a folder of `lesionlab train`, `folds` or `blend`, or a CSV with a column part.
        method: em (likeliest shares; needs calibrated probabilities) or bbse (by the confusion
            matrix of val).
        part: whose images to estimate from; their labels are not looked at.
        to: the share of every class, such as mel=0.1 nv=0.9; nothing is estimated then.
        replicates: of the lesion-level bootstrap.
        seed: of the bootstrap.
        out: write predictions re-weighted to the estimated or given shares, as CSV.
    """
    import pandas as pd

    from lesionlab.evaluation.calibration.prevalence import estimate, reweight
    from lesionlab.evaluation.predictions.load import open_predictions
    from lesionlab.files import write_csv

    last = WarningsLast(listen)
    table = open_predictions(predictions)
    outcome = Outcome(warnings=last.warnings)
    if to:
        shares = {
            name: _number(name, word) for name, word in (pairs(to, "--to", _LIKE) or {}).items()
        }
        if out is None:
            raise SettingsError("--to re-weights predictions: say with --out where to write them.")
    else:
        found = estimate(
            table, method=method, part=part, replicates=replicates, seed=seed, listen=last
        )
        shares = found.values()
        rows = [(name, f"{found.known[name]:.3f}", str(x)) for name, x in found.shares.items()]
        columns = ["class", "share in val", f"estimated share in {part}"]
        outcome.tables.append((f"Prevalence by {method}", pd.DataFrame(rows, columns=columns)))
    if out:
        write_csv(out, reweight(table, shares, listen=last))
        outcome.lines.append(f"Written: {out}")
    return outcome


_LIKE = "mel=0.1 nv=0.9"


def _number(name: str, word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise SettingsError(f"--to {name}={word}: {word!r} is no number.") from error
