"""What age, sex and site are worth, on predictions with known skill."""

import json

import pytest

import lesionlab as ll
from lesionlab.evaluation.comparison.metadata_worth import metadata_worth

FIELDS = ("age", "sex", "site")


def test_the_difference_is_that_of_the_figures_on_the_same_images(fake):
    known, unknown = fake(2000, skill=2.0), fake(2000, skill=1.0)
    unknown["target"] = known["target"]
    worth = metadata_worth(known, unknown.sample(frac=1, random_state=0), FIELDS, replicates=200)
    told = json.loads(json.dumps(worth.to_json(), allow_nan=False))
    for name in ("balanced_accuracy", "macro_auroc"):
        better, worse = (ll.evaluate(each, replicates=0)[name].value for each in (known, unknown))
        assert told[name]["known"]["value"] == pytest.approx(better)
        assert told[name]["unknown"]["value"] == pytest.approx(worse)
        three = told[name]["difference"]
        assert 0 < three["low"] < three["value"] < three["high"]
        assert three["value"] == pytest.approx(better - worse)
    assert "with age, sex and site, " in worth.text
    assert f"difference {told['balanced_accuracy']['difference']['value']:+.3f} (+" in worth.text
    assert f"On the same 2,000 images of {told['lesions']:,} lesions." in worth.text


def test_what_changes_nothing_is_worth_nothing(fake):
    table = fake(700)
    told = metadata_worth(table, table, ("age",), replicates=100).to_json()
    assert set(told["balanced_accuracy"]["difference"].values()) == {0.0}
    assert told["fields"] == ["age"]
