import numpy as np
import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.data.artefacts.artefacts import ARTEFACTS
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.errors import DataError
from lesionlab.evaluation.data_quality.shortcuts import ALL, MEAN, recalls_by, shortcuts
from lesionlab.evaluation.data_quality.tabular_classifier import (
    OutOfFold,
    above_half_p,
    features_of,
    out_of_fold,
    within_folds,
)
from lesionlab.evaluation.metrics.ranking import auroc, rank

CLASSES = ("bcc", "mel", "nv")


def drawn_data(n=420, seed=0):
    """A catalogue's columns, two images to a lesion, and artefacts that know nothing."""
    rng = np.random.default_rng(seed)
    lesion = np.arange(n) // 2
    data = pd.DataFrame(
        {
            "image_id": [f"i{k:04}" for k in range(n)],
            "lesion_id": [f"L{k:04}" for k in lesion],
            "target": [CLASSES[k % 3] for k in lesion],
            "source": "one",
        }
    )
    measured = pd.DataFrame({name: rng.normal(size=n // 2)[lesion] for name in ARTEFACTS})
    measured["width"] = 600.0
    measured["ruler_of_others"] = 1.0
    measured.insert(0, "image_id", data["image_id"])
    return measured.drop(columns="ruler_of_others"), data


@pytest.fixture(scope="module")
def planted():
    """Warmth knows nv, ink knows nothing."""
    measured, data = drawn_data()
    measured = measured[["image_id", "width", "warmth", "ink"]].copy()
    measured["warmth"] += 2.0 * (data["target"] == "nv")
    return measured, data


def test_a_planted_shortcut_is_found_and_noise_is_not(planted):
    made = shortcuts(*planted, folds=3, replicates=200)
    assert made.constant == ("width",)
    assert made.auroc("warmth", "nv").low > 0.75
    assert made.auroc("warmth").low > 0.5
    noise = made.auroc("ink")
    assert noise.low < 0.5 < noise.high
    assert made.auroc(ALL).value > 0.6
    means = made.figures[made.figures["class"] == MEAN].set_index("artefacts")
    assert means.loc["warmth", "p_adjusted"] < 0.05
    assert means.loc["ink", "p_adjusted"] > 0.05
    assert (means["lesions"] == 210).all()
    middle = made.values.set_index(["artefact", "class"])["median"]
    assert middle["warmth", "nv"] - middle["warmth", "mel"] == pytest.approx(2, abs=0.4)


def test_noise_that_is_the_same_in_a_lesion_does_not_leak_through_the_folds():
    areas = []
    for seed in range(4):
        measured, data = drawn_data(240, seed)
        targets = pd.Index(CLASSES).get_indexer(pd.Index(data["target"]))
        codes = pd.factorize(data["lesion_id"])[0]
        table = measured[["warmth"]]
        answers = out_of_fold(table, targets, codes, folds=3, seed=seed)
        assert all(len(set(answers.fold[codes == each])) == 1 for each in range(120))
        made = within_folds({"x": answers}, targets, CLASSES)(np.ones((1, 240)))
        areas.append(made["x", ""][0])
    assert abs(np.mean(areas) - 0.5) < 0.06  # by image it would be far above


def test_areas_are_of_pairs_within_a_fold():
    rng = np.random.default_rng(3)
    targets, fold = rng.integers(0, 2, 60), rng.integers(0, 3, 60)
    score = rng.random(60)
    answers = OutOfFold(np.stack([1 - score, score], axis=1), fold)
    weights = np.concatenate([np.ones((1, 60)), rng.integers(0, 3, (4, 60)).astype(float)])
    made = within_folds({"x": answers}, targets, ("a", "b"))(weights)["x", ""]
    for row, value in zip(weights, made, strict=True):
        won = pairs = 0.0
        for i in np.flatnonzero(targets == 1):
            for j in np.flatnonzero((targets == 0) & (fold == fold[i])):
                won += row[i] * row[j] * (score[i] > score[j])
                pairs += row[i] * row[j]
        assert value == pytest.approx(won / pairs)
    one = OutOfFold(answers.probabilities, np.zeros(60, int))
    whole = within_folds({"x": one}, targets, ("a", "b"))(weights)["x", ""]
    np.testing.assert_allclose(whole, auroc(weights, rank(targets == 1, score)))


def test_p_is_one_sided():
    assert above_half_p(np.array([0.6, 0.4, 0.6, 0.7])) == 2 / 4
    assert above_half_p(np.array([0.3, 0.2, 0.3, 0.4])) == 1
    assert np.isnan(above_half_p(np.array([0.6])))


def test_words_and_unknown_values_are_features():
    table = pd.DataFrame({"sex": ["f", "", "m", "f"], "age": [1.0, np.nan, 3.0, 4.0]})
    values, words = features_of(table)
    assert words.tolist() == [True, False]
    np.testing.assert_array_equal(values, [[0, 1], [np.nan, np.nan], [1, 3], [0, 4]])


def test_a_source_among_several_is_an_artefact():
    measured, data = drawn_data(300)
    data["source"] = np.where(data["target"] == "nv", "camera a", "camera b")
    made = shortcuts(measured[["image_id", "hair"]], data, folds=2, replicates=20)
    assert made.auroc("source", "nv").value > 0.95


def predicted(data, wrong, seed=0):
    """Predictions that are right but where `wrong` says so."""
    made = data[["image_id", "lesion_id", "target"]].assign(part="test")
    for place, name in enumerate(CLASSES):
        other = CLASSES[(place - 1) % 3]
        says = np.where(wrong, data["target"] == other, data["target"] == name)
        made[f"p_{name}"] = np.where(says, 0.8, 0.1)
    return made


def test_a_model_that_fails_where_there_is_hair_is_found_out():
    measured, data = drawn_data(600)
    hairy = measured["hair"] > 0.8
    rng = np.random.default_rng(1)
    made = shortcuts(
        measured[["image_id", "hair", "ink"]],
        data,
        predictions=predicted(data, hairy & (rng.random(600) < 0.7)),
        folds=2,
        replicates=200,
    ).recalls
    means = made[made["class"] == MEAN].set_index("artefact")
    assert means.loc["hair", "high"] < -0.2
    assert means.loc["hair", "p_adjusted"] < 0.05
    assert means.loc["ink", "low"] < 0 < means.loc["ink", "high"]
    classes = made[(made["artefact"] == "hair") & (made["class"] != MEAN)]
    assert classes["difference"].mean() == pytest.approx(means.loc["hair", "difference"])


def test_thirds_are_within_a_class_and_zeros_stay_together():
    n = 120
    data = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(n)],
            "lesion_id": "",
            "target": np.repeat(["mel", "nv", "bcc"], 40),
        }
    )
    values = np.concatenate(
        [np.arange(40.0), 100 + np.arange(40.0), np.r_[np.zeros(16), np.arange(1, 25.0)]]
    )
    made = recalls_by(
        pd.DataFrame({"x": values}, index=data["image_id"]),
        predicted(data, np.zeros(n, bool)),
        replicates=20,
    ).set_index("class")
    assert made.loc["mel", ["images_low", "images_high"]].tolist() == [14, 14]
    assert made.loc["nv", ["images_low", "images_high"]].tolist() == [14, 14]
    assert made.loc["bcc", ["images_low", "images_high"]].tolist() == [
        16,
        12,
    ]  # none; the upper half


def test_what_is_missing_is_named(planted):
    measured, data = planted
    with pytest.raises(DataError, match="1 of 420 images are not measured"):
        shortcuts(measured.iloc[1:], data)
    with pytest.raises(DataError, match="nothing to ask"):
        shortcuts(measured[["image_id", "width"]], data)
    rare = data["target"].where(data.index > 3, "vasc")
    made = shortcuts(measured, data.assign(target=rare), folds=3, replicates=0)
    assert made.left_out == ("vasc",)
    with pytest.raises(DataError, match="no figure of 'moon'"):
        made.auroc("moon")
    with pytest.raises(DataError, match="None of the predicted images"):
        recalls_by(pd.DataFrame({"x": [1.0]}, index=["else"]), predicted(data, np.zeros(420, bool)))


def test_on_the_command_line(tmp_path, capsys):
    from lesionlab.data.catalogue.catalogue import catalogue
    from lesionlab.data.synthetic.dataset import synthetic

    folder = synthetic(tmp_path / "ham", lesions=28, size=(180, 240), seed=2)
    data = catalogue(folder, out=tmp_path / "data")
    words = ["--replicates", "0", "--folds", "2", "--out", str(tmp_path / "s.csv")]
    assert main(["audit", "shortcuts", str(tmp_path / "data"), *words]) == 0
    shown = capsys.readouterr().out
    assert "all together" in shown
    assert "artefacts.csv" in shown
    assert len(pd.read_csv(tmp_path / "data" / "artefacts.csv")) == len(Catalogue.open(data.home))
    assert {"s.csv", "s_values.csv"} <= {each.name for each in tmp_path.iterdir()}
