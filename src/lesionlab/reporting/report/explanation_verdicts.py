"""What the figures on a run's maps say: questions, each with yes, no or not clear."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from lesionlab.display import percent
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.reporting.formatting import span

LIMIT = 0.5
"""Rank correlation with maps of random weights, from which on the sanity check fails."""

ALL, BALANCED, WITHIN = "all", "mean of classes", "right - wrong within class"
VIEWS = {
    "right_whole": "whole picture",
    "right_lesion": "lesion only",
    "right_context": "surroundings only",
    "right_nothing": "all replaced",
}
"""What of a picture was left, by the figure's name."""

Verdict = Literal["yes", "no", "not clear"]


@dataclass(frozen=True)
class Answer:
    """A question about the maps, and what the figures say.

    Attributes:
        question: to be answered with yes or no.
        verdict: "yes" or "no" where the 95 % interval leaves no other; else "not clear".
        text: the figures behind it.
    """

    question: str
    verdict: Verdict
    text: str


def find(summary: pd.DataFrame, measure: str, group: str = ALL) -> Estimate | None:
    """An estimate of the summary; None: there is none."""
    rows = summary[(summary["measure"] == measure) & (summary["group"] == group)]
    if rows.empty:
        return None
    row = rows.iloc[0]
    ends = float(row["value"]), float(row["low"]), float(row["high"])
    return Estimate(*ends, int(row["images"]), int(row["lesions"]))


def answers(summary: pd.DataFrame, facts: Mapping[str, Any]) -> tuple[Answer, ...]:
    """What the figures say, question by question, the sanity check first.

    Args:
        summary: from `trust`: measure, group, value, low, high, images, lesions.
        facts: from `trust`.
    """
    of = Figures(summary)
    made = [_sanity(of)]
    made += [
        Answer(
            f"Do the maps lie on the lesion more than {what}?",
            _above(of(f"inside - {other}")),
            f"{of.share('inside')} of a map lies in the lesion, {text.format(of.share(other))}; "
            f"difference {_points(of(f'inside - {other}'))}.",
        )
        for what, other, text in (
            ("chance would", "area", "which takes up {} of the picture"),
            ("a spot in the picture's middle", "inside_centre", "of a spot in the middle {}"),
            ("maps of random weights", "inside_untrained", "of maps of random weights {}"),
        )
    ]
    made += [
        Answer(
            f"Does the answer depend on the places that the maps mark, more than on {what}?",
            _both(of(f"deletion - deletion_{other}"), of(f"insertion - insertion_{other}")),
            f"Area under the deletion curve {_number(of('deletion'))}, {text} "
            f"{_number(of(f'deletion_{other}'))} (difference "
            f"{_signed(of(f'deletion - deletion_{other}'))}; less is better). Under the insertion "
            f"curve {_number(of('insertion'))} and {_number(of(f'insertion_{other}'))} (difference "
            f"{_signed(of(f'insertion - insertion_{other}'))}; more is better).",
        )
        for what, other, text in (
            ("random places", "random", "in a random order"),
            ("the picture's middle", "centre", "from the middle outwards"),
        )
    ]
    return (*made, _telling(of), *_resting(of, facts))


class Figures:
    """The summary's estimates by name; what is not there is not defined."""

    def __init__(self, summary: pd.DataFrame) -> None:
        self._summary = summary

    def __call__(self, measure: str, group: str = ALL) -> Estimate:
        """One of them."""
        found = find(self._summary, measure, group)
        return found or Estimate(math.nan, math.nan, math.nan, 0, 0)

    def share(self, measure: str, group: str = ALL) -> str:
        """One of them as a percentage."""
        return percent(self(measure, group).value)


def _sanity(of: Figures) -> Answer:
    alike = of("rank")
    verdict: Verdict = "not clear"
    if alike.value >= LIMIT or not alike.defined:
        verdict = "no" if alike.defined else "not clear"
    elif alike.high < LIMIT:
        verdict = "yes"
    return Answer(
        "Do the maps change when the weights are random?",
        verdict,
        f"Rank correlation with maps of networks with random weights {_signed(alike)}; of maps of "
        f"two different pictures {_signed(of('rank_other'))}. From {LIMIT} on the check fails: "
        "such maps show the picture and not what was learnt.",
    )


def _telling(of: Figures) -> Answer:
    """Whether maps tell right from wrong answers."""
    area, chance = of("auroc of inside - area for right"), of("auroc of probability for right")
    verdict: Verdict = "not clear"
    if area.low > 0.5:
        verdict = "yes"
    elif area.high < 0.5:
        verdict = "no"
    return Answer(
        "Can the share inside the lesion tell right answers from wrong ones?",
        verdict,
        "The share inside, less the lesion's share of the picture, is "
        f"{_points(of('inside - area', 'right'))} for right answers and "
        f"{_points(of('inside - area', 'wrong'))} for wrong ones; within a class they differ by "
        f"{_points(of('inside - area', WITHIN))}. As a sign of a right answer it has an AUROC of "
        f"{_number(area)}, the probability one of {_number(chance)}.",
    )


def _resting(of: Figures, facts: Mapping[str, Any]) -> list[Answer]:
    """What the answers rest on."""
    guessing = 1 / (len(facts.get("classes", ())) or 1)
    shown = ", ".join(f"{name} {with_span(of(key, BALANCED))}" for key, name in VIEWS.items())
    context = of("right_context", BALANCED)
    return [
        Answer(
            "Is the network right more often from the lesion alone than from its surroundings?",
            _above(of("right_lesion - right_context", BALANCED)),
            f"Mean recall over the classes: {shown}. Lesion less surroundings "
            f"{_points(of('right_lesion - right_context', BALANCED))}.",
        ),
        Answer(
            "Do the surroundings alone tell it more than guessing would?",
            _above(context, guessing),
            f"Mean recall from the surroundings {with_span(context)}, guessing gets "
            f"{percent(guessing)}. A yes may mean a shortcut, such as a ruler or the skin around; "
            "the size and outline of what was taken away are a hint, too.",
        ),
    ]


def _above(each: Estimate, level: float = 0.0) -> Verdict:
    if each.low > level:
        return "yes"
    return "no" if each.high < level else "not clear"


def _both(deletion: Estimate, insertion: Estimate) -> Verdict:
    """Less deletion and more insertion: yes; one of them the other way round: no."""
    if deletion.high < 0 and insertion.low > 0:
        return "yes"
    return "no" if deletion.low > 0 or insertion.high < 0 else "not clear"


def with_span(each: Estimate) -> str:
    """A share as "61.2 % (57.1–65.0 %)"."""
    return f"{percent(each.value)} ({span(each)})" if span(each) else percent(each.value)


def _points(each: Estimate) -> str:
    """A difference of shares as "+11.7 points (8.7 to 15.2)"."""
    if not each.defined:
        return "not defined"
    ends = f" ({100 * each.low:+.1f} to {100 * each.high:+.1f})"
    return f"{100 * each.value:+.1f} points{'' if math.isnan(each.low) else ends}"


def _number(each: Estimate) -> str:
    return f"{each.value:.3f}" if each.defined else "not defined"


def _signed(each: Estimate) -> str:
    """A number that may be negative, with its interval."""
    if not each.defined:
        return "not defined"
    ends = "" if math.isnan(each.low) else f" ({each.low:+.3f} to {each.high:+.3f})"
    return f"{each.value:+.3f}{ends}"
