"""The verbs of the command line: each takes its options, calls its room and gives what to show.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lesionlab.errors import SettingsError
from lesionlab.progress import Listener

if TYPE_CHECKING:
    import pandas as pd

    from lesionlab.evaluation import Evaluation


@dataclass
class Outcome:
    """What a verb has to show.

    Attributes:
        tables: titles and tables, in order.
        lines: sentences behind the tables.
        code: exit code: 0 done, 1 findings.
    """

    tables: list[tuple[str, pd.DataFrame]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    code: int = 0


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
    from lesionlab.data import acquisition

    folder = acquisition.fetch(
        name,
        to or Path("data") / name,
        files=files,
        keep_archives=keep_archives,
        base_url=base_url,
        listen=listen,
    )
    return Outcome(lines=[f"{folder} is complete. Next: lesionlab catalogue {folder}"])


def catalogue(
    folder: Path,
    *,
    out: Path | None = None,
    layout: str = "auto",
    table: Path | None = None,
    columns: list[str] | None = None,
    exclude: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Make the table of a folder of images: ids, diagnoses, lesions, ages, sites and file hashes.

    Knows HAM10000 as unpacked, ISIC 2018 task 3, exports of the ISIC Archive, one folder per class,
    MedMNIST .npz files, Kaggle's hmnist tables, and any CSV. Every fault is named before anything
    is written.

    Example: lesionlab catalogue data/ham10000

    Args:
        folder: what the download unpacked to, or one table or .npz file.
        out: where catalogue.csv goes; by default FOLDER itself.
        layout: ham10000, isic2018, isic-archive, folders, medmnist, hmnist, csv; auto looks.
        table: the table to read, where the folder holds several.
        columns: for a table of your own, ours=yours: image_id=name target=label lesion_id=mole.
        exclude: a findings.csv of `lesionlab audit`: images it marks are left out.
    """
    from lesionlab.data import catalogues

    home = out or (folder if folder.is_dir() else folder.parent)
    made = catalogues.catalogue(
        folder,
        layout=layout,
        table=table,
        columns=_pairs(columns),
        exclude=exclude,
        out=home,
        listen=listen,
    )
    return Outcome(
        [(f"{len(made):,} images of {made.lesions:,} lesions", _shares(made.counts()))],
        [*made.notes, f"Written: {home / catalogues.FILE_NAME}. Next: lesionlab audit {home}"],
    )


def audit(
    data: Path,
    *,
    out: Path = Path("findings.csv"),
    layout: str = "auto",
    table: Path | None = None,
    columns: list[str] | None = None,
    listen: Listener,
) -> Outcome:
    """List everything odd about a collection; exit code 1 if there are errors or warnings.

    Decodes every image. Finds missing, empty, truncated, unreadable, blank and oddly shaped images,
    one image under two ids, lesions with two diagnoses, odd ages and sexes.

    Example: lesionlab audit data/ham10000 --out findings.csv

    Args:
        data: a catalogue's folder, or a raw folder as `lesionlab catalogue` takes it.
        out: where the findings go; `lesionlab catalogue --exclude` reads them.
        layout: as for `lesionlab catalogue`.
        table: as for `lesionlab catalogue`.
        columns: as for `lesionlab catalogue`.
    """
    from lesionlab.data import auditing
    from lesionlab.tables import describe

    result = auditing.audit(
        data, layout=layout, table=table, columns=_pairs(columns), listen=listen
    )
    result.save(out)
    lines = []
    for severity in ("error", "warning", "note"):
        chosen = result.findings[result.findings["severity"] == severity]
        if len(chosen):
            lines.append(f"{severity.capitalize()}s ({len(chosen)}):\n{describe(chosen)}")
    faults = len(result.faults)
    marked = int(result.findings["exclude"].sum())
    lines.append(
        f"{faults} faults in {out}; {marked} rows are marked to be left out. To leave them out: "
        f"lesionlab catalogue {data} --exclude {out}"
        if faults
        else f"No faults. The notes are in {out}. Next: lesionlab split {data}"
    )
    title = f"{result.images:,} images of {result.lesions:,} lesions"
    return Outcome([(title, _shares(result.counts))], lines, code=1 if faults else 0)


def split(
    data: Path,
    *,
    out: Path | None = None,
    kind: Literal["folds", "holdout", "official"] = "folds",
    by: Literal["lesion_id", "patient_id"] = "lesion_id",
    folds: int = 5,
    shares: list[float] | None = None,
    val: float = 0.1,
    seed: int = 0,
    listen: Listener,
) -> Outcome:
    """Part a catalogue into train, val and test so that no lesion is on two sides.

    Example: lesionlab split data/ham10000 --folds 5

    Args:
        data: the catalogue's folder.
        out: the split's CSV; by default split.csv beside the catalogue.
        kind: folds (each is once the test part), holdout, or official (the source's own parts).
        by: what must not cross: lesion_id or patient_id.
        folds: number of folds, for --kind folds.
        shares: of train, val and test, for --kind holdout; by default 0.7 0.1 0.2.
        val: share of all but the test fold that becomes val, for --kind folds.
        seed: of the random draw.
    """
    import pandas as pd

    from lesionlab.data import splitting
    from lesionlab.data.catalogues import Catalogue

    opened = Catalogue.open(data)
    made = splitting.split(
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
    proof = (
        f"No {by.removesuffix('_id')} is in two parts" if made.by else "The source names no groups"
    )
    return Outcome(
        [(title, counts.fillna(0).astype(int).reset_index())], [f"{proof}. Written: {path}"]
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
    from lesionlab.data import images
    from lesionlab.data.catalogues import Catalogue
    from lesionlab.recipe import Recipe

    opened = Catalogue.open(data)
    asked = Recipe().but({"images.size": list(size), "images.fit": fit}).images
    home = out or (opened.home or data) / "cache"
    made = images.cache(opened.table, opened.root, asked, home, workers=workers, listen=listen)
    return Outcome(lines=[f"{len(made.pixels):,} images in {made.folder}"])


def train(
    recipe: Path,
    *,
    data: Path,
    out: Path,
    split: Path | None = None,
    fold: int = 0,
    cache: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    fresh: bool = False,
    changes: Mapping[str, Any],
    listen: Listener,
) -> Outcome:
    """Train a network, keep the epoch that is best on val, and predict train, val and test.

    The same command again goes on where a stopped run was. Any setting of the recipe can be changed
    with its dotted name; the file comes first, flags win over it.

    Example: lesionlab train recipes/mobilenetv4_conv_small.yaml --data data/ham10000 --out run

    Args:
        recipe: a YAML file of settings.
        data: the catalogue's folder.
        out: the run's folder, new or unfinished.
        split: the split's CSV; by default split.csv beside the catalogue.
        fold: which fold is the test part.
        cache: folder of caches; by default `cache` beside the catalogue.
        device: auto takes CUDA where there is one.
        fresh: discard an earlier run in that folder.
    """
    from lesionlab.data.catalogues import Catalogue
    from lesionlab.data.splitting import Split
    from lesionlab.recipe import Recipe

    settings = Recipe.load_with(recipe, changes)
    opened = Catalogue.open(data)
    path = split or (opened.home or data) / "split.csv"
    if not path.is_file():
        raise SettingsError(f"{path} does not exist. Make a split first: lesionlab split {data}")
    parts = Split.open(path)
    training = _training_room()
    run = training.train(
        settings,
        opened,
        parts,
        out=out,
        fold=fold,
        cache_to=cache,
        device=device,
        fresh=fresh,
        listen=listen,
    )
    from lesionlab.evaluation import evaluate as score

    info = run.info
    epochs = f"epoch {info['kept_epoch']} of {info['epochs']}"
    kept = f"Kept {epochs}, chosen on val; {info['minutes']:.1f} minutes."
    if (run.predictions["part"] == "test").any():
        outcome = _headline(score(run.predictions, listen=listen), f"{out}, part test")
    else:
        outcome = Outcome(lines=["The split has no test part, so nothing was scored."])
    outcome.lines += [kept, f"Written: {out}. Next: lesionlab report {out} --out report.html"]
    return outcome


def predict(
    run: Path,
    images: list[Path],
    *,
    out: Path = Path("predictions.csv"),
    device: Literal["auto", "cpu", "cuda"] = "auto",
    listen: Listener,
) -> Outcome:
    """Give class probabilities for image files and folders with a trained run.

    Example: lesionlab predict runs/first photo.jpg more_photos/ --out predictions.csv

    Args:
        run: the run's folder.
        images: image files, or folders that are searched for images.
        out: the table to write: image_id, path, p_<class>..., predicted, error.
        device: auto takes CUDA where there is one.
    """
    _training_room()
    from lesionlab.prediction.from_run import predict as predict_images

    table = predict_images(run, images, out=out, device=device, listen=listen)
    good = table[table["error"] == ""]
    columns = ["image_id", "predicted", "probability"]
    shown = good.assign(probability=good.filter(regex="^p_").max(axis=1).map("{:.3f}".format))
    failed = len(table) - len(good)
    lines = [f"{failed} images could not be read; column `error` says why."] if failed else []
    return Outcome(
        [("Predictions", shown[columns].head(20))],
        [*lines, f"Written: {out} ({len(table)} images)"],
    )


def evaluate(
    predictions: Path,
    *,
    part: Literal["train", "val", "test"] = "test",
    positive: str = "mel",
    replicates: int = 1000,
    seed: int = 0,
    out: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Score a predictions table, anybody's, with 95 % intervals that respect lesions.

    Example: lesionlab evaluate runs/first

    Args:
        predictions: a run's folder, or a CSV with image_id, target, p_<class>, and optionally
            lesion_id and part.
        part: which part to score; thresholds always come from val.
        positive: the class of the sensitivity figures.
        replicates: of the lesion-level bootstrap.
        seed: of the bootstrap.
        out: write all figures as JSON.
    """
    from lesionlab.evaluation import evaluate as score
    from lesionlab.run import PREDICTIONS, Run

    path = predictions
    if path.is_dir():
        _ = Run.open(path).predictions
        path = path / PREDICTIONS
    result = score(
        path, part=part, replicates=replicates, seed=seed, positive=positive, listen=listen
    )
    outcome = _headline(result, f"{predictions}, part {part}")
    if out:
        result.save(out)
        outcome.lines.append(f"Written: {out}")
    return outcome


def report(
    runs: list[Path],
    *,
    out: Path = Path("report.html"),
    data: Path | None = None,
    listen: Listener,
) -> Outcome:
    """Write one self-contained HTML page: data, figures with intervals, curves, pictures, settings.

    Example: lesionlab report runs/first --out report.html

    Args:
        runs: run folders, or predictions tables.
        out: the page to write.
        data: the catalogue's folder, for the example pictures; by default the one trained on.
    """
    from lesionlab.data.catalogues import Catalogue
    from lesionlab.reporting.report import report as write_report

    opened = Catalogue.open(data) if data else None
    path = write_report(runs, out, data=opened, listen=listen)
    return Outcome(lines=[f"Written: {path}. Open it in a browser."])


def demo(
    *,
    data: Path | None = None,
    out: Path = Path("demo"),
    fresh: bool = False,
    listen: Listener,
) -> Outcome:
    """Show the whole chain: draw lesions, catalogue, audit, split, train a small net, report.

    Example: lesionlab demo
    Example: lesionlab demo --data data/ham10000 --out runs/demo

    Args:
        data: a folder of real images to use instead of drawn ones.
        out: folder for everything that the demo makes.
        fresh: draw and train anew, whatever an earlier demo left there.
    """
    _training_room()
    from lesionlab.demonstration import demonstrate

    result, page = demonstrate(out, data=data, fresh=fresh, listen=listen)
    outcome = _headline(result, "Test part: lesions the network has never seen")
    outcome.lines.append(f"Report: {page}")
    return outcome


def doctor(*, listen: Listener) -> Outcome:  # noqa: ARG001
    """Say what is installed, what the machine has, and what is missing for which verb.

    Example: lesionlab doctor
    """
    from lesionlab.diagnosis import diagnose

    table, lines = diagnose()
    return Outcome([("This machine", table)], lines)


def _pairs(columns: list[str] | None) -> dict[str, str] | None:
    if not columns:
        return None
    wrong = [each for each in columns if "=" not in each]
    if wrong:
        raise SettingsError(
            f"--columns takes ours=yours pairs, not {wrong[0]!r}: image_id=name target=label"
        )
    return dict(each.split("=", 1) for each in columns)


def _training_room() -> Any:
    try:
        from lesionlab.training import fit
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"This needs {error.name}, part of the training extra: pip install '.[train]'"
        ) from error
    return fit


def _shares(counts: pd.DataFrame) -> pd.DataFrame:
    from lesionlab.taxonomy import full_name

    shown = counts.assign(share=counts["share"].map("{:.1%}".format))
    shown.insert(1, "name", shown["class"].map(full_name))
    return shown


def _headline(result: Evaluation, title: str) -> Outcome:
    import pandas as pd

    rows = [
        (name, str(result[key]))
        for name, key in (
            ("balanced accuracy (mean recall)", "balanced_accuracy"),
            ("macro AUROC", "macro_auroc"),
            (
                f"{result.positive} sensitivity at 90 % specificity",
                f"sensitivity_at_90_specificity/{result.positive}",
            ),
            ("accuracy", "accuracy"),
            ("accuracy of always guessing the majority", "majority_accuracy"),
        )
        if key in result
    ]
    per_class = [
        (name, result[f"recall/{name}"].n, *(str(result[f"{key}/{name}"]) for key in _PER_CLASS))
        for name in result.classes
        if f"recall/{name}" in result
    ]
    return Outcome(
        [
            (title, pd.DataFrame(rows, columns=["metric", "value (95 % interval)"])),
            (
                "Per class",
                pd.DataFrame(per_class, columns=["class", "images", *_PER_CLASS]),
            ),
        ],
    )


_PER_CLASS = ("recall", "precision")
