"""`explore`: one self-contained HTML file about a collection, and its figures and tables as files.

Nothing is trained and nothing is filled in: the page counts what the catalogue holds.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lesionlab._version import __version__
from lesionlab.advice import command
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.data.splits import Split
from lesionlab.data.summary import leakage, metadata_tables
from lesionlab.data.summary.metadata_tables import UNKNOWN, has
from lesionlab.disclaimer import NOTICE
from lesionlab.display import percent
from lesionlab.errors import FindingsError
from lesionlab.files import write_text
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.reporting.explore.cautions import cautions
from lesionlab.reporting.explore.sections import sections
from lesionlab.reporting.page.render import shown_sections, write_exhibits
from lesionlab.reporting.page.template import template
from lesionlab.reporting.page.thumbnails import thumbnail
from lesionlab.tables import count
from lesionlab.taxonomy import MALIGNANT_RULE, colours, full_name

_MOST_PICTURES = 150  # in one file, which is to stay below about 3 MB


@dataclass(frozen=True)
class Picture:
    """One example: its class, what else is known, and its picture as a `data:` address, or ""."""

    image_id: str
    label: str
    about: str
    picture: str = ""


@dataclass(frozen=True)
class Pictures:
    """Examples by class ("" for those drawn from all), and what to say where some are missing."""

    groups: dict[str, list[Picture]] = field(default_factory=dict)
    note: str = ""


def explore(
    data: Catalogue | str | Path,
    out: str | Path = "explore.html",
    *,
    svg: str | Path | None = None,
    split: Split | str | Path | None = None,
    fold: int = 0,
    per_class: int = 5,
    seed: int = 0,
    listen: Listener = silent,
) -> Path:
    """Write a page on a collection: counts, ages, sites, confirmation, leaks, examples, gaps.

    Each figure has its numbers as a table and as a CSV link. The file needs nothing else. The same
    catalogue gives the same bytes.

    Args:
        data: the catalogue, or its folder.
        out: the file to write; a folder gets an explore.html.
        svg: folder for each figure as an SVG file and each table as CSV; None writes none.
        split: parts to compare side by side; by default the source's own, if it has any. One in
            which lesions cross is shown, with an alarm that says how many images leak.
        fold: which fold of the split.
        per_class: example pictures per class; fewer where there are many classes, 0 leaves them
            out.
        seed: of the draw of examples.
        listen: told of the progress.

    Returns:
        The path of the page.

    Raises:
        DataError: if the catalogue or the split cannot be read, do not fit each other, or a file
            cannot be written.

    Example:
        >>> explore("data/ham10000", "explore.html", svg="figures")  # doctest: +SKIP
    """
    data = Catalogue.open(data)
    out = Path(out)
    if out.is_dir():
        out = out / "explore.html"
    parts = None
    if split is not None:
        split = Split.open(split)
        _belongs(split, data)
        parts = split.parts(fold)
    listen(Step("explore", 0, 3, "steps", "counting"))
    frame = metadata_tables.prepare(data, parts)
    made = sections(data, frame)
    listen(Step("explore", 1, 3, "steps", "reading pictures"))
    pictures = _pictures(data, frame, per_class, seed)
    if pictures.note:
        listen(Notice(pictures.note))
    listen(Step("explore", 2, 3, "steps", "writing"))
    if svg is not None:
        write_exhibits(made, svg)
    page = template("explore.html.jinja", "reporting/explore", "reporting/page").render(
        title=_title(data),
        lead=_lead(data, frame),
        facts=_facts(frame),
        alarms=_alarms(frame),
        cautions=cautions(frame),
        notes=data.notes,
        sections=shown_sections(made),
        pictures=pictures,
        seed=seed,
        notice=NOTICE,
        version=__version__,
        fingerprint=data.fingerprint,
        full_name=full_name,
        colours=colours(data.classes),
    )
    write_text(out, page)
    listen(Step("explore", 3, 3, "steps", str(out)))
    return out


def _belongs(split: Split, data: Catalogue) -> None:
    """Refuse a split of other images; one that leaks may be looked at."""
    try:
        split.check(data)
    except FindingsError as error:
        if set(error.findings["kind"]) != {"group_crosses"}:
            raise


def _alarms(frame: pd.DataFrame) -> list[str]:
    if not has(frame, "part") or not has(frame, "lesion_id"):
        return []
    table = leakage.across(frame)
    return [
        f"LEAK: {percent(row['leaked'])} of the images in part {row['part']} "
        f"({row['leaked_images']:,} of {row['images']:,}) show a lesion that is in training too. "
        "Figures measured there flatter every model. Make a split that keeps lesions together: "
        f"{command('split', 'DATA')}"
        for _, row in table.iterrows()
        if row["leaked_images"] and row["part"] in ("val", "test")
    ]


def _title(data: Catalogue) -> str:
    """What the data are called; never a path, which may name its owner."""
    return ", ".join(sorted(set(data.table["source"]) - {""})) or data.layout or "catalogue"


def _lead(data: Catalogue, frame: pd.DataFrame) -> str:
    table = metadata_tables.classes(frame).sort_values("images", ascending=False)
    first = table.iloc[0]
    of = f" of {count(data.lesions, 'lesion')}" if has(frame, "lesion_id") else ""
    name = full_name(first["class"])
    called = f"{name} ({first['class']})" if name != first["class"] else name
    return (
        f"{count(len(frame), 'image')}{of} in {len(data.classes)} classes. The commonest is "
        f"{called} with {percent(first['share'])} of the images."
    )


def _facts(frame: pd.DataFrame) -> list[tuple[str, str]]:
    table = metadata_tables.classes(frame)
    present = table[table["images"] > 0]
    most = present.iloc[int(present["images"].argmax())]
    least = present.iloc[int(present["images"].argmin())]
    made = [
        (
            "Imbalance",
            f"{most['class']} {most['images']:,} images, {least['class']} {least['images']:,}: "
            f"{most['images'] / least['images']:.1f} to 1",
        )
    ]
    if (kinds := metadata_tables.malignancy(frame)) is not None:
        good, bad = kinds["images"]
        rule = f"{bad:,} malignant, {good:,} benign images ({MALIGNANT_RULE})"
        made.append(("Malignant or benign", rule))
    known = frame["age"].dropna()
    if len(known):
        text = f"mean {known.mean():.2f}, sd {known.std():.2f}, median {known.median():g} years"
        made.append(("Age", f"{text}; unknown for {count(len(frame) - len(known), 'image')}"))
    for column, label in (("sex", "Sex"), ("dx_type", "Confirmed by")):
        if has(frame, column):
            counts = metadata_tables.values(frame, column)
            listed = ", ".join(f"{row['value']} {row['images']:,}" for _, row in counts.iterrows())
            made.append((label, listed))
    if has(frame, "site"):
        unknown = int((frame["site"] == UNKNOWN).sum())
        sites = frame["site"].nunique() - (unknown > 0)
        made.append(("Sites", f"{sites}; unknown for {count(unknown, 'image')}"))
    if has(frame, "lesion_id"):
        shared = float((frame["siblings"] > 1).mean())
        made.append(("Shared lesions", f"{percent(shared)} of the images share their lesion"))
    sizes = metadata_tables.shapes(frame)
    if len(sizes):
        first = sizes.iloc[0]
        text = f"{first['width']:.0f} × {first['height']:.0f} pixels (width × height)"
        made.append(("Size", text + (f" and {len(sizes) - 1} others" if len(sizes) > 1 else "")))
    return made


def _pictures(data: Catalogue, frame: pd.DataFrame, per_class: int, seed: int) -> Pictures:
    number = min(per_class, max(1, _MOST_PICTURES // (1 + len(data.classes))))
    if number < 1:
        return Pictures()
    chosen = metadata_tables.examples(frame, number, seed)
    wanted = frame[frame["image_id"].isin({name for names in chosen.values() for name in names})]
    rows = {str(row["image_id"]): row for _, row in wanted.iterrows()}
    reader = Reader(data.root)
    groups: dict[str, list[Picture]] = {}
    lost = 0
    for label, names in chosen.items():
        groups[label] = []
        for name in names:
            row = rows[name]
            address = ""
            with suppress(ImageFault):
                address = thumbnail(reader, str(row["path"]), str(row["sha256"]))
            lost += not address
            groups[label].append(Picture(name, str(row["target"]), _about(row), address))
    total = sum(map(len, groups.values()))
    if lost == total:
        return Pictures(note="Pictures are left out: the image files are not where they were.")
    note = f"{lost} of {total} pictures are left out: files missing or changed." if lost else ""
    return Pictures(groups, note)


def _about(row: pd.Series) -> str:
    age = "" if pd.isna(row["age"]) else f"{row['age']:g} years"
    words = [str(row[name]) for name in ("sex", "site") if row[name] != UNKNOWN]
    return ", ".join(each for each in (age, *words) if each)
