"""How good a model is on the class that it answers with, in one sentence from an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lesionlab.taxonomy import full_name, name_in_text

Interval = Mapping[str, float | None]
"""A value with its 95 % interval: value, low and high, 0-1; None where not defined."""

_KEYS = ("value", "low", "high")


@dataclass(frozen=True)
class ClassQuality:
    """What an answer of one class is worth.

    Attributes:
        label: of the class.
        recall: share of its images that the model calls it.
        precision: share of the images that the model calls it which are; goes with `share`.
        share: how common it was among the images that were scored, 0-1.
    """

    label: str
    recall: Interval
    precision: Interval
    share: float

    @property
    def text(self) -> str:
        """Recall and precision in words."""
        name = name_in_text(self.label)
        recall, precision = self.recall["value"], self.precision["value"]
        if recall is None:
            return f"Its test had no image of {name}: how well it finds it is not known."
        found = f"Of 100 images of {name} this model calls {100 * recall:.0f} {name}"
        if precision is None:
            return f"{found}: it never answered so in its test."
        return (
            f"{found}; of 100 that it calls so {100 * precision:.0f} are (in its test, where "
            f"{100 * self.share:.2g} of 100 images were)."
        )

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "label": self.label,
            "name": full_name(self.label),
            "recall": dict(self.recall),
            "precision": dict(self.precision),
            "share": self.share,
            "text": self.text,
        }


def class_quality(evaluation: Mapping[str, Any]) -> dict[str, ClassQuality]:
    """The quality of every class.

    Args:
        evaluation: as `Evaluation.to_json` gives it; a bundle's card has one.

    Returns:
        By class; {} where it lacks what it takes.
    """
    estimates, support = evaluation.get("estimates", {}), evaluation.get("support", {})
    images = sum(int(each["images"]) for each in support.values())
    found = {}
    for label, size in support.items():
        both = [estimates.get(f"{name}/{label}") for name in ("recall", "precision")]
        if images and None not in both:
            recall, precision = ({key: each[key] for key in _KEYS} for each in both)
            found[label] = ClassQuality(label, recall, precision, int(size["images"]) / images)
    return found
