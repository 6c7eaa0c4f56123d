"""The report's figures as matplotlib axes, to be changed, combined and saved like any others."""

from __future__ import annotations

from lesionlab._names import names_of

__getattr__, __dir__, __all__ = names_of(__file__)
