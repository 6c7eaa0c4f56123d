"""Commands that make and part a collection.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lesionlab.advice import command as typed
from lesionlab.cli.declaration import Call, command
from lesionlab.cli.outcome import Outcome, class_counts
from lesionlab.errors import SettingsError


@command(
    "data.collections.fetch.fetch",
    "fetch ham10000",
    without=("retries", "timeout"),
    warnings_last=False,
)
def fetch(call: Call, *, to: Path | None = None) -> Outcome:
    """Download a known collection: checked, resumed where it broke off, unpacked, with its licence.

    Args:
        to: folder to fill; by default data/NAME.
    """
    folder = call(to=to or Path("data") / call.options["name"])
    return Outcome(lines=[f"{folder} is complete. Next: {typed('catalogue', folder)}"])


@command(
    "data.catalogue.catalogue.catalogue",
    "catalogue data/ham10000",
    "catalogue data/ham10000 --limit 300 --out data/small",
    "catalogue data/ham10000 --classes malignant-benign --out data/ham10000-two",
)
def catalogue(
    call: Call,
    *,
    out: Path | None = None,
    classes: Literal["malignant-benign"] | None = None,
    limit: int | None = None,
    seed: int = 0,
    croissant: bool = False,
) -> Outcome:
    """Make the table of a folder of images: ids, diagnoses, lesions, ages, sites and file hashes.

    Knows the ISIC challenges of 2016 to 2024, exports of the ISIC Archive, HAM10000, MILK10k,
    BCN20000, PAD-UFES-20, PH2, Derm7pt, Fitzpatrick17k, DDI, MedMNIST and hmnist as they are
    unpacked, one folder per class (or such folders in train, val and test), and any CSV. Every
    fault is named before anything is written, and every file and row is accounted for.

    Args:
        out: where catalogue.csv goes; by default FOLDER itself.
        classes: make these two classes of the seven; needs --out. FOLDER may hold a catalogue.
        limit: take so many lesions only, drawn so that every class keeps its share, for a first
            small step; needs --out.
        seed: of that draw.
        croissant: describe it in croissant.json, too, ML Commons' format of metadata.
    """
    from lesionlab.data.catalogue.catalogue import FILE_NAME
    from lesionlab.taxonomy import GROUPINGS

    folder = Path(call.options["folder"])
    for option, given in (("--classes", classes), ("--limit", limit is not None)):
        if given and (out is None or out.resolve() == folder.resolve()):
            raise SettingsError(
                f"{option} makes another catalogue: say with --out in which other folder it goes."
            )
    home = out or (folder if folder.is_dir() else folder.parent)
    data = call(out=None if classes or limit is not None else home)
    advice = typed("audit", home)
    if limit is not None:
        from lesionlab.data.catalogue.limit import limited

        data = limited(data, limit, seed=seed)
    if classes:
        data = data.regrouped(GROUPINGS[classes].groups, GROUPINGS[classes].rule)
        like = folder / "split.csv"
        advice = typed("split", home, like=like if like.is_file() else None)
    if classes or limit is not None:
        data = data.save(home)
    lines = list(data.notes)
    if croissant:
        from lesionlab.data.catalogue.croissant import write_croissant

        lines.append(f"Described in {write_croissant(data)}.")
    return Outcome(
        [class_counts(data)],
        [*lines, f"Written: {home / FILE_NAME}. Next: {advice}"],
    )


@command("data.catalogue.join.join", "join data/ham10000 data/clinic --out data/both")
def join(
    call: Call,
    *,
    out: Path,
    names: list[str] | None = None,
) -> Outcome:
    """Join catalogues to one, to train on several collections. No image is copied.

    An image that several have (the same content, or the same id of the ISIC Archive) stands once,
    and its lesions become one: no split can part them.

    Args:
        out: folder of the joined catalogue, beside the others so that all can be moved together.
        names: of the collections, in order; by default those of the folders.
    """
    from lesionlab.data.catalogue.catalogue import FILE_NAME

    folders = call.options["catalogues"]
    if names and (len(names) != len(folders) or len(set(names)) != len(names)):
        raise SettingsError(
            f"--names takes {len(folders)} different names, one for each catalogue."
        )
    data = call(catalogues=dict(zip(names, folders, strict=True)) if names else folders)
    return Outcome(
        [class_counts(data)],
        [*data.notes, f"Written: {out / FILE_NAME}. Next: {typed('audit', out)}"],
    )


@command("data.splits.split", "split data/ham10000 --folds 5")
def split(
    call: Call,
    data: Path,
    *,
    out: Path | None = None,
    like: Path | None = None,
) -> Outcome:
    """Part a catalogue into train, val and test so that no patient or lesion is on two sides.

    Args:
        data: the catalogue's folder.
        out: the split's CSV; by default split.csv beside the catalogue.
        like: the split of another catalogue of these images: each stays in its part, and all other
            options but --out are left aside.
    """
    import pandas as pd

    from lesionlab.data import splits
    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.tables import PARTS

    opened = Catalogue.open(data)
    if like:
        parts = splits.like(opened, splits.Split.open(like), listen=call.listen)
    else:
        parts = call(data=opened)
    path = out or (opened.home or data) / "split.csv"
    parts.save(path)
    counted = ["images", "lesions"] if parts.by else ["images"]
    counts = parts.counts(0).pivot(index="class", columns="part", values=counted)
    order = [(what, part) for what in counted for part in PARTS if (what, part) in counts]
    counts = counts[order]
    counts.columns = pd.Index([f"{part} {what}" for what, part in order])
    title = f"Fold 0 of {parts.folds}" if parts.folds > 1 else "Parts"
    return Outcome(
        [(title, counts.fillna(0).astype(int).reset_index())],
        [f"{parts.proof(opened)}. Written: {path}"],
    )


@command("data.imputation.clean", "clean data/ham10000 --age median --sex fill --out data/clean")
def clean(
    call: Call,
    data: Path,
    *,
    out: Path,
    split: Path | None = None,
) -> Outcome:
    """Write a version of a catalogue in which unknown ages, sexes or sites are filled in.

    An image gets what is known of its lesion's other images; else what is filled in comes from the
    training part alone, never from the diagnosis. Networks with metadata need none of this: to them
    unknown is a value of its own. Age 0 is an age.

    Args:
        data: the catalogue's folder; it stays as it is.
        out: folder of the new catalogue.csv and of its split.csv.
        split: the split's CSV; by default split.csv beside the catalogue.
    """
    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.data.splits import Split

    opened = Catalogue.open(data)
    home = opened.home or data
    cleaned = call(data=opened, split=Split.open(split or home / "split.csv"), out=out)
    return Outcome(
        [("Cleaning", cleaned.report)],
        [
            f"Written: {out}, with its split. To share decoded images with the old catalogue, "
            f"train with --data {out} --cache {home / 'cache'}"
        ],
    )


@command(
    "data.images.cache.cache",
    "cache data/ham10000 --size 112x150",
    without=("table", "root", "images", "to"),
)
def cache(
    call: Call,
    data: Path,
    *,
    size: tuple[int, int] = (225, 300),
    fit: Literal["stretch", "crop", "pad"] = "stretch",
    out: Path | None = None,
) -> Outcome:
    """Decode every image once into one memory-mapped file; `train` does this by itself.

    Args:
        data: the catalogue's folder.
        size: height and width in pixels.
        fit: what to do with images of another shape: stretch, crop or pad.
        out: folder of caches; by default `cache` beside the catalogue.
    """
    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.recipe.schema import Recipe

    opened = Catalogue.open(data)
    images = Recipe().but({"images.size": list(size), "images.fit": fit}).images
    home = out or (opened.home or data) / "cache"
    decoded = call(table=opened.table, root=opened.root, images=images, to=home)
    return Outcome(lines=[f"{len(decoded.pixels):,} images in {decoded.folder}"])


@command("data.audit.audit.audit", "audit data/ham10000 --out findings.csv", without=("judged",))
def audit(call: Call, *, out: Path = Path("findings.csv")) -> Outcome:
    """List everything odd about a collection; exit code 1 if there are errors or warnings.

    Decodes every image. Finds missing, empty, truncated, unreadable, blank and oddly shaped images,
    one image under two ids, lesions with two diagnoses, odd ages and sexes. Finds near-duplicates,
    too: one photograph mirrored, turned, cropped, brightened, recoloured, resized or compressed;
    and other photographs of one lesion under another lesion id. They go into pairs.csv and
    pairs.html beside the findings, to be judged by eye.

    `audit labels`, `audit shortcuts` and `audit drift` ask what takes a model or statistics.

    Args:
        out: where the findings go; `lesionlab catalogue --exclude` reads them.
    """
    from lesionlab.data.catalogue.catalogue import FILE_NAME
    from lesionlab.data.catalogue.layouts import Reading
    from lesionlab.reporting.explore import near_duplicates_page
    from lesionlab.tables import describe

    data, beside = call.options["data"], out.with_name("pairs.csv")
    given = ("layout", "table", "columns", "ignore", "relabel")
    settings = {name: call.options[name] for name in given if name in call.options}
    reading = Reading.from_dict(data, settings)
    seen = call.options.get("near") is not False and beside.is_file()
    result = call(judged=beside if seen else None)
    result.save(out)
    lines = []
    judge = ""
    if result.pairs is not None:
        result.save_pairs(beside)
        if number := near_duplicates_page.write(
            result.pairs, result.data, beside.with_suffix(".html")
        ):
            judge = (
                f"Pairs of different lesions that look like one lesion: {number}. See "
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
    following = typed("split", data) if catalogued else reading.command("catalogue")
    lines.append(
        f"{faults} faults in {out}; {marked} rows are marked to be left out.{leave_out}"
        if faults
        else f"No faults. The notes are in {out}. Next: {following}"
    )
    if judge:
        lines.append(judge)
    return Outcome([class_counts(result.data)], lines, code=1 if faults else 0)
