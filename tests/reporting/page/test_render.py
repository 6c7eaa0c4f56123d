from __future__ import annotations

import numpy as np
import pandas as pd

from lesionlab.display import cells
from lesionlab.reporting.page.render import shown_sections, write_exhibits
from lesionlab.reporting.page.section import Exhibit, Section


def test_a_value_and_its_interval_are_one_cell():
    table = pd.DataFrame(
        {
            "class": ["mel", "nv", "df"],
            "value": [0.5871, -0.02, np.nan],
            "low": [0.5, -0.031, np.nan],
            "high": [0.6, 0.01, np.nan],
            "recall_share": [0.5, 0.25, 1.0],
            "recall_share_low": [0.4, 0.2, np.nan],
            "recall_share_high": [0.6, 0.3, np.nan],
            "images": [10, 2000, 3],
        }
    )
    made = cells(table)
    assert made["head"] == ["class", "value", "recall share", "images"]
    assert made["words"] == [0]
    assert made["rows"] == [
        ("mel", ("0.587", "0.500–0.600"), ("50.0\u00a0%", "40.0–60.0\u00a0%"), "10"),
        ("nv", ("−0.020", "−0.031 to +0.010"), ("25.0\u00a0%", "20.0–30.0\u00a0%"), "2,000"),
        ("df", ("–", ""), ("100.0\u00a0%", ""), "3"),
    ]


def test_columns_that_are_no_interval_stay():
    made = cells(pd.DataFrame({"low": [1.0], "high": [2.5], "x_low": [0.25], "ok": [True]}))
    assert made["head"] == ["low", "high", "x low", "ok"]
    assert made["rows"] == [("1", "2.50", "0.250", "yes")]
    made = cells(pd.DataFrame({"what": ["a", None], "inf": [np.inf, -np.inf]}))
    assert made["rows"] == [("a", "∞"), ("–", "−∞")]


def test_ids_bear_the_prefix_and_files_are_written(tmp_path):
    table = pd.DataFrame({"class": ["mel"], "images": [3]})
    other = pd.DataFrame({"class": ["other words"]})
    svg = '<svg class="figure" viewBox="0 0 1 1" role="img" aria-label="x"></svg>'
    section = Section("a", "A title", (Exhibit("b", "B", "how", table, svg, shown=other),))
    (made,) = shown_sections([section], "r2-")
    assert (made["name"], made["short"], made["exhibits"][0]["name"]) == ("r2-a", "A title", "r2-b")
    assert made["exhibits"][0]["shown"]["rows"] == [("other words",)]
    write_exhibits([section], tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b.csv", "b.svg"]
    assert (tmp_path / "b.csv").read_text() == "class,images\nmel,3\n"
