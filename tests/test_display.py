"""Results as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

import pandas as pd

from lesionlab.display import html_table, text_table


def test_a_text_table_has_one_cell_for_a_value_and_its_interval():
    table = pd.DataFrame({"class": ["mel", "nv"], "share": [0.5, 0.25], "low": 0.1, "high": 0.9})
    assert text_table(table).splitlines() == [
        "class                 share",
        "mel    50.0 % (10.0–90.0 %)".replace(" %", "\u00a0%"),
        "nv     25.0 % (10.0–90.0 %)".replace(" %", "\u00a0%"),
    ]


def test_a_long_table_says_how_much_it_leaves_out():
    table = pd.DataFrame({"x": range(1, 72)})
    assert text_table(table).endswith("... and 11 more rows")
    assert "11 more rows" in html_table(table)
    assert "more" not in html_table(table, most=71)


def test_words_of_a_table_cannot_be_markup():
    text = html_table(pd.DataFrame({"<i>": ["<b>"]}), title="<u>")
    assert "<b>" not in text
    assert "<i>" not in text
    assert "<u>" not in text
