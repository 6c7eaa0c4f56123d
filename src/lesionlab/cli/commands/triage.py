"""Commands about what to leave to a doctor, and which images a model was not made for.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lesionlab.cli.declaration import Call, command, library
from lesionlab.cli.outcome import Outcome
from lesionlab.errors import DataError, SettingsError
from lesionlab.tables import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from lesionlab.data.catalogue.catalogue import Catalogue
    from lesionlab.evaluation.triage.referral_cost import ReferralCosts


@command(
    "",
    "triage runs/first --prevalence 0.02 --risks 0.1 --out triage",
    "triage runs/first --costs costs.csv --loss cost --confidence cost",
)
def triage(
    call: Call,
    predictions: Path,
    *,
    positive: str | None = None,
    confidence: Literal["max", "margin", "entropy", "benign", "cost"] = "max",
    loss: Literal["error", "balanced", "cost"] = "error",
    coverages: list[float] | None = None,
    risks: list[float] | None = None,
    sensitivity: float = 0.95,
    specificity: float = 0.95,
    ppv: float | None = None,
    prevalence: float = 0.05,
    miss: float = 0.05,
    miss_melanoma: float = 0.03,
    malignant: list[str] | None = None,
    thresholds: list[float] | None = None,
    costs: Path | None = None,
    unit: Literal["lesion", "image"] = "lesion",
    part: Literal["train", "test"] = "test",
    replicates: int = 1000,
    seed: int = 0,
    out: Path | None = None,
) -> Outcome:
    """Show what a model could decide alone, what it should leave to a doctor, and at what price.

    What a promise costs: how many benign lesions are referred lest more than so many of 100
    malignant ones, or melanomas, be missed; of 1,000 patients at a stated prevalence. The promise
    of --miss and --miss-melanoma is what `lesionlab export` puts into a bundle.

    Refer or decide: the errors that are left if the least sure are referred. Two thresholds: who
    would be below the lower one, above the upper one and in between, of 1,000 patients.
    Decision curve: whether acting on the model is better than treating all or none. With --costs
    also what each way to decide would have cost. All thresholds are chosen on val.

    Args:
        predictions: a folder of `lesionlab train` or `blend`, or a CSV with a column part.
        positive: what is looked for: a class, several (mel+bcc), or malignant, the default.
        confidence: max (the largest probability), margin (before the second), entropy, benign (1
            less the risk) or cost (the expected cost of the cheapest action; needs --costs).
        loss: error, balanced (every class weighs as much) or cost (needs --costs).
        coverages: shares to be decided, with a threshold from val for each; by default 0.9 0.8
            and 0.7.
        risks: losses wanted at most among what is decided, with a threshold from val for each.
        sensitivity: share of the cases that must not be below the lower of two thresholds.
        specificity: share of the others that must not be above the upper one.
        ppv: instead of a specificity, the share of cases among those above the upper threshold.
        prevalence: share of the patients that are cases, for the promises and the two thresholds;
            the decision curve is that of the part as it is.
        miss: share of malignant lesions that may go unreferred.
        miss_melanoma: share of melanomas that may.
        malignant: the malignant classes, where HAM10000's rule does not know all of yours.
        thresholds: risks from which somebody would treat; by default 0.01 to 0.6.
        costs: a CSV of a column class and a column of costs per action, one called refer or none;
            rows are the classes, or benign and malignant.
        unit: one decision per lesion (the mean over its images), or per image.
        part: the part to score.
        replicates: of the lesion-level bootstrap.
        seed: of the bootstrap.
        out: a folder for all tables as CSV and the thresholds as JSON.
    """
    from lesionlab.evaluation.predictions.load import open_predictions
    from lesionlab.evaluation.triage.decision_costs import decision_costs
    from lesionlab.evaluation.triage.decision_curve import THRESHOLDS, decision_curve
    from lesionlab.evaluation.triage.referral import POINTS, referral
    from lesionlab.evaluation.triage.rule_in_rule_out import two_thresholds
    from lesionlab.files import write_csv

    table = open_predictions(predictions)
    referred = referral(
        table,
        confidence=confidence,
        loss=loss,
        costs=costs,
        coverages=POINTS if coverages is None else coverages,
        risks=risks or (),
        positive=positive,
        part=part,
        unit=unit,
        replicates=replicates,
        seed=seed,
        listen=call.listen,
    )
    ruled = two_thresholds(
        table,
        positive=positive,
        sensitivity=sensitivity,
        specificity=specificity,
        ppv=ppv,
        prevalence=prevalence,
        part=part,
        unit=unit,
        replicates=replicates,
        seed=seed,
        listen=call.listen,
    )
    curve = decision_curve(
        table,
        positive=positive,
        thresholds=thresholds or THRESHOLDS,
        part=part,
        unit=unit,
        replicates=replicates,
        seed=seed,
        listen=call.listen,
    )
    outcome = Outcome()
    promised = _promised(
        table, miss, miss_melanoma, malignant, prevalence, part, replicates, seed, call, outcome
    )
    outcome.tables += [
        (f"Refer or decide, part {part}, {unit}s", _points(referred.points, loss)),
        (
            f"Of {ruled.settings['patients']:,} patients, {prevalence:.1%} of them "
            f"{ruled.question.name}",
            _patients(ruled.table()),
        ),
        (f"Net benefit for {curve.question.name}, per 1,000", _net_benefit(curve.table)),
    ]
    outcome.lines += [
        f"AURC {referred['aurc']}, of which avoidable by a better order {referred['excess_aurc']}.",
        f"Below {ruled.rule_out:.4g}: sensitivity {ruled['sensitivity_out']}, NPV "
        f"{ruled['npv']}. From {ruled.rule_in:.4g} on: specificity {ruled['specificity_in']}, PPV "
        f"{ruled['ppv']}.",
        f"{ruled.question.rule}. Net benefit: {_useful(curve.useful())}",
    ]
    if costs:
        spent = decision_costs(
            table, costs, part=part, unit=unit, replicates=replicates, seed=seed, listen=call.listen
        )
        outcome.tables.append((f"Mean cost per {unit}", _spent(spent)))
    if out:
        if promised is not None:
            promised.save(out / "promises.csv")
        referred.save(out / "refer_or_decide.csv")
        ruled.save(out / "two_thresholds.csv")
        write_csv(out / "patients.csv", ruled.table())
        curve.save(out / "decision_curve.csv")
        if costs:
            write_csv(out / "costs.csv", spent)
        outcome.lines.append(f"Written: {out}")
    return outcome


def _promised(
    table: pd.DataFrame,
    miss: float,
    miss_melanoma: float,
    malignant: list[str] | None,
    prevalence: float,
    part: Part,
    replicates: int,
    seed: int,
    call: Call,
    outcome: Outcome,
) -> ReferralCosts | None:
    """What promises cost, added to what is shown; None, and a line, where that cannot be said."""
    from lesionlab.evaluation.triage.referral_cost import referral_costs

    try:
        found = referral_costs(
            table,
            miss=miss,
            miss_melanoma=miss_melanoma,
            malignant=malignant,
            prevalence=prevalence,
            part=part,
            replicates=replicates,
            seed=seed,
            listen=call.listen,
        )
    except (DataError, SettingsError) as error:
        if malignant is not None or (miss, miss_melanoma) != (0.05, 0.03):
            raise
        outcome.lines.append(f"What a promise costs cannot be said: {error}")
        return None
    patients = found.settings["patients"]
    title = f"What a promise costs, of {patients:,} patients, {prevalence:.1%} malignant"
    outcome.tables.append((title, _promises(found.table)))
    outcome.lines += [found.rule.promise, found.measured.text]
    return found


def _promises(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (
            row["promise"],
            _percent(row, "missed"),
            _percent(row, "missed_melanoma") if "missed_melanoma" in row else "",
            _percent(row, "referred"),
            f"{row['patients_referred']:.0f}",
            f"{row['patients_missed']:.1f}",
        )
        for _, row in table.iterrows()
    ]
    columns = ["promise", "malignant missed, %", "melanomas missed, %", "benign referred, %"]
    return pd.DataFrame(rows, columns=[*columns, "patients referred", "patients missed"])


def _percent(row: pd.Series, name: str) -> str:
    """A share and its interval as percent."""
    value, low, high = (100 * row[each] for each in (name, f"{name}_low", f"{name}_high"))
    return f"{value:.1f}" if isnan(low) else f"{value:.1f} ({low:.1f}–{high:.1f})"


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
    outcome.lines.append(f"Written: {out}. Next: lesionlab outliers score {out} photos/")
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
        raise DataError(f"{detectors} holds no detector. Fit them: lesionlab outliers fit RUN")
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


def _points(points: pd.DataFrame, loss: str) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (
            row["wanted"],
            f"{row['threshold']:.4g}",
            _of(row, "coverage"),
            f"{row['val_risk']:.3f}",
            _of(row, "risk"),
        )
        for _, row in points.iterrows()
    ]
    columns = ["wanted on val", "threshold", "decided", f"{loss} on val", f"{loss} of decided"]
    return pd.DataFrame(rows, columns=columns)


def _patients(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (row["what"], f"{row['patients']:.1f} ({row['low']:.1f}–{row['high']:.1f})")
        for _, row in table.iterrows()
    ]
    return pd.DataFrame(rows, columns=["what", "patients (95 % interval)"])


def _net_benefit(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (
            f"{row['threshold']:.2f}",
            _of(row, "model", 1000),
            f"{1000 * row['all']:.0f}",
            _of(row, "gain", 1000),
            f"{row['sensitivity']:.3f}",
            f"{row['specificity']:.3f}",
        )
        for _, row in table.iterrows()
    ]
    columns = ["treated from", "model", "treat all", "gain over the better of all and none"]
    return pd.DataFrame(rows, columns=[*columns, "sensitivity", "specificity"])


def _spent(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (
            row["way"],
            _three(row, "cost", "low", "high"),
            _of(row, "saved"),
            f"{row['referred']:.1%}",
        )
        for _, row in table.iterrows()
    ]
    return pd.DataFrame(rows, columns=["way", "cost", "saved by the cheapest", "referred"])


def _of(row: pd.Series, name: str, scale: float = 1.0) -> str:
    return _three(row, name, f"{name}_low", f"{name}_high", scale)


def _three(row: pd.Series, value: str, low: str, high: str, scale: float = 1.0) -> str:
    """A value and its interval, out of three columns."""
    each = [scale * row[name] for name in (value, low, high)]
    if isnan(each[0]):
        return "not defined"
    form = ".0f" if scale > 1 else ".3f"
    if isnan(each[1]):
        return f"{each[0]:{form}}"
    return f"{each[0]:{form}} ({each[1]:{form}} to {each[2]:{form}})"


def _useful(ranges: list[tuple[float, float]]) -> str:
    if not ranges:
        return "at no threshold shown is the model surely better than treating all or none."
    told = " and ".join(
        f"{low:g} to {high:g}" if low < high else f"{low:g}" for low, high in ranges
    )
    return f"the model is better than treating all or none at thresholds of {told}."
