"""A run of one epoch on drawn lesions, which have masks."""

from __future__ import annotations

import pytest

from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.splits import split
from lesionlab.recipe.schema import Recipe
from lesionlab.training.train import train

TINY = Recipe().but(
    {
        "images.size": [64, 96],
        "model.name": "test_resnet",
        "model.fusion": {"kind": "concatenation", "fields": ["sex"], "width": 4},
        "phases.0.epochs": 1,
        "batch": 16,
        "average.kind": "none",
    }
)


@pytest.fixture(scope="session")
def run(ham, tmp_path_factory):
    """A finished run; not to be written to."""
    home = tmp_path_factory.mktemp("explained")
    data = catalogue(ham, out=home / "catalogue")
    return train(TINY, data, split(data, kind="holdout", shares=(0.5, 0.2, 0.3)), out=home / "run")
