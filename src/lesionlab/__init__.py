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
    from lesionlab.data.artefacts.artefacts import artefacts
    from lesionlab.data.audit.audit import Audit, audit
    from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
    from lesionlab.data.catalogue.join import join
    from lesionlab.data.collections.fetch import fetch
    from lesionlab.data.images.cache import cache
    from lesionlab.data.imputation import Cleaned, clean
    from lesionlab.data.splits import Split, split
    from lesionlab.data.synthetic.dataset import synthetic
    from lesionlab.deployment.export import export
    from lesionlab.embeddings import Embeddings
    from lesionlab.evaluation.calibration.calibrate import Calibrated, calibrate
    from lesionlab.evaluation.calibration.prevalence import (
        Prevalence,
        estimate_prevalence,
        predictive_values,
        reweight,
    )
    from lesionlab.evaluation.calibration.reliability_diagram import reliability
    from lesionlab.evaluation.calibration.report import Calibration, calibration
    from lesionlab.evaluation.comparison.baselines import Baselines, baselines
    from lesionlab.evaluation.comparison.compare import Comparison, compare
    from lesionlab.evaluation.comparison.train_test_gap import gaps
    from lesionlab.evaluation.conformal.prediction_sets import Conformal, conformal
    from lesionlab.evaluation.data_quality.drift import Drift, drift
    from lesionlab.evaluation.data_quality.label_errors import Suspects, suspects
    from lesionlab.evaluation.data_quality.shortcuts import Shortcuts, shortcuts
    from lesionlab.evaluation.ensembles.blend import blend, blended
    from lesionlab.evaluation.ensembles.result import Blend
    from lesionlab.evaluation.evaluate import evaluate
    from lesionlab.evaluation.evaluation_result import Evaluation
    from lesionlab.evaluation.intervals.estimate import Estimate
    from lesionlab.evaluation.isic.files import from_submission, submission
    from lesionlab.evaluation.isic.scorer import IsicScore, isic_score
    from lesionlab.evaluation.misclassifications import Failures, failures
    from lesionlab.evaluation.outliers.benchmark import Outliers, outliers
    from lesionlab.evaluation.outliers.detectors import Detector, load_detector
    from lesionlab.evaluation.subgroups.result import Subgroups
    from lesionlab.evaluation.subgroups.subgroups import subgroups
    from lesionlab.evaluation.triage.decision_costs import decision_costs
    from lesionlab.evaluation.triage.decision_curve import DecisionCurve, decision_curve
    from lesionlab.evaluation.triage.referral import Referral, referral
    from lesionlab.evaluation.triage.rule_in_rule_out import TwoThresholds, two_thresholds
    from lesionlab.explanation.explain import explain
    from lesionlab.explanation.trust.result import Trust
    from lesionlab.explanation.trust.trust import trust
    from lesionlab.models.listing import list_models
    from lesionlab.prediction.batch_job import Predicted, predict_files
    from lesionlab.prediction.bundle import Bundle
    from lesionlab.prediction.embed import embed
    from lesionlab.prediction.predictor import Predictor
    from lesionlab.prediction.run_predictor import predict
    from lesionlab.recipe.schema import Recipe
    from lesionlab.reporting.card.author_answers import Answers
    from lesionlab.reporting.card.card import Card, card
    from lesionlab.reporting.explore.explore import explore
    from lesionlab.reporting.report.report import report
    from lesionlab.run import Folds, Run
    from lesionlab.training.cross_validation import folds
    from lesionlab.training.train import train
    from lesionlab.training.tuning.tune import tune

_HOMES = {
    "Answers": "reporting.card.author_answers",
    "Audit": "data.audit.audit",
    "Baselines": "evaluation.comparison.baselines",
    "Blend": "evaluation.ensembles.result",
    "Bundle": "prediction.bundle",
    "Calibrated": "evaluation.calibration.calibrate",
    "Calibration": "evaluation.calibration.report",
    "Card": "reporting.card.card",
    "Catalogue": "data.catalogue.catalogue",
    "Cleaned": "data.imputation",
    "Comparison": "evaluation.comparison.compare",
    "Conformal": "evaluation.conformal.prediction_sets",
    "DecisionCurve": "evaluation.triage.decision_curve",
    "Detector": "evaluation.outliers.detectors",
    "Drift": "evaluation.data_quality.drift",
    "Embeddings": "embeddings",
    "Estimate": "evaluation.intervals.estimate",
    "Evaluation": "evaluation.evaluation_result",
    "Failures": "evaluation.misclassifications",
    "Folds": "run",
    "IsicScore": "evaluation.isic.scorer",
    "Outliers": "evaluation.outliers.benchmark",
    "Predicted": "prediction.batch_job",
    "Predictor": "prediction.predictor",
    "Prevalence": "evaluation.calibration.prevalence",
    "Recipe": "recipe.schema",
    "Referral": "evaluation.triage.referral",
    "Run": "run",
    "Shortcuts": "evaluation.data_quality.shortcuts",
    "Split": "data.splits",
    "Subgroups": "evaluation.subgroups.result",
    "Suspects": "evaluation.data_quality.label_errors",
    "Trust": "explanation.trust.result",
    "TwoThresholds": "evaluation.triage.rule_in_rule_out",
    "artefacts": "data.artefacts.artefacts",
    "audit": "data.audit.audit",
    "baselines": "evaluation.comparison.baselines",
    "blend": "evaluation.ensembles.blend",
    "blended": "evaluation.ensembles.blend",
    "cache": "data.images.cache",
    "calibrate": "evaluation.calibration.calibrate",
    "calibration": "evaluation.calibration.report",
    "card": "reporting.card.card",
    "catalogue": "data.catalogue.catalogue",
    "clean": "data.imputation",
    "compare": "evaluation.comparison.compare",
    "conformal": "evaluation.conformal.prediction_sets",
    "decision_costs": "evaluation.triage.decision_costs",
    "decision_curve": "evaluation.triage.decision_curve",
    "drift": "evaluation.data_quality.drift",
    "embed": "prediction.embed",
    "estimate_prevalence": "evaluation.calibration.prevalence",
    "evaluate": "evaluation.evaluate",
    "explain": "explanation.explain",
    "explore": "reporting.explore.explore",
    "export": "deployment.export",
    "failures": "evaluation.misclassifications",
    "fetch": "data.collections.fetch",
    "folds": "training.cross_validation",
    "from_submission": "evaluation.isic.files",
    "gaps": "evaluation.comparison.train_test_gap",
    "isic_score": "evaluation.isic.scorer",
    "join": "data.catalogue.join",
    "list_models": "models.listing",
    "load_detector": "evaluation.outliers.detectors",
    "outliers": "evaluation.outliers.benchmark",
    "predict": "prediction.run_predictor",
    "predict_files": "prediction.batch_job",
    "predictive_values": "evaluation.calibration.prevalence",
    "referral": "evaluation.triage.referral",
    "reliability": "evaluation.calibration.reliability_diagram",
    "report": "reporting.report.report",
    "reweight": "evaluation.calibration.prevalence",
    "shortcuts": "evaluation.data_quality.shortcuts",
    "split": "data.splits",
    "subgroups": "evaluation.subgroups.subgroups",
    "submission": "evaluation.isic.files",
    "suspects": "evaluation.data_quality.label_errors",
    "synthetic": "data.synthetic.dataset",
    "train": "training.train",
    "trust": "explanation.trust.trust",
    "tune": "training.tuning.tune",
    "two_thresholds": "evaluation.triage.rule_in_rule_out",
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
