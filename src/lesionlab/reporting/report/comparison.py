"""The section on models side by side: paired differences on the images that all of them predict."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lesionlab.errors import DataError, FindingsError
from lesionlab.evaluation.comparison.compare import METRICS, Comparison, compare
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.reporting.figures import reliability
from lesionlab.reporting.figures.model import short
from lesionlab.reporting.figures.style import TEXT
from lesionlab.reporting.page.section import Exhibit, Section
from lesionlab.tables import Part

_DRAWN = {"balanced_accuracy": "balanced accuracy", "macro_auroc": "macro AUROC"}


def differences(
    tables: Mapping[str, pd.DataFrame], part: Part, replicates: int, seed: int = 0
) -> Section:
    """How far models differ, with intervals of the differences themselves.

    Args:
        tables: checked predictions by model, two or more; the first is what the figures compare
            with.
        part: which rows to judge.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    name, title = "paired", "Paired differences"
    try:
        found = compare(tables, part=part, metrics=METRICS, replicates=replicates, seed=seed)
    except (DataError, FindingsError) as error:
        why = str(error).partition("\n")[0].rstrip(":. ")
        return Section(name, title, (), (f"Not given, as the tables do not fit: {why}.",))
    exhibits = [drawn(found, metric) for metric in _DRAWN if metric in found.metrics]
    table = found.table()
    table = table[table["reference"] != ""]
    exhibits.append(
        Exhibit(
            "differences",
            f"All differences, on the {found.images:,} images that every model predicts",
            "The figure of the model minus that of the reference, on the same images; an interval "
            "that holds 0 means that these images do not tell which is better. For log loss, less "
            "is better.",
            table,
            shown=table.rename(columns={"value": "difference"}).assign(
                metric=table["metric"].str.replace("_", " ")
            ),
        )
    )
    return Section(name, title, tuple(exhibits), tuple(found.warnings), "Differences")


def drawn(found: Comparison, metric: str) -> Exhibit:
    """Differences of a metric to the first model, as a figure and a table."""
    first, *others = found.models
    rows: list[str] = []
    values: list[Estimate] = []
    for model in others:
        rows.append(short(model, 17))
        values.append(found.between(model, first, metric)[0])
    words = _DRAWN[metric]
    title = f"Difference in {words} to {short(first, 24)}"
    listed = [
        (model, first, each.value, each.low, each.high)
        for model, each in zip(others, values, strict=True)
    ]
    return Exhibit(
        f"difference_{metric}",
        title,
        f"Right of the dotted line: better {words} than {first} on the same images. Whiskers: "
        "95 % interval of the difference.",
        pd.DataFrame(listed, columns=["model", "reference", "difference", "low", "high"]),
        reliability.dots(
            {"": values}, rows, title, f"difference in {words}", line=0.0,
            shade=dict.fromkeys(rows, TEXT), percent=False,
        ),
    )  # fmt: skip
