"""The sources' mistakes M1 to M25, each refused, impossible or warned about.

Those that belong to one room are tested there, under their number; the last test here counts them.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.data.audit.audit import audit
from lesionlab.data.splits import Split
from lesionlab.errors import FindingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.recipe.schema import Recipe
from lesionlab.training import datasets
from lesionlab.training.train import train

TINY = Recipe().but(
    {
        "images.size": [32, 32],
        "model.name": "cnn_64",
        "phases.0.epochs": 1,
        "batch": 16,
        "average.kind": "none",
    }
)


def table_of(truth, predicted, classes=("akiec", "mel", "nv")):
    """A predictions table that decides as told, every image a lesion of its own."""
    table = pd.DataFrame({"image_id": [f"i{n}" for n in range(len(truth))], "target": truth})
    table["lesion_id"] = "L" + table["image_id"]
    for name in classes:
        table[f"p_{name}"] = [
            0.8 if each == name else 0.2 / (len(classes) - 1) for each in predicted
        ]
    return table


def test_m1_a_split_by_image_is_refused_and_ours_shares_no_lesion(drawn, tmp_path):
    data, by_lesion = drawn
    rng = np.random.default_rng(0)
    table = by_lesion.table.copy()
    table["fold_0"] = rng.choice(["train", "val", "test"], len(table), p=[0.72, 0.18, 0.1])
    by_image = Split(table, "lesion_id", "own", -1, data.fingerprint)
    with pytest.raises(FindingsError, match="group_crosses"):
        train(TINY, data, by_image, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    joined = data.table.assign(part=data.table["image_id"].map(by_lesion.parts()))
    assert joined.groupby("lesion_id")["part"].nunique().max() == 1
    assert data.table["lesion_id"].duplicated().any()  # else this would prove nothing


def test_m2_copies_that_somebody_made_before_are_found(ham_copy):
    """A file copied under another id, as augmentation before the split makes them."""
    table = pd.read_csv(ham_copy / "HAM10000_metadata.csv")
    row = table.iloc[[0]].assign(image_id="ISIC_9999999", lesion_id="HAM_9999999")
    pd.concat([table, row]).to_csv(ham_copy / "HAM10000_metadata.csv", index=False)
    source = next(ham_copy.rglob(f"{table['image_id'][0]}.jpg"))
    source.with_name("ISIC_9999999.jpg").write_bytes(source.read_bytes())
    found = audit(ham_copy)
    assert "ISIC_9999999" in " ".join(found.faults["image_id"] + found.faults["detail"])


def test_m10_balanced_accuracy_is_mean_recall_and_precision_has_its_own_name():
    truth = ["akiec"] * 2 + ["mel"] * 4 + ["nv"] * 10
    said = ["akiec", "nv"] + ["mel"] * 3 + ["nv"] + ["nv"] * 8 + ["mel"] * 2
    result = evaluate(table_of(truth, said), replicates=0)
    recall = np.mean([1 / 2, 3 / 4, 8 / 10])
    precision = np.mean([1 / 1, 3 / 5, 8 / 10])
    assert result["balanced_accuracy"].value == pytest.approx(recall)
    assert result["macro_precision"].value == pytest.approx(precision)
    assert abs(recall - precision) > 0.1


def test_m13_a_class_that_is_never_recognised_is_told_beside_any_accuracy(tmp_path, capsys):
    truth = ["nv"] * 80 + ["mel"] * 15 + ["akiec"] * 5
    result = evaluate(
        table := table_of(truth, ["nv"] * 80 + ["mel"] * 15 + ["nv"] * 5), replicates=0
    )
    assert result["accuracy"].value == 0.95
    assert any("Recall of akiec is 0: none of its 5 images" in line for line in result.warnings)
    table.to_csv(tmp_path / "p.csv", index=False)
    assert main(["evaluate", str(tmp_path / "p.csv")]) == 0
    assert "Recall of akiec is 0" in " ".join(capsys.readouterr().out.split())


def test_m15_the_sampler_reaches_the_training_and_only_the_training(drawn, tmp_path, monkeypatch):
    data, by_lesion = drawn
    shown = []
    real = datasets.TrainingImages.__getitem__

    def spy(self, places):
        batch = real(self, places)
        shown.append(batch["target"].numpy())
        return batch

    monkeypatch.setattr(datasets.TrainingImages, "__getitem__", spy)
    seen = {}
    for kind in ("natural", "balanced"):
        shown.clear()
        recipe = TINY.but({"sampling.kind": kind, "phases.0.epochs": 4})
        run = train(recipe, data, by_lesion, out=tmp_path / kind)
        seen[kind] = np.bincount(np.concatenate(shown), minlength=7) / len(np.concatenate(shown))
        val = run.predictions.query("part == 'val'")
        assert len(val) == (by_lesion.parts() == "val").sum()
    classes = list(data.classes)
    parts = data.table["target"][data.table["image_id"].map(by_lesion.parts()) == "train"]
    share = parts.value_counts(normalize=True)[classes].to_numpy()
    np.testing.assert_allclose(seen["natural"], share, atol=1e-12)
    assert np.abs(seen["balanced"] - 1 / 7).max() < 0.08 < np.abs(share - 1 / 7).max()


def test_m21_balanced_accuracy_comes_first_and_accuracy_never_alone(tmp_path, capsys):
    truth = ["nv"] * 67 + ["mel"] * 22 + ["akiec"] * 11
    table = table_of(truth, ["nv"] * 70 + ["mel"] * 20 + ["akiec"] * 10)
    assert next(iter(evaluate(table, replicates=0))) == "balanced_accuracy"
    table.to_csv(tmp_path / "p.csv", index=False)
    assert main(["evaluate", str(tmp_path / "p.csv"), "--replicates", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    order = [
        next(n for n, line in enumerate(lines) if line.lstrip("│ ").startswith(words))
        for words in ("balanced accuracy", "macro AUROC", "accuracy  ", "accuracy of always")
    ]
    assert order == sorted(order)


def test_m23_a_run_tells_its_own_settings_whatever_became_of_the_file(drawn, tmp_path):
    path = tmp_path / "recipe.yaml"
    TINY.but({"phases.0.optim.lr": 0.003}).save(path)
    run = train(Recipe.load(path), *drawn, out=tmp_path / "run")
    TINY.but({"phases.0.optim.lr": 0.01, "phases.0.epochs": 35}).save(path)  # as C's report has it
    assert main(["report", str(run.folder), "--out", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "lr: 0.003" in page
    assert "lr: 0.01" not in page
    assert run.info["epochs"] == 1


def test_every_mistake_has_a_test_of_its_number():
    """A test for each of M1 to M25, under a name that says which."""
    text = "\n".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    found = {int(number) for number in re.findall(r"def test_m(\d+)_", text)}
    assert found >= set(range(1, 26)), sorted(set(range(1, 26)) - found)
