from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from lesionlab.errors import SettingsError
from lesionlab.models import factory, heads
from lesionlab.models.listing import ZOO
from lesionlab.recipe.schema import Dense, Images, Linear, Model

SMALLEST = {entry.name: entry.smallest for entry in ZOO}
WITHOUT_POOLING = ("lenet", "cnn_64", "cnn_224")


def on_paper(name, head, classes=7):
    """A network without weights, which costs nothing, for its smallest input."""
    side = SMALLEST.get(name, 32)
    fixed = timm.get_pretrained_cfg(name).fixed_input_size
    with torch.device("meta"):
        network = timm.create_model(
            name, num_classes=classes, **({"img_size": side} if fixed else {})
        ).eval()
        heads.attach(network, head, classes, name)
    return network


def check_dense(name, pool):
    network = on_paper(name, Dense(widths=(12, 9), pool=pool))
    head = heads.head_of(network)
    assert isinstance(head, heads.DenseHead)
    side = SMALLEST.get(name, 32)
    with torch.device("meta"):
        features = network.forward_head(
            network.forward_features(torch.zeros(2, 3, side, side)), pre_logits=True
        )
        assert network(torch.zeros(2, 3, side, side)).shape == (2, 7)
    assert features.flatten(1).shape == (2, head.in_features)


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("name", ["vgg16", "resnet18", "resnetv2_50", "convnextv2_nano"])
def test_a_dense_head_takes_the_place_of_the_classifier(name, pool):
    check_dense(name, pool)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("name", [n for n in SMALLEST if n not in WITHOUT_POOLING])
def test_every_network_of_the_zoo_takes_a_dense_head(name, pool):
    check_dense(name, pool)


@pytest.mark.parametrize(
    ("name", "features"),
    [("resnet18", 512), ("resnet50", 2048), ("resnetv2_50", 2048), ("densenet169", 1664)],
)
@pytest.mark.parametrize("head", [Linear(), Dense()])
def test_m12_a_head_has_as_many_inputs_as_the_network_has_features(name, features, head):
    made = heads.head_of(on_paper(name, head))
    if isinstance(made, heads.DenseHead):
        made = made.dense1
    assert made.weight.shape[1] == features


@pytest.mark.parametrize(
    ("head", "layers", "parameters"),
    [
        # A: one to three dense layers
        (Dense(widths=(512,)), "dense1 relu1 drop1 logits", 512 * 2048 + 512 + 7 * 512 + 7),
        # B: 120-84, with batch norm and without
        (
            Dense(widths=(120, 84), drop=0.0),
            "dense1 relu1 drop1 dense2 relu2 drop2 logits",
            120 * 2048 + 120 + 84 * 120 + 84 + 7 * 84 + 7,
        ),
        (
            Dense(widths=(120, 84), batch_norm=True, drop=0.0),
            "dense1 norm1 relu1 drop1 dense2 norm2 relu2 drop2 logits",
            120 * 2048 + 3 * 120 + 84 * 120 + 3 * 84 + 7 * 84 + 7,
        ),
        # D: 256-128
        (
            Dense(widths=(256, 128)),
            "dense1 relu1 drop1 dense2 relu2 drop2 logits",
            256 * 2048 + 256 + 128 * 256 + 128 + 7 * 128 + 7,
        ),
    ],
)
def test_the_heads_of_the_sources(head, layers, parameters):
    made = heads.head_of(on_paper("resnet50", head))
    assert [name for name, _ in made.named_children()] == layers.split()
    assert sum(each.numel() for each in made.parameters()) == parameters
    assert made.drop1.p == head.drop


def test_pooling_is_what_was_asked_for():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    expected = {"avg": lambda x: x.mean((2, 3)), "max": lambda x: x.amax((2, 3))}
    for pool, pooled in expected.items():
        network = timm.create_model("test_resnet", num_classes=3).eval()
        heads.attach(network, Dense(widths=(4,), pool=pool), 3, "test_resnet")
        features = network.forward_features(images)
        assert torch.allclose(network(images), network.fc(pooled(features)), atol=1e-6)


def test_a_transformer_pools_its_patches():
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=3).eval()
    before = {name: each.clone() for name, each in network.state_dict().items()}
    heads.attach(network, Dense(widths=(4,), pool="max"), 3, "test_vit")
    body = {name for name in network.state_dict() if not name.startswith("head.")}
    assert body == {name for name in before if not name.startswith("head.")}
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in body)
    images = torch.randn(2, 3, 160, 160)
    patches = network.forward_features(images)[:, 1:]
    assert torch.allclose(network(images), network.head(patches.amax(1)), atol=1e-6)


def test_vgg_keeps_its_dense_layers_under_a_linear_head_only():
    assert on_paper("vgg19", Linear()).pre_logits.fc1.out_channels == 4096
    network = on_paper("vgg16", Dense(pool="max"))
    assert isinstance(network.pre_logits, nn.Identity)
    assert [type(each) for each in network.features] == [
        type(each) for each in on_paper("vgg16", Linear()).features
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [("lenet", "pool"), ("levit_128s", "linear"), ("mobilenetv4_conv_smal", "Did you mean")],
)
def test_a_network_that_cannot_have_such_a_head_says_so(name, words):
    model = Model(name=name, head=Dense())
    with pytest.raises(SettingsError, match=words):
        factory.build(factory.Architecture.of(model, ("a", "b"), Images(size=(224, 224))))


def test_dense_heads_are_saved_and_loaded(tmp_path):
    head = Dense(widths=(8, 5), batch_norm=True, drop=0.1, pool="max")
    made = factory.Architecture.of(
        Model(name="test_resnet", head=head), ("a", "b"), Images(size=(32, 40))
    )
    torch.manual_seed(0)
    network = factory.build(made)
    network.train()(torch.randn(6, 3, 32, 40))  # batch norms get statistics of their own
    factory.save(network.eval(), made, tmp_path)
    again, description = factory.load(tmp_path)
    assert description == made
    images = torch.randn(2, 3, 32, 40)
    assert torch.equal(network(images), again(images))


def test_an_untrained_dense_head_finds_all_classes_alike():
    architecture = factory.Architecture.of(
        Model(name="test_resnet", head=Dense(widths=(512, 128))), ("a", "b"), Images(size=(64, 64))
    )
    network = factory.build(architecture).train()
    with torch.no_grad():
        assert network(torch.randn(8, 3, 64, 64)).std() < 1
