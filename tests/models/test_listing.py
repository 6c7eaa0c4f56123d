from __future__ import annotations

import re

import pandas as pd
import pytest
import timm
import torch

import lesionlab
from lesionlab.cli.app import main
from lesionlab.errors import SettingsError
from lesionlab.models import factory, listing
from lesionlab.recipe.schema import Images, Model

QUICK = ("lenet", "cnn_64", "resnet18", "mobilenetv4_conv_small", "eva02_tiny_patch14_224")
STORED = {entry.name: entry for entry in listing.ZOO}


def measured(name):
    found = listing.describe(name)
    return listing.Entry(name, found.parameters, found.depth, found.smallest, len(found.groups))


@pytest.mark.parametrize("name", QUICK)
def test_stored_figures_are_measured_ones(name):
    assert measured(name) == STORED[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STORED if name not in QUICK])
def test_every_stored_figure_is_a_measured_one(name):
    assert measured(name) == STORED[name]


def test_the_zoo_holds_every_network_of_the_sources_and_a_dozen_more():
    of_the_sources = [
        *("lenet", "cnn_64", "cnn_224", "vgg16", "vgg19", "resnet18", "resnet50", "resnet152"),
        *("resnetv2_50", "densenet121", "densenet169", "densenet201"),
        *("inception_v3", "inception_resnet_v2", "efficientnet_b0"),
    ]
    names = [entry.name for entry in listing.ZOO]
    assert names[: len(of_the_sources)] == of_the_sources
    assert len(names) >= len(of_the_sources) + 12
    assert len(set(names)) == len(names)
    for name in names:
        factory.check_name(name)


@pytest.mark.parametrize(
    ("name", "layers"), [("vgg16", 16), ("resnet50", 50), ("densenet121", 121)]
)
def test_depth_is_the_number_that_is_in_the_name(name, layers):
    assert listing.longest_way(name) == layers


def test_the_smallest_input_is_taken_and_the_next_smaller_is_not():
    model = Model(name="cnn_224")
    factory.build(factory.Architecture.of(model, ("a", "b"), Images(size=(24, 24))))
    with pytest.raises(SettingsError, match=r"images\.size"):
        factory.build(factory.Architecture.of(model, ("a", "b"), Images(size=(16, 16))))
    assert listing.smallest_input("cnn_224") == 24


@pytest.mark.parametrize(
    ("name", "mean", "std", "called"),
    [
        ("resnet18", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "ImageNet"),  # M9: not CIFAR's
        ("resnetv2_50", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "0.5"),
        ("inception_v3", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "0.5"),
        ("inception_resnet_v2", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "0.5"),
    ],
)
def test_m8_m9_every_network_gets_the_normalisation_that_it_was_trained_with(
    name, mean, std, called
):
    architecture = factory.Architecture.of(Model(name=name), ("a", "b"), Images())
    assert (architecture.mean, architecture.std) == (mean, std)
    table = lesionlab.list_models().set_index("name")
    assert table.loc[name, "normalisation"] == called


def test_a_table_of_the_zoo():
    table = lesionlab.list_models()
    assert list(table.columns) == [
        "name", "parameters", "depth", "smallest_input", "normalisation", "groups", "weights",
        "place", "licence",
    ]  # fmt: skip
    rows = table.set_index("name")
    assert list(rows.loc["lenet", ["weights", "licence"]]) == ["none", ""]
    assert rows.loc["vit_small_patch14_dinov2", "weights"] == "lvd142m"
    assert rows.loc["convnextv2_tiny", "licence"] == "cc-by-nc-4.0"
    with_weights = rows[rows["weights"] != "none"]
    assert (with_weights["licence"] != "").all()
    packaged = [f"tf_efficientnet_lite{number}" for number in range(3)]
    assert set(rows.loc[packaged, "licence"].str.lower()) == {"apache-2.0"}
    for name, row in with_weights.iterrows():
        hub = timm.get_pretrained_cfg(name).hf_hub_id
        assert hub == f"timm/{name}.{row['weights']}"  # as the printed line says


def test_a_tag_comes_first_where_it_is_asked_for():
    assert listing.describe("resnet18.tv_in1k").weights[0] == "tv_in1k"
    assert listing.describe("resnet18").weights[0] == timm.get_pretrained_cfg("resnet18").tag


def test_a_network_without_a_plain_forward_is_still_described():
    found = listing.describe("levit_128s")
    assert found.parameters > 0
    assert found.groups[-1].name == "head"


def printed(capsys, *words):
    assert main(["models", *words]) == 0
    return capsys.readouterr().out


def test_the_verb_lists_shows_and_finds(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    said = printed(capsys)
    for name in STORED:
        assert name in said
    assert re.search(r"densenet201 .* 18\.1 .* 201 .* 32 .* ImageNet .* 7 .* apache-2\.0", said)
    said = printed(capsys, "resnet18")
    for words in ("11,180,103", "16 x 16", "0.485 0.456 0.406", "layer4", "8,393,728", "a1_in1k"):
        assert words in said
    assert said.index("stem") < said.index("layer1") < said.index("head  ")
    said = printed(capsys, "--filter", "dinov2")
    assert "vit_giant_patch14_reg4_dinov2" in said
    assert "resnet18" not in said


def test_the_verb_refuses_what_there_is_not(capsys):
    assert main(["models", "densnet201"]) == 2
    assert "densenet201" in capsys.readouterr().err
    assert main(["models", "--filter", "nothing like it"]) == 2
    assert "nothing like it" in capsys.readouterr().err


def test_the_list_makes_no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the list is to be quick")

    monkeypatch.setattr(timm, "create_model", refuse)
    assert isinstance(listing.list_models(), pd.DataFrame)
    assert len(listing.list_others("resnet")) > 50


def test_counting_layers_changes_no_result():
    torch.manual_seed(0)
    network = timm.create_model("test_resnet").eval()
    images = torch.randn(1, 3, 64, 64)
    counted = network(images.as_subclass(listing._Counted))
    assert torch.equal(counted.as_subclass(torch.Tensor), network(images))
