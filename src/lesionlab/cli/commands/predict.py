"""The command that predicts: with a bundle, which needs no torch, or with a run.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lesionlab.advice import command as typed
from lesionlab.cli.declaration import Call, command, library
from lesionlab.cli.outcome import Outcome
from lesionlab.disclaimer import NOTICE
from lesionlab.errors import DataError, RunError
from lesionlab.tables import count
from lesionlab.taxonomy import full_name

if TYPE_CHECKING:
    from lesionlab.prediction.batch_job import Predictions
    from lesionlab.prediction.bundle import Bundle

_SHOWN = 20
_TABLE = Path("predictions.csv")
_CANNOT_JUDGE = ("unreadable", "unlike")


@command(
    "prediction.predict.predict",
    'predict photo.jpg more_photos/ "archive/**/*.dcm" --out answers.csv',
)
def predict(
    call: Call,
    images: list[Path] | None = None,
    *,
    model: Path | None = None,
    out: Path | None = None,
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
        out: the table to write, .csv, or with a bundle .parquet too; by default predictions.csv.
            One that holds other answers is replaced with --fresh only: without --out the answers
            are then shown and not written. Of images image_id, path, predicted,
            p_<class>..., error; of a catalogue lesion_id, target, part and logit_<class>..., too;
            with a bundle also top_<rank>, set (classes parted by a blank, or by | where a name has
            one), malignancy, refer, reason, novelty.
    """
    from lesionlab.prediction.bundle import is_bundle
    from lesionlab.run import FOLDS, INFO

    given = list(images or ())
    if model is None and given:
        is_run = any((given[0] / marker).is_file() for marker in (INFO, FOLDS))
        model = given.pop(0) if is_run or is_bundle(given[0]) else None
    opened = library("prediction.predict.open_model")(model)
    data: Path | None = call.options.get("data")
    if hasattr(opened, "bundle") and not given and data is None:
        raise DataError(
            f"Give images to predict: {typed('predict', 'photo.jpg', 'more_photos/', model=model)}"
        )

    def answered(to: Path) -> Outcome:
        predictions = call(images=given or None, model=opened, out=to)
        if hasattr(opened, "bundle"):
            return _of_bundle(opened.bundle, predictions, given[0] if given else Path(data or ""))
        return _of_run(predictions)

    if out is not None or not _TABLE.exists():
        return answered(out or _TABLE)
    try:
        return answered(_TABLE)
    except RunError as refusal:  # it holds other answers: who looks at one image after another
        with tempfile.TemporaryDirectory() as folder:
            outcome = answered(Path(folder) / _TABLE)
        kept = [line for line in outcome.lines if not line.startswith("Written: ")]
        told = str(refusal).splitlines()[-1]
        return replace(outcome, lines=[f"Not written: {_TABLE} holds other answers. {told}", *kept])


def _of_bundle(bundle: Bundle, predictions: Predictions, source: Path) -> Outcome:
    """The first answers in words, and what became of all."""
    from lesionlab.prediction.predictor import NOT_REFERRED, REASONS, reason_text

    rows = predictions.first.head(_SHOWN)
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
    if len(rows) < predictions.images:
        lines.append(f"The first {len(rows)} of {predictions.images:,} images.")
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
        if (number := predictions.reasons.get(reason, 0))
    ]
    lines.append(bundle.referral.promise)
    if bundle.measured:
        lines.append(str(bundle.measured["text"]))
    lines += [
        bundle.quality[label].text
        for label in dict.fromkeys(rows["predicted"][judged])
        if label in bundle.quality
    ]
    if predictions.unreadable:
        lines.append("What is wrong with those that cannot be read says column `error`.")
    following = ""
    if "target" in predictions.first.columns:
        following = f". Next: {typed('evaluate', predictions.path)}"
        if predictions.unreadable:
            home = source if source.is_dir() else source.parent
            following = (
                ". `evaluate` wants every image answered. How to leave those out says "
                f"{typed('audit', home)}"
            )
    lines.append(f"Written: {predictions.path} ({count(predictions.images, 'image')}){following}")
    lines.append(f"Model: {bundle.name} {bundle.version}, {bundle.precision}, {bundle.fingerprint}")
    lines.append(NOTICE)
    return Outcome([("Predictions", shown)], lines)


def _of_run(predictions: Predictions) -> Outcome:
    ((_, rows),) = predictions.shown()
    columns = ["image_id", "target", "part", "predicted", "probability"]
    shown = rows[[name for name in columns if name in rows]].assign(
        predicted=rows["predicted"].map(full_name),
        probability=rows["probability"].map("{:.3f}".format),
    )
    lines = []
    if "error" in rows:
        shown = shown[rows["error"] == ""]
    if failed := predictions.unreadable:
        lines.append(f"{count(failed, 'image')} could not be read; column `error` says why.")
    written = f"Written: {predictions.path} ({count(predictions.images, 'image')})"
    if "target" in rows:
        written += f". Next: {typed('evaluate', predictions.path)}"
    return Outcome([("Predictions", shown.head(_SHOWN))], [*lines, written, NOTICE])
