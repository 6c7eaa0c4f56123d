"""Right and wrong examples: which images to show, and their thumbnails."""

from __future__ import annotations

import base64
import io
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd
from PIL import Image

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.images.decode import to_pixels
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.evaluation.metrics.classification import decide
from lesionlab.recipe.schema import Images
from lesionlab.tables import classes_of, lesions_of

SIDE = 160
"""Pixels on the longer side of a thumbnail."""
RIGHT, WRONG = 2, 3
"""Examples per class, at most."""
_QUALITY = 80


@dataclass(frozen=True)
class Example:
    """One image: what it is, what the model called it and how surely, and its picture.

    Attributes:
        image_id: the image.
        truth: its class.
        predicted: the class that the model gave it.
        probability: of the class given, 0-1.
        picture: a JPEG as a `data:` address, or "" where there is none.
    """

    image_id: str
    truth: str
    predicted: str
    probability: float
    picture: str = ""

    @property
    def right(self) -> bool:
        """Whether the model is right."""
        return self.truth == self.predicted


@dataclass(frozen=True)
class Gallery:
    """Examples by true class, and what to say where pictures are missing.

    Attributes:
        examples: by class, right ones first, then wrong ones, surest first.
        note: one sentence if pictures are missing, else "".
    """

    examples: dict[str, list[Example]]
    note: str = ""

    @property
    def pictured(self) -> bool:
        """Whether there is any picture at all."""
        return any(each.picture for group in self.examples.values() for each in group)


def choose(
    predictions: pd.DataFrame, part: str, *, right: int = RIGHT, wrong: int = WRONG
) -> dict[str, list[Example]]:
    """Choose the surest right and wrong answers of every class, no lesion twice in a group.

    Args:
        predictions: a checked table.
        part: train, val or test.
        right: right answers per class, at most.
        wrong: wrong answers per class, at most.
    """
    classes = classes_of(predictions)
    rows = predictions[predictions["part"] == part]
    probabilities = rows[[f"p_{label}" for label in classes]].to_numpy(float)
    answer = decide(probabilities)
    table = pd.DataFrame(
        {
            "image_id": rows["image_id"].to_numpy(),
            "lesion": lesions_of(rows).to_numpy(),
            "truth": rows["target"].to_numpy(),
            "predicted": [classes[index] for index in answer],
            "probability": probabilities.max(axis=1),
        }
    ).sort_values(["probability", "image_id"], ascending=[False, True])
    made: dict[str, list[Example]] = {}
    for label in classes:
        of_class = table[table["truth"] == label]
        hit = of_class["predicted"] == label
        chosen = [
            group.drop_duplicates("lesion").head(number)
            for group, number in ((of_class[hit], right), (of_class[~hit], wrong))
        ]
        examples = [
            Example(str(row.image_id), str(row.truth), str(row.predicted), float(row.probability))  # type: ignore[arg-type]
            for group in chosen
            for row in group.itertuples()
        ]
        if examples:
            made[label] = examples
    return made


def picture(examples: dict[str, list[Example]], data: Catalogue) -> Gallery:
    """Read the images of chosen examples through a catalogue.

    An image that is missing, broken or not the one that was catalogued is left without a picture.
    """
    rows = data.table.set_index("image_id")
    reader = Reader(data.root)
    made: dict[str, list[Example]] = {}
    wanted = lost = 0
    for label, group in examples.items():
        made[label] = []
        for each in group:
            wanted += 1
            address = ""
            if each.image_id in rows.index:
                row = rows.loc[each.image_id]
                with suppress(ImageFault):
                    address = thumbnail(reader, str(row["path"]), str(row["sha256"]))
            lost += not address
            made[label].append(
                Example(each.image_id, each.truth, each.predicted, each.probability, address)
            )
    note = ""
    if lost == wanted:
        note = "Pictures are left out: the catalogue's image files are not where it says they are."
    elif lost:
        note = f"{lost} of {wanted} pictures are left out: their files are missing or were changed."
    return Gallery(made, note)


def thumbnail(reader: Reader, path: str, sha256: str = "", side: int = SIDE) -> str:
    """A small JPEG of one image as a `data:` address, upright and in its own proportions.

    Args:
        reader: of the data folder.
        path: as in the catalogue.
        sha256: if given, what the content must hash to.
        side: pixels on the longer side; smaller images stay as they are.

    Raises:
        ImageFault: if the image cannot be read or is not the one that was catalogued.
    """
    image, (height, width) = reader.upright(path, sha256)
    scale = min(1.0, side / max(width, height))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    buffer = io.BytesIO()
    Image.fromarray(to_pixels(image, Images(size=size), path)).save(
        buffer, "JPEG", quality=_QUALITY, optimize=True
    )
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
