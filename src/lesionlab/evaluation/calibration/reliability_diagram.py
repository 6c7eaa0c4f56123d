"""Reliability curves as a table: predicted and observed frequencies, bin by bin, for plots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.errors import SettingsError
from lesionlab.evaluation.calibration.debiased_bins import Bins, Kind, bins_of
from lesionlab.evaluation.calibration.errors import BINS
from lesionlab.evaluation.intervals.bootstrap import estimates, lesion_codes, shares
from lesionlab.evaluation.metrics.classification import decide
from lesionlab.evaluation.predictions.load import Source, arrays_of, open_predictions, rows_of
from lesionlab.progress import Listener, silent
from lesionlab.tables import Part, classes_of

Floats = NDArray[np.float64]

TOP = "likeliest"
"""The curve of the likeliest class; the others are called by their class."""

COLUMNS = (
    *("curve", "bin", "above", "upto", "predicted", "observed"),
    *("low", "high", "images", "lesions"),
)


@dataclass(frozen=True, eq=False)
class _Curve:
    name: str
    scores: Floats
    true: NDArray[np.bool_]
    bins: Bins


def reliability_curve(
    predictions: Source,
    *,
    part: Part = "test",
    bins: int = BINS,
    kind: Kind = "mass",
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> pd.DataFrame:
    """Tabulate said and seen frequencies, of the likeliest class and of every class.

    Args:
        predictions: anything that `evaluate` takes.
        part: train, val or test.
        bins: how many, before equal scores are put together.
        kind: "mass": as many images in each; "width": the range 0-1 in equal steps.
        replicates: of the bootstrap over lesions; 0 gives no intervals.
        seed: of the bootstrap.
        listen: told of the progress.

    Returns:
        One row per curve and bin that holds an image: curve ("likeliest" or a class), bin, above
        and upto (its edges; the first holds its lower edge too), predicted (mean probability),
        observed (frequency) with low and high (95 %, by lesion), images, lesions.

    Raises:
        DataError, FindingsError, SettingsError: as `calibration_errors`.
    """
    if bins < 1:
        raise SettingsError(f"bins is {bins}; choose 1 or more, such as {BINS}.")
    table = open_predictions(predictions)
    rows = rows_of(table, part)
    targets, probabilities = arrays_of(rows)
    lesions = rows["lesion_id"].to_numpy(dtype=object)
    codes, _ = lesion_codes(lesions)
    top = decide(probabilities)
    scores = {TOP: probabilities[np.arange(len(top)), top]}
    true = {TOP: top == targets}
    for i, label in enumerate(classes_of(table)):
        scores[label], true[label] = probabilities[:, i], targets == i
    curves = [
        _Curve(name, each, true[name], bins_of(each, codes, bins, kind))
        for name, each in scores.items()
    ]
    found = estimates(
        [
            shares(
                {(curve.name, b): (curve.true, curve.bins.index == b) for b in curve.bins.filled}
            )
            for curve in curves
        ],
        lesions,
        replicates=replicates,
        seed=seed,
        listen=listen,
    )
    result = []
    for curve in curves:
        for number in curve.bins.filled:
            seen = found[curve.name, number]
            edges = float(curve.bins.edges[number]), float(curve.bins.edges[number + 1])
            said = float(curve.scores[curve.bins.index == number].mean())
            values = seen.value, seen.low, seen.high, seen.n, seen.groups
            result.append((curve.name, int(number) + 1, *edges, said, *values))
    return pd.DataFrame(result, columns=list(COLUMNS))
