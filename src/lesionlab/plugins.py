"""What one plugs in: networks, losses, augmentations and layouts of data sets, by name."""

from __future__ import annotations

from lesionlab._names import names_of

__getattr__, __dir__, __all__ = names_of(__file__)
