from __future__ import annotations

import math

import kornia
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionlab.augmentation.random_views import (
    DRAWS,
    FIRST_DRAWS,
    augment,
    colour_matrices,
    homographies,
    normalise,
)
from lesionlab.recipe.schema import Augment, Natural
from lesionlab.training.datasets import TrainingImages

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STILL = Augment(flip="none", rotate=0, scale=1, shift=0, shear=0, colour=0, hue=0, cutout=0)


def pictures(n=3, height=24, width=32):
    """Smooth colour pictures, so that interpolation errors stay small."""
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 4, width), indexing="ij")
    waves = [torch.sin(x * (i + 1) / 2 + c) + torch.cos(y + i) for i in range(n) for c in range(3)]
    stack = torch.stack(waves).reshape(n, 3, height, width)
    return ((stack + 2) / 4 * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def test_nothing_asked_is_plain_normalisation():
    images = pictures()
    views = augment(images, STILL, torch.rand(3, DRAWS), MEAN, STD)
    torch.testing.assert_close(
        views, normalise(images, MEAN, STD).contiguous(), atol=2e-6, rtol=1e-5
    )


def test_normalisation_is_torchvisions():
    images = pictures()
    expected = kornia.enhance.normalize(
        images.permute(0, 3, 1, 2) / 255, torch.tensor(MEAN), torch.tensor(STD)
    )
    torch.testing.assert_close(normalise(images, MEAN, STD), expected, atol=1e-6, rtol=1e-5)


def test_one_view_is_a_function_of_its_draws_alone():
    images, draws = pictures(8), torch.rand(8, DRAWS)
    together = augment(images, Augment(cutout=0.3), draws, MEAN, STD)
    alone = torch.cat(
        [
            augment(images[i : i + 1], Augment(cutout=0.3), draws[i : i + 1], MEAN, STD)
            for i in range(8)
        ]
    )
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_flips_are_exact():
    images = pictures(1)
    plain = normalise(images, MEAN, STD)
    draws = torch.full((1, DRAWS), 0.5)
    for x, y, dims in ((0.1, 0.9, [3]), (0.9, 0.1, [2]), (0.1, 0.1, [2, 3])):
        draws[:, 8], draws[:, 9] = x, y
        view = augment(images, Augment(**{**vars(STILL), "flip": "both"}), draws, MEAN, STD)
        torch.testing.assert_close(view, plain.flip(dims), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("turn", [0.0, 0.25, 0.5, 0.7, 1.0])
def test_rotation_is_kornias(turn):
    """A rotation in pixels, not in the stretched coordinates of the grid."""
    images = pictures(1, 30, 40)
    draws = torch.full((1, DRAWS), 0.5)
    draws[:, 0] = turn
    view = augment(images, Augment(**{**vars(STILL), "rotate": 40}), draws, MEAN, STD)
    angle = torch.tensor([(turn * 2 - 1) * 40.0])
    plain = normalise(images, MEAN, STD).contiguous()
    expected = kornia.geometry.rotate(plain, angle, padding_mode="reflection", align_corners=True)
    inside = (slice(None), slice(None), slice(8, 22), slice(8, 32))
    torch.testing.assert_close(view[inside], expected[inside], atol=0.03, rtol=0.03)


def test_zoom_and_shift_go_as_far_as_asked():
    draws = torch.full((2, DRAWS), 0.5)
    draws[0, 1], draws[1, 1] = 0.0, 1.0
    scale = homographies(Augment(**{**vars(STILL), "scale": 1.5}), draws, 1.3)[:, 0, 0]
    torch.testing.assert_close(scale, torch.tensor([1.5, 1 / 1.5]))
    draws = torch.full((1, DRAWS), 0.5)
    draws[0, 4] = 1.0
    shift = homographies(Augment(**{**vars(STILL), "shift": 0.1}), draws)[0, 0, 2]
    assert shift.item() == pytest.approx(0.2)  # a tenth of a side that is 2 long


def test_saturation_and_hue_are_kornias():
    images = pictures(1)
    rgb = images.permute(0, 3, 1, 2) / 255
    draws = torch.full((1, DRAWS), 0.5)
    draws[:, 12] = 0.0  # saturation down to 1 - 0.5
    matrix, offset = colour_matrices(
        Augment(**{**vars(STILL), "colour": 0.5}), draws, (0, 0, 0), (1, 1, 1)
    )
    ours = torch.baddbmm(offset, matrix, (rgb * 255).reshape(1, 3, -1)).reshape_as(rgb)
    luma = kornia.color.rgb_to_grayscale(rgb)
    torch.testing.assert_close(ours, rgb * 0.5 + luma * 0.5, atol=1e-3, rtol=1e-3)


def test_hue_keeps_grey_grey_and_a_full_turn_is_none():
    draws = torch.full((2, DRAWS), 0.5)
    draws[0, 13], draws[1, 13] = 0.9, 1.0
    matrix, offset = colour_matrices(
        Augment(**{**vars(STILL), "hue": 0.5}), draws, (0, 0, 0), (1, 1, 1)
    )
    grey = torch.full((2, 3, 1), 120.0)
    out = torch.baddbmm(offset, matrix, grey)
    torch.testing.assert_close(out, torch.full((2, 3, 1), 120 / 255), atol=1e-3, rtol=1e-3)
    half = matrix[1] * 255
    torch.testing.assert_close(half @ half, torch.eye(3), atol=1e-3, rtol=1e-3)  # twice half a turn


def test_brightness_and_contrast():
    draws = torch.full((1, DRAWS), 0.5)
    draws[:, 10] = 1.0
    settings_ = Augment(**{**vars(STILL), "colour": 0.2})
    matrix, _ = colour_matrices(settings_, draws, (0, 0, 0), (1, 1, 1))
    assert matrix[0, 0, 0].item() * 255 == pytest.approx(1.2, rel=1e-4)
    draws = torch.full((1, DRAWS), 0.5)
    draws[:, 11] = 0.0
    matrix, offset = colour_matrices(settings_, draws, (0, 0, 0), (1, 1, 1))
    middle = torch.baddbmm(offset, matrix, torch.full((1, 3, 1), 127.5))
    torch.testing.assert_close(middle, torch.full((1, 3, 1), 0.5), atol=1e-4, rtol=1e-4)


def test_cutout_erases_a_square_of_the_asked_size():
    images = torch.full((1, 40, 60, 3), 255, dtype=torch.uint8)
    draws = torch.full((1, DRAWS), 0.5)
    view = augment(images, Augment(**{**vars(STILL), "cutout": 0.5}), draws, MEAN, STD)
    hole = view[0, 0] == 0
    assert hole.sum().item() == 20 * 20
    assert hole[20, 30]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_every_view_is_finite_and_inside_the_picture(seed):
    draws = torch.rand(4, DRAWS, generator=torch.Generator().manual_seed(seed))
    hard = Augment(
        rotate=180, scale=2, shift=0.3, shear=0.4, perspective=0.3, colour=0.4, hue=0.2, cutout=0.3
    )
    view = augment(pictures(4), hard, draws, MEAN, STD)
    assert view.shape == (4, 3, 24, 32)
    assert torch.isfinite(view).all()
    matrix = homographies(hard, draws, 4 / 3)
    assert math.isfinite(matrix.det().abs().min().item())
    assert (matrix.det().abs() > 1e-3).all()


@pytest.mark.parametrize(("fill", "padding"), [("nearest", "border"), ("black", "zeros")])
def test_what_lies_beyond_the_border_is_kornias(fill, padding):
    """Black is the stored pixel 0, before normalisation; not the mean colour, which is 0 after."""
    images = pictures(1, 30, 40)
    draws = torch.full((1, DRAWS), 0.5)
    draws[:, 0] = 0.9
    turned = Augment(**{**vars(STILL), "rotate": 60, "fill": fill})
    view = augment(images, turned, draws, MEAN, STD)
    raw = images.permute(0, 3, 1, 2) / 255
    beyond = kornia.geometry.rotate(
        raw, torch.tensor([0.8 * 60.0]), padding_mode=padding, align_corners=True
    )
    expected = kornia.enhance.normalize(beyond, torch.tensor(MEAN), torch.tensor(STD))
    torch.testing.assert_close(view, expected, atol=0.06, rtol=0.03)
    corner = view[0, :, 0, 0] * torch.tensor(STD) + torch.tensor(MEAN)
    assert torch.allclose(corner, torch.zeros(3), atol=2e-6) == (fill == "black")


def test_the_light_changes_channel_by_channel_and_black_stays_black():
    draws = torch.full((2, DRAWS), 0.5)
    draws[0, 16:19] = torch.tensor([0.0, 0.5, 1.0])
    warmer = Augment(**{**vars(STILL), "illumination": 0.3})
    matrix, offset = colour_matrices(warmer, draws, (0, 0, 0), (1, 1, 1))
    torch.testing.assert_close(matrix[0] * 255, torch.diag(torch.tensor([0.7, 1.0, 1.3])))
    torch.testing.assert_close(matrix[1] * 255, torch.eye(3))
    assert (offset == 0).all()


def test_the_light_falls_on_the_lesion_and_not_on_the_finished_picture():
    """It comes before saturation, hue and contrast, which are the camera's."""
    draws = torch.full((1, DRAWS), 0.5)
    draws[0, 10:14] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    draws[0, 16] = 1.0
    camera = {**vars(STILL), "colour": 0.5, "hue": 0.2, "illumination": 0.0}
    black_to_white = ((0, 0, 0), (1, 1, 1))
    without = colour_matrices(Augment(**camera), draws, *black_to_white)
    lit = colour_matrices(Augment(**{**camera, "illumination": 0.5}), draws, *black_to_white)
    lamp = torch.diag(torch.tensor([1.5, 1.0, 1.0]))
    torch.testing.assert_close(lit[0], without[0] @ lamp)
    torch.testing.assert_close(lit[1], without[1])


def test_central_crops_zoom_in_and_never_out():
    draws = torch.rand(200, DRAWS, generator=torch.Generator().manual_seed(0))
    crops = homographies(Augment(**{**vars(STILL), "scale": 1.5, "zoom": "in"}), draws)[:, 0, 0]
    assert 1 / 1.5 <= crops.min() < 0.68
    assert 0.98 < crops.max() <= 1
    both = homographies(Augment(**{**vars(STILL), "scale": 1.5}), draws)[:, 0, 0]
    assert both.max() > 1.48


def test_later_knobs_change_no_view_of_a_recipe_without_them():
    """The first 16 numbers are those of the first version, the others come behind them."""
    pixels = np.zeros((9, 4, 5, 3), np.uint8)
    images = TrainingImages(pixels, np.arange(9), np.arange(9) % 2, Natural(), seed=5)
    images.set_epoch(2)
    draws = images[np.arange(9)]["draws"]
    first = np.random.default_rng([5, 2, 2]).random((9, 16), dtype=np.float32)
    assert (draws[:, :FIRST_DRAWS].numpy() == first).all()
    more = np.random.default_rng([5, 4, 2]).random((9, DRAWS - 16), dtype=np.float32)
    assert (draws[:, FIRST_DRAWS:].numpy() == more).all()
    views = [pictures(9), Augment(cutout=0.2, perspective=0.1, shear=0.1)]
    other = draws.clone()
    other[:, FIRST_DRAWS:] = torch.rand(9, DRAWS - FIRST_DRAWS)
    assert torch.equal(augment(*views, draws, MEAN, STD), augment(*views, other, MEAN, STD))
