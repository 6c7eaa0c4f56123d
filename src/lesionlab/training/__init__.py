"""Batches, losses, the module and the fit."""
