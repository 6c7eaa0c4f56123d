"""The class of a diagnosis of the ISIC Archive, by its branch and never by a word in it.

The Archive tells a diagnosis as a path of up to five levels, "Benign:Benign melanocytic
proliferations:Nevus". `isic_diagnoses.csv` beside this file gives every node of its taxonomy a
class or none; `tools/isic_taxonomy.py` keeps it up to date.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

LEGACY: Mapping[str, str] = MappingProxyType(
    {
        "actinic keratosis": "akiec",
        "angiokeratoma": "vasc",
        "angioma": "vasc",
        "basal cell carcinoma": "bcc",
        "dermatofibroma": "df",
        "lichenoid keratosis": "bkl",
        "melanoma": "mel",
        "melanoma metastasis": "mel",
        "nevus": "nv",
        "nevus spilus": "nv",
        "pigmented benign keratosis": "bkl",
        "pyogenic granuloma": "vasc",
        "seborrheic keratosis": "bkl",
        "solar lentigo": "bkl",
        "squamous cell carcinoma": "scc",
        "vascular lesion": "vasc",
    }
)
"""Classes of the words that exports before 2025 have in one column `diagnosis`, lower case."""


@cache
def nodes() -> Mapping[str, str]:
    """Every path of the taxonomy, levels joined by ":", with its class; "" is none of ours."""
    file = resources.files(__package__) / "isic_diagnoses.csv"
    with file.open(encoding="utf-8") as handle:
        return MappingProxyType({row["diagnosis"]: row["class"] for row in csv.DictReader(handle)})


@cache
def _by_lower_case() -> Mapping[str, str]:
    return {path.lower(): label for path, label in nodes().items()}


@cache
def _by_name() -> Mapping[tuple[str, str], str]:
    """Class of each name of a node below a first level; a name with two classes has none."""
    found: dict[tuple[str, str], set[str]] = {}
    for path, label in nodes().items():
        first, *below = path.lower().split(":")
        for name in below[-1:]:
            found.setdefault((first, name), set()).add(label)
    return {key: labels.pop() if len(labels) == 1 else "" for key, labels in found.items()}


def class_of(path: str) -> str:
    """The class of a diagnosis path, or "" where it is none of ours or not in the taxonomy.

    Of a path that the taxonomy lacks (other releases spell the second level otherwise), the deepest
    level that is a node's whole name under the same first level counts, else the branch above.

    Args:
        path: levels joined by ":", such as "Benign:Hemorrhagic lesions:Hemorrhage".
    """
    levels = [each.strip().lower() for each in path.split(":") if each.strip()]
    if not levels:
        return ""
    if (whole := ":".join(levels)) in _by_lower_case():
        return _by_lower_case()[whole]
    names = ((levels[0], name) for name in reversed(levels[1:]))
    return next((_by_name()[each] for each in names if each in _by_name()), "")
