"""Live curves: the history once more, as TensorBoard's event files, where that is installed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FOLDER = "tensorboard"


class Curves:
    """Writes each epoch of a run's history to an event file in the run folder.

    There is never more than one file: a run that is taken up again writes what it has so far into
    a new one and deletes the old, so that no epoch is drawn twice. Without the tensorboard package
    nothing happens. Curves are a view of history.csv: a disk that refuses them ends no training.

    Args:
        run: the run's folder.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / FOLDER
        self._file: Path | None = None
        self._written = 0
        self._on = find_spec("tensorboard") is not None

    def __call__(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write what of a history is not written yet.

        Args:
            rows: one per epoch: `epoch` is the step, every other column a scalar of its name.
        """
        if not self._on:
            return
        try:
            if self._file is None:
                self._file = self._begin()
            self._append([_scalars(row) for row in rows[self._written :]])
            self._written = len(rows)
        except OSError:
            self._on = False

    def _begin(self) -> Path:
        from tensorboard.compat.proto import event_pb2

        self._folder.mkdir(exist_ok=True)
        old = list(self._folder.glob("events.out.tfevents.*"))
        # the name is TensorBoard's own form: it reads files in the order of their names
        path = self._folder / f"events.out.tfevents.{time.time_ns() // 1000:020d}.{os.getpid()}"
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._append_to(
            path,
            [
                event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"),
                # a TensorBoard that is open forgets what it has read of the old file
                event_pb2.Event(wall_time=time.time(), step=0, session_log=start),
            ],
        )
        for each in old:
            each.unlink(missing_ok=True)
        return path

    def _append(self, events: Sequence[Any]) -> None:
        assert self._file is not None
        self._append_to(self._file, events)

    @staticmethod
    def _append_to(path: Path, events: Sequence[Any]) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        with path.open("ab") as handle:
            writer = RecordWriter(handle)
            for event in events:
                writer.write(event.SerializeToString())


def _scalars(row: Mapping[str, float]) -> Any:
    from tensorboard.compat.proto import event_pb2, summary_pb2

    values = [
        summary_pb2.Summary.Value(tag=name, simple_value=value)
        for name, value in row.items()
        if name != "epoch"
    ]
    return event_pb2.Event(
        wall_time=time.time(), step=int(row["epoch"]), summary=summary_pb2.Summary(value=values)
    )
