from __future__ import annotations

import kornia
import pytest
import torch

from lesionlab.augmentation.symmetries import NAMES, symmetry


def square():
    return torch.rand(2, 3, 11, 11, generator=torch.Generator().manual_seed(0))


def test_of_a_square_all_eight_are_exact_and_do_what_their_names_say():
    picture = square()
    dims = (2, 3)
    expected = {
        "as it is": picture,
        "mirrored left-right": picture.flip(3),
        "mirrored top-bottom": picture.flip(2),
        "turned by 180 degrees": picture.rot90(2, dims),
        "mirrored along the diagonal": picture.transpose(2, 3),
        "turned by 90 degrees clockwise": picture.rot90(-1, dims),
        "turned by 90 degrees anticlockwise": picture.rot90(1, dims),
        "mirrored along the other diagonal": picture.rot90(1, dims).flip(3),
    }
    for number, name in enumerate(NAMES):
        assert torch.equal(symmetry(picture, number), expected[name]), name
    assert len(expected) == 8


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_the_first_views_are_a_group(views):
    picture = square()
    all_of_them = [symmetry(picture, number) for number in range(views)]
    for one in range(views):
        for two in range(views):
            both = symmetry(symmetry(picture, one), two)
            assert sum(torch.equal(both, each) for each in all_of_them) == 1


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_of_an_oblong_the_flips_are_exact(shape):
    picture = torch.rand(1, 3, *shape)
    for number, dims in ((0, []), (1, [3]), (2, [2]), (3, [2, 3])):
        assert torch.equal(symmetry(picture, number), picture.flip(dims))


def region(height, width):
    """Where in a view an oblong picture on its side lies: rows and columns, half a pixel spared."""
    long, short = max(height, width), min(height, width)
    margin = round((long - short * short / long) / 2) + 1
    spared = slice(margin, long - margin)
    return (slice(0, height), spared) if width > height else (spared, slice(0, width))


@pytest.mark.parametrize(("height", "width"), [(60, 80), (80, 60), (60, 90)])
@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_an_oblong_on_its_side_keeps_its_shapes(height, width, number):
    """A ring is still a ring, smaller by just so much that the long side fits."""
    ys = torch.arange(height)[:, None] + 0.5 - height / 2
    xs = torch.arange(width)[None, :] + 0.5 - width / 2
    picture = torch.exp(-(((xs**2 + ys**2).sqrt() - 20) ** 2) / 8)[None, None]
    turned = symmetry(picture, number)
    assert turned.shape == picture.shape
    rows, columns = region(height, width)
    weight = turned[0, 0, rows, columns]
    across = (weight * xs[:, columns] ** 2).sum() / weight.sum()
    down = (weight * ys[rows] ** 2).sum() / weight.sum()
    assert (across / down).item() == pytest.approx(1, rel=0.03)
    smaller = min(height, width) / max(height, width)
    assert (across + down).item() == pytest.approx((20 * smaller) ** 2, rel=0.08)


@pytest.mark.parametrize(("height", "width"), [(60, 80), (80, 60), (60, 90)])
@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_an_oblong_on_its_side_is_whole(height, width, number):
    """All that was in the picture is in the view, to the last row and column."""
    ramp = torch.arange(height)[:, None] / (height - 1) + 10 * torch.arange(width) / (width - 1)
    rows, columns = region(height, width)
    seen = symmetry(ramp[None, None], number)[0, 0, rows, columns]
    assert seen.min() < 0.4
    assert seen.max() > 11 - 0.4
    assert seen.mean().item() == pytest.approx(5.5, abs=0.1)


@pytest.mark.parametrize(("height", "width"), [(60, 80), (80, 60)])
@pytest.mark.parametrize(("number", "angle"), [(5, -90.0), (6, 90.0)])
def test_an_oblong_on_its_side_is_kornias(height, width, number, angle):
    ys, xs = torch.arange(height) / 9, torch.arange(width) / 7
    picture = (ys.sin()[:, None] + xs.cos()[None, :] + (ys[:, None] + xs) / 10)[None, None]
    smaller = min(height, width) / max(height, width)
    expected = kornia.geometry.affine(
        picture,
        kornia.geometry.get_rotation_matrix2d(
            torch.tensor([[(width - 1) / 2, (height - 1) / 2]]),
            torch.tensor([angle]),
            torch.tensor([[smaller, smaller]]),
        ),
        align_corners=True,
    )
    rows, columns = region(height, width)
    inside = (
        0,
        0,
        slice(rows.start + 1, rows.stop - 1),
        slice(columns.start + 1, columns.stop - 1),
    )
    torch.testing.assert_close(
        symmetry(picture, number)[inside], expected[inside], atol=1e-4, rtol=1e-4
    )
