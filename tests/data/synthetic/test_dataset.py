import csv
import hashlib
import json
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score

from lesionlab.data.synthetic import dataset as module
from lesionlab.data.synthetic.dataset import COLUMNS, MASKS, PARTS, synthetic
from lesionlab.errors import DataError, SettingsError
from lesionlab.progress import Notice, Step
from lesionlab.taxonomy import HAM7

LESIONS, SIZE = 200, (72, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthetic(tmp_path_factory.mktemp("drawn") / "set", lesions=LESIONS, size=SIZE, seed=3)


def rows_of(folder):
    with (folder / "HAM10000_metadata.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def digest(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def photo(folder, image):
    path = next(p for p in (folder / part / f"{image}.jpg" for part in PARTS) if p.is_file())
    with Image.open(path) as picture:
        return np.asarray(picture, dtype=np.float32)


def mask(folder, image):
    with Image.open(folder / MASKS / f"{image}_segmentation.png") as picture:
        return np.asarray(picture)


def test_layout(folder):
    rows = rows_of(folder)
    assert tuple(rows[0]) == COLUMNS
    names = [row["image_id"] for row in rows]
    assert len(set(names)) == len(names)
    assert not any("ISIC" in name for name in names)
    photos = [path.stem for part in PARTS for path in (folder / part).iterdir()]
    assert sorted(photos) == sorted(names)
    assert all(len(list((folder / part).iterdir())) >= len(names) // 2 for part in PARTS)
    masks = {path.name for path in (folder / MASKS).iterdir()}
    assert masks == {f"{name}_segmentation.png" for name in names}
    assert photo(folder, names[0]).shape == (*SIZE, 3)
    assert "not photographs" in (folder / "README.txt").read_text()


def test_lesions_classes_and_metadata(folder):
    rows = rows_of(folder)
    by_lesion = defaultdict(list)
    for row in rows:
        by_lesion[row["lesion_id"]].append(row)
    assert len(by_lesion) == LESIONS
    assert all(len({(r["dx"], r["sex"], r["age"]) for r in own}) == 1 for own in by_lesion.values())
    assert {len(own) for own in by_lesion.values()} >= {1, 2, 3}
    sharing = sum(len(own) for own in by_lesion.values() if len(own) > 1) / len(rows)
    assert 0.3 < sharing < 0.6
    counts = Counter(own[0]["dx"] for own in by_lesion.values())
    assert set(counts) == set(HAM7)
    assert min(counts.values()) >= 0.06 * LESIONS
    assert counts.most_common(1)[0][0] == "nv"
    assert {row["sex"] for row in rows} <= {"male", "female", "unknown"}
    ages = {row["age"] for row in rows}
    assert "" in ages
    assert all(float(age) % 5 == 0 and 0 < float(age) <= 85 for age in ages - {""})
    assert {row["dx_type"] for row in rows if row["dx"] == "mel"} == {"histo"}


def test_same_seed_same_bytes_however_many_threads(tmp_path, monkeypatch):
    first = synthetic(tmp_path / "a", lesions=14, size=SIZE, seed=5)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 1)
    again = synthetic(tmp_path / "b", lesions=14, size=SIZE, seed=5)
    other = synthetic(tmp_path / "c", lesions=14, size=SIZE, seed=6)
    assert digest(first) == digest(again)
    assert not set(digest(first).values()) & {
        value for name, value in digest(other).items() if name.endswith(".jpg")
    }


def test_masks_show_where_the_lesion_is(folder):
    contrast = defaultdict(list)
    for row in rows_of(folder):
        inside = mask(folder, row["image_id"])
        assert inside.shape == SIZE
        assert set(np.unique(inside)) == {0, 255}
        assert 0.05 < (inside > 0).mean() < 0.70
        pixels = photo(folder, row["image_id"])
        lit = pixels.max(axis=2) > 40  # not the black corners
        difference = pixels[(inside > 0) & lit].mean(0) - pixels[(inside == 0) & lit].mean(0)
        contrast[row["dx"]].append(np.abs(difference).max())
    for dx, values in contrast.items():
        assert np.median(values) > 12, dx
    assert np.median(contrast["nv"]) > 25
    assert np.median(contrast["mel"]) > 25


def test_views_of_a_lesion_look_alike_but_are_not_the_same(folder):
    views = defaultdict(list)
    for row in rows_of(folder):
        inside = mask(folder, row["image_id"]) > 0
        views[row["lesion_id"]].append(photo(folder, row["image_id"])[inside].mean(0))
    own = [np.abs(v[0] - v[1]).mean() for v in views.values() if len(v) > 1]
    firsts = [v[0] for v in views.values()]
    others = [np.abs(a - b).mean() for a, b in pairwise(firsts)]
    assert 0 < np.median(own) < 0.7 * np.median(others)


def test_classes_can_be_told_apart(folder):
    rows = rows_of(folder)
    features = []
    for row in rows:
        pixels, inside = photo(folder, row["image_id"]), mask(folder, row["image_id"]) > 0
        inner, skin = pixels[inside], np.median(pixels[~inside], axis=0)
        ratio = inner / np.maximum(skin, 1)
        middle = pixels[SIZE[0] * 3 // 8 : SIZE[0] * 5 // 8, SIZE[1] * 3 // 8 : SIZE[1] * 5 // 8]
        features.append(
            np.concatenate([*np.percentile(ratio, [3, 25, 50, 75, 97], axis=0), ratio.std(0),
                            middle.mean((0, 1)) / np.maximum(skin, 1)])
        )  # fmt: skip
    labels = np.array([row["dx"] for row in rows])
    half = np.array([int(row["lesion_id"][-1]) % 2 == 0 for row in rows])
    forest = RandomForestClassifier(100, class_weight="balanced", random_state=0)
    forest.fit(np.array(features)[half], labels[half])
    score = balanced_accuracy_score(labels[~half], forest.predict(np.array(features)[~half]))
    assert 0.55 < score < 0.995, score


def test_progress_then_reuse(tmp_path):
    events = []
    options = {"lesions": 7, "size": (48, 64), "seed": 1}
    folder = synthetic(tmp_path / "set", listen=events.append, **options)
    total = len(rows_of(folder))
    assert events[0] == Step("drawing lesions", 0, total, "images")
    assert events[-1] == Step("drawing lesions", total, total, "images")
    before = digest(folder)
    events.clear()
    assert synthetic(str(folder), listen=events.append, **options) == folder
    assert [type(event) for event in events] == [Notice]
    assert digest(folder) == before
    with pytest.raises(DataError, match="seed 1 instead of 2"):
        synthetic(folder, **{**options, "seed": 2})
    assert json.loads((folder / "synthetic.json").read_text())["lesions"] == 7


def test_refuses_a_foreign_folder_and_takes_an_empty_one(tmp_path):
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(DataError, match="does not exist yet"):
        synthetic(foreign, lesions=7, size=(48, 64))
    assert (foreign / "mine.jpg").read_bytes() == b"precious"
    with pytest.raises(DataError, match="does not exist yet"):
        synthetic(foreign / "mine.jpg", lesions=7, size=(48, 64))
    (tmp_path / "empty").mkdir()
    assert rows_of(synthetic(tmp_path / "empty", lesions=7, size=(48, 64)))


def test_an_interruption_leaves_nothing(tmp_path):
    def stop(event):
        if event.done > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthetic(tmp_path / "set", lesions=20, size=(48, 64), listen=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"lesions": 3}, {"size": (20, 300)}, {"seed": -1}])
def test_settings_out_of_range(tmp_path, wrong):
    with pytest.raises(SettingsError, match="synthetic needs"):
        synthetic(tmp_path / "set", **wrong)
