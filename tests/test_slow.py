"""What takes minutes: real processes killed, the demo, and a training on the real images."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.splits import split
from lesionlab.data.synthetic.dataset import synthetic
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.recipe.schema import Recipe
from lesionlab.run import CHECKPOINTS, PREDICTIONS, Run
from lesionlab.training.checkpoints import LAST
from lesionlab.training.train import train

pytestmark = pytest.mark.slow

RECIPE = """\
images: {size: [48, 64]}
model: {name: test_efficientnet, drop: 0.2}
phases:
  - {epochs: 5, optim: {lr: 2.0e-3}, schedule: {kind: plateau, patience: 1}}
average: {decay: 0.95}
select: {patience: 4}
batch: 8
"""


def test_kill_9_in_the_middle_of_an_epoch_changes_no_byte(tmp_path, monkeypatch):
    folder = synthetic(tmp_path / "drawn", lesions=120, size=(60, 80))
    data = catalogue(folder, out=tmp_path / "data")
    split(data, kind="holdout").save(tmp_path / "data" / "split.csv")
    (tmp_path / "recipe.yaml").write_text(RECIPE)

    words = ["train", "recipe.yaml", "--data", "data", "--out"]
    command = [sys.executable, "-m", "lesionlab", *words, "killed"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    monkeypatch.chdir(tmp_path)
    assert main([*words, "whole"]) == 0
    last = tmp_path / "killed" / CHECKPOINTS / LAST
    kills = 0
    while kills < 2:
        process = subprocess.Popen(command, **quiet)
        seen = last.stat().st_mtime_ns if last.exists() else 0
        while process.poll() is None:
            if last.exists() and last.stat().st_mtime_ns != seen:
                time.sleep(0.15)  # some steps into the next epoch
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                break
            time.sleep(0.005)
        else:
            pytest.fail("the run ended before it could be killed")
        assert not Run.open(tmp_path / "killed").complete
    subprocess.run(command, check=True, **quiet)
    runs = [Run.open(tmp_path / name) for name in ("whole", "killed")]
    whole, killed = ((run.folder / PREDICTIONS).read_bytes() for run in runs)
    assert whole == killed
    weights = [(run.folder / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    left, right = (run.history.drop(columns="seconds") for run in runs)
    pd.testing.assert_frame_equal(left, right)


def test_the_demo_learns_what_it_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    assert "balanced accuracy" in capsys.readouterr().out
    score = evaluate(Run.open(tmp_path / "demo" / "run").predictions, replicates=0)
    assert score["macro_auroc"].value > 0.9  # 0.5 is chance
    assert score["balanced_accuracy"].value > 0.5  # one in seven is chance
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert "Not a medical device" in page


def test_a_small_net_learns_from_the_real_images(real_ham, tmp_path):
    data = catalogue(real_ham, out=tmp_path / "data")
    parts = split(data, folds=5)
    recipe = Recipe().but(
        {
            "images.size": [48, 64],
            "model.name": "test_efficientnet",
            "loss.kind": "logit_adjusted",
            "augment.rotate": 0,
            "phases.0.epochs": 4,
            "phases.0.optim.lr": 3e-3,
        }
    )
    run = train(recipe, data, parts, out=tmp_path / "run")
    score = evaluate(run.predictions, replicates=200)
    assert score["macro_auroc"].low > 0.7
    assert score["balanced_accuracy"].low > 1 / 7 + 0.1
    assert len(run.predictions) == 10_015
    assert score["accuracy"].n == (run.predictions["part"] == "test").sum()
