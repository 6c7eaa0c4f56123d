"""Which images an epoch shows, in what order and with which random numbers.

Every draw is a function of the seed, the epoch and the place in the epoch, so a run that was
stopped and taken up again sees exactly what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lesionlab.augmentation.batch import DRAWS
from lesionlab.prediction.from_run import CHUNK
from lesionlab.recipe import Balanced, Natural


class Batch(TypedDict):
    """What a step gets.

    Keys:
        image: uint8, shape (n, height, width, 3).
        target: class indices, int64, shape (n,).
        draws: uniform numbers for the views, float32, shape (n, DRAWS); absent in evaluation.
    """

    image: Tensor
    target: Tensor
    draws: Tensor


def order_of(
    targets: NDArray[np.int64], sampling: Natural | Balanced, seed: int, epoch: int
) -> NDArray[np.int64]:
    """The images of an epoch, in order, as positions in `targets`; as many as there are images.

    Args:
        targets: class of each training image, shape (n,).
        sampling: natural (a permutation) or balanced (every class with the same probability).
        seed: of the run.
        epoch: counted from 0 over all phases.

    Returns:
        int64, shape (n,).
    """
    rng = np.random.default_rng([seed, 1, epoch])
    if isinstance(sampling, Natural):
        return rng.permutation(len(targets))
    counts = np.bincount(targets)
    weight = 1.0 / counts[targets]
    return rng.choice(len(targets), size=len(targets), p=weight / weight.sum())


class EpochBatches(Sampler[NDArray[np.int64]]):
    """Yields the places in the epoch that form each batch: all images, in batches of one size."""

    def __init__(self, count: int, batch: int) -> None:
        self.count, self.batch = count, min(batch, count)

    def __len__(self) -> int:
        return -(-self.count // self.batch)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        yield from np.array_split(np.arange(self.count), len(self))


class TrainingImages(Dataset[Batch]):
    """Training images out of the cache, a batch at a time, in the order of the current epoch."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        rows: NDArray[np.int64],
        targets: NDArray[np.int64],
        sampling: Natural | Balanced,
        seed: int,
    ) -> None:
        self.pixels, self.rows, self.targets = pixels, rows, targets
        self.sampling, self.seed = sampling, seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the order and the random numbers of an epoch, counted from 0 over all phases."""
        self._order = order_of(self.targets, self.sampling, self.seed, epoch)
        rng = np.random.default_rng([self.seed, 2, epoch])
        self._draws = rng.random((len(self._order), DRAWS), dtype=np.float32)

    def __getitem__(self, places: NDArray[np.int64]) -> Batch:
        chosen = self._order[places]
        return {
            "image": torch.from_numpy(self.pixels[self.rows[chosen]]),
            "target": torch.from_numpy(self.targets[chosen]),
            "draws": torch.from_numpy(self._draws[places]),
        }

    def loader(self, batch: int) -> DataLoader[Batch]:
        """Batches of the current epoch; the cache is read so fast that no workers are needed."""
        return DataLoader(self, batch_size=None, sampler=EpochBatches(len(self.rows), batch))


class EvaluationImages(Dataset[Batch]):
    """Images out of the cache in their given order, a fixed chunk at a time."""

    def __init__(
        self, pixels: NDArray[np.uint8], rows: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> None:
        self.pixels, self.rows, self.targets = pixels, rows, targets

    def __len__(self) -> int:
        return -(-len(self.rows) // CHUNK)

    def __getitem__(self, chunk: int) -> Batch:
        if chunk >= len(self):
            raise IndexError(chunk)
        part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        return {
            "image": torch.from_numpy(self.pixels[self.rows[part]]),
            "target": torch.from_numpy(self.targets[part]),
            "draws": torch.empty(0),
        }

    def loader(self) -> DataLoader[Batch]:
        """The chunks in order."""
        return DataLoader(self, batch_size=None, shuffle=False)
