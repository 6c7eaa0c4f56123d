"""Scores in bins, and squared gaps between what was said and what was seen, free of bias.

The plain calibration error of a bin squares a mean that is noisy, and so is too large: for a mean m
with variance v the square of the estimate is m² + v on average. Products of two images of
*different lesions* have no such term, because lesions are independent, so only those are averaged
here. It is the unbiased estimator of the squared kernel calibration error (Widmann, Lindsten
and Zachariah, NeurIPS 2019, with "same bin" for the kernel), its pairs between lesions. Where every
image is a lesion of its own it is mean² - variance / n, the idea of Kumar, Liang and Ma (NeurIPS
2019) and of Ferro and Fricker (Q. J. R. Meteorol. Soc. 138:1954-1960, 2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lesionlab.evaluation.intervals.estimate import Values
from lesionlab.numerics import ratio

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Kind = Literal["width", "mass"]


@dataclass(frozen=True, eq=False)
class Bins:
    """Images in bins of a score, within a bin in cells of one lesion each.

    Attributes:
        edges: shape (b + 1,); a bin holds what is above its lower edge, up to its upper one; the
            first holds its lower edge, too.
        index: the bin of each image, shape (n,).
        filled: numbers of the bins that hold an image, ascending, shape (f,).
        cell: the cell of each image, shape (n,).
        bin_of: which of the filled bins each cell lies in, shape (c,).
    """

    edges: Floats
    index: Index
    filled: Index
    cell: Index
    bin_of: Index


def bins_of(scores: Floats, lesions: Index, number: int, kind: Kind) -> Bins:
    """Sort images into bins.

    Args:
        scores: 0-1, shape (n,), at least one.
        lesions: numbers of the lesions, shape (n,).
        number: how many bins, 1 or more.
        kind: "width": the range 0-1 in equal steps. "mass": as many images in each, as far as
            equal scores, which stay together, allow.
    """
    steps = np.linspace(0, 1, number + 1)
    edges = steps if kind == "width" else np.quantile(scores, steps)
    index = np.searchsorted(edges[1:-1], scores, side="left")
    return sorted_into(edges, index, lesions)


def sorted_into(edges: Floats, index: Index, lesions: Index) -> Bins:
    """Bins of which the images of each are known already; see `Bins` for the shapes."""
    pairs, cell = np.unique(np.stack([index, lesions]), axis=1, return_inverse=True)
    filled, bin_of = np.unique(pairs[0], return_inverse=True)
    return Bins(edges, index, filled, cell.reshape(-1), bin_of)


def one_bin(lesions: Index) -> Bins:
    """All images in one bin."""
    return sorted_into(np.array([0.0, 1.0]), np.zeros(len(lesions), dtype=np.intp), lesions)


@dataclass(frozen=True, eq=False)
class Tally:
    """Weights added up over bins; replicates stand in columns here, so that images lie together.

    Attributes:
        bins: of the n images.
        weights: shape (n, r), or (n, 1) for all replicates.
        weight: of each bin, shape (f, r).
        pairs: twice the weight of all pairs of two lesions in each bin, shape (f, r).
    """

    bins: Bins
    weights: Floats
    weight: Floats
    pairs: Floats

    @classmethod
    def of(cls, weights: Floats, bins: Bins) -> Tally:
        """Add up weights of shape (n, r)."""
        sizes = _adding(bins.cell, np.ones(len(bins.cell))) @ weights
        over = _adding(bins.bin_of, np.ones(len(bins.bin_of)))
        weight = over @ sizes
        pairs = weight**2 - over @ sizes**2
        several = pairs > 1e-9 * weight**2  # not what rounding leaves of a single lesion
        return cls(bins, weights, weight, np.where(several, pairs, 0.0))

    def sums(self, values: Floats) -> Floats:
        """Weighted sums of values over each lesion in each bin, shape (c, r).

        Args:
            values: shape (n,), or (n, r).
        """
        if values.ndim == 1:
            found: Floats = _adding(self.bins.cell, values) @ self.weights
        else:
            found = _adding(self.bins.cell, np.ones(len(values))) @ (self.weights * values)
        return found

    def squares(self, sums: Floats) -> Values:
        """Mean over images of the squared mean of their bin, without bias, shape (r,).

        It is a mean product of two images of two lesions: with a mean of 0 about as often negative
        as positive. A bin of one lesion tells nothing of its mean's square and adds 0.

        Args:
            sums: of `sums`.
        """
        over = _adding(self.bins.bin_of, np.ones(len(sums)))
        products = (over @ sums) ** 2 - over @ sums**2
        total = (np.nan_to_num(ratio(products, self.pairs)) * self.weight).sum(axis=0)
        return ratio(total, self.weight.sum(axis=0))

    def plain(self, sums: Floats) -> Values:
        """Mean over images of the absolute mean of their bin, shape (r,): the usual ECE, too large.

        Naeini, Cooper and Hauskrecht, AAAI 2015.

        Args:
            sums: of `sums`.
        """
        total = np.abs(_adding(self.bins.bin_of, np.ones(len(sums))) @ sums).sum(axis=0)
        return ratio(total, self.weight.sum(axis=0))


def _adding(places: Index, values: Floats) -> csr_array:
    """A matrix that adds rows up by their place, each times its value; sums in the rows' order."""
    shape = (int(places.max()) + 1, len(places))
    return csr_array((values, (places, np.arange(len(places)))), shape=shape)


def root(squares: Values) -> Values:
    """Square roots; of what is negative, 0."""
    return np.sqrt(np.maximum(squares, 0.0))
