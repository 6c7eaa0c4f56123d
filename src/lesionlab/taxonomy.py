"""Classes of skin lesions: their order, full names, colours and what counts as malignant.

The seven classes and their abbreviations are those of HAM10000 (Tschandl, Rosendahl and Kittler,
Sci. Data 5:180161, 2018) and of ISIC 2018 task 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class LesionClass:
    """One diagnosis: short code, full name, a colour, and whether it is called malignant."""

    code: str
    name: str
    colour: str
    malignant: bool


# Okabe and Ito's palette, which the common colour-vision deficiencies keep apart.
_HAM7 = (
    LesionClass("akiec", "Actinic keratosis / intraepithelial carcinoma", "#E69F00", True),
    LesionClass("bcc", "Basal cell carcinoma", "#56B4E9", True),
    LesionClass("bkl", "Benign keratosis", "#009E73", False),
    LesionClass("df", "Dermatofibroma", "#A6911C", False),
    LesionClass("mel", "Melanoma", "#D55E00", True),
    LesionClass("nv", "Melanocytic nevus", "#0072B2", False),
    LesionClass("vasc", "Vascular lesion", "#CC79A7", False),
)

HAM7: tuple[str, ...] = tuple(each.code for each in _HAM7)
"""The seven classes of HAM10000, in the alphabetical order that MedMNIST uses too."""

_SCC = LesionClass("scc", "Squamous cell carcinoma", "#882255", True)
"""A class of ISIC 2019, BCN20000 and PAD-UFES-20; in HAM10000 it is part of akiec."""

KNOWN: Mapping[str, LesionClass] = MappingProxyType({each.code: each for each in (*_HAM7, _SCC)})

MALIGNANT_RULE = "malignant = mel + bcc + akiec + scc; benign = nv + bkl + df + vasc"
"""The rule that collapses seven classes to two, to be printed wherever it is used.

The ISIC Archive calls actinic keratosis "indeterminate": malignancy is a convention here.
"""


@dataclass(frozen=True)
class Grouping:
    """Another question to the same images: which class goes into which.

    Attributes:
        groups: the new class of every class that it knows; a new class goes into itself.
        rule: the same in one sentence, to be printed wherever it is used.
    """

    groups: Mapping[str, str]
    rule: str


_TWO = {each.code: "malignant" if each.malignant else "benign" for each in KNOWN.values()}

GROUPINGS: Mapping[str, Grouping] = MappingProxyType(
    {
        "malignant-benign": Grouping(
            MappingProxyType({**_TWO, "malignant": "malignant", "benign": "benign"}),
            MALIGNANT_RULE,
        )
    }
)
"""The groupings by name; a class that is not among a grouping's is refused, never guessed."""

_MALIGNANT = {name: kind == "malignant" for name, kind in _TWO.items()} | {
    "malignant": True,
    "benign": False,
}


def malignancy_of(classes: Sequence[str]) -> dict[str, bool | None]:
    """Whether each class is malignant by `MALIGNANT_RULE`; None where the rule does not know it.

    Args:
        classes: names, also as public collections spell them.
    """
    return {label: _MALIGNANT.get(canonical(label)) for label in classes}


_SPARE_COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#777777")

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "actinic keratoses and intraepithelial carcinoma": "akiec",
        "actinic keratoses": "akiec",
        "actinic keratosis": "akiec",
        "ak": "akiec",
        "basal cell carcinoma": "bcc",
        "benign keratosis": "bkl",
        "benign keratosis-like lesions": "bkl",
        "dermatofibroma": "df",
        "malignant melanoma": "mel",
        "melanoma": "mel",
        "melanocytic nevi": "nv",
        "melanocytic nevus": "nv",
        "nevi": "nv",
        "nevus": "nv",
        "squamous cell carcinoma": "scc",
        "vascular lesion": "vasc",
        "vascular lesions": "vasc",
    }
)
"""Spellings, lower case, under which public collections list the classes of `KNOWN`."""


def canonical(label: str) -> str:
    """Return the code of a label written another way, or the label itself, stripped."""
    plain = label.strip()
    key = plain.lower().replace("_", " ")
    return key if key in HAM7 else ALIASES.get(key, plain)


def order(labels: Sequence[str]) -> tuple[str, ...]:
    """Order distinct labels: HAM10000's order if all are of its classes, else alphabetical."""
    return tuple(sorted(set(labels)))


def full_name(code: str) -> str:
    """Full name of a class, or the code itself where it is not one of HAM10000's."""
    return KNOWN[code].name if code in KNOWN else code


def name_in_text(code: str) -> str:
    """Full name of a class as it stands within a sentence: melanoma, but HPV stays as it is."""
    name = full_name(code)
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def colours(classes: Sequence[str]) -> dict[str, str]:
    """A distinct hexadecimal colour per class, the same wherever the class appears."""
    spare = iter(_SPARE_COLOURS * (1 + len(classes) // len(_SPARE_COLOURS)))
    return {code: KNOWN[code].colour if code in KNOWN else next(spare) for code in classes}
