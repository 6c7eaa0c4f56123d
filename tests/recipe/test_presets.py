from __future__ import annotations

from dataclasses import asdict

import pytest

from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.splits import split
from lesionlab.errors import SettingsError
from lesionlab.recipe.presets import PRESETS
from lesionlab.recipe.schema import Augment, Recipe
from lesionlab.training import train

# What each source says of its own set; everything that it does not name is off.
SAID = {
    "none": {},
    "source_b": {"flip": "horizontal"},
    "source_b_oversampling": {"flip": "both", "scale": 1.25, "zoom": "in"},
    "source_c_baseline": {
        "rotate": 40,
        "shift": 0.2,
        "shear": 0.2,
        "scale": 1.2,
        "flip": "horizontal",
        "fill": "nearest",
    },
    "source_c": {"rotate": 60, "shift": 0.2, "shear": 0.2, "scale": 1.2, "fill": "nearest"},
    "source_d": {"rotate": 20, "scale": 1.2, "flip": "both", "fill": "nearest"},
    "source_e": {"rotate": 60, "flip": "horizontal", "fill": "black"},
}
OFF = {
    "own": (),
    "flip": "none",
    "rotate": 0,
    "scale": 1,
    "zoom": "both",
    "shift": 0,
    "shear": 0,
    "perspective": 0,
    "fill": "reflect",
    "colour": 0,
    "hue": 0,
    "illumination": 0,
    "cutout": 0,
    "mixup": 0,
    "cutmix": 0,
    "worst_of": 1,
}


@pytest.mark.parametrize("name", SAID)
def test_a_preset_is_what_its_source_says_and_nothing_else(name):
    recipe = Recipe.from_dict({"augment": name})
    assert asdict(recipe.augment) == {**OFF, **SAID[name]}


def test_what_source_e_wished_for_is_on():
    wish = Recipe.from_dict({"augment": "source_e_wish"}).augment
    assert wish.shift > 0  # translation
    assert wish.perspective > 0  # viewpoint
    assert wish.illumination > 0
    assert wish.colour > 0
    used = Recipe.from_dict({"augment": "source_e"}).augment
    assert (wish.flip, wish.rotate, wish.fill) == (used.flip, used.rotate, used.fill)


def test_every_preset_is_tested_and_the_default_is_the_default():
    assert set(PRESETS) == {*SAID, "default", "source_e_wish"}
    assert Recipe.from_dict({"augment": "default"}) == Recipe()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_resolved_and_saved_is_itself(tmp_path, name):
    recipe = Recipe.from_dict({"augment": name, "seed": 3})
    recipe.save(tmp_path / "resolved.yaml")
    assert "preset" not in (tmp_path / "resolved.yaml").read_text()
    back = Recipe.load(tmp_path / "resolved.yaml")
    assert back == recipe
    assert back.fingerprint() == recipe.fingerprint()


def test_a_preset_can_be_changed_in_the_file(tmp_path):
    (tmp_path / "r.yaml").write_text("augment: {hue: 0.1, preset: source_c, rotate: 5}")
    recipe = Recipe.load(tmp_path / "r.yaml")
    assert asdict(recipe.augment) == {**OFF, **SAID["source_c"], "hue": 0.1, "rotate": 5}


@pytest.fixture(scope="module")
def home(ham, tmp_path_factory):
    """A saved catalogue with its split."""
    folder = tmp_path_factory.mktemp("catalogue")
    data = catalogue(ham, out=folder)
    split(data, kind="holdout").save(folder / "split.csv")
    return folder


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["--augment", "source_c"], {}),
        (["--augment.preset", "source_c"], {}),
        (["--augment.hue", "0.1", "--augment.preset", "source_c"], {"hue": 0.1}),
        (["--augment", "source_c", "--augment.cutmix", "1.0"], {"cutmix": 1.0}),
        (["--augment", "{preset: source_c, hue: 0.2}"], {"hue": 0.2}),
    ],
)
def test_a_preset_on_the_command_line_wins_over_the_file(
    home, tmp_path, monkeypatch, words, changed
):
    asked = []

    def stop(recipe, *args, **kwargs):
        asked.append(recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", stop)
    (tmp_path / "r.yaml").write_text("augment: {rotate: 7, mixup: 0.4}")
    where = ["--data", str(home), "--out", str(tmp_path / "run")]
    assert main(["train", str(tmp_path / "r.yaml"), *where, *words]) == 130
    assert asdict(asked[0].augment) == {**OFF, **SAID["source_c"], **changed}


def test_an_unknown_preset_is_told_with_all_other_faults(tmp_path):
    (tmp_path / "r.yaml").write_text("augment: {preset: source_x, rotate: 500}\nbatch: 0")
    with pytest.raises(SettingsError) as caught:
        Recipe.load_with(tmp_path / "r.yaml", {"sede": 1})
    told = str(caught.value)
    assert "has 4 faults" in told
    assert "augment.preset: 'source_x' is not one of none, default, source_b," in told
    assert "augment.rotate: 500 is out of range" in told
    with pytest.raises(SettingsError, match="'flips' is not one of"):
        Recipe().but({"augment": "flips"})
    with pytest.raises(SettingsError, match="5 is not one of"):
        Recipe.from_dict({"augment": {"preset": 5}})
    assert Recipe().but({"augment": {"hue": 0.5}}).augment == Augment(hue=0.5)
