"""What every request passes first and every answer last: refusals, headers, counts, the log."""

from __future__ import annotations

import logging
import re
import time
import traceback
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from lesionlab.web.messages import Refusal, wished
from lesionlab.web.prometheus import Metrics
from lesionlab.web.server_settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
CARD_POLICY = (  # a card comes with a bundle, maybe a stranger's: it may look, and do nothing
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox allow-popups"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:\d+)?")
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked by machines that know an address and no name, and as often as every second."""

log = logging.getLogger("lesionlab.web")


class Guard:
    """Refuses foreign hosts and pages, sets the headers that keep browsers safe, counts and logs.

    The log never holds a word of what was sent. Of a request: method, route, status, kind of
    refusal and seconds (INFO; probes, and the path that was asked for, at DEBUG alone). Of a
    mistake of the server: its kind and the lines of code it went through (ERROR).

    Args:
        app: what answers.
        settings: the hosts and origins that are known.
        metrics: told of every answer.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._hosts, self._origins = settings.known_hosts, frozenset(settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._admit(scope)
            await self._app(scope, receive, dressed)
        except Refusal as refusal:
            scope["refusal"] = refusal.kind
            self._metrics.refusals.labels(refusal.kind).inc()
            await JSONResponse(refusal.body_in(_language(scope)), refusal.status)(
                scope, receive, dressed
            )
        except Exception as error:
            log.error("%s at %s", type(error).__name__, _where(error))
            if not status:
                failed = Refusal(500, "internal", "The server failed. Its log says where.")
                await JSONResponse(failed.body_in(_language(scope)), 500)(scope, receive, dressed)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            seconds = time.perf_counter() - begun
            self._metrics.seconds.labels(route).observe(seconds)
            level = logging.DEBUG if route in PROBES else logging.INFO
            log.log(level, "%s", _line(scope, route, status, seconds))

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = _HOST.fullmatch(headers.get("host", ""))
        named = host is not None and host[1].strip("[]").lower() in self._hosts
        if self._hosts and not named and scope["path"] not in PROBES:
            raise Refusal(
                400,
                "unknown_host",
                "This server does not go by that name. Start it with --hosts to add names.",
            )
        if "sec-fetch-site" in headers:
            foreign = headers["sec-fetch-site"] in ("cross-site", "same-site")
        else:  # browsers leave it out over plain http, as on a local network
            origin = headers.get("origin")
            foreign = origin is not None and urlsplit(origin).netloc != headers.get("host", "")
        if foreign and scope["method"] == "POST" and headers.get("origin") not in self._origins:
            raise Refusal(
                403,
                "foreign_page",
                "A page of another site may not ask. Start the server with --origins to let it.",
            )


def _language(scope: Scope) -> str:
    return wished(Headers(scope=scope).get("accept-language", ""))


def _line(scope: Scope, route: str, status: int, seconds: float) -> str:
    """An answered request for the log: by its route, since a path may hold what somebody typed."""
    words = [scope["method"], route, str(status), scope.get("refusal", ""), f"{seconds:.3f} s"]
    if log.isEnabledFor(logging.DEBUG):
        words.append(f"path {scope['path'][:200]!r}")  # why a proxy's prefix leads to 404
    return " ".join(filter(None, words))


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " < ".join(
        f"{each.name} ({each.filename.rpartition('/')[2]}:{each.lineno})"
        for each in reversed(frames)
    )
