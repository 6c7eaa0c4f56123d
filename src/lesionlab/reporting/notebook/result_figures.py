"""Figures of results, for a notebook: the ones that the report and `explore` draw of them."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from lesionlab.evaluation.calibration.report import CalibrationErrors
from lesionlab.evaluation.comparison.compare import Comparison
from lesionlab.evaluation.data_quality.drift import Drift
from lesionlab.evaluation.data_quality.label_errors import LabelErrors
from lesionlab.evaluation.data_quality.shortcuts import Shortcuts
from lesionlab.evaluation.evaluation_result import Evaluation
from lesionlab.evaluation.subgroups.result import Subgroups
from lesionlab.evaluation.triage.decision_curve import DecisionCurve
from lesionlab.evaluation.triage.referral import Referral
from lesionlab.evaluation.triage.referral_cost import ReferralCosts
from lesionlab.evaluation.triage.rule_in_rule_out import TwoThresholds
from lesionlab.explanation.explain_result import Explanations
from lesionlab.reporting.explore.data_quality import (
    drift_section,
    shortcuts_section,
    suspects_section,
)
from lesionlab.reporting.figures import model, reliability
from lesionlab.reporting.page.section import Section
from lesionlab.reporting.report import comparison, subgroups, triage
from lesionlab.run import HISTORY, Run


@singledispatch
def figure_of(result: Any) -> str:  # noqa: ARG001 - each class below has a figure of its own
    """A figure of a result as SVG, or its pictures as HTML; "" where there is neither."""
    return ""


@figure_of.register
def _(result: Evaluation) -> str:
    return model.recalls(result) + model.confusion(result)


@figure_of.register
def _(result: CalibrationErrors) -> str:
    curve = result.reliability_curve()
    title = f"Probability of the likeliest class, part {result.part}"
    return reliability.reliability(curve[curve["curve"] == "likeliest"], title, "share right")


@figure_of.register
def _(result: Comparison) -> str:
    return comparison.drawn(result, result.metrics[0]).svg if len(result.models) > 1 else ""


@figure_of.register
def _(result: Subgroups) -> str:
    return _first(subgroups.section(result))


@figure_of.register
def _(result: Drift) -> str:
    return _first(drift_section(result))


@figure_of.register
def _(result: Shortcuts) -> str:
    return _first(shortcuts_section(result))


@figure_of.register
def _(result: LabelErrors) -> str:
    return _first(suspects_section(result))


@figure_of.register
def _(result: Referral) -> str:
    return triage.risk_coverage(result, "Risk against coverage")


@figure_of.register
def _(result: TwoThresholds) -> str:
    return triage.patients(result, f"{result.settings['patients']:,} patients")


@figure_of.register
def _(result: DecisionCurve) -> str:
    return triage.net_benefit(result, f"Net benefit for {result.question.name}")


@figure_of.register
def _(result: ReferralCosts) -> str:
    return triage.promises(result, "What a promise costs")


@figure_of.register
def _(result: Run) -> str:
    if not (result.folder / HISTORY).is_file():
        return ""
    return model.curves(result.history, result.info.get("kept_epoch"))


@figure_of.register
def _(result: Explanations) -> str:
    from lesionlab.explanation.explain_page import strips

    return strips(result)


def _first(section: Section) -> str:
    return next((exhibit.svg for exhibit in section.exhibits if exhibit.svg), "")
