"""Results in a notebook and in a terminal: a table each, and a figure where there is one."""

from __future__ import annotations

import pytest
from drawn_runs import draw_predictions

import lesionlab as ll

OPTIONS = {"replicates": 20}
RESULTS = {
    "evaluate": lambda t: ll.evaluate(t, **OPTIONS),
    "calibration_errors": lambda t: ll.calibration_errors(t, **OPTIONS),
    "compare": lambda t: ll.compare({"a": t, "b": ll.calibrate(t)}, **OPTIONS),
    "triage": lambda t: ll.triage(t, **OPTIONS),
    "referral": lambda t: ll.triage(t, **OPTIONS).referral,
    "thresholds": lambda t: ll.triage(t, **OPTIONS).thresholds,
    "decision_curve": lambda t: ll.triage(t, **OPTIONS).decision_curve,
    "promises": lambda t: ll.triage(t, **OPTIONS).promises,
    "label_errors": lambda t: ll.label_errors(t, **OPTIONS),
    "conformal": lambda t: ll.conformal(t, **OPTIONS),
    "confusions": lambda t: ll.evaluate(t, **OPTIONS).confusions(),
    "blend": lambda t: ll.blend({"a": t, "b": t}),
    "calibrate": lambda t: ll.calibrate(t),
    "prevalence": lambda t: ll.prevalence.estimate(t, **OPTIONS),
}
WITHOUT_FIGURE = {"triage", "conformal", "confusions", "blend", "calibrate", "prevalence"}


@pytest.fixture(scope="module")
def table():
    return draw_predictions()


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_shows_itself(name, table):
    result = RESULTS[name](table)
    page = result._repr_html_()
    assert "<table" in page
    assert ("<svg" in page) == (name not in WITHOUT_FIGURE)
    assert len(str(result).splitlines()) > 3
    assert len(repr(result)) < 200


def test_catalogue_split_and_run_show_themselves(drawn, same_run):
    data, parts = drawn
    assert "mel" in data._repr_html_()
    assert "train" in repr(parts)
    assert "<table" in parts._repr_html_()
    page = same_run._repr_html_()
    assert "<svg" in page
    assert "kept" in page
