import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from drawn_runs import draw_predictions

from lesionlab.display import percent
from lesionlab.evaluation.triage.referral import referral
from lesionlab.evaluation.triage.rule_in_rule_out import two_thresholds
from lesionlab.reporting.report.triage import section, whole


@pytest.fixture(scope="module")
def table():
    return draw_predictions(n=600)


def words(svg):
    return re.search(r'aria-label="([^"]*)"', svg).group(1)


def test_the_section_says_in_words_what_its_figures_show(table):
    made = section(table, replicates=20)
    by = {each.name: each for each in made.exhibits}
    assert list(by) == ["promises", "risk_coverage", "two_thresholds", "decision_curve"]
    assert made.absent == ()
    for each in by.values():
        assert ElementTree.fromstring(each.svg).get("viewBox").split()[2] == "316.8"
    costs = by["promises"].table
    assert costs["promise"].iloc[0] == "both"
    five = costs[costs["promise"] == "malignancy 5 %"].iloc[0]
    told = f"malignancy 5 %: missed {percent(five['missed'])}, referred {percent(five['referred'])}"
    assert told in words(by["promises"].svg)
    found = referral(table, unit="lesion", replicates=20)
    pd.testing.assert_frame_equal(by["risk_coverage"].table, found.curve())
    risk = found.curve()["risk"].iloc[-1]
    assert f"100 %: {percent(risk)}" in words(by["risk_coverage"].svg)
    assert str(found["aurc"]) in by["risk_coverage"].reading
    two = two_thresholds(table, replicates=20)
    out = by["two_thresholds"].table.set_index("zone")["patients"]
    assert out["below the lower threshold"] == two["ruled_out"].value
    others, cases = whole(two)["below the lower threshold"]
    assert f"below the lower threshold: {others + cases:,}, of them {cases:,} case" in words(
        by["two_thresholds"].svg
    )
    benefit = by["decision_curve"].more["decision_curve_all"]
    ten = benefit[benefit["threshold"] == 0.1].iloc[0]
    told = words(by["decision_curve"].svg)
    assert f"10 %: model {1000 * ten['model']:.0f}, all {1000 * ten['all']:.0f}" in told
    assert "malignant = bcc + mel" in by["decision_curve"].reading


@pytest.mark.parametrize("seed", range(5))
def test_whole_patients_add_up(seed):
    found = two_thresholds(draw_predictions(seed, n=240), replicates=0, prevalence=0.037)
    counts = whole(found)
    assert sum(map(sum, counts.values())) == 1000
    exact = {
        "below the lower threshold": found["missed"].value,
        "left for the doctor": found["between_cases"].value,
        "above the upper threshold": found["ruled_in"].value - found["false"].value,
    }
    for name, (_, cases) in counts.items():
        assert abs(cases - exact[name]) < 1


def test_what_cannot_be_shown_is_said(table):
    test = table[table["part"] == "test"]
    made = section(test, replicates=0)
    assert [each.name for each in made.exhibits] == ["risk_coverage", "decision_curve"]
    assert len(made.absent) == 3
    assert all("no images of part 'val'" in text for text in made.absent)
    harmless = table[table["target"] == "nv"]
    made = section(harmless, replicates=0)
    assert [each.name for each in made.exhibits] == ["risk_coverage"]
    assert all("0 of the" in text for text in made.absent)
    numbers = section(table.assign(lesion_id=""), replicates=0).exhibits[1].table
    assert not np.isnan(numbers["risk"]).any()
