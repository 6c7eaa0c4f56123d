"""What a server may do and how much it takes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from lesionlab.advice import command
from lesionlab.errors import SettingsError

KEYS_VARIABLE = "LESIONLAB_API_KEYS"
SHORTEST_KEY = 16
_MB = 1_000_000
LogLevel = Literal["debug", "info", "warning", "error"]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Settings:
    """How to serve.

    Attributes:
        host: address to listen on; the default answers this machine alone.
        port: 0 takes any that is free.
        api_keys: one of them must come with a question; none: everybody who can connect may ask.
        origins: web pages elsewhere that browsers may let ask, as "https://clinic.example".
        hosts: names that the server goes by; a question to another name is refused. None: those
            of this machine where it listens to this machine alone, else any.
        max_bytes: of a question's body.
        max_images: of a question.
        max_pixels: of an image, as its header tells, before anything is decoded.
        max_held: bytes of all questions held at once.
        queue: images held at once; past that, questions are answered with 429.
        batch: images that go through the network at once.
        batch_wait: seconds to wait for images that are still being decoded; none are: no wait.
        timeout: seconds from a question's first byte to its answer.
        drain: seconds between being told to stop and closing the door; /readyz says 503 meanwhile.
        connections: open at once; past that they are turned away with 503.
        threads: of the network.
        decoders: threads that decode.
        audit: SQLite file that keeps every answer; None: nothing is kept.
        retention: days after which its rows are deleted.
        index: of cases, made by `lesionlab index` with this bundle: answers show the six nearest,
            with their pictures, to everybody who may ask. None: they show none.
        drift: compare so many of the last images with what the bundle was made for, in the metrics
            and, where they drift, on the page; 0: none.
        log_level: of what goes to standard error; "info" has a line per request, "debug" also one
            per probe, and the paths that were asked for.

    Raises:
        SettingsError: with every fault.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    max_bytes: int = 32 * _MB
    max_images: int = 32
    max_pixels: int = 50_000_000
    max_held: int = 256 * _MB
    queue: int = 128
    batch: int = 16
    batch_wait: float = 0.004
    timeout: float = 30.0
    drain: float = 1.0
    connections: int = 4096
    threads: int = field(default_factory=cores)
    decoders: int = field(default_factory=cores)
    audit: Path | None = None
    retention: int = 90
    index: Path | None = None
    drift: int = 0
    log_level: LogLevel = "warning"

    def __post_init__(self) -> None:
        faults = [
            f"{each.name.replace('_', '-')} is {value!r}; it must be above 0"
            for each in fields(self)
            if each.name not in ("port", "batch_wait", "drain", "drift")
            and isinstance(value := getattr(self, each.name), int | float)
            and value <= 0
        ]
        faults += [
            f"{name} is {getattr(self, name)!r}; it must be 0 or more"
            for name in ("batch_wait", "drain", "drift")
            if getattr(self, name) < 0
        ]
        if not 0 <= self.port < 65536:
            faults.append(f"port is {self.port}; it must be from 0 to 65535")
        if self.max_images > self.queue:
            faults.append(
                f"queue is {self.queue} images, so a question of {self.max_images} would never be "
                "taken: make queue larger or max-images smaller"
            )
        if self.max_bytes > self.max_held:
            faults.append("max-held must be at least max-bytes")
        if any(len(key) < SHORTEST_KEY or not key.isascii() for key in self.api_keys):
            faults.append(
                f"an API key is shorter than {SHORTEST_KEY} characters, or not plain ASCII. "
                "`python -c 'import secrets; print(secrets.token_urlsafe(32))'` makes a good one"
            )
        faults += [
            f"origin {each!r} is not like https://clinic.example: no path, no * "
            for each in self.origins
            if not each.startswith(("http://", "https://")) or "*" in each or each.count("/") != 2
        ]
        faults += [
            f"host {each!r} is not a name like derm.example or 10.0.0.7: a file is named before "
            f"the options: {command('serve', 'mole.bundle', hosts='derm.example')}"
            for each in self.hosts
            if "/" in each or "\\" in each or not each or each.lower().endswith(".bundle")
        ]
        if faults:
            listed = "\n".join(f"- {each}" for each in faults)
            raise SettingsError(f"The server cannot run like this:\n{listed}", faults)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def known_hosts(self) -> frozenset[str]:
        """Names that a question may be addressed to, in lower case; empty: any."""
        given = {each.lower().strip("[]") for each in self.hosts}
        own = {"localhost", "127.0.0.1", "::1"}
        if given:
            return frozenset(given | own)  # of a health check on the same machine
        return frozenset(own | {self.host.lower()}) if self.loopback else frozenset()


def read_keys(
    path: Path | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """API keys of a file and of LESIONLAB_API_KEYS; never of the command line, which others see.

    Args:
        path: a key per line; empty lines and those with # in front do not count.
        environment: where the variable is looked up: keys with spaces or commas between.

    Raises:
        SettingsError: if the file cannot be read, or one of both is there and holds no key: then
            somebody meant to close the door.
    """
    keys: list[str] = []
    if path is not None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"The API keys in {path} cannot be read: {error}.") from error
        keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not keys:
            raise SettingsError(f"{path} holds no API key. Write one per line, or leave it out.")
    if KEYS_VARIABLE in environment:
        found = environment[KEYS_VARIABLE].replace(",", " ").split()
        if not found:
            raise SettingsError(
                f"{KEYS_VARIABLE} is set, but empty. Give it a key, or unset it to serve without."
            )
        keys += found
    return tuple(dict.fromkeys(keys))
