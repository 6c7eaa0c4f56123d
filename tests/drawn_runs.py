"""A finished run on disk with drawn predictions, for tests of pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.files import write_csv, write_json
from lesionlab.recipe.schema import Recipe
from lesionlab.run import Run

CLASSES = ("bcc", "mel", "nv")


def draw_predictions(seed: int = 0, skill: float = 1.5, classes=CLASSES, n: int = 120):
    """Predictions of `n` images, two to a lesion; no lesion is in two parts."""
    rng = np.random.default_rng(seed)
    lesion = np.arange(n) // 2
    target = lesion % len(classes)
    logits = rng.normal(size=(n, len(classes)))
    logits[np.arange(n), target] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame(
        {
            "image_id": [f"img_{i:03}" for i in range(n)],
            "lesion_id": [f"les_{i:03}" for i in lesion],
            "target": [classes[i] for i in target],
            "part": np.array(["train", "val", "test", "test"])[(lesion // len(classes)) % 4],
        }
    )
    for i, label in enumerate(classes):
        table[f"p_{label}"] = probabilities[:, i]
    return table


def make_run(folder: Path, predictions: pd.DataFrame, catalogue: Catalogue | None, **info) -> Run:
    folder.mkdir(parents=True)
    classes = [name[2:] for name in predictions if name.startswith("p_")]
    write_csv(folder / "predictions.csv", predictions)
    Recipe().save(folder / "recipe.yaml")
    epochs = np.arange(1, 7)
    history = pd.DataFrame({"epoch": epochs, "phase": [1, 1, 2, 2, 2, 2], "lr": 1e-3})
    for name, start, slope in (
        ("train_loss", 1.2, -0.1),
        ("val_loss", 1.3, -0.08),
        ("val_balanced_accuracy", 0.3, 0.05),
        ("val_macro_auroc", 0.5, 0.05),
    ):
        history[name] = start + slope * epochs
    history["seconds"] = 3.0
    write_csv(folder / "history.csv", history)
    write_json(
        folder / "run.json",
        {
            "state": "complete",
            "identity": {
                "catalogue": catalogue.fingerprint if catalogue else "0",
                "split": "5917a0c0ffee0000",
                "fold": 2,
                "preprocessing": "1",
                "recipe": Recipe().fingerprint(),
            },
            "classes": classes,
            "catalogue": str(catalogue.home) if catalogue else "",
            "split": {"kind": "folds", "by": "lesion_id", "folds": 5, "seed": 7},
            "notes": ["These lesions are drawn, not photographed."],
            "environment": {"torch": "2.9.9", "device": "a drawing board"},
            "kept_epoch": 5,
            "kept_value": 0.55,
            "epochs": 6,
            "minutes": 12.5,
            "parameters": 2_500_000,
            **info,
        },
    )
    return Run.open(folder)
