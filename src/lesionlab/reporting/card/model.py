"""What a model card holds: facts, tables, and the items of reporting standards, answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lesionlab.reporting.card.author_answers import AuthorAnswers
from lesionlab.reporting.card.outline import CardTable, Fact
from lesionlab.reporting.card.standards import STATUSES, Item, Status


@dataclass(frozen=True)
class Answered:
    """One item of a standard, answered as far as it goes.

    Attributes:
        item: the item.
        status: a key of `STATUSES`.
        facts: those that answer it.
        author: what the author says to this very item; "" if nothing.
        lacking: what remains open, in a few words each.
    """

    item: Item
    status: Status
    facts: tuple[Fact, ...]
    author: str
    lacking: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class CardContent:
    """What a model card says, whatever it is written as.

    Attributes:
        name: of the run, or of the file of predictions.
        facts: every fact by key; one that is not known has an empty text.
        tables: the tables by name.
        caveats: what a reader has to bear in mind, gravest first.
        standards: the items of each standard, answered, by the standard's key.
        evaluation: of the scored part, as `Evaluation.to_json` gives it.
        given: what the author said.
    """

    name: str
    facts: Mapping[str, Fact]
    tables: Mapping[str, CardTable]
    caveats: tuple[str, ...]
    standards: Mapping[str, tuple[Answered, ...]]
    evaluation: Mapping[str, Any]
    given: AuthorAnswers

    def counts(self, key: str) -> dict[Status, int]:
        """How many items of a standard have each status.

        Args:
            key: clear_derm, claim or tripod_ai.
        """
        found = [each.status for each in self.standards[key]]
        return {status: found.count(status) for status in STATUSES}

    def unanswered(self) -> dict[str, list[Item]]:
        """The items of each standard that are not known, or known in part."""
        return {
            key: [each.item for each in answered if each.status in ("not_known", "part")]
            for key, answered in self.standards.items()
        }
