"""The default model: what its card says follows from the predictions that are shipped with it."""

import gzip
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import lesionlab as ll
from lesionlab.prediction.bundle import default_path
from lesionlab.progress import silent
from lesionlab.tables import check_predictions

SHIPPED = Path(str(files("lesionlab"))) / "shipped"


@pytest.fixture(scope="module")
def bundle():
    return ll.Bundle.open()


def _table(name):
    with gzip.open(SHIPPED / name, "rt", encoding="utf-8") as handle:
        return check_predictions(pd.read_csv(handle, dtype={"lesion_id": str}))


@pytest.fixture(scope="module")
def predictions():
    return _table("predictions.csv.gz")


@pytest.fixture(scope="module")
def alone():
    return _table("predictions_from_the_picture_alone.csv.gz")


def test_it_is_small_calibrated_and_passed_its_gates(bundle):
    assert default_path().stat().st_size <= 8_000_000
    assert bundle.precision == "fp16"
    gates = bundle.info["gates"]
    assert all(each["probabilities"] <= 1e-4 and each["maps"] <= 1e-4 for each in gates["parity"])
    assert gates["fp16"]["agreement"] >= 0.98
    assert gates["fp16"]["fall"] <= 0.01
    assert gates["fp16"]["pictures"] >= 2000
    assert bundle.detector is not None
    assert bundle.map_grid is not None
    assert bundle.scaling.temperature != 1


def test_its_licence_is_that_of_the_images(bundle):
    assert bundle.licence == "CC-BY-NC-4.0"
    assert "CC-BY-NC-4.0" in (SHIPPED / "LICENSE").read_text(encoding="utf-8")


def test_the_figures_of_its_card_follow_from_the_predictions(bundle, predictions):
    told = bundle.card["evaluation"]
    again = json.loads(json.dumps(ll.evaluate(predictions).to_json()))
    compared = 0
    for name, each in told["estimates"].items():
        if "_at_" in name or "_at/" in name or name not in again["estimates"]:
            continue  # thresholds come from val
        for key in ("value", "low", "high"):
            if each[key] is None:
                assert again["estimates"][name][key] is None
            else:
                assert again["estimates"][name][key] == pytest.approx(each[key], abs=1e-6), name
        compared += 1
    assert compared >= 30
    assert "balanced_accuracy" in told["estimates"]
    assert "macro_auroc" in told["estimates"]


def test_what_age_sex_and_site_are_worth_follows_from_both_tables(bundle, predictions, alone):
    assert list(alone["image_id"]) == list(predictions["image_id"])
    worth = bundle.info["metadata_worth"]
    for name in ("balanced_accuracy", "macro_auroc"):
        for which, table in (("known", predictions), ("unknown", alone)):
            value = ll.evaluate(table, replicates=0)[name].value
            assert worth[name][which]["value"] == pytest.approx(value, abs=1e-6)
    assert worth["balanced_accuracy"]["unknown"]["value"] >= 0.72  # the picture alone is enough
    assert worth["text"] in bundle.card_html


def test_photographs_of_other_things_are_called_unlike(bundle, photographs):
    reasons = ll.Predictor(bundle)(sorted(photographs.glob("*.jpg")))["reason"]
    assert len(reasons) == 60
    assert (reasons == "unlike").sum() >= 57


def test_what_its_referral_promises_and_did_follows_from_the_predictions(
    bundle, predictions, alone
):
    assert not bundle.referral.refers_all
    assert [each.miss for each in bundle.referral.limits] == [0.05, 0.03]
    pytest.importorskip("torch")
    from lesionlab.deployment import export

    known = export._Answers.of(
        [np.log(each.filter(regex="^p_").to_numpy()) for each in (predictions, alone)],
        predictions,
        bundle.classes,
        predictions["fold"].to_numpy(np.intp),
    )
    asked = export._Limits(bundle.referral, 0.05, 0.03, None)
    again = export._fit_rule(known, asked)
    for ours, theirs in zip(again.limits, bundle.referral.limits, strict=True):
        assert ours.threshold == pytest.approx(theirs.threshold, abs=2e-6)
        assert ours.lesions == theirs.lesions > 600
    found = export._measure(again, known, asked, predictions, silent)
    for told, figure, limit in (
        (bundle.measured["malignant"]["missed"], "missed", 0.05),
        (bundle.measured["melanoma"]["missed"], "missed_melanoma", 0.03),
    ):
        assert told == pytest.approx(found[figure].value, abs=1e-9)
        assert told <= limit
        assert (
            told < found[f"sets_{figure}"].value / 5
        )  # a rule by the size of sets misses far more
    assert bundle.measured["benign"]["referred"] == pytest.approx(found["referred"].value, abs=1e-9)
    rows = bundle.card["tables"]["referral"]["rows"]
    assert rows[0][4] == pytest.approx(found["missed"].value, abs=1e-9)
    assert bundle.measured["text"] == bundle.card["facts"]["answer.referral"]["text"]
    assert bundle.measured["text"] in bundle.card_html
    assert bundle.quality["mel"].text in bundle.card_html


def test_it_never_saw_what_it_was_fitted_on(bundle):
    saw = bundle.info["saw"]
    assert saw["train"]["images"] > saw["val"]["images"] > 0


def test_its_sets_and_limits_hold_for_its_own_weights_on_val(bundle):
    """They were fitted on answers of other networks; the bundle keeps its own about val."""
    kept = bundle.reference
    assert len(kept.targets) == bundle.info["saw"]["val"]["images"]
    for logs in kept.logs:
        probabilities = np.exp(bundle.scaling.logits(logs))
        inside = bundle.sets.inside(probabilities)[np.arange(len(logs)), kept.targets]
        assert 0.88 <= inside.mean() <= 0.95
        malignant = np.isin(
            kept.targets, [bundle.classes.index(x) for x in ("akiec", "bcc", "mel")]
        )
        assert (~bundle.referral.refers(probabilities))[malignant].mean() <= 0.05
    assert 0.01 < (kept.novelty > bundle.detector.threshold).mean() < 0.05


def test_no_age_and_no_site_of_few_images_makes_melanoma_unlikely(bundle):
    """Nobody in HAM10000 is over 85, and none of its acral and genital images is malignant."""
    network = ll.Predictor(bundle)
    pixels = np.full((1, *bundle.images.size, 3), 128, np.uint8)

    def answered(**known):
        return network.answers(pixels, pd.DataFrame([known])).logits[0]

    assert np.array_equal(answered(age=95.0), answered(age=85.0))
    bare = answered()
    for site in ("acral", "genital"):
        moved = answered(site=site) - bare
        assert moved[bundle.classes.index("mel")] > np.log(0.75)


def test_one_image_is_answered_without_torch(tmp_path):
    code = f"""
import sys
sys.modules["torch"] = None
import numpy as np
from PIL import Image
rng = np.random.default_rng(0)
noise = rng.integers(0, 256, (450, 600, 3), dtype=np.uint8)
Image.fromarray(noise).save({str(tmp_path / "a.png")!r})
import lesionlab as ll
table = ll.Predictor()([{str(tmp_path / "a.png")!r}])
assert abs(table.filter(regex="^p_").to_numpy().sum() - 1) < 1e-9
print(table["reason"][0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "unlike"  # noise is no dermatoscopic image


def test_real_images_get_about_the_answers_of_the_predictions(real, bundle, predictions):
    drawn = predictions.sample(200, random_state=0)
    known = real.table.set_index("image_id").loc[drawn["image_id"]]
    paths = [real.root / each for each in known["path"]]
    table = ll.Predictor(bundle)(paths, known.reset_index()).set_index("image_id")
    columns = list(drawn.filter(regex="^p_").columns)
    probabilities = table.loc[drawn["image_id"], columns].to_numpy()
    same = probabilities.argmax(axis=1) == drawn[columns].to_numpy().argmax(axis=1)
    assert np.mean(same) >= 0.7


def test_a_picture_without_colour_is_called_unlike(real, tmp_path):
    path = real.root / real.table["path"].iloc[0]
    grey = tmp_path / "grey.jpg"
    Image.open(path).convert("L").save(grey)
    table = ll.Predictor()([path, grey])
    assert table["reason"].tolist()[1] == "unlike"
    assert table["reason"].tolist()[0] != "unlike"
