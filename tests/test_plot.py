"""Figures as matplotlib objects: the report's own, in colours of paper."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_runs import draw_predictions, make_run
from matplotlib import pyplot
from matplotlib.colors import to_hex

import lesionlab as ll
from lesionlab.errors import SettingsError
from lesionlab.reporting.figures.style import LINE, MUTED, TEXT


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("plot") / "run", draw_predictions(), None)


@pytest.fixture(autouse=True)
def _close():
    yield
    pyplot.close("all")


def test_a_confusion_matrix_has_the_counts_and_real_colours(run):
    axes = ll.plot.confusion(run)
    counts = ll.evaluate(run, replicates=0).confusion.to_numpy()
    assert {f"{number}" for number in counts.ravel() if number} <= {
        t.get_text() for t in axes.texts
    }
    stand_ins = {TEXT, MUTED, LINE}
    inks = {to_hex(each.get_color()) for each in axes.figure.findobj(pyplot.Text)}
    assert not inks & stand_ins
    assert pyplot.get_fignums()  # so a notebook shows it


def test_roc_curves_are_one_line_per_class(run):
    labels = [line.get_label() for line in ll.plot.roc(run).lines]
    assert [each.split()[0] for each in labels if "0." in each] == ["bcc", "mel", "nv"]


def test_curves_follow_the_history(run):
    loss, score = ll.plot.curves(run.folder)
    assert np.allclose(loss.lines[0].get_ydata(), run.history["train_loss"])
    assert score.get_xlabel() == "epoch"


def test_a_comparison_has_a_dot_per_other_model(run):
    others = {"a": run, "b": draw_predictions(1), "c": draw_predictions(2)}
    axes = ll.plot.compare(others, "accuracy", replicates=20)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "c"]


def test_reliability_knows_its_classes(run):
    assert ll.plot.reliability(run, "mel", replicates=0).get_xlim()[1] > 1
    with pytest.raises(SettingsError, match="bcc"):
        ll.plot.reliability(run, "wart", replicates=0)
