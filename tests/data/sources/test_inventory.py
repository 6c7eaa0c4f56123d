"""What is a photograph among the files of a folder, and what lies beside it."""

import pytest

from lesionlab.data.sources.inventory import IGNORED, MASK, take_inventory
from lesionlab.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("a/1.png", "a/2.jpg", "b/3.png"):
        put(tmp_path, name)
    return tmp_path


def put(folder, name):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "name",
    ["a/1mask.png", "a/1Mask.PNG", "a/1-mask.jpg", "a/1 segmentation.png", "a/2_seg.png",
     "a/2_lesion.bmp", "a/1_contour.png", "b/1_mask.png"],
)  # fmt: skip
def test_a_mask_is_known_by_the_image_beside_it(folder, name):
    put(folder, name)
    found = take_inventory(folder)
    assert found.left_out == {name: MASK}
    assert found.images == ("a/1.png", "a/2.jpg", "b/3.png")


@pytest.mark.parametrize("name", ["b/1mask.png", "a/2_lesion.jpg", "a/lesion.png", "a/bitmask.png"])
def test_other_photographs_are_taken(folder, name):
    put(folder, name)
    assert name in take_inventory(folder).images


def test_files_are_ignored_by_a_pattern(folder):
    assert take_inventory(folder, ["*2.JPG"]).left_out == {"a/2.jpg": IGNORED}
    assert take_inventory(folder, ["a/*"]).images == ("b/3.png",)
    with pytest.raises(DataError, match=r"no folder and no file \*mask.png"):
        take_inventory(folder, ["*mask.png"])
