"""Result classes of the public functions, for type hints and to open what they saved."""

from __future__ import annotations

from lesionlab._names import names_of

__getattr__, __dir__, __all__ = names_of(__file__)
