"""What `explain` gives: images, what the network says of them, and maps of where it rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.display import Result, percent
from lesionlab.files import replacing

if TYPE_CHECKING:  # that room needs torch, and a result is shown without
    from lesionlab.explanation.target_layers import Layer


@dataclass(frozen=True)
class ClassMap:
    """The map of one image for one class.

    Attributes:
        label: the class.
        grid: float32 >= 0, shape (rows, columns) of the layer's places.
        untrained: the same of a network with random weights; None where that was not asked for.
    """

    label: str
    grid: NDArray[np.float32]
    untrained: NDArray[np.float32] | None = None

    @property
    def blank(self) -> bool:
        """Whether no place at all speaks for the class."""
        return not self.grid.any()

    @property
    def likeness(self) -> float:
        """Spearman's rank correlation, over the places, with the untrained network's map.

        The sanity check of Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018: a map
        that random weights give as well shows the image and not what was learnt. NaN where there is
        none, or where one of the two is the same everywhere.
        """
        if self.untrained is None:
            return math.nan
        ranks = [pd.Series(each.ravel()).rank() for each in (self.grid, self.untrained)]
        if min(each.nunique() for each in ranks) < 2:
            return math.nan
        return float(np.corrcoef(ranks)[0, 1])


def _overlaps(places: int, pixels: int) -> NDArray[np.float64]:
    """Which share of each place of a map's side each pixel is, shape (places, pixels)."""
    edges = np.linspace(0, pixels, places + 1)[:, None]
    pixel = np.arange(pixels)
    inside = np.minimum(edges[1:], pixel + 1) - np.maximum(edges[:-1], pixel)
    return np.asarray(np.clip(inside, 0, None) * places / pixels)


@dataclass(frozen=True)
class Explained:
    """One image.

    Attributes:
        image_id: its id, or its file's name without suffix.
        target: its class; "" where that is unknown.
        part: train, val or test of the run; "" where the run does not know it.
        probabilities: the network's probability of each class, 0-1, in the order of the classes.
        maps: one per class that was asked for.
        picture: the photograph, uint8, shape (height, width, 3).
        mask: true inside the lesion, shape (height, width); None where there is no segmentation.
    """

    image_id: str
    target: str
    part: str
    probabilities: dict[str, float]
    maps: tuple[ClassMap, ...]
    picture: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None = None

    @property
    def predicted(self) -> str:
        """The likeliest class."""
        return max(self.probabilities, key=lambda label: self.probabilities[label])

    @property
    def right(self) -> bool | None:
        """Whether the network is right; None where nobody knows."""
        return self.predicted == self.target if self.target else None

    @property
    def covered(self) -> float:
        """The lesion's share of the picture, 0-1; NaN where there is no segmentation."""
        return math.nan if self.mask is None else float(self.mask.mean())

    def inside(self, shown: ClassMap) -> float:
        """Share of a map that lies in the lesion, 0-1; NaN of a blank map and without segmentation.

        A map that is the same everywhere gets `covered` (Wang et al., "Score-CAM", CVPR workshops
        2020).
        """
        if self.mask is None or shown.blank:
            return math.nan
        up, down = (
            _overlaps(*pair) for pair in zip(shown.grid.shape, self.mask.shape, strict=True)
        )
        covered = up @ self.mask @ down.T
        return float((shown.grid * covered).sum() / shown.grid.sum())


@dataclass(frozen=True, repr=False)
class Explanations(Result):
    """Images of one run and their maps.

    Attributes:
        name: of the run.
        network: the architecture's name.
        classes: of the run, in order.
        layer: where the maps were taken.
        size: height and width of the network's input in pixels.
        images: in the order in which they were asked for or drawn.
        drawn: in words, how they came to be chosen.
        warnings: what to know before looking at them.
    """

    name: str
    network: str
    classes: tuple[str, ...]
    layer: Layer
    size: tuple[int, int]
    images: tuple[Explained, ...]
    drawn: str
    warnings: tuple[str, ...] = ()

    @property
    def likeness(self) -> float:
        """The median likeness of the maps to the untrained network's; NaN without one."""
        known = [each.likeness for image in self.images for each in image.maps]
        known = [each for each in known if not math.isnan(each)]
        return float(np.median(known)) if known else math.nan

    def __repr__(self) -> str:
        return f"<Explanations of {len(self.images)} images by {self.network}>"

    @property
    def finding(self) -> str:
        """What the maps show, in sentences; "" where nothing can be said of them."""
        shares = [
            (image.inside(each), image.covered)
            for image in self.images
            for each in image.maps
            if not math.isnan(image.inside(each))
        ]
        said = []
        if shares:
            inside, covered = np.mean(shares, axis=0)
            said.append(
                f"On average {percent(inside)} of a map lies inside the lesion, which fills "
                f"{percent(covered)} of the picture: what a map that is the same everywhere would "
                f"have ({len(shares)} maps)."
            )
        if not math.isnan(self.likeness):
            said.append(
                "Their median likeness to the maps of the same network with random weights is "
                f"{self.likeness:.2f}; near 1 a map shows the image and not what was learnt."
            )
        return " ".join(said)

    @property
    def legend(self) -> tuple[str, ...]:
        """The finding, below the table."""
        return (self.finding,) if self.finding else ()

    def table(self) -> pd.DataFrame:
        """One row per map.

        Returns:
            Columns image_id, part, target, predicted, class, probability (of that class), blank,
            likeness.
        """
        return pd.DataFrame(
            [
                {
                    "image_id": image.image_id,
                    "part": image.part,
                    "target": image.target,
                    "predicted": image.predicted,
                    "class": each.label,
                    "probability": image.probabilities[each.label],
                    "blank": each.blank,
                    "likeness": each.likeness,
                }
                for image in self.images
                for each in image.maps
            ]
        )

    def save_maps(self, path: Path) -> None:
        """Write the maps as an .npz that needs no pickle, in the order of `table`.

        Arrays: image_id and class (m,), grid (m, rows, columns), and grid_untrained, if there is
        one.
        """
        maps = [(image.image_id, each) for image in self.images for each in image.maps]
        arrays = {
            "image_id": np.array([image_id for image_id, _ in maps]),
            "class": np.array([each.label for _, each in maps]),
            "grid": np.stack([each.grid for _, each in maps]),
        }
        untrained = [each.untrained for _, each in maps if each.untrained is not None]
        if untrained:
            arrays["grid_untrained"] = np.stack(untrained)
        with replacing(path) as part, part.open("wb") as handle:
            np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
