"""Which images to explain, and for which classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.metrics.classification import decide
from lesionlab.tables import classes_of, lesions_of

PREDICTED, TARGET, ALL = "predicted", "target", "all"


def choose(predictions: pd.DataFrame, part: str, count: int, seed: int) -> list[str]:
    """Draw right and wrong answers in turn, class after class, no lesion twice.

    Args:
        predictions: a run's table.
        part: train, val or test.
        count: how many images, at most.
        seed: of the draw.

    Returns:
        Their ids: half of them answered right and half wrong where there are enough of both.

    Raises:
        SettingsError: if count is below 1.
        DataError: if the part has no image.
    """
    if count < 1:
        raise SettingsError(f"count: {count} is no number of images; take 1 or more.")
    rows = predictions[predictions["part"] == part]
    if rows.empty:
        has = ", ".join(dict.fromkeys(predictions["part"]))
        raise DataError(f"The run has predicted no image of part {part!r}, only of {has}.")
    classes = classes_of(predictions)
    rng = np.random.default_rng(seed)
    rows = rows.sort_values("image_id").iloc[rng.permutation(len(rows))]
    answers = decide(rows[[f"p_{label}" for label in classes]].to_numpy(float))
    right = np.array(classes)[answers] == rows["target"].to_numpy()
    lesions = lesions_of(rows)
    pools: dict[tuple[bool, str], list[tuple[str, str]]] = {}
    for hit, label, image, lesion in zip(
        right, rows["target"], rows["image_id"], lesions, strict=True
    ):
        pools.setdefault((bool(hit), str(label)), []).append((str(image), str(lesion)))
    order = [classes[place] for place in rng.permutation(len(classes))]
    # A class with answers of both kinds first: its right and its wrong ones stand side by side.
    order.sort(key=lambda label: ((True, label) in pools) + ((False, label) in pools), reverse=True)
    wanted = {True: (count + 1) // 2, False: count // 2}
    seen: set[str] = set()
    drawn = {hit: _drawn(pools, hit, order, wanted[hit], seen) for hit in (True, False)}
    for hit in (True, False):  # what one kind lacks, the other fills
        lacking = count - len(drawn[True]) - len(drawn[False])
        drawn[hit] += _drawn(pools, hit, order, lacking, seen)
    return drawn[True] + drawn[False]


def _drawn(
    pools: dict[tuple[bool, str], list[tuple[str, str]]],
    hit: bool,
    order: Sequence[str],
    wanted: int,
    seen: set[str],
) -> list[str]:
    """Take images out of the pools of one kind, a class at a time, of lesions not yet seen."""
    drawn: list[str] = []
    while len(drawn) < wanted and any(pools.get((hit, label)) for label in order):
        for label in order:
            pool = pools.get((hit, label), [])
            while pool and len(drawn) < wanted:
                image, lesion = pool.pop(0)
                if lesion not in seen:
                    seen.add(lesion)
                    drawn.append(image)
                    break
    return drawn


def sample(
    rows: pd.DataFrame, classes: Sequence[str], count: int | None, seed: int
) -> pd.DataFrame:
    """Draw images of every class, answered right and wrong, each with what it stands for.

    The kinds (class, and whether the answer is right) are drawn from by the square root of their
    sizes, so that rare ones are not lost. The weight undoes that: weighted figures of the drawn
    images are estimates for all rows.

    Args:
        rows: of a predictions table.
        classes: in the order of its columns.
        count: how many; None: all.
        seed: of the draw.

    Returns:
        The rows drawn, in random order, with a column weight: how many rows each stands for.

    Raises:
        SettingsError: if count is less than the number of kinds.
    """
    rng = np.random.default_rng(seed)
    rows = rows.sort_values("image_id").reset_index(drop=True)
    answers = decide(rows[[f"p_{label}" for label in classes]].to_numpy(float))
    right = np.array(classes)[answers] == rows["target"].to_numpy()
    kinds: pd.Series = rows["target"].astype(str) + np.where(right, "/right", "/wrong")
    sizes = {str(kind): int(n) for kind, n in kinds.value_counts().sort_index().items()}
    wanted = min(len(rows), len(rows) if count is None else count)
    if wanted < len(sizes):
        raise SettingsError(
            f"count: {count} images cannot stand for {len(sizes)} kinds (each class, right and "
            f"wrong); take {len(sizes)} or more, better 200."
        )
    drawn = dict.fromkeys(sizes, 0)
    for _ in range(wanted):
        open_ = [kind for kind, size in sizes.items() if drawn[kind] < size]
        drawn[min(open_, key=lambda kind: drawn[kind] / sizes[kind] ** 0.5)] += 1
    rows = rows.assign(weight=kinds.map(sizes) / kinds.map(drawn))
    shuffled = rng.permutation(len(rows))
    rows, kinds = rows.iloc[shuffled], kinds.iloc[shuffled]
    made: pd.DataFrame = rows[kinds.groupby(kinds).cumcount() < kinds.map(drawn)]
    return made.reset_index(drop=True)


def check_words(words: Sequence[str], classes: Sequence[str]) -> None:
    """Make sure that every word says for which classes maps are wanted.

    Raises:
        SettingsError: naming all that do not.
    """
    known = (PREDICTED, TARGET, ALL, *classes)
    wrong = [repr(word) for word in words if word not in known]
    if wrong or not words:
        raise SettingsError(
            f"classes: {', '.join(wrong) or 'nothing'} is none of {', '.join(known)}."
        )


def wanted_classes(
    words: Sequence[str], classes: Sequence[str], predicted: str, target: str
) -> tuple[str, ...]:
    """The classes that words mean for one image, each once.

    Args:
        words: predicted, target, all, or classes themselves.
        classes: all of them, in order.
        predicted: the class that the network gives the image.
        target: its true class; "" where that is unknown.
    """
    meant: list[str] = []
    for word in words:
        meant += {PREDICTED: [predicted], TARGET: [target], ALL: list(classes)}.get(word, [word])
    return tuple(dict.fromkeys(label for label in meant if label in classes))
