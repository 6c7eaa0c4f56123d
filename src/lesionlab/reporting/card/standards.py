"""Three reporting standards as data: CLEAR Derm, CLAIM 2024 and TRIPOD+AI, item by item.

Numbers and order are the standards'; questions are in our own words and shorter, so whoever has to
fill in the official form takes it from the publication that is cited. How sure we are of each:

- TRIPOD+AI: 27 items, 52 with their sub-items (2 of them for title and abstract). Sure; the
  statement is open (CC BY 4.0) and two public renderings of its table agree.
- CLAIM: the 2024 update, 44 items; it replaces the 42 of Mongan, Moy and Kahn (Radiol. Artif.
  Intell. 2(2), e200029, 2020). Sure of numbers and topics, which several public renderings share.
- CLEAR Derm: 25 items in four groups. The groups and the number are sure. The order and the topics
  of the items are from memory of the publication, which could not be looked at; compare with it
  before citing an item by its number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal

import yaml

WHO: Mapping[str, str] = MappingProxyType(
    {
        "author": "those who trained the model",
        "collector": "those who collected the images",
        "user": "those who want to use it",
    }
)
"""Who could answer what a run cannot."""

Status = Literal["run", "part", "author", "not_known", "not_applicable"]
STATUSES: Mapping[Status, str] = {
    "run": "from the run",
    "part": "in part",
    "author": "from the author",
    "not_known": "not known",
    "not_applicable": "not applicable",
}
"""Who answers an item: the run and its data in full or in part, the author, or nobody."""


@dataclass(frozen=True)
class Item:
    """One item of a standard.

    Attributes:
        id: its number, such as "12" or "3a".
        group: the heading that it stands under.
        ask: what it asks, in our own words.
        needs: keys of the facts that answer it.
        helps: keys of facts that are told where they are known and not missed where they are not.
        lacks: what it asks beyond those facts; "" if they are all of it.
        who: who could answer it; a key of `WHO`.
    """

    id: str
    group: str
    ask: str
    needs: tuple[str, ...]
    helps: tuple[str, ...] = ()
    lacks: str = ""
    who: str = "author"


@dataclass(frozen=True)
class Standard:
    """A reporting standard.

    Attributes:
        key: its name in files: clear_derm, claim or tripod_ai.
        title: its name for people.
        citation: the publication.
        note: what a reader has to know about our rendering; "" if nothing.
        items: in order.
    """

    key: str
    title: str
    citation: str
    note: str
    items: tuple[Item, ...]


@cache
def read_data(name: str) -> dict[str, Any]:
    """One of the YAML files beside this one."""
    text = resources.files("lesionlab.reporting.card").joinpath(name).read_text("utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


@cache
def standards() -> Mapping[str, Standard]:
    """The standards by key, in the order in which a card answers them."""
    return MappingProxyType(
        {
            key: Standard(
                key,
                each["title"],
                each["citation"].strip(),
                each.get("note", ""),
                tuple(map(_item, each["items"])),
            )
            for key, each in read_data("standards.yaml").items()
        }
    )


def _item(entry: Mapping[str, Any]) -> Item:
    return Item(
        entry["id"],
        entry["group"],
        entry["ask"],
        tuple(entry["from"]),
        tuple(entry.get("helps", ())),
        entry.get("lacks", ""),
        entry.get("who", "author"),
    )
