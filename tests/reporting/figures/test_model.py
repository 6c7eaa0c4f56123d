from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from drawn_runs import draw_predictions

from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.roc_curve import roc
from lesionlab.reporting.figures import model


def drawn(classes, n=120):
    table = draw_predictions(classes=classes, n=n)
    result = evaluate(table, replicates=20)
    curves = {label: roc(table, label) for label in classes}
    return [model.recalls(result), model.confusion(result), model.rocs(curves, result)]


@pytest.mark.parametrize(
    "classes",
    [("a", "b"), tuple(f"class number {i}" for i in range(14)), ("<b>&'\"", "$x_{$", "é—")],
)
def test_every_figure_is_well_formed_and_of_one_width(classes):
    before = dict(mpl.rcParams)
    for text in drawn(classes, 40 * len(classes)):
        root = ElementTree.fromstring(text)
        assert root.tag == "svg"
        assert float(root.get("viewBox").split()[2]) == pytest.approx(model.WIDTH * 72, abs=1)
        assert "currentColor" in text
        assert not re.search(r"#01020|#04050|#07080|xlink|xmlns|<text", text)
        assert len(text) < 150_000
        ids = re.findall(r'\bid="([^"]*)"', text)
        assert len(ids) == len(set(ids))
        wanted = set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text))
        assert {a or b for a, b in wanted} <= set(ids)
    assert dict(mpl.rcParams) == before


def test_labels_say_the_numbers():
    result = evaluate(draw_predictions(), replicates=0)
    text = model.recalls(result)
    assert f"mel {result['recall/mel'].value:.0%}" in text.partition(">")[0]


def test_curves_mark_the_kept_epoch_and_stand_gaps():
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "train_loss": [1.0, 0.8, np.nan],
            "val_loss": [1.1, np.nan, 0.9],
            "val_balanced_accuracy": [0.2, 0.4, 0.3],
        }
    )
    assert "Epoch 2 was kept: balanced accuracy on validation 0.400" in model.curves(history, 2)
    assert "was kept" not in model.curves(history)
    assert "<svg" in model.curves(history.head(1), 1)


def test_corners_keep_the_line():
    rng = np.random.default_rng(0)
    x, y = np.cumsum(rng.integers(0, 2, (2, 300)), axis=1) / 300.0
    cx, cy = model.corners(x, y)
    assert len(cx) < len(x)
    assert (cx[0], cy[0], cx[-1], cy[-1]) == (x[0], y[0], x[-1], y[-1])
    assert np.trapezoid(cy, cx) == pytest.approx(np.trapezoid(y, x))


def test_counts_figure():
    counts = pd.DataFrame({"train": [5, 0], "test": [2, 1]}, index=["mel", "other"])
    assert "mel 7, other 1" in model.class_counts(counts)
