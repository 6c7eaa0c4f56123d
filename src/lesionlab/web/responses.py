"""Answers as the plain values that are sent."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lesionlab.data.images.faults import ImageFault
from lesionlab.disclaimer import NOTICE
from lesionlab.taxonomy import full_name
from lesionlab.web.batching_engine import Seen
from lesionlab.web.request import Maps

if TYPE_CHECKING:
    from lesionlab.prediction.bundle import Bundle
    from lesionlab.retrieval.case_index import CaseIndex

MODEL = ("name", "version", "fingerprint", "precision")
"""What names a model."""

_DIGITS = 4  # of a map's values


def answer(bundle: Bundle, results: list[dict[str, Any]]) -> dict[str, Any]:
    """What is sent about all images of a question."""
    return {
        "model": {key: getattr(bundle, key) for key in MODEL},
        "notice": NOTICE,
        "coverage": bundle.coverage,
        "referral": referral(bundle),
        "results": results,
    }


def result(bundle: Bundle, name: str, seen: Seen, maps: Maps) -> dict[str, Any]:
    """What is sent about an image that was answered."""
    from lesionlab.prediction.predictor import NOT_REFERRED, reason_text

    answers, row = seen.answers, seen.row
    probabilities = answers.probabilities[row]
    inside = answers.sets[row]
    order = np.argsort(-probabilities, kind="stable")
    reason = answers.reasons[row]
    return {
        "name": name,
        "width": seen.width,
        "height": seen.height,
        "error": None,
        "predicted": answers.predicted[row],
        "classes": [
            {
                "label": answers.classes[i],
                "name": bundle.full_names[answers.classes[i]],
                "probability": float(probabilities[i]),
                "in_set": bool(inside[i]),
                "malignant": bundle.referral.is_malignant(answers.classes[i]),
            }
            for i in order
        ],
        "set": [answers.classes[i] for i in order if inside[i]],
        "refer": reason not in NOT_REFERRED,
        "reason": reason,
        "reason_text": reason_text(reason, bundle.referral),
        "malignancy": _malignancy(bundle, seen),
        "quality": _quality(bundle, answers.predicted[row]),
        "novelty": _novelty(bundle, seen),
        "thresholds": [
            _threshold(bundle, name, limit, probabilities)
            for name, limit in bundle.thresholds.items()
            if name.rpartition("/")[2] in answers.classes
        ],
        "maps": _maps(seen, maps),
        "similar": None,
    }


def unread(name: str, fault: ImageFault) -> dict[str, Any]:
    """What is sent about an image that cannot be read."""
    from lesionlab.prediction.predictor import REASONS

    return {
        **dict.fromkeys(("width", "height", "predicted", "malignancy", "quality", "novelty")),
        "similar": None,
        **{key: [] for key in ("classes", "set", "thresholds", "maps")},
        "name": name,
        "error": {"kind": fault.kind, "message": f"{_capital(str(fault))}."},
        "refer": True,
        "reason": "unreadable",
        "reason_text": REASONS["unreadable"],
    }


def similar(cases: CaseIndex, seen: Seen, sha256: str) -> dict[str, Any]:
    """What is sent about the known cases nearest to an image, none of them of its own lesion.

    Args:
        cases: the index.
        seen: the image, its features among its answers.
        sha256: of its file.
    """
    from lesionlab.retrieval.similar import nearest_cases

    answers, row = seen.answers, seen.row
    assert answers.features is not None  # asked for where there is an index
    found = nearest_cases(cases, answers.features[row], answers.predicted[row], sha256=sha256)
    rows = zip(found.cases.to_dict("records"), found.rows, strict=True)
    return {
        "cases": [
            {
                **{key: case[key] for key in ("image_id", "target", "name", "confirmed")},
                "distance": float(case["distance"]),
                "picture": base64.b64encode(cases.picture(place)).decode(),
            }
            for case, place in rows
        ],
        "nearest": found.nearest,
        "nearest_name": full_name(found.nearest),
        "share": float(found.votes.iloc[0]),
        "agree": found.agree,
    }


def model(bundle: Bundle) -> dict[str, Any]:
    """What is told of the model."""
    return {
        **{key: getattr(bundle, key) for key in MODEL},
        "classes": [
            {
                "label": each,
                "name": bundle.full_names[each],
                "malignant": bundle.referral.is_malignant(each),
                "quality": _quality(bundle, each),
            }
            for each in bundle.classes
        ],
        "fields": list(bundle.fields),
        "sites": list(bundle.sites),
        "sexes": list(bundle.sexes),
        "input": {
            "height": bundle.images.size[0],
            "width": bundle.images.size[1],
            "fit": bundle.images.fit,
        },
        "coverage": bundle.coverage,
        "referral": referral(bundle),
        "thresholds": dict(bundle.thresholds),
        "maps": bundle.map_grid is not None,
        "metadata_worth": bundle.metadata_worth,
        "licence": bundle.licence,
        "notice": NOTICE,
        "card": bundle.card,
    }


def referral(bundle: Bundle) -> dict[str, Any]:
    """What is told of the rule of referral: its promise, its limits and what it did."""
    rule = bundle.referral
    rule_json = rule.to_json()
    return {
        **{key: rule_json[key] for key in ("promise", "malignant", "limits")},
        "points": rule.refers_from,
        "refers_all": rule.refers_all,
        "measured": bundle.measured,
    }


def _malignancy(bundle: Bundle, seen: Seen) -> dict[str, Any] | None:
    """The probability of malignancy, and which limits of referral an image reaches."""
    rule, row = bundle.referral, slice(seen.row, seen.row + 1)
    if not rule.malignant:
        return None
    probabilities = seen.answers.probabilities[row]
    limits = []
    for each in rule.limits:
        probability = float(rule.probability(probabilities, each.classes)[0])
        limits.append(
            {
                "name": each.name,
                "probability": probability,
                "threshold": each.threshold,
                "reached": probability >= each.threshold,
            }
        )
    return {"probability": float(seen.answers.malignancy[seen.row]), "limits": limits}


def _quality(bundle: Bundle, label: str) -> dict[str, Any] | None:
    quality = bundle.quality.get(label)
    return quality.to_json() if quality else None


def _threshold(
    bundle: Bundle, name: str, limit: float, probabilities: NDArray[np.float64]
) -> dict[str, Any]:
    """An operating point and whether the image reaches it, also in words."""
    label = name.rpartition("/")[2]
    probability = float(probabilities[bundle.classes.index(label)])
    reached = probability >= limit
    point = name.partition("/")[0].removeprefix("at_")
    sensitivity = None
    if point.endswith("_sensitivity"):
        sensitivity = float(point.removesuffix("_sensitivity")) / 100
    found = ""
    if sensitivity is not None:
        found = f", the threshold that found {100 * sensitivity:g} of 100 of part val"
    return {
        "name": name,
        "label": label,
        "class_name": bundle.full_names[label],
        "sensitivity": sensitivity,
        "threshold": limit,
        "reached": reached,
        "text": f"{bundle.full_names[label]}, {100 * probability:.3g} %: "
        f"{'at or above' if reached else 'below'} {100 * limit:.3g} %{found}.",
    }


def _novelty(bundle: Bundle, seen: Seen) -> dict[str, Any] | None:
    score = float(seen.answers.novelty[seen.row])
    if bundle.detector is None or not math.isfinite(score):
        return None
    return {
        "score": score,
        "threshold": float(bundle.detector.threshold),
        "unlike": bool(seen.answers.unlike[seen.row]),
    }


def _maps(seen: Seen, maps: Maps) -> list[dict[str, Any]]:
    answers = seen.answers
    if maps == "none" or answers.maps is None:
        return []
    labels = answers.classes if maps == "all" else (answers.predicted[seen.row],)
    sent = []
    for label in labels:
        values = answers.maps[seen.row, answers.classes.index(label)].astype(np.float64)
        most = values.max()
        blank = not most > 0
        unit = np.zeros_like(values) if blank else values / most
        rows, columns = values.shape
        sent.append(
            {
                "label": label,
                "rows": rows,
                "columns": columns,
                "values": np.round(unit, _DIGITS).ravel().tolist(),
                "blank": blank,
            }
        )
    return sent


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".")
