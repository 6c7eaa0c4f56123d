"""The leak in numbers: images that share a lesion, and what a split by image would do with them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def sharing(frame: pd.DataFrame) -> pd.DataFrame:
    """Count lesions by how many images they have.

    Args:
        frame: from `exploration.prepare`.

    Returns:
        Columns images_per_lesion, lesions, images, share (of all images).
    """
    sizes = frame.groupby("lesion").size().value_counts().sort_index()
    made = pd.DataFrame({"images_per_lesion": sizes.index, "lesions": sizes.to_numpy()})
    made["images"] = made["images_per_lesion"] * made["lesions"]
    made["share"] = made["images"] / max(1, len(frame))
    return made


def by_image(frame: pd.DataFrame, test: float = 0.2) -> pd.DataFrame:
    """What a random split by image would leak, expected over all such splits.

    Of n images m go to test. An image in test whose lesion has s images has no sibling in train
    only if all s - 1 siblings are in test too, which happens with probability
    (m - 1) / (n - 1) * ... * (m - s + 1) / (n - s + 1). The figures are means of one minus that,
    exact and without a draw.

    Args:
        frame: from `exploration.prepare`.
        test: share of the images that goes to test, 0-1.

    Returns:
        Columns class ("all" first), images, shared (share whose lesion has other images) and leaked
        (expected share of the class's test images with a sibling in train).
    """
    siblings = frame["siblings"].to_numpy(int)
    seen = _seen(siblings, len(frame), max(1, round(test * len(frame))))
    table = pd.DataFrame({"shared": siblings > 1, "leaked": seen, "class": frame["target"]})
    rows = [("all", len(table), table["shared"].mean(), table["leaked"].mean())]
    for label, group in table.groupby("class", observed=False):
        rows.append((str(label), len(group), group["shared"].mean(), group["leaked"].mean()))
    return pd.DataFrame(rows, columns=["class", "images", "shared", "leaked"])


def _seen(siblings: NDArray[np.int64], n: int, m: int) -> NDArray[np.float64]:
    """Probability that a test image has a sibling in train, by the size of its lesion."""
    alone = np.ones(int(siblings.max(initial=1)) + 1)
    for size in range(2, len(alone)):
        alone[size] = alone[size - 1] * max(0, m - size + 1) / (n - size + 1)
    return np.asarray(1 - alone[siblings])


def across(frame: pd.DataFrame) -> pd.DataFrame:
    """What a given split leaks.

    Args:
        frame: from `exploration.prepare`, with the split's parts.

    Returns:
        Columns part, images, lesions, leaked_images (with a sibling in train) and leaked (their
        share); train itself leaks nothing.
    """
    trained = set(frame["lesion"][frame["part"] == "train"])
    rows = []
    for part, group in frame.groupby("part", observed=False):
        leaked = int(group["lesion"].isin(trained).sum()) if part != "train" else 0
        share = leaked / len(group) if len(group) else float("nan")
        rows.append((str(part), len(group), group["lesion"].nunique(), leaked, share))
    return pd.DataFrame(rows, columns=["part", "images", "lesions", "leaked_images", "leaked"])
