"""`trust`: whether a run's maps show what it learnt, the lesion, and what its answers need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.images.reader import Reader
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.evaluate import FEW_LESIONS
from lesionlab.evaluation.intervals.bootstrap import lesion_codes
from lesionlab.evaluation.predictions.load import rows_of
from lesionlab.explanation.compute_maps import read, records
from lesionlab.explanation.lesion_masks import Masks
from lesionlab.explanation.sampling import sample
from lesionlab.explanation.target_layers import Layer, target_layer
from lesionlab.explanation.trust import deletion_insertion, page
from lesionlab.explanation.trust.aggregate import Bootstrap, mean_curves, means, summarise
from lesionlab.explanation.trust.deletion_insertion import Substitute
from lesionlab.explanation.trust.image_metrics import DRAWS, Subject, measured, randomised
from lesionlab.explanation.trust.mask_agreement import TOLERANCE
from lesionlab.explanation.trust.result import Trust
from lesionlab.models import factory
from lesionlab.models.device import Device, choose_device
from lesionlab.models.metadata_encoder import numbers_of
from lesionlab.numerics import softmax
from lesionlab.prediction.run_inputs import catalogue_of
from lesionlab.prediction.run_predictor import predict_rows
from lesionlab.progress import Listener, Notice, silent
from lesionlab.run import Run
from lesionlab.tables import Part

FIGURES = (
    "area", "inside", "inside_centre", "inside_untrained",
    "pointing", "pointing_chance", "pointing_centre", "pointing_untrained",
    "overlap", "overlap_chance", "overlap_centre", "overlap_untrained",
    "deletion", "deletion_random", "deletion_centre",
    "insertion", "insertion_random", "insertion_centre",
    "rank", "rank_other", "ssim", "ssim_other", "blank",
    "right_whole", "right_lesion", "right_context", "right_nothing",
    "same_lesion", "same_context", "p_lesion", "p_context",
)  # fmt: skip
"""Columns of the table of images that are averaged."""


def trust(
    run: Run | str | Path,
    *,
    masks: str | Path | None = None,
    count: int | None = 300,
    part: Part = "test",
    substitute: Substitute = "blur",
    steps: int = 10,
    data: Catalogue | str | Path | None = None,
    out: str | Path | None = None,
    replicates: int = 1000,
    seed: int = 0,
    device: Device = "auto",
    listen: Listener = silent,
) -> Trust:
    """Check a run's Grad-CAM maps against lesion masks, against chance and against forgetting.

    Maps are of the class that the run answers. Masks come in through the picture's own geometry.

    Args:
        run: a finished run.
        masks: the folder of the masks; by default they lie with the images.
        count: how many images to draw of those with a mask, right and wrong answers of every class,
            each weighted with what it stands for; None: all.
        part: train, val or test.
        substitute: what stands where pixels are taken away: "blur" or "mean".
        steps: of the deletion and insertion curves.
        data: the catalogue of the images, or its folder; by default the one trained on.
        out: a folder for the page (trust.html), trust.csv, summary.csv, curves.csv, randomised.csv
            and trust.json; None writes nothing.
        replicates: of the lesion-level bootstrap.
        seed: of the draw, the random weights, the random orders and the bootstrap.
        device: "auto" takes CUDA where there is one.
        listen: told of the progress and of every warning.

    Returns:
        Figures of every image, and estimates over them.

    Raises:
        RunError: if the run is not finished, or its catalogue is gone or has changed.
        SettingsError: if no layer of the network has a map, or a number is too small.
        DataError: if there are no masks, or they do not fit the images.

    Example:
        >>> trust("runs/first", out="trusted")  # doctest: +SKIP
    """
    run = Run.finished(run)
    if steps < 2:
        raise SettingsError(f"steps: {steps} make no curve; take 2 or more, such as 10.")
    subject, facts = _subject(run, masks, count, part, data, seed, device, listen)
    grids = subject.maps(subject.network, "maps", listen)
    table = _base(subject)
    untrained, forgetting = randomised(subject, grids, seed, listen)
    curves, found = measured(subject, grids, untrained, substitute, steps, seed, listen)
    table = pd.concat([table, found, forgetting[["rank", "rank_other", "ssim", "ssim_other"]]],
                      axis=1)  # fmt: skip
    drawn = Bootstrap(replicates, seed, listen)
    facts |= {
        "run": run.name,
        "network": subject.architecture.name,
        "layer": subject.layer.path,
        "places": list(subject.layer.grid),
        "size": list(subject.architecture.images.size),
        "classes": list(subject.architecture.classes),
        "part": part,
        "images": len(table),
        "lesions": lesion_codes(table["lesion_id"])[1],
        "blank": int(table["blank"].sum()),
        "substitute": substitute,
        "blur": deletion_insertion.BLUR,
        "steps": steps,
        "tolerance": TOLERANCE,
        "draws": DRAWS,
        "replicates": replicates,
        "seed": seed,
    }  # fmt: skip
    made = Trust(
        table,
        summarise(table, FIGURES, run.classes, drawn),
        mean_curves(table, curves, drawn),
        _forgetting(table, forgetting, drawn),
        facts,
        tuple(_warnings(facts, subject.layer, table)),
    )
    for text in made.warnings:
        listen(Notice(text, "warning"))
    if out is not None:
        pictures = page.pictures(
            table, grids, {str(row["image_id"]): row for row in records(subject.rows)},
            subject.probabilities, subject.masks, subject.architecture, substitute,
        )  # fmt: skip
        page.write(made, pictures, Path(out))
    return made


def _subject(
    run: Run,
    masks: str | Path | None,
    count: int | None,
    part: str,
    data: Catalogue | str | Path | None,
    seed: int,
    device: Device,
    listen: Listener,
) -> tuple[Subject, dict[str, Any]]:
    """The images drawn, with what the network says of them; and how they were drawn."""
    rows = rows_of(run.predictions, part)
    catalogue = catalogue_of(run, data)
    known = catalogue.table.set_index("image_id", drop=False).rename_axis(None)
    if gone := [each for each in rows["image_id"] if each not in known.index]:
        raise DataError(
            f"The catalogue lacks {len(gone)} of the {len(rows)} images of part {part}, such as "
            f"{gone[0]}. Give the catalogue that the run was trained on with --data."
        )
    found = Masks.beside(catalogue.root) if masks is None else Masks.open(masks)
    paths = known["path"].reindex(rows["image_id"])
    has = np.array(
        [found.file(*each) is not None for each in zip(rows["image_id"], paths, strict=True)]
    )
    if not has.any():
        raise DataError(
            f"No mask in {found.folder} belongs to any of the {len(rows)} images of part {part}. A "
            "mask is called <image_id>_segmentation.png or <image_id>.png; give their folder with "
            "--masks."
        )
    drawn = sample(rows[has], run.classes, count, seed)
    chosen = known.loc[drawn["image_id"]].assign(
        root=str(catalogue.root), part=part, weight=drawn["weight"].to_numpy()
    )
    network, architecture = factory.load(run.folder)
    network.to(choose_device(device))
    layer = target_layer(network, architecture.images.size)
    chosen, pixels = read(chosen.reset_index(drop=True), architecture.images, listen)
    reader = Reader(catalogue.root)
    outlines = found.read(
        (row["image_id"], row["path"], reader.upright(row["path"])[1]) for row in records(chosen)
    )
    metadata = numbers_of(architecture.metadata, chosen)
    logits = predict_rows(
        network, architecture, pixels, np.arange(len(pixels)), metadata=metadata, listen=listen
    )
    facts = {
        "of": int(has.sum()),
        "without_mask": int((~has).sum()),
        "empty_masks": sum(not each.any() for each in outlines.values()),
    }
    subject = Subject(
        chosen, pixels, metadata, outlines, network, architecture, layer, logits.argmax(axis=1),
        softmax(logits),
    )  # fmt: skip
    return subject, facts


def _base(subject: Subject) -> pd.DataFrame:
    """One row per image: what it is, and what the network says."""
    classes = np.array(subject.architecture.classes)
    rows = subject.rows
    predicted = classes[subject.predicted]
    return pd.DataFrame(
        {
            "image_id": rows["image_id"],
            "lesion_id": rows["lesion_id"],
            "target": rows["target"],
            "predicted": predicted,
            "right": predicted == rows["target"].to_numpy(),
            "probability": subject.probabilities.max(axis=1),
            "weight": rows["weight"],
        }
    )


def _forgetting(table: pd.DataFrame, randomised: pd.DataFrame, drawn: Bootstrap) -> pd.DataFrame:
    """How alike maps are to ours while the network forgets: a row per step."""
    found = means(table, randomised, drawn)
    steps = [name.removeprefix("rank") for name in map(str, randomised) if name.startswith("rank")]
    rows = []
    for step in [*steps[2:], steps[0], steps[1]]:
        pair = [found[f"{kind}{step}"] for kind in ("rank", "ssim") if f"{kind}{step}" in found]
        name = {"": "everything", "_other": "another picture"}.get(
            step, step.removeprefix(" after ")
        )
        rows.append((name, *(x for e in pair for x in (e.value, e.low, e.high))))
    columns = ["random_from", "rank", "rank_low", "rank_high", "ssim", "ssim_low", "ssim_high"]
    return pd.DataFrame([row for row in rows if len(row) == len(columns)], columns=columns)


def _warnings(facts: dict[str, Any], layer: Layer, table: pd.DataFrame) -> list[str]:
    made = []
    sizes = {
        label: lesion_codes(rows["lesion_id"])[1]
        for label, rows in table.groupby("target", sort=False)
    }
    few = [f"{n} ({sizes[n]})" for n in facts["classes"] if 0 < sizes.get(n, 0) < FEW_LESIONS]
    if few:
        made.append(
            f"Fewer than {FEW_LESIONS} lesions: {', '.join(few)}. Intervals are wide and rough "
            "there."
        )
    if facts["without_mask"]:
        made.append(
            f"{facts['without_mask']} images of part {facts['part']} have no mask and were left "
            "out."
        )
    if facts["empty_masks"]:
        made.append(
            f"{facts['empty_masks']} masks are empty: their images have no figures on the lesion."
        )
    if facts["blank"]:
        made.append(
            f"{facts['blank']} of {facts['images']} maps are blank: no place speaks for the answer."
        )
    return made + layer.cautions(facts["network"])
