from __future__ import annotations

import pytest

from lesionlab.recipe.schema import Recipe
from lesionlab.training.train import train

WILD = Recipe().but(
    {
        "images.size": [32, 32],
        "images.colour_constancy": "shades_of_grey",
        "model.name": "lenet",
        "augment": {"rotate": 180, "scale": 2, "shift": 0.4, "colour": 0.9, "illumination": 0.5},
        "phases.0.epochs": 4,
        "phases.0.optim": {"kind": "adam", "lr": 3e-3},
        "average.kind": "none",
        "batch": 16,
    }
)
"""Square images, colour constancy, and augmentation that would show anywhere it does not belong."""


@pytest.fixture(scope="session")
def trained(drawn, tmp_path_factory):
    """A finished run of a small net."""
    data, parts = drawn
    return train(WILD, data, parts, out=tmp_path_factory.mktemp("runs") / "wild")
