"""Fusion: a network that also sees age, sex and site, and is the image network without them.

Unknown metadata are embedded as zeros, nothing on their way has a bias, and the branch starts at
zero. So an image without metadata has the logits of the image network, bit for bit, and an
untrained branch changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lesionlab.errors import SettingsError
from lesionlab.models.heads import DenseHead, head_of
from lesionlab.recipe.schema import Concatenation, Gating, NaiveBayes

_SMOOTHING = 20.0
_FEW = 100.0  # images


class Fused(nn.Module):
    """An image network and a branch for metadata.

    Concatenation adds what a bias-free net makes of the embedded metadata to the logits; that is
    the same as the last linear layer over features and metadata side by side. Gating multiplies
    every feature by 1 + tanh of that, between 0 and 2, before the head (after MetaBlock, Pacheco
    and Krohling, IEEE Journal of Biomedical and Health Informatics 25(9), 2021, whose sigmoid gates
    would halve the features of an image without metadata). Naive Bayes adds to the logits what
    `count` has counted; no gradient goes there.

    Args:
        network: from images to logits.
        settings: kind and knobs.
        sizes: how many numbers each field has, unknown included; see `MetadataEncoder.sizes`.

    Raises:
        SettingsError: if gating cannot find the features of this architecture.
    """

    ratios: Tensor

    def __init__(
        self,
        network: nn.Module,
        settings: Concatenation | Gating | NaiveBayes,
        sizes: Sequence[int],
    ) -> None:
        super().__init__()
        self.image_net = network
        self.gating = isinstance(settings, Gating)
        self.starts = [sum(sizes[:place]) for place in range(len(sizes))]
        if isinstance(settings, NaiveBayes):
            self.register_buffer("ratios", torch.zeros(sum(sizes), _outputs(head_of(network))))
            return
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, settings.width, padding_idx=0) for size in sizes
        )
        head = head_of(network)
        inputs = settings.width * len(sizes)
        last = nn.Linear(inputs, _inputs(head) if self.gating else _outputs(head), bias=False)
        nn.init.zeros_(last.weight)
        self.branch = nn.Sequential(nn.Linear(inputs, inputs, bias=False), nn.ReLU(), last)

    def forward(self, images: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Logits of images and what is known beside them.

        Args:
            images: float32, shape (n, 3, height, width).
            metadata: int64, shape (n, fields), 0 = unknown; None: everything is unknown.

        Returns:
            Shape (n, classes).
        """
        if metadata is None:
            return cast("Tensor", self.image_net(images))
        told = self._branch(metadata)
        if not self.gating:
            return cast("Tensor", self.image_net(images)) + told
        features = self.forward_head(self.forward_features(images), pre_logits=True)
        features = features * (1 + torch.tanh(told))
        head = self.get_classifier()
        if isinstance(head, nn.Conv2d):
            return cast("Tensor", head(features[:, :, None, None])).flatten(1)
        return cast("Tensor", head(features))

    def _branch(self, metadata: Tensor) -> Tensor:
        """What the metadata say: of logits, or with gating of features."""
        if hasattr(self, "ratios"):
            rows = [self.ratios[start + metadata[:, i]] for i, start in enumerate(self.starts)]
            return torch.stack(rows).sum(dim=0)
        embedded = [each(metadata[:, i]) for i, each in enumerate(self.embeddings)]
        return cast("Tensor", self.branch(torch.cat(embedded, dim=1)))

    def get_classifier(self) -> nn.Module:
        """The image network's classifier."""
        return cast("nn.Module", cast("Any", self.image_net).get_classifier())

    def forward_features(self, images: Tensor) -> Tensor:
        """The image network's last feature map."""
        return cast("Tensor", cast("Any", self.image_net).forward_features(images))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of a feature map without metadata, or what the classifier would get."""
        return cast("Tensor", cast("Any", self.image_net).forward_head(features, pre_logits))

    def no_weight_decay(self) -> set[str]:
        """Parameters that the image network spares weight decay."""
        inside: set[str] = getattr(self.image_net, "no_weight_decay", set)()
        return {f"image_net.{name}" for name in inside}


def fuse(
    network: nn.Module,
    settings: Concatenation | Gating | NaiveBayes,
    sizes: Sequence[int],
    image_size: tuple[int, int],
) -> Fused:
    """Give a network a branch for metadata, and make sure that it is the same without them.

    Args:
        network: from images to logits.
        settings: kind and knobs.
        sizes: how many numbers each field has, unknown included.
        image_size: height and width of its input in pixels.

    Raises:
        SettingsError: if this architecture cannot be fused.
    """
    fused = Fused(network, settings, sizes)
    modes = [(each, each.training) for each in fused.modules()]
    probe = torch.rand(2, 3, *image_size, generator=torch.Generator().manual_seed(0))
    fused.eval()
    try:
        with torch.inference_mode():
            same = torch.equal(fused(probe), fused(probe, torch.zeros(2, len(sizes)).long()))
    except (RuntimeError, AttributeError, TypeError):
        same = False
    finally:
        for module, training in modes:
            module.training = training
    if not same:
        raise _cannot_gate(network)
    return fused


def count(
    network: Fused,
    settings: NaiveBayes,
    numbers: NDArray[np.int64],
    targets: NDArray[np.int64],
) -> None:
    """Count how much likelier each value of age, sex and site is in a class than in all.

    Each class gets `_SMOOTHING` images more that are as all images are, so that a value that a rare
    class never had says little; and each value `_FEW` more whose classes are as those of all, so
    that a value of few images says little, too. Of HAM10000's 7 acral and 48 genital images none is
    malignant: that is no reason to think a new one harmless.

    Args:
        network: made with these settings, changed in place.
        settings: fields and strength.
        numbers: metadata of the training part, shape (n, fields), 0 = unknown.
        targets: its classes, shape (n,).
    """
    ratios = np.zeros(network.ratios.shape, np.float32)
    ends = [*network.starts[1:], len(ratios)]
    for field, (start, end) in enumerate(zip(network.starts, ends, strict=True)):
        known = numbers[:, field] > 0
        seen = np.zeros((end - start, ratios.shape[1]))
        np.add.at(seen, (numbers[known, field], targets[known]), 1)
        overall = seen.sum(axis=1, keepdims=True) / known.sum()
        share = (seen + _SMOOTHING * overall) / (seen.sum(axis=0) + _SMOOTHING)
        images = seen[1:].sum(axis=1, keepdims=True)
        ratio = share[1:] / np.where(overall[1:] > 0, overall[1:], 1.0)
        likelier = (images * ratio + _FEW) / (images + _FEW)
        ratios[start + 1 : end] = settings.strength * np.log(likelier)
    network.ratios.copy_(torch.from_numpy(ratios))


def image_net(network: nn.Module) -> nn.Module:
    """The network from images to logits that a fused one holds; any other network is its own."""
    return network.image_net if isinstance(network, Fused) else network


def logits_of(network: nn.Module, images: Tensor, metadata: Tensor | None = None) -> Tensor:
    """Logits of a network that takes metadata, or of one that does not.

    Args:
        network: fused or not.
        images: float32, shape (n, 3, height, width).
        metadata: int64, shape (n, fields); a network that takes none leaves it alone.

    Returns:
        Shape (n, classes).
    """
    return cast(
        "Tensor", network(images, metadata) if isinstance(network, Fused) else network(images)
    )


def _inputs(head: nn.Module) -> int:
    if isinstance(head, nn.Linear | DenseHead):
        return head.in_features
    if isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1):
        return head.in_channels
    raise _cannot_gate(head)


def _outputs(head: nn.Module) -> int:
    layers = [each for each in head.modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    last = layers[-1]
    return last.out_features if isinstance(last, nn.Linear) else last.out_channels


def _cannot_gate(module: nn.Module) -> SettingsError:
    return SettingsError(
        f"model.fusion.kind: gating cannot reach the features of {type(module).__name__} just "
        "before its head. Take concatenation, or another model.name."
    )
