"""The report's figures as matplotlib axes, to be changed, combined and saved like any others."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub("lesionlab", __file__)
