"""The hardest of several movements of an image: which it is, and what the search leaves alone."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from lesionlab.augmentation.random_views import DRAWS, MOVES
from lesionlab.errors import SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.models import factory
from lesionlab.progress import Step
from lesionlab.recipe.schema import Natural, Recipe
from lesionlab.run import PREDICTIONS
from lesionlab.training import lightning_module, losses
from lesionlab.training.datasets import EpochBatches, TrainingImages
from lesionlab.training.lightning_module import Classifier, hardest
from lesionlab.training.train import train

SMALL = Recipe().but(
    {
        "images.size": [32, 40],
        "model.name": "test_efficientnet",
        "model.drop": 0.3,
        "augment.worst_of": 4,
        "augment.cutout": 0.3,
        "loss": {"kind": "cross_entropy", "weights": "inverse"},
        "phases.0.epochs": 3,
        "phases.0.optim.lr": 2e-3,
        "average.decay": 0.9,
        "batch": 16,
        "seed": 3,
    }
)
"""A tiny net with batch norm and dropout, and everything that goes with the search."""


class Killed(Exception):
    """Stands for a process that ends."""


def images_of(views, classes=3):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 32, 40, 3), dtype=np.uint8)
    targets = np.arange(12) % classes
    return TrainingImages(pixels, np.arange(12), targets, Natural(), seed=5, views=views)


def batch_of(views):
    made = images_of(views)
    made.set_epoch(2)
    return made[np.arange(12)]


def classifier(recipe=SMALL, depth="all"):
    architecture = factory.Architecture.of(recipe.model, ("a", "b", "c"), recipe.images)
    torch.manual_seed(0)
    network = factory.build(architecture)
    loss = losses.build(recipe.loss, np.array([4, 4, 4]))
    phase = recipe.but({"phases.0.depth": depth}).phases[0]
    return Classifier(network, architecture, recipe, phase, loss, steps_per_epoch=3)


def settle(made):
    """Give batch norm the statistics of some views, as after some epochs."""
    for _ in range(30):
        with torch.no_grad():
            made.network(made._view(batch_of(4)))


def test_the_hardest_view_of_each_image_is_taken_and_the_first_of_equals():
    logits = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0))
    logits[4] = logits[2]
    views = torch.arange(5.0)[:, None, None, None, None].expand(5, 7, 3, 2, 2)
    targets = torch.arange(7) % 3
    chosen = hardest(views, targets, lambda view: logits[int(view[0, 0, 0, 0])])
    lost = torch.stack([functional.cross_entropy(x, targets, reduction="none") for x in logits])
    assert chosen.shape == (7, 3, 2, 2)
    assert chosen[:, 0, 0, 0].tolist() == lost[:4].argmax(dim=0).tolist()
    assert len(set(chosen[:, 0, 0, 0].tolist())) > 2


def test_a_step_learns_from_views_that_cost_more_than_the_others(monkeypatch):
    made, batch = classifier(), batch_of(4)
    settle(made)
    before = copy.deepcopy(made)
    taken = []
    real = lightning_module.mix
    monkeypatch.setattr(lightning_module, "mix", lambda *args: taken.append(args[0]) or real(*args))
    made.training_step(batch, 0)

    def lost(views):
        before.network.eval()
        with torch.no_grad():
            logits = before._logits(views, batch)
        return functional.cross_entropy(logits, batch["target"], reduction="none")

    every = torch.stack([lost(made._view(batch, number)) for number in range(4)])
    chosen = lost(taken[0])
    torch.testing.assert_close(chosen, every.max(dim=0).values)
    assert (chosen >= every.mean(dim=0)).all()
    assert chosen.mean() > every.mean() + 0.01


def test_from_view_to_view_only_movements_differ():
    made, batch = classifier(), batch_of(4)
    seen = []
    real = lightning_module.augment
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            lightning_module, "augment", lambda *args: seen.append(args[2]) or real(*args)
        )
        views = [made._view(batch, number) for number in range(4)]
    assert torch.equal(seen[0], batch["draws"])
    for number, draws in enumerate(seen[1:]):
        assert draws.shape == (12, DRAWS)
        assert torch.equal(draws[:, :MOVES], batch["moves"][:, number])
        assert torch.equal(draws[:, MOVES:], batch["draws"][:, MOVES:])
    assert len({tuple(view.flatten().tolist()) for view in views}) == 4


def test_one_view_has_the_numbers_that_it_had_before_there_were_several():
    one, four = batch_of(1), batch_of(4)
    assert one["moves"].shape == (12, 0, MOVES)
    assert all(torch.equal(one[key], four[key]) for key in ("image", "target", "draws", "metadata"))
    expected = np.random.default_rng([5, 7, 2]).random((12, 3, MOVES), dtype=np.float32)
    assert torch.equal(four["moves"], torch.from_numpy(expected))
    small = [images_of(4)[places]["moves"] for places in EpochBatches(12, 5)]
    assert torch.equal(torch.cat(small), images_of(4)[np.arange(12)]["moves"])


def test_one_view_is_neither_searched_nor_shown_in_another_mode(monkeypatch):
    monkeypatch.setattr(lightning_module, "hardest", lambda *_: pytest.fail("searched"))
    made = classifier(SMALL.but({"augment.worst_of": 1}))
    by_hand = copy.deepcopy(made)
    torch.manual_seed(1)
    loss = made.training_step(batch_of(1), 0)
    batch = batch_of(1)
    views = lightning_module.augment(
        batch["image"], made.recipe.augment, batch["draws"], *made.architecture.normalisation
    ).contiguous(memory_format=torch.channels_last)
    torch.manual_seed(1)
    assert torch.equal(loss, by_hand.loss(by_hand.network(views), batch["target"]))


@pytest.mark.parametrize("depth", ["all", "head"])
def test_the_search_leaves_modes_statistics_and_random_state_alone(depth):
    """The step after it is the step that would have been made of the chosen views alone."""
    searched, alone = classifier(depth=depth), classifier(depth=depth)
    batch = batch_of(4)
    settle(searched)
    alone.network.load_state_dict(searched.network.state_dict())
    modes = [each.training for each in searched.modules()]
    taken = []
    real = lightning_module.hardest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            lightning_module, "hardest", lambda *args: taken.append(real(*args)) or taken[0]
        )
        torch.manual_seed(7)
        loss = searched.training_step(batch, 0)
    loss.backward()
    assert [each.training for each in searched.modules()] == modes
    torch.manual_seed(7)
    other = alone.loss(alone._logits(taken[0], batch), batch["target"])
    other.backward()
    assert torch.equal(loss, other)
    for name, value in searched.network.state_dict().items():
        assert torch.equal(value, alone.network.state_dict()[name]), name
    for mine, theirs in zip(searched.parameters(), alone.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None) == (not mine.requires_grad)
        assert mine.grad is None or torch.equal(mine.grad, theirs.grad)


def test_under_mixed_precision_every_weight_still_gets_its_gradient():
    """Older torch loses it where a look without gradients leaves what it cast to the step."""
    made = classifier()
    seen = []

    def look(_module, _inputs, output):
        seen.append((output.dtype, torch.is_grad_enabled(), torch.is_autocast_cache_enabled()))

    hook = made.network.conv_stem.register_forward_hook(look)
    with torch.autocast("cpu", torch.bfloat16):
        loss = made.training_step(batch_of(4), 0)
    hook.remove()
    assert seen == [(torch.bfloat16, False, False)] * 4 + [(torch.bfloat16, True, True)]
    loss.backward()
    assert all(each.grad is not None for each in made.network.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"augment.mixup": 0.3, "loss": {"kind": "focal"}},
        {"model.fusion.kind": "gating", "loss": {"kind": "logit_adjusted"}},
    ],
)
def test_a_killed_run_ends_as_if_it_had_never_been_killed(drawn, tmp_path, changes):
    recipe = SMALL.but(changes)
    data, parts = drawn
    whole = train(recipe, data, parts, out=tmp_path / "whole")

    def killer(event):
        if isinstance(event, Step) and event.task == "training" and event.done > 1.5:
            raise Killed

    with pytest.raises(Killed):
        train(recipe, data, parts, out=tmp_path / "killed", listen=killer)
    again = train(recipe, data, parts, out=tmp_path / "killed")
    assert (again.folder / PREDICTIONS).read_bytes() == (whole.folder / PREDICTIONS).read_bytes()
    left, right = (run.history.drop(columns="seconds") for run in (again, whole))
    pd.testing.assert_frame_equal(left, right)


def test_a_network_learns_from_the_hardest_views(drawn, tmp_path):
    data, parts = drawn
    recipe = Recipe().but(
        {
            "images.size": [32, 32],
            "model.name": "lenet",
            "augment.worst_of": 3,
            "sampling.kind": "balanced",
            "phases.0.epochs": 20,
            "phases.0.optim.lr": 4e-3,
            "average.decay": 0.9,
            "batch": 8,
        }
    )
    run = train(recipe, data, parts, out=tmp_path / "run")
    lost = run.history["train_loss"]
    assert lost.iloc[-1] < 0.75 * lost.iloc[0]
    seen = evaluate(run.predictions, part="train", replicates=0)
    assert seen["balanced_accuracy"].value > 0.3  # chance: 0.14


def test_a_choice_among_movements_needs_a_movement():
    with pytest.raises(SettingsError, match=r"augment\.worst_of: chooses among movements"):
        Recipe().but({"augment": {"preset": "none", "colour": 0.3, "worst_of": 4}})
    for moved in ({"flip": "vertical"}, {"rotate": 5}, {"perspective": 0.1}, {"scale": 1.1}):
        Recipe().but({"augment": {"preset": "none", **moved, "worst_of": 4}})
