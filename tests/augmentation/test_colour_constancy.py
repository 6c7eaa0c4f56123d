from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from lesionlab.augmentation.colour_constancy import gains
from lesionlab.augmentation.random_views import DRAWS, augment, normalise
from lesionlab.data.images.reader import Reader
from lesionlab.recipe.schema import Augment, Images, Recipe

METHODS = ("grey_world", "shades_of_grey", "max_rgb")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RAW = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
"""A normalisation that gives back pixels in 0-255."""


@pytest.fixture(scope="module")
def photographs(real_ham):
    """Eight real images as stored pixels, one or two of each class."""
    reader, size = Reader(real_ham), Images(size=(60, 80))
    files = sorted(real_ham.rglob("ISIC_*.jpg"))[::1000][:8]
    return np.stack([reader.pixels(str(each.relative_to(real_ham)), size) for each in files])


def formula(image, method):
    """The field's usual implementation, in numpy and float64, one image at a time."""
    pixels = image.astype(np.float64).reshape(-1, 3)
    light = {
        "grey_world": lambda: pixels.mean(axis=0),
        "shades_of_grey": lambda: (pixels**6).mean(axis=0) ** (1 / 6),
        "max_rgb": lambda: pixels.max(axis=0),
    }[method]()
    return image / (light / np.linalg.norm(light) * np.sqrt(3))


def corrected(images, method):
    """Pixels in 0-255 after colour constancy, shape (n, height, width, 3)."""
    return normalise(torch.from_numpy(images), *RAW, method).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_its_formula(photographs, method):
    drawn = np.random.default_rng(0).integers(0, 256, photographs.shape, np.uint8)
    for images in (photographs, drawn // np.array([1, 2, 3], np.uint8)):
        expected = np.stack([formula(image, method) for image in images])
        np.testing.assert_allclose(corrected(images, method), expected, rtol=2e-6, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cast", [(1.0, 0.8, 0.6), (0.55, 0.9, 1.0)])
def test_another_lamp_makes_no_difference_but_brightness(photographs, method, cast):
    lit = np.round(photographs * np.array(cast)).astype(np.uint8)
    assert np.abs(lit.astype(int) - photographs).max() > 60
    before, after = corrected(photographs, method), corrected(lit, method)
    brightness = after.mean(axis=(1, 2, 3)) / before.mean(axis=(1, 2, 3))
    after = after / brightness[:, None, None, None]
    # Half a grey level is lost in storing the darker image, and is magnified with it.
    assert np.abs(after - before).max() < 0.5 / min(cast) * 1.6 + 1
    assert np.abs(after - before).mean() < 0.6


@pytest.mark.parametrize("method", METHODS)
def test_white_light_changes_nothing(method):
    grey = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 1), np.uint8).repeat(3, axis=3)
    np.testing.assert_allclose(corrected(grey, method), grey, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_grey_world_means_and_white_patches_become_grey(photographs, method):
    changed = corrected(photographs, method).reshape(8, -1, 3).astype(np.float64)
    statistic = {
        "grey_world": changed.mean(axis=1),
        "shades_of_grey": (changed**6).mean(axis=1) ** (1 / 6),
        "max_rgb": changed.max(axis=1),
    }[method]
    np.testing.assert_allclose(statistic, statistic[:, :1].repeat(3, axis=1), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=30, deadline=None)
@given(image=arrays(np.uint8, (1, 3, 4, 3)))
def test_no_image_gives_anything_but_finite_gains(method, image):
    found = gains(torch.from_numpy(image), method)
    assert torch.isfinite(found).all()
    assert (found > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_black_images_and_dead_channels_stay_as_they_are(method):
    images = np.zeros((2, 5, 5, 3), np.uint8)
    images[1, ..., 0] = 200
    changed = corrected(images, method)
    assert (changed[0] == 0).all()
    assert (changed[1, ..., 1:] == 0).all()
    # A lone channel is brought down to the strength of three together.
    np.testing.assert_allclose(changed[1, ..., 0], 200 / np.sqrt(3), rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_an_image_is_judged_by_itself(photographs, method):
    together = gains(torch.from_numpy(photographs), method)
    alone = [gains(torch.from_numpy(photographs[i : i + 1]), method) for i in range(8)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_training_sees_what_evaluation_sees(photographs, method):
    images = torch.from_numpy(photographs)
    still = Recipe.from_dict({"augment": "none"}).augment
    plain = normalise(images, MEAN, STD, method)
    view = augment(images, still, torch.rand(8, DRAWS), MEAN, STD, method)
    torch.testing.assert_close(view, plain.contiguous(), atol=2e-5, rtol=1e-5)


def test_the_light_is_judged_before_the_view_is_made(photographs):
    """The same gains, however the image is moved and whatever fills its border."""
    images, draws = torch.from_numpy(photographs), torch.rand(8, DRAWS)
    wild = Augment(rotate=180, scale=1.5, fill="black", colour=0, hue=0)
    by_hand = augment(images, wild, draws, *RAW) * gains(images, "grey_world")[:, :, None, None]
    view = augment(images, wild, draws, *RAW, "grey_world")
    torch.testing.assert_close(view, by_hand, atol=1e-2, rtol=1e-4)


def test_a_method_that_is_none():
    images = torch.full((2, 3, 3, 3), 7, dtype=torch.uint8)
    assert (gains(images, "none") == 1).all()
    with pytest.raises(ValueError, match="gray_world"):
        gains(images, "gray_world")


@pytest.mark.parametrize("method", METHODS)
def test_it_can_be_exported_for_any_batch(method):
    class Preprocessing(torch.nn.Module):
        def forward(self, images):
            return normalise(images, MEAN, STD, method)

    images = torch.randint(0, 256, (3, 8, 9, 3), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(
        Preprocessing(), (images,), dynamic_shapes={"images": {0: batch}}
    ).module()
    other = torch.randint(0, 256, (5, 8, 9, 3), dtype=torch.uint8)
    torch.testing.assert_close(exported(other), normalise(other, MEAN, STD, method))
