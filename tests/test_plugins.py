"""The page on plugging in, run as it stands: a network, a loss, an augmentation, a layout."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import lesionlab as ll
from lesionlab.data.catalogue import layouts
from lesionlab.errors import SettingsError

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "plug-in.md"


@pytest.fixture(scope="module")
def page():
    """What the page's examples define."""
    before = dict(layouts.LAYOUTS)
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(code, names)
    yield names
    layouts.LAYOUTS.clear()
    layouts.LAYOUTS.update(before)


def test_a_network_a_loss_and_an_augmentation_of_ones_own_train_and_predict(page, drawn, tmp_path):
    data, parts = drawn
    short = {"images.size": [32, 32], "phases.0.epochs": 1, "average.kind": "none", "batch": 32}
    recipe = page["recipe"].but(short)
    run = ll.train(recipe, data, parts, out=tmp_path / "run")
    assert run.recipe.model.name == "tiny"
    probabilities = run.predictions.filter(regex="^p_")
    assert np.allclose(probabilities.sum(axis=1), 1)
    again = ll.predict(model=run).predictions.set_index("image_id")
    first = run.predictions.set_index("image_id")
    assert np.allclose(again.loc[first.index, "p_mel"], first["p_mel"], atol=1e-6)


def test_the_layout_of_ones_own_is_found(page, tmp_path):
    rows = pd.DataFrame({"file": ["a.png", "b.png"], "finding": ["mel", "nv"]})
    rows.to_csv(tmp_path / "clinic.tsv", sep="\t", index=False)
    for number, name in enumerate(rows["file"]):
        Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8)).save(tmp_path / name)
    data = ll.catalogue(tmp_path)
    assert data.layout == "clinic"
    assert list(data.table["target"]) == ["mel", "nv"]


def test_what_is_not_registered_is_refused_before_anything_is_written(drawn, tmp_path):
    for changes, words in (
        ({"loss": {"kind": "own", "name": "absent"}}, "loss.name: no loss 'absent'"),
        ({"augment.own": ["absent"]}, "augment.own: absent"),
    ):
        recipe = ll.Recipe().but({"model.name": "lenet", "model.pretrained": False} | changes)
        with pytest.raises(SettingsError, match=words):
            ll.train(recipe, *drawn, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()
    with pytest.raises(SettingsError, match="timm knows no network"):
        ll.Recipe().but({"model.name": "absent"})
    with pytest.raises(SettingsError, match="Choose another name"):
        ll.plugins.register_network("resnet18")
