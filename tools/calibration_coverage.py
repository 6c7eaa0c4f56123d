"""Check by simulation what `calibration_errors` promises of intervals and tests.

    python tools/calibration_coverage.py --runs 500

Every run draws lesions of four classes and several images each: a feature per class is the class's
own place, plus what is peculiar to the lesion (80 % of the variance), plus what is to the image.
The exact posterior of the class given one image's features is calibrated by construction, and the
errors of a lesion's images are strongly correlated. "too sure" raises the posteriors to the power
1.3 and scales them to a sum of 1 again. The true errors, in the very bins of each run, are those of
400,000 other images.

Printed as a Markdown table: true error and mean estimate (squared, the debiased ones: these can be
right on average), how often the 95 % interval held the true error, and how often the test told it
apart from 0: with a calibrated truth that should be at most 5 %. The last rows show why the plain
ECE gets no interval.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlab.evaluation.calibration.debiased_bins import Bins
from lesionlab.evaluation.calibration.errors import Binned, errors, if_calibrated, measure
from lesionlab.evaluation.calibration.report import SIGNIFICANCE
from lesionlab.evaluation.intervals.bootstrap import replicate
from lesionlab.evaluation.intervals.estimate import estimate

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

SHARES = np.array([0.6, 0.2, 0.15, 0.05])
CLASSES = ("a", "b", "c", "d")
APART = 1.5
OF_LESION = 0.8
POWERS = {"calibrated": 1.0, "too sure": 1.3}
SETTINGS = {  # lesions, chances of 1, 2, ... images
    "1,500 lesions, 2,000 images (a HAM10000 fold)": (1500, (0.74, 0.21, 0.04, 0.01)),
    "300 lesions, 900 images": (300, (0.2, 0.2, 0.2, 0.2, 0.2)),
}
NAMES = ("calibration_error", "calibration_error_equal_width", "calibration_error_classwise")
ECE = "ece_equal_mass"


@dataclass(frozen=True)
class Drawn:
    """Images: true classes (n,), probabilities (n, k), numbers of the lesions (n,)."""

    targets: Index
    probabilities: Floats
    lesions: Index


def draw(
    rng: np.random.Generator, lesions: int, probabilities: tuple[float, ...], power: float
) -> Drawn:
    """Draw lesions with several images each, and a model's probabilities."""
    k = len(SHARES)
    images = 1 + rng.choice(len(probabilities), size=lesions, p=probabilities)
    classes = rng.choice(k, size=lesions, p=SHARES)
    peculiar = rng.normal(scale=np.sqrt(OF_LESION), size=(lesions, k))
    of = np.repeat(np.arange(lesions), images)
    features = APART * np.eye(k)[classes[of]] + peculiar[of]
    features += rng.normal(scale=np.sqrt(1 - OF_LESION), size=features.shape)
    logits = power * (np.log(SHARES) + APART * features)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Drawn(classes[of], odds / odds.sum(axis=1, keepdims=True), of)


def true_error(gaps: Floats, scores: Floats, bins: Bins, *, squared: bool) -> float:
    """The error in given bins of very many independent images."""
    number = len(bins.edges) - 1
    index = np.searchsorted(bins.edges[1:-1], scores, side="left")
    sums = np.bincount(index, gaps, minlength=number)
    counts = np.maximum(np.bincount(index, minlength=number), 1)
    terms = sums**2 / counts if squared else np.abs(sums)
    return float(terms.sum() / len(scores))


def true_errors(many: Drawn, binned: Binned) -> dict[str, float]:
    """True squared errors in the bins of a run, and the true ECE."""
    top = many.probabilities.argmax(axis=1)
    confidence = many.probabilities[np.arange(len(top)), top]
    gaps = (many.targets == top) - confidence
    by_class = [
        true_error((many.targets == i) - column, column, binned.by_class[i], squared=True)
        for i, column in enumerate(many.probabilities.T)
    ]
    return {
        NAMES[0]: true_error(gaps, confidence, binned.mass, squared=True),
        NAMES[1]: true_error(gaps, confidence, binned.width, squared=True),
        NAMES[2]: float(np.mean(by_class)),
        ECE: true_error(gaps, confidence, binned.mass, squared=False),
    }


def simulate(
    setting: str,
    power: float,
    runs: int,
    replicates: int,
    seed: int,
    bins: int = 15,
    many: int = 400_000,
) -> dict[str, Floats]:
    """Draw data sets and measure each.

    Returns:
        By name, shape (runs, 4): true error, estimate, whether the interval held the truth, whether
        the test told it apart from 0 (nan for the ECE). Errors squared but for the ECE.
    """
    lesions, probabilities = SETTINGS[setting]
    others = draw(np.random.default_rng([seed, 1]), many, (1.0,), power)
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in (*NAMES, ECE)}
    for run in range(runs):
        data = draw(np.random.default_rng([seed, 2, run]), lesions, probabilities, power)
        binned = Binned.of(data.probabilities, data.lesions, bins)
        size = len(data.targets), lesions
        values = replicate(
            [measure(data.targets, data.probabilities, CLASSES, binned)],
            data.lesions.astype(object),
            replicates=replicates,
            seed=run,
        ).values
        ones, seen_classes = np.ones((size[0], 1)), data.targets[:, None]
        seen = errors(ones, seen_classes, data.probabilities, CLASSES, binned)
        null = if_calibrated(
            data.probabilities, data.lesions, lesions, CLASSES, binned, replicates, run
        )
        for name, true in true_errors(others, binned).items():
            interval = estimate(values[name], *size)
            if name == ECE:
                held = interval.low <= true <= interval.high
                rows[name].append((true, interval.value, held, np.nan))
                continue
            p = (1 + (null[name] >= seen[name][0]).sum()) / (1 + replicates)
            low = 0.0 if p >= SIGNIFICANCE else interval.low
            held = low <= max(true, 0) ** 0.5 <= interval.high
            if power == 1:  # what is left of the truth is the noise of the many
                held = low == 0
            rows[name].append((true, float(seen[name][0]), held, p < SIGNIFICANCE))
    return {name: np.array(each, dtype=np.float64) for name, each in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| images | model | error | truth | mean estimate | interval holds it | told from 0 |")
    print("|---|---|---|---|---|---|---|")
    for setting in SETTINGS:
        for model, power in POWERS.items():
            found = simulate(setting, power, options.runs, options.replicates, options.seed)
            for name, each in found.items():
                true, value, held, apart = each.mean(axis=0)
                what = name.replace("_", " ") + ("" if name == ECE else ", squared")
                true = 0.0 if power == 1 else true
                said = "" if name == ECE else f"{apart:.1%}"
                print(
                    f"| {setting} | {model} | {what} | {true:.5f} | {value:.5f} | {held:.1%} | "
                    f"{said} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
