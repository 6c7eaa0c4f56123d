"""Photographs of a drawn lesion: skin, light, hair, rulers, gel bubbles and dark corners.

Light passes pigment, blood and deep pigment as it passes a filter (Beer and Lambert's law), so that
they mix as they do on skin of any tone; white is laid on top.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from lesionlab.data.synthetic.lesion_drawing import REACH, Array, Canvas, Sketch, noise, step

# How strongly one unit of each dye dims red, green and blue.
_DYES = {"melanin": (0.62, 0.92, 1.25), "blood": (0.16, 1.15, 0.80), "deep": (0.95, 0.78, 0.52)}
_PALE = (238.0, 203.0, 194.0)  # skin without pigment
_HAIR = (48.0, 36.0, 32.0)
_DEEPEST = 4.0  # density that fills a map's eight bits


@dataclass(frozen=True)
class Skin:
    """Whose skin: `tone` is its melanin, 0 (pale) to about 1.4 (dark); `blush` its blood."""

    tone: float
    blush: float


def _bare(rng: np.random.Generator, skin: Skin, h: int, w: int) -> dict[str, Array]:
    """Dyes of skin without a lesion, shape (h, w) each: mottled, with fine lines and pores."""
    fine = noise(rng, max(4, h // 4), h, w)
    furrows = step(np.abs(noise(rng, max(4, h // 9), h, w)), 0.16, 0.0)
    mottle = noise(rng, 7, h, w)
    depth = 0.025 + 0.03 * skin.tone
    return {
        "melanin": skin.tone + depth * (mottle + fine) + 0.05 * furrows,
        "blood": np.clip(skin.blush + 0.05 * noise(rng, 5, h, w) - 0.04 * mottle, 0, None),
    }


def _dark_things(rng: np.random.Generator, h: int, w: int) -> Array | None:
    """Hair and ruler ticks, opacity 0 to 1, shape (h, w); None where there are none."""
    hairy, measured = rng.random(2) < (0.4, 0.12)
    if not (hairy or measured):
        return None
    sketch = Sketch(h, w)
    if hairy:
        lean, strength = rng.uniform(0, np.pi), rng.uniform(0.45, 0.9)
        t = np.linspace(0, 1, 14)[:, None]
        for _ in range(int(rng.integers(2, 16))):
            turn = lean + rng.normal(0, 0.4)
            half = np.array([np.cos(turn), np.sin(turn)]) * h * rng.uniform(0.15, 0.6)
            middle = rng.uniform(0, 1, 2) * (w, h)
            bow = middle + rng.normal(0, 0.16 * h, 2)
            curve = (1 - t) ** 2 * (middle - half) + 2 * t * (1 - t) * bow + t**2 * (middle + half)
            sketch.stroke(curve, h * rng.uniform(0.003, 0.009), strength)
    if measured:
        gap, long = h * rng.uniform(0.03, 0.05), h * rng.uniform(0.05, 0.07)
        foot, sign = (0.0, 1.0) if rng.random() < 0.5 else (float(h), -1.0)
        for tick in range(int(w / gap) + 1):
            tip = foot + sign * long * (1.0 if tick % 10 == 0 else 0.72 if tick % 5 == 0 else 0.45)
            sketch.stroke(np.array([[tick * gap, foot], [tick * gap, tip]]), 0.006 * h, 0.85)
    return sketch.map(0.4)


def _bubbles(rng: np.random.Generator, h: int, w: int) -> Array | None:
    """Bubbles in the contact gel, opacity 0 to 1, shape (h, w); None where there are none."""
    if rng.random() > 0.18:
        return None
    sketch = Sketch(h, w)
    for _ in range(int(rng.integers(1, 7))):
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), h * rng.uniform(0.012, 0.06)
        sketch.dot(x, y, r, r, 0.45)
        sketch.dot(x, y, 0.82 * r, 0.82 * r, 0.08)
        sketch.dot(x - 0.4 * r, y - 0.4 * r, 0.2 * r, 0.2 * r, 0.9)
    return sketch.map(0.7)


def _light(rng: np.random.Generator, h: int, w: int) -> Array:
    """Brightness of the lamp, shape (h, w): a slope, a fall-off and perhaps black corners."""
    y = np.linspace(-0.5, 0.5, h, dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, w, dtype=np.float32)[None, :] * np.float32(w / h)
    down, right, fall = rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12), rng.uniform(0, 0.25)
    away = np.hypot(x - rng.normal(0, 0.03), y - rng.normal(0, 0.03)) / np.float32(w / h)
    light = rng.uniform(0.88, 1.06) * (1 + right * x + down * y) * (1 - fall * away**2)
    if rng.random() < 0.3:
        rim = rng.uniform(0.46, 0.58)
        light = light * (0.04 + 0.96 * step(away, rim + 0.02, rim - rng.uniform(0.01, 0.06)))
    return np.asarray(light, dtype=np.float32)


def _look(
    lesion: Canvas, rng: np.random.Generator, h: int, w: int
) -> tuple[dict[str, Array], Image.Image]:
    """The lesion's maps and mask as one view has them: turned, scaled, shifted, maybe mirrored."""
    angle, mirror = rng.uniform(0, 2 * np.pi), rng.choice([-1.0, 1.0])
    zoom = lesion.n / (2 * REACH) / (lesion.reach * h * rng.uniform(0.9, 1.12))
    cx, cy = w / 2 + h * rng.normal(0, 0.035), h / 2 + h * rng.normal(0, 0.03)
    a, b = zoom * np.cos(angle), zoom * np.sin(angle)
    d, e = -mirror * b, mirror * a
    middle = lesion.n / 2
    matrix = (a, b, middle - a * cx - b * cy, d, e, middle - d * cx - e * cy)
    stack = np.stack([lesion.melanin, lesion.blood, lesion.deep, lesion.pale * _DEEPEST], axis=-1)
    packed = Image.fromarray(
        (np.clip(stack, 0, _DEEPEST) * (255 / _DEEPEST)).astype(np.uint8), "CMYK"
    )
    warp = (w, h), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    seen = packed.transform(*warp).split()
    tops = {"melanin": _DEEPEST, "blood": _DEEPEST, "deep": _DEEPEST, "pale": 1.0}
    maps: dict[str, Array] = {}
    for (name, top), band in zip(tops.items(), seen, strict=True):
        maps[name] = np.asarray(band, dtype=np.float32) * np.float32(top / 255)
    return maps, Image.fromarray(lesion.inside).transform(*warp).point([0] * 128 + [255] * 128)


def photograph(
    lesion: Canvas, skin: Skin, rng: np.random.Generator, h: int, w: int
) -> tuple[Image.Image, Image.Image]:
    """One view of a lesion on its skin, and its mask."""
    dyes, mask = _look(lesion, rng, h, w)
    for name, amount in _bare(rng, skin, h, w).items():
        dyes[name] += amount
    light, dark, bubbles = _light(rng, h, w), _dark_things(rng, h, w), _bubbles(rng, h, w)
    grain = rng.standard_normal((h, w), dtype=np.float32) * np.float32(rng.uniform(1.0, 3.0))
    tint = np.exp(rng.normal(0, 0.035, 3)).tolist()
    hair = rng.uniform(0.5, 1.6)
    bands = []
    for k in range(3):
        density = dyes["melanin"] * _DYES["melanin"][k]
        density += dyes["blood"] * _DYES["blood"][k]
        density += dyes["deep"] * _DYES["deep"][k]
        colour = _PALE[k] * np.exp(-density)
        colour += dyes["pale"] * (lesion.white[k] * (1 - 0.3 * skin.tone) - colour)
        if dark is not None:
            colour += dark * (hair * _HAIR[k] - colour)
        if bubbles is not None:
            colour += bubbles * (250.0 - colour)
        colour *= light * tint[k]
        colour += grain
        bands.append(Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8)))
    picture = Image.merge("RGB", bands)
    blur = rng.uniform(-0.4, 0.7)
    return (picture.filter(ImageFilter.BoxBlur(blur)) if blur > 0.15 else picture), mask
