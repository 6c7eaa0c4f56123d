"""Parameter counts that the sources print, by the arithmetic of how Keras counts them.

Keras' totals hold the running statistics of batch norms. Its Inception nets have batch norms
without a scale, and its ResNet50V2 has biases in the convolutions that no batch norm follows.
"""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lesionlab.models import heads, layer_groups
from lesionlab.recipe.schema import Dense, Linear

HEAD_OF_C = Dense(widths=(512,), drop=0.5, pool="max")
HEAD_OF_D = Dense(widths=(256, 128), drop=0.5)


def on_paper(name, head):
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=7)
        heads.attach(network, head, 7, name)
    return network


def parameters(module):
    return sum(each.numel() for each in module.parameters())


def learning(network):
    return sum(each.numel() for each in network.parameters() if each.requires_grad)


def norms(network):
    return [each for each in network.modules() if isinstance(each, _BatchNorm)]


def statistics(network):
    return sum(each.running_mean.numel() + each.running_var.numel() for each in norms(network))


def scales(network):
    return sum(each.weight.numel() for each in norms(network))


def test_source_cs_small_network():
    assert parameters(on_paper("cnn_64", Linear())) == 2_124_839


def test_source_cs_densenet201():
    network = on_paper("densenet201", HEAD_OF_C)
    assert parameters(network) + statistics(network) == 19_309_127


def test_source_cs_vgg16_is_its_convolutions():
    assert parameters(on_paper("vgg16", HEAD_OF_C)) == 14_980_935


@pytest.mark.parametrize(
    ("name", "without_scale", "million"),
    [("inception_v3", 17_216, 22.86), ("inception_resnet_v2", 30_272, 55.13)],
)
def test_source_cs_inception_nets_have_norms_without_a_scale(name, without_scale, million):
    network = on_paper(name, HEAD_OF_C)
    assert scales(network) == without_scale
    total = parameters(network) + statistics(network) - scales(network)
    assert round(total / 1e6, 2) == million


def test_source_ds_resnet50v2_has_biases_in_some_convolutions():
    network = on_paper("resnetv2_50", HEAD_OF_D)
    head = parameters(heads.head_of(network))
    assert head == 558_343
    body = parameters(network) - head + statistics(network)
    assert body == 23_545_792
    biases = network.stem.conv.out_channels
    for stage in network.stages:
        for block in stage.blocks:
            biases += block.conv3.out_channels
            if block.downsample is not None:
                biases += block.downsample.conv.out_channels
    assert biases == 19_008
    assert body + biases + head == 24_123_143


@pytest.mark.parametrize(
    ("name", "cut", "which", "million"),
    [
        ("vgg16", "features.24", "with_group", 7.35),  # block5 and the head
        ("inception_v3", "Mixed_7b", "all", 12.18),  # the last two blocks and all norms
        ("inception_resnet_v2", "repeat_2.0", "all", 24.35),  # ResNet-C and all norms
        ("densenet201", "features.denseblock4", "all", 8.10),  # conv5 and all norms
        ("inception_v3", "all", "with_group", 22.82),
        ("densenet201", "all", "with_group", 19.08),
    ],
)
def test_source_cs_cuts_have_its_trainable_counts(name, cut, which, million):
    network = on_paper(name, HEAD_OF_C)
    layer_groups.freeze(network, cut, which)
    count = learning(network)
    if name.startswith("inception"):
        count -= scales(network)
    assert round(count / 1e6, 2) == million


def test_source_bs_vgg19_learns_its_last_layer_only():
    network = on_paper("vgg19", Linear())
    layer_groups.freeze(network, "head")
    assert learning(network) == 4096 * 7 + 7
    assert parameters(network) == 139_570_240 + 4096 * 7 + 7  # all 19 layers but the classifier


def test_source_es_lenet_pads_its_first_convolution():
    network = on_paper("lenet", Linear())
    assert network.features[0][0].padding == (2, 2)
    assert network.hidden[0][0].in_features == 16 * 54 * 54
    assert parameters(network) == 5_612_471


def test_source_ds_resnet50_has_no_dense_layers():
    assert parameters(on_paper("resnet50", Linear())) == 23_522_375


def test_source_ds_heads_drop_out_after_each_dense_layer():
    layers = [type(each).__name__ for each in on_paper("resnetv2_50", HEAD_OF_D).head.fc.children()]
    assert layers == ["Linear", "ReLU", "Dropout"] * 2 + ["Linear"]


def test_source_ds_frozen_resnet50v2_learns_its_head_only():
    network = on_paper("resnetv2_50", HEAD_OF_D)
    layer_groups.freeze(network, "head")
    assert learning(network) == 558_343


def test_a_count_is_of_parameters_not_of_layers():
    """The helpers above count what they say: one convolution with a batch norm, by hand."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert (parameters(network), statistics(network), scales(network)) == (112 + 8, 8, 4)
