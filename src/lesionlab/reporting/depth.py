"""The second half of a report: everything that a reviewer asks for, section by section."""

from __future__ import annotations

import pandas as pd

from lesionlab.evaluation import Evaluation
from lesionlab.reporting import triage, trusting
from lesionlab.reporting.exhibits import Section


def in_depth(
    predictions: pd.DataFrame, result: Evaluation, replicates: int, seed: int = 0
) -> list[Section]:
    """Every section on one model, in the order of the page.

    Args:
        predictions: a checked table.
        result: its evaluation; says which part is judged.
        replicates: of each bootstrap.
        seed: of each bootstrap.
    """
    part = result.part
    made = [
        trusting.probabilities(predictions, part, result.positive, replicates, seed),
        trusting.sets(predictions, part, replicates, seed),
    ]
    if part == "test":
        made.append(triage.section(predictions, replicates=replicates, seed=seed))
    return made
