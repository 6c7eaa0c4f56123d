"""Commands about what a probability is worth.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

from pathlib import Path

from lesionlab.cli.declaration import Call, command
from lesionlab.cli.outcome import Outcome, shown
from lesionlab.errors import SettingsError


@command(
    "evaluation.calibration.calibrate.calibrate",
    "calibrate runs/first --out runs/first-calibrated",
)
def calibrate(
    call: Call,
    *,
    out: Path,
    bins: int = 15,
    replicates: int = 1000,
    seed: int = 0,
    curves: Path | None = None,
) -> Outcome:
    """Make probabilities mean what they say: fit a scaling on val, apply it to every part.

    OUT/predictions.csv is a table like any other, OUT/calibration.json what was fitted. Shown are
    the calibration errors of part test before and after, free of the usual upward bias, and
    whether they can be told apart from 0. `calibrate --prevalence` estimates how common the
    classes are, or re-weights to it.

    Args:
        out: a new folder, or the new table's CSV.
        bins: of confidence.
        replicates: of the lesion-level bootstrap, and of the test.
        seed: of the folds that choose the penalty, of the bootstrap and of the test.
        curves: write the reliability curves, before and after, as CSV.
    """
    import pandas as pd

    from lesionlab.evaluation.calibration.reliability_diagram import reliability_curve
    from lesionlab.evaluation.calibration.report import calibration_errors
    from lesionlab.evaluation.predictions.load import open_predictions
    from lesionlab.files import write_csv

    table = open_predictions(call.options["predictions"])
    scaled = call(predictions=table, seed=seed)
    path = scaled.save(out)
    outcome = Outcome()
    tables = {"before": table, "after": scaled.predictions}
    if (table["part"] == "test").any():
        errors = {
            name: calibration_errors(
                rows, bins=bins, replicates=replicates, seed=seed, listen=call.listen
            )
            for name, rows in tables.items()
        }
        before = errors["before"]
        rows = [
            (name.replace("_", " "), *(result.describe(name) for result in errors.values()))
            for name in before
            if "/" not in name
        ]
        size = before["log_loss"]
        title = f"Part test: {size.n:,} images of {size.groups:,} lesions"
        outcome.tables.append((title, pd.DataFrame(rows, columns=["figure", *tables])))
        if curves:
            drawn = [
                reliability_curve(
                    rows, bins=bins, replicates=replicates, seed=seed, listen=call.listen
                ).assign(when=name)
                for name, rows in tables.items()
            ]
            write_csv(curves, pd.concat(drawn))
            outcome.lines.append(f"Written: {curves}")
    else:
        outcome.lines.append("There is no test part, so nothing was measured.")
    scaling = scaled.scaling
    what = f", temperature {scaling.temperature:.3f}" if scaling.method == "temperature" else ""
    size_of = "{images:,} images of {lesions:,} lesions".format(**scaled.fitted_on)
    losses = ", ".join(f"{name} {loss:.4f}" for name, loss in scaled.log_loss.items())
    outcome.lines += [
        f"Fitted on val ({size_of}){what}. Log loss there: {losses}.",
        f"Written: {path}",
    ]
    return outcome


@command(
    "evaluation.calibration.prevalence.estimate",
    "calibrate --prevalence runs/first-calibrated --method bbse",
    "calibrate --prevalence two.csv --to malignant=0.02 benign=0.98 --out clinic.csv",
)
def prevalence(
    call: Call,
    *,
    to: dict[str, float] | None = None,
    out: Path | None = None,
) -> Outcome:
    """Estimate how common the classes are without labels, or re-weight predictions to it.

    Args:
        to: the share of every class, such as mel=0.1 nv=0.9; nothing is estimated then.
        out: write predictions re-weighted to the estimated or given shares, as CSV.
    """
    from lesionlab.evaluation.calibration.prevalence import reweight
    from lesionlab.evaluation.predictions.load import open_predictions
    from lesionlab.files import write_csv

    table = open_predictions(call.options["predictions"])
    outcome = Outcome()
    if to:
        shares = to
        if out is None:
            raise SettingsError("--to re-weights predictions: say with --out where to write them.")
    else:
        estimated = call(predictions=table)
        shares = estimated.values()
        outcome = shown(estimated)
    if out:
        write_csv(out, reweight(table, shares, listen=call.listen))
        outcome.lines.append(f"Written: {out}")
    return outcome


@command(
    "evaluation.conformal.prediction_sets.conformal",
    "conformal runs/first --alpha 0.1 --by-class --out sets.csv",
    without=("randomised", "penalty", "free"),
)
def conformal(call: Call, *, deterministic: bool = False, out: Path | None = None) -> Outcome:
    """Give each image the set of classes that it may be, right as often as asked for.

    Quantiles come from val, one lesion one voice; the promise holds for an image of a new lesion of
    the same kind, on average over such val parts. Shown are the coverage that came of it and the
    size of the sets, every lesion with the same weight.

    Args:
        deterministic: of aps and raps, without a random draw per image; sets are larger.
        out: write the sets as CSV, and beside it, as JSON, quantiles and figures.
    """
    sets = call(randomised=not deterministic)
    outcome = shown(sets)
    if out:
        sets.save(out)
        outcome.lines.append(f"Written: {out} and {out.with_suffix('.json')}")
    return outcome
