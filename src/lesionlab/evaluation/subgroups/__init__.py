"""Metrics by group, and gaps beyond chance."""
