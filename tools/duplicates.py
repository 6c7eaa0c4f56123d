"""Measure how well near-duplicates are found: plant altered copies among real images, and search.

    python tools/duplicates.py data/ham10000 --out near-duplicates --per-kind 100 --seed 0

Lesions are dealt to two halves.

1. Choosing: altered copies of images of the first half are planted among the images of that half.
   The threshold on similarity lies halfway between two values: the one that 95 % of the planted
   pairs of the worst kind reach, and the one that no more than five pairs exceed that nobody
   planted, of images of different lesions.
2. Testing: altered copies of images of the second half are planted among all images. Reported is
   the share of each kind that is found at that threshold, with Wilson's 95 % interval, the number
   of pairs across lesions that nobody planted, the minutes, and the minutes of one core, which do
   not depend on what else the machine does.

A copy is of another lesion as far as the search knows. Counted kinds are the first six; the others
show how far beyond them the search reaches. Every copy is an image of its own, so no image has two.
OUT gets recall.csv, and all pairs in choosing.csv and testing.csv; the copies are removed again.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from lesionlab.data.audit.near_duplicates import LEAST, near_duplicates
from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
from lesionlab.evaluation.intervals.estimate import wilson
from lesionlab.files import write_csv
from lesionlab.progress import Notice, Step

Random = np.random.Generator
LOWEST = 0.3  # similarity down to which pairs are kept, to see both sides of the threshold
FALSE_ALLOWED = 5
POSITIONS = Image.Transpose


def mirror(image: Image.Image, rng: Random) -> Image.Image:
    return image.transpose((POSITIONS.FLIP_LEFT_RIGHT, POSITIONS.FLIP_TOP_BOTTOM)[rng.integers(2)])


def turn(image: Image.Image, rng: Random) -> Image.Image:
    """A quarter, a half or three quarters of a turn."""
    turns = (POSITIONS.ROTATE_90, POSITIONS.ROTATE_180, POSITIONS.ROTATE_270)
    return image.transpose(turns[rng.integers(3)])


def crop(image: Image.Image, rng: Random, share: float = 0.8) -> Image.Image:
    """A part of this share of width and height, anywhere, in half of the cases enlarged again."""
    width, height = round(share * image.width), round(share * image.height)
    x = rng.integers(image.width - width + 1)
    y = rng.integers(image.height - height + 1)
    part = image.crop((int(x), int(y), int(x) + width, int(y) + height))
    return part.resize(image.size, Image.Resampling.BICUBIC) if rng.random() < 0.5 else part


def light(image: Image.Image, rng: Random) -> Image.Image:
    """Brightness times 0.7 to 1.3, then every channel times 0.85 to 1.15."""
    factors = rng.uniform(0.7, 1.3) * rng.uniform(0.85, 1.15, 3)
    return Image.fromarray(np.clip(np.asarray(image) * factors, 0, 255).round().astype(np.uint8))


def half(image: Image.Image, rng: Random) -> Image.Image:  # noqa: ARG001
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def same(image: Image.Image, rng: Random) -> Image.Image:  # noqa: ARG001
    return image


def everything(image: Image.Image, rng: Random) -> Image.Image:
    for step in (mirror, turn, crop, light, half):
        image = step(image, rng)
    return image


def canvas(image: Image.Image, rng: Random) -> Image.Image:  # noqa: ARG001
    """A quarter turn on the old canvas: the sides are cut off, black fills the gaps."""
    return image.rotate(90)


Kinds = dict[str, tuple[Callable[[Image.Image, Random], Image.Image], int]]


def square(image: Image.Image, rng: Random) -> Image.Image:  # noqa: ARG001
    return ImageOps.fit(image, (min(image.size), min(image.size)))


COUNTED: Kinds = {
    "mirrored": (mirror, 92),  # and the JPEG quality it is saved with
    "turned by 90, 180 or 270 degrees": (turn, 92),
    "cropped to 80 %": (crop, 92),
    "brightness and white balance": (light, 92),
    "JPEG quality 40": (same, 40),
    "resized to half": (half, 92),
}
BEYOND: Kinds = {
    "all six at once": (everything, 40),
    "cropped to 90 %": (lambda image, rng: crop(image, rng, 0.9), 92),
    "cropped to 70 %": (lambda image, rng: crop(image, rng, 0.7), 92),
    "turned by 90 degrees on its canvas": (canvas, 92),
    "cut to a square": (square, 92),
}


def main() -> None:
    options = arguments()
    data = catalogue(options.folder)
    rng = np.random.default_rng(options.seed)
    names = data.table["lesion_id"].where(data.table["lesion_id"] != "", data.table["image_id"])
    dealt = pd.Series(rng.permutation(names.nunique()) % 2, names.unique())
    first = (names.map(dealt) == 0).to_numpy()
    table = data.table.assign(lesion_id=names)

    chosen = search("choosing", data, table[first], table[first], COUNTED, options.per_kind, rng)
    write_csv(options.out / "choosing.csv", chosen.pairs)
    threshold = choose(chosen)
    print(f"Threshold: {threshold:.2f} (the product's is {LEAST})")
    tested = search("testing", data, table, table[~first], COUNTED | BEYOND, options.per_kind, rng)

    pairs, kinds = tested.pairs, tested.kinds
    write_csv(options.out / "testing.csv", pairs)
    planted = pairs[pairs["kind"] != ""]
    rows = []
    for kind in dict.fromkeys(kinds):
        own = planted[planted["kind"] == kind]
        number = int((kinds == kind).sum())
        found = int((own["similarity"] >= threshold).sum())
        low, high = wilson(found / number, number)
        lowest = own["similarity"].min()
        rows.append((kind, kind in COUNTED, number, found, found / number, low, high, lowest))
    columns = ["kind", "counted", "planted", "found", "recall", "low", "high", "least_similarity"]
    recall = pd.DataFrame(rows, columns=columns)
    unlike = pairs[pairs["across"] & (pairs["kind"] == "")]
    false = unlike[unlike["similarity"] >= threshold]
    write_csv(options.out / "recall.csv", recall)
    print(recall.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    real = ~(false["image_id"].isin(kinds.index) | false["other"].isin(kinds.index))
    print(
        f"{len(table):,} images and {len(kinds):,} copies in {tested.minutes:.1f} minutes "
        f"({tested.work:.1f} minutes of one core). "
        f"Pairs across lesions that nobody planted: {int(real.sum())} of real images, and "
        f"{int((~real).sum())} of a copy with an image of another lesion."
    )


@dataclass(frozen=True)
class Search:
    """What a search found among images and planted copies.

    Attributes:
        pairs: as `near_duplicates` gives them, and kind (of a copy with its source, else "") and
            across (whether they show different lesions, a copy being of its source's lesion).
        kinds: of each copy, by its image_id.
        minutes: that the search took.
        work: minutes of one core that it took.
    """

    pairs: pd.DataFrame
    kinds: pd.Series
    minutes: float
    work: float


def search(
    name: str,
    data: Catalogue,
    among: pd.DataFrame,
    sources: pd.DataFrame,
    kinds: Kinds,
    per_kind: int,
    rng: Random,
) -> Search:
    """Plant copies of some sources among images, and search."""
    drawn = sources.iloc[rng.permutation(len(sources))[: per_kind * len(kinds)]]
    with tempfile.TemporaryDirectory() as folder:
        copies, of, kind_of = [], {}, {}
        for number, row in enumerate(drawn.itertuples()):
            kind = list(kinds)[number % len(kinds)]
            alter, quality = kinds[kind]
            copy = f"~copy_{number:05d}"  # sorts behind all images
            path = Path(folder) / f"{copy}.jpg"
            with Image.open(data.root / str(row.path)) as image:
                buffer = io.BytesIO()
                made = alter(image.convert("RGB"), rng)
                made.save(buffer, "JPEG", quality=quality)
            path.write_bytes(buffer.getvalue())
            of[copy], kind_of[copy] = str(row.image_id), kind
            entry = among.iloc[0].copy()
            entry[["image_id", "path", "lesion_id", "target"]] = [copy, str(path), copy, row.target]
            entry[["width", "height"]] = made.size
            copies.append(entry)
        planted = pd.concat([among, pd.DataFrame(copies)], ignore_index=True)
        start, busy = time.monotonic(), time.process_time()
        pairs = near_duplicates(planted, data.root, least=LOWEST, listen=Told(name))
        minutes = (time.monotonic() - start) / 60
        work = (time.process_time() - busy) / 60
    lesion = sources.set_index("image_id")["lesion_id"]
    true = {copy: lesion[image] for copy, image in of.items()}
    ends = [("image_id", "lesion_id"), ("other", "other_lesion")]
    one, other = (pairs[image].map(true).fillna(pairs[own]) for image, own in ends)
    pairs["across"] = one != other
    source = pairs["other"].map(of)  # copies stand behind all images
    own = source == pairs["image_id"]
    pairs["kind"] = pairs["other"].map(kind_of).where(own, "")
    return Search(pairs, pd.Series(kind_of), minutes, work)


def choose(made: Search) -> float:
    """The threshold on similarity, from the pairs of the first half."""
    pairs, kinds = made.pairs, made.kinds
    reached = []
    for kind in COUNTED:
        number = int((kinds == kind).sum())
        scores = np.zeros(number)  # what was not found at all
        found = pairs["similarity"][pairs["kind"] == kind].to_numpy()
        scores[: len(found)] = found
        reached.append(float(np.quantile(scores, 0.05, method="lower")))
        missing = number - len(found)
        print(f"  {kind}: {missing} of {number} missing; 95 % reach {reached[-1]:.3f}")
    unlike = np.sort(pairs[pairs["across"]]["similarity"].to_numpy())[::-1]
    false = float(unlike[FALSE_ALLOWED]) if len(unlike) > FALSE_ALLOWED else LOWEST
    print(f"  {FALSE_ALLOWED} pairs that nobody planted have a similarity above {false:.3f}")
    return round((min(reached) + false) / 2, 2)


class Told:
    """Prints a line whenever a task begins or ends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.task = ""

    def __call__(self, event: Step | Notice) -> None:
        """Take one event."""
        if isinstance(event, Step) and (event.task != self.task or event.done == event.total):
            self.task = event.task
            print(f"  {self.name}: {event.task}, {event.done:.0f} of {event.total:.0f}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a catalogue's folder, or HAM10000 as unpacked")
    parser.add_argument("--out", type=Path, default=Path("near-duplicates"))
    parser.add_argument("--per-kind", type=int, default=100, help="copies of each kind")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
