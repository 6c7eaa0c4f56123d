"""What figures on maps are taken to say."""

from __future__ import annotations

import pandas as pd
import pytest

from lesionlab.reporting.report.explanation_verdicts import answers, find, with_span

FACTS = {"classes": ["bcc", "mel", "nv", "df"]}


def summary(**rows):
    """Rows by measure; a name with a group in it has it behind two underscores."""
    columns = ["measure", "group", "value", "low", "high", "images", "lesions"]
    made = []
    for name, ends in rows.items():
        measure, _, group = name.partition("__")
        measure = measure.replace("_less_", " - ").replace("auroc_of_gap", _AUROC)
        made.append((measure, group.replace("_", " ") or "all", *ends, 100, 90))
    return pd.DataFrame(made, columns=columns)


_AUROC = "auroc of inside - area for right"


def verdicts(**rows):
    return [each.verdict for each in answers(summary(**rows), FACTS)]


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((0.03, 0.01, 0.05), "yes"),
        ((0.45, 0.38, 0.52), "not clear"),
        ((0.55, 0.45, 0.6), "no"),
        ((0.99, 0.98, 1.0), "no"),
        ((float("nan"),) * 3, "not clear"),
        ((0.1, float("nan"), float("nan")), "not clear"),
    ],
)
def test_the_sanity_check_fails_from_a_half_on(ends, verdict):
    assert verdicts(rank=ends)[0] == verdict


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((0.1, 0.02, 0.2), "yes"),
        ((0.1, -0.02, 0.2), "not clear"),
        ((-0.1, -0.2, -0.02), "no"),
    ],
)
def test_a_difference_says_something_where_its_interval_leaves_0_out(ends, verdict):
    found = verdicts(inside_less_area=ends, inside_less_inside_centre=(0.1, 0.05, 0.2))
    assert found[1:4] == [verdict, "yes", "not clear"]


@pytest.mark.parametrize(
    ("deletion", "insertion", "verdict"),
    [
        ((-0.1, -0.2, -0.05), (0.1, 0.05, 0.2), "yes"),
        ((-0.1, -0.2, 0.05), (0.1, 0.05, 0.2), "not clear"),
        ((0.1, 0.05, 0.2), (0.1, 0.05, 0.2), "no"),
        ((-0.1, -0.2, -0.05), (-0.1, -0.2, -0.05), "no"),
    ],
)
def test_faithful_is_less_deletion_and_more_insertion(deletion, insertion, verdict):
    rows = {
        "deletion_less_deletion_random": deletion,
        "insertion_less_insertion_random": insertion,
    }
    assert verdicts(**rows)[4:6] == [verdict, "not clear"]


def test_telling_right_from_wrong_is_the_auroc_and_resting_is_mean_recall():
    found = verdicts(
        auroc_of_gap=(0.7, 0.6, 0.8),
        right_lesion_less_right_context__mean_of_classes=(0.2, 0.1, 0.3),
        right_context__mean_of_classes=(0.3, 0.24, 0.35),  # four classes: guessing gets 0.25
        right_context=(0.7, 0.6, 0.8),
    )
    assert found[6:] == ["yes", "yes", "not clear"]


def test_figures_stand_in_the_text():
    made = answers(
        summary(
            inside=(0.396, 0.36, 0.43),
            area=(0.265, 0.24, 0.29),
            inside_less_area=(0.13, 0.111, 0.152),
        ),
        FACTS,
    )
    assert "39.6\u00a0% of a map lies in the lesion, which takes up 26.5\u00a0%" in made[1].text
    assert "+13.0 points (+11.1 to +15.2)" in made[1].text
    assert "not defined" in made[2].text


def test_find():
    table = summary(area=(0.2, 0.1, 0.3), area__right=(0.4, 0.3, 0.5))
    assert find(table, "area", "right").value == 0.4
    assert find(table, "inside") is None
    assert with_span(find(table, "area")) == "20.0\u00a0% (10.0–30.0\u00a0%)"
