"""The right layer of every architecture of the zoo, and what happens with others."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import nn

from lesionlab.errors import SettingsError
from lesionlab.explanation import target_layers
from lesionlab.explanation.grad_cam import grad_cam
from lesionlab.explanation.target_layers import KNOWN, target_layer
from lesionlab.models import factory
from lesionlab.models.listing import ZOO
from lesionlab.recipe.schema import Dense, Images, Model
from lesionlab.taxonomy import HAM7

LARGE = (192, 288)
"""Wider than high, so that nothing can lie on its side unseen."""
EXPECTED = {  # path, layout, tokens without a place, grid at LARGE
    "lenet": ("features.1.1", "NCHW", 0, (92, 140)),
    "cnn_64": ("features.2.1", "NCHW", 0, (48, 72)),
    "cnn_224": ("features.2.1", "NCHW", 0, (44, 68)),
    "vgg16": ("features.29", "NCHW", 0, (12, 18)),
    "vgg19": ("features.35", "NCHW", 0, (12, 18)),
    "resnet18": ("layer4", "NCHW", 0, (6, 9)),
    "resnet50": ("layer4", "NCHW", 0, (6, 9)),
    "resnet152": ("layer4", "NCHW", 0, (6, 9)),
    "resnetv2_50": ("norm", "NCHW", 0, (6, 9)),
    "densenet121": ("features.norm5", "NCHW", 0, (6, 9)),
    "densenet169": ("features.norm5", "NCHW", 0, (6, 9)),
    "densenet201": ("features.norm5", "NCHW", 0, (6, 9)),
    "inception_v3": ("Mixed_7c", "NCHW", 0, (4, 7)),
    "inception_resnet_v2": ("conv2d_7b", "NCHW", 0, (4, 7)),
    "efficientnet_b0": ("bn2", "NCHW", 0, (6, 9)),
    "tf_efficientnetv2_s": ("bn2", "NCHW", 0, (6, 9)),
    "tf_efficientnet_lite0": ("bn2", "NCHW", 0, (6, 9)),
    "tf_efficientnet_lite1": ("bn2", "NCHW", 0, (6, 9)),
    "tf_efficientnet_lite2": ("bn2", "NCHW", 0, (6, 9)),
    "mobilenetv4_conv_small": ("blocks", "NCHW", 0, (6, 9)),
    "mobilenetv4_conv_medium": ("blocks", "NCHW", 0, (6, 9)),
    "mobilenetv4_hybrid_medium": ("blocks", "NCHW", 0, (6, 9)),
    "convnext_tiny": ("norm_pre", "NCHW", 0, (6, 9)),
    "convnextv2_nano": ("norm_pre", "NCHW", 0, (6, 9)),
    "convnextv2_tiny": ("norm_pre", "NCHW", 0, (6, 9)),
    "swin_tiny_patch4_window7_224": ("norm", "NHWC", 0, (6, 9)),
    "swinv2_cr_tiny_ns_224": ("stages", "NCHW", 0, (6, 9)),
    "vit_small_patch16_224": ("blocks.11.norm1", "tokens", 1, (12, 18)),
    "vit_small_patch14_dinov2": ("blocks.11.norm1", "tokens", 1, (14, 21)),
    "deit3_small_patch16_224": ("blocks.11.norm1", "tokens", 1, (12, 18)),
    "eva02_tiny_patch14_224": ("blocks.11.norm1", "tokens", 1, (14, 21)),
}


def large(name: str) -> tuple[int, int]:
    return (196, 294) if "patch14" in name else LARGE


def smallest(name: str) -> tuple[int, int]:
    entry = next(each for each in ZOO if each.name == name)
    return (14, 14) if "patch14" in name else (entry.smallest, entry.smallest)


def build(name: str, size: tuple[int, int], **options) -> nn.Module:
    torch.manual_seed(0)
    model = Model(name=name, drop=0.0, **options)
    return factory.build(factory.Architecture.of(model, HAM7, Images(size=size))).eval()


def photograph(size: tuple[int, int], seed: int = 3) -> torch.Tensor:
    """No noise: light and colour that change slowly, as those of skin."""
    coarse = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(seed)) * 4 - 2
    return nn.functional.interpolate(coarse, size=size, mode="bicubic")


def output_of(net: nn.Module, layer: target_layers.Layer, images: torch.Tensor) -> torch.Tensor:
    kept = []
    module = net.get_submodule(layer.path)
    handle = module.register_forward_hook(lambda _m, _i, output: kept.append(output.clone()))
    with torch.no_grad():
        net(images)
    handle.remove()
    return layer.spatial(kept[-1])


def sees(net, layer, images, places: list[tuple[int, int]]) -> list[torch.Tensor]:
    """How much each pixel moves what the layer holds of a place, each of shape (height, width)."""
    kept = []
    module = net.get_submodule(layer.path)
    handle = module.register_forward_hook(lambda _m, _i, output: kept.append(output))
    images = images.clone().requires_grad_()
    net(images)
    handle.remove()
    held = layer.spatial(kept[-1])[0]
    signs = torch.randn(len(held), generator=torch.Generator().manual_seed(5))
    found = []
    for row, column in places:
        place = held[:, row, column]
        told = (place / place.detach().abs().max() * signs).sum()
        (gradient,) = torch.autograd.grad(told, images, retain_graph=True)
        found.append(gradient[0].square().sum(dim=0))
    return found


def middle(energy: torch.Tensor) -> np.ndarray:
    """Where energy has its centre: shares of height and width."""
    rows, columns = energy.sum(dim=1), energy.sum(dim=0)
    return np.array(
        [
            float((each / each.sum() * torch.linspace(0, 1, len(each))).sum())
            for each in (rows, columns)
        ]
    )


def check_map(name: str) -> tuple[nn.Module, target_layers.Layer]:
    """Layer and grid; a map of any class; and the right way up, by what places at corners see."""
    size = large(name)
    net = build(name, size)
    layer = target_layer(net, size)
    path, layout, prefix, grid = EXPECTED[name]
    assert (layer.path, layer.layout, layer.prefix, layer.grid) == (path, layout, prefix, grid)
    assert layer.known
    images = photograph(size)
    grids = grad_cam(net, images.expand(3, -1, -1, -1), torch.tensor([0, 2, 6]), layer).grid
    assert {each.shape for each in grids} == {grid}
    assert np.isfinite(grids).all()
    assert np.min(grids) >= 0
    assert any(np.ptp(each) > 1e-3 * each.max() for each in grids)
    middles = [middle(each) for each in sees(net, layer, images, [(0, 0), (-1, 0), (0, -1)])]
    low, across = middles[1] - middles[0], middles[2] - middles[0]
    assert low[0] > 0, middles  # little where every place sees the whole height, never negative
    assert across[1] > 0.015, middles
    return net, layer


@pytest.mark.parametrize("name", ["cnn_64", "mobilenetv4_conv_small", "eva02_tiny_patch14_224"])
def test_the_layer_of_a_family(name):
    check_map(name)


def test_every_architecture_of_the_zoo_has_a_tested_layer():
    assert set(EXPECTED) == {entry.name for entry in ZOO}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_layer_of_every_architecture_of_the_zoo(name, monkeypatch):
    net, tested = check_map(name)
    size = smallest(name)
    small = build(name, size) if timm.get_pretrained_cfg(name).fixed_input_size else net
    layer = target_layer(small, size)
    assert layer.known
    maps = grad_cam(small, photograph(size).expand(7, -1, -1, -1), torch.arange(7), layer)
    assert maps.grid.shape == (7, *layer.grid)
    assert np.isfinite(maps.scaled(size)).all()
    # A second way to the same layer; but a probe cannot know that a pooling at the end lies above.
    monkeypatch.setattr(target_layers, "KNOWN", {})
    found = target_layer(net, large(name))
    assert not found.known
    if type(net).__name__ in ("SmallNet", "VGG"):
        assert found.path in ("features", "pre_logits")
    elif type(net).__name__ == "Eva":  # it averages all places, so the last block would do too
        assert found.path == "blocks.11"
    else:
        images = photograph(large(name))
        torch.testing.assert_close(output_of(net, found, images), output_of(net, tested, images))


def test_m20_the_layer_of_a_resnet_v2_stands_behind_its_last_norm_and_relu():
    """Source D took a ResNet50V2 before them: raw sums, whose gradients weigh another thing."""
    size = (64, 96)
    net = timm.create_model("resnetv2_50", num_classes=3, layers=(1, 1, 1, 1)).eval()
    layer = target_layer(net, size)
    assert layer.path == "norm"
    images = photograph(size)
    read = output_of(net, layer, images)
    assert read.min() == 0
    with torch.no_grad():
        torch.testing.assert_close(read, net.forward_features(images))
        before = net.stages(net.stem(images))
    assert before.min() < 0


def test_a_class_token_leaves_no_gradient_behind_the_last_attention():
    """Why a ViT's layer is not its last one: there every map is blank."""
    size = (64, 96)
    net = build("test_vit", size)
    layer, images = target_layer(net, size), photograph(size)
    classes = torch.arange(7)
    many = images.expand(7, -1, -1, -1)
    assert layer.path == "blocks.5.norm1"
    assert not grad_cam(net, many, classes, layer).blank.all()
    last = target_layers.Layer("norm", "tokens", layer.grid, 1)
    assert grad_cam(net, many, classes, last).blank.all()


def test_a_probe_goes_below_layers_that_no_score_reads(monkeypatch):
    """As above, where nobody knows the architecture."""
    monkeypatch.setattr(target_layers, "KNOWN", {})
    layer = target_layer(build("test_vit", (64, 96)), (64, 96))
    assert (layer.path, layer.known) == ("blocks.5.norm1", False)


def test_register_tokens_have_no_place():
    size = (64, 96)
    net = timm.create_model(
        "vit_little_patch16_reg4_gap_256", img_size=size, depth=2, embed_dim=48, num_heads=2
    )
    layer = target_layer(net, size)
    assert (layer.prefix, layer.grid) == (net.num_prefix_tokens, (4, 6))
    output = torch.arange(float(layer.prefix + 24))[None, :, None]
    first_row = layer.spatial(output)[0, 0, 0]
    assert first_row.tolist() == [layer.prefix + column for column in range(6)]


def test_a_dense_head_with_max_pooling_has_maps_of_the_same_layer():
    size = (64, 96)
    net = build("test_resnet", size, head=Dense(widths=(8,), pool="max"))
    layer = target_layer(net, size)
    assert layer.path == "layer4"
    many = photograph(size).expand(7, -1, -1, -1)
    assert not grad_cam(net, many, torch.arange(7), layer).blank.all()


@pytest.mark.parametrize(
    ("name", "path", "layout"),
    [("test_byobnet", "stages", "NCHW"), ("test_nfnet", "final_act", "NCHW")],
)
def test_an_architecture_that_nobody_tested_is_probed(name, path, layout):
    size = (64, 96)
    net = build(name, size)
    assert not set(KNOWN) & {each.__name__ for each in type(net).__mro__}
    layer = target_layer(net.train(), size)
    assert (layer.path, layer.layout, layer.grid, layer.known) == (path, layout, (2, 3), False)
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(each._forward_hooks for each in net.modules())


def test_a_family_that_is_built_otherwise_is_probed():
    """A ViT whose blocks have another norm than the tested ones, and no class token."""
    size = (64, 96)
    net = timm.create_model(
        "vit_relpos_small_patch16_rpn_224", img_size=size, depth=2, embed_dim=48, num_heads=2
    )
    layer = target_layer(net, size)
    assert (layer.layout, layer.prefix, layer.grid) == ("tokens", 0, (4, 6))


def test_a_network_without_places_is_refused():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.act, self.out = nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)

        def forward(self, images):
            return self.out(self.act(self.hidden(images.mean(dim=(2, 3)))))

    with pytest.raises(SettingsError, match="no layer that keeps the places"):
        target_layer(Flat(), (64, 96))


@pytest.mark.parametrize(
    ("grid", "size", "fits"),
    [
        ((7, 7), (224, 224), True),
        ((7, 10), (225, 300), True),
        ((1, 1), (16, 16), True),
        ((10, 7), (225, 300), False),
        ((512, 7), (224, 224), False),
        ((7, 768), (224, 224), False),
        ((448, 448), (224, 224), False),
    ],
)
def test_what_may_be_a_grid(grid, size, fits):
    assert target_layers._is_grid(grid, size) == fits
