from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from lesionlab.errors import SettingsError
from lesionlab.models import factory, heads, layer_groups
from lesionlab.models.listing import ZOO
from lesionlab.models.metadata_encoder import MetadataEncoder
from lesionlab.recipe.schema import (
    Adam,
    AdamW,
    Concatenation,
    CrossEntropy,
    Dense,
    Images,
    Model,
    NoFusion,
    Phase,
    Recipe,
    Sgd,
)
from lesionlab.training import losses
from lesionlab.training.lightning_module import Classifier, optimiser

SMALLEST = {entry.name: entry.smallest for entry in ZOO}


def on_paper(name, head=None):
    """A network without weights, which costs nothing."""
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=7)
        if head:
            heads.attach(network, head, 7, name)
    return network


def names_of(network):
    return [group.name for group in layer_groups.groups(network)]


def batch_norms(network):
    kind = nn.modules.batchnorm._BatchNorm
    return [(path, each) for path, each in network.named_modules() if isinstance(each, kind)]


def trained(name, cut, norms="with_group", steps=1, network=None):
    """What training moved: names of the state, the network (a new one or this) and the cut."""
    side = SMALLEST[name]
    model = Model(name=name, drop=0.0)
    architecture = factory.Architecture.of(model, ("a", "b", "c"), Images(size=(side, side)))
    torch.manual_seed(0)
    network = factory.build(architecture) if network is None else network
    cut = names_of(network)[cut] if isinstance(cut, int) else cut
    phase = Phase(depth=cut, norms=norms, optim=Sgd(lr=1.0, momentum=0.0, weight_decay=0.1))
    loss = losses.build(CrossEntropy(), torch.tensor([1, 1, 1]).numpy())
    module = Classifier(network, architecture, Recipe(), phase, loss, 1)
    module.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optim = optimiser(network, phase.optim)
    for _ in range(steps):
        optim.zero_grad()
        logits = network(torch.randn(4, 3, side, side))
        nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
        optim.step()
    after = network.state_dict()
    return {key for key in after if not torch.equal(after[key], before[key])}, network, cut


def parameters_from(network, cut):
    every = layer_groups.groups(network)
    lowest = names_of(network).index(cut)
    return {name for group in every[lowest:] for name in group.parameters}


def check_frozen(name):
    moved, network, _ = trained(name, "head")
    head = {id(each) for each in heads.head_of(network).parameters()}
    in_head = {key for key, each in network.named_parameters() if id(each) in head}
    assert moved == in_head
    middle = len(names_of(network)) // 2
    moved, network, cut = trained(name, middle, network=network)  # the next phase
    learning = parameters_from(network, cut)
    norms_above = {
        f"{path}.{statistic}"
        for path, norm in batch_norms(network)
        if any(f"{path}.{each}" in learning for each, _ in norm.named_parameters())
        for statistic in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert moved <= learning | norms_above
    assert norms_above <= moved
    assert moved & set(layer_groups.groups(network)[-1].parameters)
    assert any(key in moved for key in layer_groups.groups(network)[middle].parameters)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv4_conv_small", "eva02_tiny_patch14_224"])
def test_frozen_means_frozen(name):
    check_frozen(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.name for entry in ZOO])
def test_frozen_means_frozen_in_every_network_of_the_zoo(name):
    check_frozen(name)


def test_m16_all_norms_learn_fully_or_not_at_all():
    moved, network, cut = trained("resnet18", "layer4", norms="all", steps=2)
    norms = {f"{path}.{key}" for path, norm in batch_norms(network) for key in norm.state_dict()}
    assert norms <= moved
    assert moved <= norms | parameters_from(network, cut)
    assert "layer1.0.conv1.weight" not in moved


def test_groups_hold_every_parameter_once_bottom_to_top():
    for name in ("lenet", "vgg16", "resnet18", "inception_resnet_v2", "test_vit", "levit_128s"):
        network = on_paper(name)
        groups = layer_groups.groups(network)
        listed = [each for group in groups for each in group.parameters]
        assert sorted(listed) == sorted(key for key, _ in network.named_parameters())
        assert sum(group.count for group in groups) == sum(p.numel() for p in network.parameters())
        names = [group.name for group in groups]
        assert (names[0], names[-1]) == ("stem", "head")
        assert len(set(names)) == len(names)


def test_groups_have_names_that_people_know():
    assert names_of(on_paper("resnet50")) == ["stem", *(f"layer{i}" for i in range(1, 5)), "head"]
    assert names_of(on_paper("vgg16"))[-4:] == ["features.26", "features.28", "pre_logits", "head"]
    assert names_of(on_paper("vit_small_patch16_224"))[-2:] == ["blocks.11", "head"]
    assert names_of(on_paper("inception_v3"))[-3:] == ["Mixed_7b", "Mixed_7c", "head"]
    dense = on_paper("inception_v3", Dense())
    assert names_of(dense) == names_of(on_paper("inception_v3"))


def test_a_network_that_timm_does_not_group_has_a_body_and_a_head():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def get_classifier(self):
            return self.fc

    assert [(each.name, each.count) for each in layer_groups.groups(Plain())] == [
        ("stem", 112),
        ("head", 10),
    ]


def test_the_branch_of_a_fused_network_learns_with_the_head():
    encoder = MetadataEncoder({"sex": ("female", "male"), "site": ("back",)})
    model = Model(name="test_resnet", fusion=Concatenation(fields=("sex", "site")))
    architecture = factory.Architecture.of(
        model, ("a", "b"), Images(size=(32, 32)), encoder.to_dict()
    )
    fused = factory.build(architecture)
    plain = factory.build(replace(architecture, fusion=NoFusion(), metadata=None))
    assert names_of(fused) == names_of(plain)
    layer_groups.freeze(fused, "head")
    learning = {name for name, each in fused.named_parameters() if each.requires_grad}
    outside = {name for name, _ in fused.named_parameters() if not name.startswith("image_net.")}
    assert learning == outside | {"image_net.fc.weight", "image_net.fc.bias"}


def test_an_unknown_depth_is_refused_with_the_nearest_and_all():
    network = on_paper("inception_v3")
    with pytest.raises(SettingsError) as refused:
        layer_groups.check(network, ["head", "Mixed_7x", "al", "all"])
    said = str(refused.value)
    for words in ("phases.1.depth", "'Mixed_7c'", "phases.2.depth", "'all'", "Mixed_5b, Mixed_5c"):
        assert words in said
    assert "phases.0" not in said
    assert "phases.3" not in said
    with pytest.raises(SettingsError, match="layer5"):
        layer_groups.freeze(on_paper("resnet18"), "layer5")


def test_dropout_of_frozen_groups_is_off_and_that_before_the_head_on():
    with torch.device("meta"):
        vgg = timm.create_model("vgg16", num_classes=7, drop_rate=0.5)
    layer_groups.keep_modes(vgg, layer_groups.freeze(vgg, "head"))
    assert not vgg.pre_logits.drop.training
    assert vgg.head.drop.training
    with torch.device("meta"):
        vit = timm.create_model(
            "vit_tiny_patch16_224", num_classes=7, drop_rate=0.5, pos_drop_rate=0.1,
            drop_path_rate=0.5,
        )  # fmt: skip
    layer_groups.keep_modes(vit, layer_groups.freeze(vit, "blocks.6"))
    assert not vit.pos_drop.training
    assert not vit.blocks[5].drop_path1.training
    assert vit.blocks[6].drop_path1.training
    assert vit.blocks[6].attn.proj_drop.training
    assert vit.head_drop.training
    layer_groups.keep_modes(vit, layer_groups.freeze(vit, "all"))
    assert all(module.training for module in vit.modules())


def test_layers_learn_slower_the_lower_they_are():
    network = on_paper("resnet18")
    scales = layer_groups.layer_scales(network, 0.5)
    assert set(scales) == {name for name, _ in network.named_parameters()}
    assert scales["fc.bias"] == 1
    assert scales["layer4.0.conv1.weight"] == 0.5
    assert scales["layer1.0.conv1.weight"] == 0.5**4
    assert scales["bn1.weight"] == 0.5**5


@pytest.mark.parametrize("kind", [AdamW, Adam, Sgd])
def test_the_optimiser_goes_by_layers_and_spares_norms(kind):
    network = factory.build(
        factory.Architecture.of(Model(name="test_resnet"), ("a", "b"), Images(size=(32, 32)))
    )
    settings = kind(lr=0.1, layer_decay=0.5)
    scales = layer_groups.layer_scales(network, 0.5)
    names = {id(each): name for name, each in network.named_parameters()}
    groups = optimiser(network, settings).param_groups
    assert groups[0]["lr_scale"] == 1  # the history's learning rate is that of the head
    seen = []
    for group in groups:
        for parameter in group["params"]:
            seen.append(names[id(parameter)])
            assert group["lr_scale"] == scales[names[id(parameter)]]
            assert group["lr"] == pytest.approx(0.1 * group["lr_scale"])
            decays = parameter.ndim > 1
            assert group["weight_decay"] == (getattr(settings, "weight_decay", 0) if decays else 0)
    assert sorted(seen) == sorted(names.values())


def test_layer_decay_moves_low_layers_less():
    network = factory.build(
        factory.Architecture.of(Model(name="test_resnet"), ("a", "b"), Images(size=(32, 32)))
    )
    before = {name: each.detach().clone() for name, each in network.named_parameters()}
    step = optimiser(network, Adam(lr=0.01, layer_decay=0.5))
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    step.step()
    for name, scale in layer_groups.layer_scales(network, 0.5).items():
        each = network.get_parameter(name)
        largest = each.grad.abs().max()
        if largest > 1e-4:  # Adam's first step is the learning rate, where there is a gradient
            moved = (each.detach() - before[name]).abs().max().item()
            assert moved == pytest.approx(0.01 * scale, rel=0.01)


@pytest.mark.parametrize("kind", [AdamW, Adam])
def test_amsgrad_reaches_the_optimiser(kind):
    network = nn.Linear(2, 2)
    assert optimiser(network, kind(amsgrad=True)).param_groups[0]["amsgrad"]
    assert not optimiser(network, kind()).param_groups[0]["amsgrad"]
