"""What age, sex and site are worth to a model: its figures with them and without, paired."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lesionlab.evaluation.comparison.compare import compare, shown
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.evaluation.predictions.load import Source
from lesionlab.progress import Listener, silent
from lesionlab.tables import Part

METRICS: Mapping[str, str] = MappingProxyType(
    {"balanced_accuracy": "Balanced accuracy", "macro_auroc": "Macro AUROC"}
)
"""What is compared, and its name."""


@dataclass(frozen=True)
class MetadataWorth:
    """Figures of a model that was told age, sex and site, and of the same when all are unknown.

    Attributes:
        fields: which of the three the model takes.
        known: by metric, where they are told as far as they are known.
        unknown: by metric, where all are unknown.
        differences: by metric, known minus unknown, on the same bootstrap samples of lesions.
        images: that were scored.
        lesions: that they show.
    """

    fields: tuple[str, ...]
    known: Mapping[str, Estimate]
    unknown: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    images: int
    lesions: int

    @property
    def text(self) -> str:
        """The same in one sentence."""
        *first, last = self.fields
        fields = f"{', '.join(first)} and {last}" if first else last
        told = [
            f"{METRICS[name]} {self.known[name].value:.3f} with {fields}, "
            f"{self.unknown[name].value:.3f} without: difference {shown(each, signed=True)}"
            for name, each in self.differences.items()
        ]
        return f"{'. '.join(told)}. On the same {self.images:,} images of {self.lesions:,} lesions."

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "fields": list(self.fields),
            "text": self.text,
            "images": self.images,
            "lesions": self.lesions,
            **{
                name: {
                    "known": _plain(self.known[name]),
                    "unknown": _plain(self.unknown[name]),
                    "difference": _plain(difference),
                }
                for name, difference in self.differences.items()
            },
        }


def metadata_worth(
    known: Source,
    unknown: Source,
    fields: Sequence[str],
    *,
    part: Part = "test",
    replicates: int = 1000,
    listen: Listener = silent,
) -> MetadataWorth:
    """Compare a model's predictions with age, sex and site and without.

    Args:
        known: predictions of a model that was told them; anything that `evaluate` takes.
        unknown: of the same model and images, with all of them unknown.
        fields: which of them the model takes.
        part: the part to score.
        replicates: of the bootstrap over lesions; 0 gives no intervals.
        listen: told of the progress.

    Raises:
        DataError: if the two have no image of the part in common.
        FindingsError: with every fault of a table at once.
    """
    found = compare(
        {"unknown": unknown, "known": known},
        part=part,
        metrics=tuple(METRICS),
        replicates=replicates,
        listen=listen,
    )
    return MetadataWorth(
        tuple(fields),
        {name: found.figures["known", name] for name in METRICS},
        {name: found.figures["unknown", name] for name in METRICS},
        {name: found.differences["known", "unknown", name] for name in METRICS},
        found.images,
        found.lesions,
    )


def _plain(each: Estimate) -> dict[str, float | None]:
    values = {"value": each.value, "low": each.low, "high": each.high}
    return {name: None if math.isnan(number) else number for name, number in values.items()}
