"""A bundle calibrated again for another place, from images without labels."""

import numpy as np
import pytest
from bundles import SIZE, adaptable_bundle, drawn_pixels, tiny_bundle
from PIL import Image

import lesionlab as ll
from lesionlab.cli.app import main
from lesionlab.errors import BundleError, DataError


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("adapt")


@pytest.fixture(scope="module")
def bundle(home):
    return adaptable_bundle(home)


@pytest.fixture(scope="module")
def clinic(home):
    folder = home / "clinic"
    folder.mkdir()
    for place, each in enumerate(drawn_pixels(60, 2, spread=26)):
        Image.fromarray(each).save(folder / f"{place}.png")
    return folder


@pytest.fixture(scope="module")
def adapted(bundle, clinic, home):
    return ll.adapt(bundle, clinic, out=home / "ours.bundle")


def test_the_network_stays_and_what_was_fitted_is_fitted_again(bundle, adapted, clinic):
    made = adapted.bundle
    assert made.network(made.members[0]) == bundle.network(bundle.members[0])
    assert made.fingerprint != bundle.fingerprint
    assert made.sets.quantiles != bundle.sets.quantiles
    assert set(made.thresholds) == set(bundle.thresholds)
    assert adapted.temperature != 1
    assert all(made.thresholds[name] <= limit for name, limit in bundle.thresholds.items())
    limits = zip(made.referral.limits, bundle.referral.limits, strict=True)
    assert all(new.threshold <= old.threshold for new, old in limits)
    assert len(set(ll.Predictor(made)([clinic])["reason"])) >= 1
    told = made.info["adapted"]
    assert (told["images"], told["from"]) == (60, bundle.fingerprint)
    assert sum(told["prevalence"].values()) == pytest.approx(1)
    assert made.measured is None  # nothing was measured there


def test_the_card_says_first_what_was_adapted_from_how_many_images(adapted):
    made = adapted.bundle
    assert "from 60 of its images without labels" in made.card["caveats"][0]
    assert "from 60 of its images without labels" in made.card_html
    assert adapted.bundle.info["adapted"]["text"] == made.card["caveats"][0]


def test_what_it_found_is_a_table_of_the_classes(bundle, adapted):
    table = adapted.table()
    assert list(table["class"]) == list(bundle.classes)
    assert table["share"].sum() == pytest.approx(1)
    assert "60 images without labels" in str(adapted)


def test_an_adapted_bundle_can_be_adapted_and_gives_the_same_again(adapted, clinic, home):
    again = ll.adapt(adapted.bundle, [clinic], out=home / "again.bundle")
    assert again.bundle.sets.quantiles == pytest.approx(adapted.bundle.sets.quantiles, abs=1e-3)
    assert again.temperature == pytest.approx(1, abs=0.01)


def test_too_few_images_other_images_and_old_bundles_are_refused(bundle, clinic, home):
    files = sorted(clinic.glob("*.png"))
    out = home / "not.bundle"
    with pytest.raises(DataError, match="9 images are too few to adapt to: it takes 50"):
        ll.adapt(bundle, files[:9], out=out)
    other = home / "other"
    other.mkdir(exist_ok=True)
    for place, each in enumerate(drawn_pixels(60, 3, spread=0)):
        Image.fromarray(each // 16).save(other / f"{place}.png")
    with pytest.raises(DataError, match=r"too far .* 100% of them are unlike"):
        ll.adapt(bundle, other, out=out)
    with pytest.raises(BundleError, match="Export it again"):
        ll.adapt(tiny_bundle(home, name="plain.bundle"), clinic, out=out)
    assert not out.exists()


def test_answers_that_val_hardly_gave_are_too_far(bundle, home):
    folder = home / "far"
    folder.mkdir()
    one = np.full((*SIZE, 3), (150, 60, 200), np.uint8)
    for place in range(60):
        Image.fromarray(one + np.uint8(place % 4)).save(folder / f"{place}.png")
    with pytest.raises(DataError, match=r"of 400 lesions only \d+ have answers as they are given"):
        ll.adapt(bundle, folder, out=home / "not.bundle")


def test_what_cannot_be_read_is_left_out_and_said(bundle, clinic, home):
    (home / "broken.png").write_bytes(b"no image")
    heard = []
    made = ll.adapt(
        bundle, [clinic, home / "broken.png"], out=home / "few.bundle", listen=heard.append
    )
    assert made.images == 60
    assert any("1 of 61 images cannot be read" in getattr(each, "text", "") for each in heard)


def test_the_command_says_what_changed_and_what_to_do_next(bundle, clinic, home, capsys):
    assert main(["adapt", str(bundle.path), str(clinic), "--out", str(home / "line.bundle")]) == 0
    printed = capsys.readouterr().out
    assert "Estimated from 60 images without labels" in printed
    assert "lesionlab predict photo.jpg --model" in printed
    assert main(["adapt", str(bundle.path), "--out", str(home / "line.bundle")]) == 2
    assert "Give images to adapt to" in capsys.readouterr().err
