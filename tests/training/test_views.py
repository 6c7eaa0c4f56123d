"""The page of views shows what training will show."""

from __future__ import annotations

import pytest
from pages import Page

from lesionlab.recipe.schema import Recipe
from lesionlab.training.views import views


@pytest.fixture(scope="module")
def page(drawn, tmp_path_factory):
    recipe = Recipe().but(
        {
            "images.size": [24, 32],
            "sampling.kind": "balanced",
            "loss.weights": "inverse",
            "augment.mixup": 0.2,
        }
    )
    out = views(recipe, *drawn, out=tmp_path_factory.mktemp("views"), examples=3, each=2)
    return Page(out.read_text(encoding="utf-8"))


def test_each_image_stands_untouched_beside_its_views(page):
    assert page.faults == page.open == []
    captions = [attrs["alt"].partition(", ")[2] for attrs in page.all("img")]
    row = [
        "untouched, as val and test are",
        "view 1",
        "view 2",
        "view 1, mixed with its neighbour's",
    ]
    assert captions == row * 3
    assert len({attrs["src"] for attrs in page.all("img") if "mixed" not in attrs["alt"]}) == 9


def test_classes_are_counted_before_and_after_sampling_and_weighed(page):
    assert "Sampling balanced moves nv most" in page.text
    assert "weight" in page.text
