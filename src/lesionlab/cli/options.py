"""Options of a command: which words of the command line belong to which of them."""

from __future__ import annotations

from argparse import Action, ArgumentParser, Namespace
from pathlib import Path
from typing import Any


class Several(Action):
    """An option of several values: each use of the flag adds to the list."""

    def __call__(
        self,
        parser: ArgumentParser,  # noqa: ARG002
        namespace: Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """Add the values of one use of the flag."""
        before = getattr(namespace, self.dest)
        fresh = before is None or before is self.default
        setattr(namespace, self.dest, [*([] if fresh else before), *values])


def one_word_each(parser: ArgumentParser, words: list[str]) -> list[str]:
    """Write every value of a list option with a flag of its own: --by=age --by=sex.

    An option of several values takes more than one word only where no positional argument can be
    meant any more: where as many as the command takes stand before it. Elsewhere it takes one
    word, which may hold several values with commas between them (not of paths and key=value pairs).
    argparse itself would give it every word up to the next flag: `serve --hosts derm.example
    mole.bundle` would take the bundle for a host, and serve another model.

    Args:
        parser: of the command.
        words: what was typed after the command.
    """
    flags = {flag: action for action in parser._actions for flag in action.option_strings}
    positional = [action for action in parser._actions if not action.option_strings]
    room = 0 if not positional else len(positional)
    if any(action.nargs in ("*", "+") for action in positional):
        room = len(words) + 1
    taken: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            return [*taken, word, *queue]
        flag, equals, value = word.partition("=")
        action = flags.get(flag)
        if action is None or not word.startswith("-"):
            room -= not word.startswith("-")
            taken.append(word)
            continue
        if not isinstance(action, Several):
            count = {None: 1}.get(action.nargs, action.nargs)  # type: ignore[arg-type]
            taken.append(word)
            if not equals and isinstance(count, int):
                taken += queue[:count]
                del queue[:count]
            continue
        values = [value] if equals else []
        while queue and not queue[0].startswith("-") and (not values or room <= 0):
            values.append(queue.pop(0))
        if not values:
            taken.append(flag)  # argparse says that it needs one
        commas = action.type is not Path and not any("=" in each for each in values)
        if commas:
            values = [part for each in values for part in each.split(",") if part]
        taken += [f"{flag}={each}" for each in values]
    return taken
