from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from lesionlab.errors import RunError, SettingsError
from lesionlab.models import factory
from lesionlab.models.heads import head_of
from lesionlab.recipe.schema import Images, Model

CLASSES = ("akiec", "bcc", "mel")


def architecture(name, size=(64, 80)):
    return factory.Architecture.of(Model(name=name), CLASSES, Images(size=size))


@pytest.mark.parametrize(
    "name",
    [
        "test_resnet",
        "test_efficientnet",
        "test_convnext",
        "test_vit",
        "test_nfnet",
        "resnet18",
        "mobilenetv4_conv_small",
    ],
)
def test_every_family_gets_a_head_of_the_right_size(name):
    net = factory.build(architecture(name, (64, 64)))
    assert net.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
    head = head_of(net)
    assert sum(1 for _ in head.parameters()) > 0


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(SettingsError, match="densenet121"):
        factory.Architecture.of(Model(name="densnet121"), CLASSES, Images())


def test_a_saved_network_comes_back_with_its_preprocessing(tmp_path):
    made = architecture("test_resnet")
    torch.manual_seed(0)
    net = factory.build(made).eval()
    factory.save(net, made, tmp_path)
    again, description = factory.load(tmp_path)
    assert description == made
    x = torch.randn(2, 3, 64, 80)
    assert torch.equal(net(x), again(x))


def test_weights_of_another_architecture_are_refused(tmp_path):
    factory.save(factory.build(architecture("test_resnet")), architecture("test_resnet"), tmp_path)
    with pytest.raises(SettingsError, match="another architecture"):
        factory.build(architecture("test_efficientnet"), str(tmp_path / factory.WEIGHTS))
    other = factory.build(architecture("test_efficientnet"))
    factory.save_weights(other, tmp_path / factory.WEIGHTS)
    with pytest.raises(RunError, match="does not belong"):
        factory.load(tmp_path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_local_weights_keep_the_body_and_leave_the_head(tmp_path, suffix):
    source = factory.build(
        factory.Architecture.of(Model(name="test_resnet"), tuple("abcdefgh"), Images(size=(64, 64)))
    )
    path = tmp_path / f"weights{suffix}"
    weights = {k: v.contiguous() for k, v in source.state_dict().items()}
    if suffix == ".pth":
        torch.save({"state_dict": weights}, path)
    else:
        save_file(weights, path)
    net = factory.build(architecture("test_resnet"), str(path))
    mine = net.state_dict()
    head = {id(p) for p in head_of(net).parameters()}
    for name, parameter in net.named_parameters():
        if id(parameter) not in head:
            assert torch.equal(mine[name], weights[name])


def test_a_pickle_that_runs_code_is_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",))

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(SettingsError, match="safe to read"):
        factory.build(architecture("test_resnet"), str(tmp_path / "trap.pth"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["mobilenetv4_conv_small", "resnet18", "test_vit"])
def test_an_untrained_net_finds_all_classes_alike(name):
    net = factory.build(architecture(name, (64, 64))).train()
    with torch.no_grad():
        logits = net(torch.randn(8, 3, 64, 64))
    assert logits.std() < 1.0


def test_a_mistyped_tag_is_refused_with_the_tags_there_are():
    with pytest.raises(SettingsError, match=r"resnet18\.a1_in1k"):
        factory.check_name("resnet18.a1_in1kk")


def test_a_model_with_two_heads_is_built():
    net = factory.build(architecture("levit_128s", (224, 224)))
    assert net.eval()(torch.zeros(1, 3, 224, 224)).shape == (1, 3)
