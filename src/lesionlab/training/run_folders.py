"""The folders of runs and of several runs: made, taken up again, or refused with the difference."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch

from lesionlab._version import __version__
from lesionlab.advice import command
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.splits import Split
from lesionlab.errors import RunError
from lesionlab.files import discard, fingerprint, hash_file, new_folder, read_json, write_json
from lesionlab.models import published
from lesionlab.progress import Listener, Notice
from lesionlab.recipe.schema import FEATURES, Recipe
from lesionlab.run import (
    CHECKPOINTS,
    INFO,
    RECIPE,
    SPLIT,
    Run,
    holds,
    identity_differences,
    refuse_differences,
)
from lesionlab.tables import lesions_of


def finished_run(
    out: Path, identity: dict[str, Any], recipe: Recipe, fresh: bool, listen: Listener
) -> Run | None:
    """The run in the folder if it is this one and finished.

    Raises:
        RunError: if the folder holds something else; the differences are named.
    """
    if not holds(out, INFO) or fresh:
        return None
    run = Run.open(out)
    theirs = run.info["identity"]
    lines = run.recipe.differences(recipe) if theirs.get("recipe") != identity["recipe"] else []
    unsaid = {"recipe": "", "preprocessing": ""}  # what the recipe's own lines say better
    lines += identity_differences({**theirs, **unsaid}, {**identity, **unsaid})
    if not lines and theirs.get("preprocessing") != identity["preprocessing"]:
        lines = ["preprocessing differs"]
    refuse_differences(out, lines)
    if run.complete:
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        listen(Notice(f"{out} is complete: nothing to do. --fresh would train it again."))
        return run
    return None


def check_predicted(run: Run, parts: set[str]) -> None:
    """Make sure that a finished run has predicted these parts.

    Raises:
        RunError: if it has not, as a trial of a search.
    """
    if lacking := parts - set(run.predictions["part"]):
        again = command(
            "train",
            run.folder / RECIPE,
            data=run.info["catalogue"],
            split=run.folder / SPLIT,
            fold=run.info["identity"]["fold"] or None,
            out="NEW_FOLDER",
        )
        raise RunError(
            f"{run.folder} is a trial of a search for settings, which leaves part "
            f"{' and '.join(sorted(lacking))} unseen. Train its recipe in a folder of its own: "
            f"{again}"
        )


def open_run_folder(
    out: Path,
    identity: dict[str, Any],
    recipe: Recipe,
    data: Catalogue,
    split: Split,
    accelerator: str,
) -> None:
    """Make the folder of a new run; one that is there already stays as it is."""
    if (out / INFO).is_file():
        return
    kind = {"kind": split.kind, "by": split.by, "folds": split.folds, "seed": split.seed}
    info = {
        "state": "training",
        "identity": identity,
        "classes": list(data.classes),
        "catalogue": str((data.home or data.root).resolve()),
        "sources": sorted(set(data.table["source"]) - {""}),
        "split": kind,
        "notes": list(data.notes),
        "weights": started_from(recipe.model.name, recipe.model.pretrained),
        "environment": environment(accelerator),
    }
    with new_folder(out) as part:
        recipe.save(part / RECIPE)
        split.save(part / SPLIT)
        (part / CHECKPOINTS).mkdir()
        write_json(part / INFO, info)


def started_from(name: str, pretrained: bool | str) -> dict[str, str]:
    """Where a network's weights come from at the start; empty if they are random.

    Args:
        name: of the network.
        pretrained: of the recipe.

    Returns:
        Of a local file its name and sha256; of published weights `published.Weights.facts`.
    """
    if isinstance(pretrained, str):
        return {"file": Path(pretrained).name, "sha256": hash_file(Path(pretrained))}
    found = published.find(name) if pretrained else None
    return found.facts if found else {}


def environment(accelerator: str) -> dict[str, Any]:
    """Versions and hardware that a result depends on."""
    cuda = accelerator == "cuda"
    return {
        "lesionlab": __version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "timm": timm.__version__,
        "lightning": metadata.version("lightning"),
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name()
        if cuda
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }


def seen_metadata(data: Catalogue, used: bool) -> str:
    """Fingerprint of age, sex and site, which a catalogue's own does not cover; "" if not used."""
    if not used:
        return ""
    table = data.table.sort_values("image_id")
    columns = [table["age"].astype(float), *(table[name] for name in FEATURES if name != "age")]
    return fingerprint([each.astype(str).tolist() for each in (table["image_id"], *columns)])


def warn_of_seen_lesions(pretrained: bool | str, table: pd.DataFrame, listen: Listener) -> None:
    """Warn if the run that the weights come from has learnt from lesions of this test part.

    Args:
        pretrained: of the recipe.
        table: a catalogue's table with `part`.
        listen: told.
    """
    if not isinstance(pretrained, str):
        return
    folder = Path(pretrained).resolve().parent
    if not (folder / INFO).is_file() or not (folder / SPLIT).is_file():
        return
    parts = Split.open(folder / SPLIT).parts(int(Run(folder).info["identity"]["fold"]))
    learnt = table["image_id"].isin(parts.index[parts.isin(("train", "val"))])
    lesions = lesions_of(table)
    test = table["part"] == "test"
    known = test & lesions.isin(set(lesions[learnt]))
    if known.any():
        listen(
            Notice(
                f"The run that model.pretrained comes from, {folder}, has learnt from or chosen on "
                f"{int((test & learnt).sum())} images of this test part and on "
                f"{lesions[known].nunique()} of its {lesions[test].nunique()} lesions: the test "
                "figures will flatter. Take weights of other data, or the same split and fold.",
                "warning",
            )
        )


def open_folder(
    out: Path,
    marker: str,
    content: Mapping[str, Any],
    recipe: Recipe,
    split: Split,
    *,
    fresh: bool,
) -> None:
    """Make a folder of several runs, or make sure that the one there is of the same settings.

    Args:
        out: the folder.
        marker: name of the JSON file that says what the folder is.
        content: what to write into it; its `identity` must be that of the folder that is there.
        recipe: that all runs start from; saved with the split.
        split: the split of all runs.
        fresh: discard what the folder holds.

    Raises:
        RunError: if the folder holds something else; the differences are named.
    """
    if holds(out, marker):
        if not fresh:
            _refuse_others(out, marker, content["identity"], recipe)
            return
        discard(out)
    with new_folder(out) as part:
        recipe.save(part / RECIPE)
        split.save(part / SPLIT)
        write_json(part / marker, dict(content))


def _refuse_others(out: Path, marker: str, mine: Mapping[str, Any], recipe: Recipe) -> None:
    theirs = read_json(out / marker)["identity"]
    lines = identity_differences({**theirs, "recipe": ""}, {**mine, "recipe": ""})
    if theirs.get("recipe") != mine["recipe"]:
        lines += Recipe.load(out / RECIPE).differences(recipe)
    refuse_differences(out, lines)
