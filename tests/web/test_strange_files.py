"""Files that are not what they say: a fault or an answer; never a failure, a hang or a crash."""

import io
import struct
import time

import numpy as np
import pytest
from mutations import mutated
from PIL import Image
from servers import ask, picture, serving

from lesionlab.prediction.predictor import Predictor
from lesionlab.web.schemas import Prediction

KINDS = {"unreadable", "truncated", "empty_file", "too_large", "unsupported"}


def survive(client, seeds, together=20):
    """Ask about mutated files; gives how many were answered, and how many refused."""
    counts = {"answered": 0, "refused": 0}
    for start in range(seeds.start, seeds.stop, together):
        contents = [mutated(seed) for seed in range(start, min(start + together, seeds.stop))]
        begun = time.monotonic()
        answer = ask(client, *contents)
        assert time.monotonic() - begun < 20, start
        assert answer.status_code in (200, 422), (start, answer.text)
        Prediction.model_validate(answer.json())
        for seed, result in enumerate(answer.json()["results"], start):
            if result["error"]:
                assert result["error"]["kind"] in KINDS, (seed, result["error"])
                assert "0x" not in result["error"]["message"]  # an address of memory
            else:
                assert sum(each["probability"] for each in result["classes"]) == pytest.approx(1)
            counts["refused" if result["error"] else "answered"] += 1
    return counts


@pytest.mark.filterwarnings("ignore")
def test_strange_files_fail_nothing(client):
    counts = survive(client, range(200))
    assert min(counts.values()) > 40, counts


def test_what_phones_make_is_answered_within_the_limits(bundle_file):
    heif = pytest.importorskip("pillow_heif", reason="HEIC is made by pillow-heif")
    file = io.BytesIO()
    heif.from_pillow(Image.open(io.BytesIO(picture(size=(400, 300))))).save(file, quality=90)
    content = file.getvalue()
    with serving(bundle_file, max_pixels=200_000) as client:
        whole, cut = ask(client, content, content[:-2000]).json()["results"]
    assert (whole["error"], whole["width"], whole["height"]) == (None, 400, 300)
    assert cut["error"]["kind"] in KINDS
    with serving(bundle_file, max_pixels=100_000) as client:
        (large,) = ask(client, content).json()["results"]
    assert large["error"]["kind"] == "too_large"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_thousand_strange_files_fail_nothing(client):
    counts = survive(client, range(1000, 3000))
    assert min(counts.values()) > 400, counts
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.svg", "x", "x.dcm", "x.exe"])
@pytest.mark.parametrize("told", ["image/jpeg", "image/png", "text/html", ""])
def test_neither_name_nor_declared_type_counts(client, name, told):
    content = picture(2, kind="PNG")
    answers = [
        client.post("/v1/predict", files=[("images", part)]).json()["results"][0]["classes"]
        for part in ((name, content, told), ("y.png", content, "image/png"))
    ]
    assert answers[0] == answers[1] != []


@pytest.mark.parametrize("kind", ["ICO", "PPM", "TGA", "PCX", "EPS", "JPEG2000", "SGI"])
def test_other_formats_are_not_opened(client, kind):
    content = picture(2, kind=kind)
    result = ask(client, content).json()["results"][0]
    assert result["error"]["kind"] == "unreadable"
    assert "JPEG, PNG, BMP, TIFF, WebP or GIF" in result["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "mode", "tolerance"),
    [
        ("PNG", "RGB", 0),
        ("PNG", "RGBA", 0),
        ("PNG", "P", 40),
        ("BMP", "RGB", 0),
        ("TIFF", "RGB", 0),
        ("TIFF", "CMYK", 0),
        ("JPEG", "CMYK", 12),
        ("JPEG", "RGB", 12),
        ("WEBP", "RGB", 25),
    ],
)
def test_every_kind_is_seen_as_it_is(client, bundle_file, kind, mode, tolerance):
    predictor = Predictor(bundle_file)
    plain = predictor.read(picture(7, kind="BMP"))
    other = predictor.read(picture(7, kind=kind, mode=mode))
    assert np.abs(plain.astype(int) - other).mean() <= tolerance
    result = ask(client, picture(7, kind=kind, mode=mode)).json()["results"][0]
    made = predictor.answers(other[None])
    assert result["error"] is None
    assert result["classes"][0]["probability"] == pytest.approx(made.probabilities.max())


def test_the_first_frame_counts(client):
    first, second = (Image.open(io.BytesIO(picture(seed, kind="PNG"))) for seed in (1, 2))
    for kind in ("PNG", "WEBP", "TIFF"):
        both, alone = io.BytesIO(), io.BytesIO()
        more = {"lossless": True} if kind == "WEBP" else {}
        first.save(both, kind, save_all=True, append_images=[second], **more)
        first.save(alone, kind, **more)
        results = ask(client, both.getvalue(), alone.getvalue()).json()["results"]
        assert results[0]["classes"] == results[1]["classes"] != []


def test_sixteen_bits_and_turned_images(client):
    grey = np.tile(np.linspace(0, 65535, 60).astype(np.uint16), (40, 1))
    deep, plain = io.BytesIO(), io.BytesIO()
    Image.fromarray(grey).save(deep, "PNG")
    Image.fromarray((grey >> 8).astype(np.uint8)).save(plain, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = picture(3, size=(60, 40), exif=exif)
    results = ask(client, deep.getvalue(), plain.getvalue(), turned).json()["results"]
    assert results[0]["classes"] == results[1]["classes"] != []
    assert (results[2]["width"], results[2]["height"]) == (40, 60)


def test_a_few_bytes_cannot_buy_minutes(client):
    scans = progressive_with(400)
    rle = run_length_bitmap()
    begun = time.monotonic()
    results = ask(client, scans, rle).json()["results"]
    assert time.monotonic() - begun < 5
    assert [each["error"]["kind"] for each in results] == ["unsupported", "unsupported"]
    assert ask(client, progressive_with(0)).status_code == 200


def progressive_with(more):
    """A progressive JPEG whose last scan is there `more` times again."""
    image = io.BytesIO()
    Image.new("RGB", (3000, 2000), "brown").save(image, "JPEG", progressive=True)
    content = image.getvalue()
    last = content[content.rfind(b"\xff\xda") : -2]
    return content[:-2] + last * more + b"\xff\xd9"


def run_length_bitmap():
    """A BMP of 25 million pixels whose code is read byte by byte in Python."""
    code = b"\x01\x00\x01\x01" * 500_000
    start = 14 + 40 + 1024
    head = struct.pack("<IHHI", start + len(code), 0, 0, start)
    told = struct.pack("<IiiHHIIiiII", 40, 5000, 5000, 1, 8, 1, len(code), 0, 0, 256, 0)
    return b"BM" + head + told + bytes(1024) + code
