"""Drawn lesions: a data set that needs no download."""
