"""The section on triage: risk against coverage, 1,000 patients, and the decision curve."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lesionlab.display import percent
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.predictions.binary_target import Unit
from lesionlab.evaluation.predictions.load import Source, open_predictions
from lesionlab.evaluation.triage.decision_curve import THRESHOLDS, DecisionCurve, decision_curve
from lesionlab.evaluation.triage.referral import Referral, referral
from lesionlab.evaluation.triage.referral_cost import ReferralCosts, referral_costs
from lesionlab.evaluation.triage.rule_in_rule_out import PREVALENCE, TwoThresholds, two_thresholds
from lesionlab.progress import Listener, silent
from lesionlab.reporting.figures.distributions import chart
from lesionlab.reporting.figures.model import ACCENT, WARM, percent_axes
from lesionlab.reporting.figures.style import TEXT, to_svg
from lesionlab.reporting.page.section import Exhibit, Section

DRAWN = tuple(round(0.01 * each, 2) for each in range(1, 61))
"""Thresholds of the figure; the table shows fewer."""

_COLUMNS = 40  # patients in a row of the figure
_BETWEEN = "#8A949E"
_ZONES = (  # as in the figure, from the top: name, colour, number of all, number of cases
    ("below the lower threshold", ACCENT, "ruled_out", "missed"),
    ("left for the doctor", _BETWEEN, "between", "between_cases"),
    ("above the upper threshold", WARM, "ruled_in", "ruled_in_cases"),
)


def section(
    predictions: Source,
    *,
    positive: str | None = None,
    prevalence: float = PREVALENCE,
    unit: Unit = "lesion",
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Section:
    """What the model could decide alone, on part test, with thresholds from val.

    Args:
        predictions: anything that `evaluate` takes.
        positive: what is looked for; by default malignant.
        prevalence: share of the patients that are cases.
        unit: lesion or image.
        replicates: of the bootstrap over lesions.
        seed: of the bootstrap.
        listen: told of the progress.

    Returns:
        Exhibits promises, risk_coverage, two_thresholds and decision_curve; what cannot be shown,
        without a val part or without cases, is said.

    Raises:
        DataError: if there is no test part.
        FindingsError: with every fault of the table at once.
    """
    table = open_predictions(predictions)
    told = {"unit": unit, "replicates": replicates, "seed": seed, "listen": listen}
    shown, absent = [], []
    try:
        cost = referral_costs(
            table, prevalence=prevalence, replicates=replicates, seed=seed, listen=listen
        )
        shown.append(_promises(cost))
    except (DataError, SettingsError) as error:
        absent.append(f"No promise of referral: {error}")
    try:
        shown.append(_refer(referral(table, **told)))  # type: ignore[arg-type]
    except DataError as error:
        absent.append(f"No thresholds for referral: {error}")
        shown.append(_refer(referral(table, coverages=(), **told)))  # type: ignore[arg-type]
    try:
        ruled = two_thresholds(table, positive=positive, prevalence=prevalence, **told)  # type: ignore[arg-type]
        shown.append(_patients(ruled))
    except (DataError, SettingsError) as error:
        absent.append(f"No two thresholds: {error}")
    try:
        curve = decision_curve(table, positive=positive, thresholds=DRAWN, **told)  # type: ignore[arg-type]
        shown.append(_decision(curve))
    except (DataError, SettingsError) as error:
        absent.append(f"No decision curve: {error}")
    return Section(
        "triage", "What to decide, and what to leave to a doctor", tuple(shown), tuple(absent),
        "Triage",
    )  # fmt: skip


def _promises(found: ReferralCosts) -> Exhibit:
    settings = found.settings
    title = "What a promised miss rate costs"
    reading = (
        "Thresholds are fitted on val by conformal risk control; a likeliest class that is "
        "malignant is always referred. Each row is a promise: at most so many of 100 malignant "
        "lesions, or melanomas, unreferred, for new lesions like those of val, on average over "
        f"them. The first row keeps both of the usual ones. {found.rule.promise} On part "
        f"{found.measured.part}: {found.measured.text} Patients are "
        f"{settings['patients']:,}, {_whole(settings['prevalence'])} of them with a malignant "
        "lesion; the prevalence is assumed, not measured."
    )
    for text in found.warnings:
        reading += f" {text}"
    return Exhibit(
        "promises", title, reading, found.table, promises(found, title),
        {"promises_beside_sets": found.measured.table()},
    )  # fmt: skip


def _refer(found: Referral) -> Exhibit:
    curve, unit = found.curve(), found.settings["unit"]
    title = f"Errors left if the least sure are referred, n = {found.n:,} {unit}s"
    reading = (
        f"Read from right to left: the fewer {unit}s the model decides, the surest ones, the "
        f"smaller the share of wrong classes among them. Area under the curve {found['aurc']}; "
        f"the best possible order of the same errors has {found['best_aurc'].value:.3f}."
    )
    for _, point in found.points.iterrows():
        span = f"{percent(point['risk_low'])} to {percent(point['risk_high'])}"
        reading += (
            f" Threshold {point['threshold']:.3f}, chosen on val to decide "
            f"{_whole(point['val_coverage'])}: decided {percent(point['coverage'])}, of which "
            f"wrong {percent(point['risk'])} ({span})."
        )
    more = {"referral_thresholds": found.points} if len(found.points) else {}
    svg = risk_coverage(found, title)
    return Exhibit("risk_coverage", title, reading, curve, svg, more)


def _patients(found: TwoThresholds) -> Exhibit:
    settings = found.settings
    title = (
        f"{settings['patients']:,} patients, {_whole(settings['prevalence'])} of them "
        f"{found.question.name}"
    )
    promise = (
        f"a PPV of {_whole(settings['ppv'])} of those above"
        if settings["ppv"] is not None
        else f"{_whole(settings['specificity'])} of the others not above"
    )
    reading = (
        f"Thresholds chosen on val: {_whole(settings['sensitivity'])} of the cases not below "
        f"{found.rule_out:.3f}, {promise} {found.rule_in:.3f}. On part {found.part} they had "
        f"sensitivity {found['sensitivity_out']} and specificity {found['specificity_in']}. Each "
        f"patient stands for one {settings['unit']}. The prevalence is assumed, not measured; "
        f"{found.question.rule}."
    )
    for text in found.warnings:
        reading += f" {text}"
    more = {"two_thresholds_figures": found.figures()}
    return Exhibit("two_thresholds", title, reading, found.table(), patients(found, title), more)


def _decision(found: DecisionCurve) -> Exhibit:
    title = f"Net benefit for {found.question.name}, n = {found.n:,} {found.unit}s"
    useful = " and ".join(f"{_whole(low)} to {_whole(high)}" for low, high in found.useful())
    reading = (
        "Treating from a risk of 10 % on means: nine needless treatments weigh as much as one "
        "found case. At the threshold of your choice, the highest line is the best thing to do. "
        f"{found.cases:,} of the {found.n:,} {found.unit}s are cases "
        f"({percent(found.prevalence)}); {found.question.rule}. "
    )
    reading += (
        f"The model is surely better than treating all or none at {useful}."
        if useful
        else "At no threshold is the model surely better than treating all or none."
    )
    shown = found.table[found.table["threshold"].isin(THRESHOLDS)].reset_index(drop=True)
    svg = net_benefit(found, title)
    return Exhibit(
        "decision_curve", title, reading, shown, svg, {"decision_curve_all": found.table}
    )


def promises(found: ReferralCosts, title: str) -> str:
    """Draw the share of benign lesions referred beside the share missed, promise by promise.

    Args:
        found: from `referral_costs`.
        title: of the figure.
    """
    table = found.table
    both = table.iloc[0]
    with chart(3.3, title, grid="both") as (figure, axes):
        words = []
        for start, figure_of, colour in (
            ("malignancy", "missed", ACCENT),
            ("melanoma", "missed_melanoma", WARM),
        ):
            rows = table[table["promise"].str.startswith(start)]
            if rows.empty or figure_of not in table:  # no such lesion in the part
                continue
            kind = "malignant lesions" if start == "malignancy" else "melanomas"
            axes.plot(
                rows[figure_of], rows["referred"], "o-", color=colour, label=f"limit on {kind}"
            )
            words += [
                f"{row['promise']}: missed {percent(row[figure_of])}, referred "
                f"{percent(row['referred'])}"
                for _, row in rows.iterrows()
            ]
        axes.plot(both["missed"], both["referred"], "D", color=TEXT, label="both usual promises")
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.03)
        percent_axes(axes, "xy")
        axes.set_xlabel("of those, missed")
        axes.set_ylabel("benign lesions referred")
        figure.legend(loc="outside lower center", ncols=3, handlelength=1.8, columnspacing=1.2)
        return to_svg(figure, f"{title}. {'; '.join(words)}.")


def risk_coverage(found: Referral, title: str) -> str:
    """Draw the risk at every coverage with its band, and that of the best possible order.

    Args:
        found: from `referral`.
        title: of the figure.
    """
    curve = found.curve()
    at = curve["coverage"].to_numpy(float)
    with chart(3.3, title, grid="both") as (figure, axes):
        axes.fill_between(at, curve["low"], curve["high"], color=ACCENT, alpha=0.22, linewidth=0)
        axes.plot(at, curve["risk"], color=ACCENT, label="the model's order")
        axes.plot(at, curve["best"], color=TEXT, linestyle=(0, (1, 1.5)), label="best possible")
        whole = float(curve["risk"].iloc[-1])
        axes.axhline(whole, color=WARM, linestyle=(0, (5, 2)), label="no order at all")
        for _, point in found.points.iterrows():
            axes.plot([point["coverage"]], [point["risk"]], "o", markersize=6, color=ACCENT,
                      markeredgecolor=TEXT)  # fmt: skip
        axes.set_xlim(0, 1.01)
        axes.set_ylim(0, 1.12 * max(whole, float(curve["high"].fillna(curve["risk"]).max())))
        percent_axes(axes, "xy")
        axes.set_xlabel(f"{found.settings['unit']}s decided, the surest first")
        axes.set_ylabel("wrong class among them")
        figure.legend(loc="outside lower center", ncols=3, handlelength=1.8, columnspacing=1.2)
        told = ", ".join(
            f"{_whole(coverage)}: {percent(risk)}"
            for coverage, risk in zip(at, curve["risk"].to_numpy(float), strict=True)
            if round(100 * coverage) in (50, 70, 80, 90, 100)
        )
        return to_svg(figure, f"{title}. Share of wrong classes at each share decided: {told}.")


def net_benefit(found: DecisionCurve, title: str) -> str:
    """Draw the net benefit of the model, of treating all and of treating none.

    Args:
        found: from `decision_curve`.
        title: of the figure.
    """
    table = found.table
    at = table["threshold"].to_numpy(float)
    with chart(3.3, title, grid="both") as (figure, axes):
        low, high = 1000 * table["model_low"], 1000 * table["model_high"]
        axes.fill_between(at, low, high, color=ACCENT, alpha=0.22, linewidth=0)
        axes.plot(at, 1000 * table["model"], color=ACCENT, linewidth=2, label="the model")
        axes.plot(at, 1000 * table["all"], color=WARM, linestyle=(0, (5, 2)), label="treat all")
        axes.axhline(0, color=TEXT, linestyle=(0, (1, 1.5)), label="treat none")
        top = 1000 * found.prevalence
        axes.set_ylim(-0.35 * top, 1.12 * max(top, float(high.fillna(0).max())))
        axes.set_xlim(0, at[-1])
        percent_axes(axes, "x")
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("risk from which one would treat")
        axes.set_ylabel(f"net benefit, cases per 1,000 {found.unit}s")
        figure.legend(loc="outside lower center", ncols=3, handlelength=1.8, columnspacing=1.6)
        lines = (1000 * table[name].to_numpy(float) for name in ("model", "all"))
        told = "; ".join(
            f"{_whole(threshold)}: model {model:.0f}, all {everybody:.0f}"
            for threshold, model, everybody in zip(at, *lines, strict=True)
            if round(100 * threshold) in (5, 10, 20, 30, 50)
        )
        return to_svg(figure, f"{title}, per 1,000, at each threshold: {told}; treating none 0.")


def patients(found: TwoThresholds, title: str) -> str:
    """Draw every patient as a square: zone by colour, a case is a dark dot.

    Args:
        found: from `two_thresholds`.
        title: of the figure.
    """
    counts = whole(found)
    rows = {name: -(-(others + cases) // _COLUMNS) for name, (others, cases) in counts.items()}
    height = 0.78 + 0.104 * sum(rows.values()) + 0.3 * len(_ZONES)
    words = []
    with chart(height, title, grid="") as (figure, axes):
        top = 0.0
        for name, colour, *_ in _ZONES:
            others, cases = counts[name]
            kind = "case" if cases == 1 else "cases"
            text = f"{name}: {others + cases:,}, of them {cases:,} {kind}"
            words.append(text)
            axes.text(-0.5, top + 0.9, text, va="center", fontsize=8.5)
            place = np.arange(others + cases)
            x, y = place % _COLUMNS, top + 2.6 + place // _COLUMNS
            sick = place >= others
            axes.scatter(
                x[~sick], y[~sick], s=17, marker="s", color=colour, alpha=0.55, linewidth=0
            )
            axes.scatter(x[sick], y[sick], s=24, marker="o", color=TEXT, linewidth=0)
            top += rows[name] + 3.0
        axes.set_xlim(-1, _COLUMNS)
        axes.set_ylim(top, 0)
        axes.set_axis_off()
        figure.legend(
            [Line2D([], [], linestyle="", marker="o", color=TEXT, markersize=4.5),
             *(Patch(color=colour, alpha=0.55) for _, colour, *_ in _ZONES)],
            ["a case", *(f"{name}, no case" for name, *_ in _ZONES)],
            loc="outside lower center", ncols=2, handlelength=1.0, columnspacing=1.6,
        )  # fmt: skip
        return to_svg(figure, f"{title}. {'; '.join(words)}.")


def whole(found: TwoThresholds) -> dict[str, tuple[int, int]]:
    """Whole patients by zone, others and cases, that add up to all of them (largest remainder)."""
    values = {name: each.value for name, each in found.estimates.items()}
    values["ruled_in_cases"] = values["ruled_in"] - values["false"]
    exact = np.array(
        [(values[every] - values[cases], values[cases]) for _, _, every, cases in _ZONES]
    ).ravel()
    exact = exact.clip(0)
    counts = np.floor(exact + 1e-9).astype(int)
    missing = int(found.settings["patients"]) - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    pairs = counts.reshape(-1, 2)
    return {zone[0]: (int(a), int(b)) for zone, (a, b) in zip(_ZONES, pairs, strict=True)}


def _whole(share: float) -> str:
    return f"{100 * share:.3g} %"
