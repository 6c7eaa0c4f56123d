"""`report`: one self-contained HTML file about one run, or several, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from lesionlab._version import __version__
from lesionlab.advice import command
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.disclaimer import NOTICE
from lesionlab.display import percent
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.comparison.leaderboard import leaderboard
from lesionlab.evaluation.ensembles.result import FILE_NAME as BLEND
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.evaluation_result import Evaluation
from lesionlab.evaluation.predictions.load import open_predictions
from lesionlab.evaluation.roc_curve import roc
from lesionlab.files import write_text
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.reporting import formatting
from lesionlab.reporting.figures import model
from lesionlab.reporting.page import findings, thumbnails, wording
from lesionlab.reporting.page.render import shown_sections
from lesionlab.reporting.page.run_inputs import Missing, check_finished, own_catalogue
from lesionlab.reporting.page.section import Exhibit, Section
from lesionlab.reporting.page.template import template
from lesionlab.reporting.report import explanation_trust
from lesionlab.reporting.report.all_sections import in_depth
from lesionlab.reporting.report.comparison import differences
from lesionlab.reporting.report.misclassifications import failing
from lesionlab.run import HISTORY, Folds, Run, open_run
from lesionlab.tables import Part, classes_of, read_predictions
from lesionlab.taxonomy import colours, full_name

_MOST_PICTURES = 150  # in one file, which is to stay below about 3 MB
_MOST_POINTS = 2000  # of a ROC curve

_BESIDE = ("macro_auroc", "sensitivity_at_90_specificity", "accuracy")  # the balanced accuracy

_MISSING: dict[Missing, str] = {
    "not given": "no catalogue was given. Add one with --data.",
    "gone": "the catalogue is no longer where it was at training time, or was changed. Say where "
    "it is with --data.",
    "another": "the catalogue is not the one that this run was trained on.",
}


@dataclass(frozen=True)
class _Subject:
    """What a section is about: a run, or somebody's predictions."""

    name: str
    predictions: pd.DataFrame
    run: Run | None
    folds: Folds | None = None


def report(
    runs: Run | Folds | str | Path | Sequence[Run | Folds | str | Path],
    out: str | Path,
    *,
    data: Catalogue | str | Path | None = None,
    part: Part = "test",
    replicates: int = 1000,
    listen: Listener = silent,
) -> Path:
    """Write a report: one HTML file with figures, intervals, warnings, examples and settings.

    The file needs nothing else: no network, no other file. The same runs give the same bytes.

    Args:
        runs: finished runs or folds, their folders, a blend's folder, or predictions files (CSV or
            Parquet) made elsewhere; only runs have training curves and settings to show.
        out: the file to write; a folder gets a report.html.
        data: catalogue (or its folder) to take example pictures from; by default the one that a
            run was trained on, if it is still where it was.
        part: which part to score: train, val or test.
        replicates: bootstrap replicates behind the intervals; 0 leaves them out.
        listen: told of the progress and of every warning.

    Returns:
        The path of the file.

    Raises:
        RunError: if a folder is no run, or a run is not finished.
        DataError: if predictions cannot be read, lack the part, or the file cannot be written.
        SettingsError: if there is nothing to report on.

    Example:
        >>> report(["runs/resnet50"], "report.html")  # doctest: +SKIP
    """
    given = [runs] if isinstance(runs, (Run, Folds, str, Path)) else list(runs)
    if not given:
        raise SettingsError("There is nothing to report on: name at least one run folder.")
    data = None if data is None else Catalogue.open(data)
    out = Path(out)
    if out.is_dir():
        out = out / "report.html"
    subjects = [_subject(each) for each in given]
    sections = []
    for number, subject in enumerate(subjects, start=1):
        listen(Step("report", number - 1, len(subjects), "runs", subject.name))
        result = evaluate(subject.predictions, part=part, replicates=replicates, listen=listen)
        found = own_catalogue(subject.run, data)
        own = found if isinstance(found, Catalogue) else None
        pictures = _gallery(subject, part, found, len(subjects))
        if pictures.note:
            listen(Notice(f"{subject.name}: {pictures.note}"))
        deep = in_depth(subject.predictions, result, own, replicates=replicates, listen=listen)
        if subject.run is not None and part == "test":
            deep.append(_maps(subject.run))
        sections.append(_section(subject, result, own, pictures, number, deep))
    write_text(out, _render(sections, _comparison(subjects, part, replicates)))
    listen(Step("report", len(subjects), len(subjects), "runs", str(out)))
    return out


def _subject(given: Run | Folds | str | Path) -> _Subject:
    if not isinstance(given, Run | Folds):
        path = Path(given)
        if path.is_file() and path.suffix in (".csv", ".parquet"):
            return _Subject(path.stem, read_predictions(path), None)
        if not path.exists():
            raise DataError(f"{path} does not exist. Name a run folder or a predictions CSV.")
        if (path / BLEND).is_file():
            return _Subject(path.resolve().name, open_predictions(path), None)
        given = open_run(path)
    if isinstance(given, Folds):
        return _Subject(given.name, given.predictions, None, given)
    check_finished(given, "report")
    return _Subject(given.name, given.predictions, given)


def _gallery(
    subject: _Subject, part: str, data: Catalogue | Missing, subjects: int
) -> thumbnails.Gallery:
    """Choose examples, fewer where there are many runs or classes, and read their pictures."""
    budget = max(2, _MOST_PICTURES // (subjects * len(classes_of(subject.predictions))))
    right = min(thumbnails.RIGHT, budget // 2)
    wrong = min(thumbnails.WRONG, budget - right)
    examples = thumbnails.choose(subject.predictions, part, right=right, wrong=wrong)
    if isinstance(data, Catalogue):
        return thumbnails.picture(examples, data)
    return thumbnails.Gallery(examples, f"Pictures are left out: {_MISSING[data]}")


def _maps(run: Run) -> Section:
    """What `trust` measured of a run's maps, if it was asked to."""
    if (run.folder / "trust" / explanation_trust.SUMMARY).is_file():
        return explanation_trust.section(run.folder / "trust")
    check = command("explain --check", "RUN", masks="FOLDER")
    why = f"Not measured. It takes lesion masks: {check}"
    return Section("explanations", "May the maps be believed?", (), (why,), "Maps")


def _section(
    subject: _Subject,
    result: Evaluation,
    data: Catalogue | None,
    pictures: thumbnails.Gallery,
    number: int,
    deep: list[Section],
) -> dict[str, Any]:
    """Everything that the template shows of one run, by name."""
    predictions, run = subject.predictions, subject.run
    proved, _ = wording.overlap(predictions)
    sentences, mistakes = failing(predictions, result, result.replicates)
    curves = {
        label: roc(predictions, label, result.part)
        for label in result.classes
        if result[f"auroc/{label}"].defined
    }
    counts = formatting.class_counts(predictions)
    made: dict[str, Any] = {
        "id": f"r{number}",
        "name": subject.name,
        "result": result,
        "lead": wording.lead(predictions, result, run, proved),
        "facts": wording.facts(predictions, result, run, data),
        "purpose": wording.purpose(result, run),
        "failing": sentences,
        "sections": shown_sections([mistakes, *deep], f"r{number}-"),
        "parts": formatting.parts_of(predictions),
        "part_rows": formatting.part_table(predictions),
        "warnings": wording.cautions(result, run),
        "remarks": wording.remarks(result, run, data.notes if data else ()),
        "cards": formatting.cards(result),
        "class_rows": formatting.class_table(result),
        "confusion_rows": formatting.confusion_rows(result),
        "glossary": formatting.glossary(result),
        "gallery": pictures,
        "settings": None,
        "findings": {
            **findings.of_evaluation(result),
            "counts": findings.of_counts(counts.sum(axis=1), int(counts.to_numpy().sum())),
        },
        "figures": {
            "counts": Markup(model.class_counts(counts)),
            "recalls": Markup(model.recalls(result)),
            "confusion": Markup(model.confusion(result)),
            "rocs": Markup(model.rocs(curves, result)) if curves else None,
            "curves": None,
        },
        "csv": {
            "metrics": formatting.csv_link(result.table()),
            "counts": formatting.csv_link(counts.rename_axis("class").reset_index()),
            "confusion": formatting.csv_link(result.confusion.reset_index()),
            "roc": formatting.csv_link(_roc_table(curves)) if curves else None,
        },
    }
    if run is not None:
        made["settings"] = {
            "yaml": run.recipe.to_yaml(),
            "identity": run.info.get("identity", {}),
            "environment": run.info.get("environment", {}),
            "minutes": run.info.get("minutes"),
            "command": wording.command(run.info),
        }
        if (run.folder / HISTORY).is_file() and len(run.history):
            made["figures"]["curves"] = Markup(
                model.curves(run.history, run.info.get("kept_epoch"))
            )
            made["findings"]["curves"] = findings.of_history(run.history)
            made["csv"]["history"] = formatting.csv_link(run.history)
    return made


def _roc_table(curves: dict[str, pd.DataFrame]) -> pd.DataFrame:
    tables = []
    for label, curve in curves.items():
        x, y = model.corners(curve["fpr"].to_numpy(float), curve["tpr"].to_numpy(float))
        step = max(1, -(-len(x) // _MOST_POINTS))
        tables.append(pd.DataFrame({"class": label, "fpr": x[::step], "tpr": y[::step]}))
    return pd.concat(tables).round(5)


def _comparison(subjects: list[_Subject], part: Part, replicates: int) -> dict[str, Any] | None:
    """What stands on top of a report on several runs; None for a single one."""
    if len(subjects) < 2:
        return None
    names = [subject.name for subject in subjects]
    tables = {
        name if names.count(name) == 1 else f"{name} ({number})": subject
        for number, (name, subject) in enumerate(zip(names, subjects, strict=True), start=1)
    }
    images = [each.predictions for each in subjects]
    scored = {frozenset(each["image_id"][each["part"] == part]) for each in images}
    board = leaderboard(
        {n: each.run or each.folds or each.predictions for n, each in tables.items()},
        columns=[
            *(["val"] if part == "test" else []),
            part,
            *(["difference"] if part == "test" else []),
            *(f"{part}:{metric}" for metric in _BESIDE),
            *("parameters", "minutes", "warnings"),
        ],
        sort=part,
        replicates=replicates,
    )
    ((title, shown),) = board.shown()
    exhibit = Exhibit("leaderboard", title, " ".join(board.notes), board.table, shown=shown)
    ordered = {str(name): tables[str(name)].predictions for name in board.table["model"]}
    side = Section("comparison", "Side by side", (exhibit,))
    return {
        "same": len(scored) == 1,
        "sections": shown_sections([side, differences(ordered, part, replicates)]),
    }


def _render(sections: list[dict[str, Any]], comparison: dict[str, Any] | None) -> str:
    classes = dict.fromkeys(label for each in sections for label in each["result"].classes)
    return template("report.html.jinja", "reporting/report", "reporting/page").render(
        sections=sections,
        comparison=comparison,
        notice=NOTICE,
        version=__version__,
        full_name=full_name,
        percent=percent,
        colours=colours(list(classes)),
    )
