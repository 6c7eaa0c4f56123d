"""What only people know of a model: the answers that an author adds to a card, as one YAML file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from lesionlab.advice import command
from lesionlab.errors import SettingsError
from lesionlab.files import write_text
from lesionlab.reporting.card.standards import WHO, Item, read_data, standards

NOT_APPLICABLE = "not applicable:"
"""An answer that begins so says why an item asks nothing of this model."""

FIELDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {name: (label, ask) for name, (label, ask) in read_data("outline.yaml")["fields"].items()}
)
"""Fields of an answers file: what each is called, and what it asks."""


@dataclass(frozen=True)
class AuthorAnswers:
    """What an author says.

    Attributes:
        fields: by a name of `FIELDS`.
        items: by the key of a standard and the number of an item.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    items: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> AuthorAnswers:
        """Read an answers file.

        Raises:
            SettingsError: naming every fault of it at once.
        """
        path = Path(path)
        if not path.is_file():
            raise SettingsError(
                f"{path} does not exist. Make one to fill in: "
                f"{command('card', 'RUN', template=path)}"
            )
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        return cls.from_dict({} if values is None else values, str(path))

    @classmethod
    def from_dict(cls, values: Any, origin: str = "the answers") -> AuthorAnswers:
        """Read answers from plain values: `fields` by name, `standards` by key and number.

        Empty text is no answer.

        Raises:
            SettingsError: naming every fault at once.
        """
        faults: list[str] = []
        top = _section(values, "", ("fields", "standards"), faults)
        named = _section(top.get("fields"), "fields", tuple(FIELDS), faults)
        given = _section(top.get("standards"), "standards", tuple(standards()), faults)
        items = {}
        for key, entries in given.items():
            ids = tuple(item.id for item in standards()[key].items)
            numbered = _section(entries, f"standards.{key}", ids, faults)
            items[key] = _texts(numbered, f"standards.{key}", faults)
        made = cls(_texts(named, "fields", faults), items)
        if faults:
            listed = "\n".join(f"  {fault}" for fault in faults)
            raise SettingsError(f"{origin} cannot be used as it is:\n{listed}", faults)
        return made


def _section(value: Any, key: str, known: Sequence[str], faults: list[str]) -> dict[str, Any]:
    """The entries of a mapping whose names are known; others are faults."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        faults.append(f"{key or 'the file'}: expects a mapping, got {value!r}")
        return {}
    made = {}
    for name, entry in value.items():
        name = str(name)
        if name in known:
            made[name] = entry
            continue
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        faults.append(f"{f'{key}.' if key else ''}{name}: no such entry{hint}")
    return made


def _texts(values: Mapping[str, Any], key: str, faults: list[str]) -> dict[str, str]:
    """The entries that say something; what is no text is a fault."""
    made = {}
    for name, value in values.items():
        if value is None:
            continue
        if not isinstance(value, str):
            faults.append(f"{key}.{name}: expects text, got {value!r}; put it in quotes")
            continue
        text = " ".join(value.split())
        if text.lower().startswith(NOT_APPLICABLE) and len(text) == len(NOT_APPLICABLE):
            faults.append(f"{key}.{name}: {text!r} does not say why")
        elif text:
            made[name] = text
    return made


def write_template(
    path: str | Path, name: str, unanswered: Mapping[str, Sequence[Item]], given: AuthorAnswers
) -> Path:
    """Write an answers file to fill in: every field, and every item that nothing answers yet.

    Args:
        path: the file; one that is there stays as it is.
        name: of the model.
        unanswered: by the key of a standard, the items to ask for.
        given: what was answered already; it is written down again.

    Returns:
        The path.

    Raises:
        SettingsError: if the file is there already.
        DataError: if it cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise SettingsError(f"{path} is there already. Choose another name: answers are precious.")
    lines = [
        f"# What only people know of {_plain(name)}, for: "
        f"{command('card', 'RUN', answers=path.name, out='card.html')}",
        "# Leave empty what you do not know: the card then says so. A field may answer items of",
        "# several standards. An answer may also read: not applicable: and why.",
        "fields:",
    ]
    for key, (_, ask) in FIELDS.items():
        lines += [f"  # {ask}", f"  {key}: {_quoted(given.fields.get(key, ''))}"]
    lines.append("standards:")
    for key, standard in standards().items():
        asked = {item.id for item in unanswered.get(key, ())} | set(given.items.get(key, {}))
        lines.append(f"  {key}:  # {standard.title}" + ("" if asked else "; nothing is open"))
        for item in standard.items:
            if item.id in asked:
                told = given.items.get(key, {}).get(item.id, "")
                lines += [
                    f"    # {item.ask} Ask {WHO[item.who]}.",
                    f"    {_quoted(item.id)}: {_quoted(told)}",
                ]
    write_text(path, "\n".join(lines) + "\n")
    return path


def _plain(text: str) -> str:
    return " ".join(text.split())


def _quoted(text: str) -> str:
    dumped: str = yaml.safe_dump(text, default_style='"', width=10_000, allow_unicode=True)
    return dumped.strip()
