"""What the server counts, for Prometheus; never who asked or about what."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from lesionlab.prediction.running_drift import Drift

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server, in a registry of its own.

    Args:
        waiting: gives the number of images that are held now.
        drift: of the last images; None: it is not measured.
    """

    def __init__(self, waiting: Callable[[], float], drift: Drift | None = None) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "lesionlab_requests",
            "Requests answered.",
            ["route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "lesionlab_request_seconds",
            "From a request's head to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.refusals = Counter(
            "lesionlab_refusals", "Requests refused.", ["reason"], registry=registry
        )
        self.images = Counter(
            "lesionlab_images",
            "Images by what came of them: answered, or why they could not be read.",
            ["outcome"],
            registry=registry,
        )
        self.batch = Histogram(
            "lesionlab_batch_images",
            "Images that went through the network at once.",
            buckets=_BATCHES,
            registry=registry,
        )
        queue = Gauge("lesionlab_queue_images", "Images held now.", registry=registry)
        queue.set_function(waiting)
        self._drift = drift
        if drift:
            self._distances = Gauge(
                "lesionlab_drift_distance",
                "How far the last images are from what the model was made for, 0-1.",
                ["measure"],
                registry=registry,
            )
            self._drifted = Gauge(
                "lesionlab_drifted", "1: beyond chance, and far.", registry=registry
            )

    def text(self) -> bytes:
        """All of it in Prometheus' text format, version 0.0.4."""
        if self._drift:
            told = self._drift.report()
            for name, value in told["distances"].items():
                self._distances.labels(name).set(value)
            self._drifted.set(told["drifted"])
        return generate_latest(self._registry)
