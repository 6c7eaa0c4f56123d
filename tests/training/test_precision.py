"""bfloat16 is taken where the processor is faster with it, and a run keeps what it began in."""

import pytest
import torch
from torch import nn

from lesionlab.training import precision as module
from lesionlab.training.precision import STEPS, choose_precision

IMAGES = torch.zeros(2, 3, 8, 8)
METADATA = torch.zeros(2, 0, dtype=torch.int64)


def _network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))


@pytest.fixture
def steps(monkeypatch):
    """A processor with bfloat16 on which a step takes so many seconds in either."""
    clock = {"now": 0.0, "float32": 1.0, "bf16": 0.5}

    def step(network, images, metadata, bf16):
        clock["now"] += clock["bf16" if bf16 else "float32"]

    monkeypatch.setattr(module, "_has_bfloat16", lambda: True)
    monkeypatch.setattr(module, "_step", step)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock["now"])
    return clock


@pytest.mark.parametrize(("seconds", "chosen"), [(0.5, "bf16"), (0.95, "float32"), (2, "float32")])
def test_a_long_run_takes_what_is_clearly_faster(steps, seconds, chosen):
    steps["bf16"] = seconds
    assert choose_precision("auto", "cpu", _network(), IMAGES, METADATA, STEPS) == chosen


def test_what_is_asked_for_and_short_runs_are_not_timed(steps):
    for asked in ("float32", "bf16"):
        assert choose_precision(asked, "cpu", _network(), IMAGES, METADATA, STEPS) == asked
    assert choose_precision("auto", "cpu", _network(), IMAGES, METADATA, STEPS - 1) == "float32"
    assert steps["now"] == 0


def test_a_processor_without_bfloat16_keeps_to_float32(steps, monkeypatch):
    monkeypatch.setattr(module, "_has_bfloat16", lambda: False)
    assert choose_precision("auto", "cpu", _network(), IMAGES, METADATA, STEPS) == "float32"


def test_the_trial_leaves_the_network_as_it_is(monkeypatch):
    monkeypatch.setattr(module, "_has_bfloat16", lambda: True)
    network = _network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert choose_precision("auto", "cpu", network, IMAGES, METADATA, STEPS) in ("float32", "bf16")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
