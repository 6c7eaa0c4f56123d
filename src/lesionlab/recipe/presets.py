"""Augmentation presets: the sources' own sets of random views, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STILL = {
    "flip": "none",
    "rotate": 0.0,
    "scale": 1.0,
    "shift": 0.0,
    "shear": 0.0,
    "perspective": 0.0,
    "colour": 0.0,
    "hue": 0.0,
}


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "none": _STILL,
    "default": {},
    "source_b": {**_STILL, "flip": "horizontal"},
    "source_b_oversampling": {**_STILL, "flip": "both", "scale": 1.25, "zoom": "in"},
    "source_c_baseline": {
        **_STILL,
        "flip": "horizontal",
        "rotate": 40.0,
        "shift": 0.2,
        "shear": 0.2,
        "scale": 1.2,
        "fill": "nearest",
    },
    "source_c": {
        **_STILL,
        "rotate": 60.0,
        "shift": 0.2,
        "shear": 0.2,
        "scale": 1.2,
        "fill": "nearest",
    },
    "source_d": {**_STILL, "flip": "both", "rotate": 20.0, "scale": 1.2, "fill": "nearest"},
    "source_e": {**_STILL, "flip": "horizontal", "rotate": 60.0, "fill": "black"},
    "source_e_wish": {
        **_STILL,
        "flip": "horizontal",
        "rotate": 60.0,
        "shift": 0.1,
        "perspective": 0.15,
        "colour": 0.1,
        "illumination": 0.1,
        "fill": "black",
    },
}
"""Augmentation by name: each source's own set, as near as its text allows (docs/sources.md).

C's shear of 0.2 is taken as the tangent that was meant: its Keras read it as degrees, next to none.
Keras zooms height and width apart; here an image keeps its shape. B does not say how far it crops.
"""
