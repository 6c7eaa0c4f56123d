"""Precision of training: float32, or bfloat16 where the processor is faster with it."""

from __future__ import annotations

import copy
import time
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from lesionlab.models.metadata_fusion import logits_of
from lesionlab.training.depthwise import DepthwiseInFloat32

Precision = Literal["float32", "bf16"]

STEPS = 2_000
"""Steps below which a run is too short to pay for the choice, or to win by it."""

IMAGES = 16
"""How many a step of the trial takes."""

_GAIN = 1.2  # times as fast as float32, below which it is not worth the rounding
_ROUNDS = 3


def choose_precision(
    asked: Literal["auto", "float32", "bf16"],
    accelerator: str,
    network: nn.Module,
    inputs: torch.Tensor,
    metadata: torch.Tensor,
    steps: int,
) -> Precision:
    """What a run computes in.

    "auto" takes bfloat16 on a CUDA card that has it. On a processor with instructions for it
    (AMX or AVX-512), a long run times a step of this very network in both: networks of dense
    convolutions gain much, others nothing.

    Args:
        asked: the recipe's setting.
        accelerator: "cpu" or "cuda".
        network: as it will be trained, its frozen part frozen; it is left as it is.
        inputs: some images as the network takes them, shape (n, 3, height, width).
        metadata: their age, sex and site, shape (n, fields).
        steps: of the whole run.
    """
    if asked != "auto":
        return asked
    if accelerator == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if steps < STEPS or not _has_bfloat16():
        return "float32"
    trial = copy.deepcopy(network)
    images = inputs.contiguous(memory_format=torch.channels_last)
    seconds = {"float32": float("inf"), "bf16": float("inf")}
    for _ in range(_ROUNDS):  # in turns, and the fastest of each: other work disturbs both
        for name in seconds:
            begun = time.perf_counter()
            _step(trial, images, metadata, name == "bf16")
            seconds[name] = min(seconds[name], time.perf_counter() - begun)
    return "bf16" if seconds["float32"] > _GAIN * seconds["bf16"] else "float32"


def _has_bfloat16() -> bool:
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def _step(network: nn.Module, images: torch.Tensor, metadata: torch.Tensor, bf16: bool) -> None:
    """Forwards and backwards, as a step of training does it."""
    network.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), DepthwiseInFloat32():
        logits = logits_of(network, images, metadata)
    targets = torch.zeros(len(images), dtype=torch.int64)
    loss = functional.cross_entropy(logits.float(), targets)
    torch.autograd.backward(loss)
