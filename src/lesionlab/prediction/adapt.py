"""`adapt`: a bundle calibrated again for another clinic, from images without labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.display import Result
from lesionlab.errors import BundleError, DataError
from lesionlab.evaluation.conformal.scores import effective_lesions
from lesionlab.evaluation.conformal.shifted import (
    Floats,
    Recalibrated,
    Reference,
    class_limits,
    recalibrated,
)
from lesionlab.evaluation.metrics.operating_points import threshold_at_sensitivity
from lesionlab.evaluation.triage.risk_control import (
    MISS,
    MISS_MELANOMA,
    ReferralRule,
    fit_referral,
    operating_points,
    strictest,
)
from lesionlab.numerics import log_softmax
from lesionlab.prediction.bundle import CARD, CARD_PAGE, Bundle, write_bundle
from lesionlab.prediction.image_sources import open_sources
from lesionlab.prediction.predictor import BLOCK, Predictor
from lesionlab.progress import Listener, Notice, Step, silent

FEWEST = 50
"""Images of the new place that it takes; see docs/how-to/adapt.md for what fewer do."""

MOST_UNLIKE = 0.3
"""Share of images unlike those of training, above which it is another kind of image."""

SMALLER = 0.95
"""Sets that shrink more than this are warned of."""

FEWEST_LESIONS = 60
"""Lesions that part val has to be worth to the new place."""


@dataclass(frozen=True, eq=False, repr=False)
class Adaptation(Result):
    """A bundle for another place, and what is different in it.

    Attributes:
        bundle: as written.
        images: of the new place that were read.
        unlike: share of them that the bundle calls unlike those of training, 0-1.
        lesions: of part val.
        effective_lesions: that part val is worth to the new place.
        classes: a row per class: class, val_share and share (estimated there), in_set_from and
            in_set_from_before (the probability from which it is in a set).
        set_size: classes in a set, mean over the new images.
        set_size_before: the same with the sets of the bundle before.
        temperature: what the logits of the bundle before are divided by.
        warnings: what a reader must know.
    """

    bundle: Bundle
    images: int
    unlike: float
    lesions: int
    effective_lesions: float
    classes: pd.DataFrame
    set_size: float
    set_size_before: float
    temperature: float
    warnings: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """The classes, as in `classes`."""
        return self.classes

    @property
    def legend(self) -> tuple[str, ...]:
        """What the columns are, as `Result.legend` says."""
        return (
            f"Estimated from {self.images:,} images without labels. Part val is worth "
            f"{self.effective_lesions:.0f} of its {self.lesions:,} lesions there. Classes in a "
            f"set: {self.set_size:.2f}, {self.set_size_before:.2f} before.",
        )

    def __repr__(self) -> str:
        return f"<Adaptation of {self.bundle.name} to {self.images:,} images>"


def adapt(
    bundle: Bundle | str | Path | None,
    images: Sequence[str | Path] | str | Path,
    *,
    out: str | Path,
    listen: Listener = silent,
) -> Adaptation:
    """Calibrate a bundle again for another clinic or camera, from its images and without labels.

    Images of part val count as often as answers like theirs are given there. Conformal sets,
    temperature, thresholds and the limits of referral are fitted again so, and how common the
    classes are is estimated. No threshold and no limit becomes higher than before. The network
    stays as it is.

    What holds then assumes that an answer means there what it meant in part val. It cannot be
    checked without labels: where there are some, check it on them.

    Args:
        bundle: to start from; None: the model that comes with lesionlab.
        images: of the new place, as they come there and not selected: files, folders that are
            searched through, patterns, or the folder of a catalogue, whose labels are not looked
            at. A single one may be given by itself.
        out: the bundle to write.
        listen: told of the progress.

    Raises:
        BundleError: if the bundle keeps nothing to calibrate on.
        DataError: if there are too few images, or they are too far from those of the bundle.

    Example:
        >>> adapt("mole.bundle", "our_clinic/", out="ours.bundle")  # doctest: +SKIP
    """
    predictor = Predictor(bundle if isinstance(bundle, Bundle) else Bundle.open(bundle))
    before = predictor.bundle
    reference = before.reference
    if reference is None:
        raise BundleError(
            f"{before.path} keeps nothing to calibrate on: it was exported before bundles could "
            "be adapted. Export it again."
        )
    given = [images] if isinstance(images, str | Path) else list(images)
    logs, novelty, unlike = _answered(predictor, given, listen)
    lesions = len(np.unique(reference.lesions))
    if len(logs) < FEWEST:
        raise DataError(
            f"{len(logs)} images are too few to adapt to: it takes {FEWEST}, taken as they come."
        )
    if unlike > MOST_UNLIKE:
        raise DataError(
            f"These images are too far from those that {before.name} was made for: {unlike:.0%} "
            f"of them are unlike those of its training, and {MOST_UNLIKE:.0%} may be. Nothing "
            "that is known of the model holds for them."
        )
    fitted = recalibrated(reference, logs, before.scaling, before.sets.alpha)
    weights = fitted.weights
    worth = effective_lesions(weights, reference.lesions)
    if worth < FEWEST_LESIONS:
        raise DataError(
            f"These images are too far from those that {before.name} was calibrated on: of "
            f"{lesions:,} lesions only {worth:.0f} have answers as they are given there, and it "
            f"takes {FEWEST_LESIONS}."
        )
    info = {**before.info, **_refitted(before, reference, fitted)}
    shares = np.bincount(reference.targets, weights, len(before.classes)) / weights.sum()
    of_val = np.bincount(reference.targets, minlength=len(before.classes)) / len(weights)
    text = (
        f"Sets, temperature, thresholds and the limits of referral were adapted to another place "
        f"from {len(logs):,} of its images without labels ({unlike:.1%} of them unlike those of "
        f"training): part val, {lesions:,} lesions, is worth {worth:.0f} lesions there. This "
        "assumes that an answer means there what it meant in part val. No figure on this card was "
        "measured there."
    )
    info["adapted"] = {
        "text": text,
        "from": before.fingerprint,
        "images": len(logs),
        "unlike": unlike,
        "effective_lesions": worth,
        "prevalence": dict(zip(before.classes, map(float, shares), strict=True)),
        "usual": {
            name: np.quantile(each, np.linspace(0, 1, 101)).round(6).tolist()
            for name, each in (
                ("novelty", novelty),
                ("likeliest", np.exp(fitted.scaling.logits(logs)).max(axis=1)),
            )
            if np.isfinite(each).all()
        },
    }
    made = write_bundle(Path(out), info, _with_note(before, text))
    table = pd.DataFrame(
        {
            "class": before.classes,
            "val_share": of_val,
            "share": shares,
            "in_set_from": made.sets.floors,
            "in_set_from_before": before.sets.floors,
        }
    )
    power = made.scaling.matrix[0, 0] / before.scaling.matrix[0, 0]
    sizes = _set_size(made, logs), _set_size(before, logs)
    warnings: tuple[str, ...] = (
        (_unlike_warning(unlike, before),) if unlike > _usual(before) else ()
    )
    unweighted = _unweighted_size(before, reference, logs)
    if sizes[0] < SMALLER * unweighted:
        warnings += (
            f"Sets hold {sizes[0]:.2f} classes there in place of {unweighted:.2f}, as answers are "
            "surer. Easy images do that, but blurred ones as well, of which the network is surer "
            "without being right more often: check it on labelled images.",
        )
    for warning in warnings:
        listen(Notice(warning, "warning"))
    return Adaptation(
        made,
        len(logs),
        unlike,
        lesions,
        worth,
        table,
        *sizes,
        float(1 / power),
        warnings,
    )


def _answered(
    predictor: Predictor, given: Sequence[str | Path], listen: Listener
) -> tuple[Floats, Floats, float]:
    """Log-probabilities from the picture alone, novelty, and the share of unlike images."""
    sources = open_sources(given)
    reader, n = Reader(sources.root), len(sources.paths)
    logs: list[NDArray[np.float64]] = []
    novelty: list[NDArray[np.float64]] = []
    unlike: list[NDArray[np.bool_]] = []
    first = ""
    for start in range(0, n, BLOCK):
        pixels = []
        for path in sources.paths[start : start + BLOCK]:
            try:
                pixels.append(predictor.read_file(path, reader)[0])
            except ImageFault as fault:
                first = first or str(fault)
        if pixels:
            answers = predictor.answers(np.stack(pixels))
            logs.append(log_softmax(answers.logits))
            novelty.append(answers.novelty)
            unlike.append(answers.unlike)
        listen(Step("looking at", min(start + BLOCK, n), n, "images"))
    if not logs:
        raise DataError(f"None of the {n} images can be read. The first: {first}.")
    found = np.concatenate(logs)
    if len(found) < n:
        listen(Notice(f"{n - len(found)} of {n} images cannot be read, and are left out: {first}."))
    return found, np.concatenate(novelty), float(np.concatenate(unlike).mean())


def _refitted(bundle: Bundle, reference: Reference, fitted: Recalibrated) -> dict[str, Any]:
    """What `export` fits, fitted again to weighted images."""
    classes, targets = bundle.classes, reference.targets
    states, limits, weights = fitted.states, fitted.limits, fitted.weights
    thresholds = {}
    for name in bundle.thresholds:
        share, label = _asked(name)
        place = classes.index(label)
        refitted = [
            threshold_at_sensitivity(targets == place, rows[:, place], share, counted)
            for rows in states
            for counted in (None, weights)
        ]
        thresholds[name] = min(bundle.thresholds[name], *refitted)
    rule = _rule(bundle, states, reference, weights)
    sets = replace(bundle.sets, quantiles=tuple(limits))
    floors = dict(zip(classes, sets.floors, strict=True))
    rule = replace(rule, points=operating_points(rule.malignant, thresholds, floors))
    return {
        "scaling": fitted.scaling.to_json(),
        "conformal": {
            **bundle.info["conformal"],
            "quantiles": sets.to_json(classes)["quantiles"],
        },
        "thresholds": thresholds,
        "referral": {
            **rule.to_json(),
            "fitted_on": bundle.info["referral"].get("fitted_on"),
            "measured": None,  # of other limits, elsewhere
        },
    }


def _set_size(bundle: Bundle, logs: Floats) -> float:
    """Classes in a set, mean over images."""
    return float(bundle.sets.inside(np.exp(bundle.scaling.logits(logs))).sum(axis=1).mean())


def _unweighted_size(bundle: Bundle, reference: Reference, logs: Floats) -> float:
    """Classes in a set if all images of val counted alike, mean over images."""
    states = [np.exp(bundle.scaling.logits(rows)) for rows in reference.logs]
    table = states, reference.targets, reference.lesions
    limits = class_limits(*table, len(bundle.classes), bundle.sets.alpha)
    sets = replace(bundle.sets, quantiles=tuple(limits))
    return float(sets.inside(np.exp(bundle.scaling.logits(logs))).sum(axis=1).mean())


def _asked(name: str) -> tuple[float, str]:
    """The sensitivity and the class of an operating point, such as at_90_sensitivity/mel."""
    head, _, label = name.partition("/")
    return float(head.split("_")[1]) / 100, label


def _rule(
    bundle: Bundle, states: Sequence[Floats], reference: Reference, weights: Floats
) -> ReferralRule:
    old = bundle.referral
    misses: Mapping[str, float] = {each.name: each.miss for each in old.limits}
    return strictest(
        [
            fit_referral(
                rows,
                reference.targets,
                reference.lesions,
                bundle.classes,
                miss=misses.get("malignancy", MISS),
                miss_melanoma=misses.get("melanoma", MISS_MELANOMA),
                malignant=None if old.unknown else old.malignant,
                weights=weights,
            )
            for rows in states
        ]
        + [old]
    )


def _usual(bundle: Bundle) -> float:
    """The share of unlike images beyond which it is said."""
    return 3 * bundle.detector.alarms if bundle.detector else 0.0


def _unlike_warning(unlike: float, bundle: Bundle) -> str:
    alarms = f"{bundle.detector.alarms:.0%}" if bundle.detector else "none"
    return (
        f"{unlike:.0%} of these images are unlike those of training, where {alarms} would be "
        "usual: check the adapted bundle on labelled images of that place before you rely on it."
    )


def _with_note(bundle: Bundle, text: str) -> dict[str, bytes]:
    """The files of a bundle, its card with one more caveat, the first."""
    content = dict(bundle.content)
    if CARD in content:
        card = json.loads(content[CARD])
        card["caveats"] = [text, *card.get("caveats", [])]
        content[CARD] = json.dumps(card, indent=1, ensure_ascii=False).encode()
    if CARD_PAGE in content:
        head, mark, rest = bundle.card_html.partition('<div class="remarks"><ul>')
        note = f"<li>{escape(text)}</li>"
        page = f"{head}{mark}{note}{rest}" if mark else f"{head}<ul>{note}</ul>"
        content[CARD_PAGE] = page.encode()
    return content
