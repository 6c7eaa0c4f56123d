"""Sections of a report on suspect labels, shortcuts and drift, and the page of suspects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.ticker import MaxNLocator

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
from lesionlab.reporting.figures.distributions import chart, name_rows
from lesionlab.reporting.figures.forest import whisker
from lesionlab.reporting.figures.model import ACCENT, WARM, percent_axes
from lesionlab.reporting.figures.style import TEXT, to_svg
from lesionlab.reporting.page.section import Exhibit, Section, flat
from lesionlab.reporting.page.template import template
from lesionlab.reporting.page.thumbnails import thumbnail
from lesionlab.taxonomy import colours, full_name

MOST_COLUMNS = 14
"""Rows of the figure of drift, at most."""
_KINDS = {"file": "#8A6FB0", "light": ACCENT, "mark": WARM, "all": TEXT}
Row = tuple[str, Estimate, str]
"""Label, estimate, colour."""


def suspects_section(made: LabelErrors) -> Section:
    """Suspect labels by class and by how the diagnosis was confirmed."""
    rows = [
        (str(row["class"]), _estimate(row, "share"), colours(list(made.classes))[str(row["class"])])
        for _, row in made.by_class.iterrows()
    ]
    title = f"Suspect labels of each class, part {made.part}, n = {len(made.table):,} images"
    shown = [
        Exhibit(
            "suspects_by_class",
            title,
            f"{len(made.images):,} images carry a label that the model confidently contradicts. If "
            f"every label and every probability were right there would be {made.expected}. "
            f"{_verdict(made)} Lines: 95 % intervals over lesions.",
            made.by_class,
            dots(rows, title, "share of the class's images"),
            {"suspects_joint": flat(made.joint)},
        )
    ]
    absent = []
    if len(made.by_dx_type):
        shown.append(_confirmed(made))
    else:
        absent.append("No dx_type is known: suspects are not set beside histology.")
    return Section("suspects", "Labels to look at", tuple(shown), tuple(absent))


def _verdict(made: LabelErrors) -> str:
    if len(made.images) <= made.expected.high:
        return "Their number is no sign of wrong labels: a hard image looks the same."
    return "There are more: labels are wrong, or the model is surer than it should be."


def _confirmed(made: LabelErrors) -> Exhibit:
    table = made.by_dx_type
    several = table.groupby("class")["dx_type"].transform("nunique") > 1
    rows = [
        (
            f"{row['class']}, {row['dx_type']}",
            _estimate(row, "share"),
            ACCENT if row["dx_type"] == HISTOLOGY else WARM,
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
        {"suspects_dx_type_differences": made.differences} if len(made.differences) else {},
    )


def shortcuts_section(made: Shortcuts) -> Section:
    """What artefacts tell of the diagnosis, and whether a model's recall depends on them."""
    means = made.figures[made.figures["class"] == MEAN]
    rows = [
        (str(row["artefacts"]).replace("_", " "), _estimate(row, "auroc"), _KINDS[str(row["kind"])])
        for _, row in means.iterrows()
    ]
    title = "How well artefacts alone tell the classes apart"
    together = made.auroc(ALL) if (means["artefacts"] == ALL).any() else None
    said = f" All together: {together}." if together else ""
    shown = [
        Exhibit(
            "shortcuts",
            title,
            "Area under the ROC curve, mean over classes, of trees that see nothing but these "
            f"measures, on lesions that they have not learnt from; 0.5 is chance.{said} A network "
            "can learn the same in place of the lesion. Purple: the file; blue: light and camera; "
            "orange: what lies on the skin.",
            made.figures,
            dots(
                rows, title, "area under the ROC curve, mean over classes", line=0.5, percent=False
            ),
            {"artefacts_by_class": made.values},
        )
    ]
    absent = [f"The same in all images, or unknown: {', '.join(made.constant)}."]
    if len(made.recalls):
        shown.append(_recalls(made))
    else:
        absent.append("Without predictions it is not known whether a model minds.")
    return Section(
        "shortcuts",
        "Shortcuts",
        tuple(shown),
        tuple(absent if made.constant else absent[1:]),
    )


def _recalls(made: Shortcuts) -> Exhibit:
    means = made.recalls[made.recalls["class"] == MEAN]
    rows = [
        (
            str(row["artefact"]).replace("_", " "),
            _estimate(row, "difference"),
            ACCENT if row["p_adjusted"] >= 0.05 or math.isnan(row["p_adjusted"]) else WARM,
        )
        for _, row in means.iterrows()
    ]
    title = "Recall where an artefact is high, less where it is low"
    return Exhibit(
        "recalls_by_artefact",
        title,
        "Mean over classes of the recall in the highest third of each class less that in the "
        "lowest. Orange: beyond chance after Holm's adjustment for the number of artefacts.",
        made.recalls,
        dots(rows, title, "difference of mean recall", line=0.0, percent=False, signed=True),
    )


def drift_section(made: Drift) -> Section:
    """What tells the sets apart: all columns together, then the columns that differ most."""
    pairs = [
        (f"{row['first']} – {row['second']}", _estimate(row, "auroc"), ACCENT)
        for _, row in made.together.iterrows()
    ]
    title = "Can the sets be told apart by what is known of their images?"
    shown = [
        Exhibit(
            "drift_together",
            title,
            "Area under the ROC curve of trees that see every column, on lesions that they have "
            "not learnt from. 0.5: not at all. Below it: more alike than chance, as stratified "
            "parts are.",
            made.together,
            dots(pairs, title, "area under the ROC curve", line=0.5, percent=False),
        )
    ]
    found = made.found
    if len(found):
        top = found.head(MOST_COLUMNS)
        values = [
            (
                _column(row, several=len(pairs) > 1),
                Estimate(row["divergence"], math.nan, math.nan, 0, 0),
                WARM,
            )
            for _, row in top.iterrows()
        ]
        title = f"Columns that differ beyond chance, {len(found)} of {len(made.columns)}"
        svg = dots(values, title, "Jensen-Shannon divergence (0: alike, 1: apart)", percent=False)
    else:
        title, svg = "No column differs beyond chance", ""
    shown.append(
        Exhibit(
            "drift",
            title,
            "Every column of every pair, tested by moving whole lesions between the sets; p values "
            "are adjusted for their number (Holm).",
            made.columns,
            svg,
        )
    )
    return Section("drift", "Drift", tuple(shown))


def _column(row: pd.Series, *, several: bool) -> str:
    name = str(row["column"]).replace("_", " ")
    return f"{name} ({row['first']}–{row['second']})" if several else name


def _estimate(row: pd.Series, name: str) -> Estimate:
    return Estimate(float(row[name]), float(row["low"]), float(row["high"]), 0, 0)


def dots(
    rows: Sequence[Row],
    title: str,
    axis: str,
    *,
    line: float | None = None,
    percent: bool = True,
    signed: bool = False,
) -> str:
    """Draw a dot with its 95 % interval per row, and the value at the right.

    Args:
        rows: from top to bottom.
        title: of the figure.
        axis: what the values are.
        line: where to draw a line of "nothing to see".
        percent: write values as per cent.
        signed: write values with their sign.
    """
    words = []
    ends = [
        x for _, each, _ in rows for x in (each.value, each.low, each.high) if not math.isnan(x)
    ]
    low, high = min([*ends, line or 0.0]), max([*ends, line or 0.0])
    if line is not None:
        low = min([*ends, line])
    wide = (high - low) or 1.0
    with chart(0.75 + 0.225 * len(rows), title, grid="x") as (figure, axes):
        if line is not None:
            axes.axvline(line, color=TEXT, linewidth=0.9, linestyle=(0, (1, 2)))
        for place, (label, each, colour) in enumerate(rows):
            if not each.defined:
                continue
            whisker(axes, each, place, colour, faint=True, markersize=5.5)
            said = (
                f"{100 * each.value:.1f} %"
                if percent
                else f"{each.value:{'+' if signed else ''}.3f}"
            )
            axes.text(high + 0.05 * wide, place, said, va="center", fontsize=8.5)
            words.append(f"{label} {said}")
        name_rows(axes, [label for label, *_ in rows], longest=None, margin=0.6)
        axes.set_xlim(low - 0.04 * wide, high + 0.28 * wide)
        ticks = MaxNLocator(5).tick_values(low, high)
        axes.set_xticks([tick for tick in ticks if low - 0.04 * wide <= tick <= high + 0.01 * wide])
        if percent:
            percent_axes(axes, "x")
        axes.set_xlabel(axis)
        return to_svg(figure, f"{title}. {'; '.join(words)}.")


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
    made: LabelErrors,
    data: Catalogue,
    out: str | Path,
    *,
    most: int = 60,
    listen: Listener = silent,
) -> Path:
    """Write a page with the pictures of the most doubtful labels, one per lesion.

    Args:
        made: from `label_errors`.
        data: the catalogue that the images are in.
        out: the page, an HTML file that loads nothing from elsewhere.
        most: pictures.
        listen: told of the progress.
    """
    images = made.images
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
        made=made,
        shown=shown,
        colours=colours(list(made.classes)),
        full_name=full_name,
        notice=NOTICE,
        version=__version__,
        fingerprint=data.fingerprint,
    )
    write_text(Path(out), text)
    return Path(out)
