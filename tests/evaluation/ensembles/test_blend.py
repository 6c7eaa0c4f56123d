import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss

from lesionlab.cli.app import main
from lesionlab.errors import DataError, FindingsError, RunError, SettingsError
from lesionlab.evaluation.ensembles import member_weights, stacking
from lesionlab.evaluation.ensembles.blend import METHODS, blend
from lesionlab.evaluation.ensembles.member_weights import greedy_weights, mixture_weights, score
from lesionlab.evaluation.ensembles.recipe import BlendRecipe
from lesionlab.evaluation.ensembles.result import Blend
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.files import write_csv, write_json
from lesionlab.reporting.report.report import report
from lesionlab.run import Run
from lesionlab.tables import check_predictions

THREE = ("bcc", "mel", "nv")


def as_columns(values, classes=THREE):
    return {f"p_{label}": values[:, i] for i, label in enumerate(classes)}


def probabilities(table, classes=THREE):
    return table[[f"p_{label}" for label in classes]].to_numpy()


def member(seed, skill=1.0, n=240, classes=THREE):
    """One model's predictions; all members share images, lesions, targets and parts."""
    shared = np.random.default_rng(7)
    lesion = shared.integers(0, int(n / 1.4), n)
    target = np.array([(number * 7919) % len(classes) for number in lesion])
    part = np.array(["train", "val", "val", "test", "test"])[lesion % 5]
    logits = np.random.default_rng(seed).normal(size=(n, len(classes)))
    logits[np.arange(n), target] += skill
    values = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return pd.DataFrame(
        {
            "image_id": [f"I{number:04d}" for number in range(n)],
            "lesion_id": [f"L{number:04d}" for number in lesion],
            "target": np.array(classes)[target],
            "part": part,
            **as_columns(values, classes),
        }
    )


def table_of(*members, **options):
    return blend(*members, **options).predictions


@pytest.fixture(autouse=True)
def _fewer_tries(monkeypatch):
    monkeypatch.setattr(stacking, "STRENGTHS", (0.01, 1.0))
    monkeypatch.setattr(member_weights, "CANDIDATES", 100)


@pytest.fixture(scope="module")
def members():
    return {"good": member(1, 2.0), "fair": member(2, 1.2), "poor": member(3, 0.3)}


def changed_in_test(table):
    """Other answers, other truths and fewer images, all of them in part test."""
    rng = np.random.default_rng(0)
    made = table.copy()
    here = np.flatnonzero(made["part"] == "test")
    made.loc[here, "target"] = made["target"].to_numpy()[rng.permutation(here)]
    made.loc[here, [f"p_{label}" for label in THREE]] = rng.dirichlet(np.ones(3), len(here))
    return made.drop(index=here[:10])


def test_mean_is_the_mean_of_the_probabilities(members):
    table = table_of(list(members.values()))
    want = np.mean([probabilities(each) for each in members.values()], axis=0)
    assert probabilities(table) == pytest.approx(want, abs=1e-15)
    assert list(table["image_id"]) == sorted(members["good"]["image_id"])
    for name in ("lesion_id", "target", "part"):
        assert list(table[name]) == list(members["good"][name])
    check_predictions(table)
    assert evaluate(table, replicates=0)["accuracy"].n == (table["part"] == "test").sum()


def test_members_are_aligned_by_image_and_class_whatever_their_order(members):
    straight = table_of(members)
    crooked = members["fair"].sample(frac=1, random_state=1)
    crooked = crooked[["p_nv", "target", "p_bcc", "part", "p_mel", "lesion_id", "image_id"]]
    again = table_of({**members, "fair": crooked})
    pd.testing.assert_frame_equal(again, straight)


@pytest.mark.parametrize("method", METHODS)
def test_an_ensemble_of_one_is_that_one_bit_for_bit(members, method):
    alone = members["fair"].assign(logit_mel=1.5)
    pd.testing.assert_frame_equal(table_of([alone], method=method), check_predictions(alone))


@pytest.mark.parametrize("method", ["mean", "weighted", "greedy"])
def test_one_member_many_times_is_still_that_one(members, method):
    table = table_of([members["fair"]] * 3, method=method)
    assert probabilities(table) == pytest.approx(probabilities(members["fair"]), abs=1e-15)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_predictions_table(members, method):
    made = blend(members, method=method)
    check_predictions(made.predictions)
    assert made.members == ("good", "fair", "poor")
    assert bool(made.fitted_on) == (method in ("weighted", "greedy", "stacking"))
    if made.weights:
        assert sum(made.weights.values()) == pytest.approx(1)
        assert min(made.weights.values()) >= 0
        mixed = sum(w * probabilities(members[name]) for name, w in made.weights.items())
        assert probabilities(made.predictions) == pytest.approx(mixed, abs=1e-12)


@pytest.mark.parametrize(
    ("method", "metric"), [(m, x) for m, all_ in METHODS.items() for x in all_]
)
def test_nothing_of_test_has_a_say_in_what_is_fitted(members, method, metric):
    first = blend(members, method=method, metric=metric, seed=1)
    other = {name: changed_in_test(table) for name, table in members.items()}
    truth = other["good"]["target"]
    other = {name: table.assign(target=truth) for name, table in other.items()}
    second = blend(other, method=method, metric=metric, seed=1)
    assert first.to_json() == second.to_json()
    assert first.fitted_on["images"] == (members["good"]["part"] == "val").sum()
    kept = [table["part"] != "test" for table in (first.predictions, second.predictions)]
    assert probabilities(first.predictions[kept[0]]) == pytest.approx(
        probabilities(second.predictions[kept[1]]), abs=0
    )
    # and val has one
    moved = {name: t.assign(part=t["part"].replace("val", "train")) for name, t in members.items()}
    with pytest.raises(DataError, match="never on test"):
        blend(moved, method=method, metric=metric)


def test_weighted_finds_the_lowest_log_loss_of_val(members):
    made = blend(members, method="weighted")
    val = members["good"]["part"] == "val"
    targets = members["good"].loc[val, "target"]
    values = [probabilities(each[val]) for each in members.values()]

    def loss(weights):
        return log_loss(targets, np.tensordot(weights, values, axes=1), labels=list(THREE))

    found = optimize.minimize(
        loss,
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-12},
    )
    assert loss(list(made.weights.values())) <= found.fun + 1e-8
    assert made.weights["good"] > made.weights["poor"]
    assert loss(list(made.weights.values())) < loss([1 / 3] * 3)


def test_a_useless_member_gets_no_weight():
    targets = np.repeat(np.arange(3), 30)
    right = np.full((90, 3), 0.1)
    right[np.arange(90), targets] = 0.8
    useless = np.full((90, 3), 1 / 3)
    assert mixture_weights(np.stack([useless, right]), targets) == pytest.approx([0, 1], abs=1e-6)
    assert greedy_weights(np.stack([useless, right]), targets, "log_loss") == pytest.approx([0, 1])


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_auroc", "accuracy"])
def test_weights_for_a_figure_are_at_least_as_good_as_any_member_on_val(members, metric):
    val = members["good"]["part"] == "val"
    targets = members["good"].loc[val, "target"].map(THREE.index).to_numpy()

    def value(table):
        return score(metric, targets, probabilities(table[val]))

    best = max([*map(value, members.values()), value(table_of(members))])
    assert value(table_of(members, method="weighted", metric=metric)) >= best
    assert value(table_of(members, method="greedy", metric=metric)) >= max(
        map(value, members.values())
    )


def test_scores_are_scikit_learns(members):
    table = members["fair"]
    targets = table["target"].map(THREE.index).to_numpy()
    values = probabilities(table)
    found = score("balanced_accuracy", targets, values)
    assert found == pytest.approx(balanced_accuracy_score(targets, values.argmax(axis=1)))
    assert score("log_loss", targets, values) == pytest.approx(-log_loss(targets, values))


def test_greedy_repeats_its_members():
    """Two thirds of the first and one third of the second are right where neither is alone."""
    first = np.array([[0.6, 0.4], [0.45, 0.55], [0.6, 0.4]])
    second = np.array([[0.1, 0.9], [0.9, 0.1], [0.45, 0.55]])
    targets = np.array([1, 0, 0])
    weights = greedy_weights(np.stack([first, second]), targets, "accuracy")
    mixed = np.tensordot(weights, np.stack([first, second]), axes=1)
    assert (mixed.argmax(axis=1) == targets).all()
    assert score("accuracy", targets, first) < 1
    assert score("accuracy", targets, second) < 1


def test_rank_depends_on_order_alone_within_each_part(members):
    flat = members["good"].copy()
    columns = [f"p_{label}" for label in THREE]
    squeezed = flat[columns] ** 3  # another scale, the same order within each class
    share = 0.2 / squeezed.sum(axis=1).max()
    spare = 1 - share * squeezed.sum(axis=1)
    wide = flat.assign(**{name: share * squeezed[name] for name in columns}, p_other=spare)
    plain = flat.assign(p_other=0.0)
    others = members["poor"].assign(p_other=0.0)
    first, second = (table_of([each, others], method="rank") for each in (plain, wide))
    ratio = first["p_mel"] / first["p_nv"]
    assert ratio.to_numpy() == pytest.approx((second["p_mel"] / second["p_nv"]).to_numpy())
    test = members["good"]["part"] == "test"
    mean = sum(members[n][test]["p_mel"].rank() - 0.5 for n in ("good", "poor")) / (2 * test.sum())
    table = table_of([members["good"], members["poor"]], method="rank")
    others = [
        sum(members[n][test][c].rank() - 0.5 for n in ("good", "poor")) / (2 * test.sum())
        for c in columns
    ]
    assert table[test]["p_mel"].to_numpy() == pytest.approx((mean / sum(others)).to_numpy())


def test_a_stack_learns_what_no_mean_can_and_its_val_is_out_of_fold(members):
    swapped = members["good"].rename(columns={"p_mel": "p_nv", "p_nv": "p_mel"})
    swapped = swapped[list(members["good"])]
    pair = {"swapped": swapped, "poor": members["poor"]}
    mean, stacked = evaluate(table_of(pair), replicates=0), blend(pair, method="stacking")
    test = evaluate(stacked.predictions, replicates=0)
    straight = evaluate(members["good"], replicates=0)
    assert mean["accuracy"].value < 0.5 < test["accuracy"].value
    assert test["accuracy"].value == pytest.approx(straight["accuracy"].value, abs=0.1)
    in_sample = stacked.stack.answer(np.stack([probabilities(each) for each in pair.values()]))
    differing = np.abs(probabilities(stacked.predictions) - in_sample).max(axis=1)
    val = stacked.predictions["part"] == "val"
    assert (differing[val] > 1e-6).all()
    assert (differing[~val] == 0).all()


def test_the_folds_of_a_stack_keep_lesions_together(members):
    """A lesion's images given twice: a fold that saw one twin would know the other."""
    rng = np.random.default_rng(3)
    n = 60
    values = rng.dirichlet(np.ones(3), (2, n))
    targets = rng.integers(0, 3, n)
    twins = np.concatenate([values, values], axis=1)
    lesions = np.tile(np.arange(n), 2)
    answers = stacking.stack(twins, np.tile(targets, 2), lesions, THREE, metric="log_loss", seed=0)[
        1
    ]
    assert answers[:n] == pytest.approx(answers[n:])
    _, leaky = stacking.stack(
        twins, np.tile(targets, 2), np.arange(2 * n), THREE, metric="log_loss", seed=0
    )
    assert leaky[:n] != pytest.approx(leaky[n:])


def test_a_stack_for_balanced_accuracy_favours_the_rare():
    few = [member(seed, 0.8, n=400) for seed in (1, 2)]
    rare = (few[0]["target"] == "bcc") & (few[0]["lesion_id"].str[1:].astype(int) // 5 % 4 > 0)
    few = [table[~rare] for table in few]
    recalls = {
        metric: evaluate(table_of(few, method="stacking", metric=metric), replicates=0)[
            "recall/bcc"
        ]
        for metric in METHODS["stacking"]
    }
    assert recalls["balanced_accuracy"].value > recalls["log_loss"].value


@pytest.mark.parametrize("classes", [THREE, ("benign", "malignant")])
def test_a_stack_is_scikit_learns_regression_on_all_of_val(classes):
    pair = [member(seed, 1.5, classes=classes) for seed in (1, 2)]
    made = blend(pair, method="stacking")
    values = [probabilities(each, classes) for each in pair]
    logs = np.concatenate([np.log(each) for each in values], axis=1)
    val = (pair[0]["part"] == "val").to_numpy()
    model = LogisticRegression(C=made.stack.strength, max_iter=5000)
    model.fit(logs[val], pair[0]["target"][val])
    assert made.stack.answer(np.stack(values)) == pytest.approx(model.predict_proba(logs))


def test_a_stack_of_two_classes():
    pair = [member(seed, 1.5, classes=("benign", "malignant")) for seed in (1, 2)]
    made = blend(pair, method="stacking")
    check_predictions(made.predictions)
    assert np.shape(made.stack.coefficients) == (2, 4)
    score_of = evaluate(made.predictions, replicates=0)
    assert score_of["accuracy"].value > 0.7
    assert score_of.positive == "malignant"


def test_a_stack_needs_every_class_in_val(members):
    lone = members["good"]["target"].eq("bcc") & members["good"]["part"].eq("val")
    some = {name: table[~lone] for name, table in members.items()}
    with pytest.raises(DataError, match=r"fewer of bcc \(0\)"):
        table_of(some, method="stacking")
    table_of(some, method="weighted")


def test_refuses_with_all_faults_at_once(members):
    other = members["fair"].copy()
    other.loc[0, "target"] = {"mel": "nv", "nv": "bcc", "bcc": "mel"}[other.loc[0, "target"]]
    other.loc[1, "part"] = {"train": "val", "val": "test", "test": "train"}[other.loc[1, "part"]]
    other.loc[2, "lesion_id"] = "elsewhere"
    other = other.drop(index=3)
    with pytest.raises(FindingsError) as error:
        table_of({"good": members["good"], "other": other})
    found = error.value.findings.set_index("kind")["detail"]
    assert found["other_target"] == (
        f"I0000 is {members['good'].loc[0, 'target']} in good, {other.loc[0, 'target']} in other"
    )
    was, now = members["good"].loc[1, "part"], other.loc[1, "part"]
    assert found["other_part"] == f"I0001 is {was} in good, {now} in other"
    assert "elsewhere in other" in found["other_lesion_id"]
    assert found["missing_image"] == "I0003 is not in other"
    assert "same split" in str(error.value)


def test_refuses_other_classes(members):
    with pytest.raises(FindingsError, match="second lacks nv and also has wart"):
        table_of(
            {
                "first": members["good"],
                "second": members["fair"].rename(columns={"p_nv": "p_wart"}).assign(target="wart"),
            }
        )


def test_parts_that_not_all_have_are_left_out_aloud(members):
    heard = []
    only = members["fair"][members["fair"]["part"] == "test"].drop(columns="lesion_id")
    table = table_of([members["good"], only], listen=heard.append)
    assert set(table["part"]) == {"test"}
    assert table["lesion_id"].all()  # known from the other member
    assert "part train and val" in heard[0].text
    with pytest.raises(DataError, match="No part"):
        table_of([members["good"][members["good"]["part"] == "val"], only])
    with pytest.raises(DataError, match="never on test"):
        table_of([members["good"], only], method="greedy")


def test_refuses_settings_that_do_not_belong_together(members):
    with pytest.raises(SettingsError, match="'median' is no method"):
        table_of(members, method="median")
    with pytest.raises(SettingsError, match="fits nothing"):
        table_of(members, metric="log_loss")
    with pytest.raises(SettingsError, match="not for 'accuracy'"):
        table_of(members, method="stacking", metric="accuracy")
    with pytest.raises(SettingsError, match="nothing to blend"):
        table_of([])


def test_saves_what_was_made_and_how(members, tmp_path):
    made = blend(members, method="weighted")
    assert isinstance(made, Blend)
    path = made.save(tmp_path / "both")
    assert path == tmp_path / "both" / "predictions.csv"
    side = json.loads((tmp_path / "both" / "blend.json").read_text())
    assert side["weights"] == dict(made.weights)
    assert side["members"] == ["good", "fair", "poor"]
    assert side["fitted_on"]["part"] == "val"
    assert dict(evaluate(tmp_path / "both", replicates=0)) == dict(
        evaluate(made.predictions, replicates=0)
    )
    page = report([tmp_path / "both"], tmp_path / "report.html", replicates=0)
    assert "both" in page.read_text()
    assert made.save(tmp_path / "flat.csv").is_file()
    assert (tmp_path / "flat.json").is_file()
    write_json(tmp_path / "run" / "run.json", {})
    write_json(tmp_path / "cv" / "folds.json", {})
    for out in ("run", "run/run.csv", "run/other.csv", "cv", "cv/folds.csv"):
        with pytest.raises(RunError, match="holds a run" if out[0] == "r" else "holds folds"):
            made.save(tmp_path / out)
    for folder, name in (("run", "run.json"), ("cv", "folds.json")):
        assert [each.name for each in (tmp_path / folder).iterdir()] == [name]
        assert json.loads((tmp_path / folder / name).read_text()) == {}
    stacked = blend(members, method="stacking").to_json()
    assert np.shape(stacked["stack"]["coefficients"]) == (3, 9)
    json.dumps(stacked)


def run_folder(path, table):
    write_csv(path / "predictions.csv", table)
    write_json(path / "run.json", {"state": "complete", "classes": list(THREE)})
    return Run.open(path)


def test_takes_runs_folders_files_and_tables(members, tmp_path):
    run = run_folder(tmp_path / "a" / "net", members["good"])
    run_folder(tmp_path / "b" / "net", members["fair"])
    write_csv(tmp_path / "automl.csv", members["poor"])
    sources = [run, tmp_path / "b" / "net", str(tmp_path / "automl.csv"), members["poor"]]
    made = blend(sources)
    assert made.members == ("a/net", "b/net", "automl", "table 4")
    assert len(made.predictions) == len(members["good"])
    twice = blend([tmp_path / "a" / "net", tmp_path / "b" / "net", tmp_path / "a" / "net"])
    assert twice.members == ("net (1)", "b/net", "net (2)")  # and not the whole path
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no predictions\.csv"):
        table_of([tmp_path / "empty"])


def test_a_blend_is_scored_and_blended_like_its_table(members):
    made = blend(members)
    assert dict(evaluate(made, replicates=0)) == dict(evaluate(made.predictions, replicates=0))
    again = blend([made, members["poor"]])
    assert again.members == ("table 1", "table 2")
    pd.testing.assert_frame_equal(again.predictions, table_of([made.predictions, members["poor"]]))


@pytest.mark.parametrize("method", ["greedy", "weighted"])
def test_a_val_of_one_class_is_no_ground_for_auroc(members, method):
    some = {
        name: table[(table["part"] != "val") | (table["target"] == "nv")]
        for name, table in members.items()
    }
    with pytest.raises(DataError, match=r"all images of part val are of one class.*log_loss"):
        table_of(some, method=method, metric="macro_auroc")
    assert sum(blend(some, method=method).weights.values()) == pytest.approx(1)


def test_the_verb_takes_folders_and_a_recipe(members, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("good", "fair"):
        run_folder(tmp_path / "runs" / name, members[name])
    words = ["blend", "runs/good", "runs/fair", "--method", "greedy", "--out", "runs/both"]
    assert main([*words, "--metric", "balanced_accuracy"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Ensemble: greedy" in out
    assert "for balanced_accuracy; test had no say" in out
    assert main(["evaluate", "runs/both", "--replicates", "50"]) == 0
    (tmp_path / "ensemble.yaml").write_text("blend: {method: mean, members: [good, fair]}\n")
    assert main(["blend", "ensemble.yaml", "--runs", "runs", "--out", "mean.csv"]) == 0
    pd.testing.assert_frame_equal(
        pd.read_csv("mean.csv"), table_of([members["good"], members["fair"]]), check_exact=True
    )
    # flags win over the file
    assert main(["blend", "ensemble.yaml", "--method", "rank", "--out", "rank.csv"]) == 0
    assert json.loads((tmp_path / "rank.json").read_text())["method"] == "rank"
    text = "blend: {method: greedy, metric: accuracy, members: [good, fair]}\n"
    (tmp_path / "fitted.yaml").write_text(text)
    metrics = {"mean": "", "stacking": "log_loss", "greedy": "accuracy"}  # one of its own is kept
    for method, metric in metrics.items():
        assert main(["blend", "fitted.yaml", "--method", method, "--out", f"{method}.csv"]) == 0
        assert json.loads((tmp_path / f"{method}.json").read_text())["metric"] == metric
    capsys.readouterr()
    assert main(["blend", "ensemble.yaml", "--runs", "elsewhere", "--out", "x.csv"]) == 2
    assert "2 of 2 members are not there" in capsys.readouterr().err


def test_every_blend_recipe_names_members_that_have_a_recipe():
    recipes = Path(__file__).parents[3] / "recipes"
    found = [path for path in recipes.glob("*.yaml") if "\nblend:" in path.read_text()]
    assert found
    for path in found:
        for name in BlendRecipe.load(path).members:
            assert (recipes / f"{name}.yaml").is_file(), f"{path.name} names {name}"


def test_a_blend_recipe_names_all_its_faults(tmp_path):
    path = tmp_path / "ensemble.yaml"
    path.write_text("blend: {method: median, members: [a, a], weigths: 1}\nmodel: x\n")
    with pytest.raises(SettingsError) as error:
        BlendRecipe.load(path)
    for words in ("'median' is not one of", "weigths: no such", "model: no setting"):
        assert words in str(error.value)
    path.write_text("blend: {members: [a, b, a]}\n")
    with pytest.raises(SettingsError, match="a stands there more than once"):
        BlendRecipe.load(path)
    path.write_text("{}")
    with pytest.raises(SettingsError, match="names no run folder"):
        BlendRecipe.load(path)
