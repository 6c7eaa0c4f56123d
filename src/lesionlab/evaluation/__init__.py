"""Metrics with intervals for anybody's predictions table; needs numpy and pandas only."""
