"""Checks that a bundle must pass before it is written: parity with torch, gates of int8, fp16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from lesionlab.augmentation.random_views import normalise
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.images.reader import Reader
from lesionlab.errors import BundleError
from lesionlab.evaluation.comparison.compare import compare
from lesionlab.explanation.grad_cam import grad_cam
from lesionlab.models.factory import Architecture
from lesionlab.models.metadata_encoder import numbers_of
from lesionlab.numerics import softmax
from lesionlab.prediction.predictor import session_of
from lesionlab.prediction.run_predictor import predict_views, predictions_table
from lesionlab.prediction.test_time_views import averaged

CLOSE = 1e-4
"""How far probabilities, and maps in logits, may be from torch's."""

PICTURES = 2000
"""Held-out pictures that a smaller graph is compared on, at least."""

AGREEMENT = 0.98
FALL = 0.01

_MAPPED = 8  # images whose maps of all classes are compared


def parity(
    network: nn.Module,
    architecture: Architecture,
    graph: bytes,
    data: Catalogue,
    table: pd.DataFrame,
    views: int,
) -> dict[str, float]:
    """Compare a graph with torch, from files to probabilities and maps.

    Args:
        network: in evaluation mode.
        architecture: its input and classes.
        graph: what was made of it.
        data: the catalogue, for where files are.
        table: rows of the catalogue, of the images to compare on.
        views: as in the graph.

    Returns:
        images, and the largest difference of a probability and of a map.

    Raises:
        BundleError: if they are not the same.
    """
    reader = Reader(data.root)
    pixels = np.stack([reader.pixels(path, architecture.images) for path in table["path"]])
    numbers = numbers_of(architecture.metadata, table)
    given: dict[str, NDArray[Any]] = {"pixels": pixels}
    if architecture.metadata is not None:
        given["metadata"] = numbers
    session = session_of(graph, 2)
    names = [each.name for each in session.get_outputs()]
    found = dict(zip(names, session.run(names, given), strict=True))
    right = predict_views(
        network, architecture, pixels, np.arange(len(pixels)), views, metadata=numbers
    )
    apart = float(np.abs(softmax(found["logits"]) - softmax(averaged(right))).max())
    told = {"images": len(pixels), "probabilities": apart}
    if "maps" in found:
        some = min(_MAPPED, len(pixels))
        inputs = normalise(torch.from_numpy(pixels[:some]), *architecture.normalisation)
        fused = torch.from_numpy(numbers[:some]) if architecture.metadata is not None else None
        apart_maps = 0.0
        for place in range(len(architecture.classes)):
            classes = torch.full((some,), place)
            grid = grad_cam(network, inputs, classes, metadata=fused).grid
            apart_maps = max(apart_maps, float(np.abs(found["maps"][:some, place] - grid).max()))
        told["maps"] = apart_maps
    wrong = [f"{name} by {told[name]:.2g}" for name in told if name != "images"]
    if not all(told[name] <= CLOSE for name in told if name != "images"):
        raise BundleError(
            f"The graph of {architecture.name} does not give what torch gives: they differ in "
            f"{' and '.join(wrong)}, where {CLOSE:g} is allowed. Nothing was written."
        )
    return told


def smaller(
    full: NDArray[np.floating],
    small: NDArray[np.floating],
    table: pd.DataFrame,
    classes: Sequence[str],
    part: str,
    precision: str,
) -> dict[str, Any]:
    """Compare answers of a smaller graph, in fp16 or int8, with those in 32 bits.

    Args:
        full: logits in 32 bits, shape (n, classes).
        small: logits of the smaller graph.
        table: target and lesion_id of those pictures; mirror images repeat their rows.
        classes: in their order.
        part: where they are from.
        precision: of the smaller graph, for messages.

    Returns:
        pictures, images, part, agreement, and the fall of balanced accuracy (above 0: the smaller
        is worse) with its interval over lesions.

    Raises:
        BundleError: if they differ by more than is allowed, or there are too few pictures.
    """
    if len(full) < PICTURES:
        raise BundleError(
            f"{precision} is checked on {PICTURES:,} held-out pictures or more, and part {part} "
            f"has {len(full):,} with their mirror images. Export in 32 bits, or train with a "
            "larger held-out part."
        )
    agreement = float((full.argmax(axis=1) == small.argmax(axis=1)).mean())
    rows = table.assign(part="test")
    number = rows.groupby("image_id").cumcount().astype(str)
    rows["image_id"] = rows["image_id"] + "/" + number
    tables = {
        name: predictions_table(rows, classes, logits)
        for name, logits in ((precision, small), ("full", full))
    }
    found = compare(tables, metrics=["balanced_accuracy"], focus="full")
    fall = found.differences["full", precision, "balanced_accuracy"]
    told = {
        "part": part,
        "pictures": len(full),
        "images": int(table["image_id"].nunique()),
        "agreement": agreement,
        "fall": fall.value,
        "fall_low": fall.low,
        "fall_high": fall.high,
    }
    if agreement < AGREEMENT or not fall.value <= FALL:
        raise BundleError(
            f"In {precision} {agreement:.1%} of the likeliest classes of {len(full):,} pictures "
            f"stay ({AGREEMENT:.0%} are asked for) and balanced accuracy falls by {fall} ({FALL:g} "
            "is allowed). Nothing was written. Export in more bits: --precision fp16, or fp32."
        )
    return told
