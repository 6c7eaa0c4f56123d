"""A question in JSON: the same answers as a form's, and as strictly read."""

import base64
import json

import pytest
from servers import ask, picture, refused, serving

IMAGE = base64.b64encode(picture()).decode()


def ask_json(client, body, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body)
    return client.post(
        "/v1/predict", content=content, headers={"Content-Type": "application/json", **headers}
    )


def test_json_gets_the_same_answer_as_a_form(client):
    told = {"age": 50, "sex": "male", "site": "back", "maps": "predicted"}
    images = [{"content": IMAGE, "name": "../0.jpg"}, {"content": "", "name": "1.jpg"}]
    answer = ask_json(client, {"images": images, **told})
    assert answer.status_code == 200
    assert answer.json() == ask(client, picture(), b"", **told).json()


def test_null_is_unknown_and_a_name_may_be_left_out(client):
    unknown = {"age": None, "sex": None, "site": None, "maps": None}
    answer = ask_json(client, {"images": [{"content": IMAGE}], **unknown}).json()
    wanted = ask(client, picture()).json()
    wanted["results"][0]["name"] = ""
    assert answer == wanted


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "well-formed JSON"),
        (b'{"images": [', "well-formed JSON"),
        (b"[" * 100_000, "well-formed JSON"),
        (b'{"age": NaN}', "well-formed JSON"),
        (b'{"age": ' + b"1" * 5_000 + b"}", "well-formed JSON"),
        ('{"images": []}'.encode("utf-16"), "well-formed JSON"),
        (b'{"age": 1, "age": 2}', "twice"),
        ([], "no JSON object"),
        ({}, "no image"),
        ({"images": []}, "no image"),
        ({"images": IMAGE}, "images is a list"),
        ({"images": [IMAGE]}, "images[0]"),
        ({"images": [{"content": IMAGE}, {"content": IMAGE + "\n"}]}, "images[1]"),
        ({"images": [{"content": f"data:image/jpeg;base64,{IMAGE}"}]}, "images[0]"),
        ({"images": [{"content": None}]}, "images[0]"),
        ({"images": [{"content": IMAGE, "name": None}]}, "images[0]"),
        ({"images": [{"content": IMAGE, "nmae": "x"}]}, "images[0]"),
        ({"images": [{"content": IMAGE}], "age": "55"}, "age is a number"),
        ({"images": [{"content": IMAGE}], "age": True}, "age is a number"),
        ({"images": [{"content": IMAGE}], "sex": 1}, "female, male"),
        ({"images": [{"content": IMAGE}], "site": ["back"]}, "back, face, foot"),
        ({"images": [{"content": IMAGE}], "sexe": None}, "Did you mean 'sex'"),
        ({f"f{i}": 1 for i in range(20)}, "too many fields"),
    ],
)
def test_json_that_is_no_question(client, body, words):
    assert words in refused(ask_json(client, body), 400, "bad_form")


def test_all_faults_come_at_once(client):
    message = refused(ask_json(client, {"images": [1], "age": "x", "sexe": ""}), 400, "bad_form")
    for words in ("images[0]", "age is a number", "'sexe'"):
        assert words in message


def test_json_keeps_the_limits(bundle_file):
    with serving(bundle_file, max_bytes=10_000, max_images=1) as client:
        images = [{"content": IMAGE}] * 2
        refused(ask_json(client, {"images": images}), 413, "too_many_images")
        refused(ask_json(client, b" " * 20_000), 413, "too_many_bytes")
        refused(
            client.post(
                "/v1/predict",
                content=iter([b" " * 9_000] * 2),  # no length is told
                headers={"Content-Type": "application/json"},
            ),
            413,
            "too_many_bytes",
        )
        assert client.service.gate.images == client.service.gate.bytes == 0
