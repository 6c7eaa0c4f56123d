"""`Reader`: images of a catalogue, from files, DICOM and arrays."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from lesionlab.errors import DataError

if TYPE_CHECKING:
    from lesionlab.recipe.schema import Images
from lesionlab.data.images.decode import open_image, to_pixels, upright_size
from lesionlab.data.images.dicom import open_dicom
from lesionlab.data.images.faults import ImageFault


class Reader:
    """Reads images of a data folder by the `path` column of its catalogue.

    A path is a file ("part_1/ISIC_0024306.jpg") or a row of an array:
    "dermamnist.npz#train_images/17", "X.npy#17" or "hmnist_28_28_RGB.csv#17"; or an image file in
    an HDF5 file, "train-image.hdf5#ISIC_0015670".
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._arrays: dict[str, NDArray[np.uint8]] = {}
        self._loading = Lock()

    def bytes_of(self, path: str) -> bytes:
        """The content of an image: its file's bytes, or the pixels of an array's row.

        Raises:
            ImageFault: if the file is missing, empty or cannot be read.
        """
        if in_array(path):
            return self._row(path).tobytes()
        if _HDF5.search(path):
            return self._stored(path)
        try:
            content = (self.root / path).read_bytes()
        except FileNotFoundError as error:
            raise ImageFault("missing_image", f"{path} does not exist") from error
        except OSError as error:
            raise ImageFault("unreadable", f"{path} cannot be read ({error.strerror})") from error
        if not content:
            raise ImageFault("empty_file", f"{path} has 0 bytes")
        return content

    def open(self, path: str, content: bytes | None = None) -> Image.Image:
        """The image, not yet decoded where its format allows that.

        Raises:
            ImageFault: if the file is missing, empty or no image.
        """
        if in_array(path):
            return Image.fromarray(self._row(path))
        content = self.bytes_of(path) if content is None else content
        if content[128:132] == b"DICM":
            return open_dicom(content, path)
        return open_image(content, path)

    def pixels(self, path: str, images: Images, sha256: str = "") -> NDArray[np.uint8]:
        """Decode, turn upright, convert to RGB and resize one image.

        Args:
            path: as in the catalogue.
            images: size and fit.
            sha256: if given, what the content must hash to.

        Returns:
            uint8, shape (height, width, 3).

        Raises:
            ImageFault: if the image cannot be read whole or is not the one that was catalogued.
        """
        return to_pixels(self._catalogued(path, sha256), images, path)

    def upright(self, path: str, sha256: str = "") -> tuple[Image.Image, tuple[int, int]]:
        """The image, and its height and width in pixels once it is turned upright.

        Args:
            path: as in the catalogue.
            sha256: if given, what the content must hash to.

        Raises:
            ImageFault: if the image cannot be read or is not the one that was catalogued.
        """
        image = self._catalogued(path, sha256)
        return image, upright_size(image, path)

    def _catalogued(self, path: str, sha256: str) -> Image.Image:
        content = self.bytes_of(path)
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise ImageFault("changed", f"{path} is not the file that was catalogued")
        return self.open(path, content)

    def _row(self, path: str) -> NDArray[np.uint8]:
        file, _, key = path.partition("#")
        array, _, row = key.rpartition("/")
        name = f"{file}#{array}"
        try:
            with self._loading:  # threads share one copy
                if name not in self._arrays:
                    self._arrays[name] = self._load(file, array)
            image: NDArray[np.uint8] = self._arrays[name][int(row)]
        except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
            raise ImageFault("unreadable", f"{path} cannot be read from its array") from error
        return image

    def _load(self, file: str, array: str) -> NDArray[np.uint8]:
        if not (self.root / file).is_file():
            raise ImageFault("missing_image", f"{file} does not exist")
        if file.lower().endswith(".npy"):
            pixels = np.load(self.root / file, mmap_mode="r")
        elif not array:
            return read_pixel_table(self.root / file)[0]
        else:
            with np.load(self.root / file) as arrays:
                pixels = arrays[array]
        if fault := array_fault(pixels.shape, pixels.dtype):
            raise ImageFault("unsupported", f"{file}: {array} {fault}")
        return np.asarray(pixels[..., 0] if pixels.shape[3:] == (1,) else pixels)

    def _stored(self, path: str) -> bytes:
        """The bytes of an image that lies in an HDF5 file under its name."""
        try:
            import h5py
        except ImportError as error:
            raise ImageFault(
                "unsupported", f"Reading {path} needs h5py: pip install 'lesionlab[hdf5]'"
            ) from error
        file, _, name = path.partition("#")
        if not (self.root / file).is_file():
            raise ImageFault("missing_image", f"{file} does not exist")
        try:
            with self._loading, h5py.File(self.root / file) as images:
                content = images[name][()]
        except (OSError, KeyError) as error:
            raise ImageFault("unreadable", f"{path} cannot be read from its file") from error
        return bytes(content)


_HDF5 = re.compile(r"\.(hdf5|h5)#", re.IGNORECASE)


def array_fault(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """Why an array holds no images as they are stored here, with the way out; "" if it does."""
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        return (
            f"has the shape {shape}; images are (n, height, width) or (n, height, width, 3). "
            "Bring its axes into that order and save it again"
        )
    if dtype != np.uint8:
        return (
            f"holds {dtype}; images are uint8, 0 to 255. Save it again: of 0 to 1 as "
            "(images * 255).round().astype('uint8'), and of normalised values only after undoing "
            "that"
        )
    return ""


def file_of(path: str) -> str:
    """The file that a catalogue's path lies in: itself, or what holds many images."""
    return path.partition("#")[0] if in_array(path) or _HDF5.search(path) else path


def in_array(path: str) -> bool:
    """Whether a catalogue's path means a row of an array and not a file of its own."""
    return re.search(r"\.(npz|npy|csv)#", path, re.IGNORECASE) is not None


def read_pixel_table(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read one of Kaggle's `hmnist_*` tables: a row per image, a column per pixel, the label last.

    Returns:
        Images, uint8, shape (n, side, side) or (n, side, side, 3), and labels, shape (n,).

    Raises:
        DataError: if the number of pixel columns fits no square image.
    """
    table = pd.read_csv(path)
    if "label" not in table.columns:
        raise DataError(f"{path} has no column 'label', so it is not one of the hmnist tables.")
    labels = table.pop("label").to_numpy()
    values = table.to_numpy()
    if labels.dtype.kind not in "iu" or values.dtype.kind not in "iu":
        raise DataError(f"{path} holds other than whole numbers, so it is no table of pixels.")
    if values.size and not 0 <= values.min() <= values.max() <= 255:
        raise DataError(
            f"{path} holds pixels from {values.min()} to {values.max()}; 0 to 255 is right."
        )
    labels, pixels = labels.astype(np.int64), values.astype(np.uint8)
    for channels in (1, 3):
        side = round((pixels.shape[1] / channels) ** 0.5)
        if side * side * channels == pixels.shape[1]:
            shape = (len(pixels), side, side) + ((3,) if channels == 3 else ())
            return pixels.reshape(shape), labels
    raise DataError(f"{path} has {pixels.shape[1]} pixel columns, which is no square image.")
