"""Check what `lesionlab.evaluation.triage.risk_control` promises, simulated and on real answers.

    python tools/risk_control.py [--runs 2000] [--predictions FILE]

Simulation: every run draws lesions of seven classes, as common as in HAM10000 and with several
images each. What is peculiar to a lesion is 80 % of the variance of its images' features. A model
too sure of itself answers, so nothing rests on calibration. Limits are fitted on one draw, and what
they leave unreferred is measured on 2,000 other malignant lesions (and melanomas), which stand for
the truth.

Repeated splits: the lesions of a predictions table (by default the out-of-fold predictions that
ship with lesionlab) are parted at random. Limits are fitted on one side and measured on the other.
Beside it stands, at the same share of benign lesions referred, a rule that refers whatever has not
exactly one class in its conformal set.

Printed as Markdown tables: means over runs, in brackets 95 % intervals of the mean.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.evaluation.intervals.bootstrap import lesion_codes
from lesionlab.evaluation.predictions.load import arrays_of
from lesionlab.evaluation.triage.referral_cost import referred_by_set_size
from lesionlab.evaluation.triage.risk_control import fit_referral
from lesionlab.tables import check_predictions, classes_of
from lesionlab.taxonomy import HAM7

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

SHIPPED = Path(str(files("lesionlab"))) / "shipped" / "predictions.csv.gz"
PROMISES = ((0.02, 0.02), (0.05, 0.03), (0.1, 0.05))
"""Promises for malignant lesions and for melanomas."""

SHARES = np.array([0.031, 0.044, 0.097, 0.010, 0.082, 0.723, 0.013])  # lesions of HAM10000
IMAGES = (0.75, 0.2, 0.05)  # chances of one, two and three images
APART, OF_LESION, POWER = 2.0, 0.8, 1.3
MALIGNANT = [HAM7.index(label) for label in ("akiec", "bcc", "mel")]
MELANOMA = HAM7.index("mel")
CALIBRATION = (747, 7470)  # lesions of a tenth of HAM10000, and of all
TRUE = 2000


def draw(rng: np.random.Generator, classes: Index) -> tuple[Floats, Index, Index]:
    """Answers of a model about the images of lesions: probabilities, targets, lesion numbers."""
    k, n = len(SHARES), len(classes)
    of = np.repeat(np.arange(n), 1 + rng.choice(len(IMAGES), n, p=IMAGES))
    peculiar = rng.normal(scale=np.sqrt(OF_LESION), size=(n, k))
    features = APART * np.eye(k)[classes[of]] + peculiar[of]
    features += rng.normal(scale=np.sqrt(1 - OF_LESION), size=features.shape)
    logits = POWER * (np.log(SHARES) + APART * features)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True), classes[of], of


def unreferred(yes: NDArray[np.bool_], mask: NDArray[np.bool_], lesions: Index) -> float:
    """Share of lesions of a mask, each by the share of its images, that is not referred."""
    weights = 1 / np.bincount(lesions)[lesions]
    return float(np.average(~yes[mask], weights=weights[mask]))


def simulate(runs: int, lesions: int, miss: float, miss_melanoma: float, seed: int) -> Floats:
    """Missed malignant lesions and melanomas by each limit alone, and by both, shape (runs, 4)."""
    rows = []
    for run in range(runs):
        rng = np.random.default_rng([seed, lesions, run])
        probabilities, targets, of = draw(rng, rng.choice(len(SHARES), lesions, p=SHARES))
        rule = fit_referral(
            probabilities, targets, of, HAM7, miss=miss, miss_melanoma=miss_melanoma
        )
        odds = SHARES[MALIGNANT] / SHARES[MALIGNANT].sum()
        seen, truth, number = draw(rng, rng.choice(MALIGNANT, TRUE, p=odds))
        likely = rule.likely(seen)
        alone = [
            likely | (rule.probability(seen, each.classes) >= each.threshold)
            for each in rule.limits
        ]
        melanoma = truth == MELANOMA
        every = np.ones(len(truth), dtype=bool)
        both = rule.refers(seen)
        rows.append(
            (
                unreferred(alone[0], every, number),
                unreferred(alone[1], melanoma, number),
                unreferred(both, every, number),
                unreferred(both, melanoma, number),
            )
        )
    return np.array(rows)


def split(table: pd.DataFrame, runs: int, miss: float, melanoma: float, part: float) -> Floats:
    """Of random splits: missed by each limit, by both and by sets, and the benign referred."""
    targets, probabilities = arrays_of(table)
    codes, count = lesion_codes(table["lesion_id"].to_numpy(dtype=object))
    classes = classes_of(table)
    rows = []
    for run in range(runs):
        rng = np.random.default_rng([1, run])
        known = rng.permutation(count) < round(part * count)
        fitted, rest = known[codes], ~known[codes]
        rule = fit_referral(
            probabilities[fitted],
            targets[fitted],
            codes[fitted],
            classes,
            miss=miss,
            miss_melanoma=melanoma,
        )
        seen, truth, number = probabilities[rest], targets[rest], codes[rest]
        bad = np.isin(truth, [classes.index(label) for label in rule.malignant])
        mel = np.isin(truth, [classes.index(label) for label in rule.melanoma])
        likely = rule.likely(seen)
        alone = [
            likely | (rule.probability(seen, each.classes) >= each.threshold)
            for each in rule.limits
        ]
        both = rule.refers(seen)
        weights = 1 / np.bincount(number)[number]
        share = 1 - unreferred(both, ~bad, number)
        sets = referred_by_set_size(seen, ~bad, weights, share)
        rows.append(
            (
                unreferred(alone[0], bad, number),
                unreferred(alone[1], mel, number),
                unreferred(both, bad, number),
                unreferred(both, mel, number),
                share,
                unreferred(sets, bad, number),
                unreferred(sets, mel, number),
                1 - unreferred(sets, ~bad, number),
                1 - unreferred(alone[0], ~bad, number),
            )
        )
    return np.array(rows)


def told(values: Floats) -> str:
    """A mean in percent, with its interval."""
    mean, half = 100 * values.mean(), 196 * values.std(ddof=1) / np.sqrt(len(values))
    return f"{mean:.2f} ({mean - half:.2f}–{mean + half:.2f})"


def show(columns: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--predictions", type=Path, default=SHIPPED)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    first = ["calibration lesions", "promise: malignant, melanoma (%)", "limit of malignancy alone"]
    alone = [*first, "limit of melanoma alone: melanomas", "both: malignant", "both: melanomas"]
    print(f"Missed, of 100, in {given.runs:,} simulated runs:\n")
    rows = []
    for lesions in CALIBRATION:
        for miss, melanoma in PROMISES:
            found = simulate(given.runs, lesions, miss, melanoma, given.seed)
            promise = f"{100 * miss:g}, {100 * melanoma:g}"
            rows.append([f"{lesions:,}", promise, *(told(each) for each in found.T)])
    show(alone, rows)
    table = check_predictions(pd.read_csv(given.predictions, dtype={"lesion_id": str}))
    _, count = lesion_codes(table["lesion_id"].to_numpy(dtype=object))
    print(f"Of 100, in {given.runs:,} random splits of the {count:,} lesions:\n")
    rows = []
    for part in (0.1, 0.5):
        for miss, melanoma in PROMISES:
            found = split(table, given.runs, miss, melanoma, part)
            promise = f"{100 * miss:g}, {100 * melanoma:g}"
            rows.append([f"{round(part * count):,}", promise, *(told(each) for each in found.T)])
    show([*alone, "both: benign referred", "one class in the set: malignant", "melanomas",
          "benign referred", "limit of malignancy alone: benign referred"], rows)  # fmt: skip


if __name__ == "__main__":
    main()
