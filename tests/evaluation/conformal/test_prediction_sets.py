import json

import numpy as np
import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.conformal.prediction_sets import conformal
from lesionlab.evaluation.conformal.scores import METHODS, draws_of, quantile, scores
from lesionlab.files import write_csv
from lesionlab.numerics import softmax

CLASSES = ("a", "b", "c")


def drawn(rng, lesions, most=5):
    """Several images of each lesion, much alike; those with one are hard."""
    images = rng.integers(1, most + 1, lesions)
    classes = rng.choice(3, size=lesions, p=[0.6, 0.3, 0.1])
    of = np.repeat(np.arange(lesions), images)
    skill = np.where(images == 1, 0.3, 2.0)
    peculiar = rng.normal(size=(lesions, 3)) + skill[:, None] * np.eye(3)[classes]
    logits = peculiar[of] + 0.4 * rng.normal(size=(len(of), 3))
    return softmax(1.5 * logits + np.log([0.6, 0.3, 0.1])), classes[of], of


def as_table(rng, lesions, part):
    p, targets, of = drawn(rng, lesions)
    table = pd.DataFrame(p, columns=[f"p_{name}" for name in CLASSES])
    return table.assign(
        image_id=[f"{part}{i}" for i in range(len(of))],
        lesion_id=[f"{part}L{i}" for i in of],
        target=np.array(CLASSES)[targets],
        part=part,
    )


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return pd.concat([as_table(rng, 200, "val"), as_table(rng, 300, "test")], ignore_index=True)


def test_scores_are_those_of_the_definitions():
    p = np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]])
    u = np.array([0.4, 1.0])
    np.testing.assert_allclose(scores(p, "lac"), 1 - p)
    np.testing.assert_allclose(scores(p, "aps", u), [[0.2, 0.88, 0.62], [0.9, 1.0, 0.8]])
    np.testing.assert_allclose(scores(p, "aps"), [[0, 0.8, 0.5], [0.8, 0.9, 0]], atol=1e-15)
    raps = scores(p, "raps", u, penalty=0.1, free=1)
    np.testing.assert_allclose(raps, [[0.2, 1.08, 0.72], [1.0, 1.2, 0.8]])


def test_with_single_images_the_quantile_is_the_usual_one():
    values = np.random.default_rng(0).random(57)
    for alpha in (0.05, 0.1, 0.37):
        place = int(np.ceil((1 - alpha) * 58))
        assert quantile(values, np.arange(57), alpha) == np.sort(values)[place - 1]
    assert quantile(values[:9], np.arange(9), 0.1) == values[:9].max()
    assert quantile(values[:8], np.arange(8), 0.1) == np.inf
    assert quantile(np.empty(0), np.empty(0, dtype=int), 0.1) == np.inf


def test_a_lesion_has_one_voice_however_many_images():
    values = np.array([0.1, 0.2, 0.3, 0.4] + [0.05] * 96)
    lesions = np.array([0, 1, 2, 3] + [4] * 96)
    assert quantile(values, lesions, 0.5) == 0.2  # 3 of 5 lesions and the new one
    assert quantile(values, np.arange(100), 0.5) == 0.05


def promise(method, by_class, randomised, runs=400, lesions=40, alpha=0.2):
    """Share of new lesions whose random image is covered, and how sure that is; by class."""
    rng = np.random.default_rng(5)
    hits = {name: [] for name in ("all", *range(3))}
    for _ in range(runs):
        p, targets, of = drawn(rng, lesions)
        fit = scores(p, method, rng.random(len(of)) if randomised else None)
        own = fit[np.arange(len(of)), targets]
        p, new_targets, new_of = drawn(rng, 40)
        new = scores(p, method, rng.random(len(new_of)) if randomised else None)
        held = new[np.arange(len(new_of)), new_targets]
        if by_class:
            limits = [quantile(own[targets == i], of[targets == i], alpha) for i in range(3)]
            covered = held <= np.array(limits)[new_targets]
        else:
            covered = held <= quantile(own, of, alpha)
        even = 1 / np.bincount(new_of)[new_of]
        hits["all"].append((covered * even).sum() / 40)
        for i in range(3):
            mine = new_targets == i
            if mine.any():
                hits[i].append((covered * even)[mine].sum() / even[mine].sum())
    return {name: (np.mean(each), np.std(each) / len(each) ** 0.5) for name, each in hits.items()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("randomised", [True, False])
def test_new_lesions_are_covered_as_promised(method, randomised):
    mean, error = promise(method, False, randomised)["all"]
    assert mean >= 0.8 - 3 * error
    if randomised or method == "lac":
        assert mean <= 0.8 + 1 / 41 + 3 * error  # and not by sets that are too large


@pytest.mark.parametrize("method", METHODS)
def test_by_class_every_class_is_covered_as_promised(method):
    found = promise(method, True, True)
    for name, (mean, error) in found.items():
        assert mean >= 0.8 - 3 * error, name
    assert promise(method, False, True)[2][0] < 0.75  # without it the rare class pays


def test_counting_images_would_break_the_promise(monkeypatch):
    honest = quantile

    def by_image(values, lesions, alpha):
        return honest(values, np.arange(len(lesions)), alpha)

    monkeypatch.setitem(promise.__globals__, "quantile", by_image)
    mean, error = promise("lac", False, True)["all"]
    assert mean < 0.8 - 3 * error


def test_sets_and_figures_belong_together(table):
    made = conformal(table, method="aps", replicates=50)
    assert list(made.sets["image_id"]) == sorted(table["image_id"][table["part"] == "test"])
    for row in made.sets.itertuples():
        members = row.set.split()
        assert len(members) == row.size
        assert (row.target in members) == row.covered
    by_lesion = made.sets.groupby("lesion_id")["covered"].mean().mean()
    assert made["coverage"].value == pytest.approx(by_lesion)
    assert made["coverage_of_images"].value == pytest.approx(made.sets["covered"].mean())
    mine = made.sets[made.sets["target"] == "b"].groupby("lesion_id")
    assert made["size/b"].value == pytest.approx(mine["size"].mean().mean())
    assert made["coverage"].low < made["coverage"].value < made["coverage"].high
    assert len(made.table()) == 4


def test_only_val_is_fitted_on_and_no_order_matters(table):
    other = table.sample(frac=1, random_state=1)
    other.loc[other["part"] == "test", "target"] = "a"
    for method in METHODS:
        one, two = (conformal(t, method=method, replicates=0) for t in (table, other))
        assert one.quantiles == two.quantiles
        pd.testing.assert_series_equal(one.sets["set"], two.sets["set"])


def test_draws_depend_on_image_and_seed_alone():
    one = draws_of(["x", "y", "z"], 0)
    np.testing.assert_array_equal(one[1:], draws_of(["y", "z"], 0))
    assert (one != draws_of(["x", "y", "z"], 1)).all()
    many = draws_of([str(i) for i in range(4000)], 0)
    assert abs(many.mean() - 0.5) < 0.02
    assert 0 <= many.min() < many.max() < 1


def test_too_few_lesions_are_said_and_the_class_is_in_every_set(table):
    few = table[(table["part"] == "test") | (table["target"] != "c") | (table.index < 40)]
    heard = []
    made = conformal(few, by_class=True, alpha=0.02, replicates=20, listen=heard.append)
    assert made.quantiles["c"] == np.inf
    assert all("c" in each.split() for each in made.sets["set"])
    assert any(f"c ({made.lesions['c']})" in text for text in made.warnings)
    assert made["coverage/c"].value == 1
    assert conformal(table, alpha=0.001, replicates=0).sets["size"].eq(3).all()
    assert "takes 999" in conformal(table, alpha=0.001, replicates=0).warnings[0]


def test_lesions_of_another_kind_are_noticed(table):
    wrong = table.copy()
    test = wrong["part"] == "test"
    wrong.loc[test, "target"] = wrong.loc[test, "target"].map({"a": "b", "b": "c", "c": "a"})
    made = conformal(wrong, replicates=50)
    assert any("below the promised" in text for text in made.warnings)
    assert not conformal(table, replicates=50).warnings


def test_what_makes_no_sense_is_refused_all_at_once(table):
    with pytest.raises(SettingsError) as caught:
        conformal(table, alpha=1.5, method="best", part="val")
    assert len(caught.value.faults) == 3
    with pytest.raises(DataError, match="part 'val'"):
        conformal(table[table["part"] == "test"])


def test_the_verb_writes_sets_and_quantiles(table, tmp_path, capsys):
    write_csv(tmp_path / "p.csv", table)
    words = ["conformal", str(tmp_path / "p.csv"), "--alpha", "0.2", "--by-class"]
    assert main([*words, "--replicates", "20", "--out", str(tmp_path / "sets.csv")]) == 0
    assert "classes in a set" in " ".join(capsys.readouterr().out.split())
    kept = json.loads((tmp_path / "sets.json").read_text())
    assert kept["alpha"] == 0.2
    assert set(kept["quantiles"]) == set(CLASSES)
    assert len(pd.read_csv(tmp_path / "sets.csv")) == (table["part"] == "test").sum()
