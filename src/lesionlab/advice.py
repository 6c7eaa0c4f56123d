"""Commands that lesionlab prints as the next step: whole, and quoted for a shell."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def command(verb: str, *words: object, **options: Any) -> str:
    """One command line that can be copied to a shell.

    Args:
        verb: such as "catalogue" or "audit labels".
        words: what stands behind it.
        options: by name without "--", "_" for "-": None, False and what is empty are left out, True
            is the option alone, a mapping is key=value words, other collections are words.

    Example:
        >>> command("audit", "my data", out="findings.csv", table=None)
        "lesionlab audit 'my data' --out findings.csv"
    """
    line = ["lesionlab", *verb.split(), *map(str, words)]
    for name, value in options.items():
        if (
            value is None
            or value is False
            or (isinstance(value, Mapping | list | tuple) and not value)
        ):
            continue
        line.append(f"--{name.replace('_', '-')}")
        if isinstance(value, Mapping):
            line += [f"{key}={each}" for key, each in value.items()]
        elif isinstance(value, list | tuple):
            line += map(str, value)
        elif value is not True:
            line.append(str(value))
    return shlex.join(line)
