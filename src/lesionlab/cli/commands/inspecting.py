"""Verbs that look at a collection and change nothing.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from pathlib import Path

from lesionlab.advice import command
from lesionlab.cli.outcome import Outcome, pairs, shares
from lesionlab.progress import Listener


def audit(
    data: Path,
    *,
    out: Path = Path("findings.csv"),
    layout: str = "auto",
    table: Path | None = None,
    columns: list[str] | None = None,
    ignore: list[str] | None = None,
    relabel: list[str] | None = None,
    near: bool | None = None,
    listen: Listener,
) -> Outcome:
    """List everything odd about a collection; exit code 1 if there are errors or warnings.

    Decodes every image. Finds missing, empty, truncated, unreadable, blank and oddly shaped images,
    one image under two ids, lesions with two diagnoses, odd ages and sexes. Finds near-duplicates,
    too: one photograph mirrored, turned, cropped, brightened, recoloured, resized or compressed.
    They go into pairs.csv and pairs.html beside the findings, to be judged by eye.

    Example: lesionlab audit data/ham10000 --out findings.csv

    Args:
        data: a catalogue's folder, or a raw folder as `lesionlab catalogue` takes it.
        out: where the findings go; `lesionlab catalogue --exclude` reads them.
        layout: as for `lesionlab catalogue`.
        table: as for `lesionlab catalogue`.
        columns: as for `lesionlab catalogue`.
        ignore: as for `lesionlab catalogue`.
        relabel: as for `lesionlab catalogue`.
        near: look for near-duplicates (some minutes for 10,000 images) or not; by default up to
            20,000 images.
    """
    from lesionlab.data.audit import audit
    from lesionlab.data.catalogue.catalogue import FILE_NAME
    from lesionlab.data.catalogue.layouts import Reading
    from lesionlab.reporting.explore import near_duplicates_page
    from lesionlab.tables import describe

    reading = Reading(
        data,
        layout,
        table,
        pairs(columns) or {},
        tuple(ignore or ()),
        pairs(relabel, "--relabel", "SCC=scc") or {},
    )
    beside = out.with_name("pairs.csv")
    result = audit.audit(
        data,
        layout=layout,
        table=table,
        columns=reading.columns,
        ignore=reading.ignore,
        relabel=reading.relabel,
        near=near,
        judged=beside if near is not False and beside.is_file() else None,
        listen=listen,
    )
    result.save(out)
    lines = []
    judge = ""
    if result.pairs is not None:
        result.save_pairs(beside)
        if number := near_duplicates_page.write(
            result.pairs, result.data, beside.with_suffix(".html")
        ):
            judge = (
                f"Pairs of different lesions that look like one photograph: {number}. See "
                f"{beside.with_suffix('.html')}, write same or different into the column verdict "
                f"of {beside}, then: {reading.command('catalogue', merge=beside)}"
            )
    for severity in ("error", "warning", "note"):
        chosen = result.findings[result.findings["severity"] == severity]
        if len(chosen):
            lines.append(f"{severity.capitalize()}s ({len(chosen)}):\n{describe(chosen)}")
    faults = len(result.faults)
    marked = int(result.findings["exclude"].sum())
    leave_out = ""
    excluded = result.findings["image_id"][result.findings["exclude"]]
    if set(result.data.table["image_id"]) <= set(excluded):
        leave_out = " Nothing would be left without them: mend the cause."
    elif marked:
        leave_out = f" To leave them out: {reading.command('catalogue', exclude=out)}"
    catalogued = (data / FILE_NAME).is_file() or data.name == FILE_NAME
    follow = command("split", data) if catalogued else reading.command("catalogue")
    lines.append(
        f"{faults} faults in {out}; {marked} rows are marked to be left out.{leave_out}"
        if faults
        else f"No faults. The notes are in {out}. Next: {follow}"
    )
    if judge:
        lines.append(judge)
    title = f"{result.images:,} images of {result.lesions:,} lesions"
    return Outcome([(title, shares(result.counts))], lines, code=1 if faults else 0)


def explore(
    data: Path,
    *,
    out: Path = Path("explore.html"),
    svg: Path | None = None,
    split: Path | None = None,
    fold: int = 0,
    per_class: int = 5,
    seed: int = 0,
    listen: Listener,
) -> Outcome:
    """Write one page on a collection: its metadata in tables and figures, with examples.

    Classes, benign and malignant, class weights, ages, sexes, sites, how the diagnoses were
    confirmed, images per lesion and what a split by image would leak, aspect ratios, what is
    missing, and where to take care. With --split, the parts side by side.

    Example: lesionlab explore data/ham10000 --out explore.html --svg figures

    Args:
        data: the catalogue's folder.
        out: the page.
        svg: a folder that gets each figure as an SVG file and each table as CSV.
        split: the split's CSV, to compare its parts.
        fold: which fold of the split.
        per_class: example pictures per class; 0 leaves them out.
        seed: of the draw of examples.
    """
    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.reporting.explore import explore

    opened = Catalogue.open(data)
    page = explore.explore(
        opened,
        out,
        svg=svg,
        split=split,
        fold=fold,
        per_class=per_class,
        seed=seed,
        listen=listen,
    )
    lines = [f"Written: {page}"]
    if svg is not None:
        lines.append(f"Its figures (.svg) and tables (.csv) are in {svg}.")
    title = f"{len(opened):,} images of {opened.lesions:,} lesions"
    return Outcome([(title, shares(opened.counts()))], lines)
