"""Verbs that make and part a collection.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lesionlab.advice import command
from lesionlab.cli.outcome import Outcome, pairs, shares
from lesionlab.errors import SettingsError
from lesionlab.progress import Listener


def fetch(
    name: str,
    *,
    to: Path | None = None,
    files: list[str] | None = None,
    keep_archives: bool = False,
    base_url: str | None = None,
    listen: Listener,
) -> Outcome:
    """Download a known collection: checked, resumed where it broke off, unpacked, with its licence.

    Example: lesionlab fetch ham10000 --to data/ham10000

    Args:
        name: ham10000, isic2018, dermamnist-28 (-64, -128, -224), ...
        to: folder to fill; by default data/NAME.
        files: fetch only these of its files.
        keep_archives: keep the zip files after unpacking.
        base_url: fetch from this mirror instead of the official server.
    """
    from lesionlab.data.collections import fetch

    folder = fetch.fetch(
        name,
        to or Path("data") / name,
        files=files,
        keep_archives=keep_archives,
        base_url=base_url,
        listen=listen,
    )
    return Outcome(lines=[f"{folder} is complete. Next: {command('catalogue', folder)}"])


def catalogue(
    folder: Path,
    *,
    out: Path | None = None,
    layout: str = "auto",
    table: Path | None = None,
    columns: list[str] | None = None,
    ignore: list[str] | None = None,
    relabel: list[str] | None = None,
    exclude: Path | None = None,
    merge: Path | None = None,
    classes: Literal["malignant-benign"] | None = None,
    listen: Listener,
) -> Outcome:
    """Make the table of a folder of images: ids, diagnoses, lesions, ages, sites and file hashes.

    Knows the ISIC challenges of 2016 to 2024, exports of the ISIC Archive, HAM10000, MILK10k,
    BCN20000, PAD-UFES-20, PH2, Derm7pt, Fitzpatrick17k, DDI, MedMNIST and hmnist as they are
    unpacked, one folder per class (or such folders in train, val and test), and any CSV. Every
    fault is named before anything is written, and every file and row is accounted for.

    Example: lesionlab catalogue data/ham10000
    Example: lesionlab catalogue data/ham10000 --classes malignant-benign --out data/ham10000-two

    Args:
        folder: what the download unpacked to, or one table or .npz file.
        out: where catalogue.csv goes; by default FOLDER itself.
        layout: ham10000, isic2016 to isic2024, isic-archive, pad-ufes-20, folders, csv, ...; auto
            looks.
        table: the table to read, where the folder holds several.
        columns: for a table of your own, ours=yours: image_id=name target=label lesion_id=mole;
            lesion_id=patient+mole where only both name it. For class folders with folders in them
            patient_id=folder or lesion_id=folder.
        ignore: folders whose files are left out, such as those of masks or smaller copies.
        relabel: what a label is to count as: SCC=scc ...
        exclude: a findings.csv of `lesionlab audit`: images it marks are left out.
        merge: a pairs.csv of `lesionlab audit`: of a pair judged "same" the lesions become one.
        classes: make these two classes of the seven; needs --out. FOLDER may hold a catalogue.
    """
    from lesionlab.data.catalogue import catalogue
    from lesionlab.taxonomy import GROUPINGS

    if classes and (out is None or out.resolve() == folder.resolve()):
        raise SettingsError(
            "--classes makes another catalogue: say with --out in which other folder it goes."
        )
    home = out or (folder if folder.is_dir() else folder.parent)
    made = catalogue.catalogue(
        folder,
        layout=layout,
        table=table,
        columns=pairs(columns),
        ignore=ignore or (),
        relabel=pairs(relabel, "--relabel", "SCC=scc"),
        exclude=exclude,
        merge=merge,
        out=None if classes else home,
        listen=listen,
    )
    then = command("audit", home)
    if classes:
        grouping = GROUPINGS[classes]
        made = made.regrouped(grouping.groups, grouping.rule).save(home)
        like = folder / "split.csv"
        then = command("split", home, like=like if like.is_file() else None)
    return Outcome(
        [(f"{len(made):,} images of {made.lesions:,} lesions", shares(made.counts()))],
        [*made.notes, f"Written: {home / catalogue.FILE_NAME}. Next: {then}"],
    )


def join(
    data: list[Path],
    *,
    out: Path,
    names: list[str] | None = None,
    classes: Literal["same", "union", "malignant-benign"] = "same",
    relabel: list[str] | None = None,
    ids: Literal["auto", "shared", "own"] = "auto",
    clashes: Literal["refuse", "leave-out"] = "refuse",
    listen: Listener,
) -> Outcome:
    """Join catalogues to one, to train on several collections. No image is copied.

    An image that several have (the same content, or the same id of the ISIC Archive) stands once,
    and its lesions become one: no split can part them.

    Example: lesionlab join data/ham10000 data/clinic --out data/both

    Args:
        data: two or more folders with a catalogue.csv. Of copies, the first one's file is taken.
        out: folder of the joined catalogue, beside the others so that all can be moved together.
        names: of the collections, in order; by default those of the folders.
        classes: same refuses unlike classes; union takes all; malignant-benign makes two of them.
        relabel: what a class is to count as: scc=akiec ...
        ids: what one id in two collections means, if the ISIC Archive did not give it. shared: the
            same image, lesion or patient; own: another one; auto: the same lesion or patient where
            source or common images show it; refused for images of other content.
        clashes: refuse names what has two diagnoses; leave-out leaves these lesions out.
    """
    from lesionlab.data.catalogue import join
    from lesionlab.data.catalogue.catalogue import FILE_NAME

    if names and (len(names) != len(data) or len(set(names)) != len(names)):
        raise SettingsError(f"--names takes {len(data)} different names, one for each catalogue.")
    made = join.join(
        dict(zip(names, data, strict=True)) if names else data,
        classes=classes,
        relabel=pairs(relabel, "--relabel", "scc=akiec"),
        ids=ids,
        clashes=clashes,
        out=out,
        listen=listen,
    )
    return Outcome(
        [(f"{len(made):,} images of {made.lesions:,} lesions", shares(made.counts()))],
        [*made.notes, f"Written: {out / FILE_NAME}. Next: {command('audit', out)}"],
    )


def split(
    data: Path,
    *,
    out: Path | None = None,
    kind: Literal["folds", "holdout", "official"] = "folds",
    by: Literal["auto", "lesion_id", "patient_id"] = "auto",
    folds: int = 5,
    shares: list[float] | None = None,
    val: float = 0.1,
    seed: int = 0,
    like: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Part a catalogue into train, val and test so that no patient or lesion is on two sides.

    Example: lesionlab split data/ham10000 --folds 5

    Args:
        data: the catalogue's folder.
        out: the split's CSV; by default split.csv beside the catalogue.
        kind: folds (each is once the test part), holdout, or official (the source's own parts).
        by: what must not cross: patient_id or lesion_id; auto takes the patient where known.
        folds: number of folds, for --kind folds.
        shares: of train, val and test, for --kind holdout; by default 0.7 0.1 0.2. Test may be 0.
        val: share of all but the test fold that becomes val, for --kind folds.
        seed: of the random draw.
        like: the split of another catalogue of these images: each stays in its part, and all other
            options but --out are left aside.
    """
    import pandas as pd

    from lesionlab.data import splits
    from lesionlab.data.catalogue.catalogue import Catalogue

    opened = Catalogue.open(data)
    if like:
        made = splits.like(opened, splits.Split.open(like), listen=listen)
    else:
        made = splits.split(
            opened,
            kind=kind,
            by=by,
            folds=folds,
            shares=shares or (0.7, 0.1, 0.2),
            val=val,
            seed=seed,
            listen=listen,
        )
    path = out or (opened.home or data) / "split.csv"
    made.save(path)
    counts = made.counts(0).pivot(index="class", columns="part", values=["images", "lesions"])
    counts.columns = pd.Index([f"{key[1]} {key[0]}" for key in counts.columns])
    title = f"Fold 0 of {made.folds}" if made.folds > 1 else "Parts"
    return Outcome(
        [(title, counts.fillna(0).astype(int).reset_index())],
        [f"{made.proof(opened)}. Written: {path}"],
    )


def clean(
    data: Path,
    *,
    out: Path,
    split: Path | None = None,
    fold: int = 0,
    age: str = "keep",
    sex: str = "keep",
    site: str = "keep",
    seed: int = 0,
    listen: Listener,
) -> Outcome:
    """Write a version of a catalogue in which unknown ages, sexes or sites are filled in.

    An image gets what is known of its lesion's other images; else what is filled in comes from the
    training part alone, never from the diagnosis. Networks with metadata need none of this: to them
    unknown is a value of its own. Age 0 is an age.

    Example: lesionlab clean data/ham10000 --age median --sex fill --out data/ham10000-clean

    Args:
        data: the catalogue's folder; it stays as it is.
        out: folder of the new catalogue.csv and of its split.csv.
        split: the split's CSV; by default split.csv beside the catalogue.
        fold: whose training part the figures come from.
        age: keep (unknown stays unknown) or median.
        sex: keep, fill (drawn by the frequencies) or mode (the most frequent).
        site: keep, fill or mode, as for sex.
        seed: of the draws.
    """
    from lesionlab.data import imputation
    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.data.splits import Split

    opened = Catalogue.open(data)
    home = opened.home or data
    parts = Split.open(split or home / "split.csv")
    made = imputation.clean(
        opened, parts, fold=fold, age=age, sex=sex, site=site, seed=seed, out=out, listen=listen
    )
    return Outcome(
        [("Cleaning", made.report)],
        [
            f"Written: {out}, with its split. To share decoded images with the old catalogue, "
            f"train with --data {out} --cache {home / 'cache'}"
        ],
    )


def cache(
    data: Path,
    *,
    size: tuple[int, int] = (225, 300),
    fit: Literal["stretch", "crop", "pad"] = "stretch",
    out: Path | None = None,
    workers: int | None = None,
    listen: Listener,
) -> Outcome:
    """Decode every image once into one memory-mapped file; `train` does this by itself.

    Example: lesionlab cache data/ham10000 --size 112 150

    Args:
        data: the catalogue's folder.
        size: height and width in pixels.
        fit: what to do with images of another shape: stretch, crop or pad.
        out: folder of caches; by default `cache` beside the catalogue.
        workers: threads that decode; by default one per core.
    """
    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.data.images.cache import cache as cache_images
    from lesionlab.recipe.schema import Recipe

    opened = Catalogue.open(data)
    asked = Recipe().but({"images.size": list(size), "images.fit": fit}).images
    home = out or (opened.home or data) / "cache"
    made = cache_images(opened.table, opened.root, asked, home, workers=workers, listen=listen)
    return Outcome(lines=[f"{len(made.pixels):,} images in {made.folder}"])
