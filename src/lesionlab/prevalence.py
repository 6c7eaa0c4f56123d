"""Prevalence: `estimate` it without labels, `reweight` predictions to it, `predictive_values`."""

from lesionlab.evaluation.calibration.prevalence import estimate, predictive_values, reweight

__all__ = ["estimate", "predictive_values", "reweight"]
