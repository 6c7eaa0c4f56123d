"""Downloads against a real server on the loopback that misbehaves on demand."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import random
import re
import stat
import threading
import time
import zipfile
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from lesionlab.data.collections import http, registry, unzip
from lesionlab.data.collections.fetch import fetch
from lesionlab.data.collections.source import CC_BY_NC, RemoteFile, Source
from lesionlab.data.collections.unzip import unpack
from lesionlab.errors import DataError, DownloadError, SettingsError
from lesionlab.progress import Notice, Step, silent

SLACK = 1 << 16  # a cut may lose one piece


class Server:
    """Serves bytes by path; `plan` holds what to do with the next requests, one entry each.

    An entry is a dict: cut (bytes to send), status, headers, body (instead of the file), ranges
    (False: ignores Range), if_range (False: ignores If-Range), stall (seconds before answering).
    """

    def __init__(self):
        self.files, self.etags, self.plan, self.log = {}, {}, [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(5)

    def put(self, name, body):
        self.files[f"/{name}"] = body
        self.etags[f"/{name}"] = f'"{hashlib.md5(body).hexdigest()}"'

    def sent(self, name):
        return sum(entry["sent"] for entry in self.log if entry["path"] == f"/{name}")

    def ranges(self, name):
        return [entry["range"] for entry in self.log if entry["path"] == f"/{name}"]

    def answer(self, request):
        path = request.path.split("?")[0]
        plan = self.plan.pop(0) if self.plan else {}
        asked, condition = request.headers.get("Range"), request.headers.get("If-Range")
        entry = {"path": path, "range": asked, "if_range": condition, "sent": 0}
        self.log.append(entry)
        time.sleep(plan.get("stall", 0))
        body, etag = plan.get("body", self.files.get(path)), self.etags.get(path)
        status, headers = plan.get("status", 200 if body is not None else 404), {}
        if status != 200:
            body = plan.get("body", b"")
        else:
            if etag:
                headers["ETag"] = etag
            same = not condition or condition == etag or not plan.get("if_range", True)
            if asked and same and plan.get("ranges", True):
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                if start >= len(body):
                    status, headers["Content-Range"] = 416, f"bytes */{len(body)}"
                    body = b""
                else:
                    status = 206
                    headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                    body = body[start:]
        headers |= {"Content-Length": str(len(body))} | plan.get("headers", {})
        request.send_response(status)
        for key, value in headers.items():
            request.send_header(key, value)
        request.end_headers()
        body = body[: plan.get("cut", len(body))]
        entry["sent"] = len(body)
        with contextlib.suppress(OSError):  # whoever was interrupted hangs up
            request.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def naps(monkeypatch):
    """The waits between attempts, in seconds, none of which is waited."""
    taken = []
    monkeypatch.setattr(http, "sleep", taken.append)
    return taken


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


def zipped(members):
    """A zip with dates of 1980, so that equal members give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, body in members.items():
            archive.writestr(zipfile.ZipInfo(name), body, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


IMAGES = {f"ISIC_{number:07}.jpg": noise(30_000, number) for number in range(8)}
TABLE = b"lesion_id,image_id,dx\nHAM_1,ISIC_0000000,nv\n"
BIG = noise(400_000, 99)


@pytest.fixture
def known(server, monkeypatch):
    """`known(bodies)` serves the files and makes them the one known collection, "toy"."""

    def make(bodies, /, *, checked=True, **changes):
        remote = []
        for name, body in bodies.items():
            server.put(name, body)
            md5 = hashlib.md5(body).hexdigest() if checked else None
            remote.append(
                RemoteFile(name, f"{server.url}/{name}", md5, unpack=name.endswith(".zip"))
            )
        source = Source(
            key="toy",
            title="Toy",
            homepage="https://example.org/toy",
            licence=CC_BY_NC,
            attribution="The toymakers",
            citation="Toy et al. 2020",
            files=tuple(remote),
            layout="ham10000",
        )
        source = replace(source, **changes)
        monkeypatch.setattr(registry, "SOURCES", {"toy": source})
        return source

    return make


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*"))


def records(folder):
    return json.loads((folder / "downloads.json").read_text())["files"]


# the whole way


def test_fetch_lays_a_collection_out(known, server, tmp_path):
    images, masks = zipped(IMAGES), zipped({"masks/": b"", "masks/a.png": b"a", "__MACOSX/x": b""})
    known({"metadata.csv": TABLE, "images_1.zip": images, "masks.zip": masks})
    events = []
    folder = fetch("toy", tmp_path / "new" / "toy", listen=events.append)
    assert folder == tmp_path / "new" / "toy"
    assert listing(folder) == sorted(
        [
            "LICENSE-CC-BY-NC-4.0.txt",
            "attribution.txt",
            "downloads.json",
            "images_1",
            *(f"images_1/{name}" for name in IMAGES),
            "masks",
            "masks/a.png",
            "metadata.csv",
        ]
    )
    assert {name: (folder / "images_1" / name).read_bytes() for name in IMAGES} == IMAGES
    assert (folder / "metadata.csv").read_bytes() == TABLE
    thanks = (folder / "attribution.txt").read_text()
    for words in ("The toymakers", "Toy et al. 2020", "https://example.org/toy"):
        assert words in thanks
    licence = (folder / "LICENSE-CC-BY-NC-4.0.txt").read_text()
    assert "https://creativecommons.org/licenses/by-nc/4.0/" in licence
    entry = records(folder)["images_1.zip"]
    assert entry["sha256"] == hashlib.sha256(images).hexdigest()
    assert entry["unpacked"]["files"] == len(IMAGES)
    steps = [event for event in events if isinstance(event, Step)]
    last = {step.task: step for step in steps}
    assert last["fetch images_1.zip"].done == last["fetch images_1.zip"].total == len(images)
    assert last["unpack images_1.zip"].done == sum(map(len, IMAGES.values()))
    assert {step.unit for step in steps} == {"bytes"}


def test_a_second_call_asks_nobody(known, server, tmp_path):
    known({"metadata.csv": TABLE, "images.zip": zipped(IMAGES)})
    fetch("toy", tmp_path)
    before, count = listing(tmp_path), len(server.log)
    stamps = {name: (tmp_path / name).stat().st_mtime_ns for name in before}
    events = []
    fetch("toy", tmp_path, listen=events.append)
    assert len(server.log) == count == 2
    assert any("already complete" in event.text for event in events if isinstance(event, Notice))
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in listing(tmp_path)} == stamps


def test_a_lost_image_brings_its_archive_again_and_nothing_else(known, server, tmp_path):
    known({"metadata.csv": TABLE, "images.zip": zipped(IMAGES)})
    fetch("toy", tmp_path)
    (tmp_path / "images" / "ISIC_0000003.jpg").unlink()
    server.log.clear()
    fetch("toy", tmp_path)
    assert [entry["path"] for entry in server.log] == ["/images.zip"]
    assert (tmp_path / "images" / "ISIC_0000003.jpg").read_bytes() == IMAGES["ISIC_0000003.jpg"]


@pytest.mark.parametrize("change", ["shorter", "fewer"])
def test_a_damaged_folder_is_not_complete(known, server, tmp_path, change):
    known({"images.zip": zipped(IMAGES)})
    fetch("toy", tmp_path)
    if change == "shorter":
        (tmp_path / "images" / "ISIC_0000003.jpg").write_bytes(b"short")
    else:  # one gone, another so much longer that the bytes add up
        (tmp_path / "images" / "ISIC_0000003.jpg").unlink()
        (tmp_path / "images" / "ISIC_0000004.jpg").write_bytes(bytes(60_000))
    fetch("toy", tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()} == IMAGES


def test_a_new_version_is_fetched_again(known, server, tmp_path):
    known({"images.zip": zipped(IMAGES)})
    fetch("toy", tmp_path)
    known({"images.zip": zipped(IMAGES | {"new.jpg": b"new"})})
    fetch("toy", tmp_path)
    assert (tmp_path / "images" / "new.jpg").read_bytes() == b"new"


def test_archives_can_be_kept(known, server, tmp_path):
    known({"images.zip": zipped(IMAGES)})
    fetch("toy", tmp_path, keep_archives=True)
    assert (tmp_path / "images.zip").read_bytes() == zipped(IMAGES)
    assert (tmp_path / "images").is_dir()


def test_single_files_and_optional_files(known, server, tmp_path):
    source = known({"a.csv": b"a", "b.csv": b"b", "c.csv": b"c"})
    known({}, files=(*source.files[:2], replace(source.files[2], optional=True)))
    fetch("toy", tmp_path / "all")
    assert {"a.csv", "b.csv"} <= set(listing(tmp_path / "all"))
    assert "c.csv" not in listing(tmp_path / "all")
    fetch("toy", tmp_path / "one", files=["c.csv"])
    assert [name for name in listing(tmp_path / "one") if name.endswith(".csv")] == ["c.csv"]


def test_two_collections_in_one_folder_are_both_thanked(known, server, tmp_path, monkeypatch):
    first = known({"a.csv": b"a"})
    fetch("toy", tmp_path)
    second = known({"b.csv": b"b"}, key="other", attribution="The others")
    monkeypatch.setattr(registry, "SOURCES", {"toy": first, "other": second})
    fetch("other", tmp_path)
    thanks = (tmp_path / "attribution.txt").read_text()
    assert "The toymakers" in thanks
    assert "The others" in thanks
    assert set(records(tmp_path)) == {"a.csv", "b.csv"}


def test_a_mirror_replaces_the_address_and_nothing_else_is_asked(known, server, tmp_path):
    source = known({"a.csv": b"a"}, checked=False)
    gone = replace(source.files[0], url="http://nowhere.invalid/x/y?z=1", dataverse_id=7)
    known({}, files=(gone,), checksums="http://nowhere.invalid/list")
    server.put("deep/er/a.csv", b"mirrored")
    events = []
    fetch("toy", tmp_path, base_url=f"{server.url}/deep/er/", listen=events.append)
    assert "warning" not in [getattr(event, "level", "") for event in events]
    assert (tmp_path / "a.csv").read_bytes() == b"mirrored"
    assert [entry["path"] for entry in server.log] == ["/deep/er/a.csv"]


# cuts and resumption


def test_cut_again_and_again_it_transfers_each_byte_once(known, server, tmp_path):
    known({"big.npz": BIG})
    server.plan = [{"cut": 100_000}, {"cut": 100_000}, {"cut": 100_000}]
    fetch("toy", tmp_path, retries=1)  # three cuts, but each attempt brings something new
    assert (tmp_path / "big.npz").read_bytes() == BIG
    starts = [int(text[6:-1]) for text in server.ranges("big.npz")[1:]]
    assert server.ranges("big.npz")[0] is None
    assert starts == sorted(set(starts))
    assert starts[0] > 0
    assert server.sent("big.npz") <= len(BIG) + 3 * SLACK
    assert not list(tmp_path.glob("*.part*"))


def test_a_later_call_asks_for_the_rest_only(known, server, tmp_path):
    known({"big.npz": BIG})
    server.plan = [{"cut": 250_000}]
    with pytest.raises(DownloadError, match=r"connection was cut.*bytes are kept"):
        fetch("toy", tmp_path, retries=0)
    assert not (tmp_path / "big.npz").exists()
    kept = (tmp_path / "big.npz.part").read_bytes()
    assert 250_000 - SLACK <= len(kept) <= 250_000
    assert kept == BIG[: len(kept)]
    server.log.clear()
    fetch("toy", tmp_path)
    assert (tmp_path / "big.npz").read_bytes() == BIG
    assert server.ranges("big.npz") == [f"bytes={len(kept)}-"]
    assert server.log[0]["if_range"] == server.etags["/big.npz"]
    assert server.sent("big.npz") == len(BIG) - len(kept)


def test_waits_grow_and_end(known, server, tmp_path, naps):
    known({"big.npz": BIG})
    server.plan = [{"cut": 100_000, "ranges": False} for _ in range(9)]
    with pytest.raises(DownloadError, match="5 times in a row"):
        fetch("toy", tmp_path, retries=4)
    assert len(server.log) == 5
    assert len(naps) == 4
    for exponent, nap in enumerate(naps):
        assert 2**exponent < nap <= 1.5 * 2**exponent  # more: the jitter
    assert len(set(naps)) == 4
    assert (tmp_path / "big.npz.part").exists()
    assert not (tmp_path / "big.npz").exists()


def test_a_server_without_ranges_starts_over(known, server, tmp_path):
    known({"big.npz": BIG})
    server.plan = [{"cut": 100_000, "ranges": False}, {"ranges": False}]
    fetch("toy", tmp_path)
    assert server.ranges("big.npz")[1] is not None
    assert (tmp_path / "big.npz").read_bytes() == BIG
    assert server.sent("big.npz") == 100_000 + len(BIG)


def test_a_file_that_changed_between_attempts_is_not_mixed(known, server, tmp_path):
    known({"big.npz": BIG}, checked=False)
    server.plan = [{"cut": 250_000}]
    with pytest.raises(DownloadError):
        fetch("toy", tmp_path, retries=0)
    server.put("big.npz", noise(350_000, 5))
    fetch("toy", tmp_path)
    assert server.log[-1]["range"] is not None  # it did try to resume
    assert (tmp_path / "big.npz").read_bytes() == noise(350_000, 5)


def test_a_part_from_one_address_is_not_resumed_at_another(known, server, tmp_path):
    known({"big.npz": BIG}, checked=False)
    server.plan = [{"cut": 250_000}]
    with pytest.raises(DownloadError):
        fetch("toy", tmp_path, retries=0)
    server.put("mirror/big.npz", noise(len(BIG), 8))
    server.etags["/mirror/big.npz"] = server.etags["/big.npz"]
    fetch("toy", tmp_path, base_url=f"{server.url}/mirror")
    assert server.ranges("mirror/big.npz") == [None]
    assert (tmp_path / "big.npz").read_bytes() == noise(len(BIG), 8)


def test_without_checksum_and_etag_nothing_is_resumed(known, server, tmp_path):
    known({"big.npz": BIG}, checked=False)
    server.etags.clear()
    server.plan = [{"cut": 250_000}]
    fetch("toy", tmp_path)
    assert server.ranges("big.npz") == [None, None]
    assert (tmp_path / "big.npz").read_bytes() == BIG


def test_a_mixture_is_caught_by_its_checksum(known, server, tmp_path):
    known({"big.npz": BIG})
    server.plan = [{"cut": 250_000, "body": noise(len(BIG), 3)}, {"if_range": False}]
    events = []
    fetch("toy", tmp_path, listen=events.append)
    assert server.ranges("big.npz")[1] is not None
    assert server.ranges("big.npz")[2] is None
    assert (tmp_path / "big.npz").read_bytes() == BIG
    assert any("wrong checksum" in event.text for event in events if isinstance(event, Notice))


@pytest.mark.parametrize("checked", [True, False])
def test_a_part_that_is_whole_is_done(known, server, tmp_path, checked):
    known({"big.npz": BIG}, checked=checked)
    (tmp_path / "big.npz.part").write_bytes(BIG)
    side = {"url": f"{server.url}/big.npz", "validator": server.etags["/big.npz"]}
    (tmp_path / "big.npz.part.json").write_text(json.dumps(side))
    fetch("toy", tmp_path)
    assert server.sent("big.npz") == 0
    assert (tmp_path / "big.npz").read_bytes() == BIG
    assert not list(tmp_path.glob("*.part*"))


def test_a_part_that_is_too_long_starts_over(known, server, tmp_path):
    known({"big.npz": BIG})
    (tmp_path / "big.npz.part").write_bytes(BIG + b"more")
    fetch("toy", tmp_path)
    assert server.ranges("big.npz") == [f"bytes={len(BIG) + 4}-", None]
    assert (tmp_path / "big.npz").read_bytes() == BIG


def test_a_resumption_at_the_wrong_place_starts_over(known, server, tmp_path):
    known({"big.npz": BIG})
    wrong = {"Content-Range": f"bytes 7-{len(BIG) - 1}/{len(BIG)}"}
    server.plan = [{"cut": 200_000}, {"headers": wrong}]
    fetch("toy", tmp_path)
    assert server.ranges("big.npz")[2] is None
    assert (tmp_path / "big.npz").read_bytes() == BIG


def test_an_answer_in_pieces_is_put_together(known, server, tmp_path):
    """A server may send less than was asked for, and say so."""
    known({"big.npz": BIG})
    server.plan = [{"cut": 100_000}]
    with pytest.raises(DownloadError):
        fetch("toy", tmp_path, retries=0)
    have = (tmp_path / "big.npz.part").stat().st_size
    piece = {"Content-Range": f"bytes {have}-{have + 999}/{len(BIG)}", "Content-Length": "1000"}
    server.plan = [{"headers": piece, "cut": 1000}]
    fetch("toy", tmp_path)
    assert server.ranges("big.npz")[-1] == f"bytes={have + 1000}-"
    assert (tmp_path / "big.npz").read_bytes() == BIG


def test_an_interrupt_leaves_a_part_that_goes_on(known, server, tmp_path):
    known({"big.npz": BIG})

    def interrupt(event):
        if isinstance(event, Step) and event.done > 200_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("toy", tmp_path, listen=interrupt)
    assert not (tmp_path / "big.npz").exists()
    have = (tmp_path / "big.npz.part").stat().st_size
    assert 200_000 < have < len(BIG)
    fetch("toy", tmp_path)
    assert server.ranges("big.npz")[-1] == f"bytes={have}-"
    assert (tmp_path / "big.npz").read_bytes() == BIG


def test_an_interrupted_unpacking_leaves_the_archive_alone(known, server, tmp_path):
    known({"images.zip": zipped(IMAGES)})

    def interrupt(event):
        if isinstance(event, Step) and event.task.startswith("unpack") and event.done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("toy", tmp_path, listen=interrupt)
    assert not [name for name in listing(tmp_path) if name.startswith((".images", "images/"))]
    assert (tmp_path / "images.zip").exists()
    fetch("toy", tmp_path)
    assert len(server.log) == 1
    assert len(list((tmp_path / "images").iterdir())) == len(IMAGES)


# what servers say


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(known, server, tmp_path, naps, status):
    known({"a.csv": b"a"})
    server.plan = [{"status": status, "headers": {"Retry-After": "47"}}, {"status": 500}]
    fetch("toy", tmp_path)
    assert naps[0] == 47
    assert 2 <= naps[1] <= 3
    assert (tmp_path / "a.csv").read_bytes() == b"a"


def test_retry_after_as_a_date(known, server, tmp_path, naps):
    known({"a.csv": b"a"})
    date = formatdate(time.time() + 100, usegmt=True)
    server.plan = [{"status": 503, "headers": {"Retry-After": date}}]
    fetch("toy", tmp_path)
    assert 90 < naps[0] <= 100


def test_nobody_waits_for_hours(known, server, tmp_path, naps):
    known({"a.csv": b"a"})
    server.plan = [{"status": 429, "headers": {"Retry-After": "7200"}}]
    with pytest.raises(DownloadError, match="wait 7200 seconds"):
        fetch("toy", tmp_path)
    assert naps == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_ends_at_once_and_says_what_to_do(known, server, tmp_path, naps, status):
    known({"a.csv": b"a"})
    server.plan = [{"status": status}]
    with pytest.raises(DownloadError) as caught:
        fetch("toy", tmp_path)
    for words in (str(status), "a.csv", "https://example.org/toy", "by hand", str(tmp_path)):
        assert words in str(caught.value)
    assert len(server.log) == 1
    assert naps == []


def test_a_web_page_is_not_a_file(known, server, tmp_path):
    known({"a.csv": b"a"}, checked=False)
    server.plan = [{"body": b"<html>log in", "headers": {"Content-Type": "text/html; x"}}]
    with pytest.raises(DownloadError, match=r"web page instead of a\.csv"):
        fetch("toy", tmp_path)
    assert not (tmp_path / "a.csv").exists()


def test_silence_is_a_reason_to_try_again(known, server, tmp_path, naps):
    known({"a.csv": b"a"})
    server.plan = [{"stall": 0.6}]
    fetch("toy", tmp_path, timeout=0.2)
    assert len(naps) == 1
    assert (tmp_path / "a.csv").read_bytes() == b"a"


def test_nobody_listening_is_reported_after_the_retries(known, server, tmp_path, naps):
    known({"a.csv": b"a"})
    server.close()
    with pytest.raises(DownloadError, match="3 times in a row"):
        fetch("toy", tmp_path, retries=2, timeout=2)
    assert len(naps) == 2


# checksums


def test_wrong_bytes_once_are_fetched_again_from_zero(known, server, tmp_path):
    known({"big.npz": BIG})
    server.plan = [{"body": noise(len(BIG), 1)}]
    fetch("toy", tmp_path)
    assert server.ranges("big.npz") == [None, None]
    assert (tmp_path / "big.npz").read_bytes() == BIG


def test_after_wrong_bytes_progress_is_counted_from_zero(known, server, tmp_path):
    known({"big.npz": BIG})
    server.plan = [{"body": noise(len(BIG), 1)}, *({"cut": 100_000} for _ in range(3))]
    fetch("toy", tmp_path, retries=1)
    assert (tmp_path / "big.npz").read_bytes() == BIG


def test_wrong_bytes_twice_are_an_error(known, server, tmp_path):
    known({"big.npz": BIG})
    wrong = noise(len(BIG), 1)
    server.plan = [{"body": wrong}, {"body": wrong}]
    with pytest.raises(DownloadError) as caught:
        fetch("toy", tmp_path)
    assert f"expected {hashlib.md5(BIG).hexdigest()}" in str(caught.value)
    assert f"got {hashlib.md5(wrong).hexdigest()}" in str(caught.value)
    assert len(server.log) == 2
    assert not [name for name in listing(tmp_path) if name.startswith("big")]


def test_a_file_put_there_by_hand_counts_if_its_checksum_is_right(known, server, tmp_path):
    known({"a.csv": TABLE, "images.zip": zipped(IMAGES)})
    (tmp_path / "a.csv").write_bytes(TABLE)
    (tmp_path / "images.zip").write_bytes(zipped(IMAGES))
    fetch("toy", tmp_path)
    assert server.log == []
    assert len(list((tmp_path / "images").iterdir())) == len(IMAGES)
    assert records(tmp_path)["a.csv"]["sha256"] == hashlib.sha256(TABLE).hexdigest()


def test_the_right_size_does_not_make_the_right_file(known, server, tmp_path):
    known({"a.csv": TABLE})
    (tmp_path / "a.csv").write_bytes(b"x" * len(TABLE))
    fetch("toy", tmp_path)
    assert (tmp_path / "a.csv").read_bytes() == TABLE


def test_without_a_checksum_what_came_is_recorded_and_guarded(known, server, tmp_path):
    known({"a.csv": TABLE}, checked=False)
    fetch("toy", tmp_path)
    assert records(tmp_path)["a.csv"]["sha256"] == hashlib.sha256(TABLE).hexdigest()
    assert records(tmp_path)["a.csv"]["md5"] is None
    fetch("toy", tmp_path)
    assert len(server.log) == 1
    (tmp_path / "a.csv").write_bytes(TABLE[::-1])
    fetch("toy", tmp_path)
    assert len(server.log) == 2
    assert (tmp_path / "a.csv").read_bytes() == TABLE


def test_without_a_checksum_a_file_put_there_by_hand_is_taken_with_a_word(known, server, tmp_path):
    known({"a.csv": TABLE}, checked=False)
    (tmp_path / "a.csv").write_bytes(b"mine")
    events = []
    fetch("toy", tmp_path, listen=events.append)
    assert server.log == []
    assert any("taken as it is" in event.text for event in events)


def test_a_broken_record_is_written_anew(known, server, tmp_path):
    known({"a.csv": TABLE})
    (tmp_path / "downloads.json").write_text("{")
    fetch("toy", tmp_path)
    assert set(records(tmp_path)) == {"a.csv"}


@pytest.fixture
def dataverse(known, server):
    """A collection whose one checksum only the Dataverse knows."""
    source = known({"a.csv": TABLE}, checked=False)
    remote = replace(source.files[0], dataverse_id=4338392)
    known({}, files=(remote,), checksums=f"{server.url}/list")

    def listed(md5, number=4338392):
        entry = {"dataFile": {"id": number, "md5": md5}}
        other = {"dataFile": {"id": 1}}
        answer = {"data": {"latestVersion": {"files": [other, entry]}}}
        server.put("list", json.dumps(answer).encode())

    return listed


def test_a_dataverse_is_asked_for_a_missing_checksum(dataverse, server, tmp_path):
    dataverse(hashlib.md5(TABLE).hexdigest())
    fetch("toy", tmp_path)
    assert records(tmp_path)["a.csv"]["md5"] == hashlib.md5(TABLE).hexdigest()
    fetch("toy", tmp_path)
    assert [entry["path"] for entry in server.log] == ["/list", "/a.csv"]


def test_a_checksum_from_a_dataverse_counts(dataverse, server, tmp_path):
    dataverse("0" * 32)
    with pytest.raises(DownloadError, match=f"expected {'0' * 32}"):
        fetch("toy", tmp_path)
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize("answer", [b"not json", b"[]", b'{"data": null}', None])
def test_a_dataverse_that_does_not_answer_is_no_error(dataverse, server, tmp_path, answer):
    if answer is not None:
        server.put("list", answer)
    events = []
    fetch("toy", tmp_path, listen=events.append)
    assert (tmp_path / "a.csv").read_bytes() == TABLE
    warnings = [event.text for event in events if getattr(event, "level", "") == "warning"]
    assert len(warnings) == 1
    assert "no checksum could be found" in warnings[0]


def test_a_dataverse_that_does_not_list_the_file_is_no_error(dataverse, tmp_path):
    dataverse("0" * 32, number=5)
    events = []
    fetch("toy", tmp_path, listen=events.append)
    assert (tmp_path / "a.csv").read_bytes() == TABLE
    assert any("no checksum could be found" in getattr(event, "text", "") for event in events)


# the disk


def free(monkeypatch, count):
    usage = SimpleNamespace(free=count)
    monkeypatch.setattr(http.shutil, "disk_usage", lambda _: usage)


def test_a_small_disk_is_told_before_anything_is_fetched(known, server, tmp_path, monkeypatch):
    source = known({f"{letter}.zip": zipped(IMAGES) for letter in "abc"})
    known({}, files=tuple(replace(file, about_bytes=1_000_000) for file in source.files))
    # at the end: what a and b held, c, and what it holds; with archives kept, those of a and b too
    free(monkeypatch, 3_999_999)
    with pytest.raises(DownloadError, match=r"needs 4,000,000 bytes.* 3,999,999 bytes"):
        fetch("toy", tmp_path)
    with pytest.raises(DownloadError, match="needs 6,000,000 bytes"):
        fetch("toy", tmp_path, keep_archives=True)
    assert server.log == []
    free(monkeypatch, 4_000_000)
    fetch("toy", tmp_path)
    assert {"a", "b", "c"} <= set(listing(tmp_path))


def test_what_has_arrived_needs_no_room(known, server, tmp_path, monkeypatch):
    source = known({"big.npz": BIG})
    known({}, files=(replace(source.files[0], about_bytes=len(BIG)),))
    (tmp_path / "big.npz.part").write_bytes(BIG[:300_000])
    free(monkeypatch, 99_999)
    with pytest.raises(DownloadError, match="needs 100,000 bytes"):
        fetch("toy", tmp_path)
    free(monkeypatch, 100_000)
    fetch("toy", tmp_path)
    assert (tmp_path / "big.npz").read_bytes() == BIG


def test_an_unexpected_size_is_checked_when_the_server_tells_it(
    known, server, tmp_path, monkeypatch
):
    known({"big.npz": BIG})
    free(monkeypatch, len(BIG) - 1)
    with pytest.raises(DownloadError, match="needs 400,000 bytes"):
        fetch("toy", tmp_path)
    assert not list(tmp_path.glob("big*"))


def test_a_disk_that_fills_up_says_so_and_keeps_nothing(known, server, tmp_path, monkeypatch):
    known({"big.npz": BIG})
    ordinary = Path.open

    class Full(io.RawIOBase):
        def writable(self):
            return True

        def tell(self):
            return 0

        def write(self, piece):
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path, mode="r", *args, **kwargs):
        if path.name == "big.npz.part" and "r" not in mode:
            ordinary(path, mode).close()
            return Full()
        return ordinary(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(DataError, match="disk is full"):
        fetch("toy", tmp_path)
    assert not list(tmp_path.glob("big*"))


def test_a_target_that_is_a_file_is_refused(known, tmp_path):
    known({"a.csv": b"a"})
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match="could not be written"):
        fetch("toy", tmp_path / "taken")


# settings


def test_unknown_names_are_refused(known, server, tmp_path):
    known({"metadata.csv": b"a"})
    with pytest.raises(SettingsError, match="Did you mean 'toy'"):
        fetch("toyy", tmp_path / "x")
    with pytest.raises(SettingsError, match=r"Did you mean 'metadata.csv'"):
        fetch("toy", tmp_path / "x", files=["metadata.cvs"])
    with pytest.raises(SettingsError, match="No file was named"):
        fetch("toy", tmp_path / "x", files=[])
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "option", [{"base_url": "ftp://x"}, {"retries": -1}, {"timeout": 0}, {"timeout": float("nan")}]
)
def test_options_that_make_no_sense_are_refused(known, tmp_path, option):
    known({"a.csv": b"a"})
    with pytest.raises(SettingsError, match=next(iter(option))):
        fetch("toy", tmp_path / "x", **option)
    assert not (tmp_path / "x").exists()


# archives


def test_a_folder_of_the_same_name_is_not_nested_and_another_is(tmp_path):
    (tmp_path / "same.zip").write_bytes(zipped({"same/a.jpg": b"a", "same/.DS_Store": b""}))
    (tmp_path / "other.zip").write_bytes(zipped({"same/a.jpg": b"a", "other/b.jpg": b"b"}))
    assert unpack(tmp_path / "same.zip", silent) == (tmp_path / "same", 1, 1)
    assert unpack(tmp_path / "other.zip", silent) == (tmp_path / "other", 2, 2)
    assert listing(tmp_path / "same") == ["a.jpg"]
    assert listing(tmp_path / "other") == ["other", "other/b.jpg", "same", "same/a.jpg"]


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path / "images.zip").write_bytes(zipped({"a.jpg": b"new", "b/c.jpg": b"c"}))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"old")
    (tmp_path / "images" / "mine.txt").write_bytes(b"mine")
    unpack(tmp_path / "images.zip", silent)
    assert (tmp_path / "images" / "a.jpg").read_bytes() == b"new"
    assert (tmp_path / "images" / "mine.txt").read_bytes() == b"mine"
    assert (tmp_path / "images" / "b" / "c.jpg").read_bytes() == b"c"
    assert listing(tmp_path)[0] == "images"  # nothing hidden is left


def refuses(archive, words):
    before = listing(archive.parent.parent)
    with pytest.raises(DownloadError, match=words):
        unpack(archive, silent)
    assert listing(archive.parent.parent) == before


@pytest.mark.parametrize(
    "name",
    ["../evil.txt", "a/../../evil.txt", "/tmp/evil.txt", "..\\evil.txt", "C:\\evil.txt", "C:evil"],
)
def test_archives_cannot_write_outside(tmp_path, name):
    archive = tmp_path / "in" / "bad.zip"
    archive.parent.mkdir()
    archive.write_bytes(zipped({"fine.jpg": b"1", name: b"evil"}))
    refuses(archive, "outside its folder")


def test_archives_cannot_hold_links(tmp_path):
    archive = tmp_path / "in" / "bad.zip"
    archive.parent.mkdir()
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(link, "/etc")
        opened.writestr("link/passwd", "x")
    refuses(archive, "is a link or a device")


def test_absurd_expansion_is_refused_and_plain_compression_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(unzip, "_BOMB_BYTES", 100_000)
    archive = tmp_path / "in" / "bomb.zip"
    archive.parent.mkdir()
    archive.write_bytes(zipped({"zeros": bytes(200_000)}))
    refuses(archive, "unpack to 200,000")
    archive.write_bytes(zipped({"zeros": bytes(90_000)}))
    assert unpack(archive, silent)[2] == 90_000


def test_damaged_empty_and_locked_archives(tmp_path):
    archive = tmp_path / "in" / "bad.zip"
    archive.parent.mkdir()
    whole = zipped({"a.jpg": noise(10_000)})
    archive.write_bytes(b"not a zip")
    refuses(archive, "damaged.*Delete it")
    for start in (35, 40):  # no deflate stream at all, and one with the wrong CRC
        archive.write_bytes(whole[:start] + bytes(500) + whole[start + 500 :])
        refuses(archive, "damaged.*Delete it")
    archive.write_bytes(zipped({"__MACOSX/._a": b"x"}))
    refuses(archive, "no files")
    locked = bytearray(whole)
    locked[whole.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(locked)
    refuses(archive, "encrypted")


def test_unpacking_checks_the_disk(tmp_path, monkeypatch):
    archive = tmp_path / "in" / "a.zip"
    archive.parent.mkdir()
    archive.write_bytes(zipped({"zeros": bytes(90_000)}))
    free(monkeypatch, 89_999)
    refuses(archive, "needs 90,000 bytes")
