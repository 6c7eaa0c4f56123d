"""Normalisation by the training part: whose pixels are measured, and who uses what was found."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from lesionlab.data.images.cache import cache
from lesionlab.errors import DataError, RunError
from lesionlab.files import read_json
from lesionlab.models import factory
from lesionlab.prediction.embed import embed
from lesionlab.prediction.run_predictor import predict_run
from lesionlab.progress import Notice, Step
from lesionlab.recipe.schema import Model, Recipe
from lesionlab.run import PREDICTIONS, Run
from lesionlab.training.datasets import shown
from lesionlab.training.normalisation import statistics_of
from lesionlab.training.train import train

LENET = Recipe().but(
    {
        "images.size": [32, 32],
        "images.colour_constancy": "shades_of_grey",
        "model.name": "lenet",
        "model.normalisation": "training",
        "phases.0.epochs": 2,
        "average.kind": "none",
        "batch": 16,
    }
)
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class Killed(Exception):
    """Stands for a process that ends."""


def stored(data, recipe=LENET):
    """The stored pixels of a catalogue's images, in its order."""
    kept = cache(data.table, data.root, recipe.images, data.home / "cache")
    return kept.pixels[kept.rows(list(data.table["sha256"]))]


def lit(images):
    """Pixels in 0-1 after shades of grey, in numpy alone: float64, shape (n, h, w, 3)."""
    values = images.astype(np.float64) / 255
    light = (values**6).mean(axis=(1, 2)) ** (1 / 6)
    gain = np.linalg.norm(light, axis=1, keepdims=True) / (light * 3**0.5)
    return values * gain[:, None, None]


def told(run):
    described = read_json(run.folder / factory.DESCRIPTION)
    return described["mean"], described["std"]


@pytest.fixture(scope="module")
def run(drawn, tmp_path_factory):
    data, parts = drawn
    return train(LENET, data, parts, out=tmp_path_factory.mktemp("run") / "run")


def test_it_is_the_mean_and_deviation_of_the_training_parts_pixels(run, drawn):
    data, parts = drawn
    part = parts.parts()[data.table["image_id"]].to_numpy()
    values = lit(stored(data)[part == "train"])
    mean, std = told(run)
    np.testing.assert_allclose(mean, values.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, values.std(axis=(0, 1, 2)), rtol=1e-6)
    others = lit(stored(data))
    assert np.abs(others.mean(axis=(0, 1, 2)) - mean).max() > 1e-4  # it matters who is measured


@pytest.mark.parametrize("method", ["none", "grey_world", "max_rgb"])
def test_one_pass_is_as_exact_as_numpys_two(method):
    rng = np.random.default_rng(0)
    pixels = rng.integers(90, 220, (9, 11, 7, 3), dtype=np.uint8)
    pixels[..., 2] //= 2
    rows = np.array([7, 2, 2, 5])
    images = torch.from_numpy(pixels[rows]).double()
    if method == "none":
        gain = torch.ones(4, 3)
    else:
        light = images.mean(dim=(1, 2)) if method == "grey_world" else images.amax(dim=(1, 2))
        gain = light.norm(dim=1, keepdim=True) / light / 3**0.5
    values = (images * gain[:, None, None] / 255).numpy()
    mean, std = statistics_of(pixels, rows, method)
    np.testing.assert_allclose(mean, values.mean(axis=(0, 1, 2)), rtol=1e-7)
    np.testing.assert_allclose(std, values.std(axis=(0, 1, 2)), rtol=1e-6)
    assert statistics_of(pixels, rows[::-1], method) == (mean, std)
    moved = np.concatenate((pixels[::-1], pixels[:1]))  # another order in the cache
    assert statistics_of(moved, 8 - rows, method) == (mean, std)


def test_pixels_of_val_and_test_do_not_matter(run, drawn, tmp_path):
    data, parts = drawn
    home = shutil.copytree(data.home / "cache", tmp_path / "cache")
    part = parts.parts()[data.table["image_id"]].to_numpy()
    kept = cache(data.table, data.root, LENET.images, home)
    rows = kept.rows(list(data.table["sha256"]))
    pixels = np.lib.format.open_memmap(kept.folder / "images.npy", mode="r+")

    def trained(name):
        pixels.flush()
        return train(LENET, data, parts, out=tmp_path / name, cache_to=home)

    pixels[rows[part != "train"]] //= 3
    other = trained("held_out_changed")
    assert told(other) == told(run)
    assert not other.predictions.equals(run.predictions)  # but the change was seen
    pixels[rows[part == "train"][0]] //= 3
    assert told(trained("train_changed")) != told(run)


def test_predictions_use_it_wherever_they_are_made(run, drawn):
    data, _ = drawn
    network, architecture = factory.load(run.folder)
    mean, std = map(np.array, told(run))
    assert (list(architecture.mean), list(architecture.std)) == told(run)
    inputs = torch.from_numpy(((lit(stored(data)) - mean) / std).transpose(0, 3, 1, 2)).float()
    with torch.inference_mode():
        expected = network(inputs).softmax(dim=1).numpy()
        wrong = network(inputs * 0.5 + 0.5).softmax(dim=1).numpy()
    probabilities = run.predictions.filter(regex="^p_").to_numpy()
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert np.abs(wrong - expected).max() > 1e-3  # a network that sees the difference
    files = [data.root / path for path in data.table["path"][:3]]
    again = predict_run(run, files).set_index("image_id").filter(regex="^p_")
    np.testing.assert_allclose(
        again.loc[data.table["image_id"][:3]].to_numpy(), expected[:3], atol=1e-5
    )


def test_a_killed_run_goes_on_with_the_same(run, drawn, tmp_path):
    def killer(event):
        if isinstance(event, Step) and event.task == "training" and event.done > 1.2:
            raise Killed

    with pytest.raises(Killed):
        train(LENET, *drawn, out=tmp_path / "run", listen=killer)
    again = train(LENET, *drawn, out=tmp_path / "run")
    assert told(again) == told(run)
    assert (again.folder / PREDICTIONS).read_bytes() == (run.folder / PREDICTIONS).read_bytes()


def test_the_cache_is_the_same_and_the_run_another(run, drawn):
    data, _ = drawn
    weights = LENET.but({"model.normalisation": "weights"})
    before = sorted((data.home / "cache").rglob("*"))
    with pytest.raises(RunError, match=r"model\.normalisation: training -> weights"):
        train(weights, *drawn, out=run.folder)
    plain = train(weights, *drawn, out=run.folder.with_name("plain"))
    assert told(plain) == (IMAGENET["mean"], IMAGENET["std"])
    assert sorted((data.home / "cache").rglob("*")) == before
    assert not plain.predictions.equals(run.predictions)


def test_only_images_that_the_run_shows_are_measured_each_once(drawn, tmp_path):
    data, parts = drawn
    capped = LENET.but({"sampling": {"kind": "capped", "images": 3}, "phases.0.epochs": 1})
    targets = data.table["target"].map({name: i for i, name in enumerate(data.classes)}).to_numpy()
    part = parts.parts()[data.table["image_id"]].to_numpy()
    train_part = np.flatnonzero(part == "train")
    kept = train_part[shown(targets[train_part], capped.sampling, capped.seed)]
    assert 7 < len(kept) < len(train_part)
    mean, std = told(train(capped, data, parts, out=tmp_path / "capped"))
    values = lit(stored(data)[kept])
    np.testing.assert_allclose(mean, values.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, values.std(axis=(0, 1, 2)), rtol=1e-6)
    balanced = LENET.but({"sampling.kind": "balanced", "phases.0.epochs": 1})
    natural = LENET.but({"phases.0.epochs": 1})
    one, two = (
        told(train(recipe, data, parts, out=tmp_path / recipe.sampling.kind))
        for recipe in (balanced, natural)
    )
    assert one == two


def warnings_of(recipe, drawn, out):
    said = []
    made = train(recipe, *drawn, out=out, listen=said.append)
    return made, [e.text for e in said if isinstance(e, Notice) and e.level == "warning"]


def test_weights_that_expect_others_are_told_and_those_of_a_run_bring_their_own(
    run, drawn, tmp_path
):
    data, _ = drawn
    torch.manual_seed(0)
    foreign = factory.Architecture.of(LENET.model, data.classes, LENET.images)
    factory.save_weights(factory.build(foreign), tmp_path / "foreign.safetensors")
    short = LENET.but({"phases.0.epochs": 1})
    here = short.but({"model.pretrained": str(tmp_path / "foreign.safetensors")})
    made, said = warnings_of(here, drawn, tmp_path / "one")
    assert told(made) == told(run)
    assert any("made with mean 0.485 0.456 0.406" in text for text in said)

    own = short.but({"model.pretrained": str(run.folder / factory.WEIGHTS)})
    _, said = warnings_of(own, drawn, tmp_path / "two")
    assert not any("made with" in text for text in said)  # the same training part: the same
    made, _ = warnings_of(own.but({"model.normalisation": "weights"}), drawn, tmp_path / "three")
    assert told(made) == told(run)


def test_a_probe_and_embed_take_it_from_the_run(run, drawn, tmp_path):
    data, _ = drawn
    weights = str(run.folder / factory.WEIGHTS)
    recipe = LENET.but({"model.head.kind": "logistic_probe", "model.pretrained": weights})
    probe = train(recipe, *drawn, out=tmp_path / "probe")
    assert told(probe) == told(run)
    mean, std = map(np.array, told(run))
    inputs = torch.from_numpy(((lit(stored(data)) - mean) / std).transpose(0, 3, 1, 2)).float()
    network, _ = factory.load(probe.folder)
    with torch.inference_mode():
        expected = network(inputs).softmax(dim=1).numpy()
    probabilities = probe.predictions.filter(regex="^p_").to_numpy()
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    ones = embed(Run(run.folder), data, out=tmp_path / "one").vectors
    others = embed(Run(probe.folder), data, out=tmp_path / "two").vectors
    np.testing.assert_allclose(ones, others, atol=1e-5)


def test_a_file_beside_weights_that_is_no_runs_says_nothing(tmp_path):
    (tmp_path / "model.json").write_text('{"layers": 3}')
    model = Model(name="lenet", pretrained=str(tmp_path / "w.safetensors"))
    made = factory.Architecture.of(model, ("a", "b"), LENET.images)
    assert list(made.mean) == IMAGENET["mean"]


def test_a_channel_that_is_the_same_everywhere_is_refused():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3), dtype=np.uint8)
    pixels[..., 1] = 77
    with pytest.raises(DataError, match=r"Set model\.normalisation to weights"):
        statistics_of(pixels, np.arange(4))
