"""Measure how well other photographs of one lesion are found.

    python tools/same_lesion.py data/ham10000 --out same-lesion --queries 300 --plant 100 --seed 0

Nothing of the search is learnt from lesion ids, so every lesion is a fair test.

1. Recall: photographs are drawn of lesions that have several. Each is asked for among all images;
   the pictures with most votes are compared with it and ranked by the patches that fit (7 or more),
   then by votes. Reported is how often another photograph of its lesion is among the first 1, 5
   and 10.
2. Decoys: the same questions with mirrored patches, which no picture can answer. What fits them
   fits by accident, and says what a number of patches is worth.
3. Planted: second photographs are imitated (turned by up to 15 degrees about any place, enlarged
   0.8 to 1.25, shifted, in other light and white balance, half of them with other hairs drawn) of
   images whose lesion has no other, and asked for like the others. Reported is how often the
   original is found with a probability above one half.

OUT gets asked.csv, decoys.csv and planted.csv: a row per compared pair. OUT/patches.npz keeps the
patches of all images, which take most of the time.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from threadpoolctl import threadpool_limits

from lesionlab.data.audit.local_features import SIDE, Patches, fit, patches
from lesionlab.data.audit.other_photographs import NEAREST, described, probability
from lesionlab.data.audit.patch_index import PatchIndex
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.images.reader import Reader
from lesionlab.evaluation.intervals.estimate import wilson
from lesionlab.tables import lesions_of

Random = np.random.Generator


def photograph(image: Image.Image, rng: Random, hairs: bool) -> Image.Image:
    """The same skin from elsewhere, in other light."""
    width, height = image.size
    angle, zoom = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(0.8, 1.25)
    shear = rng.uniform(-0.05, 0.05)
    inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    inverse = inverse @ np.array([[1, shear], [0, 1]]) / zoom
    middle = np.array([width, height]) / 2
    offset = middle - inverse @ middle + rng.uniform(-0.06, 0.06, 2) * (width, height)
    edge = tuple(int(each) for each in np.asarray(image).reshape(-1, 3).mean(0))
    matrix = (*inverse[0], offset[0], *inverse[1], offset[1])
    made = image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=edge
    )
    if hairs:
        draw = ImageDraw.Draw(made)
        for _ in range(rng.integers(5, 15)):
            ends = rng.uniform(0, 1, (3, 2)) * (width, height)
            t = np.linspace(0, 1, 20)[:, None]
            curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
            dark = tuple(int(each) for each in rng.integers(20, 80, 3))
            draw.line([tuple(each) for each in curve], fill=dark, width=int(rng.integers(1, 3)))
    light = rng.uniform(0.75, 1.25) * rng.uniform(0.9, 1.1, 3)
    made = Image.fromarray(np.clip(np.asarray(made) * light, 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    made.save(buffer, "JPEG", quality=85)
    return Image.open(buffer).convert("RGB")


def kept(path: Path, data: Catalogue) -> list[Patches]:
    """The patches of all images, from a file if they stand there."""
    if not path.is_file():
        with threadpool_limits(1):
            made = described(data.table, Reader(data.root), os.cpu_count() or 1, lambda _: None)
        parts = [np.concatenate([getattr(each, name) for each in made]) for name in PARTS]
        counts = np.array([len(each) for each in made])
        np.savez(path, allow_pickle=False, n=counts, **dict(zip(PARTS, parts, strict=True)))
    with np.load(path) as found:
        ends = np.cumsum(found["n"])[:-1]
        columns = [np.split(found[name], ends) for name in PARTS]
    return [Patches(*each) for each in zip(*columns, strict=True)]


SURE = 7  # patches, below which votes rank better
PARTS = ("at", "frame", "descriptors")


def compared(
    index: PatchIndex, known: Sequence[Patches], asked: Iterable[tuple[int, Patches]]
) -> pd.DataFrame:
    """A row per picture that is compared with one that is asked for; its own number is left out."""
    rows = []
    for number, each in asked:
        pictures, votes = index.votes(each)
        others = pictures != number
        pictures, votes = pictures[others], votes[others]
        for k in np.lexsort((pictures, -votes))[:NEAREST]:
            how = fit(each, known[pictures[k]])
            row = (number, pictures[k], votes[k], how.patches, how.size, how.turn, how.spread)
            rows.append((*row, probability(how)))
    columns = ["asked", "found", "votes", "patches", "size", "turn", "spread", "probability"]
    return pd.DataFrame(rows, columns=columns)


def share(hits: int, of: int) -> str:
    low, high = wilson(hits / of, of)
    return f"{hits} of {of}: {hits / of:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--plant", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    data = Catalogue.open(given.data)
    known = kept(given.out / "patches.npz", data)
    rng = np.random.default_rng(given.seed)
    lesion = lesions_of(data.table).to_numpy()
    usable = np.array([len(each) > 0 for each in known])
    times = pd.Series(lesion).map(pd.Series(lesion[usable]).value_counts()).to_numpy()
    several, single = np.flatnonzero(usable & (times > 1)), np.flatnonzero(usable & (times == 1))
    with threadpool_limits(1):
        index = PatchIndex(known)
        asked = rng.choice(several, min(given.queries, len(several)), replace=False)
        found = compared(index, known, ((k, known[k]) for k in asked))
        found["same"] = lesion[found["asked"]] == lesion[found["found"]]
        found.to_csv(given.out / "asked.csv", index=False)
        found["fits"] = found["patches"].where(found["patches"] >= SURE, 0)
        order = found.sort_values(["asked", "fits", "votes"], ascending=[True, False, False])
        order["rank"] = order.groupby("asked").cumcount()
        best = order[order["same"]].groupby("asked")["rank"].min()
        print(f"{usable.sum():,} images with patches; {len(asked)} asked for.")
        for first in (1, 5, 10):
            hits = int((best < first).sum())
            print(f"another photograph among the first {first}: {share(hits, len(asked))}")
        decoys = compared(index, known, ((k, known[k].mirrored()) for k in asked))
        decoys.to_csv(given.out / "decoys.csv", index=False)
        for least in range(3, 13):
            real, false = (int((each["patches"] >= least).sum()) for each in (found, decoys))
            others = int((found["patches"].ge(least) & ~found["same"]).sum())
            line = f"{real} pairs, {others} of them of other lesion ids; {false} of decoys"
            print(f"{least} patches or more: {line}")
        sources = rng.choice(single, min(given.plant, len(single)), replace=False)
        reader, questions = Reader(data.root), []
        for place, k in enumerate(sources):
            image, _ = reader.upright(data.table["path"].iloc[k])
            made = photograph(image.convert("RGB"), rng, hairs=place % 2 == 1)
            scale = SIDE / max(made.size)
            made = made.resize((round(made.width * scale), round(made.height * scale)))
            questions.append((-1 - k, patches(np.asarray(made))))
        planted = compared(index, known, questions)
        planted["source"] = -1 - planted["asked"]
        planted.to_csv(given.out / "planted.csv", index=False)
        right = planted["found"].eq(planted["source"]) & planted["probability"].gt(0.5)
        for hairs in (0, 1):
            own = set(sources[hairs::2])
            hits = planted.loc[right & planted["source"].isin(own), "source"].nunique()
            said = ("without", "with")[hairs]
            print(f"planted photographs {said} other hairs: {share(hits, len(own))}")


if __name__ == "__main__":
    main()
