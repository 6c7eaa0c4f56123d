"""Score drawn submissions with the official ISIC scorer and keep its numbers for the tests.

Runs in an environment of its own, since the scorer needs an old pandas:

    python -m venv scorer
    scorer/bin/pip install isic-challenge-scoring==5.6.0 "pandas<2.2" "numpy<2" scikit-learn==1.9.1
    scorer/bin/python tools/isic_reference.py tests/evaluation/isic_reference.json

Submissions are drawn from seeds, 20 random and 15 adversarial ones; tests draw the same again.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
SHARES = (0.11, 0.5, 0.08, 0.06, 0.15, 0.05, 0.05)
METRICS = ("balanced_accuracy", "auc", "ap")
IGNORED = "ISIC_0035068"


class Case:
    """One ground truth and one submission, changed step by step, then written as text."""

    def __init__(self, seed: int, images: int, digits: int = 6) -> None:
        self.rng = np.random.default_rng(seed)
        self.classes = list(CLASSES)
        self.names = [f"ISIC_{34000 + seed * 500 + i:07d}" for i in range(images)]
        self.labels = np.searchsorted(np.cumsum(SHARES), self.rng.random(images) * 0.999)
        self.labels[:14] = np.arange(14) % 7
        scores = self.rng.random((images, 7)) ** 3
        scores[np.arange(images), self.labels] += self.rng.random(images)
        self.given = np.round(scores / scores.sum(axis=1, keepdims=True), digits)
        self.weights: dict[str, np.ndarray[Any, Any]] = {}
        self.truth = np.eye(7)[self.labels]
        self.rows = np.arange(images)
        self.shown = np.arange(images)
        self.columns = list(range(7))
        self.ending = ""
        self.number: Callable[[float], str] = repr

    def truth_text(self) -> str:
        """The ground truth as CSV."""
        lines = [",".join(["image", *self.classes, *self.weights])]
        for i in self.rows:
            values = [*self.truth[i], *(weight[i] for weight in self.weights.values())]
            lines.append(",".join([self.names[i], *(repr(float(value)) for value in values)]))
        return "\n".join(lines) + "\n"

    def submission_text(self) -> str:
        """The submission as CSV."""
        lines = [",".join(["image", *(self.classes[c] for c in self.columns)])]
        for i in self.shown:
            values = [self.number(float(self.given[i, c])) for c in self.columns]
            lines.append(",".join([self.names[i] + self.ending, *values]))
        return "\n".join(lines) + "\n"


def cases() -> dict[str, Case]:
    """All submissions by name."""
    made = {f"random_{seed:02d}": _random(seed) for seed in range(20)}

    made["all_equal"] = case = Case(20, 70)
    case.given[:] = 0.142857
    made["two_share_the_top"] = case = Case(21, 90)
    case.given[::2, 1] = case.given[::2].max(axis=1)
    made["exactly_a_half"] = case = Case(22, 80)
    case.given[:] = 0.0
    case.given[np.arange(80), case.labels] = 0.5
    case.given[np.arange(80), (case.labels + 1) % 7] = 0.5
    case.given[::5] *= 1.5
    made["coarse_and_not_adding_up"] = case = Case(23, 90, digits=1)
    case.given = np.round(case.rng.random((90, 7)), 1)
    made["perfect"] = case = Case(24, 60)
    case.given = case.truth.copy()
    made["everything_called"] = case = Case(25, 60)
    case.given = np.round(0.6 + 0.3 * case.given, 6)
    made["ignored_image"] = case = Case(26, 70)
    case.names[3] = IGNORED
    case.given[3] = [0.01, 0.9, 0.02, 0.03, 0.02, 0.01, 0.01]
    made["ignored_image_is_the_only_one_of_its_class"] = case = Case(27, 70)
    case.truth[case.labels == 5] = np.eye(7)[1]
    case.names[40] = IGNORED
    case.truth[40] = np.eye(7)[5]
    made["absent_class"] = case = Case(28, 70)
    case.truth[case.labels == 6] = np.eye(7)[1]
    made["class_without_validation_weight"] = case = Case(29, 90)
    case.weights = {
        "score_weight": np.ones(90),
        "validation_weight": (case.labels != 2).astype(float),
    }
    made["unequal_weights_and_an_unsorted_truth"] = case = Case(30, 90)
    case.rows = case.rng.permutation(90)
    case.weights = {
        "score_weight": np.round(case.rng.random(90) * 4) / 4,
        "validation_weight": (case.rng.random(90) < 0.5).astype(float),
    }
    case.weights["score_weight"][:14] = 1.0
    case.names[20] = IGNORED
    made["no_validation_weight"] = case = Case(31, 60)
    case.weights = {"score_weight": np.ones(60), "validation_weight": np.zeros(60)}
    made["images_of_no_class_and_of_two"] = case = Case(32, 80)
    case.truth[50:55] = 0.0
    case.truth[60:63, 0] = 1.0
    made["whole_numbers"] = case = Case(33, 60)
    case.given = case.truth.copy()
    case.number = lambda value: str(int(value))
    made["equal_but_for_the_last_digit"] = case = Case(34, 90)
    case.given = np.clip(np.round(case.given, 2) + 0.1 + 0.2 * (case.labels % 2)[:, None], 0, 1)
    return made


def _random(seed: int) -> Case:
    case = Case(seed, 60 + 6 * seed, digits=6 if seed % 3 else 2)
    case.shown = case.rng.permutation(len(case.names))
    if seed % 2:
        case.columns = [int(c) for c in case.rng.permutation(7)]
        case.ending = ".jpg"
    if seed % 4 == 3:
        weight = (case.rng.random(len(case.names)) < 0.7).astype(float)
        weight[:14] = 1.0
        case.weights = {"score_weight": weight, "validation_weight": np.roll(weight, 1)}
    return case


def digest(case: Case) -> str:
    """Hash of both files, so that a test knows that it drew the same."""
    return hashlib.sha256((case.truth_text() + case.submission_text()).encode()).hexdigest()[:16]


def main() -> None:
    import io

    import pandas
    import sklearn
    from isic_challenge_scoring import (  # type: ignore[import-not-found]
        ClassificationMetric,
        ClassificationScore,
    )

    warnings.simplefilter("ignore")
    found: dict[str, Any] = {}
    for name, case in cases().items():
        entry: dict[str, Any] = {"files": digest(case)}
        for metric in METRICS:
            try:
                score = ClassificationScore.from_stream(
                    io.StringIO(case.truth_text()),
                    io.StringIO(case.submission_text()),
                    ClassificationMetric(metric),
                )
            except Exception as error:  # whatever it ends in is what a test expects
                entry["error"] = f"{type(error).__name__}: {error}"[:120]
                continue
            entry[metric] = [float(score.overall), float(score.validation)]
            entry["per_category"] = score.per_category.to_numpy().tolist()
            entry["macro_average"] = score.macro_average.to_numpy().tolist()
            entry["aggregate"] = float(score.aggregate["balanced_accuracy"])
        found[name] = entry
        print(name, entry.get("error", entry.get("balanced_accuracy")))
    value = {
        "scorer": "isic-challenge-scoring 5.6.0",
        "scikit-learn": sklearn.__version__,
        "pandas": pandas.__version__,
        "cases": found,
    }
    lines = json.dumps(value, indent=None).replace(', "random_', ',\n"random_')
    Path(sys.argv[1]).write_text(lines.replace('}, "', '},\n"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
