"""A multipart body as fields and files, in memory alone: an image never touches the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from lesionlab.web.http_errors import Refusal
from lesionlab.web.server_settings import Settings

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

IMAGES = "images"
_LONGEST_FIELD = 1_000  # bytes
_MOST_FIELDS = 16
_LONGEST_NAME = 255


@dataclass
class Form:
    """What a body holds.

    Attributes:
        images: file names, as far as they were told, and contents.
        fields: all others, by name.
    """

    images: list[tuple[str, bytes]] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


def boundary_of(content_type: str) -> bytes:
    """What stands between the parts of a multipart body.

    Raises:
        Refusal: 415 if it is none, 400 if it names no boundary.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise Refusal(
            415,
            "not_multipart",
            "Send the images as multipart/form-data, each as a part of the name 'images'.",
        )
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 70:  # RFC 2046, section 5.1.1
        raise Refusal(400, "bad_form", "The Content-Type names no usable boundary.")
    return boundary


async def read_form(chunks: AsyncIterator[bytes], boundary: bytes, settings: Settings) -> Form:
    """Read a multipart body as it comes in.

    Args:
        chunks: of the body.
        boundary: between its parts.
        settings: the most bytes and images.

    Raises:
        Refusal: 400 if it is no such body, 413 as soon as it is too much.
    """
    collector = _Collector(settings)
    try:
        parser = MultipartParser(boundary, collector.callbacks)
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > settings.max_bytes:
                raise too_long(settings)
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(
            400, "bad_form", "The body is not well-formed multipart/form-data."
        ) from error
    if not collector.ended:
        raise Refusal(400, "bad_form", "The body ends before its last boundary.")
    return collector.form


def too_long(settings: Settings) -> Refusal:
    """The body is larger than the server takes."""
    return Refusal(
        413,
        "too_many_bytes",
        f"A question may have {settings.max_bytes:,} bytes. Send fewer or smaller images.",
    )


class _Collector:
    """Takes a parser's events and fills a form."""

    def __init__(self, settings: Settings) -> None:
        self.form = Form()
        self.ended = False
        self._settings = settings
        self._header = self._value = b""
        self._disposition = b""
        self._name = ""
        self._file: str | None = None
        self._data = bytearray()
        self.callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _begin(self) -> None:
        self._disposition, self._data = b"", bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise Refusal(400, "bad_form", "A part of the body has no name.")
        self._name = options[b"name"].decode("utf-8", "replace")
        told = options.get(b"filename")
        self._file = None if told is None else plain_name(told.decode("utf-8", "replace"))
        if self._name == IMAGES:
            if len(self.form.images) >= self._settings.max_images:
                raise Refusal(
                    413,
                    "too_many_images",
                    f"A question may have {self._settings.max_images} images. Ask in several.",
                )
        elif self._file is not None:
            raise Refusal(400, "bad_form", f"Files go into parts of the name '{IMAGES}'.")
        elif len(self.form.fields) >= _MOST_FIELDS:
            raise Refusal(400, "bad_form", "The form has too many fields.")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]
        if self._name != IMAGES and len(self._data) > _LONGEST_FIELD:
            raise Refusal(400, "bad_form", "A field of the form is too long.")

    def _on_part_end(self) -> None:
        if self._name == IMAGES:
            self.form.images.append((self._file or "", bytes(self._data)))
        elif self._name in self.form.fields:
            raise Refusal(400, "bad_form", f"The field {self._name[:40]!r} stands in it twice.")
        else:
            self.form.fields[self._name] = self._data.decode("utf-8", "replace")
        self._data = bytearray()

    def _on_end(self) -> None:
        self.ended = True


def plain_name(name: str) -> str:
    """A file's name without folders and without characters that cannot be seen."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(each for each in last if each.isprintable())[:_LONGEST_NAME]
