"""Maps against masks, and maps against maps: answers that are known."""

from __future__ import annotations

import numpy as np
import pytest

from lesionlab.explanation.trust.mask_agreement import (
    centre_prior,
    chance_overlap,
    inside_share,
    near,
    overlap,
    pointing,
    rank_similarity,
    structural_similarity,
)

SIZE = (40, 60)


@pytest.fixture
def mask():
    made = np.zeros(SIZE, bool)
    made[10:20, 30:50] = True  # 200 of 2,400 pixels
    return made


def test_a_map_exactly_inside_the_mask_gets_one(mask):
    heat = mask.astype(np.float32) * 7
    assert inside_share(heat, mask) == 1
    assert pointing(heat, near(mask, 0)) == 1
    assert overlap(heat, mask) == 1


def test_a_map_outside_gets_nothing(mask):
    heat = (~mask).astype(np.float32)
    assert inside_share(heat, mask) == 0
    assert pointing(heat, near(mask, 0)) == 0
    assert overlap(heat, mask) == 0


def test_an_even_map_gets_chance(mask):
    heat = np.full(SIZE, 0.3, np.float32)
    area = 200 / 2400
    assert inside_share(heat, mask) == pytest.approx(area)
    assert pointing(heat, near(mask, 0)) == pytest.approx(area)
    assert pointing(heat, near(mask)) == pytest.approx(near(mask).mean())
    assert overlap(heat, mask) == pytest.approx(chance_overlap(area), rel=0.02)


def test_chance_overlap_is_that_of_random_pixels(mask):
    rng = np.random.default_rng(0)
    drawn = [overlap(rng.random(SIZE), mask) for _ in range(300)]
    assert np.mean(drawn) == pytest.approx(chance_overlap(200 / 2400), rel=0.05)


def test_energy_and_overlap_of_a_map_half_inside(mask):
    heat = np.zeros(SIZE, np.float32)
    heat[10:20, 40:60] = 1  # the right half of the mask, and as much beside it
    assert inside_share(heat, mask) == 0.5
    assert overlap(heat, mask) == pytest.approx(100 / 300)
    heat[10:20, 50:60] = 3
    assert inside_share(heat, mask) == 0.25


def test_the_pointer_may_miss_by_the_tolerance_and_no_more(mask):
    heat = np.zeros(SIZE, np.float32)
    heat[15, 51] = 1  # two pixels beyond the last one of the mask, 49
    assert pointing(heat, near(mask, 1.9 / 60)) == 0
    assert pointing(heat, near(mask, 2 / 60)) == 1
    heat[15, 40] = 1  # of two maxima one hits
    assert pointing(heat, near(mask, 0)) == 0.5


def test_a_blank_map_says_nothing(mask):
    blank = np.zeros(SIZE, np.float32)
    assert np.isnan([inside_share(blank, mask), pointing(blank, mask), overlap(blank, mask)]).all()


def test_the_centre_prior_is_a_gaussian_of_a_quarter_of_each_side():
    prior = centre_prior((41, 81))
    assert np.unravel_index(prior.argmax(), prior.shape) == (20, 40)
    assert prior[20, 40] == 1
    np.testing.assert_allclose(prior[20, 40 + 81 // 4], np.exp(-0.5), rtol=0.03)
    np.testing.assert_array_equal(prior, prior[::-1, ::-1])


def test_rank_similarity_sees_order_alone():
    rng = np.random.default_rng(0)
    one = rng.random((8, 8))
    assert rank_similarity(one, one**3) == pytest.approx(1)
    assert rank_similarity(one, 1 - one) == pytest.approx(-1)
    assert rank_similarity(one, np.zeros((8, 8))) == 0  # nothing in common
    assert np.isnan(rank_similarity(np.zeros((8, 8)), one))  # nothing to compare


def test_structural_similarity():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 32, 32))
    assert structural_similarity(one, one) == pytest.approx(1)
    assert structural_similarity(one, 5 * one) == pytest.approx(1)  # maps have no unit
    assert structural_similarity(one, other) < 0.3
    half = np.ones((32, 32))
    half[:, 16:] = 0.5  # far from the step both are even: (2ab + c1) / (a^2 + b^2 + c1)
    even = np.ones((32, 32))
    wanted = (1 + (2 * 0.5 + 1e-4) / (1 + 0.25 + 1e-4)) / 2
    assert structural_similarity(even, half) == pytest.approx(wanted, abs=0.12)
    assert np.isnan(structural_similarity(np.zeros((8, 8)), np.ones((8, 8))))
