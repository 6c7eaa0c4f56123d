"""Bundle: one file with all that an answer takes: networks, preprocessing, calibration, card.

A bundle is a zip file without folders and without compression of its own: `bundle.json` says what
is in it, the networks are ONNX, arrays are `.npz` without pickle. It is safe to open one from a
stranger: nothing in it is run but the networks, by onnxruntime, which know tensors and no files.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlab.errors import BundleError
from lesionlab.evaluation.calibration.scaling import Scaling
from lesionlab.evaluation.class_quality import ClassQuality, class_quality
from lesionlab.evaluation.conformal.shifted import Reference
from lesionlab.evaluation.outliers.detectors import Detector, detector_of
from lesionlab.evaluation.triage.risk_control import ReferralRule, operating_points
from lesionlab.files import fingerprint, replacing
from lesionlab.models.metadata_encoder import MetadataEncoder
from lesionlab.recipe.schema import Images

KIND = "lesionlab bundle 2"
FIRST_KIND = "lesionlab bundle 1"
"""Bundles from before referral was fitted to a promise: their operating points alone refer."""
MANIFEST = "bundle.json"
DETECTOR, REFERENCE = "detector.npz", "reference.npz"
CARD, CARD_PAGE, LICENCE = "card.json", "card.html", "LICENSE"
DEFAULT = "default.bundle"
"""The default model's file, in the package's folder `shipped`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MOST_FILES = 64
_MOST_BYTES = 2**31
_MOST_TEXT = 2**25
_STAMP = (1980, 1, 1, 0, 0, 0)  # of every file inside: the same content is the same bundle


@dataclass(frozen=True)
class Member:
    """One network of a bundle.

    Attributes:
        file: its ONNX file.
        weight: its share in the mean of probabilities; those of all members add up to 1.
        encoder: numbers of age, sex and site; None where it takes none.
        map_grid: rows and columns of its class activation maps; None where it gives none.
        features: how many numbers it makes of an image before its classifier; 0: gives none.
        middle: how many channels it has halfway, whose means it gives too; 0: gives none.
    """

    file: str
    weight: float
    encoder: MetadataEncoder | None
    map_grid: tuple[int, int] | None
    features: int
    middle: int = 0

    @property
    def detected(self) -> str:
        """The output that the detector takes; "" where there is none."""
        return "middle" if self.middle else "features" if self.features else ""


@dataclass(frozen=True)
class Sets:
    """What makes conformal sets: a class is in if 1 - its probability is at most its quantile.

    Attributes:
        alpha: how often a set may miss.
        quantiles: of every class in order; infinity: always in.
        lesions: that the quantiles rest on, all classes together.
    """

    alpha: float
    quantiles: tuple[float, ...]
    lesions: int

    def inside(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which classes are in the set of each image, shape (n, classes)."""
        return np.asarray(1 - probabilities <= np.array(self.quantiles))

    @property
    def floors(self) -> tuple[float, ...]:
        """Of every class, the probability from which it is in the set, 0-1."""
        return tuple(max(0.0, 1 - each) for each in self.quantiles)

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain values, as a bundle keeps them; a quantile None: always in."""
        quantiles = {
            label: None if np.isinf(limit) else float(limit)
            for label, limit in zip(classes, self.quantiles, strict=True)
        }
        return {
            "method": "lac",
            "alpha": self.alpha,
            "quantiles": quantiles,
            "lesions": self.lesions,
        }


class Bundle:
    """An opened bundle; its networks are read when they are asked for.

    Args:
        path: the file.
        content: its files by name.

    Raises:
        BundleError: if something is missing in it or is not what it should be.
    """

    def __init__(self, path: Path, content: Mapping[str, bytes]) -> None:
        self.path = path
        self._content = dict(content)
        try:
            self.info: Mapping[str, Any] = json.loads(self._content[MANIFEST])
            if self.info["kind"] not in (KIND, FIRST_KIND):
                raise BundleError(
                    f"{path} is a {self.info['kind']}, and this version of lesionlab reads "
                    f"{FIRST_KIND} and {KIND}. Export it again, or take the version that wrote it."
                )
            self.name = str(self.info["name"])
            self.version = str(self.info["version"])
            self.classes: tuple[str, ...] = tuple(map(str, self.info["classes"]))
            self.full_names: Mapping[str, str] = dict(self.info["full_names"])
            self.precision = str(self.info["precision"])
            self.thresholds: Mapping[str, float] = dict(self.info["thresholds"])
            self.images = _images(self.info["images"])
            self.members = tuple(_member(each) for each in self.info["members"])
            self.scaling = Scaling.from_json(self.info["scaling"])
            self.sets = _sets(self.info["conformal"], self.classes)
            self.detector = self._detector()
            self.reference = self._reference()
            self._check()
            self.referral = self._referral()
        except BundleError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise BundleError(
                f"{path} is not a bundle that lesionlab wrote: {type(error).__name__}: {error}"
            ) from error

    @classmethod
    def open(cls, path: str | Path | None = None) -> Bundle:
        """Open a bundle.

        Args:
            path: the file; None: the default model, which comes with lesionlab.

        Raises:
            BundleError: if it is missing, damaged or something else.
        """
        path = default_path() if path is None else Path(path)
        return cls(path, _unzipped(path))

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over all that is in it."""
        hashes = {name: hashlib.sha256(each).hexdigest() for name, each in self._content.items()}
        return fingerprint(hashes)

    @property
    def measured(self) -> Mapping[str, Any] | None:
        """What its rule of referral did on the predictions of its card; None: was not measured."""
        told: Mapping[str, Any] = self.info.get("referral") or {}
        return told.get("measured")

    @property
    def metadata_worth(self) -> Mapping[str, Any] | None:
        """What age, sex and site are worth to it, as `MetadataWorth.to_json`; None: unknown."""
        found: Mapping[str, Any] | None = self.info.get("metadata_worth")
        return found

    @cached_property
    def quality(self) -> Mapping[str, ClassQuality]:
        """By class, what an answer is worth, from its card; {} where it has none."""
        return class_quality((self.card or {}).get("evaluation", {}))

    @cached_property
    def usual(self) -> Mapping[str, NDArray[np.float64]]:
        """Of images that it was made for, novelty and the likeliest class's probability.

        Of an adapted bundle those of the other place; {} where it keeps none.
        """
        if "adapted" in self.info:
            told = self.info["adapted"]["usual"]
            return {name: np.asarray(each, np.float64) for name, each in told.items()}
        if self.reference is None:
            return {}
        likeliest = np.exp(self.scaling.logits(self.reference.alone)).max(axis=1)
        found = {"novelty": self.reference.novelty, "likeliest": likeliest}
        return {name: each for name, each in found.items() if np.isfinite(each).all()}

    @property
    def map_grid(self) -> tuple[int, int] | None:
        """Rows and columns of the class activation maps; None: it gives none."""
        return self.members[0].map_grid

    @property
    def coverage(self) -> float:
        """How often a conformal set holds the true class, at least, as promised: 0-1."""
        return 1 - self.sets.alpha

    @property
    def fields(self) -> tuple[str, ...]:
        """Which of age, sex and site it takes."""
        found = [name for each in self.members if each.encoder for name in each.encoder.fields]
        return tuple(dict.fromkeys(found))

    @property
    def sexes(self) -> tuple[str, ...]:
        """The sexes that it knows."""
        return self._known("sex")

    @property
    def least_colour(self) -> float:
        """The `colour_range` below which an image is called unlike; 0 in bundles that have none."""
        return float(self.info["images"].get("least_colour", 0))

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites of the body that it knows."""
        return self._known("site")

    @cached_property
    def card(self) -> Mapping[str, Any] | None:
        """The model card as plain values; None: it has none."""
        text = self._content.get(CARD)
        return None if text is None else json.loads(text)

    @property
    def card_html(self) -> str:
        """The model card as a page; "" where it has none."""
        return self._content.get(CARD_PAGE, b"").decode("utf-8", "replace")

    @property
    def licence(self) -> str:
        """The SPDX licence expression of its weights."""
        return str(self.info["licence"])

    def network(self, member: Member) -> bytes:
        """A member's ONNX file."""
        return self._content[member.file]

    @property
    def content(self) -> Mapping[str, bytes]:
        """Its files by name, without its manifest, as `write_bundle` takes them."""
        return {name: each for name, each in self._content.items() if name != MANIFEST}

    def text(self, name: str) -> str:
        """A text in it, such as LICENSE; "" where it has none of that name."""
        return self._content.get(name, b"").decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"<Bundle {self.name}, {self.precision}, {self.fingerprint}>"

    def _known(self, field: str) -> tuple[str, ...]:
        encoders = [each.encoder.categories for each in self.members if each.encoder]
        found = [str(word) for each in encoders for word in each.get(field, ())]
        return tuple(dict.fromkeys(found))

    def _referral(self) -> ReferralRule:
        if self.info["kind"] == FIRST_KIND:
            rule = ReferralRule.of(self.classes)
            floors = dict(zip(self.classes, self.sets.floors, strict=True))
            return replace(rule, points=operating_points(rule.malignant, self.thresholds, floors))
        return ReferralRule.from_json(self.info["referral"], self.classes)

    def _detector(self) -> Detector | None:
        told = self.info["detector"]
        if told is None:
            return None
        return detector_of(told, unpacked(self._content[DETECTOR]) if told["arrays"] else {})

    def _reference(self) -> Reference | None:
        if REFERENCE not in self._content:
            return None
        return Reference.of(unpacked(self._content[REFERENCE]), len(self.classes))

    def _check(self) -> None:
        """What a graph and the numbers beside it must agree on."""
        faults = []
        if not self.classes or len(set(self.classes)) != len(self.classes):
            faults.append("its classes are none, or repeat")
        if set(self.full_names) != set(self.classes):
            faults.append("its full names are of other classes")
        if self.scaling.classes != self.classes:
            faults.append("its calibration is of other classes")
        if not self.members or not np.isclose(sum(each.weight for each in self.members), 1):
            faults.append("it has no network, or their weights do not add up to 1")
        for each in self.members:
            if each.file not in self._content or not each.file.endswith(".onnx"):
                faults.append(f"its network {each.file} is missing")
            elif b"location" in self._content[each.file]:  # the key of weights in other files
                faults.append(f"its network {each.file} asks for other files")
        if faults:
            raise BundleError(f"{self.path} cannot be used: {'; '.join(faults)}.")


def default_path() -> Path:
    """Where the default model's file is.

    Raises:
        BundleError: if this copy of lesionlab has none.
    """
    path = Path(str(files("lesionlab"))) / "shipped" / DEFAULT
    if not path.is_file():
        raise BundleError(
            "This copy of lesionlab comes without a default model. Name one: --model FILE.bundle "
            "(`lesionlab export RUN` makes it)."
        )
    return path


def write_bundle(path: Path, info: Mapping[str, Any], content: Mapping[str, bytes]) -> Bundle:
    """Write a bundle, whole or not at all, and open it.

    The same content makes the same bytes.

    Args:
        path: of the file.
        info: what goes into bundle.json; see `Bundle`.
        content: the other files by name.

    Raises:
        BundleError: if it could not be opened again; then nothing is written.
    """
    manifest = json.dumps({"kind": KIND, **info}, indent=1, ensure_ascii=False).encode()
    inside = {MANIFEST: manifest, **dict(sorted(content.items()))}
    made = Bundle(path, inside)
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, each in inside.items():
            told = zipfile.ZipInfo(name, _STAMP)
            told.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(told, each)
    return made


def packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as the content of a .npz file, without pickle."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpacked(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of `packed`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        return {str(name): found[name] for name in found.files}


def is_bundle(path: Path) -> bool:
    """Whether a file looks like a bundle: a zip that begins with its manifest."""
    try:
        with path.open("rb") as handle:
            head = handle.read(64)
    except OSError:
        return False
    return head[:4] == b"PK\x03\x04" and head[30 : 30 + len(MANIFEST)] == MANIFEST.encode()


def _unzipped(path: Path) -> dict[str, bytes]:
    """The files of a bundle, checked before they are unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.infolist()
            names = [each.filename for each in listed]
            if (
                len(listed) > _MOST_FILES
                or len(set(names)) != len(names)
                or not all(_NAME.fullmatch(name) for name in names)
                or any(each.flag_bits & 1 for each in listed)
            ):
                raise BundleError(f"{path} is no bundle: it holds files that a bundle has not.")
            texts = [each for each in listed if not each.filename.endswith((".onnx", ".npz"))]
            if sum(each.file_size for each in listed) > _MOST_BYTES or any(
                each.file_size > _MOST_TEXT for each in texts
            ):
                raise BundleError(f"{path} is too large for a bundle: it was not unpacked.")
            return {each.filename: archive.read(each) for each in listed}
    except FileNotFoundError as error:
        raise BundleError(f"{path} does not exist. `lesionlab export` writes bundles.") from error
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise BundleError(f"{path} is no bundle, or is damaged: {error}.") from error
    except Exception as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{path} is damaged: {error}.") from error  # zlib.error and the like


def _member(told: Mapping[str, Any]) -> Member:
    grid = told["map_grid"]
    encoder = told["metadata"]
    return Member(
        str(told["file"]),
        float(told["weight"]),
        None if encoder is None else MetadataEncoder.from_dict(encoder),
        None if grid is None else (int(grid[0]), int(grid[1])),
        int(told["features"]),
        int(told.get("middle", 0)),
    )


def _images(told: Mapping[str, Any]) -> Images:
    """Size and fit of what all networks take; colour constancy and scaling are in their graphs."""
    height, width = map(int, told["size"])
    if not (16 <= height <= 2048 and 16 <= width <= 2048):
        raise ValueError(f"an input of {height} x {width} pixels")
    return Images(size=(height, width), fit=told["fit"])


def _sets(told: Mapping[str, Any], classes: tuple[str, ...]) -> Sets:
    limits = [told["quantiles"][label] for label in classes]
    return Sets(
        float(told["alpha"]),
        tuple(np.inf if each is None else float(each) for each in limits),
        int(told["lesions"] if "lesions" in told else told["val_lesions"]),
    )
