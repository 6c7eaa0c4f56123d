"""Many tasks: one after the other in this process, or spread over the machines of a Ray cluster."""

from __future__ import annotations

import importlib
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lesionlab._version import __version__
from lesionlab.errors import LesionlabError, MissingExtraError, RunError, SettingsError
from lesionlab.progress import Listener, Notice, Step, silent

_Shared = TypeVar("_Shared")
_Each = TypeVar("_Each")
_Result = TypeVar("_Result")

_RETRIES = 3  # of a task whose machine went away
_LOOK_EVERY = 1.0  # seconds
_SILENT_FOR = 20.0  # seconds that the head may be silent; after a minute Ray would end this process
_AGAIN = "What is finished stays: the same command goes on with the rest."


def check(on: str, cpus: int | None = None, gpus: float = 0.0) -> None:
    """Make sure that tasks can be spread so.

    Args:
        on: "local"; "ray": the cluster that RAY_ADDRESS names or that this machine is part of, or
            else one of this machine alone; or "ray://HOST:PORT".
        cpus: processors that each task asks for.
        gpus: GPUs that each task asks for; parts of one are allowed.

    Raises:
        SettingsError: if one of them is none of these.
        MissingExtraError: if ray is not installed.
    """
    if on not in ("local", "ray") and not on.startswith("ray://"):
        raise SettingsError(f"--on takes local, ray or ray://HOST:PORT, not {on}.")
    if (cpus is not None and cpus < 1) or gpus < 0:
        raise SettingsError("--cpus is 1 or more, --gpus 0 or more.")
    if on == "local":
        if gpus:
            raise SettingsError("--gpus is what each task asks a Ray cluster for: add --on ray.")
        return
    try:
        importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise MissingExtraError.of(f"--on {on}", error, "cluster") from error


def spread(
    function: Callable[[_Shared, _Each, Listener], _Result],
    shared: _Shared,
    tasks: Sequence[_Each],
    *,
    on: str = "local",
    cpus: int | None = None,
    gpus: float = 0.0,
    look: Callable[[], None] = lambda: None,
    listen: Listener = silent,
) -> Iterator[tuple[int, _Result]]:
    """Do tasks, here in their order or on a Ray cluster side by side.

    On a cluster every machine needs this version of lesionlab and the same folders under the same
    paths; relative ones are taken from the current folder. A task whose machine goes away is done
    again on another one, so it must write whole files or go on where it was.

    Args:
        function: does a task; told `shared`, the task and a listener; of a module, as it is pickled
            by name. Of what it tells, a cluster passes warnings on, when the task is done.
        shared: what all tasks need; sent to a machine once.
        tasks: what each is given.
        on: see `check`.
        cpus: processors of each task on a cluster; by default 1.
        gpus: GPUs of each task on a cluster.
        look: called about once a second while a cluster works.
        listen: told of the progress.

    Yields:
        The place of a task and what came of it, as they are done.

    Raises:
        LesionlabError: what a task raised; no other is begun then.
        RunError: if the cluster does not answer any more, or a task failed again and again.
    """
    check(on, cpus, gpus)
    if on == "local":
        for number, each in enumerate(tasks):
            yield number, function(shared, each, listen)
        return
    ray = importlib.import_module("ray")
    with _connected(ray, on) as address:
        _tell(ray, float(cpus or 1), gpus, len(tasks), listen)
        remote = ray.remote(
            num_cpus=cpus or 1, num_gpus=gpus, max_retries=_RETRIES, scheduling_strategy="SPREAD"
        )(_task)
        sent = ray.put(shared)
        here = str(Path.cwd())
        numbers = {
            remote.remote(here, __version__, function, sent, each): number
            for number, each in enumerate(tasks)
        }
        heard = time.monotonic()
        while numbers:
            ready, _ = ray.wait(list(numbers), timeout=_LOOK_EVERY)
            for reference in ready:
                result, warnings = _result(ray, reference)
                for each in warnings:
                    listen(each)
                yield numbers.pop(reference), result
            look()
            if ready or _answers(address):
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENT_FOR:
                raise RunError(f"The Ray cluster at {address} does not answer any more. {_AGAIN}")


@contextmanager
def _connected(ray: Any, on: str) -> Iterator[str]:
    """Join the cluster, unless the caller has; gives the address of its head."""
    if ray.is_initialized():
        yield str(ray.get_runtime_context().gcs_address)
        return
    named = on if on != "ray" else os.environ.get("RAY_ADDRESS", "")
    address = named.removeprefix("ray://")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if named.startswith("127."):  # all of it is on this machine
        options["_node_ip_address"] = named.partition(":")[0]
    fault = "nobody listens" if ":" in address and not _answers(address) else ""
    if not fault:  # Ray itself would try for minutes
        try:
            ray.init(on if on != "ray" else None, **options)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            fault = str(error).strip().split("\n")[0]
    if fault:
        raise RunError(
            f"No Ray cluster answers{f' at {address}' if address else ''} ({fault}). Start one "
            "with `ray start --head`, name it with RAY_ADDRESS or --on ray://HOST:10001, or leave "
            f"--on out. {_AGAIN}"
        )
    yield address if ":" in address else str(ray.get_runtime_context().gcs_address)
    ray.shutdown()


def _tell(ray: Any, cpus: float, gpus: float, tasks: int, listen: Listener) -> None:
    """Say what the cluster has, and warn where no task could begin."""
    machines = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    have = ", ".join(
        f"{sum(each.get(key, 0) for each in machines):g} {text}"
        for key, text in (("CPU", "processors"), ("GPU", "GPUs"))
    )
    listen(Notice(f"Ray: {len(machines)} machines with {have}, for {tasks} tasks."))
    if not any(e.get("CPU", 0) >= cpus and e.get("GPU", 0) >= gpus for e in machines):
        listen(
            Notice(
                f"No machine of it has {cpus:g} processors and {gpus:g} GPUs, which each task asks "
                "for: nothing begins until one has. Ctrl-C stops; smaller --cpus and --gpus help.",
                "warning",
            )
        )


def _task(
    folder: str,
    version: str,
    function: Callable[[_Shared, _Each, Listener], _Result],
    shared: _Shared,
    each: _Each,
) -> tuple[_Result, list[Notice]]:
    """Do a task on a machine of the cluster; gives what came of it and the warnings."""
    if version != __version__:
        raise SettingsError(
            f"{platform.node()} has lesionlab {__version__}, and the command is of {version}. "
            "Install the same one on every machine of the cluster."
        )
    try:
        os.chdir(folder)
    except OSError as error:
        raise SettingsError(
            f"{platform.node()} has no folder {folder}: the machines of a cluster must see the "
            "same files under the same paths. Work in a folder that they share."
        ) from error
    warnings: list[Notice] = []

    def keep(event: Step | Notice) -> None:
        if isinstance(event, Notice) and event.level == "warning":
            warnings.append(event)

    return function(shared, each, keep), warnings


def _result(ray: Any, reference: Any) -> Any:
    """What came of a task.

    Raises:
        LesionlabError: as the task raised it.
        RunError: if it ended otherwise.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, LesionlabError):
            raise cause from None
        raise RunError(f"A task failed on the cluster: {cause!r}. {_AGAIN}") from error
    except ray.exceptions.RayError as error:  # its machine is gone, with all that tried again
        first = str(error).strip().split("\n")[0]
        raise RunError(f"A task was lost on the cluster: {first} {_AGAIN}") from error


def _answers(address: str) -> bool:
    """Whether the head of a cluster can be reached."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True
