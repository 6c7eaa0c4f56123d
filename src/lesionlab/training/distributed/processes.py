"""The processes of one training: which of them this is, and what they tell each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch import distributed as dist

from lesionlab.errors import DataError

_T = TypeVar("_T")

_PATIENCE = timedelta(hours=12)
"""How long a process waits for another, which may have thousands of images to decode first."""


@dataclass(frozen=True)
class Place:
    """Which of the processes of a training this one is; one process is all of them.

    Attributes:
        rank: 0 to size - 1; 0 writes the files and tells of the progress.
        size: how many there are on all machines, one per device.
        local_rank: 0 to local_size - 1.
        local_size: how many there are on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0


def place() -> Place:
    """What torchrun, or `launch`, says of this process; without either it is the only one."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if not all(name in os.environ for name in names):
        return Place()
    return Place(*(int(os.environ[name]) for name in names))


def join(accelerator: str) -> None:
    """Join the other processes, if there are any: by gloo on processors, by NCCL on CUDA.

    Args:
        accelerator: "cpu" or "cuda", of which every process takes one by its local rank.

    Raises:
        DataError: if this machine has fewer CUDA devices than processes.
    """
    here = place()
    if here.size == 1:
        return
    if accelerator == "cuda":
        if here.local_size > torch.cuda.device_count():
            raise DataError(
                f"This machine has {torch.cuda.device_count()} CUDA devices, not "
                f"{here.local_size}. Give as many devices as there are, or --device cpu."
            )
        torch.cuda.set_device(here.local_rank)
    dist.init_process_group("nccl" if accelerator == "cuda" else "gloo", timeout=_PATIENCE)


def leave() -> None:
    """Part from the other processes, which do so at the same time."""
    if dist.is_initialized():
        dist.destroy_process_group()


def settings(here: Place) -> dict[str, Any]:
    """What Lightning's trainer must know of the devices."""
    if here.size == 1:
        return {"devices": 1}
    # Buffers are the same everywhere: batch norms are synchronised. With find_unused_parameters
    # gradients are added up in the same order in every step, so that a run that was taken up again
    # ends byte for byte as one that was not; without, DDP sorts them anew after the first step.
    return {
        "devices": here.local_size,
        "num_nodes": here.size // here.local_size,
        "strategy": DDPStrategy(find_unused_parameters=True, broadcast_buffers=False),
        "plugins": [TorchElasticEnvironment()],
        "use_distributed_sampler": False,
    }


def agreed(value: _T) -> _T:
    """The first process's value, of plain data, in every process."""
    if not dist.is_initialized():
        return value
    several: list[Any] = [value]
    dist.broadcast_object_list(several)
    return several[0]  # type: ignore[no-any-return]


def wait_for_all() -> None:
    """Wait until every process is here."""
    agreed(None)


def whole_batch(mine: Tensor, count: int) -> Tensor:
    """The rows of all processes in the order of the batch; gradients go to this one's alone.

    Args:
        mine: the rows of this process's share, as `datasets.EpochBatches` parts a batch.
        count: rows of the whole batch.
    """
    if not dist.is_initialized():
        return mine
    size, rank = dist.get_world_size(), dist.get_rank()
    longest = -(-count // size)
    padded = mine.new_zeros((longest, *mine.shape[1:]))
    padded[: len(mine)] = mine.detach()
    found = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(found, padded)
    lengths = [count // size + (number < count % size) for number in range(size)]
    parts = [rows[:length] for rows, length in zip(found, lengths, strict=True)]
    parts[rank] = mine
    return torch.cat(parts)
