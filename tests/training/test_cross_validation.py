from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.splits import Split, split
from lesionlab.errors import DataError, FindingsError, RunError, SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.files import write_csv
from lesionlab.prediction.run_predictor import predict_run
from lesionlab.progress import Notice, Step
from lesionlab.recipe.schema import Recipe
from lesionlab.run import PREDICTIONS, VAL_PREDICTIONS, Folds, open_run
from lesionlab.tables import read_predictions
from lesionlab.training.cross_validation import cross_validate
from lesionlab.training.train import train

SMALL = Recipe().but(
    {
        "images.size": [32, 32],
        "model.name": "test_efficientnet",
        "phases.0.epochs": 1,
        "average.kind": "none",
        "batch": 32,
    }
)


class Killed(Exception):
    """Stands for a process that ends."""


@pytest.fixture(scope="module")
def thirds(drawn):
    """The drawn lesions in three folds."""
    data, _ = drawn
    return data, split(data, folds=3, val=0.2)


@pytest.fixture(scope="module")
def whole(thirds, tmp_path_factory):
    """Three finished folds."""
    return cross_validate(SMALL, *thirds, out=tmp_path_factory.mktemp("folds") / "whole")


def test_every_fold_is_a_run_and_the_table_has_every_image_once(whole, thirds):
    data, parts = thirds
    assert whole.complete
    assert list(whole.runs) == [0, 1, 2]
    table = whole.predictions
    assert sorted(table["image_id"]) == sorted(data.table["image_id"])
    assert set(table["part"]) == {"test"}
    lesions = data.table.set_index("image_id")["lesion_id"]
    assert (table["lesion_id"] == lesions[table["image_id"]].to_numpy()).all()
    probabilities = [f"p_{name}" for name in data.classes]
    for fold, run in whole.runs.items():
        assert run.complete
        assert run.info["identity"]["fold"] == fold
        mine = table[table["fold"] == str(fold)].set_index("image_id")
        assert set(mine.index) == set(parts.parts(fold).index[parts.parts(fold) == "test"])
        theirs = run.predictions.set_index("image_id").loc[mine.index]
        assert mine[probabilities].equals(theirs[probabilities])
        seen = set(theirs["lesion_id"])
        others = run.predictions[run.predictions["part"] != "test"]
        assert not seen & set(others["lesion_id"])


def test_val_of_each_fold_is_there_for_what_is_fitted(whole, thirds):
    _, parts = thirds
    table = whole.val_predictions
    assert set(table["part"]) == {"val"}
    for fold in range(3):
        ids = parts.parts(fold).index[parts.parts(fold) == "val"]
        assert set(table["image_id"][table["fold"] == str(fold)]) == set(ids)


def test_the_summary_has_the_figures_of_every_fold(whole):
    assert list(whole.summary["fold"]) == [0, 1, 2]
    for fold, run in whole.runs.items():
        result = evaluate(run.predictions, replicates=0)
        row = whole.summary.iloc[fold]
        for name in ("balanced_accuracy", "macro_auroc", "accuracy"):
            assert row[name] == pytest.approx(result[name].value)
        assert row["images"] == result["accuracy"].n
        assert row["lesions"] == result["accuracy"].groups


def test_the_same_call_again_trains_nothing(whole, thirds):
    said, steps = [], []

    def listen(event):
        (said if isinstance(event, Notice) else steps).append(event)

    assert cross_validate(SMALL, *thirds, out=whole.folder, listen=listen).complete
    assert any("is complete" in each.text for each in said)
    assert not steps


def test_folds_that_were_killed_go_on_and_come_out_the_same(whole, thirds, tmp_path):
    trained = []

    def killer(event):
        if isinstance(event, Step) and event.task == "training":
            trained.append(event)
            if event.done == 1 and sum(each.done == 1 for each in trained) == 2:
                raise Killed

    with pytest.raises(Killed):
        cross_validate(SMALL, *thirds, out=tmp_path / "run", listen=killer)
    half = Folds.open(tmp_path / "run")
    assert list(half.runs) == [0]
    with pytest.raises(RunError, match="fold 1, 2 not finished"):
        _ = half.predictions
    first = (half.run_folder(0) / PREDICTIONS).stat().st_mtime_ns
    cross_validate(SMALL, *thirds, out=tmp_path / "run")
    assert (half.run_folder(0) / PREDICTIONS).stat().st_mtime_ns == first
    for name in (PREDICTIONS, VAL_PREDICTIONS):
        assert (half.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_the_work_can_be_shared(whole, thirds, tmp_path):
    made = cross_validate(SMALL, *thirds, out=tmp_path / "run", only=[0, 2])
    assert list(made.runs) == [0, 2]
    assert not made.complete
    assert cross_validate(SMALL, *thirds, out=tmp_path / "run", only=[1]).complete
    assert (made.folder / PREDICTIONS).read_bytes() == (whole.folder / PREDICTIONS).read_bytes()
    before = (made.run_folder(0) / PREDICTIONS).stat().st_mtime_ns
    again = cross_validate(SMALL, *thirds, out=tmp_path / "run", only=[1], fresh=True)
    assert again.complete
    assert (made.run_folder(0) / PREDICTIONS).stat().st_mtime_ns == before


def test_other_settings_are_refused_with_the_difference(whole, thirds, tmp_path):
    with pytest.raises(RunError, match="batch: 32 -> 16"):
        cross_validate(SMALL.but({"batch": 16}), *thirds, out=whole.folder, only=[1])
    data, _ = thirds
    with pytest.raises(RunError, match="split: "):
        cross_validate(SMALL, data, split(data, folds=3, seed=5), out=whole.folder)
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(RunError, match="holds other files"):
        cross_validate(SMALL, *thirds, out=tmp_path, fresh=True)
    assert (tmp_path / "precious.txt").exists()


def test_a_run_of_something_else_is_not_gathered(whole, thirds, tmp_path):
    out = shutil.copytree(whole.folder, tmp_path / "run")
    (out / "summary.csv").unlink()
    shutil.rmtree(out / "fold_1")
    shutil.copytree(out / "fold_0", out / "fold_1")
    with pytest.raises(RunError, match=r"fold_1 \(other fold\)"):
        cross_validate(SMALL, *thirds, out=out, only=[2])
    assert not Folds.open(out).complete


def test_other_metadata_are_other_folds_where_networks_see_them(thirds, tmp_path, monkeypatch):
    monkeypatch.setattr("lesionlab.training.cross_validation.train", lambda *_, **__: None)
    data, parts = thirds
    other = replace(data, table=data.table.assign(age=50.0))
    fused = SMALL.but({"model.fusion.kind": "gating"})
    cross_validate(SMALL, data, parts, out=tmp_path / "images")
    cross_validate(SMALL, other, parts, out=tmp_path / "images")
    cross_validate(fused, data, parts, out=tmp_path / "fused")
    cross_validate(fused, Catalogue.open(data.home), parts, out=tmp_path / "fused")
    with pytest.raises(RunError, match="metadata: "):
        cross_validate(fused, other, parts, out=tmp_path / "fused")
    (tmp_path / ".fused.old" / "fold_0").mkdir(parents=True)  # of a --fresh that was killed
    assert not cross_validate(fused, other, parts, out=tmp_path / "fused", fresh=True).complete
    assert not (tmp_path / ".fused.old").exists()


def test_weights_that_have_seen_a_folds_lesions_are_warned_of(whole, thirds, tmp_path):
    data, parts = thirds
    recipe = SMALL.but({"model.pretrained": str(whole.run_folder(0) / "model.safetensors")})

    def warnings(fold, **options):
        said = []

        def listen(event):
            if isinstance(event, Notice) and "model.pretrained comes from" in event.text:
                said.append(event.text)
            elif isinstance(event, Step):
                raise Killed

        out = tmp_path / f"{fold}{len(options)}"
        with pytest.raises(Killed):
            train(recipe, data, parts, out=out, fold=fold, listen=listen, **options)
        return said

    assert warnings(0) == []
    assert warnings(1, parts=("val",)) == []  # a search looks at no test part
    test = data.table[data.table["image_id"].map(parts.parts(1)) == "test"]
    learnt = test["image_id"].map(parts.parts(0)) != "test"
    lesions = test["lesion_id"][learnt].nunique()
    [text] = warnings(1)
    assert f"{learnt.sum()} images of this test part and on {lesions} of its {lesions} " in text


@pytest.mark.parametrize("only", [[3], [-1], []])
def test_folds_that_there_are_not_are_refused(thirds, tmp_path, only):
    with pytest.raises(SettingsError, match="folds 0 to 2"):
        cross_validate(SMALL, *thirds, out=tmp_path / "run", only=only)


def test_a_split_that_is_no_folds_is_refused(drawn, tmp_path):
    with pytest.raises(SettingsError, match="single fold"):
        cross_validate(SMALL, *drawn, out=tmp_path / "run")
    data, parts = drawn
    table = parts.table.assign(fold_1=parts.table["fold_0"])
    write_csv(tmp_path / "own.csv", table[["image_id", "fold_0", "fold_1"]])
    with pytest.raises(DataError, match="more than once"):
        cross_validate(SMALL, data, Split.open(tmp_path / "own.csv"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_that_no_fold_tests_are_told(thirds, tmp_path):
    data, parts = thirds
    table = parts.table.copy()
    chosen = table["fold_2"] == "test"
    table.loc[chosen, "fold_2"] = "train"
    write_csv(tmp_path / "own.csv", table[["image_id", "fold_0", "fold_1", "fold_2"]])
    said = []
    own = Split.open(tmp_path / "own.csv")

    def listen(event):
        if isinstance(event, Notice):
            said.append(event.text)
        elif event.task == "training":
            raise Killed

    with pytest.raises(Killed):
        cross_validate(SMALL, data, own, out=tmp_path / "run", listen=listen)
    assert f"{chosen.sum()} of {len(table)} images are in no fold's test part." in said


def test_the_verbs_read_a_folder_of_folds(whole, thirds, tmp_path, capsys, monkeypatch):
    data, parts = thirds
    monkeypatch.chdir(tmp_path)
    SMALL.but({"batch": 64}).save("recipe.yaml")
    parts.save("split.csv")
    words = ["train", "--folds", "recipe.yaml", "--data", str(data.home), "--split", "split.csv"]
    words += ["--out", str(whole.folder), "--only", "0,2", "--batch", "32"]
    assert main(words) == 0
    out = capsys.readouterr().out
    pooled = evaluate(whole.predictions, part="test")
    for text in ("mean ± sd", "pooled", f"{whole.summary['balanced_accuracy'].mean():.3f} ±"):
        assert text in out
    assert str(pooled["balanced_accuracy"]).split()[0] in out
    assert main(["evaluate", str(whole.folder), "--replicates", "50"]) == 0
    assert "WARNING: " in capsys.readouterr().out.splitlines()[-1]
    assert main(["report", str(whole.folder), "--out", "report.html"]) == 0
    assert "Macro AUROC" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert isinstance(open_run(whole.folder), Folds)
    assert main([*words[:-4], "--only", "first"]) == 2
    assert "--only: 'first' is no whole number" in capsys.readouterr().err


def test_folds_predict_out_of_fold(whole, thirds, tmp_path, capsys):
    data, _ = thirds
    probabilities = [f"p_{name}" for name in data.classes]
    told = whole.predictions
    heard: list[str] = []
    again = predict_run(whole, listen=lambda each: heard.append(getattr(each, "text", "")))
    assert sum("is complete" in text for text in heard) == 1  # the cache, opened once for all
    assert list(again.columns) == list(told.columns)
    for name in ("image_id", "lesion_id", "target", "part", "fold"):
        assert list(again[name].astype(str)) == list(told[name])
    np.testing.assert_allclose(again[probabilities], told[probabilities], atol=1e-6)
    path = tmp_path / "two.csv"
    assert main(["predict", str(whole.folder), "--views", "2", "--out", str(path)]) == 0
    assert f"lesionlab evaluate {path}" in capsys.readouterr().out
    found = read_predictions(path)
    assert list(found["image_id"]) == list(told["image_id"])
    for fold, run in whole.runs.items():
        alone = predict_run(run, views=2).set_index("image_id")
        mine = found[found["fold"] == str(fold)].set_index("image_id")
        np.testing.assert_allclose(
            mine[probabilities], alone.loc[mine.index, probabilities], atol=1e-6
        )
    single = pd.read_csv(tmp_path / "two.views.csv")
    mean = single.groupby("image_id")[probabilities].mean().loc[found["image_id"]]
    np.testing.assert_allclose(found[probabilities], mean, atol=1e-6)


def test_folds_predict_nothing_else(whole, thirds, tmp_path):
    data, parts = thirds
    with pytest.raises(SettingsError, match="name one of them"):
        predict_run(whole, ["x.jpg"])
    few = Catalogue(data.table.head(30), data.classes, data.root)
    few.save(tmp_path / "few")
    with pytest.raises(RunError, match="another catalogue"):
        predict_run(whole, data=tmp_path / "few")
    begun = cross_validate(SMALL, data, parts, out=tmp_path / "begun", only=[1])
    with pytest.raises(RunError, match="fold 0, 2 not finished"):
        predict_run(begun)


def test_the_verb_says_what_is_missing(thirds, tmp_path, capsys, monkeypatch):
    data, parts = thirds
    monkeypatch.chdir(tmp_path)
    SMALL.save("recipe.yaml")
    parts.save("split.csv")
    words = ["train", "--folds", "recipe.yaml", "--data", str(data.home), "--split", "split.csv"]
    assert main([*words, "--out", "run", "--only", "1"]) == 0
    assert "Still missing: fold 0, 2." in capsys.readouterr().out
    assert main(["evaluate", "run"]) == 2
    assert "fold 0, 2 not finished" in capsys.readouterr().err


def test_m19_val_is_never_test(drawn, tmp_path):
    """Source D scored on the images on which it chose; each way to say so is refused."""
    data, parts = drawn
    table = parts.table[["image_id", "fold_0"]]
    test = table[table["fold_0"] == "test"]

    def refused(own, error, words):
        write_csv(tmp_path / "own.csv", own)
        with pytest.raises(error, match=words):
            train(SMALL, data, Split.open(tmp_path / "own.csv"), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    both = pd.concat([table[table["fold_0"] != "val"], test.assign(fold_0="val")])
    refused(both, FindingsError, "stands twice")
    two_parts = table.assign(fold_0=table["fold_0"].replace("val", "train"))
    refused(two_parts, DataError, "chosen on val, never on test")
    lesion = data.table["lesion_id"].value_counts().index[0]
    rows = data.table["image_id"][data.table["lesion_id"] == lesion]
    siblings = table.copy()
    siblings.loc[siblings["image_id"].isin(rows), "fold_0"] = "test"
    siblings.loc[siblings["image_id"] == rows.iloc[0], "fold_0"] = "val"
    refused(siblings, FindingsError, lesion)


def test_m19_predictions_in_which_val_is_test_are_refused_or_warned_of(whole):
    table = whole.runs[0].predictions
    test = table[table["part"] == "test"]
    with pytest.raises(FindingsError, match="stands twice"):
        evaluate(pd.concat([test, test.assign(part="val")]))
    renamed = test.assign(part="val", image_id="copy_" + test["image_id"])
    result = evaluate(pd.concat([test, renamed]), replicates=0)
    assert any(text.startswith("Leak") for text in result.warnings)
