from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.images.cache import cache
from lesionlab.data.splits import split
from lesionlab.data.synthetic.dataset import synthetic
from lesionlab.errors import SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.models import factory
from lesionlab.models.heads import head_of
from lesionlab.prediction.embed import embed_rows
from lesionlab.prediction.run_predictor import predict_rows, predict_run
from lesionlab.progress import Notice
from lesionlab.recipe.schema import Recipe, Smote
from lesionlab.run import PREDICTIONS, Run
from lesionlab.training import probes, smote
from lesionlab.training import train as training_module
from lesionlab.training.train import train

LENET = Recipe().but(
    {
        "images.size": [32, 32],
        "model.name": "lenet",
        "phases.0.epochs": 20,
        "phases.0.optim.lr": 2e-3,
        "sampling.kind": "balanced",
        "average.decay": 0.9,
        "batch": 16,
    }
)
LOGISTIC = LENET.but({"sampling.kind": "natural", "model.head.kind": "logistic_probe"})
NEIGHBOURS = LENET.but({"sampling.kind": "natural", "model.head.kind": "neighbours_probe"})


class Killed(Exception):
    """Stands for a process that ends in the middle."""


def refuse(*_, **__):
    raise Killed


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Local weights of a small net that learnt on other drawn lesions."""
    home = tmp_path_factory.mktemp("related")
    folder = synthetic(home / "ham", lesions=150, size=(48, 64), seed=2)
    data = catalogue(folder, out=home / "catalogue")
    run = train(LENET, data, split(data, kind="holdout", shares=(0.7, 0.2, 0.1)), out=home / "run")
    return str(run.folder / factory.WEIGHTS)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A small data set of drawn lesions, with a large test part."""
    home = tmp_path_factory.mktemp("few")
    folder = synthetic(home / "ham", lesions=120, size=(48, 64), seed=1)
    data = catalogue(folder, out=home / "catalogue")
    return data, split(data, kind="holdout", shares=(0.4, 0.2, 0.4))


@pytest.fixture(scope="module")
def logistic(few, weights, tmp_path_factory):
    """A logistic probe whose strength val has chosen."""
    recipe = LOGISTIC.but({"model.pretrained": weights})
    return train(recipe, *few, out=tmp_path_factory.mktemp("run") / "logistic")


def embedded(run, data):
    """Network, architecture, cache rows and embeddings of a run's images."""
    network, architecture = factory.load(run.folder)
    kept = cache(data.table, data.root, architecture.images, data.home / "cache")
    rows = kept.rows(list(data.table["sha256"]))
    return (
        network,
        architecture,
        kept.pixels,
        rows,
        embed_rows(network, architecture, kept.pixels, rows),
    )


def test_m22_pretrained_features_beat_random_ones_on_clean_labels(few, weights, tmp_path):
    """What source D denied, because its labels were wrong and its input was scaled twice."""
    tuned = LENET.but({"phases.0.epochs": 5, "phases.0.optim.lr": 1e-3})
    for name, recipe in (("logistic", LOGISTIC), ("neighbours", NEIGHBOURS), ("tuned", tuned)):
        scores = []
        for begin in (False, weights):
            run = train(
                recipe.but({"model.pretrained": begin}), *few, out=tmp_path / f"{name}{bool(begin)}"
            )
            scores.append(evaluate(run.predictions, replicates=0)["balanced_accuracy"].value)
        assert scores[1] > scores[0] + 0.1, (name, scores)


def test_a_logistic_probe_is_scikit_learns_on_standardised_embeddings(few, weights, tmp_path):
    data, parts = few
    recipe = LOGISTIC.but({"model.pretrained": weights, "model.head.strength": 0.3})
    run = train(recipe, data, parts, out=tmp_path / "run")
    *_, vectors = embedded(run, data)
    training = (data.table["image_id"].map(parts.parts()) == "train").to_numpy()
    scaler = StandardScaler().fit(vectors[training].astype(np.float64))
    model = LogisticRegression(C=0.3, class_weight="balanced", max_iter=1000)
    model.fit(scaler.transform(vectors[training]), data.table["target"][training])
    expected = pd.DataFrame(
        model.predict_proba(scaler.transform(vectors)), columns=[f"p_{c}" for c in model.classes_]
    )
    found = run.predictions[list(expected.columns)]
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert len(run.history) == 1
    assert run.info["probe"] == {"features": 84, "images": int(training.sum()), "strength": 0.3}


def test_the_probe_is_an_ordinary_network_with_the_weights_that_it_began_with(
    logistic, few, weights
):
    data, _ = few
    network, architecture, pixels, rows, _ = embedded(logistic, data)
    begun, now = load_file(weights), network.state_dict()
    head = {"fc.weight", "fc.bias"}
    assert {name for name in now if not torch.equal(now[name], begun[name])} == head
    logits = predict_rows(network, architecture, pixels, rows)
    told = logistic.predictions[[f"logit_{name}" for name in architecture.classes]]
    np.testing.assert_array_equal(logits, told.astype(np.float32))
    files = [data.root / each for each in data.table["path"][:3]]
    again = predict_run(logistic, files)
    for name in architecture.classes:
        np.testing.assert_allclose(again[f"p_{name}"], logistic.predictions[f"p_{name}"][:3], 1e-4)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_auroc"])
def test_strength_0_is_the_best_on_val(few, weights, tmp_path, metric):
    recipe = LOGISTIC.but({"model.pretrained": weights, "select.metric": metric})
    run = train(recipe, *few, out=tmp_path / "run")
    history = run.history
    assert list(history["strength"]) == pytest.approx(probes.STRENGTHS)
    best = history[f"val_{metric}"].idxmax()  # of equals the weakest, which comes first
    assert run.info["kept_epoch"] == best + 1
    assert run.info["probe"]["strength"] == history["strength"][best]
    assert run.kept == f"strength {history['strength'][best]:g}, candidate {best + 1} of 9"
    measured = evaluate(run.predictions, part="val", replicates=0)
    assert measured[metric].value == pytest.approx(history[f"val_{metric}"][best], abs=1e-4)
    assert history[f"val_{metric}"].nunique() > 1  # else any choice would do


def test_two_classes_fold_into_two_logits():
    rng = np.random.default_rng(0)
    vectors, targets = rng.normal(3, 5, (60, 4)), np.arange(60) % 2
    vectors[:, 0] += 4 * targets
    vectors[:, 3] = 7 + 1e-6 * targets  # moves by no more than float32 rounds
    mean, scale = probes._scales(vectors.astype(np.float32))
    model = LogisticRegression().fit((vectors - mean) / scale, targets)
    weight, bias = probes._folded(model, mean, scale)
    logits = torch.from_numpy(vectors @ weight.T + bias)
    expected = model.predict_proba((vectors - mean) / scale)
    np.testing.assert_allclose(logits.softmax(dim=1), expected, atol=1e-6)
    assert (weight[:, 3] == 0).all()


@pytest.mark.parametrize(
    ("head", "sampling"),
    [
        ("logistic_probe", {"kind": "natural"}),
        ("neighbours_probe", {"kind": "capped", "images": 2}),
        ("logistic_probe", {"kind": "smote", "neighbours": 1}),
        ("neighbours_probe", {"kind": "smote_tomek", "neighbours": 1}),
    ],
)
def test_m3_only_embeddings_of_the_training_part_enter(
    few, weights, tmp_path, monkeypatch, head, sampling
):
    data, parts = few
    changes = {"model.head": {"kind": head}, "model.pretrained": weights, "sampling": sampling}
    if head == "logistic_probe":
        changes["model.head"]["strength"] = 1.0
    recipe = LOGISTIC.but(changes)
    run = train(recipe, data, parts, out=tmp_path / "run")

    real = probes.embed_rows
    held_out = (data.table["image_id"].map(parts.parts()) != "train").to_numpy()

    def spoilt(*args, **kwargs):
        vectors = real(*args, **kwargs).copy()
        vectors[held_out] = np.random.default_rng(0).normal(0, 50, vectors[held_out].shape)
        return vectors

    monkeypatch.setattr(probes, "embed_rows", spoilt)
    other = train(recipe, data, parts, out=tmp_path / "other")
    mine, theirs = (load_file(each.folder / factory.WEIGHTS) for each in (run, other))
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert torch.equal(mine[name], theirs[name]), name
    left = other.predictions.merge(run.predictions, on="image_id")
    changed = (left["p_nv_x"] != left["p_nv_y"]).to_numpy()
    assert (changed == held_out).all()


@pytest.mark.parametrize("kind", ["smote", "smote_tomek", "smote_enn"])
def test_smote_fills_up_rare_classes_and_says_that_it_is_experimental(
    few, weights, tmp_path, monkeypatch, kind
):
    data, parts = few
    counts = data.table["target"][data.table["image_id"].map(parts.parts()) == "train"]
    most = counts.value_counts().max()
    given = []
    real = probes.resampled

    def spy(points, targets, *rest):
        made = real(points, targets, *rest)
        given.append((points, targets, *made))
        return made

    monkeypatch.setattr(probes, "resampled", spy)
    said = []
    recipe = LOGISTIC.but(
        {
            "model.pretrained": weights,
            "model.head.strength": 1.0,
            "sampling": {"kind": kind, "neighbours": 1},
        }
    )
    run = train(recipe, data, parts, out=tmp_path / "run", listen=said.append)
    [(before, of_before, after, of_after)] = given
    assert len(before) == len(counts)
    numbers = np.bincount(of_after)
    assert len(numbers) == 7
    if kind == "smote":
        assert set(numbers) == {most}
        assert np.array_equal(after[: len(before)], before)
        for point, label in zip(after[len(before) :], of_after[len(before) :], strict=True):
            lies = _between(before[of_before == label], point)
            assert lies, label
    else:
        assert numbers.max() <= most
        assert len(after) != len(before)
    notes = [e for e in said if isinstance(e, Notice) and e.text.startswith("Experimental")]
    assert [each.level for each in notes] == ["warning"]
    assert f"df {(counts == 'df').sum()} -> {numbers[list(data.classes).index('df')]}" in (
        notes[0].text
    )
    assert sorted(run.predictions["image_id"]) == sorted(data.table["image_id"])


def _between(points, made):
    """Whether a point lies on a straight line between two others."""
    for first in points:
        for second in points:
            line = second - first
            if (length := np.linalg.norm(line)) > 0:
                share = (made - first) @ line / length**2
                near = np.linalg.norm(first + share * line - made) < 1e-6 * length
                if near and -1e-9 <= share <= 1 + 1e-9:
                    return True
    return False


def test_too_few_images_for_smote_are_named_before_anything_is_written(few, tmp_path):
    recipe = LOGISTIC.but({"sampling": {"kind": "smote", "neighbours": 5}})
    with pytest.raises(SettingsError, match=r"has \d of df, \d of vasc\. Lower"):
        train(recipe, *few, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_cleaning_that_leaves_nothing_of_a_class_is_told():
    rng = np.random.default_rng(0)
    points = np.vstack((rng.normal(size=(40, 2)), np.tile(rng.normal(size=(5, 2)), (2, 1))))
    targets = np.repeat([0, 1, 2], [40, 5, 5])  # two classes on the same places
    recipe = LOGISTIC.but({"sampling": {"kind": "smote_enn", "neighbours": 4}})
    with pytest.raises(SettingsError, match=r"leaves no point of b, c.*sampling\.kind"):
        smote.resampled(points, targets, recipe, ("a", "b", "c"), lambda _: None)


def test_other_samplings_need_no_neighbours():
    smote.check_neighbours(Recipe().sampling, [1], ["df"])
    smote.check_neighbours(Smote(neighbours=2), [3], ["df"])
    with pytest.raises(SettingsError):
        smote.check_neighbours(Smote(neighbours=3), [3], ["df"])


def test_a_finished_probe_is_complete_and_a_killed_one_starts_anew(
    few, weights, tmp_path, monkeypatch
):
    data, parts = few
    recipe = NEIGHBOURS.but({"model.pretrained": weights})
    whole = train(recipe, data, parts, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(probes, "embed_rows", refuse)
        again = train(recipe, data, parts, out=whole.folder)
    assert again.info == whole.info
    for module, name in (
        (probes, "head_logits"),
        (factory, "save"),
        (training_module, "write_csv"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, refuse)
            with pytest.raises(Killed):
                train(recipe, data, parts, out=tmp_path / "run")
        assert not Run.open(tmp_path / "run").complete
    run = train(recipe, data, parts, out=tmp_path / "run")
    assert (run.folder / PREDICTIONS).read_bytes() == (whole.folder / PREDICTIONS).read_bytes()
    assert len(run.history) == 1


def test_the_search_for_settings_sees_each_candidate_and_no_test(few, weights, tmp_path):
    lengths = []
    run = train(
        LOGISTIC.but({"model.pretrained": weights}),
        *few,
        out=tmp_path / "run",
        parts=("train", "val"),
        after_epoch=[lambda rows: lengths.append(len(rows))],
    )
    assert lengths == list(range(1, 10))
    assert set(run.predictions["part"]) == {"train", "val"}


def test_a_cap_holds_for_probes_too(few, weights, tmp_path):
    sampling = {"kind": "capped", "images": 2}
    recipe = NEIGHBOURS.but({"model.pretrained": weights, "sampling": sampling})
    run = train(recipe, *few, out=tmp_path / "run")
    network, _ = factory.load(run.folder)
    head = head_of(network)
    assert (head.votes > 0).sum(dim=0).tolist() == [2] * 7
    assert run.info["probe"]["images"] == 14


def test_random_features_are_warned_about(few, tmp_path):
    said = []
    train(NEIGHBOURS, *few, out=tmp_path / "run", listen=said.append)
    texts = [e.text for e in said if isinstance(e, Notice) and e.level == "warning"]
    assert any("random weights" in text for text in texts)


def test_a_network_that_cannot_hold_a_probe_is_refused_before_anything_is_written(few, tmp_path):
    for recipe in (LOGISTIC, NEIGHBOURS):
        with pytest.raises(SettingsError, match="not in one linear layer"):
            train(
                recipe.but({"model.name": "deit_tiny_distilled_patch16_224"}),
                *few,
                out=tmp_path / "run",
            )
    assert not (tmp_path / "run").exists()
