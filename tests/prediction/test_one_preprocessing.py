"""Mistakes M6 to M9 of the sources: what images go through, and that it lives with the weights."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.images.cache import cache
from lesionlab.data.splits import split
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.files import read_json, write_json
from lesionlab.models import factory
from lesionlab.prediction import run_predictor
from lesionlab.prediction.run_predictor import predict_run
from lesionlab.recipe.schema import Images, Model, Recipe
from lesionlab.training import lightning_module
from lesionlab.training.train import train

CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def chances_of(table):
    return table.filter(regex="^p_").to_numpy()


def stored(run, data):
    """The stored pixels of a catalogue's images, in its order."""
    pixels = cache(data.table, data.root, run.recipe.images, data.home / "cache")
    return pixels.pixels[pixels.rows(list(data.table["sha256"]))]


def test_m6_only_images_of_the_training_part_are_ever_augmented(
    trained, drawn, tmp_path, monkeypatch
):
    data, parts = drawn
    seen = []

    def recording(images, *args):
        seen.extend(image.numpy().tobytes() for image in images)
        return original(images, *args)

    original = lightning_module.augment
    monkeypatch.setattr(lightning_module, "augment", recording)
    run = train(trained.recipe, data, parts, out=tmp_path / "run")
    predict_run(run)
    part = parts.parts()[data.table["image_id"]].to_numpy()
    allowed = [image.tobytes() for image in stored(run, data)[part == "train"]]
    assert sorted(seen) == sorted(allowed * 4)  # four epochs


def test_m6_validation_test_and_predictions_are_of_the_images_themselves(trained, drawn):
    """By hand from the stored pixels, with the very wild augmentation of this run left out."""
    data, _ = drawn
    network, architecture = factory.load(trained.folder)
    images = torch.from_numpy(stored(trained, data)).double() / 255
    light = (images**6).mean(dim=(1, 2)) ** (1 / 6)
    images = images / (light / light.norm(dim=1, keepdim=True) * 3**0.5)[:, None, None]
    mean, std = torch.tensor(architecture.mean), torch.tensor(architecture.std)
    inputs = ((images - mean) / std).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        expected = network(inputs).softmax(dim=1).numpy()
    np.testing.assert_allclose(chances_of(trained.predictions), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.01  # a net that tells images apart at all
    history = trained.history.set_index("epoch").loc[trained.info["kept_epoch"]]
    on_val = evaluate(trained.predictions, part="val", replicates=0)
    assert on_val["balanced_accuracy"].value == pytest.approx(
        history["val_balanced_accuracy"], abs=1e-6
    )
    assert on_val["macro_auroc"].value == pytest.approx(history["val_macro_auroc"], abs=1e-4)


def test_m7_preprocessing_is_read_from_the_model_and_from_nowhere_else(trained, tmp_path):
    told = read_json(trained.folder / factory.DESCRIPTION)
    assert told["images"] == {
        "size": [32, 32],
        "fit": "stretch",
        "colour_constancy": "shades_of_grey",
    }
    assert (tuple(told["mean"]), tuple(told["std"])) == (
        IMAGENET_DEFAULT_MEAN,
        IMAGENET_DEFAULT_STD,
    )
    plain = chances_of(predict_run(trained))
    for change in (
        {"images": {**told["images"], "colour_constancy": "none"}},
        {"mean": [0.5, 0.5, 0.5]},
        {"std": [0.5, 0.5, 0.5]},
    ):
        other = tmp_path / "-".join(change)
        shutil.copytree(trained.folder, other)
        write_json(other / factory.DESCRIPTION, {**told, **change})
        assert np.abs(chances_of(predict_run(other)) - plain).max() > 1e-4, change
    recipe = tmp_path / "mean" / "recipe.yaml"  # says how to train, and is not asked
    recipe.write_text(recipe.read_text().replace("shades_of_grey", "none"))
    by_json = chances_of(predict_run(tmp_path / "mean"))
    recipe.write_text(
        recipe.read_text().replace("colour_constancy: none", "colour_constancy: max_rgb")
    )
    np.testing.assert_array_equal(chances_of(predict_run(tmp_path / "mean")), by_json)


@pytest.fixture(scope="module")
def thirty_a_class(real_ham, tmp_path_factory):
    """210 real images, 30 of each class, one of each lesion; the files stay where they are."""
    folder = tmp_path_factory.mktemp("real")
    table = pd.read_csv(real_ham / "HAM10000_metadata.csv")
    few = table.drop_duplicates("lesion_id").groupby("dx").head(30)
    few.to_csv(folder / "HAM10000_metadata.csv", index=False)
    files = {each.stem: each for each in real_ham.rglob("ISIC_*.jpg")}
    for name in few["image_id"]:
        (folder / f"{name}.jpg").symlink_to(files[name])
    data = catalogue(folder, out=folder / "catalogue")
    return data, split(data, kind="holdout", shares=(0.6, 0.2, 0.2))


def test_m7_pixels_rescaled_twice_end_in_the_warning_of_a_collapse(
    thirty_a_class, tmp_path, monkeypatch
):
    """Source D's EfficientNet, frozen, got pixels divided by 255 twice: one class took them all."""
    data, parts = thirty_a_class
    assert len(data) == 210
    recipe = Recipe().but(
        {
            "images.size": [32, 32],
            "model": {"name": "test_efficientnet", "drop": 0.0},
            "augment": "none",
            "phases": [{"depth": "head", "epochs": 8, "optim": {"kind": "adam", "lr": 0.03}}],
            "average.kind": "none",
            "batch": 32,
        }
    )
    right = evaluate(train(recipe, data, parts, out=tmp_path / "right").predictions, replicates=0)
    assert not collapsed(right)

    def twice(function):
        return lambda images, *args: function(images / 255, *args)

    monkeypatch.setattr(lightning_module, "augment", twice(lightning_module.augment))
    monkeypatch.setattr(lightning_module, "normalise", twice(lightning_module.normalise))
    monkeypatch.setattr(run_predictor, "normalise", twice(run_predictor.normalise))
    run = train(recipe, data, parts, out=tmp_path / "wrong")
    wrong = evaluate(run.predictions, replicates=0)
    assert collapsed(wrong)
    assert wrong["balanced_accuracy"].value == pytest.approx(1 / 7)
    assert right["balanced_accuracy"].value > wrong["balanced_accuracy"].value


def collapsed(result):
    return any("hardly tells the classes apart" in text for text in result.warnings)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("resnet18", IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
        ("densenet201", IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
        ("inception_v3", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("inception_resnet_v2", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("resnetv2_50", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_m8_each_architecture_gets_the_normalisation_that_it_was_made_for(name, mean, std):
    architecture = factory.Architecture.of(Model(name=name), ("a", "b"), Images())
    assert architecture.normalisation == (mean, std, "none")
    white = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)
    given = run_predictor.normalise(white, *architecture.normalisation)[0, :, 0, 0]
    torch.testing.assert_close(given, (1 - torch.tensor(mean)) / torch.tensor(std))


def test_m9_imagenets_mean_and_deviation_are_imagenets():
    for name in ("resnet18", "lenet"):  # source E labelled those of CIFAR-10 with that name
        mean, std, _ = factory.Architecture.of(Model(name=name), ("a", "b"), Images()).normalisation
        assert (mean, std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        assert (mean, std) != CIFAR
