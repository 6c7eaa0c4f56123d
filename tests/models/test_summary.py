"""What a recipe's network is, before it is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from lesionlab.cli.app import main
from lesionlab.errors import SettingsError
from lesionlab.models.summary import summarise
from lesionlab.recipe.schema import Recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def test_source_ds_resnet50v2_learns_its_head_alone():
    found = summarise(Recipe.load(RECIPES / "d_resnet50v2.yaml"))
    assert found.trainable == 558_343
    assert found.parameters == found.layers["parameters"].sum()
    assert list(found.layers["trainable"])[:-1] == [0] * (len(found.layers) - 1)
    assert found.depth == 52  # 50, and two dense layers


def test_source_cs_depth_stands_beside_ours_where_the_head_is_its_own():
    recipe = Recipe.load(RECIPES / "c_vgg16.yaml")
    found = summarise(recipe)
    assert (found.depth, found.keras_depth, found.parameters) == (15, 23, 14_980_935)
    assert summarise(recipe.but({"model.head.widths": [256]})).keras_depth is None


def test_models_shows_a_recipe(capsys):
    assert main(["models", str(RECIPES / "e_lenet.yaml")]) == 0
    out = capsys.readouterr().out
    assert "5,612,471" in out
    assert "hidden" in out


def test_a_mistyped_network_is_caught_where_a_recipe_is_changed():
    with pytest.raises(SettingsError, match="did you mean 'resnet18'"):
        Recipe().but({"model.name": "resnet_18"})
