"""Commands that doubt: the labels, the photographs, the split.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lesionlab.cli.declaration import Call, command
from lesionlab.cli.outcome import Outcome, catalogue_and_split
from lesionlab.cli.render import columns
from lesionlab.errors import SettingsError
from lesionlab.progress import Listener

if TYPE_CHECKING:
    import pandas as pd

    from lesionlab.data.catalogue.catalogue import Catalogue


@command(
    "evaluation.data_quality.label_errors.label_errors",
    "audit labels runs/folds --data data/ham10000 --page suspects.html",
)
def labels(
    call: Call,
    *,
    data: Path | None = None,
    out: Path = Path("suspects.csv"),
    findings: Path | None = None,
    page: Path | None = None,
    most: int = 60,
) -> Outcome:
    """List labels that a model confidently contradicts, the most doubtful first.

    A suspect is a request to look, not a mistake: beside their number stands how many there would
    be if every label and every probability were right. With --data, their share is set beside how
    the diagnosis was confirmed.

    Args:
        data: the catalogue's folder, for dx_type and pictures.
        out: every image in the order to look at them, as CSV; lesions and shares beside it.
        findings: write the suspects as findings; `lesionlab catalogue --exclude` reads them, and
            leaves out those whose exclude you have set to True. None is by default.
        page: write a page with the pictures; needs --data.
        most: pictures on the page.
    """
    import pandas as pd

    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.files import write_csv

    if page and data is None:
        raise SettingsError("--page shows pictures: say with --data where the images are.")
    opened = Catalogue.open(data) if data else None
    result = call(data=opened.table if opened else None)
    written = [result.save(out)]
    paths = (
        dict(zip(opened.table["image_id"], opened.table["path"], strict=True)) if opened else None
    )
    if findings:
        write_csv(findings, result.findings(paths))
        written.append(findings)
    if page and opened is not None:
        from lesionlab.reporting.explore.data_quality import write_suspects

        written.append(write_suspects(result, opened, page, most=most, listen=call.listen))
    counts = pd.DataFrame(
        {
            "": ["images", "lesions"],
            "looked at": [len(result.table), len(result.lesions)],
            "suspect": [len(result.images), len(result.suspect_lesions)],
            "if labels and probabilities were right": [
                str(result.expected),
                str(result.expected_lesions),
            ],
        }
    )
    outcome = Outcome([(f"Suspect labels, part {result.part}", counts)])
    by_class = ("class", "images", "lesions", "suspects", "share", "suspect_lesions")
    outcome.tables += [
        (title, columns(table, *names))
        for title, table, names in (
            ("By label", result.by_class, by_class),
            (
                "By how the diagnosis was confirmed",
                result.by_dx_type,
                ("class", "dx_type", *by_class[1:5]),
            ),
            (
                "Share of suspects less that of histology",
                result.differences,
                ("class", "dx_type", "difference", "p", "p_adjusted"),
            ),
        )
        if len(table)
    ]
    outcome.lines = [
        "A suspect is a request to look, not a mistake: a hard image of a right label looks the "
        "same.",
        f"Written: {', '.join(map(str, written))}"
        + (f"; to leave images out, set their exclude to True in {findings}." if findings else ""),
    ]
    return outcome


@command(
    "evaluation.data_quality.shortcuts.shortcuts",
    "audit shortcuts data/ham10000 --predictions runs/first --out shortcuts.csv",
)
def shortcuts(
    call: Call,
    data: Path,
    *,
    measured: Path | None = None,
    out: Path = Path("shortcuts.csv"),
    workers: int | None = None,
) -> Outcome:
    """Ask whether camera, light, hair, rulers, frames or ink tell the diagnosis.

    Measures every image once, then learns the classes from these measures alone, and answers every
    lesion by trees that have not seen it: 0.5 is chance. With --predictions, a model's
    recall where a measure is low and where it is high.

    Args:
        data: the catalogue's folder.
        measured: CSV that keeps what was measured; by default artefacts.csv beside the catalogue.
        out: the figures, as CSV; values by class and recalls beside it.
        workers: threads that measure; by default one per core.
    """
    from lesionlab.data.artefacts.artefacts import FILE_NAME, measure_artefacts
    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.evaluation.data_quality.shortcuts import MEAN

    opened = Catalogue.open(data)
    path = measured or (opened.home or data) / FILE_NAME
    measures = measure_artefacts(opened, out=path, workers=workers, listen=call.listen)
    result = call(measured=measures, data=opened.table)
    result.save(out)
    means = result.figures[result.figures["class"] == MEAN]
    most = (
        result.figures[result.figures["class"] != MEAN]
        .sort_values("auroc", ascending=False)
        .drop_duplicates("artefacts")
        .set_index("artefacts")
    )
    table = columns(means, "artefacts", "kind", "auroc", "p", "p_adjusted")
    if len(most):
        table["best of a class"] = [
            f"{most.loc[name, 'class']} {most.loc[name, 'auroc']:.3f}"
            for name in means["artefacts"]
        ]
    title = f"What tells the class apart (area under the ROC curve), {len(opened):,} images"
    outcome = Outcome([(title, table)])
    if len(result.recalls):
        recalls = result.recalls
        rows = recalls[(recalls["class"] == MEAN) | (recalls["p_adjusted"] < 0.05)]
        recall = {"recall_low": "recall where low", "recall_high": "recall where high"}
        names = ("artefact", "class", *recall.values(), "difference", "p", "p_adjusted")
        shown = columns(rows.rename(columns=recall), *names)
        title = "Recall in the lowest and the highest third of a class: means, and what differs"
        outcome.tables.append((title, shown))
    if result.constant:
        outcome.lines.append(f"The same in all images, or unknown: {', '.join(result.constant)}.")
    outcome.lines.append(f"Written: {out} and what stands beside it; measured: {path}")
    return outcome


@command(
    "evaluation.data_quality.drift.drift",
    "audit drift data/ham10000 --artefacts",
    "audit drift data/ham10000 --other data/clinic",
    without=("sets",),
)
def drift(
    call: Call,
    data: Path,
    *,
    other: Path | None = None,
    split: Path | None = None,
    fold: int = 0,
    artefacts: bool = False,
    measured: Path | None = None,
    out: Path = Path("drift.csv"),
) -> Outcome:
    """Ask whether the parts of a split, or two catalogues, differ in what is known of the images.

    Every column by itself, tested by moving whole lesions, p values adjusted for their number; and
    trees that try to tell the sets apart by all columns: 0.5 is chance.

    Args:
        data: the catalogue's folder.
        other: another catalogue's folder, to compare with instead of the parts of a split.
        split: the split's CSV; by default split.csv beside the catalogue.
        fold: which fold of the split.
        artefacts: compare what `lesionlab audit shortcuts` measures, too.
        measured: CSV that keeps what was measured; by default artefacts.csv beside each catalogue;
            only without --other.
        out: every pair and column, as CSV; what they say together beside it.
    """
    import pandas as pd

    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.tables import PARTS

    if other and split:
        raise SettingsError("Compare with --other or between the parts of --split, not both.")
    if other and measured:
        raise SettingsError("--measured is of one catalogue; leave it out with --other.")
    if other:
        pair = Catalogue.open(data), Catalogue.open(other)
        names = [str((opened.home or data).resolve().name) for opened in pair]
        if names[0] == names[1]:
            names = [str(data), str(other)]
        sets = {
            name: _described(opened, artefacts, None, call.listen).drop(columns="source")
            for name, opened in zip(names, pair, strict=True)
        }
    else:
        opened, parts = catalogue_and_split(data, split)
        table = _described(opened, artefacts, measured, call.listen)
        part = table["image_id"].map(parts.parts(fold))
        sets = {name: table[part == name] for name in PARTS if (part == name).any()}
    result = call(sets=sets)
    result.save(out)
    outcome = Outcome(
        [
            (
                "How well all columns tell them apart (area under the ROC curve)",
                result.together,
            )
        ]
    )
    rows = result.columns.sort_values(
        ["p_adjusted", "p", "divergence"], ascending=[True, True, False]
    )
    table = pd.DataFrame(
        {
            "sets": rows["first"] + " – " + rows["second"],
            "column": rows["column"],
            "divergence": rows["divergence"].map("{:.4f}".format),
            "from, to": [
                "{first_value:.3g}, {second_value:.3g} ({statistic})".format(**row)
                for row in rows.to_dict("records")
            ],
            "p": rows["p"],
            "p_adjusted": rows["p_adjusted"],
        }
    )
    outcome.tables.append(("Columns, the surest differences first", table.head(12)))
    outcome.lines = [
        f"{len(result.found)} of {len(result.columns)} comparisons differ beyond chance (adjusted "
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
    from lesionlab.data.artefacts.artefacts import FILE_NAME, measure_artefacts

    path = measured or (opened.home or opened.root) / FILE_NAME
    measures = measure_artefacts(opened, out=path, listen=listen).drop(columns="image_id")
    kept = table.drop(columns=["width", "height", "bytes"]).reset_index(drop=True)
    return kept.join(measures.reset_index(drop=True))
