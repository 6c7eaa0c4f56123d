"""Answers as FHIR R4, checked by models of the standard (R4B: the same for these resources)."""

import httpx
import pytest
from servers import ask, listening, picture

from lesionlab.web import fhir

R4 = pytest.importorskip("fhir.resources.R4B", reason="FHIR is checked by fhir.resources")
ASKED = {"Accept": "application/fhir+json"}


@pytest.fixture(scope="module")
def client(bundle_file):
    """Asks a server that listens."""
    with listening(bundle_file) as (address, _, _), httpx.Client(base_url=address) as found:
        yield found


def resource(kind, answer):
    """A checked resource, as the models of the standard write it again: nothing is lost."""
    made = R4.get_fhir_model_class(kind).model_validate(answer.json())
    assert answer.headers["content-type"] == "application/fhir+json; fhirVersion=4.0"
    codes_are_known(made)
    again = made.model_dump(mode="json")
    assert again.keys() == answer.json().keys()
    return again


def codes_are_known(made):
    """Statuses and the like are those that the standard lists; its models do not look at them."""
    for name, field in type(made).model_fields.items():
        value = getattr(made, name)
        known = (field.json_schema_extra or {}).get("enum_values", ["+"])  # "+": and others
        assert value is None or "+" in known or value in known, (name, value)
        for each in value if isinstance(value, list) else [value]:
            if hasattr(type(each), "model_fields"):
                codes_are_known(each)


def parts(component):
    return {
        each["code"]["text"]: each.get("valueBoolean", each.get("valueQuantity", {}).get("value"))
        for each in component
    }


def test_a_report_says_what_the_answer_says(client):
    contents = (picture(1), b"nothing")
    plain = ask(client, *contents, site="back").json()
    report = resource("DiagnosticReport", ask(client, *contents, site="back", headers=ASKED))
    assert report["status"] == "preliminary"
    for words in (plain["notice"], plain["referral"]["promise"], "0.jpg: ", "1.jpg: "):
        assert words in report["conclusion"]
    device, first, second = report["contained"]
    assert device["identifier"][0]["value"] == plain["model"]["fingerprint"]
    assert [each["reference"] for each in report["result"]] == ["#image-1", "#image-2"]
    result = plain["results"][0]
    likeliest = result["classes"][0]
    assert first["valueCodeableConcept"] == {
        "coding": [{"code": likeliest["label"]}],
        "text": likeliest["name"],
    }
    assert first["bodySite"] == {"text": "back"}
    assert first["interpretation"][0]["text"] == result["reason_text"]
    told = parts(first["component"])
    assert told.pop("Refer") == result["refer"]
    wanted = {f"Probability of {each['name']}": each["probability"] for each in result["classes"]}
    wanted["Probability of malignancy"] = result["malignancy"]["probability"]
    assert {name: float(value) for name, value in told.items()} == pytest.approx(wanted)
    assert second["status"] == "cancelled"
    assert second["dataAbsentReason"]["text"] == plain["results"][1]["error"]["message"]
    assert parts(second["component"]) == {"Refer": True}


def test_an_image_that_is_unlike_has_no_class(client):
    answer = ask(client, picture(1)).json()
    answer["results"][0] |= {"reason": "unlike", "reason_text": "Unlike.", "refer": True}
    report = fhir.report(answer)
    R4.get_fhir_model_class("DiagnosticReport").model_validate(report)
    (observation,) = report["contained"][1:]
    assert "valueCodeableConcept" not in observation
    assert observation["dataAbsentReason"]["text"] == "Unlike."
    assert parts(observation["component"]) == {"Refer": True}


def test_not_one_readable_image_is_422_in_the_same_shape(client):
    answer = ask(client, b"nothing", headers=ASKED)
    assert answer.status_code == 422
    assert resource("DiagnosticReport", answer)["contained"][1]["status"] == "cancelled"


def test_a_refusal_is_an_operation_outcome(client):
    answer = ask(client, picture(), age="old", headers=ASKED)
    assert answer.status_code == 400
    (issue,) = resource("OperationOutcome", answer)["issue"]
    assert (issue["code"], issue["severity"]) == ("invalid", "error")
    assert "age is a number" in issue["details"]["text"]


def test_a_key_that_is_missing_is_a_login(bundle_file):
    keys = ("first-key-of-the-clinic",)
    with listening(bundle_file, api_keys=keys) as (address, _, _), httpx.Client() as locked:
        answer = locked.post(f"{address}/v1/predict", headers=ASKED)
        assert resource("OperationOutcome", answer)["issue"][0]["code"] == "login"
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("accept", "asked"),
    [
        ("application/fhir+json", True),
        ("text/html, Application/FHIR+json; fhirVersion=4.0; q=0.9", True),
        ("application/json", False),
        ("*/*", False),
        ("application/fhir+xml", False),
    ],
)
def test_fhir_is_given_to_who_asks_for_it(accept, asked):
    assert fhir.wanted({"accept": accept}) is asked
    assert not fhir.wanted({})
