"""Result classes of the public functions, for type hints and to open what they saved."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub("lesionlab", __file__)
