"""Verbs that suspect: the labels, the photographs, the split.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lesionlab.cli.outcome import Outcome, WarningsLast
from lesionlab.errors import SettingsError
from lesionlab.progress import Listener

if TYPE_CHECKING:
    import pandas as pd

    from lesionlab.data.catalogue.catalogue import Catalogue


def suspects(
    predictions: Path,
    *,
    data: Path | None = None,
    part: Literal["test", "val", "both"] = "test",
    out: Path = Path("suspects.csv"),
    findings: Path | None = None,
    page: Path | None = None,
    most: int = 60,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener,
) -> Outcome:
    """List labels that a model confidently contradicts, the most doubtful first.

    A suspect is a request to look, not a mistake: beside their number stands how many there would
    be if every label and every probability were right. With --data, their share is set beside how
    the diagnosis was confirmed.

    Example: lesionlab suspects runs/folds --data data/ham10000 --page suspects.html

    Args:
        predictions: a folder of `lesionlab train`, `folds` or `blend`, or a CSV.
        data: the catalogue's folder, for dx_type and pictures.
        part: test, val or both; of `folds` test is every image. Not train: a network knows it by
            heart.
        out: every image in the order to look at them, as CSV; lesions and shares beside it.
        findings: write the suspects as findings; `lesionlab catalogue --exclude` reads them, and
            leaves out those whose exclude you have set to True. None is by default.
        page: write a page with the pictures; needs --data.
        most: pictures on the page.
        replicates: of the lesion-level bootstrap.
        seed: of it.
    """
    import pandas as pd

    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.evaluation.data_quality.label_errors import label_errors as find
    from lesionlab.files import write_csv

    if page and data is None:
        raise SettingsError("--page shows pictures: say with --data where the images are.")
    last = WarningsLast(listen)
    opened = Catalogue.open(data) if data else None
    made = find(
        predictions,
        data=opened.table if opened else None,
        part=part,
        replicates=replicates,
        seed=seed,
        listen=last,
    )
    written = [made.save(out)]
    paths = (
        dict(zip(opened.table["image_id"], opened.table["path"], strict=True)) if opened else None
    )
    if findings:
        write_csv(findings, made.findings(paths))
        written.append(findings)
    if page and opened is not None:
        from lesionlab.reporting.explore.data_quality import write_suspects

        written.append(write_suspects(made, opened, page, most=most, listen=listen))
    counts = pd.DataFrame(
        {
            "": ["images", "lesions"],
            "looked at": [len(made.table), len(made.lesions)],
            "suspect": [len(made.images), len(made.suspect_lesions)],
            "if labels and probabilities were right": [
                str(made.expected),
                str(made.expected_lesions),
            ],
        }
    )
    outcome = Outcome([(f"Suspect labels, part {part}", counts)], warnings=last.warnings)
    shown = made.by_class.assign(share=_shown(made.by_class, "share"))
    columns = ["class", "images", "lesions", "suspects", "share", "suspect_lesions"]
    outcome.tables.append(("By label", shown[columns]))
    if len(made.by_dx_type):
        table = made.by_dx_type.assign(share=_shown(made.by_dx_type, "share"))
        columns = ["class", "dx_type", "images", "lesions", "suspects", "share"]
        outcome.tables.append(("By how the diagnosis was confirmed", table[columns]))
    if len(made.differences):
        outcome.tables.append(
            ("Share of suspects less that of histology", _with_p(made.differences, "difference"))
        )
    outcome.lines = [
        "A suspect is a request to look, not a mistake: a hard image of a right label looks the "
        "same.",
        f"Written: {', '.join(map(str, written))}"
        + (f"; to leave images out, set their exclude to True in {findings}." if findings else ""),
    ]
    return outcome


def shortcuts(
    data: Path,
    *,
    predictions: Path | None = None,
    part: Literal["train", "val", "test"] = "test",
    measured: Path | None = None,
    out: Path = Path("shortcuts.csv"),
    folds: int = 5,
    replicates: int = 1000,
    seed: int = 0,
    workers: int | None = None,
    listen: Listener,
) -> Outcome:
    """Ask whether camera, light, hair, rulers, frames or ink tell the diagnosis.

    Measures every image once, then learns the classes from these measures alone, and answers every
    lesion by trees that have not seen it: 0.5 is chance. With --predictions, a model's
    recall where a measure is low and where it is high.

    Example: lesionlab shortcuts data/ham10000 --predictions runs/first --out shortcuts.csv

    Args:
        data: the catalogue's folder.
        predictions: of a model on these images.
        part: of the predictions.
        measured: CSV that keeps what was measured; by default artefacts.csv beside the catalogue.
        out: the figures, as CSV; values by class and recalls beside it.
        folds: of the trees; classes with fewer lesions are left out.
        replicates: of the lesion-level bootstrap.
        seed: of folds and bootstrap.
        workers: threads that measure; by default one per core.
    """
    from lesionlab.data.artefacts.artefacts import FILE_NAME, measure_artefacts
    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.evaluation.data_quality.shortcuts import MEAN
    from lesionlab.evaluation.data_quality.shortcuts import shortcuts as ask

    last = WarningsLast(listen)
    opened = Catalogue.open(data)
    path = measured or (opened.home or data) / FILE_NAME
    made = ask(
        measure_artefacts(opened, out=path, workers=workers, listen=listen),
        opened.table,
        predictions=predictions,
        part=part,
        folds=folds,
        replicates=replicates,
        seed=seed,
        listen=last,
    )
    made.save(out)
    means = made.figures[made.figures["class"] == MEAN]
    most = (
        made.figures[made.figures["class"] != MEAN]
        .sort_values("auroc", ascending=False)
        .drop_duplicates("artefacts")
        .set_index("artefacts")
    )
    table = _with_p(means, "auroc", ["artefacts", "kind"])
    if len(most):
        said = [
            f"{most.loc[name, 'class']} {most.loc[name, 'auroc']:.3f}"
            for name in means["artefacts"]
        ]
        table["best of a class"] = said
    title = f"What tells the class apart (area under the ROC curve), {len(opened):,} images"
    outcome = Outcome([(title, table)], warnings=last.warnings)
    if len(made.recalls):
        rows = made.recalls[(made.recalls["class"] == MEAN) | (made.recalls["p_adjusted"] < 0.05)]
        shown = _with_p(rows, "difference", ["artefact", "class"])
        for place, end in enumerate(("low", "high"), start=2):
            said = rows[f"recall_{end}"].map("{:.3f}".format).to_list()
            shown.insert(place, f"recall, {end}", said)
        title = "Recall in the lowest and the highest third of a class: means, and what differs"
        outcome.tables.append((title, shown))
    if made.constant:
        outcome.lines.append(f"The same in all images, or unknown: {', '.join(made.constant)}.")
    outcome.lines.append(f"Written: {out} and what stands beside it; measured: {path}")
    return outcome


def drift(
    data: Path,
    *,
    other: Path | None = None,
    split: Path | None = None,
    fold: int = 0,
    artefacts: bool = False,
    measured: Path | None = None,
    out: Path = Path("drift.csv"),
    permutations: int = 999,
    folds: int = 5,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener,
) -> Outcome:
    """Ask whether the parts of a split, or two catalogues, differ in what is known of the images.

    Every column by itself, tested by moving whole lesions, p values adjusted for their number; and
    trees that try to tell the sets apart by all columns: 0.5 is chance.

    Example: lesionlab drift data/ham10000 --artefacts
    Example: lesionlab drift data/ham10000 --other data/clinic

    Args:
        data: the catalogue's folder.
        other: another catalogue's folder, to compare with instead of the parts of a split.
        split: the split's CSV; by default split.csv beside the catalogue.
        fold: which fold of the split.
        artefacts: compare what `lesionlab shortcuts` measures, too.
        measured: CSV that keeps what was measured; by default artefacts.csv beside each catalogue;
            only without --other.
        out: every pair and column, as CSV; what they say together beside it.
        permutations: the least p value is 1 / (permutations + 1).
        folds: of the trees.
        replicates: of the lesion-level bootstrap.
        seed: of all draws.
    """
    import pandas as pd

    from lesionlab.cli.outcome import catalogue_and_split
    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.evaluation.data_quality.drift import drift as compare
    from lesionlab.tables import PARTS

    if other and split:
        raise SettingsError("Compare with --other or between the parts of --split, not both.")
    if other and measured:
        raise SettingsError("--measured is of one catalogue; leave it out with --other.")
    last = WarningsLast(listen)
    if other:
        pair = Catalogue.open(data), Catalogue.open(other)
        names = [str((each.home or data).resolve().name) for each in pair]
        if names[0] == names[1]:
            names = [str(data), str(other)]
        sets = {
            name: _described(each, artefacts, None, listen).drop(columns="source")
            for name, each in zip(names, pair, strict=True)
        }
    else:
        opened, parts = catalogue_and_split(data, split)
        table = _described(opened, artefacts, measured, listen)
        part = table["image_id"].map(parts.parts(fold))
        sets = {name: table[part == name] for name in PARTS if (part == name).any()}
    made = compare(
        sets,
        permutations=permutations,
        folds=folds,
        replicates=replicates,
        seed=seed,
        listen=last,
    )
    made.save(out)
    outcome = Outcome(
        [
            (
                "How well all columns tell them apart (area under the ROC curve)",
                _with_p(made.together, "auroc", ["first", "second", "images", "lesions"]),
            )
        ],
        warnings=last.warnings,
    )
    shown = made.columns.sort_values(
        ["p_adjusted", "p", "divergence"], ascending=[True, True, False]
    )
    table = pd.DataFrame(
        {
            "sets": shown["first"] + " – " + shown["second"],
            "column": shown["column"],
            "divergence": shown["divergence"].map("{:.4f}".format),
            "from, to": [
                f"{first:.3g}, {second:.3g} ({what})"
                for first, second, what in zip(
                    shown["first_value"], shown["second_value"], shown["what"], strict=True
                )
            ],
            "p": shown["p"].map("{:.3f}".format),
            "adjusted": shown["p_adjusted"].map("{:.3f}".format),
        }
    )
    outcome.tables.append(("Columns, the surest differences first", table.head(12)))
    outcome.lines = [
        f"{len(made.found)} of {len(made.columns)} comparisons differ beyond chance (adjusted "
        "p below 0.05).",
        f"Written: {out} and what stands beside it",
    ]
    return outcome


def _described(
    opened: Catalogue, artefacts: bool, measured: Path | None, listen: Listener
) -> pd.DataFrame:
    """A catalogue's table, with what was measured in place of the file's facts."""
    table = opened.table
    if not artefacts:
        return table
    from lesionlab.data.artefacts.artefacts import FILE_NAME
    from lesionlab.data.artefacts.artefacts import measure_artefacts as measure

    path = measured or (opened.home or opened.root) / FILE_NAME
    made = measure(opened, out=path, listen=listen).drop(columns="image_id")
    kept = table.drop(columns=["width", "height", "bytes"]).reset_index(drop=True)
    return kept.join(made.reset_index(drop=True))


def _shown(table: pd.DataFrame, name: str) -> list[str]:
    """A column with its interval, in words."""
    from lesionlab.evaluation.comparison.compare import shown
    from lesionlab.evaluation.intervals.estimate import Estimate

    columns = zip(table[name], table["low"], table["high"], strict=True)
    signed = name == "difference"
    return [shown(Estimate(*each, 0, 0), signed=signed) for each in columns]


def _with_p(table: pd.DataFrame, name: str, columns: list[str] | None = None) -> pd.DataFrame:
    """Some columns, one with its interval, and its p values."""
    from lesionlab.evaluation.intervals.p_values import shown_p

    made = table[columns or ["class", "dx_type"]].reset_index(drop=True)
    made[f"{name} (95 % interval)"] = _shown(table, name)
    made["p"] = [shown_p(each) for each in table["p"]]
    made["p, adjusted"] = [shown_p(each) for each in table["p_adjusted"]]
    return made
