"""Measure how often the nearest cases have the true diagnosis, and how long they take.

    python tools/similar_cases.py cases.index --queries 1000 --seed 0

Images are drawn from an index, and asked for among all of other lesions. Reported is, by class, the
share of the five nearest lesions with the true class: by the index's distance, by colour histograms
of its small pictures (8 x 8 x 8 bins, Hellinger distance), and by chance; then the milliseconds per
question, of this index and of 400,000 drawn cases. With a model that has learnt from these images
the first share is too good: --known takes a predictions table, and asks for those of part test.
"""

from __future__ import annotations

import argparse
import io
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lesionlab.retrieval.case_index import CaseIndex
from lesionlab.retrieval.similar import nearest_cases, nearest_lesions

FIRST = 5
DRAWN = 400_000


def histogram(picture: bytes) -> np.ndarray:
    """Square roots of the shares of 512 colours."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(-1, 3) // 32
    counts = np.bincount(pixels @ np.array([64, 8, 1]), minlength=512)
    return np.asarray(np.sqrt(counts / counts.sum()), np.float32)


def shares(vectors: np.ndarray, cases: CaseIndex, asked: np.ndarray) -> np.ndarray:
    """Of each image asked for, the share of the nearest lesions with its class."""
    targets = cases.table["target"].to_numpy()
    made = []
    for row in asked:
        distance = np.sqrt(np.maximum(2 - 2 * vectors @ vectors[row], 0))
        near = nearest_lesions(distance, cases.lesion, {cases.lesion[row]}, FIRST)
        made.append((targets[near] == targets[row]).mean())
    return np.array(made)


def milliseconds(cases: CaseIndex, times: int = 20) -> float:
    """Of one question, features given, on one thread."""
    features = np.random.default_rng(0).normal(size=(times, len(cases.projection.mean)))
    nearest_cases(cases, features[0].astype(np.float32), "")
    start = time.process_time()
    for each in features:
        nearest_cases(cases, each.astype(np.float32), "")
    return 1000 * (time.process_time() - start) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("index", type=Path)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--known", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    cases = CaseIndex.open(given.index)
    rng = np.random.default_rng(given.seed)
    rows = np.arange(len(cases))
    if given.known:
        table = pd.read_csv(given.known)
        tested = set(table.loc[table["part"] == "test", "image_id"])
        rows = rows[cases.table["image_id"].isin(tested).to_numpy()]
    asked = rng.choice(rows, min(given.queries, len(rows)), replace=False)
    targets = cases.table["target"]
    colours = np.stack([histogram(cases.picture(row)) for row in range(len(cases))])
    found = pd.DataFrame(
        {
            "class": targets.to_numpy()[asked],
            "index": shares(cases.vectors, cases, asked),
            "colours": shares(colours, cases, asked),
        }
    )
    table = found.groupby("class").agg(images=("index", "size"), index=("index", "mean"))
    table["colours"] = found.groupby("class")["colours"].mean()
    table["chance"] = targets.value_counts(normalize=True)
    print(table.round(3).to_string())
    print("mean of classes", table.drop(columns="images").mean().round(3).to_dict())
    print(f"{len(cases):,} cases: {milliseconds(cases):.1f} ms")
    many = np.resize(rng.permutation(len(cases)), DRAWN)
    noise = rng.normal(0, 0.02, (DRAWN, cases.vectors.shape[1])).astype(np.float32)
    large = replace(
        cases,
        table=cases.table.iloc[many].assign(lesion_id=np.arange(DRAWN).astype(str)),
        vectors=cases.vectors[many] + noise,
    )
    _ = large.lesion, large.hashes  # made once, when an index is opened
    print(f"{DRAWN:,} drawn cases: {milliseconds(large):.1f} ms")


if __name__ == "__main__":
    main()
