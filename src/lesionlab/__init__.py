"""Train, test, understand and ship classifiers of skin lesions from dermatoscopic images.

Research and education only. Not a medical device.

The public names stand in `__init__.pyi`, for editors and type checkers as for Python itself, which
loads each on first use (scientific-python SPEC 1): `import lesionlab` costs next to nothing, and
what needs no torch never imports it.
"""

from __future__ import annotations

from typing import Any

import lazy_loader

from lesionlab._version import __version__ as __version__

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        from lesionlab.errors import MissingExtraError

        if (error.name or "").startswith("lesionlab"):
            raise
        raise MissingExtraError.of(f"lesionlab.{name}", error) from error
