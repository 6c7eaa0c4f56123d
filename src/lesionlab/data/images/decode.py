"""Decode an image: content to upright RGB uint8 pixels, the first half of the preprocessing.

The second half (scaling, normalisation) belongs to the network.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lesionlab.files import fingerprint

if TYPE_CHECKING:
    from lesionlab.recipe.schema import Images
from lesionlab.data.images.faults import ImageFault

EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif",
    ".dcm", ".dicom",
)  # fmt: skip

HEIC = (".heic", ".heif")
"""What phones make; `decodable` has them where pillow-heif is installed."""

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
"""What is opened, told by the content; Pillow knows dozens more, each a way in for a bad file."""

PREPROCESSING = 1
"""Version of what `to_pixels` does; raised when its output changes."""

_FORMATS_SAID = "a JPEG, PNG, BMP, TIFF, WebP or GIF image"

_HEIC_STARTS = tuple(b"ftyp" + each for each in (b"heic", b"heix", b"heim", b"mif1", b"msf1"))

_LONGEST_SIDE = 65_535  # pixels, as in a JPEG

_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # of a JPEG; 0 and restarts stand in its data

_MOST_MARKERS = 20_000

_MOST_PASSES = 12  # over an image of the most pixels: a progressive JPEG has about ten scans


def decodable() -> tuple[str, ...]:
    """Suffixes of image files that this installation can decode, in lower case."""
    return (*EXTENSIONS, *HEIC) if _heic() else EXTENSIONS


@cache
def _heic() -> bool:
    """Make Pillow open HEIC, and say whether it can."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def preprocessing_fingerprint(images: Images) -> str:
    """16 hexadecimal digits over everything that decides what `to_pixels` gives."""
    return fingerprint({"version": PREPROCESSING, "size": images.size, "fit": images.fit})


def open_image(
    content: bytes,
    name: str,
    max_pixels: int | None = None,
    formats: tuple[str, ...] = FORMATS,
) -> Image.Image:
    """Open an image by what it holds, whatever it is called; nothing is decoded yet.

    Args:
        content: a file's bytes.
        name: what to call it in messages.
        max_pixels: the most that its header may announce; None: what Pillow thinks is safe.
        formats: Pillow's names of those that it may be.

    Raises:
        ImageFault: "empty_file", "unreadable" (none of `formats`), "too_large" (more pixels), or
            "unsupported" (costs far more to decode than its size tells).
    """
    if not content:
        raise ImageFault("empty_file", f"{name} has 0 bytes")
    if formats == FORMATS and content[4:12] in _HEIC_STARTS:
        if not _heic():
            raise ImageFault(
                "unsupported",
                f"{name} is a HEIC image: pip install 'lesionlab[heic]', or save it as JPEG",
            )
        formats = ("HEIF",)
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
    except Image.DecompressionBombError as error:
        raise ImageFault("too_large", f"{name} is too large to decode safely") from error
    except Exception as error:  # parsers of headers fail in many ways: struct.error, TypeError, ...
        said = _FORMATS_SAID if formats == FORMATS else f"a {' or '.join(formats)} image"
        raise ImageFault("unreadable", f"{name} is not {said} that can be read") from error
    width, height = image.size
    if max(width, height) > _LONGEST_SIDE:  # resizing makes the other side larger first
        raise ImageFault("too_large", f"{name} has {width} x {height} pixels: too long a side")
    if max_pixels is not None and width * height > max_pixels:
        raise ImageFault(
            "too_large",
            f"{name} has {width} x {height} pixels, and {max_pixels:,} in all are the most. "
            "Make it smaller, or crop it to the lesion",
        )
    passes = _MOST_PASSES * (max_pixels or Image.MAX_IMAGE_PIXELS or 0)
    if image.format in ("JPEG", "MPO") and _scans(content) * width * height > passes:
        raise ImageFault("unsupported", f"{name} holds too many scans. Save it as a plain JPEG")
    if image.tile and image.tile[0][0] == "bmp_rle":  # decoded in Python: seconds per megabyte
        raise ImageFault("unsupported", f"{name} is a run-length coded BMP. Save it as PNG")
    return image


def _scans(content: bytes) -> int:
    """How often a JPEG's decoder passes over the image; a few bytes can ask for one more."""
    scans, place = 0, 2
    for _ in range(_MOST_MARKERS):
        marker = _MARKER.search(content, place)
        if marker is None or marker[1] == b"\xd9":  # its end
            return scans
        place = marker.end()
        if marker[1] not in (b"\x01", b"\xd8"):  # all others tell their length
            scans += marker[1] == b"\xda"
            place += int.from_bytes(content[place : place + 2])
    return _MOST_MARKERS


def to_pixels(image: Image.Image, images: Images, name: str = "the image") -> NDArray[np.uint8]:
    """Turn an opened image into pixels: the first half of the preprocessing, everywhere.

    A JPEG more than four times too large is decoded at half, quarter or eighth size first, which
    costs a fraction of the time; it is still at least twice the asked size before the last resize.

    Args:
        image: as `PIL.Image.open` gives it.
        images: size and fit.
        name: what to call it in messages.

    Returns:
        uint8, shape (height, width, 3).

    Raises:
        ImageFault: if the image is truncated or broken.
    """
    height, width = images.size
    with _decoding(name):
        turned = _on_its_side(image)
        image.draft("RGB", (2 * height, 2 * width) if turned else (2 * width, 2 * height))
        image.load()
        upright = ImageOps.exif_transpose(image)
    colour = to_rgb(upright, name)
    if images.fit == "crop":
        sized = ImageOps.fit(colour, (width, height), Image.Resampling.BILINEAR)
    elif images.fit == "pad":
        sized = ImageOps.pad(colour, (width, height), Image.Resampling.BILINEAR)
    else:
        sized = colour.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(sized)


def upright_size(image: Image.Image, name: str = "the image") -> tuple[int, int]:
    """Height and width in pixels of an opened image once it is turned upright.

    Raises:
        ImageFault: if the image is truncated or broken.
    """
    width, height = image.size
    with _decoding(name):
        return (width, height) if _on_its_side(image) else (height, width)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Whatever goes wrong in Pillow is a fault of the image."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ImageFault("too_large", f"{name} is too large to decode safely") from error
    except Exception as error:  # decoders of broken files fail in many ways
        kind = "truncated" if "truncated" in str(error) else "unreadable"
        raise ImageFault(kind, f"{name} cannot be decoded: {error}") from error


def _on_its_side(image: Image.Image) -> bool:
    return image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # its orientation


def to_rgb(image: Image.Image, name: str = "the image") -> Image.Image:
    """Convert a decoded image to RGB; 16-bit grey is scaled, not clipped.

    Raises:
        ImageFault: if its values have no known range.
    """
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageFault(
            "unsupported", f"{name} has 32 bits a channel and no known scale. Save it with 8 bits"
        )
    return image.convert("RGB")
