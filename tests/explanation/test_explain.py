"""`explain`, from a run's folder to a page."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import lesionlab as ll
from lesionlab.cli.app import main
from lesionlab.errors import DataError, RunError, SettingsError
from lesionlab.explanation import explain_page
from lesionlab.explanation.explain_result import ClassMap, Explained, Explanations
from lesionlab.progress import Notice
from lesionlab.run import Run


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    """The usual call, with everything, and its folder."""
    folder = tmp_path_factory.mktemp("out")
    return ll.explain(run, count=4, untrained=True, out=folder), folder


def test_images_are_drawn_from_the_part_and_predicted_as_predict_does(run, made):
    table, told = run.predictions.set_index("image_id"), made[0]
    assert len(told.images) == 4
    for image in told.images:
        row = table.loc[image.image_id]
        assert row["part"] == image.part == "test"
        assert row["target"] == image.target
        for label in run.classes:
            assert image.probabilities[label] == pytest.approx(row[f"p_{label}"], abs=1e-5)
        wanted = dict.fromkeys((image.predicted, image.target))
        assert [each.label for each in image.maps] == list(wanted)
        assert image.right == (image.predicted == image.target)
        assert image.picture.shape == (60, 80, 3)
        assert image.mask.shape == (60, 80)
        assert image.mask.any()
        assert all(each.grid.shape == told.layer.grid for each in image.maps)


def test_the_folder_holds_a_page_pictures_a_table_and_the_maps(made):
    told, folder = made
    names = {f"{image.image_id}.png" for image in told.images}
    assert {each.name for each in folder.iterdir()} == {
        "explain.html",
        "explain.csv",
        "maps.npz",
        *names,
    }
    with Image.open(folder / sorted(names)[0]) as picture:
        assert picture.size[0] > 300
    table = pd.read_csv(folder / "explain.csv")
    maps = [(image.image_id, each) for image in told.images for each in image.maps]
    assert list(zip(table["image_id"], table["class"], strict=True)) == [
        (name, each.label) for name, each in maps
    ]
    with np.load(folder / "maps.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["grid"], [each.grid for _, each in maps])
        np.testing.assert_array_equal(arrays["grid_untrained"], [m.untrained for _, m in maps])
        assert list(arrays["class"]) == list(table["class"])


def test_the_page_needs_nothing_else_and_says_what_a_map_is_not(made):
    told, folder = made
    text = (folder / "explain.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', text)
    assert len(sources) > 8
    assert all(each.startswith("data:") for each in sources)
    assert "default-src 'none'" in text
    assert "<script" not in text
    for image in told.images:
        assert image.image_id in text
    assert "no proof of what the network attends to" in " ".join(text.split())
    assert "Not for diagnosis" in text
    assert text.count("<small>untrained, likeness") == sum(
        not np.isnan(each.likeness) for image in told.images for each in image.maps
    )
    right = sum(bool(image.right) for image in told.images)
    assert text.count("✓ right") == right
    assert text.count("✗ called") == len(told.images) - right
    assert str(folder) not in text


def test_the_untrained_network_is_another_one_by_seed(run):
    name = run.predictions["image_id"][0]

    def maps(seed):
        told = ll.explain(run, [name], classes=["all"], untrained=True, seed=seed)
        return [np.stack([getattr(m, w) for m in told.images[0].maps]) for w in _BOTH]

    trained, random = maps(0)
    again, same = maps(0)
    _, other = maps(1)
    np.testing.assert_array_equal(again, trained)
    np.testing.assert_array_equal(same, random)
    assert not np.array_equal(other, random)
    assert not np.array_equal(trained, random)


_BOTH = ("grid", "untrained")


def test_likeness_is_a_rank_correlation():
    grid = np.array([[1, 2], [3, 9]], np.float32)
    assert ClassMap("nv", grid, 7 * grid**2).likeness == pytest.approx(1)
    assert ClassMap("nv", grid, 10 - grid).likeness == pytest.approx(-1)
    assert np.isnan(ClassMap("nv", grid, np.zeros_like(grid)).likeness)
    assert np.isnan(ClassMap("nv", grid).likeness)


def test_a_map_is_measured_against_the_lesion_and_the_finding_is_in_words(made):
    told, folder = made
    image = next(each for each in told.images if each.mask is not None and not each.maps[0].blank)
    even = ClassMap("nv", np.ones((4, 6), np.float32))
    assert image.inside(even) == pytest.approx(image.covered, abs=1e-5)
    assert np.isnan(image.inside(ClassMap("nv", np.zeros((4, 6), np.float32))))
    whole = replace(image, mask=np.ones_like(image.mask))
    assert whole.inside(image.maps[0]) == pytest.approx(1)
    assert "of a map lies inside the lesion" in told.finding
    assert told.finding in (folder / "explain.html").read_text()
    assert told.finding in told._repr_html_()
    assert told._repr_html_().count("<img") > len(told.images)


def test_files_need_no_catalogue_and_have_no_true_class(run, ham, tmp_path):
    photos = sorted(ham.rglob("*.jpg"))[:2]
    (tmp_path / "broken.jpg").write_bytes(photos[0].read_bytes()[:200])
    heard = []
    told = ll.explain(
        run, files=[*photos, tmp_path / "broken.jpg"], out=tmp_path / "p.html", listen=heard.append
    )
    assert [image.image_id for image in told.images] == [each.stem for each in photos]
    assert all(image.right is None and image.target == "" for image in told.images)
    assert all([m.label for m in image.maps] == [image.predicted] for image in told.images)
    assert any("broken" in each.text for each in heard if isinstance(each, Notice))
    assert [each.name for each in tmp_path.glob("p*")] == ["p.html"]
    assert "Class unknown" in (tmp_path / "p.html").read_text()
    with pytest.raises(SettingsError, match="true class of these images is unknown"):
        ll.explain(run, files=photos, classes=["target"])
    with pytest.raises(DataError, match="None of the 1 images can be read"):
        ll.explain(run, files=[tmp_path / "broken.jpg"])


def test_files_and_catalogued_images_can_be_asked_for_together(run, ham):
    name = run.predictions["image_id"][3]
    photo = sorted(ham.rglob("*.jpg"))[0]
    told = ll.explain(run, [name, name], files=[photo], classes=["mel", "nv"])
    assert [image.image_id for image in told.images] == [name, photo.stem]
    assert [m.label for image in told.images for m in image.maps] == ["mel", "nv"] * 2


def test_metadata_are_those_of_the_catalogue(run, monkeypatch):
    """A fused network gets the image's own sex, and nothing for a file."""
    from lesionlab.explanation import compute_maps

    seen = []
    real = compute_maps.grad_cam
    monkeypatch.setattr(
        compute_maps, "grad_cam", lambda *a, **k: seen.append(k["metadata"]) or real(*a, **k)
    )
    data = ll.Catalogue.open(run.info["catalogue"]).table
    names = [data.query("sex == @sex")["image_id"].iloc[0] for sex in ("female", "male")]
    ll.explain(run, names, classes=["nv"])
    assert len(set(seen[0][:, 0].tolist())) == 2
    assert 0 not in seen[0]
    ll.explain(run, files=[next(_photos(run))], classes=["nv"])
    assert seen[1].tolist() == [[0]]


def _photos(run):
    return ll.Catalogue.open(run.info["catalogue"]).root.rglob("*.jpg")


def test_a_blank_map_says_so(run, tmp_path):
    """A class that nothing speaks for: its weights are all zero."""
    folder = tmp_path / "run"
    folder.mkdir()
    for each in run.folder.iterdir():
        if each.is_file():
            (folder / each.name).write_bytes(each.read_bytes())
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if key.endswith("fc.weight"))
    weights[name][list(run.classes).index("mel")] = 0
    save_file(weights, folder / "model.safetensors")
    image = run.predictions["image_id"][0]
    told = ll.explain(folder, [image], classes=["mel"], untrained=True, out=tmp_path / "out")
    assert told.images[0].maps[0].blank
    assert told.table()["blank"].tolist() == [True]
    assert "1 of 1 maps are blank" in told.warnings[0]
    text = (tmp_path / "out" / "explain.html").read_text()
    assert "blank map: no place speaks for mel" in text
    assert "1 of 1 maps are blank" in text
    assert (tmp_path / "out" / f"{image}.png").is_file()


def test_wrong_wishes_are_told_before_anything_is_written(run, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(SettingsError, match="'mole'"):
        ll.explain(run, classes=["mole"], out=out)
    with pytest.raises(DataError, match="no image A, B"):
        ll.explain(run, ["A", run.predictions["image_id"][0], "B"], out=out)
    with pytest.raises(DataError, match="does not exist"):
        ll.explain(run, files=[tmp_path / "gone.jpg"], out=out)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    for name in ("run.json", "recipe.yaml"):
        (unfinished / name).write_bytes((run.folder / name).read_bytes())
    Run.open(unfinished).update(state="training")
    with pytest.raises(RunError, match="not finished"):
        ll.explain(unfinished, out=out)
    assert not out.exists()


def test_right_and_wrong_stand_side_by_side_by_class(made):
    told = made[0]
    grid = np.ones(told.layer.grid, np.float32)
    photo = np.zeros((4, 4, 3), np.uint8)

    def image(name, target, predicted):
        probabilities = dict.fromkeys(told.classes, 0.0) | {predicted: 1.0}
        return Explained(name, target, "test", probabilities, (ClassMap(predicted, grid),), photo)

    images = [
        image("a", "nv", "nv"),
        image("b", "nv", "nv"),
        image("c", "mel", "mel"),
        image("d", "nv", "mel"),
        image("e", "mel", "nv"),
        image("f", "", "nv"),
    ]
    groups = explain_page._groups(Explanations("r", "n", told.classes, told.layer,
        (8, 8), tuple(images), "drawn"))  # fmt: skip
    ids = {label: [each.image_id for each in group] for label, group in groups.items()}
    assert ids == {"mel": ["c", "e"], "nv": ["a", "d", "b"], "": ["f"]}


def test_the_verb(run, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["explain", str(run.folder), "--count", "2", "--classes", "predicted", "mel"]
    assert main([*words, "--untrained", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert "Maps at layer4, 2 x 3 places" in shown.out
    assert f"Written: {out / 'explain.html'}" in shown.out
    assert "too few to say where" in " ".join(shown.out.split())
    assert len(list(out.glob("*.png"))) == 2
    assert main([*words, "--images", "nobody"]) == 2
    assert "no image nobody" in capsys.readouterr().err
