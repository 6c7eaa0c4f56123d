"""From rows of a catalogue to pixels and maps: what every kind of explanation goes through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from lesionlab.augmentation.random_views import normalise
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.errors import DataError
from lesionlab.explanation.grad_cam import grad_cam
from lesionlab.explanation.target_layers import Layer
from lesionlab.models import factory
from lesionlab.models.factory import Architecture
from lesionlab.models.heads import head_of
from lesionlab.progress import Listener, Notice, Step
from lesionlab.recipe.schema import Images, NeighboursProbe

_CHUNK = 8  # maps per step


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows, each by column."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def read(
    rows: pd.DataFrame, images: Images, listen: Listener
) -> tuple[pd.DataFrame, NDArray[np.uint8]]:
    """The images that can be read, and their pixels as the network gets them; tells of the others.

    Raises:
        DataError: if none can be read.
    """
    pixels, faults = [], {}
    readers = {root: Reader(Path(root)) for root in set(rows["root"])}
    for number, row in enumerate(records(rows)):
        try:
            pixels.append(readers[row["root"]].pixels(row["path"], images, row["sha256"]))
        except ImageFault as fault:
            faults[number] = str(fault)
    listed = "; ".join(faults.values())
    if not pixels:
        raise DataError(f"None of the {len(rows)} images can be read: {listed}.")
    if faults:
        listen(Notice(f"{len(faults)} of {len(rows)} images are left out: {listed}.", "warning"))
    return rows.drop(index=list(faults)).reset_index(drop=True), np.stack(pixels)


def class_maps(
    network: nn.Module,
    architecture: Architecture,
    pixels: NDArray[np.uint8],
    metadata: NDArray[np.int64],
    wanted: Sequence[tuple[int, str]],
    layer: Layer,
    task: str,
    listen: Listener,
) -> NDArray[np.float32]:
    """The maps of images (rows of pixels) for classes, shape (maps, rows, columns)."""
    device = next(network.parameters()).device
    found = []
    for start in range(0, len(wanted), _CHUNK):
        places = [place for place, _ in wanted[start : start + _CHUNK]]
        labels = [architecture.classes.index(label) for _, label in wanted[start : start + _CHUNK]]
        images = torch.from_numpy(pixels[places]).to(device)
        inputs = normalise(images, *architecture.normalisation)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        told = torch.from_numpy(metadata[places]).to(device) if metadata.shape[1] else None
        found.append(grad_cam(network, inputs, torch.tensor(labels), layer, metadata=told).grid)
        listen(Step(task, start + len(places), len(wanted), "maps"))
    return np.concatenate(found)


def untrained_like(network: nn.Module, architecture: Architecture, seed: int) -> nn.Module:
    """The same architecture with random weights, on the same device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = factory.build(architecture)
    if isinstance(architecture.head, NeighboursProbe):  # it holds examples and learns no weights
        head_of(made).load_state_dict(head_of(network).state_dict())
    return made.to(next(network.parameters()).device)
