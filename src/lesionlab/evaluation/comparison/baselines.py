"""`baselines`: what can be had without looking at the lesion, fitted on the same training part.

A model is worth what it adds to the patient's age, sex and site, and to the colours of the picture.
Both baselines are logistic regressions over the classes, and nothing else. Each comes twice: with
classes as frequent as they are, which ranks better and is right more often, and re-weighted to
classes of equal share, without which it would be no opponent in balanced accuracy.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.advice import command
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.images.cache import Cache
from lesionlab.data.images.decode import preprocessing_fingerprint
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.display import Result
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.comparison.compare import METRICS, Comparison, compare
from lesionlab.evaluation.predictions.align import read_all_as
from lesionlab.evaluation.predictions.catalogue_join import catalogue_of, rows_in
from lesionlab.evaluation.predictions.load import Source, open_all
from lesionlab.files import write_csv
from lesionlab.models.metadata_encoder import MetadataEncoder
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.recipe.schema import FEATURES, Images
from lesionlab.tables import Part, classes_of

Floats = NDArray[np.float64]

KINDS = ("metadata", "colours")
"""What a baseline may see: the patient's age, sex and site; how often each colour occurs."""

BALANCED = "balanced"
"""Behind a kind: the same baseline, re-weighted to classes of equal share."""

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Inverse penalties to choose among on val."""

LEVELS = 8
"""Steps of red, green and blue: 512 colours."""

PICTURE = Images(size=(64, 64))
"""What colours are counted on. Large enough for 512 colours; shapes are lost anyway."""


@dataclass(frozen=True, eq=False, repr=False)
class Baselines(Result):
    """Two baselines, as predictions and beside the model.

    Attributes:
        tables: predictions tables by kind, and by kind plus " balanced", with the images and parts
            of the model's.
        model: what the model is called in the comparison.
        comparison: the baselines, then the model: figures, and differences of the model minus each
            baseline, and no others.
        strengths: the inverse penalty of each, chosen on val; 1 where there is no val.
        notes: how each was fitted, in a sentence.
    """

    tables: Mapping[str, pd.DataFrame]
    model: str
    comparison: Comparison
    strengths: Mapping[str, float]
    notes: tuple[str, ...]

    def shown(self) -> Sequence[tuple[str, pd.DataFrame]]:
        """The model's figures, then each baseline's and how far the model is above it."""
        result, model = self.comparison, self.model
        title = (
            f"{model}, part {result.part}: {result.images:,} images of {result.lesions:,} lesions"
        )
        names = {metric: metric.replace("_", " ") for metric in result.metrics}
        figures = [(name, result.figures.get((model, metric))) for metric, name in names.items()]
        differences = [
            (
                name,
                baseline,
                result.figures.get((baseline, metric)),
                result.differences.get((model, baseline, metric)),
                result.adjusted.get((model, baseline, metric), math.nan),
            )
            for metric, name in names.items()
            for baseline in self.tables
        ]
        columns = ["metric", "baseline", "its figure", f"{model} minus it", "adjusted p"]
        return [
            (title, pd.DataFrame(figures, columns=["metric", "value"])),
            ("Beside the baselines", pd.DataFrame(differences, columns=columns)),
        ]

    @property
    def warnings(self) -> list[str]:
        """Those of the comparison, without what is said of a baseline alone."""
        own = tuple(f"{baseline}: " for baseline in self.tables)
        return [text for text in self.comparison.warnings if not text.startswith(own)]

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write each table as CSV, named after what it is; return the files."""
        folder = Path(folder)
        files = tuple(folder / f"{kind.replace(' ', '_')}.csv" for kind in self.tables)
        for file, table in zip(files, self.tables.values(), strict=True):
            write_csv(file, table)
        return files

    def __repr__(self) -> str:
        return f"<Baselines {' and '.join(self.tables)} on {self.comparison.images} images>"


def baselines(
    predictions: Source,
    data: Catalogue | str | Path | None = None,
    *,
    kinds: Sequence[str] = KINDS,
    part: Part = "test",
    metrics: Sequence[str] = METRICS,
    as_: str | None = None,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Baselines:
    """Fit the baselines on the training part of a predictions table, and score all three.

    Nothing is drawn at random but the bootstrap. The features are age in groups of ten years, sex
    and site, unknown being a value of its own; and the square roots of the shares of 512 colours.
    How a diagnosis was confirmed (dx_type) is never a feature: it gives the diagnosis away.

    Args:
        predictions: a run, its folder, a table or its file, with a train part.
        data: the catalogue of its images; None takes the one that a run was trained on.
        kinds: which of `KINDS`.
        part: which part to score.
        metrics: what to compare, as for `compare`.
        as_: read the table as the answer to another question, such as malignant-benign.
        replicates: bootstrap replicates; 0 gives values without intervals.
        seed: of the bootstrap.
        listen: told of the progress, of warnings and of what was fitted.

    Raises:
        DataError: if no catalogue is known or it lacks images, there is no train part, or an image
            cannot be read.
        FindingsError: with every fault of the table at once.
        SettingsError: if there is no such kind or metric.

    Example:
        >>> found = baselines("runs/a")  # doctest: +SKIP
        >>> print(found.comparison)  # doctest: +SKIP
    """
    if wrong := [kind for kind in kinds if kind not in KINDS] or ([] if kinds else ["nothing"]):
        raise SettingsError(
            f"There is no baseline {', '.join(wrong)}. Choose of {', '.join(KINDS)}."
        )
    catalogue = catalogue_of(predictions, data)
    (name,) = opened = open_all([predictions])
    table = read_all_as(opened, as_)[name]
    if isinstance(predictions, pd.DataFrame) or name.partition(" ")[0] in KINDS:
        name = "model"
    used = table[table["part"].isin(["train", "val", part])].sort_values("image_id", kind="stable")
    rows = rows_in(catalogue, used["image_id"])
    if not (used["part"] == "train").any():
        raise DataError(
            "The predictions have no train part, so there is nothing to fit a baseline on. "
            "`lesionlab train` predicts every part; a table of your own needs a column part."
        )
    named = used["lesion_id"].to_numpy(dtype=object)
    used = used.assign(lesion_id=np.where(named == "", rows["lesion_id"].to_numpy(object), named))
    made: dict[str, pd.DataFrame] = {}
    strengths: dict[str, float] = {}
    told: list[str] = []
    for kind in dict.fromkeys(kinds):
        seen = (used["part"] == "train").to_numpy(dtype=bool)
        if kind == "metadata":
            if not (fields := _known(rows[seen])):
                told.append("metadata: none, for the catalogue knows no age, sex or site of train.")
                listen(Notice(told[-1], "warning"))
                continue
            features, what = _metadata(rows, seen, fields)
        else:
            features, what = _colours(rows, catalogue, listen)
        probabilities, strengths[kind] = _fit(features, used, kind, listen)
        made[kind] = _as_table(used, probabilities)
        made[f"{kind} {BALANCED}"] = _as_table(used, _balanced(probabilities, used, seen))
        told.append(f"{kind}: {what}; inverse penalty {strengths[kind]:g}{_how(used)}.")
        listen(Notice(told[-1]))
    if not made:
        raise DataError(
            "The catalogue knows no age, sex or site of the training part, so there is no metadata "
            "baseline. Ask for colours too (in Python: kinds=['metadata', 'colours'])."
        )
    comparison = compare(
        {**made, name: used.reset_index(drop=True)},
        part=part,
        metrics=metrics,
        focus=name,
        replicates=replicates,
        seed=seed,
        listen=listen,
    )
    return Baselines(made, name, comparison, strengths, tuple(told))


def _how(used: pd.DataFrame) -> str:
    return ", chosen on val" if (used["part"] == "val").any() else ", as there is no val part"


def _known(train: pd.DataFrame) -> list[str]:
    """The features of which the training part knows any value."""
    return [name for name in FEATURES if (train[name].notna() & (train[name] != "")).any()]


def _metadata(
    rows: pd.DataFrame, train: NDArray[np.bool_], fields: Sequence[str]
) -> tuple[Floats, str]:
    """A column per value that the training part has, and one per field for unknown."""
    encoder = MetadataEncoder.fit(rows[train], fields)
    numbers = encoder.encode(rows)
    columns = [numbers[:, [i]] == np.arange(size) for i, size in enumerate(encoder.sizes)]
    return np.concatenate(columns, axis=1).astype(np.float64), f"{', '.join(fields)} alone"


def _colours(rows: pd.DataFrame, data: Catalogue, listen: Listener) -> tuple[Floats, str]:
    """Square roots of the shares of 512 colours of each image, shape (n, 512)."""
    made = np.empty((len(rows), LEVELS**3))
    step = 256 // LEVELS

    def count(pixels: NDArray[np.uint8]) -> Floats:
        red, green, blue = (pixels.reshape(-1, 3) // step).astype(np.intp).T
        places = (red * LEVELS + green) * LEVELS + blue
        return np.bincount(places, minlength=LEVELS**3) / len(places)

    if (cache := _cache(rows, data)) is not None:
        for row, place in enumerate(cache.rows(list(rows["sha256"]))):
            made[row] = count(np.asarray(cache.pixels[place]))
    else:
        reader = Reader(data.root)
        jobs = list(zip(rows["path"], rows["sha256"], strict=True))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                found = pool.map(lambda job: count(reader.pixels(job[0], PICTURE, job[1])), jobs)
                for row, shares in enumerate(found):
                    made[row] = shares
                    if row % 64 == 0:
                        listen(Step("counting colours", row, len(jobs), "images"))
            except ImageFault as error:
                pool.shutdown(cancel_futures=True)
                raise DataError(
                    f"{error}. See what else is: {command('audit', data.home or 'DATA')}"
                ) from error
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        listen(Step("counting colours", len(jobs), len(jobs), "images"))
    return np.sqrt(made), f"shares of {LEVELS**3} colours alone"


def _cache(rows: pd.DataFrame, data: Catalogue) -> Cache | None:
    """The cache of these pictures, if somebody has made it; the pixels are the same either way."""
    if data.home is None:
        return None
    height, width = PICTURE.size
    folder = data.home / "cache" / f"{height}x{width}-{preprocessing_fingerprint(PICTURE)[:8]}"
    if not (folder / "index.csv").is_file():
        return None
    made = Cache(folder)
    return made if all(each in made.index for each in rows["sha256"]) else None


def _fit(features: Floats, used: pd.DataFrame, kind: str, listen: Listener) -> tuple[Floats, float]:
    """Probabilities of every row, shape (n, k), and the strength that val liked best."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    classes = classes_of(used)
    targets = pd.Index(classes).get_indexer(pd.Index(used["target"]))
    train = (used["part"] == "train").to_numpy(dtype=bool)
    val = (used["part"] == "val").to_numpy(dtype=bool)
    if len(set(targets[train])) < 2:
        raise DataError("Part train has a single class, so there is nothing to fit a baseline on.")
    tried: list[tuple[float, float, Floats]] = []
    strengths = STRENGTHS if val.any() else (1.0,)
    for number, strength in enumerate(strengths):
        listen(Step(f"fitting {kind}", number, len(strengths), "strengths"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # val judges what came of it
            model = LogisticRegression(C=strength, max_iter=300)
            model.fit(features[train], targets[train])
        probabilities = np.zeros((len(used), len(classes)))
        probabilities[:, model.classes_] = model.predict_proba(features)
        own = np.maximum(probabilities[np.arange(len(used)), targets], np.finfo(np.float64).eps)
        loss = float(np.sum(-np.log(own[val])))
        tried.append((loss, strength, probabilities))
    listen(Step(f"fitting {kind}", len(strengths), len(strengths), "strengths"))
    _, strength, probabilities = min(tried, key=lambda each: each[0])
    return probabilities, strength


def _balanced(probabilities: Floats, used: pd.DataFrame, train: NDArray[np.bool_]) -> Floats:
    """The same probabilities, had every class of the training part the same share."""
    shares = used["target"][train].value_counts(normalize=True).reindex(list(classes_of(used)))
    known = shares.notna().to_numpy()
    made = np.zeros_like(probabilities)
    made[:, known] = probabilities[:, known] / shares.to_numpy(dtype=np.float64)[known]
    return np.asarray(made / made.sum(axis=1, keepdims=True))


def _as_table(used: pd.DataFrame, probabilities: Floats) -> pd.DataFrame:
    """A predictions table of probabilities, for the same rows."""
    made = used[["image_id", "lesion_id", "target", "part"]].reset_index(drop=True)
    for label, column in zip(classes_of(used), probabilities.T, strict=True):
        made[f"p_{label}"] = column
    return made
