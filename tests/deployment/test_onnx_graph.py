"""The graph of a bundle: the network's logits, and Grad-CAM without a backward pass."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from lesionlab.augmentation.random_views import normalise
from lesionlab.deployment.onnx_graph import Graph, to_onnx
from lesionlab.errors import BundleError
from lesionlab.explanation.grad_cam import grad_cam
from lesionlab.models import factory
from lesionlab.models.listing import ZOO
from lesionlab.models.metadata_encoder import MetadataEncoder
from lesionlab.models.metadata_fusion import logits_of
from lesionlab.prediction.predictor import session_of
from lesionlab.prediction.run_predictor import predict_views
from lesionlab.prediction.test_time_views import averaged
from lesionlab.recipe.schema import (
    Concatenation,
    Dense,
    Gating,
    Images,
    Linear,
    Model,
    NaiveBayes,
)

CLASSES = ("a", "b", "c", "d")
ENCODER = MetadataEncoder({"age": (30, 50), "sex": ("female", "male")}).to_dict()


def _network(name, size=(64, 96), head=None, fusion=None, constancy="none"):
    """A network with weights that matter: not those of an untrained one, which are nearly zero."""
    torch.manual_seed(1)
    settings = {"fusion": fusion} if fusion else {}
    model = Model(name=name, head=head or Linear(), **settings)
    images = Images(size=size, colour_constancy=constancy)
    architecture = factory.Architecture.of(model, CLASSES, images, ENCODER if fusion else None)
    network = factory.build(architecture)
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval(), architecture


def _pixels(architecture, n=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, *architecture.images.size, 3), dtype=np.uint8)


def _reference(network, architecture, pixels, metadata=None):
    inputs = normalise(torch.from_numpy(pixels), *architecture.normalisation)
    return np.stack(
        [
            grad_cam(network, inputs, torch.full((len(pixels),), k), metadata=metadata).grid
            for k in range(len(CLASSES))
        ],
        axis=1,
    )


@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv4_conv_small",  # convolution, batch norm with ReLU behind the pooling
        "mobilenetv3_small_050",  # hard swish, in place
        "test_resnet",
        "test_efficientnet",
        "test_convnext",  # layer norm
        "test_byobnet",  # something that is no layer of numbers stands last
        "test_nfnet",
        "densenet121",
    ],
)
def test_closed_form_is_grad_cam(name):
    network, architecture = _network(name)
    pixels = _pixels(architecture)
    graph = Graph(network, architecture)
    with torch.inference_mode():
        found = dict(zip(graph.outputs, graph(torch.from_numpy(pixels)), strict=True))
    right = _reference(network, architecture, pixels)
    assert right.max() > 0
    np.testing.assert_allclose(found["maps"].numpy(), right, atol=1e-5 * right.max(), rtol=1e-4)
    assert found["features"].shape == (3, graph.features)
    stage = [each for each in network.feature_info if each["reduction"] == 16][-1]
    made = []
    network.get_submodule(stage["module"]).register_forward_hook(lambda *hook: made.append(hook[2]))
    network(normalise(torch.from_numpy(pixels), *architecture.normalisation))
    halfway = made[0].mean(dim=(2, 3)).detach().numpy()
    np.testing.assert_allclose(found["middle"].numpy(), halfway, atol=1e-5)


def test_a_dense_head_is_followed_too():
    head = Dense(widths=(16, 8), batch_norm=True)
    network, architecture = _network("test_resnet", head=head)
    pixels = _pixels(architecture)
    graph = Graph(network, architecture)
    with torch.inference_mode():
        found = dict(zip(graph.outputs, graph(torch.from_numpy(pixels)), strict=True))
    right = _reference(network, architecture, pixels)
    np.testing.assert_allclose(found["maps"].numpy(), right, atol=1e-5 * right.max(), rtol=1e-4)


def test_where_there_is_no_closed_form_there_are_no_maps():
    for made in (_network("lenet", (32, 32)), _network("test_resnet", fusion=Gating())):
        graph = Graph(*made)
        assert graph.layer is None
        assert "maps" not in graph.outputs


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted({*(each.name for each in ZOO), *timm.list_models("test_*")})
)
def test_every_network_of_the_house_becomes_a_graph_or_says_why_not(name):
    side = next((each.smallest for each in ZOO if each.name == name), 64)
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        side = config.input_size[1]
    network, architecture = _network(name, (side, side))
    graph = Graph(network, architecture)
    try:
        content = to_onnx(graph, architecture)
    except BundleError as error:
        pytest.skip(str(error))
    pixels = _pixels(architecture, 3)
    found = session_of(content, 1).run(list(graph.outputs), {"pixels": pixels})
    with torch.inference_mode():
        right = graph(torch.from_numpy(pixels))
    for one, other in zip(found, right, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-3, atol=1e-3)


def test_a_graph_that_torch_cannot_write_is_one_sentence(monkeypatch):
    network, architecture = _network("test_resnet")

    def fail(*_given, **_options):
        raise RuntimeError("no such operator\nand a page of details")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(BundleError, match=r"test_resnet into an ONNX graph \(no such operator\)"):
        to_onnx(Graph(network, architecture), architecture)


@pytest.mark.parametrize(
    ("views", "fusion"),
    [
        (1, Concatenation(fields=("age", "sex"), width=4)),
        (4, NaiveBayes(fields=("age", "sex"))),
    ],
)
def test_onnx_is_the_network_from_pixels_to_logits(views, fusion):
    made = _network("test_resnet", fusion=fusion, constancy="shades_of_grey")
    network, architecture = made
    if isinstance(fusion, Concatenation):
        nn.init.normal_(network.branch[-1].weight)
    else:
        network.ratios[1:3].normal_()  # unknown, 0, stays nothing
    graph = Graph(network, architecture, views)
    session = session_of(to_onnx(graph, architecture), 1)
    pixels = _pixels(architecture, 5)
    metadata = np.array([[0, 0], [1, 0], [2, 2], [0, 1], [1, 1]])
    found = session.run(list(graph.outputs), {"pixels": pixels, "metadata": metadata})
    right = averaged(
        predict_views(network, architecture, pixels, np.arange(5), views, metadata=metadata)
    )
    given, wanted = ((x - x.max(axis=1, keepdims=True)) for x in (found[0], right))
    if views > 1:  # logarithms of probabilities against logits
        given = given - np.log(np.exp(given).sum(axis=1, keepdims=True))
        wanted = wanted - np.log(np.exp(wanted).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(given, wanted, atol=1e-4)
    numbers = torch.from_numpy(metadata)
    np.testing.assert_allclose(
        found[2], _reference(network, architecture, pixels, numbers), atol=1e-4
    )


def test_the_graph_tells_nothing_of_where_it_was_made():
    network, architecture = _network("test_resnet")
    content = to_onnx(Graph(network, architecture), architecture)
    for word in (b"site-packages", b"/root", b"/home", b".py", b"location"):
        assert word not in content


def test_the_network_is_left_as_it_was():
    network, architecture = _network("test_resnet")
    pixels = torch.from_numpy(_pixels(architecture))
    inputs = normalise(pixels, *architecture.normalisation)
    with torch.inference_mode():
        before = logits_of(network, inputs)
        Graph(network, architecture)(pixels)
        assert torch.equal(logits_of(network, inputs), before)
