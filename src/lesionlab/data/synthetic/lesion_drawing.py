"""One drawn skin lesion: the canvas, the tools to draw on it and the patterns of seven classes.

A lesion is four maps in its own coordinates (the border lies near radius 1): brown pigment, blood,
deep pigment, which looks blue-grey through the skin, and white (scar, scale, keratin). The patterns
are those of dermatoscopy textbooks, simplified; the words are those of Kittler et al., J. Am. Acad.
Dermatol. 74:1093 (2016). No photograph was used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Array = npt.NDArray[np.float32]

REACH = 1.5  # a lesion's canvas spans -1.5 to 1.5 radii


# --- Drawing tools


def step(values: npt.NDArray[np.floating[Any]], low: float, high: float) -> Array:
    """Rise smoothly from 0 at `low` to 1 at `high` (fall, where `low` is the greater)."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def noise(rng: np.random.Generator, cells: int, height: int, width: int) -> Array:
    """Smooth noise, shape (height, width), about -1 to 1, with `cells` bumps along the height."""
    grid = rng.uniform(-1.4, 1.4, (cells + 2, cells * width // height + 2)).astype(np.float32)
    box = (0.5, 0.5, grid.shape[1] - 0.5, grid.shape[0] - 0.5)
    picture = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC, box)
    return np.asarray(picture, dtype=np.float32)


class Sketch:
    """Strokes and dots on a sheet of twice the size; `map` turns them into values 0 to 1."""

    def __init__(self, height: int, width: int) -> None:
        self.sheet = Image.new("L", (2 * width, 2 * height))
        self.pen = ImageDraw.Draw(self.sheet)

    def dot(self, x: float, y: float, rx: float, ry: float, strength: float = 1.0) -> None:
        """Draw an ellipse of radii `rx` and `ry`, pixels, around (x, y)."""
        box = (2 * (x - rx), 2 * (y - ry), 2 * (x + rx), 2 * (y + ry))
        self.pen.ellipse(box, fill=int(255 * strength))

    def stroke(self, points: npt.NDArray[Any], width: float, strength: float = 1.0) -> None:
        """Draw a line of `width` pixels through `points`, shape (k, 2)."""
        xy = [(float(2 * x), float(2 * y)) for x, y in points]
        self.pen.line(xy, fill=int(255 * strength), width=max(1, round(2 * width)), joint="curve")

    def map(self, blur: float = 0.0) -> Array:
        """Give what was drawn as values 0 to 1, blurred by `blur` pixels."""
        small = self.sheet.reduce(2)
        if blur > 0:
            small = small.filter(ImageFilter.BoxBlur(blur))
        return np.asarray(small, dtype=np.float32) / np.float32(255)


@lru_cache(maxsize=8)
def _grid(n: int) -> tuple[Array, Array, Array, npt.NDArray[np.intp]]:
    """x, y, radius and angle (0 to 511) of each point of a canvas, shape (n, n) each."""
    line = np.linspace(-REACH, REACH, n, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    angle = (np.arctan2(y, x) / (2 * np.pi) % 1.0 * 512).astype(np.intp) % 512
    return x, y, np.hypot(x, y), angle


@dataclass
class Canvas:
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
        """Draw a number from `low` to `high`."""
        return float(self.rng.uniform(low, high))

    def noise(self, cells: int) -> Array:
        """Smooth noise on the canvas, about -1 to 1, with `cells` bumps along its height."""
        return noise(self.rng, cells, self.n, self.n)

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
        uneven *= step(np.maximum(np.abs(self.x), np.abs(self.y)), REACH, 0.93 * REACH)
        for dye in (self.melanin, self.blood, self.deep):
            dye *= uneven

    def net(self, holes: float, bend: float = 0.06) -> Array:
        """A honeycomb of lines (1) around holes (0), about `holes` of them along a radius."""
        warp = self.noise(6)
        u, v = self.x + bend * warp, self.y + bend * self.noise(6)
        k = 2 * np.pi * holes
        waves = np.cos(k * u) + 2 * np.cos(k * 0.5 * u) * np.cos(k * 0.866 * v)
        return step(waves + 0.4 * warp, 0.5, -0.9)

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
        """Turn places in radii into places in the canvas's pixels."""
        return (places + REACH) * (self.n / (2 * REACH))

    def clods(
        self,
        places: npt.NDArray[Any],
        size: tuple[float, float],
        blur: float = 0.01,
        faint: float = 0.6,
    ) -> Array:
        """Round clods at `places`: radii drawn from `size`, strengths from `faint` to 1."""
        sketch = Sketch(self.n, self.n)
        unit = self.n / (2 * REACH)
        for x, y in self.pixels(places):
            r = unit * self.between(*size)
            oval = self.between(0.8, 1.25)
            sketch.dot(x, y, r * oval, r / oval, self.between(faint, 1.0))
        return sketch.map(blur * unit)

    def vessels(self, trunks: int, blur: float = 0.008) -> Array:
        """Branching vessels: thick trunks that enter from the rim and split into fine twigs."""
        sketch = Sketch(self.n, self.n)
        unit = self.n / (2 * REACH)
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


def nevus(c: Canvas) -> None:
    """Round and symmetric; one brown, a regular network or even clods, a border that fades."""
    edge = c.outline({2: c.between(0, 0.05), 3: c.between(0, 0.06)}, c.between(1, 1.35), 0.04)
    body = step(edge, 1.0 + c.between(0.12, 0.25), c.between(0.5, 0.8))
    if c.rng.random() < 0.75:
        contrast = c.between(0.25, 0.7)
        texture = 0.95 - 0.5 * contrast + contrast * c.net(c.between(4.4, 6.5))
    else:
        places = c.spots(edge, c.between(0.15, 0.2), -1, 0.95)
        texture = 0.6 + 0.6 * c.clods(places, (0.045, 0.07))
    darker = 1 + c.between(-0.1, 0.5) * step(edge, 0.8, 0.1)
    c.melanin = c.between(0.5, 1.25) * body * texture * darker * (1 + 0.12 * c.noise(4))
    c.blood = c.between(0.0, 0.35) * body
    c.deep = c.between(0.0, 0.15) * body


def melanoma(c: Canvas) -> None:
    """Asymmetric, notched, of several colours: blotches, blue-white veil, regression, streaks."""
    wobble = {1: 0.1, 2: 0.1, 3: c.between(0.04, 0.15), 5: c.between(0.02, 0.1), 8: 0.04}
    edge = c.outline(wobble, c.between(1.1, 1.5), 0.1)
    body = step(edge, c.between(1.05, 1.16), c.between(0.82, 0.94))
    a = c.between(0, 2 * np.pi)
    side = c.x * np.float32(np.cos(a)) + c.y * np.float32(np.sin(a))  # -1 to 1 across the lesion
    net = c.net(c.between(3.4, 5.0), 0.12)
    brown = 0.5 + 0.5 * step(c.noise(4), -0.4, 0.6) + 0.6 * net * step(side, 0.7, -0.5)
    blotch = step(c.noise(3) + 0.7 * side, 0.1, 0.9)
    veil = step(c.noise(3) - 0.5 * side, 0.15, 0.9) * step(edge, 1.0, 0.6)
    scar = c.between(0, 1) * step(c.noise(4) - blotch, 0.3, 0.9)
    c.melanin = body * c.between(0.6, 1.05) * (brown + c.between(0.3, 1.0) * blotch)
    c.melanin *= (1 - 0.55 * veil) * (1 - 0.7 * scar)
    c.deep = body * (0.35 * blotch + c.between(0.4, 1.1) * veil * (1 - scar))
    c.blood = body * c.between(0.05, 0.5) * step(side, -0.3, 0.9)
    c.pale = body * np.maximum(c.between(0.1, 0.3) * veil, 0.45 * scar)
    dots = c.spots(edge, 0.14, 0.5, 1.02)
    clods = c.clods(dots[dots @ [np.cos(a), np.sin(a)] > 0][:20], (0.015, 0.055), 0.015)
    c.melanin += 0.9 * clods
    sketch = Sketch(c.n, c.n)
    for turn in a + c.rng.uniform(-0.8, 0.8, int(c.rng.integers(0, 14))):
        rim = np.array([np.cos(turn), np.sin(turn)])
        column, row = c.pixels(rim).astype(int)
        reach = 1.0 / max(0.6, float(edge[row, column]))
        sketch.stroke(c.pixels(rim * reach * np.array([[0.75], [1.0], [1.08]])), 0.016 * c.n)
    c.melanin += 0.7 * sketch.map(0.006 * c.n)


def keratosis(c: Canvas) -> None:
    """Stuck on: a sharp border, dull tan, fissures or fingerprint lines, plugs and milia."""
    wobble = {2: 0.05, 4: c.between(0, 0.07), 7: c.between(0.01, 0.05)}
    edge = c.outline(wobble, c.between(1.05, 1.45), 0.07)
    body = step(edge, c.between(1.03, 1.1), 0.96)
    if c.rng.random() < 0.7:  # cerebriform: pale gyri between dark fissures
        ridges = np.abs(c.noise(int(c.rng.integers(9, 15))))
        furrows, gyri = step(ridges, 0.22, 0.0), step(ridges, 0.1, 0.9)
    else:
        waves = np.cos(2 * np.pi * (c.between(6, 8) * c.x + 1.1 * c.noise(5))) - c.noise(9)
        furrows, gyri = 0.5 * step(waves, -0.2, 1.3), 0.6 * step(waves, 0.6, -1.2)
    relief = c.between(0.4, 0.9) * step(c.noise(5), -1.2, 1.0)
    c.melanin = body * (c.between(0.35, 0.85) * (0.6 + relief - 0.3 * gyri) + 0.35 * furrows)
    c.deep = body * (c.between(0.0, 0.3) + 0.1 * c.noise(4))
    c.blood = body * c.between(0, 0.15)
    spots = c.spots(edge, 0.17, -1, 0.92)
    plugs = int(c.rng.integers(4, 20))
    c.melanin += 1.3 * c.clods(spots[:plugs], (0.03, 0.07), 0.02)
    milia = c.clods(spots[plugs : plugs + int(c.rng.integers(4, 24))], (0.018, 0.045), 0.02)
    c.white = (243.0, 228.0, 190.0)
    c.pale = np.maximum(0.8 * milia, body * gyri * c.between(0.08, 0.25))


def basal(c: Canvas) -> None:
    """Pink and pearly; branching vessels in focus, blue-grey ovoid nests, sometimes an ulcer."""
    edge = c.outline({2: 0.06, 3: 0.06, 5: 0.03}, c.between(1.05, 1.4), 0.1)
    body = step(edge, 1.15, 0.8)
    c.blood = body * (c.between(0.15, 0.35) + 0.1 * c.noise(5))
    c.melanin = body * c.between(0, 0.15)
    c.pale = body * c.between(0.15, 0.4) * step(c.noise(4), -0.8, 1.0)
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
        ulcer = step(c.clods(middle, (0.12, 0.22), 0.06, 1.0) + 0.3 * c.noise(14), 0.3, 0.75)
        c.blood += 0.55 * ulcer
        c.melanin += (0.5 + 0.3 * c.noise(20)) * ulcer
        c.pale *= 1 - ulcer


def actinic(c: Canvas) -> None:
    """Strawberry: a red net around pale follicles with yellow plugs, under rough scale."""
    edge = c.outline({2: 0.08, 3: 0.08, 5: 0.05}, c.between(1.05, 1.45), 0.14)
    body = step(edge, 1.25, 0.65)
    follicles = c.spots(edge, c.between(0.18, 0.24), -1, 1.1)
    halo, plug = c.clods(follicles, (0.045, 0.08), 0.025), c.clods(follicles, (0.015, 0.03))
    strength = c.between(0.4, 1.0)
    red = c.between(0.35, 0.7) * (1 + 0.35 * c.noise(8))
    c.blood = body * red * (1 - 0.75 * strength * halo)
    c.melanin = body * (c.between(0.05, 0.35) * step(c.noise(5), -0.4, 0.8) + 0.4 * strength * plug)
    flakes = step(c.noise(26) + 0.6 * c.noise(12), -0.4, 1.2)
    scale = c.between(0.55, 0.95) * flakes * step(c.noise(5), -0.1, 0.6) * step(edge, 1.05, 0.7)
    c.white = (245.0, 233.0, 204.0)
    c.pale = np.maximum(scale, body * 0.3 * strength * np.clip(halo - plug, 0, 1))


def dermatofibroma(c: Canvas) -> None:
    """A white scar-like patch in the middle of a delicate network that fades outwards."""
    edge = c.outline({2: 0.04, 3: c.between(0, 0.06)}, c.between(1, 1.25), 0.06)
    body = step(edge, 1.25, 0.55)
    heart = c.between(0.38, 0.55)
    scar = step(edge + 0.16 * c.noise(7) + 0.05 * c.noise(18), heart + 0.22, heart - 0.22)
    contrast = c.between(0.3, 0.7)
    net = 0.95 - 0.5 * contrast + contrast * c.net(c.between(5.5, 7.0))
    c.melanin = body * c.between(0.35, 0.8) * net * (1 - 0.85 * scar)
    c.blood = body * c.between(0.05, 0.3) + c.between(0, 0.15) * scar
    strands = step(np.abs(c.noise(12)), 0.3, 0.0)
    c.white = (241.0, 224.0, 221.0)
    c.pale = scar * (c.between(0.4, 0.65) + 0.3 * strands)


def vascular(c: Canvas) -> None:
    """Lacunae: well demarcated round red, purple or blue-black clods, with pale septa."""
    edge = c.outline({2: 0.06, 3: 0.05, 6: c.between(0, 0.06)}, c.between(1, 1.4), 0.06)
    body = step(edge, c.between(1.06, 1.16), 0.92)
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
