"""The section on models side by side: paired differences on the images that all of them predict."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lesionlab.display import p_value
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
    best, *others = found.models
    exhibits.append(
        Exhibit(
            "differences",
            f"Differences to {best}, on the {found.images:,} images that every model predicts",
            f"The figure of the model minus that of {best}, on the same images; an interval that "
            "holds 0 means that these images do not tell which is better. For log loss, less is "
            "better. p is adjusted (Holm) over all pairs and metrics. The file has every pair, "
            "McNemar's and DeLong's tests, too.",
            table,
            shown=_to_the_first(found, others),
        )
    )
    return Section(name, title, tuple(exhibits), (), "Differences")


def _to_the_first(found: Comparison, others: list[str]) -> pd.DataFrame:
    """Differences of every metric to the first model."""
    rows = []
    for metric in found.metrics:
        for model in others:
            try:
                each, p = found.between(model, found.models[0], metric)
            except KeyError:  # one of the two has no such figure
                continue
            p_words = p_value(p)
            rows.append((metric.replace("_", " "), model, each.value, each.low, each.high, p_words))
    columns = ["metric", "model", "difference", "difference_low", "difference_high", "adjusted p"]
    return pd.DataFrame(rows, columns=columns)


def drawn(found: Comparison, metric: str) -> Exhibit:
    """Differences of a metric to the first model, as a figure and a table."""
    first, *others = found.models
    rows: list[str] = []
    values: list[Estimate] = []
    for model in others:
        rows.append(short(model, 17))
        values.append(found.between(model, first, metric)[0])
    words = _DRAWN.get(metric, metric.replace("_", " "))
    title = f"Difference in {words} to {short(first, 24)}"
    better = [m for m, e in zip(others, values, strict=True) if e.low > 0]
    worse = [m for m, e in zip(others, values, strict=True) if e.high < 0]
    reading = (
        f"Of {len(others)} models, {len(worse)} are below {first} and {len(better)} above it by "
        "more than their interval. "
    )
    listed = [
        (model, first, each.value, each.low, each.high)
        for model, each in zip(others, values, strict=True)
    ]
    return Exhibit(
        f"difference_{metric}",
        title,
        reading + f"Right of the dotted line: better {words} than {first} on the same images. "
        "Whiskers: 95 % interval of the difference.",
        pd.DataFrame(listed, columns=["model", "reference", "difference", "low", "high"]),
        reliability.dots(
            {"": values}, rows, title, f"difference in {words}", line=0.0,
            shade=dict.fromkeys(rows, TEXT), percent=False,
        ),
    )  # fmt: skip
