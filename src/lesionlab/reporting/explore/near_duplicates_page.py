"""The page of pairs that may show one lesion: side by side, to be judged by eye."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lesionlab import taxonomy
from lesionlab._version import __version__
from lesionlab.data.audit import near_duplicates
from lesionlab.data.audit.dct_index import inverse, posed
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.images.decode import to_pixels
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.disclaimer import NOTICE
from lesionlab.files import write_text
from lesionlab.recipe.schema import Images
from lesionlab.reporting.page.template import template
from lesionlab.taxonomy import full_name

SIDE = 280
"""Pixels on the longer side of a picture."""
MOST = 300
"""Pairs on one page; those after are in the table alone."""
_QUALITY = 80


@dataclass(frozen=True)
class Pair:
    """One pair on the page.

    Attributes:
        number: of its row in pairs.csv, from 1.
        row: of the pairs, columns `near_duplicates.PAIRS`, as text.
        pictures: the image, the other, and the other turned back where it was turned; each as a
            JPEG in a `data:` address, "" where it cannot be read.
    """

    number: int
    row: dict[str, str]
    pictures: tuple[str, ...]

    @property
    def other_photograph(self) -> bool:
        """Whether it has a probability instead of a similarity."""
        return self.row["kind"] == near_duplicates.OTHER_PHOTOGRAPH

    @property
    def clash(self) -> bool:
        """Whether the two have different diagnoses."""
        return self.row["target"] != self.row["other_target"]


def write(pairs: pd.DataFrame, data: Catalogue, path: Path) -> int:
    """Write the page of all pairs across lesions.

    Args:
        pairs: of an audit.
        data: the catalogue that they are of.
        path: the page.

    Returns:
        The number of pairs across lesions that are not judged yet; with none at all no page is
        written, and an old one is removed.

    Raises:
        DataError: if the page cannot be written.
    """
    unlike = near_duplicates.lesions(pairs, "lesion_id") != near_duplicates.lesions(
        pairs, "other_lesion"
    )
    across = pairs[unlike].reset_index(drop=True)
    if across.empty:
        path.unlink(missing_ok=True)
        return 0
    rows = data.table.drop_duplicates("image_id").set_index("image_id")["path"]
    reader = Reader(data.root)
    shown = []
    for number, row in enumerate(across.head(MOST).to_dict("records"), 1):
        text = {str(key): str(value) for key, value in row.items()}
        turned = inverse(near_duplicates.position(text["transform"]))
        pictures = [_picture(reader, rows[text["image_id"]], 0)]
        pictures.append(_picture(reader, rows[text["other"]], 0))
        if turned:
            pictures.append(_picture(reader, rows[text["other"]], turned))
        shown.append(Pair(number, text, tuple(pictures)))
    page = template("pairs.html.jinja", "reporting/explore", "reporting/page").render(
        pairs=shown,
        number=len(across),
        within=len(pairs) - len(across),
        images=len(data),
        least=near_duplicates.LEAST,
        notice=NOTICE,
        version=__version__,
        full_name=full_name,
        colours=taxonomy.colours(data.classes),
    )
    write_text(path, page)
    return int((across["verdict"] == "").sum())


def _picture(reader: Reader, path: str, position: int) -> str:
    """A small JPEG of an image, upright, in a position of `descriptors.posed`."""
    try:
        image, (height, width) = reader.upright(path)
        scale = min(1.0, SIDE / max(width, height))
        size = max(16, round(height * scale)), max(16, round(width * scale))
        pixels = to_pixels(image, Images(size=size), path)
    except ImageFault:
        return ""
    made = np.ascontiguousarray(posed(pixels.transpose(2, 0, 1), position).transpose(1, 2, 0))
    buffer = io.BytesIO()
    Image.fromarray(made).save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
