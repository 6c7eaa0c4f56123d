from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from drawn_runs import draw_predictions, make_run
from pages import Page
from PIL import Image

from lesionlab.errors import DataError, RunError, SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.files import write_csv, write_json
from lesionlab.reporting.report.report import report
from lesionlab.run import Folds


def page_of(*args, **kwargs) -> Page:
    path = report(*args, **{"replicates": 30, **kwargs})
    page = Page(path.read_text(encoding="utf-8"))
    assert page.faults == []
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("out") / "new" / "report.html"


@pytest.fixture(scope="module")
def page(same_run, out):
    return page_of([same_run], out)


@pytest.fixture
def plain(monkeypatch):
    """Spare a test that looks at the first words the drawing of figures, and the second half."""
    for name in ("class_counts", "recalls", "confusion", "rocs", "curves"):
        monkeypatch.setattr(f"lesionlab.reporting.figures.model.{name}", lambda *_: "<svg></svg>")
    monkeypatch.setattr(
        "lesionlab.reporting.figures.reliability.dots", lambda *_, **__: "<svg></svg>"
    )
    monkeypatch.setattr("lesionlab.reporting.report.report.in_depth", lambda *_, **__: [])


def test_loads_nothing_from_elsewhere(page, same_run, out):
    for tag, attrs in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "poster"):
            if name in attrs:
                assert attrs[name].startswith(("data:", "#")), (tag, attrs[name])
    assert page.all("script") == []
    text = out.read_text(encoding="utf-8")
    assert "http" not in text.replace("http-equiv", "")
    assert not re.search(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in text
    assert str(same_run.folder.parent) not in text


def test_says_what_it_is_and_is_not(page):
    assert "drawn_net" in page.text
    assert "Not a medical device" in page.text
    assert "drawn: 120 images of 60 lesions" in page.text
    assert "none of the 60 lesions is in two parts" in page.text
    assert "5 folds, grouped by lesion, seed 7; fold 2 is the test part" in page.text
    assert "epoch 5 of 6, the best on validation by balanced accuracy (0.550)" in page.text
    assert "These lesions are drawn, not photographed." in page.text


def test_contains_every_section_in_order(page):
    wanted = [
        "Research and education only",
        "Read this first",
        "Headline figures",
        "Malignant called benign",
        "What it is not for",
        "Class by class",
        "Confusion matrix",
        "ROC curves",
        "Training , epoch by epoch",
        "Right and wrong examples",
        "The commonest confusions",
        "Images in ten groups",
        "Calibration errors",
        "One set per image is to hold the true class",
        "Images and lesions per class and part",
        "To bear in mind",
        "How it was made, and how to repeat it",
        "lesionlab train recipe.yaml --data DATA --split split.csv --fold 2 --out NEW_FOLDER",
        "Fingerprints",
        "5917a0c0ffee0000",
        "torch 2.9.9",
    ]
    body = page.text[page.text.index("diagnoses.") :]
    assert [body.find(text) >= 0 for text in wanted] == [True] * len(wanted)
    assert sorted(body.find(text) for text in wanted) == [body.find(text) for text in wanted]
    assert "mobilenetv4_conv_small" in body


def test_shows_the_same_numbers_and_intervals_as_the_evaluation(page, same_run):
    result = evaluate(same_run.predictions, replicates=30)
    for name in ("balanced_accuracy", "accuracy", "recall/mel", "precision/nv"):
        each = result[name]
        assert f"{100 * each.value:.1f}\u00a0%" in "".join(page.texts)
        assert f"{100 * each.low:.1f}–{100 * each.high:.1f}\u00a0%" in "".join(page.texts)
    assert f"{result['auroc/mel'].low:.3f}–{result['auroc/mel'].high:.3f}" in page.text
    for percent in (80, 90, 95):
        assert f"at {percent}" in page.text
    majority = result["majority_accuracy"]
    assert f"{100 * majority.value:.1f} % for always answering" in page.text.replace("\u00a0", " ")


def test_is_accessible(page):
    assert page.all("html")[0]["lang"] == "en"
    assert all(attrs.get("alt") for attrs in page.all("img"))
    figures = [attrs for attrs in page.all("svg") if attrs.get("role") == "img"]
    assert len(figures) == len(page.all("svg")) >= 11
    assert all(attrs["aria-label"] for attrs in figures)
    assert all(attrs.get("scope") for attrs in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_ids_are_unique_and_links_lead_somewhere(run, tmp_path):
    page = page_of([run, run], tmp_path / "two.html")
    ids = [attrs["id"] for tag, attrs in page.elements if "id" in attrs and tag != "path"]
    outside = [each for each in ids if not re.match(r"f[0-9a-f]{8}-", each)]
    assert len(outside) == len(set(outside))
    links = {attrs["href"][1:] for attrs in page.all("a") if attrs["href"].startswith("#")}
    assert links <= set(ids)


def test_pictures_are_small_jpegs_of_right_and_wrong_answers(page):
    pictures = page.all("img")
    assert 6 <= len(pictures) <= 15
    for attrs in pictures:
        content = base64.b64decode(attrs["src"].removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(content)) as image:
            assert image.format == "JPEG"
            assert image.size == (160, 120)
    assert "✓ right" in page.text
    assert "✗ called" in page.text


def test_data_links_hold_the_numbers(page, same_run):
    links = {attrs["download"]: attrs["href"] for attrs in page.all("a") if "download" in attrs}
    wanted = "counts metrics confusion roc history confusions reliability reliability_positive"
    wanted += " calibration coverage promises risk_coverage two_thresholds decision_curve"
    assert {f"{name}.csv" for name in wanted.split()} <= set(links)
    text = base64.b64decode(links["history.csv"].partition("base64,")[2]).decode()
    assert len(text.splitlines()) == 1 + len(same_run.history)
    assert text.startswith("epoch,")


def test_warns_loudly_of_a_collapsed_model(plain, tmp_path, catalogue):
    table = draw_predictions()
    table[["p_bcc", "p_mel", "p_nv"]] = [0.1, 0.1, 0.8]
    page = page_of([make_run(tmp_path / "flat", table, catalogue)], tmp_path / "r.html")
    after = page.text.index("Read this first")
    assert (
        "of the predictions are nv" in page.text[after : page.text.index("Headline figures", after)]
    )
    assert "Recall of mel is 0" in page.text
    assert "the model is no better" in page.text


def test_warns_of_a_leak_and_claims_nothing(plain, tmp_path, catalogue):
    table = draw_predictions()
    table.loc[table["part"] == "val", "lesion_id"] = "les_003"
    table.loc[table.index[table["part"] == "test"][0], "lesion_id"] = "les_003"
    page = page_of([make_run(tmp_path / "leak", table, catalogue)], tmp_path / "r.html")
    assert "LEAK: 1 lesion in more than one part" in page.text
    assert "None of these lesions was used" not in page.text


def test_part_val_is_called_flattering(plain, run, tmp_path):
    page = page_of([run], tmp_path / "r.html", part="val")
    assert "the epoch was chosen on it: they flatter the model" in page.text


HOSTILE = ("<script>alert(1)</script>", "$\\frac{x}", '"><img src=x onerror=alert(1)> {{ 7*7 }}')


def test_hostile_names_stay_text(tmp_path):
    table = draw_predictions(classes=HOSTILE)
    table["image_id"] = '<img src="//evil/' + table["image_id"] + '">'
    run = make_run(tmp_path / "<i>run", table, None, notes=["</li><script>note</script>"])
    page = page_of([run], tmp_path / "r.html")
    assert page.all("script") == page.all("img") == []
    assert "</li><script>note</script>" in page.text
    assert HOSTILE[0] in page.text
    assert "{{ 7*7 }}" in page.text
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]


@pytest.mark.parametrize("how", ["gone", "other", "files"])
def test_goes_on_without_pictures(plain, how, run, catalogue, tmp_path):
    data = None
    if how == "gone":
        run.update(catalogue=str(tmp_path / "moved"))
    elif how == "other":
        data = replace(catalogue, table=catalogue.table.iloc[1:])
    else:
        data = replace(catalogue, root=tmp_path)
    said = []
    page = page_of([run], tmp_path / "r.html", data=data, listen=said.append)
    assert page.all("img") == []
    assert page.text.count("Pictures are left out") == 1
    assert any("Pictures are left out" in getattr(each, "text", "") for each in said)
    assert "The surest mistakes, by name" in page.text


def test_a_changed_image_file_is_left_out(plain, run, catalogue, tmp_path):
    table = catalogue.table.copy()
    table["path"] = np.where(table["target"] == "mel", table["path"].to_numpy()[0], table["path"])
    page = page_of([run], tmp_path / "r.html", data=replace(catalogue, table=table))
    assert "pictures are left out: their files are missing or were changed" in page.text
    assert page.all("img")


def test_several_runs_and_a_table_of_somebody_else(plain, run, tmp_path, catalogue):
    better = make_run(tmp_path / "better_net", draw_predictions(1, skill=4), catalogue)
    foreign = draw_predictions(2)[lambda t: t["part"] == "test"].drop(columns=["lesion_id"])
    write_csv(tmp_path / "foreign.csv", foreign)
    page = page_of([run, str(better.folder), tmp_path / "foreign.csv"], tmp_path / "r.html")
    assert "3 models compared" in page.text
    assert page.text.index("Side by side") < page.text.index("Headline figures")
    assert page.text.count("How it was made") == 2
    assert page.text.count("Headline figures") == 3
    assert "scored on different images" not in page.text
    assert "test 60 images of unknown lesions" in page.text
    write_csv(tmp_path / "foreign.csv", foreign.iloc[1:])
    assert "scored on different images" in page_of([run, tmp_path / "foreign.csv"], tmp_path).text


def test_predictions_alone_need_a_catalogue_for_pictures(plain, tmp_path, catalogue):
    write_csv(tmp_path / "foreign.csv", draw_predictions())
    page = page_of(tmp_path / "foreign.csv", tmp_path / "r.html")
    assert "no catalogue was given" in page.text
    assert "How it was made" not in page.text
    assert page_of(tmp_path / "foreign.csv", tmp_path / "r.html", data=catalogue).all("img")


def test_folds_are_reported_as_they_come(plain, run, tmp_path):
    folder = tmp_path / "five_folds"
    write_csv(folder / "predictions.csv", draw_predictions().assign(part="test", fold=0))
    write_csv(folder / "summary.csv", pd.DataFrame({"fold": [0]}))
    write_json(folder / "folds.json", {"folds": 1})
    page = page_of(Folds.open(folder), tmp_path / "r.html")
    assert "five_folds" in page.text
    assert "test 120 images of 60 lesions" in page.text
    assert "How it was made" not in page.text
    assert page.text == page_of(folder, tmp_path / "r.html").text
    assert "2 models compared" in page_of([run, Folds.open(folder)], tmp_path / "r.html").text
    (folder / "summary.csv").unlink()
    with pytest.raises(RunError, match="same `lesionlab train --folds` command again"):
        report(Folds.open(folder), tmp_path / "r.html")


def test_without_intervals(plain, run, tmp_path):
    page = page_of([run], tmp_path / "r.html", replicates=0)
    assert "No intervals were computed" in page.text


def test_classes_without_images_are_said_not_to_be_defined(tmp_path, catalogue):
    table = draw_predictions()
    table = table[~((table["part"] == "test") & (table["target"] == "mel"))]
    page = page_of([make_run(tmp_path / "few", table, catalogue)], tmp_path / "r.html")
    assert "has no image of mel" in page.text


def test_same_run_same_bytes(run, tmp_path):
    paths = [report(run, tmp_path / name, replicates=5) for name in ("a.html", "b.html")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_is_written_whole_or_not_at_all(plain, run, tmp_path, monkeypatch):
    out = tmp_path / "r.html"
    out.write_text("before")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lesionlab.files.os.replace", fail)
    with pytest.raises(DataError, match="disk is full"):
        report([run], out, replicates=5)
    assert out.read_text() == "before"
    assert not list(tmp_path.glob(".r.html*"))


def test_refuses_what_is_not_there_or_not_finished(run, tmp_path):
    with pytest.raises(SettingsError, match="nothing to report"):
        report([], tmp_path / "r.html")
    with pytest.raises(DataError, match="does not exist"):
        report([tmp_path / "nowhere"], tmp_path / "r.html")
    with pytest.raises(RunError, match="no run folder"):
        report([tmp_path], tmp_path / "r.html")
    run.update(state="training")
    with pytest.raises(RunError, match="same `lesionlab train` command again"):
        report([run], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_needs_no_torch_and_the_package_is_light():
    code = (
        "import sys; sys.modules['torch'] = None; import lesionlab.reporting; "
        "assert 'matplotlib' not in sys.modules; import lesionlab.reporting.report.report; "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
