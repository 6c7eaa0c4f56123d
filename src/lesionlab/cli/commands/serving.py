"""Verbs that answer over HTTP, and show what was answered.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from lesionlab.cli.outcome import Outcome
from lesionlab.errors import SettingsError
from lesionlab.progress import Listener, Notice


def serve(
    bundle: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_keys_file: Path | None = None,
    origins: list[str] | None = None,
    hosts: list[str] | None = None,
    max_bytes: int = 32_000_000,
    max_images: int = 32,
    max_pixels: int = 50_000_000,
    queue: int = 128,
    batch: int = 16,
    timeout: float = 30.0,
    drain: float = 1.0,
    threads: int | None = None,
    audit: Path | None = None,
    retention: int = 90,
    log_level: Literal["debug", "info", "warning", "error"] = "warning",
    lan: bool = False,
    yes: bool = False,
    listen: Listener,
) -> Outcome:
    """Answer about images over HTTP, with a page for people and an API for programs.

    Without options only this machine can connect, nobody needs a key, and nothing is kept: images
    are held in memory while they are answered. Ctrl-C or SIGTERM finishes what was accepted.
    API keys come from the variable LESIONLAB_API_KEYS or a file, never from the command line.

    Example: lesionlab serve
    Example: lesionlab serve mole.bundle --host 0.0.0.0 --api-keys-file keys.txt

    Args:
        bundle: the model's file; by default the model that comes with lesionlab.
        host: address to listen on; 0.0.0.0: every machine that reaches this one can connect.
        port: to listen on; 0 takes any that is free.
        api_keys_file: a file with a key per line, 16 characters or more.
        origins: web pages elsewhere that may ask, such as https://clinic.example.
        hosts: names that the server goes by; a question to another one is refused.
        max_bytes: of a question's body.
        max_images: of a question.
        max_pixels: of an image.
        queue: images held at once; past that, clients are told to come again.
        batch: images that go through the network at once.
        timeout: seconds for a question, from its first byte to its answer.
        drain: seconds between being told to stop and closing the door.
        threads: of the network, and as many that decode; by default one per core.
        audit: SQLite file that keeps every answer, with hashes in place of image and key.
        retention: days after which the audit trail forgets.
        log_level: of what goes to standard error; info has a line per request, with nothing of
            what was sent.
        lan: let phones and others in the local network in, after a question; shows the address,
            also as a QR code.
        yes: answer that question with yes.
    """
    try:
        from lesionlab.web.app import create_app
        from lesionlab.web.server import Server, local_address, qr_code
        from lesionlab.web.server_settings import Settings, cores, read_keys
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"This needs {error.name}, part of the serving extra: pip install 'lesionlab[serve]'"
        ) from error
    if lan:
        if host != "127.0.0.1":
            raise SettingsError("--lan finds the address by itself: leave --host or --lan out.")
        host = local_address()
        if not yes and not _agreed(host):
            return Outcome(lines=["Not started: this machine stays closed."])
        hosts = hosts or [host]
    settings = Settings(
        host=host,
        port=port,
        api_keys=read_keys(api_keys_file),
        origins=tuple(origins or ()),
        hosts=tuple(hosts or ()),
        max_bytes=max_bytes,
        max_images=max_images,
        max_pixels=max_pixels,
        max_held=max(8 * max_bytes, 256_000_000),
        queue=queue,
        batch=batch,
        timeout=timeout,
        drain=drain,
        threads=cores() if threads is None else threads,
        decoders=cores() if threads is None else threads,
        audit=audit,
        retention=retention,
        log_level=log_level,
    )
    app = create_app(bundle, settings)
    model = app.state.service.bundle
    if not settings.loopback and not settings.api_keys:
        listen(
            Notice(
                "Everybody who reaches this machine can ask: no API key is set "
                "(LESIONLAB_API_KEYS or --api-keys-file).",
                "warning",
            )
        )

    def ready(address: str) -> None:
        listen(Notice(f"{model.name} {model.version} ({model.fingerprint}) answers at {address}"))
        if lan and sys.__stderr__ and sys.__stderr__.isatty():
            sys.__stderr__.write(f"{qr_code(address)}\n")

    Server(app, settings, ready).listen()
    return Outcome(lines=["Stopped: all that was accepted is answered."])


def _agreed(address: str) -> bool:
    """Whether the user lets the local network in.

    Raises:
        SettingsError: if nobody is there to be asked.
    """
    if not sys.stdin or not sys.stdin.isatty():
        raise SettingsError("--lan asks whether others may connect. To agree from here, add --yes.")
    said = input(
        f"Everybody in the network of {address} will be able to send images to this machine and to "
        "see the answers; what is sent is not encrypted. Start? [y/N] "
    )
    return said.strip().lower() in ("y", "yes")


def trail(
    path: Path, *, out: Path | None = None, days: int | None = None, listen: Listener
) -> Outcome:
    """The audit trail that `serve --audit` keeps, as a table.

    A row per image: when, a short hash of the API key, the SHA-256 of the file, the model's
    fingerprint, and the answer. A server may be writing to it meanwhile.

    Example: lesionlab trail audit.sqlite --out audit.csv --days 30

    Args:
        path: the SQLite file.
        out: CSV file to write all of it to.
        days: leave out what is older.
    """
    from datetime import UTC, datetime, timedelta

    from lesionlab.files import write_csv
    from lesionlab.web.audit_log import trail_table

    since = None if days is None else datetime.now(UTC) - timedelta(days=days)
    table = trail_table(path, since)
    if out is not None:
        write_csv(out, table)
        listen(Notice(f"{len(table)} rows are in {out}."))
    counts = table.groupby(["model", "predicted", "reason", "error"], sort=True).size()
    shown = counts.rename("images").reset_index()
    return Outcome([(f"{len(table)} answers", shown)])
