"""Dermoscopic DICOM in: pixels, age, sex and site. Who it is of is never read.

Of a file only the elements listed here are read; names, numbers, dates and free text about a
patient stay in it. Needs pydicom, the extra `dicom`.

The class of such files is Dermoscopic Photography Image Storage (DICOM PS3.3, A.32.11), or the
older VL Photographic Image Storage.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lesionlab.data.images.decode import open_image
from lesionlab.data.images.faults import ImageFault
from lesionlab.tables import OLDEST

if TYPE_CHECKING:
    from pydicom import Dataset

SOP_CLASSES: Mapping[str, str] = {
    "1.2.840.10008.5.1.4.1.1.77.1.7": "Dermoscopic Photography Image Storage",
    "1.2.840.10008.5.1.4.1.1.77.1.4": "VL Photographic Image Storage",
}
"""What is read; every other class is refused."""


_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PLAIN = (  # pydicom's own code decodes these
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5",  # RLE
)
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_GREYS = ("MONOCHROME1", "MONOCHROME2")
_TELLING = (
    "SOPClassUID",
    "PatientAge",
    "PatientSex",
    "AnatomicRegionSequence",
    "BodyPartExamined",
    "NumberOfFrames",
)
_PALETTE = tuple(
    f"{kind}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for kind, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
_PICTURE = (
    "SOPClassUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    *_PALETTE,
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
)


@dataclass(frozen=True)
class Facts:
    """What a file tells beside its pixels.

    Attributes:
        age: years, 0 to 120; NaN = unknown.
        sex: "male", "female" or "" = unknown.
        site: one of HAM10000's words, or "" = unknown.
        frames: how many images it holds; the first one counts.
    """

    age: float = float("nan")
    sex: str = ""
    site: str = ""
    frames: int = 1


def is_dicom(content: bytes) -> bool:
    """Whether bytes begin as a DICOM file does; the first 132 are enough."""
    return content[128:132] == b"DICM"


def is_dicom_file(path: str | Path) -> bool:
    """Whether a file begins as a DICOM file does; not if it cannot be read."""
    try:
        with Path(path).open("rb") as handle:
            return is_dicom(handle.read(132))
    except OSError:
        return False


def open_dicom(content: bytes, name: str = "the image") -> Image.Image:
    """The first frame of a DICOM file, as `PIL.Image.open` would give it.

    An encapsulated JPEG is opened by Pillow, as a file of its own would be, and is not decoded yet.
    Samples of more than 8 bits lose the lowest. Windows and ICC profiles are not applied, and what
    Exif an encapsulated JPEG has does not count.

    Args:
        content: the file.
        name: what to call it in messages.

    Returns:
        An image of mode L or RGB; its `n_frames` is the number of frames.

    Raises:
        ImageFault: if it is no dermoscopic DICOM file, is broken, or is encoded in a way that
            cannot be read.
    """
    try:
        syntax = _transfer_syntax(content)
        if syntax not in (*_PLAIN, *_JPEG, *_JPEG_2000):
            raise ImageFault(
                "dicom_encoding",
                f"{name} is encoded as {_named(syntax)}, which is not read. Convert it to an "
                "uncompressed or JPEG baseline file first.",
            )
        data = _dataset(content, _PICTURE)
        _check(data, name)
        image = _picture(data, syntax, name)
    except ImageFault:
        raise
    except Image.DecompressionBombError as error:
        raise ImageFault("too_large", f"{name} is too large to decode safely") from error
    except Exception as error:  # a broken file raises whatever it happens to break
        raise ImageFault(
            "unreadable", f"{name} is a DICOM file that cannot be decoded: {_first_line(error)}"
        ) from error
    image.n_frames = _frames(data)  # type: ignore[attr-defined]
    return image


def facts(content: bytes) -> Facts:
    """Age, sex, site and number of frames of a DICOM file; what cannot be read is unknown.

    Args:
        content: the file.
    """
    try:
        if _transfer_syntax(content) == _DEFLATED:
            return Facts()
        data = _dataset(content, _TELLING)
        sex = {"M": "male", "F": "female"}.get(_text(data, "PatientSex").upper(), "")
        return Facts(age_of(_text(data, "PatientAge")), sex, _site(data), _frames(data))
    except Exception:  # told where its pixels are read
        return Facts()


def age_of(text: str) -> float:
    """Years of a DICOM age such as "045Y", "018M", "006W" or "010D"; NaN where it is none."""
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text.strip().upper())
    if not match:
        return float("nan")
    years = int(match[1]) / {"D": 365.25, "W": 365.25 / 7, "M": 12, "Y": 1}[match[2]]
    return years if years <= OLDEST else float("nan")


def site_of(words: str) -> str:
    """The catalogue's word for an anatomic site, or "" where none of them fits.

    Args:
        words: English, such as the meanings of DICOM's context group 4029, "Skin of forehead".

    Returns:
        One of HAM10000's words. "" for what could be several of them, as the head, and for what is
        none, as mucosa.
    """
    text = words.lower().replace("_", " ")
    return next((site for site, found in _SITES.items() if re.search(found, text)), "")


_SITES: Mapping[str, str] = {
    site: rf"\b({words})\b"
    for site, words in (  # the first that fits: "paraspinal area of the neck" is no back
        ("", "mucosa|cornea|sclera|iris|retina|tooth|axilla|perineum|anus|inguinal"),
        ("neck", "neck|nuchal|submental|submandibular"),
        ("ear", "ears?|helix|antihelix|a(nti|)tragus|tragus|intertragal|concha|pinna|postauricular"
                "|auditory canal"),
        ("scalp", "scalp|parietal|occipital"),
        ("face", "face|facial|cheek|chin|forehead|nose|nasi|nasal|paranasal|nasolabial|infraalar"
                 "|(upper |lower |)eyelid|eyelash|eye|eyebrow|canthus|caruncle|lips?|philtrum"
                 "|jawline|temporal|temple|perioral|preauricular"),
        ("genital", "genitalia?|genitals|penis|scrotum|labium|labia|vulva|vulval|vaginal|vagina"
                    "|clitoris|urethral"),
        ("foot", "foot|feet|forefoot|soles?|heel|toes?|plantar"),
        ("upper extremity", "upper (extremity|limb)|(fore|upper |lower |)arms?|elbow|antecubital"
                            "|shoulder|wrist"),
        ("hand", "hands?|palms?|palmar|thenar|hypothenar|fingers?|thumb"),
        ("lower extremity", "lower (extremity|limb)|legs?|thigh|knee|popliteal|ankle|calf|shin"),
        ("back", "back|paraspinal|posterior surface of thorax"),
        ("chest", "chest|breast|thorax|nipple|areola|sternal|infraclavicular"),
        ("abdomen", "abdomen|umbilicus|epigastric|hypogastric"),
        ("trunk", "trunk|torso"),
    )
}  # fmt: skip


def _first_line(error: Exception) -> str:
    """What went wrong, without what a file may say of its own."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _transfer_syntax(content: bytes) -> str:
    """How a file is encoded; read first, since a deflated one swells while it is read."""
    pydicom_reader = _reader()
    handle = io.BytesIO(content)
    handle.seek(132)
    meta = pydicom_reader.read_dataset(
        handle,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag.group != 2,
    )
    return str(meta.TransferSyntaxUID)


def _reader() -> Any:
    try:
        from pydicom import filereader
    except ModuleNotFoundError as error:
        raise ImageFault(
            "dicom_extra", "Reading DICOM needs pydicom: pip install '.[dicom]'"
        ) from error
    return filereader


def _dataset(content: bytes, elements: tuple[str, ...]) -> Dataset:
    found: Dataset = _reader().dcmread(
        io.BytesIO(content),
        specific_tags=list(elements),
        stop_before_pixels="PixelData" not in elements,
    )
    return found


def _named(syntax: str) -> str:
    from pydicom.uid import UID

    return str(UID(syntax).name)


def _check(data: Dataset, name: str) -> None:
    kind = str(data.get("SOPClassUID", ""))
    if kind not in SOP_CLASSES:
        raise ImageFault(
            "dicom_class",
            f"{name} is a DICOM file of the class {_named(kind) or 'unknown'}, not of "
            f"{' or '.join(SOP_CLASSES.values())}",
        )
    if "PixelData" not in data:
        raise ImageFault("unreadable", f"{name} is a DICOM file without pixels")
    limit = Image.MAX_IMAGE_PIXELS
    if limit and int(data.Rows) * int(data.Columns) > 2 * limit:
        raise ImageFault("too_large", f"{name} is too large to decode safely")
    colours = data.PhotometricInterpretation
    if colours not in (*_COLOURS, *_GREYS, "PALETTE COLOR"):
        raise ImageFault(
            "dicom_encoding", f"{name} has colours of the kind {str(colours)[:40]}, not read here"
        )


def _frames(data: Dataset) -> int:
    return int(_text(data, "NumberOfFrames") or 1)


def _picture(data: Dataset, syntax: str, name: str) -> Image.Image:
    if syntax not in _PLAIN:
        return _from_jpeg(data, "JPEG" if syntax in _JPEG else "JPEG2000", name)
    from pydicom.pixels.processing import apply_color_lut, convert_color_space
    from pydicom.pixels.utils import pixel_array

    colours = data.PhotometricInterpretation
    samples = pixel_array(data, index=0, raw=True)  # planes and half chroma are put right
    if colours == "PALETTE COLOR":
        entries = apply_color_lut(samples, data)
        return Image.fromarray(
            _to_bytes(entries, int(data.RedPaletteColorLookupTableDescriptor[2]))
        )
    if data.PixelRepresentation:
        samples = samples.astype(np.int32) + (1 << (data.BitsStored - 1))
    pixels = _to_bytes(samples, data.BitsStored)
    if colours in _GREYS:
        return _positive(Image.fromarray(pixels), colours)
    if colours == "RGB":
        return Image.fromarray(pixels)
    return Image.fromarray(convert_color_space(pixels, "YBR_FULL", "RGB"))  # rounds as libjpeg


def _to_bytes(samples: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """The 8 highest of so many bits."""
    shifted = samples >> (bits - 8) if bits > 8 else samples
    if bits < 8:
        shifted = samples.astype(np.uint16) * 255 // ((1 << bits) - 1)
    return np.ascontiguousarray(shifted.astype(np.uint8))


def _positive(image: Image.Image, colours: str) -> Image.Image:
    return ImageOps.invert(image.convert("L")) if colours == "MONOCHROME1" else image


def _from_jpeg(data: Dataset, kind: str, name: str) -> Image.Image:
    from pydicom.encaps import get_frame

    offsets = None
    if "ExtendedOffsetTable" in data:
        offsets = (data.ExtendedOffsetTable, data.ExtendedOffsetTableLengths)
    frame = get_frame(data.PixelData, 0, number_of_frames=_frames(data), extended_offsets=offsets)
    image = open_image(frame, f"the image in {name}", formats=(kind,))
    if image.size != (data.Columns, data.Rows):
        raise ImageFault(
            "unreadable",
            f"{name} says {data.Columns} x {data.Rows} pixels, but its {kind} has "
            f"{image.width} x {image.height}",
        )
    as_they_are = data.PhotometricInterpretation == "RGB" and kind == "JPEG" and _unmarked(image)
    image.getexif()[0x0112] = 1  # how it is turned is for the DICOM file to say
    image.info.clear()
    if as_they_are:
        image.draft("YCbCr", image.size)  # its three components as they are
        return Image.merge("RGB", image.split())
    return _positive(image, str(data.PhotometricInterpretation))


def _unmarked(image: Any) -> bool:
    """Whether a JPEG leaves open what its three components are: Pillow takes it as YCbCr then."""
    named = bytes(layer[0] for layer in image.layer) == b"RGB"
    return image.mode == "RGB" and not named and not {"jfif", "adobe_transform"} & set(image.info)


def _text(data: Dataset, element: str) -> str:
    """An element's characters as they stand in the file, unchecked; "" where it has none."""
    value = getattr(data.get_item(element), "value", None)
    if isinstance(value, bytes):
        value = value.decode("ascii", "ignore")
    return str(value if value is not None else "").strip(" \0")


def _site(data: Dataset) -> str:
    for item in data.get("AnatomicRegionSequence") or ():
        code = (str(item.get("CodingSchemeDesignator", "")), str(item.get("CodeValue", "")))
        known = _meanings().get(code, "")  # of the standard; else in what words the file has it
        return site_of(known or str(item.get("CodeMeaning", "")))
    return site_of(_text(data, "BodyPartExamined"))


@cache
def _meanings() -> dict[tuple[str, str], str]:
    """Meanings of the codes of context group 4029, dermatology's anatomic sites."""
    from pydicom.sr.codedict import codes

    group = codes.CID4029
    found = (getattr(group, name) for name in group.dir())
    return {(code.scheme_designator, code.value): code.meaning for code in found}
