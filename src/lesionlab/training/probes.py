"""Probes: heads fitted on the embeddings of a frozen backbone, in place of phases.

Only embeddings of the training part enter a fit. Validation chooses the strength of a logistic
probe; nothing looks at test.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional
from torchmetrics.functional import classification as metrics

from lesionlab.data.images.cache import Cache
from lesionlab.errors import SettingsError
from lesionlab.files import write_csv
from lesionlab.models.factory import Architecture
from lesionlab.models.heads import head_of
from lesionlab.models.knn_head import NeighboursHead
from lesionlab.prediction.embed import embed_rows
from lesionlab.prediction.run_predictor import CHUNK
from lesionlab.progress import Listener, Notice, Step
from lesionlab.recipe.schema import LogisticProbe, Recipe
from lesionlab.run import HISTORY, Run
from lesionlab.training.checkpoints import AfterEpoch
from lesionlab.training.datasets import shown
from lesionlab.training.lightning_module import macro_of_present
from lesionlab.training.smote import resampled

STRENGTHS = tuple(10.0**power for power in range(-4, 5))
"""What strength 0 tries on val."""

_ITERATIONS = 1000

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


def probe(
    run: Run,
    recipe: Recipe,
    architecture: Architecture,
    network: nn.Module,
    table: pd.DataFrame,
    pixels: Cache,
    listen: Listener,
    after_epoch: Sequence[AfterEpoch] = (),
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Fit the head of a network on the training part; everything else stays as it is.

    history.csv gets one row per candidate: its strength, train_loss and val_loss (plain
    cross-entropy), train_accuracy, val_accuracy, val_balanced_accuracy and val_macro_auroc. A
    neighbours probe is one candidate; each training image is a neighbour of its own there, so
    train_loss and train_accuracy flatter it.

    Args:
        run: whose folder gets the history.
        recipe: with a probe as its head.
        architecture: of the network.
        network: with weights and an unfitted head; changed in place.
        table: a catalogue's table with `part`.
        pixels: the cache of its images.
        listen: told of the progress.
        after_epoch: called with the history after every candidate.

    Returns:
        What the run's folder says of it, and logits in the order of the table, float32, shape
        (n, classes).

    Raises:
        SettingsError: if the network has no embeddings, if they are no numbers, or if SMOTE-ENN
            leaves no point of a class.
    """
    if recipe.model.pretrained is False:
        listen(
            Notice(
                "This probe learns from the features of random weights. Give the backbone "
                "weights: --model.pretrained FILE, or true for timm's.",
                "warning",
            )
        )
    began = time.monotonic()
    rows = pixels.rows(list(table["sha256"]))
    vectors = embed_rows(network, architecture, pixels.pixels, rows, listen=listen)
    if not np.isfinite(vectors).all():
        raise SettingsError(
            f"{architecture.name} gives embeddings that are no numbers: its weights "
            "are damaged. Take others with --model.pretrained."
        )
    numbers = {name: index for index, name in enumerate(architecture.classes)}
    targets = np.asarray(table["target"].map(numbers), np.int64)
    parts = table["part"].to_numpy()
    train, val = (np.asarray(np.flatnonzero(parts == name)) for name in ("train", "val"))
    train = train[shown(targets[train], recipe.sampling, recipe.seed)]
    head = head_of(network)
    history: list[dict[str, float]] = []
    best, kept, best_state = -1.0, 0, head.state_dict()
    clock = time.monotonic()
    for told in _fits(recipe, head, vectors[train], targets[train], architecture.classes, listen):
        values = _measures(network, vectors, targets, train, val)
        seconds = round(time.monotonic() - clock, 2)
        row = {"epoch": len(history) + 1, "phase": 1, **told, **values, "seconds": seconds}
        history.append(row)
        write_csv(run.folder / HISTORY, pd.DataFrame(history))
        value = values[f"val_{recipe.select.metric}"]
        if value > best:
            best, kept = value, len(history)
            best_state = {name: tensor.clone() for name, tensor in head.state_dict().items()}
        count = len(_strengths(recipe))
        listen(Step("fitting", len(history), count, "candidates", f"best {best:.3f}"))
        for each in after_epoch:
            each(history)
        clock = time.monotonic()
    head.load_state_dict(best_state)
    of_probe: dict[str, Any] = {"features": vectors.shape[1], "images": len(train)}
    if "strength" in history[kept - 1]:
        of_probe["strength"] = history[kept - 1]["strength"]
    kept_of_run = {
        "kept_epoch": kept,
        "kept_value": best,
        "epochs": len(history),
        "minutes": round((time.monotonic() - began) / 60, 2),
        "probe": of_probe,
    }
    return kept_of_run, head_logits(network, vectors)


def head_logits(network: nn.Module, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of embeddings, in chunks as the network gives them for images.

    Args:
        network: whose classifier is used.
        vectors: shape (n, features).

    Returns:
        Shape (n, classes).
    """
    head = head_of(network)
    device = next(network.parameters()).device
    found = []
    with torch.inference_mode():
        for start in range(0, len(vectors), CHUNK):
            part = torch.from_numpy(vectors[start : start + CHUNK]).to(device)
            shape = (*part.shape, 1, 1) if isinstance(head, nn.Conv2d) else part.shape
            found.append(head(part.reshape(shape)).flatten(1).float().cpu().numpy())
    return np.concatenate(found)


def _measures(
    network: nn.Module, vectors: NDArray[np.float32], targets: Ints, train: Ints, val: Ints
) -> dict[str, float]:
    """The figures of a candidate, those that `module.Classifier` collects of an epoch."""
    of_train, of_val = (
        (torch.from_numpy(head_logits(network, vectors[part])), torch.from_numpy(targets[part]))
        for part in (train, val)
    )
    logits, truth = of_val
    classes = logits.shape[1]
    found = {
        "train_loss": functional.cross_entropy(*of_train),
        "train_accuracy": metrics.multiclass_accuracy(*of_train, classes, average="micro"),
        "val_loss": functional.cross_entropy(logits, truth),
        "val_accuracy": metrics.multiclass_accuracy(logits, truth, classes, average="micro"),
        "val_balanced_accuracy": metrics.multiclass_recall(logits, truth, classes, average="none"),
        "val_macro_auroc": metrics.multiclass_auroc(
            logits.softmax(dim=1), truth, classes, average="none"
        ),
    }
    present = truth.bincount(minlength=classes) > 0
    return {name: float(value) for name, value in macro_of_present(found, present).items()}


def _strengths(recipe: Recipe) -> tuple[float, ...]:
    head = recipe.model.head
    given = head.strength if isinstance(head, LogisticProbe) else 1.0
    return (given,) if given else STRENGTHS


def _fits(
    recipe: Recipe,
    head: nn.Module,
    vectors: NDArray[np.float32],
    targets: Ints,
    classes: Sequence[str],
    listen: Listener,
) -> Iterator[dict[str, float]]:
    """Fit the head on embeddings of the training part, one candidate after another.

    Yields:
        What tells a candidate from others, while it is in the head.
    """
    if isinstance(head, NeighboursHead):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = vectors / np.maximum(lengths, 1e-12)
        head.fit(*map(torch.from_numpy, resampled(unit, targets, recipe, classes, listen)))
        yield {}
        return
    mean, scale = _scales(vectors)
    points = resampled((vectors - mean) / scale, targets, recipe, classes, listen)
    settings = recipe.model.head
    model = LogisticRegression(
        class_weight="balanced" if getattr(settings, "balanced", False) else None,
        max_iter=_ITERATIONS,
        warm_start=True,
    )
    for strength in _strengths(recipe):
        model.set_params(C=strength)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            model.fit(*points)
        if int(np.max(model.n_iter_)) >= _ITERATIONS:
            listen(Notice(f"The probe of strength {strength:g} was stopped before it was settled."))
        weight, bias = _folded(model, mean, scale)
        shape = head.state_dict()["weight"].shape  # that of a 1 x 1 convolution in some networks
        state = {"weight": weight.reshape(shape), "bias": bias}
        head.load_state_dict({name: torch.from_numpy(each) for name, each in state.items()})
        yield {"strength": strength}


def _scales(vectors: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Mean and deviation of each feature; one that only rounding moves has infinite deviation."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    deviation = vectors.std(axis=0, dtype=np.float64)
    still = deviation <= 1e-6 * np.maximum(np.abs(mean), deviation.max())
    return mean, np.where(still, np.inf, deviation)


def _folded(model: LogisticRegression, mean: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Weights and biases on features as they are, of a model on standardised ones."""
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # two classes: one logit, of the second against the first
        weight, bias = np.vstack((-weight, weight)) / 2, np.append(-bias, bias) / 2
    weight = weight / scale
    return weight, bias - weight @ mean
