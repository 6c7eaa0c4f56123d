"""A task that the machines of a cluster can import."""

from __future__ import annotations

from lesionlab.errors import DataError


def double(shared, each, listen):
    if each < 0:
        raise DataError("a task is wrong")
    return shared * each
