"""Verbs about whether an explanation is to be believed.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lesionlab.cli.outcome import Outcome, WarningsLast, training_room
from lesionlab.progress import Listener


def trust(
    run: Path,
    *,
    masks: Path | None = None,
    count: int = 300,
    all_: bool = False,
    part: Literal["train", "val", "test"] = "test",
    substitute: Literal["blur", "mean"] = "blur",
    steps: int = 10,
    data: Path | None = None,
    out: Path | None = None,
    replicates: int = 1000,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    listen: Listener,
) -> Outcome:
    """Check a run's maps: do they show the lesion, what was learnt, and what answers depend on?

    Share of the map inside the lesion, pointing game, deletion and insertion, maps of networks with
    random weights, answers to the lesion alone and to its surroundings alone; for right and wrong
    answers, with intervals over lesions, beside chance and a spot in the middle of the picture.
    Exit code 1: the maps do not change when the weights are random.

    Example: lesionlab trust runs/first --masks HAM10000_segmentations_lesion_tschandl

    Args:
        run: the run's folder.
        masks: the folder of the masks, <image_id>_segmentation.png or <image_id>.png; by default
            they lie with the images.
        count: how many images to draw, of those with a mask.
        all_: take all of them.
        part: which part to take them from.
        substitute: what stands where pixels are taken away, the picture's blur or its mean colour.
        steps: of the deletion and insertion curves; the time goes with it.
        data: the folder of the images' catalogue; by default the one trained on.
        out: a folder for the page (trust.html) and the tables; by default trust in the run's
            folder, where `report` finds them.
        replicates: of the lesion-level bootstrap.
        seed: of the draw, the random weights, the random orders and the bootstrap.
        device: auto takes CUDA where there is one.
    """
    import pandas as pd

    out = run / "trust" if out is None else out
    last = WarningsLast(listen)
    made = training_room("explanation.trust.trust").trust(
        run,
        masks=masks,
        count=None if all_ else count,
        part=part,
        substitute=substitute,
        steps=steps,
        data=data,
        out=out,
        replicates=replicates,
        seed=seed,
        device=device,
        listen=last,
    )
    rows = [(each.question, each.verdict, each.text) for each in made.answers]
    facts = made.facts
    title = f"{facts['images']:,} images of {facts['lesions']:,} lesions, maps at {facts['layer']}"
    return Outcome(
        [(title, pd.DataFrame(rows, columns=["question", "answer", "figures"]))],
        [f"Written: {out / 'trust.html'}. Open it in a browser."],
        last.warnings,
        code=0 if made.passed else 1,
    )
