"""Train, test, understand and ship classifiers of skin lesions from dermatoscopic images.

Research and education only. Not a medical device.

The public names load on first use, so that `import lesionlab` costs next to nothing and what needs
no torch never imports it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lesionlab._version import __version__

if TYPE_CHECKING:
    from lesionlab.data.acquisition import fetch
    from lesionlab.data.artefacts import artefacts
    from lesionlab.data.auditing import Audit, audit
    from lesionlab.data.catalogues import Catalogue, catalogue
    from lesionlab.data.cleaning import Cleaned, clean
    from lesionlab.data.images import cache
    from lesionlab.data.joining import join
    from lesionlab.data.splitting import Split, split
    from lesionlab.data.synthetic import synthetic
    from lesionlab.deployment.exporting import export
    from lesionlab.embeddings import Embeddings
    from lesionlab.evaluation import (
        Blend,
        Comparison,
        Estimate,
        Evaluation,
        blend,
        blended,
        compare,
        evaluate,
        gaps,
    )
    from lesionlab.evaluation.baselines import Baselines, baselines
    from lesionlab.evaluation.calibrating import Calibrated, calibrate
    from lesionlab.evaluation.calibration import Calibration, calibration
    from lesionlab.evaluation.conformal import Conformal, conformal
    from lesionlab.evaluation.costs import decision_costs
    from lesionlab.evaluation.decision_curves import DecisionCurve, decision_curve
    from lesionlab.evaluation.drift import Drift, drift
    from lesionlab.evaluation.failures import Failures, failures
    from lesionlab.evaluation.grouped import Subgroups
    from lesionlab.evaluation.isic import from_submission, submission
    from lesionlab.evaluation.isic_scoring import IsicScore, isic_score
    from lesionlab.evaluation.novelty import Detector, load_detector
    from lesionlab.evaluation.outlying import Outliers, outliers
    from lesionlab.evaluation.priors import (
        Prevalence,
        estimate_prevalence,
        predictive_values,
        reweight,
    )
    from lesionlab.evaluation.referral import Referral, referral
    from lesionlab.evaluation.reliability import reliability
    from lesionlab.evaluation.ruling import TwoThresholds, two_thresholds
    from lesionlab.evaluation.shortcuts import Shortcuts, shortcuts
    from lesionlab.evaluation.subgroups import subgroups
    from lesionlab.evaluation.suspects import Suspects, suspects
    from lesionlab.explanation.gallery import explain
    from lesionlab.explanation.trust_result import Trust
    from lesionlab.explanation.trusting import trust
    from lesionlab.models.listing import list_models
    from lesionlab.prediction.at_scale import Predicted, predict_files
    from lesionlab.prediction.bundle import Bundle
    from lesionlab.prediction.embedding import embed
    from lesionlab.prediction.from_run import predict
    from lesionlab.prediction.predictor import Predictor
    from lesionlab.recipe import Recipe
    from lesionlab.reporting.answers import Answers
    from lesionlab.reporting.card import Card, card
    from lesionlab.reporting.exploring import explore
    from lesionlab.reporting.report import report
    from lesionlab.run import Folds, Run
    from lesionlab.training.fit import train
    from lesionlab.training.folds import folds
    from lesionlab.training.tuning import tune

_HOMES = {
    "Answers": "reporting.answers",
    "Audit": "data.auditing",
    "Baselines": "evaluation.baselines",
    "Blend": "evaluation",
    "Bundle": "prediction.bundle",
    "Calibrated": "evaluation.calibrating",
    "Calibration": "evaluation.calibration",
    "Card": "reporting.card",
    "Catalogue": "data.catalogues",
    "Cleaned": "data.cleaning",
    "Comparison": "evaluation",
    "Conformal": "evaluation.conformal",
    "DecisionCurve": "evaluation.decision_curves",
    "Detector": "evaluation.novelty",
    "Drift": "evaluation.drift",
    "Embeddings": "embeddings",
    "Estimate": "evaluation",
    "Evaluation": "evaluation",
    "Failures": "evaluation.failures",
    "Folds": "run",
    "IsicScore": "evaluation.isic_scoring",
    "Outliers": "evaluation.outlying",
    "Predicted": "prediction.at_scale",
    "Predictor": "prediction.predictor",
    "Prevalence": "evaluation.priors",
    "Recipe": "recipe",
    "Referral": "evaluation.referral",
    "Run": "run",
    "Shortcuts": "evaluation.shortcuts",
    "Split": "data.splitting",
    "Subgroups": "evaluation.grouped",
    "Suspects": "evaluation.suspects",
    "Trust": "explanation.trust_result",
    "TwoThresholds": "evaluation.ruling",
    "artefacts": "data.artefacts",
    "audit": "data.auditing",
    "baselines": "evaluation.baselines",
    "blend": "evaluation",
    "blended": "evaluation",
    "cache": "data.images",
    "calibrate": "evaluation.calibrating",
    "calibration": "evaluation.calibration",
    "card": "reporting.card",
    "catalogue": "data.catalogues",
    "clean": "data.cleaning",
    "compare": "evaluation",
    "conformal": "evaluation.conformal",
    "decision_costs": "evaluation.costs",
    "decision_curve": "evaluation.decision_curves",
    "drift": "evaluation.drift",
    "embed": "prediction.embedding",
    "estimate_prevalence": "evaluation.priors",
    "evaluate": "evaluation",
    "explain": "explanation.gallery",
    "explore": "reporting.exploring",
    "export": "deployment.exporting",
    "failures": "evaluation.failures",
    "fetch": "data.acquisition",
    "folds": "training.folds",
    "from_submission": "evaluation.isic",
    "gaps": "evaluation",
    "isic_score": "evaluation.isic_scoring",
    "join": "data.joining",
    "list_models": "models.listing",
    "load_detector": "evaluation.novelty",
    "outliers": "evaluation.outlying",
    "predict": "prediction.from_run",
    "predict_files": "prediction.at_scale",
    "predictive_values": "evaluation.priors",
    "referral": "evaluation.referral",
    "reliability": "evaluation.reliability",
    "report": "reporting.report",
    "reweight": "evaluation.priors",
    "shortcuts": "evaluation.shortcuts",
    "split": "data.splitting",
    "subgroups": "evaluation.subgroups",
    "submission": "evaluation.isic",
    "suspects": "evaluation.suspects",
    "synthetic": "data.synthetic",
    "train": "training.fit",
    "trust": "explanation.trusting",
    "tune": "training.tuning",
    "two_thresholds": "evaluation.ruling",
}

__all__ = [
    "Answers",
    "Audit",
    "Baselines",
    "Blend",
    "Bundle",
    "Calibrated",
    "Calibration",
    "Card",
    "Catalogue",
    "Cleaned",
    "Comparison",
    "Conformal",
    "DecisionCurve",
    "Detector",
    "Drift",
    "Embeddings",
    "Estimate",
    "Evaluation",
    "Failures",
    "Folds",
    "IsicScore",
    "Outliers",
    "Predicted",
    "Predictor",
    "Prevalence",
    "Recipe",
    "Referral",
    "Run",
    "Shortcuts",
    "Split",
    "Subgroups",
    "Suspects",
    "Trust",
    "TwoThresholds",
    "__version__",
    "artefacts",
    "audit",
    "baselines",
    "blend",
    "blended",
    "cache",
    "calibrate",
    "calibration",
    "card",
    "catalogue",
    "clean",
    "compare",
    "conformal",
    "decision_costs",
    "decision_curve",
    "drift",
    "embed",
    "estimate_prevalence",
    "evaluate",
    "explain",
    "explore",
    "export",
    "failures",
    "fetch",
    "folds",
    "from_submission",
    "gaps",
    "isic_score",
    "join",
    "list_models",
    "load_detector",
    "outliers",
    "predict",
    "predict_files",
    "predictive_values",
    "referral",
    "reliability",
    "report",
    "reweight",
    "shortcuts",
    "split",
    "subgroups",
    "submission",
    "suspects",
    "synthetic",
    "train",
    "trust",
    "tune",
    "two_thresholds",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lesionlab' has no attribute {name!r}")
    value = getattr(import_module(f"lesionlab.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
