"""Measure a server under load, over loopback, with real JPEG files.

    python tools/load.py FOLDER                       # the default model
    python tools/load.py FOLDER --bundle mole.bundle --clients 1 8 64 --seconds 20
    python tools/load.py FOLDER --requests 2000 20000 # resident memory after as many

FOLDER holds the JPEGs; one image is asked about per request. It starts `lesionlab serve` as a
process of its own, so that clients and server share this machine's cores and nothing else, and
prints, in one run:

- the time for one image in process: decode, network, calibration;
- p50, p99 and answers a second of 1, 8 and 64 clients, each of which asks again at once. A client
  that is told to come again waits for as long as it was told;
- the same with twice the rate that 64 clients reached, sent without waiting for answers: how many
  were answered, how many were told to come again, and whether anything else came back;
- resident memory of the server after so many requests, with as many clients as --memory-clients.

Nothing is averaged over runs: repeat the command for that, on a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

BOUNDARY = b"lesionlab-load"
WARM = 20  # requests before anything is measured


@dataclass
class Tally:
    """What came back.

    Attributes:
        seconds: of each request that was answered.
        statuses: how often each came back; 0: a connection that broke, -1: no Retry-After with 429.
        begun: when it began, of `time.perf_counter`.
        ended: when it ended.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    begun: float = 0.0
    ended: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.statuses[200] / max(self.ended - self.begun, 1e-9)

    def __str__(self) -> str:
        ms = sorted(1000 * each for each in self.seconds) or [float("nan")]
        p50, p99 = ms[len(ms) // 2], ms[min(len(ms) - 1, int(len(ms) * 0.99))]
        told = ", ".join(f"{status}: {n}" for status, n in sorted(self.statuses.items()))
        return f"p50 {p50:8.1f} ms   p99 {p99:8.1f} ms   {self.rate:7.1f} answers/s   {told}"


class Client:
    """A connection that is kept; a few lines, so that it costs next to nothing beside a server."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes, tally: Tally) -> int:
        """Send a request and read its answer; gives the seconds to wait before the next."""
        begun = time.perf_counter()
        if self._reader is not None and self._reader.at_eof():
            self.close()  # the server hung up while nobody asked anything
        try:
            if self._writer is None:
                opened = await asyncio.open_connection(self._host, self._port)
                self._reader, self._writer = opened
            assert self._reader is not None
            self._writer.write(request)
            await self._writer.drain()
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            length = re.search(rb"content-length: (\d+)", head)
            await self._reader.readexactly(int(length[1]) if length else 0)
        except (OSError, asyncio.IncompleteReadError):
            tally.statuses[0] += 1
            self.close()
            return 0
        status = int(head.split(b" ", 2)[1])
        if status == 200:
            tally.seconds.append(time.perf_counter() - begun)
        again = re.search(rb"retry-after: (\d+)", head)
        tally.statuses[status if status != 429 or again else -1] += 1
        return int(again[1]) if status == 429 and again else 0

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def requests_of(files: list[Path]) -> list[bytes]:
    """One whole HTTP request per file."""
    made = []
    for path in files:
        body = b"--%b\r\nContent-Disposition: form-data; " % BOUNDARY
        body += b'name="images"; filename="x.jpg"\r\n\r\n%b\r\n--%b--\r\n' % (
            path.read_bytes(),
            BOUNDARY,
        )
        head = (
            "POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


async def closed_loop(
    port: int, requests: list[bytes], clients: int, *, seconds: float = 1e9, most: int = 10**9
) -> Tally:
    """So many clients, each of which asks again as soon as it is answered."""
    tally, turn, sent = Tally(), cycle(requests), 0
    tally.begun = time.perf_counter()

    async def work() -> None:
        nonlocal sent
        client = Client("127.0.0.1", port)
        while time.perf_counter() - tally.begun < seconds and sent < most:
            sent += 1
            wait = await client.ask(next(turn), tally)
            if wait:
                await asyncio.sleep(wait)
        client.close()

    await asyncio.gather(*(work() for _ in range(clients)))
    tally.ended = time.perf_counter()
    return tally


async def open_loop(port: int, requests: list[bytes], rate: float, seconds: float) -> Tally:
    """So many requests a second, whether they are answered or not."""
    tally, turn = Tally(), cycle(requests)
    free: list[Client] = []
    tally.begun = time.perf_counter()

    async def one(request: bytes) -> None:
        client = free.pop() if free else Client("127.0.0.1", port)
        await client.ask(request, tally)
        free.append(client)

    pending = set()
    for i in range(int(rate * seconds)):
        late = tally.begun + i / rate - time.perf_counter()
        await asyncio.sleep(max(late, 0))
        task = asyncio.create_task(one(next(turn)))
        pending.add(task)
        task.add_done_callback(pending.discard)
    await asyncio.gather(*pending)
    tally.ended = time.perf_counter()
    for client in free:
        client.close()
    return tally


@contextmanager
def server(bundle: Path | None, options: list[str]) -> Iterator[tuple[int, int]]:
    """`lesionlab serve` as a process: its port and its number."""
    words = [sys.executable, "-m", "lesionlab", "serve", *([str(bundle)] if bundle else [])]
    process = subprocess.Popen(
        [*words, "--port", "0", *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line.decode()
            if found := re.search(r"answers at http://\S+:(\d+)", " ".join(said.split())):
                break
        else:
            raise SystemExit(f"The server did not start:\n{said}")
        yield int(found[1]), process.pid
    finally:
        process.terminate()
        process.communicate(timeout=60)


def resident(process: int) -> float:
    """Megabytes of memory that a process holds (Linux)."""
    text = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1000


def in_process(bundle: Path | None, files: list[Path], threads: int) -> list[float]:
    """Milliseconds per image without a server."""
    from lesionlab.prediction.predictor import Predictor

    predictor = Predictor(bundle, threads=threads)
    taken = []
    for path in files[:WARM] + files:
        content = path.read_bytes()
        begun = time.perf_counter()
        predictor.answers(predictor.read(content)[None])
        taken.append(1000 * (time.perf_counter() - begun))
    return taken[WARM:]


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of JPEG files")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--requests", type=int, nargs="*", default=[2000, 20000])
    parser.add_argument("--memory-clients", type=int, default=8)
    parser.add_argument("--threads", type=int, help="of the server and of the run in process")
    parser.add_argument("--files", type=int, default=200, help="the first so many of the folder")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    return parser.parse_args()


def main() -> None:
    """Measure, and print as it goes."""
    from lesionlab.web.server_settings import cores

    options = arguments()
    files = sorted(
        each
        for each in options.folder.rglob("*")
        if each.suffix.lower() in (".jpg", ".jpeg") and each.is_file()
    )[: options.files]
    if not files:
        raise SystemExit(f"{options.folder} holds no JPEGs.")
    threads = options.threads or cores()
    requests = requests_of(files)
    figures: dict[str, object] = {"files": len(files), "threads": threads, "cores": cores()}
    alone = statistics.median(in_process(options.bundle, files, threads))
    figures["in_process_p50_ms"] = alone
    print(f"{len(files)} files, {threads} threads. In process: p50 {alone:.1f} ms")
    with server(options.bundle, ["--threads", str(threads)]) as (port, process):
        asyncio.run(closed_loop(port, requests, 1, most=WARM))
        best = 0.0
        for clients in options.clients:
            found = asyncio.run(closed_loop(port, requests, clients, seconds=options.seconds))
            print(f"{clients:4d} clients   {found}", flush=True)
            figures[f"clients_{clients}"] = str(found)
            best = max(best, found.rate)
        double = asyncio.run(open_loop(port, requests, 2 * best, options.seconds))
        print(f"twice the load  {double}", flush=True)
        figures["twice"] = str(double)
        wrong = {status: n for status, n in double.statuses.items() if status not in (200, 429)}
        print("Only answers and 429 with Retry-After." if not wrong else f"ALSO CAME: {wrong}")
        print(f"memory after all that: {resident(process):.0f} MB")
    with server(options.bundle, ["--threads", str(threads)]) as (port, process):
        done, seen = 0, []
        for most in sorted(options.requests):
            asyncio.run(closed_loop(port, requests, options.memory_clients, most=most - done))
            done = most
            seen.append(resident(process))
            print(f"memory after {done} requests: {seen[-1]:.1f} MB", flush=True)
        if len(seen) > 1:
            print(f"last against first: {seen[-1] / seen[0] - 1:+.1%}")
        figures["memory_mb"] = dict(zip(sorted(options.requests), seen, strict=True))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
