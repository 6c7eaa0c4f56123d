"""`export`: a run, or an ensemble of runs, as one file that answers without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from lesionlab._version import __version__
from lesionlab.data.catalogue.catalogue import Catalogue, cache_home
from lesionlab.data.images.cache import cache
from lesionlab.data.images.decode import preprocessing_fingerprint
from lesionlab.deployment import export_checks
from lesionlab.deployment.onnx_graph import Graph, to_onnx
from lesionlab.deployment.quantisation import BATCH, STEMS, halved, quantised
from lesionlab.errors import BundleError, DataError, RunError
from lesionlab.evaluation.calibration.scaling import Scaling, fit
from lesionlab.evaluation.comparison.metadata_worth import MetadataWorth, metadata_worth
from lesionlab.evaluation.conformal.shifted import Reference, class_limits
from lesionlab.evaluation.intervals.bootstrap import lesion_codes
from lesionlab.evaluation.metrics.operating_points import point_name, threshold_at_sensitivity
from lesionlab.evaluation.outliers.detectors import Detector, fit_detector
from lesionlab.evaluation.triage.referral_cost import MeasuredReferral, measure_referral
from lesionlab.evaluation.triage.risk_control import (
    MISS,
    MISS_MELANOMA,
    ReferralRule,
    fit_referral,
    operating_points,
    strictest,
)
from lesionlab.models import factory
from lesionlab.models.factory import Architecture
from lesionlab.models.metadata_encoder import numbers_of
from lesionlab.numerics import log_softmax
from lesionlab.prediction.bundle import (
    CARD,
    CARD_PAGE,
    DETECTOR,
    LICENCE,
    REFERENCE,
    Bundle,
    Sets,
    packed,
    write_bundle,
)
from lesionlab.prediction.predictor import colour_range, session_of
from lesionlab.prediction.run_inputs import catalogue_of, most_learnt, parts_of
from lesionlab.prediction.run_predictor import predict_run, predict_without_metadata
from lesionlab.prediction.test_time_views import averaged, check_views
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.recipe.schema import NoFusion
from lesionlab.run import Folds, Run, open_run
from lesionlab.tables import PARTS
from lesionlab.taxonomy import full_name

ALPHA = 0.1
RANK = 64
"""Axes of the covariance that the detector keeps."""

SENSITIVITIES = (0.9, 0.95)
"""The sensitivities that thresholds of malignant classes are chosen for."""

Precision = Literal["fp32", "fp16", "int8"]
_KEPT_IN = {"fp16": "16 bits, computed with in 32", "int8": "eight-bit integers"}

CALIBRATION = 512
"""Training images that activations are measured on."""

_LEAST = 1e-30  # of a probability, before its logarithm

_ALARMS = 0.03
"""How often a bundle may call an image like those of training unlike, and refer it for nothing."""

_DETECTED = 4000  # training images that the detector is fitted on

RESEARCH = "CC-BY-NC-4.0"
"""The licence of weights trained on HAM10000, whose images are under it."""


@dataclass(frozen=True, eq=False)
class _Network:
    """A member on its way into a bundle."""

    run: Run
    network: nn.Module
    architecture: Architecture
    graph: Graph
    onnx: bytes

    def given(self, pixels: NDArray[np.uint8], table: pd.DataFrame) -> dict[str, NDArray[Any]]:
        """What its graph takes for some images."""
        fed: dict[str, NDArray[Any]] = {"pixels": np.ascontiguousarray(pixels)}
        if self.architecture.metadata is not None:
            fed["metadata"] = numbers_of(self.architecture.metadata, table)
        return fed


def export(
    source: Run | Path | str | Sequence[Run | Path | str],
    out: str | Path,
    *,
    data: Catalogue | str | Path | None = None,
    precision: Precision = "fp32",
    views: int = 1,
    miss: float = MISS,
    miss_melanoma: float = MISS_MELANOMA,
    malignant: Sequence[str] | None = None,
    card_of: Run | Folds | Path | str | None = None,
    predictions: pd.DataFrame | None = None,
    answers: Path | str | None = None,
    name: str = "",
    licence: str = RESEARCH,
    cache_to: str | Path | None = None,
    seed: int = 0,
    listen: Listener = silent,
) -> Bundle:
    """Turn a run, or an ensemble of runs, into a bundle, if it passes its gates.

    Temperature, conformal quantiles, thresholds and limits of referral are fitted on the val part,
    from the very graph that is shipped; or, where the card is of folds of the same recipe, on their
    out-of-fold predictions, which know many times as many lesions (cross-conformal prediction:
    Vovk, Ann. Math. Artif. Intell. 74:9-28, 2015). Sets, thresholds and limits are made for images
    with age, sex and site known and for the same without, of which the safer ones ship. The
    detector's threshold is fitted on val.
    Gates: torch and the graph give the same probabilities and maps for real files (1e-4); in fp16
    and int8 at least 98 % of the likeliest classes of 2,000 or more held-out pictures stay, and
    balanced accuracy falls by 0.01 at most.

    Args:
        source: a finished run, or several of the same classes and input, which share their answer.
        out: the file to write, such as mole.bundle.
        data: the catalogue that the runs were trained on; by default where it was.
        precision: "fp32"; "fp16", weights kept in 16 bits and computed with in 32, half the size;
            or "int8", eight-bit integers, smaller and faster.
        views: how many symmetries of an image are averaged: 1, 2, 4 or 8; the time goes with it.
        miss: of malignant lesions, the share that may go unreferred, above 0 and below 1.
        miss_melanoma: of melanomas, the share that may.
        malignant: the malignant classes; by default those of mel, bcc, akiec and scc. Where it is
            not known of a class whether it is, and none are named, every image is referred.
        card_of: whose model card goes in, such as folds of the same recipe; by default the run's.
        predictions: of `card_of`, that the card's figures are computed from; by default its own, or
            with several views those that it makes over them.
        answers: what the author knows for the card, a YAML file; see `card`.
        name: of the model; by default that of the file.
        licence: SPDX expression of the weights.
        cache_to: folder of the image caches; by default `cache` beside the catalogue.
        seed: of the draws of images.
        listen: told of the progress.

    Raises:
        BundleError: if a gate is not passed, naming the figures; or if the runs do not fit
            together.
        RunError: if a run is not finished, or its catalogue is gone or has changed.
        SettingsError: if views is none of 1, 2, 4 and 8, a share is out of range, or what is called
            malignant is no class.

    Example:
        >>> export("runs/first", "mole.bundle", precision="int8")  # doctest: +SKIP
    """
    check_views(views)
    out = Path(out)
    runs = _runs(source)
    opened = catalogue_of(runs[0], data)
    if opened.fingerprint != runs[0].info["identity"]["catalogue"]:
        raise RunError(f"{runs[0].folder} was trained on another catalogue than {opened.home}.")
    parts = _parts(runs, opened, listen)
    made = [_member(run, views, listen) for run in runs]
    architecture = made[0].architecture
    for each in made[1:]:
        theirs = each.architecture
        if theirs.classes != architecture.classes or preprocessing_fingerprint(
            theirs.images
        ) != preprocessing_fingerprint(architecture.images):
            raise BundleError(
                f"{each.run.folder} has other classes or another input than {runs[0].folder}: "
                "members of a bundle share both."
            )
    home = cache_home(opened, cache_to)
    stored = cache(opened.table, opened.root, architecture.images, home, listen=listen)
    rows = stored.rows(list(opened.table["sha256"]))
    images = _Images(opened.table.assign(part=parts), stored.pixels, rows, seed)
    passed: dict[str, Any] = {
        "parity": [
            export_checks.parity(
                each.network, each.architecture, each.onnx, opened, images.files(), views
            )
            for each in made
        ]
    }
    graphs = [each.onnx for each in made]
    if precision != "fp32":
        graphs = [
            halved(each.onnx) if precision == "fp16" else _int8(each, images, out.parent, listen)
            for each in made
        ]
        passed[precision] = _gate_smaller(made, graphs, images, precision, listen)
    named = ReferralRule.of(architecture.classes, malignant)
    about = card_of or (runs[0] if "test" in set(parts) else None)
    of_others = about is not None and _folder(about) != runs[0].folder.resolve()
    if about is not None and predictions is None and views > 1:
        listen(Notice(f"Predicting over {views} views, for the card."))
        predictions = predict_run(
            about, data=opened, views=views, cache_to=cache_to, device="cpu", listen=listen
        )
    told = open_run(about) if isinstance(about, Path | str) else about
    unknown = worth = None
    if told is not None:
        predictions = told.predictions if predictions is None else predictions
        unknown = _without_metadata(told, predictions, opened, views, cache_to, listen)
        worth = _worth(told, predictions, unknown, listen)
    val = _on_val(made, graphs, images)
    known = (
        _out_of_fold(told, predictions, unknown, architecture.classes)
        if predictions is not None and _folds_of(told, runs)
        else val
    )
    limits = _Limits(named, miss, miss_melanoma, malignant)
    fitted = _fit(known, limits)
    rule = _fit_rule(known, limits)
    if rule.refers_all:
        listen(Notice(rule.promise, "warning"))
    halfway = _halfway(made)
    detector, novelty = _fit_detector(made, graphs, images, listen)
    content = {f"model{i}.onnx": graph for i, graph in enumerate(graphs)}
    content[REFERENCE] = packed(val.reference(novelty).arrays())  # of this very network
    if detector and detector.arrays:
        content[DETECTOR] = packed(detector.arrays)
    name = name or out.stem
    saw = {str(part): images.size(part) for part in PARTS if images.size(part)["images"]}
    shipped = _shipped(saw, known, of_others, views, precision, passed)
    measured = None
    if predictions is not None:
        if text := _scored_again(images, predictions, known, of_others):
            shipped.append(text)
        measured = _measure(rule, known, limits, predictions, listen)
    content |= _texts(about, predictions, opened, answers, name, licence, shipped, measured, worth)
    info = {
        "name": name,
        "version": __version__,
        "created": datetime.now(UTC).strftime("%Y-%m-%d"),
        "classes": list(architecture.classes),
        "full_names": {label: full_name(label) for label in architecture.classes},
        "precision": precision,
        "licence": licence,
        "images": {
            "size": list(architecture.images.size),
            "fit": architecture.images.fit,
            "preprocessing": preprocessing_fingerprint(architecture.images),
            "least_colour": images.least_colour() / 2,
        },
        "views": views,
        "members": [
            {
                "file": f"model{i}.onnx",
                "weight": 1 / len(made),
                "model": each.architecture.name,
                "metadata": each.architecture.metadata,
                "map_grid": list(each.graph.layer.grid) if each.graph.layer else None,
                "layer": each.graph.layer.path if each.graph.layer else None,
                "features": each.graph.features,
                "middle": each.graph.middle if halfway else 0,
                "identity": dict(each.run.info["identity"]),
                "started_from": dict(each.run.info.get("weights", {})),
            }
            for i, each in enumerate(made)
        ],
        **fitted,
        "detector": detector.to_json() if detector else None,
        "referral": {
            **rule.to_json(),
            "fitted_on": known.size,
            "measured": measured.to_json() if measured else None,
        },
        "metadata_worth": worth.to_json() if worth else None,
        "saw": saw,
        "gates": passed,
    }
    bundle = write_bundle(out, info, content)
    size = out.stat().st_size / 1e6
    listen(Notice(f"{out}: {size:.1f} MB, {info['precision']}, {bundle.fingerprint}."))
    return bundle


def _runs(source: Run | Path | str | Sequence[Run | Path | str]) -> list[Run]:
    given = [source] if isinstance(source, Run | Path | str) else list(source)
    if not given:
        raise BundleError("Name at least one run to export.")
    runs = [Run.finished(each) for each in given]
    first = runs[0].info["identity"]
    if any(run.info["identity"]["catalogue"] != first["catalogue"] for run in runs):
        raise BundleError("The runs were trained on different catalogues: their val parts differ.")
    return runs


def _parts(runs: Sequence[Run], data: Catalogue, listen: Listener) -> pd.Series:
    """The part of each image: of several runs', the one that learns from it most."""
    parts = most_learnt([parts_of(run, data, listen) for run in runs])
    if not (parts == "val").any():
        raise BundleError(
            "No image is in the val part of every run, so there is nothing to calibrate on. Export "
            "runs that share their val part."
        )
    return parts


def _member(run: Run, views: int, listen: Listener) -> _Network:
    network, architecture = factory.load(run.folder)
    graph = Graph(network, architecture, views)
    if graph.layer is None:
        listen(
            Notice(
                f"The maps of {architecture.name} have no closed form: the bundle gives none.",
                "warning",
            )
        )
    return _Network(run, network, architecture, graph, to_onnx(graph, architecture))


class _Images:
    """The catalogue's images by part, as stored."""

    def __init__(
        self,
        table: pd.DataFrame,
        pixels: NDArray[np.uint8],
        rows: NDArray[np.int64],
        seed: int,
    ) -> None:
        self.table = table.reset_index(drop=True)
        self.pixels, self.rows, self.seed = pixels, rows, seed

    def of(self, part: str, most: int = 0) -> NDArray[np.intp]:
        """Places in the table of a part's images, or of so many drawn from it."""
        places = np.flatnonzero(self.table["part"] == part)
        if most and most < len(places):
            drawn = np.random.default_rng([self.seed, PARTS.index(part), most])
            places = np.sort(drawn.choice(places, most, replace=False))
        return places

    def size(self, part: str) -> dict[str, int]:
        """Images and lesions of a part."""
        lesions = self.table.loc[self.table["part"] == part, "lesion_id"]
        return {"images": len(lesions), "lesions": lesion_codes(lesions.to_numpy(object))[1]}

    def least_colour(self) -> float:
        """The smallest range of colour of any training image: half of it is grey to the net."""
        places = self.of("train")
        blocks = (
            colour_range(self.pixels[self.rows[places[start : start + 512]]])
            for start in range(0, len(places), 512)
        )
        return float(min(block.min() for block in blocks))

    def files(self, most: int = 64) -> pd.DataFrame:
        """Some held-out images, to be read from their files."""
        held = "test" if (self.table["part"] == "test").any() else "val"
        return self.table.iloc[self.of(held, most)]

    def batches(
        self,
        member: _Network,
        places: NDArray[np.intp],
        mirrored: bool = False,
        known: bool = True,
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """What a graph takes, some images at a time; age, sex and site known or not."""
        for start in range(0, len(places), BATCH):
            some = places[start : start + BATCH]
            pixels = self.pixels[self.rows[some]]
            rows = self.table.iloc[some]
            yield member.given(
                pixels[:, :, ::-1] if mirrored else pixels, rows if known else rows[[]]
            )


def _run(
    member: _Network,
    graph: bytes,
    images: _Images,
    places: NDArray[np.intp],
    wanted: str,
    mirrored: bool = False,
    known: bool = True,
) -> NDArray[np.float32]:
    """An output of a graph for some images."""
    session = session_of(graph, 2)
    batches = images.batches(member, places, mirrored, known)
    return np.concatenate([session.run([wanted], given)[0] for given in batches])


def _int8(member: _Network, images: _Images, folder: Path, listen: Listener) -> bytes:
    """The graph in int8: of several, the one that agrees best on training images.

    Activations are measured on images drawn from train, or on the calmer half of them: a few images
    that make a network answer in hundreds stretch the scale of all others until little is left.
    """
    drawn = images.of("train", CALIBRATION * 3)
    rng = np.random.default_rng(images.seed)
    rng.shuffle(drawn)
    measured, tried = drawn[: len(drawn) // 3], drawn[len(drawn) // 3 :]
    right = _run(member, member.onnx, images, tried, "logits")
    size = np.abs(_run(member, member.onnx, images, measured, "logits")).max(axis=1)
    halves = (measured, measured[size <= np.median(size)])
    choices = list(product([list(images.batches(member, each)) for each in halves], STEMS))
    best, kept = -np.inf, member.onnx
    for number, (given, stem) in enumerate(choices):
        graph = quantised(member.onnx, given, stem, folder)
        found = _run(member, graph, images, tried, "logits")
        same = float((found.argmax(axis=1) == right.argmax(axis=1)).mean())
        if same > best:
            best, kept = same, graph
        listen(Step("quantising", number + 1, len(choices), "graphs", f"{best:.1%} agree"))
    return kept


def _blend(
    made: Sequence[_Network],
    graphs: Sequence[bytes],
    images: _Images,
    places: NDArray[np.intp],
    mirrored: bool = False,
    known: bool = True,
) -> NDArray[np.floating]:
    """Logits of the bundle's mean probability."""
    logits = [
        _run(member, graph, images, places, "logits", mirrored, known)
        for member, graph in zip(made, graphs, strict=True)
    ]
    return averaged(np.stack(logits))


def _gate_smaller(
    made: Sequence[_Network],
    graphs: Sequence[bytes],
    images: _Images,
    precision: Precision,
    listen: Listener,
) -> dict[str, Any]:
    """Compare with 32 bits on held-out images; their mirror images too where they are few."""
    held = "test" if len(images.of("test")) else "val"
    places = images.of(held)
    turned = (False, True) if len(places) < export_checks.PICTURES else (False,)
    both = []
    for each in ([member.onnx for member in made], graphs):
        logits = [_blend(made, each, images, places, mirrored) for mirrored in turned]
        both.append(np.concatenate(logits))
        listen(Step(f"checking {precision}", len(both), 2, "graphs"))
    table = pd.concat([images.table.iloc[places]] * len(turned), ignore_index=True)
    return export_checks.smaller(
        both[0], both[1], table, made[0].architecture.classes, held, precision
    )


@dataclass(frozen=True, eq=False)
class _Answers:
    """Calibrated answers about lesions that the networks which gave them have not learnt from.

    Attributes:
        scaling: what calibrated them.
        logs: log-probabilities before, as `states`.
        states: probabilities with age, sex and site known and without, or one table of a network
            that takes none, each of shape (n, classes).
        targets: true classes as positions, shape (n,).
        lesions: numbers of the lesions, shape (n,).
        folds: which network answered, shape (n,); all 0 on val, where that one is which ships.
        images: their ids, shape (n,).
        classes: their names.
        part: whose lesions they are: "val", or "test" of every fold.
    """

    scaling: Scaling
    logs: tuple[NDArray[np.float64], ...]
    states: tuple[NDArray[np.float64], ...]
    targets: NDArray[np.intp]
    lesions: NDArray[np.intp]
    folds: NDArray[np.intp]
    images: NDArray[np.object_]
    classes: tuple[str, ...]
    part: str

    @classmethod
    def of(
        cls,
        logs: Sequence[NDArray[np.floating]],
        table: pd.DataFrame,
        classes: tuple[str, ...],
        folds: NDArray[np.intp] | None = None,
    ) -> _Answers:
        """Calibrate log probabilities of some rows, with metadata and without."""
        targets = np.array([classes.index(label) for label in table["target"]], dtype=np.intp)
        codes, _ = lesion_codes(table["lesion_id"].to_numpy(object))
        twice = len(logs)
        scaling, _ = fit(
            np.concatenate(logs), np.tile(targets, twice), np.tile(codes, twice), classes
        )
        plain = tuple(rows.astype(np.float64) for rows in logs)
        return cls(
            scaling,
            plain,
            tuple(np.exp(scaling.logits(rows)) for rows in plain),
            targets,
            codes,
            np.zeros(len(table), dtype=np.intp) if folds is None else folds,
            table["image_id"].to_numpy(object),
            classes,
            "val" if folds is None else "test",
        )

    def where(self, mask: NDArray[np.bool_]) -> _Answers:
        """Some of them, calibrated as all are."""
        return replace(
            self,
            logs=tuple(rows[mask] for rows in self.logs),
            states=tuple(rows[mask] for rows in self.states),
            targets=self.targets[mask],
            lesions=self.lesions[mask],
            folds=self.folds[mask],
            images=self.images[mask],
        )

    def reference(self, novelty: NDArray[np.float64]) -> Reference:
        """What a bundle keeps of them for `adapt`."""
        with_metadata = self.logs[0] if len(self.logs) > 1 else None
        return Reference(self.logs[-1], with_metadata, self.targets, self.lesions, novelty)

    @property
    def size(self) -> dict[str, Any]:
        """Part, images and lesions; of folds their number, too."""
        counted = {"images": len(self.targets), "lesions": len(np.unique(self.lesions))}
        folds = {"folds": len(np.unique(self.folds))} if self.part == "test" else {}
        return {"part": self.part, **counted, **folds}


@dataclass(frozen=True)
class _Limits:
    """What the rule of referral is asked to keep."""

    named: ReferralRule
    miss: float
    miss_melanoma: float
    malignant: Sequence[str] | None


def _folds_of(told: Run | Folds | None, runs: Sequence[Run]) -> bool:
    """Whether a card's folds are of the recipe and the catalogue of the one run that ships."""
    if not isinstance(told, Folds) or len(runs) != 1:
        return False
    ours, theirs = runs[0].info["identity"], told.complete_runs[0].info["identity"]
    return all(ours[each] == theirs[each] for each in ("recipe", "catalogue"))


def _out_of_fold(
    told: Run | Folds | None,
    predictions: pd.DataFrame,
    unknown: pd.DataFrame | None,
    classes: tuple[str, ...],
) -> _Answers:
    """Answers of folds, each image by the network that has no part of its lesion."""
    assert isinstance(told, Folds)
    table = predictions[predictions["part"] == "test"]
    fold = told.predictions.set_index("image_id")["fold"].loc[table["image_id"]]
    names = [f"p_{label}" for label in classes]
    tables = [table]
    if unknown is not None:
        tables.append(unknown.set_index("image_id").loc[table["image_id"]])
    logs = [np.log(each[names].to_numpy(float).clip(_LEAST)) for each in tables]
    return _Answers.of(logs, table, classes, fold.to_numpy(np.intp))


def _on_val(made: Sequence[_Network], graphs: Sequence[bytes], images: _Images) -> _Answers:
    """Answers of the graphs that ship, on val."""
    places = images.of("val")
    logs = [
        log_softmax(_blend(made, graphs, images, places, known=known))
        for known in _known_or_not(made)
    ]
    return _Answers.of(logs, images.table.iloc[places], made[0].architecture.classes)


def _thresholds(known: _Answers, malignant: Sequence[str]) -> dict[str, float]:
    """Operating points of the malignant classes, the lower of those with metadata and without."""
    return {
        point_name(share, label, "sensitivity"): min(
            threshold_at_sensitivity(known.targets == place, rows[:, place], share)
            for rows in known.states
        )
        for place, label in enumerate(known.classes)
        for share in SENSITIVITIES
        if label in malignant and (known.targets == place).any()
    }


def _fit(known: _Answers, asked: _Limits) -> dict[str, Any]:
    """Calibration, sets and thresholds.

    Of a network that takes metadata, the scaling is that of images with and without them, and the
    wider sets and lower thresholds of the two ship, so that what they promise holds for both.
    """
    return {
        "scaling": known.scaling.to_json(),
        "conformal": _sets(known).to_json(known.classes),
        "thresholds": _thresholds(known, asked.named.malignant),
    }


def _sets(known: _Answers) -> Sets:
    table = known.states, known.targets, known.lesions
    limits = class_limits(*table, len(known.classes), ALPHA, images=True)
    return Sets(ALPHA, tuple(limits), known.size["lesions"])


def _fit_rule(known: _Answers, asked: _Limits) -> ReferralRule:
    """The rule of referral, whose limits hold whether age, sex and site are known or not."""
    rule = strictest(
        [
            fit_referral(
                rows,
                known.targets,
                known.lesions,
                known.classes,
                miss=asked.miss,
                miss_melanoma=asked.miss_melanoma,
                malignant=asked.malignant,
            )
            for rows in known.states
        ]
    )
    floors = dict(zip(known.classes, _sets(known).floors, strict=True))
    thresholds = _thresholds(known, rule.malignant)
    return replace(rule, points=operating_points(rule.malignant, thresholds, floors))


def _measure(
    rule: ReferralRule,
    known: _Answers,
    asked: _Limits,
    predictions: pd.DataFrame,
    listen: Listener,
) -> MeasuredReferral | None:
    """What the rule does on the predictions of the card; None: nothing to measure it on.

    A rule fitted out of fold is measured by its likes: each fold's answers by a rule that was
    fitted on those of the others.
    """
    if not rule.malignant:
        return None
    referred = None
    if known.part == "test":
        yes = np.zeros(len(known.targets), bool)
        for fold in np.unique(known.folds):
            inside = known.folds == fold
            yes[inside] = _fit_rule(known.where(~inside), asked).refers(known.states[0][inside])
        referred = pd.Series(yes, index=known.images)
    try:
        scaled = known.scaling.apply(predictions)
        return measure_referral(rule, scaled, referred=referred, listen=listen)
    except DataError as error:
        listen(Notice(f"What the rule of referral does was not measured: {error}"))
        return None


def _fit_detector(
    made: Sequence[_Network], graphs: Sequence[bytes], images: _Images, listen: Listener
) -> tuple[Detector | None, NDArray[np.float64]]:
    """The detector of unlike images and its scores of val.

    No detector, and a warning, where val has too few lesions for it.
    """
    nothing = np.full(images.size("val")["images"], np.nan)
    lesions = images.size("val")["lesions"]
    needed = int(np.ceil(1 / _ALARMS - 1))
    if lesions < needed:
        listen(
            Notice(
                f"Part val has {lesions} lesions, and a threshold for images unlike those of "
                f"training takes {needed}: the bundle will not notice such images.",
                "warning",
            )
        )
        return None, nothing
    return _detector(made, graphs, images) or (None, nothing)


def _known_or_not(made: Sequence[_Network]) -> tuple[bool, ...]:
    """With age, sex and site and without, where a member takes them."""
    takes = any(member.architecture.metadata is not None for member in made)
    return (True, False) if takes else (True,)


def _scored_again(
    images: _Images, predictions: pd.DataFrame, known: _Answers, of_others: bool
) -> str:
    """Says how many of the scored lesions set the limits too; "" where none did."""
    if known.part == "test":
        return (
            "What the rule of referral did was measured fold by fold, each by a rule fitted on the "
            "answers of the other folds."
        )
    val = images.table.iloc[images.of("val")]
    scored = predictions[predictions["part"] == "test"]
    again = scored[scored["image_id"].isin(set(val["image_id"]))]
    if not of_others or again.empty:
        return ""
    _, all_lesions = lesion_codes(scored["lesion_id"].to_numpy(object))
    _, lesions = lesion_codes(again["lesion_id"].to_numpy(object))
    return (
        f"Of the {all_lesions:,} lesions that the rule of referral is scored on here, {lesions:,} "
        "also set its limits, by the answers of the weights that ship: for these the scored "
        "figures are no independent test."
    )


def _without_metadata(
    source: Run | Folds,
    predictions: pd.DataFrame,
    data: Catalogue,
    views: int,
    cache_to: str | Path | None,
    listen: Listener,
) -> pd.DataFrame | None:
    """The card's predictions from the picture alone; None: the model takes nothing else."""
    run = next(iter(source.complete_runs.values())) if isinstance(source, Folds) else source
    if isinstance(run.recipe.model.fusion, NoFusion) or not (predictions["part"] == "test").any():
        return None
    listen(Notice("Predicting without age, sex and site, for what they are worth."))
    return predict_without_metadata(
        source, data=data, views=views, cache_to=cache_to, device="cpu", listen=listen
    )


def _worth(
    source: Run | Folds,
    predictions: pd.DataFrame,
    unknown: pd.DataFrame | None,
    listen: Listener,
) -> MetadataWorth | None:
    """What age, sex and site are worth to the model of the card; None: it takes none of them."""
    if unknown is None:
        return None
    run = next(iter(source.complete_runs.values())) if isinstance(source, Folds) else source
    fusion = run.recipe.model.fusion
    assert not isinstance(fusion, NoFusion)
    try:
        return metadata_worth(predictions, unknown, fusion.fields)
    except DataError as error:
        listen(Notice(f"What age, sex and site are worth was not measured: {error}"))
        return None


def _halfway(made: Sequence[_Network]) -> bool:
    """Whether every member gives the stage halfway, which the detector then looks at."""
    return all(member.graph.middle for member in made)


def _detector(
    made: Sequence[_Network], graphs: Sequence[bytes], images: _Images
) -> tuple[Detector, NDArray[np.float64]] | None:
    """Fitted on features of training images, its threshold on val, and its scores of val.

    None: there are no features.

    On the means of the stage halfway where every member has one: fine-tuned on few images of rare
    classes, the last features call half of these unlike, and let photographs pass.
    """
    middle = _halfway(made)
    if not middle and not all(member.graph.features for member in made):
        return None
    train, val = images.of("train", _DETECTED), images.of("val")
    features = [
        np.concatenate(
            [
                _run(member, graph, images, places, "middle" if middle else "features")
                for member, graph in zip(made, graphs, strict=True)
            ],
            axis=1,
        )
        for places in (train, val)
    ]
    classes = made[0].architecture.classes
    table = images.table
    targets = np.array([classes.index(label) for label in table["target"].iloc[train]])
    detector = fit_detector(
        features[0],
        targets,
        features[1],
        table["lesion_id"].iloc[val].to_numpy(object),
        alarms=_ALARMS,
        classes=classes,
        rank=RANK,
    )
    return detector, detector.score(features[1])


def _folder(source: Run | Folds | Path | str) -> Path:
    return (source.folder if isinstance(source, Run | Folds) else Path(source)).resolve()


def _shipped(
    saw: Mapping[str, Mapping[str, int]],
    known: _Answers,
    of_others: bool,
    views: int,
    precision: Precision,
    passed: Mapping[str, Any],
) -> list[str]:
    """What the card says of the very weights that ship."""

    def size(part: str) -> str:
        return f"{saw[part]['images']:,} images of {saw[part]['lesions']:,} lesions"

    fitted = "Temperature, thresholds, conformal quantiles and the limits of referral"
    if known.part == "val":
        on = f"{fitted} and for unlike images were fitted on {size('val')}"
    else:
        on = (
            f"{fitted} were fitted on {known.size['images']:,} images of "
            f"{known.size['lesions']:,} lesions, each answered by that of {known.size['folds']} "
            "networks of the same recipe that had no part of its lesion (cross-conformal); the "
            f"limit for unlike images on {size('val')}"
        )
    told = [
        f"The shipped weights were trained on {size('train')}. {on}, which the weights that "
        "answered have not seen."
    ]
    if of_others:
        told.append(
            "The figures on this card are of other weights: those of the named run or folds, "
            "trained by the same recipe."
        )
    if views > 1:
        told.append(
            f"An answer is the mean over {views} symmetries of the image, here and in the figures "
            "on this card."
        )
    if precision != "fp32":
        gate = passed[precision]
        told.append(
            f"The shipped weights are in {_KEPT_IN[precision]}, the figures on this card in 32 "
            f"bits. On {gate['pictures']:,} held-out pictures {gate['agreement']:.1%} of the "
            f"likeliest classes are the same, and balanced accuracy falls by {gate['fall']:.3f} "
            f"({gate['fall_low']:.3f} to {gate['fall_high']:.3f})."
        )
    return told


def _texts(
    card_of: Run | Folds | Path | str | None,
    predictions: pd.DataFrame | None,
    data: Catalogue,
    answers: Path | str | None,
    name: str,
    licence: str,
    shipped: Sequence[str],
    measured: MeasuredReferral | None,
    worth: MetadataWorth | None,
) -> dict[str, bytes]:
    """The model card under the bundle's name, as values and as a page, and the licence."""
    from lesionlab.reporting.card.card import card

    said = f"The weights in this bundle: {licence}.\n"
    if card_of is None:
        return {LICENCE: said.encode()}
    source = card_of if isinstance(card_of, Run | Folds) else open_run(card_of)
    filled = card(
        source, data=data, answers=answers, predictions=predictions, referral=measured, worth=worth
    )
    filled = replace(filled, name=name, caveats=(*shipped, *filled.caveats))
    values = json.dumps(filled.to_json(), indent=1, ensure_ascii=False)
    page = filled.to_html()
    return {CARD: values.encode(), CARD_PAGE: page.encode(), LICENCE: said.encode()}
