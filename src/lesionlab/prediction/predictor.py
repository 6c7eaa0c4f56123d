"""Predictor: answers about images from a bundle, by onnxruntime, without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.data.images import dicom
from lesionlab.data.images.decode import to_pixels
from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.data.sources.patient_metadata import read_metadata, read_person
from lesionlab.errors import BundleError, DataError, SettingsError
from lesionlab.evaluation.triage.risk_control import ReferralRule
from lesionlab.numerics import log_softmax
from lesionlab.prediction.bundle import Bundle, Member
from lesionlab.prediction.run_inputs import image_files
from lesionlab.prediction.test_time_views import averaged
from lesionlab.progress import Listener, silent
from lesionlab.recipe.schema import FEATURES
from lesionlab.tables import OLDEST

if TYPE_CHECKING:
    import onnxruntime

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "unreadable": "The image cannot be read.",
        "unlike": "This does not look like the dermatoscopic images that the model was made for.",
        "malignancy_likely": "A malignant class is the likeliest, or malignancy is likelier than "
        "not.",
        "malignancy_possible": "Malignancy is not excluded at the stated risk.",
        "benign_undecided": "Nothing malignant is suspected at the stated risk; which benign class "
        "it is stays undecided.",
        "": "Nothing malignant is suspected at the stated risk.",
    }
)
"""What comes of an image, in the order in which reasons count, and in words.

The last two do not refer it.
"""

_UNSTATED: Mapping[str, str] = MappingProxyType(
    {
        "malignancy_possible": "Malignancy is not excluded; no risk is stated.",
        "benign_undecided": "Nothing malignant is suspected, and how often something is missed is "
        "not stated; which benign class it is stays undecided.",
        "": "Nothing malignant is suspected, and how often something is missed is not stated.",
    }
)

NOT_REFERRED = ("benign_undecided", "")


def reason_text(reason: str, rule: ReferralRule) -> str:
    """A reason in words that promise no more than the rule of referral does.

    Args:
        reason: a key of `REASONS`.
        rule: of the bundle; one without a kept limit states no risk, as in bundles of format 1.
    """
    stated = bool(rule.limits) and all(each.kept for each in rule.limits)
    return REASONS[reason] if stated else _UNSTATED.get(reason, REASONS[reason])


BLOCK = 16
"""Images that a network gets at once, where there are many."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a bundle makes of n images.

    Attributes:
        classes: names, length k.
        logits: before calibration, shape (n, k).
        probabilities: calibrated, shape (n, k); each row adds up to 1.
        sets: whether a class is in the conformal set, shape (n, k).
        referral: the rule by which images are referred lest something malignant be missed.
        novelty: how unlike the training images, shape (n,); nan where the bundle has no detector.
        unlike: whether that is more than its threshold, shape (n,).
        maps: Grad-CAM of every class, shape (n, k, rows, columns), all >= 0, in logits; not
            comparable between networks. None where they were not asked for, or there are none.
        features: what the networks make of the images before their classifiers, side by side,
            shape (n, features); None where they were not asked for.
    """

    classes: tuple[str, ...]
    logits: NDArray[np.floating]
    probabilities: NDArray[np.float64]
    sets: NDArray[np.bool_]
    referral: ReferralRule
    novelty: NDArray[np.float64]
    unlike: NDArray[np.bool_]
    maps: NDArray[np.float32] | None = None
    features: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def predicted(self) -> tuple[str, ...]:
        """The likeliest class of each image."""
        return tuple(self.classes[i] for i in self.probabilities.argmax(axis=1))

    @property
    def reasons(self) -> tuple[str, ...]:
        """What comes of each image: a key of `REASONS`, the first that applies.

        An image is referred that is unlike those of training, or that the rule of referral refers.
        One whose set does not hold exactly one class is undecided, and not referred for that: the
        rule answers for what is malignant in it.
        """
        states = {
            "unlike": self.unlike,
            "malignancy_likely": self.referral.likely(self.probabilities),
            "malignancy_possible": self.referral.possible(self.probabilities),
            "benign_undecided": self.sets.sum(axis=1) != 1,
        }
        found = np.select(list(states.values()), list(states), default="")
        return tuple(map(str, found))

    @property
    def malignancy(self) -> NDArray[np.float64]:
        """Probability of all malignant classes together, shape (n,); nan where there is none."""
        if not self.referral.malignant:
            return np.full(len(self), np.nan)
        return self.referral.probability(self.probabilities, self.referral.malignant)

    def only(self, images: Sequence[int]) -> Answers:
        """Those about some of the images."""
        places = list(images)
        return replace(
            self,
            logits=self.logits[places],
            probabilities=self.probabilities[places],
            sets=self.sets[places],
            novelty=self.novelty[places],
            unlike=self.unlike[places],
            maps=None if self.maps is None else self.maps[places],
            features=None if self.features is None else self.features[places],
        )

    def set_of(self, image: int) -> tuple[str, ...]:
        """The conformal set of one image, the likeliest class first."""
        order = np.argsort(-self.probabilities[image], kind="stable")
        return tuple(self.classes[i] for i in order if self.sets[image, i])


@dataclass(frozen=True, eq=False)
class Block:
    """What comes of some images, of which some may not be readable.

    Attributes:
        answers: about those without an error, in their order; None: there is none.
        errors: of each image; "" = read.
        several: how many are DICOM files of several frames, of which the first counts.
    """

    answers: Answers | None
    errors: tuple[str, ...]
    several: int


class Predictor:
    """Answers about images from a bundle.

    Args:
        bundle: opened, or its file; None: the default model.
        threads: of one call of `answers`; calls may run side by side.

    Raises:
        BundleError: if the bundle cannot be used, or onnxruntime is not installed.

    Example:
        >>> Predictor("mole.bundle")(["photo.jpg"])  # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle | str | Path | None = None, *, threads: int = 1) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self._sessions = [_session(self.bundle, each, threads) for each in self.bundle.members]
        self._reader = Reader(Path())

    def read(self, source: str | Path | bytes, name: str = "") -> NDArray[np.uint8]:
        """Decode an image, turn it upright, convert it to RGB and resize it.

        Args:
            source: a file, or its bytes.
            name: what to call it in messages; by default the file's.

        Returns:
            uint8, shape (height, width, 3).

        Raises:
            ImageFault: if it cannot be read whole.
        """
        if isinstance(source, bytes):
            image = self._reader.open(name or "the image", source)
            return to_pixels(image, self.bundle.images, name or "the image")
        return self._reader.pixels(str(source), self.bundle.images)

    def answers(
        self,
        pixels: NDArray[np.uint8],
        metadata: pd.DataFrame | None = None,
        *,
        maps: bool = False,
        features: bool = False,
    ) -> Answers:
        """Answers about decoded images; may be called from several threads at once.

        Args:
            pixels: from `read`, shape (n, height, width, 3).
            metadata: columns age (years, NaN = unknown), sex and site ("" = unknown), n rows; what
                the bundle does not take is not looked at. None: all is unknown.
            maps: give class activation maps too, where the bundle has them.
            features: give features too.

        Raises:
            BundleError: if the network gives no numbers, or no features that are asked for.
        """
        if features:
            self._check_features()
        logits, detected, made, found = [], [], [], None
        for member, session in zip(self.bundle.members, self._sessions, strict=True):
            given = _given(member, pixels, metadata)
            wanted = ["logits"] + [member.detected] * bool(member.detected)
            wanted += ["maps"] * bool(maps and member is self.bundle.members[0] and member.map_grid)
            wanted += ["features"] * bool(features and member.features and "features" not in wanted)
            out = dict(zip(wanted, session.run(wanted, given), strict=True))
            logits.append(out["logits"])
            if member.detected:
                detected.append(out[member.detected])
            if features and member.features:
                made.append(out["features"])
            found = out.get("maps", found)
        mean = _blended(logits, self.bundle.members)
        if not np.isfinite(mean).all():
            raise BundleError(f"{self.bundle.path} gives answers that are no numbers.")
        probabilities = np.exp(self.bundle.scaling.logits(log_softmax(mean)))
        novelty, unlike = self._novelty(mean, detected)
        unlike |= colour_range(pixels) < self.bundle.least_colour
        return Answers(
            self.bundle.classes,
            mean,
            probabilities,
            self.bundle.sets.inside(probabilities),
            self.bundle.referral,
            novelty,
            unlike,
            found,
            np.concatenate(made, axis=1) if made else None,
        )

    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the networks make of decoded images before their classifiers, side by side.

        Args:
            pixels: from `read`, shape (n, height, width, 3).

        Returns:
            Shape (n, features of all members).

        Raises:
            BundleError: if no network of the bundle gives features.
        """
        self._check_features()
        made = [
            session.run(["features"], _given(member, pixels, None))[0]
            for member, session in zip(self.bundle.members, self._sessions, strict=True)
            if member.features
        ]
        return np.concatenate(made, axis=1)

    def _check_features(self) -> None:
        if not any(member.features for member in self.bundle.members):
            raise BundleError(
                f"{self.bundle.path} gives no features, so it cannot compare images. "
                "Export it again, or take another."
            )

    def read_file(self, path: str, reader: Reader) -> tuple[NDArray[np.uint8], dicom.Facts]:
        """Pixels of a file as from `read`, and what a DICOM file tells beside them.

        Args:
            path: of the file, from the reader's folder.
            reader: of that folder.

        Raises:
            ImageFault: if it cannot be read whole.
        """
        content = reader.bytes_of(path)
        pixels = self.read(content, path)
        return pixels, dicom.facts(content) if dicom.is_dicom(content) else dicom.Facts()

    def block(
        self,
        paths: Sequence[str],
        metadata: pd.DataFrame | None,
        read: Callable[[int], tuple[NDArray[np.uint8], dicom.Facts]],
    ) -> Block:
        """Answers about some images, each read here; one that cannot be is not the end of all.

        What cannot be read is black to the network, so that no other image's answer changes.

        Args:
            paths: of the images, for messages.
            metadata: as `answers` takes them; what is unknown there, a DICOM file may tell.
            read: gives an image by its place, as `read_file` does.
        """
        pixels = np.zeros((len(paths), *self.bundle.images.size, 3), np.uint8)
        told = unknown_metadata(len(paths)) if metadata is None else metadata.copy()
        told = told.reset_index(drop=True)
        errors = [""] * len(paths)
        several = 0
        for place, path in enumerate(paths):
            try:
                pixels[place], facts = read(place)
            except ImageFault as fault:
                errors[place] = str(fault)
            except Exception as error:  # whatever a decoder fails with
                what = f"{type(error).__name__}: {error}".splitlines()[0]
                errors[place] = f"{path} cannot be decoded: {what}"
            else:
                several += facts.frames > 1
                _add(told, place, facts)
        good = [place for place, error in enumerate(errors) if not error]
        answers = self.answers(pixels, told) if good else None
        if answers is not None and len(good) < len(paths):
            answers = answers.only(good)
        return Block(answers, tuple(errors), several)

    def __call__(
        self,
        images: Sequence[str | Path],
        metadata: pd.DataFrame | Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Answers about image files and folders as a table; see `predict` for many.

        Args:
            images: files, and folders that are searched through. Of DICOM files age, sex and site
                are taken, too.
            metadata: image_id (the file's name without its suffix) and any of age, sex and site; or
                what holds for all images, such as {"age": 55, "site": "back"}.

        Returns:
            One row per image: image_id, path, predicted, p_<class>..., set (classes, the likeliest
            first), malignancy (the probability of all malignant classes), refer, reason (a key of
            `REASONS`), novelty and error ("" = none).

        Raises:
            DataError: if there is no image, or none that can be read.
            SettingsError: if the bundle takes no such metadata.
        """
        paths = [str(path) for path in image_files([Path(each) for each in images])]
        names = [Path(path).stem for path in paths]
        told = unknown_metadata(len(paths))
        if metadata is not None:
            told = metadata_of(self.bundle, metadata, names, paths)
        rows: list[dict[str, Any]] = []
        for start in range(0, len(paths), BLOCK):
            part = slice(start, start + BLOCK)
            some = paths[part]
            made = self.block(some, told.iloc[part], partial(self._read_of, some))
            rows += rows_of(self.bundle.classes, made.answers, names[part], some, made.errors)
        if all(row["error"] for row in rows):
            raise DataError(
                f"None of the {len(rows)} images can be read. The first: {rows[0]['error']}."
            )
        return pd.DataFrame(rows)

    def completed(self, metadata: pd.DataFrame | None, facts: dicom.Facts) -> pd.DataFrame:
        """Age, sex and site of one image, what is unknown filled in from its DICOM file."""
        told = unknown_metadata(1) if metadata is None else metadata.reset_index(drop=True)
        _add(told, 0, facts)
        return told

    def _read_of(self, paths: Sequence[str], place: int) -> tuple[NDArray[np.uint8], dicom.Facts]:
        return self.read_file(paths[place], self._reader)

    def _novelty(
        self, logits: NDArray[np.floating], features: list[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        detector = self.bundle.detector
        if detector is None:
            return np.full(len(logits), np.nan), np.zeros(len(logits), bool)
        score = detector.score(np.concatenate(features, axis=1) if detector.arrays else logits)
        return score, score > detector.threshold


def colour_range(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How much colour images have: the mean over places of the largest channel less the smallest.

    Args:
        pixels: shape (n, height, width, 3).

    Returns:
        0 (grey) to 255, shape (n,).
    """
    spread = pixels.max(axis=3) - pixels.min(axis=3)
    return np.asarray(spread.mean(axis=(1, 2), dtype=np.float64))


def unknown_metadata(images: int) -> pd.DataFrame:
    """Columns age, sex and site of so many images of which nothing is known."""
    return pd.DataFrame({"age": np.nan, "sex": "", "site": ""}, index=range(images))


def metadata_of(
    bundle: Bundle,
    given: pd.DataFrame | str | Path | Mapping[str, Any],
    images: Sequence[str],
    paths: Sequence[str] | None = None,
    *,
    listen: Listener = silent,
) -> pd.DataFrame:
    """Age, sex and site of images, from a table or said of all of them.

    Args:
        bundle: which takes them.
        given: a table, or a CSV, see `patient_metadata.read_metadata`; or any of age (years), sex
            and site, which hold for every image, such as {"age": 55, "site": "back"}.
        images: ids, in the order wanted.
        paths: of these images, which a table may name instead.
        listen: told of what is left out.

    Returns:
        Columns age (NaN = unknown), sex and site ("" = unknown), one row per image.

    Raises:
        SettingsError: if the bundle takes no metadata, or not these values; with every fault.
        DataError: see `patient_metadata.read_metadata`.
    """
    if isinstance(given, Mapping):
        given = read_person(given)
        if faults := faults_of(bundle, given):
            raise SettingsError(" ".join(faults))
        return unknown_metadata(len(images)).assign(**given).astype({"age": float})
    if not bundle.fields:
        raise SettingsError(
            f"{bundle.path} takes images alone, no age, sex or site: leave the metadata out."
        )
    words = {"sex": bundle.sexes, "site": bundle.sites}
    used = {name: words[name] for name in words if name in bundle.fields}
    told = read_metadata(given, images, paths=paths, words=used, listen=listen)
    return told[list(FEATURES)]


def faults_of(bundle: Bundle, told: Mapping[str, Any]) -> list[str]:
    """What is wrong with what is told of a person, in sentences.

    Args:
        bundle: tells which fields and values there are.
        told: by field, age in years (NaN = unknown), sex and site as words ("" = unknown).
    """
    unused = [name for name in told if name not in bundle.fields]
    faults = [f"This model makes no use of {name}: leave it out." for name in unused]
    for name in bundle.fields:
        if name == "age":
            age = told.get(name, np.nan)
            number = isinstance(age, int | float | np.number)
            if not number or not (np.isnan(age) or 0 <= age <= OLDEST):
                faults.append(
                    f"age is a number of years from 0 to {OLDEST}; unknown: leave it out."
                )
        else:
            words = bundle.sexes if name == "sex" else bundle.sites
            if told.get(name, "") not in ("", *words):
                faults.append(f"{name} is one of: {', '.join(words)}.")
    return faults


def parted(labels: Sequence[str], classes: Sequence[str]) -> str:
    """Classes of a set in one cell: parted by a blank, or by a mark that no class's name has.

    Args:
        labels: of the set.
        classes: all that the model knows.
    """
    marks = (" ", "|", ";", "/", "\n")
    free = next((mark for mark in marks if not any(mark in name for name in classes)), "\n")
    return free.join(labels)


def known(column: pd.Series) -> NDArray[np.bool_]:
    """Whether each value of age, sex or site is known."""
    return np.asarray(column.notna() & (column.astype(str) != ""))


def _add(told: pd.DataFrame, place: int, facts: dicom.Facts) -> None:
    """Fill in what a DICOM file tells and nobody else has."""
    for name in FEATURES:
        value = getattr(facts, name)
        if value == value and value != "" and not known(told[name].iloc[[place]])[0]:
            told.loc[place, name] = value


def rows_of(
    classes: Sequence[str],
    answers: Answers | None,
    names: Sequence[str],
    paths: Sequence[str | Path],
    errors: Sequence[str],
) -> list[dict[str, Any]]:
    """Rows of a table of answers, those that could not be read among them.

    Args:
        classes: in their order.
        answers: of the images without an error, in order; None: there are none.
        names: image_id of each image.
        paths: of each image.
        errors: of each image; "" = read.
    """
    rows: list[dict[str, Any]] = []
    place = 0
    reasons = () if answers is None else answers.reasons
    predicted = () if answers is None else answers.predicted
    malignancy = () if answers is None else answers.malignancy
    for name, path, error in zip(names, paths, errors, strict=True):
        row: dict[str, Any] = {"image_id": name, "path": str(path), "predicted": ""}
        row |= {f"p_{label}": np.nan for label in classes}
        row |= {"set": "", "malignancy": np.nan, "refer": True, "reason": "unreadable"}
        row["novelty"] = np.nan
        if not error and answers is not None:
            reason = reasons[place]
            row["predicted"] = predicted[place]
            for label, chance in zip(classes, answers.probabilities[place], strict=True):
                row[f"p_{label}"] = float(chance)
            row["set"] = parted(answers.set_of(place), classes)
            row |= {"malignancy": float(malignancy[place]), "refer": reason not in NOT_REFERRED}
            row |= {"reason": reason, "novelty": float(answers.novelty[place])}
            place += 1
        rows.append({**row, "error": error})
    return rows


def _blended(
    logits: Sequence[NDArray[np.float32]], members: Sequence[Member]
) -> NDArray[np.floating]:
    """Logits of the members' weighed mean probability; a single member's own, untouched."""
    if len(logits) == 1:
        return np.asarray(logits[0])
    shares = np.array([each.weight for each in members])[:, None, None]
    return averaged(np.stack(logits), shares)


def _given(
    member: Member, pixels: NDArray[np.uint8], metadata: pd.DataFrame | None
) -> dict[str, NDArray[Any]]:
    """What a network takes."""
    given: dict[str, NDArray[Any]] = {"pixels": pixels}
    if member.encoder is not None:
        table = pd.DataFrame(index=range(len(pixels))) if metadata is None else metadata
        given["metadata"] = member.encoder.encode(table)
    return given


def _session(bundle: Bundle, member: Member, threads: int) -> onnxruntime.InferenceSession:
    try:
        session = session_of(bundle.network(member), threads)
    except ImportError as error:
        raise BundleError(
            "Answers from a bundle need onnxruntime: pip install 'lesionlab[serve]'."
        ) from error
    except Exception as error:  # onnxruntime's own classes have no common base but this
        raise BundleError(f"{bundle.path}: its network cannot be used: {error}") from error
    _check(bundle, member, session)
    return session


def session_of(graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session of onnxruntime on the CPU for an ONNX graph; waiting threads sleep."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _check(bundle: Bundle, member: Member, session: onnxruntime.InferenceSession) -> None:
    """Make sure that a graph takes and gives what its bundle says."""
    takes = {each.name: list(each.shape[1:]) for each in session.get_inputs()}
    gives = {each.name: list(each.shape[1:]) for each in session.get_outputs()}
    wanted: dict[str, list[int]] = {"pixels": [*bundle.images.size, 3]}
    if member.encoder is not None:
        wanted["metadata"] = [len(member.encoder.fields)]
    made: dict[str, list[int]] = {"logits": [len(bundle.classes)]}
    if member.features:
        made["features"] = [member.features]
    if member.middle:
        made["middle"] = [member.middle]
    if member.map_grid:
        made["maps"] = [len(bundle.classes), *member.map_grid]
    if takes != wanted or any(gives.get(name) != shape for name, shape in made.items()):
        raise BundleError(
            f"{bundle.path}: its network takes {takes} and gives {gives}, where the bundle says "
            f"{wanted} and {made}."
        )
