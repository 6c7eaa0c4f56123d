"""What stands on the screen while a command works, and after it: bars, notices, tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lesionlab.progress import Notice, Step

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.progress import Progress

    from lesionlab.cli.outcome import Outcome


_LONGEST_NAME = 40  # characters that are kept on one line


class Screen:
    """Draws progress and notices on standard error, tables on standard output.

    Where standard error is no terminal (a log file, a batch job), no bar is drawn: what is
    finished is a line of its own, once: every epoch, every trial.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._errors: Console | None = None
        self._tasks: dict[str, Any] = {}
        self._line = ""

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, event: Step | Notice) -> None:
        """Draw an event."""
        console = self._console()
        if isinstance(event, Notice):
            style = "bold yellow" if event.level == "warning" else "dim"
            prefix = "Warning: " if event.level == "warning" else ""
            wrap = not console.is_terminal
            console.print(
                f"{prefix}{event.text}", style=style, highlight=False, markup=False, soft_wrap=wrap
            )
        elif console.is_terminal:
            self._draw(event)
        elif event.line and event.line != self._line:
            self._line = event.line
            console.print(event.line, highlight=False, markup=False, soft_wrap=True)

    def show(self, outcome: Outcome) -> None:
        """Print what a command has to show."""
        from rich.console import Console

        if outcome.text:
            print(outcome.text)
        console = Console(markup=False)
        for title, table in outcome.tables:
            _print_table(console, title, table)
        for line in outcome.lines:
            console.print(line, highlight=False, soft_wrap=True)
        for text in outcome.warnings:
            console.print(f"WARNING: {text}", style="bold yellow", highlight=False, soft_wrap=True)

    def _console(self) -> Console:
        if self._errors is None:
            from rich.console import Console

            self._errors = Console(stderr=True)
        return self._errors

    def _draw(self, event: Step) -> None:
        bars = self._bars()
        if event.task not in self._tasks:
            self._tasks[event.task] = bars.add_task(
                event.task, total=event.total, note="", count=""
            )
        task = self._tasks[event.task]
        if event.done < bars.tasks[task].completed:  # it starts over: another fold, another trial
            bars.reset(task, total=event.total)
        bars.update(
            task,
            completed=event.done,
            total=event.total,
            note=event.note,
            count=_amount(event),
        )

    def _bars(self) -> Progress:
        if self._progress is None:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
            from rich.table import Column

            whole = Column(no_wrap=True)
            self._progress = Progress(
                TextColumn("{task.description}", table_column=whole),
                BarColumn(bar_width=12),
                TextColumn("{task.fields[count]}", table_column=whole),
                TimeRemainingColumn(elapsed_when_finished=True, compact=True, table_column=whole),
                TextColumn("{task.fields[note]}", style="dim", table_column=Column(ratio=1)),
                console=self._console(),
            )
            self._progress.start()
        return self._progress


def _amount(event: Step) -> str:
    if event.unit == "bytes":
        total = f"/{event.total / 1e6:,.0f}" if event.total else ""
        return f"{event.done / 1e6:,.0f}{total} MB"
    done = f"{event.done:,.2f}" if event.done % 1 else f"{event.done:,.0f}"
    return f"{done}/{event.total:,.0f} {event.unit}" if event.total else f"{done} {event.unit}"


def _print_table(console: Console, title: str, table: pd.DataFrame) -> None:
    from rich.table import Table

    from lesionlab.display import cells, joined

    text = cells(table)
    rows = [
        [cell if isinstance(cell, str) else joined(*cell) for cell in row] for row in text["rows"]
    ]
    drawn = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for place, name in enumerate(text["head"]):
        words = place in text["words"]
        names = words and all(" " not in row[place] for row in rows)
        drawn.add_column(
            name,
            justify="left" if words else "right",
            overflow="fold",  # a name cut short could not be typed
            no_wrap=names and all(len(row[place]) <= _LONGEST_NAME for row in rows),  # nor broken
        )
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn)
