"""The one LightningModule: a step, a validation, an optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as lp
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassRecall

from lesionlab.augmentation.mixup import mix
from lesionlab.augmentation.random_views import MOVES, augment, normalise
from lesionlab.models.factory import Architecture
from lesionlab.models.layer_groups import freeze, keep_modes, layer_scales
from lesionlab.models.metadata_fusion import logits_of
from lesionlab.recipe.schema import Adam, AdamW, Constant, Cosine, Phase, Plateau, Recipe, Sgd
from lesionlab.training.datasets import Batch
from lesionlab.training.depthwise import DepthwiseInFloat32
from lesionlab.training.distributed.batch_norm import SynchronisedNorms
from lesionlab.training.distributed.processes import place, whole_batch
from lesionlab.training.losses import Loss

METRICS = (
    *("train_loss", "train_accuracy"),
    *("val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_auroc"),
)


class Classifier(lp.LightningModule):
    """A network in one phase of its training.

    Collects train_loss and train_accuracy, as Keras does, over the random views that the network
    learnt from while it changed; and over the whole val part in its own order val_loss (plain
    cross-entropy), val_accuracy, val_balanced_accuracy and val_macro_auroc. `epoch_metrics` gives
    them once an epoch.

    Args:
        network: from images, or from images and metadata, to logits.
        architecture: its classes and normalisation.
        recipe: all settings.
        phase: the settings of this phase.
        loss: from `losses.build`.
        steps_per_epoch: batches of the training part.
        first_epoch: epochs of the phases before this one.
    """

    def __init__(
        self,
        network: nn.Module,
        architecture: Architecture,
        recipe: Recipe,
        phase: Phase,
        loss: Loss,
        steps_per_epoch: int,
        first_epoch: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.architecture, self.recipe, self.phase, self.loss = architecture, recipe, phase, loss
        self.steps = steps_per_epoch * phase.epochs
        self.warmup = int(phase.schedule.warmup * self.steps)
        self.first_epoch = first_epoch
        self.slowdown = 1.0  # what a plateau has made of the learning rate so far
        classes = len(architecture.classes)
        nan = math.nan  # as it is; MeanMetric would leave out a batch whose loss is nan
        self.train_loss = MeanMetric(nan_strategy=nan)
        self.train_accuracy = MulticlassAccuracy(classes, average="micro")
        self.val_loss = MeanMetric(nan_strategy=nan)
        self.val_accuracy = MulticlassAccuracy(classes, average="micro")
        self.val_balanced_accuracy = MulticlassRecall(classes, average="none")
        self.val_macro_auroc = MulticlassAUROC(classes, average="none")
        self.learning = freeze(network, phase.depth, phase.norms)
        self.train()  # Lightning keeps the modes that it finds

    def train(self, mode: bool = True) -> Classifier:
        """Set training mode; what is frozen stays in evaluation mode, batch-norm statistics too."""
        super().train(mode)
        if mode:
            keep_modes(self.network, self.learning)
        return self

    def training_step(self, batch: Batch, step: int) -> Tensor:
        """One step on random views of a batch; gives the loss."""
        settings, targets = self.recipe.augment, batch["target"]
        if settings.worst_of > 1:
            every = (self._view(batch, number) for number in range(settings.worst_of))
            with self._looking():
                views = hardest(every, targets, lambda view: self._logits(view, batch))
        else:
            views = self._view(batch)
        views, targets = mix(views, targets, settings, len(self.architecture.classes))
        with DepthwiseInFloat32(), SynchronisedNorms():
            logits = self._logits(views, batch)
        loss, processes = self._loss(logits, targets, step)
        self.train_loss.update(loss.detach(), len(views))
        # of a mixture the class with the larger share
        labels = targets.argmax(dim=1) if targets.ndim == 2 else targets
        self.train_accuracy.update(logits.detach(), labels)
        return loss * processes if processes > 1 else loss

    def _loss(self, logits: Tensor, targets: Tensor, step: int) -> tuple[Tensor, int]:
        """Loss of the whole batch, and over how many processes DDP takes the mean of gradients.

        Each process computes it from the logits of all: no loss, of classes by weight or of one's
        own, is the mean of the losses of a batch's parts. Gradients go to its own images alone, so
        those of the batch are the sum over the processes.
        """
        processes = place().size
        if processes > 1:
            count = self.trainer.train_dataloader.sampler.length(step)  # type: ignore[union-attr]
            logits, targets = whole_batch(logits, count), whole_batch(targets, count)
        return self.loss(logits, targets), processes

    def _view(self, batch: Batch, number: int = 0) -> Tensor:
        """One random view of every image of a batch; those of other numbers are moved otherwise."""
        draws, settings = batch["draws"], self.recipe.augment
        if number:
            draws = torch.cat((batch["moves"][:, number - 1], draws[:, MOVES:]), dim=1)
        with torch.autocast(self.device.type, enabled=False):  # colours need float32
            return augment(batch["image"], settings, draws, *self.architecture.normalisation)

    def _logits(self, views: Tensor, batch: Batch) -> Tensor:
        views = views.contiguous(memory_format=torch.channels_last)
        return logits_of(self.network, views, batch["metadata"])

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """The network as it would predict: it learns nothing from what it is shown meanwhile.

        In training mode every look would move batch-norm statistics and draw dropout anew, so that
        two views would differ by luck; and a view's loss would depend on the rest of the batch.
        """
        kind = self.device.type
        self.network.eval()
        try:  # autocast may keep what it casts without a gradient for the step itself
            with (
                torch.no_grad(),
                torch.autocast(kind, enabled=torch.is_autocast_enabled(kind), cache_enabled=False),
            ):
                yield
        finally:
            keep_modes(self.network, self.learning)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set this step's learning rate, and seed torch: dropout takes no generator of its own."""
        epoch = self.first_epoch + self.current_epoch
        torch.manual_seed(hash_seed(self.recipe.seed, epoch, batch_idx, self.global_rank))
        rate = self.phase.optim.lr * pace(
            self.phase.schedule, self.global_step, self.steps, self.slowdown
        )
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = rate * group.get("lr_scale", 1.0)

    def validation_step(self, batch: Batch, step: int) -> None:
        """Score a chunk of the validation part, unchanged images."""
        views = normalise(batch["image"], *self.architecture.normalisation)
        logits = logits_of(self.network, views, batch["metadata"]).float()
        targets = batch["target"]
        self.val_loss.update(functional.cross_entropy(logits, targets), len(targets))
        self.val_accuracy.update(logits, targets)
        self.val_balanced_accuracy.update(logits, targets)
        probabilities = logits.double().softmax(dim=1)  # as in predictions: float32 has ties near 0
        self.val_macro_auroc.update(probabilities, targets)

    def configure_optimizers(self) -> Optimizer:
        """The phase's optimiser over what learns; biases and norms are spared weight decay."""
        # Lightning clips no gradients for a fused step under mixed precision
        return optimiser(self.network, self.phase.optim, fused=self.phase.clip == 0)

    def epoch_metrics(self) -> dict[str, float]:
        """The epoch's figures; resets them."""
        found = {name: getattr(self, name).compute() for name in METRICS}
        recall: Any = self.val_balanced_accuracy
        with recall.sync_context():  # of every process
            present = recall.tp + recall.fn > 0
        for name in METRICS:
            getattr(self, name).reset()
        return {name: float(value) for name, value in macro_of_present(found, present).items()}


def hardest(views: Iterable[Tensor], targets: Tensor, logits: Callable[[Tensor], Tensor]) -> Tensor:
    """Of several views of each image, the one with the highest cross-entropy.

    Worst-of-k of Engstrom et al., "Exploring the Landscape of Spatial Robustness", ICML 2019. It
    stands for the line search of Paschali et al., arXiv:1901.04420, which looks for a movement that
    makes a network wrong: both train on what lies towards the border between classes.

    Args:
        views: one after another, each of all images, shape (n, 3, height, width).
        targets: class indices, shape (n,).
        logits: of a view, shape (n, classes).

    Returns:
        Shape (n, 3, height, width); of equal losses the first one's view.
    """
    chosen, highest = torch.empty(0), torch.empty(0)
    for number, view in enumerate(views):
        loss = functional.cross_entropy(logits(view).float(), targets, reduction="none")
        if number == 0:
            chosen, highest = view, loss
        else:
            chosen = torch.where((loss > highest)[:, None, None, None], view, chosen)
            highest = torch.maximum(loss, highest)
    return chosen


def macro_of_present(found: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
    """Means over the classes that the targets have, as `evaluate` takes them.

    torchmetrics counts a class that they lack as never recognised.

    Args:
        found: val_balanced_accuracy and val_macro_auroc class by class, and other figures.
        present: which classes the targets have, shape (classes,).
    """
    recalls = found["val_balanced_accuracy"][present]
    areas = found["val_macro_auroc"][present]
    return {
        **found,
        "val_balanced_accuracy": (recalls / len(recalls)).sum(),
        "val_macro_auroc": areas.mean(),
    }


def optimiser(network: nn.Module, settings: AdamW | Adam | Sgd, *, fused: bool = True) -> Optimizer:
    """An optimiser over the parameters that learn.

    Args:
        network: parameters with requires_grad are optimised; those of one dimension (biases, norms)
            and those that the architecture names in `no_weight_decay` are spared weight decay.
        settings: kind and knobs; layer_decay goes by the groups of `models.depth`.
        fused: one pass over the weights instead of a dozen, which takes a CPU a sixth of the time.
    """
    decay = 0.0 if isinstance(settings, Adam) else settings.weight_decay
    groups = _parameter_groups(network, decay, settings.layer_decay)
    for group in groups:
        group["lr"] = settings.lr * group["lr_scale"]
    if isinstance(settings, AdamW):
        return torch.optim.AdamW(groups, lr=settings.lr, amsgrad=settings.amsgrad, fused=fused)
    if isinstance(settings, Adam):
        return torch.optim.Adam(groups, lr=settings.lr, amsgrad=settings.amsgrad, fused=fused)
    nesterov = settings.nesterov and settings.momentum > 0
    return torch.optim.SGD(
        groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov, fused=fused
    )


def _parameter_groups(
    network: nn.Module, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """What learns, by learning-rate scale (that of the head first) and weight decay."""
    scales = layer_scales(network, layer_decay) if layer_decay < 1 else {}
    spared: set[str] = getattr(network, "no_weight_decay", set)()
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            spare = parameter.ndim <= 1 or name.endswith(".bias") or name in spared
            members.setdefault((scales.get(name, 1.0), spare), []).append(parameter)
    return [
        {
            "params": members[scale, spare],
            "lr_scale": scale,
            "weight_decay": 0.0 if spare else weight_decay,
        }
        for scale, spare in sorted(members, reverse=True)
    ]


def pace(
    schedule: Cosine | Plateau | Constant, step: int, steps: int, slowdown: float = 1.0
) -> float:
    """What the learning rate is multiplied by at a step.

    Args:
        schedule: kind and knobs.
        step: steps done in this phase, 0 to steps - 1.
        steps: of the whole phase.
        slowdown: what a plateau schedule has come down to, 1 at first.

    Returns:
        A factor in 0-1: rising evenly while warming up, then the schedule's own.
    """
    warmup = int(schedule.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if isinstance(schedule, Cosine):
        turn = math.pi * (step - warmup) / max(1, steps - warmup)
        return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(turn))
    return slowdown


def hash_seed(*parts: int) -> int:
    """One seed out of several numbers (SplitMix64's finaliser over each in turn)."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
