"""Many images to a table: order, blocks, stops in between, bad files, every kind of source."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bundles import tiny_bundle
from PIL import Image

from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.errors import DataError, RunError, SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.prediction import batch_job, chunked_table
from lesionlab.prediction.batch_job import predict_files
from lesionlab.prediction.image_sources import files_of, open_sources
from lesionlab.prediction.predictor import Predictor
from lesionlab.progress import Notice, Step
from lesionlab.tables import check_predictions, read_csv
from lesionlab.taxonomy import HAM7


@pytest.fixture(scope="module")
def predictor(bundle_file):
    return Predictor(bundle_file)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A predictor of a bundle that takes images alone."""
    return Predictor(tiny_bundle(tmp_path_factory.mktemp("alone"), fields=False))


@pytest.fixture
def photos(tmp_path):
    """45 small photographs in a folder, PNG so that nothing is lost."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(45):
        pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8) // (1 + number % 4)
        Image.fromarray(pixels).save(folder / f"photo_{number:02d}.png")
    return folder


def content(folder):
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def notices(events):
    return " ".join(each.text for each in events if isinstance(each, Notice))


def test_a_table_holds_what_the_predictor_answers(predictor, photos, tmp_path):
    done = predict_files(predictor, [photos], out=tmp_path / "table.csv", top=2)
    table = pd.read_csv(done.path, keep_default_na=False)
    likeliest = ["top_1", "top_1_p", "top_2", "top_2_p"]
    answer = ["set", "malignancy", "refer", "reason", "novelty", "error"]
    probabilities = [f"p_{label}" for label in HAM7]
    assert list(table.columns) == [
        "image_id",
        "path",
        "predicted",
        *probabilities,
        *likeliest,
        *answer,
    ]
    expected = predictor([photos])
    pd.testing.assert_frame_equal(table[expected.columns], expected, rtol=1e-5)
    values = table[probabilities].to_numpy()
    assert (table["top_1"] == table["predicted"]).all()
    assert (table["top_1_p"] == values.max(axis=1)).all()
    assert (table["top_2_p"] == np.sort(values, axis=1)[:, -2]).all()
    for row in table.itertuples():
        assert getattr(row, f"p_{row.top_2}") == row.top_2_p
    assert dict(done.reasons) == table["reason"].value_counts().to_dict()
    assert done.images == 45
    pd.testing.assert_frame_equal(done.first, table.head(chunked_table.FIRST), check_exact=True)


def test_no_number_of_workers_changes_a_byte(predictor, photos, tmp_path):
    first = tmp_path / "first.csv"
    predict_files(predictor, [photos], out=first, chunk=20, workers=1)
    for workers in (2, 5):
        other = tmp_path / f"{workers}.csv"
        predict_files(predictor, [photos], out=other, chunk=20, workers=workers)
        assert other.read_bytes() == first.read_bytes()
    assert list(pd.read_csv(first)["image_id"]) == [f"photo_{n:02d}" for n in range(45)]


class Uneven(Predictor):
    """Answers early blocks last."""

    seen = 0

    def answers(self, pixels, metadata=None, *, maps=False):
        self.seen += 1
        time.sleep(0.2 / self.seen)
        return super().answers(pixels, metadata)


def test_rows_stand_in_order_whoever_is_first(bundle_file, predictor, photos, tmp_path):
    predict_files(predictor, [photos], out=tmp_path / "even.csv")
    predict_files(Uneven(bundle_file), [photos], out=tmp_path / "uneven.csv", workers=4)
    assert (tmp_path / "uneven.csv").read_bytes() == (tmp_path / "even.csv").read_bytes()


def test_the_size_of_a_block_is_the_same_everywhere(bundle_file, photos, tmp_path):
    sizes = []

    class Spy(Predictor):
        def answers(self, pixels, metadata=None, *, maps=False):
            sizes.append(len(pixels))
            return super().answers(pixels, metadata)

    (photos / "photo_03.png").write_bytes(b"no image")
    predict_files(Spy(bundle_file), [photos], out=tmp_path / "a.csv", chunk=32, workers=3)
    assert sorted(sizes) == [13, 16, 16]


def test_only_so_many_blocks_are_ahead(bundle_file, photos, tmp_path, monkeypatch):
    """While the first block is not done, no more than a few are begun: memory stays bounded."""
    monkeypatch.setattr(batch_job, "BLOCK", 1)
    most = 2 * batch_job._AHEAD
    started, begun, lock = itertools.count(), [], threading.Lock()
    latest = 0

    class Stuck(Predictor):
        def answers(self, pixels, metadata=None, *, maps=False):
            nonlocal latest
            with lock:
                own = latest = next(started)
            if own == 0:
                time.sleep(1)
                begun.append(latest + 1)
            return super().answers(pixels, metadata)

    predict_files(Stuck(bundle_file), [photos], out=tmp_path / "a.csv", workers=2)
    assert 2 < begun[0] <= most + 1  # the other thread's block may be the first that is finished


SLOW = """
import sys, time
from lesionlab.prediction.batch_job import predict_files
from lesionlab.prediction.predictor import Predictor
class Slow(Predictor):
    def answers(self, *given, **more):
        time.sleep(0.15)
        return super().answers(*given, **more)
predict_files(Slow(sys.argv[1]), [sys.argv[2]], out=sys.argv[3], chunk=5, workers=2)
"""


@pytest.mark.parametrize("broken", [False, True])
def test_after_kill_9_the_table_is_that_of_an_uninterrupted_run(
    bundle_file, predictor, photos, tmp_path, broken
):
    if broken:
        (photos / "photo_01.png").write_bytes(b"no image")
    whole, out = tmp_path / "whole.csv", tmp_path / "table.csv"
    predict_files(predictor, [photos], out=whole, chunk=5)
    words = [sys.executable, "-c", SLOW, str(bundle_file), str(photos), str(out)]
    process = subprocess.Popen(words)
    folder = tmp_path / "table.csv.parts"
    deadline = time.monotonic() + 60
    while len(list(folder.glob("0*.csv"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {each: each.stat().st_ino for each in folder.glob("0*.csv")}
    assert 2 <= len(done) < 9
    assert not out.exists()
    (folder / ".0000008.csv.x.part").write_text("half written")
    steps = []

    def listen(event):
        if isinstance(event, Step):
            steps.append(event.done)
            assert {each: each.stat().st_ino for each in done} == done  # none is made anew

    result = predict_files(predictor, [photos], out=out, chunk=5, listen=listen)
    assert steps[0] == len(done) * 5 + 5
    assert steps[-1] == 45
    assert out.read_bytes() == whole.read_bytes()
    assert result.images == 45
    assert [each.name for each in folder.iterdir()] == [chunked_table.STATE]


def test_the_same_again_is_complete(predictor, photos, tmp_path):
    out = tmp_path / "table.csv"
    first = predict_files(predictor, [photos], out=out)
    before = content(tmp_path / "table.csv.parts"), out.stat().st_ino
    events = []
    again = predict_files(predictor, [photos], out=out, listen=events.append)
    assert "is complete" in notices(events)
    assert not any(isinstance(each, Step) for each in events)
    assert (content(tmp_path / "table.csv.parts"), out.stat().st_ino) == before
    pd.testing.assert_frame_equal(again.first, first.first)
    assert again.reasons == first.reasons
    predict_files(predictor, [photos], out=out, fresh=True)
    assert out.stat().st_ino != before[1]
    out.unlink()
    predict_files(predictor, [photos], out=out)
    assert len(pd.read_csv(out)) == 45


def test_what_differs_is_refused_and_named(predictor, alone, photos, tmp_path):
    out = tmp_path / "table.csv"
    ages = pd.DataFrame({"image_id": ["photo_00"], "age": [40]})

    def refused(model=predictor, sources=(photos,), **options):
        before = out.read_bytes()
        with pytest.raises(RunError) as error:
            predict_files(model, sources, out=out, **options)
        assert out.read_bytes() == before
        named = str(error.value).splitlines()[1:-1]
        return {each.strip().split(":")[0] for each in named}

    predict_files(predictor, [photos], out=out)
    assert refused(top=2) == {"top"}
    assert refused(chunk=3) == {"chunk"}
    assert refused(metadata=ages) == {"metadata"}
    assert refused(alone) == {"model"}
    assert refused(sources=[photos / "photo_00.png"], top=1) == {"images", "top"}
    changed = photos / "photo_07.png"
    changed.write_bytes(changed.read_bytes())
    os.utime(changed, ns=(1, 1))
    assert refused() == {"images"}
    predict_files(predictor, [photos], out=out, fresh=True)
    predict_files(predictor, [photos], out=out)


def test_a_table_that_was_removed_stands_in_nobodys_way(predictor, photos, tmp_path):
    out = tmp_path / "table.csv"
    predict_files(predictor, [photos], out=out)
    out.unlink()
    predict_files(predictor, [photos / "photo_00.png"], out=out)
    assert len(pd.read_csv(out)) == 1


def test_without_a_name_each_question_has_its_table(predictor, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def name(number, **options):
        return str(predict_files(predictor, [photos / f"photo_0{number}.png"], **options).path)

    assert [name(0), name(1), name(0), name(2), name(1)] == [
        "predictions.csv",
        "predictions-2.csv",
        "predictions.csv",
        "predictions-3.csv",
        "predictions-2.csv",
    ]
    (tmp_path / "predictions-2.csv").write_text("mine")
    assert name(3) == "predictions-4.csv"
    assert (tmp_path / "predictions-2.csv").read_text() == "mine"
    assert name(4, fresh=True) == "predictions.csv"
    assert pd.read_csv("predictions.csv")["image_id"].tolist() == ["photo_04"]


def test_tables_of_others_are_not_written_over(predictor, photos, tmp_path):
    out = tmp_path / "table.csv"
    out.write_text("mine")
    with pytest.raises(RunError, match="did not write it"):
        predict_files(predictor, [photos], out=out)
    assert out.read_text() == "mine"
    predict_files(predictor, [photos], out=out, fresh=True)
    out.write_text("changed")
    with pytest.raises(RunError, match="was changed since"):
        predict_files(predictor, [photos], out=out)


def test_a_damaged_part_is_not_passed_on(predictor, photos, tmp_path, monkeypatch):
    out = tmp_path / "table.csv"
    with monkeypatch.context() as patch:
        patch.setattr(chunked_table.Parts, "finish", lambda _: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            predict_files(predictor, [photos], out=out, chunk=20)
    part = tmp_path / "table.csv.parts" / "0000001.csv"
    part.write_text("".join(part.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(RunError, match=r"0000001\.csv is damaged"):
        predict_files(predictor, [photos], out=out, chunk=20)
    assert not out.exists()


def test_a_bad_file_is_a_row_and_changes_no_other(predictor, photos, tmp_path):
    predict_files(predictor, [photos], out=tmp_path / "good.csv")
    whole = (photos / "photo_09.png").read_bytes()
    (photos / "photo_09.png").write_bytes(whole[: len(whole) // 2])
    (photos / "photo_20.png").write_bytes(b"")
    (photos / "photo_30.png").write_bytes(b"<svg/>")
    result = predict_files(predictor, [photos], out=tmp_path / "bad.csv")
    good, bad = (
        pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False) for name in ("good", "bad")
    )
    failed = bad["error"] != ""
    assert list(bad["image_id"][failed]) == ["photo_09", "photo_20", "photo_30"]
    assert "0 bytes" in bad["error"][20]
    assert (bad["reason"][failed] == "unreadable").all()
    assert bad["refer"][failed].all()
    assert (bad[failed][["predicted", "p_mel", "set", "top_1", "top_1_p", "novelty"]] == "").all(
        axis=None
    )
    assert result.unreadable == 3
    kept = [name for name in good.columns if not name.startswith("refer")]
    assert (bad[~failed][kept].astype(str) == good[~failed][kept].astype(str)).all(axis=None)


def test_any_error_of_one_image_is_its_row(predictor, photos, tmp_path, monkeypatch):
    read = Predictor.read

    def fails(self, source, name=""):
        if name.endswith("photo_02.png"):
            raise MemoryError("no room")
        return read(self, source, name)

    monkeypatch.setattr(Predictor, "read", fails)
    table = predict_files(predictor, [photos], out=tmp_path / "table.csv").first
    assert "MemoryError: no room" in table["error"][2]
    assert (table["error"] != "").sum() == 1


def test_when_nothing_can_be_read_there_is_no_table(predictor, tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="None of the 20 images can be read"):
        predict_files(predictor, [tmp_path], out=tmp_path / "table.csv")
    assert not [each for each in tmp_path.iterdir() if "table" in each.name]


def test_a_fault_of_the_model_ends_the_call(bundle_file, photos, tmp_path):
    class Failing(Predictor):
        def answers(self, pixels, metadata=None, *, maps=False):
            raise RuntimeError("the network")

    with pytest.raises(RuntimeError, match="the network"):
        predict_files(Failing(bundle_file), [photos], out=tmp_path / "table.csv")


def test_sources_keep_their_order(photos, tmp_path):
    deep = tmp_path / "deep"
    for name in ("b/2.jpg", "b/10.jpg", "a.jpg", ".hidden/x.jpg", "b/._2.jpg", "notes.txt", "c/y"):
        (deep / name).parent.mkdir(parents=True, exist_ok=True)
        (deep / name).write_bytes(bytes(128) + b"DICM" if name == "c/y" else b"x")
    (deep / "b" / "again").symlink_to(deep)  # a search must come to its end
    found = [str(Path(each).relative_to(tmp_path)) for each in files_of([deep])]
    assert found == ["deep/a.jpg", "deep/b/10.jpg", "deep/b/2.jpg", "deep/c/y"]
    (deep / "b" / "again").unlink()
    named = [deep / "notes.txt", photos / "photo_01.png", photos / "photo_00.png"]
    assert list(files_of(named)) == [str(each) for each in named]
    patterns = [f"{photos}/*_0[3-5].png", f"{deep}/**/*.jpg"]
    assert [Path(each).name for each in files_of(patterns)] == [
        "photo_03.png",
        "photo_04.png",
        "photo_05.png",
        "a.jpg",
        "10.jpg",
        "2.jpg",
    ]
    odd = deep / "[1].jpg"
    odd.write_bytes(b"x")
    assert list(files_of([odd])) == [str(odd)]
    twice = open_sources([photos, photos / "photo_00.png", f"{photos}/../photos/photo_01.png"])
    assert (len(twice.paths), twice.repeated) == (45, 2)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "Give at least one"),
        (["gone.jpg"], "does not exist"),
        (["*.tif"], "Nothing matches"),
        (["empty"], "holds no images"),
    ],
)
def test_sources_that_are_none(tmp_path, names, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        open_sources([tmp_path / name for name in names])


def test_file_names_of_every_kind(predictor, photos, tmp_path):
    good = (photos / "photo_00.png").read_bytes()
    names = ['a "b", c.png', "line\nbreak.png", "tab\r.png", "Läsion 痣.png"]
    for name in names:
        (tmp_path / "odd" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "odd" / name).write_bytes(good)
    bytes_name = os.fsencode(tmp_path / "odd") + b"/\xff\xfe.png"
    Path(os.fsdecode(bytes_name)).write_bytes(good)
    predict_files(predictor, [tmp_path / "odd"], out=tmp_path / "table.csv", chunk=2)
    table = read_csv(tmp_path / "table.csv")
    assert {Path(name).stem.replace("\r", "\\r") for name in names} < set(table["image_id"])
    assert "\\udcff\\udcfe" in set(table["image_id"])
    assert (table["error"] == "").all()


def test_a_catalogue_becomes_a_table_that_evaluate_reads(predictor, drawn, tmp_path):
    data, _ = drawn
    events = []
    result = predict_files(predictor, [data.home], out=tmp_path / "t.csv", listen=events.append)
    assert "count as test" in notices(events)
    table = check_predictions(read_csv(tmp_path / "t.csv"))
    assert list(table["image_id"]) == list(data.table["image_id"])
    assert list(table["target"]) == list(data.table["target"])
    assert list(table["lesion_id"]) == list(data.table["lesion_id"])
    assert (table["part"] == "test").all()
    pixels = [predictor.read(data.root / path) for path in data.table["path"]]
    answers = predictor.answers(np.stack(pixels), data.table)  # with its age, sex and site
    probabilities = table[[f"p_{label}" for label in HAM7]].to_numpy()
    logits = table[[f"logit_{label}" for label in HAM7]].to_numpy(float)
    np.testing.assert_allclose(probabilities, answers.probabilities, rtol=1e-5)
    np.testing.assert_allclose(logits, answers.logits, rtol=1e-4, atol=1e-4)
    result_of = evaluate(table, replicates=20)
    assert "balanced_accuracy" in result_of
    assert set(table["learnt_from"]) == {"unknown"}
    assert any("learnt from these images is unknown" in text for text in result_of.warnings)
    seen = evaluate(table.assign(learnt_from="yes"), replicates=0)
    assert any(text.startswith("No test: the model has learnt") for text in seen.warnings)
    assert result.images == len(data)
    blank = predict_files(
        predictor,
        [data.home / "catalogue.csv"],
        out=tmp_path / "blank.csv",
        metadata=data.table[["image_id"]][:1],
    )
    assert not np.allclose(blank.first["p_mel"], result.first["p_mel"])


def test_a_catalogue_stands_by_itself_and_has_known_classes(predictor, drawn, photos, tmp_path):
    data, _ = drawn
    with pytest.raises(SettingsError, match="by itself"):
        predict_files(predictor, [photos, data.home], out=tmp_path / "t.csv")
    renamed = data.regrouped({name: f"x{name}" for name in data.classes})
    home = renamed.save(tmp_path / "other").home
    with pytest.raises(DataError, match="xmel"):
        predict_files(predictor, [home], out=tmp_path / "t.csv")


def test_a_file_that_is_not_the_catalogued_one_is_an_error(predictor, ham_copy, tmp_path):
    data = catalogue(ham_copy, out=tmp_path / "catalogue")
    path = data.root / data.table["path"][3]
    shutil.copy(data.root / data.table["path"][4], path)
    table = predict_files(predictor, [tmp_path / "catalogue"], out=tmp_path / "t.csv").first
    assert "not the file that was catalogued" in table["error"][3]
    assert (table["error"] != "").sum() == 1
    assert table["target"][3] == data.table["target"][3]


def test_metadata_of_a_table_and_of_dicom_files(predictor, alone, photos, tmp_path):
    pytest.importorskip("pydicom")
    from dicoms import dataset
    from pydicom.pixels import set_pixel_data

    pixels = np.asarray(Image.open(photos / "photo_00.png"))
    image = dataset()
    image.PatientAge, image.PatientSex, image.BodyPartExamined = "045Y", "F", "BACK"
    image.NumberOfFrames = 1
    set_pixel_data(image, pixels, "RGB", 8, generate_instance_uid=False)
    image.save_as(tmp_path / "scan.dcm", enforce_file_format=True)

    def chance(name, **options):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
        found = predict_files(predictor, [name], out=out, **options)
        assert b"Doe" not in out.read_bytes()
        assert b"SECRET" not in out.read_bytes()
        return found.first["p_mel"][0]

    told = {"age": [45], "sex": ["female"], "site": ["back"]}
    photo = chance(
        photos / "photo_00.png", metadata=pd.DataFrame({"image_id": ["photo_00"], **told})
    )
    assert chance(tmp_path / "scan.dcm") == photo
    assert predictor([tmp_path / "scan.dcm"])["p_mel"][0] == photo
    assert chance(photos / "photo_00.png") != photo
    older = pd.DataFrame({"image_id": ["scan"], **told, "age": [75]})
    mended = pd.DataFrame({"image_id": ["scan"], "age": [75]})  # the header has the rest
    wanted = chance(tmp_path / "scan.dcm", metadata=older)
    assert wanted != photo
    assert chance(tmp_path / "scan.dcm", metadata=mended) == wanted
    with pytest.raises(SettingsError, match="takes images alone"):
        predict_files(alone, [photos], out=tmp_path / "x.csv", metadata=mended)
    predict_files(alone, [photos / "photo_00.png"], out=tmp_path / "x.csv")


def test_metadata_of_all_images(predictor, alone, photos, tmp_path):
    person = {"age": 45, "sex": "female", "site": "back"}
    told = predict_files(predictor, [photos], out=tmp_path / "a.csv", metadata=person)
    each = pd.DataFrame({"image_id": [path.stem for path in photos.iterdir()]}).assign(**person)
    predict_files(predictor, [photos], out=tmp_path / "b.csv", metadata=each)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert list(predictor([photos], person)["p_mel"]) == list(predictor([photos], each)["p_mel"])
    older = predict_files(predictor, [photos], out=tmp_path / "c.csv", metadata={"age": 75})
    assert list(older.first["p_mel"]) != list(told.first["p_mel"])
    for wrong, message in (
        ({"age": 130}, "age is a number of years from 0 to 120"),
        ({"age": "old"}, "age is a number"),
        ({"sex": "robot"}, "sex is one of: "),
        ({"age": -1, "site": "tail"}, "age is .* site is one of: .*back"),
        ({"skin": 1}, "no use of skin"),
    ):
        with pytest.raises(SettingsError, match=message):
            predict_files(predictor, [photos], out=tmp_path / "x.csv", metadata=wrong)
        with pytest.raises(SettingsError, match=message):
            predictor([photos], wrong)
    with pytest.raises(SettingsError, match="no use of age"):
        predict_files(alone, [photos], out=tmp_path / "x.csv", metadata={"age": 45})


def test_parquet_is_the_same_table(predictor, photos, tmp_path):
    pytest.importorskip("pyarrow")
    (photos / "photo_09.png").write_bytes(b"no image")
    predict_files(predictor, [photos], out=tmp_path / "t.csv", chunk=20)
    result = predict_files(predictor, [photos], out=tmp_path / "t.parquet", chunk=20)
    table = pd.read_parquet(tmp_path / "t.parquet")
    text = pd.read_csv(tmp_path / "t.csv", keep_default_na=False, na_values={"p_mel": ""})
    assert table["refer"].dtype == bool
    assert table["p_mel"].dtype == float
    assert np.array_equal(table["p_mel"], text["p_mel"].astype(float), equal_nan=True)
    assert list(table.columns) == list(text.columns)
    assert list(table["set"]) == list(text["set"])
    pd.testing.assert_frame_equal(result.first, table.head(chunked_table.FIRST))
    again = predict_files(predictor, [photos], out=tmp_path / "t.parquet", chunk=20)
    pd.testing.assert_frame_equal(result.first, again.first)


def test_names_of_tables(predictor, photos, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(SettingsError, match="pip install pyarrow"):
            predict_files(predictor, [photos], out=tmp_path / "t.parquet")
    for name in ("t.xlsx", "t"):
        with pytest.raises(SettingsError, match="CSV or Parquet"):
            predict_files(predictor, [photos], out=tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SettingsError, match="is a folder"):
        predict_files(predictor, [photos], out=tmp_path / "folder.csv")
    for options in ({"top": -1}, {"chunk": 0}, {"workers": 0}):
        with pytest.raises(SettingsError):
            predict_files(predictor, [photos], out=tmp_path / "t.csv", **options)
    wide = predict_files(predictor, [photos], out=tmp_path / "t.csv", top=99)
    assert [name for name in wide.first.columns if name.startswith("top_")][-1] == "top_7_p"
