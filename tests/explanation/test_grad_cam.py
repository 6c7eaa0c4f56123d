"""Maps against a reference, against known evidence, and what they leave behind."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import timm
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from lesionlab.errors import RunError
from lesionlab.explanation.compute_maps import untrained_like
from lesionlab.explanation.grad_cam import Maps, grad_cam, spread
from lesionlab.explanation.target_layers import Layer, target_layer
from lesionlab.models import factory
from lesionlab.models.heads import head_of
from lesionlab.models.metadata_fusion import fuse
from lesionlab.recipe.schema import Concatenation, Gating, Images, Model, NeighboursProbe

SIZE = (64, 96)


def network(name: str, size=SIZE, **options) -> nn.Module:
    """One of timm's, with random weights and a head large enough for maps of a usual size."""
    torch.manual_seed(0)
    made = timm.create_model(name, num_classes=5, **options).eval()
    nn.init.normal_(made.get_classifier().weight)
    return made


def noise(n: int = 2, size=SIZE) -> torch.Tensor:
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    ("name", "options", "reshape"),
    [
        ("test_resnet", {}, None),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": SIZE, "embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)},
            lambda x: x.permute(0, 3, 1, 2),
        ),
        (
            "test_vit",
            {"img_size": SIZE},
            lambda x: x[:, 1:].reshape(len(x), 4, 6, -1).permute(0, 3, 1, 2),
        ),
    ],
)
def test_maps_agree_with_the_grad_cam_package(name, options, reshape):
    net, images, classes = network(name, **options), noise(), torch.tensor([1, 4])
    layer = target_layer(net, SIZE)
    ours = grad_cam(net, images, classes, layer)
    targets = [ClassifierOutputTarget(int(each)) for each in classes]
    module = net.get_submodule(layer.path)
    with GradCAM(net, [module], reshape) as theirs:
        large = theirs(images, targets)
        seen = theirs.activations_and_grads
        raw = theirs.get_cam_image(
            images, module, targets, seen.activations[0].numpy(), seen.gradients[0].numpy()
        )
    raw = np.maximum(raw, 0)
    assert raw.max(axis=(1, 2)).min() > 1e-3  # else agreement would mean little
    np.testing.assert_allclose(ours.grid, raw, atol=1e-4 * raw.max())
    # The package also takes the smallest value off, and scales once more when it has enlarged.
    mine = spread(ours.grid - ours.grid.min(axis=(1, 2), keepdims=True), SIZE)
    mine -= mine.min(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(mine / mine.max(axis=(1, 2), keepdims=True), large, atol=1e-4)


class Red(nn.Module):
    """Finds bright red, in squares of 8 x 8 pixels; class 1 likes it, class 0 hates it."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout
        self.num_prefix_tokens = 2 if layout == "tokens" else 0
        self.squares = nn.Conv2d(3, 4, 8, 8, bias=False)
        with torch.no_grad():
            self.squares.weight[:] = torch.tensor([1.0, -1.0, -1.0])[None, :, None, None] / 64
        self.lower, self.act = nn.Sigmoid(), nn.ReLU()
        self.head = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.head.weight[:] = torch.tensor([[-1.0], [1.0]])

    def forward(self, images):
        found = self.lower(self.squares(images))
        if self.layout == "NHWC":
            return self.head(self.act(found.permute(0, 2, 3, 1)).mean(dim=(1, 2)))
        if self.layout == "tokens":
            places = found.flatten(2).transpose(1, 2)
            tokens = self.act(torch.cat([torch.ones_like(places[:, :2]), places], dim=1))
            return self.head(tokens[:, 2:].mean(dim=1))
        return self.head(self.act(found).mean(dim=(2, 3)))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "tokens"])
@pytest.mark.parametrize("corner", [(0, 80), (48, 8)])
def test_the_map_is_high_where_the_evidence_lies(layout, corner):
    """In each layout, on an image that is wider than high: no map lies on its side or its head."""
    net, (row, column) = Red(layout).eval(), corner
    images = torch.full((1, 3, *SIZE), 0.4)
    images[0, :, row : row + 16, column : column + 8] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    layer = target_layer(net, SIZE)
    assert (layer.path, layer.layout, layer.grid, layer.known) == ("act", layout, (8, 12), False)
    maps = grad_cam(net, images, torch.tensor([1]), layer)
    expected = np.zeros((8, 12), bool)
    expected[row // 8 : row // 8 + 2, column // 8] = True
    assert maps.grid[0][expected].min() > maps.grid[0][~expected].max()
    large = maps.scaled(SIZE)[0]
    top = np.unravel_index(large.argmax(), SIZE)
    assert row <= top[0] < row + 16
    assert column <= top[1] < column + 8
    assert grad_cam(net, images, torch.tensor([0]), layer).blank.all()  # all speaks against it


def test_what_follows_the_layer_may_work_in_place():
    class Tripled(Red):
        def forward(self, images):
            return self.head(self.act(self.lower(self.squares(images))).mul_(3).mean(dim=(2, 3)))

    images, classes = torch.rand(1, 3, *SIZE), torch.tensor([1])
    layer = target_layer(Red("NCHW"), SIZE)
    plain, tripled = (grad_cam(each("NCHW"), images, classes, layer) for each in (Red, Tripled))
    np.testing.assert_allclose(tripled.grid, 3 * plain.grid, rtol=1e-5)


def test_a_blank_map_is_flagged_and_divides_by_nothing():
    """M20: a map's largest value can be 0."""
    net = network("test_resnet")
    with torch.no_grad():
        net.get_classifier().weight[2] = 0
    with np.errstate(all="raise"):
        maps = grad_cam(net, noise(), torch.tensor([2, 1]))
        large = maps.scaled(SIZE)
    assert maps.blank.tolist() == [True, False]
    assert not large[0].any()
    assert large[1].max() == pytest.approx(1, abs=0.2)


def test_spreading_keeps_places_and_the_range():
    grid = np.zeros((1, 2, 4), np.float32)
    grid[0, 1, 3] = 7
    large = spread(grid, (20, 40))[0]
    np.testing.assert_allclose(
        large, cv2.resize(grid[0] / 7, (40, 20), interpolation=cv2.INTER_LINEAR), atol=1e-6
    )
    assert large[15:, 35:].min() == 1
    assert large[:5].max() == 0


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_a_frozen_network_is_explained_alike_and_left_as_it_was(name):
    options = {"img_size": SIZE} if name == "test_vit" else {}
    net, images, classes = network(name, **options), noise(), torch.tensor([1, 4])
    before = grad_cam(net, images, classes).grid
    net.train()
    net.get_submodule("blocks" if name == "test_vit" else "layer1").eval()
    net.requires_grad_(False)
    net.get_classifier().weight.requires_grad_(True)
    modes = [each.training for each in net.modules()]
    state = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.no_grad():
        frozen = grad_cam(net, images, classes)
        assert not torch.is_grad_enabled()
    np.testing.assert_array_equal(frozen.grid, before)  # dropout and batch statistics were off
    assert torch.is_grad_enabled()
    assert [each.training for each in net.modules()] == modes
    assert all(parameter.grad is None for parameter in net.parameters())
    assert [p.requires_grad for p in net.parameters()].count(True) == 1
    assert not any(each._forward_hooks for each in net.modules())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert images.grad is None
    assert not images.requires_grad


def test_a_failing_network_keeps_no_hook():
    net = network("test_resnet")
    layer = target_layer(net, SIZE)
    with pytest.raises(RuntimeError):
        grad_cam(net, noise()[:, :2], torch.tensor([1, 1]), layer)
    assert not any(each._forward_hooks for each in net.modules())
    assert torch.is_grad_enabled()


def test_a_network_that_gives_no_numbers_is_told():
    net = network("test_resnet")
    with torch.no_grad():
        net.conv1[0].weight[:] = torch.nan
    with pytest.raises(RunError, match="no numbers"):
        grad_cam(net, noise(), torch.tensor([0, 0]))


@pytest.mark.parametrize("kind", [Concatenation, Gating])
def test_a_fused_network_without_metadata_has_the_maps_of_its_image_network(kind):
    net, images, classes = network("test_resnet"), noise(), torch.tensor([1, 4])
    alone = grad_cam(net, images, classes).grid
    fused = fuse(net, kind(fields=("sex",), width=16), (3,), SIZE).eval()
    nn.init.normal_(fused.branch[-1].weight, std=30)
    nn.init.normal_(fused.embeddings[0].weight[1:])
    layer = target_layer(fused, SIZE)
    assert layer == target_layer(net, SIZE)
    np.testing.assert_array_equal(grad_cam(fused, images, classes, layer).grid, alone)
    unknown = grad_cam(fused, images, classes, layer, metadata=torch.zeros(2, 1).long())
    np.testing.assert_array_equal(unknown.grid, alone)
    told = grad_cam(fused, images, classes, layer, metadata=torch.ones(2, 1).long())
    # Added logits leave the gradients of the image alone; gates weigh its features anew.
    assert np.allclose(told.grid, alone) == (kind is Concatenation)


def test_a_probe_of_nearest_neighbours_has_maps_and_an_empty_one_has_blank_ones():
    model = Model(name="test_resnet", head=NeighboursProbe(neighbours=5), drop=0.0)
    torch.manual_seed(0)
    architecture = factory.Architecture.of(model, ("mel", "nv"), Images(size=SIZE))
    net, images = factory.build(architecture).eval(), noise(2)
    assert grad_cam(net, images, torch.tensor([0, 1])).blank.all()
    with torch.no_grad():
        embeddings = net.forward_head(net.forward_features(noise(20)), pre_logits=True)
    head_of(net).fit(embeddings, torch.arange(20) % 2)
    many = images[[0, 0, 1, 1]]
    assert not grad_cam(net, many, torch.tensor([0, 1, 0, 1])).blank.all()
    fresh = untrained_like(net, architecture, 1)
    assert torch.equal(head_of(fresh).bank, head_of(net).bank)
    assert not torch.equal(fresh.conv1[0].weight, net.conv1[0].weight)


def test_maps_of_one_image_do_not_depend_on_the_others():
    net, images = network("test_vit", img_size=SIZE), noise(3)
    classes = torch.tensor([0, 3, 2])
    together = grad_cam(net, images, classes).grid
    alone = [grad_cam(net, images[[i]], classes[[i]]).grid[0] for i in range(3)]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5 * together.max())


def test_blank_reads_the_grid():
    layer = Layer("x", "NCHW", (1, 2))
    assert Maps(np.array([[[0, 0]], [[0, 1e-9]]], np.float32), layer).blank.tolist() == [
        True,
        False,
    ]
