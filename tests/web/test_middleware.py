"""What is refused, why, and before what."""

import asyncio
import io
import re
import struct
import time
import zlib

import pytest
from PIL import Image
from servers import ask, form, listening, picture, refused, send, serving

from lesionlab.errors import SettingsError
from lesionlab.web.server_settings import Settings, read_keys

KEYS = ("first-key-of-the-clinic", "second-key-of-the-clinic")


# ---- forms


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"age": "old"}, "age is a number"),
        ({"age": "-1"}, "age is a number"),
        ({"age": "nan"}, "age is a number"),
        ({"age": "121"}, "age is a number"),
        ({"age": "1_0"}, "age is a number"),
        ({"age": "4²"}, "age is a number"),
        ({"sex": "maleish"}, "female, male"),
        ({"site": "moon"}, "back, face, foot"),
        ({"maps": "some"}, "none, predicted, all"),
        ({"maps": ""}, "none, predicted, all"),
        ({"sexe": "male"}, "Did you mean 'sex'"),
        ({"age": "x", "sex": "y"}, "female, male"),
    ],
)
def test_fields_that_say_nothing_known(client, fields, words):
    message = refused(ask(client, picture(), **fields), 400, "bad_form")
    assert words in message
    assert ("age is a number" in message) == ("age" in fields)  # all faults at once


def test_a_form_without_images(client):
    assert "no image" in refused(send(client, form(('name="age"', b"40"))), 400, "bad_form")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing of the kind",
        form(('name="images"; filename="x"', b"x"), end=""),
        form(("x", b"x")),
        form(('name="age"', b"1"), ('name="age"', b"2"), ('name="images"', b"x")),
        form(('name="other"; filename="x"', b"x")),
        form(('name="site"', b"x" * 2000), ('name="images"', b"x")),
        form(*[(f'name="f{i}"', b"x") for i in range(20)]),
        form((f'name="images"; filename="{"x" * 9000}"', b"x")),
        form(('name="images"' + "\r\nX-More: x" * 99, b"x")),
    ],
    ids=["empty", "text", "cut", "nameless", "twice", "strange", "long", "many", "head", "heads"],
)
def test_bodies_that_are_no_question(client, body):
    refused(send(client, body), 400, "bad_form")


def test_a_part_counts_by_its_name_and_not_by_its_type(client):
    body = form(
        ('name="images"; filename="../../etc/pass\x07wd"\r\nContent-Type: text/html', picture())
    )
    answer = send(client, body)
    assert answer.status_code == 200
    assert answer.json()["results"][0]["name"] == "passwd"
    nameless = send(client, form(('name="images"', picture())))
    assert nameless.json()["results"][0]["name"] == ""


@pytest.mark.parametrize(
    ("headers", "status", "kind"),
    [
        ({"Content-Type": "application/json"}, 400, "bad_form"),
        ({"Content-Type": "text/plain"}, 415, "unsupported_type"),
        ({"Content-Type": "image/jpeg"}, 415, "unsupported_type"),
        ({"Content-Type": ""}, 415, "unsupported_type"),
        ({"Content-Type": "multipart/form-data"}, 400, "bad_form"),
        ({"Content-Type": "multipart/form-data; boundary=" + "x" * 99}, 400, "bad_form"),
        (
            {"Content-Type": "multipart/form-data; boundary=x", "Content-Encoding": "gzip"},
            415,
            "compressed",
        ),
    ],
)
def test_heads_that_are_no_question(client, headers, status, kind):
    refused(client.post("/v1/predict", content=b"x", headers=headers), status, kind)


# ---- sizes


def test_a_body_too_long_is_refused_before_it_is_read(bundle_file):
    with serving(bundle_file, max_bytes=10_000) as client:
        read = []

        def body():
            read.append(1)
            yield b"x" * 10

        headers = {
            "Content-Type": "multipart/form-data; boundary=x",
            "Content-Length": "20000",
        }
        answer = client.post("/v1/predict", content=body(), headers=headers)
        refused(answer, 413, "too_many_bytes")
        assert client.service.gate.images == client.service.gate.bytes == 0


def test_a_body_too_long_never_leaves_the_socket(bundle_file):
    import http.client

    with listening(bundle_file, max_bytes=10_000) as (address, _, _):
        host = address.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.putrequest("POST", "/v1/predict")
        connection.putheader("Content-Type", "multipart/form-data; boundary=x")
        connection.putheader("Content-Length", str(10**12))
        connection.endheaders()  # and not one byte of the body
        assert connection.getresponse().status == 413
        connection.close()


def test_a_body_without_a_length_is_counted_as_it_comes(bundle_file):
    with serving(bundle_file, max_bytes=10_000) as client:
        sent = []

        def body():
            yield b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\n'
            for _ in range(1000):
                sent.append(1)
                yield b"x" * 1000

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = client.post("/v1/predict", content=body(), headers=headers)
        refused(answer, 413, "too_many_bytes")
        assert client.service.gate.images == client.service.gate.bytes == 0


def test_too_many_images(bundle_file):
    with serving(bundle_file, max_images=2) as client:
        assert ask(client, picture(), picture()).status_code == 200
        refused(ask(client, picture(), picture(), picture()), 413, "too_many_images")


def header_of(width, height):
    """A PNG's head that announces a size, and nothing behind it."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9)))


@pytest.mark.parametrize("size", [(2000, 2000), (60000, 60000), (2**31 - 1, 2**31 - 1), (1, 70000)])
def test_pixels_are_counted_before_anything_is_decoded(bundle_file, size):
    with serving(bundle_file, max_pixels=1_000_000) as client:
        answer = ask(client, header_of(*size))
        assert answer.status_code == 422
        assert answer.json()["results"][0]["error"]["kind"] == "too_large"


def test_a_bomb_of_zeros_is_refused_at_once(client):
    image = io.BytesIO()
    Image.new("L", (9000, 9000)).save(image, "PNG")
    assert len(image.getvalue()) < 100_000
    begun = time.perf_counter()
    result = ask(client, image.getvalue()).json()["results"][0]
    assert result["error"]["kind"] == "too_large"
    assert time.perf_counter() - begun < 2


# ---- keys, names, other pages


@pytest.fixture(scope="module")
def locked(bundle_file):
    with serving(bundle_file, api_keys=KEYS) as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": KEYS[0][:-1]},
        {"X-API-Key": KEYS[0] + "x"},
        {"Authorization": KEYS[0]},
        {"Authorization": f"Basic {KEYS[0]}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
    ],
)
def test_without_a_key_nothing_is_answered(locked, headers):
    answer = ask(locked, picture(), headers=headers)
    refused(answer, 401, "no_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/v1/model", "/metrics"):
        refused(locked.get(path, headers=headers), 401, "no_key")
    for path in ("/healthz", "/readyz", "/", "/v1/card", "/openapi.json"):
        assert locked.get(path).status_code == 200


@pytest.mark.parametrize("key", KEYS)
def test_a_key_opens(locked, key):
    for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
        assert ask(locked, picture(), headers=headers).status_code == 200
        assert locked.get("/v1/model", headers=headers).status_code == 200


def test_a_key_is_asked_for_before_the_body_is_read(locked):
    sent = []

    async def ask_it():
        async def receive():
            sent.append("read")
            return {"type": "http.disconnect"}

        answers = []

        async def answer(message):
            answers.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/predict",
            "raw_path": b"/v1/predict",
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
            "http_version": "1.1",
            "headers": [
                (b"host", b"127.0.0.1"),
                (b"content-type", b"multipart/form-data; boundary=x"),
                (b"content-length", b"20"),
            ],
        }
        await locked.app(scope, receive, answer)
        return answers[0]["status"]

    assert asyncio.run(ask_it()) == 401
    assert not sent


def test_keys_come_from_a_file_and_the_environment(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text(f"# clinic\n{KEYS[0]}\n\n")
    assert read_keys(path, {}) == KEYS[:1]
    assert read_keys(None, {"LESIONLAB_API_KEYS": ", ".join(KEYS)}) == KEYS
    assert read_keys(path, {"LESIONLAB_API_KEYS": " ".join(KEYS)}) == KEYS
    assert read_keys(None, {}) == ()


def test_a_key_that_was_meant_but_is_missing_stops_the_start(tmp_path):
    with pytest.raises(SettingsError, match="set, but empty"):
        read_keys(None, {"LESIONLAB_API_KEYS": " "})
    (tmp_path / "none.txt").write_text("# nothing\n")
    with pytest.raises(SettingsError, match="holds no API key"):
        read_keys(tmp_path / "none.txt", {})
    with pytest.raises(SettingsError, match="cannot be read"):
        read_keys(tmp_path / "missing.txt", {})


def test_keys_are_shown_nowhere():
    assert KEYS[0] not in repr(Settings(api_keys=KEYS))


def test_all_faults_of_the_settings_come_at_once():
    with pytest.raises(SettingsError) as caught:
        Settings(port=70000, queue=4, timeout=0, api_keys=("short",), origins=("*",), retention=-1)
    assert len(caught.value.faults) == 6
    assert "short" not in str(caught.value).replace("shorter", "")


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8000", True),
        ("localhost:1", True),
        ("[::1]:8000", True),
        ("LOCALHOST", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("a b", False),
    ],
)
def test_names_of_others_are_refused_where_only_this_machine_connects(client, host, known):
    answer = client.get("/v1/model", headers={"Host": host})
    if known:
        assert answer.status_code == 200
    else:
        refused(answer, 400, "unknown_host")


def test_an_open_address_takes_any_name_or_those_it_is_told(bundle_file):
    with serving(bundle_file, host="0.0.0.0") as client:
        assert client.get("/v1/model", headers={"Host": "derm.example"}).status_code == 200
    with serving(bundle_file, host="0.0.0.0", hosts=("derm.example",)) as client:
        assert client.get("/v1/model", headers={"Host": "derm.example"}).status_code == 200
        refused(client.get("/v1/model", headers={"Host": "evil.example"}), 400, "unknown_host")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_know_an_address_and_no_name(bundle_file, path):
    with serving(bundle_file, host="0.0.0.0", hosts=("derm.example",)) as client:
        assert client.get(path, headers={"Host": "10.0.0.7:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "place"),
    [("/v1/model/", "../model"), ("/v1/predict/?a=b", "../predict?a=b"), ("/docs/", "../docs")],
)
def test_a_slash_too_many_leads_on_whatever_scheme_and_prefix_stand_in_front(client, asked, place):
    answer = client.get(asked, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, place)


@pytest.mark.parametrize("path", ["/v1/nothing/", "/v1/model//", "//evil.example/"])
def test_no_other_path_leads_on(client, path):
    answer = client.get(f"http://127.0.0.1{path}", follow_redirects=False)
    refused(answer, 404, "not_found")


# ---- the log


def test_the_log_has_a_line_per_request_and_no_word_of_what_was_sent(client, caplog):
    caplog.set_level("INFO", "lesionlab.web")
    body = form(('name="images"; filename="Jane Doe.jpg"', picture()), ('name="age"', b"old"))
    send(client, body)
    client.get("/Jane%20Doe?name=Jane")
    client.get("/healthz")
    lines = [re.sub(r"\d+\.\d{3} s", "T", each.getMessage()) for each in caplog.records]
    assert [each for each in lines if "HTTP Request" not in each] == [
        "POST /v1/predict 400 bad_form T",
        "GET other 404 T",
    ]


def test_the_log_tells_paths_and_probes_where_a_fault_is_looked_for(client, caplog):
    caplog.set_level("DEBUG", "lesionlab.web")
    client.get("/derm/v1/model")
    client.get("/healthz")
    first, second = (each.getMessage() for each in caplog.records if each.name == "lesionlab.web")
    assert first.endswith("path '/derm/v1/model'")
    assert second.startswith("GET /healthz 200 ")


def test_pages_of_other_sites_may_not_ask(client):
    for site in ("cross-site", "same-site"):
        headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": site}
        refused(ask(client, picture(), headers=headers), 403, "foreign_page")
    for origin in ("https://evil.example", "null"):  # over plain http browsers say no more
        refused(ask(client, picture(), headers={"Origin": origin}), 403, "foreign_page")
    own = {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}
    answer = ask(client, picture(), headers=own)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_pages_that_are_named_may_ask(bundle_file):
    clinic = "https://clinic.example"
    with serving(bundle_file, origins=(clinic,), max_images=1) as client:
        headers = {"Origin": clinic, "Sec-Fetch-Site": "cross-site"}
        answer = ask(client, picture(), headers=headers)
        assert answer.headers["access-control-allow-origin"] == clinic
        too_many = ask(client, picture(), picture(), headers=headers)  # refusals can be read too
        assert refused(too_many, 413, "too_many_images")
        assert too_many.headers["access-control-allow-origin"] == clinic
        asked = {**headers, "Access-Control-Request-Method": "POST"}
        asked["Access-Control-Request-Headers"] = "x-api-key"
        assert client.options("/v1/predict", headers=asked).status_code == 200
        other = {**asked, "Origin": "https://evil.example"}
        assert client.options("/v1/predict", headers=other).status_code == 400
