from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save_file

from lesionlab.errors import SettingsError
from lesionlab.files import write_json
from lesionlab.models import factory, heads
from lesionlab.recipe.schema import Dense, Images, Linear, Model


def architecture(name, size, classes="abc", head=None):
    model = Model(name=name, head=head or Linear())
    return factory.Architecture.of(model, tuple(classes), Images(size=size))


def saved(folder, made):
    """A network of random weights, saved as a run saves it."""
    torch.manual_seed(0)
    network = factory.build(made)
    factory.save(network, made, folder)
    return network.state_dict(), str(folder / factory.WEIGHTS)


def check_resampled(folder, name, size, other):
    """Weights of one input size in a network for another: the same but for what has a grid."""
    weights, path = saved(folder, architecture(name, size))
    network = factory.build(architecture(name, other), path)
    mine = network.state_dict()
    assert set(mine) == set(weights)
    kept = {key for key in mine if mine[key].shape == weights[key].shape}
    assert all(torch.equal(mine[key], weights[key]) for key in kept)
    return weights, mine, set(mine) - kept


def test_a_transformer_takes_weights_of_another_input_size(tmp_path):
    weights, mine, resampled = check_resampled(tmp_path, "test_vit", (160, 160), (96, 128))
    assert resampled == {"pos_embed"}
    assert mine["pos_embed"].shape == (1, 1 + 6 * 8, 64)
    assert torch.equal(mine["pos_embed"][:, 0], weights["pos_embed"][:, 0])  # of the class token


def test_the_grid_of_a_run_need_not_be_square(tmp_path):
    """4 x 9 patches are as many as 6 x 6: only model.json tells."""
    weights, path = saved(tmp_path, architecture("test_vit", (64, 144)))
    told = (
        factory.build(architecture("test_vit", (64, 288)), path).pos_embed[0, 1:].reshape(4, 18, 64)
    )
    rows = weights["pos_embed"][0, 1:].reshape(4, 9, 64)
    # twice as wide and as high as before: the mean of each row of patches stays what it was
    assert torch.allclose(told.mean(1), rows.mean(1), atol=2e-3)
    (tmp_path / factory.DESCRIPTION).unlink()
    untold = factory.build(architecture("test_vit", (64, 288)), path).pos_embed[0, 1:]
    assert not torch.allclose(untold.reshape(4, 18, 64).mean(1), rows.mean(1), atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "resampled"),
    [
        ("vit_small_patch14_dinov2", {"pos_embed"}),
        ("eva02_tiny_patch14_224", {"pos_embed"}),
        ("deit3_small_patch16_224", {"pos_embed"}),
        (
            "swin_tiny_patch4_window7_224",
            {f"layers.3.blocks.{i}.attn.relative_position_bias_table" for i in (0, 1)},
        ),
        ("swinv2_cr_tiny_ns_224", set()),
    ],
)
def test_every_transformer_of_the_zoo_takes_another_input_size(tmp_path, name, resampled):
    assert check_resampled(tmp_path, name, (224, 224), (112, 168))[2] == resampled


@pytest.mark.slow
def test_what_timm_cannot_resample_is_refused_in_plain_words(tmp_path):
    _, path = saved(tmp_path, architecture("swin_tiny_patch4_window7_224", (112, 168)))
    with pytest.raises(SettingsError, match="Take the size that it was trained at"):
        factory.build(architecture("swin_tiny_patch4_window7_224", (96, 96)), path)


def test_weights_under_the_names_of_their_publication_are_converted(tmp_path):
    """torchvision's DenseNets have norm.1 where timm has norm1."""
    made = architecture("densenet121", (32, 32))
    weights, _ = saved(tmp_path, made)
    theirs = {re.sub(r"(layer\d+\.(?:norm|conv))(\d)", r"\1.\2", k): v for k, v in weights.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in theirs
    torch.save({"model": {f"module.{k}": v for k, v in theirs.items()}}, tmp_path / "theirs.pth")
    mine = factory.build(made, str(tmp_path / "theirs.pth")).state_dict()
    assert all(torch.equal(mine[k], weights[k]) for k in mine if not k.startswith("classifier."))


def test_metas_dinov2_is_converted_and_resampled(tmp_path):
    """It has a mask token, which timm's has not, and was trained at another size."""
    weights, _ = saved(tmp_path, architecture("test_vit", (160, 160)))
    theirs = {k: v for k, v in weights.items() if not k.startswith("head.")}
    torch.save({"teacher": {**theirs, "mask_token": torch.zeros(1, 64)}}, tmp_path / "dino.pth")
    made = architecture("test_vit", (96, 128))
    mine = factory.build(made, str(tmp_path / "dino.pth")).state_dict()
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs if k != "pos_embed")


@pytest.mark.parametrize("head", [Linear(), Dense(widths=(6,))])
def test_a_classifier_of_the_same_shape_comes_along(tmp_path, head):
    weights, path = saved(tmp_path, architecture("test_resnet", (32, 32), "abc", head))
    same = factory.build(architecture("test_resnet", (32, 32), "xyz", head), path).state_dict()
    assert all(torch.equal(same[key], weights[key]) for key in weights)
    other = factory.build(architecture("test_resnet", (32, 32), "vwxyz", head), path)
    in_head = {f"fc.{name}" for name in heads.head_of(other).state_dict()}
    mine = other.state_dict()
    assert all(torch.equal(mine[key], weights[key]) for key in set(mine) - in_head)
    last = mine["fc.weight" if isinstance(head, Linear) else "fc.logits.weight"]
    assert last.shape[0] == 5


def test_a_dense_head_needs_no_dense_head_in_the_file(tmp_path):
    weights, path = saved(tmp_path, architecture("test_resnet", (32, 32)))
    network = factory.build(architecture("test_resnet", (32, 32), head=Dense(pool="max")), path)
    mine = network.state_dict()
    assert torch.equal(mine["layer4.0.conv1.weight"], weights["layer4.0.conv1.weight"])
    assert mine["fc.dense1.weight"].shape == (512, 96)


def test_m16_weights_without_batch_norm_statistics_are_refused(tmp_path):
    weights, _ = saved(tmp_path, architecture("test_resnet", (32, 32)))
    kept = {k: v.contiguous() for k, v in weights.items() if "running" not in k}
    save_file(kept, tmp_path / "kept.safetensors")
    with pytest.raises(SettingsError, match=r"lacks .*running_mean"):
        factory.build(architecture("test_resnet", (32, 32)), str(tmp_path / "kept.safetensors"))


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"state_dict": 5}])
def test_a_file_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(SettingsError, match=r"odd\.pth"):
        factory.build(architecture("test_resnet", (32, 32)), str(tmp_path / "odd.pth"))


def test_a_description_of_before_heads_and_fusion_still_loads(tmp_path):
    made = architecture("test_resnet", (32, 40))
    torch.manual_seed(0)
    network = factory.build(made).eval()
    factory.save(network, made, tmp_path)
    write_json(
        tmp_path / factory.DESCRIPTION,
        {
            "name": "test_resnet",
            "classes": ["a", "b", "c"],
            "images": {"size": [32, 40], "fit": "stretch"},
            "mean": list(made.mean),
            "std": list(made.std),
            "drop": 0.2,
        },
    )
    again, description = factory.load(tmp_path)
    assert description == made
    assert torch.equal(network(torch.ones(1, 3, 32, 40)), again(torch.ones(1, 3, 32, 40)))


def test_a_description_that_cannot_be_built_is_told_with_all_its_faults(tmp_path):
    from lesionlab.errors import RunError
    from lesionlab.files import read_json

    made = architecture("test_resnet", (32, 40))
    factory.save(factory.build(made), made, tmp_path)
    side = read_json(tmp_path / factory.DESCRIPTION)
    write_json(tmp_path / factory.DESCRIPTION, {**side, "head": {"kind": "oracle"}, "crystal": 1})
    with pytest.raises(RunError) as refused:
        factory.load(tmp_path)
    assert "head.kind" in str(refused.value)
    assert "crystal" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [("lenet", "there are no published weights of lenet"), ("test_resnet", "could not be fetched")],
)
def test_weights_that_cannot_be_had_are_told_with_what_to_do(name, words):
    with pytest.raises(SettingsError, match=words) as refused:
        factory.build(architecture(name, (32, 32)), True)
    assert "--model.pretrained FILE" in str(refused.value)
