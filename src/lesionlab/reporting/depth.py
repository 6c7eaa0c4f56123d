"""The second half of a report: everything that a reviewer asks for, section by section."""

from __future__ import annotations

import pandas as pd

from lesionlab.data.catalogues import Catalogue
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation import Evaluation
from lesionlab.evaluation.baselines import baselines
from lesionlab.evaluation.subgroups import subgroups
from lesionlab.progress import Listener, Step, silent
from lesionlab.reporting import baselines as baselines_section
from lesionlab.reporting import subgroups as subgroups_section
from lesionlab.reporting import triage, trusting
from lesionlab.reporting.exhibits import Section


def in_depth(
    predictions: pd.DataFrame,
    result: Evaluation,
    data: Catalogue | None,
    *,
    replicates: int,
    seed: int = 0,
    listen: Listener = silent,
) -> list[Section]:
    """Every section on one model, in the order of the page; what cannot be shown says why.

    Args:
        predictions: a checked table.
        result: its evaluation; says which part is judged.
        data: the catalogue of its images, which baselines and subgroups need.
        replicates: of each bootstrap.
        seed: of each bootstrap.
        listen: told of the progress; warnings stand in the sections.
    """
    part = result.part

    def steps(event: object) -> None:
        if isinstance(event, Step):
            listen(event)

    made = [
        _beside_baselines(predictions, part, data, replicates, seed, steps),
        _by_group(predictions, part, data, replicates, seed, steps),
        trusting.probabilities(predictions, part, result.positive, replicates, seed),
        trusting.sets(predictions, part, replicates, seed),
    ]
    if part == "test":
        made.append(triage.section(predictions, replicates=replicates, seed=seed, listen=steps))
    return made


def _beside_baselines(
    predictions: pd.DataFrame,
    part: str,
    data: Catalogue | None,
    replicates: int,
    seed: int,
    listen: Listener,
) -> Section:
    why = "No catalogue is at hand to fit baselines on: add one with --data."
    if data is not None:
        try:
            found = baselines(
                predictions, data, part=part, replicates=replicates, seed=seed, listen=listen
            )
            return baselines_section.section(found)
        except (DataError, SettingsError) as error:
            why = f"Baselines are left out: {error}"
    return Section("baselines", "Beside what sees no lesion", (), (why,), "Baselines")


def _by_group(
    predictions: pd.DataFrame,
    part: str,
    data: Catalogue | None,
    replicates: int,
    seed: int,
    listen: Listener,
) -> Section:
    why = "No catalogue is at hand to know age, sex or site from: add one with --data."
    if data is not None:
        try:
            found = subgroups(
                predictions, data, part=part, replicates=replicates, seed=seed, listen=listen
            )
            return subgroups_section.section(found)
        except (DataError, SettingsError) as error:
            why = f"Subgroups are left out: {error}"
    return Section("subgroups", "For whom it works", (), (why,), "Subgroups")
