"""The page of `trust`: what the figures say, drawn, and pictures of right and wrong answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from markupsafe import Markup
from numpy.typing import NDArray

from lesionlab import taxonomy
from lesionlab._version import __version__
from lesionlab.data.images.reader import Reader
from lesionlab.disclaimer import NOTICE
from lesionlab.display import percent
from lesionlab.explanation.explain_page import Panel
from lesionlab.explanation.explain_result import ClassMap, Explained
from lesionlab.explanation.grad_cam import spread
from lesionlab.explanation.heatmaps import outlined, overlay, photograph
from lesionlab.explanation.lesion_masks import Mask, framed
from lesionlab.explanation.trust.deletion_insertion import Substitute, only
from lesionlab.explanation.trust.result import Trust
from lesionlab.files import write_text
from lesionlab.models.factory import Architecture
from lesionlab.recipe.schema import Images
from lesionlab.reporting.formatting import csv_link
from lesionlab.reporting.page.template import template
from lesionlab.reporting.report.explanation_trust import drawn, made_of, replaced
from lesionlab.taxonomy import full_name

PAGE = "trust.html"
_EACH = 1  # pictures of right and of wrong answers of a class
_COLUMNS = 4  # of panels, above which an image takes a whole row
_LIKELIEST = 3  # classes whose probability is shown


@dataclass(frozen=True)
class Picture:
    """An image of the page.

    Attributes:
        image: what the network says of it.
        panels: columns of pictures.
    """

    image: Explained
    panels: list[list[Panel]]


def pictures(
    table: pd.DataFrame,
    grids: NDArray[np.float32],
    rows: Mapping[str, Mapping[str, Any]],
    probabilities: NDArray[np.float64],
    masks: Mapping[str, Mask],
    architecture: Architecture,
    substitute: Substitute,
) -> list[Picture]:
    """The first right and the first wrong answer of every class, in the random order of the draw.

    Args:
        table: of `trust`, one row per image.
        grids: their maps.
        rows: of the catalogue, with root, by image_id.
        probabilities: shape (n, classes).
        masks: at their own size, by image_id.
        architecture: of the network.
        substitute: what stands where pixels are taken away.
    """
    made = []
    for label in architecture.classes:
        for hit in (True, False):
            own = table[(table["target"] == label) & (table["right"] == hit)].head(_EACH)
            made += [
                _picture(
                    table.loc[place],
                    grids[place],
                    rows[str(table.loc[place, "image_id"])],
                    probabilities[place],
                    masks[str(table.loc[place, "image_id"])],
                    architecture,
                    substitute,
                )
                for place in own.index
            ]
    return made


def _picture(
    told: pd.Series,
    grid: NDArray[np.float32],
    row: Mapping[str, Any],
    probabilities: NDArray[np.float64],
    mask: Mask,
    architecture: Architecture,
    substitute: Substitute,
) -> Picture:
    photo = photograph(
        Reader(Path(row["root"])), row["path"], architecture.images, row.get("sha256", "")
    )
    size = (photo.shape[0], photo.shape[1])
    outline = framed(mask, Images(size=size, fit=architecture.images.fit))
    shares = dict(zip(architecture.classes, map(float, probabilities), strict=True))
    label = str(told["predicted"])
    image = Explained(
        str(told["image_id"]), str(told["target"]), str(row["part"]), shares,
        (ClassMap(label, grid),), photo, outline,
    )  # fmt: skip
    inside = "no mask" if pd.isna(told["inside"]) else f"{percent(told['inside'])} in the lesion"
    heat = None
    if grid.any():
        heat = outlined(overlay(photo, spread(grid[None], size)[0]), outline)
    panels = [
        Panel("photograph", f"lesion: {percent(told['area'])} of it", outlined(photo, outline)),
        Panel(f"map for {label}", inside, heat),
    ]
    for name, title, kept in (
        ("lesion", "lesion only", outline),
        ("context", "surroundings only", ~outline),
    ):
        if pd.isna(told[f"right_{name}"]):
            continue
        called, chance = told[f"predicted_{name}"], percent(told[f"p_{name}"])
        about = f"called {called}, {chance if called == label else f'{label} {chance}'}"
        panels.append(Panel(title, about, _only(photo, kept, substitute)))
    return Picture(image, [[each] for each in panels])


def _only(photo: NDArray[np.uint8], kept: Mask, substitute: Substitute) -> NDArray[np.uint8]:
    """A photograph of which a part is left."""
    pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float()
    left = only(pixels, torch.from_numpy(kept.copy())[None, None], substitute)
    return np.asarray(left[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy())


def write(made: Trust, shown: Sequence[Picture], out: Path) -> Path:
    """Write the tables and the page.

    Args:
        made: what was measured.
        shown: from `pictures`.
        out: the folder.

    Returns:
        The path of the page.

    Raises:
        DataError: if a file cannot be written.
    """
    made.save(out)
    write_text(out / PAGE, render(made, shown))
    return out / PAGE


def render(made: Trust, shown: Sequence[Picture]) -> str:
    """The page as HTML."""
    facts = made.facts
    section = made_of(made.summary, made.curves, made.forgetting, {**facts, "warnings": []})
    panels = {each.image.image_id: each.panels for each in shown}
    groups: dict[str, list[Explained]] = {}
    for each in shown:
        groups.setdefault(each.image.target, []).append(each.image)
    return template(
        "trust.html.jinja", "explanation/trust", "explanation", "reporting/page"
    ).render(
        made=made,
        facts=facts,
        drawn=drawn(facts),
        replaced=replaced(facts),
        figures=[each for each in section.exhibits if each.svg],
        tables=[each for each in section.exhibits if not each.svg][1:],
        svg=Markup,
        csv=csv_link,
        groups=groups,
        panels=lambda image: panels[image.image_id],
        wide=_COLUMNS,
        untrained=False,
        notice=NOTICE,
        version=__version__,
        percent=percent,
        full_name=full_name,
        colours=taxonomy.colours(facts["classes"]),
        probabilities=lambda image: sorted(image.probabilities.items(), key=lambda pair: -pair[1])[
            :_LIKELIEST
        ],
    )
