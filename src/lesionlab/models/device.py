"""Processor or CUDA: where a network computes."""

from __future__ import annotations

from typing import Literal

import torch

from lesionlab.errors import DataError

Device = Literal["auto", "cpu", "cuda"]


def choose_device(device: Device) -> str:
    """Turn "auto" into "cuda" where there is one, else "cpu".

    Raises:
        DataError: if CUDA is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DataError("There is no CUDA device here. Take --device cpu, or auto.")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
