"""The command that predicts: with a bundle, which needs no torch, or with a run.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lesionlab.advice import command as typed
from lesionlab.cli.declaration import Call, command, library
from lesionlab.cli.outcome import Outcome
from lesionlab.disclaimer import NOTICE
from lesionlab.errors import DataError, SettingsError
from lesionlab.tables import count
from lesionlab.taxonomy import full_name

if TYPE_CHECKING:
    import pandas as pd

    from lesionlab.prediction.batch_job import Predictions
    from lesionlab.prediction.bundle import Bundle

_SHOWN = 20
_CANNOT_JUDGE = ("unreadable", "unlike")


@command(
    "prediction.batch_job.predict_files",
    'predict photo.jpg more_photos/ "archive/**/*.dcm" --out answers.csv',
    without=("predictor", "sources", "chunk"),
)
def predict(
    call: Call,
    images: list[Path] | None = None,
    *,
    model: Path | None = None,
    data: Path | None = None,
    out: Path = Path("predictions.csv"),
    age: float | None = None,
    sex: Literal["female", "male"] | None = None,
    site: str | None = None,
    metadata: Path | None = None,
    views: Literal[1, 2, 4, 8] = 1,
    cache: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Outcome:
    """Give class probabilities for images, folders, DICOM files or a whole catalogue.

    With the model that comes with lesionlab, or a bundle of your own (--model mole.bundle), nothing
    but onnxruntime is needed: probabilities are calibrated, each image has a conformal set and is
    referred or not, with the reason. The same command again goes on where it was stopped.

    With a run (--model RUN, or its folder before the images) torch predicts, without calibration.
    Without images it predicts the run's own catalogue or that of --data into a table that
    `evaluate` reads; what the run has learnt from keeps its part and is not scored as test. A
    folder of folds predicts its own catalogue out of fold, say over several views.

    Args:
        images: image files, folders that are searched through, quoted patterns, or one folder that
            holds a catalogue; a run's folder or a bundle that stands first is the model.
        model: a bundle, or a run's folder; by default the bundle that comes with lesionlab.
        data: the folder of a catalogue to predict, instead of images.
        out: the table to write, .csv, or with a bundle .parquet too. With a bundle, one that holds
            other answers is replaced with --fresh only. Of images image_id, path, predicted,
            p_<class>..., error; of a catalogue lesion_id, target, part and logit_<class>..., too;
            with a bundle also top_<rank>, set (classes parted by a blank, or by | where a name has
            one), malignancy, refer, reason, novelty.
        age: of the person on all images, in years; with a bundle that takes it.
        sex: of the person on all images; with a bundle that takes it.
        site: where on the body all images are from, such as back; with a bundle that takes it.
        metadata: for a model that takes them, a CSV of image_id, age, sex and site; what it lacks
            is unknown. Without it a catalogue and DICOM files have their own.
        views: with a run, average each image's probabilities over so many of its symmetries: 2 adds
            the mirror image, 4 all flips, 8 all turns; each by itself goes into a second table
            beside the first, such as predictions.views.parquet (or .csv).
        cache: with a run, folder of caches; by default `cache` beside the catalogue.
        device: with a run, auto takes CUDA where there is one.
    """
    from lesionlab.prediction.bundle import is_bundle
    from lesionlab.run import FOLDS, INFO

    given = list(images or ())
    if (
        model is None
        and given
        and (any((given[0] / marker).is_file() for marker in (INFO, FOLDS)) or is_bundle(given[0]))
    ):
        model = given.pop(0)
    person = {
        name: value
        for name, value in (("age", age), ("sex", sex), ("site", site))
        if value is not None
    }
    if model is not None and model.is_dir():
        of_bundle = [name for name in ("top", "workers", "fresh") if name in call.options]
        _refuse([*of_bundle, *person], "a bundle", f"{model} is a run")
        settings = {"views": views, "cache_to": cache, "device": device}
        return _with_run(call, model, given, data, out, metadata, settings)
    of_run = {"views": views != 1, "cache": cache is not None, "device": device != "auto"}
    _refuse(
        [name for name, is_given in of_run.items() if is_given],
        "a run",
        f"{model or 'the model that comes with lesionlab'} is a bundle",
    )
    if given and data is not None:
        raise SettingsError("Give images or a catalogue, not both: leave out one of the two.")
    if person and metadata is not None:
        options = ", ".join(f"--{name}" for name in person)
        raise SettingsError(f"--metadata tells of each image, {options} of all: give one of them.")
    from lesionlab.data.catalogue.catalogue import FILE_NAME, Catalogue
    from lesionlab.prediction.bundle import Bundle
    from lesionlab.prediction.predictor import Predictor

    if data is not None:
        given = [data if data.name == FILE_NAME else data / FILE_NAME]
        if not given[0].is_file():
            Catalogue.open(data)  # says how to make one
    if not given:
        raise DataError(
            f"Give images to predict: {typed('predict', 'photo.jpg', 'more_photos/', model=model)}"
        )
    bundle = Bundle.open(model)
    predicted = call(
        predictor=Predictor(bundle), sources=given, out=out, metadata=person or metadata
    )
    return _answers(bundle, predicted, given)


def _refuse(names: Any, owner: str, what: str) -> None:
    if names:
        options = ", ".join(f"--{name}" for name in names)
        raise SettingsError(f"{options}: for {owner} only, and {what}. Leave it out.")


def _answers(bundle: Bundle, predicted: Predictions, sources: list[Path]) -> Outcome:
    """The first answers in words, and what became of all."""
    from lesionlab.prediction.predictor import NOT_REFERRED, REASONS, reason_text

    rows = predicted.first.head(_SHOWN)
    probabilities = rows[[f"p_{label}" for label in bundle.classes]].max(axis=1)
    judged = ~rows["reason"].isin(_CANNOT_JUDGE)
    names = rows["predicted"].map(lambda label: bundle.full_names.get(label, ""))
    shown = rows[["image_id"]].assign(
        predicted=names.where(judged, "–"),
        probability=probabilities.map("{:.3f}".format).where(judged, "–"),
        malignancy=rows["malignancy"].map("{:.3f}".format).where(judged, "–"),
        refer=[
            f"{'no' if reason in NOT_REFERRED else 'yes'}"
            f"{': ' + reason.replace('_', ' ') if reason else ''}"
            for reason in rows["reason"]
        ],
    )
    lines = []
    if len(rows) < predicted.images:
        lines.append(f"The first {len(rows)} of {predicted.images:,} images.")
    malignant = " + ".join(map(bundle.full_names.__getitem__, bundle.referral.malignant))
    lines.append(
        f"malignancy: probability of {malignant or 'nothing'}. refer: whether to leave the image "
        "to a person."
    )
    lines += [
        f"{count(number, 'image')} {'not referred' if reason in NOT_REFERRED else 'referred'}"
        f"{', ' + reason.replace('_', ' ') if reason else ''}: "
        f"{reason_text(reason, bundle.referral)}"
        for reason in REASONS
        if (number := predicted.reasons.get(reason, 0))
    ]
    lines.append(bundle.referral.promise)
    if bundle.measured:
        lines.append(str(bundle.measured["text"]))
    lines += [
        bundle.quality[label].text
        for label in dict.fromkeys(rows["predicted"][judged])
        if label in bundle.quality
    ]
    if predicted.unreadable:
        lines.append("What is wrong with those that cannot be read says column `error`.")
    following = ""
    if "target" in predicted.first.columns:
        following = f". Next: {typed('evaluate', predicted.path)}"
        if predicted.unreadable:
            home = sources[0] if sources[0].is_dir() else sources[0].parent
            following = (
                ". `evaluate` wants every image answered. How to leave those out says "
                f"{typed('audit', home)}"
            )
    lines.append(f"Written: {predicted.path} ({count(predicted.images, 'image')}){following}")
    lines.append(f"Model: {bundle.name} {bundle.version}, {bundle.precision}, {bundle.fingerprint}")
    lines.append(NOTICE)
    return Outcome([("Predictions", shown)], lines)


def _with_run(
    call: Call,
    run: Path,
    images: list[Path],
    data: Path | None,
    out: Path,
    metadata: Path | None,
    settings: dict[str, Any],
) -> Outcome:
    table: pd.DataFrame = library("prediction.run_predictor.predict_run")(
        run, images, data=data, out=out, metadata=metadata, **settings, listen=call.listen
    )
    probabilities = table.filter(regex="^p_")
    shown = table.assign(
        predicted=[full_name(str(name)[2:]) for name in probabilities.fillna(0).idxmax(axis=1)],
        probability=probabilities.max(axis=1).map("{:.3f}".format),
    )
    if not images:
        columns = ["image_id", "target", "part", "predicted", "probability"]
        following = typed("evaluate", out)
        written = f"Written: {out} ({count(len(table), 'image')}). Next: {following}"
        return Outcome([("Predictions", shown[columns].head(_SHOWN))], [written, NOTICE])
    good = shown[table["error"] == ""]
    failed = len(table) - len(good)
    lines = []
    if failed:
        lines.append(f"{count(failed, 'image')} could not be read; column `error` says why.")
    return Outcome(
        [("Predictions", good[["image_id", "predicted", "probability"]].head(_SHOWN))],
        [*lines, f"Written: {out} ({count(len(table), 'image')})", NOTICE],
    )
