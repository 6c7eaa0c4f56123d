"""Segmentations of lesions: found in a folder, read, and framed as the network frames the picture.

A mask shows a whole photograph, at any scale, with the lesion white on black. It goes through the
same geometry as its photograph (turn upright, stretch, crop or pad), but nearest pixels are taken
and nothing is blended: a pixel is of the lesion or it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lesionlab.data.images.decode import decodable
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.errors import DataError
from lesionlab.recipe.schema import Images

Mask = NDArray[np.bool_]
"""True inside the lesion, shape (height, width)."""

SUFFIXES = ("_segmentation", "_mask", "")
"""What a mask's name has behind the image's id, or behind its photograph's name."""
_TOLD = 3  # faults named in a message


@dataclass(frozen=True)
class Masks:
    """A folder of segmentations.

    Attributes:
        folder: searched through, subfolders too.
        files: by the name in front of the suffix.
    """

    folder: Path
    files: Mapping[str, Path]

    @classmethod
    def open(cls, folder: str | Path) -> Masks:
        """List the masks of a folder: <image_id>_segmentation.png, <image_id>.png and the like.

        Raises:
            DataError: if it is not there, holds no images, or two of them for one lesion.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder. Give the folder of the masks with --masks.")
        return cls._of(folder, SUFFIXES)

    @classmethod
    def beside(cls, root: Path) -> Masks:
        """The masks that lie among the photographs, told from them by their names' suffix.

        Raises:
            DataError: if there is none, or two for one lesion.
        """
        return cls._of(root, tuple(each for each in SUFFIXES if each))

    @classmethod
    def _of(cls, folder: Path, suffixes: Sequence[str]) -> Masks:
        found: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in decodable():
                name, stem = path.stem, path.stem.lower()
                ending = next((each for each in suffixes if stem.endswith(each)), None)
                if ending is not None:
                    found.setdefault(name[: len(name) - len(ending)], []).append(path)
        if not found:
            raise DataError(
                f"{folder} holds no masks. Give their folder with --masks; a mask is called "
                "<image_id>_segmentation.png, or <image_id>.png."
            )
        if twice := [paths for paths in found.values() if len(paths) > 1]:
            listed = "; ".join(
                " and ".join(str(path.relative_to(folder)) for path in paths)
                for paths in twice[:_TOLD]
            )
            raise DataError(
                f"{folder} holds more than one mask of {len(twice)} images: {listed}. Give a "
                "folder with one mask of each with --masks."
            )
        return cls(folder, {name: paths[0] for name, paths in found.items()})

    def file(self, image_id: str, path: str = "") -> Path | None:
        """The mask of an image.

        Args:
            image_id: its id.
            path: of its photograph, whose name a mask may bear instead.
        """
        return self.files.get(image_id) or self.files.get(Path(path).stem)

    def read(self, wanted: Iterable[tuple[str, str, tuple[int, int]]]) -> dict[str, Mask]:
        """Read masks as they are, and make sure that they are whole pictures of the same shape.

        Args:
            wanted: of each image its id, its photograph's path, and that one's height and width
                once it is turned upright.

        Returns:
            By image_id, at their own size; images without a mask are missing.

        Raises:
            DataError: naming masks that cannot be read or have another shape, and what to do.
        """
        made: dict[str, Mask] = {}
        broken, misshapen = [], []
        for image_id, path, size in wanted:
            if (file := self.file(image_id, path)) is None:
                continue
            try:
                mask = _read(file)
            except ImageFault as fault:
                broken.append(str(fault))
                continue
            if _alike(mask.shape, size):
                made[image_id] = mask
            else:
                rows, columns = mask.shape
                shape = f"{rows} x {columns} pixels, its photograph {size[0]} x {size[1]}"
                misshapen.append(f"{file.name} has {shape}")
        said = []
        if misshapen:
            said.append(
                f"{len(misshapen)} masks in {self.folder} have another shape (height x width) than "
                f"their photographs: {_some(misshapen)}. A mask must show the whole photograph, "
                "upright, at any scale. Make them again from the uncropped photographs, or give "
                "another folder with --masks."
            )
        if broken:
            said.append(
                f"{len(broken)} masks in {self.folder} cannot be read: {_some(broken)}. Replace "
                "them, or take them out of the folder: images without a mask are left out."
            )
        if said:
            raise DataError("\n".join(said))
        return made


def framed(mask: Mask, images: Images) -> Mask:
    """A mask as the network frames its photograph; what is padded is outside.

    Args:
        mask: of the whole photograph, at any scale.
        images: size and fit of the network's input.

    Returns:
        Shape `images.size`, each pixel that of the nearest one of the mask.
    """
    height, width = images.size
    drawn = Image.fromarray(mask.astype(np.uint8) * 255)
    nearest = Image.Resampling.NEAREST
    if images.fit == "crop":
        sized = ImageOps.fit(drawn, (width, height), nearest)
    elif images.fit == "pad":
        sized = ImageOps.pad(drawn, (width, height), nearest)
    else:
        sized = drawn.resize((width, height), nearest)
    return np.asarray(np.asarray(sized) > 127)


def drawn_mask(image: Image.Image, name: str = "the mask") -> Mask:
    """What a mask's picture says: the brighter half of the scale is the lesion; 0 and 1 do as well.

    Raises:
        ImageFault: if the picture is broken.
    """
    try:
        upright = ImageOps.exif_transpose(image)
        grey = np.asarray(upright.convert("RGB") if upright.mode in ("P", "PA") else upright)
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageFault("unreadable", f"{name} cannot be decoded: {error}") from error
    if grey.dtype == bool:
        return grey
    if grey.ndim == 3:
        grey = grey[..., :3] if grey.shape[2] > 2 else grey[..., :1]
        grey = grey.max(axis=2)
    top = 1.0 if grey.max() <= 1 else float(np.iinfo(grey.dtype).max) if _whole(grey) else 255.0
    return np.asarray(grey > top / 2)


def _whole(values: NDArray[np.generic]) -> bool:
    return bool(np.issubdtype(values.dtype, np.integer)) and values.dtype.itemsize <= 2


def _read(path: Path) -> Mask:
    return drawn_mask(Reader(path.parent).open(path.name), path.name)


def _alike(one: tuple[int, ...], other: tuple[int, int]) -> bool:
    """Whether two pictures have the same shape, but for the rounding of a side."""
    height, width = one
    return (
        min(abs(height - width * other[0] / other[1]), abs(width - height * other[1] / other[0]))
        <= 1
    )


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - _TOLD
    return "; ".join(texts[:_TOLD]) + (f"; and {more} more" if more > 0 else "")
