"""A model that answers one class is never called good: source D's two, and a run of our own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesionlab.cli.app import main
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.files import write_csv

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
COLLAPSED = [("bkl", 0.1098, 220), ("nv", 0.6695, 1341)]
"""D's EfficientNetB0 and its ResNet50 on 350 images: the class, the accuracy, the images right."""


@pytest.fixture(scope="module")
def held_out(real_ham):
    """D's 2003 test images: a fifth of the metadata, stratified by diagnosis, seed 42."""
    from sklearn.model_selection import train_test_split

    metadata = pd.read_csv(real_ham / "HAM10000_metadata.csv")
    _, test = train_test_split(metadata, test_size=0.2, stratify=metadata["dx"], random_state=42)
    assert len(test) == 2003
    return test


def collapsed(metadata, label):
    """What a network that always answers `label` says, hardly surer than chance."""
    table = metadata[["image_id", "lesion_id"]].assign(target=metadata["dx"])
    for name in CLASSES:
        table[f"p_{name}"] = 0.16 if name == label else 0.14
    return table


@pytest.mark.parametrize(("label", "accuracy", "right"), COLLAPSED)
def test_a_collapsed_model_of_source_d_is_warned_of_everywhere(
    held_out, tmp_path, capsys, label, accuracy, right
):
    table = collapsed(held_out, label)
    result = evaluate(table, replicates=100)
    assert result["accuracy"].value == right / 2003
    assert round(result["accuracy"].value, 4) == accuracy
    assert result["balanced_accuracy"].value == pytest.approx(1 / 7)
    warning = f"100.0% of the predictions are {label}: the model hardly tells the classes apart"
    assert any(text.startswith(warning) for text in result.warnings)
    for name in set(CLASSES) - {label}:
        assert any(text.startswith(f"Recall of {name} is 0") for text in result.warnings)
    write_csv(tmp_path / "table.csv", table)

    assert main(["evaluate", str(tmp_path / "table.csv"), "--replicates", "100"]) == 0
    shown = capsys.readouterr().out
    assert f"WARNING: {warning}" in shown
    assert shown.rstrip().splitlines()[-1].startswith("WARNING: ")  # it ends in the warnings
    assert f"{accuracy:.3f}" in shown

    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "table.csv"), "--out", str(page)]) == 0
    assert f"WARNING: {warning}" in capsys.readouterr().out
    assert warning in page.read_text(encoding="utf-8")


def test_a_model_that_tells_classes_apart_is_not(held_out):
    table = collapsed(held_out, "nv")
    columns = [f"p_{name}" for name in CLASSES]
    right = np.random.default_rng(0).random(len(table)) < 0.5
    hot = (table["target"].to_numpy()[:, None] == np.array(CLASSES)).astype(float)
    table.loc[right, columns] = hot[right]
    result = evaluate(table, replicates=0)
    assert not any("hardly tells" in text for text in result.warnings)


def test_a_training_that_collapses_ends_in_the_warning(ham_copy, tmp_path, monkeypatch, capsys):
    for number, path in enumerate(sorted(ham_copy.rglob("*.jpg"))):
        picture = Image.new("RGB", (80, 60), (120, 90, 80))  # nothing to tell classes by
        picture.putpixel((number % 80, number // 80), (0, 0, 0))  # nor one file under two ids
        picture.save(path)
    monkeypatch.chdir(tmp_path)
    assert main(["catalogue", str(ham_copy), "--out", "data"]) == 0
    assert main(["split", "data", "--kind", "holdout", "--shares", "0.6", "0.2", "0.2"]) == 0
    (tmp_path / "tiny.yaml").write_text(
        "images: {size: [32, 32]}\nmodel: {name: test_efficientnet}\nphases: [{epochs: 1}]\n"
    )
    capsys.readouterr()
    assert main(["train", "tiny.yaml", "--data", "data", "--out", "run"]) == 0
    shown = capsys.readouterr().out
    assert "WARNING: 100.0% of the predictions are" in shown
    assert shown.rstrip().splitlines()[-1].startswith("WARNING: ")
    assert main(["report", "run", "--out", "report.html"]) == 0
    assert "WARNING: 100.0% of the predictions are" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "100.0% of the predictions are" in page
