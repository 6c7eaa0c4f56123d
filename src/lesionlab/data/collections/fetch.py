"""From the internet to a folder: a known collection, whole, checked, and with its licence.

The folder holds the files as their publisher names them, each zip unpacked into a folder of its
name, `attribution.txt`, one `LICENSE-<key>.txt` per licence, and `downloads.json`: where each file
came from, when, its checksums, and what was unpacked. The same command on the same folder fetches
only what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from lesionlab.advice import command
from lesionlab.data.collections import registry
from lesionlab.data.collections.http import Policy, check_disk, connect, download, md5_file
from lesionlab.data.collections.source import RemoteFile, Source
from lesionlab.data.collections.unzip import unpack
from lesionlab.errors import DataError, SettingsError
from lesionlab.files import cannot_write, hash_file, read_json, write_json, write_text
from lesionlab.progress import Listener, Notice, silent

RECORD = "downloads.json"
"""The file that tells what was fetched: {"schema": 1, "files": {name: {...}}}."""

_SCHEMA = 1


def fetch(
    name: str,
    to: str | Path,
    *,
    files: Sequence[str] | None = None,
    keep_archives: bool = False,
    base_url: str | None = None,
    retries: int = 5,
    timeout: float = 30.0,
    listen: Listener = silent,
) -> Path:
    """Fetch a known collection into a folder.

    A download that was cut goes on where it stopped, in this call or in the next. A file that is
    there with the right checksum, or as it was recorded when it came, is not fetched again; a file
    put there by hand is taken if its checksum is right or nobody knows one. Two calls must not fill
    one folder at the same time.

    Args:
        name: of a known collection: ham10000, isic2018, dermamnist-28 (-64, -128, -224), ...
        to: the folder; made if need be.
        files: names of single files to fetch; None is everything that is not optional.
        keep_archives: whether zips stay beside what was unpacked from them.
        base_url: a mirror: http(s) address of a folder that holds the files by their names.
        retries: new attempts, at most, that bring a file no further.
        timeout: seconds to wait for a connection, and for each piece of an answer.
        listen: told of progress in bytes, of new attempts, and of what could not be checked.

    Returns:
        The folder.

    Raises:
        SettingsError: if the collection, a file or an option is not known or makes no sense.
        DownloadError: if the disk is too small, the server refuses or falls silent, a checksum is
            wrong twice, or an archive is damaged or unsafe.
        DataError: if the disk is full or the folder cannot be written.
    """
    source = registry.find(name)
    if source.ask:
        raise SettingsError(
            f"{source.title} is not downloaded by lesionlab: {source.ask} ({source.homepage}). "
            f"Then: {command('catalogue', to)}"
        )
    chosen = _choose(source, files)
    _check_options(base_url, retries, timeout)
    folder = Path(to)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    room = _Room(folder, source, keep_archives, listen)
    missing = [file for file in chosen if not room.has(file)]
    if missing:
        check_disk(folder, _peak(folder, missing, keep_archives), source.key)
    _write_attribution(folder, source, room.records)
    if not missing:
        listen(Notice(f"{source.key} is already complete in {folder}."))
        return folder
    with connect() as session:
        absent = [file for file in missing if not (file.unpack and room.arrived(file))]
        listed = {} if base_url else _listed_checksums(session, source, absent, timeout, listen)
        for file in missing:
            if file in absent:
                url = f"{base_url.rstrip('/')}/{file.name}" if base_url else file.url
                md5 = file.md5 or listed.get(file.name)
                policy = Policy(retries, timeout, _by_hand(source, file, folder))
                download(session, url, folder / file.name, md5, policy, listen)
                room.record(file, url, md5)
            if file.unpack:
                room.unpack(file)
    listen(Notice(f"{source.key} is complete in {folder}. Licence: {source.licence.name}."))
    return folder


def _choose(source: Source, names: Sequence[str] | None) -> list[RemoteFile]:
    known = {file.name: file for file in source.files}
    if names is None:
        return [file for file in source.files if not file.optional]
    names = [names] if isinstance(names, str) else names
    for each in names:
        if each not in known:
            raise SettingsError(registry.unknown(f"file of {source.key}", each, known))
    if not names:
        raise SettingsError(f"No file was named. Files of {source.key}: {', '.join(known)}.")
    return [file for file in source.files if file.name in set(names)]


def _check_options(base_url: str | None, retries: int, timeout: float) -> None:
    if base_url is not None and not base_url.startswith(("http://", "https://")):
        raise SettingsError(
            f"base_url {base_url!r} is no http:// or https:// address. For files on a disk, "
            "copy them into the target folder and run again."
        )
    if retries < 0:
        raise SettingsError(f"retries is {retries}; it must be 0 or more.")
    if not timeout > 0:
        raise SettingsError(f"timeout is {timeout}; it must be more than 0 seconds.")


@dataclass
class _Room:
    """The target folder and what is known of the files in it."""

    folder: Path
    source: Source
    keep_archives: bool
    listen: Listener

    def __post_init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        path = self.folder / RECORD
        if not path.exists():
            return
        try:
            self.records = dict(read_json(path)["files"])
        except (DataError, KeyError, TypeError, ValueError):
            self.listen(
                Notice(f"{path} cannot be read and is written anew; files are checked.", "warning")
            )

    def has(self, file: RemoteFile) -> bool:
        """Whether nothing is left to do for a file."""
        if not file.unpack:
            return self.arrived(file)
        done = self.records.get(file.name, {})
        if "unpacked" not in done or (file.md5 and done.get("md5") != file.md5):
            return False
        files, size = _content(self.folder / str(done["unpacked"]["folder"]))
        return bool(files >= done["unpacked"]["files"] and size >= done["unpacked"]["bytes"])

    def arrived(self, file: RemoteFile) -> bool:
        """Whether the file itself is here and right; one that was put here by hand is recorded."""
        path = self.folder / file.name
        if not path.is_file():
            return False
        record = self.records.get(file.name)
        if file.md5:
            good = md5_file(path) == file.md5
        else:
            good = record is None or hash_file(path) == record.get("sha256")
        if not good:
            self.listen(
                Notice(f"{path} is not the file that it should be and is fetched anew.", "warning")
            )
        elif record is None:
            if not file.md5:
                self.listen(
                    Notice(f"{path} is taken as it is: nobody publishes its checksum.", "warning")
                )
            self.record(file, "", file.md5)
        return good

    def record(self, file: RemoteFile, url: str, md5: str | None) -> None:
        """Note what arrived; `url` is "" for a file that was put here by hand."""
        path = self.folder / file.name
        self.records[file.name] = {
            "source": self.source.key,
            "url": url,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "bytes": path.stat().st_size,
            "md5": md5,
            "sha256": hash_file(path),
        }
        self._save()

    def unpack(self, file: RemoteFile) -> None:
        """Unpack an archive, note that it is done, and drop it unless it is to be kept."""
        path = self.folder / file.name
        target, count, size = unpack(path, self.listen)
        unpacked = {"folder": target.name, "files": count, "bytes": size}
        self.records[file.name]["unpacked"] = unpacked
        self._save()
        if not self.keep_archives:
            path.unlink()

    def _save(self) -> None:
        write_json(self.folder / RECORD, {"schema": _SCHEMA, "files": self.records})


def _content(folder: Path) -> tuple[int, int]:
    """Number and bytes of the files below a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def _peak(folder: Path, missing: Sequence[RemoteFile], keep_archives: bool) -> int:
    """Bytes that the disk must have free, as far as sizes are known beforehand.

    One file after the other comes and is unpacked to about its own size again (images do not
    compress), and its archive goes before the next comes. What has arrived already needs no room.
    """
    kept = peak = 0
    for file in missing:
        size = file.about_bytes or 0
        here = (folder / file.name, folder / f"{file.name}.part")
        left = size - min(size, sum(path.stat().st_size for path in here if path.is_file()))
        unpacked = size if file.unpack else 0
        peak = max(peak, kept + left + unpacked)
        kept += unpacked if file.unpack and not keep_archives else left + unpacked
    return peak


def _listed_checksums(
    session: requests.Session,
    source: Source,
    absent: Sequence[RemoteFile],
    timeout: float,
    listen: Listener,
) -> Mapping[str, str]:
    """MD5 by file name, as the Dataverse lists them now, for files whose MD5 nobody printed.

    For tables it lists the checksum of the file as deposited, which `?format=original` sends.
    """
    wanted = [file for file in absent if file.md5 is None and file.dataverse_id is not None]
    if not wanted or not source.checksums:
        return {}
    reason, listed = "", dict[int, str]()
    try:
        answer = session.get(source.checksums, timeout=timeout)
        answer.raise_for_status()
        for each in answer.json()["data"]["latestVersion"]["files"]:
            entry = each["dataFile"]
            if isinstance(entry.get("md5"), str):
                listed[int(entry["id"])] = entry["md5"].lower()
    except requests.RequestException as error:
        reason = f" ({type(error).__name__})"
    except (KeyError, TypeError, ValueError, AttributeError):
        reason = " (the answer is not what a Dataverse sends)"
    found = {file.name: listed[file.dataverse_id] for file in wanted if file.dataverse_id in listed}
    for file in wanted:
        if file.name not in found:
            text = f"{file.name}: no checksum could be found{reason}; it is taken as it comes."
            listen(Notice(text, "warning"))
    return found


def _by_hand(source: Source, file: RemoteFile, folder: Path) -> str:
    return (
        f"Open {source.homepage}, download {file.name} by hand, put it into {folder} under this "
        "name, and run the same command again: it goes on from there. With a mirror: base_url."
    )


def _write_attribution(
    folder: Path, source: Source, records: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write whom to thank and under which terms, for every collection in the folder."""
    keys = {source.key, *(str(record.get("source")) for record in records.values())}
    here = [source if key == source.key else registry.SOURCES.get(key) for key in sorted(keys)]
    present = [each for each in here if each is not None]
    text = "\n\n".join(
        f"{each.title}\n{each.homepage}\n\nBy: {each.attribution}\n"
        f"Licence: {each.licence.name} (LICENSE-{each.licence.key}.txt)\n"
        f"Please cite:\n{each.citation}\n" + (f"Note: {each.notes}\n" if each.notes else "")
        for each in present
    )
    _write_if_new(folder / "attribution.txt", text)
    for licence in {each.licence for each in present}:
        _write_if_new(
            folder / f"LICENSE-{licence.key}.txt",
            f"{licence.name}\n{licence.url}\n\n{licence.summary}\n"
            "This is a summary; the text at the address above is what counts.\n",
        )


def _write_if_new(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
