"""The figures of a report as plain values: cards and tables. The template only sets them."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import pandas as pd

from lesionlab.display import decimal, interval, percent
from lesionlab.evaluation.evaluation_result import METRICS, Evaluation
from lesionlab.evaluation.intervals.bootstrap import lesion_codes
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.evaluation.metrics.operating_points import fixes_specificity
from lesionlab.tables import PARTS, Part, classes_of, count
from lesionlab.taxonomy import colours, full_name


@dataclass(frozen=True)
class Figure:
    """A headline figure: its value, its interval, and how to read it.

    Attributes:
        title: what it is.
        value: as text.
        interval: as text, "" where there is none.
        reading: one sentence in plain words.
        rows: further figures of the same card: label, then value and interval, once or twice.
    """

    title: str
    value: str
    interval: str
    reading: str
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class ClassRow:
    """One class in a table: its code, full name, colour, and cells of text and smaller text."""

    code: str
    name: str
    colour: str
    cells: tuple[tuple[str, str], ...]


def span(each: Estimate, share: bool = True) -> str:
    """The 95 % interval as "57.1–65.0 %" or "0.911–0.934"; "" where there is none."""
    return interval(each.low, each.high, share)


def cards(result: Evaluation) -> list[Figure]:
    """The headline figures of an evaluation, in the order in which they should be read."""
    present = [label for label in result.classes if result.support["images"][label]]
    balanced, macro = result["balanced_accuracy"], result["macro_auroc"]
    accuracy, majority = result["accuracy"], result["majority_accuracy"]
    most = str(result.support["images"].idxmax())
    made = [
        Figure(
            "Balanced accuracy",
            percent(balanced.value),
            span(balanced),
            f"The share recognised of each class, averaged over {len(present)} classes: a rare "
            "class counts as much as a common one. Guessing gives about "
            f"{100 / len(result.classes):.0f} %.",
        ),
        Figure(
            "Macro AUROC",
            decimal(macro.value),
            span(macro, share=False),
            "How often an image of a class scores higher for that class than an image of another "
            "one, averaged over the classes: 0.5 is chance, 1 is perfect.",
        ),
    ]
    points = tuple(_operating_rows(result))
    if points:
        name = full_name(result.positive)
        wanted = f"sensitivity_at_90_specificity/{result.positive}"
        first = result[wanted]
        flagged = (
            f"Of 100 images of {_lower(name)}, about {100 * first.value:.0f} are flagged if the "
            "threshold is set so that 90 of 100 images of other lesions are left alone. "
            if first.defined
            else ""
        )
        made.append(
            Figure(
                f"{name}: sensitivity at fixed specificity",
                percent(first.value),
                span(first),
                f"{flagged}The threshold comes from the validation part, so the specificity really "
                f"achieved on {result.part} differs a little.",
                points,
            )
        )
    better = accuracy.value - majority.value
    beside = (
        f"the model is {abs(100 * better):.1f} points {'above' if better > 0 else 'below'} it"
        if abs(better) >= 5e-4
        else "the model is no better"
    )
    made.append(
        Figure(
            "Accuracy",
            percent(accuracy.value),
            span(accuracy),
            f"The share of all images that are right. The second figure is what the commonest "
            f"class alone would score; {beside}.",
            ((f"for always answering “{most}”", percent(majority.value), span(majority)),),
        )
    )
    return made


def _operating_rows(result: Evaluation) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name in filter(fixes_specificity, result.thresholds):
        sensitivity, specificity = result[f"sensitivity_{name}"], result[f"specificity_{name}"]
        wanted = name.removeprefix("at_").partition("_")[0]
        rows.append(
            (
                f"at {wanted}\u00a0%",
                percent(sensitivity.value),
                span(sensitivity),
                percent(specificity.value),
                span(specificity),
            )
        )
    return rows


def class_table(result: Evaluation) -> list[ClassRow]:
    """Support, recall, precision, F1 and AUROC of every class, each with its interval."""
    palette = colours(result.classes)
    rows = []
    for label in result.classes:
        cells = [
            (f"{result.support['images'][label]:,}", ""),
            (f"{result.support['lesions'][label]:,}", ""),
        ]
        for metric in ("recall", "precision", "f1", "auroc"):
            each = result[f"{metric}/{label}"]
            share = metric in ("recall", "precision")
            cells.append((percent(each.value) if share else decimal(each.value), span(each, share)))
        rows.append(ClassRow(label, full_name(label), palette[label], tuple(cells)))
    return rows


def confusion_rows(result: Evaluation) -> list[ClassRow]:
    """The counts of the confusion matrix, one row per true class."""
    palette = colours(result.classes)
    return [
        ClassRow(
            label,
            full_name(label),
            palette[label],
            tuple((f"{number:,}", "") for number in result.confusion.loc[label]),
        )
        for label in result.classes
    ]


def parts_of(predictions: pd.DataFrame) -> tuple[Part, ...]:
    """The parts that a predictions table has, in the order train, val, test."""
    present = set(predictions["part"])
    return tuple(part for part in PARTS if part in present)


def lesions(rows: pd.DataFrame) -> int:
    """Lesions of some rows; an image without a lesion id counts as one."""
    return lesion_codes(rows["lesion_id"])[1]


def part_table(predictions: pd.DataFrame) -> list[ClassRow]:
    """Images (and lesions) per class and part, the sum in the last row."""
    classes = classes_of(predictions)
    palette = colours(classes)
    parts = parts_of(predictions)
    rows = []
    for label in (*classes, ""):
        of_class = predictions[predictions["target"] == label] if label else predictions
        cells = []
        for part in (*parts, ""):
            found = of_class[of_class["part"] == part] if part else of_class
            known = (found["lesion_id"] != "").any()
            cells.append((f"{len(found):,}", count(lesions(found), "lesion") if known else ""))
        name = full_name(label) if label else ""
        rows.append(ClassRow(label or "all", name, palette.get(label, ""), tuple(cells)))
    return rows


def class_counts(predictions: pd.DataFrame) -> pd.DataFrame:
    """Images, index class, one column per part that is there."""
    table = pd.crosstab(predictions["target"], predictions["part"])
    return table.reindex(
        index=list(classes_of(predictions)), columns=list(parts_of(predictions)), fill_value=0
    )


def glossary(result: Evaluation) -> list[tuple[str, str]]:
    """Every metric that the report shows, in one line."""
    shown = {name.partition("/")[0] for name in result}
    return [(name.replace("_", " "), text) for name, text in METRICS.items() if name in shown]


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]


def csv_link(table: pd.DataFrame) -> str:
    """A table as a `data:` address that a browser saves as CSV."""
    text = table.to_csv(index=False, lineterminator="\n")
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(text.encode()).decode()
