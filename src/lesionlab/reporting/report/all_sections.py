"""The second half of a report: everything that a reviewer asks for, section by section."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.comparison.baselines import baselines
from lesionlab.evaluation.evaluation_result import Evaluation
from lesionlab.evaluation.subgroups.subgroups import subgroups
from lesionlab.progress import Listener, Step, silent
from lesionlab.reporting.page.section import Section
from lesionlab.reporting.report import baselines as baselines_section
from lesionlab.reporting.report import calibration, triage
from lesionlab.reporting.report import subgroups as subgroups_section

_NO_BASELINES = Section(
    "baselines",
    "Beside what sees no lesion",
    (),
    ("No catalogue is at hand to fit baselines on: add one with --data.",),
    "Baselines",
)
_NO_SUBGROUPS = Section(
    "subgroups",
    "For whom it works",
    (),
    ("No catalogue is at hand to know age, sex or site from: add one with --data.",),
    "Subgroups",
)


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

    told: dict[str, Any] = {"part": part, "replicates": replicates, "seed": seed, "listen": steps}
    made = [
        _of_catalogue(
            _NO_BASELINES,
            data,
            lambda known: baselines_section.section(baselines(predictions, known, **told)),
        ),
        _of_catalogue(
            _NO_SUBGROUPS,
            data,
            lambda known: subgroups_section.section(subgroups(predictions, known, **told)),
        ),
        calibration.probabilities(predictions, part, result.positive, replicates, seed),
        calibration.sets(predictions, part, replicates, seed),
    ]
    if part == "test":
        made.append(triage.section(predictions, replicates=replicates, seed=seed, listen=steps))
    return made


def _of_catalogue(
    without: Section, data: Catalogue | None, make: Callable[[Catalogue], Section]
) -> Section:
    """A section that needs the catalogue; or the same without exhibits, saying why.

    Args:
        without: the section as it is without a catalogue.
        data: the catalogue.
        make: the section with one.
    """
    if data is None:
        return without
    try:
        return make(data)
    except (DataError, SettingsError) as error:
        return replace(without, absent=(f"{without.short} are left out: {error}",))
