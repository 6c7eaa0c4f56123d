"""SMOTE and its relatives, between embeddings of the training part only. Experimental.

Made for tables, they draw points between neighbours of a rare class. Between embeddings such a
point is at least of the right kind; between metadata of images it is none of any image, which is
why recipes refuse it for networks that learn from images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lesionlab.errors import SettingsError
from lesionlab.progress import Listener, Notice
from lesionlab.recipe.schema import Recipe, Sampling, Smote, SmoteEnn, SmoteTomek

_NAMES = {"smote": "SMOTE", "smote_tomek": "SMOTE-Tomek", "smote_enn": "SMOTE-ENN"}


def check_neighbours(sampling: Sampling, counts: Sequence[int], classes: Sequence[str]) -> None:
    """Make sure that every class has points enough to draw between.

    Args:
        sampling: of the recipe; other kinds than SMOTE's pass.
        counts: training images per class.
        classes: their names.

    Raises:
        SettingsError: naming every class that has too few.
    """
    if not isinstance(sampling, Smote | SmoteTomek | SmoteEnn):
        return
    few = [
        f"{count} of {name}"
        for name, count in zip(classes, counts, strict=True)
        if count <= sampling.neighbours
    ]
    if few:
        raise SettingsError(
            f"sampling.neighbours: {sampling.neighbours} neighbours of a point need more images "
            f"than that of every class, and the training part has {', '.join(few)}. Lower "
            "sampling.neighbours, or set sampling.kind natural."
        )


def resampled(
    points: NDArray[np.floating],
    targets: NDArray[np.int64],
    recipe: Recipe,
    classes: Sequence[str],
    listen: Listener,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The training points as they are, or with what SMOTE makes between them.

    SMOTE (Chawla et al., JAIR 16, 2002) fills every class up to the largest one. Tomek links or
    edited nearest neighbours then clean where classes meet (Batista et al., SIGKDD Explorations
    6(1), 2004).

    Args:
        points: embeddings of the training part, shape (n, features).
        targets: their classes, shape (n,).
        recipe: its sampling and seed.
        classes: names in order.
        listen: told how many points each class has before and after.

    Returns:
        Points, float64, and their classes; at least one of each.

    Raises:
        SettingsError: see `check_neighbours`; or if cleaning leaves no point of a class.
    """
    made_of = points.astype(np.float64)
    sampling = recipe.sampling
    if not isinstance(sampling, Smote | SmoteTomek | SmoteEnn):
        return made_of, targets
    from imblearn.combine import SMOTEENN, SMOTETomek
    from imblearn.over_sampling import SMOTE

    before = np.bincount(targets, minlength=len(classes))
    check_neighbours(sampling, before.tolist(), classes)
    made = SMOTE(k_neighbors=sampling.neighbours, random_state=recipe.seed)
    if isinstance(sampling, SmoteTomek):
        made = SMOTETomek(smote=made, random_state=recipe.seed)
    elif isinstance(sampling, SmoteEnn):
        made = SMOTEENN(smote=made, random_state=recipe.seed)
    more, labels = made.fit_resample(made_of, targets)
    after = np.bincount(labels, minlength=len(classes))
    told = zip(classes, before, after, strict=True)
    changes = ", ".join(f"{name} {old} -> {new}" for name, old, new in told)
    name = _NAMES[sampling.kind]
    listen(
        Notice(
            f"Experimental: {name} makes points between embeddings of the training part, which "
            f"are no images. Points to learn from: {changes}.",
            "warning",
        )
    )
    if gone := [each for each, left in zip(classes, after, strict=True) if not left]:
        raise SettingsError(
            f"{name} leaves no point of {', '.join(gone)}: the classes overlap too much for it. "
            "Set sampling.kind smote or natural."
        )
    return more, labels
