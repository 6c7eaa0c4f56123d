"""Start a process for every device and watch over them, with torchrun's own means."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lesionlab.errors import LesionlabError, RunError, SettingsError
from lesionlab.progress import Listener, silent
from lesionlab.training.distributed.processes import place

AGAIN = "Give the same command again: it goes on after the last finished epoch."


def to_launch(devices: int, nodes: int) -> bool:
    """Whether processes are still to be started: not under torchrun, and not for one device.

    Raises:
        SettingsError: if the numbers are below 1, or others than torchrun was given.
    """
    if devices < 1 or nodes < 1:
        raise SettingsError(f"--devices {devices} --nodes {nodes}: both are 1 or more.")
    here = place()
    if here.size == 1:
        return devices * nodes > 1
    if (devices, nodes) not in ((1, 1), (here.local_size, here.size // here.local_size)):
        raise SettingsError(
            f"--devices {devices} --nodes {nodes}, but torchrun has started {here.size} processes, "
            f"{here.local_size} of them here. Leave the two options out: torchrun's count."
        )
    return False


def launch(
    target: Callable[..., object],
    arguments: Mapping[str, Any],
    *,
    devices: int,
    nodes: int,
    listen: Listener,
) -> None:
    """Call a function in a process for every device, of which the first one tells its progress.

    One that dies takes the others with it.

    Args:
        target: of a module, takes `listen` beside the arguments.
        arguments: by name; they are pickled.
        devices: processes on this machine.
        nodes: machines. On each the same call is made, with the environment variables MASTER_ADDR
            and MASTER_PORT of the first and NODE_RANK, 0 to nodes - 1.
        listen: told what the first process tells.

    Raises:
        LesionlabError: what a process has raised.
        RunError: if one died otherwise.
    """
    reader, writer = multiprocessing.get_context("spawn").Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as errors, ThreadPoolExecutor(1) as pool:
        config = LaunchConfig(
            min_nodes=nodes,
            max_nodes=nodes,
            nproc_per_node=devices,
            run_id="lesionlab" if nodes > 1 else str(uuid.uuid4()),  # the same on all machines
            max_restarts=0,
            **_rendezvous(nodes),
        )
        passing = pool.submit(_pass_on, reader, listen)
        try:
            with _quiet():
                elastic_launch(config, _work)(target, dict(arguments), writer, Path(errors))
        except ChildFailedError as failed:
            raise _told(failed, Path(errors)) from failed
        except SignalException as stopped:
            raise KeyboardInterrupt from stopped
        finally:
            writer.close()  # nobody writes any more: the reader comes to its end
        passing.result()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch says in 20 lines of a process that died, and of a setting that is meant.

    Its C++ part warns of `find_unused_parameters`, whose reason stands in `processes.settings`.
    """
    log = logging.getLogger("torch.distributed.elastic")
    level, name = log.level, "TORCH_CPP_LOG_LEVEL"
    given = name in os.environ
    log.setLevel(logging.CRITICAL)
    os.environ.setdefault(name, "ERROR")
    try:
        yield
    finally:
        log.setLevel(level)
        if not given:
            del os.environ[name]


def _rendezvous(nodes: int) -> dict[str, Any]:
    """Where the processes find each other."""
    if nodes == 1:
        return {
            "rdzv_backend": "c10d",
            "rdzv_endpoint": "localhost:0",
            "local_addr": "127.0.0.1",
        }
    names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    if lacking := [name for name in names if name not in os.environ]:
        raise SettingsError(
            f"--nodes {nodes}: give the same command on every machine, with the environment "
            f"variable {' and '.join(lacking)} set: MASTER_ADDR and MASTER_PORT name the first "
            f"machine and a free port of it, NODE_RANK counts the machines, 0 to {nodes - 1}. "
            "Or start it with torchrun."
        )
    address, port, number = (os.environ[name] for name in names)
    return {
        "rdzv_backend": "static",
        "rdzv_endpoint": f"{address}:{port}",
        "rdzv_configs": {"rank": int(number)},
    }


def _pass_on(reader: Connection, listen: Listener) -> None:
    """Tell what comes through a pipe, until its other end is closed everywhere."""
    while True:
        try:
            event = reader.recv()
        except (EOFError, OSError):  # the second of a process that was killed while it wrote
            return
        listen(event)


def _work(
    target: Callable[..., object], arguments: dict[str, Any], writer: Connection, errors: Path
) -> None:
    """Be one of the processes."""
    here = place()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // here.local_size))
    try:
        target(**arguments, listen=writer.send if here.first else silent)
    except LesionlabError as error:
        (errors / str(here.rank)).write_bytes(pickle.dumps(error))
        raise SystemExit(2) from error


def _told(failed: ChildFailedError, errors: Path) -> LesionlabError:
    """What went wrong, as the process said it, or else how it ended."""
    for each in sorted(errors.iterdir()):
        error: LesionlabError = pickle.loads(each.read_bytes())
        return error
    rank, failure = failed.get_first_failure()
    how = str(failure.message)
    if failure.exitcode < 0:
        how = f"killed by {failure.signal_name()}"
    return RunError(f"Process {rank} ended early: {how.strip()}. {AGAIN}")
