"""The application: routes, and what stands in front of them."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from lesionlab._version import __version__
from lesionlab.web import fhir, responses
from lesionlab.web.audit_log import short_hash
from lesionlab.web.messages import Refusal, wished
from lesionlab.web.middleware import CARD_POLICY, Guard
from lesionlab.web.openapi import describe, documented
from lesionlab.web.schemas import Health, Model, Prediction
from lesionlab.web.server_settings import Settings
from lesionlab.web.service import Service

if TYPE_CHECKING:
    from lesionlab.prediction.bundle import Bundle
    from lesionlab.prediction.predictor import Predictor

STATIC = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    **{
        f"{name}.js": "text/javascript; charset=utf-8"
        for name in (
            "page", "render", "intake", "entries", "answers", "text", "server", "picture", "crop",
            "images", "history", "sheet", "table",
        )
    },
    **{f"{name}.json": "application/json" for name in ("en", "de", "es", "fr")},
    **{f"sample-{number}.jpg": "image/jpeg" for number in range(1, 7)},
}  # fmt: skip
"""The page's files and their types; no others are served, whatever lies beside them."""

SWAGGER = {
    "index.html": "text/html; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
"""Those of the page at /docs, which shows the OpenAPI description."""


def create_app(
    bundle: Bundle | str | Path | None = None,
    settings: Settings | None = None,
    *,
    predictor: Predictor | None = None,
) -> FastAPI:
    """Make the application that answers over HTTP.

    Args:
        bundle: opened, or its file; None: the default model.
        settings: limits, keys and the like.
        predictor: to be used instead of one made from the bundle.

    Raises:
        BundleError: if the bundle cannot be used.
        DataError: if the audit trail cannot be used.
    """
    settings = settings or Settings()
    if predictor is None:
        from lesionlab.prediction.predictor import Predictor

        predictor = Predictor(bundle, threads=settings.threads)
    service = Service(predictor, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start)
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="lesionlab",
        version=__version__,
        docs_url=None,  # FastAPI's load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # Starlette's names http://: it does not know of TLS in front
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _missed)
    _answers(app, service)
    _pages(app, service)
    app.openapi = lambda: describe(app, service.bundle, settings)  # type: ignore[method-assign]
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type", "X-API-Key"),
            expose_headers=("Retry-After",),
        )
    app.add_middleware(Guard, settings=settings, metrics=service.metrics)
    return app


def _answers(app: FastAPI, service: Service) -> None:
    """The routes that programs use."""
    settings = service.settings
    keys = _Keys(settings.api_keys)

    @app.post(
        "/v1/predict",
        response_model=Prediction,
        responses=documented(400, 401, 403, 408, 413, 415, 422, 429, 503),
        tags=["answers"],
        summary="Answers about images",
    )
    async def predict(request: Request) -> Response:
        key = keys.checked(request)
        try:
            status, body, media_type = await service.answer(request, key)
        except ClientDisconnect:
            service.metrics.refusals.labels("gone").inc()
            return Response(status_code=400)  # that nobody reads
        return Response(body, status, media_type=media_type)

    @app.get(
        "/v1/model",
        response_model=Model,
        responses=documented(401),
        tags=["model"],
        summary="What the model is and takes",
    )
    async def model(request: Request) -> Response:
        keys.checked(request)
        told = responses.model(service.bundle)
        audit_days = settings.retention if settings.audit else None
        drift = service.drift.report() if service.drift else None
        return JSONResponse({**told, "audit_days": audit_days, "drift": drift})

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **documented(401)},
        tags=["running"],
        summary="Counters for Prometheus",
    )
    async def metrics(request: Request) -> Response:
        keys.checked(request)
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    @app.get("/healthz", response_model=Health, tags=["running"], summary="Does it run?")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get(
        "/readyz",
        response_model=Health,
        responses={503: {"model": Health, "description": "Not yet, or not any more."}},
        tags=["running"],
        summary="Does it take questions?",
    )
    async def readyz() -> Response:
        if service.started and not service.draining:
            return JSONResponse({"status": "ok"})
        status = "stopping" if service.draining else "starting"
        return JSONResponse({"status": status}, 503)


def _pages(app: FastAPI, service: Service) -> None:
    """The routes that people use."""
    found = {name: _Static(f"static/{name}", kind) for name, kind in STATIC.items()}
    swagger = {name: _Static(f"swagger/{name}", kind) for name, kind in SWAGGER.items()}

    @app.get("/v1/card", response_class=HTMLResponse, tags=["model"], summary="The model card")
    async def card() -> Response:
        text = service.bundle.card_html or "<!doctype html><title>Card</title>This model has none."
        return HTMLResponse(text, headers={"Content-Security-Policy": CARD_POLICY})

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Response:
        return found["index.html"].sent(request)

    @app.api_route("/static/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def static(name: str, request: Request) -> Response:
        if name not in found:
            raise HTTPException(404)
        return found[name].sent(request)

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def docs(request: Request) -> Response:
        return swagger["index.html"].sent(request)

    @app.api_route("/docs/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def docs_file(name: str, request: Request) -> Response:
        if name not in swagger:
            raise HTTPException(404)
        return swagger[name].sent(request)


class _Keys:
    """Tells known API keys from others, in a time that says nothing about them."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [(hashlib.sha256(each.encode()).digest(), short_hash(each)) for each in keys]

    def checked(self, request: Request) -> str:
        """Short hash of a request's key; "" where none is asked for.

        Raises:
            Refusal: 401 if it has none that is known.
        """
        if not self._keys:
            return ""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = request.headers.get("x-api-key") or (token if scheme.lower() == "bearer" else "")
        digest = hashlib.sha256(given.strip().encode("utf-8", "replace")).digest()
        found = [name for known, name in self._keys if hmac.compare_digest(known, digest)]
        if not found:
            raise Refusal(
                401,
                "no_key",
                "Send an API key of this server in the header X-API-Key, or as Bearer token.",
                {"WWW-Authenticate": "Bearer"},
            )
        return found[0]


class _Static:
    """A file of a page, read once; one that lies there packed is sent packed."""

    def __init__(self, name: str, kind: str) -> None:
        path = Path(str(files("lesionlab.web"))) / name
        packed = path.with_name(f"{path.name}.gz")
        self._packed = packed.read_bytes() if packed.is_file() else None
        self._body = path.read_bytes() if path.is_file() else None
        self._kind = kind
        content = self._packed or self._body or b""
        self._tag = f'W/"{hashlib.sha256(content).hexdigest()[:16]}"'  # weak: packed or not

    def sent(self, request: Request) -> Response:
        """The file, or word that the browser has it already."""
        if self._body is None and self._packed is None:
            raise HTTPException(404)
        headers = {"ETag": self._tag, "Cache-Control": "no-cache"}  # kept, but asked about
        if self._packed is not None:
            headers["Vary"] = "Accept-Encoding"
        if request.headers.get("if-none-match") == self._tag:
            return Response(status_code=304, headers=headers)
        headers["Content-Type"] = self._kind
        body = self._body
        if self._packed is not None:
            if "gzip" in request.headers.get("accept-encoding", ""):
                body = self._packed
                headers["Content-Encoding"] = "gzip"
            else:
                body = gzip.decompress(self._packed)
        return Response(body, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # registered for nothing else
    service: Service = request.app.state.service
    service.metrics.refusals.labels(error.kind).inc()
    request.scope["refusal"] = error.kind  # for the log
    if request.url.path == "/v1/predict" and fhir.wanted(request.headers):
        outcome = fhir.refusal(error.status, error.kind, error.message)
        return JSONResponse(outcome, error.status, error.headers, fhir.VERSIONED)
    body = error.body_in(wished(request.headers.get("accept-language", "")))
    return JSONResponse(body, error.status, error.headers)


async def _missed(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    if status == 404 and (place := _without_slash(request)):
        return RedirectResponse(place, 307)  # the method and the body stay
    kind, message = {
        404: ("not_found", "There is nothing here. /openapi.json lists what there is."),
        405: ("wrong_method", "This is asked for with another method: see the header Allow."),
    }.get(status, ("refused", "The request cannot be understood."))
    return JSONResponse(
        {"error": {"kind": kind, "message": message}}, status, getattr(error, "headers", None)
    )


def _without_slash(request: Request) -> str:
    """Where a path leads without the slash at its end; "" if nowhere.

    The place is relative, so it keeps the scheme, the name and the prefix that a client uses,
    whatever stands in front of the server.
    """
    path = request.scope["path"].removesuffix("/")
    if path == request.scope["path"] or path.endswith("/"):
        return ""
    there = {**request.scope, "path": path}
    if all(route.matches(there)[0] is Match.NONE for route in request.app.routes):
        return ""
    query = f"?{request.url.query}" if request.url.query else ""
    return f"../{path.rpartition('/')[2]}{query}"
