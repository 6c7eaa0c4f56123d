"""Sections on probabilities: whether they mean what they say, and sets that keep a promise."""

from __future__ import annotations

import pandas as pd

from lesionlab.display import percent
from lesionlab.errors import DataError
from lesionlab.evaluation.calibration.calibrate import calibrate
from lesionlab.evaluation.calibration.reliability_diagram import TOP, reliability_curve
from lesionlab.evaluation.calibration.report import calibration_errors
from lesionlab.evaluation.conformal.prediction_sets import ALPHA, Conformal, conformal
from lesionlab.reporting.figures import reliability as diagrams
from lesionlab.reporting.page import findings
from lesionlab.reporting.page.section import Exhibit, Section
from lesionlab.tables import Part, classes_of
from lesionlab.taxonomy import colours

_FIGURES = (
    ("calibration_error", "of the likeliest class"),
    ("calibration_error_classwise", "of all classes"),
    ("overconfidence", "mean confidence minus accuracy"),
    ("ece_equal_width", "ECE as in papers, equal width"),
    ("ece_equal_mass", "ECE as in papers, equal mass"),
    ("brier", "Brier score, 0-2"),
    ("log_loss", "log loss"),
)


def probabilities(
    predictions: pd.DataFrame, part: Part, positive: str, replicates: int, seed: int = 0
) -> Section:
    """Whether probabilities mean what they say, before and after temperature scaling.

    Args:
        predictions: a checked table.
        part: which rows to judge.
        positive: the class that gets a curve of its own beside that of the likeliest class.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    curve = reliability_curve(predictions, part=part, bins=10, replicates=replicates, seed=seed)
    size = int(curve.loc[curve["curve"] == TOP, "images"].sum())
    shown = []
    for name in dict.fromkeys((TOP, positive)):
        rows = curve[curve["curve"] == name].drop(columns="curve")
        if rows.empty or not _present(predictions, part, name):
            continue
        what = "the likeliest class" if name == TOP else name
        title = f"Reliability of {what}, n = {size:,} images"
        seen = "right" if name == TOP else f"{name} by diagnosis"
        shown.append(
            Exhibit(
                "reliability" if name == TOP else "reliability_positive",
                title,
                findings.of_reliability(rows)
                + f"Images in ten groups by the probability that the model gave to {what}. Across: "
                f"what it said; up: how many of them were {seen}, with 95 % intervals. Dots below "
                "the line: the model is surer than it should be.",
                rows,
                diagrams.reliability(rows, title, f"{seen}, share"),
            )
        )
    table, absent = _before_and_after(predictions, part, replicates, seed)
    shown.append(
        Exhibit(
            "calibration",
            "Calibration errors",
            "Errors are free of the bias that the usual ECE has, and are 0 for a calibrated model; "
            "p says how often one would show an error as large. The usual ECE stands beside "
            "what a calibrated model would get on these images. Temperature scaling is fitted on "
            "the validation part.",
            table,
            shown=_side_by_side(table),
        )
    )
    heading = "Do the probabilities mean what they say?"
    return Section("calibration", heading, tuple(shown), absent, "Probabilities")


def _present(predictions: pd.DataFrame, part: Part, label: str) -> bool:
    return label == TOP or bool(
        ((predictions["part"] == part) & (predictions["target"] == label)).any()
    )


def _before_and_after(
    predictions: pd.DataFrame, part: Part, replicates: int, seed: int
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    tables = {"as it is": predictions}
    absent: tuple[str, ...] = ()
    if part == "val":
        absent = ("Temperature scaling is left out: it is fitted on val, which is judged here.",)
    else:
        try:
            tables["after temperature scaling"] = calibrate(predictions).predictions
        except DataError:
            absent = ("Temperature scaling is left out: it is fitted on val, and there is none.",)
    rows = []
    for name, table in tables.items():
        found = calibration_errors(table, part=part, replicates=replicates, seed=seed)
        for figure, words in _FIGURES:
            if figure in found:
                each = found[figure]
                p, by_chance = found.p_values.get(figure), found.expected.get(figure)
                rows.append((name, words, each.value, each.low, each.high, p, by_chance))
    columns = ["probabilities", "figure", "value", "low", "high", "p", "if_calibrated"]
    made = pd.DataFrame(rows, columns=columns)
    return made.astype({"p": float, "if_calibrated": float}), absent


def _side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """One row per figure, one value with its interval and p for each kind of probabilities."""
    made = pd.DataFrame({"figure": table["figure"].unique()})
    for name, rows in table.groupby("probabilities", sort=False):
        own = rows.set_index("figure").loc[made["figure"]]
        made[f"{name}"] = own["value"].to_numpy()
        made[f"{name}_low"], made[f"{name}_high"] = own["low"].to_numpy(), own["high"].to_numpy()
        made[f"beside, {name}"] = [
            f"p = {p:.3f}" if p == p else f"calibrated: {chance:.3f}" if chance == chance else ""
            for p, chance in zip(own["p"], own["if_calibrated"], strict=True)
        ]
    return made


def sets(
    predictions: pd.DataFrame, part: Part, replicates: int, seed: int = 0, alpha: float = ALPHA
) -> Section:
    """Conformal sets of classes: coverage and size, overall and class by class.

    Args:
        predictions: a checked table.
        part: which rows to make sets for.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        alpha: how often a set may miss.
    """
    name, title = "sets", "Answers of several classes that keep a promise"
    if part == "val" or not (predictions["part"] == "val").any():
        why = "Conformal sets are left out: they are fitted on the validation part" + (
            ", which is judged here." if part == "val" else ", and there is none."
        )
        return Section(name, title, (), (why,), "Sets")
    plain = conformal(predictions, alpha=alpha, part=part, replicates=replicates, seed=seed)
    within = conformal(
        predictions, alpha=alpha, by_class=True, part=part, replicates=replicates, seed=seed
    )
    promised = f"{100 * (1 - alpha):g} %"
    classes = [c for c in classes_of(predictions) if plain[f"coverage/{c}"].n]
    shade = colours(list(classes_of(predictions)))
    caption = f"Coverage of {promised} sets, by class"
    exhibits = (
        Exhibit(
            "coverage",
            caption,
            f"One set per image is to hold the true class for {promised} of the lesions. Over all "
            f"lesions it does for {percent(plain['coverage'].value)}, with "
            f"{plain['size'].value:.2f} classes per set; {percent(plain['single'].value)} of the "
            "sets name one class. Dots: sets whose promise is an average, which common classes "
            "may keep for rare ones. Diamonds: promised within each class, at the price of "
            f"{within['size'].value:.2f} classes per set.",
            _both(plain, within),
            diagrams.dots(
                {
                    "on average": [plain[f"coverage/{c}"] for c in classes],
                    "within each class": [within[f"coverage/{c}"] for c in classes],
                },
                classes,
                caption,
                "share of lesions whose set holds the truth",
                line=1 - alpha,
                shade=shade,
            ),
        ),
    )
    return Section(name, title, exhibits, tuple(dict.fromkeys(within.warnings)), "Sets")


def _both(plain: Conformal, within: Conformal) -> pd.DataFrame:
    tables = []
    for promise, made in (("on average", plain), ("within each class", within)):
        table = made.table().drop(columns=["quantile"])
        table.insert(0, "promise", promise)
        tables.append(table.assign(**{"class": table["class"].replace("", "all")}))
    made_of = pd.concat(tables, ignore_index=True)
    return made_of[["class", *(name for name in made_of if name != "class")]]
