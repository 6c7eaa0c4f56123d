"""Listening, and stopping without dropping anything."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from lesionlab.errors import SettingsError
from lesionlab.web.server_settings import LogLevel, Settings

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

    from lesionlab.web.service import Service

_IDLE = 15.0  # seconds that a connection may be open without a whole request's head


class Server(uvicorn.Server):
    """Serves until it is told to stop, then finishes what was accepted.

    It says that it is not ready before it closes the door, and closes on those who only hold it.

    Args:
        app: from `create_app`.
        settings: those that it was made with.
        ready: told the address once it listens.

    Raises:
        SettingsError: if the address cannot be listened on.
    """

    def __init__(
        self, app: FastAPI, settings: Settings, ready: Callable[[str], None] = lambda _: None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="warning",
                access_log=False,  # uvicorn's would name who asked; Guard's names nobody
                server_header=False,
                proxy_headers=False,
                ws="none",
                lifespan="on",
                limit_concurrency=settings.connections,
                timeout_keep_alive=int(_IDLE),
                timeout_graceful_shutdown=int(settings.timeout) + 5,
            )
        )
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # of others' bad forms
        self._service: Service = app.state.service
        self._ready = ready
        self._listener = _listener(settings)
        self._told = 0.0
        self._silent: dict[Any, float] = {}

    def listen(self) -> None:
        """Serve until SIGTERM, Ctrl-C or `stop`."""
        _allow_files(2 * self._service.settings.connections)
        _log_to_stderr(self._service.settings.log_level)
        with self._listener:
            self.run([self._listener])

    def stop(self) -> None:
        """Say no longer that it is ready, and stop soon after."""
        self._told = self._told or time.monotonic()
        self._service.draining = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if self.started:
            self._ready(_address(self._listener))

    async def on_tick(self, counter: int) -> bool:
        """Look, ten times a second, whether to stop."""
        now = time.monotonic()
        if self._told and now - self._told >= self._service.settings.drain:
            self.should_exit = True
        if counter % 10 == 0:
            self._close_silent(now)
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals that stop it; uvicorn's own would raise them again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        kinds = (signal.SIGINT, signal.SIGTERM)
        before = {kind: signal.signal(kind, self.handle_exit) for kind in kinds}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Stop; at once if Ctrl-C is pressed twice."""
        if self._told and sig == signal.SIGINT:  # asked twice by hand
            self.should_exit = self.force_exit = True
        self.stop()

    def _close_silent(self, now: float) -> None:
        """Close connections that for too long have sent nothing, or a head bit by bit."""
        connections: set[Any] = set(self.server_state.connections)
        waiting = {
            each
            for each in connections
            if getattr(each, "cycle", None) is None or each.cycle.response_complete
        }
        self._silent = {each: self._silent.get(each, now) for each in waiting}
        for each, since in self._silent.items():
            if now - since > 2 * _IDLE and not each.transport.is_closing():
                each.transport.close()


def local_address() -> str:
    """The address that this machine has in its local network.

    Raises:
        SettingsError: if it is in none, or its address is a public one.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: nobody's; a route is chosen, nothing sent
            address: str = probe.getsockname()[0]
        except OSError as error:
            raise SettingsError(
                "This machine is in no network. Join one, or name an address with --host."
            ) from error
    if not ipaddress.ip_address(address).is_private:
        raise SettingsError(
            f"{address} is a public address: all the world could ask, not the local network alone. "
            "If that is meant: --host 0.0.0.0 with --api-keys-file, behind a proxy with TLS."
        )
    return address


def qr_code(text: str) -> str:
    """A QR code for a terminal, black on white whatever its colours: a camera wants that."""
    import segno

    rows = [list(row) for row in segno.make(text, micro=False).matrix_iter(border=4)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    lines = [
        "".join(" ▀▄█"[upper + 2 * lower] for upper, lower in zip(*pair, strict=True))
        for pair in zip(rows[::2], rows[1::2], strict=True)
    ]
    return "\n".join(f"\x1b[38;5;16;48;5;231m{line}\x1b[0m" for line in lines)


def _allow_files(wanted: int) -> None:
    """Let the process have so many files open, as far as the system lets it: sockets are files."""
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _log_to_stderr(level: LogLevel) -> None:
    handler = logging.StreamHandler(sys.__stderr__)  # not what draws progress, and breaks lines
    handler.setFormatter(_InUtc("%(asctime)s %(levelname)s %(message)s"))
    for name in ("lesionlab.web", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]  # one, however often a process serves
    logging.getLogger("lesionlab.web").setLevel(level.upper())


class _InUtc(logging.Formatter):
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"
    converter = staticmethod(time.gmtime)


def _listener(settings: Settings) -> socket.socket:
    kind = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Told to be TCP, asyncio sends at once; else the end of an answer waits 40 ms for the client.
    listener = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"{settings.host}, port {settings.port}, cannot be listened on: {reason}. "
            "Choose another with --host or --port; --port 0 takes any that is free."
        ) from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
