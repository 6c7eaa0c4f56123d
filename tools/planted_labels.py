"""How well `label_errors` finds wrong labels: exchange some at random, and see their ranks.

    python tools/planted_labels.py runs/first --share 0.05 --runs 20

Labels are exchanged by lesion, each for another class drawn evenly. Labels that were wrong before
count as right here, so the precision is a lower bound.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.evaluation.data_quality.label_errors import label_errors
from lesionlab.evaluation.predictions.load import open_predictions, rows_of
from lesionlab.tables import classes_of, lesions_of


def exchanged(
    rows: pd.DataFrame, share: float, seed: int
) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """The table with the labels of a share of its lesions exchanged, and which rows these are."""
    rng = np.random.default_rng(seed)
    lesions = lesions_of(rows)
    names = lesions.unique()
    chosen = set(rng.choice(names, round(share * len(names)), replace=False))
    classes = list(classes_of(rows))
    target = rows["target"].to_numpy(dtype=object).copy()
    drawn: dict[str, str] = {}
    for place, lesion in enumerate(lesions):
        if lesion in chosen:
            others = [each for each in classes if each != target[place]]
            target[place] = drawn.setdefault(lesion, str(rng.choice(others)))
    return rows.assign(target=target), lesions.isin(chosen).to_numpy()


def main() -> None:
    """Print a row per unit: images, lesions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("predictions")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    rows = rows_of(open_predictions(options.predictions), "test")
    plain = label_errors(rows, replicates=0)
    figures: dict[str, list[tuple[float, ...]]] = {"images": [], "lesions": []}
    for seed in range(options.runs):
        table, wrong = exchanged(rows, options.share, seed)
        made = label_errors(table, replicates=0)
        bad_images = set(table["image_id"][wrong])
        bad_lesions = set(lesions_of(table)[wrong])
        for name, found, bad, key in (
            ("images", made.table, bad_images, "image_id"),
            ("lesions", made.lesions, bad_lesions, "lesion_id"),
        ):
            hit = found[key].isin(bad).to_numpy()
            flagged = found["suspect"].to_numpy()
            n, m = hit.sum(), (~hit).sum()
            area = 1 - (found["rank"].to_numpy()[hit].sum() - n * (n + 1) / 2) / (n * m)
            figures[name].append(
                (hit[flagged].sum() / n, hit[flagged].mean(), hit[:n].mean(), area, flagged.sum())
            )
    before = {"images": len(plain.images), "lesions": len(plain.suspect_lesions)}
    print(f"{options.share:.0%} of lesions exchanged, {options.runs} draws, mean (least to most)")
    for name, values in figures.items():
        print(f"{name}: {before[name]} suspects before")
        drawn = np.array(values)
        labels = ("recall of suspects", "precision of suspects", "precision of the first as many",
                  "area under the ROC curve of the ranking", "suspects")  # fmt: skip
        for label, column in zip(labels, drawn.T, strict=True):
            print(f"  {label}: {column.mean():.3f} ({column.min():.3f} to {column.max():.3f})")


if __name__ == "__main__":
    main()
