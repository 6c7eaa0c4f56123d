"""Cleaning: missing age, sex and site by explicit policies, never from the label.

What is filled in is known of the same lesion, or comes from the training part alone. Unknown stays
unknown unless somebody asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.splits import Split
from lesionlab.display import Result
from lesionlab.errors import DataError, SettingsError
from lesionlab.progress import Listener, Notice, silent
from lesionlab.tables import lesions_of

AGE = ("keep", "median")
WORDS = ("keep", "fill", "mode")
POLICIES = {"age": AGE, "sex": WORDS, "site": WORDS}
"""What may be done about unknown values of each column; the first is the default."""

SPLIT_FILE = "split.csv"
REPORT = ("column", "policy", "unknown", "filled", "how")


@dataclass(frozen=True, repr=False)
class Cleaned(Result):
    """A new version of a catalogue, and what was changed.

    Attributes:
        data: the new catalogue; its notes say what was filled in. Images, diagnoses and lesions
            are those of the old one, and so is its fingerprint.
        split: the parts it was cleaned with, as the only fold: another fold has another training
            part, whose test images helped to fill this one.
        report: one row per column: column, policy, unknown (images before), filled, how.
    """

    _tables: ClassVar[tuple[str, ...]] = ("report",)

    data: Catalogue
    split: Split
    report: pd.DataFrame


def clean(
    data: Catalogue | str | Path,
    split: Split | str | Path,
    *,
    fold: int = 0,
    age: str = "keep",
    sex: str = "keep",
    site: str = "keep",
    seed: int = 0,
    out: str | Path | None = None,
    listen: Listener = silent,
) -> Cleaned:
    """Make a version of a catalogue in which unknown ages, sexes or sites are filled in.

    What another image of the lesion tells comes before any policy; see `clean_table`.

    Args:
        data: the catalogue, or its folder; it is not changed.
        split: its split, or the split's CSV. All figures come from the training part.
        fold: whose training part.
        age: "keep", or "median".
        sex: "keep", "fill" (drawn, by frequency), or "mode" (the most frequent).
        site: as sex.
        seed: of the draws.
        out: folder for the new catalogue.csv and its split.csv; None writes nothing.
        listen: told of what is worth knowing.

    Returns:
        The new catalogue, its split and what was changed.

    Raises:
        SettingsError: naming every policy that there is not, and why none may use the diagnosis.
        DataError: if nothing is known to fill from, or `out` is the catalogue's own folder.
        FindingsError: if the split leaks or belongs to another catalogue.
    """
    data, split = Catalogue.open(data), Split.open(split)
    split.check(data)
    if out is not None and data.home is not None and _same(Path(out), data.home):
        raise DataError(
            f"{out} holds the catalogue itself, which stays as it is. "
            "Choose another folder for the cleaned version with --out."
        )
    table, report = clean_table(
        data.table, split.parts(fold), age=age, sex=sex, site=site, seed=seed
    )
    changed = report[report["filled"] > 0]
    if changed.empty:
        listen(Notice("Nothing was filled in: no value is unknown where a policy was given."))
    said = [
        f"{row.filled} images of unknown {row.column} were given one: {row.how}."
        for row in changed.itertuples()
    ]
    made = replace(data, table=table, notes=(*data.notes, *said), home=None)
    only = split.table.drop(columns=[f"fold_{each}" for each in range(split.folds)])
    parts = replace(split, table=only.assign(fold_0=split.parts(fold).to_numpy()))
    if out is not None:
        made = made.save(out)
        parts.save(Path(out) / SPLIT_FILE)
    return Cleaned(made, parts, report)


def clean_table(
    table: pd.DataFrame,
    parts: pd.Series,
    *,
    age: str = "keep",
    sex: str = "keep",
    site: str = "keep",
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fill in unknown values of a catalogue's table.

    Age 0 is an age. An image gets what is known of another image of its lesion in the same part
    (of several the first by name); only where nothing is, what the policy says, for all images of
    the lesion alike.

    Args:
        table: columns image_id, lesion_id, age (NaN = unknown), sex and site ("" = unknown).
        parts: train, val or test, indexed by image_id.
        age: "keep" or "median".
        sex: "keep", "fill" or "mode".
        site: as sex.
        seed: of the draws.

    Returns:
        A new table, and a report with the columns `REPORT`.

    Raises:
        SettingsError: naming every wrong policy at once.
        DataError: if the training part knows no value of a column that is to be filled.
    """
    asked = {"age": age, "sex": sex, "site": site}
    if faults := [fault for name, word in asked.items() if (fault := _fault(name, word))]:
        raise SettingsError("\n".join(faults))
    train = (table["image_id"].map(parts) == "train").to_numpy()
    made, rows = table.copy(), []
    for number, (name, policy) in enumerate(asked.items()):
        unknown = (table[name].isna() | (table[name].astype(str) == "")).to_numpy()
        how = "unknown stays unknown" if unknown.any() else "nothing is unknown"
        if policy != "keep" and unknown.any():
            own = _of_siblings(table, name, unknown, table["image_id"].map(parts))
            shared = unknown & own.notna().to_numpy()
            made.loc[shared, name] = own[shared].to_numpy()
            ways = [f"{shared.sum()} from other images of their lesions"] if shared.any() else []
            rest = unknown & ~shared
            if rest.any():
                known = table[name][train & ~unknown]
                if known.empty:
                    raise DataError(
                        f"No image of the training part has a known {name}, so there is nothing "
                        f"to fill from. Leave {name} at keep."
                    )
                rng = np.random.default_rng([seed, number])
                values, way = _FILL[policy](known, lesions_of(table[rest]), rng)
                made.loc[rest, name] = values
                ways.append(way)
            how = "; the others ".join(ways)
        filled = int(unknown.sum()) if policy != "keep" else 0
        rows.append((name, policy, int(unknown.sum()), filled, how))
    return made, pd.DataFrame(rows, columns=list(REPORT))


def _fault(name: str, policy: str) -> str:
    if policy in POLICIES[name]:
        return ""
    listed = f"Take {', '.join(POLICIES[name][:-1])} or {POLICIES[name][-1]}."
    if re.search("diagnos|class|target|label|dx", policy.lower()):
        return (
            f"{name}: {policy!r} would fill in the {name} from the diagnosis. That writes the "
            "answer into the question: a network reads it off again, and of a new image nobody "
            f"knows the diagnosis. {listed}"
        )
    return f"{name}: there is no policy {policy!r}. {listed}"


def _of_siblings(
    table: pd.DataFrame, name: str, unknown: NDArray[np.bool_], parts: pd.Series
) -> pd.Series:
    """What is known of each image's lesion in its own part, on any of its images; else missing."""
    rows = table.assign(value=table[name].mask(unknown), lesion=lesions_of(table), own=parts)
    first = rows.sort_values("image_id").groupby(["own", "lesion"])["value"].first()
    index = pd.MultiIndex.from_arrays([rows["own"], rows["lesion"]])
    return pd.Series(first.reindex(index).to_numpy(), index=table.index)


def _median(known: pd.Series, _lesions: pd.Series, _rng: np.random.Generator) -> tuple[Any, str]:
    value = float(known.median())
    return value, f"{value:g}, the median of {len(known)} known ages of the training part"


def _mode(known: pd.Series, _lesions: pd.Series, _rng: np.random.Generator) -> tuple[Any, str]:
    counts = known.value_counts().sort_index()
    share = f"{counts.max()}/{len(known)}"
    return counts.idxmax(), f"{counts.idxmax()}, the most frequent of the training part ({share})"


def _draw(known: pd.Series, lesions: pd.Series, rng: np.random.Generator) -> tuple[Any, str]:
    shares = known.value_counts(normalize=True).sort_index()
    names = np.unique(lesions.to_numpy(str))
    drawn = rng.choice(shares.index.to_numpy(str), size=len(names), p=shares.to_numpy())
    value = lesions.map(dict(zip(names, drawn, strict=True))).to_numpy()
    return value, f"drawn by the frequencies of {len(known)} images of the training part"


_FILL: dict[str, Callable[[pd.Series, pd.Series, np.random.Generator], tuple[Any, str]]] = {
    "median": _median,
    "mode": _mode,
    "fill": _draw,
}


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
