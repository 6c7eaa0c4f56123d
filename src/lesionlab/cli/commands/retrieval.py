"""Commands that look for known cases like a new one.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

from lesionlab.advice import command as typed
from lesionlab.cli.declaration import Call, command
from lesionlab.cli.outcome import Outcome
from lesionlab.disclaimer import NOTICE


@command("retrieval.case_index.index", "index data/ham10000 --out cases.index")
def index(call: Call) -> Outcome:
    """Make an index of known cases, for `similar`.

    It holds what the model makes of every image, projected so that photographs of one lesion are
    near each other, with diagnoses and small pictures: as confidential as the images themselves.
    """
    made = call()
    lesions = len(set(made.lesion))
    size = made.path.stat().st_size / 1e6
    model = call.options.get("model")
    following = typed("similar", "photo.jpg", index=made.path, model=model)
    return Outcome(
        lines=[
            f"Written: {made.path} ({len(made):,} images of {lesions:,} lesions, {size:.1f} MB). "
            f"Next: {following}"
        ]
    )


@command("retrieval.similar.similar", "similar photo.jpg --index cases.index")
def similar(call: Call) -> Outcome:
    """Show the known cases that look most like an image, with their diagnoses.

    No case is of the image's own lesion. What the 15 nearest lesions were is said beside what the
    model says. Distance: 0 is the same, 2 the opposite.
    """
    found = call()
    return Outcome([(f"Cases like {found.name}", found.cases)], [found.text, NOTICE])
