"""The client against a server that listens."""

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from servers import listening, picture

from lesionlab.client import Client, ServerError
from lesionlab.errors import DataError
from lesionlab.web.messages import busy

KEY = "first-key-of-the-clinic"


@pytest.fixture(scope="module")
def live(bundle_file):
    with listening(bundle_file, api_keys=(KEY,)) as (address, service, _):
        yield address, service


@pytest.fixture
def client(live):
    with Client(live[0], KEY) as found:
        yield found


@pytest.fixture
def waits(monkeypatch):
    """Seconds that the client slept; nobody has to."""
    found = []
    monkeypatch.setattr("lesionlab.client.time.sleep", found.append)
    return found


def crowd(monkeypatch, service, times, seconds):
    """Make the server busy for the next so many questions."""
    enter, left = service.gate.enter, [busy(seconds)] * times

    def entering(*held):
        if left:
            raise left.pop()
        enter(*held)

    monkeypatch.setattr(service.gate, "enter", entering)


def test_answers_have_types(client, tmp_path):
    path = tmp_path / "Größe.jpg"
    path.write_bytes(picture())
    given = [path, str(path), picture(1)]
    prediction = client.predict(given, age=55, sex="male", maps="predicted")
    first, second, third = prediction.results
    assert first == second != third
    assert (first.name, third.name) == ("Größe.jpg", "image")
    assert first.predicted == first.classes[0].label == first.maps[0].label
    assert isinstance(first.refer, bool)
    assert first.classes[0].probability > first.classes[1].probability
    assert first != client.predict(path, age=20).results[0]
    model = client.model()
    assert model.fingerprint == prediction.model.fingerprint
    assert client.ready()


def test_the_example_of_the_docs_runs(live, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "serve.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "photo.jpg").write_bytes(picture())
    monkeypatch.chdir(tmp_path)
    exec(code.replace("http://127.0.0.1:8000", live[0]).replace('api_key=""', f'api_key="{KEY}"'))
    assert "malignant" in capsys.readouterr().out


def test_images_that_cannot_be_read_are_results(client, tmp_path):
    (result,) = client.predict(b"nothing").results
    assert result.error.kind == "unreadable"
    with pytest.raises(DataError, match=r"missing\.jpg cannot be read"):
        client.predict(tmp_path / "missing.jpg")


def test_a_busy_server_is_asked_again_when_it_says(live, client, monkeypatch, waits):
    crowd(monkeypatch, live[1], times=2, seconds=7)
    assert client.predict(picture()).results[0].predicted
    assert waits == [7, 7]


def test_patience_ends(live, monkeypatch, waits):
    crowd(monkeypatch, live[1], times=9, seconds=50)
    with Client(live[0], KEY, patience=20) as client, pytest.raises(ServerError) as caught:
        client.predict(picture())
    assert (caught.value.status, caught.value.kind, waits) == (429, "busy", [])


def test_refusals_say_what_to_do(live, client):
    with pytest.raises(ServerError, match="age is a number") as caught:
        client.predict(picture(), age=-1)
    assert (caught.value.status, caught.value.kind) == (400, "bad_form")
    with pytest.raises(ServerError, match="API key") as caught:
        Client(live[0]).model()
    assert caught.value.kind == "no_key"


def test_nobody_there():
    client = Client("http://127.0.0.1:9")
    assert not client.ready()
    with pytest.raises(ServerError, match="lesionlab serve") as caught:
        client.model()
    assert caught.value.status == 0


@pytest.mark.parametrize("status", [200, 404, 422, 502])
def test_another_program_there(status):
    class Other(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(ServerError, match="what stands in front") as caught:
            Client(f"http://127.0.0.1:{server.server_port}").predict(picture())
        assert (caught.value.status, caught.value.kind) == (status, "")


def test_what_a_newer_server_adds_is_left_out(client, monkeypatch):
    from lesionlab.web import responses

    answer = responses.answer
    monkeypatch.setattr(responses, "answer", lambda *of: {**answer(*of), "news": [1]})
    assert not hasattr(client.predict(picture()), "news")
