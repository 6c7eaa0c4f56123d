"""The section on where a model fails, for a reader who gets no further."""

from __future__ import annotations

import pandas as pd

from lesionlab.display import percent
from lesionlab.evaluation.evaluation_result import Evaluation
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.evaluation.misclassifications import Confusions, confusions
from lesionlab.reporting.formatting import span
from lesionlab.reporting.page.section import Exhibit, Section
from lesionlab.tables import count
from lesionlab.taxonomy import full_name

_ROWS = 8
_FEW = 20  # images of a class, below which its confusions are not told in words


def failing(
    predictions: pd.DataFrame, result: Evaluation, replicates: int, seed: int = 0
) -> tuple[list[str], Section]:
    """Where a model fails: sentences for the first screen, and the commonest confusions.

    Args:
        predictions: a checked table.
        result: its evaluation.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    found = confusions(predictions, part=result.part, replicates=replicates, seed=seed)
    exhibits: tuple[Exhibit, ...] = ()
    if len(found.pairs):
        exhibits = (
            Exhibit(
                "confusions",
                f"The commonest confusions (of {len(found.pairs)} that occur)",
                "Of the images of a true class, the share that is called another one, the largest "
                "share first. The file has all of them.",
                found.pairs,
                shown=_shown(found.pairs.head(_ROWS)),
            ),
        )
    return sentences(found, result), Section(
        "failures", "What it takes for what", exhibits, short="Confusions"
    )


def sentences(found: Confusions, result: Evaluation) -> list[str]:
    """What goes wrong, in words: the missed malignancies, the worst class, the commonest mix-up."""
    made = []
    if found.missed is not None:
        images, lesions = found.missed_images
        made.append(
            f"Malignant called benign: {_share(found.missed)} of the malignant images "
            f"({images:,} of {found.missed.n:,}, showing {count(lesions, 'lesion')})."
        )
    if found.alarmed is not None:
        made.append(f"Benign called malignant: {_share(found.alarmed)} of the benign images.")
    recalls = {
        label: result[f"recall/{label}"]
        for label in result.classes
        if result.support["images"][label]
    }
    if recalls:
        worst = min(recalls, key=lambda label: recalls[label].value)
        each = recalls[worst]
        right = round(each.value * each.n)
        text = f"Least recognised: {_name(worst)}, {right:,} of {count(each.n, 'image')}"
        rows = found.pairs[found.pairs["truth"] == worst]
        if len(rows):
            most = rows.iloc[0]
            text += f"; most often called {_name(most['predicted'])} instead ({most['images']:,})"
        made.append(f"{text}.")
    common = found.pairs[found.pairs["of"] >= _FEW]
    if len(common):
        most = common.iloc[int(common["images"].argmax())]
        made.append(
            f"The commonest mistake: {_name(most['truth'])} called {_name(most['predicted'])}, "
            f"{count(int(most['images']), 'image')}, {percent(float(most['share']))} of the class."
        )
    return made


def _shown(confusions: pd.DataFrame) -> pd.DataFrame:
    table = confusions.rename(columns={"low": "share_low", "high": "share_high"})
    shares = ("share", "share_low", "share_high")
    return table[["truth", "predicted", *shares, "images", "of", "lesions"]]


def _share(each: Estimate) -> str:
    inner = span(each)
    return percent(each.value) + (f" ({inner})" if inner else "")


def _name(label: str) -> str:
    name = full_name(label)
    return f"{name[:1].lower() + name[1:]} ({label})" if name != label else label
