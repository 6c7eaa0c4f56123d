"""Probabilities that mean what they say: scaling, calibration errors, prevalence."""
