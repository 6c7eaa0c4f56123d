"""One question from its head to its answer."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request

from lesionlab.data.images.faults import ImageFault
from lesionlab.errors import DataError
from lesionlab.prediction.running_drift import Drift
from lesionlab.web import fhir, responses
from lesionlab.web.admission import Gate
from lesionlab.web.audit_log import Trail
from lesionlab.web.batching_engine import Engine, Job
from lesionlab.web.messages import Refusal, translated_answer, wished
from lesionlab.web.prometheus import Metrics
from lesionlab.web.request import Maps, question
from lesionlab.web.request_body import Form, boundary_of, read_form, read_json, too_long
from lesionlab.web.server_settings import Settings

if TYPE_CHECKING:
    from lesionlab.prediction.predictor import Predictor
    from lesionlab.retrieval.case_index import CaseIndex


class Service:
    """All that one server holds.

    Args:
        predictor: that answers.
        settings: limits.

    Attributes:
        bundle: of the predictor.
        settings: as given.
        gate: how much is held.
        metrics: what was counted.
        drift: of the last images; None: they are not compared.
        started: whether it takes questions.
        draining: whether it was told to stop.
    """

    def __init__(self, predictor: Predictor, settings: Settings) -> None:
        self.bundle = predictor.bundle
        self.settings = settings
        self.gate = Gate(settings)
        self._cases: CaseIndex | None = None
        if settings.index:
            from lesionlab.retrieval.case_index import CaseIndex  # scipy: not without an index

            self._cases = CaseIndex.open(settings.index)
            self._cases.check(self.bundle)
        self.drift = Drift(self.bundle, settings.drift) if settings.drift else None
        self.metrics = Metrics(lambda: self.gate.images, self.drift)
        self.started = self.draining = False
        self._engine = Engine(predictor, settings, self.gate, self.metrics)
        self._trail = Trail(settings.audit, settings.retention) if settings.audit else None

    def start(self) -> None:
        """Get ready to take questions."""
        self._engine.start()
        self.started = True

    def close(self) -> None:
        """Finish what was taken."""
        self.started = False
        self._engine.close()
        if self._trail:
            self._trail.close()

    async def answer(self, request: Request, key: str) -> tuple[int, bytes, str]:
        """Answer a question.

        Args:
            request: whose body is still to be read.
            key: short hash of its API key.

        Returns:
            Status, JSON, and its media type: FHIR where the request accepts it.

        Raises:
            Refusal: if it cannot be answered.
            ClientDisconnect: if nobody waits for the answer any more.
        """
        boundary, size = self._looked_at(request)
        until = asyncio.get_running_loop().time() + self.settings.timeout
        self.gate.enter(1, size)
        held, jobs = 1, list[Job]()
        try:
            form = await self._read(request, boundary, until)
            person, maps = question(form, self.bundle)
            names = [name for name, _ in form.images]
            if len(names) > 1:
                self.gate.enter(len(names) - 1)
                held = len(names)
            jobs += [
                self._engine.submit(
                    content, person, maps=maps != "none", hashed=bool(self._trail or self._cases)
                )
                for _, content in form.images
            ]
            form.images.clear()  # the engine lets go of each as it is decoded
            await self._wait(request, jobs, until)
            status, told = await self._worded(names, jobs, maps, key)
            if as_fhir := fhir.wanted(request.headers):
                told = fhir.report(told, person.site)
            else:
                told = translated_answer(told, wished(request.headers.get("accept-language", "")))
            media_type = fhir.VERSIONED if as_fhir else "application/json"
            return status, json.dumps(told, allow_nan=False).encode(), media_type
        finally:
            self._let_go(jobs, held, size)

    def _looked_at(self, request: Request) -> tuple[bytes | None, int]:
        """The body's boundary (None: JSON) and how many bytes it may take, by its head alone."""
        told = request.headers.get("content-length")
        size = int(told) if told is not None and told.isdigit() else self.settings.max_bytes
        if size > self.settings.max_bytes:
            raise too_long(self.settings)
        boundary = boundary_of(request.headers.get("content-type", ""))
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "compressed", "Send the body as it is, without Content-Encoding.")
        if boundary is None:  # for a moment there are its bytes, its strings and the files
            size = min(3 * size, self.settings.max_held)
        return boundary, size

    async def _read(self, request: Request, boundary: bytes | None, until: float) -> Form:
        try:
            async with asyncio.timeout_at(until):
                if boundary is None:
                    return await read_json(request.stream(), self.settings)
                return await read_form(request.stream(), boundary, self.settings)
        except TimeoutError as error:
            raise Refusal(
                408,
                "too_slow",
                f"The body did not come within {self.settings.timeout:g} seconds.",
            ) from error

    async def _wait(self, request: Request, jobs: list[Job], until: float) -> None:
        """Wait until all images are answered, the time is up, or nobody waits any more."""
        work = asyncio.gather(
            *(asyncio.wrap_future(each.done) for each in jobs), return_exceptions=True
        )
        gone = asyncio.ensure_future(request.receive())  # the body is read: the next is good-bye
        try:
            left = until - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait((work, gone), timeout=left, return_when="FIRST_COMPLETED")
            if work not in done:
                if gone in done:
                    raise ClientDisconnect
                raise Refusal(
                    503,
                    "timed_out",
                    f"No answer was found within {self.settings.timeout:g} seconds. Ask again.",
                    {"Retry-After": "5"},
                )
        finally:
            gone.cancel()
            work.cancel()

    async def _worded(
        self, names: list[str], jobs: list[Job], maps: Maps, key: str
    ) -> tuple[int, dict[str, Any]]:
        results = [
            self._result(name, each.done, maps) for name, each in zip(names, jobs, strict=True)
        ]
        if self._cases:
            await asyncio.to_thread(self._add_cases, self._cases, jobs, results)
        if self._trail:
            kept = [(job.sha256, each) for job, each in zip(jobs, results, strict=True)]
            try:
                await asyncio.to_thread(self._trail.write, key, self.bundle.fingerprint, kept)
            except DataError as error:
                raise Refusal(
                    503,
                    "no_trail",
                    "The answer could not be put on record, so it is not given.",
                    {"Retry-After": "30"},
                ) from error
        status = 422 if all(each["error"] for each in results) else 200
        return status, responses.answer(self.bundle, results)

    def _result(self, name: str, done: Future[Any], maps: Maps) -> dict[str, Any]:
        try:
            seen = done.result()
        except ImageFault as fault:
            self.metrics.images.labels(fault.kind).inc()
            return responses.unread(name, fault)
        self.metrics.images.labels("answered").inc()
        if self.drift:
            answers, row = seen.answers, seen.row
            likeliest = float(answers.probabilities[row].max())
            self.drift.add({"novelty": float(answers.novelty[row]), "likeliest": likeliest})
        return responses.result(self.bundle, name, seen, maps)

    @staticmethod
    def _add_cases(cases: CaseIndex, jobs: list[Job], results: list[dict[str, Any]]) -> None:
        """Show the cases nearest to each image that was answered."""
        for job, result in zip(jobs, results, strict=True):
            if not result["error"]:
                result["similar"] = responses.similar(cases, job.done.result(), job.sha256)

    def _let_go(self, jobs: list[Job], held: int, size: int) -> None:
        """Give places back; those of images still being worked on as soon as that is over."""
        running = [each for each in jobs if not each.done.done()]
        for job in running:
            job.dropped = True
            job.done.add_done_callback(lambda _: self.gate.leave(1))
        self.gate.leave(held - len(running), size)
