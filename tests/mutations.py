"""Files that are not what they say, made from pictures by a seed."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

KINDS = (
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "jpeg"}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("GIF", {}),
)
MODES = ("RGB", "L", "RGBA", "CMYK", "P", "1", "I;16", "F", "LA")


def base(rng):
    """A picture's bytes in one of many kinds, modes and sizes."""
    while True:
        kind, options = KINDS[rng.integers(len(KINDS))]
        mode = MODES[rng.integers(len(MODES))] if rng.random() < 0.4 else "RGB"
        width, height = rng.integers(1, 90, 2)
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        image = Image.fromarray(pixels)
        image = (
            image.convert("L").convert("I").convert("I;16")
            if mode == "I;16"
            else image.convert(mode)
        )
        more = dict(options)
        if rng.random() < 0.3:
            exif = Image.Exif()
            exif[0x0112] = int(rng.integers(0, 12))
            more["exif"] = exif
        if kind in ("PNG", "WEBP", "TIFF", "GIF") and rng.random() < 0.2:
            more |= {
                "save_all": True,
                "append_images": [image.transpose(Image.Transpose.ROTATE_180)],
            }
        buffer = io.BytesIO()
        try:
            image.save(buffer, kind, **more)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError):
            continue  # a mode that this kind does not know
        return buffer.getvalue()


def flipped(rng):
    data = np.frombuffer(base(rng), np.uint8).copy()
    for place in rng.integers(0, len(data) * 8, int(rng.integers(1, 40))):
        data[place // 8] ^= 1 << (place % 8)
    return data.tobytes()


def flipped_head(rng):
    data = np.frombuffer(base(rng), np.uint8).copy()
    for place in rng.integers(0, min(len(data), 120), int(rng.integers(1, 6))):
        data[place] = rng.integers(256)
    return data.tobytes()


def cut(rng):
    data = base(rng)
    return data[: int(rng.integers(0, len(data)))]


def grown(rng):
    return base(rng) + rng.bytes(int(rng.integers(1, 5000)))


def spliced(rng):
    one, other = base(rng), base(rng)
    return one[: int(rng.integers(1, len(one)))] + other[int(rng.integers(0, len(other))) :]


def wrong_head(rng):
    heads = (b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")
    heads += (b"RIFF\0\0\0\0WEBPVP8X",)
    head = heads[rng.integers(len(heads))]
    return head + base(rng)[len(head) :]


def chunk(kind, data):
    """One chunk of a PNG."""
    told = kind + data
    return struct.pack(">I", len(data)) + told + struct.pack(">I", zlib.crc32(told))


def huge(rng):
    """Announces far more than it holds."""
    sides = rng.integers(1, 2**31 - 1, 2) >> rng.integers(0, 30, 2)
    width, height = (int(each) for each in sides)
    png = b"\x89PNG\r\n\x1a\n"
    png += chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(bytes(1000)))
    told = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    bmp = b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + told
    webp = b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<IB3x", 10, 0)
    webp += (width & 0xFFFFFF).to_bytes(3, "little") + (height & 0xFFFFFF).to_bytes(3, "little")
    jpeg = b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HH", height % 65536, width % 65536)
    jpeg += b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    return (png, bmp, webp, jpeg)[rng.integers(4)]


def archive(rng):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("photo.jpg", base(rng))
    return buffer.getvalue() if rng.random() < 0.5 else base(rng) + buffer.getvalue()


def text(rng):
    words = (
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<!doctype html><script>alert(1)</script>",
        b"GIF89a/*<script>*/=1",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"P6 9 9 255\n",
        "Grüße, kein Bild".encode(),
        b"",
        b"\0" * 100,
        b"\xff" * 100,
        b"/* XPM */\n",
        b"#!/bin/sh\n",
    )
    return words[rng.integers(len(words))] + rng.bytes(int(rng.integers(0, 200)))


def untouched(rng):
    return base(rng)


WAYS = (flipped, flipped_head, cut, grown, spliced, wrong_head, huge, archive, text, untouched)


def mutated(seed):
    """A file of its own for every seed, one way after the other."""
    return WAYS[seed % len(WAYS)](np.random.default_rng(seed))
