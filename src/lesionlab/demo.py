"""Demo: the whole chain from images to a measured model and its report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lesionlab.advice import command
from lesionlab.data.audit.audit import audit
from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.splits import split
from lesionlab.data.synthetic.dataset import SETTINGS, synthetic
from lesionlab.errors import DataError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.recipe.schema import Recipe
from lesionlab.reporting.report.report import report

if TYPE_CHECKING:
    from lesionlab.evaluation.evaluation_result import Evaluation

RECIPE = Recipe().but(
    {
        "images.size": [84, 112],
        "model.name": "test_efficientnet",
        "model.drop": 0.1,
        "augment.colour": 0.1,
        "loss.kind": "logit_adjusted",
        "phases.0.epochs": 24,
        "phases.0.optim.lr": 3e-3,
        "average.decay": 0.98,
        "batch": 16,
    }
)
"""A net of 100,000 parameters, and few steps: half a minute on two cores."""

LESIONS = 400
PAGE = (
    "The model that comes with lesionlab answers on a page, with sample images to try: "
    f"{command('serve')}. Then open http://127.0.0.1:8000. It was made for dermatoscopic images: "
    "drawn ones, as this demo makes them, it should not know."
)

_STEPS = 500  # optimiser steps that a demo takes on a folder of any size, at least one epoch


def demonstrate(
    out: str | Path,
    *,
    data: str | Path | None = None,
    fresh: bool = False,
    listen: Listener = silent,
) -> tuple[Evaluation, Path]:
    """Go from images to a measured model and its report.

    Args:
        out: folder for everything that is made: images (if drawn), catalogue, split, run, report.
        data: a folder of real images, as `catalogue` takes it; None draws lesions.
        fresh: draw and train anew, whatever an earlier demo left in `out`.
        listen: told of the progress.

    Returns:
        The evaluation of the test part, and the path of the report.

    Raises:
        DataError: if the images are not fit to train on; says what is wrong.
    """
    listen(Notice(PAGE))
    out = Path(out)
    if fresh and (out / "images" / SETTINGS).is_file():  # drawn by an earlier demo, maybe otherwise
        shutil.rmtree(out / "images")
    folder = (
        Path(data)
        if data is not None
        else synthetic(out / "images", lesions=LESIONS, listen=listen)
    )
    made = catalogue(folder, out=out / "catalogue", listen=listen)
    listen(Notice(f"{made.size} in {len(made.classes)} classes."))
    faults = audit(made, listen=listen).faults
    errors = faults[faults["severity"] == "error"]
    if len(errors):
        raise DataError(
            f"{len(errors)} images are faulty. See them all: {command('audit', folder)}"
        )
    listen(Notice(f"Audit: {len(faults)} warnings." if len(faults) else "Audit: no faults."))
    parts = split(made, kind="holdout", listen=listen)
    parts.save(out / "split.csv")
    from lesionlab.training.train import train

    run = train(_recipe_for(len(made)), made, parts, out=out / "run", fresh=fresh, listen=listen)
    result = evaluate(run.predictions, listen=listen)
    page = report([run], out / "report.html", data=made, listen=_steps_only(listen))
    return result, page


def _steps_only(listen: Listener) -> Listener:
    """Pass progress on, but not what was said once already."""
    return lambda event: listen(event) if isinstance(event, Step) else None


def _recipe_for(images: int) -> Recipe:
    """The demo's recipe; on a large folder with larger batches and fewer epochs."""
    if images < 2000:
        return RECIPE
    epochs = max(3, round(_STEPS * 64 / (0.7 * images)))
    return RECIPE.but({"batch": 64, "phases.0.epochs": epochs, "average.decay": 0.99})
