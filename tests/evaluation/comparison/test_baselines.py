"""The two baselines: what they may see, on which images they are fitted, and what they find."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import lesionlab as ll
from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.comparison import baselines as room
from lesionlab.evaluation.comparison.baselines import PICTURE, baselines
from lesionlab.evaluation.comparison.compare import compare
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.files import write_csv
from lesionlab.tables import CATALOGUE

CLASSES = ("mel", "nv")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """120 lesions, two pictures each: melanomas are blue, and seen in old men, most of the time."""
    home = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    lesion = np.repeat(np.arange(120), 2)
    mel = np.arange(120) % 3 == 0
    blue = np.where(rng.random(120) < 0.97, mel, ~mel)
    old = np.where(rng.random(120) < 0.75, mel, ~mel)
    table = pd.DataFrame(dict.fromkeys(CATALOGUE, ""), index=range(240))
    table["image_id"] = [f"I{i:03}" for i in range(240)]
    table["lesion_id"] = [f"L{i:03}" for i in lesion]
    table["target"] = np.where(mel[lesion], "mel", "nv")
    table["age"] = np.where(old[lesion], 80.0, 30.0)
    table.loc[:3, "age"] = np.nan
    table["sex"] = np.where(old[lesion], "male", "female")
    table["site"] = "back"
    table["dx_type"] = np.where(mel[lesion], "histo", "follow_up")
    table["path"] = table["image_id"] + ".png"
    table[["width", "height", "bytes"]] = 1.0
    for name, is_blue in zip(table["path"], blue[lesion], strict=True):
        pixels = rng.integers(0, 60, (20, 30, 3), dtype=np.uint8)
        pixels[..., 2 if is_blue else 0] += 150
        Image.fromarray(pixels).save(home / name)
    data = Catalogue(table, CLASSES, home, "drawn", home=home)
    chance = rng.random(240)
    predictions = table[["image_id", "lesion_id", "target"]].assign(
        part=np.array(["train", "train", "val", "test"])[lesion % 4], p_mel=chance, p_nv=1 - chance
    )
    return data, predictions


@pytest.fixture(scope="module")
def found(images):
    data, predictions = images
    return baselines(predictions, data, replicates=100)


def test_each_finds_what_it_may_see(found):
    figures = found.comparison.figures
    colours = figures["colours", "macro_auroc"]
    metadata = figures["metadata", "macro_auroc"]
    model = figures["model", "macro_auroc"]
    assert colours.value > 0.8 > metadata.value > 0.6
    assert model.value < 0.7
    gap = found.comparison.differences["model", "colours", "macro_auroc"]
    assert gap.value == pytest.approx(model.value - colours.value)
    assert gap.high < 0
    assert {key[:2] for key in found.comparison.differences} == {
        ("model", name) for name in found.tables
    }
    assert list(found.tables) == ["metadata", "metadata balanced", "colours", "colours balanced"]


def test_tables_are_predictions_like_any_other(found, images, tmp_path):
    _, predictions = images
    for table in found.tables.values():
        ours, theirs = (
            each.sort_values("image_id").reset_index(drop=True)[
                ["image_id", "lesion_id", "target", "part"]
            ]
            for each in (table, predictions)
        )
        pd.testing.assert_frame_equal(ours, theirs, check_dtype=False)
    files = found.save(tmp_path / "out")
    assert [file.name for file in files] == [
        "metadata.csv", "metadata_balanced.csv", "colours.csv", "colours_balanced.csv"
    ]  # fmt: skip
    alone = evaluate(files[2], replicates=0)
    assert alone["accuracy"].value == found.comparison.figures["colours", "accuracy"].value
    whole = compare([predictions, *files], replicates=20)
    assert len(whole.models) == 5


def test_nothing_of_val_or_test_is_fitted_on(images, found, monkeypatch):
    data, predictions = images
    turned = predictions.copy()
    test = turned["part"] == "test"
    turned.loc[test, "target"] = np.where(turned.loc[test, "target"] == "mel", "nv", "mel")
    again = baselines(turned, data, replicates=0)
    for name, table in found.tables.items():
        columns = ["p_mel", "p_nv"]
        assert (again.tables[name][columns] == table[columns]).to_numpy().all()
    val = turned["part"] == "val"
    shuffled = predictions.copy()
    shuffled.loc[val, "target"] = np.random.default_rng(0).permutation(shuffled.loc[val, "target"])
    other = baselines(shuffled, data, kinds=["colours"], replicates=0)
    assert other.strengths["colours"] < found.strengths["colours"]  # val chooses the strength alone
    twice = baselines(predictions, data, replicates=0)
    for name, table in found.tables.items():
        pd.testing.assert_frame_equal(twice.tables[name], table)
    monkeypatch.setattr(room, "STRENGTHS", (1.0,))  # nothing left to choose
    one, two = (baselines(each, data, replicates=0) for each in (predictions, shuffled))
    for name in one.tables:
        columns = ["p_mel", "p_nv"]
        assert (one.tables[name][columns] == two.tables[name][columns]).to_numpy().all()


def test_how_a_diagnosis_was_confirmed_is_never_seen(images, found):
    data, predictions = images
    other = data.table.assign(dx_type="", patient_id="p", source="elsewhere", bytes=7.0)
    blind = baselines(predictions, Catalogue(other, CLASSES, data.root, "drawn"), replicates=0)
    for name, table in found.tables.items():
        pd.testing.assert_frame_equal(blind.tables[name], table)
    assert found.comparison.figures["metadata", "accuracy"].value < 0.95  # dx_type would give 1


def test_balanced_is_the_same_with_classes_of_equal_share(images, found):
    _, predictions = images
    train = predictions[predictions["part"] == "train"]["target"].value_counts(normalize=True)
    plain, made = found.tables["colours"], found.tables["colours balanced"]
    odds = (plain["p_mel"] / train["mel"]) / (plain["p_nv"] / train["nv"])
    assert (made["p_mel"] / made["p_nv"]).to_numpy() == pytest.approx(odds.to_numpy())
    both = [found.comparison.figures[name, "balanced_accuracy"].value for name in found.tables]
    assert both[1] >= both[0]


def test_what_cannot_be_fitted_is_said(images):
    data, predictions = images
    with pytest.raises(DataError, match="no train part"):
        baselines(predictions[predictions["part"] == "test"], data)
    with pytest.raises(SettingsError, match="no baseline texture"):
        baselines(predictions, data, kinds=["texture"])
    with pytest.raises(DataError, match="--data FOLDER"):
        baselines(predictions)
    nobody = data.table.assign(age=np.nan, sex="", site="")
    bare = Catalogue(nobody, CLASSES, data.root, "drawn")
    with pytest.raises(DataError, match="knows no age, sex or site"):
        baselines(predictions, bare, kinds=["metadata"])
    heard = []
    only = baselines(predictions, bare, replicates=0, listen=heard.append)
    assert list(only.tables) == ["colours", "colours balanced"]
    assert any(text.startswith("metadata: none") for text in only.notes)
    alone = predictions.copy()
    alone.loc[alone["part"] == "train", "target"] = "nv"
    with pytest.raises(DataError, match="a single class"):
        baselines(alone, data, kinds=["metadata"])
    broken = data.table.assign(path="gone.png")
    with pytest.raises(DataError, match=r"gone.png does not exist.*audit"):
        baselines(predictions, Catalogue(broken, CLASSES, data.root, "drawn"))
    without = baselines(
        predictions[predictions["part"] != "val"], data, kinds=["metadata"], replicates=0
    )
    assert without.strengths == {"metadata": 1.0}
    assert "no val part" in without.notes[0]


def test_the_verb(ham, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ll.catalogue(ham, out="data")
    parts = ll.split(data, kind="holdout", shares=(0.5, 0.2, 0.3)).parts()
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(data.classes)), len(data))
    own = data.table[["image_id", "lesion_id", "target"]].copy()
    own["part"] = own["image_id"].map(parts)
    for label, column in zip(data.classes, probabilities.T, strict=True):
        own[f"p_{label}"] = column
    write_csv(tmp_path / "own.csv", own)
    words = ["compare", "--baselines", "own.csv", "--out", "made", "--replicates", "20"]
    assert main(words) == 2
    assert main([*words, "--data", "data"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Beside the baselines" in out
    assert "own minus it" in out
    assert main(["evaluate", "made/colours.csv", "--replicates", "0"]) == 0
    height, width = PICTURE.size
    assert main(["cache", "data", "--size", str(height), str(width)]) == 0
    monkeypatch.setattr(room, "Reader", None)  # now the cache alone is read
    again = baselines("own.csv", "data", kinds=["colours"], replicates=0)
    saved = pd.read_csv("made/colours.csv")
    columns = [name for name in saved if name.startswith("p_")]
    assert again.tables["colours"][columns].to_numpy() == pytest.approx(
        saved[columns].to_numpy(), abs=1e-12
    )
