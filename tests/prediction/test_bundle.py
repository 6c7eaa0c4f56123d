"""A bundle: opened safely, answered from without torch."""

import io
import json
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bundles import GRID, SIZE, tiny_bundle, tiny_info, tiny_network
from PIL import Image

from lesionlab.data.images.faults import ImageFault
from lesionlab.errors import BundleError, DataError
from lesionlab.evaluation.triage.risk_control import ReferralRule
from lesionlab.prediction.bundle import Bundle, is_bundle, write_bundle
from lesionlab.prediction.predictor import (
    NOT_REFERRED,
    REASONS,
    Answers,
    Predictor,
    reason_text,
)
from lesionlab.taxonomy import HAM7


@pytest.fixture(scope="module")
def predictor(bundle_file):
    return Predictor(bundle_file)


def _pixels(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *SIZE, 3), dtype=np.uint8)


def _changed(path, to, **files):
    """A copy of a bundle with other files in it; None takes one out."""
    with zipfile.ZipFile(path) as archive:
        inside = {each: archive.read(each) for each in archive.namelist()}
    inside |= {name.replace("__", "."): value for name, value in files.items()}
    with zipfile.ZipFile(to, "w") as archive:
        for name, value in inside.items():
            if value is not None:
                archive.writestr(name, value)
    return to


def test_it_opens_and_says_what_it_is(bundle_file):
    bundle = Bundle.open(bundle_file)
    assert is_bundle(bundle_file)
    assert bundle.classes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert bundle.full_names["mel"] == "Melanoma"
    assert bundle.images.size == SIZE
    assert bundle.fields == ("age", "sex", "site")
    assert bundle.sites == ("back", "face", "foot")
    assert bundle.coverage == pytest.approx(0.9)
    assert bundle.map_grid == GRID
    assert "Tiny" in bundle.card_html
    assert bundle.licence == "CC0-1.0"


def test_the_same_content_is_the_same_file(tmp_path):
    one, other = tiny_bundle(tmp_path), tiny_bundle(tmp_path, name="other.bundle")
    assert one.read_bytes() == other.read_bytes()
    assert Bundle.open(one).fingerprint == Bundle.open(other).fingerprint
    changed = _changed(one, tmp_path / "changed.bundle", LICENSE=b"another")
    assert Bundle.open(changed).fingerprint != Bundle.open(one).fingerprint


def test_answers_are_the_calibrated_softmax_of_the_graph(predictor):
    pixels = _pixels(5)
    found = predictor.answers(pixels)
    logits = found.logits.astype(float) / 1.5
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, probabilities, rtol=1e-12)
    assert (found.sets == (1 - probabilities <= 0.7)).all()
    means = pixels.reshape(5, -1, 3).mean(axis=1) / 255
    np.testing.assert_allclose(found.novelty, 200 * ((means - 0.5) ** 2).sum(axis=1), rtol=1e-4)
    assert found.maps is None
    assert found.predicted == tuple(found.classes[i] for i in probabilities.argmax(axis=1))


def test_why_an_image_is_referred(predictor):
    pixels = np.stack([np.full((*SIZE, 3), grey, np.uint8) for grey in (128, 0)])
    found = predictor.answers(pixels)
    assert found.unlike.tolist() == [False, True]
    assert found.reasons[1] == "unlike"
    many = predictor.answers(_pixels(200))
    malignant = [HAM7.index(label) for label in ("akiec", "bcc", "mel")]
    for image, (reason, p) in enumerate(zip(many.reasons, many.probabilities, strict=True)):
        likely = p.argmax() in malignant or p[malignant].sum() >= 0.5
        possible = p[malignant].sum() >= 0.25 or p[4] >= 0.1
        one = many.sets[image].sum() == 1
        right = "unlike" if many.unlike[image] else "malignancy_likely" if likely else ""
        right = right or ("malignancy_possible" if possible else "" if one else "benign_undecided")
        assert reason == right
        assert len(many.set_of(image)) == many.sets[image].sum()
    assert list(REASONS)[-2:] == list(NOT_REFERRED)


def test_each_reason_in_its_order():
    """A likely malignancy is referred whatever its set; several benign classes are not."""
    rule = ReferralRule.from_json(tiny_info()["referral"], HAM7)
    p = np.array(
        [
            [0, 0, 0, 0, 0.93, 0.07, 0],
            [0, 0, 0, 0, 0.93, 0.07, 0],
            [0, 0.02, 0.03, 0, 0.12, 0.83, 0],
            [0, 0, 0.48, 0, 0.03, 0.49, 0],
            [0, 0, 0.02, 0, 0.03, 0.95, 0],
        ]
    )
    found = Answers(HAM7, p, p, p >= 0.3, rule, np.zeros(5), np.arange(5) == 0)
    assert found.reasons == (
        "unlike", "malignancy_likely", "malignancy_possible", "benign_undecided", "",
    )  # fmt: skip
    np.testing.assert_allclose(found.malignancy, [0.93, 0.93, 0.14, 0.03, 0.03])


def test_a_bundle_of_the_first_kind_errs_on_the_safe_side_and_says_what_is_missing(tmp_path):
    info = {**tiny_info(), "kind": "lesionlab bundle 1"}
    info["thresholds"] = {"at_95_sensitivity/mel": 0.2}
    del info["referral"]
    path = tiny_bundle(tmp_path)
    first = _changed(path, tmp_path / "first.bundle", bundle__json=json.dumps(info).encode())
    bundle = Bundle.open(first)
    assert bundle.referral.promise.startswith("No risk is stated")
    assert bundle.measured is None
    assert bundle.metadata_worth is None
    for reason in REASONS:
        assert "stated risk" not in reason_text(reason, bundle.referral)
        assert reason_text(reason, Bundle.open(path).referral) == REASONS[reason]
    found = Predictor(bundle).answers(_pixels(200))
    malignant = found.probabilities[:, [0, 1, 4]]
    referred = np.array([reason not in NOT_REFERRED for reason in found.reasons])
    likeliest = np.isin(found.probabilities.argmax(axis=1), [0, 1, 4])
    assert referred[likeliest].all()
    assert referred[malignant[:, 2] >= 0.2].all()
    assert referred[found.sets[:, [0, 1, 4]].any(axis=1)].all()


def test_maps_are_of_every_class(predictor):
    pixels = _pixels(2)
    found = predictor.answers(pixels, maps=True)
    assert found.maps.shape == (2, 7, *GRID)
    assert (found.maps >= 0).all()
    assert found.maps.max() > 0


def test_metadata_change_the_answer_and_unknown_ones_do_not(predictor):
    pixels = _pixels(3)
    plain = predictor.answers(pixels)
    unknown = pd.DataFrame({"age": [np.nan] * 3, "sex": [""] * 3, "site": ["the moon"] * 3})
    assert (predictor.answers(pixels, unknown).logits == plain.logits).all()
    told = pd.DataFrame({"age": [50.0, np.nan, 30], "sex": ["male", "", ""], "site": [""] * 3})
    moved = (predictor.answers(pixels, told).logits != plain.logits).any(axis=1)
    assert moved.tolist() == [True, False, True]


def test_several_networks_are_a_mean_of_probabilities(tmp_path):
    info = tiny_info(False)
    one = info["members"][0]
    info["members"] = [{**one, "weight": 0.25}, {**one, "file": "second.onnx", "weight": 0.75}]
    info["detector"] = None
    graphs = {"model.onnx": tiny_network(), "second.onnx": tiny_network(seed=1)}
    both = Predictor(write_bundle(tmp_path / "both.bundle", info, graphs))
    pixels = _pixels(4)
    shares = []
    for name, graph in graphs.items():
        alone = {**info, "members": [{**one, "file": name}]}
        path = tmp_path / f"{name}.bundle"
        logits = Predictor(write_bundle(path, alone, {name: graph})).answers(pixels).logits
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares.append(probabilities / probabilities.sum(axis=1, keepdims=True))
    mean = np.exp(both.answers(pixels).logits)
    np.testing.assert_allclose(mean, 0.25 * shares[0] + 0.75 * shares[1], rtol=1e-5)
    assert np.isnan(both.answers(pixels).novelty).all()


def test_threads_get_the_same_answers(predictor):
    pixels = _pixels(8)
    alone = [predictor.answers(pixels[i : i + 1]).logits for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: predictor.answers(pixels[i : i + 1]).logits, range(8)))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


def test_files_become_a_table_and_bad_ones_rows(predictor, tmp_path):
    Image.fromarray(_pixels(1)[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    Image.fromarray(_pixels(1, 1)[0]).save(tmp_path / "c.png")
    metadata = pd.DataFrame({"image_id": ["c"], "age": [50], "sex": ["male"], "site": ["back"]})
    table = predictor([tmp_path], metadata)
    assert table["image_id"].tolist() == ["a", "b", "c"]
    assert table["reason"][1] == "unreadable"
    assert "0 bytes" in table["error"][1]
    assert np.isnan(table["p_mel"][1])
    probabilities = table.filter(regex="^p_").to_numpy()
    np.testing.assert_allclose(probabilities[[0, 2]].sum(axis=1), 1)
    assert (predictor([tmp_path])["p_mel"][2]) != table["p_mel"][2]
    with pytest.raises(DataError, match="None of the 1 images"):
        predictor([tmp_path / "b.png"])


def test_bytes_and_files_are_read_alike(predictor, tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(_pixels(1)[0]).resize((400, 300)).save(path)
    assert (predictor.read(path) == predictor.read(path.read_bytes())).all()
    with pytest.raises(ImageFault, match="holiday"):
        predictor.read(b"no image", "holiday.jpg")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bundle__json": b"{"}, "not a bundle"),
        ({"bundle__json": b"[1]"}, "not a bundle"),
        (
            {"bundle__json": b'{"kind": "lesionlab bundle 9"}'},
            "reads lesionlab bundle 1 and lesionlab bundle 2",
        ),
        ({"bundle__json": b"[" * 100_000}, "not a bundle"),
        ({"bundle__json": None}, "not a bundle"),
        ({"model__onnx": None}, "missing"),
        ({"model__onnx": b"\x0a\x08location\x12\x0b/etc/passwd"}, "asks for other files"),
        ({"detector__npz": b"nothing"}, "not a bundle"),
        ({"..|evil": b""}, "holds files that a bundle has not"),
    ],
)
def test_what_is_no_bundle_is_refused(bundle_file, tmp_path, change, words):
    change = {name.replace("|", "/"): value for name, value in change.items()}
    with pytest.raises(BundleError, match=words):
        Bundle.open(_changed(bundle_file, tmp_path / "bad.bundle", **change))


def test_a_pickle_in_the_arrays_is_not_opened(bundle_file, tmp_path):
    packed = io.BytesIO()
    means = np.array([{"evil": 1}], dtype=object)
    np.savez(packed, means=means, precision=np.eye(3))
    with pytest.raises(BundleError, match="not a bundle"):
        Bundle.open(_changed(bundle_file, tmp_path / "b", detector__npz=packed.getvalue()))


def test_a_bomb_is_not_unpacked(bundle_file, tmp_path):
    path = shutil.copy(bundle_file, tmp_path / "bomb")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("card.txt", b"\0" * 2**26)
    with pytest.raises(BundleError, match="too large"):
        Bundle.open(path)


def test_damage_is_noticed(bundle_file, tmp_path):
    whole = Path(bundle_file).read_bytes()
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(whole), 20):
        (tmp_path / "cut").write_bytes(whole[:cut])
        with pytest.raises(BundleError):
            Bundle.open(tmp_path / "cut")
    with pytest.raises(BundleError, match="does not exist"):
        Bundle.open(tmp_path / "none")


def test_bits_that_turn_over_are_noticed_or_do_no_harm(bundle_file, tmp_path):
    whole = Path(bundle_file).read_bytes()
    rng = np.random.default_rng(1)
    right = Predictor(bundle_file).answers(_pixels(2)).logits
    refused = 0
    for place, bit in zip(rng.integers(0, len(whole), 60), rng.integers(0, 8, 60), strict=True):
        broken = bytearray(whole)
        broken[place] ^= 1 << bit
        (tmp_path / "broken").write_bytes(broken)
        try:
            found = Predictor(tmp_path / "broken").answers(_pixels(2)).logits
            assert (found == right).all()
        except BundleError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("classes", ["mel", "mel"], "repeat"),
        ("full_names", {}, "full names"),
        ("images", {"size": [10**6, 10**6], "fit": "stretch"}, "not a bundle"),
        ("members", [], "no network"),
    ],
)
def test_what_does_not_agree_is_refused(tmp_path, key, value, words):
    info = {**tiny_info(False), "detector": None, key: value}
    with pytest.raises(BundleError, match=words):
        write_bundle(tmp_path / "b", info, {"model.onnx": b""})
    assert not (tmp_path / "b").exists()


def test_a_graph_of_another_shape_is_refused(bundle_file, tmp_path):
    with zipfile.ZipFile(bundle_file) as archive:
        info = json.loads(archive.read("bundle.json"))
    info["images"]["size"] = [48, 64]
    path = _changed(bundle_file, tmp_path / "b", bundle__json=json.dumps(info).encode())
    with pytest.raises(BundleError, match="its network takes"):
        Predictor(path)
    path = _changed(bundle_file, tmp_path / "c", model__onnx=b"not a graph")
    with pytest.raises(BundleError, match="cannot be used"):
        Predictor(path)
