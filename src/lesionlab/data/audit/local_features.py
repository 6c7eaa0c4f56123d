"""Local features: small patches of a picture that another photograph of the same skin has as well.

SIFT (Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94) finds and describes them, as RootSIFT
(Arandjelovic and Zisserman 2012). Two pictures fit if many patches of one have their like in the
other and one similarity transform (place, size, turn) takes all of them there. Photographs of two
lesions have three or four such patches by accident; two of one lesion mostly have dozens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIDE = 240
"""Longer side, in pixels, at which pictures are compared."""
MOST = 400
"""Patches of a picture, at most."""
_UNIT = 512.0  # of a RootSIFT value in uint8: they rarely exceed a half
_RATIO = 0.92  # distance to the best patch, over that to the second
_TOLERANCE = 5.0  # pixels between a patch and where the transform takes its like
_SCALE, _TURN = 0.6, 0.6  # by which a patch's own size (natural log) and angle (radians) may differ
_LEAST_SIZE = 0.4  # of one picture in the other, and its inverse
_ROUNDS = 4
_BLACK, _AROUND = 50, 25  # of 255; pixels around it that its edge reaches


@dataclass(frozen=True)
class Patches:
    """The patches of one picture, the clearest first.

    Attributes:
        at: column + 1j * row of each in pixels, shape (n,).
        frame: size * exp(1j * angle) of each, shape (n,).
        descriptors: RootSIFT in units of 1/512, shape (n, 128).
        middle: of the picture, as a place like those of the patches.
    """

    at: NDArray[np.complex64]
    frame: NDArray[np.complex64]
    descriptors: NDArray[np.uint8]
    middle: complex = SIDE * (0.5 + 0.375j)

    def __len__(self) -> int:
        return len(self.at)

    def mirrored(self) -> Patches:
        """The patches of the picture mirrored left to right, without looking at it again."""
        cells = self.descriptors.reshape(-1, 4, 4, 8)[:, ::-1]
        turned = cells[..., (-np.arange(8)) % 8]
        at = 2 * self.middle.real - self.at.conj()
        return Patches(at, -self.frame.conj(), turned.reshape(-1, 128), self.middle)


NOTHING = Patches(
    np.zeros(0, np.complex64), np.zeros(0, np.complex64), np.zeros((0, 128), np.uint8)
)
"""Of a picture without any."""


@dataclass(frozen=True)
class Fit:
    """How two pictures fit.

    Attributes:
        patches: of one that the transform takes to their like in the other.
        size: of the first picture in the other; 1: the same.
        turn: by which the first has to be turned, in degrees, clockwise.
        spread: root mean square distance of those patches from their middle, in shares of the
            longer side.
        apart: the middles of both pictures, once one lies on the other, in shares of the longer
            side.
    """

    patches: int
    size: float = 1.0
    turn: float = 0.0
    spread: float = 0.0
    apart: float = 0.0


NO_FIT = Fit(0)


def patches(pixels: NDArray[np.uint8]) -> Patches:
    """Find and describe the patches of a picture.

    Args:
        pixels: shape (height, width, 3), the longer side `SIDE`.
    """
    import cv2

    # One thread and few patches: the callers have threads of their own.
    sift = cv2.SIFT.create(nfeatures=MOST, contrastThreshold=0.02, edgeThreshold=10, sigma=1.4)
    found, described = sift.detectAndCompute(_levelled(pixels), _skin(pixels))
    if described is None or not len(found):
        return NOTHING
    order = np.argsort([-each.response for each in found], kind="stable")[:MOST]
    numbers = np.array([(*found[k].pt, found[k].size, np.deg2rad(found[k].angle)) for k in order])
    values = described[order]
    root = np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1e-6))
    return Patches(
        (numbers[:, 0] + 1j * numbers[:, 1]).astype(np.complex64),
        (numbers[:, 2] * np.exp(1j * numbers[:, 3])).astype(np.complex64),
        np.clip(root * _UNIT, 0, 255).round().astype(np.uint8),
        complex(pixels.shape[1], pixels.shape[0]) / 2,
    )


def _levelled(pixels: NDArray[np.uint8]) -> NDArray[Any]:
    """Lightness over its surroundings' and in units of their contrast: no light, no vignette."""
    import cv2

    grey = np.log(pixels.astype(np.float32) @ np.array([0.2, 0.6, 0.2], np.float32) + 16)
    above = grey - cv2.GaussianBlur(grey, (0, 0), 12)
    contrast = np.sqrt(cv2.GaussianBlur(above * above, (0, 0), 16)) + 0.02
    return np.clip(128 + 40 * above / contrast, 0, 255).astype(np.uint8)


def _skin(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """255 where patches may lie: not near a camera's black frame, which all its images have."""
    import cv2

    dark = (pixels.max(-1) < _BLACK).astype(np.uint8)
    if not np.concatenate([dark[0], dark[-1], dark[:, 0], dark[:, -1]]).any():
        return np.full(dark.shape, 255, np.uint8)
    parts = cv2.connectedComponents(dark)[1]
    edges = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    frame = (np.isin(parts, edges) & (dark > 0)).astype(np.uint8)
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_AROUND, _AROUND))
    return np.where(cv2.dilate(frame, around) > 0, 0, 255).astype(np.uint8)


def fit(one: Patches, other: Patches) -> Fit:
    """Look for the similarity transform that takes most patches of one picture to their like.

    Every matched pair of patches proposes one (each has a size and an angle); the best is refined
    by least squares. Nothing is drawn at random.
    """
    if min(len(one), len(other)) < 3:
        return NO_FIT
    mine, theirs = _matches(one.descriptors, other.descriptors)
    if len(mine) < 3:
        return NO_FIT
    z, w = one.at[mine], other.at[theirs]
    frames = other.frame[theirs] / one.frame[mine]
    sizes = np.abs(frames)
    proposed = frames[(sizes > _LEAST_SIZE) & (sizes < 1 / _LEAST_SIZE)]
    where = np.flatnonzero((sizes > _LEAST_SIZE) & (sizes < 1 / _LEAST_SIZE))
    if not len(where):
        return NO_FIT
    shifts = w[where] - proposed * z[where]
    away = np.abs(proposed[:, None] * z + shifts[:, None] - w)
    inside = (away < 3 * _TOLERANCE) & _alike(frames, proposed[:, None])
    inside = inside[inside.sum(1).argmax()]
    turn, there = np.complex64(1), other.middle
    for _ in range(_ROUNDS):
        zs, ws = z[inside], w[inside]
        centred = zs - zs.mean()
        energy = float((np.abs(centred) ** 2).sum())
        if len(zs) < 2 or energy < 1:
            return NO_FIT
        turn = ((ws - ws.mean()) * centred.conj()).sum() / energy
        if not _LEAST_SIZE < abs(turn) < 1 / _LEAST_SIZE:
            return NO_FIT
        away = np.abs(turn * (z - zs.mean()) + ws.mean() - w)
        there = turn * (one.middle - zs.mean()) + ws.mean()
        inside = (away < _TOLERANCE * max(1, abs(turn))) & _alike(frames, turn)
        if inside.sum() < 2:
            return NO_FIT
    spread = float(np.sqrt((np.abs(z[inside] - z[inside].mean()) ** 2).mean())) / SIDE
    apart = float(abs(there - other.middle)) / SIDE / max(1.0, float(abs(turn)))
    turned = float(np.rad2deg(np.angle(turn)))
    return Fit(int(inside.sum()), float(abs(turn)), turned, spread, apart)


def _alike(frames: NDArray[Any], turn: Any) -> NDArray[np.bool_]:
    ratio = frames / turn
    return np.asarray((np.abs(np.log(np.abs(ratio))) < _SCALE) & (np.abs(np.angle(ratio)) < _TURN))


def _matches(
    one: NDArray[np.uint8], other: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Patches that are each other's best, clearly better than the second best."""
    near = (one.astype(np.float32) @ other.astype(np.float32).T) / _UNIT**2
    theirs, rows = near.argmax(1), np.arange(len(near))
    best = near[rows, theirs].copy()
    mutual = near.argmax(0)[theirs] == rows
    near[rows, theirs] = -1
    apart, second = 1 - np.minimum(best, 1), 1 - near.max(1)
    good = mutual & (apart < _RATIO**2 * second)
    return np.flatnonzero(good), theirs[good]
