"""What can go wrong, in a few classes; every message says what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class LesionlabError(Exception):
    """Base of every error that a user can mend; the command line shows it and exits with 2."""


class DataError(LesionlabError):
    """Files or tables that cannot be read as they are."""


class FindingsError(DataError):
    """A table or folder with faults, all of them at once.

    Attributes:
        findings: one row per fault, in the columns of `lesionlab.tables.FINDINGS`.
    """

    def __init__(self, message: str, findings: pd.DataFrame) -> None:
        super().__init__(message)
        self.findings = findings

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.findings)  # from one process to another


class SettingsError(LesionlabError):
    """A recipe or an option that does not say something lesionlab can do.

    Attributes:
        faults: of a recipe, each in a line of its own; they are part of the message.
    """

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class RunError(LesionlabError):
    """A run folder that belongs to something else, or is not finished."""


class DivergenceError(RunError):
    """A training whose loss is no number any more."""


class BundleError(LesionlabError):
    """A bundle that is missing, damaged or something else, or that did not pass its gates."""


class MissingExtraError(LesionlabError, ImportError):
    """A package that is not installed, since it comes with an extra of lesionlab."""

    @classmethod
    def of(cls, what: str, error: ModuleNotFoundError, extra: str = "train") -> MissingExtraError:
        """The error in words.

        Args:
            what: needs the package.
            error: names the package.
            extra: that it is part of.
        """
        return cls(
            f"{what} needs {error.name}, part of the {extra} extra: "
            f"pip install 'lesionlab[{extra}]', or '.[{extra}]' in its source folder."
        )


class DownloadError(LesionlabError):
    """A file that could not be fetched whole and checked."""
