"""Predictions joined to their catalogue on image_id: who the patients were, where images lie."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.errors import DataError, LesionlabError
from lesionlab.evaluation.predictions.load import Source
from lesionlab.run import FOLDS, INFO, Folds, Run, open_run

_SAY = "Say which catalogue its images are of with --data FOLDER (in Python: data=...)."


def catalogue_of(source: Source, data: Catalogue | str | Path | None) -> Catalogue:
    """The catalogue that predictions belong to: the one given, or the one that a run names.

    Args:
        source: where the predictions come from.
        data: a catalogue or its folder; None asks the run.

    Raises:
        DataError: if none is given and none is known, or the known one is not there any more.
    """
    if data is not None:
        return Catalogue.open(data)
    run = _run_of(source)
    if run is None:
        raise DataError(f"A predictions table does not say who its patients are. {_SAY}")
    info = run.info
    place = info.get("catalogue")
    try:
        if not place:
            raise DataError(f"{run.folder} does not say which catalogue it was trained on.")
        found = Catalogue.open(place)
    except (LesionlabError, OSError) as error:
        raise DataError(
            f"The catalogue of {run.folder} cannot be opened where it was ({error}). {_SAY}"
        ) from error
    if found.fingerprint != info.get("identity", {}).get("catalogue", found.fingerprint):
        raise DataError(f"{place} is not the catalogue that {run.folder} was trained on. {_SAY}")
    return found


def _run_of(source: Source) -> Run | Folds | None:
    if isinstance(source, Run | Folds):
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        if (path / INFO).is_file() or (path / FOLDS).is_file():
            return open_run(path)
    return None


def rows_in(data: Catalogue, images: pd.Series) -> pd.DataFrame:
    """The catalogue's rows of some images, in their order.

    Args:
        data: the catalogue.
        images: image ids.

    Returns:
        The columns of a catalogue, one row per image, index 0 ... n - 1.

    Raises:
        DataError: if the catalogue lacks some of them.
    """
    table = data.table.set_index("image_id", drop=False)
    unknown = images[~images.isin(table.index)]
    if len(unknown):
        raise DataError(
            f"{len(unknown)} of {len(images)} images are not in the catalogue "
            f"({', '.join(map(str, unknown[:3]))}{', ...' if len(unknown) > 3 else ''}). "
            "Name the catalogue that these predictions were made from."
        )
    return table.loc[list(images)].reset_index(drop=True)
