"""Metrics with intervals for anybody's predictions table; needs numpy and pandas only."""

from __future__ import annotations

from lesionlab.evaluation.blending import blend, blended
from lesionlab.evaluation.bootstrap import (
    Estimate,
    Measure,
    Range,
    estimates,
    lesion_weights,
    replicate,
)
from lesionlab.evaluation.comparison import Comparison, compare
from lesionlab.evaluation.ensemble import Blend
from lesionlab.evaluation.generalisation import gaps
from lesionlab.evaluation.operating import roc, threshold_at_specificity
from lesionlab.evaluation.result import METRICS, Evaluation
from lesionlab.evaluation.scoring import evaluate

__all__ = [
    "METRICS",
    "Blend",
    "Comparison",
    "Estimate",
    "Evaluation",
    "Measure",
    "Range",
    "blend",
    "blended",
    "compare",
    "estimates",
    "evaluate",
    "gaps",
    "lesion_weights",
    "replicate",
    "roc",
    "threshold_at_specificity",
]
