"""What one plugs in: networks, losses, augmentations and layouts of data sets, by name."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub("lesionlab", __file__)
