"""The page of an explanation: one self-contained HTML file, and its pictures and maps as files."""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from lesionlab import taxonomy
from lesionlab._version import __version__
from lesionlab.disclaimer import NOTICE
from lesionlab.display import percent
from lesionlab.explanation.explain_result import ClassMap, Explained, Explanations
from lesionlab.explanation.grad_cam import spread
from lesionlab.explanation.heatmaps import colours, outlined, overlay
from lesionlab.files import replacing, write_csv, write_text
from lesionlab.reporting.page.template import template
from lesionlab.taxonomy import full_name

PAGE = "explain.html"
TABLE = "explain.csv"
MAPS = "maps.npz"
_QUALITY = 85
_WIDE = 4  # columns, above which an image takes a whole row


def write(made: Explanations, out: Path) -> Path:
    """Write an explanation.

    Args:
        made: what to show.
        out: an .html file for the page alone; or a folder for the page, a table, the maps and a
            PNG per image.

    Returns:
        The path of the page.

    Raises:
        DataError: if a file cannot be written.
    """
    if out.suffix.lower() in (".html", ".htm"):
        write_text(out, render(made))
        return out
    for number, image in enumerate(made.images):
        name = re.sub(r"[^\w.-]", "_", image.image_id)
        twin = sum(each.image_id == image.image_id for each in made.images[:number])
        with replacing(out / f"{name}{f'_{twin}' if twin else ''}.png") as part:
            part.write_bytes(png(image))
    made.save_maps(out / MAPS)
    write_csv(out / TABLE, made.table())
    write_text(out / PAGE, render(made))
    return out / PAGE


@dataclass(frozen=True)
class Panel:
    """One picture beside others.

    Attributes:
        title: what it shows.
        about: more of that, smaller.
        pixels: uint8, shape (height, width, 3); None where there is nothing to show.
    """

    title: str
    about: str
    pixels: NDArray[np.uint8] | None

    @property
    def address(self) -> str:
        """The picture as a JPEG in a `data:` address; "" where there is none."""
        if self.pixels is None:
            return ""
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "JPEG", quality=_QUALITY, optimize=True)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def panels(image: Explained) -> list[list[Panel]]:
    """Columns of pictures: the photograph; for each class its map, above the untrained one."""
    photo = "lesion outlined" if image.mask is not None else ""
    made = [[Panel("photograph", photo, outlined(image.picture, image.mask))]]
    for each in image.maps:
        about = f"{_role(image, each)}{percent(image.probabilities[each.label])}"
        if not math.isnan(share := image.inside(each)):
            about += f"; {percent(share)} of it in the lesion"
        column = [_panel(image, each.label, about, each.grid)]
        if each.untrained is not None:
            known = not math.isnan(each.likeness)
            about = f"untrained, likeness {each.likeness:.2f}" if known else "untrained"
            column.append(_panel(image, each.label, about, each.untrained))
        made.append(column)
    return made


def _role(image: Explained, each: ClassMap) -> str:
    words = [
        word
        for word, label in (("predicted", image.predicted), ("true", image.target))
        if label == each.label
    ]
    return "".join(f"{word}, " for word in words)


def _panel(image: Explained, title: str, about: str, grid: NDArray[np.float32]) -> Panel:
    if not grid.any():
        return Panel(title, about, None)
    size = (image.picture.shape[0], image.picture.shape[1])
    return Panel(title, about, overlay(image.picture, spread(grid[None], size)[0]))


def png(image: Explained) -> bytes:
    """All panels of an image side by side, with their titles, as a PNG."""
    shown = panels(image)
    rows = max(map(len, shown))
    height, width = image.picture.shape[:2]
    inches = 2.6
    with rc_context({"text.parse_math": False, "font.size": 9.0}):  # a class may be called "$x$"
        figure = Figure(
            figsize=(inches * len(shown), rows * (inches * height / width + 0.4) + 0.4),
            dpi=120,
            layout="constrained",
        )
        figure.suptitle(f"{image.image_id}: {_verdict(image)}", fontsize=10)
        for row, column, panel in (
            (row, column, panel)
            for column, each in enumerate(shown)
            for row, panel in enumerate(each)
        ):
            axes = figure.add_subplot(rows, len(shown), row * len(shown) + column + 1)
            axes.set_title(f"{panel.title}\n{panel.about}", fontsize=8.5)
            axes.set(xticks=[], yticks=[])
            if panel.pixels is not None:
                axes.imshow(panel.pixels)
            else:
                axes.text(0.5, 0.5, "blank map", ha="center", va="center")
                axes.set_aspect(height / width)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def strips(made: Explanations) -> str:
    """The images with their maps as HTML that needs no style sheet, for a notebook."""
    parts = []
    for image in made.images:
        parts.append(f"<p><strong>{escape(f'{image.image_id}: {_verdict(image)}')}</strong></p>")
        figures = [
            f'<figure style="margin:0;width:9em">{_shown(panel)}<figcaption><small>'
            f"{escape(panel.title)}<br>{escape(panel.about)}</small></figcaption></figure>"
            for column in panels(image)
            for panel in column
        ]
        parts.append(f'<div style="display:flex;flex-wrap:wrap;gap:8px">{"".join(figures)}</div>')
    return "".join(parts)


def _shown(panel: Panel) -> str:
    if panel.pixels is None:
        return f"<p>blank map: no place speaks for {escape(panel.title)}</p>"
    return f'<img src="{panel.address}" alt="{escape(panel.title)}" style="width:100%">'


def _verdict(image: Explained) -> str:
    called = f"called {image.predicted} ({percent(image.probabilities[image.predicted])})"
    if image.right is None:
        return called
    return f"{image.target}, {called}, {'right' if image.right else 'wrong'}"


def render(made: Explanations) -> str:
    """The page as HTML."""
    stops = ", ".join("rgb({}, {}, {})".format(*each) for each in colours(np.linspace(0, 1, 12)))
    return template("page.html.jinja", "explanation", "reporting/page").render(
        made=made,
        groups=_groups(made),
        panels=panels,
        wide=_WIDE,
        stops=stops,
        untrained=any(each.untrained is not None for x in made.images for each in x.maps),
        notice=NOTICE,
        version=__version__,
        percent=percent,
        full_name=full_name,
        colours=taxonomy.colours(made.classes),
        probabilities=lambda image: sorted(image.probabilities.items(), key=lambda pair: -pair[1]),
    )


def _groups(made: Explanations) -> dict[str, list[Explained]]:
    """The images by true class, right and wrong ones in turn; "" holds those of unknown class."""
    targets = {image.target for image in made.images}
    others = sorted(targets - {*made.classes, ""})
    groups = {}
    for label in (*made.classes, *others, ""):
        own = [image for image in made.images if image.target == label]
        right = [image for image in own if image.right is not False]
        wrong = [image for image in own if image.right is False]
        if own:
            pairs = zip_longest(right, wrong)
            groups[label] = [image for pair in pairs for image in pair if image is not None]
    return groups
