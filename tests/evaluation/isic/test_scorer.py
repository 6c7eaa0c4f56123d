"""ISIC submissions in and out; scores against those of the official scorer, kept in a file.

`tools/isic_reference.py` made the file with isic-challenge-scoring itself.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.errors import DataError, FindingsError, SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.isic.files import LAYOUTS, read, read_submission, read_truth, write
from lesionlab.evaluation.isic.scorer import COLUMNS, METRICS, score

HERE = Path(__file__).resolve()
SPEC = importlib.util.spec_from_file_location(
    "isic_reference", HERE.parents[3] / "tools" / "isic_reference.py"
)
reference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)
CASES = reference.cases()
OFFICIAL = json.loads((HERE.parent / "isic_reference.json").read_text())["cases"]


@pytest.fixture
def files(tmp_path):
    def write(name):
        case = CASES[name]
        truth, given = tmp_path / "truth.csv", tmp_path / "submission.csv"
        truth.write_text(case.truth_text())
        given.write_text(case.submission_text())
        return truth, given

    return write


def test_there_are_20_random_and_10_adversarial_submissions():
    assert set(CASES) == set(OFFICIAL)
    assert sum(name.startswith("random") for name in CASES) == 20
    assert len(CASES) >= 30
    assert sum("error" in each for each in OFFICIAL.values()) == 4


@pytest.mark.parametrize("name", CASES)
def test_scores_equal_the_official_scorers(name, files):
    expected = OFFICIAL[name]
    assert reference.digest(CASES[name]) == expected["files"]
    truth, given = files(name)
    if "error" in expected:
        with pytest.raises(DataError):
            score(truth, given)
        return
    for metric in METRICS:
        found = score(truth, given, metric=metric)
        assert [found.overall, found.validation] == pytest.approx(expected[metric], abs=1e-12)
    close = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(found.per_category.to_numpy(), expected["per_category"], **close)
    means = [found.macro_average[name] for name in COLUMNS]
    np.testing.assert_allclose(means, expected["macro_average"], **close)
    assert found.aggregate["balanced_accuracy"] == pytest.approx(expected["aggregate"], abs=1e-12)


def test_an_unsorted_truth_with_weights_is_warned_of(files):
    heard = []
    score(*files("unequal_weights_and_an_unsorted_truth"), listen=heard.append)
    assert any("not sorted by image" in event.text for event in heard)
    heard.clear()
    score(*files("class_without_validation_weight"), listen=heard.append)
    assert not heard


@pytest.mark.parametrize(
    "name", ["random_04", "two_share_the_top", "absent_class", "whole_numbers"]
)
def test_without_quirks_scores_are_those_of_evaluate(name, files):
    truth, given = files(name)
    found = score(truth, given, quirks=False)
    heard = []
    table = read(truth, given, listen=heard.append)
    own = evaluate(table, replicates=0)
    assert found.overall == pytest.approx(own["balanced_accuracy"].value, abs=1e-12)
    pairs = {
        "sensitivity": "recall",
        "ppv": "precision",
        "dice": "f1",
        "specificity": "specificity",
        "auc": "auroc",
        "ap": "average_precision",
        "auc_sens_80": "auc_sens_80",
    }
    if any(event.level == "warning" for event in heard):
        pairs = {}  # curves of shares are not those of the confidences
    for ours, theirs in pairs.items():
        for category in found.per_category.index:
            value = own[f"{theirs}/{category.lower()}"].value
            assert found.per_category.at[category, ours] == pytest.approx(
                value, abs=1e-12, nan_ok=True
            ), (ours, category)


def test_the_ignored_image_counts_without_quirks(files):
    truth, given = files("ignored_image")
    with_it, without = (score(truth, given, quirks=each) for each in (False, True))
    assert with_it.images == without.images + 1
    assert with_it.overall != without.overall
    assert len(read(truth, given)) == without.images
    assert len(read(truth, given, quirks=False)) == with_it.images


def test_a_run_goes_out_and_comes_back(fake, tmp_path):
    table = fake(200, seed=3)
    path, truth = tmp_path / "submission.csv", tmp_path / "truth.csv"
    write(table, path, truth=truth)
    assert path.read_text().startswith("image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n")
    back = read(truth, path)
    sent = table.sort_values("image_id").reset_index(drop=True)
    pd.testing.assert_frame_equal(
        back[[*sent.columns.drop(["lesion_id"])]],
        sent.drop(columns="lesion_id"),
        check_like=True,
        check_dtype=False,
    )
    scored = score(truth, path, quirks=False)
    own = evaluate(table, replicates=0)["balanced_accuracy"].value
    assert scored.overall == pytest.approx(own, abs=1e-12)


def test_2019_has_classes_more(fake, tmp_path):
    table = fake(100, seed=1)
    heard = []
    path = write(table, tmp_path / "s.csv", year="2019", listen=heard.append)
    head = path.read_text().splitlines()[0]
    assert head == "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
    assert "SCC, UNK" in heard[0].text
    nine = fake(150, classes=("akiec", "bcc", "mel", "nv", "scc"), seed=2)
    write(nine, path, truth=tmp_path / "t.csv")
    assert path.read_text().startswith(head)
    assert set(read(tmp_path / "t.csv", path)["target"]) == set(nine["target"])
    with pytest.raises(DataError, match="ISIC 2018 has no column for scc"):
        write(nine, path, year="2018")


def test_2020_is_one_column_and_ranked_by_its_area(fake, tmp_path):
    table = fake(120, classes=("benign", "malignant"), seed=4)
    path, truth = tmp_path / "s.csv", tmp_path / "t.csv"
    write(table, path, truth=truth)
    assert path.read_text().startswith("image_name,target\n")
    own = evaluate(table, replicates=0)
    scored = score(truth, path)
    assert scored.metric == "auc"
    assert scored.overall == pytest.approx(own["auroc/malignant"].value, abs=1e-12)
    back = evaluate(read(truth, path), replicates=0)
    assert back["auroc/malignant"].value == own["auroc/malignant"].value
    with pytest.raises(SettingsError, match="1 categories"):
        score(truth, path, metric="balanced_accuracy")


def test_milk10k_has_a_row_for_each_lesion(fake, tmp_path):
    classes = [*LAYOUTS["milk10k"].values()]
    table = fake(90, classes=tuple(sorted(classes)), seed=6)
    table["lesion_id"] = [f"IL_{n // 2}" for n in range(90)]
    table["target"] = table.groupby("lesion_id")["target"].transform("first")
    path, truth = tmp_path / "s.csv", tmp_path / "t.csv"
    write(table, path, truth=truth)
    head = "lesion_id,AKIEC,BCC,BEN_OTH,BKL,DF,INF,MAL_OTH,MEL,NV,SCCKA,VASC\n"
    assert path.read_text().startswith(head)
    back = read(truth, path).set_index("image_id")
    means = table.groupby("lesion_id")[[f"p_{name}" for name in classes]].mean()
    pd.testing.assert_frame_equal(
        back[[*means]].sort_index(), means, check_names=False, rtol=1e-9, check_exact=False
    )
    with pytest.raises(DataError, match="90 of 90 predictions name none"):
        write(table.assign(lesion_id=""), path)
    table.loc[0, "target"] = next(each for each in classes if each != table.loc[0, "target"])
    with pytest.raises(DataError, match="Lesion IL_0 has two classes"):
        write(table, path)


def test_all_faults_of_a_file_come_at_once(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("image,MEL,NV\na,0.5,x\na,1.5,0.2\n,0.1,0.2\n")
    with pytest.raises(FindingsError) as caught:
        read_submission(path, ["MEL", "NV"])
    assert set(caught.value.findings["kind"]) == {"no_image", "duplicate", "not_a_number_of_it"}
    with pytest.raises(FindingsError) as caught:
        read_submission(path, ["MEL", "BCC"])
    assert set(caught.value.findings["kind"]) == {"missing_column", "extra_column"}
    path.write_text("image,MEL,NV,score_weight\na,0.4,1.0,-1\nb,0.0,,1\n")
    with pytest.raises(FindingsError) as caught:
        read_truth(path)
    assert caught.value.findings["column"].tolist() == ["MEL", "NV", "score_weight"]


def test_rows_may_be_lesions(tmp_path):
    truth, told = tmp_path / "truth.csv", tmp_path / "told.csv"
    truth.write_text("lesion_id,MEL,NV\nIL_1,1.0,0.0\nIL_2,0.0,1.0\n")
    told.write_text("lesion_id,MEL,NV\nIL_2,0.25,0.75\nIL_1,0.5,0.5\n")
    assert list(read_truth(truth)["image"]) == ["IL_1", "IL_2"]
    assert list(read_submission(told, ["MEL", "NV"])["image"]) == ["IL_2", "IL_1"]
    assert list(read(truth, told)["p_mel"]) == [0.5, 0.25]


def test_other_images_are_named(files):
    truth, given = files("random_00")
    lines = given.read_text().splitlines()
    given.write_text("\n".join([*lines[:-1], lines[-1].replace("ISIC", "OTHER")]) + "\n")
    with pytest.raises(FindingsError) as caught:
        score(truth, given)
    assert set(caught.value.findings["kind"]) == {"missing_image", "extra_image"}


def test_images_of_no_class_make_no_predictions_table(files):
    with pytest.raises(FindingsError) as caught:
        read(*files("images_of_no_class_and_of_two"))
    assert set(caught.value.findings["kind"]) == {"no_one_class"}


def test_the_verbs(fake, tmp_path, capsys):
    table = fake(150, seed=5)
    table.to_csv(tmp_path / "predictions.csv", index=False)
    names = {name: str(tmp_path / name) for name in ("s.csv", "t.csv", "score.json", "p.csv")}
    words = ["isic", "submit", str(tmp_path / "predictions.csv"), "--out", names["s.csv"]]
    assert main([*words, "--truth", names["t.csv"]]) == 0
    words = ["isic", "score", names["t.csv"], names["s.csv"], "--out", names["score.json"]]
    assert main([*words, "--predictions", names["p.csv"]]) == 0
    shown = capsys.readouterr().out
    scored = score(names["t.csv"], names["s.csv"])
    assert f"{scored.overall:.4f}" in shown
    assert json.loads(Path(names["score.json"]).read_text())["overall"] == scored.overall
    assert len(pd.read_csv(names["p.csv"])) == 150
    assert main(["isic", "score", names["t.csv"], names["s.csv"], "--own"]) == 0
    assert "lesionlab's own definitions" in capsys.readouterr().out
