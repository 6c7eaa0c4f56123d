"""Similar cases: the nearest lesions but its own, and what they vote for."""

from __future__ import annotations

import base64
import time

import numpy as np
import pandas as pd
import pytest
from bundles import tiny_bundle
from servers import ask, serving

import lesionlab as ll
from lesionlab.cli.app import main
from lesionlab.errors import BundleError, DataError
from lesionlab.prediction.bundle import Bundle
from lesionlab.retrieval.case_index import CaseIndex
from lesionlab.retrieval.projection import Projection, fit_projection
from lesionlab.retrieval.similar import nearest_cases
from lesionlab.web.app import create_app
from lesionlab.web.schemas import Result
from lesionlab.web.server_settings import Settings


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return Bundle.open(tiny_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = ll.synthetic(tmp_path_factory.mktemp("drawn"), lesions=28, size=(48, 64))
    return ll.catalogue(folder, out=tmp_path_factory.mktemp("catalogue"))


@pytest.fixture(scope="module")
def cases(data, bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("index") / "cases.index"
    return ll.index(data, out=out, model=bundle, licence="CC-BY-NC-4.0")


def test_an_index_opens_as_it_was_made(cases, data):
    again = CaseIndex.open(cases.path)
    assert len(again) == len(data.table)
    assert again.info["licence"] == "CC-BY-NC-4.0"
    assert np.allclose(np.linalg.norm(again.vectors, axis=1), 1, atol=1e-2)
    assert all(again.picture(row)[:2] == b"\xff\xd8" for row in range(len(again)))


def test_cases_are_of_other_lesions_each_once_and_the_nearest_first(cases, data, bundle):
    row = data.table.iloc[3]
    found = ll.similar(data.root / row["path"], index=cases.path, model=bundle)
    assert len(found.cases) == 6
    assert row["lesion_id"] not in set(found.cases["lesion_id"])
    assert found.cases["lesion_id"].is_unique
    assert found.cases["distance"].is_monotonic_increasing
    assert found.votes.sum() == pytest.approx(1)
    assert set(found.cases["target"]) <= set(data.classes)
    assert str(found.cases["name"].iloc[0]) in str(found)
    copied = ll.similar((data.root / row["path"]).read_bytes() + b"\0", index=cases, model=bundle)
    assert row["lesion_id"] not in set(copied.cases["lesion_id"])  # other bytes, the same pixels


def test_a_word_is_said_where_the_cases_and_the_model_disagree(cases):
    features = np.zeros(3, np.float32)
    found = nearest_cases(cases, features, "nv")
    other = nearest_cases(cases, features, "none of them")
    assert found.votes.equals(other.votes)
    assert not other.agree
    assert "disagree" in other.text
    assert "WARNING" in str(other)
    same = nearest_cases(cases, features, found.nearest)
    assert same.agree
    assert "WARNING" not in str(same)


def test_an_index_of_another_bundle_or_a_damaged_one_is_refused(cases, data, tmp_path):
    path = data.root / data.table["path"].iloc[0]
    with pytest.raises(BundleError, match="was made with"):
        ll.similar(path, index=cases)  # the default model did not make it
    (tmp_path / "broken").write_bytes(b"PK")
    with pytest.raises(DataError, match="damaged"):
        CaseIndex.open(tmp_path / "broken")
    with pytest.raises(DataError, match="lesionlab index DATA"):
        CaseIndex.open(tmp_path / "none")


def test_the_learnt_distance_sees_lesions_and_not_photographs():
    rng = np.random.default_rng(0)
    lesion = np.repeat(np.arange(200), 2)
    features = rng.normal(size=(200, 4))[lesion] + rng.normal(0, 0.1, (400, 4))
    features = np.hstack([features, rng.normal(0, 2, (400, 4))]).astype(np.float32)  # the light
    half = lesion < 100
    names, targets = pd.Series(lesion.astype(str)), pd.Series(np.where(lesion % 2, "nv", "mel"))
    learnt = fit_projection(features[half], names[half], targets[half], 4)

    def first(vectors):
        like = vectors @ vectors.T
        np.fill_diagonal(like, -2)
        return float((lesion[~half][like.argmax(1)] == lesion[~half]).mean())

    plain = features[~half] / np.linalg.norm(features[~half], axis=1, keepdims=True)
    assert first(learnt(features[~half])) > 2 * first(plain)


def test_the_commands_make_and_ask_an_index(data, bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made = ["index", str(data.home), "--out", "cases.index", "--model", str(bundle.path)]
    assert main(made) == 0
    photo = str(data.root / data.table["path"].iloc[0])
    asked = ["similar", photo, "--index", "cases.index", "--model", str(bundle.path)]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "nearest cases" in said
    assert said.count(data.table["image_id"].iloc[0]) == 1  # in the title alone


@pytest.mark.slow
def test_four_hundred_thousand_cases_are_asked_in_a_tenth_of_a_second(tmp_path):
    rng = np.random.default_rng(0)
    n = 400_000
    vectors = rng.normal(size=(n, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = pd.DataFrame({"image_id": np.arange(n).astype(str), "target": "nv", "dx_type": ""})
    table = table.assign(lesion_id=(np.arange(n) // 2).astype(str), sha256="")
    axes = np.eye(64, dtype=np.float32)
    cases = CaseIndex(
        tmp_path,
        {},
        table,
        Projection(np.zeros(64, np.float32), axes),
        vectors,
        np.zeros(0, np.uint8),
        np.zeros(n, np.int64),
    )
    nearest_cases(cases, vectors[0], "nv")
    start = time.process_time()
    for k in range(5):
        nearest_cases(cases, vectors[k], "nv")
    assert (time.process_time() - start) / 5 < 0.1


def test_a_server_with_an_index_shows_cases_beside_its_answer(cases, data, bundle):
    row = data.table.iloc[3]
    content = (data.root / row["path"]).read_bytes()
    with serving(bundle, index=cases.path) as client:
        good, bad = ask(client, content, b"nothing").json()["results"]
    assert bad["similar"] is None
    told = Result.model_validate(good).similar
    found = ll.similar(data.root / row["path"], index=cases, model=bundle)
    assert [each.image_id for each in told.cases] == list(found.cases["image_id"])
    assert (told.nearest, told.agree) == (found.nearest, found.agree)
    assert base64.b64decode(told.cases[0].picture)[:2] == b"\xff\xd8"
    with serving(bundle) as client:
        assert ask(client, content).json()["results"][0]["similar"] is None


def test_a_server_refuses_an_index_of_another_bundle(cases, tmp_path):
    other = Bundle.open(tiny_bundle(tmp_path, fields=False))
    with pytest.raises(BundleError, match="Make it again"):
        create_app(other, Settings(index=cases.path))


def test_the_network_answers_once_for_answer_and_features(data, bundle, cases):
    predictor = ll.Predictor(bundle)
    pixels = np.stack([predictor.read(data.root / path) for path in data.table["path"][:3]])
    both = predictor.answers(pixels, features=True)
    np.testing.assert_array_equal(both.features, predictor.features(pixels))
    np.testing.assert_array_equal(both.logits, predictor.answers(pixels).logits)
    assert predictor.answers(pixels).features is None
    predictor.features = None  # `similar` does without
    assert len(ll.similar(data.root / data.table["path"][0], index=cases, model=predictor).cases)
