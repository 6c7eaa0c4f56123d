"""A small catalogue for a first step: some lesions, every class with its share."""

from __future__ import annotations

import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.catalogue.limit import limited
from lesionlab.errors import SettingsError
from lesionlab.tables import lesions_of


@pytest.fixture
def data(tmp_path):
    """400 lesions of two images each: 300 nv, 96 mel, 4 df; every tenth of unknown lesion."""
    rows = [
        (f"i{lesion}_{image}", f"l{lesion}", label)
        for lesion, label in enumerate(["nv"] * 300 + ["mel"] * 96 + ["df"] * 4)
        for image in range(2)
    ]
    table = pd.DataFrame(rows, columns=["image_id", "lesion_id", "target"])
    return Catalogue(table, ("df", "mel", "nv"), tmp_path)


@pytest.mark.parametrize("lesions", [3, 7, 40, 100, 399])
def test_classes_keep_their_share_and_lesions_their_images(data, lesions):
    small = limited(data, lesions)
    assert lesions_of(small.table).nunique() == lesions
    assert len(small) == 2 * lesions
    for label, size in (("nv", 300), ("mel", 96), ("df", 4)):
        count = lesions_of(small.table[small.table["target"] == label]).nunique()
        assert count >= 1
        assert abs(count - size / 400 * lesions) <= 1 + (lesions < 100)


def test_the_draw_is_of_its_seed_alone(data):
    assert limited(data, 40).table.equals(limited(data, 40).table)
    assert not limited(data, 40).table.equals(limited(data, 40, seed=1).table)
    shuffled = Catalogue(data.table.sample(frac=1, random_state=3), data.classes, data.root)
    assert set(limited(shuffled, 40).table["image_id"]) == set(limited(data, 40).table["image_id"])


def test_too_few_are_refused_and_all_are_all(data):
    with pytest.raises(SettingsError, match="there are 3 classes"):
        limited(data, 2)
    assert limited(data, 400) is data


def test_the_command_makes_a_small_catalogue_elsewhere(ham, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["catalogue", str(ham), "--limit", "10"]) == 2
    assert "say with --out" in capsys.readouterr().err
    assert main(["catalogue", str(ham), "--limit", "10", "--out", "small"]) == 0
    small = Catalogue.open("small")
    assert small.lesions == 10
    assert (small.root / small.table["path"].iloc[0]).is_file()
    assert main(["split", "small", "--kind", "holdout"]) == 0
