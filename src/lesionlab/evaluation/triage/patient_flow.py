"""What becomes of cases and others, and so of patients at a prevalence, with two thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lesionlab.evaluation.intervals.bootstrap import Measure, Weights
from lesionlab.evaluation.intervals.estimate import Estimate, Values
from lesionlab.evaluation.predictions.binary_target import ends
from lesionlab.numerics import ratio

Mask = NDArray[np.bool_]

SHARES = {
    "cases_out": "share of the cases below the lower threshold",
    "others_out": "share of the others below the lower threshold",
    "cases_in": "share of the cases above the upper threshold",
    "others_in": "share of the others above the upper threshold",
}
"""What is measured of two thresholds."""

ROWS = {
    "ruled_out": "below the lower threshold",
    "missed": "of whom missed cases",
    "ruled_in": "above the upper threshold",
    "false": "of whom not a case",
    "between": "left for the doctor in between",
    "between_cases": "of whom cases",
}
"""What becomes of patients, in the order of a table."""


def zones(cases: Mask, out: Mask, into: Mask, prevalence: float, patients: int) -> Measure[str]:
    """What two thresholds did, as a function of replicate weights.

    Args:
        cases: which units are cases, shape (n,).
        out: which are below the lower threshold, shape (n,).
        into: which are above the upper one, shape (n,).
        prevalence: share of the patients that are cases.
        patients: how many there are.

    Returns:
        A measure of cases_out, others_out, cases_in, others_in, ruled_out, ruled_in, between,
        between_cases, npv and ppv; the other figures follow from one share each, see `complete`.
    """

    def compute(weights: Weights) -> Mapping[str, Values]:
        share = {
            f"{of}_{zone}": ratio(
                weights @ (mask & where).astype(float), weights @ mask.astype(float)
            )
            for of, mask in (("cases", cases), ("others", ~cases))
            for zone, where in (("out", out), ("in", into))
        }
        return share | _derived(share, prevalence, patients)

    basis = {name: cases if name.startswith("cases") else ~cases for name in SHARES}
    return Measure(compute, basis, frozenset(basis))


def _derived(share: Mapping[str, Values], prevalence: float, patients: int) -> dict[str, Values]:
    """Figures that take several shares, at a prevalence."""
    sick, well = patients * prevalence, patients * (1 - prevalence)
    out, into = (
        sick * share[f"cases_{zone}"] + well * share[f"others_{zone}"] for zone in ("out", "in")
    )
    return {
        "ruled_out": out,
        "ruled_in": into,
        "between": np.maximum(patients - out - into, 0.0),
        "between_cases": np.maximum(sick * (1 - share["cases_out"] - share["cases_in"]), 0.0),
        "npv": ratio(well * share["others_out"], out),
        "ppv": ratio(sick * share["cases_in"], into),
    }


def complete(
    found: Mapping[str, Estimate], prevalence: float, patients: int
) -> dict[str, Estimate]:
    """All figures; one that is a share, turned or scaled, has its interval, turned or scaled."""
    sick, well = patients * prevalence, patients * (1 - prevalence)
    made = {
        "sensitivity_out": _line(found["cases_out"], -1.0, 1.0),
        "specificity_out": found["others_out"],
        "sensitivity_in": found["cases_in"],
        "specificity_in": _line(found["others_in"], -1.0, 1.0),
        "missed": _line(found["cases_out"], sick),
        "false": _line(found["others_in"], well),
    }
    made |= _widened(found, prevalence, patients)
    order = [*list(made)[:4], *SHARES, "npv", "ppv", *ROWS]
    return {name: made[name] for name in order}


def _widened(
    found: Mapping[str, Estimate], prevalence: float, patients: int
) -> dict[str, Estimate]:
    """Intervals that also hold what follows from a share of exactly 0 or 1 at its own ends.

    Lesions drawn anew never show what none of them showed, so that a bootstrap would say that an
    NPV without a missed case is exactly 1.
    """
    sure = [name for name in SHARES if found[name].value in (0.0, 1.0)]
    sure = [name for name in sure if found[name].low < found[name].high]
    corners = list(product(*((found[name].low, found[name].high) for name in sure)))
    share = {name: np.full(len(corners), found[name].value) for name in SHARES}
    for place, name in enumerate(sure):
        share[name] = np.array([each[place] for each in corners])
    made = dict(found)
    for name, values in _derived(share, prevalence, patients).items():
        each = found[name]
        if sure and not np.isnan(values).any() and not np.isnan(each.low):
            low, high = min(each.low, values.min()), max(each.high, values.max())
            made[name] = replace(each, low=float(low), high=float(high))
    return made


def _line(estimate: Estimate, factor: float, offset: float = 0.0) -> Estimate:
    """An estimate times a factor plus an offset."""
    value, *both = (factor * each + offset for each in ends(estimate))
    low, high = both if factor >= 0 else both[::-1]
    return replace(estimate, value=value, low=low, high=high)
