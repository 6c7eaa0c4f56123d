"""One call for one image, many, a catalogue; for a bundle, a run, or the model that ships."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from blocking import TORCH, blocking
from bundles import tiny_bundle
from PIL import Image

import lesionlab as ll
from lesionlab.data.images.faults import ImageFault
from lesionlab.errors import DataError, SettingsError
from lesionlab.prediction.predictor import REASONS
from lesionlab.taxonomy import HAM7


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mole.png")
    return tmp_path / "mole.png"


def test_one_image_gives_an_answer_of_the_very_figures_of_the_table(bundle_file, photo):
    answer = ll.predict(photo, model=bundle_file, age=45, site="back")
    row = ll.Predictor(bundle_file)([photo], {"age": 45, "site": "back"}).iloc[0]
    assert list(answer.classes["probability"]) == sorted(row[f"p_{c}"] for c in HAM7)[::-1]
    assert answer.predicted == row["predicted"] == answer.classes.index[0]
    assert (answer.refer, answer.reason) == (row["refer"], row["reason"])
    assert answer.malignancy == row["malignancy"]
    assert answer.text == REASONS[answer.reason]
    assert answer.classes["malignant"].sum() == 3
    unknown = ll.predict(photo, model=bundle_file)
    assert unknown.probability != answer.probability


def test_a_file_its_bytes_pixels_and_a_pil_image_are_answered_alike(bundle_file, photo):
    forms = [
        photo,
        str(photo),
        photo.read_bytes(),
        Image.open(photo),
        np.asarray(Image.open(photo)),
    ]
    answers = [ll.predict(each, model=bundle_file) for each in forms]
    assert len({each.probability for each in answers}) == 1


def test_a_map_has_the_size_of_what_the_model_sees(bundle_file, photo):
    answer = ll.predict(photo, model=bundle_file)
    assert answer.map().size == answer.map("mel").size == answer.pixels.shape[1::-1]
    assert not np.array_equal(np.asarray(answer.map()), answer.pixels)
    with pytest.raises(SettingsError, match="Choose of akiec"):
        answer.map("melanoma")


def test_a_notebook_shows_image_map_classes_reason_and_notice(bundle_file, photo):
    answer = ll.predict(photo, model=bundle_file)
    page = answer._repr_html_()
    assert page.count("<img") == 2
    assert page.count("<tr>") == len(HAM7) + 1
    assert answer.text in page
    assert "Not a medical device" in page
    assert answer.text in str(answer)
    assert len(repr(answer)) < 100
    evil = photo.with_name("a<b>.png")
    shutil.copy(photo, evil)
    assert "<b>" not in ll.predict(evil, model=bundle_file)._repr_html_()


def test_several_images_give_a_table_in_memory_or_in_a_file(bundle_file, photo, tmp_path):
    made = ll.predict([photo], model=bundle_file)
    assert made.path is None
    written = ll.predict([tmp_path], model=bundle_file, out=tmp_path / "table.csv")
    assert written.path == tmp_path / "table.csv"
    pd.testing.assert_frame_equal(made.predictions, written.predictions)
    assert "mole" in str(made)
    assert "<table" in made._repr_html_()


def test_the_rows_of_a_long_table_are_all_read(bundle_file, tmp_path, photo):
    for number in range(25):
        shutil.copy(photo, tmp_path / f"copy_{number}.png")
    written = ll.predict([tmp_path], model=bundle_file, out=tmp_path / "table.csv")
    assert len(written.predictions) == written.images == 26 > len(written.first)


def test_a_catalogue_in_memory_is_evaluated(bundle_file, drawn):
    data, _ = drawn
    made = ll.predict(data, model=bundle_file)
    assert len(made.predictions) == len(data.table)
    assert ll.evaluate(made, replicates=0)["accuracy"].defined


def test_a_run_answers_without_a_rule_of_referral_and_says_so(trained, photo, drawn):
    answer = ll.predict(photo, model=trained)
    assert answer.refer is None
    assert answer.reason == ""
    assert "lesionlab export" in answer._repr_html_()
    table = trained.predict([photo]).predictions
    assert answer.probability == table.filter(regex="^p_").iloc[0].max()
    assert len(trained.predict(drawn[0]).predictions) == len(drawn[0].table)


def test_what_a_model_makes_no_use_of_is_refused(bundle_file, trained, photo, tmp_path):
    for wrong, words in (
        ({"model": bundle_file, "views": 2}, "views: for a run only"),
        ({"model": trained, "top": 2}, "top: for a bundle only"),
        ({"model": trained, "age": 50}, "age: for a bundle only"),
        ({"model": bundle_file, "age": 50, "metadata": "x.csv"}, "give one"),
        ({"model": bundle_file, "data": tmp_path}, "not both"),
        ({"model": tiny_bundle(tmp_path, fields=False), "sex": "male"}, "makes no use of sex"),
    ):
        with pytest.raises(SettingsError, match=words):
            ll.predict(photo, **wrong)
    with pytest.raises(SettingsError, match="one by one"):
        ll.predict([photo.read_bytes()], model=bundle_file)
    with pytest.raises(DataError, match="Give images"):
        ll.predict(model=bundle_file)
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageFault):
        ll.predict(tmp_path / "broken.jpg", model=bundle_file)


def test_the_model_that_ships_answers_in_one_line_without_torch(photo):
    code = (
        blocking(*TORCH)
        + f"""
import lesionlab as ll
print(ll.predict({str(photo)!r}, age=55, sex="female", site="back"))
try:
    ll.train
except ImportError as error:
    print(error)
print(len(dir(ll)), "predict" in dir(ll))
"""
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"mel +Melanoma", done.stdout)
    assert "pip install 'lesionlab[train]'" in done.stdout
