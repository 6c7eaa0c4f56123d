"""What the server counts, for Prometheus; never who asked or about what."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server, in a registry of its own.

    Args:
        waiting: gives the number of images that are held now.
    """

    def __init__(self, waiting: Callable[[], float]) -> None:
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

    def text(self) -> bytes:
        """All of it in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)
