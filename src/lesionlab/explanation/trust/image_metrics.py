"""Every figure of every image: maps against masks, curves, and answers to parts of a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lesionlab.augmentation.random_views import normalise
from lesionlab.explanation.compute_maps import class_maps, untrained_like
from lesionlab.explanation.grad_cam import spread
from lesionlab.explanation.lesion_masks import Mask, framed
from lesionlab.explanation.target_layers import Layer
from lesionlab.explanation.trust import deletion_insertion
from lesionlab.explanation.trust.deletion_insertion import Substitute
from lesionlab.explanation.trust.mask_agreement import (
    centre_prior,
    chance_overlap,
    inside_share,
    near,
    overlap,
    pointing,
    rank_similarity,
    structural_similarity,
)
from lesionlab.explanation.trust.weight_randomisation import cascade
from lesionlab.models.factory import Architecture
from lesionlab.models.metadata_fusion import logits_of
from lesionlab.numerics import softmax
from lesionlab.progress import Listener, Step

DRAWS = 3
"""How many networks with random weights the maps are compared with."""
_CHUNK = 32  # pictures per step


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    Attributes:
        rows: of the catalogue, with root, part and weight.
        pixels: uint8, shape (n, height, width, 3).
        metadata: shape (n, fields).
        masks: at their own size, by image_id.
        network: on its device.
        architecture: its description.
        layer: where maps are taken.
        predicted: places of the answers in the classes, shape (n,).
        probabilities: shape (n, classes).
    """

    rows: pd.DataFrame
    pixels: NDArray[np.uint8]
    metadata: NDArray[np.int64]
    masks: dict[str, Mask]
    network: nn.Module
    architecture: Architecture
    layer: Layer
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    def maps(self, network: nn.Module, task: str, listen: Listener) -> NDArray[np.float32]:
        """A network's maps for the answers of the trained one."""
        labels = [self.architecture.classes[each] for each in self.predicted]
        wanted = list(enumerate(labels))
        return class_maps(
            network, self.architecture, self.pixels, self.metadata, wanted, self.layer, task, listen
        )


def randomised(
    subject: Subject, grids: NDArray[np.float32], seed: int, listen: Listener
) -> tuple[NDArray[np.float32], pd.DataFrame]:
    """Maps of untrained networks, shape (draws, n, rows, columns), and how alike they are to ours.

    Columns rank and ssim (means over the draws), rank_other and ssim_other (of another picture's
    map), and for every step of forgetting "rank after <group>", "ssim after <group>".
    """
    fresh = [
        untrained_like(subject.network, subject.architecture, seed + number).eval()
        for number in range(DRAWS)
    ]
    untrained = np.stack([subject.maps(each, "untrained", listen) for each in fresh])
    size = subject.architecture.images.size
    made: dict[str, NDArray[np.float64]] = {}
    every = [_alike(grids, each, size) for each in untrained]
    made["rank"], made["ssim"] = np.mean(every, axis=0)
    other = _alike(grids, np.roll(grids, 1, axis=0), size) if len(grids) > 1 else every[0] * np.nan
    made["rank_other"], made["ssim_other"] = other
    for name, network in cascade(subject.network, fresh[0]):
        after = subject.maps(network, f"random from {name} up", listen)
        made[f"rank after {name}"], made[f"ssim after {name}"] = _alike(grids, after, size)
    return untrained, pd.DataFrame(made)


def _alike(
    grids: NDArray[np.float32], others: NDArray[np.float32], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Rank and structural similarity of maps, pair by pair, shape (2, n)."""
    made = np.empty((2, len(grids)))
    for start in range(0, len(grids), _CHUNK):
        part = slice(start, start + _CHUNK)
        large = zip(spread(grids[part], size), spread(others[part], size), strict=True)
        made[0, part] = [
            rank_similarity(*pair) for pair in zip(grids[part], others[part], strict=True)
        ]
        made[1, part] = [structural_similarity(*pair) for pair in large]
    return made


def measured(
    subject: Subject,
    grids: NDArray[np.float32],
    untrained: NDArray[np.float32],
    substitute: Substitute,
    steps: int,
    seed: int,
    listen: Listener,
) -> tuple[dict[tuple[str, str], NDArray[np.float64]], pd.DataFrame]:
    """Curves by kind and order, and the other figures of every image."""
    n = len(grids)
    curves: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    rows: list[dict[str, float | str]] = []
    size = subject.architecture.images.size
    centre = centre_prior(size)
    ids = [str(each) for each in subject.rows["image_id"]]
    for start in range(0, n, _CHUNK):
        part = slice(start, min(start + _CHUNK, n))
        large = spread(grids[part], size)
        forgot = [spread(each[part], size) for each in untrained]
        ties = deletion_insertion.random_maps(ids[part], subject.layer.grid, size, seed)
        masks = [_framed(subject, name) for name in ids[part]]
        rows += [
            _agreement(heat, mask, centre, [each[number] for each in forgot])
            for number, (heat, mask) in enumerate(zip(large, masks, strict=True))
        ]
        inputs, answer = _answering(subject, part)
        instead = deletion_insertion.substitutes(inputs, substitute)
        own = torch.from_numpy(subject.predicted[part])
        orders = {
            "map": deletion_insertion.order(large, ties),
            "centre": deletion_insertion.order(np.broadcast_to(centre, large.shape), ties),
            "random": deletion_insertion.order(ties, ties),
        }
        for key, found in _curves(answer, inputs, instead, own, orders, steps).items():
            curves.setdefault(key, []).append(found)
        told = _parts(subject, part, masks, answer, inputs, instead, substitute)
        for row, more in zip(rows[part], told, strict=True):
            row |= more
        listen(Step("taking pixels away", part.stop, n, "images"))
    whole = {key: np.concatenate(found) for key, found in curves.items()}
    table = pd.DataFrame(rows)
    for (kind, way), found in whole.items():
        table[kind if way == "map" else f"{kind}_{way}"] = deletion_insertion.area_under(found)
    # A blank map has no order of its own: its curves would be those of the random one.
    table.loc[table["blank"] > 0, ["deletion", "insertion"]] = np.nan
    for kind in ("deletion", "insertion"):
        whole[kind, "map"][table["blank"].to_numpy() > 0] = np.nan
    return whole, table


def _framed(subject: Subject, image_id: str) -> Mask | None:
    """An image's mask as the network frames it; None where it is empty."""
    mask = framed(subject.masks[image_id], subject.architecture.images)
    return mask if mask.any() else None


def _agreement(
    heat: NDArray[np.float32],
    mask: Mask | None,
    centre: NDArray[np.float32],
    untrained: list[NDArray[np.float32]],
) -> dict[str, float | str]:
    """How a map, and those that it is compared with, lie to the mask."""
    made: dict[str, float | str] = {"blank": float(not heat.any())}
    if mask is None:
        return made
    close = near(mask)
    area = float(mask.mean())
    made |= {
        "area": area,
        "pointing_chance": float(close.mean()),
        "overlap_chance": chance_overlap(area),
    }
    for tail, maps in (("", [heat]), ("_centre", [centre]), ("_untrained", untrained)):
        for name, values in (
            ("inside", [inside_share(each, mask) for each in maps]),
            ("pointing", [pointing(each, close) for each in maps]),
            ("overlap", [overlap(each, mask) for each in maps]),
        ):
            known = [each for each in values if not np.isnan(each)]
            made[name + tail] = float(np.mean(known)) if known else np.nan
    made["enrichment"] = float(made["inside"]) / area
    return made


def _answering(
    subject: Subject, part: slice
) -> tuple[Tensor, Callable[[Tensor], NDArray[np.float64]]]:
    """Inputs of some images, and a function from such inputs to probabilities."""
    device = next(subject.network.parameters()).device
    images = torch.from_numpy(subject.pixels[part]).to(device)
    inputs = normalise(images, *subject.architecture.normalisation)
    told = None
    if subject.metadata.shape[1]:
        told = torch.from_numpy(subject.metadata[part]).to(device)

    def answer(changed: Tensor) -> NDArray[np.float64]:
        with torch.inference_mode():
            ready = changed.contiguous(memory_format=torch.channels_last)
            return softmax(logits_of(subject.network, ready, told).float().cpu().numpy())

    return inputs, answer


def _curves(
    answer: Callable[[Tensor], NDArray[np.float64]],
    inputs: Tensor,
    instead: Tensor,
    own: Tensor,
    orders: dict[str, NDArray[np.int64]],
    steps: int,
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Deletion and insertion in every order, of the probability of the class answered."""

    def score(changed: Tensor) -> Tensor:
        return torch.from_numpy(answer(changed)).gather(1, own[:, None])[:, 0]

    ends = score(inputs), score(instead)
    made = {}
    for way, places in orders.items():
        made["deletion", way] = deletion_insertion.curve(
            score, inputs, instead, places, ends, steps
        )
        made["insertion", way] = (
            # A random order reversed is as random: read backwards, one curve serves for both.
            made["deletion", way][:, ::-1]
            if way == "random"
            else deletion_insertion.curve(score, inputs, instead, places, ends, steps, insert=True)
        )
    return made


def _parts(
    subject: Subject,
    part: slice,
    masks: list[Mask | None],
    answer: Callable[[Tensor], NDArray[np.float64]],
    inputs: Tensor,
    instead: Tensor,
    substitute: Substitute,
) -> list[dict[str, float | str]]:
    """What the network answers to the lesion alone, to its surroundings alone, and to nothing."""
    classes = subject.architecture.classes
    kept = torch.from_numpy(
        np.stack([np.zeros(inputs.shape[2:], bool) if each is None else each for each in masks])
    )[:, None].to(inputs.device)
    answers = {
        "whole": subject.probabilities[part],
        "lesion": answer(deletion_insertion.only(inputs, kept, substitute)),
        "context": answer(deletion_insertion.only(inputs, ~kept, substitute)),
        "nothing": answer(instead),
    }
    made: list[dict[str, float | str]] = []
    for number, (mask, target) in enumerate(zip(masks, subject.rows["target"][part], strict=True)):
        row: dict[str, float | str] = {}
        own = subject.predicted[part][number]
        for name, probabilities in answers.items():
            if name in ("lesion", "context") and (mask is None or mask.all()):
                continue
            found = int(probabilities[number].argmax())
            row[f"right_{name}"] = float(classes[found] == target)
            if name in ("lesion", "context"):
                row[f"predicted_{name}"] = classes[found]
                row[f"same_{name}"] = float(found == own)
                row[f"p_{name}"] = float(probabilities[number, own])
        made.append(row)
    return made
