"""Conformal prediction: sets of classes with a promised coverage."""
