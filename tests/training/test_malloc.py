from __future__ import annotations

import platform
import resource
from pathlib import Path

import pytest
import torch

from lesionlab.training.malloc import kept_memory

BLOCK = 16 * 2**20  # floats: 64 MiB, above what glibc ever keeps by itself


def held() -> int:
    """Bytes of memory that the process holds after a large block came and went."""
    torch.ones(BLOCK)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has no such option")
def test_freed_memory_stays_while_it_lasts_and_is_given_back_after():
    before = held()
    with kept_memory() as kept:
        assert kept
        inside = held()
    assert inside - before > 3 * BLOCK
    assert held() - before < BLOCK


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with kept_memory() as kept:
        assert not kept
