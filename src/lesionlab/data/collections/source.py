"""What is written down of a collection: files, licence, whom to thank, where to take care."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """A licence that data come under.

    Attributes:
        key: SPDX identifier; also names the file `LICENSE-<key>.txt`.
        name: full name.
        url: the legal text.
        summary: what it allows, in a sentence or two; not a substitute for the legal text.
    """

    key: str
    name: str
    url: str
    summary: str


@dataclass(frozen=True)
class RemoteFile:
    """One file of a collection.

    Attributes:
        name: its name in the target folder, and on a mirror.
        url: where the publisher serves it.
        md5: 32 hexadecimal digits, or None where the publisher prints none.
        about_bytes: rough size, or None. It serves the disk check alone and proves nothing.
        unpack: whether it is a zip to unpack into a folder named after it.
        optional: fetched only where it is named.
        dataverse_id: its number in a Dataverse, under which a checksum can be asked for.
    """

    name: str
    url: str
    md5: str | None = None
    about_bytes: int | None = None
    unpack: bool = False
    optional: bool = False
    dataverse_id: int | None = None


@dataclass(frozen=True)
class Source:
    """A published collection of images.

    Attributes:
        key: the name that `fetch` takes.
        title: its full name.
        homepage: the page for people: a DOI where there is one.
        licence: what it comes under.
        attribution: whom to name where images are shown.
        citation: the papers to cite, one per line.
        files: everything that belongs to it.
        layout: how the folder reads, a key of `layouts.LAYOUTS`.
        checksums: a Dataverse page that lists checksums as JSON, or "".
        notes: what a user should know before trusting it.
        skin_tones: which ones are in it, as far as it tells.
        labelled: how its diagnoses were made.
        ask: where to ask for it, where `fetch` does not download it; it has no files then.
        unconfirmed: what of the above no public text or code settles.
    """

    key: str
    title: str
    homepage: str
    licence: Licence
    attribution: str
    citation: str
    files: tuple[RemoteFile, ...]
    layout: str
    checksums: str = ""
    notes: str = ""
    skin_tones: str = "not recorded"
    labelled: str = "see its paper"
    ask: str = ""
    unconfirmed: str = ""


CC_BY_NC = Licence(
    key="CC-BY-NC-4.0",
    name="Creative Commons Attribution-NonCommercial 4.0 International",
    url="https://creativecommons.org/licenses/by-nc/4.0/legalcode",
    summary=(
        "You may share and adapt the material if you name its authors and say what you changed, "
        "but not for commercial purposes."
    ),
)
CC_BY = Licence(
    key="CC-BY-4.0",
    name="Creative Commons Attribution 4.0 International",
    url="https://creativecommons.org/licenses/by/4.0/legalcode",
    summary="You may share and adapt the material if you name its authors and what you changed.",
)
CC0 = Licence(
    key="CC0-1.0",
    name="Creative Commons Zero 1.0 Universal",
    url="https://creativecommons.org/publicdomain/zero/1.0/legalcode",
    summary="The authors have waived their rights: you may use the material without asking.",
)
