"""Deletion, insertion and parts of pictures, on networks whose answers are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lesionlab.explanation.trust.deletion_insertion import (
    area_under,
    curve,
    only,
    order,
    random_maps,
    substitutes,
)

SIZE = (10, 20)


def linear(weights):
    """A score that adds up weighted pixels of the first channel."""
    return lambda images: (images[:, 0] * torch.from_numpy(weights)).sum(dim=(1, 2))


@pytest.fixture
def drawn():
    """Pictures of ones, replaced by zeros; weights of 1 to 200 in random places."""
    rng = np.random.default_rng(0)
    weights = (rng.permutation(200) + 1.0).reshape(SIZE).astype(np.float32)
    images = torch.ones(2, 3, *SIZE)
    return weights, images, torch.zeros_like(images)


def curves(weights, images, instead, maps, steps=4):
    score = linear(weights)
    ties = random_maps(["a", "b"], (5, 10), SIZE, seed=0)
    ends = score(images), score(instead)
    places = order(maps, ties)
    return [
        curve(score, images, instead, places, ends, steps, insert=each) for each in (False, True)
    ]


def test_deletion_and_insertion_of_a_linear_network_have_a_closed_form(drawn):
    weights, images, instead = drawn
    maps = np.stack([weights, -weights + 201])  # the best order, and the worst one
    gone, back = curves(weights, images, instead, maps)
    best = np.array([sum(range(1, 200 - k + 1)) for k in (0, 50, 100, 150, 200)])
    worst = np.array([sum(range(k + 1, 201)) for k in (0, 50, 100, 150, 200)])
    np.testing.assert_allclose(gone[0], best)
    np.testing.assert_allclose(gone[1], worst)
    np.testing.assert_allclose(back[0], 20100 - best)
    np.testing.assert_allclose(back[1], 20100 - worst)


def test_an_even_map_and_a_blank_one_take_the_random_order(drawn):
    weights, images, instead = drawn
    ties = random_maps(["a", "b"], (5, 10), SIZE, seed=0)
    random = curves(weights, images, instead, ties)
    for value in (0.0, 0.7):
        same = curves(weights, images, instead, np.full((2, *SIZE), value, np.float32))
        np.testing.assert_array_equal(random, same)
    assert not np.array_equal(random[0][0], random[0][1])  # each image its own


def test_a_random_order_falls_along_the_straight_line(drawn):
    weights, images, instead = drawn
    score = linear(weights)
    ids = [f"image {number}" for number in range(400)]
    ties = random_maps(ids, SIZE, SIZE, seed=0)
    many = images[:1].expand(400, -1, -1, -1), instead[:1].expand(400, -1, -1, -1)
    found = curve(score, *many, order(ties, ties), (score(many[0]), score(many[1])), 4)
    wanted = 20100 * np.array([1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(found.mean(axis=0), wanted, atol=0.01 * 20100)
    assert area_under(found).mean() == pytest.approx(20100 / 2, rel=0.01)


def test_areas_are_of_trapezoids():
    lines = np.array([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(area_under(lines), [0.5, 1.0, 0.25])


def test_every_pixel_is_taken_once_the_highest_first():
    rng = np.random.default_rng(0)
    maps = rng.random((3, *SIZE))
    places = order(maps, maps)
    for heat, own in zip(maps, places, strict=True):
        assert sorted(own.ravel()) == list(range(200))
        np.testing.assert_array_equal(np.argsort(own.ravel()), np.argsort(-heat.ravel()))


def test_random_maps_depend_on_seed_and_id_alone():
    first = random_maps(["a", "b", "c"], (4, 4), SIZE, seed=0)
    np.testing.assert_array_equal(random_maps(["c"], (4, 4), SIZE, seed=0)[0], first[2])
    assert not np.array_equal(random_maps(["c"], (4, 4), SIZE, seed=1)[0], first[2])


def test_the_substitute_is_the_mean_or_a_blur():
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 32, 48, generator=rng)
    mean = substitutes(images, "mean")
    np.testing.assert_allclose(mean[1, 2], float(images[1, 2].mean()), rtol=1e-5)
    blur = substitutes(images, "blur")
    assert float(blur.std()) < 0.2 * float(images.std())
    np.testing.assert_allclose(blur.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=0.02)
    even = torch.full((1, 3, 32, 48), 0.25)
    for how in ("mean", "blur"):
        np.testing.assert_allclose(substitutes(even, how), 0.25, rtol=1e-5)


@pytest.mark.parametrize("how", ["mean", "blur"])
def test_nothing_of_what_is_taken_away_is_left(how):
    """Two pictures that differ outside only are the same once their insides alone are kept."""
    rng = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 1, 3, 32, 48, generator=rng)
    kept = torch.zeros(1, 1, 32, 48, dtype=torch.bool)
    kept[:, :, 8:20, 10:30] = True
    other = torch.where(kept, one, other)
    made = only(one, kept, how)
    assert torch.equal(made, only(other, kept, how))
    assert torch.equal(made[kept.expand_as(made)], one[kept.expand_as(one)])
    bounds = one[kept.expand_as(one)].min(), one[kept.expand_as(one)].max()
    assert made.min() >= bounds[0] - 1e-5
    assert made.max() <= bounds[1] + 1e-5


def test_keeping_nothing_leaves_the_colours_of_all():
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    assert torch.equal(only(images, nothing, "mean"), substitutes(images, "mean"))
    np.testing.assert_allclose(
        only(images, nothing, "blur"), substitutes(images, "blur"), atol=1e-5
    )
