"""Sections of a report on suspect labels, shortcuts and drift, and the page of suspects."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lesionlab._version import __version__
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.disclaimer import NOTICE
from lesionlab.evaluation.data_quality.drift import Drift
from lesionlab.evaluation.data_quality.label_errors import HISTOLOGY, LabelErrors
from lesionlab.evaluation.data_quality.shortcuts import ALL, MEAN, Shortcuts
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.files import write_text
from lesionlab.progress import Listener, Step, silent
from lesionlab.reporting.figures.forest import Row, dots
from lesionlab.reporting.figures.model import ACCENT, WARM
from lesionlab.reporting.figures.style import TEXT
from lesionlab.reporting.page.section import Exhibit, Section, flat
from lesionlab.reporting.page.template import template
from lesionlab.reporting.page.thumbnails import thumbnail
from lesionlab.taxonomy import colours, full_name

MOST_COLUMNS = 14
"""Rows of the figure of drift, at most."""
_KINDS = {"file": "#8A6FB0", "light": ACCENT, "mark": WARM, "all": TEXT}


def suspects_section(result: LabelErrors) -> Section:
    """Suspect labels by class and by how the diagnosis was confirmed."""
    shade = colours(list(result.classes))
    rows: list[Row] = [
        (label := str(row["class"]), _estimate(row, "share"), shade[label], "o")
        for _, row in result.by_class.iterrows()
    ]
    title = f"Suspect labels of each class, part {result.part}, n = {len(result.table):,} images"
    shown = [
        Exhibit(
            "suspects_by_class",
            title,
            f"{len(result.images):,} images carry a label that the model confidently contradicts. "
            f"If every label and every probability were right there would be {result.expected}. "
            f"{_verdict(result)} Lines: 95 % intervals over lesions.",
            result.by_class,
            dots(rows, title, "share of the class's images"),
            {"suspects_joint": flat(result.joint)},
        )
    ]
    absent = []
    if len(result.by_dx_type):
        shown.append(_confirmed(result))
    else:
        absent.append("No dx_type is known: suspects are not set beside histology.")
    return Section("suspects", "Labels to look at", tuple(shown), tuple(absent))


def _verdict(result: LabelErrors) -> str:
    if len(result.images) <= result.expected.high:
        return "Their number is no sign of wrong labels: a hard image looks the same."
    return "There are more: labels are wrong, or the model is surer than it should be."


def _confirmed(result: LabelErrors) -> Exhibit:
    table = result.by_dx_type
    several = table.groupby("class")["dx_type"].transform("nunique") > 1
    rows: list[Row] = [
        (
            f"{row['class']}, {row['dx_type']}",
            _estimate(row, "share"),
            ACCENT if row["dx_type"] == HISTOLOGY else WARM,
            "o",
        )
        for _, row in table[several].iterrows()
    ]
    title = "Suspect labels by how the diagnosis was confirmed"
    svg = dots(rows, title, "share suspect (blue: histology)") if rows else ""
    return Exhibit(
        "suspects_by_dx_type",
        title,
        "Within one class only: how a diagnosis was confirmed goes with what it is. A lower share "
        "does not prove better labels: what was followed up looked harmless from the start.",
        table,
        svg,
        {"suspects_dx_type_differences": result.differences} if len(result.differences) else {},
    )


def shortcuts_section(result: Shortcuts) -> Section:
    """What artefacts tell of the diagnosis, and whether a model's recall depends on them."""
    means = result.figures[result.figures["class"] == MEAN]
    rows: list[Row] = [
        (
            str(row["artefacts"]).replace("_", " "),
            _estimate(row, "auroc"),
            _KINDS[str(row["kind"])],
            "o",
        )
        for _, row in means.iterrows()
    ]
    title = "How well artefacts alone tell the classes apart"
    together = result.auroc(ALL) if (means["artefacts"] == ALL).any() else None
    said = f" All together: {together}." if together else ""
    shown = [
        Exhibit(
            "shortcuts",
            title,
            "Area under the ROC curve, mean over classes, of trees that see nothing but these "
            f"measures, on lesions that they have not learnt from; 0.5 is chance.{said} A network "
            "can learn the same in place of the lesion. Purple: the file; blue: light and camera; "
            "orange: what lies on the skin.",
            result.figures,
            dots(
                rows,
                title,
                "area under the ROC curve, mean over classes",
                line=0.5,
                shares=False,
                form=".3f",
                from_zero=False,
            ),
            {"artefacts_by_class": result.values},
        )
    ]
    absent = [f"The same in all images, or unknown: {', '.join(result.constant)}."]
    if len(result.recalls):
        shown.append(_recalls(result))
    else:
        absent.append("Without predictions it is not known whether a model minds.")
    return Section(
        "shortcuts",
        "Shortcuts",
        tuple(shown),
        tuple(absent if result.constant else absent[1:]),
    )


def _recalls(result: Shortcuts) -> Exhibit:
    means = result.recalls[result.recalls["class"] == MEAN]
    rows: list[Row] = [
        (
            str(row["artefact"]).replace("_", " "),
            _estimate(row, "difference"),
            ACCENT if row["p_adjusted"] >= 0.05 or math.isnan(row["p_adjusted"]) else WARM,
            "o",
        )
        for _, row in means.iterrows()
    ]
    title = "Recall where an artefact is high, less where it is low"
    return Exhibit(
        "recalls_by_artefact",
        title,
        "Mean over classes of the recall in the highest third of each class less that in the "
        "lowest. Orange: beyond chance after Holm's adjustment for the number of artefacts.",
        result.recalls,
        dots(rows, title, "difference of mean recall", line=0.0, shares=False, form="+.3f"),
    )


def drift_section(result: Drift) -> Section:
    """What tells the sets apart: all columns together, then the columns that differ most."""
    pairs: list[Row] = [
        (f"{row['first']} – {row['second']}", _estimate(row, "auroc"), ACCENT, "o")
        for _, row in result.together.iterrows()
    ]
    title = "Can the sets be told apart by what is known of their images?"
    shown = [
        Exhibit(
            "drift_together",
            title,
            "Area under the ROC curve of trees that see every column, on lesions that they have "
            "not learnt from. 0.5: not at all. Below it: more alike than chance, as stratified "
            "parts are.",
            result.together,
            dots(
                pairs,
                title,
                "area under the ROC curve",
                line=0.5,
                shares=False,
                form=".3f",
                from_zero=False,
            ),
        )
    ]
    found = result.found
    if len(found):
        top = found.head(MOST_COLUMNS)
        values: list[Row] = [
            (
                _column(row, several=len(pairs) > 1),
                Estimate(row["divergence"], math.nan, math.nan, 0, 0),
                WARM,
                "o",
            )
            for _, row in top.iterrows()
        ]
        title = f"Columns that differ beyond chance, {len(found)} of {len(result.columns)}"
        svg = dots(
            values,
            title,
            "Jensen-Shannon divergence (0: alike, 1: apart)",
            shares=False,
            form=".3f",
        )
    else:
        title, svg = "No column differs beyond chance", ""
    shown.append(
        Exhibit(
            "drift",
            title,
            "Every column of every pair, tested by moving whole lesions between the sets; p values "
            "are adjusted for their number (Holm).",
            result.columns,
            svg,
        )
    )
    return Section("drift", "Drift", tuple(shown))


def _column(row: pd.Series, *, several: bool) -> str:
    name = str(row["column"]).replace("_", " ")
    return f"{name} ({row['first']}–{row['second']})" if several else name


def _estimate(row: pd.Series, name: str) -> Estimate:
    return Estimate(float(row[name]), float(row["low"]), float(row["high"]), 0, 0)


@dataclass(frozen=True)
class Shown:
    """One suspect on the page.

    Attributes:
        rank: 1 is the most doubtful.
        image_id: the image.
        lesion_id: its lesion, "" = unknown.
        target: its label.
        looks_like: what the model takes it for.
        p_target: probability of the label.
        p_looks_like: probability of the other.
        dx_type: how the label was confirmed, "" = unknown.
        picture: a JPEG as a `data:` address, or "".
    """

    rank: int
    image_id: str
    lesion_id: str
    target: str
    looks_like: str
    p_target: float
    p_looks_like: float
    dx_type: str
    picture: str


def write_suspects(
    result: LabelErrors,
    data: Catalogue,
    out: str | Path,
    *,
    most: int = 60,
    listen: Listener = silent,
) -> Path:
    """Write a page with the pictures of the most doubtful labels, one per lesion.

    Args:
        result: from `label_errors`.
        data: the catalogue that the images are in.
        out: the page, an HTML file that loads nothing from elsewhere.
        most: pictures.
        listen: told of the progress.
    """
    images = result.images
    unit = images["lesion_id"].where(images["lesion_id"] != "", images["image_id"])
    chosen = images[~unit.duplicated()].head(most)
    rows = data.table.set_index("image_id")
    reader = Reader(data.root)
    shown = []
    for number, row in enumerate(chosen.to_dict("records"), start=1):
        address = ""
        if row["image_id"] in rows.index:
            place = rows.loc[row["image_id"]]
            with suppress(ImageFault):
                address = thumbnail(reader, str(place["path"]), str(place["sha256"]), side=240)
        known = {name: row[name] for name in Shown.__dataclass_fields__ if name != "picture"}
        shown.append(Shown(**known, picture=address))
        listen(Step("pictures of suspects", number, len(chosen), "images"))
    text = template("suspects.html.jinja", "reporting/explore", "reporting/page").render(
        made=result,
        shown=shown,
        colours=colours(list(result.classes)),
        full_name=full_name,
        notice=NOTICE,
        version=__version__,
        fingerprint=data.fingerprint,
    )
    write_text(Path(out), text)
    return Path(out)
