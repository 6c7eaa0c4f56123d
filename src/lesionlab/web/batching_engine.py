"""From bytes to answers: threads that decode, and one that runs the network on what is there."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionlab.data.images.decode import open_image, to_pixels, upright_size
from lesionlab.web.admission import Gate
from lesionlab.web.prometheus import Metrics
from lesionlab.web.server_settings import Settings

if TYPE_CHECKING:
    from lesionlab.prediction.predictor import Answers, Predictor

NAMELESS = "the image"  # in messages: what a file is called is nobody's business


@dataclass(frozen=True)
class Person:
    """What is known of who was photographed: age in years, nan = unknown; "" = unknown."""

    age: float = float("nan")
    sex: str = ""
    site: str = ""


@dataclass(frozen=True)
class Seen:
    """An image that was answered.

    Attributes:
        height: in pixels, as it is seen upright.
        width: in pixels.
        answers: of the images that went through the network with it.
        row: which of them it is.
    """

    height: int
    width: int
    answers: Answers
    row: int


class Dropped(Exception):
    """An image that nobody waits for any more."""


@dataclass(eq=False)
class Job:
    """One image on its way.

    Attributes:
        content: its file's bytes; empty once it is decoded.
        person: who was photographed.
        maps: whether to make class activation maps.
        hashed: whether to make `sha256`.
        done: gives what was `Seen`, or raises ImageFault.
        since: when it was taken in, in seconds of `time.monotonic`.
        dropped: nobody waits for it any more.
        sha256: of the content.
        size: height and width in pixels, as it is seen upright.
        pixels: decoded.
    """

    content: bytes
    person: Person
    maps: bool
    hashed: bool
    done: Future[Seen] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)
    dropped: bool = False
    sha256: str = ""
    size: tuple[int, int] = (0, 0)
    pixels: NDArray[np.uint8] | None = None


class Engine:
    """Decodes in a few threads and answers in one, which takes what has piled up as one batch.

    A single image on an idle server waits for nothing. While others are still being decoded the
    network waits for them, for a few milliseconds at most.

    Args:
        predictor: that answers.
        settings: sizes, waits and threads.
        gate: told of the pace.
        metrics: told of batches and images.
    """

    def __init__(
        self, predictor: Predictor, settings: Settings, gate: Gate, metrics: Metrics
    ) -> None:
        self._predictor, self._settings = predictor, settings
        self._more = {"features": True} if settings.index else {}
        self._gate, self._metrics = gate, metrics
        self._pool = ThreadPoolExecutor(settings.decoders, "decode")
        self._worker = Thread(target=self._work, name="answer", daemon=True)
        self._news = Condition()
        self._ready: deque[Job] = deque()
        self._decoding = 0
        self._closing = False

    def start(self) -> None:
        """Run the network once on as much as it will ever get at once, then take images."""
        os.environ.setdefault("LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER", "12")  # its own: 100
        height, width = self._predictor.bundle.images.size
        blank = np.zeros((self._settings.batch, height, width, 3), np.uint8)
        people = _table([Person()] * len(blank))
        for maps in {False, self._predictor.bundle.map_grid is not None}:
            begun = time.monotonic()
            self._predictor.answers(blank, people, maps=maps, **self._more)
            self._gate.finished(len(blank), begun)
        self._worker.start()

    def close(self) -> None:
        """Finish all that was taken, then stop."""
        with self._news:
            self._closing = True
            self._news.notify_all()
        if self._worker.is_alive():
            self._worker.join()
        self._pool.shutdown()

    def submit(self, content: bytes, person: Person, *, maps: bool, hashed: bool) -> Job:
        """Take an image.

        Args:
            content: its file's bytes.
            person: who was photographed.
            maps: whether to make class activation maps.
            hashed: whether to give its SHA-256.
        """
        job = Job(content, person, maps, hashed)
        with self._news:
            self._decoding += 1
        try:
            self._pool.submit(self._decode, job)
        except RuntimeError:  # closed
            with self._news:
                self._decoding -= 1
            raise
        return job

    def _decode(self, job: Job) -> None:
        taken = job.done.set_running_or_notify_cancel()
        try:
            if taken:
                if job.hashed:
                    job.sha256 = hashlib.sha256(job.content).hexdigest()
                opened = open_image(job.content, NAMELESS, self._settings.max_pixels)
                job.size = upright_size(opened, NAMELESS)
                job.pixels = to_pixels(opened, self._predictor.bundle.images, NAMELESS)
        except Exception as fault:  # an ImageFault, or a mistake that its request must hear of
            job.done.set_exception(fault)
        finally:
            job.content = b""
            with self._news:
                self._decoding -= 1
                if not job.done.done():
                    self._ready.append(job)
                self._news.notify_all()

    def _work(self) -> None:
        while (batch := self._batch()) is not None:
            for maps in (False, True):
                if jobs := [each for each in batch if each.maps is maps]:
                    self._answer(jobs, maps)

    def _batch(self) -> list[Job] | None:
        """Wait for an image, then take all that are there; None: closed and nothing is left."""
        batch: list[Job] = []
        with self._news:
            while not self._ready:
                if self._closing and not self._decoding:
                    return None
                self._news.wait()
            deadline = time.monotonic() + self._settings.batch_wait
            while True:
                while self._ready and len(batch) < self._settings.batch:
                    job = self._ready.popleft()
                    if job.dropped:
                        job.done.set_exception(Dropped())
                    else:
                        batch.append(job)
                left = deadline - time.monotonic()
                if len(batch) == self._settings.batch or not self._decoding or left <= 0:
                    break
                self._news.wait(left)
        return batch

    def _answer(self, jobs: list[Job], maps: bool) -> None:
        self._metrics.batch.observe(len(jobs))
        try:
            pixels = np.stack([each.pixels for each in jobs if each.pixels is not None])
            people = _table([each.person for each in jobs])
            answers = self._predictor.answers(pixels, people, maps=maps, **self._more)
        except Exception as error:  # every request must hear of it, and the thread must live on
            for job in jobs:
                job.done.set_exception(error)
            return
        self._gate.finished(len(jobs), min(each.since for each in jobs))
        for row, job in enumerate(jobs):
            job.pixels = None
            job.done.set_result(Seen(*job.size, answers, row))


def _table(people: list[Person]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": [each.age for each in people],
            "sex": [each.sex for each in people],
            "site": [each.site for each in people],
        }
    )
