"""Many at once: full queues, time-outs, batches, and what is left behind."""

import hashlib
import io
import json
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.testclient import TestClient
from servers import ask, form, listening, picture, refused, serving

from lesionlab.web.admission import Gate
from lesionlab.web.app import create_app
from lesionlab.web.batching_engine import Engine, Person
from lesionlab.web.messages import Refusal
from lesionlab.web.prometheus import Metrics
from lesionlab.web.server_settings import Settings

# ---- load


def test_a_full_queue_says_when_to_come_again(held):
    with serving(predictor=held, queue=3, max_images=3, batch=1) as client:
        held.open.clear()
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(ask, client, picture(i)) for i in range(3)]
            until = time.monotonic() + 20
            while client.service.gate.images < 3 and time.monotonic() < until:
                time.sleep(0.01)
            for contents in ([picture()], [picture()] * 3):
                answer = ask(client, *contents)
                refused(answer, 429, "busy")
                assert 1 <= int(answer.headers["retry-after"]) <= 60
            held.open.set()
            assert [each.result().status_code for each in waiting] == [200] * 3
        assert ask(client, picture()).status_code == 200
        assert client.service.gate.images == client.service.gate.bytes == 0
        assert 'refusals_total{reason="busy"} 2.0' in client.get("/metrics").text


def test_when_to_come_again_follows_the_pace(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    gate = Gate(Settings(queue=100, timeout=1000))
    gate.finished(2, since=90)  # 5 s each
    gate.enter(100)
    with pytest.raises(Refusal) as caught:
        gate.enter(1)
    assert caught.value.headers["Retry-After"] == "60"  # not longer
    gate.leave(97)
    with pytest.raises(Refusal) as caught:
        gate.enter(98)
    assert caught.value.headers["Retry-After"] == "15"
    clock[0] = 101
    gate.finished(10, since=0)  # busy since the last ones at 100: 0.1 s each
    with pytest.raises(Refusal) as caught:
        gate.enter(98)
    assert caught.value.headers["Retry-After"] == str(-int(-3 * (0.8 * 5 + 0.2 * 0.1) // 1))


def test_a_queue_that_would_take_too_long_is_not_joined():
    gate = Gate(Settings(queue=100, timeout=10))
    gate.finished(1, time.monotonic() - 2)  # 2 s each
    gate.enter(3)
    with pytest.raises(Refusal):
        gate.enter(2)  # 10 s
    gate.leave(3)
    gate.enter(20)  # whoever comes first is taken


def test_bytes_are_held_within_limits():
    gate = Gate(Settings(max_bytes=100, max_held=250))
    gate.enter(1, 100)
    gate.enter(1, 100)
    with pytest.raises(Refusal):
        gate.enter(1, 100)
    gate.leave(1, 100)
    gate.enter(1, 100)


def test_an_answer_that_takes_too_long(held):
    with serving(predictor=held, timeout=0.5, batch=1) as client:
        held.open.clear()
        answer = ask(client, picture(), picture())
        refused(answer, 503, "timed_out")
        assert int(answer.headers["retry-after"]) > 0
        assert client.service.gate.images == 2  # one is in the network, one waits for it
        held.open.set()
        until = time.monotonic() + 20
        while client.service.gate.images and time.monotonic() < until:
            time.sleep(0.01)
        assert client.service.gate.images == client.service.gate.bytes == 0
        assert sum(held.batches[-2:]) == 1 or held.batches[-1] == 1
        assert ask(client, picture()).status_code == 200


def test_a_body_that_comes_too_slowly(bundle_file):
    import http.client

    with listening(bundle_file, timeout=0.5) as (address, service, _):
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
        connection.putrequest("POST", "/v1/predict")
        connection.putheader("Content-Type", "multipart/form-data; boundary=x")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"--x")
        answer = connection.getresponse()
        assert answer.status == 408
        assert json.loads(answer.read())["error"]["kind"] == "too_slow"
        connection.close()
        assert service.gate.images == service.gate.bytes == 0


def test_who_hangs_up_is_not_worked_for(held):
    import http.client

    with listening(predictor=held, batch=1) as (address, service, _):
        held.open.clear()
        connections = []
        for seed in range(3):
            connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
            body = form(('name="images"; filename="x.jpg"', picture(seed)))
            headers = {"Content-Type": "multipart/form-data; boundary=limit"}
            connection.request("POST", "/v1/predict", body, headers)
            connections.append(connection)
        until = time.monotonic() + 20
        while service.gate.images < 3 and time.monotonic() < until:
            time.sleep(0.01)
        assert held.entered.acquire(timeout=20)  # the warm-up's
        for connection in connections:
            connection.close()
        time.sleep(0.3)
        before = len(held.batches)
        held.open.set()
        until = time.monotonic() + 20
        while service.gate.images and time.monotonic() < until:
            time.sleep(0.01)
        assert service.gate.images == 0
        assert len(held.batches) - before < 2
        assert 'refusals_total{reason="gone"} 3.0' in service.metrics.text().decode()


# ---- batches


def test_one_image_waits_for_nobody(held):
    with serving(predictor=held, batch_wait=5) as client:
        begun = time.perf_counter()
        assert ask(client, picture()).status_code == 200
        assert time.perf_counter() - begun < 3


def test_what_piled_up_goes_at_once_and_answers_the_same(held):
    contents = [picture(seed) for seed in range(12)]
    with serving(predictor=held, batch=4) as client:
        alone = [ask(client, each).json()["results"][0]["classes"] for each in contents]
        held.open.clear()
        del held.batches[:]
        with ThreadPoolExecutor(12) as pool:
            waiting = [
                pool.submit(ask, client, each, maps="all" if i % 3 == 0 else "none")
                for i, each in enumerate(contents)
            ]
            until = time.monotonic() + 20
            while client.service.gate.images < 12 and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.3)
            held.open.set()
            together = [each.result().json()["results"][0] for each in waiting]
    assert max(held.batches) > 1
    assert max(held.batches) <= 4
    assert sum(held.batches) == 12
    for i, (one, other) in enumerate(zip(alone, together, strict=True)):
        assert [each["label"] for each in one] == [each["label"] for each in other["classes"]]
        np.testing.assert_allclose(
            [each["probability"] for each in one],
            [each["probability"] for each in other["classes"]],
            atol=1e-6,
        )
        assert len(other["maps"]) == (7 if i % 3 == 0 else 0)


def test_a_failure_of_the_model_is_told_to_all_and_survived(held, caplog, monkeypatch):
    with serving(predictor=held) as client:
        right = held.answers

        def wrong(*_, **__):
            raise ValueError("patient-7.jpg")

        monkeypatch.setattr(held, "answers", wrong)
        message = refused(ask(client, picture()), 500, "internal")
        assert "patient" not in message
        assert "ValueError at" in caplog.text
        assert "patient" not in caplog.text
        monkeypatch.setattr(held, "answers", right)
        assert ask(client, picture()).status_code == 200
        assert client.service.gate.images == 0


def test_nothing_is_written_and_nothing_logged(bundle_file, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = []

    def temporary(*_, **__):
        made.append(1)
        return io.BytesIO()

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary)  # gone again, so seen here alone
    content = picture(size=(3000, 2000), kind="BMP")  # 18 MB
    with caplog.at_level(0), serving(bundle_file) as client:
        name = "mueller-anna-1957.jpg"
        answer = client.post("/v1/predict", files=[("images", (name, content))])
        bad = client.post("/v1/predict", files=[("images", (name, b"bad"))])
    assert (answer.status_code, bad.status_code) == (200, 422)
    assert not made
    assert not list(tmp_path.iterdir())
    assert "mueller" not in caplog.text.replace("multipart", "")
    digest = hashlib.sha256(content).hexdigest()
    assert digest not in caplog.text


def test_the_application_can_be_made_from_an_opened_bundle(bundle_file):
    from lesionlab.prediction.bundle import Bundle

    app = create_app(Bundle.open(bundle_file), Settings(threads=1))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/readyz").status_code == 200


def test_threads_end_with_the_application(bundle_file):
    before = set(threading.enumerate())
    with serving(bundle_file) as client:
        ask(client, picture())
        begun = set(threading.enumerate()) - before
        assert {each.name.partition("_")[0] for each in begun} >= {"answer", "decode"}
    assert not any(each.is_alive() and each.name.startswith(("answer", "decode")) for each in begun)


def test_an_engine_that_is_closed_finishes_what_it_took(held):
    settings = Settings(threads=1, decoders=1, batch=2)
    gate = Gate(settings)
    engine = Engine(held, settings, gate, Metrics(lambda: gate.images))
    engine.start()
    large = picture(size=(1000, 800), kind="PNG")  # takes a while to decode
    jobs = [engine.submit(large, Person(), maps=False, hashed=False) for _ in range(5)]
    engine.close()
    assert all(job.done.done() and job.done.result().row in (0, 1) for job in jobs)
    with pytest.raises(RuntimeError):
        engine.submit(large, Person(), maps=False, hashed=False)
