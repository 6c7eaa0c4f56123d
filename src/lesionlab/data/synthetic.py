"""Drawn skin lesions in HAM10000's layout, from a seed: for demonstrations, tests and teaching.

A lesion is four maps in its own coordinates (the border lies near radius 1): brown pigment, blood,
deep pigment, which looks blue-grey through the skin, and white (scar, scale, keratin). Light passes
the first three as it passes a filter (Beer and Lambert's law), so that they mix as they do on skin
of any tone; white is laid on top. The patterns are those of dermatoscopy textbooks, simplified; the
words are those of Kittler et al., J. Am. Acad. Dermatol. 74:1093 (2016). No photograph was used.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from lesionlab.errors import DataError, SettingsError
from lesionlab.files import cannot_write, read_json
from lesionlab.progress import Listener, Notice, Step, silent

Array = npt.NDArray[np.float32]

COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
MASKS = "HAM10000_segmentations_lesion_tschandl"
PARTS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
SETTINGS = "synthetic.json"
_VERSION = 1  # raise it whenever the same seed draws other pixels
_README = """These images are DRAWN BY A PROGRAM. They are not photographs and show no patient.

lesionlab drew them from a random seed (synthetic.json), in the layout of HAM10000, so that
software can be tried where no data set is at hand. Diagnoses, ages, sexes and sites are made up.
A classifier that does well here has shown nothing about real skin.
"""

# How strongly one unit of each dye dims red, green and blue.
_DYES = {"melanin": (0.62, 0.92, 1.25), "blood": (0.16, 1.15, 0.80), "deep": (0.95, 0.78, 0.52)}
_PALE = (238.0, 203.0, 194.0)  # skin without pigment
_HAIR = (48.0, 36.0, 32.0)
_REACH = 1.5  # a lesion's canvas spans -1.5 to 1.5 radii
_DEEPEST = 4.0  # density that fills a map's eight bits
_VIEWS = (0.740, 0.195, 0.047, 0.018)  # lesions with 1, 2, 3, 4 images: 45 % of images share one
_SITES: Mapping[str, float] = {
    "back": 22, "lower extremity": 21, "trunk": 14, "upper extremity": 11, "abdomen": 10,
    "face": 7, "chest": 4, "foot": 3, "unknown": 2.5, "neck": 1.7, "scalp": 1.3, "hand": 1,
    "ear": 0.6, "genital": 0.5, "acral": 0.2,
}  # fmt: skip


# --- Drawing tools


def _step(values: npt.NDArray[np.floating[Any]], low: float, high: float) -> Array:
    """Rise smoothly from 0 at `low` to 1 at `high` (fall, where `low` is the greater)."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def _noise(rng: np.random.Generator, cells: int, height: int, width: int) -> Array:
    """Smooth noise, shape (height, width), about -1 to 1, with `cells` bumps along the height."""
    grid = rng.uniform(-1.4, 1.4, (cells + 2, cells * width // height + 2)).astype(np.float32)
    box = (0.5, 0.5, grid.shape[1] - 0.5, grid.shape[0] - 0.5)
    picture = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC, box)
    return np.asarray(picture, dtype=np.float32)


class _Sketch:
    """Strokes and dots on a sheet of twice the size; `map` turns them into values 0 to 1."""

    def __init__(self, height: int, width: int) -> None:
        self.sheet = Image.new("L", (2 * width, 2 * height))
        self.pen = ImageDraw.Draw(self.sheet)

    def dot(self, x: float, y: float, rx: float, ry: float, strength: float = 1.0) -> None:
        box = (2 * (x - rx), 2 * (y - ry), 2 * (x + rx), 2 * (y + ry))
        self.pen.ellipse(box, fill=int(255 * strength))

    def stroke(self, points: npt.NDArray[Any], width: float, strength: float = 1.0) -> None:
        xy = [(float(2 * x), float(2 * y)) for x, y in points]
        self.pen.line(xy, fill=int(255 * strength), width=max(1, round(2 * width)), joint="curve")

    def map(self, blur: float = 0.0) -> Array:
        small = self.sheet.reduce(2)
        if blur > 0:
            small = small.filter(ImageFilter.BoxBlur(blur))
        return np.asarray(small, dtype=np.float32) / np.float32(255)


@lru_cache(maxsize=8)
def _grid(n: int) -> tuple[Array, Array, Array, npt.NDArray[np.intp]]:
    """x, y, radius and angle (0 to 511) of each point of a canvas, shape (n, n) each."""
    line = np.linspace(-_REACH, _REACH, n, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    angle = (np.arctan2(y, x) / (2 * np.pi) % 1.0 * 512).astype(np.intp) % 512
    return x, y, np.hypot(x, y), angle


@dataclass
class _Canvas:
    """What a lesion is drawn on: one random stream, one map of `n` by `n` points per dye.

    Attributes:
        reach: the lesion's radius as a share of the image's height.
        white: the colour of `pale`, 0 to 255.
        inside: 255 inside the border, else 0: the mask.
    """

    rng: np.random.Generator
    n: int
    reach: float
    white: tuple[float, float, float] = (234.0, 226.0, 226.0)
    melanin: Array = field(init=False)
    blood: Array = field(init=False)
    deep: Array = field(init=False)
    pale: Array = field(init=False)
    inside: npt.NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.x, self.y, self.radius, self.angle = _grid(self.n)
        for name in ("melanin", "blood", "deep", "pale"):
            setattr(self, name, np.zeros((self.n, self.n), dtype=np.float32))

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def noise(self, cells: int) -> Array:
        return _noise(self.rng, cells, self.n, self.n)

    def outline(self, wobble: Mapping[int, float], squash: float, rough: float = 0.0) -> Array:
        """Radius as a share of the border's, shape (n, n): 0 in the middle, 1 on the border.

        Args:
            wobble: amplitude of each harmonic of the border (3: three lobes).
            squash: longer by shorter axis.
            rough: amplitude of small irregularities.
        """
        theta = np.linspace(0, 2 * np.pi, 512, endpoint=False)
        border = 1 / np.hypot(np.cos(theta) / np.sqrt(squash), np.sin(theta) * np.sqrt(squash))
        for lobes, amplitude in wobble.items():
            border += amplitude * np.cos(lobes * theta + self.between(0, 2 * np.pi))
        border = np.clip(border, 0.35, 1.3).astype(np.float32)
        edge: Array = self.radius / border[self.angle]
        if rough > 0:
            edge = edge + rough * self.noise(11)
        self.inside = (edge < 1).astype(np.uint8) * 255
        return edge

    def weather(self, faintness: float) -> None:
        """Make all dyes uneven, as skin is, and paler by `faintness`, 0 to 1; end at the edge."""
        uneven = (1 - faintness) * (1 + 0.16 * self.noise(7) + 0.14 * self.noise(30))
        uneven *= _step(np.maximum(np.abs(self.x), np.abs(self.y)), _REACH, 0.93 * _REACH)
        for dye in (self.melanin, self.blood, self.deep):
            dye *= uneven

    def net(self, holes: float, bend: float = 0.06) -> Array:
        """A honeycomb of lines (1) around holes (0), about `holes` of them along a radius."""
        warp = self.noise(6)
        u, v = self.x + bend * warp, self.y + bend * self.noise(6)
        k = 2 * np.pi * holes
        waves = np.cos(k * u) + 2 * np.cos(k * 0.5 * u) * np.cos(k * 0.866 * v)
        return _step(waves + 0.4 * warp, 0.5, -0.9)

    def spots(self, edge: Array, spacing: float, inner: float, outer: float) -> npt.NDArray[Any]:
        """Centres of a jittered lattice, in radii, shape (k, 2), where inner < edge < outer."""
        steps = np.arange(-1.3, 1.3, spacing)
        x, y = np.meshgrid(steps, steps * 0.9)
        x[1::2] += spacing / 2
        places = np.stack([x.ravel(), y.ravel()], axis=1)
        places += self.rng.uniform(-0.22, 0.22, places.shape) * spacing
        rows, columns = self.pixels(places).astype(int).clip(0, self.n - 1).T[::-1]
        at = edge[rows, columns]
        return self.rng.permutation(places[(at > inner) & (at < outer)])

    def pixels(self, places: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return (places + _REACH) * (self.n / (2 * _REACH))

    def clods(
        self,
        places: npt.NDArray[Any],
        size: tuple[float, float],
        blur: float = 0.01,
        faint: float = 0.6,
    ) -> Array:
        """Round clods at `places`: radii drawn from `size`, strengths from `faint` to 1."""
        sketch = _Sketch(self.n, self.n)
        unit = self.n / (2 * _REACH)
        for x, y in self.pixels(places):
            r = unit * self.between(*size)
            oval = self.between(0.8, 1.25)
            sketch.dot(x, y, r * oval, r / oval, self.between(faint, 1.0))
        return sketch.map(blur * unit)

    def vessels(self, trunks: int, blur: float = 0.008) -> Array:
        """Branching vessels: thick trunks that enter from the rim and split into fine twigs."""
        sketch = _Sketch(self.n, self.n)
        unit = self.n / (2 * _REACH)
        growing = []
        for _ in range(trunks):
            a = self.between(0, 2 * np.pi)
            start = np.array([np.cos(a), np.sin(a)]) * self.between(0.75, 0.95)
            growing.append((start, a + np.pi + self.between(-0.6, 0.6), self.between(0.03, 0.048)))
        while growing:
            at, heading, width = growing.pop()
            turns = self.rng.normal(0, 0.33, 6).cumsum() + heading
            path = at + 0.1 * np.stack([np.cos(turns), np.sin(turns)], axis=1).cumsum(axis=0)
            whole = np.concatenate([[at], path])
            sketch.stroke(self.pixels(whole), width * unit, min(1.0, 0.45 + 15 * width))
            if width > 0.014:
                for side in (-0.55, 0.55):
                    turn = float(turns[-1]) + side * self.between(0.6, 1.4)
                    growing.append((path[-1], turn, width * self.between(0.55, 0.72)))
        return sketch.map(blur * unit)


# --- The seven patterns


def _nevus(c: _Canvas) -> None:
    """Round and symmetric; one brown, a regular network or even clods, a border that fades."""
    edge = c.outline({2: c.between(0, 0.05), 3: c.between(0, 0.06)}, c.between(1, 1.35), 0.04)
    body = _step(edge, 1.0 + c.between(0.12, 0.25), c.between(0.5, 0.8))
    if c.rng.random() < 0.75:
        contrast = c.between(0.25, 0.7)
        texture = 0.95 - 0.5 * contrast + contrast * c.net(c.between(4.4, 6.5))
    else:
        places = c.spots(edge, c.between(0.15, 0.2), -1, 0.95)
        texture = 0.6 + 0.6 * c.clods(places, (0.045, 0.07))
    darker = 1 + c.between(-0.1, 0.5) * _step(edge, 0.8, 0.1)
    c.melanin = c.between(0.5, 1.25) * body * texture * darker * (1 + 0.12 * c.noise(4))
    c.blood = c.between(0.0, 0.35) * body
    c.deep = c.between(0.0, 0.15) * body


def _melanoma(c: _Canvas) -> None:
    """Asymmetric, notched, of several colours: blotches, blue-white veil, regression, streaks."""
    wobble = {1: 0.1, 2: 0.1, 3: c.between(0.04, 0.15), 5: c.between(0.02, 0.1), 8: 0.04}
    edge = c.outline(wobble, c.between(1.1, 1.5), 0.1)
    body = _step(edge, c.between(1.05, 1.16), c.between(0.82, 0.94))
    a = c.between(0, 2 * np.pi)
    side = c.x * np.float32(np.cos(a)) + c.y * np.float32(np.sin(a))  # -1 to 1 across the lesion
    net = c.net(c.between(3.4, 5.0), 0.12)
    brown = 0.5 + 0.5 * _step(c.noise(4), -0.4, 0.6) + 0.6 * net * _step(side, 0.7, -0.5)
    blotch = _step(c.noise(3) + 0.7 * side, 0.1, 0.9)
    veil = _step(c.noise(3) - 0.5 * side, 0.15, 0.9) * _step(edge, 1.0, 0.6)
    scar = c.between(0, 1) * _step(c.noise(4) - blotch, 0.3, 0.9)
    c.melanin = body * c.between(0.6, 1.05) * (brown + c.between(0.3, 1.0) * blotch)
    c.melanin *= (1 - 0.55 * veil) * (1 - 0.7 * scar)
    c.deep = body * (0.35 * blotch + c.between(0.4, 1.1) * veil * (1 - scar))
    c.blood = body * c.between(0.05, 0.5) * _step(side, -0.3, 0.9)
    c.pale = body * np.maximum(c.between(0.1, 0.3) * veil, 0.45 * scar)
    dots = c.spots(edge, 0.14, 0.5, 1.02)
    clods = c.clods(dots[dots @ [np.cos(a), np.sin(a)] > 0][:20], (0.015, 0.055), 0.015)
    c.melanin += 0.9 * clods
    sketch = _Sketch(c.n, c.n)
    for turn in a + c.rng.uniform(-0.8, 0.8, int(c.rng.integers(0, 14))):
        rim = np.array([np.cos(turn), np.sin(turn)])
        column, row = c.pixels(rim).astype(int)
        reach = 1.0 / max(0.6, float(edge[row, column]))
        sketch.stroke(c.pixels(rim * reach * np.array([[0.75], [1.0], [1.08]])), 0.016 * c.n)
    c.melanin += 0.7 * sketch.map(0.006 * c.n)


def _keratosis(c: _Canvas) -> None:
    """Stuck on: a sharp border, dull tan, fissures or fingerprint lines, plugs and milia."""
    wobble = {2: 0.05, 4: c.between(0, 0.07), 7: c.between(0.01, 0.05)}
    edge = c.outline(wobble, c.between(1.05, 1.45), 0.07)
    body = _step(edge, c.between(1.03, 1.1), 0.96)
    if c.rng.random() < 0.7:  # cerebriform: pale gyri between dark fissures
        ridges = np.abs(c.noise(int(c.rng.integers(9, 15))))
        furrows, gyri = _step(ridges, 0.22, 0.0), _step(ridges, 0.1, 0.9)
    else:
        waves = np.cos(2 * np.pi * (c.between(6, 8) * c.x + 1.1 * c.noise(5))) - c.noise(9)
        furrows, gyri = 0.5 * _step(waves, -0.2, 1.3), 0.6 * _step(waves, 0.6, -1.2)
    relief = c.between(0.4, 0.9) * _step(c.noise(5), -1.2, 1.0)
    c.melanin = body * (c.between(0.35, 0.85) * (0.6 + relief - 0.3 * gyri) + 0.35 * furrows)
    c.deep = body * (c.between(0.0, 0.3) + 0.1 * c.noise(4))
    c.blood = body * c.between(0, 0.15)
    spots = c.spots(edge, 0.17, -1, 0.92)
    plugs = int(c.rng.integers(4, 20))
    c.melanin += 1.3 * c.clods(spots[:plugs], (0.03, 0.07), 0.02)
    milia = c.clods(spots[plugs : plugs + int(c.rng.integers(4, 24))], (0.018, 0.045), 0.02)
    c.white = (243.0, 228.0, 190.0)
    c.pale = np.maximum(0.8 * milia, body * gyri * c.between(0.08, 0.25))


def _basal(c: _Canvas) -> None:
    """Pink and pearly; branching vessels in focus, blue-grey ovoid nests, sometimes an ulcer."""
    edge = c.outline({2: 0.06, 3: 0.06, 5: 0.03}, c.between(1.05, 1.4), 0.1)
    body = _step(edge, 1.15, 0.8)
    c.blood = body * (c.between(0.15, 0.35) + 0.1 * c.noise(5))
    c.melanin = body * c.between(0, 0.15)
    c.pale = body * c.between(0.15, 0.4) * _step(c.noise(4), -0.8, 1.0)
    nests = c.spots(edge, 0.24, 0.3, 0.95)[: int(c.rng.integers(2, 12))]
    ovoid = c.clods(nests, (0.05, 0.17), 0.03, 0.35)
    c.deep = c.between(0.6, 1.2) * ovoid
    c.melanin += 0.35 * ovoid
    tree = c.vessels(int(c.rng.integers(1, 4)))
    c.blood += c.between(0.6, 1.2) * tree
    c.deep += 0.2 * tree
    c.pale *= (1 - tree) * (1 - 0.7 * ovoid)
    if c.rng.random() < 0.4:
        middle = c.spots(edge, 0.3, -1, 0.6)[:2]
        ulcer = _step(c.clods(middle, (0.12, 0.22), 0.06, 1.0) + 0.3 * c.noise(14), 0.3, 0.75)
        c.blood += 0.55 * ulcer
        c.melanin += (0.5 + 0.3 * c.noise(20)) * ulcer
        c.pale *= 1 - ulcer


def _actinic(c: _Canvas) -> None:
    """Strawberry: a red net around pale follicles with yellow plugs, under rough scale."""
    edge = c.outline({2: 0.08, 3: 0.08, 5: 0.05}, c.between(1.05, 1.45), 0.14)
    body = _step(edge, 1.25, 0.65)
    follicles = c.spots(edge, c.between(0.18, 0.24), -1, 1.1)
    halo, plug = c.clods(follicles, (0.045, 0.08), 0.025), c.clods(follicles, (0.015, 0.03))
    strength = c.between(0.4, 1.0)
    red = c.between(0.35, 0.7) * (1 + 0.35 * c.noise(8))
    c.blood = body * red * (1 - 0.75 * strength * halo)
    c.melanin = body * (
        c.between(0.05, 0.35) * _step(c.noise(5), -0.4, 0.8) + 0.4 * strength * plug
    )
    flakes = _step(c.noise(26) + 0.6 * c.noise(12), -0.4, 1.2)
    scale = c.between(0.55, 0.95) * flakes * _step(c.noise(5), -0.1, 0.6) * _step(edge, 1.05, 0.7)
    c.white = (245.0, 233.0, 204.0)
    c.pale = np.maximum(scale, body * 0.3 * strength * np.clip(halo - plug, 0, 1))


def _dermatofibroma(c: _Canvas) -> None:
    """A white scar-like patch in the middle of a delicate network that fades outwards."""
    edge = c.outline({2: 0.04, 3: c.between(0, 0.06)}, c.between(1, 1.25), 0.06)
    body = _step(edge, 1.25, 0.55)
    heart = c.between(0.38, 0.55)
    scar = _step(edge + 0.16 * c.noise(7) + 0.05 * c.noise(18), heart + 0.22, heart - 0.22)
    contrast = c.between(0.3, 0.7)
    net = 0.95 - 0.5 * contrast + contrast * c.net(c.between(5.5, 7.0))
    c.melanin = body * c.between(0.35, 0.8) * net * (1 - 0.85 * scar)
    c.blood = body * c.between(0.05, 0.3) + c.between(0, 0.15) * scar
    strands = _step(np.abs(c.noise(12)), 0.3, 0.0)
    c.white = (241.0, 224.0, 221.0)
    c.pale = scar * (c.between(0.4, 0.65) + 0.3 * strands)


def _vascular(c: _Canvas) -> None:
    """Lacunae: well demarcated round red, purple or blue-black clods, with pale septa."""
    edge = c.outline({2: 0.06, 3: 0.05, 6: c.between(0, 0.06)}, c.between(1, 1.4), 0.06)
    body = _step(edge, c.between(1.06, 1.16), 0.92)
    spacing = c.between(0.22, 0.42)
    spots = c.spots(edge, spacing, -1, 0.94)
    lakes = c.clods(spots, (0.4 * spacing, 0.58 * spacing), 0.05, 0.55)
    clots = spots[: len(spots) // int(c.rng.integers(2, 8))]
    dark = c.clods(clots, (0.36 * spacing, 0.5 * spacing), 0.06, 0.4)
    shade = (0.6 + 0.4 * c.noise(3)) * body
    red = c.between(0.7, 1.2)
    c.blood = 0.5 * red * body
    c.blood += 0.8 * red * lakes
    c.deep = c.between(0.0, 0.5) * shade
    c.deep += c.between(0.1, 0.8) * dark
    c.pale = c.between(0.1, 0.3) * body * (1 - lakes)


@dataclass(frozen=True)
class _Kind:
    """How a class is drawn and what its rows say.

    Attributes:
        share: of all lesions; HAM10000's imbalance, softened.
        radius: smallest and greatest, as a share of the image's height.
        age: mean and standard deviation, years.
        proof: share of each dx_type.
        sites: how much more often than usual a site is affected.
    """

    draw: Callable[[_Canvas], None]
    share: float
    radius: tuple[float, float]
    age: tuple[float, float]
    proof: Mapping[str, float]
    sites: Mapping[str, float] = field(default_factory=dict)


_SUN = {"face": 4.0, "ear": 3.0, "scalp": 4.0, "hand": 3.0, "neck": 2.0, "genital": 0.0}
_KINDS: Mapping[str, _Kind] = {
    "akiec": _Kind(_actinic, 0.09, (0.28, 0.38), (67, 11), {"histo": 1}, _SUN),
    "bcc": _Kind(_basal, 0.12, (0.26, 0.38), (67, 13), {"histo": 1}, _SUN),
    "bkl": _Kind(
        _keratosis, 0.15, (0.26, 0.40), (64, 14),
        {"histo": 0.7, "consensus": 0.24, "confocal": 0.06}, {"face": 3.0, "scalp": 2.0},
    ),
    "df": _Kind(
        _dermatofibroma, 0.07, (0.25, 0.34), (52, 13),
        {"histo": 0.48, "consensus": 0.52}, {"lower extremity": 4.0, "face": 0.1},
    ),
    "mel": _Kind(_melanoma, 0.16, (0.28, 0.41), (61, 15), {"histo": 1}, {"back": 1.3}),
    "nv": _Kind(
        _nevus, 0.34, (0.25, 0.37), (45, 15),
        {"follow_up": 0.55, "histo": 0.37, "consensus": 0.08}, {"face": 0.4},
    ),
    "vasc": _Kind(_vascular, 0.07, (0.24, 0.34), (51, 21), {"histo": 0.47, "consensus": 0.53}),
}  # fmt: skip


# --- The photograph


@dataclass(frozen=True)
class _Skin:
    """Whose skin: `tone` is its melanin, 0 (pale) to about 1.4 (dark); `blush` its blood."""

    tone: float
    blush: float


def _bare(rng: np.random.Generator, skin: _Skin, h: int, w: int) -> dict[str, Array]:
    """Dyes of skin without a lesion, shape (h, w) each: mottled, with fine lines and pores."""
    fine = _noise(rng, max(4, h // 4), h, w)
    furrows = _step(np.abs(_noise(rng, max(4, h // 9), h, w)), 0.16, 0.0)
    mottle = _noise(rng, 7, h, w)
    depth = 0.025 + 0.03 * skin.tone
    return {
        "melanin": skin.tone + depth * (mottle + fine) + 0.05 * furrows,
        "blood": np.clip(skin.blush + 0.05 * _noise(rng, 5, h, w) - 0.04 * mottle, 0, None),
    }


def _dark_things(rng: np.random.Generator, h: int, w: int) -> Array | None:
    """Hair and ruler ticks, opacity 0 to 1, shape (h, w); None where there are none."""
    hairy, measured = rng.random(2) < (0.4, 0.12)
    if not (hairy or measured):
        return None
    sketch = _Sketch(h, w)
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
    sketch = _Sketch(h, w)
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
        light = light * (0.04 + 0.96 * _step(away, rim + 0.02, rim - rng.uniform(0.01, 0.06)))
    return np.asarray(light, dtype=np.float32)


def _look(
    lesion: _Canvas, rng: np.random.Generator, h: int, w: int
) -> tuple[dict[str, Array], Image.Image]:
    """The lesion's maps and mask as one view has them: turned, scaled, shifted, maybe mirrored."""
    angle, mirror = rng.uniform(0, 2 * np.pi), rng.choice([-1.0, 1.0])
    zoom = lesion.n / (2 * _REACH) / (lesion.reach * h * rng.uniform(0.9, 1.12))
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


def _photograph(
    lesion: _Canvas, skin: _Skin, rng: np.random.Generator, h: int, w: int
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


# --- The data set


@dataclass(frozen=True)
class _Case:
    """One lesion: its number, its images' numbers and its row of the table."""

    number: int
    images: tuple[int, ...]
    dx: str
    dx_type: str
    age: str
    sex: str
    site: str


def _pick(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    share = np.array(list(weights.values()), dtype=np.float64)
    return str(rng.choice(list(weights), p=share / share.sum()))


def _cases(lesions: int, seed: int) -> list[_Case]:
    """The table: which lesions there are, of which class, with how many images."""
    rng = np.random.default_rng([seed, 0])
    counts = {code: max(1, int(kind.share * lesions)) for code, kind in _KINDS.items()}
    counts["nv"] += lesions - sum(counts.values())
    labels = rng.permutation([code for code, count in counts.items() for _ in range(count)])
    cases, first = [], 1
    for number, dx in enumerate(map(str, labels), start=1):
        kind = _KINDS[dx]
        views = int(rng.choice(len(_VIEWS), p=_VIEWS)) + 1
        age = float(np.clip(5 * np.round(rng.normal(*kind.age) / 5), 5, 85))
        cases.append(
            _Case(
                number=number,
                images=tuple(range(first, first + views)),
                dx=dx,
                dx_type=_pick(rng, kind.proof),
                age="" if rng.random() < 0.02 else f"{age:.1f}",
                sex=_pick(rng, {"male": 0.54, "female": 0.44, "unknown": 0.02}),
                site=_pick(rng, {site: n * kind.sites.get(site, 1) for site, n in _SITES.items()}),
            )
        )
        first += views
    return cases


def _table(cases: list[_Case]) -> str:
    """The metadata as CSV text, one row per image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in cases:
        for image in case.images:
            row = (case.dx, case.dx_type, case.age, case.sex, case.site)
            writer.writerow((f"SYN_{case.number:07d}", _name(image), *row))
    return text.getvalue()


def _name(image: int) -> str:
    return f"SYNTH_{image:07d}"


def _draw(case: _Case, *, folder: Path, total: int, size: tuple[int, int], seed: int) -> int:
    """Draw all images of one lesion; return how many they are."""
    height, width = size
    kind = _KINDS[case.dx]
    rng = np.random.default_rng([seed, case.number, 0])
    tone = float(rng.choice([0.35, 1.4], p=[0.65, 0.35]) * rng.beta(1.2, 1.6))
    skin = _Skin(tone, float(rng.uniform(0.0, 0.22)) * (1 - 0.6 * tone))
    reach = float(rng.uniform(*kind.radius))
    lesion = _Canvas(rng, 16 * max(4, round(2 * _REACH * reach * height / 16)), reach)
    kind.draw(lesion)
    lesion.weather(float(rng.beta(1, 2)) * 0.5)
    for view, image in enumerate(case.images, start=1):
        stream = np.random.default_rng([seed, case.number, view])
        picture, mask = _photograph(lesion, skin, stream, height, width)
        part = PARTS[0] if image <= (total + 1) // 2 else PARTS[1]
        note = b"Drawn by lesionlab; not a photograph."
        picture.save(folder / part / f"{_name(image)}.jpg", quality=90, comment=note)
        mask.save(folder / MASKS / f"{_name(image)}_segmentation.png")
    return len(case.images)


def _already_there(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether `folder` holds this very set; False where nothing stands in the way.

    Raises:
        DataError: if it holds anything else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if not (folder / SETTINGS).is_file():
        raise DataError(
            f"{folder} already holds something that lesionlab did not draw, and stays as it is. "
            "Choose a folder that does not exist yet."
        )
    found = read_json(folder / SETTINGS)
    if found == settings:
        return True
    found = found if isinstance(found, dict) else {}
    keys = [key for key in settings if found.get(key) != settings[key]]
    differ = ", ".join(f"{key} {found.get(key)} instead of {settings[key]}" for key in keys)
    raise DataError(
        f"{folder} holds a synthetic set drawn with other settings ({differ or 'unknown ones'}). "
        "Choose another folder, or delete this one first."
    )


def synthetic(
    to: str | Path,
    *,
    lesions: int = 300,
    size: tuple[int, int] = (225, 300),
    seed: int = 0,
    listen: Listener = silent,
) -> Path:
    """Draw a synthetic data set of seven classes of lesions in HAM10000's layout.

    The folder gets `HAM10000_metadata.csv`, two folders of JPEG images, a folder of masks (PNG, 0
    outside and 255 inside), a README and the settings. About 1.34 images per lesion; images of one
    lesion show the same lesion at another angle, scale and light. The rarest class has 7 % of the
    lesions. Skin tone, hair, rulers, bubbles and dark corners do not depend on the class. The same
    arguments give the same files. Everything is drawn beside the folder and moved there at the end.

    Args:
        to: the folder to make.
        lesions: how many lesions, 7 or more.
        size: height and width of the images, pixels, 48 or more each.
        seed: of all random draws, 0 or more.
        listen: hears of the progress.

    Returns:
        The folder.

    Raises:
        SettingsError: if an argument is out of range.
        DataError: if the folder holds anything but this very set, or cannot be written.
    """
    folder = Path(to)
    if lesions < len(_KINDS) or seed < 0 or min(size) < 48:
        raise SettingsError(
            f"synthetic needs lesions >= {len(_KINDS)} (one per class), seed >= 0 and a size of at "
            f"least 48 x 48 pixels, not lesions={lesions}, seed={seed}, size={tuple(size)}."
        )
    settings = {"version": _VERSION, "lesions": lesions, "size": [*map(int, size)], "seed": seed}
    if _already_there(folder, settings):
        listen(Notice(f"{folder} already holds these drawings; nothing to do."))
        return folder
    cases = _cases(lesions, seed)
    total = cases[-1].images[-1]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=folder.parent, prefix=f".{folder.name}.", suffix=".part", ignore_cleanup_errors=True
        ) as temporary:
            part = Path(temporary) / "set"
            for name in (*PARTS, MASKS):
                (part / name).mkdir(parents=True)
            _draw_all(cases, part, total, size, seed, listen)
            (part / "HAM10000_metadata.csv").write_text(_table(cases), "utf-8", newline="\n")
            (part / "README.txt").write_text(_README, "utf-8", newline="\n")
            (part / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
            if folder.is_dir():
                folder.rmdir()
            part.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


def _draw_all(
    cases: list[_Case], folder: Path, total: int, size: tuple[int, int], seed: int, listen: Listener
) -> None:
    """Draw every lesion on a few threads, telling of the progress in the cases' order."""
    draw = partial(_draw, folder=folder, total=total, size=size, seed=seed)
    done = 0
    listen(Step("drawing lesions", done, total, "images"))
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        try:
            for drawn in pool.map(draw, cases):
                done += drawn
                listen(Step("drawing lesions", done, total, "images"))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
