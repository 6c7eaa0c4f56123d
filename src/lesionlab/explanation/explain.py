"""`explain`: right and wrong answers of a run, with the places that their class scores rest on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.images.reader import Reader
from lesionlab.errors import DataError, SettingsError
from lesionlab.explanation import explain_page
from lesionlab.explanation.compute_maps import class_maps, read, records, untrained_like
from lesionlab.explanation.explain_result import ClassMap, Explained, Explanations
from lesionlab.explanation.heatmaps import lesion_mask, photograph
from lesionlab.explanation.sampling import PREDICTED, TARGET, check_words, choose, wanted_classes
from lesionlab.explanation.target_layers import Layer, target_layer
from lesionlab.models import factory
from lesionlab.models.device import Device, choose_device
from lesionlab.models.factory import Architecture
from lesionlab.models.metadata_encoder import numbers_of
from lesionlab.numerics import softmax
from lesionlab.prediction.run_inputs import catalogue_of, image_files
from lesionlab.prediction.run_predictor import predict_rows
from lesionlab.progress import Listener, Notice, silent
from lesionlab.run import Run
from lesionlab.tables import Part


def explain(
    run: Run | str | Path,
    images: Sequence[str] = (),
    *,
    files: Sequence[str | Path] = (),
    count: int = 6,
    classes: Sequence[str] = (PREDICTED, TARGET),
    part: Part = "test",
    untrained: bool = False,
    data: Catalogue | str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    device: Device = "auto",
    listen: Listener = silent,
) -> Explanations:
    """Grad-CAM of a run's network: which places of an image speak for a class.

    Args:
        run: a finished run.
        images: ids of catalogued images; without any, and without files, `count` are drawn.
        files: image files that need not be in any catalogue, and folders of them.
        count: how many images of the part to draw, right and wrong ones in turn, class after class.
        classes: which maps of each image: "predicted", "target", "all", or classes by name.
        part: of which to draw: train, val or test.
        untrained: also make the maps of the same network with random weights.
        data: the catalogue of the images, or its folder; by default the one trained on.
        out: a folder for the page (explain.html), a PNG per image and the maps (maps.npz); or an
            .html file for the page alone; None writes nothing.
        seed: of the draw, and of the random weights.
        device: "auto" takes CUDA where there is one.
        listen: told of the progress and of every warning.

    Returns:
        Images, probabilities and maps.

    Raises:
        RunError: if the run is not finished, or its catalogue is gone or has changed.
        SettingsError: if there is no such class, or no layer of the network has a map.
        DataError: if images are not in the catalogue, or none can be read.

    Example:
        >>> explain("runs/first", ["ISIC_0024306"], out="explained")  # doctest: +SKIP
    """
    run = Run.finished(run)
    check_words(classes, run.classes)
    rows, drawn = _chosen(run, images, files, count, part, data, seed)
    network, architecture = factory.load(run.folder)
    network.to(choose_device(device))
    layer = target_layer(network, architecture.images.size)
    rows, pixels = read(rows, architecture.images, listen)
    metadata = numbers_of(architecture.metadata, rows)
    logits = predict_rows(
        network, architecture, pixels, np.arange(len(pixels)), metadata=metadata, listen=listen
    )
    likeliest = np.array(architecture.classes)[logits.argmax(axis=1)]
    wanted = [
        (place, label)
        for place, (predicted, target) in enumerate(zip(likeliest, rows["target"], strict=True))
        for label in wanted_classes(classes, architecture.classes, predicted, target)
    ]
    if not wanted:
        raise SettingsError(
            "classes: the true class of these images is unknown, so there is no map to make. Take "
            "predicted, all, or a class by name."
        )

    def maps_of(one: nn.Module, task: str) -> NDArray[np.float32]:
        return class_maps(one, architecture, pixels, metadata, wanted, layer, task, listen)

    grids = maps_of(network, "explaining")
    before = None
    if untrained:
        before = maps_of(untrained_like(network, architecture, seed), "untrained")
    maps: list[list[ClassMap]] = [[] for _ in range(len(rows))]
    for number, (place, label) in enumerate(wanted):
        other = None if before is None else before[number]
        maps[place].append(ClassMap(label, grids[number], other))
    explained = [
        _explained(
            row, dict(zip(architecture.classes, probabilities, strict=True)), own, architecture
        )
        for row, probabilities, own in zip(
            records(rows), softmax(logits).tolist(), maps, strict=True
        )
    ]
    made = Explanations(
        run.name,
        architecture.name,
        architecture.classes,
        layer,
        architecture.images.size,
        tuple(explained),
        drawn,
        tuple(_warnings(explained, layer, architecture)),
    )
    for text in made.warnings:
        listen(Notice(text, "warning"))
    if out is not None:
        explain_page.write(made, Path(out))
    return made


def _chosen(
    run: Run,
    images: Sequence[str],
    files: Sequence[str | Path],
    count: int,
    part: str,
    data: Catalogue | str | Path | None,
    seed: int,
) -> tuple[pd.DataFrame, str]:
    """Rows of a catalogue, with root and part, and of files; in words, how they were chosen."""
    drawn = "chosen by hand"
    if not files and not images:
        images = choose(run.predictions, part, count, seed)
        drawn = f"drawn at random from the {part} part, right and wrong answers in turn"
    tables = []
    if images:
        catalogue = catalogue_of(run, data)
        table = catalogue.table.set_index("image_id", drop=False).rename_axis(None)
        images = list(dict.fromkeys(images))
        if missing := [each for each in images if each not in table.index]:
            raise DataError(
                f"The catalogue has no image {', '.join(missing)}. Give ids of its column "
                "image_id; image files go with --files."
            )
        parts = run.predictions.set_index("image_id")["part"].reindex(images)
        tables.append(table.loc[images].assign(root=str(catalogue.root), part=parts))
    if files:
        paths = image_files([Path(each) for each in files])
        tables.append(
            pd.DataFrame(
                {
                    "image_id": [each.stem for each in paths],
                    "path": [str(each) for each in paths],
                    "root": "",
                }
            )
        )
    rows = pd.concat(tables, ignore_index=True)
    words = rows.columns.difference(["age", "width", "height", "bytes"])
    rows[words] = rows[words].fillna("")
    for name in ("target", "part", "sha256"):
        rows[name] = rows.get(name, "")
    return rows, drawn


def _explained(
    row: dict[str, Any],
    probabilities: dict[str, float],
    maps: list[ClassMap],
    architecture: Architecture,
) -> Explained:
    picture = photograph(Reader(Path(row["root"])), row["path"], architecture.images)
    mask = None
    if row["root"]:
        size = (picture.shape[0], picture.shape[1])
        mask = lesion_mask(Path(row["root"]), row["path"], architecture.images, size)
    return Explained(
        row["image_id"], row["target"], row["part"], probabilities, tuple(maps), picture, mask
    )


def _warnings(images: Sequence[Explained], layer: Layer, architecture: Architecture) -> list[str]:
    made = []
    maps = [(image, each) for image in images for each in image.maps]
    if blank := [f"{image.image_id} for {each.label}" for image, each in maps if each.blank]:
        made.append(
            f"{len(blank)} of {len(maps)} maps are blank: no place speaks for the class. "
            f"({', '.join(blank)})"
        )
    return made + layer.cautions(architecture.name)
