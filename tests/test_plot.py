"""Figures as matplotlib objects: the report's own, in colours of paper."""

from __future__ import annotations

import subprocess
import sys

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


def test_the_first_figure_of_a_notebook_does_not_stop_it_from_showing_others(run, monkeypatch):
    make = pyplot.figure

    def first(*args, **options):
        pyplot.ion()  # as Jupyter's backend does when it is loaded
        return make(*args, **options)

    monkeypatch.setattr(pyplot, "figure", first)
    ll.plot.confusion(run)
    assert pyplot.isinteractive()
    pyplot.ioff()


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


def test_views_stand_in_rows_behind_the_untouched_image(drawn):
    recipe = ll.Recipe().but({"images.size": [24, 32], "augment.rotate": 90})
    axes = ll.plot.views(recipe, *drawn, examples=2, each=2)
    assert [each.get_title("left") for each in axes[1:3]] == ["view 1", "view 2"]
    untouched, view = (axes[place].images[0].get_array() for place in (0, 1))
    assert untouched.shape == view.shape == (24, 32, 3)
    assert not np.array_equal(untouched, view)


def test_sampling_is_drawn_before_and_after(drawn):
    axes = ll.plot.sampling(ll.Recipe().but({"sampling.kind": "balanced"}), *drawn)
    before, after = (np.array([bar.get_width() for bar in axes.patches[i::2]]) for i in (0, 1))
    assert np.ptp(after) < np.ptp(before) / 3


def test_a_figure_does_not_take_the_place_of_the_function_of_its_name(run):
    assert ll.plot.compare is not ll.compare
    code = "import lesionlab as ll; ll.plot.compare; assert 'plot' not in ll.compare.__module__"
    subprocess.run([sys.executable, "-c", code], check=True)
