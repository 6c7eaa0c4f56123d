"""The section on a run's maps: what `trust` measured, in words, tables and figures.

Reads the folder that `lesionlab explain --check` wrote; needs neither torch nor images.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lesionlab.advice import command
from lesionlab.display import percent
from lesionlab.errors import DataError
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.files import read_json
from lesionlab.reporting.figures.distributions import titled
from lesionlab.reporting.figures.forest import Row, dots
from lesionlab.reporting.figures.model import ACCENT, WARM, percent_axes
from lesionlab.reporting.figures.style import MUTED, TEXT, to_svg
from lesionlab.reporting.page.section import Exhibit, Section
from lesionlab.reporting.report.explanation_verdicts import (
    ALL,
    BALANCED,
    LIMIT,
    VIEWS,
    Figures,
    answers,
    find,
    with_span,
)
from lesionlab.tables import count

IMAGES, SUMMARY, CURVES = "trust.csv", "summary.csv", "curves.csv"
FORGETTING, FACTS = "randomised.csv", "trust.json"
_MAPS = {  # tail of a column: whose map, colour, marker
    "": ("the network's map", ACCENT, "o"),
    "_centre": ("a spot in the middle", WARM, "s"),
    "_untrained": ("random weights", MUTED, "D"),
}
_ORDERS = {
    "map": ("the map's order", ACCENT, "-"),
    "centre": ("from the middle", WARM, (0, (5, 2))),
    "random": ("random places", MUTED, (0, (1, 1.5))),
}
_BY_CLASS = {
    "area": "area",
    "inside": "inside",
    "enrichment": "enrichment",
    "pointing": "pointing",
    "overlap": "overlap",
    "right_whole": "right",
    "right_lesion": "right: lesion",
    "right_context": "right: surroundings",
}


def section(folder: str | Path) -> Section:
    """The section on the maps of one run.

    Args:
        folder: that `lesionlab explain --check` wrote.

    Raises:
        DataError: if it is none.
    """
    folder = Path(folder)
    if missing := [n for n in (SUMMARY, CURVES, FORGETTING, FACTS) if not (folder / n).is_file()]:
        raise DataError(
            f"{folder} holds no {missing[0]}. Make it first: "
            f"{command('explain --check', 'RUN', masks='FOLDER', out=folder)}"
        )
    summary, curves, forgetting = (
        pd.read_csv(folder / name, keep_default_na=False, na_values=[""])
        for name in (SUMMARY, CURVES, FORGETTING)
    )
    return made_of(summary, curves, forgetting, read_json(folder / FACTS))


def made_of(
    summary: pd.DataFrame,
    curves: pd.DataFrame,
    forgetting: pd.DataFrame,
    facts: Mapping[str, Any],
) -> Section:
    """The section, of tables that are at hand; arguments are what `trust` gives."""
    return Section(
        "explanations",
        "May the maps be believed?",
        (
            _said(summary, facts),
            _inside(summary, facts),
            _curves(curves, facts),
            _forgetting(forgetting, facts),
            _views(summary, facts),
            _by_class(summary, facts),
        ),
        tuple(facts.get("warnings", ())),
    )


def drawn(facts: Mapping[str, Any]) -> str:
    """In words, which images were looked at."""
    size = f"{count(facts['images'], 'image')} of {count(facts['lesions'], 'lesion')}"
    if facts["images"] == facts["of"]:
        return f"all {size} of part {facts['part']}"
    return (
        f"{size} drawn from {facts['of']:,} of part {facts['part']}, right and wrong answers of "
        "every class, each weighted with what it stands for"
    )


def replaced(facts: Mapping[str, Any]) -> str:
    """In words, what stands where pixels were taken away."""
    if facts["substitute"] == "mean":
        return "the picture's mean colour"
    return (
        f"a blur of the picture (standard deviation {100 * facts['blur']:.0f} % of its shorter "
        "side)"
    )


def _said(summary: pd.DataFrame, facts: Mapping[str, Any]) -> Exhibit:
    rows = [(each.question, each.verdict, each.text) for each in answers(summary, facts)]
    return Exhibit(
        "explanations_answers",
        "What the figures say",
        f"Grad-CAM of {facts['network']} for the class that it answers, {drawn(facts)}. Yes and no "
        "stand where the 95 % interval over lesions leaves no other; else it is not clear.",
        pd.DataFrame(rows, columns=["question", "answer", "figures"]),
    )


def _inside(summary: pd.DataFrame, facts: Mapping[str, Any]) -> Exhibit:
    of = Figures(summary)
    rows: list[Row] = []
    for group, name in ((ALL, "all"), ("right", "right"), ("wrong", "wrong")):
        size = of("inside", group)
        head = f"{name} answers" if name != "all" else "all answers"
        rows.append((f"{head} (n = {size.n:,})", None, TEXT, ""))
        rows.append(("lesion's share of picture", of("area", group), TEXT, "|"))
        rows += [
            (label, of(f"inside{tail}", group), colour, marker)
            for tail, (label, colour, marker) in _MAPS.items()
        ]
    places = " × ".join(map(str, facts["places"]))
    return Exhibit(
        "explanations_inside",
        "Share of the map inside the lesion",
        "How much of the map lies in the lesion (energy-based pointing), beside what chance, a "
        "Gaussian in the middle of the picture and networks with random weights get. Lines are "
        f"95 % intervals over lesions. A map has {places} places, blurred into one another, so "
        "some of it lies beside a small lesion in any case.",
        summary[summary["measure"].str.match(r"(?:area|inside|enrichment|pointing|overlap)")],
        dots(rows, "Share of the map inside the lesion", "share of the map, or of the picture"),
    )


def _curves(curves: pd.DataFrame, facts: Mapping[str, Any]) -> Exhibit:
    whole = curves[curves["group"] == ALL]
    words = []
    least = float(np.nanmin(whole[["low", "probability"]].to_numpy(float), initial=1.0))
    floor = min(0.9, max(0.0, float(np.floor(10 * least)) / 10))
    with titled(4.9, "Taking pixels away, and giving them back") as figure:
        panels = figure.subplots(2, 1, sharex=True, sharey=True)
        for axes, kind in zip(panels, ("deletion", "insertion"), strict=True):
            for way, (label, colour, style) in _ORDERS.items():
                own = whole[(whole["curve"] == kind) & (whole["order"] == way)]
                x = own["share"].to_numpy(float)
                y, low, high = (own[n].to_numpy(float) for n in ("probability", "low", "high"))
                axes.plot(x, y, color=colour, linestyle=style, label=label)
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
                half = own.iloc[len(own) // 2] if len(own) else None
                if half is not None:
                    at, value = percent(half["share"]), percent(half["probability"])
                    words.append(f"{kind}, {label}: {value} at {at}")
            axes.set_title(
                "Deletion: falls early where the map is right"
                if kind == "deletion"
                else "Insertion: rises early where the map is right"
            )
            axes.set_ylim(floor, 1.0)
            axes.set_xlim(0, 1)
            percent_axes(axes, "xy")
            axes.set_ylabel("mean probability")
        panels[0].tick_params(labelbottom=False)
        panels[1].set_xlabel("share of the pixels taken away or given back")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=1.8,
                      columnspacing=1.0)  # fmt: skip
        svg = to_svg(figure, f"Deletion and insertion curves. {'; '.join(words)}.")
    return Exhibit(
        "explanations_curves",
        "Deletion and insertion curves",
        f"Mean probability of the class answered. Pixels are replaced by {replaced(facts)}. A "
        "random order takes patches as coarse as the map's places. Only what lies beyond the other "
        "curves is the map's merit.",
        curves,
        svg,
    )


def _forgetting(forgetting: pd.DataFrame, facts: Mapping[str, Any]) -> Exhibit:
    rows: list[Row] = []
    for kind, title, colour, marker in (
        ("rank", "rank correlation", ACCENT, "o"),
        ("ssim", "structural similarity", WARM, "s"),
    ):
        rows.append((title, None, TEXT, ""))
        for _, row in forgetting.iterrows():
            name = str(row["random_from"])
            label = {
                "everything": f"everything ({facts['draws']} draws)",
                "another picture": "another picture's map",
            }.get(name, f"{name} and above" if name != "head" else "head")
            ends = (float(row[kind]), float(row[f"{kind}_low"]), float(row[f"{kind}_high"]))
            shade = MUTED if name == "another picture" else colour
            rows.append((label, Estimate(*ends, 0, 0), shade, marker))
    title = "How alike the maps stay while weights become random"
    return Exhibit(
        "explanations_randomised",
        title,
        "Weights are replaced by random ones from the head downwards (Adebayo et al., NeurIPS "
        "2018); the map is compared with the trained network's, for the same class. 1: the same "
        f"map. From a rank correlation of {LIMIT} on with everything random, the check fails. "
        "Another picture's map: how alike two maps are that have nothing to do with each other.",
        forgetting,
        dots(rows, title, "similarity to the trained network's map", line=LIMIT, shares=False),
    )


def _views(summary: pd.DataFrame, facts: Mapping[str, Any]) -> Exhibit:
    of = Figures(summary)
    rows: list[Row] = []
    for group, head in ((BALANCED, "mean recall over the classes"), (ALL, "accuracy")):
        rows.append((head, None, TEXT, ""))
        rows += [
            (label, of(key, group), ACCENT if group == BALANCED else WARM, "o" if group
             == BALANCED else "s")
            for key, label in VIEWS.items()
        ]  # fmt: skip
    title = "Right answers from a part of the picture"
    left = ", in which the lesion's colours still show" if facts["substitute"] == "blur" else ""
    kept = summary["measure"].str.match(r"(?:right_|same_|p_)")
    return Exhibit(
        "explanations_parts",
        title,
        "The same pictures with everything outside the lesion, or the lesion itself, filled with "
        "the colours of what is left, so that nothing but the outline tells what was there. All "
        f"replaced: {replaced(facts)}{left}. Such pictures are unlike any photograph, so a low "
        "figure may also mean that the network does not know what to make of them. Dotted: mean "
        "recall of guessing.",
        summary[kept],
        dots(rows, title, "share answered right", line=1 / max(1, len(facts["classes"]))),
    )


def _by_class(summary: pd.DataFrame, facts: Mapping[str, Any]) -> Exhibit:
    of = Figures(summary)
    rows = [
        (label, of("inside", label).n, *(_cell(of(name, label), name) for name in _BY_CLASS))
        for label in facts["classes"]
        if find(summary, "inside", label)
    ]
    return Exhibit(
        "explanations_classes",
        "Class by class",
        "Area: the lesion's share of the picture. Inside: the map's share in the lesion. "
        "Enrichment: inside by area. Pointing: how often the maximum lies in the lesion or within "
        f"{100 * facts['tolerance']:.0f} % of the longer side. Overlap: intersection over union "
        "with as many of the map's highest pixels. Right: how often from the whole picture, the "
        "lesion alone, its surroundings alone.",
        pd.DataFrame(rows, columns=["class", "images", *_BY_CLASS.values()]),
    )


def _cell(each: Estimate, name: str) -> str:
    if not each.defined:
        return "–"
    if name in ("enrichment", "overlap"):
        return f"{each.value:.2f} ({each.low:.2f}–{each.high:.2f})"
    return with_span(each)
