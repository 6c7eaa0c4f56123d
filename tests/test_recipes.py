"""Every recipe: its header, what it trains, and a run of it on real images at its smallest size.

The runs are slow; `make test-slow` prints their seconds, architecture by architecture.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import lesionlab as ll
from lesionlab.cli import main
from lesionlab.data.catalogues import Catalogue
from lesionlab.data.splitting import Split
from lesionlab.models import zoo
from lesionlab.models.depth import freeze
from lesionlab.recipe import LogisticProbe, NeighboursProbe, Recipe

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "recipes").glob("*.yaml"))
BLENDS = [path.stem for path in FILES if "blend" in yaml.safe_load(path.read_text())]
TRAINED = [path.stem for path in FILES if path.stem not in BLENDS]
PER_CLASS = 30

SYSTEMS = {  # the rows of the sources' result tables
    "A": ["a_densenet121", "a_densenet169", "a_densenet201", "a_resnet152", "a_resnet50"],
    "B": [
        *("b_baseline", "b_batch_norm", "b_mirror", "b_oversampling", "b_weighted"),
        *("b_resnet50_frozen", "b_vgg19"),
    ],
    "C": [
        *("c_baseline", "c_densenet201", "c_densenet201_top", "c_ensemble", "c_inception_resnet_v2"),
        *("c_inception_v3", "c_inception_v3_top", "c_vgg16"),
    ],
    "D": ["d_cnn", "d_efficientnet_b0", "d_resnet50", "d_resnet50v2"],
    "E": ["e_lenet", "e_resnet18"],
}


def load(name: str) -> Recipe:
    return Recipe.load(ROOT / "recipes" / f"{name}.yaml")


def tool():
    spec = importlib.util.spec_from_file_location("sources", ROOT / "tools" / "sources.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_a_recipe_for_every_system():
    names = {path.stem for path in FILES}
    for source, systems in SYSTEMS.items():
        assert set(systems) == {each for each in names if each.startswith(f"{source.lower()}_")}


def test_the_page_of_sources_is_made_from_the_headers():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "sources.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_header_says_what_was_reported_and_what_was_measured(path):
    header = tool().header_of(path)
    assert f"recipes/{path.name}" in header["command"]
    if header["Source"][0] in SYSTEMS:
        assert {"Reported", "Split"} <= set(header)
    measured = header["Measured"]
    if measured != "not yet measured":
        assert "(" in measured and "fold" in measured  # an interval and a split
        for word in ("balanced accuracy", "macro AUROC"):
            assert word in measured
