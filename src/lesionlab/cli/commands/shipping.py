"""Verbs that turn a run into something to ship.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lesionlab.cli.outcome import Outcome, WarningsLast, training_room
from lesionlab.progress import Listener


def export(
    runs: list[Path],
    *,
    out: Path,
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
    views: Literal[1, 2, 4, 8] = 1,
    miss: float = 0.05,
    miss_melanoma: float = 0.03,
    malignant: list[str] | None = None,
    card: Path | None = None,
    answers: Path | None = None,
    name: str = "",
    licence: str = "CC-BY-NC-4.0",
    data: Path | None = None,
    cache: Path | None = None,
    seed: int = 0,
    listen: Listener,
) -> Outcome:
    """Turn a run, or several, into one file that answers without torch: a bundle.

    It holds networks (ONNX), preprocessing, classes, temperature, conformal quantiles, thresholds,
    the rule of referral with its promise (`lesionlab triage RUN` shows what a promise costs), a
    detector of other images, class activation maps, the model card and the licence. What is fitted
    is fitted on part val, from the very graph that ships. Gates that it must pass: the same
    probabilities and maps as torch for real files, to 0.0001; in fewer bits, on 2,000 or more
    held-out pictures, 98 % of the likeliest classes, and a fall in balanced accuracy of 0.01 at
    most. A bundle that does not pass is not written.

    Example: lesionlab export runs/first --precision int8 --out mole.bundle

    Args:
        runs: a run's folder; several runs of the same classes and input share their answer.
        out: the file to write, such as mole.bundle.
        precision: fp32; fp16, weights kept in 16 bits and computed with in 32: half the size; int8,
            eight-bit integers: smaller and faster.
        views: average so many symmetries of each image: 2 adds the mirror image, 4 all flips, 8 all
            turns; the time goes with it.
        miss: of 1 malignant lesion, the share that may go unreferred: 0.05 is 5 of 100.
        miss_melanoma: the same of melanomas.
        malignant: the malignant classes, where HAM10000's rule does not know all of yours.
        card: a folder of `train` or `folds` whose model card goes in; by default the first run's.
        answers: what the author knows for the card, as YAML: lesionlab card RUN --template FILE.
        name: of the model; by default that of the file.
        licence: SPDX expression of the weights. Those trained on HAM10000 stay CC-BY-NC-4.0.
        data: the catalogue that the runs were trained on, if it is no longer where it was.
        cache: folder of caches; by default `cache` beside the catalogue.
        seed: of the draws of images.
    """
    last = WarningsLast(listen)
    made = training_room("deployment.export").export(
        runs,
        out,
        data=data,
        precision=precision,
        views=views,
        miss=miss,
        miss_melanoma=miss_melanoma,
        malignant=malignant,
        card_of=card,
        answers=answers,
        name=name,
        licence=licence,
        cache_to=cache,
        seed=seed,
        listen=last,
    )
    gates = made.info["gates"]
    apart = max(each["probabilities"] for each in gates["parity"])
    lines = [f"Torch and the bundle differ by {apart:.1g} in a probability at most."]
    if precision in gates:
        told = gates[precision]
        lines.append(
            f"{precision} keeps {told['agreement']:.1%} of the likeliest classes of "
            f"{told['pictures']:,} held-out pictures; balanced accuracy falls by "
            f"{told['fall']:.4f} ({told['fall_low']:.4f} to {told['fall_high']:.4f})."
        )
    lines.append(made.referral.promise)
    if made.measured:
        lines.append(made.measured["text"])
    size = out.stat().st_size / 1e6
    lines.append(f"Written: {out} ({size:.1f} MB). Next: lesionlab predict --model {out} photo.jpg")
    return Outcome(lines=lines, warnings=last.warnings)
