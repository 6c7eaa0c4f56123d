"""The leak experiment: its two arms differ in the leak and in nothing else."""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
from lesionlab.errors import DataError, FindingsError, SettingsError
from lesionlab.recipe.schema import Recipe

FILE = Path(__file__).resolve().parents[1] / "tools" / "leak.py"
_spec = importlib.util.spec_from_file_location("leak", FILE)
leak = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(leak)


@pytest.fixture(scope="module")
def data():
    """Lesions of one to four images in three classes, without files."""
    rng = np.random.default_rng(0)
    rows = []
    for lesion in range(240):
        label = ("bcc", "mel", "nv")[lesion % 3 if lesion < 180 else 2]
        rows += [(f"L{lesion:03d}", label)] * int(rng.choice(4, p=[0.6, 0.25, 0.1, 0.05]) + 1)
    table = pd.DataFrame(rows, columns=["lesion_id", "target"])
    order = rng.permutation(len(table))
    table = table.iloc[order].reset_index(drop=True)
    table.insert(0, "image_id", [f"I{number:04d}" for number in range(len(table))])
    table = table.assign(patient_id="", sha256=table["image_id"])
    return Catalogue(table, ("bcc", "mel", "nv"), Path())


@pytest.fixture(scope="module")
def plan(data):
    return leak.design(data, seed=3)


def of(plan, arm, part):
    return plan[plan[arm] == part]


def test_both_arms_train_on_as_many_images_and_lesions_of_each_class(plan):
    sizes = {}
    for arm in leak.ARMS:
        rows = of(plan, arm, "train")
        images = rows["target"].value_counts().to_dict()
        per_lesion = rows.groupby(["target", "lesion_id"]).size()
        sizes[arm] = (
            images,
            Counter(zip(per_lesion.index.get_level_values(0), per_lesion, strict=True)),
        )
    assert sizes["clean"] == sizes["leaky"]
    assert len(of(plan, "clean", "train")) > 100


def test_the_clean_arm_has_seen_no_tested_lesion(plan):
    tested = set(of(plan, "clean", "test")["lesion_id"])
    for part in ("train", "val"):
        assert not tested & set(of(plan, "clean", part)["lesion_id"])


def test_the_leaky_arm_trains_on_every_sibling_and_the_plan_counts_them(plan):
    leaked = of(plan, "leaky", "train").groupby("lesion_id").size()
    tested = of(plan, "leaky", "test").set_index("lesion_id")["siblings"]
    counted = leaked.reindex(tested.index, fill_value=0)
    assert (counted == tested).all()
    assert tested.sum() > 20
    others = plan["lesion_id"].map(plan.groupby("lesion_id").size())[plan["clean"] == "test"] - 1
    assert (others == of(plan, "clean", "test")["siblings"]).all()
    new = set(of(plan, "leaky", "train")["image_id"]) - set(of(plan, "clean", "train")["image_id"])
    assert set(plan.set_index("image_id").loc[sorted(new), "lesion_id"]) <= set(tested.index)


def test_test_and_val_are_the_same_in_both_arms_and_for_every_seed(data, plan):
    other = leak.design(data, seed=4)
    for part in ("test", "val"):
        first = list(of(plan, "clean", part)["image_id"])
        assert first == list(of(plan, "leaky", part)["image_id"])
        assert first == list(of(other, "clean", part)["image_id"])
    assert plan["siblings"].equals(other["siblings"])
    assert set(of(plan, "clean", "train")["image_id"]) != set(
        of(other, "clean", "train")["image_id"]
    )
    assert leak.design(data, seed=3).equals(plan)
    tested = of(plan, "clean", "test")
    assert not tested["lesion_id"].duplicated().any()
    assert not set(tested["lesion_id"]) & set(of(plan, "leaky", "val")["lesion_id"])


def test_a_class_with_too_few_partners_leaks_less_and_stays_even():
    rows = [(name, "mel") for name in "AAAABBBCCCDDD"]
    rows += [(f"N{number // 2}", "nv") for number in range(40)]
    table = pd.DataFrame(rows, columns=["lesion_id", "target"])
    table.insert(0, "image_id", [f"I{number:03d}" for number in range(len(table))])
    data = Catalogue(table.assign(patient_id="", sha256=table["image_id"]), ("mel", "nv"), Path())
    plan = leak.design(data, shares=(0.25, 0.25, 0.5))
    tested = of(plan, "clean", "test")
    siblings = tested.groupby("target")["siblings"].agg(sorted)
    assert siblings["mel"] == [0, 2]  # A alone is in train, for two tested lesions of three images
    assert siblings["nv"] == [0] * 5 + [1] * 5
    counts = [of(plan, arm, "train")["target"].value_counts().to_dict() for arm in leak.ARMS]
    assert counts[0] == counts[1] == {"nv": 5, "mel": 2}


def test_the_arms_are_catalogues_and_splits_that_train_accepts(data, plan):
    images, parts = leak.arm(data, plan, "clean")
    parts.check(images)
    assert set(images.table["lesion_id"]) > {"L000"}
    images, parts = leak.arm(data, plan, "leaky")
    parts.check(images)
    assert not images.table["lesion_id"].any()
    assert "LEAKY" in images.notes[-1]
    assert list(images.table["image_id"]) == list(plan["image_id"][plan["leaky"] != ""])
    # with its lesion ids the same split is refused, as any user's would be
    named = data.table[data.table["image_id"].isin(images.table["image_id"])]
    named = replace(data, table=named.reset_index(drop=True))
    with pytest.raises(FindingsError, match="in test and train"):
        replace(parts, catalogue="").check(named)


def test_no_siblings_no_experiment(data):
    table = data.table.drop_duplicates("lesion_id").reset_index(drop=True)
    with pytest.raises(DataError, match="nothing can leak"):
        leak.design(replace(data, table=table))


def answers(plan, right):
    """Predictions of the tested images; `right` says which of them are right."""
    rows = of(plan, "clean", "test")
    table = rows[["image_id", "target"]].assign(lesion_id="", part="test")
    wrong = rows["target"].map({"bcc": "mel", "mel": "nv", "nv": "bcc"})
    said = rows["target"].where(right, wrong)
    for label in ("bcc", "mel", "nv"):
        table[f"p_{label}"] = np.where(said == label, 0.8, 0.1)
    return table.sample(frac=1, random_state=1)


def test_the_difference_is_that_of_the_means_with_paired_weights(plan):
    rows = of(plan, "clean", "test")
    rng = np.random.default_rng(5)
    base = pd.Series(rng.random(len(rows)) < 0.5, index=rows.index)
    helped = rows["siblings"] > 0  # the leak makes every image with a sibling right
    tables = {
        (0, "clean"): answers(plan, base),
        (0, "leaky"): answers(plan, base | helped),
        (1, "clean"): answers(plan, ~base),
        (1, "leaky"): answers(plan, ~base | helped),
    }
    result, by_seed = leak.scored(tables, plan, replicates=300)
    accuracy = result[result["metric"] == "accuracy"].set_index("scope")
    for scope, mask in (("all test images", helped | True), ("with siblings", helped)):
        row = accuracy.loc[scope]
        means = [(base | helped)[mask].mean() - base[mask].mean()]
        means.append((~base | helped)[mask].mean() - (~base)[mask].mean())
        assert row["difference"] == pytest.approx(np.mean(means))
        assert row["difference"] == pytest.approx(row["leaky"] - row["clean"])
        assert [row["lowest_seed"], row["highest_seed"]] == pytest.approx(sorted(means))
        assert row["images"] == row["lesions"] == mask.sum()
        assert row["low"] <= row["difference"] <= row["high"]
    # every image with a sibling gains 1/2 in each replicate: paired, nothing is left to vary
    assert accuracy.loc["with siblings", "low"] == pytest.approx(0.5)
    assert accuracy.loc["with siblings", "high"] == pytest.approx(0.5)
    control = result[result["scope"].str.startswith("without")]
    assert (control["difference"] == 0).all()
    assert (control["low"] == 0).all()
    assert len(by_seed) == 2 * len(result)
    assert by_seed["leaky"].max() == 1.0


def test_the_experiment_runs_and_goes_on(tmp_path):
    from lesionlab.data.synthetic.dataset import synthetic
    from lesionlab.run import Run

    folder = synthetic(tmp_path / "drawn", lesions=120, size=(48, 64), seed=1)
    recipe = Recipe().but(
        {
            "images.size": [32, 40],
            "model.name": "test_efficientnet",
            "phases.0.epochs": 1,
            "batch": 32,
        }
    )
    out = tmp_path / "leak"
    result = leak.run(folder, recipe, out, seeds=1, replicates=20, device="cpu")
    assert list(result["metric"].unique()) == list(leak.METRICS)
    clean, leaky = (Run.open(out / "seed_0" / arm) for arm in leak.ARMS)
    assert clean.complete
    assert leaky.complete
    assert leaky.info["notes"][-1] == leak.NOTES["leaky"]
    assert clean.info["identity"]["split"] != leaky.info["identity"]["split"]
    assert clean.predictions["lesion_id"].all()
    text = (out / "leak.md").read_text()
    assert "| with siblings |" in text
    assert "macro AUROC" in text
    kept = (out / "seed_0" / "leaky" / "predictions.csv").stat().st_mtime_ns
    again = leak.run(folder, recipe, out, seeds=1, replicates=20, device="cpu")
    pd.testing.assert_frame_equal(again, result)
    assert (out / "seed_0" / "leaky" / "predictions.csv").stat().st_mtime_ns == kept
    # a catalogue serves as well as a folder of images
    data = catalogue(out / "catalogue")
    assert leak.design(data)["siblings"].sum() > 0
    with pytest.raises(SettingsError, match="--seeds is 0"):
        leak.run(out / "catalogue", recipe, out, seeds=0)


def test_a_partner_has_enough_images_or_the_most_there_are():
    assert leak._nearest([1, 5, 3, 4], 3) == 3
    assert leak._nearest([1, 2], 3) == 2
    assert leak._nearest([], 3) == 0
