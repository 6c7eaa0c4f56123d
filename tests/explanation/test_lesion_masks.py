"""Masks: found by name, read whole, and framed like their photographs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lesionlab.data.images.decode import to_pixels
from lesionlab.errors import DataError
from lesionlab.explanation.lesion_masks import Masks, drawn_mask, framed
from lesionlab.recipe.schema import Images


def draw(path, size=(60, 80), box=(10, 20, 40, 60), mode="L"):
    pixels = np.zeros(size, np.uint8)
    pixels[box[0] : box[2], box[1] : box[3]] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
    return pixels > 0


def test_names_of_every_usual_kind_are_found(tmp_path):
    names = ("A_segmentation.png", "sub/B_Segmentation.PNG", "C.png", "D_mask.bmp")
    for name in names:
        draw(tmp_path / name)
    found = Masks.open(tmp_path)
    assert set(found.files) == {"A", "B", "C", "D"}
    assert found.file("A") == tmp_path / names[0]
    assert found.file("other id", "part_1/B.jpg") == tmp_path / names[1]
    assert found.file("E") is None


def test_beside_photographs_only_names_with_a_suffix_are_masks(tmp_path):
    draw(tmp_path / "images/A.png")  # a photograph
    draw(tmp_path / "masks/A_segmentation.png")
    assert Masks.beside(tmp_path).files == {"A": tmp_path / "masks/A_segmentation.png"}


def test_what_is_wrong_with_a_folder_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"is no folder.*--masks"):
        Masks.open(tmp_path / "gone")
    with pytest.raises(DataError, match=r"holds no masks.*--masks"):
        Masks.open(tmp_path)
    draw(tmp_path / "A.png")
    draw(tmp_path / "again/A_segmentation.png")
    with pytest.raises(DataError, match=r"more than one mask of 1 images: A\.png and again"):
        Masks.open(tmp_path)


def test_masks_of_another_shape_are_refused_all_at_once(tmp_path):
    draw(tmp_path / "A.png", (30, 40), (5, 10, 20, 30))  # half the scale: fine
    draw(tmp_path / "B.png", (60, 60), (5, 10, 20, 30))
    draw(tmp_path / "C.png", (80, 60), (5, 10, 20, 30))  # on its side
    (tmp_path / "D.png").write_bytes(b"nothing")
    found = Masks.open(tmp_path)
    wanted = [(name, f"{name}.jpg", (60, 80)) for name in "ABCDE"]
    assert set(found.read(wanted[:1])) == {"A"}
    with pytest.raises(DataError) as error:
        found.read(wanted)
    text = str(error.value)
    assert "2 masks" in text
    assert "B.png has 60 x 60 pixels, its photograph 60 x 80" in text
    assert "C.png" in text
    assert "whole photograph" in text
    assert "1 masks" in text
    assert "D.png" in text


def test_sides_may_be_rounded(tmp_path):
    draw(tmp_path / "A.png", (151, 201))
    assert Masks.open(tmp_path).read([("A", "", (450, 600))])["A"].shape == (151, 201)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "P", "LA"])
def test_any_mode_of_picture_is_read_alike(tmp_path, mode):
    wanted = draw(tmp_path / "A.png", mode=mode)
    np.testing.assert_array_equal(drawn_mask(Image.open(tmp_path / "A.png")), wanted)


def test_zeros_and_ones_do_as_well_and_grey_is_cut_in_the_middle():
    values = np.array([[0, 1], [1, 0]], np.uint8)
    np.testing.assert_array_equal(drawn_mask(Image.fromarray(values)), values > 0)
    grey = np.array([[0, 127], [128, 255]], np.uint8)
    np.testing.assert_array_equal(drawn_mask(Image.fromarray(grey)), grey > 127)
    assert not drawn_mask(Image.fromarray(np.zeros((2, 2), np.uint8))).any()


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_a_mask_goes_through_the_geometry_of_its_photograph(fit):
    """A photograph that is its own mask, at twice the mask's scale, comes out the same."""
    rng = np.random.default_rng(0)
    blocks = rng.random((6, 8)) < 0.5
    mask = blocks.repeat(20, 0).repeat(20, 1)
    photo = Image.fromarray((mask.repeat(2, 0).repeat(2, 1) * 255).astype(np.uint8))
    images = Images(size=(96, 96), fit=fit)
    pixels = to_pixels(photo, images)[..., 0]
    made = framed(mask, images)
    assert made.shape == (96, 96)
    assert made.dtype == bool
    sure = (pixels < 20) | (pixels > 235)  # away from the edges, which the photograph blends
    assert sure.mean() > 0.6
    np.testing.assert_array_equal(made[sure], pixels[sure] > 127)
    if fit == "pad":
        assert not made[:12].any()
        assert made[12:84].any()


def test_nearest_pixels_are_taken_and_nothing_is_blended():
    mask = np.zeros((4, 4), bool)
    mask[1, 2] = True
    made = framed(mask, Images(size=(8, 8)))
    wanted = np.zeros((8, 8), bool)
    wanted[2:4, 4:6] = True
    np.testing.assert_array_equal(made, wanted)
    dots = np.zeros((12, 12), bool)
    dots[1::3, 1::3] = True  # the middle of every square of three pixels
    assert framed(dots, Images(size=(4, 4))).all()
