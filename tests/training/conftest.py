from __future__ import annotations

import pytest

from lesionlab.data.catalogues import catalogue
from lesionlab.data.splitting import split
from lesionlab.recipe import Recipe


@pytest.fixture(scope="session")
def drawn(ham, tmp_path_factory):
    """A catalogue of drawn lesions and its split."""
    data = catalogue(ham, out=tmp_path_factory.mktemp("catalogue"))
    return data, split(data, kind="holdout", shares=(0.6, 0.2, 0.2))


@pytest.fixture
def small() -> Recipe:
    """A tiny net with everything that has state: batch norm, dropout, averages, early stopping."""
    return Recipe().but(
        {
            "images.size": [32, 40],
            "model.name": "test_efficientnet",
            "model.drop": 0.3,
            "phases.0.epochs": 4,
            "phases.0.optim.lr": 2e-3,
            "average.decay": 0.9,
            "batch": 16,
            "seed": 3,
        }
    )
