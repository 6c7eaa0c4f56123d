"""Dermoscopic DICOM: every encoding gives the photograph's pixels, and nobody's name leaves."""

from __future__ import annotations

import io
import math
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

pydicom = pytest.importorskip("pydicom")

from dicoms import dataset as unfilled  # noqa: E402
from pydicom import Dataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import convert_color_space, set_pixel_data  # noqa: E402
from pydicom.sr.codedict import codes  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    DermoscopicPhotographyImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    VLPhotographicImageStorage,
)

from lesionlab.data.catalogue.validation import scan_files  # noqa: E402
from lesionlab.data.images import dicom  # noqa: E402
from lesionlab.data.images.decode import to_pixels  # noqa: E402
from lesionlab.data.images.faults import ImageFault  # noqa: E402
from lesionlab.data.images.reader import Reader  # noqa: E402
from lesionlab.recipe.schema import Images  # noqa: E402

HEIGHT, WIDTH = 24, 32
WHOLE = Images(size=(HEIGHT, WIDTH))


def photograph(seed=0):
    """Smooth colours, uint8, (24, 32, 3)."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def dataset(*what):
    """A file of these pictures' size, without pixels yet."""
    data = unfilled(*what)
    data.Rows, data.Columns = HEIGHT, WIDTH
    return data


def written(data):
    handle = io.BytesIO()
    with warnings.catch_warnings():  # what is wrong here is meant to be
        warnings.simplefilter("ignore")
        data.save_as(handle, enforce_file_format=True)
    return handle.getvalue()


def with_pixels(pixels, colours, bits=8, syntax=ExplicitVRLittleEndian, planar=0, frames=0):
    """A file whose samples lie there as given."""
    data = dataset(syntax)
    data.SamplesPerPixel = 3 if pixels.ndim - bool(frames) == 3 else 1
    data.PhotometricInterpretation = colours
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * pixels.itemsize, bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = planar
    if frames:
        data.NumberOfFrames = frames
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    content = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    data.PixelData = content + b"\0" * (len(content) % 2)
    data["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    return data


def with_frame(frame, colours, syntax=JPEGBaseline8Bit, samples=3, frames=()):
    """A file that holds a whole compressed image."""
    data = with_pixels(photograph() if samples == 3 else photograph()[..., 0], colours)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([frame, *frames])
    if frames:
        data.NumberOfFrames = 1 + len(frames)
    return data


def jpeg(pixels, quality=95, **options):
    handle = io.BytesIO()
    Image.fromarray(pixels).save(handle, "JPEG", quality=quality, **options)
    return handle.getvalue()


def pixels_of(data):
    return to_pixels(dicom.open_dicom(written(data)), WHOLE)


def to_ycbcr(pixels):
    return convert_color_space(pixels, "RGB", "YBR_FULL")


def closeness(one, other):
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def test_the_class_is_the_one_in_pydicoms_dictionary():
    assert {
        uid: uid.name for uid in (DermoscopicPhotographyImageStorage, VLPhotographicImageStorage)
    } == dicom.SOP_CLASSES


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
@pytest.mark.parametrize("planar", [0, 1])
def test_uncompressed_rgb(syntax, planar):
    lying = photograph().transpose(2, 0, 1) if planar else photograph()
    data = with_pixels(np.ascontiguousarray(lying), "RGB", syntax=syntax, planar=planar)
    assert (pixels_of(data) == photograph()).all()


def test_uncompressed_luminance_and_chroma():
    assert closeness(pixels_of(with_pixels(to_ycbcr(photograph()), "YBR_FULL")), photograph()) <= 2


def test_half_the_chroma():
    flat = photograph().copy()
    flat[:, 1::2] = flat[:, ::2]  # pairs share their colour, so that nothing is lost
    luminance, blue, red = np.moveaxis(to_ycbcr(flat), 2, 0)
    lying = np.stack([luminance[:, ::2], luminance[:, 1::2], blue[:, ::2], red[:, ::2]], axis=2)
    data = with_pixels(photograph(), "YBR_FULL_422")
    data.PixelData = lying.tobytes()
    assert closeness(pixels_of(data), flat) <= 2


def test_16_bits_keep_the_highest_8():
    wide = photograph().astype(np.uint16) * 256 + 17
    assert (pixels_of(with_pixels(wide, "RGB", bits=16)) == photograph()).all()
    twelve = photograph().astype(np.uint16) * 16 + 3
    assert (pixels_of(with_pixels(twelve, "RGB", bits=12)) == photograph()).all()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_grey(syntax):
    grey = photograph()[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    wide = grey.astype(np.uint16) * 16 + 5
    for colours, wanted in (("MONOCHROME2", expected), ("MONOCHROME1", 255 - expected)):
        assert (pixels_of(with_pixels(grey, colours, syntax=syntax)) == wanted).all()
        assert (pixels_of(with_pixels(wide, colours, 12, syntax=syntax)) == wanted).all()
    signed = (grey.astype(np.int16) * 16) - 2048
    assert (pixels_of(with_pixels(signed, "MONOCHROME2", 12, syntax=syntax)) == expected).all()


def test_a_palette():
    palette = photograph(1).reshape(-1, 3)[:256]
    index = photograph()[..., 0]
    for depth in (8, 16):
        data = with_pixels(index, "PALETTE COLOR")
        for column, colour in enumerate(("Red", "Green", "Blue")):
            entries = palette[:, column].astype(np.uint16) * (257 if depth == 16 else 1)
            lying = entries.astype(np.uint8 if depth == 8 else "<u2").tobytes()
            setattr(data, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, depth])
            setattr(data, f"{colour}PaletteColorLookupTableData", lying)
        assert (pixels_of(data) == palette[index]).all(), depth


@pytest.mark.parametrize("kind", ["rgb", "grey", "ybr", "wide"])
def test_run_lengths(kind):
    samples = {"rgb": photograph(), "grey": photograph()[..., 0], "ybr": to_ycbcr(photograph())}
    wide = photograph()[..., 0].astype(np.uint16) * 256 + 9
    data = dataset()
    set_pixel_data(
        data,
        samples.get(kind, wide),
        {"rgb": "RGB", "ybr": "YBR_FULL"}.get(kind, "MONOCHROME2"),
        16 if kind == "wide" else 8,
        generate_instance_uid=False,
    )
    data.compress(RLELossless, generate_instance_uid=False)
    assert data.file_meta.TransferSyntaxUID == RLELossless
    grey = np.repeat(photograph()[..., :1], 3, axis=2)
    wanted = photograph() if kind in ("rgb", "ybr") else grey
    assert closeness(pixels_of(data), wanted) <= (2 if kind == "ybr" else 0)


def test_a_jpeg_gives_the_pixels_of_the_same_jpeg_as_a_file():
    content = jpeg(photograph())
    alone = to_pixels(Image.open(io.BytesIO(content)), WHOLE)
    for colours in ("YBR_FULL_422", "YBR_FULL", "RGB"):  # what the JPEG itself says counts
        assert (pixels_of(with_frame(content, colours)) == alone).all()
    grey = jpeg(photograph()[..., 0])
    alone = to_pixels(Image.open(io.BytesIO(grey)), WHOLE)
    assert (pixels_of(with_frame(grey, "MONOCHROME2", samples=1)) == alone).all()
    assert (pixels_of(with_frame(grey, "MONOCHROME1", samples=1)) == 255 - alone).all()


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size_as_a_file_is():
    large = np.asarray(Image.fromarray(photograph()).resize((640, 480)))
    content = jpeg(large)
    data = with_frame(content, "YBR_FULL_422")
    data.Rows, data.Columns = 480, 640
    image = dicom.open_dicom(written(data))
    assert image.size == (640, 480)
    alone = Image.open(io.BytesIO(content))
    assert (to_pixels(image, WHOLE) == to_pixels(alone, WHOLE)).all()
    assert image.size == alone.size == (80, 60)


def unmarked(content):
    """A JPEG without the segment that says what its components are."""
    assert content[2:4] == b"\xff\xe0"
    return content[:2] + content[4 + struct.unpack(">H", content[4:6])[0] :]


def test_a_jpeg_that_says_nothing_has_the_colours_that_the_file_says():
    as_it_is = Image.frombytes("YCbCr", (WIDTH, HEIGHT), photograph().tobytes())
    handle = io.BytesIO()
    as_it_is.save(handle, "JPEG", quality=95, subsampling=0)
    components = unmarked(handle.getvalue())
    assert closeness(pixels_of(with_frame(components, "RGB")), photograph()) <= 12
    plain = unmarked(jpeg(photograph(), subsampling=0))
    assert closeness(pixels_of(with_frame(plain, "YBR_FULL")), photograph()) <= 12
    assert closeness(pixels_of(with_frame(plain, "RGB")), to_ycbcr(photograph())) <= 12


def test_exif_in_a_jpeg_does_not_turn_it():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = jpeg(photograph(), exif=exif)
    plain = jpeg(photograph())
    assert Image.open(io.BytesIO(turned)).getexif()[0x0112] == 6
    one, other = (with_frame(each, "YBR_FULL_422") for each in (turned, plain))
    assert (pixels_of(one) == pixels_of(other)).all()


def test_jpeg_2000():
    handle = io.BytesIO()
    Image.fromarray(photograph()).save(handle, "JPEG2000", no_jp2=True)
    data = with_frame(handle.getvalue(), "YBR_RCT", JPEG2000Lossless)
    assert (pixels_of(data) == photograph()).all()


def test_of_several_frames_the_first(tmp_path):
    frames = np.stack([photograph(seed) for seed in range(3)])
    lying = with_pixels(frames, "RGB", frames=3)
    assert (pixels_of(lying) == photograph()).all()
    moving = with_frame(jpeg(frames[0]), "YBR_FULL_422", frames=[jpeg(frames[1]), jpeg(frames[2])])
    assert (pixels_of(moving) == pixels_of(with_frame(jpeg(frames[0]), "YBR_FULL_422"))).all()
    assert dicom.facts(written(moving)).frames == 3
    (tmp_path / "film.dcm").write_bytes(written(moving))
    import pandas as pd

    table = pd.DataFrame({"image_id": ["film"], "path": ["film.dcm"]})
    (found,) = scan_files(table, tmp_path, decode=True)
    assert "has 3 frames" in " ".join(each.detail for each in found.findings)


def test_the_reader_takes_it_from_any_file_that_begins_as_dicom_does(tmp_path):
    content = written(with_pixels(photograph(), "RGB"))
    for name in ("a.dcm", "b", "c.jpg"):
        (tmp_path / name).write_bytes(content)
        assert (Reader(tmp_path).pixels(name, WHOLE) == photograph()).all()
        assert dicom.is_dicom_file(tmp_path / name)
    (tmp_path / "d").write_bytes(b"GIF89a")
    assert not dicom.is_dicom_file(tmp_path / "d")
    assert not dicom.is_dicom_file(tmp_path / "none")


def refused(data):
    with pytest.raises(ImageFault) as error:
        to_pixels(dicom.open_dicom(written(data), "x.dcm"), WHOLE, "x.dcm")
    for secret in ("Doe", "SECRET", "1970", "Clinic"):
        assert secret not in str(error.value)
    return error.value


def test_other_classes_are_refused():
    data = with_pixels(photograph(), "RGB")
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    fault = refused(data)
    assert fault.kind == "dicom_class"
    assert "x.dcm is a DICOM file of the class CT Image Storage" in str(fault)
    assert "Dermoscopic Photography Image Storage" in str(fault)
    del data.SOPClassUID
    assert refused(data).kind == "dicom_class"


def test_what_cannot_be_read_is_refused():
    lossless = with_frame(b"\xff\xd8" * 20, "RGB", JPEGLSLossless)
    assert "JPEG-LS" in str(refused(lossless))
    swelling = with_pixels(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "RGB")
    swelling.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert refused(swelling).kind == "dicom_encoding"
    assert math.isnan(dicom.facts(written(swelling)).age)
    strange = with_pixels(photograph(), "CMYK")
    assert refused(strange).kind == "dicom_encoding"
    empty = with_pixels(photograph(), "RGB")
    del empty.PixelData
    assert "without pixels" in str(refused(empty))
    short = with_pixels(photograph(), "RGB")
    short.PixelData = short.PixelData[:100]
    assert refused(short).kind == "unreadable"
    huge = with_pixels(photograph(), "RGB")
    huge.Rows = huge.Columns = 60_000
    assert refused(huge).kind == "too_large"
    other = with_frame(jpeg(photograph()), "YBR_FULL_422")
    other.Rows = 25
    assert "says 32 x 25 pixels, but its JPEG has 32 x 24" in str(refused(other))
    cut = with_frame(jpeg(photograph())[:300], "YBR_FULL_422")
    assert refused(cut).kind in ("truncated", "unreadable")


def test_an_encapsulated_jpeg_with_endless_scans_is_not_decoded(monkeypatch):
    content = jpeg(photograph(), progressive=True)
    scan = content[content.rfind(b"\xff\xda") : -2]
    data = with_frame(content[:-2] + 2000 * scan + b"\xff\xd9", "YBR_FULL_422")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT)
    assert refused(data).kind == "unsupported"


def test_damaged_files_are_faults_and_nothing_else():
    rng = np.random.default_rng(0)
    whole = [
        written(with_pixels(photograph(), "RGB")),
        written(with_frame(jpeg(photograph()), "YBR_FULL_422")),
    ]
    outcomes = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(150):
            content = bytearray(whole[number % 2])
            for place in rng.integers(132, min(len(content), 1200), 4):
                content[place] = rng.integers(256)
            if number % 3 == 0:
                del content[rng.integers(132, len(content)) :]
            dicom.facts(bytes(content))
            try:
                to_pixels(dicom.open_dicom(bytes(content)), WHOLE)
                outcomes.add("read")
            except ImageFault as fault:
                outcomes.add(fault.kind)
    assert {"read", "unreadable"} <= outcomes


@pytest.mark.parametrize(
    ("text", "years"),
    [("045Y", 45), ("006M", 0.5), ("052W", 52 * 7 / 365.25), ("010D", 10 / 365.25), ("000Y", 0)],
)
def test_ages(text, years):
    assert dicom.age_of(text) == pytest.approx(years)
    data = with_pixels(photograph(), "RGB")
    data.PatientAge = text
    assert dicom.facts(written(data)).age == pytest.approx(years)


@pytest.mark.parametrize("text", ["", "45", "Y", "999Y", "about 45", "-05Y", "Doe^Jane"])
def test_ages_that_are_none(text):
    assert math.isnan(dicom.age_of(text))


@pytest.mark.parametrize(("text", "sex"), [("M", "male"), ("F", "female"), ("O", ""), ("", "")])
def test_sexes(text, sex):
    data = with_pixels(photograph(), "RGB")
    data.PatientSex = text
    assert dicom.facts(written(data)).sex == sex


def item(scheme, value, meaning):
    made = Dataset()
    made.CodingSchemeDesignator, made.CodeValue, made.CodeMeaning = scheme, value, meaning
    return made


def test_sites():
    data = with_pixels(photograph(), "RGB")
    assert dicom.facts(written(data)).site == ""
    data.BodyPartExamined = "FOREARM"
    assert dicom.facts(written(data)).site == "upper extremity"
    forehead = codes.CID4029.SkinOfForehead
    told = item(forehead.scheme_designator, forehead.value, "Stirn")  # in whatever language
    data.AnatomicRegionSequence = [told]
    assert dicom.facts(written(data)).site == "face"
    data.AnatomicRegionSequence = [item("99OWN", "17", "Skin of lower back")]
    assert dicom.facts(written(data)).site == "back"
    data.AnatomicRegionSequence = [item("99OWN", "17", "Jane Doe's")]
    assert dicom.facts(written(data)).site == ""


def test_sites_of_the_standard_have_ham10000s_words():
    group = codes.CID4029
    found = {}
    for name in group.dir():
        found.setdefault(dicom.site_of(getattr(group, name).meaning), []).append(name)
    known = [
        "abdomen",
        "back",
        "chest",
        "ear",
        "face",
        "foot",
        "genital",
        "hand",
        "neck",
        "scalp",
        "trunk",
    ]
    assert set(found) == {"", *known, "lower extremity", "upper extremity"}
    assert len(found[""]) < 32  # mucosa, parts of the eye, and what could be several
    for words, site in (
        ("Skin of forearm", "upper extremity"),
        ("Skin of lower lip", "face"),
        ("Skin of lower leg", "lower extremity"),
        ("Skin of part of dorsal surface of hand", "hand"),
        ("Skin of paraspinal area of the neck", "neck"),
        ("Skin of posterior helix of ear", "ear"),
        ("Skin of sole of forefoot", "foot"),
        ("Skin of posterior surface of thorax", "back"),
        ("Skin of head", ""),
    ):
        assert dicom.site_of(words) == site


def test_identity_is_not_even_read():
    content = written(with_pixels(photograph(), "RGB"))
    assert b"Doe^Jane" in content
    for elements in (dicom._PICTURE, dicom._TELLING):
        text = repr(dicom._dataset(content, elements).to_json_dict())
        for secret in ("Doe", "SECRET", "1970", "Clinic"):
            assert secret not in text
    image = dicom.open_dicom(content)
    assert not image.info


def test_without_pydicom_the_message_says_what_to_install(monkeypatch):
    import sys

    content = written(with_pixels(photograph(), "RGB"))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.delitem(sys.modules, "pydicom.filereader", raising=False)
    with pytest.raises(ImageFault, match=r"pip install '\.\[dicom\]'"):
        dicom.open_dicom(content)
