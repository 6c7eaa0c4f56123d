"""Which images an epoch shows, in what order and with which random numbers.

Every draw is a function of the seed, the epoch and the place in the epoch, so a run that was
stopped and taken up again sees exactly what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lesionlab.augmentation.random_views import DRAWS, FIRST_DRAWS, MOVES
from lesionlab.errors import SettingsError
from lesionlab.models.metadata_encoder import hidden
from lesionlab.prediction.run_predictor import CHUNK
from lesionlab.recipe.schema import Balanced, Capped, Oversampled, Sampling, SquareRoot


class Batch(TypedDict):
    """What a step gets.

    Keys:
        image: uint8, shape (n, height, width, 3).
        target: class indices, int64, shape (n,).
        draws: uniform numbers for the views, float32, shape (n, DRAWS); absent in evaluation.
        moves: what takes the place of the first of them in each other view that a step may choose,
            shape (n, views - 1, MOVES).
        metadata: numbers of age, sex and site, int64, shape (n, fields), 0 = unknown or hidden; no
            fields where the network takes none.
    """

    image: Tensor
    target: Tensor
    draws: Tensor
    moves: Tensor
    metadata: Tensor


def check_sampling(sampling: Sampling, classes: Sequence[str]) -> None:
    """Make sure that a sampling speaks of classes that there are.

    Raises:
        SettingsError: naming those that are unknown, and those that are known.
    """
    if not isinstance(sampling, Oversampled):
        return
    if unknown := [name for name in sampling.times if name not in classes]:
        raise SettingsError(
            f"sampling.times: the catalogue has no class {' and no class '.join(unknown)}. "
            f"Its classes are {', '.join(classes)}."
        )


def shown(targets: NDArray[np.int64], sampling: Sampling, seed: int) -> NDArray[np.int64]:
    """The images that a run ever shows, as sorted positions in `targets`: all, unless capped.

    A cap keeps the first so many images of each class in one order drawn from the seed, so those
    of a smaller cap are among those of a larger one.

    Args:
        targets: class of each training image, shape (n,).
        sampling: of the recipe.
        seed: of the run.

    Returns:
        int64, shape (at most n,).
    """
    if not isinstance(sampling, Capped):
        return np.arange(len(targets))
    order = np.random.default_rng([seed, 5]).permutation(len(targets))
    kept = [order[targets[order] == each][: sampling.images] for each in np.unique(targets)]
    return np.sort(np.concatenate(kept))


def order_of(
    targets: NDArray[np.int64],
    sampling: Sampling,
    seed: int,
    epoch: int,
    classes: Sequence[str] = (),
) -> NDArray[np.int64]:
    """The images of an epoch, in order, as positions in `targets`.

    Every epoch of a run has the same length: natural, balanced and sqrt draw as many as there are
    images, oversampled and capped show each chosen image a fixed number of times. An image that
    is shown again is shown as another random view, since each place of an epoch has numbers of
    its own. `oversampled` with {df: 10, vasc: 10, akiec: 2} and `augment: source_b_oversampling`
    is close to what source B made of its rare classes: B wrote four crops from near the centre
    and their mirror images to disk once, before it split, so that views of one image fell into
    both parts; here new views of training images alone are drawn in every epoch, and images of
    all classes are cropped and mirrored.

    Args:
        targets: class of each training image, shape (n,).
        sampling: natural or capped (a permutation), balanced (every class with the same
            probability), sqrt (every class by the square root of its images) or oversampled (a
            permutation of all images, those of some classes several times).
        seed: of the run.
        epoch: counted from 0 over all phases.
        classes: their names in order; oversampled alone needs them.

    Returns:
        int64, shape (places,).

    Raises:
        SettingsError: if oversampled names a class that is none.
    """
    rng = np.random.default_rng([seed, 1, epoch])
    if isinstance(sampling, Balanced | SquareRoot):
        counts = np.bincount(targets)
        weight = 1.0 / counts[targets]
        if isinstance(sampling, SquareRoot):
            weight = np.sqrt(weight)
        return rng.choice(len(targets), size=len(targets), p=weight / weight.sum())
    if isinstance(sampling, Oversampled):
        check_sampling(sampling, classes)
        times = np.array([sampling.times.get(name, 1) for name in classes])
        return rng.permutation(np.repeat(np.arange(len(targets)), times[targets]))
    return rng.permutation(shown(targets, sampling, seed))


class EpochBatches(Sampler[NDArray[np.int64]]):
    """Yields the places in the epoch that form each batch: all images, in batches of one size.

    Args:
        count: places in the epoch.
        batch: images of a batch at most.
        share: which of so many processes this is, as (rank, size): each gets as many places of
            every batch as the others, or one more.

    Raises:
        SettingsError: if a batch has fewer images than there are processes.
    """

    def __init__(self, count: int, batch: int, share: tuple[int, int] = (0, 1)) -> None:
        self.count, self.batch, self.share = count, min(batch, count), share
        if (least := count // len(self)) < share[1]:
            raise SettingsError(
                f"batch {batch}: its {least} images cannot be shared out over {share[1]} devices. "
                "Set a larger batch, or take fewer devices."
            )

    def __len__(self) -> int:
        return -(-self.count // self.batch)

    def length(self, step: int) -> int:
        """Images of a batch, counted from 0, those of all processes together."""
        return self.count // len(self) + (step < self.count % len(self))

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        rank, size = self.share
        for batch in np.array_split(np.arange(self.count), len(self)):
            yield np.array_split(batch, size)[rank]


class TrainingImages(Dataset[Batch]):
    """Training images out of the cache, a batch at a time, in the order of the current epoch.

    Args:
        pixels: uint8, shape (images, height, width, 3).
        rows: which of them, shape (n,).
        targets: their classes, shape (n,).
        sampling: which of them an epoch shows.
        seed: of the run.
        classes: their names in order; oversampling alone needs them.
        metadata: their age, sex and site, shape (n, fields); None: the network takes none.
        hide: probability that an epoch hides all metadata of an image, see `metadata.hidden`.
        views: how many views of each image a step chooses from.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        rows: NDArray[np.int64],
        targets: NDArray[np.int64],
        sampling: Sampling,
        seed: int,
        classes: Sequence[str] = (),
        metadata: NDArray[np.int64] | None = None,
        hide: float = 0.0,
        views: int = 1,
    ) -> None:
        self.pixels, self.rows, self.targets = pixels, rows, targets
        self.sampling, self.seed, self.classes, self.views = sampling, seed, classes, views
        self.metadata, self.hide = _or_none(metadata, len(rows)), hide
        self.set_epoch(0)

    @property
    def shown_targets(self) -> NDArray[np.int64]:
        """Classes of the images that the run ever shows: what counts as its training part."""
        return self.targets[shown(self.targets, self.sampling, self.seed)]

    def set_epoch(self, epoch: int) -> None:
        """Draw the order and the random numbers of an epoch, counted from 0 over all phases."""
        self.order = order_of(self.targets, self.sampling, self.seed, epoch, self.classes)
        rng = np.random.default_rng([self.seed, 2, epoch])
        draws = rng.random((len(self.order), FIRST_DRAWS), dtype=np.float32)
        rng = np.random.default_rng([self.seed, 4, epoch])
        more = rng.random((len(self.order), DRAWS - FIRST_DRAWS), dtype=np.float32)
        self.draws = np.hstack((draws, more))
        rng = np.random.default_rng([self.seed, 7, epoch])
        self._moves = rng.random((len(self.order), self.views - 1, MOVES), dtype=np.float32)
        rng = np.random.default_rng([self.seed, 6, epoch])
        self._hidden = hidden(len(self.order), self.metadata.shape[1], self.hide, rng)

    def __getitem__(self, places: NDArray[np.int64]) -> Batch:
        chosen = self.order[places]
        return {
            "image": torch.from_numpy(self.pixels[self.rows[chosen]]),
            "target": torch.from_numpy(self.targets[chosen]),
            "draws": torch.from_numpy(self.draws[places]),
            "moves": torch.from_numpy(self._moves[places]),
            "metadata": torch.from_numpy(np.where(self._hidden[places], 0, self.metadata[chosen])),
        }

    def loader(self, batch: int, share: tuple[int, int] = (0, 1)) -> DataLoader[Batch]:
        """Batches of the current epoch; the cache is read so fast that no workers are needed.

        Args:
            batch: images of a batch.
            share: see `EpochBatches`.
        """
        batches = EpochBatches(len(self.order), batch, share)
        return DataLoader(self, batch_size=None, sampler=batches)


class EvaluationImages(Dataset[Batch]):
    """Images out of the cache in their given order, a fixed chunk at a time."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        rows: NDArray[np.int64],
        targets: NDArray[np.int64],
        metadata: NDArray[np.int64] | None = None,
    ) -> None:
        self.pixels, self.rows, self.targets = pixels, rows, targets
        self.metadata = _or_none(metadata, len(rows))

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
            "moves": torch.empty(0),
            "metadata": torch.from_numpy(self.metadata[part]),
        }

    def loader(self, share: tuple[int, int] = (0, 1)) -> DataLoader[Batch]:
        """The chunks in order.

        Args:
            share: which of so many processes this is, as (rank, size). Each sees every so-manieth
                chunk; all of them where there are fewer chunks than processes, as a process that
                has seen none has no figures to add. Metrics are shares, so it makes no difference.
        """
        rank, size = share
        chunks = range(rank, len(self), size) if size <= len(self) else range(len(self))
        return DataLoader(self, batch_size=None, sampler=chunks)


def _or_none(metadata: NDArray[np.int64] | None, images: int) -> NDArray[np.int64]:
    return np.zeros((images, 0), np.int64) if metadata is None else metadata
