"""After every epoch: measure, keep the best, adapt, stop early, and be ready to be killed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pandas as pd
import torch
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from torch import Tensor, nn

from lesionlab.errors import RunError
from lesionlab.files import cannot_write, write_csv
from lesionlab.models.zoo import save_weights
from lesionlab.progress import Listener, Step
from lesionlab.recipe import Ema, Plateau, Recipe
from lesionlab.run import CHECKPOINTS, HISTORY
from lesionlab.training.batches import TrainingImages
from lesionlab.training.module import Classifier

LAST = "last.ckpt"


class Keeper(Checkpoint):
    """Keeps the best weights, the history and a checkpoint from which the run goes on.

    All of it is written at the end of an epoch, each file whole or not at all, the checkpoint last:
    a run killed at any moment does at most one epoch again.

    Args:
        folder: the run's folder.
        recipe: all settings.
        phase: index of the phase.
        images: the training images, told of each new epoch.
        listen: told of the progress.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, phase: int, images: TrainingImages, listen: Listener
    ) -> None:
        self.folder, self.recipe, self.phase = folder, recipe, phase
        self.images, self.listen = images, listen
        self.first_epoch = sum(each.epochs for each in recipe.phases[:phase])
        self.best: float = -1.0
        self.best_epoch = -1
        self.stale = 0  # epochs since the best one of this phase
        self.phase_best: float = -1.0
        self.slowdown = 1.0
        self.plateau_stale = 0
        self.done = False
        self.rows: list[dict[str, float]] = []
        self._started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """All that must outlive the process, as plain values."""
        names = ("phase", "best", "best_epoch", "stale", "phase_best", "slowdown", "plateau_stale")
        return {name: getattr(self, name) for name in (*names, "done", "rows")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where `state_dict` was written."""
        for name, value in state_dict.items():
            setattr(self, name, value)

    @property
    def best_file(self) -> Path:
        """Weights of the best epoch so far.

        Named by the epoch: what a killed epoch wrote is never taken for what the checkpoint means.
        """
        return self.folder / CHECKPOINTS / f"best-{self.best_epoch + 1:05d}.safetensors"

    def inherit(self, state: dict[str, Any]) -> None:
        """Take over the best epoch and the history of the phase before."""
        for name in ("best", "best_epoch", "rows"):
            setattr(self, name, state[name])

    def on_train_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Give the module what a plateau had come to."""
        pl_module.slowdown = self.slowdown  # type: ignore[assignment]

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
        """Tell how far the epoch is."""
        total = sum(each.epochs for each in self.recipe.phases)
        done = (
            self.first_epoch
            + trainer.current_epoch
            + (batch_idx + 1) / trainer.num_training_batches
        )
        self.listen(Step("training", done, total, "epochs", self._note()))

    def _note(self) -> str:
        return f"best {self.best:.3f} (epoch {self.best_epoch + 1})" if self.best_epoch >= 0 else ""

    def on_validation_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Measure the epoch and keep its weights if they are the best so far."""
        assert isinstance(pl_module, Classifier)
        values = pl_module.epoch_metrics()
        epoch = self.first_epoch + trainer.current_epoch
        value = values[f"val_{self.recipe.select.metric}"]
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        seconds = round(time.monotonic() - self._started, 2)
        self.rows.append(
            {"epoch": epoch + 1, "phase": self.phase + 1, "lr": rate, **values, "seconds": seconds}
        )
        if not (math.isfinite(values["train_loss"]) and math.isfinite(value)):
            raise RunError(
                f"Training diverged in epoch {epoch + 1}: its loss is {values['train_loss']}, its "
                f"{self.recipe.select.metric} {value}. Lower phases.{self.phase}.optim.lr."
            )
        if value > self.best:
            self.best, self.best_epoch = value, epoch
            if trainer.is_global_zero:
                save_weights(validated_network(trainer, pl_module), self.best_file)
        if value > self.phase_best:
            self.phase_best, self.stale, self.plateau_stale = value, 0, 0
        else:
            self.stale += 1
            self.plateau_stale += 1
        schedule = pl_module.phase.schedule
        if isinstance(schedule, Plateau) and self.plateau_stale > schedule.patience:
            self.slowdown = max(schedule.floor, self.slowdown * schedule.factor)
            self.plateau_stale = 0
            pl_module.slowdown = self.slowdown
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
        for older in set(last.parent.glob("best-*.safetensors")) - {self.best_file}:
            older.unlink(missing_ok=True)
        self.images.set_epoch(self.first_epoch + trainer.current_epoch + 1)


class Averaging(WeightAveraging):
    """Exponential moving average of weights and batch-norm statistics, warmed up."""

    def __init__(self, settings: Ema) -> None:
        super().__init__(use_buffers=True, multi_avg_fn=_ema(settings.decay))


def _ema(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    @torch.no_grad()
    def update(averages: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        keep = min(decay, (1 + int(count)) / (10 + int(count)))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, current, 1 - keep)
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
