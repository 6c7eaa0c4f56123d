"""Where a reader of a collection's figures should take care: sentences made from its numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from lesionlab.data.summary import leakage, metadata_tables
from lesionlab.data.summary.metadata_tables import UNKNOWN, has
from lesionlab.display import percent
from lesionlab.evaluation.intervals.estimate import wilson
from lesionlab.tables import count

FEW_LESIONS = 100
"""Below this many lesions a class is called small."""
_TEST = 0.2  # share of images in a usual test part
_ENOUGH = 20  # images below which a pattern is not worth a sentence
_ALL = 0.99  # share from which "nearly all" is said


def cautions(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Say what could mislead in this collection.

    Args:
        frame: from `metadata_tables.prepare`.

    Returns:
        Pairs of a few words and a sentence or two, gravest first; only what applies.
    """
    made = [
        *_lesions(frame),
        *_confirmation(frame),
        *_source(frame),
        *_small(frame),
        *_mixing(frame),
        *_unknown(frame),
        *_ages(frame),
    ]
    made.append(
        (
            "Shares are not risks",
            "These are counts of a collection. Somebody chose what to photograph, to excise and to "
            "publish, so no share here is a prevalence, and none is a chance for a patient.",
        )
    )
    return made


def _lesions(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    if not has(frame, "lesion_id"):
        yield (
            "No lesion is named",
            "Which images show the same lesion is not known. A split may put twins on two sides, "
            "and nothing here can tell.",
        )
        return
    shared = float((frame["siblings"] > 1).mean())
    if shared < 0.01:
        return
    leaked = float(leakage.by_image(frame, _TEST)["leaked"].iloc[0])
    yield (
        "Images are not independent",
        f"{percent(shared)} of the images share their lesion with another one. Of a test part "
        f"drawn image by image, {percent(leaked)} would have a sibling in training: "
        "split by lesion.",
    )


def _confirmation(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    if not has(frame, "dx_type"):
        return
    counts = metadata_tables.cross(frame, "dx_type", "target").drop(index=UNKNOWN, errors="ignore")
    told = [
        f"all {total:,} images confirmed by {kind} are {row.idxmax()}"
        if row.max() == total
        else f"{percent(row.max() / total)} of those confirmed by {kind} are {row.idxmax()}"
        for kind, row in counts.iterrows()
        if (total := int(row.sum())) >= _ENOUGH and row.max() / total >= _ALL
    ]
    by_class = counts.T
    only = [
        f"{label} ({kinds.idxmax()})"
        for label, kinds in by_class.iterrows()
        if kinds.sum() >= _ENOUGH and kinds.max() == kinds.sum()
    ]
    if only and len(by_class) > 1:
        told.append(f"some classes were confirmed in one way only: {', '.join(only)}")
    if told:
        text = "; ".join(told)
        yield (
            "dx_type gives the diagnosis away",
            f"{text[0].upper()}{text[1:]}. It is known only after the diagnosis, so it can never "
            "be a feature; lesionlab never feeds it to a model.",
        )


def _source(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    named = metadata_tables.cross(frame, "source", "target").drop(index=UNKNOWN, errors="ignore")
    if len(named) < 2:
        yield (
            "Clinics and cameras are not told apart",
            "All images carry one source name or none. Whether a model learned a camera or a "
            "clinic instead of a lesion cannot be seen in this collection: test it on another.",
        )
        return
    shares = metadata_tables.row_shares(named).to_numpy(float)
    overall = (named.sum() / named.to_numpy().sum()).to_numpy(float)
    off = np.abs(shares - overall)
    row, column = np.unravel_index(off.argmax(), off.shape)
    if off.max() >= 0.1:
        yield (
            "The source hints at the class",
            f"{percent(float(shares[row, column]))} of the images from {named.index[row]} are "
            f"{named.columns[column]}, but {percent(overall[column])} of all. A model can learn "
            "the camera instead of the lesion: look at results source by source.",
        )


def _small(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    table = metadata_tables.classes(frame)
    table = table[(table["images"] > 0) & (table["lesions"] < FEW_LESIONS)]
    if table.empty:
        return
    listed = ", ".join(
        f"{row['class']} ({row['lesions']})" for _, row in table.sort_values("lesions").iterrows()
    )
    least = table.iloc[int(table["lesions"].argmin())]
    n = max(1, round(_TEST * int(least["images"])))
    low, high = wilson(0.8, n)
    yield (
        "Small classes",
        f"Fewer than {FEW_LESIONS} lesions: {listed}. A fifth of the images of {least['class']} is "
        f"{count(n, 'image')}: of a recall of 80 % measured on them the 95 % interval would be "
        f"{100 * low:.0f} to {100 * high:.0f} %, even if each were another lesion.",
    )


def _mixing(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Where the malignant shares of the sexes differ, and what their ages have to do with it."""
    table = metadata_tables.malignancy_by_sex_and_age(frame)
    if table is None:
        return
    first, second = [name for name in table.columns if f"{name}_malignant" in table.columns][:2]
    gap = table[f"{first}_malignant"] - table[f"{second}_malignant"]
    large = (table[first] >= _ENOUGH) & (table[second] >= _ENOUGH)
    named = table["age_group"].isin(["all", UNKNOWN])
    inside = table[large & ~named].assign(gap=gap)
    if inside.empty or not large.iloc[0] or abs(gap.iloc[0]) < 0.02:
        return
    whole = table.iloc[0]
    other = inside.loc[(inside["gap"] * np.sign(gap.iloc[0])).idxmin()]
    reversed_ = other["gap"] * gap.iloc[0] < 0
    yield (
        "Groups mix other groups",
        f"Share malignant: {first} {percent(whole[f'{first}_malignant'])}, {second} "
        f"{percent(whole[f'{second}_malignant'])}; at age {other['age_group']} "
        f"{percent(other[f'{first}_malignant'])} and {percent(other[f'{second}_malignant'])}"
        f"{', the other way round' if reversed_ else ''}. Age, sex and site are mixed with one "
        "another: compare like with like before you explain a difference (Simpson's paradox).",
    )


def _unknown(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    large = frame["target"].map(frame["target"].value_counts()).astype(int) >= _ENOUGH
    table = metadata_tables.unknown_by_class(frame[large]).set_index("class").dropna()
    told = []
    for name, column in table.items():
        name = str(name).removesuffix("_unknown_share")
        if has(frame, name) and column.max() - column.min() >= 0.02:
            told.append(
                f"{name} is unknown for {percent(column.max())} of {column.idxmax()} and "
                f"{percent(column.min())} of {column.idxmin()}"
            )
    if told:
        text = "; ".join(told)
        yield (
            "What is missing is not missing at random",
            f"{text[0].upper()}{text[1:]}. Keep unknown as a value of its own, and never fill it "
            "in from the diagnosis.",
        )


def _ages(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    known = frame["age"].dropna()
    told = []
    if len(known) and (known % 5 == 0).all():
        told.append(
            "they are rounded to 5 years, which is where gaps in a fine histogram come from"
        )
        if known.max() == 85:
            told.append("none is above 85, which in the ISIC Archive means 85 or older")
    if zeros := int((known == 0).sum()):
        told.append(
            f"{count(zeros, 'image')} {'is' if zeros == 1 else 'are'} of age 0, infants and not "
            "missing values"
        )
    if told:
        text = "; ".join(told)
        yield "Ages are coarse", f"{text[0].upper()}{text[1:]}."
