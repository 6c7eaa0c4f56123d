"""How one file travels over HTTP: in pieces that add up, checked, and able to go on after a cut."""

from __future__ import annotations

import hashlib
import random
import re
import shutil
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import sleep

# Not pooch: its downloaders start each attempt from zero under a random temporary name, so nothing
# can be resumed, and what is left of it here (an MD5) is one line of hashlib.
import requests

from lesionlab._version import __version__
from lesionlab.errors import DataError, DownloadError
from lesionlab.files import cannot_write, read_json, write_json
from lesionlab.progress import Listener, Notice, Step

_CHUNK = 1 << 16  # bytes; a cut connection loses at most this much
_LONGEST_WAIT = 600.0  # seconds that a server may ask us to wait
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Policy:
    """How patient a download is.

    Attributes:
        retries: attempts after the first that may bring nothing new. An attempt that brings
            the file further than any before it does not count.
        timeout: seconds to wait for a connection, and for each piece of an answer.
        help_text: what the user can do where the server refuses; ends the error message.
    """

    retries: int = 5
    timeout: float = 30.0
    help_text: str = ""


class _TryAgain(Exception):
    """An attempt that failed in a way that may pass; the server asks for `wait` seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def connect() -> requests.Session:
    """A session that names lesionlab and asks for bytes as they are, so that ranges add up."""
    session = requests.Session()
    session.headers.update(
        {"User-Agent": f"lesionlab/{__version__}", "Accept-Encoding": "identity"}
    )
    return session


def md5_file(path: Path) -> str:
    """MD5 of a file's bytes, as 32 hexadecimal digits: against accidents, not against attackers."""
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest()


def check_disk(folder: Path, needed: int, purpose: str) -> None:
    """Stop early where the disk cannot hold what is to come.

    Args:
        folder: any folder on the disk; it must exist.
        needed: bytes.
        purpose: what needs them, to be read after "needs ... bytes for".

    Raises:
        DownloadError: naming the needed and the free bytes.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"The disk of {folder} is too small: {purpose} needs {needed:,} bytes "
            f"({needed / 1e9:.1f} GB) and {free:,} bytes ({free / 1e9:.1f} GB) are free. "
            "Free some space, or choose a folder on another disk."
        )


def download(
    session: requests.Session,
    url: str,
    path: Path,
    md5: str | None,
    policy: Policy,
    listen: Listener,
) -> None:
    """Fetch `url` to `path`, whole and checked or not at all.

    What has arrived waits in `<name>.part`, with the server's ETag or date in `<name>.part.json`.
    The next attempt, in this call or a later one, asks for the rest only (RFC 9110, sections 13.1.5
    and 14), and for everything again where the file has changed or the server knows no ranges.

    Args:
        session: see `connect`.
        url: http or https.
        path: the target; its folder exists. A file that is there is replaced at the very end.
        md5: 32 hexadecimal digits, or None to take what comes.
        policy: patience.
        listen: told of progress in bytes and of every new attempt.

    Raises:
        DownloadError: if the server refuses, stays silent or sends something else twice.
        DataError: if the disk is full or the folder cannot be written.
    """
    part = _Part(path, url, md5)
    for last in (False, True):
        _transfer(session, part, policy, listen)
        got = md5_file(part.path) if md5 else None
        if got == md5:
            part.finish()
            return
        part.discard()
        part.best = 0
        message = f"{path.name} arrived with the wrong checksum: expected {md5}, got {got}."
        if last:
            raise DownloadError(
                f"{message} This happened twice, and nothing was kept: the file may have been "
                f"changed or damaged at {url}. {policy.help_text}".strip()
            )
        listen(Notice(f"{message} It is fetched once more from the start.", "warning"))


class _Part:
    """A file on its way: `<name>.part`, and what the server said of it."""

    def __init__(self, target: Path, url: str, md5: str | None) -> None:
        self.target, self.url, self.md5 = target, url, md5
        self.path = target.with_name(target.name + ".part")
        self._side = target.with_name(target.name + ".part.json")
        self.best = self.size()

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self) -> str:
        """The value for If-Range: a strong ETag or a date of this very URL, else ""."""
        try:
            known = read_json(self._side)
            return str(known["validator"]) if known["url"] == self.url else ""
        except (DataError, KeyError, TypeError):
            return ""

    def remember(self, response: requests.Response) -> None:
        """Keep what tells this version of the file from the next."""
        etag = response.headers.get("ETag", "")
        validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
        write_json(self._side, {"url": self.url, "validator": validator})

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._side.unlink(missing_ok=True)

    def finish(self) -> None:
        try:
            self.path.replace(self.target)
        except OSError as error:
            raise cannot_write(self.target, error) from error
        self._side.unlink(missing_ok=True)

    def append(self, pieces: Iterator[bytes], afresh: bool) -> Generator[int, None, None]:
        """Write the pieces to the part, unbuffered, and yield its size after each."""
        with self._writing(), self.path.open("wb" if afresh else "ab", buffering=0) as handle:
            done = handle.tell()
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[handle.write(view) :]
                done += len(piece)
                self.best = max(self.best, done)
                yield done

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except requests.RequestException:  # an OSError too, but not one of the disk
            raise
        except OSError as error:
            self.discard()  # a full disk is no place for a part
            raise cannot_write(self.target, error) from error


@contextmanager
def _network() -> Iterator[None]:
    """Turn what may pass into _TryAgain and the rest of what requests raises into DownloadError."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise DownloadError(
            f"The server's certificate cannot be verified: {error}. Check the machine's clock and "
            "certificates; behind a company's proxy set REQUESTS_CA_BUNDLE."
        ) from error
    except requests.Timeout as error:
        raise _TryAgain("the server does not answer") from error
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        raise _TryAgain("the connection was cut") from error
    except requests.RequestException as error:
        raise DownloadError(f"The download cannot start: {error}. Check the address.") from error


def _transfer(session: requests.Session, part: _Part, policy: Policy, listen: Listener) -> None:
    """Bring the part to its full length, in as many attempts as it takes and the policy allows."""
    name = part.target.name
    failures = 0
    while True:
        best = part.best
        try:
            _attempt(session, part, policy, listen)
            return
        except _TryAgain as error:
            failures = 1 if part.best > best else failures + 1
            kept = f" {part.size():,} bytes are kept." if part.size() else ""
            if failures > policy.retries:
                raise DownloadError(
                    f"{name} could not be fetched from {part.url}: {error}, {failures} times in a "
                    f"row.{kept} Run the same command again later; it goes on from there."
                ) from error
            if error.wait > _LONGEST_WAIT:
                raise DownloadError(
                    f"{name}: {error}; the server asks to wait {error.wait:.0f} seconds.{kept} "
                    "Run the same command again then; it goes on from there."
                ) from error
            # Doubling, with up to half on top so that many clients do not come back at once.
            wait = max(min(2.0 ** (failures - 1), 60.0) * random.uniform(1.0, 1.5), error.wait)
            listen(Notice(f"{name}: {error}.{kept} Trying again in {wait:.0f} s."))
            sleep(wait)


def _attempt(session: requests.Session, part: _Part, policy: Policy, listen: Listener) -> None:
    """One request: resume or start, and write until the end or the cut."""
    have, validator = part.size(), part.validator()
    headers = {}
    if have and (validator or part.md5):  # without either, nothing would show a mixture
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    with (
        _network(),
        session.get(part.url, headers=headers, stream=True, timeout=policy.timeout) as response,
    ):
        if response.status_code == 416 and headers:
            if _whole(part, response):
                return
            part.discard()
            raise _TryAgain("the server refuses to resume, so everything is fetched again")
        _refuse(part, response, policy)
        afresh = response.status_code != 206
        total = _length(response)
        if not afresh:
            start, total = _content_range(response)
            if start != have:
                part.discard()
                raise _TryAgain("the server resumed at the wrong place")
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        total = None if encoded else total
        if total is not None:
            check_disk(part.target.parent, total - (0 if afresh else have), part.target.name)
        if afresh:
            part.discard()
            part.remember(response)
        done = 0 if afresh else have
        listen(Step(f"fetch {part.target.name}", done, total, "bytes"))
        with closing(part.append(response.iter_content(_CHUNK), afresh)) as sizes:
            for done in sizes:
                listen(Step(f"fetch {part.target.name}", done, total, "bytes"))
    if total is not None and done != total:
        if done > total:
            part.discard()
        raise _TryAgain(f"{done:,} of {total:,} bytes came")


def _whole(part: _Part, response: requests.Response) -> bool:
    """Whether a refused range means that everything is here already."""
    if part.md5:
        return md5_file(part.path) == part.md5
    return response.headers.get("Content-Range", "") == f"bytes */{part.size()}"


def _refuse(part: _Part, response: requests.Response, policy: Policy) -> None:
    """Raise for every answer that is not the file."""
    code = response.status_code
    page = response.headers.get("Content-Type", "").lower().startswith("text/html")
    if code in (200, 206) and page:  # a login, a notice of maintenance
        raise DownloadError(
            f"The server sent a web page instead of {part.target.name} for {part.url}. "
            f"{policy.help_text}".strip()
        )
    if code in (200, 206):
        return
    if code in _AGAIN:
        raise _TryAgain(f"the server answers {code} {response.reason}", _retry_after(response))
    raise DownloadError(
        f"The server refuses {part.target.name}: {code} {response.reason} for {part.url}. "
        f"{policy.help_text}".strip()
    )


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks to wait (RFC 9110, section 10.2.3), or 0."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _length(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _content_range(response: requests.Response) -> tuple[int, int | None]:
    """Start and total of a 206 answer, in bytes; a start of -1 where it does not say."""
    match = re.fullmatch(
        r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
    )
    if match is None:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])
