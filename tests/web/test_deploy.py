"""The files of docs/how-to/deploy.md: run where the program is there, else parsed and checked."""

import configparser
import re
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests
import yaml
from fastapi.testclient import TestClient
from servers import form, listening, picture

from lesionlab.cli.app import main
from lesionlab.client import Client
from lesionlab.web.server_settings import KEYS_VARIABLE

ROOT = Path(__file__).parents[2]
KEY = "first-key-of-the-clinic"


def blocks(language):
    page = (ROOT / "docs" / "how-to" / "deploy.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.fixture
def started(monkeypatch):
    """What the command line would have served: the application and its settings."""
    found = []

    class Still:
        def __init__(self, app, settings, ready):
            found.append((app, settings))

        def listen(self):
            pass

    monkeypatch.setattr("lesionlab.web.server.Server", Still)

    def start(words):
        assert main(words) == 0
        return found.pop()

    return start


def entrypoint():
    """The words that a container starts with, its user and its port."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    (words,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    (user,) = re.findall(r"^USER (\d+):", text, re.MULTILINE)
    (port,) = re.findall(r"^EXPOSE (\d+)$", text, re.MULTILINE)
    return yaml.safe_load(words)[1:], int(user), int(port)


def test_docker_and_podman_read_one_file():
    assert (ROOT / "Containerfile").read_text("utf-8") in (  # where git makes no links: its name
        (ROOT / "Dockerfile").read_text("utf-8"),
        "Dockerfile",
    )


def test_the_container_listens_where_it_is_exposed(started):
    words, _, port = entrypoint()
    _, settings = started(words)
    assert (settings.host, settings.port) == ("0.0.0.0", port)


def unit():
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    (text,) = blocks("ini")
    parser.read_string(text)
    return parser, text


def test_the_unit_starts_what_it_says(started, tmp_path):
    (tmp_path / "keys.txt").write_text(KEY)
    service = unit()[0]["Service"]
    command = service["ExecStart"].replace("%d", str(tmp_path)).replace("%S", str(tmp_path))
    program, *words = shlex.split(command)
    assert program.endswith("/bin/lesionlab")
    _, settings = started(words)
    assert settings.api_keys == (KEY,)
    assert tuple(settings.hosts) == ("derm.example",)
    assert settings.loopback
    assert settings.audit == tmp_path / service["StateDirectory"] / "audit.sqlite"
    assert float(service["TimeoutStopSec"]) > settings.drain + settings.timeout + 5
    assert int(service["LimitNOFILE"]) >= 2 * settings.connections


def test_systemd_takes_the_unit(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze here")
    path = tmp_path / "lesionlab.service"
    path.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", unit()[1]))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True
    )
    told = [line for line in done.stderr.splitlines() if "lesionlab" in line]
    assert (done.returncode, told) == (0, [])


def test_the_manifest_fits_the_container_and_the_server(started, monkeypatch):
    ((deployment, service),) = [list(yaml.safe_load_all(each)) for each in blocks("yaml")]
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    words, user, port = entrypoint()
    assert pod["metadata"]["labels"] == deployment["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"http": port}
    assert [each["targetPort"] for each in service["spec"]["ports"]] == ["http"]
    assert pod["spec"]["securityContext"]["runAsUser"] == user
    (variable,) = container["env"]
    assert variable["name"] == KEYS_VARIABLE
    monkeypatch.setenv(KEYS_VARIABLE, KEY)
    app, settings = started([*words, *container["args"]])
    assert tuple(settings.hosts) == ("derm.example",)
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    assert grace > settings.drain + settings.timeout + 5
    assert settings.drain > container["readinessProbe"]["periodSeconds"]
    with TestClient(app, base_url="http://10.0.0.7:8000") as kubelet:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] in ports
            assert kubelet.get(asked["path"]).status_code == 200
        assert kubelet.get("/v1/model").status_code == 400  # by that name it answers probes alone


@pytest.fixture(scope="module")
def proxy(bundle_file, tmp_path_factory):
    """nginx with TLS before a server that listens: its address, the address with http, and where
    its certificate is.
    """
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).is_file() or not shutil.which("openssl"):
        pytest.skip("there is no nginx here, or no openssl to make a certificate with")
    home = tmp_path_factory.mktemp("nginx")
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=derm.example"
    make += " -addext subjectAltName=IP:127.0.0.1 -keyout privkey.pem -out fullchain.pem"
    subprocess.run(make.split(), cwd=home, check=True, capture_output=True)
    plain, secure = free_port(), free_port()
    with listening(bundle_file, hosts=("derm.example",), max_bytes=9_000_000) as (address, _, _):
        conf, prefix = blocks("nginx")
        for old, new in {
            "127.0.0.1:8000": address.removeprefix("http://"),
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl;\n": "",
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "listen 443 ssl;": f"listen 127.0.0.1:{secure} ssl;",
            "https://$host$": f"https://$host:{secure}$",
            "/etc/ssl/derm.example": str(home),
            "    location / {": f"{prefix}\n    location / {{",
        }.items():
            assert old in conf
            conf = conf.replace(old, new)
        (home / "lesionlab.conf").write_text(conf)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{each}_temp_path {home}/disk;" for each in kinds)
        (home / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {home}/pid; error_log stderr;\n"
            f"events {{}}\nhttp {{ access_log off; {paths} include {home}/lesionlab.conf; }}\n"
        )
        command = [program, "-e", "stderr", "-p", str(home), "-c", str(home / "nginx.conf")]
        with (home / "log").open("w") as log:
            process = subprocess.Popen(command, stderr=log)
        try:
            wait_for(secure, process, home / "log")
            shutil.rmtree(home / "disk")
            (home / "disk").write_text("")  # who wants to keep a body here fails
            yield f"https://127.0.0.1:{secure}", f"http://127.0.0.1:{plain}", home
        finally:
            process.terminate()
            process.wait(20)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def wait_for(port, process, log):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())


@pytest.fixture
def browser(proxy):
    with requests.Session() as session:
        session.trust_env = False  # a bundle of certificates named there would win
        session.verify = str(proxy[2] / "fullchain.pem")
        session.headers["Host"] = "derm.example"
        yield session


def test_http_leads_to_https(proxy, browser):
    answer = browser.post(f"{proxy[1]}/v1/predict?a=b", allow_redirects=False)
    assert answer.status_code == 308
    port = proxy[0].rpartition(":")[2]
    assert answer.headers["location"] == f"https://derm.example:{port}/v1/predict?a=b"


@pytest.mark.parametrize("prefix", ["", "/mole"])
def test_the_page_and_its_api_are_there_below_any_prefix(proxy, browser, prefix):
    home = f"{proxy[0]}{prefix}"
    page = browser.get(f"{home}/")
    assert page.headers["strict-transport-security"]
    places = re.findall(r'(?:href|src)="((?:static|docs|v1)[^"]*)"', page.text)
    places += re.findall(r'(?:href|src)="(docs[^"]*)"', browser.get(f"{home}/docs").text)
    assert len(places) > 5
    for place in places:
        assert browser.get(urljoin(f"{home}/", place)).status_code == 200
    document = f"{home}/openapi.json"
    (server,) = browser.get(document).json()["servers"]
    assert browser.get(urljoin(document, server["url"]) + "v1/model").status_code == 200
    moved = browser.get(f"{home}/v1/model/", allow_redirects=False)
    assert urljoin(moved.url, moved.headers["location"]) == f"{home}/v1/model"


def test_images_pass_and_never_reach_the_disk_of_nginx(proxy, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy[2] / "fullchain.pem"))
    large = picture(size=(1500, 1200), kind="BMP")  # 5 MB; nginx would keep what is above 16 kB
    with Client(proxy[0]) as client:
        (result,) = client.predict(large, maps="all").results
    assert (result.error, result.width) == (None, 1500)


def test_the_server_says_itself_what_is_too_large(proxy, browser):
    body = form(('name="images"', bytes(12_000_000)))
    kind = {"Content-Type": "multipart/form-data; boundary=limit"}
    try:
        answer = browser.post(f"{proxy[0]}/v1/predict", data=body, headers=kind)
    except requests.ConnectionError:  # the answer came before the body had gone
        return
    assert answer.json()["error"]["kind"] == "too_many_bytes"


def test_metrics_are_not_for_everybody(proxy, browser):
    assert browser.get(f"{proxy[0]}/metrics").status_code == 403


def test_who_asks_too_often_is_told_when_to_come_again(proxy, browser, monkeypatch):
    answers = [browser.post(f"{proxy[0]}/v1/predict") for _ in range(80)]
    assert {each.status_code for each in answers} == {415, 429}
    refused = answers[-1]
    assert (refused.json()["error"]["kind"], refused.headers["retry-after"]) == ("busy", "1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy[2] / "fullchain.pem"))
    with Client(proxy[0]) as client:
        assert client.predict(picture()).results[0].predicted  # it waited
