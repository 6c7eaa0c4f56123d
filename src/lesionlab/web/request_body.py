"""A body, multipart or JSON, as fields and images, in memory alone: no image touches the disk."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from lesionlab.web.messages import Refusal
from lesionlab.web.server_settings import Settings

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

IMAGES = "images"
FIELDS = ("age", "sex", "site", "maps")
_LONGEST_FIELD = 1_000  # bytes
_MOST_FIELDS = 16
_LONGEST_NAME = 255


@dataclass
class Form:
    """What a body holds.

    Attributes:
        images: file names, as far as they were told, and contents.
        fields: all others, by name.
        faults: what is wrong with the images, in sentences.
    """

    images: list[tuple[str, bytes]] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def boundary_of(content_type: str) -> bytes | None:
    """What stands between the parts of a multipart body; None: the body is JSON.

    Raises:
        Refusal: 415 if it is neither, 400 if it names no boundary.
    """
    kind, options = parse_options_header(content_type)
    if kind == b"application/json":
        return None
    if kind != b"multipart/form-data":
        raise Refusal(
            415,
            "unsupported_type",
            "Send the images as multipart/form-data, each as a part of the name 'images', or as "
            "application/json in base64. /docs shows both.",
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


async def read_json(chunks: AsyncIterator[bytes], settings: Settings) -> Form:
    """Read a JSON body: the fields of a form, and images as objects with base64 `content`.

    Args:
        chunks: of the body.
        settings: the most bytes and images.

    Raises:
        Refusal: 400 if it is no such body, 413 as soon as it is too much.
    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > settings.max_bytes:
            raise too_long(settings)
    return await asyncio.to_thread(_form_of, body, settings)


def too_long(settings: Settings) -> Refusal:
    """The body is larger than the server takes."""
    return Refusal(
        413,
        "too_many_bytes",
        f"A question may have {settings.max_bytes:,} bytes. Send fewer or smaller images.",
    )


def _too_many(settings: Settings) -> Refusal:
    return Refusal(
        413,
        "too_many_images",
        f"A question may have {settings.max_images} images. Ask in several.",
    )


def _form_of(body: bytearray, settings: Settings) -> Form:
    """A JSON body's fields and images, read as strictly as a form's."""
    try:
        asked = json.loads(
            body.decode("utf-8"), object_pairs_hook=_each_once, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:  # of bytes, syntax, length of a number, depth
        raise Refusal(400, "bad_form", "The body is not well-formed JSON in UTF-8.") from error
    if not isinstance(asked, dict):
        raise Refusal(400, "bad_form", 'The body is no JSON object like {"images": [...]}.')
    form = Form()
    images = asked.pop(IMAGES, [])
    if not isinstance(images, list):
        form.faults.append(f"{IMAGES} is a list.")
        images = []
    if len(images) > settings.max_images:
        raise _too_many(settings)
    for place, image in enumerate(images):
        try:
            form.images.append(_image_of(image))
        except (TypeError, ValueError):
            form.faults.append(
                f"{IMAGES}[{place}] is no object like "
                '{"content": "...", "name": "photo.jpg"} with the file in base64 '
                "(RFC 4648, section 4; no line breaks, no data: in front)."
            )
    if len(asked) > _MOST_FIELDS:
        raise Refusal(400, "bad_form", "The JSON has too many fields.")
    for name, value in asked.items():
        if value is None and name in FIELDS:  # unknown
            continue
        told = isinstance(value, str) and name != "age"  # "55" is no number, nor is 1 a word
        form.fields[name] = value if told else repr(value)
    return form


def _image_of(image: Any) -> tuple[str, bytes]:
    if not isinstance(image, dict) or not {*image} <= {"name", "content"}:
        raise TypeError
    name, content = image.get("name", ""), image.get("content")
    if not isinstance(name, str) or not isinstance(content, str):
        raise TypeError
    return plain_name(name), base64.b64decode(content, validate=True)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refusal(400, "bad_form", "A field stands in the body twice.")
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)  # NaN and Infinity, which Python's reader takes and JSON has not


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
                raise _too_many(self._settings)
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
