"""What the server says no to: a status, a word for programs, a sentence for people."""

from __future__ import annotations

from lesionlab.web.translations import translated


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
