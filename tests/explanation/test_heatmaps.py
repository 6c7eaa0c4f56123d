from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

from lesionlab.data.images.faults import ImageFault
from lesionlab.data.images.reader import Reader
from lesionlab.explanation.grad_cam import spread
from lesionlab.explanation.heatmaps import colours, lesion_mask, outlined, overlay, photograph
from lesionlab.recipe.schema import Images

STRETCH, CROP = Images(size=(32, 32)), Images(size=(32, 32), fit="crop")


def test_m20_high_is_warm_and_low_is_cold_over_any_skin():
    """Source D laid blue-green-red colours over a red-green-blue image: hot came out blue."""
    grid = np.zeros((1, 6, 8), np.float32)
    grid[0, 1, 6] = 3
    shares = spread(grid, (60, 80))[0]
    hot, cold = (15, 65), (45, 15)
    for skin in ([200, 200, 200], [224, 172, 150], [92, 60, 48], [10, 10, 10]):
        drawn = overlay(np.full((60, 80, 3), skin, np.uint8), shares).astype(int)
        assert drawn[hot][0] > drawn[hot][2] + 60
        assert drawn[cold][2] - drawn[cold][0] > drawn[hot][2] - drawn[hot][0] + 150
    grey = overlay(np.full((60, 80, 3), 128, np.uint8), shares).astype(int)
    assert grey[cold][2] > grey[cold][0] + 30
    warmth = grey[..., 0] - grey[..., 2]
    assert np.unravel_index(warmth.argmax(), warmth.shape) in [
        (row, column) for row in range(10, 20) for column in range(60, 70)
    ]


def test_the_photograph_keeps_its_own_colours_under_the_map():
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2, :, 0] = 255
    picture[2:, :, 2] = 255
    drawn = overlay(picture, np.full((4, 4), 0.5)).astype(int)
    assert drawn[0, 0, 0] - drawn[3, 0, 0] == pytest.approx(127.5, abs=1)
    assert drawn[3, 0, 2] - drawn[0, 0, 2] == pytest.approx(127.5, abs=1)


def test_colours_run_from_blue_to_red_and_are_bright_at_both_ends():
    ramp = colours(np.linspace(0, 1, 50)).astype(int)
    assert ramp.shape == (50, 3)
    assert ramp[0].argmax() == 2
    assert ramp[-1].argmax() == 0
    assert ramp[0].max() > 150
    assert ramp[-1].max() > 150
    assert np.abs(np.diff(ramp, axis=0)).max() < 40


@pytest.fixture
def photo(tmp_path):
    """80 x 40, red on its left, blue on its right."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40, 0] = pixels[:, 40:, 2] = 250
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path


def test_a_stretched_image_is_shown_in_its_own_proportions(photo):
    reader = Reader(photo)
    assert photograph(reader, "a.png", STRETCH).shape == (40, 80, 3)
    small = photograph(reader, "a.png", STRETCH, side=40)
    assert small.shape == (20, 40, 3)
    assert small[10, 5].argmax() == 0
    assert small[10, 35].argmax() == 2


def test_a_cropped_image_is_shown_as_it_was_cropped(photo):
    shown = photograph(Reader(photo), "a.png", CROP)
    assert shown.shape == (80, 80, 3)
    assert (shown[40, 20].argmax(), shown[40, 60].argmax()) == (0, 2)


def test_a_photograph_on_its_side_is_turned_upright(tmp_path):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40, 0] = 250
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter, clockwise
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    shown = photograph(Reader(tmp_path), "a.jpg", STRETCH)
    assert shown.shape == (80, 40, 3)
    assert shown[10, 20, 0] > 200
    assert shown[70, 20, 0] < 50


def test_a_photograph_that_was_changed_is_refused(photo):
    content = (photo / "a.png").read_bytes()
    good = hashlib.sha256(content).hexdigest()
    assert photograph(Reader(photo), "a.png", STRETCH, good).any()
    with pytest.raises(ImageFault, match="not the file that was catalogued"):
        photograph(Reader(photo), "a.png", STRETCH, "0" * 64)


def test_a_mask_belongs_to_the_nearest_of_the_collections_of_a_joined_catalogue(tmp_path):
    for name, side in (("one", 0), ("two", 40)):
        inside = np.zeros((40, 80), np.uint8)
        inside[:, side : side + 40] = 255
        (tmp_path / name / "part").mkdir(parents=True)
        (tmp_path / name / "masks").mkdir()
        Image.fromarray(inside).save(tmp_path / name / "masks" / "a_segmentation.png")
    for name, side in (("one", 0), ("two", 40)):
        mask = lesion_mask(tmp_path, f"{name}/part/a.png", STRETCH, (40, 80))
        assert mask[:, side : side + 40].all()
        assert mask.mean() == 0.5
    assert lesion_mask(tmp_path, "one.npz#a/a", STRETCH, (40, 80)) is None


def test_a_mask_is_found_framed_alike_and_outlined(photo):
    inside = np.zeros((40, 80), np.uint8)
    inside[10:30, 20:60] = 255
    (photo / "masks").mkdir()
    Image.fromarray(inside).save(photo / "masks" / "a_segmentation.png")
    mask = lesion_mask(photo, "a", STRETCH, (40, 80))
    np.testing.assert_array_equal(mask, inside > 0)
    cropped = lesion_mask(photo, "a", CROP, (80, 80))
    assert cropped[40, 40]
    assert not cropped[10, 40]
    assert cropped.mean() == pytest.approx(0.5, abs=0.05)  # of the middle square
    assert lesion_mask(photo, "b", STRETCH, (40, 80)) is None
    picture = np.full((40, 80, 3), 100, np.uint8)
    drawn = outlined(picture, mask)
    assert (drawn[10, 40] == 255).all()
    assert (drawn[20, 40] == 100).all()
    assert (drawn[2, 2] == 100).all()
    assert (picture == 100).all()
    assert outlined(picture, None) is picture
    assert (outlined(picture, np.zeros((40, 80), bool)) == 100).all()
