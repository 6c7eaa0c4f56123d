from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.errors import DataError, RunError, SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.files import hash_file, read_json, write_json
from lesionlab.prediction.run_predictor import predict_run
from lesionlab.progress import Notice
from lesionlab.run import INFO, Run


def warnings(collected):
    def listen(event):
        if isinstance(event, Notice) and event.level == "warning":
            collected.append(event.text)

    return listen


def save(data, folder, table):
    """Another catalogue of the same files, saved."""
    return replace(data, table=table.reset_index(drop=True)).save(folder)


def renamed(table):
    """The same images under other ids and of other lesions."""
    return table.assign(image_id="X" + table["image_id"], lesion_id="X" + table["lesion_id"])


def foreign(data, table, folder):
    """Images of another collection: other ids, lesions and files, if of the same pixels."""
    folder.mkdir()
    made = renamed(table)
    for row in made.itertuples():
        file = folder / f"{row.image_id}.jpg"
        file.write_bytes((data.root / row.path).read_bytes() + b"behind the end marker")
        made.loc[row.Index, "path"] = os.path.relpath(file, data.root)
        made.loc[row.Index, "sha256"] = hash_file(file)
    return made


def same_chances(one, two, tolerance=0.0):
    one, two = one.filter(regex="^p_"), two.filter(regex="^p_")
    np.testing.assert_allclose(one, two, rtol=0, atol=tolerance)


def test_without_images_the_runs_own_catalogue_is_predicted_to_the_same_bytes(trained, tmp_path):
    table = predict_run(trained, out=tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (
        trained.folder / "predictions.csv"
    ).read_bytes()
    same_chances(table, trained.predictions)
    assert set(table["part"]) == {"train", "val", "test"}
    evaluate(tmp_path / "again.csv", part="test", replicates=0)


def test_another_catalogue_is_all_test(trained, drawn, tmp_path):
    data, _ = drawn
    other = save(data, tmp_path / "other", foreign(data, data.table.head(20), tmp_path / "files"))
    told = []
    table = predict_run(
        trained, data=other.home, cache_to=tmp_path / "cache", listen=warnings(told)
    )
    assert (table["part"] == "test").all()
    assert table["target"].tolist() == other.table["target"].tolist()
    assert told == []
    same_chances(table, trained.predictions.head(20), 1e-7)  # same pixels, fewer in the chunk
    assert (tmp_path / "cache").is_dir()
    assert evaluate(table, replicates=0).support["images"].sum() == 20


def test_what_the_run_has_learnt_from_is_never_scored_as_test(trained, drawn, tmp_path):
    """Neither its images nor other images of its lesions, in whatever catalogue they are."""
    data, parts = drawn
    known = data.table.head(20)
    copy = renamed(data.table.iloc[20:30])
    other = foreign(data, data.table.iloc[30:50], tmp_path / "files")
    other["lesion_id"] = [*data.table["lesion_id"].iloc[30:40], *other["lesion_id"].iloc[10:]]
    sibling, new = other["image_id"].iloc[:10], other["image_id"].iloc[10:]
    mixed = save(data, tmp_path / "other", pd.concat([known, copy, other]))
    told = []
    table = predict_run(trained, data=mixed, listen=warnings(told)).set_index("image_id")
    given = parts.parts()
    for image in [*known["image_id"], *copy["image_id"], *sibling]:
        assert table.loc[image, "part"] == given[image.removeprefix("X")]
    assert (table.loc[new, "part"] == "test").all()
    seen = int((table["part"] != "test").sum())
    assert 10 < seen < 50
    assert [text.split(" images")[0] for text in told] == [f"{seen} of 50"]


@pytest.mark.parametrize("by", ["patient_id", "own"])
def test_lesions_and_patients_are_known_whatever_the_split_names(
    trained, drawn, info, tmp_path, by
):
    """A split by patient, and one of image_id and part alone; with the run's own catalogue."""
    patients = drawn[0].table["lesion_id"].str.replace("HAM_", "P")
    table = drawn[0].table.assign(patient_id=patients)
    data = save(drawn[0], tmp_path / "data", table)
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    identity = {**info["identity"], "catalogue": data.fingerprint}
    write_json(folder / INFO, {**info, "catalogue": str(data.home), "identity": identity})
    parts = drawn[1]
    if by == "own":
        rows = parts.table[["image_id", "fold_0"]].rename(columns={"fold_0": "part"})
        (folder / "split.json").unlink()
    else:
        rows = parts.table.assign(group=patients.to_numpy())
        (folder / "split.json").write_text(
            '{"by": "patient_id", "kind": "holdout", "seed": 0, "catalogue": ""}'
        )
    rows.to_csv(folder / "split.csv", index=False)
    new = foreign(data, data.table, tmp_path / "files")
    by_lesion = new.assign(lesion_id=data.table["lesion_id"], patient_id="")
    by_patient = new.assign(lesion_id="")
    for name, sibling in (("lesion", by_lesion), ("patient", by_patient)):
        other = save(data, tmp_path / name, sibling)
        found = predict_run(folder, data=other)["part"].tolist()
        assert found == parts.parts()[data.table["image_id"]].tolist()
    shutil.rmtree(data.home)
    told = []
    predict_run(folder, data=save(data, tmp_path / "late", by_lesion), listen=warnings(told))
    assert [text for text in told if "cannot be checked" in text and "lesions" in text]


def test_the_runs_catalogue_is_known_wherever_it_is(trained, drawn, tmp_path):
    moved = Catalogue.open(drawn[0].home).save(tmp_path / "moved")
    told = []
    table = predict_run(trained, data=moved, listen=warnings(told))
    assert table["part"].tolist() == trained.predictions["part"].tolist()
    assert told == []


@pytest.fixture
def info(trained):
    """What run.json says, put back afterwards."""
    before = read_json(trained.folder / INFO)
    yield before
    write_json(trained.folder / INFO, before)


def test_a_catalogue_that_is_gone_or_changed_is_refused(trained, drawn, info, tmp_path):
    write_json(trained.folder / INFO, {**info, "catalogue": str(tmp_path / "gone")})
    with pytest.raises(RunError, match=r"not at .*gone any more.*--data DIR"):
        predict_run(trained)
    save(drawn[0], tmp_path / "less", drawn[0].table.head(20))
    write_json(trained.folder / INFO, {**info, "catalogue": str(tmp_path / "less")})
    with pytest.raises(RunError, match=r"has changed since .*--data DIR"):
        predict_run(trained)


def test_classes_that_the_run_does_not_know_are_refused(trained, drawn, tmp_path):
    data, _ = drawn
    table = renamed(data.table.head(20))
    table.loc[:3, "target"] = "scc"
    other = replace(data, table=table, classes=(*data.classes, "scc")).save(tmp_path / "other")
    with pytest.raises(DataError, match=r"the catalogue has scc too"):
        predict_run(trained, data=other)


def test_images_and_a_catalogue_together_are_refused(trained, drawn):
    with pytest.raises(SettingsError, match="not both"):
        predict_run(trained, ["x.jpg"], data=drawn[0])


def test_an_image_is_given_the_same_digits_in_a_table_and_as_a_file(trained, drawn):
    data, _ = drawn
    files = [data.root / path for path in data.table["path"]]
    table = predict_run(trained, files)
    same_chances(table, trained.predictions.set_index("image_id").loc[table["image_id"]])


def test_an_unreadable_image_has_no_probabilities_in_any_view(trained, drawn, tmp_path):
    good = drawn[0].root / drawn[0].table["path"][0]
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    Image.new("RGB", (40, 40)).save(tmp_path / "black.png")
    for count in (1, 4):
        table = predict_run(
            trained, [tmp_path / "bad.jpg", good, tmp_path / "black.png"], views=count
        ).set_index("image_id")
        assert table.loc["bad"].filter(regex="^p_").isna().all()
        assert table.loc["bad", "error"] != ""
        others = table.drop(index="bad").filter(regex="^p_").to_numpy(float)
        np.testing.assert_allclose(others.sum(axis=1), 1)


def test_the_verb(trained, drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = str(trained.folder)
    assert main(["predict", run, "--views", "2", "--out", "all.csv"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Next: lesionlab evaluate all.csv" in out
    assert main(["evaluate", "all.csv", "--replicates", "20"]) == 0
    files = [str(drawn[0].root / path) for path in drawn[0].table["path"][:3]]
    assert main(["predict", run, files[0], "--out", "few.csv", *files[1:]]) == 0
    assert len(pd.read_csv("few.csv")) == 3
    assert main(["predict", run, "--data", str(drawn[0].home), files[0]]) == 2
    assert "not both" in " ".join(capsys.readouterr().err.split())
    assert main(["predict", run, "--views", "3"]) == 2
    assert "invalid choice: 3" in capsys.readouterr().err


def test_an_unfinished_run_is_refused(trained, info):
    write_json(trained.folder / INFO, {**info, "state": "training"})
    with pytest.raises(RunError, match="not finished"):
        predict_run(Run.open(trained.folder))
