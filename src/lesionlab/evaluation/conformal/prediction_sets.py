"""`conformal`: sets of classes that hold the true one as often as promised, for a new lesion.

Quantiles are fitted on part val and applied to another part; see `conformity` for the scores and
for what is promised to whom. The promise is an average over all val parts that could have been
drawn: with a val of K lesions, the coverage that one of them gives spreads by about
sqrt(alpha (1 - alpha) / (K + 2)) around it. It holds for lesions like those of val, and not for
another clinic's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf, isinf, isnan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.display import Result
from lesionlab.errors import SettingsError
from lesionlab.evaluation.calibration.calibrate import leak
from lesionlab.evaluation.conformal.scores import METHODS, Method, draws_of, quantile, scores
from lesionlab.evaluation.intervals.bootstrap import Measure, Weights, estimates, lesion_codes
from lesionlab.evaluation.intervals.estimate import Estimate, Values
from lesionlab.evaluation.predictions.load import Source, arrays_of, open_predictions, rows_of
from lesionlab.files import write_csv, write_json
from lesionlab.numerics import ratio
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import Part, classes_of

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

ALPHA = 0.1


@dataclass(frozen=True, eq=False, repr=False)
class Conformal(Result):
    """Sets of classes, and how they did.

    Attributes:
        sets: one row per image: image_id, lesion_id, target, part, size, set (classes in their
            order, "mel nv"; "" = none fits), covered.
        estimates: coverage, coverage_of_images, size, empty, single; coverage and size of each
            class as "coverage/mel". All but coverage_of_images weigh every lesion the same.
        quantiles: the threshold of every class; infinite where val is too small, and then the class
            is in every set.
        lesions: of val that each quantile rests on.
        classes: in their order.
        settings: alpha, method, by_class, randomised, penalty, free and seed, as given.
        part: the part that the sets are for.
        warnings: what a reader must know.
    """

    sets: pd.DataFrame
    estimates: Mapping[str, Estimate]
    quantiles: Mapping[str, float]
    lesions: Mapping[str, int]
    classes: tuple[str, ...]
    settings: Mapping[str, Any]
    part: str
    warnings: tuple[str, ...]

    def __getitem__(self, name: str) -> Estimate:
        return self.estimates[name]

    def table(self) -> pd.DataFrame:
        """Coverage and size, for all classes together (class "") and for each.

        Returns:
            Columns class, images, lesions, coverage, coverage_low, coverage_high, size, size_low,
            size_high, quantile, val_lesions.
        """
        rows: list[tuple[Any, ...]] = []
        for label in ("", *self.classes):
            tail = f"/{label}" if label else ""
            held, size = self[f"coverage{tail}"], self[f"size{tail}"]
            same = len(set(self.quantiles.values())) == 1
            limit = self.quantiles[label or self.classes[0]] if label or same else np.nan
            of_val = self.lesions.get(label, self.lesions[""])
            ends = held.value, held.low, held.high, size.value, size.low, size.high
            rows.append((label, held.n, held.groups, *ends, limit, of_val))
        columns = ["class", "images", "lesions", "coverage", "coverage_low", "coverage_high"]
        columns += ["size", "size_low", "size_high", "quantile", "val_lesions"]
        return pd.DataFrame(rows, columns=columns)

    def shown(self) -> list[tuple[str, pd.DataFrame]]:
        """Coverage and size, as `Result.shown` says."""
        table = self.table().replace({"class": {"": "all"}})
        return [(f"Sets that hold the true class with {1 - self.settings['alpha']:.4g}", table)]

    @property
    def legend(self) -> tuple[str, ...]:
        """What the sizes are, as `Result.legend` says."""
        return (
            f"Size: classes in a set. Sets of one class: {self['single']}. Empty sets: "
            f"{self['empty']}. val lesions: that the quantile rests on.",
        )

    def to_json(self) -> dict[str, Any]:
        """All but the sets, as plain values; an infinite quantile is None."""
        return {
            "kind": "lesionlab conformal 1",
            **self.settings,
            "part": self.part,
            "classes": list(self.classes),
            "quantiles": {k: None if isinf(q) else q for k, q in self.quantiles.items()},
            "val_lesions": dict(self.lesions),
            "estimates": {
                name: {
                    **{key: _plain(getattr(e, key)) for key in ("value", "low", "high")},
                    "images": e.n,
                    "lesions": e.groups,
                }
                for name, e in self.estimates.items()
            },
            "warnings": list(self.warnings),
        }

    def save(self, path: str | Path) -> None:
        """Write the sets as CSV, and beside it as JSON how they were made and how they did."""
        write_csv(Path(path), self.sets)
        write_json(Path(path).with_suffix(".json"), self.to_json())

    def __repr__(self) -> str:
        return f"<Conformal: coverage {self['coverage']}, size {self['size']}>"


def conformal(
    predictions: Source,
    *,
    alpha: float = ALPHA,
    method: Method = "lac",
    by_class: bool = False,
    randomised: bool = True,
    penalty: float = 0.1,
    free: int = 2,
    part: Part = "test",
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Conformal:
    """Give each image a set of classes that holds the true one with probability 1 - alpha or more.

    Args:
        predictions: anything that `evaluate` takes, with rows of part val.
        alpha: how often a set may miss, above 0 and below 1.
        method: lac (the smallest sets), aps (larger for hard images) or raps (aps without tails).
        by_class: a quantile for each class, fitted on its lesions in val, so that the promise
            holds within every class (Mondrian: Vovk, Gammerman and Shafer, 2005). Without it common
            classes may pay for rare ones.
        randomised: of aps and raps: count a random part of the class's own probability, drawn
            from seed and image_id. Without it no set is empty, and sets are larger.
        penalty: of raps, per place after the first `free`.
        free: of raps.
        part: the part to make sets for: train or test.
        replicates: of the bootstrap over lesions; 0 gives no intervals.
        seed: of the draws and of the bootstrap.
        listen: told of the progress and of every warning.

    Raises:
        DataError: if there is no val part, or none to make sets for.
        FindingsError: with every fault of the table at once.
        SettingsError: if a setting makes no sense, or part is val.

    Example:
        >>> print(conformal("runs/first", by_class=True).table())  # doctest: +SKIP
    """
    _check(alpha, method, penalty, free, part)
    table = open_predictions(predictions)
    classes = classes_of(table)
    val, rows = rows_of(table, "val"), rows_of(table, part)

    def scored(of: pd.DataFrame) -> Floats:
        drawn = draws_of(list(of["image_id"]), seed) if randomised else None
        return scores(arrays_of(of)[1], method, drawn, penalty, free)

    truth, _ = arrays_of(val)
    codes, count = lesion_codes(val["lesion_id"].to_numpy(dtype=object))
    own = scored(val)[np.arange(len(val)), truth]
    lesions = {"": count} | {
        label: len(np.unique(codes[truth == i])) for i, label in enumerate(classes)
    }
    if by_class:
        limits = np.array(
            [quantile(own[truth == i], codes[truth == i], alpha) for i in range(len(classes))]
        )
    else:
        limits = np.full(len(classes), quantile(own, codes, alpha))
    inside: Mask = scored(rows) <= limits
    targets, _ = arrays_of(rows)
    groups = rows["lesion_id"].to_numpy(dtype=object)
    found = estimates(
        [_measure(inside, targets, lesion_codes(groups)[0], classes)],
        groups,
        replicates=replicates,
        seed=seed,
        listen=listen,
    )
    quantiles = {label: float(limit) for label, limit in zip(classes, limits, strict=True)}
    warnings = _warnings(quantiles, lesions, found, alpha, by_class)
    if crossing := leak(table, "val", part):
        warnings.append(crossing)
    for text in warnings:
        listen(Notice(text, "warning"))
    names = np.array(classes, dtype=object)
    sets = rows[["image_id", "lesion_id", "target", "part"]].assign(
        size=inside.sum(axis=1),
        set=[" ".join(names[each]) for each in inside],
        covered=inside[np.arange(len(rows)), targets],
    )
    settings = {"alpha": alpha, "method": method, "by_class": by_class}
    settings |= {"randomised": randomised and method != "lac", "seed": seed}
    settings |= {"penalty": penalty, "free": free} if method == "raps" else {}
    return Conformal(sets, found, quantiles, lesions, classes, settings, part, tuple(warnings))


def _check(alpha: float, method: str, penalty: float, free: int, part: str) -> None:
    faults = []
    if not 0 < alpha < 1:
        faults.append(f"alpha is {alpha}; choose a number above 0 and below 1, such as 0.1")
    if method not in METHODS:
        faults.append(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")
    if penalty < 0 or free < 0:
        faults.append(f"penalty ({penalty}) and free ({free}) are 0 or more")
    if part == "val":
        faults.append("the quantiles are fitted on val; choose part test, or train")
    if faults:
        raise SettingsError("Conformal sets: " + "; ".join(faults) + ".", faults)


def _measure(
    inside: Mask, targets: Index, lesions: Index, classes: tuple[str, ...]
) -> Measure[str]:
    """Shares of lesions, every lesion with the weight 1 spread over its images."""
    covered = inside[np.arange(len(targets)), targets].astype(np.float64)
    size = inside.sum(axis=1).astype(np.float64)
    every = np.ones(len(targets), dtype=bool)
    wanted: dict[str, tuple[Floats, Mask]] = {
        "coverage": (covered, every),
        "size": (size, every),
        "empty": ((size == 0).astype(np.float64), every),
        "single": ((size == 1).astype(np.float64), every),
    }
    for i, label in enumerate(classes):
        wanted[f"coverage/{label}"] = covered, targets == i
        wanted[f"size/{label}"] = size, targets == i
    even = {name: np.zeros(len(targets)) for name in wanted}
    for name, (_, mask) in wanted.items():
        counts = np.bincount(lesions[mask], minlength=lesions.max() + 1)
        even[name][mask] = 1 / counts[lesions[mask]]

    def compute(weights: Weights) -> Mapping[str, Values]:
        found = {
            name: ratio(
                (weights * (even[name] * values)).sum(axis=1), (weights * even[name]).sum(axis=1)
            )
            for name, (values, _) in wanted.items()
        }
        of_images = ratio((weights * covered).sum(axis=1), weights.sum(axis=1))
        return found | {"coverage_of_images": of_images}

    basis = {name: mask for name, (_, mask) in wanted.items()}
    shares = {name for name in wanted if not name.startswith("size")}
    return Measure(compute, basis, frozenset({*shares, "coverage_of_images"}))


def _warnings(
    quantiles: Mapping[str, float],
    lesions: Mapping[str, int],
    found: Mapping[str, Estimate],
    alpha: float,
    by_class: bool,
) -> list[str]:
    texts = []
    needed = ceil(1 / alpha - 1 - 1e-9)
    always = [label for label, limit in quantiles.items() if limit == inf]
    if always and by_class:
        named = ", ".join(f"{label} ({lesions[label]})" for label in always)
        texts.append(
            f"Too few val lesions of {named} for this level: it takes {needed}. To keep the "
            f"promise, {'they are' if len(always) > 1 else 'it is'} in every set."
        )
    elif always:
        texts.append(
            f"Too few val lesions ({lesions['']}) for this level: it takes {needed}. To keep the "
            "promise, every set holds all classes."
        )
    checked = {"": found["coverage"]} | (
        {label: found[f"coverage/{label}"] for label in quantiles} if by_class else {}
    )
    for label, each in checked.items():
        size = lesions[label]
        spread = 2 * (alpha * (1 - alpha) / (size + 2)) ** 0.5  # of the promise itself
        if not isnan(each.high) and each.high < 1 - alpha - spread:
            texts.append(
                f"Coverage {f'of {label} ' if label else ''}is {each}, below the promised "
                f"{1 - alpha:.3g} by more than chance. Do the parts show the same kind of lesions?"
            )
    return texts


def _plain(value: float) -> float | None:
    return None if isnan(value) else value
