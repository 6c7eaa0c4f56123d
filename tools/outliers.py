"""Measure how well `lesionlab outliers` tells real other images from a run's own.

    python tools/outliers.py runs/first --data data/ham --out spoilt --masks MASKS
    python tools/outliers.py runs/first --data data/ham --out no_vasc --leave-out vasc

The other images, all real:

- photographs: 100 random crops from each of the three photographs that come with the libraries that
  lesionlab depends on: scikit-learn's china.jpg and flower.jpg, matplotlib's grace_hopper.jpg.
  Three photographs are three, however many crops: there is no interval.
- blurred: 300 images of part test (one per lesion, drawn), Gaussian blur of 8 pixels at 320 x 240.
- green, and blue: the same images, red and blue (or red and green) at 55 %: a lost white balance.
- bare skin: a corner of 96 x 72 pixels without a pixel of the lesion's mask, where there is one.
- a class left out: a run with the same recipe and a few epochs on the catalogue without that class
  is trained first; its images in part test are the others. They are dermoscopic all the same.

Files go to --out, nothing else is written.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import sklearn
from PIL import Image, ImageFilter

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.splits import Split
from lesionlab.embeddings import TABLE, Embeddings
from lesionlab.evaluation.outliers.benchmark import detect_outliers
from lesionlab.files import write_csv
from lesionlab.prediction.embed import embed
from lesionlab.run import SPLIT, Run
from lesionlab.training.train import train

CROPS = 100
SPOILT = 300
CORNER = (96, 72)
CASTS = {"green": (0.55, 1.0, 0.55), "blue": (0.55, 0.55, 1.0)}


def photographs() -> dict[str, Path]:
    """The photographs by name."""
    shipped = Path(sklearn.__file__).parent / "datasets" / "images"
    return {
        "china": shipped / "china.jpg",
        "flower": shipped / "flower.jpg",
        "hopper": Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg",
    }


def crops(folder: Path, rng: np.random.Generator) -> None:
    """Cut crops of 4 : 3, 96 pixels wide or more, out of every photograph."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in photographs().items():
        image = Image.open(path).convert("RGB")
        for number in range(CROPS):
            width = int(rng.integers(96, 321))
            height = width * 3 // 4
            left = int(rng.integers(0, image.width - width + 1))
            top = int(rng.integers(0, image.height - height + 1))
            box = (left, top, left + width, top + height)
            image.crop(box).save(folder / f"{name}-{number:03}.png")


def spoil(data: Catalogue, images: list[str], out: Path, masks: Path | None) -> None:
    """Write spoilt copies of images, a folder per way."""
    paths = data.table.set_index("image_id")["path"]
    for name in images:
        image = Image.open(data.root / paths[name]).convert("RGB")
        made = {"blurred": image.filter(ImageFilter.GaussianBlur(8))}
        for cast, factors in CASTS.items():
            pixels = np.asarray(image, np.float64) * factors
            made[cast] = Image.fromarray(pixels.round().astype(np.uint8))
        found = sorted(masks.rglob(f"{name}*")) if masks else []
        if found and (corner := bare_corner(image, Image.open(found[0]))):
            made["bare_skin"] = corner
        for way, each in made.items():
            (out / way).mkdir(parents=True, exist_ok=True)
            each.save(out / way / f"{name}.png")


def bare_corner(image: Image.Image, mask: Image.Image) -> Image.Image | None:
    """The first corner of an image without lesion; None if it has none."""
    lesion = np.asarray(mask.convert("L").resize(image.size, Image.Resampling.NEAREST)) > 0
    width, height = CORNER
    for top in (0, image.height - height):
        for left in (0, image.width - width):
            if not lesion[top : top + height, left : left + width].any():
                return image.crop((left, top, left + width, top + height))
    return None


def known_groups(folder: Embeddings, groups: dict[str, str]) -> Embeddings:
    """Write into the table of embeddings which lesion, or photograph, each image shows."""
    table = folder.table.assign(lesion_id=folder.table["image_id"].map(groups))
    write_csv(folder.folder / TABLE, table)
    return Embeddings.open(folder.folder)


def against_spoilt(run: Run, data: Catalogue, out: Path, masks: Path | None, seed: int) -> None:
    """Photographs and spoilt images against part test of a run."""
    rng = np.random.default_rng(seed)
    ours = embed(run, data, out=out / "ours")
    test = ours.table[ours.table["part"] == "test"]
    one = test.sample(frac=1, random_state=rng).drop_duplicates("lesion_id").head(SPOILT)
    crops(out / "images" / "photographs", rng)
    spoil(data, list(one["image_id"]), out / "images", masks)
    lesions = dict(zip(test["image_id"], test["lesion_id"], strict=True))
    others = {}
    for folder in sorted((out / "images").iterdir()):
        made = embed(run, images=[folder], out=out / folder.name)
        cut = {each: each.partition("-")[0] for each in made.table["image_id"]}
        others[folder.name] = known_groups(made, cut if folder.name == "photographs" else lesions)
    result = detect_outliers(ours, others)
    result.save(out / "result")
    print(shown(result.table()))


def against_class(run: Run, data: Catalogue, out: Path, label: str, epochs: int) -> None:
    """A class that a network was trained without, against the others."""
    kept = data.table["target"] != label
    classes = tuple(each for each in data.classes if each != label)
    less = replace(data, table=data.table[kept].reset_index(drop=True), classes=classes)
    split = Split.open(run.folder / SPLIT)
    split = replace(
        split,
        table=split.table[split.table["target"] != label].reset_index(drop=True),
        catalogue=less.fingerprint,
    )
    fold = run.info["identity"]["fold"]
    home = (data.home or out) / "cache"
    phases = tuple(replace(each, epochs=epochs) for each in run.recipe.phases)
    recipe = replace(run.recipe, phases=phases)
    short = train(recipe, less, split, out=out / "run", fold=fold, cache_to=home)
    ours = embed(short, less, out=out / "ours", cache_to=home)
    test = Split.open(run.folder / SPLIT).parts(fold)
    of_class = data.table[~kept & (data.table["image_id"].map(test) == "test")]
    images = [data.root / path for path in of_class["path"]]
    made = embed(short, images=images, out=out / label)
    lesions = dict(zip(of_class["image_id"], of_class["lesion_id"], strict=True))
    result = detect_outliers(ours, {label: known_groups(made, lesions)})
    result.save(out / "result")
    print(shown(result.table()))


def shown(table: object) -> str:
    """Figures as a Markdown table, a row per method and set of other images."""
    lines = ["| others | images | score | AUROC | let through at 95 % | alarms |", "|" + "---|" * 6]
    for (others, method), rows in table.groupby(["others", "method"], sort=False):  # type: ignore[attr-defined]
        by = rows.set_index("figure")
        cells = []
        for name in ("auroc", "let_through_at_95", "alarms_others"):
            value, low, high = by.loc[name, ["value", "low", "high"]]
            cells.append(f"{value:.3f}" + ("" if np.isnan(low) else f" ({low:.3f}–{high:.3f})"))
        count = int(by.loc["alarms_others", "images"])
        lines.append(f"| {others} | {count} | {method} | {' | '.join(cells)} |")
    ours = table[table["figure"] == "alarms_ours"].drop_duplicates("method")  # type: ignore[index]
    told = ", ".join(f"{m} {v:.3f}" for m, v in zip(ours["method"], ours["value"], strict=True))
    return "\n".join([*lines, "", f"Alarms on our own part test: {told}."])


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--leave-out")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    run, data = Run.open(given.run), Catalogue.open(given.data)
    if given.leave_out:
        against_class(run, data, given.out, given.leave_out, given.epochs)
    else:
        against_spoilt(run, data, given.out, given.masks, given.seed)


if __name__ == "__main__":
    main()
