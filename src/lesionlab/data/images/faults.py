"""`ImageFault`: one image that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lesionlab.errors import DataError

if TYPE_CHECKING:
    pass


class ImageFault(DataError):
    """One image that cannot be used. `kind` is a word for tables, the text is for people."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
