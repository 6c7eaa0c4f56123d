"""Public names of a module beside the package, such as `lesionlab.plot`, loaded on first use."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import lazy_loader


def names_of(file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a module with a stub, as `attach_stub` gives them.

    lazy_loader 0.6 also keeps what it loads as a name of the whole package, where
    `lesionlab.plot.compare` would take the place of `lesionlab.compare`.

    Args:
        file: the module's `__file__`.
    """
    load, names, public = lazy_loader.attach_stub("lesionlab", file)

    def find(name: str) -> Any:
        package = vars(sys.modules["lesionlab"])
        before = dict(package)
        found = load(name)
        if name in before:
            package[name] = before[name]
        elif package.get(name) is found:
            del package[name]
        return found

    return find, names, public
