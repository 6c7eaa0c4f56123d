"""A server in a process of its own: started by the verb, stopped by a signal."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import types
import urllib.error
import urllib.request

import numpy as np
import pytest
from blocking import TORCH, blocking
from servers import form, listening, picture

from lesionlab.cli.app import main
from lesionlab.errors import SettingsError
from lesionlab.web.server import local_address, qr_code

BLOCKED = blocking(*TORCH)
SLOW = """
import time
from lesionlab.prediction.predictor import Predictor
quick = Predictor.answers
def slow(self, pixels, *rest, **more):
    time.sleep(1.0)
    return quick(self, pixels, *rest, **more)
Predictor.answers = slow
"""


def start(bundle, *options, before=""):
    """The verb, and the address that it says it answers at."""
    words = ["serve", str(bundle), "--port", "0", "--threads", "1", *options]
    face = "from lesionlab.cli.app import main"
    code = f"{BLOCKED}\n{before}\n{face}\nraise SystemExit(main({words!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"answers at (http://\S+)", line):
            return process, found[1]
    raise AssertionError("".join(said))


def post(address, content, timeout=30):
    request = urllib.request.Request(
        f"{address}/v1/predict",
        form(('name="images"; filename="x.jpg"', content)),
        {"Content-Type": "multipart/form-data; boundary=limit"},
    )
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.status, json.loads(answer.read())


def status_of(address):
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_what_was_accepted_is_answered_without_torch(bundle_file):
    options = ("--drain", "0.5", "--batch", "1", "--log-level", "info")
    process, address = start(bundle_file, *options, before=SLOW)
    try:
        assert status_of(address) == 200
        answers = []
        threads = [
            threading.Thread(target=lambda i=i: answers.append(post(address, picture(i))))
            for i in range(3)
        ]
        for each in threads:
            each.start()
        time.sleep(0.4)  # of three seconds' work
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert status_of(address) == 503
        for each in threads:
            each.join(30)
        assert [status for status, _ in answers] == [200] * 3
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert len(re.findall(r"\dZ INFO POST /v1/predict 200 \d\.\d+ s", err)) == 3
        assert "all that was accepted is answered" in out
        assert "Traceback" not in err
        with pytest.raises(urllib.error.URLError):
            status_of(address)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_who_says_nothing_is_hung_up_on(bundle_file, monkeypatch):
    monkeypatch.setattr("lesionlab.web.server._IDLE", 1.0)
    with listening(bundle_file) as (address, _, _):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=15) as slow:
            slow.sendall(b"GET /healthz HT")
            time.sleep(1)
            slow.sendall(b"TP/1.1\r\nX")  # bit by bit
            begun = time.monotonic()
            assert slow.recv(1000) == b""
            assert time.monotonic() - begun < 10


def test_a_port_that_is_taken(bundle_file, capsys):
    with listening(bundle_file) as (address, _, _):
        port = address.rpartition(":")[2]
        assert main(["serve", str(bundle_file), "--port", port]) == 2
    assert "Choose another with --host or --port" in capsys.readouterr().err


def test_wrong_options_are_named_before_it_starts(bundle_file, capsys, monkeypatch):
    assert main(["serve", str(bundle_file), "--queue", "2", "--timeout", "-1"]) == 2
    err = capsys.readouterr().err
    assert "timeout is -1.0" in err
    assert "queue is 2" in err
    monkeypatch.setenv("LESIONLAB_API_KEYS", "")
    assert main(["serve", str(bundle_file)]) == 2
    assert "set, but empty" in capsys.readouterr().err
    assert main(["serve", "missing.bundle"]) == 2


def test_an_open_door_is_warned_of(bundle_file, monkeypatch, capsys):
    monkeypatch.setattr("lesionlab.web.server.Server.listen", lambda _: None)
    monkeypatch.setattr("lesionlab.web.server._listener", lambda _: None)
    assert main(["serve", str(bundle_file), "--host", "0.0.0.0", "--port", "0"]) == 0
    assert "no API key is set" in " ".join(capsys.readouterr().err.split())


# ---- the local network


@pytest.fixture
def terminal(monkeypatch, bundle_file):
    """`serve --lan` at a terminal where somebody answers; gives the exit code and the settings."""

    def run(*options, answer=None):
        made, asked = [], []

        class Still:
            def __init__(self, app, settings, ready):
                made.append(settings)
                ready("http://192.168.1.20:8000")

            def listen(self):
                pass

        def said(question):
            asked.append(question)
            return answer

        monkeypatch.setattr("lesionlab.web.server.Server", Still)
        monkeypatch.setattr("lesionlab.web.server.local_address", lambda: "192.168.1.20")
        monkeypatch.setattr("sys.stdin", types.SimpleNamespace(isatty=lambda: answer is not None))
        monkeypatch.setattr("builtins.input", said)
        return main(["serve", str(bundle_file), "--lan", *options]), made, asked

    return run


def test_the_local_network_is_let_in_after_a_question(terminal):
    code, (settings,), (question,) = terminal(answer="y")
    assert (code, settings.host) == (0, "192.168.1.20")
    assert settings.known_hosts == {"192.168.1.20", "127.0.0.1", "localhost", "::1"}
    assert "network of 192.168.1.20" in question
    assert "not encrypted" in question


@pytest.mark.parametrize("answer", ["", "n", "maybe"])
def test_whatever_is_no_yes_keeps_it_out(terminal, answer, capsys):
    code, made, _ = terminal(answer=answer)
    assert (code, made) == (0, [])
    assert "Not started" in capsys.readouterr().out


def test_where_nobody_can_answer_yes_is_an_option(terminal, capsys):
    code, made, asked = terminal()
    assert (code, made, asked) == (2, [], [])
    assert "add --yes" in capsys.readouterr().err
    code, (settings,), asked = terminal("--yes")
    assert (code, settings.host, asked) == (0, "192.168.1.20", [])
    assert terminal("--yes", "--host", "0.0.0.0")[0] == 2


def test_a_public_address_is_no_local_network(monkeypatch):
    class Probe(socket.socket):
        def connect(self, address):
            pass

        def getsockname(self):
            return ("198.18.0.1" if self.private else "8.8.8.8", 1)

    monkeypatch.setattr("socket.socket", Probe)
    Probe.private = True
    assert local_address() == "198.18.0.1"
    Probe.private = False
    with pytest.raises(SettingsError, match="public address"):
        local_address()


def test_a_camera_reads_the_address():
    cv2 = pytest.importorskip("cv2", reason="a QR code is read by OpenCV")
    text = "http://192.168.100.200:65535"
    lines = re.findall(r"\x1b\[38;5;16;48;5;231m(.*)\x1b\[0m", qr_code(text))
    assert len({len(line) for line in lines}) == 1
    rows = [[" ▀▄█".index(each) >> half & 1 for each in line] for line in lines for half in (0, 1)]
    seen = np.kron(255 * (1 - np.array(rows, np.uint8)), np.ones((8, 8), np.uint8))
    assert cv2.QRCodeDetector().detectAndDecode(seen)[0] == text


def test_answers_are_sent_at_once_and_not_when_the_client_has_confirmed(bundle_file):
    """Without TCP_NODELAY the second half of an answer waits for a delayed acknowledgement."""
    with listening(bundle_file) as (address, _, _):
        host, port = address.removeprefix("http://").split(":")
        told = http.client.HTTPConnection(host, int(port))
        seconds = []
        for _ in range(15):
            begun = time.perf_counter()
            told.request("GET", "/healthz")
            told.getresponse().read()
            seconds.append(time.perf_counter() - begun)
        told.close()
    assert min(seconds[5:]) < 0.030  # a delayed acknowledgement takes 40 ms, every time
