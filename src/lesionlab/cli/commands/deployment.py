"""Commands that ship a model: as a file, as a server.

Options and help come from the library function that a command names; what stands here is added.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lesionlab.advice import command as typed
from lesionlab.cli.declaration import Call, command, library
from lesionlab.cli.outcome import Outcome
from lesionlab.errors import SettingsError
from lesionlab.progress import Notice


@command(
    "deployment.export.export",
    "export runs/first --precision int8 --out mole.bundle",
    without=("predictions",),
)
def export(call: Call) -> Outcome:
    """Turn a run, or several, into one file that answers without torch: a bundle.

    It holds networks (ONNX), preprocessing, classes, temperature, conformal quantiles, thresholds,
    the rule of referral with its promise (`lesionlab triage RUN` shows what a promise costs), a
    detector of other images, class activation maps, the model card and the licence. What is fitted
    is fitted on part val, from the very graph that ships. Gates that it must pass: the same
    probabilities and maps as torch for real files, to 0.0001; in fewer bits, on 2,000 or more
    held-out pictures, 98 % of the likeliest classes, and a fall in balanced accuracy of 0.01 at
    most. A bundle that does not pass is not written.
    """
    bundle = call()
    out = Path(call.options["out"])
    gates = bundle.info["gates"]
    apart = max(member["probabilities"] for member in gates["parity"])
    lines = [f"Torch and the bundle differ by {apart:.1g} in a probability at most."]
    precision = call.options.get("precision", "")
    if precision in gates:
        lines.append(
            f"{precision} keeps "
            "{agreement:.1%} of the likeliest classes of {pictures:,} held-out pictures; "
            "balanced accuracy falls by {fall:.4f} ({fall_low:.4f} to {fall_high:.4f})."
            "".format(**gates[precision])
        )
    lines.append(bundle.referral.promise)
    if bundle.measured:
        lines.append(bundle.measured["text"])
    size = out.stat().st_size / 1e6
    following = typed("predict", "photo.jpg", model=out)
    lines.append(f"Written: {out} ({size:.1f} MB). Next: {following}")
    return Outcome(lines=lines)


@command(
    "prediction.adapt.adapt",
    "adapt mole.bundle our_clinic/ --out ours.bundle",
    without=("bundle",),
)
def adapt(call: Call, images: list[Path]) -> Outcome:
    """Calibrate a bundle again for another clinic or camera, from its images, without labels.

    Images of part val count as often as answers like theirs are given there. Conformal sets,
    temperature, thresholds and the limits of referral are fitted again so, and how common the
    classes are is estimated. No threshold and no limit becomes higher than before; the network
    stays as it is. It assumes that an answer means there what it meant in part val: where
    there are labels, check it on them.

    Args:
        images: image files, folders that are searched through, quoted patterns, or one folder that
            holds a catalogue, whose labels are not looked at; taken as they come, not selected. A
            bundle that stands first is the one to adapt; without one it is the model that comes
            with lesionlab.
    """
    from lesionlab.errors import DataError
    from lesionlab.prediction.bundle import is_bundle

    bundle = images[0] if is_bundle(images[0]) else None
    rest = images[1:] if bundle else images
    if not rest:
        raise DataError(f"Give images to adapt to behind {bundle}: files, folders or patterns.")
    made = call(bundle=bundle, images=rest)
    out = Path(call.options["out"])
    following = typed("predict", "photo.jpg", model=out)
    return Outcome(
        [("Classes, and from which probability they are in a set", made.classes)],
        [*made.legend, made.bundle.referral.promise, f"Written: {out}. Next: {following}"],
    )


@command(
    "web.server_settings.Settings",
    "serve",
    "serve mole.bundle --host 0.0.0.0 --api-keys-file keys.txt",
    without=("api_keys", "max_held", "batch_wait", "connections", "decoders"),
    extra="serve",
    warnings_last=False,
)
def serve(
    call: Call,
    bundle: Path | None = None,
    *,
    api_keys_file: Path | None = None,
    max_bytes: int = 32_000_000,
    threads: int | None = None,
    lan: bool = False,
    yes: bool = False,
) -> Outcome:
    """Answer about images over HTTP, with a page for people and an API for programs.

    Without options only this machine can connect, nobody needs a key, and nothing is kept: images
    are held in memory while they are answered. Ctrl-C or SIGTERM finishes what was accepted.
    API keys come from the variable LESIONLAB_API_KEYS or a file, never from the command line.
    `serve log` shows what --audit kept.

    Args:
        bundle: the model's file; by default the model that comes with lesionlab.
        api_keys_file: a file with a key per line, 16 characters or more.
        max_bytes: of a question's body.
        threads: of the network, and as many that decode; by default one per core.
        lan: let phones and others in the local network in, after a question; shows the address,
            also as a QR code.
        yes: answer that question with yes.
    """
    create_app = library("web.app.create_app", "serve")
    from lesionlab.web.server import Server, local_address, qr_code
    from lesionlab.web.server_settings import cores, read_keys

    network: dict[str, Any] = {}
    if lan:
        if "host" in call.options:
            raise SettingsError("--lan finds the address by itself: leave --host or --lan out.")
        host = local_address()
        if not yes and not _agreed(host):
            return Outcome(lines=["Not started: this machine stays closed."])
        network = {"host": host, "hosts": call.options.get("hosts", [host])}
    settings = call(
        **network,
        api_keys=read_keys(api_keys_file),
        max_bytes=max_bytes,
        max_held=max(8 * max_bytes, 256_000_000),
        threads=cores() if threads is None else threads,
        decoders=cores() if threads is None else threads,
    )
    app = create_app(bundle, settings)
    model = app.state.service.bundle
    if not settings.loopback and not settings.api_keys:
        call.listen(
            Notice(
                "Everybody who reaches this machine can ask: no API key is set "
                "(LESIONLAB_API_KEYS or --api-keys-file).",
                "warning",
            )
        )

    def ready(address: str) -> None:
        call.listen(
            Notice(f"{model.name} {model.version} ({model.fingerprint}) answers at {address}")
        )
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
    answer = input(
        f"Everybody in the network of {address} will be able to send images to this machine and to "
        "see the answers; what is sent is not encrypted. Start? [y/N] "
    )
    return answer.strip().lower() in ("y", "yes")


@command("", "serve log audit.sqlite --out audit.csv --days 30")
def serve_log(
    call: Call,
    path: Path,
    *,
    out: Path | None = None,
    days: int | None = None,
) -> Outcome:
    """The audit trail that `serve --audit` keeps, as a table.

    A row per image: when, a short hash of the API key, the SHA-256 of the file, the model's
    fingerprint, and the answer. A server may be writing to it meanwhile.

    Args:
        path: the SQLite file.
        out: CSV file to write all of it to.
        days: leave out what is older.
    """
    from datetime import UTC, datetime, timedelta

    from lesionlab.files import write_csv

    since = None if days is None else datetime.now(UTC) - timedelta(days=days)
    table = library("web.audit_log.trail_table", "serve")(path, since)
    if out is not None:
        write_csv(out, table)
        call.listen(Notice(f"{len(table)} rows are in {out}."))
    counts = table.groupby(["model", "predicted", "reason", "error"], sort=True).size()
    return Outcome([(f"{len(table)} answers", counts.rename("images").reset_index())])
