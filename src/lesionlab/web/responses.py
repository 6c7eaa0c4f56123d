"""Answers as the plain values that are sent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lesionlab.data.images.faults import ImageFault
from lesionlab.disclaimer import NOTICE
from lesionlab.web.batching_engine import Seen
from lesionlab.web.request import Maps

if TYPE_CHECKING:
    from lesionlab.prediction.bundle import Bundle

_DIGITS = 4  # of a map's values


def answer(bundle: Bundle, results: list[dict[str, Any]]) -> dict[str, Any]:
    """What is sent about all images of a question."""
    return {
        "model": {
            "name": bundle.name,
            "version": bundle.version,
            "fingerprint": bundle.fingerprint,
            "precision": bundle.precision,
        },
        "notice": NOTICE,
        "coverage": bundle.coverage,
        "results": results,
    }


def result(bundle: Bundle, name: str, seen: Seen, maps: Maps) -> dict[str, Any]:
    """What is sent about an image that was answered."""
    from lesionlab.prediction.predictor import REASONS

    answers, row = seen.answers, seen.row
    chances = answers.probabilities[row]
    inside = answers.sets[row]
    order = np.argsort(-chances, kind="stable")
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
                "probability": float(chances[i]),
                "in_set": bool(inside[i]),
            }
            for i in order
        ],
        "set": [answers.classes[i] for i in order if inside[i]],
        "refer": reason != "",
        "reason": reason,
        "reason_text": REASONS.get(reason, ""),
        "novelty": _novelty(bundle, seen),
        "thresholds": [
            {
                "name": each,
                "label": label,
                "threshold": limit,
                "reached": bool(chances[answers.classes.index(label)] >= limit),
            }
            for each, limit in bundle.thresholds.items()
            if (label := each.rpartition("/")[2]) in answers.classes
        ],
        "maps": _maps(seen, maps),
    }


def unread(name: str, fault: ImageFault) -> dict[str, Any]:
    """What is sent about an image that cannot be read."""
    from lesionlab.prediction.predictor import REASONS

    return {
        "name": name,
        "width": None,
        "height": None,
        "error": {"kind": fault.kind, "message": f"{_capital(str(fault))}."},
        "predicted": None,
        "classes": [],
        "set": [],
        "refer": True,
        "reason": "unreadable",
        "reason_text": REASONS["unreadable"],
        "novelty": None,
        "thresholds": [],
        "maps": [],
    }


def model(bundle: Bundle) -> dict[str, Any]:
    """What is told of the model."""
    return {
        "name": bundle.name,
        "version": bundle.version,
        "fingerprint": bundle.fingerprint,
        "precision": bundle.precision,
        "classes": [{"label": each, "name": bundle.full_names[each]} for each in bundle.classes],
        "fields": list(bundle.fields),
        "sites": list(bundle.sites),
        "sexes": list(bundle.sexes),
        "input": {
            "height": bundle.images.size[0],
            "width": bundle.images.size[1],
            "fit": bundle.images.fit,
        },
        "coverage": bundle.coverage,
        "thresholds": dict(bundle.thresholds),
        "maps": bundle.map_grid is not None,
        "licence": bundle.licence,
        "notice": NOTICE,
        "card": bundle.card,
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
