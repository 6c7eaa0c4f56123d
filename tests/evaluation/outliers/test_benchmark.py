import json

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import mahalanobis
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors

from lesionlab.cli.app import main
from lesionlab.embeddings import Embeddings
from lesionlab.errors import DataError, RunError, SettingsError
from lesionlab.evaluation.intervals.bootstrap import lesion_weights
from lesionlab.evaluation.intervals.estimate import Range, estimate
from lesionlab.evaluation.outliers.benchmark import FIGURES, detect_outliers, told_apart
from lesionlab.evaluation.outliers.detectors import (
    METHODS,
    OF_EMBEDDINGS,
    Detector,
    fit_detector,
)
from lesionlab.files import write_csv, write_json
from lesionlab.numerics import softmax

CLASSES = ("a", "b", "c")


def drawn(rng, lesions, away=0.0):
    """Embeddings with a dead feature, logits and lesions of images, two to a lesion."""
    targets = np.repeat(rng.integers(0, 3, lesions), 2)
    vectors = rng.normal(size=(2 * lesions, 6)) @ np.diag([1, 2, 0.5, 1, 1, 0])
    vectors[np.arange(len(targets)), targets] += 3
    vectors[:, 4] += away
    return vectors.astype(np.float32), (2 * vectors[:, :3]).astype(np.float32), targets


def folder(path, vectors, logits, targets, parts, prefix="i", head="h", weights="w"):
    path.mkdir()
    np.save(path / "embeddings.npy", vectors)
    if logits is not None:
        np.save(path / "logits.npy", logits)
    of = np.arange(len(vectors)) // 2
    table = {
        "image_id": [f"{prefix}{i}" for i in range(len(vectors))],
        "target": [CLASSES[i] for i in targets],
        "lesion_id": [f"{prefix}L{i}" for i in of],
        "patient_id": "",
        "part": parts,
    }
    write_csv(path / "embeddings.csv", pd.DataFrame(table))
    same = {"preprocessing": "p", "normalisation": ["0"], "model": "m", "weights": weights}
    write_json(path / "embeddings.json", {"identity": same, "classes": list(CLASSES), "head": head})
    return Embeddings.open(path)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    rng = np.random.default_rng(0)
    parts = np.repeat(["train", "val", "test"], [400, 100, 200])
    return folder(tmp_path_factory.mktemp("x") / "ours", *drawn(rng, 350), parts)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    rng = np.random.default_rng(1)
    home = tmp_path_factory.mktemp("others")
    vectors, logits, targets = drawn(rng, 40, away=6)
    return folder(home / "others", vectors, logits, targets, "", prefix="o")


def of_part(ours, part):
    mask = (ours.table["part"] == part).to_numpy()
    targets = pd.Index(CLASSES).get_indexer(pd.Index(ours.table["target"]))
    return ours.vectors[mask], ours.logits[mask], targets[mask]


def test_mahalanobis_is_that_of_scipy_and_sklearn(ours):
    train, _, targets = of_part(ours, "train")
    new = drawn(np.random.default_rng(2), 5, away=1)[0]
    fit = {"train": train, "targets": targets, "val": train, "val_lesions": np.arange(len(train))}
    plain, relative = (fit_detector(**fit, method=name) for name in ("mahalanobis", "relative"))
    means = np.stack([train[targets == i].astype(np.float64).mean(axis=0) for i in range(3)])
    within = LedoitWolf(assume_centered=True).fit(train - means[targets])
    whole = LedoitWolf().fit(train.astype(np.float64))
    nearest = np.min(
        [[mahalanobis(x, mean, within.precision_) ** 2 for x in new] for mean in means], axis=0
    )
    np.testing.assert_allclose(plain.score(new), nearest, rtol=1e-6)
    np.testing.assert_allclose(relative.score(new), nearest - whole.mahalanobis(new), rtol=1e-5)


def test_neighbours_are_those_of_sklearn(ours):
    train, _, targets = of_part(ours, "train")
    new = drawn(np.random.default_rng(2), 5, away=1)[0]
    made = fit_detector(
        train, targets, train, np.arange(len(train)), method="neighbours", neighbours=4
    )
    sphere = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, new)]
    distances, _ = NearestNeighbors(n_neighbors=4).fit(sphere[0]).kneighbors(sphere[1])
    np.testing.assert_allclose(made.score(new), distances[:, -1], rtol=1e-5)


def test_scores_of_logits_are_those_of_their_definitions(ours):
    _, logits, targets = of_part(ours, "train")
    lesions = np.arange(len(logits))
    by = {
        name: fit_detector(logits, targets, logits, lesions, method=name).score(logits)
        for name in METHODS[3:]
    }
    p = softmax(logits)
    np.testing.assert_allclose(by["probability"], -p.max(axis=1))
    np.testing.assert_allclose(by["entropy"], -(p * np.log(p)).sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(by["energy"], -logsumexp(logits.astype(float), axis=1), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_detector_comes_back_from_its_files(method, ours, tmp_path):
    train, logits, targets = of_part(ours, "train")
    given = train if method in OF_EMBEDDINGS else logits
    made = fit_detector(given, targets, given, np.arange(len(given)), method=method, classes=("a",))
    made.save(tmp_path / "d")
    again = Detector.load(tmp_path / "d")
    assert again.to_json() == made.to_json() == json.loads((tmp_path / "d.json").read_text())
    assert np.array_equal(again.score(given), made.score(given))
    with pytest.raises(DataError, match="numbers per image"):
        again.score(given[:, :2])
    with pytest.raises(DataError, match="not all numbers"):
        again.score(np.full((1, given.shape[1]), np.nan))
    assert len(again.score(given[:0])) == 0


def test_files_of_something_else_are_refused(ours, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        Detector.load(tmp_path / "d")
    write_json(tmp_path / "d.json", {"kind": "x"})
    with pytest.raises(DataError, match="no detector"):
        Detector.load(tmp_path / "d")
    train, _, targets = of_part(ours, "train")
    fit_detector(train, targets, train, np.arange(len(train))).save(tmp_path / "d")
    (tmp_path / "d.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="not that detector's"):
        Detector.load(tmp_path / "d")


@pytest.mark.parametrize("ties", [False, True])
def test_figures_are_those_of_sklearn(ties):
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=200), rng.normal(1.5, size=100)
    if ties:
        inside, outside = inside.round(), outside.round()
    groups = np.arange(200).astype(str), np.arange(200, 300).astype(str)
    found = told_apart(inside, groups[0], outside, groups[1], 1.7, replicates=200)
    truth, scores = np.repeat([0, 1], [200, 100]), np.concatenate([inside, outside])
    assert found["auroc"].value == pytest.approx(roc_auc_score(truth, scores))
    # ours are the positives of "FPR at 95 % TPR"
    fpr, tpr, _ = roc_curve(1 - truth, -scores, drop_intermediate=False)
    assert found["let_through_at_95"].value == pytest.approx(fpr[np.argmax(tpr >= 0.95 - 1e-12)])
    assert found["alarms_ours"].value == (inside > 1.7).mean()
    assert found["alarms_others"].value == (outside > 1.7).mean()
    for name in FIGURES:
        assert found[name].low < found[name].value < found[name].high


def test_intervals_are_those_of_a_loop_that_draws_both_sides_together():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=80).round(1), rng.normal(1, size=60).round(1)
    groups = [f"L{i}" for i in np.arange(80) // 2], [f"L{i}" for i in np.arange(60) // 2]
    found = told_apart(
        inside, np.array(groups[0]), outside, np.array(groups[1]), 1.2, replicates=40
    )
    weights = lesion_weights([*groups[0], *groups[1]], replicates=40, seed=0).astype(int)
    loop = {"auroc": [], "let_through_at_95": []}
    for each in weights[1:]:
        ours, theirs = np.repeat(inside, each[:80]), np.repeat(outside, each[80:])
        truth = np.repeat([0, 1], [len(ours), len(theirs)])
        loop["auroc"].append(roc_auc_score(truth, np.concatenate([ours, theirs])))
        cut = np.sort(ours)[int(np.ceil(0.95 * len(ours) - 1e-9)) - 1]
        loop["let_through_at_95"].append((theirs <= cut).mean())
    for name, values in loop.items():
        each = found[name]
        naive = estimate(
            np.array([each.value, *values]), each.n, each.groups,
            proportion=name != "auroc", within=Range(fewest=30),  # lesions of the smaller side
        )  # fmt: skip
        assert (each.low, each.high) == pytest.approx((naive.low, naive.high))


def test_few_photographs_have_no_interval():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=200), rng.normal(1.5, size=300)
    found = told_apart(
        inside, np.arange(200).astype(str), outside, np.repeat(["x", "y", "z"], 100), 1.7
    )
    assert np.isnan(found["auroc"].low)
    assert found["alarms_others"].groups == 3


def test_what_is_far_away_is_told_and_what_is_alike_is_not(ours, others, tmp_path):
    rng = np.random.default_rng(5)
    alike = folder(tmp_path / "alike", *drawn(rng, 40), "", prefix="s")
    found = detect_outliers(ours, {"far": others, "alike": alike}, replicates=50)
    assert found["mahalanobis", "far", "auroc"].value > 0.99
    assert found["mahalanobis", "far", "alarms_others"].value > 0.95
    assert 0.4 < found["mahalanobis", "alike", "auroc"].value < 0.6
    for method in METHODS:
        assert found[method, "alike", "alarms_ours"].value < 0.12
    blind = found["probability", "far", "auroc"].value
    assert blind < 0.7  # logits know nothing of that feature
    shown = found.scores
    inside = shown[(shown["method"] == "mahalanobis") & (shown["set"] == "")]["score"]
    outside = shown[(shown["method"] == "mahalanobis") & (shown["set"] == "far")]["score"]
    truth = np.repeat([0, 1], [len(inside), len(outside)])
    expected = roc_auc_score(truth, np.concatenate([inside, outside]))
    assert found["mahalanobis", "far", "auroc"].value == pytest.approx(expected)


def test_test_and_other_images_move_no_threshold(ours, others, tmp_path):
    before = detect_outliers(ours, {"far": others}, replicates=0).detectors
    vectors, logits = ours.vectors.copy(), ours.logits.copy()
    test = (ours.table["part"] == "test").to_numpy()
    vectors[test] += 5
    logits[test] *= 3
    targets = pd.Index(CLASSES).get_indexer(pd.Index(ours.table["target"]))
    other = folder(tmp_path / "moved", vectors, logits, targets, ours.table["part"].to_numpy())
    after = detect_outliers(other, {}, replicates=0).detectors
    assert {name: each.threshold for name, each in before.items()} == {
        name: each.threshold for name, each in after.items()
    }
    vectors[~test] *= 2
    other = folder(tmp_path / "again", vectors, logits, targets, ours.table["part"].to_numpy())
    again = detect_outliers(other, {}, methods=["mahalanobis"], replicates=0).detectors
    assert again["mahalanobis"].threshold == pytest.approx(before["mahalanobis"].threshold)  # scale
    assert not np.allclose(
        again["mahalanobis"].arrays["means"], before["mahalanobis"].arrays["means"]
    )


def test_what_makes_no_sense_is_refused(ours, others, tmp_path):
    with pytest.raises(DataError, match="no images of part train, val, test"):
        detect_outliers(others)
    with pytest.raises(SettingsError, match=r"(?s)no method 'x'.*alarms is 1"):
        detect_outliers(ours, methods=["x"], alarms=1.0)
    with pytest.raises(SettingsError, match="1 to 400"):
        detect_outliers(ours, methods=["neighbours"], neighbours=401)
    with pytest.raises(DataError, match=r"50 lesions: too few .* it takes 99"):
        detect_outliers(ours, methods=["energy"], alarms=0.01)
    with pytest.raises(RunError, match="no folder of embeddings"):
        detect_outliers(tmp_path)
    rows = drawn(np.random.default_rng(0), 5)
    bare = folder(tmp_path / "bare", rows[0], None, rows[2], "")
    with pytest.raises(RunError, match=r"no logits.npy"):
        detect_outliers(ours, {"bare": bare}, methods=["energy"])
    wrong = folder(tmp_path / "wrong", *rows, "", head="x", weights="y")
    with pytest.raises(DataError, match="other weights, head"):
        detect_outliers(ours, {"wrong": wrong})
    same = np.ones((20, 3))
    with pytest.raises(DataError, match="same embedding"):
        fit_detector(same, np.zeros(20, int), same, np.arange(20))


def test_the_verb_tells_and_writes(ours, others, tmp_path, capsys):
    words = [
        "outliers",
        "fit",
        str(ours.folder),
        "--others",
        str(others.folder),
        "--replicates",
        "20",
    ]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Scores of unlikeness" in said
    assert "Told apart" in said
    assert Detector.load(tmp_path / "out" / "relative").method == "relative"
    assert not (tmp_path / "out" / "energy.npz").exists()
    figures = pd.read_csv(tmp_path / "out" / "figures.csv")
    assert len(figures) == len(METHODS) * len(FIGURES)
    assert main([*words, "--out", "no", "--methods", "x"]) == 2
    assert "invalid choice: 'x' (choose from 'mahalanobis'" in capsys.readouterr().err
    table = str(tmp_path / "scores.csv")
    ask = ["outliers", "score", str(tmp_path / "out"), str(others.folder)]
    assert main([*ask, "--out", table]) == 0
    scores = pd.read_csv(table)
    benchmark = pd.read_csv(tmp_path / "out" / "scores.csv", keep_default_na=False)
    benchmark = benchmark[benchmark["set"] != ""]
    for name in ("method", "unlike", "score"):
        assert list(scores[name]) == list(benchmark[name])
    assert main(["outliers", "score", str(tmp_path), str(others.folder)]) == 2
    assert "lesionlab outliers fit RUN" in capsys.readouterr().err


def test_a_small_detector_is_the_whole_one_where_it_keeps_all_axes_that_differ():
    rng = np.random.default_rng(0)
    variances = np.concatenate([[9.0, 4.0, 2.0], np.ones(17)])
    turned = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    data = (rng.normal(size=(4000, 20)) * np.sqrt(variances)) @ turned
    targets = np.repeat([0, 1], 2000)
    data[2000:] += 3
    lesions = np.array([f"l{i}" for i in range(500)], dtype=object)
    val = data[rng.choice(4000, 500, replace=False)]
    whole = fit_detector(data, targets, val, lesions)
    small = fit_detector(data, targets, val, lesions, rank=3)
    assert set(small.arrays) == {"means", "axes", "gains", "rest"}
    assert small.arrays["axes"].shape == (3, 20)
    new = rng.normal(size=(300, 20)) * 2
    np.testing.assert_allclose(small.score(new), whole.score(new), rtol=0.15)
    assert np.corrcoef(small.score(new), whole.score(new))[0, 1] > 0.99
    centred = data - np.stack([data[:2000].mean(axis=0), data[2000:].mean(axis=0)])[targets]
    axes, rest = small.arrays["axes"].astype(float), float(small.arrays["rest"])
    precision = rest * np.eye(20) + axes.T @ np.diag(small.arrays["gains"]) @ axes
    away = new[:, None] - small.arrays["means"].astype(float)
    byhand = np.einsum("nkd,de,nke->nk", away, precision, away).min(axis=1)
    np.testing.assert_allclose(small.score(new), byhand, rtol=1e-6)
    spread = np.linalg.eigvalsh(np.cov(centred.T))
    assert rest == pytest.approx(1 / spread[:17].mean(), rel=0.02)
