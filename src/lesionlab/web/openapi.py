"""The OpenAPI description, made for the bundle that is served."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from lesionlab.data.images.decode import HEIC, decodable
from lesionlab.disclaimer import NOTICE
from lesionlab.tables import OLDEST
from lesionlab.web import fhir
from lesionlab.web.request import MAPS
from lesionlab.web.schemas import Error, Prediction
from lesionlab.web.server_settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from lesionlab.prediction.bundle import Bundle

_TEXT = """\
Calibrated class probabilities, conformal sets and a refer-or-not advice for dermatoscopic images.

Research and education only. Not a medical device. Not for diagnosis, triage or screening.

    curl -F images=@photo.jpg http://127.0.0.1:8000/v1/predict

Images are held in memory while they are answered and never stored or logged."""

_REFUSALS = {
    400: ("bad_form", "The form has a field that it should not have, or lacks one."),
    401: ("no_key", "The server asks for an API key, and this is none of its."),
    403: ("foreign_page", "A page of another site asked, in a browser."),
    408: ("too_slow", "The body did not come in time."),
    413: ("too_many_bytes", "Too many bytes, or too many images."),
    415: ("unsupported_type", "The body is neither multipart/form-data nor application/json."),
    429: ("busy", "Too much to do. Ask again after the seconds in Retry-After."),
    503: ("timed_out", "No answer was found in time, or it could not be put on record."),
}

_BASE64 = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

_PIXEL = (  # a PNG of one pixel, so that the example of /docs can be sent as it is
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mPY11MBAAPOAcNXThQNAAAAAElFTkSuQmCC"
)


def _example() -> dict[str, Any]:
    """An answer about one image."""
    answer = json.loads(files("lesionlab.web").joinpath("example.json").read_text("utf-8"))
    return {**answer, "notice": NOTICE}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer besides 200."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        if status == 422:
            found[status] = {
                "model": Prediction,
                "description": "No image could be read; the results say why.",
            }
            continue
        kind, text = _REFUSALS[status]
        example = {"error": {"kind": kind, "message": text}}
        found[status] = {
            "model": Error,
            "description": text,
            "content": {"application/json": {"example": example}},
        }
        if status in (429, 503):
            found[status]["headers"] = {
                "Retry-After": {
                    "description": "Seconds until there should be room.",
                    "schema": {"type": "integer", "minimum": 1},
                }
            }
    return found


def describe(app: FastAPI, bundle: Bundle, settings: Settings) -> dict[str, Any]:
    """The description of an application that serves a bundle; made once."""
    if app.openapi_schema:
        return app.openapi_schema
    schema = get_openapi(
        title=app.title,
        version=app.version,
        summary="Answers about dermatoscopic images",
        description=_TEXT,
        routes=app.routes,
        # Relative to where the description was read: right behind any proxy, with any prefix.
        servers=[{"url": "./", "description": "The server that this description comes from."}],
    )
    predict = schema["paths"]["/v1/predict"]["post"]
    for status, response in predict["responses"].items():
        resource = "DiagnosticReport" if status in ("200", "422") else "OperationOutcome"
        response["content"][fhir.MEDIA_TYPE] = {
            "schema": {
                "type": "object",
                "description": f"FHIR R4, where the header Accept asks for it: {resource}.",
                "properties": {"resourceType": {"const": resource}},
                "required": ["resourceType"],
            }
        }
    predict["requestBody"] = {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _form(bundle, settings)},
            "application/json": {"schema": _json(bundle, settings)},
        },
    }
    schema["components"]["schemas"]["Prediction"]["examples"] = [_example()]  # its nulls included
    if settings.api_keys:
        schema["components"]["securitySchemes"] = {
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        for path, method in (("/v1/predict", "post"), ("/v1/model", "get"), ("/metrics", "get")):
            schema["paths"][path][method]["security"] = [{"header": []}, {"bearer": []}]
    app.openapi_schema = schema
    return schema


def _json(bundle: Bundle, settings: Settings) -> dict[str, Any]:
    schema = _form(bundle, settings)
    schema["properties"]["images"]["items"] = {
        "type": "object",
        "properties": {
            "content": {
                "type": "string",
                "contentEncoding": "base64",
                "pattern": _BASE64,
                "description": "The file in base64.",
                "examples": [_PIXEL],
            },
            "name": {
                "type": "string",
                "description": "Comes back with the answer.",
                "examples": ["photo.jpg"],
            },
        },
        "required": ["content"],
        "additionalProperties": False,
    }
    for name in ("age", "sex", "site", "maps"):
        if field := schema["properties"].get(name):
            field["type"] = [field["type"], "null"]
            if "enum" in field:
                field["enum"] = [*field["enum"], None]
    return schema


def _form(bundle: Bundle, settings: Settings) -> dict[str, Any]:
    heic = ", HEIC" if set(HEIC) <= set(decodable()) else ""
    fields: dict[str, Any] = {
        "images": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "minItems": 1,
            "maxItems": settings.max_images,
            "description": f"JPEG, PNG, BMP, TIFF, WebP{heic} or GIF, told by the content alone.",
        }
    }
    about = {
        "age": {
            "type": "number",
            "minimum": 0,
            "maximum": OLDEST,
            "examples": [55],
            "description": "Years; unknown: leave it out.",
        },
        "sex": {
            "type": "string",
            "enum": ["", *bundle.sexes],
            "description": "Empty: unknown.",
        },
        "site": {
            "type": "string",
            "enum": ["", *bundle.sites],
            "description": "Where on the body; empty: unknown.",
        },
    }
    fields |= {name: about[name] for name in ("age", "sex", "site") if name in bundle.fields}
    fields["maps"] = {
        "type": "string",
        "enum": list(MAPS if bundle.map_grid else MAPS[:1]),
        "default": "none",
        "description": "Of which classes to say where the image speaks for them.",
    }
    return {
        "type": "object",
        "properties": fields,
        "required": ["images"],
        "additionalProperties": False,
    }
