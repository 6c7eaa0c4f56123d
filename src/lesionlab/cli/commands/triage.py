"""Commands about what to leave to a doctor, and which images a model was not made for.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lesionlab.advice import command as typed
from lesionlab.cli.declaration import Call, command, library
from lesionlab.cli.outcome import Outcome, saved
from lesionlab.cli.render import columns
from lesionlab.errors import DataError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from lesionlab.data.catalogue.catalogue import Catalogue


@command(
    "evaluation.triage.triage.triage",
    "triage runs/first --prevalence 0.02 --risks 0.1 --out triage",
    "triage runs/first --costs costs.csv --loss cost --confidence cost",
)
def triage(call: Call, *, out: Path | None = None) -> Outcome:
    """Show what a model could decide alone, what it should leave to a doctor, and at what price.

    What a promise costs: how many benign lesions are referred lest more than so many of 100
    malignant ones, or melanomas, be missed; of 1,000 patients at a stated prevalence. The promise
    of --miss and --miss-melanoma is what `lesionlab export` puts into a bundle.

    Refer or decide: the errors that are left if the least sure are referred. Two thresholds: who
    would be below the lower one, above the upper one and in between, of 1,000 patients.
    Decision curve: whether acting on the model is better than treating all or none. With --costs
    also what each way to decide would have cost. All thresholds are chosen on val.

    Args:
        out: a folder for all tables as CSV and the thresholds as JSON.
    """
    result = call()
    referred, two, curve = result.referral, result.thresholds, result.decision_curve
    part, unit = call.options.get("part", "test"), call.options.get("unit", "lesion")
    patients, share = two.settings["patients"], two.settings["prevalence"]
    outcome = Outcome()
    if result.promises is not None:
        outcome.tables.append(
            (
                f"What a promise costs, of {patients:,} patients, {share:.1%} malignant",
                columns(
                    result.promises.table,
                    promise="promise",
                    missed="malignant_missed_share",
                    missed_melanoma="melanomas_missed_share",
                    referred="benign_referred_share",
                    patients_referred="patients referred",
                    patients_missed="patients missed",
                ),
            )
        )
        outcome.lines += [result.promises.rule.promise, result.promises.measured.text]
    loss = call.options.get("loss", "error")
    names = {"wanted": "wanted on val", "threshold": "threshold", "coverage": "decided"}
    names |= {"val_risk": f"{loss} on val", "risk": f"{loss} of decided"}
    outcome.tables += [
        (f"Refer or decide, part {part}, {unit}s", columns(referred.points, **names)),
        (f"Of {patients:,} patients, {share:.1%} of them {two.question.name}", two.table()),
        (
            f"Net benefit for {curve.question.name}",
            columns(
                curve.table.drop(columns=[f"{n}_{e}" for n in _BARE for e in ("low", "high")]),
                threshold="treated from",
                model="model",
                all="treat all",
                gain="gain over the better of all and none",
                sensitivity="sensitivity",
                specificity="specificity",
            ),
        ),
    ]
    outcome.lines += [
        f"AURC {referred['aurc']}, of which avoidable by a better order {referred['excess_aurc']}.",
        f"Below {two.rule_out:.4g}: sensitivity {two['sensitivity_out']}, NPV {two['npv']}. From "
        f"{two.rule_in:.4g} on: specificity {two['specificity_in']}, PPV {two['ppv']}.",
        f"{two.question.rule}. Net benefit: {_useful(curve.useful())}",
    ]
    if result.costs is not None:
        names = {"way": "way", "cost": "cost", "saved": "saved by the cheapest"}
        costs = columns(result.costs, **names, referred="referred_share")
        outcome.tables.append((f"Mean cost per {unit}", costs))
    outcome.warnings += result.warnings
    return saved(outcome, result, out)


_BARE = ("all", "sensitivity", "specificity")  # shown without their intervals, for want of room


@command(
    "evaluation.outliers.benchmark.detect_outliers",
    "outliers fit runs/first --others holiday_photos/ --out detectors",
    without=("ours",),
)
def outliers_fit(
    call: Call,
    run: Path,
    *,
    others: list[Path] | None = None,
    data: Path | None = None,
    out: Path,
) -> Outcome:
    """Learn to tell images that a run was not made for, and try it on others.

    Scores of unlikeness are fitted on part train, thresholds on val: an image of a new lesion like
    those is called unlike with the probability --alarms at most. Shown is how well each score tells
    other images from part test. OUT gets figures, scores, and every detector as JSON and .npz;
    `outliers score OUT` asks them about further images.

    Args:
        run: a run's folder; or what `lesionlab embed RUN --data DIR` wrote of its catalogue.
        others: folders of images that the run was not made for; or what `lesionlab embed` wrote of
            the same run and other images.
        data: the run's catalogue, if it is no longer where it was.
        out: a folder for figures, scores and detectors.
    """
    import pandas as pd

    from lesionlab.embeddings import INFO

    ours, further = run, list(others or ())
    if not (run / INFO).is_file():
        of_run = library("prediction.run_inputs.catalogue_of")(library("run.Run").open(run), data)
        ours = _embedded(call, run, out / _OURS, data=of_run)
        further = [
            each
            if (each / INFO).is_file()
            else _embedded(call, run, out / f"embeddings_of_{each.name}", images=[each])
            for each in further
        ]
    result = call(
        ours=ours, others={each.name.removeprefix("embeddings_of_"): each for each in further}
    )
    fitted = [
        (name, f"{detector.threshold:.4g}", _alarms(result.scores, name))
        for name, detector in result.detectors.items()
    ]
    columns = ["score", "threshold from val", "part test above it"]
    outcome = Outcome([("Scores of unlikeness", pd.DataFrame(fitted, columns=columns))])
    rows = [
        (other, method, *(str(result[method, other, name]) for name in _FIGURES))
        for other in dict.fromkeys(name for _, name, _ in result.estimates)
        for method in result.detectors
    ]
    if rows:
        columns = ["other images", "score", *_FIGURES.values()]
        outcome.tables.append(("Told apart", pd.DataFrame(rows, columns=columns)))
    result.save(out)
    outcome.lines.append(f"Written: {out}. Next: {typed('outliers score', out, 'photos/')}")
    return outcome


@command(
    "",
    "outliers score detectors photos/ --out scores.csv",
)
def outliers_score(
    call: Call,
    detectors: Path,
    images: list[Path],
    *,
    run: Path | None = None,
    out: Path = Path("outlier_scores.csv"),
) -> Outcome:
    """Say of images how unlike those a run was made for they are, by what `outliers fit` learnt.

    A row per image and score: method, score, threshold, unlike.

    Args:
        detectors: the folder that `lesionlab outliers fit` wrote.
        images: image files and folders of them; or what `lesionlab embed` wrote of them.
        run: the run's folder, if it is no longer where it was.
        out: the table to write.
    """
    from tempfile import TemporaryDirectory

    import pandas as pd

    from lesionlab.embeddings import INFO, Embeddings
    from lesionlab.evaluation.outliers.detectors import METHODS, OF_EMBEDDINGS, Detector
    from lesionlab.files import write_csv

    fitted = [name for name in METHODS if (detectors / f"{name}.json").is_file()]
    if not fitted:
        raise DataError(
            f"{detectors} holds no detector. Fit them: "
            f"{typed('outliers fit', 'RUN', out=detectors)}"
        )
    with TemporaryDirectory() as scratch:
        if len(images) == 1 and (images[0] / INFO).is_file():
            opened = Embeddings.open(images[0])
        else:
            if run is None:
                if not (detectors / _OURS / INFO).is_file():
                    raise SettingsError(f"Say with --run whose detectors {detectors} holds.")
                run = Path(Embeddings.open(detectors / _OURS).info["model"])
            opened = Embeddings.open(_embedded(call, run, Path(scratch) / "all", images=images))
        rows = []
        for name in fitted:
            detector = Detector.load(detectors / name)
            scores = detector.score(opened.vectors if name in OF_EMBEDDINGS else opened.logits)
            table = opened.table[["image_id"]].assign(
                method=name,
                score=scores,
                threshold=detector.threshold,
                unlike=scores > detector.threshold,
            )
            rows.append(table)
    table = pd.concat(rows, ignore_index=True)
    write_csv(out, table)
    counts = table.groupby("method", sort=False)["unlike"].agg(["size", "sum"]).reset_index()
    counts.columns = pd.Index(["score", "images", "called unlike"])
    return Outcome([("Unlike what the run was made for", counts)], [f"Written: {out}"])


_OURS = "embeddings"
_FIGURES = {
    "auroc": "AUROC",
    "let_through_at_95": "let through, with 95 % of ours",
    "alarms_others": "called unlike",
}


def _embedded(
    call: Call,
    run: Path,
    out: Path,
    *,
    data: Catalogue | None = None,
    images: Sequence[Path] = (),
) -> Path:
    """The folder of what a run makes of a catalogue or of images."""
    library("prediction.embed.embed")(run, data, images, out=out, listen=call.listen)
    return out


def _alarms(scores: pd.DataFrame, method: str) -> str:
    ours = scores[(scores["method"] == method) & (scores["set"] == "")]
    return f"{ours['unlike'].mean():.1%}"


def _useful(ranges: list[tuple[float, float]]) -> str:
    if not ranges:
        return "at no threshold shown is the model surely better than treating all or none."
    shown = " and ".join(
        f"{low:g} to {high:g}" if low < high else f"{low:g}" for low, high in ranges
    )
    return f"the model is better than treating all or none at thresholds of {shown}."
