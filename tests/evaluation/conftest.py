from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def fake_predictions(
    n: int = 400,
    *,
    seed: int = 0,
    classes: tuple[str, ...] = CLASSES,
    skill: float = 1.5,
    per_lesion: float = 1.4,
    digits: int | None = 2,
    part: str = "test",
    prefix: str = "T",
) -> pd.DataFrame:
    """Draw a predictions table; a small number of `digits` makes many ties."""
    rng = np.random.default_rng(seed)
    k = len(classes)
    lesion = rng.integers(0, max(1, int(n / per_lesion)), n)
    target = lesion % k
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), target] += skill
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    if digits is not None:
        p = np.round(p, digits)
        p[:, 0] += 1 - p.sum(axis=1)
        p = np.clip(p, 0, 1)
        p /= p.sum(axis=1, keepdims=True)
        p = np.round(p, 12)
    table = pd.DataFrame(
        {
            "image_id": [f"{prefix}{i:06d}" for i in range(n)],
            "lesion_id": [f"{prefix}L{i:06d}" for i in lesion],
            "target": [classes[i] for i in target],
            "part": part,
        }
    )
    for i, label in enumerate(classes):
        table[f"p_{label}"] = p[:, i]
    return table


@pytest.fixture(scope="session")
def fake() -> Callable[..., pd.DataFrame]:
    return fake_predictions
