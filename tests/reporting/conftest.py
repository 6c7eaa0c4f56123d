"""A tiny finished run: 120 drawn images of three classes on disk, plausible predictions of them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from drawn_runs import CLASSES, draw_predictions, make_run
from PIL import Image

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.run import Run
from lesionlab.tables import CATALOGUE


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory) -> Catalogue:
    """A saved catalogue with its image files."""
    home = tmp_path_factory.mktemp("data")
    table = draw_predictions()[["image_id", "lesion_id", "target"]]
    rng = np.random.default_rng(0)
    for name in CATALOGUE:
        if name not in table:
            table[name] = ""
    table["source"] = "drawn"
    table["path"] = table["image_id"] + ".jpg"
    table[["width", "height"]] = [400.0, 300.0]
    table["age"], table["bytes"] = np.nan, 1000.0
    hashes = []
    for name in table["path"]:
        pixels = rng.integers(0, 255, (6, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((400, 300)).save(home / name)
        hashes.append(hashlib.sha256((home / name).read_bytes()).hexdigest())
    table["sha256"] = hashes
    return Catalogue(table[list(CATALOGUE)], CLASSES, home, "drawn").save(home)


@pytest.fixture
def run(tmp_path, catalogue) -> Run:
    return make_run(tmp_path / "drawn_net", draw_predictions(), catalogue)


@pytest.fixture(scope="session")
def same_run(tmp_path_factory, catalogue) -> Run:
    """A run that no test changes."""
    return make_run(tmp_path_factory.mktemp("runs") / "drawn_net", draw_predictions(), catalogue)
