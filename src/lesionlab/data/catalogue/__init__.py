"""The catalogue: layouts, checks, join."""
