"""Whether what a server is shown looks like what its model was made for."""

import numpy as np
import pytest
from bundles import adaptable_bundle, drawn_pixels, tiny_bundle
from servers import ask, picture, serving

import lesionlab as ll
from lesionlab.errors import SettingsError
from lesionlab.prediction.running_drift import Drift, distance
from lesionlab.web.schemas import Model


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return adaptable_bundle(tmp_path_factory.mktemp("drift"))


def shown(bundle, images, spread, last=300):
    """What is said after so many images of some spread of colours."""
    found = Drift(bundle, last)
    answers = ll.Predictor(bundle).answers(drawn_pixels(images, 5, spread))
    for novelty, rows in zip(answers.novelty, answers.probabilities, strict=True):
        found.add({"novelty": novelty, "likeliest": rows.max()})
    return found.report()


def test_the_distance_is_the_largest_gap_of_cumulative_shares():
    rising = np.arange(10.0)
    assert distance(rising, rising) == 0
    assert distance(rising, rising + 10) == 1
    assert distance(rising, rising + 2) == pytest.approx(0.2)


def test_images_like_those_of_val_are_no_drift_and_other_ones_are(bundle):
    assert not shown(bundle, 200, 20)["drifted"]
    other = shown(bundle, 200, 60)
    assert other["drifted"]
    assert other["distances"]["novelty"] > 0.3
    assert other["images"] == 200


def test_below_a_hundred_images_nothing_is_said_and_old_ones_are_forgotten(bundle):
    assert shown(bundle, 99, 60) == {"images": 99, "distances": {}, "drifted": False}
    assert shown(bundle, 200, 60, last=150)["images"] == 150


def test_an_adapted_bundle_is_compared_with_the_place_that_it_was_adapted_to(bundle, tmp_path):
    from PIL import Image

    for place, each in enumerate(drawn_pixels(80, 6, 32)):
        Image.fromarray(each).save(tmp_path / f"{place}.png")
    made = ll.adapt(bundle, tmp_path, out=tmp_path / "ours.bundle").bundle
    assert shown(bundle, 300, 32)["distances"]["novelty"] > 0.15
    assert shown(made, 300, 32)["distances"]["novelty"] < 0.15


def test_it_is_told_where_it_is_asked_for(bundle, tmp_path):
    with serving(bundle, drift=100) as client:
        for first in range(0, 100, 25):
            ask(client, *(picture(first + each) for each in range(25)))
        told = client.get("/v1/model").json()
        text = client.get("/metrics").text
    assert Model.model_validate(told).drift.images == 100
    assert set(told["drift"]["distances"]) == {"novelty", "likeliest"}
    assert f"lesionlab_drifted {float(told['drift']['drifted'])}" in text
    assert 'lesionlab_drift_distance{measure="novelty"}' in text
    with serving(bundle) as client:
        assert client.get("/v1/model").json()["drift"] is None
        assert "drift" not in client.get("/metrics").text
    with pytest.raises(SettingsError, match="without --drift"):
        Drift(ll.Bundle.open(tiny_bundle(tmp_path)), 100)
