"""A server over a tiny bundle, and what tests ask it."""

from __future__ import annotations

import io
import queue
import threading
from contextlib import contextmanager

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from lesionlab.prediction.predictor import Predictor
from lesionlab.web.app import create_app
from lesionlab.web.schemas import Error
from lesionlab.web.server import Server
from lesionlab.web.server_settings import Settings

HOME = "http://127.0.0.1"


def picture(seed=0, kind="JPEG", size=(60, 40), mode="RGB", **options):
    """A file's bytes: soft random colours, width x height of `size`."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8))
    buffer = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def files(*contents):
    """Contents as the parts of a question."""
    return [("images", (f"{i}.jpg", each, "image/jpeg")) for i, each in enumerate(contents)]


class Held:
    """A predictor that answers only while it is let, and remembers how many it got at once."""

    def __init__(self, bundle_file):
        self._real = Predictor(bundle_file)
        self.bundle = self._real.bundle
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.batches = []

    def answers(self, pixels, metadata=None, *, maps=False):
        self.batches.append(len(pixels))
        self.entered.release()
        assert self.open.wait(30)
        return self._real.answers(pixels, metadata, maps=maps)


@contextmanager
def serving(bundle=None, predictor=None, **settings):
    """A client of a running application."""
    settings = {"threads": 1, "decoders": 2, "batch": 4, **settings}
    app = create_app(bundle, Settings(**settings), predictor=predictor)
    with TestClient(app, base_url=HOME, raise_server_exceptions=True) as client:
        client.service = app.state.service
        yield client


@contextmanager
def listening(bundle=None, predictor=None, **settings):
    """A server that listens, in a thread of this process: its address, its service and itself."""
    chosen = Settings(
        **{"port": 0, "drain": 0, "threads": 1, "decoders": 2, "batch": 4, **settings}
    )
    app = create_app(bundle, chosen, predictor=predictor)
    addresses: queue.Queue[str] = queue.Queue()
    server = Server(app, chosen, addresses.put)
    thread = threading.Thread(target=server.listen, daemon=True)
    thread.start()
    try:
        yield addresses.get(timeout=60), app.state.service, server
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive()


def refused(answer, status, kind):
    assert answer.status_code == status, answer.text
    Error.model_validate(answer.json())
    assert answer.json()["error"]["kind"] == kind
    return answer.json()["error"]["message"]


def ask(client, *contents, headers=None, **fields):
    return client.post("/v1/predict", files=files(*contents), data=fields, headers=headers)


def form(*parts, boundary="limit", end="--\r\n"):
    body = b""
    for head, content in parts:
        body += f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
        body += content + b"\r\n"
    return body + f"--{boundary}{end}".encode()


def send(client, body, boundary="limit"):
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return client.post("/v1/predict", content=body, headers=headers)
