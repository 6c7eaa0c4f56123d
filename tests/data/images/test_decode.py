import errno
import io
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.images import cache as module
from lesionlab.data.images.cache import Cache, cache
from lesionlab.data.images.decode import open_image, to_pixels, upright_size
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.errors import DataError, FindingsError
from lesionlab.progress import Notice
from lesionlab.recipe.schema import Images

SMALL = Images(size=(24, 32))


def corners(mode="RGB"):
    """An upright picture, 40 x 60, each quarter of another colour: red, green / blue, white."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :30] = (255, 0, 0)
    pixels[:20, 30:] = (0, 255, 0)
    pixels[20:, :30] = (0, 0, 255)
    pixels[20:, 30:] = (255, 255, 255)
    return Image.fromarray(pixels).convert(mode)


def through_a_file(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def seen(pixels):
    """The colour in the middle of each quarter."""
    h, w = pixels.shape[:2]
    return [pixels[y, x].astype(int) for y in (h // 4, 3 * h // 4) for x in (w // 4, 3 * w // 4)]


def assert_upright(pixels, tolerance=0):
    expected = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    for found, wanted in zip(seen(pixels), expected, strict=True):
        assert np.abs(found - wanted).max() <= tolerance


@pytest.mark.parametrize(
    ("mode", "kind", "tolerance"),
    [
        ("RGB", "PNG", 0),
        ("RGBA", "PNG", 0),
        ("P", "PNG", 0),
        ("RGB", "JPEG", 6),
        ("CMYK", "JPEG", 12),
        ("RGB", "WEBP", 40),
        ("RGBA", "TIFF", 0),
        ("CMYK", "TIFF", 0),
        ("RGB", "BMP", 0),
    ],
)
def test_every_kind_of_colour_becomes_rgb(mode, kind, tolerance):
    pixels = to_pixels(through_a_file(corners(mode), kind), SMALL)
    assert pixels.shape == (24, 32, 3)
    assert pixels.dtype == np.uint8
    assert_upright(pixels, tolerance)


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "PNG"), ("L", "JPEG"), ("1", "PNG"), ("LA", "PNG")]
)
def test_grey_becomes_three_equal_channels(mode, kind):
    pixels = to_pixels(through_a_file(corners("L").convert(mode), kind), SMALL)
    assert (np.ptp(pixels, axis=2) == 0).all()
    assert pixels[18, 24, 0] > 250 > pixels[6, 8, 0]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind):
    levels = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    pixels = to_pixels(through_a_file(Image.fromarray(levels), kind), SMALL)
    expected = levels.reshape(24, 2, 32, 2).mean(axis=(1, 3)) / 256
    assert np.abs(pixels[..., 0] - expected).max() <= 3  # the outermost rows weigh double


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(orientation):
    turns = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = corners().resize((600, 400))  # large enough to be decoded at a fraction
    for turn in turns.get(orientation, ()):
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = through_a_file(stored, "JPEG", exif=exif, quality=95)
    assert_upright(to_pixels(image, SMALL), tolerance=8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_upright_size_is_that_of_the_image_as_it_is_seen(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    image, size = Reader(tmp_path).upright("a.jpg")
    assert size == ImageOps.exif_transpose(image).size[::-1]
    with pytest.raises(ImageFault, match="not the file that was catalogued"):
        Reader(tmp_path).upright("a.jpg", "0" * 64)


def test_a_large_jpeg_is_as_good_as_decoded_whole():
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    smooth = Image.fromarray(noise).resize((800, 600), Image.Resampling.BICUBIC)
    quick = to_pixels(through_a_file(smooth, "JPEG", quality=95), SMALL)
    whole = to_pixels(through_a_file(smooth, "PNG"), SMALL)
    assert np.abs(quick.astype(int) - whole).mean() < 3


def test_an_image_on_its_side_is_not_decoded_too_small():
    noise = np.random.default_rng(0).integers(0, 256, (25, 150, 3), np.uint8)
    stored = Image.fromarray(noise).resize((300, 1600), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = Images(size=(200, 24))
    quick = to_pixels(through_a_file(stored, "JPEG", quality=95, subsampling=0, exif=exif), tall)
    whole = to_pixels(through_a_file(stored, "PNG", exif=exif), tall)
    assert np.abs(quick.astype(int) - whole).mean() < 3


def test_three_ways_to_fit():
    wide = Image.new("RGB", (100, 20), (0, 255, 0))
    wide.paste((255, 0, 0), (0, 0, 30, 20))
    stretch, crop, pad = (
        to_pixels(wide, Images(size=(20, 20), fit=fit)) for fit in ("stretch", "crop", "pad")
    )
    assert {each.shape for each in (stretch, crop, pad)} == {(20, 20, 3)}
    assert stretch[10, 2, 0] > 250
    assert (crop[..., 1] > 250).all()  # the red end is cut off
    assert (pad[:6] == 0).all()
    assert (pad[10].max(axis=1) > 0).all()


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("JPEG", "truncated"), ("PNG", None), ("BMP", "truncated"), ("TIFF", None), ("WEBP", None)],
)
def test_a_file_cut_off_anywhere_is_a_fault_and_nothing_else(tmp_path, kind, fault):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    whole = buffer.getvalue()
    reader = Reader(tmp_path)
    for length in range(1, len(whole) - 8, max(1, len(whole) // 40)):
        (tmp_path / "x").write_bytes(whole[:length])
        with pytest.raises(ImageFault) as caught:
            reader.pixels("x", SMALL)
        assert caught.value.kind in ("unreadable", "truncated")
    assert fault in (None, caught.value.kind)


def bytes_of(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def fault_of(content, max_pixels=None):
    with pytest.raises(ImageFault) as caught:
        to_pixels(open_image(content, "x.jpg", max_pixels), SMALL, "x.jpg")
    assert str(caught.value).startswith("x.jpg")
    return caught.value.kind


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "EPS"])
def test_formats_that_nobody_asked_for_are_not_opened(kind):
    assert fault_of(bytes_of(corners(), kind)) == "unreadable"


def test_more_pixels_than_allowed_are_not_decoded(monkeypatch):
    content = bytes_of(corners(), "PNG")
    assert to_pixels(open_image(content, "x", 2400), SMALL).shape == (24, 32, 3)
    assert fault_of(content, 2399) == "too_large"


def test_a_side_that_is_too_long_to_resize():
    assert fault_of(bytes_of(Image.new("1", (1, 70_000)), "PNG")) == "too_large"


def test_a_jpeg_with_endless_scans_is_not_decoded():
    content = bytes_of(Image.new("RGB", (800, 800), "brown"), "JPEG", progressive=True)
    last = content[content.rfind(b"\xff\xda") : -2]
    more = content[:-2] + 2000 * last + b"\xff\xd9"
    assert fault_of(more, 1_000_000) == "unsupported"
    assert fault_of(b"\xff\xd8" + b"\xff\xfe\0\2" * 30_000 + content[2:], 1) == "too_large"
    assert fault_of(b"\xff\xd8" + b"\xff\xfe\0\2" * 30_000 + content[2:], 10**6) == "unsupported"
    few = content[:-2] + 3 * last + b"\xff\xd9" + more  # what stands behind its end is no scan
    to_pixels(open_image(few, "x", 1_000_000), SMALL)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_known_range_are_not_guessed(mode):
    assert fault_of(bytes_of(corners("L").convert(mode), "TIFF")) == "unsupported"


def test_whatever_pillow_raises_is_a_fault_of_the_image(monkeypatch):
    def fails(*_):
        raise struct.error("unpack requires a buffer of 8 bytes")

    content = bytes_of(corners(), "JPEG")
    monkeypatch.setattr(ImageOps, "exif_transpose", fails)
    assert fault_of(content) == "unreadable"
    monkeypatch.setattr(Image, "open", fails)
    assert fault_of(content) == "unreadable"


def test_the_size_of_a_broken_image_is_a_fault_and_nothing_else():
    content = bytes_of(corners(), "PNG")[:-60]
    with pytest.raises(ImageFault):
        upright_size(open_image(content, "x"), "x")


def test_rows_of_arrays_that_are_not_there(tmp_path):
    np.savez(tmp_path / "a.npz", train_images=np.zeros((2, 28, 28), np.uint8))
    reader = Reader(tmp_path)
    assert reader.pixels("a.npz#train_images/1", SMALL).shape == (24, 32, 3)
    for path in ("a.npz#train_images/2", "a.npz#val_images/0", "a.npz#train_images/x"):
        with pytest.raises(ImageFault, match="cannot be read"):
            reader.bytes_of(path)
    with pytest.raises(ImageFault, match=r"b\.npz does not exist"):
        reader.bytes_of("b.npz#train_images/0")


# --- The cache


@pytest.fixture
def data(ham_copy):
    return catalogue(ham_copy)


def build(data, to, table=None, **options):
    return cache(data.table if table is None else table, data.root, SMALL, to, **options)


@pytest.fixture
def to(tmp_path):
    """Where the caches go: not beside the images."""
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch):
    """The paths that were decoded, in order."""
    paths, real = [], Reader.pixels

    def pixels(self, path, *args, **kwargs):
        paths.append(path)
        return real(self, path, *args, **kwargs)

    monkeypatch.setattr(Reader, "pixels", pixels)
    return paths


def test_the_cache_holds_what_the_files_show(data, to):
    made = build(data, to)
    assert made.pixels.shape == (len(data), 24, 32, 3)
    assert made.pixels.dtype == np.uint8
    for row, path in zip(made.rows(list(data.table["sha256"])), data.table["path"], strict=True):
        with Image.open(data.root / path) as image:
            np.testing.assert_array_equal(made.pixels[row], to_pixels(image, SMALL))
    with pytest.raises(ValueError, match="read-only"):
        made.pixels[0, 0, 0, 0] = 1


def test_a_whole_cache_is_not_built_again(data, to, decoded):
    build(data, to)
    assert sorted(decoded) == sorted(data.table["path"])
    decoded.clear()
    heard = []
    build(data, to, listen=heard.append)
    assert decoded == []
    assert any(isinstance(each, Notice) and "complete" in each.text for each in heard)


def test_new_images_go_behind_the_old_ones(data, to, decoded):
    first = build(data, to, data.table[:20])
    old = np.array(first.pixels)
    decoded.clear()
    whole = build(data, to)
    assert whole.folder == first.folder
    assert sorted(decoded) == sorted(data.table["path"][20:])
    np.testing.assert_array_equal(whole.pixels[: len(old)], old)
    assert list(whole.rows(data.table["sha256"][:20])) == list(
        first.rows(data.table["sha256"][:20])
    )
    for image in (25, len(data) - 1):
        row = data.table.iloc[image]
        expected = Reader(data.root).pixels(row["path"], SMALL)
        np.testing.assert_array_equal(whole.pixels[whole.rows([row["sha256"]])[0]], expected)


def test_another_size_is_another_cache(data, to):
    one = build(data, to, data.table[:3])
    other = cache(data.table[:3], data.root, Images(size=(24, 32), fit="pad"), to)
    assert one.folder != other.folder
    assert one.folder.parent == other.folder.parent == to


def test_a_stopped_build_goes_on_where_it_was(data, to, decoded, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 16)

    def stop(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(data, to, listen=stop)
    folder = next(to.iterdir())
    kept = set(pd.read_csv(folder / "index.csv")["sha256"])
    assert 0 < len(kept) < len(data)
    assert len(decoded) < len(data)
    decoded.clear()
    whole = build(data, to)
    left = data.table[~data.table["sha256"].isin(kept)]
    assert sorted(decoded) == sorted(left["path"])
    fresh = build(data, to / "fresh")
    hashes = list(data.table["sha256"])
    np.testing.assert_array_equal(
        whole.pixels[whole.rows(hashes)], fresh.pixels[fresh.rows(hashes)]
    )


def test_broken_images_are_all_named_and_the_others_kept(data, to):
    files = [data.root / path for path in data.table["path"][:4]]
    files[0].unlink()
    files[1].write_bytes(b"")
    files[2].write_bytes(files[2].read_bytes() + b"more")
    shutil.copy(data.root / data.table["path"][5], files[3])
    with pytest.raises(
        FindingsError, match=rf"4 of {len(data)} images cannot be decoded"
    ) as caught:
        build(data, to)
    found = caught.value.findings
    assert list(found["image_id"]) == list(data.table["image_id"][:4])
    assert list(found["kind"]) == ["missing_image", "empty_file", "changed", "changed"]
    assert "lesionlab audit" in str(caught.value)
    kept = Cache(next(to.iterdir()))
    assert len(kept.rows(list(data.table["sha256"][4:]))) == len(data) - 4
    with pytest.raises(DataError, match=r"4 of .* are not in the cache .*lesionlab cache"):
        kept.rows(list(data.table["sha256"]))


def test_a_broken_image_that_was_catalogued_whole_is_truncated(data, to):
    file = data.root / data.table["path"][7]
    file.write_bytes(file.read_bytes()[:-300] + b"\xff\xd9" * 2)
    file.write_bytes(file.read_bytes()[:500])
    table = data.table.assign(sha256=data.table["sha256"])
    table.loc[7, "sha256"] = ""  # nothing to compare with: decoding must find it
    with pytest.raises(FindingsError) as caught:
        build(data, to, table)
    assert list(caught.value.findings["image_id"]) == [data.table["image_id"][7]]
    assert caught.value.findings["kind"][0] in ("truncated", "unreadable")


def test_a_mended_image_is_added_later(data, to):
    file = data.root / data.table["path"][0]
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(FindingsError):
        build(data, to)
    file.write_bytes(content)
    made = build(data, to)
    for number in (0, 1, len(data) - 1):
        row = data.table.iloc[number]
        expected = Reader(data.root).pixels(row["path"], SMALL)
        np.testing.assert_array_equal(made.pixels[made.rows([row["sha256"]])[0]], expected)


def test_two_processes_fill_one_cache(data, to, tmp_path):
    data.save(tmp_path / "catalogue")
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from lesionlab.data.images import cache as images\n"
        "from lesionlab.data.catalogue.catalogue import Catalogue\n"
        "from lesionlab.recipe.schema import Images\n"
        "home, to, first, last = sys.argv[1:]\ndata = Catalogue.open(home)\n"
        "real, images._CHUNK = images.Reader.pixels, 4\n"
        "images.Reader.pixels = lambda *given: time.sleep(0.01) or real(*given)\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "images.cache(data.table[int(first):int(last)], data.root, Images(size=(24, 32)),"
        " Path(to), workers=1)\n"
    )
    shares = [(0, 40), (20, len(data))]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "catalogue"), str(to), *map(str, share)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for share in shares
    ]  # fmt: skip
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        process.communicate()
        assert process.returncode == 0
    [folder] = to.iterdir()
    made = Cache(folder)
    rows = made.rows(list(data.table["sha256"]))
    assert len(set(rows)) == len(data)
    for row, path in zip(rows, data.table["path"], strict=True):
        np.testing.assert_array_equal(made.pixels[row], Reader(data.root).pixels(path, SMALL))


def test_identical_files_share_a_row(data, to, decoded):
    table = data.table.copy()
    shutil.copy(data.root / table["path"][0], data.root / table["path"][1])
    table.loc[1, "sha256"] = table.loc[0, "sha256"]
    made = build(data, to, table)
    assert len(made.pixels) == len(table) - 1 == len(decoded)
    rows = made.rows(list(table["sha256"]))
    assert rows[0] == rows[1]
    assert len(set(rows)) == len(table) - 1


def test_a_full_disk_leaves_nothing_half_written(data, to, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"disk is full.*Free some space"):
        build(data, to)
    assert not list(to.rglob("*"))


def test_a_full_disk_keeps_what_was_there(data, to, monkeypatch):
    first = build(data, to, data.table[:10])
    before = np.array(first.pixels)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(DataError, match="disk is full"):
            build(data, to)
    np.testing.assert_array_equal(Cache(first.folder).pixels, before)
    assert len(build(data, to).pixels) == len(data)


def test_an_index_without_its_images_is_not_trusted(data, to):
    made = build(data, to)
    (made.folder / "images.npy").unlink()
    again = build(data, to)
    assert len(again.pixels) == len(data)
    assert again.pixels.any(axis=(1, 2, 3)).all()


def test_arrays_are_cached_like_files(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = rng.integers(0, 256, (5, 28, 28, 3), np.uint8)
        arrays[f"{part}_labels"] = np.arange(5)[:, None]
    np.savez(tmp_path / "dermamnist.npz", **arrays)
    data = catalogue(tmp_path)
    made = cache(data.table, data.root, Images(size=(28, 28)), tmp_path / "cache")
    for row, path in zip(made.rows(list(data.table["sha256"])), data.table["path"], strict=True):
        name, number = Path(path.partition("#")[2]).parts
        np.testing.assert_array_equal(made.pixels[row], arrays[name][int(number)])


def test_a_number_sign_in_a_file_name_is_no_array(tmp_path):
    Image.new("RGB", (20, 30), (200, 100, 50)).save(tmp_path / "mole #2.png")
    pixels = Reader(tmp_path).pixels("mole #2.png", Images(size=(16, 16)))
    assert tuple(pixels[8, 8]) == (200, 100, 50)
