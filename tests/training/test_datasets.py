from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lesionlab.errors import SettingsError
from lesionlab.recipe.schema import Balanced, Capped, Natural, Oversampled, Recipe, SquareRoot
from lesionlab.training import lightning_module
from lesionlab.training.datasets import (
    EpochBatches,
    EvaluationImages,
    TrainingImages,
    order_of,
    shown,
)
from lesionlab.training.train import train

CLASSES = ("a", "b", "c")
TARGETS = np.repeat([0, 1, 2], [9000, 900, 100])
KINDS = [
    Natural(),
    Balanced(),
    SquareRoot(),
    Oversampled(times={"c": 7, "b": 2}),
    Capped(images=50),
]


@given(st.integers(0, 1000), st.integers(0, 50))
def test_natural_sampling_shows_every_image_once(seed, epoch):
    targets = np.arange(23) % 3
    order = order_of(targets, Natural(), seed, epoch)
    assert sorted(order) == list(range(23))
    assert (order == order_of(targets, Natural(), seed, epoch)).all()
    assert (order != order_of(targets, Natural(), seed, epoch + 1)).any()


def test_natural_and_balanced_orders_never_change():
    targets = np.arange(10) % 3
    assert order_of(targets, Natural(), 7, 2).tolist() == [4, 1, 7, 2, 5, 3, 6, 8, 9, 0]
    assert order_of(targets, Balanced(), 7, 2).tolist() == [9, 7, 2, 5, 4, 1, 8, 8, 8, 8]


def test_balanced_sampling_draws_classes_evenly():
    shares = np.bincount(TARGETS[order_of(TARGETS, Balanced(), 0, 0)]) / len(TARGETS)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)


def test_square_root_sampling_lies_between_natural_and_balanced():
    shares = np.bincount(TARGETS[order_of(TARGETS, SquareRoot(), 0, 0)]) / len(TARGETS)
    roots = np.sqrt([9000, 900, 100])
    np.testing.assert_allclose(shares, roots / roots.sum(), atol=0.02)


def test_oversampling_shows_each_image_of_a_class_so_many_times():
    order = order_of(TARGETS, Oversampled(times={"c": 7, "b": 2}), 0, 3, CLASSES)
    shown_times = np.bincount(order, minlength=len(TARGETS))
    assert set(shown_times[TARGETS == 0]) == {1}
    assert set(shown_times[TARGETS == 1]) == {2}
    assert set(shown_times[TARGETS == 2]) == {7}
    at = np.sort(np.flatnonzero(TARGETS[order] == 2))
    assert at.std() == pytest.approx(len(order) / 12**0.5, rel=0.1)  # spread over the epoch


def test_a_cap_keeps_the_same_images_in_every_epoch():
    first, later = (order_of(TARGETS, Capped(images=50), 0, epoch) for epoch in (0, 9))
    assert np.bincount(TARGETS[first]).tolist() == [50, 50, 50]
    assert len(set(first)) == 150
    assert sorted(first) == sorted(later)
    assert (first != later).any()
    assert set(first) != set(order_of(TARGETS, Capped(images=50), 1, 0))
    assert set(first) < set(shown(TARGETS, Capped(images=60), 0))
    assert np.bincount(TARGETS[shown(TARGETS, Capped(images=500), 0)]).tolist() == [500, 500, 100]


@pytest.mark.parametrize("sampling", KINDS)
def test_an_epoch_is_a_function_of_seed_and_epoch_and_always_of_one_length(sampling):
    def order(seed, epoch):
        return order_of(TARGETS, sampling, seed, epoch, CLASSES)

    np.testing.assert_array_equal(order(3, 4), order(3, 4))
    assert len({len(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 1
    assert not np.array_equal(order(3, 4), order(3, 5))
    assert not np.array_equal(order(3, 4), order(4, 4))


@pytest.mark.parametrize("sampling", KINDS)
def test_a_loader_covers_the_whole_epoch_whatever_its_length(sampling):
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    rows = np.zeros(len(TARGETS), np.int64)
    images = TrainingImages(pixels, rows, TARGETS, sampling, 0, CLASSES)
    images.set_epoch(1)
    loader = images.loader(64)
    seen = torch.cat([batch["target"] for batch in loader]).numpy()
    np.testing.assert_array_equal(seen, TARGETS[order_of(TARGETS, sampling, 0, 1, CLASSES)])
    assert len(loader) == -(-len(seen) // 64)


def test_an_image_that_is_shown_again_is_shown_as_another_view():
    pixels = np.zeros((4, 2, 2, 3), np.uint8)
    images = TrainingImages(
        pixels, np.arange(4), np.array([0, 0, 0, 1]), Oversampled(times={"b": 6}), 0, ("a", "b")
    )
    batch = images[np.arange(9)]
    again = batch["draws"][batch["target"] == 1]
    assert len(again) == 6
    assert len({tuple(each.tolist()) for each in again}) == 6


@given(st.integers(1, 300), st.integers(2, 80))
def test_batches_cover_an_epoch_in_nearly_equal_parts(count, batch):
    parts = list(EpochBatches(count, batch))
    assert np.concatenate(parts).tolist() == list(range(count))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1


def test_the_devices_share_out_every_batch():
    shares = [EpochBatches(50, 16, (rank, 3)) for rank in range(3)]
    whole = EpochBatches(50, 16)
    for step, parts in enumerate(zip(*shares, strict=True)):
        assert whole.length(step) == sum(map(len, parts))
        assert np.concatenate(parts).tolist() == list(whole)[step].tolist()
        assert np.ptp([len(part) for part in parts]) <= 1
    with pytest.raises(SettingsError, match=r"batch 2: its 2 images .* 3 devices"):
        EpochBatches(50, 2, (0, 3))


def test_the_view_of_an_image_does_not_depend_on_the_batch_size():
    pixels = np.random.default_rng(0).integers(0, 255, (12, 4, 5, 3), dtype=np.uint8)
    rows, targets = np.arange(12), np.arange(12) % 2
    images = TrainingImages(pixels, rows, targets, Natural(), seed=1)
    images.set_epoch(3)
    small = [images[places]["draws"] for places in EpochBatches(12, 2)]
    large = [images[places]["draws"] for places in EpochBatches(12, 6)]
    assert torch.equal(torch.cat(small), torch.cat(large))


SMALL = Recipe().but(
    {
        "images.size": [32, 40],
        "model.name": "test_efficientnet",
        "phases.0.epochs": 1,
        "average.kind": "none",
        "batch": 16,
    }
)


def test_an_unknown_class_is_refused_before_anything_is_written(drawn, tmp_path):
    recipe = SMALL.but({"sampling": {"kind": "oversampled", "times": {"df": 2, "naevus": 3}}})
    with pytest.raises(SettingsError, match=r"no class naevus\. Its classes are .*vasc"):
        train(recipe, *drawn, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "sampling",
    [
        {"kind": "oversampled", "times": {"df": 4}},
        {"kind": "capped", "images": 2},
        {"kind": "balanced"},
    ],
)
def test_m2_only_images_of_the_training_part_are_resampled_and_augmented(
    drawn, tmp_path, monkeypatch, sampling
):
    data, parts = drawn
    augmented, validated = [], []
    real = TrainingImages.__getitem__, EvaluationImages.__getitem__, lightning_module.augment

    def spy_training(self, places):
        batch = real[0](self, places)
        taken.append(batch["image"])
        return batch

    def spy_augment(images, *rest):
        augmented.append(images.clone())
        return real[2](images, *rest)

    def spy_evaluation(self, chunk):
        batch = real[1](self, chunk)
        validated.append(batch["image"])
        return batch

    taken = []
    monkeypatch.setattr(TrainingImages, "__getitem__", spy_training)
    monkeypatch.setattr(EvaluationImages, "__getitem__", spy_evaluation)
    monkeypatch.setattr(lightning_module, "augment", spy_augment)
    run = train(SMALL.but({"sampling": sampling}), data, parts, out=tmp_path / "run")

    from lesionlab.data.images.cache import cache

    kept = cache(data.table, data.root, SMALL.images, data.home / "cache")
    part_of = data.table["image_id"].map(parts.parts())

    def pixels_of(part):
        rows = kept.rows(list(data.table["sha256"][part_of == part]))
        return {kept.pixels[row].tobytes() for row in rows}

    def content(batches):
        return [image.numpy().tobytes() for batch in batches for image in batch]

    training, held_out = pixels_of("train"), pixels_of("val") | pixels_of("test")
    assert content(augmented) == content(taken)
    assert set(content(augmented)) <= training
    assert not set(content(augmented)) & held_out
    assert sorted(content(validated)) == sorted(pixels_of("val"))  # each once, as it is
    times = run.predictions["image_id"].value_counts()
    assert len(times) == len(data.table)
    assert (times == 1).all()
