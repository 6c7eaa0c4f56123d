"""The sections on subgroups and baselines: what is drawn is what was found."""

import re

import numpy as np
import pandas as pd
import pytest
from drawn_runs import CLASSES, draw_predictions

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.evaluation.comparison.baselines import Baselines
from lesionlab.evaluation.comparison.compare import compare, shown
from lesionlab.evaluation.subgroups.subgroups import subgroups
from lesionlab.reporting.figures.style import standalone
from lesionlab.reporting.report import baselines as beside
from lesionlab.reporting.report import subgroups as groups
from lesionlab.tables import CATALOGUE


@pytest.fixture(scope="module")
def found():
    table = draw_predictions(n=720)
    lesion = np.arange(720) // 2
    rows = pd.DataFrame(dict.fromkeys(CATALOGUE, ""), index=range(720))
    for name in ("image_id", "lesion_id", "target"):
        rows[name] = table[name]
    rows["sex"] = np.where(lesion % 16 == 6, "", np.where(lesion % 2, "female", "male"))
    rows["age"] = np.where(lesion % 5, 30.0, 70.0)
    data = Catalogue(rows, CLASSES, root=None, layout="drawn")
    return subgroups(table, data, by=["age", "sex", "dx_type", "age+sex"], replicates=100)


def test_subgroups_are_drawn_as_found(found):
    made = groups.section(found)
    assert [each.name for each in made.exhibits] == [
        "gaps_by_age", "gaps_by_sex", "gaps_by_age_and_sex", "widest_gaps"
    ]  # fmt: skip
    by_sex = made.exhibits[1]
    label = re.search(r'aria-label="([^"]*)"', by_sex.svg).group(1)
    for group in ("female", "male"):
        gap = found.gaps["sex", group, "balanced_accuracy"]
        assert f"balanced accuracy, {group} {shown(gap.estimate, signed=True)}" in label
    small = [group for (name, group, metric) in found.suppressed if name == "sex" and not metric]
    assert small == ["unknown"]
    row = by_sex.table[by_sex.table["group"] == "unknown"].iloc[0]
    assert "fewer than 20" in row["value"]
    own = by_sex.table.set_index(["group", "figure"])["value"]
    assert own["male", "balanced accuracy"] == str(
        found.figures["sex", "male", "balanced_accuracy"]
    )
    assert "sensitivity for mel" in by_sex.table["figure"].to_list()
    assert any("skin tone" in text for text in made.absent)
    assert any(text.startswith("No groups by dx_type") for text in made.absent)
    assert len(made.exhibits[-1].table) == len(found.widest)
    assert standalone(by_sex.svg).startswith("<svg")


def test_baselines_are_drawn_beside_the_model():
    model = draw_predictions(n=240, skill=2.5)
    tables = {name: draw_predictions(n=240, skill=0.3) for name in ("metadata", "colours balanced")}
    result = compare({**tables, "a model": model}, focus="a model", replicates=100)
    made = beside.section(Baselines(tables, "a model", result, {"metadata": 1.0}, ("Fitted so.",)))
    (shown_one,) = made.exhibits
    label = re.search(r'aria-label="([^"]*)"', shown_one.svg).group(1)
    each = result.figures["metadata", "macro_auroc"]
    assert f"Macro AUROC, metadata {each}" in label
    assert f"Macro AUROC, a model {result.figures['a model', 'macro_auroc']}" in label
    rows = shown_one.table.set_index(["figure", "model"])
    gap = result.differences["a model", "metadata", "accuracy"]
    assert rows.loc[("Accuracy", "metadata"), "a model minus it"] == shown(gap, signed=True)
    assert rows.loc[("Accuracy", "a model"), "a model minus it"] == ""
    assert made.absent == ("Fitted so.",)
    assert shown_one.svg.count("#C9702B".lower()) + shown_one.svg.count("#C9702B") > 3
