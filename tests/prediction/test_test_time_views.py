from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lesionlab.augmentation.random_views import normalise
from lesionlab.augmentation.symmetries import symmetry
from lesionlab.data.images.reader import Reader
from lesionlab.errors import SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.models import factory
from lesionlab.numerics import softmax
from lesionlab.prediction import test_time_views
from lesionlab.prediction.run_predictor import predict_run
from lesionlab.prediction.test_time_views import averaged, write_views


def chances_of(table):
    return table.filter(regex="^p_").to_numpy()


def test_one_view_is_left_alone_and_several_give_the_log_of_their_mean():
    logits = np.random.default_rng(0).normal(0, 4, (8, 5, 7)).astype(np.float32)
    assert averaged(logits[:1]) is not None
    assert (averaged(logits[:1]) == logits[0]).all()
    mean = softmax(logits).mean(axis=0)
    np.testing.assert_allclose(averaged(logits), np.log(mean), atol=1e-12)
    np.testing.assert_allclose(softmax(averaged(logits)), mean, atol=1e-15)


def test_no_probability_is_too_small_to_be_averaged():
    logits = np.zeros((2, 1, 2), np.float32)
    logits[..., 1] = [[-2000], [-3000]]
    assert averaged(logits)[0, 1] == pytest.approx(-2000 - np.log(2))


@pytest.mark.parametrize("count", [2, 4, 8])
def test_the_views_are_symmetries_of_the_normalised_image(trained, drawn, tmp_path, count):
    data, _ = drawn
    files = [data.root / path for path in data.table["path"][:5]]
    table = predict_run(trained, files, out=tmp_path / "t.csv", views=count)
    network, architecture = factory.load(trained.folder)
    pixels = np.stack([Reader(data.root).pixels(str(f), architecture.images) for f in files])
    inputs = normalise(torch.from_numpy(pixels), *architecture.normalisation)
    with torch.inference_mode():
        each = [network(symmetry(inputs, view)).softmax(dim=1).numpy() for view in range(count)]
    np.testing.assert_allclose(chances_of(table), np.mean(each, axis=0), atol=1e-6)
    single = read(tmp_path / "t.csv")
    assert list(single.columns[:3]) == ["image_id", "path", "view"]
    assert single["view"].tolist() == list(range(count)) * 5
    assert single["image_id"].tolist() == [f.stem for f in files for _ in range(count)]
    np.testing.assert_allclose(
        chances_of(single), np.stack(each, axis=1).reshape(count * 5, -1), atol=1e-6
    )


def read(table):
    parquet = table.with_suffix(".views.parquet")
    if parquet.is_file():
        return pd.read_parquet(parquet)
    return pd.read_csv(table.with_suffix(".views.csv"))


def test_eight_views_do_not_care_how_the_camera_was_held(trained, tmp_path):
    """Any turn or mirror image of a square file is given the same probabilities."""
    picture = (
        np.random.default_rng(1).integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    )
    for number in range(8):
        turned = picture.transpose(1, 0, 2) if number & 4 else picture
        turned = turned[:: -1 if number & 2 else 1, :: -1 if number & 1 else 1]
        Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / f"{number}.png")
    eight, one = (chances_of(predict_run(trained, [tmp_path], views=n)) for n in (8, 1))
    assert np.ptp(eight, axis=0).max() < 1e-6
    assert np.ptp(one, axis=0).max() > 1e-3


def test_without_pyarrow_the_views_are_a_csv(tmp_path, monkeypatch):
    monkeypatch.setattr(test_time_views, "find_spec", lambda _: None)
    logits = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
    logits[:, 1] = np.nan
    images = pd.DataFrame({"image_id": ["a", "b", "c"]})
    path = write_views(tmp_path / "table.csv", images, ("x", "y"), logits)
    assert path == tmp_path / "table.views.csv"
    table = pd.read_csv(path)
    assert table["image_id"].tolist() == ["a", "a", "c", "c"]  # b could not be read
    np.testing.assert_allclose(table["p_x"], softmax(logits)[[0, 1, 0, 1], [0, 0, 2, 2], 0])


@pytest.mark.skipif(test_time_views.find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_with_pyarrow_the_views_are_parquet(tmp_path):
    logits = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    images = pd.DataFrame({"image_id": ["a", "b", "c"]})
    path = write_views(tmp_path / "table.csv", images, ("x", "y"), logits)
    assert path == tmp_path / "table.views.parquet"
    assert pd.read_parquet(path)["view"].tolist() == [0, 1, 2, 3] * 3


def test_a_catalogue_is_predicted_in_views_too(trained, tmp_path):
    table = predict_run(trained, out=tmp_path / "eight.csv", views=8)
    plain = trained.predictions
    assert table["image_id"].tolist() == plain["image_id"].tolist()
    assert np.abs(chances_of(table) - chances_of(plain)).max() > 1e-4
    single = read(tmp_path / "eight.csv")
    assert len(single) == 8 * len(plain)
    first = single[single["view"] == 0]
    np.testing.assert_allclose(chances_of(first), chances_of(plain), atol=1e-15)
    logits = table.filter(regex="^logit_").to_numpy()
    np.testing.assert_allclose(np.exp(logits), chances_of(table), rtol=1e-9)
    assert evaluate(tmp_path / "eight.csv", replicates=0).support["images"].sum() > 0


def test_views_go_with_the_table_that_they_are_of(trained, drawn, tmp_path):
    files = [drawn[0].root / path for path in drawn[0].table["path"][:3]]
    for name in ("one.csv", "two.csv"):
        predict_run(trained, files, out=tmp_path / name, views=2)
    predict_run(trained, files, out=tmp_path / "one.csv")
    assert len(read(tmp_path / "two.csv")) == 6
    assert not list(tmp_path.glob("one.views.*"))


@pytest.mark.parametrize("count", [0, 3, 16])
def test_other_numbers_of_views_are_refused(trained, count):
    with pytest.raises(SettingsError, match=f"views: {count} is not one of 1 .* and 8"):
        predict_run(trained, views=count)
