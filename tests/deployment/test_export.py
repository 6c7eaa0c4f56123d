"""From a run to a bundle: the same answers, fitted on val, through gates."""

import json

import numpy as np
import onnx
import pandas as pd
import pytest

import lesionlab as ll
from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
from lesionlab.data.splits import split
from lesionlab.deployment import export as module
from lesionlab.deployment import export_checks, quantisation
from lesionlab.deployment.export import export
from lesionlab.errors import BundleError, RunError
from lesionlab.evaluation.calibration.scaling import fit
from lesionlab.evaluation.conformal.scores import quantile
from lesionlab.evaluation.intervals.bootstrap import lesion_codes
from lesionlab.evaluation.triage.referral_cost import measure_referral
from lesionlab.evaluation.triage.risk_control import fit_referral
from lesionlab.numerics import log_softmax, softmax
from lesionlab.prediction.predictor import Predictor, session_of
from lesionlab.recipe.schema import Recipe
from lesionlab.training.train import train

TINY = Recipe().but(
    {
        "images.size": [32, 48],
        "images.colour_constancy": "grey_world",
        "model.name": "test_resnet",
        "model.fusion": {"kind": "concatenation", "fields": ["age", "sex"], "width": 4},
        "phases.0.epochs": 6,
        "phases.0.optim": {"kind": "adam", "lr": 3e-3},
        "batch": 16,
        "average.kind": "none",
    }
)


@pytest.fixture(scope="module")
def runs(ham, tmp_path_factory):
    """Two finished runs with the same split."""
    home = tmp_path_factory.mktemp("shipped")
    data = catalogue(ham, out=home / "catalogue")
    parts = split(data, kind="holdout", shares=(0.4, 0.4, 0.2))
    return [train(TINY.but({"seed": k}), data, parts, out=home / f"run{k}") for k in (0, 1)]


@pytest.fixture(scope="module")
def bundle(runs, tmp_path_factory):
    return export(runs[0], tmp_path_factory.mktemp("made") / "one.bundle")


def _with_negated_logits(graph):
    """An ONNX graph that answers with the least likely class."""
    model = onnx.load_from_string(graph)
    for node in model.graph.node:
        node.output[:] = ["told" if name == "logits" else name for name in node.output]
        node.input[:] = ["told" if name == "logits" else name for name in node.input]
    model.graph.node.append(onnx.helper.make_node("Neg", ["told"], ["logits"]))
    return model.SerializeToString()


def _pixels(run, bundle, part):
    data = Catalogue.open(run.info["catalogue"])
    table = data.table.set_index("image_id")
    rows = run.predictions[run.predictions["part"] == part]
    predictor = Predictor(bundle)
    pixels = [predictor.read(data.root / path) for path in table.loc[rows["image_id"], "path"]]
    return predictor, rows, np.stack(pixels), table.loc[rows["image_id"]].reset_index()


def test_a_bundle_answers_as_its_run_does(runs, bundle):
    predictor, rows, pixels, table = _pixels(runs[0], bundle, "test")
    found = predictor.answers(pixels, table, maps=True)
    right = rows.filter(regex="^logit_").to_numpy(float)
    np.testing.assert_allclose(found.logits, right, atol=1e-4)
    assert found.maps.shape[:2] == (len(rows), 7)
    assert bundle.fields == ("age", "sex")
    assert bundle.info["gates"]["parity"][0]["probabilities"] <= 1e-4
    without = predictor.answers(pixels)
    assert np.abs(without.logits - found.logits).max() > 1e-3


def test_what_is_fitted_is_fitted_on_val_alone(runs, bundle):
    predictor, rows, pixels, table = _pixels(runs[0], bundle, "val")
    found = predictor.answers(pixels, table)
    unknown = predictor.answers(pixels)
    places = np.array([found.classes.index(label) for label in rows["target"]])
    codes, count = lesion_codes(rows["lesion_id"].to_numpy(object))
    both = log_softmax(np.concatenate([found.logits, unknown.logits]))
    scaling, _ = fit(both, np.tile(places, 2), np.tile(codes, 2), found.classes)
    assert bundle.scaling.temperature == pytest.approx(scaling.temperature, rel=1e-3)
    own = 1 - found.probabilities[np.arange(len(rows)), places]
    own_unknown = 1 - unknown.probabilities[np.arange(len(rows)), places]
    each = np.arange(len(rows))  # the promise holds for lesions and for images
    widest = max(quantile(q, units, 0.1) for q in (own, own_unknown) for units in (codes, each))
    assert bundle.sets.quantiles[0] == pytest.approx(widest, abs=1e-6)
    kept = bundle.reference  # what `adapt` fits again on
    np.testing.assert_allclose(kept.alone, log_softmax(unknown.logits), atol=1e-4)
    np.testing.assert_allclose(kept.known, log_softmax(found.logits), atol=1e-4)
    np.testing.assert_allclose(kept.novelty, found.novelty, rtol=1e-3)
    assert (kept.targets == places).all()
    assert (lesion_codes(kept.lesions)[0] == lesion_codes(codes)[0]).all()
    assert bundle.sets.lesions == count
    assert (own <= bundle.sets.quantiles[0] + 1e-9).mean() >= 0.85
    share = found.unlike.mean()
    assert share <= 0.15
    for name, limit in bundle.thresholds.items():
        label = name.partition("/")[2]
        of_class = (rows["target"] == label).to_numpy()
        for answers in (found, unknown):
            reached = answers.probabilities[of_class, found.classes.index(label)] >= limit - 1e-9
            assert reached.mean() >= 0.9
    assert bundle.info["saw"]["val"]["images"] == len(rows)
    assert bundle.referral.refers_all  # so few lesions are not enough for 5 of 100
    assert "to calibrate on, and there were" in bundle.referral.promise
    assert set(found.reasons) <= {"unlike", "malignancy_likely", "malignancy_possible"}


def test_the_card_goes_in_and_is_of_the_run(runs, bundle):
    assert bundle.card["kind"] == "lesionlab card 1"
    assert "Model card: one" in bundle.card_html
    seen = bundle.info["saw"]["train"]
    assert f"trained on {seen['images']} images of {seen['lesions']} lesions" in bundle.card_html
    assert not any("other weights" in each for each in bundle.card["caveats"])
    assert bundle.licence == "CC-BY-NC-4.0"
    own = runs[0].info["identity"]
    assert bundle.info["members"][0]["identity"]["recipe"] == own["recipe"]
    assert bundle.info["members"][0]["started_from"] == runs[0].info["weights"]


def test_what_age_sex_and_site_are_worth_is_measured_on_the_same_images(runs, bundle, tmp_path):
    told = bundle.metadata_worth
    assert told["fields"] == ["age", "sex"]
    rows = runs[0].predictions.query("part == 'test'")
    assert told["images"] == len(rows)
    predictor, _, pixels, table = _pixels(runs[0], bundle, "test")
    without = rows.copy()
    columns = list(rows.filter(regex="^p_").columns)
    without[columns] = softmax(predictor.answers(pixels).logits)  # as the bundle answers
    for name in ("balanced_accuracy", "macro_auroc"):
        with_, bare = (ll.evaluate(each, replicates=0)[name].value for each in (rows, without))
        assert told[name]["known"]["value"] == pytest.approx(with_)
        assert told[name]["unknown"]["value"] == pytest.approx(bare, abs=1e-6)
        assert told[name]["difference"]["value"] == pytest.approx(with_ - bare, abs=1e-6)
    assert told["text"] == bundle.card["facts"]["answer.metadata"]["text"]
    assert told["text"] in bundle.card_html.replace("&#43;", "+")
    assert ll.card(runs[0]).facts["answer.metadata"].text == told["text"]
    table = tmp_path / "anybody.csv"  # of whom nothing is known: nothing is said
    rows.to_csv(table, index=False)
    assert not ll.card(table).facts["answer.metadata"].known


def test_the_card_says_how_many_scored_lesions_set_the_limits(runs, tmp_path):
    known = runs[1].predictions.query("part != 'train'").assign(part="test")
    bundle = export(runs[0], tmp_path / "b.bundle", card_of=runs[1], predictions=known)
    saw, scored = bundle.info["saw"], known["lesion_id"].nunique()
    said = f"Of the {scored} lesions that the rule of referral is scored on here, "
    assert any(
        each.startswith(f"{said}{saw['val']['lesions']} also set its limits")
        for each in bundle.card["caveats"]
    )


def test_with_folds_of_the_recipe_the_limits_are_fitted_out_of_fold(runs, tmp_path):
    data = Catalogue.open(runs[0].info["catalogue"])
    folds = ll.cross_validate(
        TINY.but({"phases.0.epochs": 1}), data, split(data, folds=2), out=tmp_path / "folds"
    )
    run = train(folds.recipe, data, split(data, kind="holdout"), out=tmp_path / "run")
    bundle = export(run, tmp_path / "b.bundle", card_of=folds, miss=0.3, miss_melanoma=0.4)
    size = {"part": "test", "images": len(data), "lesions": data.lesions, "folds": 2}
    assert bundle.info["referral"]["fitted_on"] == size
    assert bundle.sets.lesions == data.lesions
    assert "(cross-conformal)" in bundle.card["caveats"][0]
    assert any("each by a rule fitted on" in each for each in bundle.card["caveats"])
    scaled = bundle.scaling.apply(folds.predictions)
    own = scaled[[f"p_{label}" for label in bundle.classes]].to_numpy()
    at = np.array([bundle.classes.index(label) for label in scaled["target"]])
    inside = 1 - own[np.arange(len(at)), at] <= np.array(bundle.sets.quantiles)[at] + 1e-9
    assert inside.mean() >= 0.9
    [malignancy, _] = bundle.referral.limits
    cases = scaled[scaled["target"].isin(malignancy.classes)]
    assert malignancy.lesions == cases["lesion_id"].nunique()
    own = measure_referral(bundle.referral, scaled, replicates=0)
    assert bundle.measured["malignant"]["missed"] >= own["missed"].value  # by rules of other folds
    other = export(run, tmp_path / "c.bundle", card_of=runs[0])
    assert other.info["referral"]["fitted_on"]["part"] == "val"


def test_several_runs_share_their_answer(runs, tmp_path):
    both = export(runs, tmp_path / "both.bundle")
    predictor, _, pixels, table = _pixels(runs[0], both, "test")
    probabilities = []
    for run in runs:
        rows = run.predictions[run.predictions["part"] == "test"]
        probabilities.append(rows.filter(regex="^p_").to_numpy())
    found = np.exp(predictor.answers(pixels, table).logits)
    np.testing.assert_allclose(found, np.mean(probabilities, axis=0), atol=1e-4)


@pytest.mark.parametrize("views", [4, 8])
def test_views_are_averaged_in_the_graph(runs, tmp_path, views):
    bundle = export(runs[0], tmp_path / "views.bundle", views=views)
    predictor, rows, pixels, table = _pixels(runs[0], bundle, "test")
    right = ll.predict(model=runs[0], views=views).predictions
    right = right[right["part"] == "test"]
    assert (right["image_id"].to_numpy() == rows["image_id"].to_numpy()).all()
    found = np.exp(predictor.answers(pixels, table).logits)
    np.testing.assert_allclose(found, right.filter(regex="^p_").to_numpy(), atol=1e-4)
    told = bundle.card["evaluation"]["estimates"]["log_loss"]["value"]
    assert told == pytest.approx(ll.evaluate(right, replicates=0)["log_loss"].value)
    assert told != pytest.approx(ll.evaluate(rows, replicates=0)["log_loss"].value)
    assert any(f"{views} symmetries" in each for each in bundle.card["caveats"])


def test_int8_is_smaller_and_answers_alike(runs, tmp_path, monkeypatch):
    with pytest.raises(BundleError, match="2,000 held-out pictures"):
        export(runs[0], tmp_path / "few.bundle", precision="int8")
    assert not (tmp_path / "few.bundle").exists()
    monkeypatch.setattr(export_checks, "PICTURES", 20)
    monkeypatch.setattr(export_checks, "AGREEMENT", 0.5)
    monkeypatch.setattr(export_checks, "FALL", 0.5)
    small = export(runs[0], tmp_path / "small.bundle", precision="int8")
    told = small.info["gates"]["int8"]
    assert told["agreement"] >= 0.8
    assert -0.5 <= told["fall"] <= 0.5
    full = export(runs[0], tmp_path / "full.bundle")
    assert len(small.network(small.members[0])) < 0.7 * len(full.network(full.members[0]))
    half = export(runs[0], tmp_path / "half.bundle", precision="fp16")
    assert half.info["gates"]["fp16"]["agreement"] == 1
    assert len(half.network(half.members[0])) < len(full.network(full.members[0]))
    assert list(tmp_path.iterdir()) != []
    assert not [each for each in tmp_path.iterdir() if each.suffix != ".bundle"]


def test_int8_is_measured_on_the_calmer_half_where_that_agrees_better(runs, tmp_path, monkeypatch):
    sizes = []

    def poor_from_all(graph, given, stem, folder):
        """Agrees fully where not all images were measured, and less where they were."""
        session = session_of(graph, 1)
        logits = [session.run(["logits"], each)[0] for each in given]
        sizes.append(np.abs(np.concatenate(logits)).max(axis=1))
        return graph if len(sizes[-1]) < len(sizes[0]) else flipped

    full = export(runs[0], tmp_path / "full.bundle")
    flipped = _with_negated_logits(full.network(full.members[0]))
    monkeypatch.setattr(module, "quantised", poor_from_all)
    monkeypatch.setattr(export_checks, "PICTURES", 20)
    small = export(
        runs[0], tmp_path / "b.bundle", precision="int8"
    )  # its gates are as strict as ever
    assert small.network(small.members[0]) == full.network(full.members[0])
    assert len(sizes) == 2 * len(quantisation.STEMS)
    ordered = np.sort(sizes[0])
    calm = np.sort(sizes[-1])
    np.testing.assert_allclose(calm, ordered[: len(calm)], rtol=1e-5)
    assert len(ordered) / 2 <= len(calm) <= len(ordered) / 2 + 1


def test_few_images_are_compared_with_their_mirror_images_too(runs, tmp_path, monkeypatch):
    count = int((runs[0].predictions["part"] == "test").sum())
    monkeypatch.setattr(export_checks, "PICTURES", count + 1)
    monkeypatch.setattr(export_checks, "AGREEMENT", 0.5)
    monkeypatch.setattr(export_checks, "FALL", 0.5)
    told = export(runs[0], tmp_path / "b", precision="int8").info["gates"]["int8"]
    assert told["pictures"] == 2 * told["images"] == 2 * count


def test_a_gate_that_is_not_passed_stops_the_export(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(export_checks, "CLOSE", 0.0)
    with pytest.raises(BundleError, match="does not give what torch gives"):
        export(runs[0], tmp_path / "b.bundle")
    monkeypatch.undo()
    monkeypatch.setattr(export_checks, "PICTURES", 20)
    monkeypatch.setattr(export_checks, "AGREEMENT", 1.01)
    with pytest.raises(BundleError, match="Nothing was written"):
        export(runs[0], tmp_path / "b.bundle", precision="int8")
    assert list(tmp_path.iterdir()) == []


def test_int8_gate_measures_what_it_says():
    rng = np.random.default_rng(0)
    full = rng.normal(size=(2000, 3))
    targets = np.array(["a", "b", "c"])[full.argmax(axis=1)]
    table = pd.DataFrame(
        {
            "image_id": [f"i{n}" for n in range(2000)],
            "lesion_id": [f"l{n // 2}" for n in range(2000)],
            "target": targets,
        }
    )
    small = full.copy()
    wrong = np.flatnonzero(targets == "a")[:6]
    small[wrong] = [0, 1, 0]
    told = export_checks.smaller(full, small, table, ("a", "b", "c"), "test", "int8")
    assert told["agreement"] == 1 - 6 / 2000
    assert told["fall"] == pytest.approx(6 / (targets == "a").sum() / 3)
    small[:60] = -full[:60]
    with pytest.raises(BundleError, match="97"):
        export_checks.smaller(full, small, table, ("a", "b", "c"), "test", "int8")


def test_runs_that_do_not_belong_together_are_refused(runs, ham, tmp_path):
    data = catalogue(ham, out=tmp_path / "catalogue")
    other = train(
        TINY.but({"images.size": [48, 48], "phases.0.epochs": 1}),
        data,
        split(data, kind="holdout", shares=(0.4, 0.4, 0.2)),
        out=tmp_path / "other",
    )
    with pytest.raises(BundleError, match="input"):
        export([runs[0], other], tmp_path / "b")
    with pytest.raises(BundleError, match="at least one"):
        export([], tmp_path / "b")
    (other.folder / "predictions.csv").unlink()
    with pytest.raises(RunError, match="goes on where it stopped"):
        export(other, tmp_path / "b")


def test_a_val_part_too_small_for_a_detector_makes_a_bundle_without(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ALARMS", 0.01)
    told = []
    bundle = export(runs[0], tmp_path / "b.bundle", listen=told.append)
    assert bundle.detector is None
    assert any("will not notice" in getattr(each, "text", "") for each in told)
    noise = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), np.uint8)
    assert not Predictor(bundle).answers(noise).unlike.any()


def test_the_verb_fits_referral_to_its_promise(runs, tmp_path, capsys):
    out = tmp_path / "mole.bundle"
    words = ["export", str(runs[0].folder), "--out", str(out), "--name", "mole"]
    assert main([*words, "--miss", "0.4", "--miss-melanoma", "0.5"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "at most 40 of 100 malignant lesions and 50 of 100 melanomas are missed" in said
    predictor, rows, pixels, table = _pixels(runs[0], out, "val")
    bundle = predictor.bundle
    rules = [
        fit_referral(
            predictor.answers(pixels, metadata).probabilities,
            np.array([bundle.classes.index(label) for label in rows["target"]]),
            lesion_codes(rows["lesion_id"].to_numpy(object))[0],
            bundle.classes,
            miss=0.4,
            miss_melanoma=0.5,
        )
        for metadata in (table, None)
    ]
    for limit, *both in zip(bundle.referral.limits, *(rule.limits for rule in rules), strict=True):
        assert limit.threshold == pytest.approx(min(each.threshold for each in both), abs=1e-5)
        assert limit.lesions == both[0].lesions
    assert bundle.measured["malignant"]["lesions"] > 0
    assert bundle.measured["text"] in bundle.card_html
    assert "differ by" in said
    assert "Written" in said
    assert ll.Bundle.open(out).name == "mole"
    json.dumps(dict(ll.Bundle.open(out).info))


def test_the_licence_of_the_images_is_the_weights(bundle):
    assert module.RESEARCH in bundle.text("LICENSE")
