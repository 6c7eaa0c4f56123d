"""How often the 95 % intervals of `evaluate` hold the truth, where the truth is known.

    python tools/coverage.py --runs 2000

**Images.** Lesions of HAM10000's seven classes, as many of each class as the design says, in part
test and again in part val (thresholds come from there). A lesion of class c has 1 to 4 images,
drawn from the frequencies with which HAM10000's lesions of that class have so many. An image has a
score per class: normal noise of variance 1, of which the share `clustering` is common to all images
of a lesion and the rest is the image's own; the true class's score is higher by the class's skill.
The noise of the classes is independent, and how hard a lesion is has nothing to do with how often
it was photographed. Probabilities are the softmax of 1.5 times the scores.

**Truth.** The recall of a class is an integral over one normal variable and is computed as that; so
are balanced accuracy and accuracy, for images in the design's expected shares. Skills are solved
for the recalls of `MODELS`. AUROCs (against the other classes in their expected shares of images),
log loss, Brier score and the sensitivity at the threshold that each simulated val part chose come
from `--many` independent images per class; the largest Monte-Carlo standard error of each truth is
printed, and how much of an interval's mean width it is.

**Intervals** are those of `evaluate` itself, on the table that a user would hand it. A figure
without interval counts as a miss. Printed per design, model and clustering: the share of the
simulations whose interval holds the truth, with its standard error (0.5 points of 95 % over 2,000),
the share of those that lie wholly below or above it, and the mean width.

With --percentile, intervals are the quantiles of the replicates instead, for comparison. With
--pairs, two models with the same recalls, half of whose noise is one, are compared by `compare`:
how often the interval of their difference holds the true one, 0.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from lesionlab.evaluation.comparison.compare import compare
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.intervals import bootstrap
from lesionlab.numerics import log_softmax, softmax

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
POSITIVE = "mel"
SHARP = 1.5

IMAGES: dict[str, tuple[float, ...]] = {  # of lesions with 1, 2, 3, 4 or more images in HAM10000
    "akiec": (0.662, 0.250, 0.079, 0.009),
    "bcc": (0.535, 0.361, 0.101, 0.003),
    "bkl": (0.605, 0.303, 0.076, 0.016),
    "df": (0.534, 0.356, 0.110, 0.0),
    "mel": (0.375, 0.453, 0.163, 0.009),
    "nv": (0.817, 0.129, 0.050, 0.004),
    "vasc": (0.653, 0.255, 0.082, 0.010),
}
DESIGNS: dict[str, tuple[int, ...]] = {
    "30 of each class": (30,) * 7,
    "60 of each class": (60,) * 7,
    "a fold of HAM10000": (46, 65, 145, 14, 123, 1080, 19),
}
MODELS: dict[str, tuple[float, ...]] = {  # true recalls
    "fair": (0.45, 0.60, 0.55, 0.40, 0.55, 0.85, 0.70),
    "good": (0.75, 0.85, 0.80, 0.75, 0.75, 0.95, 0.90),
    "near perfect": (0.96, 0.98, 0.96, 0.95, 0.95, 0.99, 0.99),
}
CELLS = (
    *((design, model, of) for design in list(DESIGNS)[:1] for model in MODELS for of in (0.3, 0.9)),
    *((design, model, 0.9) for design in list(DESIGNS)[1:] for model in MODELS),
)
"""What is simulated: design, model, clustering."""

AT = f"sensitivity_at_90_specificity/{POSITIVE}"
SHOWN = ("balanced_accuracy", "macro_auroc", "accuracy", AT, "log_loss", "brier")


@dataclass(frozen=True)
class Population:
    """A model and very many images of every class that it has seen none of.

    Attributes:
        skills: by class, shape (7,).
        recalls: the true ones, shape (7,).
        scores: probabilities of the very many, shape (7, many, 7): [truth, image, class].
        losses: minus log of the true class's probability, shape (7, many).
    """

    skills: Floats
    recalls: Floats
    scores: Floats
    losses: Floats

    @classmethod
    def of(cls, recalls: tuple[float, ...], many: int, seed: int) -> Population:
        """Solve for the skills that give these recalls, and draw."""
        skills = np.array([brentq(lambda s, r=r: _recall(s) - r, -5, 12) for r in recalls])
        scores, losses = np.empty((7, many, 7)), np.empty((7, many))
        rng = np.random.default_rng([seed, 1])
        for label in range(7):
            logits = rng.normal(size=(many, 7))
            logits[:, label] += skills[label]
            losses[label] = -log_softmax(SHARP * logits)[:, label]
            scores[label] = softmax(SHARP * logits)
        return cls(skills, np.array([_recall(each) for each in skills]), scores, losses)


def _recall(skill: float) -> float:
    """The chance that the true class's score is above those of the six others."""
    x = np.linspace(-9, 9, 6001)
    return float((np.exp(-(x**2) / 2) * ndtr(x + skill) ** 6).sum() * (x[1] - x[0]) / 2.5066282746)


def truths(population: Population, lesions: tuple[int, ...]) -> dict[str, tuple[float, float]]:
    """True values and their Monte-Carlo standard errors, but for the operating point."""
    images = [n * _mean_images(name) for name, n in zip(CLASSES, lesions, strict=True)]
    shares = np.array(images) / sum(images)
    recalls, many = population.recalls, population.losses.shape[1]
    found = {f"recall/{name}": (float(r), 0.0) for name, r in zip(CLASSES, recalls, strict=True)}
    found["balanced_accuracy"] = float(recalls.mean()), 0.0
    found["accuracy"] = float(shares @ recalls), 0.0
    areas, variances = np.zeros(7), np.zeros(7)
    for label in range(7):
        own = np.sort(population.scores[label, :, label])
        beaten = np.zeros(many)
        for other in range(7):
            if other == label:
                continue
            theirs = population.scores[other, :, label]
            share = shares[other] / (1 - shares[label])
            beaten += share * np.searchsorted(np.sort(theirs), own) / many
            variances[label] += share**2 * (np.searchsorted(own, theirs) / many).var() / many
        areas[label] = beaten.mean()
        variances[label] += beaten.var() / many
    found["macro_auroc"] = float(areas.mean()), float(np.sqrt(variances.sum()) / 7)
    truth = np.eye(7)[:, None, :]
    squares = ((population.scores - truth) ** 2).sum(axis=2)
    for name, each in (("log_loss", population.losses), ("brier", squares)):
        error = np.sqrt((shares**2 * each.var(axis=1)).sum() / many)
        found[name] = float(shares @ each.mean(axis=1)), float(error)
    return found


def _mean_images(name: str) -> float:
    return float(np.dot(np.arange(1, 5), IMAGES[name]) / sum(IMAGES[name]))


def draw(
    rng: np.random.Generator, lesions: tuple[int, ...], part: str, clustering: float
) -> tuple[pd.DataFrame, Index, Floats]:
    """Draw images of one part: table without probabilities, classes (n,), noise (n, 7)."""
    sizes = np.concatenate(
        [
            1 + rng.choice(4, size=n, p=np.array(IMAGES[name]) / sum(IMAGES[name]))
            for name, n in zip(CLASSES, lesions, strict=True)
        ]
    )
    of = np.repeat(np.arange(len(sizes)), sizes)
    targets = np.repeat(np.arange(7), lesions)[of]
    noise = noise_of(rng, of, clustering)
    table = pd.DataFrame(
        {
            "image_id": [f"{part}{i:05d}" for i in range(len(of))],
            "lesion_id": [f"{part}{i:05d}" for i in of],
            "target": np.array(CLASSES)[targets],
            "part": part,
        }
    )
    return table, targets, noise


def noise_of(rng: np.random.Generator, of: Index, clustering: float) -> Floats:
    """Noise of the scores, shape (n, 7), of images of lesions `of`, shape (n,)."""
    common = rng.normal(size=(of.max() + 1, 7))[of]
    own = rng.normal(size=(len(of), 7))
    return np.asarray(np.sqrt(clustering) * common + np.sqrt(1 - clustering) * own)


def answered(table: pd.DataFrame, targets: Index, noise: Floats, skills: Floats) -> pd.DataFrame:
    """The table with the model's probabilities."""
    scores = noise.copy()
    scores[np.arange(len(targets)), targets] += skills[targets]
    columns = [f"p_{name}" for name in CLASSES]
    return pd.concat([table, pd.DataFrame(softmax(SHARP * scores), columns=columns)], axis=1)


def simulate(
    population: Population,
    lesions: tuple[int, ...],
    clustering: float,
    runs: int,
    replicates: int,
    seed: int,
) -> pd.DataFrame:
    """Draw, evaluate, and compare with the truth.

    Returns:
        One row per run and metric: metric, truth, error (its own), value, low, high.
    """
    known = truths(population, lesions)
    label = CLASSES.index(POSITIVE)
    scores = np.sort(population.scores[label, :, label])
    rows = []
    for run in range(runs):
        rng = np.random.default_rng([seed, 2, run])
        parts = [draw(rng, lesions, part, clustering) for part in ("test", "val")]
        table = pd.concat([answered(*each, population.skills) for each in parts])
        found = evaluate(table, replicates=replicates, seed=run)
        threshold = found.thresholds[AT.removeprefix("sensitivity_")]
        share = 1 - np.searchsorted(scores, threshold) / len(scores)
        known[AT] = share, float(np.sqrt(share * (1 - share) / len(scores)))
        for name, (true, error) in known.items():
            each = found[name]
            rows.append((name, true, error, each.value, each.low, each.high))
    return pd.DataFrame(rows, columns=["metric", "truth", "error", "value", "low", "high"])


def pairs(
    population: Population,
    lesions: tuple[int, ...],
    clustering: float,
    runs: int,
    replicates: int,
    seed: int,
) -> pd.DataFrame:
    """As `simulate`, for differences between two equally good models, half of whose noise is one.

    Class by class the second model is as good as the first, so all true differences are 0.
    """
    rows = []
    for run in range(runs):
        rng = np.random.default_rng([seed, 3, run])
        table, targets, noise = draw(rng, lesions, "test", clustering)
        of = pd.factorize(table["lesion_id"])[0]
        other = np.sqrt(0.5) * noise + np.sqrt(0.5) * noise_of(rng, of, clustering)
        models = {
            name: answered(table, targets, each, population.skills)
            for name, each in (("one", noise), ("two", other))
        }
        found = compare(
            models, metrics=("balanced_accuracy", "macro_auroc"), replicates=replicates, seed=run
        )
        for (_, _, name), each in found.differences.items():
            rows.append((name, 0.0, 0.0, each.value, each.low, each.high))
    return pd.DataFrame(rows, columns=["metric", "truth", "error", "value", "low", "high"])


def percentile(_: float, drawn: Floats, *__: object) -> tuple[float, float]:
    """Takes the place of `transformed_interval`."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def coverage(found: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """Of each metric: held, under, over (misses), none (no interval), width, error, bias."""
    for name, each in found.groupby("metric", sort=False):
        none = each["low"].isna()
        under, over = each["high"] < each["truth"], each["low"] > each["truth"]
        yield (
            str(name),
            pd.Series(
                {
                    "held": (~(none | under | over)).mean(),
                    "under": under.mean(),
                    "over": over.mean(),
                    "none": none.mean(),
                    "width": (each["high"] - each["low"]).mean(),
                    "truth": each["truth"].mean(),
                    "error": each["error"].max(),
                    "bias": (each["value"] - each["truth"]).mean(),
                }
            ),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--many", type=int, default=200_000, help="images per class for the truth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--design", help="only designs that begin so")
    parser.add_argument("--model", help="only models that begin so")
    parser.add_argument("--pairs", action="store_true", help="differences between two models")
    parser.add_argument("--percentile", action="store_true", help="as they were made before")
    options = parser.parse_args()
    if options.percentile:
        mock.patch.object(bootstrap, "transformed_interval", percentile).start()
    print(
        "| lesions | model | clustering | figure | truth | 95 % interval holds it | "
        "all below it | all above it | mean width | s.e. of the truth / width |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for design, model, clustering in CELLS:
        if not design.startswith(options.design or "") or not model.startswith(options.model or ""):
            continue
        population = Population.of(MODELS[model], options.many, options.seed)
        start = time.perf_counter()
        function = pairs if options.pairs else simulate
        found = function(
            population,
            DESIGNS[design],
            clustering,
            options.runs,
            options.replicates,
            options.seed,
        )
        for name, each in coverage(found):
            if name not in SHOWN and not name.startswith("recall/"):
                continue
            chance = (each["held"] * (1 - each["held"]) / options.runs) ** 0.5
            without = f", none {each['none']:.1%}" if each["none"] else ""
            print(
                f"| {design} | {model} | {clustering} | {name.replace('_', ' ')} | "
                f"{each['truth']:.4f} | {each['held']:.1%} ± {chance:.1%}{without} | "
                f"{each['under']:.1%} | {each['over']:.1%} | {each['width']:.4f} | "
                f"{each['error'] / each['width']:.3f} |",
                flush=True,
            )
        minutes = (time.perf_counter() - start) / 60
        print(f"<!-- {options.runs} simulations in {minutes:.1f} minutes -->", flush=True)


if __name__ == "__main__":
    main()
