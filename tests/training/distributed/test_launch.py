from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lesionlab.errors import FindingsError, SettingsError
from lesionlab.recipe.schema import Recipe
from lesionlab.run import CHECKPOINTS, PREDICTIONS, Run
from lesionlab.training.checkpoints import LAST
from lesionlab.training.distributed.launch import launch, to_launch
from lesionlab.training.train import train

RECIPE = Recipe().but(
    {
        "images.size": [32, 40],
        "model.name": "test_efficientnet",
        "model.drop": 0.0,  # each process draws dropout by itself
        "loss.weights": "inverse",  # its mean over a batch is not that of the batch's halves
        "phases": [
            {"depth": "head", "epochs": 1, "optim": {"kind": "sgd", "lr": 0.05}},
            {"epochs": 3, "optim": {"kind": "sgd", "lr": 0.05}, "clip": 1.0},
        ],
        "average.decay": 0.9,
        "select.keep": "last",
        "batch": 15,  # halves of 8 and of 7
        "seed": 3,
    }
)


def test_more_machines_need_to_know_each_other_and_torchrun_knows_best(monkeypatch):
    assert not to_launch(1, 1)
    assert to_launch(2, 1)
    with pytest.raises(SettingsError, match="1 or more"):
        to_launch(0, 1)
    with pytest.raises(SettingsError, match="MASTER_ADDR and MASTER_PORT and NODE_RANK"):
        launch(print, {}, devices=1, nodes=2, listen=print)
    for name, value in {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert not to_launch(1, 1)
    assert not to_launch(2, 2)
    with pytest.raises(SettingsError, match="has started 4 processes, 2 of them here"):
        to_launch(4, 1)


@pytest.fixture(scope="module")
def files(drawn, tmp_path_factory):
    """A folder with recipe, catalogue and split."""
    folder = tmp_path_factory.mktemp("devices")
    data, parts = drawn
    RECIPE.save(folder / "recipe.yaml")
    parts.save(folder / "split.csv")
    return folder, data, parts


@pytest.fixture(scope="module")
def on_two(files):
    """A run on two devices, and what was told of it."""
    folder, data, parts = files
    told = []
    run = train(RECIPE, data, parts, out=folder / "two", devices=2, listen=told.append)
    return run, told


@pytest.mark.slow
def test_two_devices_learn_what_one_learns(on_two, files):
    run, told = on_two
    folder, data, parts = files
    one = train(RECIPE, data, parts, out=folder / "one")
    assert [each.line for each in told if getattr(each, "line", "")][-1].startswith("epoch 4/4")
    left, right = (each.history.drop(columns="seconds") for each in (one, run))
    np.testing.assert_allclose(left, right, rtol=1e-4)
    logits = [each for each in one.predictions if each.startswith("logit_")]
    assert one.predictions["image_id"].equals(run.predictions["image_id"])
    left, right = (each.predictions[logits].to_numpy(float) for each in (one, run))
    assert np.ptp(left) > 0.1
    np.testing.assert_allclose(left, right, atol=1e-4)


@pytest.mark.slow
def test_a_process_killed_costs_an_epoch_at_most_and_no_byte_and_torchrun_goes_on(on_two, files):
    folder, data, _ = files
    out = folder / "killed"
    words = ["recipe.yaml", "--data", str(data.home), "--split", "split.csv", "--out", out.name]
    command = [sys.executable, "-m", "lesionlab", "train", *words, "--devices", "2"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder
    )
    while not (out / CHECKPOINTS / LAST).exists():
        assert process.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert re.search(r"Process \d ended early: .*SIGKILL.* Give the same command again", told)
    assert not Run.open(out).complete

    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *run, "-m", "lesionlab", "train", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    assert done.stdout.count("Kept epoch") == 1  # the first process speaks for all
    assert (out / PREDICTIONS).read_bytes() == (folder / "two" / PREDICTIONS).read_bytes()
    weights = [folder / name / "model.safetensors" for name in ("two", "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    left, right = (Run.open(folder / n).history.drop(columns="seconds") for n in ("two", "killed"))
    pd.testing.assert_frame_equal(left, right)


def test_an_error_with_findings_comes_whole_from_one_process_to_another():
    error = pickle.loads(pickle.dumps(FindingsError("two faults", pd.DataFrame({"kind": ["a"]}))))
    assert str(error) == "two faults"
    assert error.findings["kind"].tolist() == ["a"]
