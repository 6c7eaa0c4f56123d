"""How much is held at once, and when to come again."""

from __future__ import annotations

import math
import time
from threading import Lock

from lesionlab.web.messages import busy
from lesionlab.web.server_settings import Settings

_WEIGHT = 0.2  # of the latest measurement in the running mean
_LONGEST = 60  # seconds that anybody is sent away for
_SHARE = 0.8  # of the time-out that the queue may take


class Gate:
    """Counts images and bytes that are held, and measures how fast images leave.

    Safe to use from several threads.

    Attributes:
        images: held now, from before their bytes are read until their answer is made.
        bytes: of the bodies held now.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._each = 0.0  # seconds per image when busy; 0: not measured yet
        self._last = 0.0
        self.images = 0
        self.bytes = 0

    def enter(self, images: int, size: int = 0) -> None:
        """Take places for images, and room for bytes.

        Raises:
            Refusal: 429 if there are none, or the answer would come too late.
        """
        with self._lock:
            full = self.images + images > self._settings.queue
            full |= self.bytes + size > self._settings.max_held
            wait = (self.images + images) * self._each
            late = self.images > 0 and wait > _SHARE * self._settings.timeout
            if full or late:
                raise busy(min(_LONGEST, max(1, math.ceil(self.images * self._each))))
            self.images += images
            self.bytes += size

    def leave(self, images: int, size: int = 0) -> None:
        """Give places and room back."""
        with self._lock:
            self.images -= images
            self.bytes -= size

    def finished(self, images: int, since: float) -> None:
        """Learn from images that were answered.

        Args:
            images: how many.
            since: when the first of them was taken in, in seconds of `time.monotonic`.
        """
        with self._lock:
            now = time.monotonic()
            each = (now - max(since, self._last)) / images
            self._each = each if not self._each else (1 - _WEIGHT) * self._each + _WEIGHT * each
            self._last = now
