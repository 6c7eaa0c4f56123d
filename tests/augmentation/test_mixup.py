from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from lesionlab.augmentation.mixup import cutmix, mix, mixup
from lesionlab.recipe.schema import Augment


def batch(n=16, height=20, width=30):
    """Views that say which image each pixel is of, and a class of its own for each."""
    views = torch.arange(n, dtype=torch.float32)[:, None, None, None]
    return views.expand(n, 3, height, width).contiguous(), torch.arange(n)


def test_mixup_blends_views_and_labels_alike():
    views, targets = batch()
    torch.manual_seed(4)
    mixed, soft = mixup(views, targets, 0.4, 16)
    torch.manual_seed(4)  # the same numbers as ever: one Beta draw per image
    share = torch.distributions.Beta(torch.tensor(0.4), torch.tensor(0.4)).sample((16,))
    neighbour = views.roll(1, 0)
    by = share[:, None, None, None]
    assert torch.equal(mixed, by * views + (1 - by) * neighbour)
    hot = functional.one_hot(targets, 16).float()
    assert torch.equal(soft, share[:, None] * hot + (1 - share)[:, None] * hot.roll(1, 0))


def test_cutmix_shares_labels_by_the_pixels_really_covered():
    views, targets = batch(64)
    torch.manual_seed(1)
    mixed, soft = cutmix(views, targets, 1.0, 64)
    own = (mixed == views).all(dim=1)
    foreign = (mixed == views.roll(1, 0)).all(dim=1)
    assert (own ^ foreign).all()
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(64))
    torch.testing.assert_close(soft[targets, targets], own.float().mean(dim=(1, 2)))
    torch.testing.assert_close(
        soft[targets, targets.roll(1)], foreign.float().mean(dim=(1, 2)), atol=1e-6, rtol=0
    )
    assert 0.1 < foreign.float().mean() < 0.5  # Beta(1, 1), less what sticks out
    assert len(soft[targets, targets].unique()) > 40  # each image has a draw of its own


def test_cutmix_pastes_one_box_of_the_pictures_shape():
    views, targets = batch(64, 40, 60)
    torch.manual_seed(2)
    mixed, _ = cutmix(views, targets, 1.0, 64)
    foreign = (mixed == views.roll(1, 0)).all(dim=1)
    inner = 0
    for each in foreign:
        rows, columns = each.any(dim=1), each.any(dim=0)
        assert torch.equal(each, rows[:, None] & columns[None, :])
        for line in (rows, columns):
            assert (line.int().diff() != 0).sum() <= 2  # in one piece
        if not (rows[0] or rows[-1] or columns[0] or columns[-1]):
            inner += 1
            assert abs(columns.sum() / 60 - rows.sum() / 40) <= 2 / 40 + 2 / 60
    assert inner > 5


def test_cutmix_covers_what_beta_says_where_nothing_sticks_out():
    views, targets = batch(64, 200, 200)
    torch.manual_seed(3)
    _, soft = cutmix(views, targets, 1.0, 64)
    torch.manual_seed(3)
    share = torch.distributions.Beta(torch.tensor(1.0), torch.tensor(1.0)).sample((64,))
    centre, half = torch.rand(2, 64), (1 - share).sqrt() / 2
    inside = ((centre - half > 0.02) & (centre + half < 0.98)).all(dim=0)
    assert inside.sum() > 5
    torch.testing.assert_close(soft[targets, targets][inside], share[inside], atol=0.02, rtol=0)


def test_the_draws_follow_torchs_seed():
    views, targets = batch()
    for each in (mixup, cutmix):
        results = []
        for seed in (5, 5, 6):
            torch.manual_seed(seed)
            results.append(each(views, targets, 0.7, 16)[0])
        assert torch.equal(results[0], results[1])
        assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("name", ["none", "mixup", "cutmix"])
def test_the_settings_choose(name):
    views, targets = batch()
    chosen = Augment() if name == "none" else Augment(**{name: 0.5})
    torch.manual_seed(0)
    found = mix(views, targets, chosen, 16)
    torch.manual_seed(0)
    expected = (
        (views, targets)
        if name == "none"
        else {"mixup": mixup, "cutmix": cutmix}[name](views, targets, 0.5, 16)
    )
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
