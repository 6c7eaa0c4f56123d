"""What a report and a card open alike: a finished run, and the catalogue that it was trained on."""

from __future__ import annotations

from typing import Literal

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.errors import LesionlabError, RunError
from lesionlab.run import Run

Missing = Literal["not given", "gone", "another"]
"""Why there is no catalogue: nobody named one, it is not where it was, or it is another run's."""


def check_finished(run: Run, doing: str) -> None:
    """Refuse a run that is still being trained.

    Args:
        run: the run.
        doing: what there is nothing to do of yet: report, describe.

    Raises:
        RunError: if it is not finished.
    """
    if not run.complete:
        raise RunError(
            f"{run.folder} is not finished, so there is nothing to {doing} yet. Give the same "
            "`lesionlab train` command again: it goes on where it stopped."
        )


def own_catalogue(run: Run | None, data: Catalogue | None) -> Catalogue | Missing:
    """The catalogue of a run, or why there is none; never an error.

    Args:
        run: the run; None: predictions of unknown origin, whose catalogue is taken on trust.
        data: the catalogue that somebody named; by default the one that the run was trained on.
    """
    if run is None:
        return "not given" if data is None else data
    if data is None:
        try:
            data = Catalogue.open(run.info.get("catalogue") or "no catalogue")
        except (LesionlabError, OSError):
            return "gone"
    same = run.info.get("identity", {}).get("catalogue") in (None, data.fingerprint)
    return data if same else "another"
