"""`lesionlab predict` with a bundle, with torch blocked, and beside the runs of before."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest
from blocking import TORCH, blocking

from lesionlab.cli.app import main

BLOCK = (
    blocking(*TORCH, "onnx")
    + "from lesionlab.cli.app import main\nraise SystemExit(main(sys.argv[1:]))\n"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def predict(*words):
    return main(["predict", *map(str, words)])


def test_without_torch(bundle_file, drawn, here):
    data, _ = drawn
    files = [data.root / path for path in data.table["path"]]
    for out, words in (("files.csv", files), ("catalogue.csv", ["--data", data.home])):
        words = ["predict", *words, "--model", bundle_file, "--out", out]
        done = subprocess.run(
            [sys.executable, "-c", BLOCK, *map(str, words)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert len(pd.read_csv(here / out)) == len(data)
    assert "lesionlab evaluate catalogue.csv" in done.stdout


def test_the_answers_are_shown_in_words(bundle_file, drawn, here, capsys):
    data, _ = drawn
    paths = [data.root / path for path in data.table["path"][:3]]
    (here / "bad.jpg").write_text("<html>")
    assert predict(bundle_file, *paths, "bad.jpg") == 0  # a bundle that stands first is the model
    text = capsys.readouterr().out
    table = pd.read_csv(here / "predictions.csv", keep_default_na=False)
    assert list(table["image_id"][:3]) == list(data.table["image_id"][:3])
    from lesionlab.taxonomy import full_name

    shown = {line.split("│")[1].strip(): line for line in text.splitlines() if "│" in line}
    for row in table.itertuples():  # a class is shown of what can be judged, and of nothing else
        judged = row.reason not in ("unreadable", "unlike")
        name = full_name(row.predicted) if judged else ""
        assert name in shown[row.image_id]
        assert ("–" in shown[row.image_id]) != judged
        for value in (row.top_1_p, row.malignancy) if judged else ():
            assert f"{float(value):.3f}" in shown[row.image_id]
    assert "1 image referred, unreadable: The image cannot be read." in text
    assert "at most 5 of 100 malignant lesions and 3 of 100 melanomas are missed" in text
    assert "ruled out" not in text
    assert "Not a medical device" in text
    assert "Written: predictions.csv (4 images)" in text
    assert predict("--model", bundle_file, *paths, "bad.jpg") == 0
    assert "is complete" in capsys.readouterr().err
    before = (here / "predictions.csv").read_bytes()
    assert predict("--model", bundle_file, *paths) == 0  # shown all the same
    text = capsys.readouterr().out
    assert "Not written: predictions.csv holds other answers." in text
    assert "--out" in text
    assert "--fresh" in text
    assert "Written:" not in text
    assert table["image_id"][0] in text
    assert predict("--model", bundle_file, *paths, "--out", "predictions.csv") == 2
    assert "images: 4" in capsys.readouterr().err
    assert (here / "predictions.csv").read_bytes() == before
    assert [path.name for path in here.glob("*.csv")] == ["predictions.csv"]
    assert predict("--model", bundle_file, *paths, "--fresh") == 0


def test_what_is_known_of_the_person(bundle_file, drawn, here, capsys):
    data, _ = drawn
    path = data.root / data.table["path"][0]
    assert predict(bundle_file, path) == 0
    assert "--age, --sex and --site say it of all images" in capsys.readouterr().err
    known = ("--age", "45", "--sex", "Female", "--site", "Back")  # as people type them
    assert predict(bundle_file, path, *known, "--out", "known.csv") == 0
    assert "--age" not in capsys.readouterr().err
    person = {"age": 45, "sex": "female", "site": "back"}
    pd.DataFrame([{"image_id": path.stem, **person}]).to_csv("m.csv", index=False)
    assert predict(bundle_file, path, "--metadata", "m.csv", "--out", "again.csv") == 0
    assert (here / "again.csv").read_bytes() == (here / "known.csv").read_bytes()
    assert (here / "again.csv").read_bytes() != (here / "predictions.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give images"),
        (["--views", "4", "x.jpg"], "views: for a run only"),
        (["--cache", "c", "--device", "cpu", "x.jpg"], "cache, device: for a run only"),
        (["x.jpg", "--data", "d"], "not both"),
        (["x.jpg", "--age", "50", "--metadata", "m.csv"], "age of all: give one of them"),
        (["x.jpg", "--site", "tail"], "site is one of: "),
        (["x.jpg", "--age", "200"], "a number of years"),
        (["--data", "."], "lesionlab catalogue"),
        (["gone.jpg"], "does not exist"),
        (["x.jpg", "--out", "t.txt"], "CSV or Parquet"),
    ],
)
def test_what_is_refused(bundle_file, here, capsys, words, message):
    (here / "x.jpg").write_text("no image")
    assert predict("--model", bundle_file, *words) == 2
    assert message in capsys.readouterr().err
    assert {each.name for each in here.iterdir()} == {"x.jpg"}


def test_a_run_is_known_by_its_folder(here, capsys):
    (here / "run").mkdir()
    (here / "run" / "run.json").write_text('{"state": "training"}')
    for words in (["run"], ["--model", "run"], ["run", "x.jpg"]):
        assert predict(*words) == 2
        assert "run is not finished" in capsys.readouterr().err
    assert predict("run", "--top", "2", "--fresh") == 2
    assert "top, fresh: for a bundle only" in capsys.readouterr().err
    assert predict("run", "--site", "back", "--age", "50") == 2
    assert "age, site: for a bundle only" in capsys.readouterr().err
    (here / "folds").mkdir()
    (here / "folds" / "folds.json").write_text("{}")
    assert predict("folds", "x.jpg") == 2
    assert "folds/fold_0" in capsys.readouterr().err
    assert predict("--model", "gone.bundle", "x.jpg") == 2
    assert "gone.bundle does not exist" in capsys.readouterr().err
