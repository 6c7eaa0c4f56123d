"""The server against its own OpenAPI description, over HTTP."""

import math

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from servers import listening

from lesionlab.data.sources.patient_metadata import read_age

KEY = "first-key-of-the-clinic"
CONFIG = {
    "checks": {
        # random bytes are no image: 422 in the documented shape is the right answer to them
        "positive_data_acceptance": {"expected-statuses": ["2XX", "422"]},
        "negative_data_rejection": {"expected-statuses": ["400", "401", "413", "415", "422"]},
    }
}


@pytest.fixture(scope="module")
def described(bundle_file):
    with listening(bundle_file, queue=64) as (address, service, _):
        config = SchemathesisConfig.from_dict(CONFIG)
        yield schemathesis.openapi.from_url(f"{address}/openapi.json", config=config)
        assert service.gate.images == service.gate.bytes == 0


@pytest.fixture(scope="module")
def locked(bundle_file):
    with listening(bundle_file, api_keys=(KEY,)) as (address, _, _):
        config = SchemathesisConfig.from_dict(CONFIG)
        yield schemathesis.openapi.from_url(f"{address}/openapi.json", config=config)


def lost_on_the_way(body):
    """Whether what is wrong with a form can not be seen in its parts, which are texts."""
    if not isinstance(body, dict):
        return False
    told = {name: body[name] for name in ("age", "sex", "site", "maps") if name in body}
    if any(each is None or each in ([], {}) for each in body.values()):  # leaves nothing behind
        return True
    if any(isinstance(each, list | dict) or each is None for each in told.values()):
        return True
    age = told.get("age")
    return isinstance(age, str) and (not age.strip() or not math.isnan(read_age(age)))


def explore(schema, examples, **sent):
    """Ask every route what fits its description, and bodies what does not; gives how often."""
    tried, kinds = 0, set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.label == "POST /v1/predict":
            tried += ask_for(operation, GenerationMode.POSITIVE, examples, sent, kinds)
            tried += ask_for(operation, GenerationMode.NEGATIVE, examples, sent, kinds)
        else:
            tried += ask_for(operation, GenerationMode.POSITIVE, 3, sent, set())
    assert kinds == {"multipart/form-data", "application/json"}
    return tried


def ask_for(operation, mode, examples, sent, kinds):
    tried = 0

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def keeps_to_it(case):
        nonlocal tried
        typed = mode is GenerationMode.POSITIVE or case.media_type == "application/json"
        assume(typed or not lost_on_the_way(case.body))
        kinds.add(case.media_type)
        tried += 1
        case.call_and_validate(**sent)

    keeps_to_it()
    return tried


def test_it_keeps_to_its_description(described):
    assert explore(described, 25) > 50


def test_it_keeps_to_its_description_with_a_key_and_in_fhir(locked):
    headers = {"X-API-Key": KEY, "Accept": "application/fhir+json"}
    assert explore(locked, 10, headers=headers) > 20


@pytest.mark.slow
def test_it_keeps_to_its_description_for_long(described):
    assert explore(described, 500) > 1000
