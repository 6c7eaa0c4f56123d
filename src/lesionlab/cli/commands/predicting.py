"""The verb that predicts: with a bundle, which needs no torch, or with a run.

The signature is the options, the docstring the help. Rooms are imported when the verb is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lesionlab.cli.outcome import Outcome, training_room
from lesionlab.disclaimer import NOTICE
from lesionlab.errors import DataError, SettingsError
from lesionlab.progress import Listener
from lesionlab.tables import count

if TYPE_CHECKING:
    import pandas as pd

    from lesionlab.prediction.batch_job import Predicted
    from lesionlab.prediction.bundle import Bundle

_SHOWN = 20


def predict(
    images: list[Path] | None = None,
    *,
    model: Path | None = None,
    data: Path | None = None,
    out: Path | None = None,
    age: float | None = None,
    sex: Literal["female", "male"] | None = None,
    site: str | None = None,
    metadata: Path | None = None,
    top: int = 3,
    workers: int | None = None,
    fresh: bool = False,
    views: Literal[1, 2, 4, 8] = 1,
    cache: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    listen: Listener,
) -> Outcome:
    """Give class probabilities for images, folders, DICOM files or a whole catalogue.

    With the model that comes with lesionlab, or a bundle of your own (--model mole.bundle), nothing
    but onnxruntime is needed: probabilities are calibrated, each image has a conformal set and is
    referred or not, with the reason. The same command again goes on where it was stopped.

    With a run (--model RUN, or its folder before the images) torch predicts, without calibration.
    Without images it predicts the run's own catalogue or that of --data into a table that
    `evaluate` reads; what the run has learnt from keeps its part and is not scored as test. A
    folder of folds predicts its own catalogue out of fold, say over several views.

    Example: lesionlab predict photo.jpg more_photos/ "archive/**/*.dcm" --out predictions.csv

    Args:
        images: image files, folders that are searched through, quoted patterns, or one folder that
            holds a catalogue; a run's folder or a bundle that stands first is the model.
        model: a bundle, or a run's folder; by default the bundle that comes with lesionlab.
        data: the folder of a catalogue to predict, instead of images.
        out: the table to write, .csv, or with a bundle .parquet too; by default predictions.csv, or
            with a bundle predictions-2.csv and so on where that is of something else. Of images
            image_id, path, predicted, p_<class>..., error; of a catalogue lesion_id, target, part
            and logit_<class>..., too; with a bundle also top_<rank>, set, malignancy, refer,
            reason, novelty.
        age: of the person on all images, in years; with a bundle that takes it.
        sex: of the person on all images; with a bundle that takes it.
        site: where on the body all images are from, such as back; with a bundle that takes it.
        metadata: for a model that takes them, a CSV of image_id, age, sex and site; what it lacks
            is unknown. Without it a catalogue and DICOM files have their own.
        top: with a bundle, how many of the likeliest classes get columns of their own.
        workers: with a bundle, threads; by default one per core.
        fresh: with a bundle, discard what an earlier command left of the same table.
        views: with a run, average each image's probabilities over so many of its symmetries: 2 adds
            the mirror image, 4 all flips, 8 all turns; each by itself goes into a second table
            beside the first, such as predictions.views.parquet (or .csv).
        cache: with a run, folder of caches; by default `cache` beside the catalogue.
        device: with a run, auto takes CUDA where there is one.
    """
    from lesionlab.prediction.bundle import is_bundle
    from lesionlab.run import FOLDS, INFO

    given = list(images or ())
    markers = (INFO, FOLDS)
    if (
        model is None
        and given
        and (any((given[0] / marker).is_file() for marker in markers) or is_bundle(given[0]))
    ):
        model = given.pop(0)
    of_run = {"--views": views != 1, "--cache": cache is not None, "--device": device != "auto"}
    person = {"age": age, "sex": sex, "site": site}
    told = {name: value for name, value in person.items() if value is not None}
    of_bundle = {"--top": top != 3, "--workers": workers is not None, "--fresh": fresh}
    of_bundle |= {f"--{name}": name in told for name in person}
    if model is not None and model.is_dir():
        _refuse(of_bundle, "a bundle", f"{model} is a run")
        table = out or Path("predictions.csv")
        return _with_run(model, given, data, table, metadata, views, cache, device, listen)
    _refuse(of_run, "a run", f"{model or 'the model that comes with lesionlab'} is a bundle")
    if given and data is not None:
        raise SettingsError("Give images or a catalogue, not both: leave out one of the two.")
    if told and metadata is not None:
        options = ", ".join(f"--{name}" for name in told)
        raise SettingsError(f"--metadata tells of each image, {options} of all: give one of them.")
    from lesionlab.data.catalogue.catalogue import FILE_NAME, Catalogue
    from lesionlab.prediction.batch_job import predict_files
    from lesionlab.prediction.bundle import Bundle
    from lesionlab.prediction.predictor import Predictor

    if data is not None:
        given = [data if data.name == FILE_NAME else data / FILE_NAME]
        if not given[0].is_file():
            Catalogue.open(data)  # says how to make one
    if not given:
        raise DataError("Give images to predict: lesionlab predict photo.jpg more_photos/")
    bundle = Bundle.open(model)
    found = predict_files(
        Predictor(bundle),
        given,
        out=out,
        metadata=told or metadata,
        top=top,
        workers=workers,
        fresh=fresh,
        listen=listen,
    )
    return _answers(bundle, found)


def _refuse(options: dict[str, bool], owner: str, found: str) -> None:
    if wrong := [name for name, given in options.items() if given]:
        raise SettingsError(f"{', '.join(wrong)}: for {owner} only, and {found}. Leave it out.")


def _answers(bundle: Bundle, found: Predicted) -> Outcome:
    """The first answers in words, and what became of all."""
    from lesionlab.prediction.predictor import NOT_REFERRED, REASONS

    rows = found.first.head(_SHOWN)
    probabilities = rows[[f"p_{label}" for label in bundle.classes]]
    shown = rows[["image_id"]].assign(
        predicted=[bundle.full_names.get(label, "") for label in rows["predicted"]],
        probability=probabilities.max(axis=1).map("{:.3f}".format, na_action="ignore").fillna(""),
        then=[_runners_up(each, bundle) for _, each in probabilities.iterrows()],
        malignancy=rows["malignancy"].map("{:.3f}".format, na_action="ignore").fillna(""),
        refer=[
            f"{'no' if reason in NOT_REFERRED else 'yes'}"
            f"{': ' + reason.replace('_', ' ') if reason else ''}"
            for reason in rows["reason"]
        ],
    )
    lines = []
    if len(rows) < found.images:
        lines.append(f"The first {len(rows)} of {found.images:,} images.")
    lines.append(
        "malignancy: probability of "
        f"{' + '.join(map(bundle.full_names.__getitem__, bundle.referral.malignant)) or 'nothing'}"
        ". refer: whether to leave the image to a person."
    )
    lines += [
        f"{count(number, 'image')} {'not referred' if reason in NOT_REFERRED else 'referred'}"
        f"{', ' + reason.replace('_', ' ') if reason else ''}: {REASONS[reason]}"
        for reason in REASONS
        if (number := found.reasons.get(reason, 0))
    ]
    lines.append(bundle.referral.promise)
    if bundle.measured:
        lines.append(str(bundle.measured["text"]))
    shown_classes = [label for label in dict.fromkeys(rows["predicted"]) if label in bundle.quality]
    lines += [bundle.quality[label].text for label in shown_classes]
    if found.unreadable:
        lines.append("What is wrong with those that cannot be read says column `error`.")
    following = ""
    if "target" in found.first.columns:
        following = f". Next: lesionlab evaluate {found.path}"
        if found.unreadable:
            following = (
                ". `evaluate` wants every image answered: leave those out of the catalogue first "
                "(lesionlab audit, then lesionlab catalogue --exclude)"
            )
    lines.append(f"Written: {found.path} ({count(found.images, 'image')}){following}")
    lines.append(f"Model: {bundle.name} {bundle.version}, {bundle.precision}, {bundle.fingerprint}")
    lines.append(NOTICE)
    return Outcome([("Predictions", shown)], lines)


def _runners_up(probabilities: pd.Series, bundle: Bundle) -> str:
    """The second and third likeliest class of an image."""
    if probabilities.isna().any():
        return ""
    order = probabilities.sort_values(ascending=False, kind="stable").iloc[1:3]
    return ", ".join(
        f"{bundle.full_names[str(name)[2:]]} {chance:.3f}" for name, chance in order.items()
    )


def _with_run(
    run: Path,
    images: list[Path],
    data: Path | None,
    out: Path,
    metadata: Path | None,
    views: int,
    cache: Path | None,
    device: Literal["auto", "cpu", "cuda"],
    listen: Listener,
) -> Outcome:
    training_room()
    from lesionlab.prediction.run_predictor import predict as predict_images

    table: pd.DataFrame = predict_images(
        run,
        images,
        data=data,
        out=out,
        metadata=metadata,
        views=views,
        cache_to=cache,
        device=device,
        listen=listen,
    )
    probabilities = table.filter(regex="^p_")
    shown = table.assign(
        predicted=[str(name)[2:] for name in probabilities.fillna(0).idxmax(axis=1)],
        probability=probabilities.max(axis=1).map("{:.3f}".format),
    )
    if not images:
        columns = ["image_id", "target", "part", "predicted", "probability"]
        written = f"Written: {out} ({count(len(table), 'image')}). Next: lesionlab evaluate {out}"
        lines = [written, NOTICE]
        return Outcome([("Predictions", shown[columns].head(_SHOWN))], lines)
    good = shown[table["error"] == ""]
    failed = len(table) - len(good)
    lines = []
    if failed:
        lines.append(f"{count(failed, 'image')} could not be read; column `error` says why.")
    return Outcome(
        [("Predictions", good[["image_id", "predicted", "probability"]].head(_SHOWN))],
        [*lines, f"Written: {out} ({count(len(table), 'image')})", NOTICE],
    )
