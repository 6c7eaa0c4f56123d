import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from lesionlab.errors import DataError, FindingsError, SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.evaluation_result import METRICS, Evaluation
from lesionlab.files import write_csv
from lesionlab.progress import Notice, Step


def with_answer(table, label, rows=slice(None)):
    """Let the model answer `label` on `rows`."""
    table = table.copy().reset_index(drop=True)
    columns = [name for name in table if name.startswith("p_")]
    table.loc[table.index[rows], columns] = [
        0.94 if name == f"p_{label}" else 0.01 for name in columns
    ]
    return table


@pytest.fixture(scope="module")
def both(fake):
    return pd.concat([fake(600, seed=1), fake(300, seed=2, part="val", prefix="V")])


@pytest.fixture(scope="module")
def result(both):
    return evaluate(both, replicates=200, seed=3)


def said(result, words):
    return [text for text in result.warnings if words in text]


def test_is_a_mapping_with_the_headline_first(result):
    assert list(result)[:2] == ["balanced_accuracy", "macro_auroc"]
    assert {name.partition("/")[0] for name in result} == set(METRICS)
    assert len(result) == 15 + 12 + 8 * 7
    assert result["recall/mel"].low <= result["recall/mel"].value <= result["recall/mel"].high
    assert "recall/wart" not in result
    assert result.get("recall/wart") is None
    with pytest.raises(KeyError, match="among the metrics"):
        result["recall/wart"]


def test_counts(result, both):
    test = both[both["part"] == "test"]
    assert result["accuracy"].n == len(test) == 600
    assert result["accuracy"].groups == test["lesion_id"].nunique()
    for label in result.classes:
        rows = test[test["target"] == label]
        assert result.support.loc[label].to_dict() == {
            "images": len(rows),
            "lesions": rows["lesion_id"].nunique(),
        }
        assert result["recall/" + label].n == len(rows)
    answers = test[[f"p_{label}" for label in result.classes]].idxmax(axis=1).str[2:]
    counts = pd.crosstab(test["target"], answers)
    assert (result.confusion.to_numpy() == counts.to_numpy()).all()
    assert (result.confusion.index.name, result.confusion.columns.name) == ("truth", "prediction")
    assert result["precision/mel"].n == result.confusion["mel"].sum()


def test_nothing_odd_nothing_said(result):
    assert result.warnings == []
    assert result.notes == []


def test_a_class_that_is_never_called_leaves_precision_open_and_says_so(both):
    answers = both.copy().reset_index(drop=True)
    answers["p_nv"] += answers["p_mel"]
    answers["p_mel"] = 0.0
    result = evaluate(answers, replicates=0)
    assert not result["macro_precision"].defined
    values = [result[f"precision/{label}"].value for label in result.classes if label != "mel"]
    (note,) = (text for text in result.notes if "is called mel" in text)
    assert f"{sum(values) / len(result.classes):.3f} if that counted as a precision of 0" in note


def test_table_and_words(result):
    table = result.table()
    assert list(table) == ["metric", "class", "value", "low", "high", "n", "lesions"]
    row = table[(table["metric"] == "f1") & (table["class"] == "mel")].iloc[0]
    assert row["value"] == result["f1/mel"].value
    assert str(result["balanced_accuracy"]) in str(result)
    assert str(result["recall/vasc"]) in str(result)
    assert len(repr(result)) < 200


def test_saves_and_loads(result, tmp_path):
    result.save(tmp_path / "score.json")
    again = Evaluation.load(tmp_path / "score.json")
    assert dict(again) == dict(result)
    pd.testing.assert_frame_equal(again.support, result.support)
    pd.testing.assert_frame_equal(again.confusion, result.confusion)
    assert again.to_json() == result.to_json()
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(DataError, match="not an evaluation"):
        Evaluation.load(tmp_path / "other.json")


def test_not_defined_is_null_in_json(fake, tmp_path):
    table = fake(60)
    found = evaluate(table[table["target"] != "df"], replicates=20)
    assert math.isnan(found["recall/df"].value)
    found.save(tmp_path / "score.json")
    text = (tmp_path / "score.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["estimates"]["recall/df"]["value"] is None
    assert not Evaluation.load(tmp_path / "score.json")["recall/df"].defined


def test_same_seed_same_digits_in_any_order_of_rows(both, result):
    shuffled = both.sample(frac=1, random_state=0)
    assert dict(evaluate(shuffled, replicates=200, seed=3)) == dict(result)
    other = evaluate(both, replicates=200, seed=4)["macro_auroc"]
    assert other.value == result["macro_auroc"].value
    assert other.low != result["macro_auroc"].low


def test_names_of_lesions_do_not_matter(both, result):
    renamed = both.assign(lesion_id="x" + both["lesion_id"])
    assert dict(evaluate(renamed, replicates=200, seed=3)) == dict(result)
    blank = evaluate(both.assign(lesion_id=""), replicates=200, seed=3)
    single = evaluate(both.assign(lesion_id=both["image_id"]), replicates=200, seed=3)
    assert dict(blank) == dict(single)


def test_reads_files_with_the_same_result(both, result, tmp_path):
    write_csv(tmp_path / "predictions.csv", both)
    for source in (tmp_path / "predictions.csv", str(tmp_path / "predictions.csv")):
        assert dict(evaluate(source, replicates=200, seed=3)) == dict(result)


def test_intervals_over_lesions_are_wider_where_images_repeat(fake):
    base = fake(150, seed=5, per_lesion=0.01, digits=None)
    base["lesion_id"] = base["image_id"]
    four = pd.concat(
        [base.assign(image_id=base["image_id"] + f"_{i}") for i in range(4)], ignore_index=True
    )
    clustered = evaluate(four, replicates=400)
    imagewise = evaluate(four.assign(lesion_id=""), replicates=400)
    once = evaluate(base, replicates=400)
    for name in ("balanced_accuracy", "macro_auroc", "accuracy"):
        width, naive, truth = (
            each[name].high - each[name].low for each in (clustered, imagewise, once)
        )
        assert clustered[name].value == pytest.approx(once[name].value, abs=1e-12)
        assert width == pytest.approx(truth, rel=1e-9)
        assert 1.6 < width / naive < 2.5  # 2 = the root of four copies


def test_no_replicates_no_intervals(both):
    found = evaluate(both, replicates=0)
    assert str(found["accuracy"]).endswith("(no interval)")
    assert not found.notes


def test_part_without_rows(fake):
    with pytest.raises(DataError, match=r"no images of part 'val'. They have: test \(50 images\)"):
        evaluate(fake(50), part="val")


def test_refuses_what_is_not_a_predictions_table(fake):
    table = fake(50)
    with pytest.raises(FindingsError):
        evaluate(table.drop(columns="target"))
    with pytest.raises(FindingsError):
        evaluate(table.assign(p_mel=np.nan))
    with pytest.raises(SettingsError, match="no class 'wart'"):
        evaluate(table, positive="wart")
    with pytest.raises(SettingsError, match="replicates"):
        evaluate(table, replicates=-1)


def test_another_positive_class(both):
    found = evaluate(both, replicates=0, positive="bcc")
    assert "sensitivity_at_90_specificity/bcc" in found
    assert "sensitivity_at_90_specificity/mel" not in found


def test_warns_of_collapse(fake):
    table = fake(400)
    assert said(
        evaluate(with_answer(table, "nv"), replicates=0), "100.0% of the predictions are nv"
    )
    half = with_answer(table, "nv", slice(0, 200))
    assert not said(evaluate(half, replicates=0), "of the predictions are")


def test_warns_of_recall_zero_with_its_n(fake):
    table = fake(600)
    wrong = with_answer(table, "nv", np.flatnonzero(table["target"] == "vasc"))
    n = int((table["target"] == "vasc").sum())
    found = evaluate(wrong, replicates=100)
    assert said(found, f"Recall of vasc is 0: none of its {n} images")
    assert len(said(found, "Recall of")) == 1
    assert found["recall/vasc"].high > 0.01  # not an interval without width


def test_warns_of_absent_class_but_not_of_its_recall(fake):
    table = fake(600)
    found = evaluate(table[table["target"] != "df"], replicates=0)
    assert said(found, "has no image of df")
    assert not said(found, "Recall of df")
    assert not said(found, "Fewer than")


def test_warns_of_few_lesions(fake):
    table = fake(600)
    df = table.index[table["target"] == "df"]
    found = evaluate(table.drop(index=df[12:]), replicates=0)
    assert said(found, "Fewer than 20 lesions: df (")


def test_warns_of_missing_lesion_ids(fake):
    table = fake(600)
    assert said(evaluate(table.drop(columns="lesion_id"), replicates=0), "Lesion ids are missing:")
    some = table.assign(lesion_id=table["lesion_id"].where(table.index > 9, ""))
    assert said(evaluate(some, replicates=0), "are missing for 10 images")


def test_warns_of_lesions_in_two_parts(both):
    table = both.reset_index(drop=True)
    first = table.loc[0, "lesion_id"]
    table.loc[table.index[-1], "lesion_id"] = first
    assert said(evaluate(table, replicates=0), f"Leak: 1 lesion ({first}) stands in more than one")
    # images without a lesion id are not one lesion
    assert not said(evaluate(both.assign(lesion_id=""), replicates=0), "Leak")


def test_warns_of_a_perfect_score(fake):
    found = evaluate(fake(600, skill=60), replicates=20)
    assert said(found, "A perfect score (balanced_accuracy and macro_auroc = 1.0)")


def test_small_tables_get_a_right_answer_or_none(fake):
    table = fake(3, classes=("mel", "nv"), digits=None)
    one = evaluate(table.iloc[:1], replicates=50)
    assert not one["macro_auroc"].defined
    assert math.isnan(one["balanced_accuracy"].low)
    same = evaluate(table.assign(lesion_id="L", target=["mel", "nv", "nv"]), replicates=50)
    assert math.isnan(same["macro_auroc"].low)
    assert any("single lesion" in text for text in same.notes)


def test_tells_listener(fake):
    heard = []
    evaluate(with_answer(fake(100), "nv"), replicates=10, listen=heard.append)
    assert any(isinstance(event, Step) for event in heard)
    levels = [event.level for event in heard if isinstance(event, Notice)]
    assert {"warning", "info"} == set(levels)


def test_needs_neither_torch_nor_scikit_learn():
    code = "import sys, lesionlab.evaluation; print({'torch', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
