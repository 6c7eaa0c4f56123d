"""Free-text labels as classes: known spellings are read, near ones are for the user to decide."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

import pandas as pd

from lesionlab.errors import DataError
from lesionlab.taxonomy import canonical


def classes_of_labels(
    labels: pd.Series, relabel: Mapping[str, str] | None = None
) -> tuple[pd.Series, list[str]]:
    """The class of each label, and notes on spellings that became one class.

    Args:
        labels: as the source writes them; "" is no label.
        relabel: what a label is to count as; a label that is told to count as itself stays apart.

    Raises:
        DataError: if labels differ in spelling only, and nobody said what that means; some are
            lists; or `relabel` names a label that is not there.
    """
    decided = {key.strip(): value for key, value in (relabel or {}).items()}
    plain = labels.astype(str).str.strip()
    present = sorted(set(plain) - {""})
    if lists := [each for each in present if _LIST.fullmatch(each) and each not in decided]:
        raise DataError(
            f"{int(plain.isin(lists).sum()):,} labels are lists, such as {lists[0]}: lesionlab "
            "takes one diagnosis per image. Write one into a column of its own, or --relabel "
            f"{shlex.quote(lists[0])}=DIAGNOSIS."
        )
    classes = {label: decided.get(label, canonical(label)) for label in present}
    used = set(decided) & ({*present} | {*classes.values()})
    if unknown := sorted(set(decided) - used):
        raise DataError(
            f"--relabel names {', '.join(unknown)}, and the labels are {', '.join(present)}."
        )
    classes = {label: decided.get(each, each) for label, each in classes.items()}
    counts = plain.value_counts()
    near: dict[str, list[str]] = {}
    for each in sorted(set(classes.values())):
        near.setdefault(_bare(each), []).append(each)
    doubtful = []
    for group in near.values():
        open_ones = [each for each in group if each not in decided.values()]
        if len(group) > 1 and open_ones:
            kept = max(
                group,
                key=lambda each: (sum(counts[la] for la, c in classes.items() if c == each), each),
            )
            others = [each for each in group if each != kept]
            numbers = ", ".join(
                f"{each} ({sum(counts[la] for la, c in classes.items() if c == each)} images)"
                for each in group
            )
            one = " ".join(f"{each}={kept}" for each in others)
            apart = " ".join(f"{each}={each}" for each in group)
            doubtful.append(
                f"{numbers} differ in spelling only. If they are one class: --relabel {one}. If "
                f"not: --relabel {apart}."
            )
    merged: dict[str, list[str]] = {}
    for label, each in classes.items():
        merged.setdefault(each, []).append(label)
    notes = [
        f"Read as one class, {each}: {', '.join(spelled)}."
        for each, spelled in merged.items()
        if len(spelled) > 1
    ]
    renamed = [
        f"{spelled[0]} as {each}"
        for each, spelled in merged.items()
        if len(spelled) == 1 and spelled[0].casefold() != each and spelled[0] not in decided
    ]
    if renamed:
        notes.append(f"Read {', '.join(renamed)}. --relabel counts them as something else.")
    if len(counted := [each for each in merged if _NUMBER.fullmatch(each)]) > 1:
        notes.append(
            f"Labels are numbers, {', '.join(counted[:8])}: if they count something, such as "
            "votes, they are no diagnoses. --relabel NUMBER=CLASS gives them names."
        )
    if doubtful:
        raise DataError("\n".join([*doubtful, *notes]))
    return plain.map(classes).fillna(""), notes


_NUMBER = re.compile(r"\d+([.,]\d+)?")
_LIST = re.compile(r"\[.*\]|\{.*\}", re.DOTALL)


def _bare(label: str) -> str:
    """A label without case, blanks, marks and the "s" of a plural."""
    return re.sub(r"s$", "", re.sub(r"[^a-z0-9]+", "", label.casefold())) or label
