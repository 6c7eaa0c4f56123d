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
from lesionlab.reporting.card.standards import WHO, Item, standards

NOT_APPLICABLE = "not applicable:"
"""An answer that begins so says why an item asks nothing of this model."""

FIELDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "intended_use": ("intended use", "What is the model for?"),
        "out_of_scope": ("uses that are out of scope", "What is it not for?"),
        "users": ("users", "Who is to use it, at which step of care, knowing what?"),
        "context": ("clinical background", "Which medical question is it, answered how today?"),
        "objectives": ("aims", "What is the aim: a new model, a test of one, a feasibility study?"),
        "design": ("study design", "Was the study planned before or after the data were there?"),
        "population": (
            "people that it is meant for",
            "For which people, and are they in the data?",
        ),
        "inequalities": ("known inequalities", "Which inequalities of health are known here?"),
        "device": ("devices", "Which cameras, dermatoscopes and settings, used by whom?"),
        "artefacts": ("what disturbs the images", "Hair, ink, rulers, gel, uneven light?"),
        "setting": ("setting and centres", "Where were the images taken, at how many centres?"),
        "dates": ("dates", "From when to when were they taken?"),
        "eligibility": ("who was included", "Which cases were taken, which left out, and why?"),
        "treatments": ("treatments", "Were lesions treated before the image was taken?"),
        "skin_tone": ("skin tones", "Which skin tones are there, and how was that judged?"),
        "deidentification": ("anonymity", "How were the data made anonymous?"),
        "labelling": ("who labelled, and how", "Who gave the diagnoses, how trained, and why so?"),
        "agreement": ("agreement of those who labelled", "How far do they agree?"),
        "blinding": ("blinding", "Was the diagnosis made without sight of what the model sees?"),
        "sample_size": ("reason for the sample size", "Why this many cases?"),
        "tuning": ("search for settings", "Which settings were tried, and how were they compared?"),
        "fairness": ("what was done for fairness", "What was done so that no group is worse off?"),
        "clusters": ("differences between clinics", "How does it differ between clinics?"),
        "external": ("test on images from elsewhere", "How does it do on images from elsewhere?"),
        "unlike": ("images unlike those it knows", "What does it do with images unlike its own?"),
        "robustness": ("robustness", "How does it bear poor light, blur, other crops?"),
        "explanation": ("explanations", "How are its answers explained, and was that checked?"),
        "comparison": ("other models and physicians", "How do others do on the same images?"),
        "interpretation": ("interpretation", "What do the results mean, for fairness too?"),
        "limitations": ("limitations", "What limits them?"),
        "impact": ("effect on care", "What could it change for patients and those who treat them?"),
        "poor_input": ("poor or missing input", "What is to be done with a poor image?"),
        "next_steps": ("next steps", "What should be studied next?"),
        "ethics": ("ethics approval and consent", "Who approved it, and did people consent?"),
        "involvement": ("patients and public", "Which part did patients and the public have?"),
        "funding": ("funding", "Who paid for it, and what did they decide?"),
        "conflicts": ("conflicts of interest", "Which interests conflict?"),
        "protocol": ("protocol", "Where is it, or was there none?"),
        "registration": ("registration", "Where is the study registered, or is it not?"),
        "availability": (
            "availability",
            "Where are weights, code and data to be had, on what terms?",
        ),
        "weights_licence": ("licence of the weights", "Under which licence are the weights?"),
        "citation": ("how to cite it", "Which publication is to be cited?"),
        "contacts": ("contacts", "Whom can one ask?"),
    }
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
