"""What the server says: refusals, and its words in the language that a request wishes for.

The sentences are written in English where they are needed; those that the page can show have a
translation, under the English sentence with `{}` for what changes. All others stay English.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

LANGUAGES = ("en", "de", "es", "fr")
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+")


class Refusal(Exception):
    """A question that is not answered.

    Attributes:
        status: of HTTP.
        kind: a word for programs.
        message: what to do.
        headers: that go with it.
    """

    def __init__(
        self, status: int, kind: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message
        self.headers = headers or {}

    def body_in(self, language: str) -> dict[str, dict[str, str]]:
        """As it is sent, the message in a language where it is translated."""
        return {"error": {"kind": self.kind, "message": translated(self.message, language)}}


def busy(seconds: int) -> Refusal:
    """Too many questions at once; `seconds` from now there should be room."""
    said = "a second" if seconds == 1 else f"{seconds} seconds"
    return Refusal(
        429, "busy", f"Too much to do just now. Ask again in {said}.", {"Retry-After": str(seconds)}
    )


def wished(accept_language: str) -> str:
    """The language of `LANGUAGES` that a header Accept-Language ranks first; else English.

    Args:
        accept_language: such as "de-AT,de;q=0.9,en;q=0.5"; what cannot be understood is passed by.
    """
    ranked = []
    for place, part in enumerate(accept_language[:500].split(",")):
        name, _, weight = part.strip().partition(";")
        code = name.strip()[:2].lower() if re.fullmatch(r"[A-Za-z]{2}(-.*)?", name.strip()) else ""
        found = re.fullmatch(r"\s*q=([01](\.\d{0,3})?)\s*", weight) if weight else None
        quality = float(found[1]) if found else 0.0 if weight else 1.0
        if code in LANGUAGES and quality > 0:
            ranked.append((-quality, place, code))
    return min(ranked)[2] if ranked else "en"


def translated(text: str, language: str) -> str:
    """An English message in a language; as it is where it has no translation."""
    if language == "en":
        return text
    for pattern, words in _patterns():
        if found := pattern.fullmatch(text):
            return words[language].format(*map(_number, found.groups()))
    return text


def translated_answer(told: Mapping[str, Any], language: str) -> dict[str, Any]:
    """An answer about images with its reasons and faults in a language."""
    results = []
    for each in told["results"]:
        error = each["error"]
        if error is not None:
            error = {**error, "message": translated(error["message"], language)}
        reason = translated(each["reason_text"], language)
        results.append({**each, "error": error, "reason_text": reason})
    return {**told, "results": results}


@cache
def _patterns() -> list[tuple[re.Pattern[str], Mapping[str, str]]]:
    path = files("lesionlab.web") / "messages.json"
    messages = json.loads(path.read_text(encoding="utf-8"))
    return [
        (re.compile("(.+?)".join(map(re.escape, text.split("{}"))), re.DOTALL), words)
        for text, words in messages.items()
    ]


def _number(word: str) -> str:
    """A value; the thousands of a number apart, since commas are for decimals elsewhere."""
    return word.replace(",", "\u202f") if _GROUPED.fullmatch(word) else word
