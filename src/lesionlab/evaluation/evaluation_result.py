"""What an evaluation gives back: estimates by name, and everything needed to read them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lesionlab.display import Result
from lesionlab.errors import DataError
from lesionlab.evaluation.intervals.estimate import LEVEL, Estimate
from lesionlab.evaluation.misclassifications import Confusions, confusions
from lesionlab.files import read_json, write_json
from lesionlab.progress import Listener, silent
from lesionlab.tables import Part

METRICS: Mapping[str, str] = {
    "balanced_accuracy": "mean recall over the classes present (ISIC 2018's definition)",
    "macro_auroc": "mean over the classes present of the AUROC of each class against the rest",
    "macro_f1": "mean over the classes present of F1",
    "macro_precision": "mean over the classes present of precision",
    "macro_average_precision": "mean over the classes present of average precision",
    "weighted_f1": "mean over the classes, weighted by their images, of F1",
    "weighted_precision": "mean over the classes, weighted by their images, of precision",
    "accuracy": "share of the images whose class is right; weighted, the mean recall is the same",
    "majority_accuracy": "accuracy of always answering the most frequent class",
    "log_loss": "mean of -log of the true class's probability; lower is better",
    "brier": "squared errors of the probabilities, summed over classes, 0-2; lower is better",
    "cohen_kappa": "agreement of decision and truth beyond chance",
    "matthews": "correlation of decision and truth (MCC, for several classes)",
    "top_2_accuracy": "share of the images whose class is among the two likeliest",
    "top_3_accuracy": "share of the images whose class is among the three likeliest",
    "sensitivity_at_80_specificity": "sensitivity where specificity on val is 80 % or more",
    "specificity_at_80_specificity": "specificity that this threshold really has here",
    "sensitivity_at_90_specificity": "sensitivity where specificity on val is 90 % or more",
    "specificity_at_90_specificity": "specificity that this threshold really has here",
    "sensitivity_at_95_specificity": "sensitivity where specificity on val is 95 % or more",
    "specificity_at_95_specificity": "specificity that this threshold really has here",
    "specificity_at_80_sensitivity": "specificity where sensitivity on val is 80 % or more",
    "sensitivity_at_80_sensitivity": "sensitivity that this threshold really has here",
    "specificity_at_90_sensitivity": "specificity where sensitivity on val is 90 % or more",
    "sensitivity_at_90_sensitivity": "sensitivity that this threshold really has here",
    "specificity_at_95_sensitivity": "specificity where sensitivity on val is 95 % or more",
    "sensitivity_at_95_sensitivity": "sensitivity that this threshold really has here",
    "recall": "share of the class's images that are recognised (sensitivity of the decision)",
    "precision": "share of the images called this class that are of it",
    "f1": "harmonic mean of precision and recall",
    "specificity": "share of the other classes' images that are not called this class",
    "auroc": "chance that an image of the class scores higher than one of another class",
    "average_precision": "area under the precision-recall curve, in steps",
    "pauc_above_80_sensitivity": "area between ROC curve and 80 % sensitivity, 0-0.2 (ISIC 2024)",
    "auc_sens_80": "area under the ROC curve where sensitivity is 80 % or more (ISIC's scorer)",
}
"""Every metric in one line, by the name before the slash."""

_KIND = "lesionlab evaluation 1"


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Result, Mapping[str, Estimate]):
    """A mapping from a metric's name to its `Estimate`, with what belongs to it.

    Names are those of `METRICS`; metrics of one class carry it behind a slash: "recall/mel".

    Attributes:
        estimates: the estimates by name, headline figures first.
        classes: the class order, k names.
        support: per class the images and lesions scored; index class, columns images, lesions.
        confusion: counts of images, shape (k, k), rows = truth, columns = prediction.
        warnings: what a reader must know before trusting a figure; empty if nothing is odd.
        notes: what was left out, and why.
        thresholds: by operating point ("at_90_specificity/mel"), chosen on val.
        part: the part that was scored.
        positive: the class of the operating points.
        replicates: bootstrap replicates behind each interval.
        seed: of the bootstrap.
        predictions: what was scored; None where the evaluation was loaded from a file.
    """

    estimates: Mapping[str, Estimate]
    classes: tuple[str, ...]
    support: pd.DataFrame
    confusion: pd.DataFrame
    warnings: list[str]
    notes: list[str]
    thresholds: Mapping[str, float]
    part: Part
    positive: str
    replicates: int
    seed: int
    predictions: pd.DataFrame | None = None

    def confusions(self, *, listen: Listener = silent) -> Confusions:
        """Which classes are taken for which, with intervals of the same replicates.

        Raises:
            DataError: if this evaluation was loaded from a file, which holds no predictions.
        """
        if self.predictions is None:
            raise DataError(
                "This evaluation was loaded from a file, which holds no predictions. Score them "
                "again: lesionlab.evaluate(predictions).confusions()"
            )
        return confusions(
            self.predictions,
            part=self.part,
            replicates=self.replicates,
            seed=self.seed,
            listen=listen,
        )

    def shown(self) -> list[tuple[str, pd.DataFrame]]:
        """The figures that come first, then those of each class, as `Result.shown` says."""
        sensitivity = f"sensitivity_at_90_specificity/{self.positive}"
        first = {
            "balanced accuracy (mean recall)": "balanced_accuracy",
            "macro AUROC": "macro_auroc",
            "macro F1": "macro_f1",
            "macro precision": "macro_precision",
            "weighted F1": "weighted_f1",
            "weighted precision": "weighted_precision",
            f"{self.positive} sensitivity at 90 % specificity": sensitivity,
            "accuracy": "accuracy",
            "log loss (less is better)": "log_loss",
            "accuracy of always guessing the majority": "majority_accuracy",
        }
        whole = [(name, self[key]) for name, key in first.items() if key in self]
        columns = ("recall", "precision", "f1", "auroc")
        rows = [
            (label, *self.support.loc[label], *(self[f"{name}/{label}"] for name in columns))
            for label in self.classes
            if f"recall/{label}" in self
        ]
        return [
            (f"Part {self.part}", pd.DataFrame(whole, columns=["metric", "value"])),
            ("Per class", pd.DataFrame(rows, columns=["class", "images", "lesions", *columns])),
        ]

    @property
    def legend(self) -> tuple[str, ...]:
        """What stands in brackets, as `Result.legend` says."""
        return ("In brackets: 95 % intervals, by lesion.",)

    def __getitem__(self, name: str) -> Estimate:
        if name not in self.estimates:
            raise KeyError(f"{name!r} is not among the metrics: {', '.join(self.estimates)}")
        return self.estimates[name]

    def __contains__(self, name: object) -> bool:
        return name in self.estimates

    def __iter__(self) -> Iterator[str]:
        return iter(self.estimates)

    def __len__(self) -> int:
        return len(self.estimates)

    def __repr__(self) -> str:
        first = ", ".join(f"{name} {self[name]}" for name in list(self)[:2])
        return f"<Evaluation of {self.part}: {first}, {len(self.warnings)} warnings>"

    def table(self) -> pd.DataFrame:
        """All estimates, one per row.

        Returns:
            Columns metric, class ("" for all), value, low, high, n (images) and lesions.
        """
        rows = []
        for name, each in self.items():
            metric, _, label = name.partition("/")
            rows.append((metric, label, each.value, each.low, each.high, each.n, each.groups))
        columns = ["metric", "class", "value", "low", "high", "n", "lesions"]
        return pd.DataFrame(rows, columns=columns)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values, ready for `json`; what is not defined is None."""
        return {
            "kind": _KIND,
            "part": self.part,
            "positive": self.positive,
            "replicates": self.replicates,
            "seed": self.seed,
            "level": LEVEL,
            "classes": list(self.classes),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "estimates": {
                name: {
                    "value": _plain(each.value),
                    "low": _plain(each.low),
                    "high": _plain(each.high),
                    "images": each.n,
                    "lesions": each.groups,
                }
                for name, each in self.items()
            },
            "thresholds": dict(self.thresholds),
            "support": {
                str(label): {"images": int(row["images"]), "lesions": int(row["lesions"])}
                for label, row in self.support.iterrows()
            },
            "confusion": self.confusion.to_numpy().tolist(),
        }

    def save(self, path: Path | str) -> None:
        """Write `to_json` to a file, whole or not at all.

        Raises:
            DataError: if it cannot be written.
        """
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            DataError: if the file is missing or is not an evaluation.
        """
        value = read_json(Path(path))
        if not isinstance(value, dict) or value.get("kind") != _KIND:
            raise DataError(f"{path} is not an evaluation. Make one with `lesionlab evaluate`.")
        classes = tuple(value["classes"])
        support = pd.DataFrame.from_dict(value["support"], orient="index")
        return cls(
            estimates={
                name: Estimate(
                    value=_number(each["value"]),
                    low=_number(each["low"]),
                    high=_number(each["high"]),
                    n=each["images"],
                    groups=each["lesions"],
                )
                for name, each in value["estimates"].items()
            },
            classes=classes,
            support=support.loc[list(classes), ["images", "lesions"]].rename_axis("class"),
            confusion=confusion_table(value["confusion"], classes),
            warnings=value["warnings"],
            notes=value["notes"],
            thresholds=value["thresholds"],
            part=value["part"],
            positive=value["positive"],
            replicates=value["replicates"],
            seed=value["seed"],
        )


def confusion_table(counts: Any, classes: tuple[str, ...]) -> pd.DataFrame:
    """Label a (k, k) array of counts: rows "truth", columns "prediction"."""
    return pd.DataFrame(
        counts,
        index=pd.Index(classes, name="truth"),
        columns=pd.Index(classes, name="prediction"),
    ).astype("int64")


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
