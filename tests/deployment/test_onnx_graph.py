"""The graph of a bundle: the network's logits, and Grad-CAM without a backward pass."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from lesionlab.augmentation.random_views import normalise
from lesionlab.deployment.onnx_graph import Graph, to_onnx
from lesionlab.errors import BundleError, LesionlabError
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


FAMILIES = """
beit_base_patch16_224 halonet_h1 test_byobnet cait_xxs24_224 coat_tiny convit_tiny
convmixer_768_32 test_convnext cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s
cspnext_tiny davit_tiny deepseek_vit_412m deit_tiny_patch16_224 densenet121 dla46x_c dpn48b
edgenext_xx_small efficientformer_l1 efficientformerv2_s0 test_efficientnet efficientvim_m1
efficientvit_b0 efficientvit_m0 vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t8
focalnet_tiny_srf gcvit_xxtiny gemma4_vit_167m_enc ghostnet_050 hardcorenas_b hgnetv2_b0
hiera_tiny_224 sam2_hiera_tiny hrnet_w18_small iformer_t inception_next_atto
inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small levit_128s lowformer_b0
test_mambaout test_coatnet poolformer_s12 gmlp_ti16_224 lcnet_035 mobilenetv5_300m
mobilevit_xxs mvitv2_tiny naflexvit_base_patch16_gap nasnetalarge nest_tiny nextvit_small
test_nfnet pit_ti_224 pnasnet5large pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002
repghostnet_050 repvit_m0_9 res2net50_48w_2s resnest14d test_resnet resnetv2_18 rexnet_100
selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18 starnet_s050 swiftformer_xs
swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224 tiny_vit_5m_224
tnt_s_patch16_224 tresnet_m twins_svt_small vgg11 visformer_tiny test_vit
vit_tiny_r_s16_p8_224 test_vit_relpos samvit_base_patch16_224 vitamin_small_224 volo_d1_224
ese_vovnet19b_slim_dw legacy_xception xception41 xcit_nano_12_p16_224
""".split()  # noqa: SIM905 - one that is read
"""A small network of every module of timm, in the order of the modules."""


def _trained_at(name):
    """Sides to try: the one that a network is bound to, or small ones and its own."""
    config = timm.get_pretrained_cfg(name)
    own = config.input_size[1] if config is not None else 224
    smallest = [each.smallest for each in ZOO if each.name == name]
    return [own] if config is not None and config.fixed_input_size else [*smallest, 64, 128, own]


def _fitting(name):
    """A network at the smallest side that it takes."""
    for side in (sides := _trained_at(name)):
        try:
            network, architecture = _network(name, (side, side))
            with torch.inference_mode():
                network(torch.zeros(1, 3, side, side))
            return network, architecture
        except (AssertionError, RuntimeError, ValueError):  # what timm raises for a side too small
            if side == sides[-1]:
                raise
    raise AssertionError


def test_the_table_has_every_module_of_timm():
    ours = ("small_cnns", "own_networks")
    modules = [name for name in timm.list_modules() if name not in ours]
    module_of = {model: name for name in modules for model in timm.list_models(module=name)}
    assert [module_of[name] for name in FAMILIES] == modules


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted({*(each.name for each in ZOO), *timm.list_models("test_*")})
)
def test_every_network_of_the_house_becomes_a_graph_or_says_why_not(name):
    _becomes_a_graph_or_says_why_not(name)


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_every_module_of_timm_becomes_a_graph_or_says_why_not(name):
    _becomes_a_graph_or_says_why_not(name)


def _becomes_a_graph_or_says_why_not(name):
    try:
        network, architecture = _fitting(name)
        graph = Graph(network, architecture)
        content = to_onnx(graph, architecture)
    except LesionlabError as error:
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
        found[graph.outputs.index("maps")],
        _reference(network, architecture, pixels, numbers),
        atol=1e-4,
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
