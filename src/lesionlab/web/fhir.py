"""Answers as FHIR R4: a DiagnosticReport with an Observation per image, and OperationOutcomes.

Made from what is sent as JSON. Classes, reasons and limits are words of this program: no code of a
terminology stands for them, since a wrong one would be worse than none.

Source: HL7 FHIR R4 (4.0.1), https://hl7.org/fhir/R4/diagnosticreport.html
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

MEDIA_TYPE = "application/fhir+json"
VERSIONED = f"{MEDIA_TYPE}; fhirVersion=4.0"

_UCUM = {"unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_ISSUES = {  # of http://hl7.org/fhir/issue-type
    400: "invalid",
    401: "login",
    403: "forbidden",
    408: "timeout",
    413: "too-costly",
    415: "not-supported",
    429: "throttled",
    503: "transient",
}


def wanted(headers: Mapping[str, str]) -> bool:
    """Whether a request's headers ask for FHIR."""
    kinds = (each.partition(";")[0] for each in headers.get("accept", "").split(","))
    return MEDIA_TYPE in (each.strip().lower() for each in kinds)


def report(answer: dict[str, Any], site: str = "") -> dict[str, Any]:
    """A DiagnosticReport from an answer about images.

    Whose images they are, only the asker knows: `subject` is left to be filled in. The status is
    preliminary, since no person has looked.

    Args:
        answer: as it is sent as JSON.
        site: where on the body, as it was told; "" = unknown.
    """
    observations = [
        _observation(f"image-{place}", result, site)
        for place, result in enumerate(answer["results"], 1)
    ]
    said = [
        f"{each['name'] or f'Image {place}'}: {each['reason_text']}"
        for place, each in enumerate(answer["results"], 1)
    ]
    return {
        "resourceType": "DiagnosticReport",
        "contained": [_device(answer["model"]), *observations],
        "status": "preliminary",
        "code": {"text": "Classification of dermatoscopic images by a model"},
        "issued": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "result": [{"reference": f"#{each['id']}"} for each in observations],
        "conclusion": "\n".join([*said, *_worth(answer["referral"]), answer["notice"]]),
    }


def refusal(status: int, kind: str, message: str) -> dict[str, Any]:
    """An OperationOutcome from a refusal."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "error",
                "code": _ISSUES.get(status, "exception"),
                "details": {"coding": [{"code": kind}], "text": message},
            }
        ],
    }


def _worth(referral: dict[str, Any]) -> list[str]:
    """What stands beside every answer that does not refer: the promise, and what was measured."""
    measured = referral["measured"]
    return [referral["promise"], *([measured["text"]] if measured else [])]


def _device(model: dict[str, str]) -> dict[str, Any]:
    return {
        "resourceType": "Device",
        "id": "model",
        "identifier": [{"type": {"text": "fingerprint"}, "value": model["fingerprint"]}],
        "deviceName": [{"name": model["name"], "type": "model-name"}],
        "version": [{"value": model["version"]}],
    }


def _observation(name: str, result: dict[str, Any], site: str) -> dict[str, Any]:
    """What is observed on one image; no class of one that the model cannot judge."""
    found: dict[str, Any] = {
        "resourceType": "Observation",
        "id": name,
        "status": "cancelled" if result["error"] else "preliminary",
        "code": {"text": f"Likeliest class of a dermatoscopic image: {result['name'] or name}"},
        "device": {"reference": "#model"},
        "interpretation": [_concept(result["reason"], result["reason_text"])],
        "component": [{"code": {"text": "Refer"}, "valueBoolean": result["refer"]}],
    }
    if site:
        found["bodySite"] = {"text": site}
    if result["error"]:
        found["dataAbsentReason"] = _absent("error", "Error", result["error"]["message"])
    elif result["reason"] == "unlike":
        found["dataAbsentReason"] = _absent("unknown", "Unknown", result["reason_text"])
    else:
        likeliest = result["classes"][0]
        found["valueCodeableConcept"] = _concept(likeliest["label"], likeliest["name"])
        shares = [
            (_concept(each["label"], f"Probability of {each['name']}"), each["probability"])
            for each in result["classes"]
        ]
        if malignancy := result["malignancy"]:
            shares.insert(0, ({"text": "Probability of malignancy"}, malignancy["probability"]))
        found["component"] += [
            {"code": code, "valueQuantity": {"value": share, **_UCUM}} for code, share in shares
        ]
    return found


def _absent(code: str, display: str, text: str) -> dict[str, Any]:
    return {"coding": [{"system": _ABSENT, "code": code, "display": display}], "text": text}


def _concept(code: str, text: str) -> dict[str, Any]:
    """Words, and the code behind them; FHIR knows no empty code."""
    return {"coding": [{"code": code}], "text": text} if code else {"text": text}
