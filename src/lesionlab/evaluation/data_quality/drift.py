"""Drift: do two sets of images differ in what is known of them?

Two parts of a random split should not. Another clinic's images will, and how they do says what a
model will meet there. Column by column, then all columns at once: a classifier two-sample test
(Lopez-Paz and Oquab, ICLR 2017), trees that try to tell the sets apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.display import Result
from lesionlab.errors import DataError
from lesionlab.evaluation.data_quality.tabular_classifier import (
    FOLDS,
    above_half_p,
    out_of_fold,
    within_folds,
)
from lesionlab.evaluation.intervals.bootstrap import (
    Measure,
    lesion_codes,
    replicate,
    rows_per_block,
)
from lesionlab.evaluation.intervals.estimate import Estimate, estimate
from lesionlab.evaluation.intervals.p_values import holm
from lesionlab.files import write_csv
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.tables import lesions_of

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

IGNORED = ("image_id", "path", "lesion_id", "patient_id", "part", "sha256")
"""Columns that name things."""
_BINS = 10
_MOST_WORDS = 50


@dataclass(frozen=True, eq=False, repr=False)
class Drift(Result):
    """How sets of images differ.

    Attributes:
        columns: one row per pair of sets and column: first, second, column, divergence
            (Jensen-Shannon, 0 = alike, 1 = nothing in common), p, p_adjusted (Holm, over all rows),
            standardised (difference of means, second less first, over the pooled deviation;
            numbers only), first_value, second_value (means of numbers; of words the share of the
            word in `statistic`, which changes most), statistic, first_unknown, second_unknown
            (shares).
        together: first, second, auroc, low, high, p, p_adjusted, images, lesions: how well trees
            tell the two sets apart by all columns, 0.5 = not at all; p is one-sided.
        constant: columns that are the same everywhere.
    """

    _tables: ClassVar[tuple[str, ...]] = ("together", "columns")

    columns: pd.DataFrame
    together: pd.DataFrame
    constant: tuple[str, ...]

    @property
    def found(self) -> pd.DataFrame:
        """The columns that differ beyond chance (adjusted p below 0.05), most first."""
        rows = self.columns[self.columns["p_adjusted"] < 0.05]
        return rows.sort_values("divergence", ascending=False, kind="stable")

    def auroc(self, first: str, second: str) -> Estimate:
        """How well trees tell these two apart.

        Raises:
            DataError: if they were not compared.
        """
        table = self.together
        rows = table[(table["first"] == first) & (table["second"] == second)]
        if rows.empty:
            raise DataError(f"{first!r} and {second!r} were not compared.")
        row = rows.iloc[0]
        return Estimate(row["auroc"], row["low"], row["high"], row["images"], row["lesions"])

    def save(self, out: str | Path) -> Path:
        """Write the columns as CSV, and beside it what all of them say together."""
        out = Path(out)
        write_csv(out, self.columns)
        write_csv(out.with_name(f"{out.stem}_together.csv"), self.together)
        return out


def drift(
    sets: Mapping[str, pd.DataFrame],
    *,
    permutations: int = 999,
    folds: int = FOLDS,
    replicates: int = 1000,
    seed: int = 0,
    listen: Listener = silent,
) -> Drift:
    """Compare sets of images, two at a time, by every column that all of them have.

    p values are of a permutation test that moves whole lesions, so images of one lesion do not
    count as many. Numbers are compared in tenths of both sets, what is unknown as a value of its
    own.

    Args:
        sets: rows by name: a catalogue's columns, and any others; ids, paths and hashes are
            left aside.
        permutations: the least p is 1 / (permutations + 1).
        folds: of the trees, grouped by lesion; both sets need as many lesions.
        replicates: of the lesion-level bootstrap of the area.
        seed: of all draws.
        listen: told of the progress, and warned of lesions on two sides.

    Raises:
        DataError: with fewer than two sets, too few lesions, or no column that varies.

    Example:
        >>> drift({"here": data.table, "there": other.table})  # doctest: +SKIP
    """
    if len(sets) < 2:
        raise DataError("Drift is between two sets of images or more; this is one.")
    names = list(sets)
    shared = [
        str(name)
        for name in sets[names[0]].columns
        if name not in IGNORED and all(name in table.columns for table in sets.values())
    ]
    whole = pd.concat([sets[name][shared] for name in names], ignore_index=True)
    constant = tuple(name for name in shared if _words(whole[name]).nunique() < 2)
    shared = [name for name in shared if name not in constant]
    if not shared:
        raise DataError("The sets share no column that varies: there is nothing to compare.")
    for name, table in sets.items():
        if (found := lesions_of(table).nunique()) < folds:
            raise DataError(f"{name} has {found} lesions; this needs {folds} or more.")
    rows, together = [], []
    pairs = list(combinations(names, 2))
    for number, (first, second) in enumerate(pairs):
        both = pd.concat([sets[first], sets[second]], ignore_index=True)
        side = np.repeat([0, 1], [len(sets[first]), len(sets[second])]).astype(np.intp)
        lesions = _lesions(both, side, first, second, listen)
        tested = _test(both[shared], side, lesions, permutations, seed)
        for name in shared:
            told = _told(both[name], side)
            rows.append((first, second, name, *tested[name], *told))
        answers = {"all": out_of_fold(both[shared], side, lesions, folds=folds, seed=seed)}
        drawn = replicate(
            [Measure(within_folds(answers, side, (first, second)))],
            lesions.astype(str),
            replicates=replicates,
            seed=seed,
            listen=listen,
        ).values["all", ""]
        count = int(lesions.max()) + 1
        area = estimate(drawn, len(both), count)
        p = above_half_p(drawn)
        together.append((first, second, area.value, area.low, area.high, p, len(both), count))
        listen(Step("comparing sets", number + 1, len(pairs), "pairs"))
    columns = pd.DataFrame(rows, columns=_COLUMNS)
    columns.insert(5, "p_adjusted", holm(columns["p"].tolist()))
    kinds = ["first", "second", "auroc", "low", "high", "p", "images", "lesions"]
    areas = pd.DataFrame(together, columns=kinds)
    areas.insert(6, "p_adjusted", holm(areas["p"].tolist()))
    return Drift(columns, areas, constant)


_COLUMNS = [
    "first",
    "second",
    "column",
    "divergence",
    "p",
    "standardised",
    "first_value",
    "second_value",
    "statistic",
    "first_unknown",
    "second_unknown",
]


def _lesions(both: pd.DataFrame, side: Index, first: str, second: str, listen: Listener) -> Index:
    """Numbers of the lesions; one on both sides counts as two, with a warning."""
    ids = lesions_of(both).to_numpy(dtype=object)
    crossing = set(ids[side == 0]) & set(ids[side == 1])
    if crossing:
        text = (
            f"{len(crossing)} lesions are in {first} and in {second}: what looks alike there may "
            "be the same lesion."
        )
        listen(Notice(text, "warning"))
    return lesion_codes(np.array([f"{s}\0{each}" for s, each in zip(side, ids, strict=True)]))[0]


def _words(column: pd.Series) -> pd.Series:
    """A column as codes of words; unknown is a value of its own."""
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(object).where(column.notna(), "")
    return column.fillna("").astype(str)


def _binned(column: pd.Series) -> Index:
    """Every value as a bin: tenths of numbers, the commonest words; unknown is the last one."""
    if pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        known = ~np.isnan(values)
        tenths = np.arange(1, _BINS) / _BINS
        edges = np.unique(np.quantile(values[known], tenths)) if known.any() else np.empty(0)
        made = np.searchsorted(edges, values, side="left")
        return np.where(known, made, len(edges) + 1).astype(np.intp)
    words = _words(column)
    order = words[words != ""].value_counts().index[:_MOST_WORDS]
    codes = pd.Index(order).get_indexer(pd.Index(words))
    return np.where(words == "", len(order) + 1, np.where(codes < 0, len(order), codes)).astype(
        np.intp
    )


def divergence(first: Floats, second: Floats) -> Floats:
    """Jensen-Shannon divergence of two histograms in bits: 0 = alike, 1 = nothing in common.

    Lin, IEEE Trans. Inf. Theory 37:145-151, 1991.

    Args:
        first: counts, shape (bins, r).
        second: counts, shape (bins, r).

    Returns:
        Shape (r,).
    """
    p, q = first / first.sum(axis=0), second / second.sum(axis=0)
    middle = (p + q) / 2

    def against(each: Floats) -> Floats:
        out = np.ones_like(each)
        np.divide(each, middle, out=out, where=each > 0)
        sums: Floats = (each * np.log2(out)).sum(axis=0)
        return sums

    made: Floats = np.clip((against(p) + against(q)) / 2, 0.0, 1.0)
    return made


def _test(
    table: pd.DataFrame, side: Index, lesions: Index, permutations: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Divergence and its p value, by column; every column sees the same permutations."""
    from scipy import sparse

    count = int(lesions.max()) + 1
    sides = np.zeros(count)
    sides[lesions] = side
    counted = {}
    for name in table.columns:
        bins = _binned(table[name])
        shape = (int(bins.max()) + 1, count)
        counted[name] = sparse.coo_matrix((np.ones(len(bins)), (bins, lesions)), shape).tocsr()
    totals = {name: np.asarray(each.sum(axis=1)) for name, each in counted.items()}

    def of(marked: Floats) -> dict[str, Floats]:
        """Divergences where `marked` says which lesions are of the second set, (count, r)."""
        made = {}
        for name, each in counted.items():
            second = np.asarray(each @ marked)
            made[name] = divergence(totals[name] - second, second)
        return made

    seen = of(sides[:, None])
    rng = np.random.default_rng([seed, 2])
    more = dict.fromkeys(counted, 0)
    size = min(permutations, rows_per_block(count)) or 1
    for start in range(0, permutations, size):
        width = min(size, permutations - start)
        drawn = rng.permuted(np.repeat(sides[:, None], width, axis=1), axis=0)
        for name, values in of(drawn).items():
            more[name] += int((values >= seen[name][0] - 1e-12).sum())
    return {name: (float(seen[name][0]), (more[name] + 1) / (permutations + 1)) for name in counted}


def _told(column: pd.Series, side: Index) -> tuple[float, float, float, str, float, float]:
    """Standardised difference, the two values, what they are of, and shares of unknown."""
    words = _words(column)
    unknown = (float((words[side == 0] == "").mean()), float((words[side == 1] == "").mean()))
    if pd.api.types.is_numeric_dtype(column):
        sides = [column[side == i].dropna().to_numpy(float) for i in (0, 1)]
        if not all(map(len, sides)):
            return (np.nan, np.nan, np.nan, "mean", *unknown)
        means = float(sides[0].mean()), float(sides[1].mean())
        spread = float(np.sqrt((sides[0].var() + sides[1].var()) / 2))
        gap = (means[1] - means[0]) / spread if spread > 0 else np.nan
        return (gap, *means, "mean", *unknown)
    shares = [words[side == i].value_counts(normalize=True) for i in (0, 1)]
    table = pd.concat(shares, axis=1).fillna(0.0)
    change = (table.iloc[:, 1] - table.iloc[:, 0]).abs()
    most = change.sort_index().idxmax()
    first, second = float(table.loc[most].iloc[0]), float(table.loc[most].iloc[1])
    return (np.nan, first, second, str(most) or "unknown", *unknown)
