"""Commands that explain an answer, and ask whether an explanation is to be believed.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

import math
from pathlib import Path

from lesionlab.cli.declaration import Call, command
from lesionlab.cli.outcome import Outcome


@command(
    "explanation.explain.explain",
    "explain runs/first --count 12 --untrained --out explained",
)
def explain(call: Call, *, out: Path = Path("explained"), untrained: bool = False) -> Outcome:
    """Show which places of an image speak for a class (Grad-CAM), on right and wrong answers.

    A map is no proof of what the network attends to, and a good-looking one makes no answer right:
    `explain --check` asks whether a run's maps show the lesion and what was learnt.

    Args:
        out: a folder for the page, a PNG per image, the table and the maps; or an .html file for
            the page alone.
        untrained: beside every map that of the same network with random weights. Where both are
            alike, the map shows the image and not what was learnt.
    """
    result = call(out=out, untrained=untrained)
    table = result.table()
    shown = table[["image_id", "target", "predicted", "class"]].assign(
        probability=table["probability"].map("{:.3f}".format),
        **({"likeness": table["likeness"].map(_likeness)} if untrained else {}),
    )
    page = out if out.suffix.lower() in (".html", ".htm") else out / "explain.html"
    return Outcome(
        [(f"Maps at {result.layer}", shown)],
        [*result.legend, f"Written: {page}. Open it in a browser."],
    )


def _likeness(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"  # one of the two maps is blank


@command(
    "explanation.trust.trust.trust",
    "explain --check runs/first --masks HAM10000_segmentations_lesion_tschandl",
)
def explain_check(call: Call, *, all_: bool = False, out: Path | None = None) -> Outcome:
    """Check a run's maps: do they show the lesion, what was learnt, and what answers depend on?

    Share of the map inside the lesion, pointing game, deletion and insertion, maps of networks with
    random weights, answers to the lesion alone and to its surroundings alone; for right and wrong
    answers, with intervals over lesions, beside chance and a spot in the middle of the picture.
    Exit code 1: the maps do not change when the weights are random.

    Args:
        all_: take all images with a mask.
        out: a folder for the page (trust.html) and the tables; by default trust in the run's
            folder, where `report` finds them.
    """
    import pandas as pd

    out = call.options["run"] / "trust" if out is None else out
    result = call(out=out, **({"count": None} if all_ else {}))
    rows = [(answer.question, answer.verdict, answer.text) for answer in result.answers]
    facts = result.facts
    title = f"{facts['images']:,} images of {facts['lesions']:,} lesions, maps at {facts['layer']}"
    return Outcome(
        [(title, pd.DataFrame(rows, columns=["question", "answer", "figures"]))],
        [f"Written: {out / 'trust.html'}. Open it in a browser."],
        code=0 if result.passed else 1,
    )
