"""Metrics with intervals for anybody's predictions table; needs numpy and pandas only."""

from __future__ import annotations

from lesionlab.evaluation.bootstrap import Estimate, Measure, estimates, lesion_weights, replicate
from lesionlab.evaluation.operating import roc, threshold_at_specificity
from lesionlab.evaluation.result import METRICS, Evaluation
from lesionlab.evaluation.scoring import evaluate

__all__ = [
    "METRICS",
    "Estimate",
    "Evaluation",
    "Measure",
    "estimates",
    "evaluate",
    "lesion_weights",
    "replicate",
    "roc",
    "threshold_at_specificity",
]
