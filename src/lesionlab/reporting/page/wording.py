"""The words of a report: what was trained on what, and what a reader has to bear in mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import pandas as pd

from lesionlab.advice import command as typed
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.evaluation.evaluation_result import Evaluation
from lesionlab.recipe.schema import Recipe
from lesionlab.reporting.formatting import lesions, parts_of
from lesionlab.run import Run
from lesionlab.tables import count
from lesionlab.taxonomy import full_name

_SELECT = {"balanced_accuracy": "balanced accuracy", "macro_auroc": "macro AUROC"}


def overlap(predictions: pd.DataFrame) -> tuple[bool, str]:
    """Whether it is proved that no lesion is in two parts, and what to say about it."""
    known = predictions[predictions["lesion_id"] != ""]
    if len(parts_of(predictions)) < 2:
        return (
            False,
            "These predictions hold one part only: overlap with training cannot be checked here.",
        )
    parts = known.groupby("lesion_id")["part"].nunique()
    if shared := int((parts > 1).sum()):
        return False, f"LEAK: {count(shared, 'lesion')} in more than one part."
    if blank := len(predictions) - len(known):
        which = (
            "No image has a lesion id"
            if blank == len(predictions)
            else f"{blank:,} images have none"
        )
        return False, f"Checked as far as lesion ids go. {which}, and overlap cannot be seen there."
    return True, f"Checked: none of the {count(len(parts), 'lesion')} is in two parts."


def lead(predictions: pd.DataFrame, result: Evaluation, run: Run | None, proved: bool) -> str:
    """The first sentences of a section, for a reader who reads nothing else."""
    rows = predictions[predictions["part"] == result.part]
    what = f"{run.recipe.model.name} sorts" if run else "The model behind these predictions sorts"
    unseen = (
        " None of these lesions was used to train it." if proved and result.part == "test" else ""
    )
    return (
        f"{what} a dermatoscopic image into one of {len(result.classes)} diagnoses. Below is how "
        f"often it is right, and where it fails, on {_size(rows)} ({result.part} part).{unseen}"
    )


def purpose(result: Evaluation, run: Run | None) -> tuple[list[str], list[str]]:
    """What the model is for and what it is not for, one sentence each."""
    listed = ", ".join(full_name(label) for label in result.classes)
    meant = [
        f"Research and teaching: to study how a dermatoscopic image is sorted into {listed}.",
        "To be compared with other models on the same images.",
    ]
    never = [
        "Deciding about a patient. It has not been tested in a clinic.",
        "Photographs without a dermatoscope, and lesions of any other kind: it knows "
        f"{len(result.classes)} answers and always gives one of them.",
        "People, cameras and clinics unlike those of its images: how it does there is not known.",
    ]
    if run is not None and result.part != "test":
        never.append(f"Quoting these figures: they come from part {result.part}.")
    return meant, never


def _size(rows: pd.DataFrame) -> str:
    if (rows["lesion_id"] == "").all():
        return f"{count(len(rows), 'image')} of unknown lesions"
    return f"{count(len(rows), 'image')} of {count(lesions(rows), 'lesion')}"


def facts(
    predictions: pd.DataFrame, result: Evaluation, run: Run | None, data: Catalogue | None = None
) -> list[tuple[str, str]]:
    """What was trained, on what, and how it was tested: pairs of a label and a text."""
    parts = parts_of(predictions)
    sizes = ", ".join(f"{part} {_size(predictions[predictions['part'] == part])}" for part in parts)
    made = [("Images", sizes), ("Overlap", overlap(predictions)[1])]
    if name := _data_name(run, data):
        made.insert(0, ("Data", name))
    if run is None:
        return [*made, ("Scored", f"{result.part} part")]
    info, recipe = run.info, run.recipe
    model = recipe.model
    begin = "from pretrained weights" if model.pretrained else "from scratch"
    size = f", {info['parameters'] / 1e6:.1f} million parameters" if info.get("parameters") else ""
    height, width = recipe.images.size
    sees = f"sees images of {height} × {width} pixels (height × width)"
    made = [
        ("Model", f"{model.name}, trained {begin}{size}; {sees}"),
        *made,
        ("Split", _split_text(info)),
    ]
    if info.get("kept_epoch"):
        value = info.get("kept_value")
        figure = f" ({value:.3f})" if isinstance(value, float) else ""
        made.append(("Kept", f"{run.kept}, {selection(recipe)}{figure}"))
    if "minutes" in info:
        device = info.get("environment", {}).get("device", "")
        made.append(("Training", _minutes(info["minutes"]) + (f" on {device}" if device else "")))
    return made


def selection(recipe: Recipe) -> str:
    """How the epoch that was kept was chosen, in words."""
    if recipe.select.keep == "last":
        return "the last, whatever validation said"
    return f"the best on validation by {_SELECT[recipe.select.metric]}"


def _data_name(run: Run | None, data: Catalogue | None) -> str:
    """What the data are called; never a path, which may name its owner."""
    if data is not None:
        name = ", ".join(sorted(set(data.table["source"]) - {""})) or data.layout or "catalogue"
        return f"{name}: {count(len(data), 'image')} of {count(data.lesions, 'lesion')}"
    return PurePath(run.info.get("catalogue", "")).name if run else ""


def _split_text(info: Mapping[str, Any]) -> str:
    how, fold = info.get("split", {}), info.get("identity", {}).get("fold", 0)
    by = {"lesion_id": "lesion", "patient_id": "patient"}.get(how.get("by", ""), how.get("by", ""))
    grouped = f"grouped by {by}" if by else "not grouped"
    kind, folds = how.get("kind", "unknown"), how.get("folds", 1)
    seed = f", seed {how['seed']}" if how.get("seed", -1) >= 0 else ""
    if kind == "folds":
        return f"{folds} folds, {grouped}{seed}; fold {fold} is the test part"
    if kind == "official":
        return f"the source's own parts, {grouped}"
    return f"{kind}, {grouped}{seed}" + (f"; fold {fold}" if folds > 1 else "")


def command(info: Mapping[str, Any]) -> str:
    """The command that trains the same again, from the files of the run folder."""
    fold = info.get("identity", {}).get("fold", 0)
    folds = info.get("split", {}).get("folds", 1)
    return typed(
        "train",
        "recipe.yaml",
        data="DATA",
        split="split.csv",
        fold=fold if folds > 1 else None,
        out="NEW_FOLDER",
    )


def cautions(result: Evaluation, run: Run | None) -> list[str]:
    """The warnings of an evaluation, and one for figures from a part that helped to choose."""
    made = list(result.warnings)
    if run is not None and result.part != "test":
        why = (
            "the epoch was chosen on it" if result.part == "val" else "the model was trained on it"
        )
        made.insert(
            0, f"These figures come from part {result.part}, and {why}: they flatter the model."
        )
    return made


def remarks(result: Evaluation, run: Run | None, data_notes: Sequence[str] = ()) -> list[str]:
    """What a reader should bear in mind, each remark once."""
    own = run.info.get("notes", []) if run else []
    return list(dict.fromkeys([*result.notes, *map(str, own), *data_notes]))


def _minutes(value: float) -> str:
    return f"{value:,.0f} minutes" if value >= 1.5 else f"{60 * value:,.0f} seconds"
