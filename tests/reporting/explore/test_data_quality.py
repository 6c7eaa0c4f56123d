import numpy as np
import pandas as pd
import pytest
from drawn_runs import draw_predictions

from lesionlab.evaluation.data_quality.drift import Drift
from lesionlab.evaluation.data_quality.label_errors import label_errors
from lesionlab.evaluation.data_quality.shortcuts import ALL, MEAN, RECALLS, Shortcuts
from lesionlab.evaluation.intervals.estimate import Estimate
from lesionlab.reporting.explore.data_quality import (
    drift_section,
    shortcuts_section,
    suspects_section,
)
from lesionlab.reporting.figures.forest import dots


def figures(**areas):
    rows = [
        (name, "light", MEAN, area, area - 0.02, area + 0.02, 100, 50, 0.001, 0.001)
        for name, area in areas.items()
    ]
    columns = [
        "artefacts",
        "kind",
        "class",
        "auroc",
        "low",
        "high",
        "images",
        "lesions",
        "p",
        "p_adjusted",
    ]
    return pd.DataFrame(rows, columns=columns)


def test_a_figure_tells_every_value_and_draws_no_tick_beyond_them():
    svg = dots([("a", Estimate(0.93, 0.9, 0.99, 0, 0), "#000", "o")], "T", "share")
    assert 'aria-label="T. a 93.0\u00a0%."' in svg
    signed = dots([("b", Estimate(-0.1, -0.2, 0.1, 0, 0), "#000", "o")], "T", "x", line=0.0,
                  shares=False, form="+.3f")  # fmt: skip
    assert "b -0.100" in signed


def test_suspects_are_told_beside_chance_and_histology():
    table = draw_predictions()
    kinds = np.where(np.arange(len(table)) // 6 % 2, "histo", "consensus")
    data = pd.DataFrame({"image_id": table["image_id"], "dx_type": kinds})
    made = label_errors(table, data=data, replicates=20)
    section = suspects_section(made)
    assert [each.name for each in section.exhibits] == ["suspects_by_class", "suspects_by_dx_type"]
    assert str(made.expected) in section.exhibits[0].reading
    assert section.absent == ()
    assert "suspects_joint" in section.exhibits[0].tables
    without = suspects_section(label_errors(table, replicates=20))
    assert len(without.exhibits) == 1
    assert "No dx_type" in without.absent[0]


@pytest.mark.parametrize("constant", [(), ("width",)])
def test_shortcuts_have_a_figure_and_say_what_is_missing(constant):
    recalls = pd.DataFrame(
        [("hair", MEAN, 30, 30, 0.8, 0.6, -0.2, -0.3, -0.1, 0.01, 0.02)],
        columns=list(RECALLS),
    )
    made = Shortcuts(figures(warmth=0.7, **{ALL: 0.8}), pd.DataFrame(), recalls, constant, ())
    section = shortcuts_section(made)
    assert "warmth 0.700; all together 0.800" in section.exhibits[0].svg
    assert "All together: 0.800 (0.780–0.820)." in section.exhibits[0].reading
    assert "hair -0.200" in section.exhibits[1].svg
    assert len(section.absent) == len(constant)
    alone = shortcuts_section(Shortcuts(made.figures, made.values, recalls[:0], constant, ()))
    assert len(alone.exhibits) == 1
    assert "Without predictions" in alone.absent[-1]


def test_drift_shows_what_was_found_and_says_where_nothing_was():
    columns = pd.DataFrame(
        [("a", "b", "age", 0.2, 0.001, 0.002), ("a", "b", "sex", 0.0, 0.9, 0.9)],
        columns=["first", "second", "column", "divergence", "p", "p_adjusted"],
    )
    together = pd.DataFrame(
        [("a", "b", 0.7, 0.6, 0.8, 0.001, 0.001, 100, 50)],
        columns=["first", "second", "auroc", "low", "high", "p", "p_adjusted", "images", "lesions"],
    )
    section = drift_section(Drift(columns, together, ()))
    assert "a – b 0.700" in section.exhibits[0].svg
    assert section.exhibits[1].title == "Columns that differ beyond chance, 1 of 2"
    assert "age 0.200" in section.exhibits[1].svg
    nothing = drift_section(Drift(columns.iloc[1:], together, ()))
    assert nothing.exhibits[1].svg == ""
    assert nothing.exhibits[1].title == "No column differs beyond chance"
