"""Which pictures of a collection share patches with which: an index of all their descriptors.

Descriptors stand in cells by the signs of their first principal components; a patch asks in the
cells around its own (multi-probe hashing, Lv et al. 2007). Each like patch votes for a picture and
for how it lies; a picture is proposed where votes agree (weak geometric consistency, Jegou et al.
2008, doi:10.1007/978-3-540-88682-2_24).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lesionlab.data.audit.local_features import SIDE, Patches

Floats = NDArray[np.float32]

STRONGEST = 250
"""Patches of a picture that stand in the index: the clearest."""
_KEPT = 24  # principal components that descriptors are compared by
_PER_CELL = 40  # patches
_MOST_BITS = 18
_FREE_BITS = 4  # of those nearest to their limit, both values are asked for
_LIKE = 0.8  # least cosine of like patches
_SAMPLE = 100_000
_TURNS, _SIZES, _PLACES = 12, 0.9, 48.0  # bins: of a full turn; factors, natural log; pixels


class PatchIndex:
    """The index of a collection.

    Args:
        pictures: the patches of each.
    """

    def __init__(self, pictures: Sequence[Patches]) -> None:
        kept = [each.descriptors[:STRONGEST] for each in pictures]
        self.picture = np.repeat(np.arange(len(kept)), [len(each) for each in kept])
        self.at = np.concatenate([each.at[:STRONGEST] for each in pictures])
        self.frame = np.concatenate([each.frame[:STRONGEST] for each in pictures])
        values = np.concatenate(kept)
        sample = values[:: max(1, len(values) // _SAMPLE)].astype(np.float32)
        self._mean = sample.mean(0) if len(sample) else np.zeros(128, np.float32)
        spread = (sample - self._mean).T @ (sample - self._mean)
        self._axes = np.linalg.eigh(spread)[1][:, ::-1][:, :_KEPT].astype(np.float32)
        bits = np.log2(max(len(values), 1) / _PER_CELL)
        self._bits = int(np.clip(np.round(bits), _FREE_BITS, _MOST_BITS))
        size = 1 << 16
        parts = [self._reduced(values[k : k + size]) for k in range(0, len(values), size)]
        self.values = np.concatenate([part for part, _ in parts] or [np.zeros((0, _KEPT), "f4")])
        cells = np.concatenate([cell for _, cell in parts] or [np.zeros(0, np.int64)])
        self._order = np.argsort(cells, kind="stable").astype(np.int32)
        self._starts = np.searchsorted(cells[self._order], np.arange((1 << self._bits) + 1))
        self.values = self.values[self._order]

    def _reduced(self, descriptors: NDArray[np.uint8]) -> tuple[Floats, NDArray[np.int64]]:
        """Unit vectors of principal components, and the cell of each."""
        made = (descriptors.astype(np.float32) - self._mean) @ self._axes
        cells = (made[:, : self._bits] > 0) @ (1 << np.arange(self._bits))
        norm = np.linalg.norm(made, axis=1, keepdims=True)
        return made / np.maximum(norm, 1e-6), cells

    def votes(self, asked: Patches) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Pictures that share patches with one, and how many agree on how it lies in each."""
        values, cells = self._reduced(asked.descriptors[:STRONGEST])
        free = np.argsort(np.abs(values[:, : self._bits]), axis=1)[:, :_FREE_BITS]
        flips = (np.arange(1 << _FREE_BITS)[:, None] >> np.arange(_FREE_BITS)) & 1
        probes = (cells[:, None] ^ ((1 << free) @ flips.T)).ravel()
        low, count = self._starts[probes], self._starts[probes + 1] - self._starts[probes]
        ends = np.cumsum(count)
        place = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - count, count)
        place += np.repeat(low, count)
        query = np.repeat(np.repeat(np.arange(len(values)), 1 << _FREE_BITS), count)
        near = np.einsum("ij,ij->i", values[query], self.values[place]) >= _LIKE
        query, found = query[near], self._order[place[near]]
        turn = self.frame[found] / asked.frame[query]
        middle = SIDE * (0.5 + 0.375j)
        there = turn * (middle - asked.at[query]) + self.at[found]
        usual = np.abs(np.log(np.abs(turn))) < _SIZES
        picture, turn, there = self.picture[found][usual], turn[usual], there[usual]
        best: dict[int, int] = {}
        angle = np.angle(turn) / (2 * np.pi) * _TURNS
        for offset in (0.0, 0.5):  # what one grid divides, the other has in one bin
            bins = (
                np.floor(angle + offset).astype(np.int64) % _TURNS,
                np.floor(there.real / _PLACES + offset).astype(np.int64) & 0xFF,
                np.floor(there.imag / _PLACES + offset).astype(np.int64) & 0xFF,
            )
            key = ((picture.astype(np.int64) * _TURNS + bins[0]) << 16) | (bins[1] << 8) | bins[2]
            keys, counts = np.unique(key, return_counts=True)
            for number, votes in zip((keys >> 16) // _TURNS, counts, strict=True):
                if votes > 1 and votes > best.get(int(number), 1):
                    best[int(number)] = int(votes)
        return np.array(list(best), np.intp), np.array(list(best.values()), np.intp)
