"""Do ImageNet weights help? One network from random and from ImageNet weights, on less data.

    python tools/transfer.py data/ham10000 data/ham10000/split.csv --out runs/transfer

For each share of the training lesions (nested, by class) the network of the default model is
trained twice, alike but for its start: the same images, views, epochs and steps; a start from
random weights has no layer decay, since its first layers must learn as fast as its last ones.
Prints the figures of the test part and the paired differences. A finished run is not trained again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

import lesionlab as ll
from lesionlab.data.splits import Split, like

EPOCHS = {5: 30, 10: 20, 25: 12, 50: 8, 100: 8}
"""By share of the training lesions in percent."""

METRICS = ("balanced_accuracy", "macro_auroc", "accuracy")

RECIPE = {
    "images": {"size": [84, 112]},
    "model": {"name": "tf_efficientnet_lite0", "pretrained": True, "drop": 0.2},
    "augment": {"flip": "both", "rotate": 180, "scale": 1.2, "shift": 0.1, "colour": 0.2},
    "loss": {"kind": "logit_adjusted", "tau": 1.0},
    "phases": [
        {
            "epochs": 8,
            "optim": {"kind": "adamw", "lr": 1e-3, "layer_decay": 0.85, "weight_decay": 0.05},
            "schedule": {"kind": "cosine", "warmup": 0.08},
            "clip": 1.0,
        }
    ],
    "average": {"kind": "ema", "decay": 0.99},
    "select": {"keep": "last"},
    "batch": 64,
    "precision": "bf16",
}


def less(data: ll.Catalogue, split: Split, fold: int, share: int, home: Path) -> ll.Catalogue:
    """A catalogue with a share of the training lesions of each class, two at least.

    All lesions of val and test stay. Smaller shares are parts of larger ones.
    """
    if share == 100:
        return data
    part = data.table["image_id"].map(split.parts(fold))
    rng = np.random.default_rng([7, fold])
    kept: set[str] = set()
    for _, rows in data.table[part == "train"].groupby("target"):
        lesions = sorted(rows["lesion_id"].unique())
        rng.shuffle(lesions)
        kept |= set(lesions[: max(2, round(len(lesions) * share / 100))])
    stay = (part != "train") | data.table["lesion_id"].isin(kept)
    return replace(data, table=data.table[stay].reset_index(drop=True)).save(home)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("split", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=0)
    given = parser.parse_args()
    data, split = ll.Catalogue.open(given.data), ll.Split.open(given.split)
    for share, epochs in EPOCHS.items():
        some = less(data, split, given.fold, share, given.out / f"data_{share}")
        parts = split if share == 100 else like(some, split)
        runs = {}
        for start in ("imagenet", "random"):
            changes: dict[str, object] = {"phases.0.epochs": epochs}
            if start == "random":
                changes |= {"model.pretrained": False, "phases.0.optim.layer_decay": 1.0}
            runs[start] = ll.train(
                ll.Recipe.from_dict(RECIPE).but(changes),
                some,
                parts,
                out=given.out / f"{share}_{start}",
                fold=given.fold,
                parts=("val", "test"),
                cache_to=given.out / "cache",
            )
        found = ll.compare(runs, metrics=METRICS)
        images = int((some.table["image_id"].map(parts.parts(given.fold)) == "train").sum())
        print(f"{share} %: {images} training images, {epochs} epochs")
        for start, run in runs.items():
            scores = ll.evaluate(run)
            print(f"  {start}:", ", ".join(f"{name} {scores[name]}" for name in METRICS))
        for (one, other, metric), difference in found.differences.items():
            print(f"  {one} minus {other}, {metric}: {difference}")


if __name__ == "__main__":
    main()
