"""The index of cases: one file with what a model made of known images, their diagnoses, pictures.

A zip file: cases.json says what is in it, cases.csv has a row per image, cases.npz (no pickle) the
vectors and the projection, and the small pictures as JPEG.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.advice import command
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.errors import BundleError, DataError
from lesionlab.files import replacing
from lesionlab.prediction.bundle import Bundle
from lesionlab.prediction.predictor import BLOCK, Predictor
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.retrieval.projection import Floats, Projection, fit_projection
from lesionlab.tables import lesions_of

KIND = "lesionlab cases 1"
INFO, TABLE, ARRAYS = "cases.json", "cases.csv", "cases.npz"
THUMBNAIL = 112
"""Pixels on the longer side of a small picture."""
_QUALITY = 75
_COLUMNS = ("image_id", "lesion_id", "target", "dx_type", "age", "sex", "site", "sha256")
_STAMP = (1980, 1, 1, 0, 0, 0)  # the same content is the same file


@dataclass(frozen=True, eq=False)
class CaseIndex:
    """An opened index of cases.

    Attributes:
        path: the file.
        info: classes, name and fingerprint of the bundle, licence of the images, notes.
        table: a row per image: image_id, lesion_id, target, dx_type, age, sex, site, sha256.
        projection: from the bundle's features to `vectors`.
        vectors: unit vectors, float32, shape (n, dimensions).
        pictures: all small pictures, one JPEG after the other, shape (bytes,).
        ends: where each of them ends, shape (n,).
    """

    path: Path
    info: dict[str, Any]
    table: pd.DataFrame
    projection: Projection
    vectors: Floats
    pictures: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @cached_property
    def lesion(self) -> NDArray[np.object_]:
        """The lesion of each image; one of unknown lesion is a lesion by itself."""
        return lesions_of(self.table).to_numpy(object)

    @cached_property
    def hashes(self) -> NDArray[np.object_]:
        """The SHA-256 of each image's file."""
        return self.table["sha256"].to_numpy(object)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"<CaseIndex of {len(self):,} images, made with {self.info['bundle']}>"

    @classmethod
    def open(cls, path: str | Path) -> CaseIndex:
        """Open an index.

        Raises:
            DataError: if it is missing, damaged or something else.
        """
        path = Path(path)
        try:
            with zipfile.ZipFile(path) as archive:
                info = json.loads(archive.read(INFO))
                if info["kind"] != KIND:
                    raise DataError(
                        f"{path} is a {info['kind']}, and this version of lesionlab reads {KIND}. "
                        f"Make it again: {command('index', 'DATA', out=path)}"
                    )
                table = pd.read_csv(
                    io.BytesIO(archive.read(TABLE)), dtype=str, keep_default_na=False
                )
                with np.load(io.BytesIO(archive.read(ARRAYS)), allow_pickle=False) as found:
                    arrays = {name: found[name] for name in found.files}
            made = cls(
                path,
                info,
                table,
                Projection(arrays["mean"], arrays["axes"]),
                arrays["vectors"].astype(np.float32),
                arrays["pictures"],
                arrays["ends"],
            )
        except FileNotFoundError as error:
            raise DataError(
                f"{path} does not exist. Make it: {command('index', 'DATA', out=path)}"
            ) from error
        except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise DataError(f"{path} is no index of cases, or is damaged: {error}") from error
        if not len(made.table) == len(made.vectors) == len(made.ends):
            raise DataError(f"{path} is damaged: its parts are of different length.")
        return made

    def picture(self, row: int) -> bytes:
        """The small picture of a row, a JPEG."""
        start = int(self.ends[row - 1]) if row else 0
        return self.pictures[start : int(self.ends[row])].tobytes()

    def check(self, bundle: Bundle) -> None:
        """Make sure that it was made with a bundle: features of another cannot be compared.

        Raises:
            BundleError: if it was made with another.
        """
        if self.info["fingerprint"] != bundle.fingerprint:
            raise BundleError(
                f"{self.path} was made with {self.info['bundle']} ({self.info['fingerprint']}), "
                f"and this is {bundle.name} ({bundle.fingerprint}). Make it again: "
                f"{command('index', 'DATA', model=bundle.path, out=self.path)}"
            )


def index(
    data: Catalogue | str | Path,
    *,
    out: str | Path,
    model: Bundle | str | Path | None = None,
    licence: str = "",
    listen: Listener = silent,
) -> CaseIndex:
    """Make an index of cases, in which `similar` looks for the nearest ones.

    What the model makes of every image is projected so that photographs of one lesion are near each
    other; the projection is learnt from the catalogue itself. Images that cannot be read are left
    out, with a notice.

    Args:
        data: a catalogue or its folder.
        out: the file to write, such as cases.index.
        model: a bundle with features; by default the model that comes with lesionlab.
        licence: of the images, which the index shows small.
        listen: told of the progress.

    Raises:
        BundleError: if the bundle gives no features.
        DataError: if no image can be read.
    """
    out = Path(out)
    data = Catalogue.open(data)
    predictor = Predictor(model if isinstance(model, Bundle) else Bundle.open(model))
    bundle = predictor.bundle
    reader, n = Reader(data.root), len(data.table)
    paths = data.table["path"].tolist()
    kept: list[int] = []
    features: list[Floats] = []
    pictures: list[bytes] = []
    for start in range(0, n, BLOCK):
        pixels = []
        for row in range(start, min(start + BLOCK, n)):
            try:
                content = reader.bytes_of(paths[row])
                pixels.append(predictor.read(content, paths[row]))
                pictures.append(_thumbnail(reader, paths[row], content))
            except ImageFault:
                continue
            kept.append(row)
        if pixels:
            features.append(predictor.features(np.stack(pixels)))
        listen(Step("indexing", min(start + BLOCK, n), n, "images"))
    if not kept:
        raise DataError(f"None of the {n} images can be read. `lesionlab audit` says why.")
    if len(kept) < n:
        listen(Notice(f"{n - len(kept)} of {n} images cannot be read: they are left out."))
    table = data.table.iloc[kept].reindex(columns=list(_COLUMNS)).reset_index(drop=True)
    made = np.concatenate(features)
    projection = fit_projection(made, lesions_of(table), table["target"])
    info = {
        "kind": KIND,
        "classes": list(data.classes),
        "bundle": f"{bundle.name} {bundle.version}",
        "fingerprint": bundle.fingerprint,
        "catalogue": data.fingerprint,
        "licence": licence,
    }
    arrays: dict[str, NDArray[Any]] = {
        "mean": projection.mean,
        "axes": projection.axes,
        "vectors": projection(made).astype(np.float16),
        "pictures": np.frombuffer(b"".join(pictures), np.uint8),
        "ends": np.cumsum([len(each) for each in pictures]),
    }
    _write(out, info, table, arrays)
    return CaseIndex.open(out)


def _thumbnail(reader: Reader, path: str, content: bytes) -> bytes:
    image = reader.open(path, content).convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _write(
    path: Path, info: dict[str, Any], table: pd.DataFrame, arrays: dict[str, NDArray[Any]]
) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    content = {
        INFO: json.dumps(info, indent=1, ensure_ascii=False).encode(),
        TABLE: table.to_csv(index=False, lineterminator="\n").encode(),
        ARRAYS: buffer.getvalue(),
    }
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, each in content.items():
            archive.writestr(zipfile.ZipInfo(name, _STAMP), each)
