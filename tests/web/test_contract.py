"""What is asked and answered: the contract between server, page and programs."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from bundles import GRID, tiny_bundle
from servers import ask, picture, serving

from lesionlab.prediction.bundle import Bundle
from lesionlab.prediction.predictor import NOT_REFERRED, Predictor
from lesionlab.taxonomy import HAM7
from lesionlab.web.schemas import Error, Model, Prediction


def probabilities(result):
    return np.array(
        [
            next(each["probability"] for each in result["classes"] if each["label"] == label)
            for label in HAM7
        ]
    )


def test_an_answer_is_what_the_bundle_says_in_process(client, bundle_file):
    content = picture(3)
    answer = ask(client, content, age="50", sex="male", site="back").json()
    Prediction.model_validate(answer)
    predictor = Predictor(bundle_file)
    told = pd.DataFrame({"age": [50.0], "sex": ["male"], "site": ["back"]})
    made = predictor.answers(predictor.read(content)[None], told)
    result = answer["results"][0]
    np.testing.assert_allclose(probabilities(result), made.probabilities[0], atol=1e-6)
    assert [each["probability"] for each in result["classes"]] == sorted(probabilities(result))[
        ::-1
    ]
    assert result["predicted"] == made.predicted[0] == result["classes"][0]["label"]
    assert result["set"] == list(made.set_of(0))
    assert {each["label"] for each in result["classes"] if each["in_set"]} == set(result["set"])
    assert result["reason"] == made.reasons[0]
    assert result["refer"] == (made.reasons[0] not in NOT_REFERRED)
    assert result["malignancy"]["probability"] == pytest.approx(made.malignancy[0])
    assert [each["reached"] for each in result["malignancy"]["limits"]] == [
        bool(made.malignancy[0] >= 0.25), bool(made.probabilities[0, 4] >= 0.1),
    ]  # fmt: skip
    assert "at most 5 of 100 malignant lesions" in answer["referral"]["promise"]
    assert result["novelty"]["score"] == pytest.approx(made.novelty[0])
    assert result["novelty"]["threshold"] == 60
    mel = probabilities(result)[HAM7.index("mel")]
    (threshold,) = result["thresholds"]
    assert threshold["label"] == "mel"
    assert threshold["reached"] == (mel >= 0.13)
    assert (result["name"], result["width"], result["height"]) == ("0.jpg", 60, 40)
    assert (result["error"], result["maps"]) == (None, [])
    bundle = Bundle.open(bundle_file)
    assert answer["model"]["fingerprint"] == bundle.fingerprint
    assert answer["coverage"] == pytest.approx(0.9)
    assert "Not a medical device" in answer["notice"]


def test_age_sex_and_site_count(client):
    content = picture(3)
    without = ask(client, content).json()
    assert without == ask(client, content, age="", sex="", site="", maps="none").json()
    assert without != ask(client, content, age="20").json()
    female = ask(client, content, sex="female").json()
    assert without != female == ask(client, content, sex=" F ").json()  # as people write it


def test_several_images_stand_in_their_order(client):
    contents = [picture(seed) for seed in range(6)]
    together = ask(client, *contents).json()["results"]
    assert [each["name"] for each in together] == [f"{i}.jpg" for i in range(6)]
    for content, result in zip(contents, together, strict=True):
        alone = ask(client, content).json()["results"][0]
        np.testing.assert_allclose(probabilities(result), probabilities(alone), atol=1e-6)


def test_one_bad_image_spoils_no_other(client):
    answer = ask(
        client, picture(1), b"nothing", picture(2, size=(300, 200))[:-500], b"", picture(2)
    )
    assert answer.status_code == 200
    Prediction.model_validate(answer.json())
    results = answer.json()["results"]
    kinds = [each["error"] and each["error"]["kind"] for each in results]
    assert kinds == [None, "unreadable", "truncated", "empty_file", None]
    for bad in results[1:4]:
        assert bad["refer"]
        assert (bad["reason"], bad["predicted"], bad["width"]) == ("unreadable", None, None)
        assert bad["classes"] == bad["set"] == bad["thresholds"] == bad["maps"] == []
        assert bad["reason_text"]
        assert "jpg" not in bad["error"]["message"]


def test_not_one_readable_image_is_422_in_the_same_shape(client):
    answer = ask(client, b"nothing", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert answer.status_code == 422
    Prediction.model_validate(answer.json())
    assert [each["reason"] for each in answer.json()["results"]] == ["unreadable"] * 2


def test_maps_are_shares_of_their_maximum(client, bundle_file):
    content = picture(5)
    predictor = Predictor(bundle_file)
    made = predictor.answers(predictor.read(content)[None], maps=True)
    every = ask(client, content, maps="all").json()["results"][0]["maps"]
    assert [each["label"] for each in every] == list(HAM7)
    for i, each in enumerate(every):
        grid = made.maps[0, i]
        assert (each["rows"], each["columns"]) == GRID == grid.shape
        assert each["blank"] == (grid.max() == 0)
        wanted = grid / grid.max() if grid.max() else grid
        np.testing.assert_allclose(np.reshape(each["values"], GRID), wanted, atol=1e-4)
    one = ask(client, content, maps="predicted").json()["results"][0]
    assert [each["label"] for each in one["maps"]] == [one["predicted"]]
    assert one["maps"][0] == every[HAM7.index(one["predicted"])]


def test_the_model_tells_of_itself(client, bundle_file):
    told = client.get("/v1/model").json()
    Model.model_validate(told)
    bundle = Bundle.open(bundle_file)
    assert told["fingerprint"] == bundle.fingerprint
    assert [each["label"] for each in told["classes"]] == list(HAM7)
    assert told["fields"] == ["age", "sex", "site"]
    assert told["sites"] == ["back", "face", "foot"]
    assert told["input"] == {"height": 24, "width": 32, "fit": "stretch"}
    assert told["maps"]
    assert told["card"] == {"kind": "lesionlab card 1"}


def test_a_model_without_fields_takes_none(tmp_path):
    with serving(tiny_bundle(tmp_path, fields=False)) as client:
        assert client.get("/v1/model").json()["fields"] == []
        refused = ask(client, picture(), age="50")
        assert refused.status_code == 400
        assert "no use of age" in refused.json()["error"]["message"]
        form = client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["requestBody"]
        assert '"age"' not in json.dumps(form)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health(client, path):
    assert client.get(path).json() == {"status": "ok"}


def test_it_is_ready_only_once_it_has_started(bundle_file):
    from fastapi.testclient import TestClient

    from lesionlab.web.app import create_app

    client = TestClient(create_app(bundle_file), base_url="http://127.0.0.1")  # not entered
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_the_card_may_do_nothing(client):
    card = client.get("/v1/card")
    assert "Tiny" in card.text
    assert "sandbox" in card.headers["content-security-policy"]
    assert "default-src 'none'" in card.headers["content-security-policy"]


def test_the_page_is_served_by_a_list_of_names(client, monkeypatch):
    page = client.get("/")
    script = client.get("/static/page.js")
    assert page.status_code == script.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get("/static/page.css").headers["content-type"] == "text/css; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "img-src 'self' blob: data:" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page.text)
    head = client.head("/static/page.js")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == script.headers["content-length"]
    tag = script.headers["etag"]
    again = client.get("/static/page.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert script.headers["cache-control"] == "no-cache"
    for name in ("../app.py", "%2e%2e/app.py", "..%2fapp.py", "%2e%2e%2f%2e%2e%2fcli.py", "x"):
        assert client.get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize("path", ["/", "/v1/model", "/healthz", "/nothing", "/openapi.json"])
def test_every_answer_has_the_headers_that_keep_browsers_safe(client, path):
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_answers_are_kept_by_nobody(client):
    assert ask(client, picture()).headers["cache-control"] == "no-store"


def test_what_is_not_there(client):
    for answer, status in ((client.get("/v2"), 404), (client.get("/v1/predict"), 405)):
        assert answer.status_code == status
        Error.model_validate(answer.json())
    assert client.get("/v1/predict").headers["allow"] == "POST"


def test_openapi_tells_of_fields_errors_and_examples(client):
    schema = client.get("/openapi.json").json()
    predict = schema["paths"]["/v1/predict"]["post"]
    form = predict["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["site"]["enum"] == ["", "back", "face", "foot"]
    assert form["required"] == ["images"]
    assert set(predict["responses"]) == {
        *("200", "400", "401", "403", "408", "413", "415", "422", "429", "503")
    }
    assert "Retry-After" in predict["responses"]["429"]["headers"]
    assert "security" not in predict
    assert [each["url"] for each in schema["servers"]] == ["./"]
    (example,) = schema["components"]["schemas"]["Prediction"]["examples"]
    Prediction.model_validate(example)


def test_metrics_count_what_happened(bundle_file):
    with serving(bundle_file) as client:
        ask(client, picture(), b"nothing")
        client.post("/v1/predict", content=b"x")
        client.get("/somewhere/else")
        text = client.get("/metrics").text
    assert 'lesionlab_requests_total{route="/v1/predict",status="200"} 1.0' in text
    assert 'lesionlab_requests_total{route="other",status="404"} 1.0' in text
    assert 'lesionlab_refusals_total{reason="unsupported_type"} 1.0' in text
    assert 'lesionlab_images_total{outcome="answered"} 1.0' in text
    assert 'lesionlab_images_total{outcome="unreadable"} 1.0' in text
    assert 'lesionlab_request_seconds_count{route="/v1/predict"} 2.0' in text
    assert "lesionlab_queue_images 0.0" in text
    assert "lesionlab_batch_images_count 1.0" in text
