"""The facts of a card about results: how well the model does, where it fails, what to beware of."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from lesionlab.disclaimer import NOTICE
from lesionlab.display import decimal, percent
from lesionlab.evaluation.class_quality import class_quality
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.evaluation_result import Evaluation
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.evaluation.metrics.operating_points import fixes_specificity
from lesionlab.evaluation.triage.referral_cost import MeasuredReferral
from lesionlab.reporting import formatting
from lesionlab.reporting.card import data_facts
from lesionlab.reporting.card.outline import CardTable, Subject, Told
from lesionlab.reporting.formatting import span
from lesionlab.reporting.page import thumbnails, wording
from lesionlab.tables import count
from lesionlab.taxonomy import full_name, name_in_text

HEADLINE = (
    "balanced_accuracy",
    "macro_auroc",
    "accuracy",
    "majority_accuracy",
    "macro_f1",
    "macro_average_precision",
    "cohen_kappa",
    "matthews",
    "top_2_accuracy",
    "brier",
    "log_loss",
)
"""The figures over all classes that a card gives."""
_SHARES = ("balanced_accuracy", "accuracy", "majority_accuracy", "top_2_accuracy", "recall",
           "precision", "specificity", "sensitivity")  # fmt: skip
_NAMES = {
    "macro_auroc": "macro AUROC",
    "macro_f1": "macro F1",
    "majority_accuracy": "accuracy of always answering the commonest class",
    "cohen_kappa": "Cohen's kappa",
    "matthews": "Matthews correlation",
    "top_2_accuracy": "top-2 accuracy",
    "brier": "Brier score",
    "brier_reliability": "Brier score, reliability",
    "brier_resolution": "Brier score, resolution",
    "brier_uncertainty": "Brier score, uncertainty",
    "brier_within": "Brier score, within bins",
}
_SETS = "referring all but sets of one class"
_KINDS = {"malignant": "malignant", "melanoma": "melanomas", "benign": "benign"}
_CONFUSIONS = 5
_MISTAKES = 2  # of each class


def of_results(subject: Subject) -> dict[str, Told]:
    """Facts about results, by key."""
    return {key: Told(text) for key, text in _facts(subject) if text}


def of_card(subject: Subject) -> dict[str, Told]:
    """The summary, the limits of use, and what belongs to no model in particular."""
    result = subject.result
    what = subject.run.recipe.model.name if subject.run else "A model that is not known"
    unseen = ""
    if subject.run is not None and result.part == "test" and data_facts.overlap(subject)[0]:
        unseen = ", no lesion of which it was trained on"
    scored = f"On {_size(subject)} (part {result.part}){unseen}"
    if subject.folds is not None and unseen:
        scored = (
            f"Out of fold ({len(subject.folds.runs)} networks of this recipe, each on lesions that "
            f"it was not trained on), {_size(subject)}"
        )
    made = {
        "card.summary": Told(
            f"{what} sorts images of skin lesions into {len(result.classes)} classes. {scored}: "
            f"{_headline(result)}."
        ),
        "use.limits": Told(NOTICE),
        "legal.notice": Told(NOTICE),
    }
    if subject.run is not None:
        version = subject.info.get("environment", {}).get("lesionlab", "")
        made["legal.code"] = Told(f"lesionlab {version}, Apache-2.0".replace("  ", " "))
    return made


def caveats(subject: Subject) -> list[str]:
    """What a reader has to bear in mind, gravest first, each once."""
    result, run = subject.result, subject.run
    data = subject.data
    made = wording.cautions(result, run)
    made += wording.remarks(result, run, data.notes if data else ())
    if data is not None:
        made.append(
            "The catalogue says nothing of skin tone or ethnicity: how the model does on dark or "
            "light skin cannot be told from these data."
        )
        if data.table["source"].nunique() < 2:
            made.append(
                "All images carry one source name or none: whether the figures hold for another "
                "clinic or camera is not known."
            )
    made.append(
        "Classes are as common here as in the collection, not as in a clinic: precision would be "
        "another one there."
    )
    if run is None:
        made.append("Only predictions were given: nothing is known of the model and its training.")
    elif run.info.get("kept_epoch"):
        made.append(
            "The kept weights were chosen on the validation part, so figures of that part flatter."
        )
    return list(dict.fromkeys(made))


def tables(subject: Subject) -> Iterator[CardTable]:
    """Figures, class by class, operating points, calibration, confusion, mistakes."""
    result = subject.result
    around = _around(result)
    chosen = [name for name in HEADLINE if name in result]
    if answers := _answers(subject):
        yield answers
    if subject.referral is not None:
        yield _referral(subject.referral)
    yield _figures(
        "figures", "Headline figures", around.removeprefix("In brackets "), result, chosen
    )
    rows = formatting.class_table(result)
    shown = pd.DataFrame(
        [(full_name(row.code), *(" ".join(filter(None, (a, b and f"({b})"))) for a, b in row.cells))
         for row in rows],
        columns=["class", "images", "lesions", "recall", "precision", "F1", "AUROC"],
    )  # fmt: skip
    full = result.table()
    yield CardTable("by_class", "Class by class", around, full[full["class"] != ""], shown)
    points = _thresholds(subject)
    if len(points):
        shown = points.assign(
            threshold=points["threshold"].map("{:.4f}".format),
            sensitivity=[str(result[f"sensitivity_{name}"]) for name in result.thresholds],
            specificity=[str(result[f"specificity_{name}"]) for name in result.thresholds],
        )
        yield CardTable(
            "thresholds",
            f"Operating points for {full_name(result.positive)}",
            f"Thresholds were chosen on part val and applied to part {result.part}. {around}",
            points,
            shown,
        )
    yield _calibration(subject)
    if subject.subgroups is not None:
        shown = subject.subgroups.map(_cell)
        yield CardTable("subgroups", "Group by group", "", subject.subgroups, shown)
    confusion = result.confusion.reset_index()
    shown = confusion.assign(truth=[f"{full_name(label)} ({label})" for label in result.classes])
    shown = shown.astype(str).rename(columns={"truth": "truth ↓ called →"})
    yield CardTable(
        "confusion", "Confusion matrix", "Images; each row is a true class.", confusion, shown
    )
    mistakes = _mistakes(subject)
    shown = mistakes.assign(
        truth=mistakes["truth"].map(full_name),
        predicted=mistakes["predicted"].map(full_name),
        probability=mistakes["probability"].map(percent),
    )
    yield CardTable(
        "mistakes",
        "The surest mistakes",
        "Of each true class, the wrong answers of which the model was surest; one per lesion.",
        mistakes,
        shown,
    )


def _answers(subject: Subject) -> CardTable | None:
    """What an answer of each class is worth, in a sentence each."""
    quality = class_quality(subject.result.to_json()).values()
    rows = [
        (each.label, each.recall["value"], each.precision["value"], each.share) for each in quality
    ]
    if not rows:
        return None
    return CardTable(
        "answers",
        "If the model answers with this class",
        "Images, as common here as in the collection: where a class is rarer, fewer of those that "
        "are called so are.",
        pd.DataFrame(rows, columns=["class", "recall", "precision", "share"]),
        pd.DataFrame(
            [(full_name(each.label), each.text) for each in quality],
            columns=["class", "what it is worth"],
        ),
    )


def _referral(measured: MeasuredReferral) -> CardTable:
    data = measured.table()
    shown = pd.DataFrame(
        [
            (
                {"risk limits": "the rule", "one class in the set": _SETS}[row["rule"]],
                f"{row['n']:,} {_KINDS[row['lesions']]}",
                f"{percent(row['share'])} {row['outcome']}",
                f"{percent(row['low'])} to {percent(row['high'])}",
            )
            for _, row in data.iterrows()
        ],
        columns=["rule", "lesions", "share", "95 % interval"],
    )
    return CardTable(
        "referral",
        "Who is referred, and what is missed",
        "A lesion counts once, with the share of its images. For comparison below the rule: one "
        "that refers whatever has not exactly one class in its conformal set, at the level "
        "where it refers about as many benign lesions.",
        data,
        shown,
    )


def _facts(subject: Subject) -> Iterator[tuple[str, str]]:
    result = subject.result
    if subject.referral is not None:
        yield "answer.promise", subject.referral.rule.promise
        yield "answer.referral", subject.referral.text
    if subject.worth is not None:
        yield "answer.metadata", subject.worth.text
    yield "results.headline", f"{_headline(result)}; part {result.part}, {_size(subject)}"
    yield (
        "results.measures",
        ", ".join(_plain(name) for name in HEADLINE if name in result)
        + "; of each class recall, precision, F1 and AUROC"
        + ("; sensitivity and specificity at fixed points" if result.thresholds else "")
        + "; calibration errors",
    )
    if subject.replicates:
        yield (
            "results.intervals",
            f"95 % intervals from {subject.replicates:,} bootstrap samples of whole lesions, seed "
            f"{result.seed}",
        )
    recalls = {label: result[f"recall/{label}"] for label in result.classes}
    defined = {label: each for label, each in recalls.items() if each.defined}
    if defined:
        worst = min(defined, key=lambda label: defined[label].value)
        best = max(defined, key=lambda label: defined[label].value)
        yield (
            "results.classes",
            f"recall from {defined[worst]} ({name_in_text(worst)}) to {defined[best]} "
            f"({name_in_text(best)}); table below",
        )
    points = [name for name in result.thresholds if fixes_specificity(name)]
    if points:
        told = ", ".join(
            f"{result[f'sensitivity_{name}']} where specificity on val is "
            f"{name.removeprefix('at_').partition('_')[0]} %"
            for name in points
        )
        yield (
            "results.thresholds",
            f"for {name_in_text(result.positive)}, thresholds chosen on val: sensitivity {told}",
        )
    yield (
        "results.calibration",
        "calibration error of the likeliest class "
        f"{subject.calibration.describe('calibration_error')}; Brier score "
        f"{subject.calibration['brier']}; log loss {subject.calibration['log_loss']}",
    )
    if subject.subgroups is not None:
        yield "results.subgroups", f"{count(len(subject.subgroups), 'row')} in the table below"
    yield "results.gap", _gap(subject)
    most = str(result.support["images"].idxmax())
    yield (
        "results.baseline",
        f"always answering {name_in_text(most)} has accuracy {result['majority_accuracy']}; the "
        f"model {result['accuracy']}",
    )
    yield "results.failures", _confused(result)
    yield "results.warnings", " ".join(wording.cautions(result, subject.run))


def _gap(subject: Subject) -> str:
    """Balanced accuracy of every part, without intervals; "" if there is no training part."""
    parts = formatting.parts_of(subject.predictions)
    if "train" not in parts or len(parts) < 2:
        return ""
    told = []
    for part in parts:
        found = subject.result
        if part != found.part:
            found = evaluate(subject.predictions, part=part, replicates=0)
        told.append(f"{part} {decimal(found['balanced_accuracy'].value)}")
    return f"balanced accuracy: {', '.join(told)}"


def _confused(result: Evaluation) -> str:
    """The commonest confusions in words."""
    table = result.confusion
    found = [
        (int(table.loc[truth, called]), truth, called)
        for truth in table.index
        for called in table.columns
        if truth != called and table.loc[truth, called]
    ]
    if not found:
        return f"nothing on part {result.part}: every answer is right"
    found.sort(key=lambda each: (-each[0], each[1], each[2]))
    told = ", ".join(
        f"{name_in_text(truth)} called {name_in_text(called)} {number:,} of "
        f"{int(table.loc[truth].sum()):,}"
        for number, truth, called in found[:_CONFUSIONS]
    )
    return f"most often {told} images; tables below"


def _mistakes(subject: Subject) -> pd.DataFrame:
    chosen = thumbnails.choose(subject.predictions, subject.result.part, right=0, wrong=_MISTAKES)
    rows = [
        (each.image_id, each.truth, each.predicted, each.probability)
        for group in chosen.values()
        for each in group
    ]
    return pd.DataFrame(rows, columns=["image", "truth", "predicted", "probability"])


def _thresholds(subject: Subject) -> pd.DataFrame:
    result = subject.result
    rows = [
        (
            _plain(name.removeprefix("at_").partition("/")[0]).replace(" ", " % ", 1),
            threshold,
            result[f"sensitivity_{name}"].value,
            result[f"specificity_{name}"].value,
        )
        for name, threshold in result.thresholds.items()
    ]
    return pd.DataFrame(rows, columns=["point", "threshold", "sensitivity", "specificity"])


def _calibration(subject: Subject) -> CardTable:
    found = subject.calibration
    names = [name for name in found if "/" not in name]
    shown = pd.DataFrame(
        [(_plain(name), found.describe(name)) for name in names], columns=["figure", "value"]
    )
    return CardTable(
        "calibration",
        "What a probability is worth",
        "0 is perfect for errors, Brier score and log loss.",
        found.table(),
        shown,
    )


def _figures(
    name: str, title: str, reading: str, result: Evaluation, chosen: list[str]
) -> CardTable:
    full = result.table()
    data = full[full["metric"].isin(chosen) & (full["class"] == "")]
    shown = pd.DataFrame(
        [(_plain(each), *_written(each, result[each])) for each in chosen],
        columns=["figure", "value", "95 % interval"],
    )
    return CardTable(name, title, reading, data, shown)


def _written(name: str, each: Estimate) -> tuple[str, str]:
    share = name.startswith(_SHARES)
    return (percent if share else decimal)(each.value), span(each, share)


def _around(result: Evaluation) -> str:
    if not result.replicates:
        return "No intervals were computed."
    return "In brackets 95 % intervals over lesions."


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def _headline(result: Evaluation) -> str:
    return ", ".join(f"{_plain(name)} {result[name]}" for name in HEADLINE[:3] if name in result)


def _size(subject: Subject) -> str:
    """How much was scored."""
    rows = subject.predictions[subject.predictions["part"] == subject.result.part]
    images = count(len(rows), "image")
    if (rows["lesion_id"] == "").all():
        return f"{images} of unknown lesions"
    return f"{images} of {count(formatting.lesions(rows), 'lesion')}"


def _plain(name: str) -> str:
    return _NAMES.get(name, name.replace("_", " ").replace("ece", "plain ECE"))
