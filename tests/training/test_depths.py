from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from lesionlab.errors import SettingsError
from lesionlab.models import factory, layer_groups
from lesionlab.recipe.schema import Images, Model, Recipe
from lesionlab.training.train import train

SMALL = Recipe().but(
    {
        "images.size": [32, 40],
        "model.name": "test_resnet",
        "model.head": {"kind": "dense", "widths": [8], "pool": "max"},
        "phases": [
            {"depth": "head", "epochs": 1, "optim": {"kind": "adam", "lr": 1e-6, "amsgrad": True}},
            {"depth": "layer4", "epochs": 4, "optim": {"lr": 1e-2, "layer_decay": 0.5}},
        ],
        "average.decay": 0.5,
        "select.metric": "macro_auroc",
        "batch": 16,
    }
)


def test_a_run_in_phases_leaves_the_frozen_layers_as_they_came(drawn, tmp_path):
    data, parts = drawn
    torch.manual_seed(5)
    came = factory.Architecture.of(Model(name="test_resnet"), ("a", "b"), Images(size=(32, 40)))
    network = factory.build(came)
    network.train()(torch.randn(8, 3, 32, 40))  # statistics that are nobody's default
    factory.save(network, came, tmp_path / "before")
    recipe = SMALL.but({"model.pretrained": str(tmp_path / "before" / factory.WEIGHTS)})
    run = train(recipe, data, parts, out=tmp_path / "run")
    assert run.info["kept_epoch"] > 1  # of the second phase
    before = load_file(tmp_path / "before" / factory.WEIGHTS)
    after = load_file(run.folder / factory.WEIGHTS)
    below = [name for name in after if not name.startswith(("layer4.", "fc."))]
    assert any("running_mean" in name for name in below)
    assert all(torch.equal(after[name], before[name]) for name in below)
    assert not torch.equal(after["layer4.0.conv2.weight"], before["layer4.0.conv2.weight"])
    assert not torch.equal(after["layer4.0.bn1.running_var"], before["layer4.0.bn1.running_var"])
    loaded, architecture = factory.load(run.folder)
    assert architecture.head == recipe.model.head
    assert [group.name for group in layer_groups.groups(loaded)][-2:] == ["layer4", "head"]


def test_a_wrong_depth_is_refused_before_any_work(drawn, tmp_path):
    data, parts = drawn
    recipe = SMALL.but({"phases.0.depth": "layer5", "phases.1.depth": "blocks.3"})
    with pytest.raises(SettingsError) as refused:
        train(recipe, data, parts, out=tmp_path / "run", cache_to=tmp_path / "cache")
    for words in ("phases.0.depth", "layer4", "phases.1.depth", "stem, layer1"):
        assert words in str(refused.value)
    assert not list(tmp_path.iterdir())
