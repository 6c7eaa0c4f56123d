"""Which images to explain, and for which classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.metrics import decide
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
