"""After every epoch: measure, keep the best, adapt, stop early, and be ready to be killed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pandas as pd
import torch
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from torch import Tensor, nn

from lesionlab.errors import DivergenceError
from lesionlab.files import cannot_write, write_csv
from lesionlab.models.factory import save_weights
from lesionlab.progress import Listener, Step
from lesionlab.recipe.schema import Ema, Plateau, Recipe, Swa
from lesionlab.run import CHECKPOINTS, HISTORY
from lesionlab.training.datasets import TrainingImages
from lesionlab.training.distributed.processes import agreed
from lesionlab.training.lightning_module import Classifier
from lesionlab.training.plateau import Watch, watched

LAST = "last.ckpt"

AfterEpoch = Callable[[Sequence[dict[str, float]]], None]
"""Told of the history so far, one row per epoch, once the checkpoint holds the last of them."""


class Keeper(Checkpoint):
    """Keeps the best or last weights, the history and a checkpoint from which the run goes on.

    All of it is written at the end of an epoch, each file whole or not at all, the checkpoint last:
    a run killed at any moment does at most one epoch again.

    Args:
        folder: the run's folder.
        recipe: all settings.
        phase: index of the phase.
        images: the training images, told of each new epoch.
        listen: told of the progress.
        after_epoch: called when an epoch is measured, kept and written.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        phase: int,
        images: TrainingImages,
        listen: Listener,
        after_epoch: Sequence[AfterEpoch] = (),
    ) -> None:
        self.folder, self.recipe, self.phase = folder, recipe, phase
        self.images, self.listen, self.after_epoch = images, listen, after_epoch
        self.first_epoch = sum(each.epochs for each in recipe.phases[:phase])
        self.best: float = -1.0
        self.best_epoch = -1
        self.stale = 0  # epochs since the best one of this phase
        self.phase_best: float = -1.0
        self.watch = Watch()
        self.done = False
        self.rows: list[dict[str, float]] = []
        self._started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """All that must outlive the process, as plain values."""
        names = ("phase", "best", "best_epoch", "stale", "phase_best", "done", "rows")
        return {**{name: getattr(self, name) for name in names}, "watch": asdict(self.watch)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where `state_dict` was written."""
        for name, value in state_dict.items():
            setattr(self, name, Watch(**value) if name == "watch" else value)

    @property
    def best_file(self) -> Path:
        """Weights of the best epoch so far.

        Named by the epoch: what a killed epoch wrote is never taken for what the checkpoint means.
        """
        return self.folder / CHECKPOINTS / f"best-{self.best_epoch + 1:05d}.safetensors"

    def summary(self) -> dict[str, Any]:
        """What the run's folder says of a finished training."""
        return {
            "kept_epoch": self.best_epoch + 1,
            "kept_value": self.best,
            "epochs": len(self.rows),
            "minutes": round(sum(row["seconds"] for row in self.rows) / 60, 2),
        }

    def inherit(self, state: dict[str, Any]) -> None:
        """Take over the best epoch and the history of the phase before."""
        for name in ("best", "best_epoch", "rows"):
            setattr(self, name, state[name])

    def on_train_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Give the module what a plateau had come to."""
        pl_module.slowdown = self.watch.slowdown  # type: ignore[assignment]

    def on_train_epoch_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._started = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: lp.Trainer,
        pl_module: lp.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Tell how far the epoch is; its end is told once, with its figures."""
        if batch_idx + 1 == trainer.num_training_batches:
            return
        total = sum(each.epochs for each in self.recipe.phases)
        done = (
            self.first_epoch
            + trainer.current_epoch
            + (batch_idx + 1) / trainer.num_training_batches
        )
        self.listen(Step("training", done, total, "epochs", self._note()))

    def _epoch_line(self) -> str:
        """The epoch that was finished last, in one line."""
        row = self.rows[-1]
        metric = self.recipe.select.metric
        total = sum(each.epochs for each in self.recipe.phases)
        best = " (best so far)" if self.best_epoch + 1 == row["epoch"] else ""
        return (
            f"epoch {row['epoch']}/{total}: train loss {row['train_loss']:.3f}, accuracy "
            f"{row['train_accuracy']:.3f}; val loss {row['val_loss']:.3f}, accuracy "
            f"{row['val_accuracy']:.3f}, {metric.replace('_', ' ')} {row[f'val_{metric}']:.3f}"
            f"{best}; {row['seconds']:.1f} s"
        )

    def _note(self) -> str:
        if self.best_epoch < 0:
            return ""
        return f"{self.recipe.select.keep} {self.best:.3f} (epoch {self.best_epoch + 1})"

    def on_validation_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Measure the epoch and keep its weights if they are the best so far."""
        assert isinstance(pl_module, Classifier)
        values = agreed(pl_module.epoch_metrics())  # all processes must end, or go on, together
        epoch = self.first_epoch + trainer.current_epoch
        value = values[f"val_{self.recipe.select.metric}"]
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        seconds = round(time.monotonic() - self._started, 2)
        self.rows.append(
            {"epoch": epoch + 1, "phase": self.phase + 1, "lr": rate, **values, "seconds": seconds}
        )
        if not all(map(math.isfinite, (values["train_loss"], values["val_loss"], value))):
            raise DivergenceError(
                f"Training diverged in epoch {epoch + 1}: its loss is {values['train_loss']}, on "
                f"val {values['val_loss']}, its {self.recipe.select.metric} {value}. Lower "
                f"phases.{self.phase}.optim.lr."
            )
        if value > self.best or self.recipe.select.keep == "last":
            self.best, self.best_epoch = value, epoch
            if trainer.is_global_zero:
                save_weights(validated_network(trainer, pl_module), self.best_file)
        total = sum(each.epochs for each in self.recipe.phases)
        line = self._epoch_line()
        self.listen(Step("training", epoch + 1, total, "epochs", self._note(), line))
        if value > self.phase_best:
            self.phase_best, self.stale = value, 0
        else:
            self.stale += 1
        schedule = pl_module.phase.schedule
        if isinstance(schedule, Plateau) and trainer.global_step >= pl_module.warmup:
            self.watch.see(schedule, watched(schedule, values, self.recipe.select.metric))
            pl_module.slowdown = self.watch.slowdown
        patience = self.recipe.select.patience
        if patience and self.stale >= patience:
            trainer.should_stop = True
        self.done = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs

    def on_train_epoch_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Write the history and the checkpoint, and draw the next epoch."""
        if trainer.is_global_zero:
            write_csv(self.folder / HISTORY, pd.DataFrame(self.rows))
        last = self.folder / CHECKPOINTS / LAST
        part = last.with_suffix(".part")
        try:
            trainer.save_checkpoint(part)
            if trainer.is_global_zero:
                part.replace(last)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise cannot_write(last, error) from error
        if trainer.is_global_zero:
            for older in set(last.parent.glob("best-*.safetensors")) - {self.best_file}:
                older.unlink(missing_ok=True)
        self.images.set_epoch(self.first_epoch + trainer.current_epoch + 1)
        for each in self.after_epoch:
            each(self.rows)


class Averaging(WeightAveraging):
    """The averaged weights of a phase, which are validated and kept: EMA, warmed up, or SWA.

    Batch-norm statistics are averaged like the weights. (Izmailov et al. gather them anew in a pass
    over the training part, which here would be a pass after every epoch; they are averages already,
    and their mean over the same steps needs no pass and no random views.)

    Args:
        settings: the recipe's average.
        steps: optimiser steps of the phase.
        device: where the averages are, the network's own.
    """

    def __init__(self, settings: Ema | Swa, steps: int, device: str = "cpu") -> None:
        share = _ema(settings.decay) if isinstance(settings, Ema) else _swa(settings.start, steps)
        super().__init__(
            device=torch.device(device),  # by default where the module is now, before it is moved
            use_buffers=True,
            multi_avg_fn=_towards(share),
        )


def _ema(decay: float) -> Callable[[int], float]:
    """What of the average is replaced by the weights after `count` steps were averaged."""
    return lambda count: 1 - min(decay, (1 + count) / (10 + count))


def _swa(start: float, steps: int) -> Callable[[int], float]:
    """All of it until the mean begins with the weights after step `start * steps`, then 1 / n."""
    first = int(start * steps)
    return lambda count: 1 / max(1, count - first + 1)


def _towards(
    share: Callable[[int], float],
) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    @torch.no_grad()
    def update(averages: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, current, share(int(count)))
        else:
            torch._foreach_copy_(averages, current)

    return update


def validated_network(trainer: lp.Trainer, module: Classifier) -> nn.Module:
    """The network that was just validated: the averaged one where weights are averaged."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Averaging):
            average: Any = callback._average_model
            return average.module.network  # type: ignore[no-any-return]
    return module.network
