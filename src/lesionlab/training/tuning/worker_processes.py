"""Several processes that work on one search."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import IO

import torch

from lesionlab.errors import RunError
from lesionlab.progress import silent
from lesionlab.training.tuning.trials import Job, open_study, quiet_optuna, work

_CODE = "from lesionlab.training.tuning.worker_processes import main; main()"
_LOOK_EVERY = 0.5  # seconds


def work_in_processes(job: Job, workers: int, look: Callable[[], None]) -> None:
    """Train trials in several processes until there are enough of them or time is up.

    A worker that dies leaves its trial to the others. All of them end with this process: each
    watches the pipe through which it got its job, so nothing is left running after a kill.

    Args:
        job: what they do.
        workers: how many.
        look: called twice a second.

    Raises:
        RunError: if a worker died; what it has said last is told.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    environment = {**os.environ}
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    with ExitStack() as stack:
        started = []
        for number in range(workers):
            log = stack.enter_context((job.out / ".locks" / f"worker_{number}.log").open("w+b"))
            process = subprocess.Popen(
                [sys.executable, "-c", _CODE],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for this process to hand on
            )
            stack.callback(_end, process)
            assert process.stdin is not None
            pickle.dump((job, threads), process.stdin)
            process.stdin.flush()
            started.append((process, log))
        while any(process.poll() is None for process, _ in started):
            look()
            time.sleep(_LOOK_EVERY)
        look()
        said = [_last_line(log) for process, log in started if process.returncode]
    if said:
        raise RunError(
            f"{len(said)} of {workers} workers ended early: {said[0]} Finished trials are kept. "
            "Give the same command again: it goes on where they stopped."
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()  # its end of the pipe tells a worker to stop at once
    process.wait()


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "killed without a word (out of memory?)."


def main() -> None:
    """Be a worker: read the job from standard input and do it."""
    job, threads = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    with quiet_optuna():
        work(job, open_study(job), silent)


def _end_with_parent() -> None:
    os.read(0, 1)  # nothing more ever comes: this returns when the parent is gone
    os._exit(1)
