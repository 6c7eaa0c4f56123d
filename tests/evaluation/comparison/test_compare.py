import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.splits import split
from lesionlab.errors import DataError, FindingsError, SettingsError
from lesionlab.evaluation.comparison.compare import METRICS, compare, shown
from lesionlab.evaluation.ensembles.blend import blend
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.intervals.bootstrap import lesion_weights
from lesionlab.evaluation.metrics.classification import classification
from lesionlab.evaluation.predictions.load import arrays_of, read_as, rows_of
from lesionlab.files import write_csv
from lesionlab.progress import Notice
from lesionlab.taxonomy import GROUPINGS, HAM7, MALIGNANT_RULE


def answers(table, seed, skill=1.5):
    """Another model's answers to the same images."""
    rng = np.random.default_rng(seed)
    columns = [name for name in table if name.startswith("p_")]
    logits = rng.normal(size=(len(table), len(columns)))
    truth = pd.Index(columns).get_indexer(pd.Index("p_" + table["target"]))
    logits[np.arange(len(table)), truth] += skill
    values = np.exp(logits)
    made = table.copy().reset_index(drop=True)
    made[columns] = values / values.sum(axis=1, keepdims=True)
    return made


@pytest.fixture(scope="module")
def first(fake):
    return pd.concat([fake(500, seed=1), fake(250, seed=2, part="val", prefix="V")])


@pytest.fixture(scope="module")
def second(first):
    return answers(first, seed=9, skill=2.5)


@pytest.fixture(scope="module")
def found(first, second):
    return compare({"first": first, "second": second}, replicates=200, seed=3)


def test_figures_are_those_of_evaluate(found, first, second):
    for name, table in (("first", first), ("second", second)):
        alone = evaluate(table, replicates=200, seed=3)
        for metric in found.metrics:
            assert found.figures[name, metric] == alone[metric]
    assert found.metrics == tuple(
        f"{name}/mel" if "sensitivity" in name else name for name in METRICS
    )


def test_differences_are_paired_over_the_same_lesions(found, first, second):
    rows = [rows_of(table, "test") for table in (first, second)]
    weights = lesion_weights(rows[0]["lesion_id"], 200, 3)
    classes = [name[2:] for name in first if name.startswith("p_")]
    both = [classification(*arrays_of(each), classes).compute(weights) for each in rows]
    for metric in ("balanced_accuracy", "macro_auroc", "accuracy", "log_loss"):
        gap = both[1][metric] - both[0][metric]
        low, high = np.nanquantile(gap[1:], [0.025, 0.975])
        each = found.differences["second", "first", metric]
        assert (each.value, each.low, each.high) == pytest.approx((gap[0], low, high))
        assert each.n == 500
    assert found.differences["second", "first", "accuracy"].low > 0
    assert found.differences["second", "first", "log_loss"].high < 0  # lower is better


def test_pairing_narrows_the_interval_of_models_that_err_alike(first):
    twin = answers(first, 1)
    columns = [name for name in first if name.startswith("p_")]
    close = first.reset_index(drop=True).copy()
    close[columns] = 0.95 * close[columns] + 0.05 * twin[columns]
    found = compare([first, close], replicates=200)
    gap = found.differences["table 2", "table 1", "accuracy"]
    alone = found.figures["table 1", "accuracy"]
    assert gap.high - gap.low < 0.5 * (alone.high - alone.low)


def test_a_model_does_not_differ_from_itself(first):
    found = compare([first, first], replicates=50)
    for each in found.differences.values():
        assert (each.value, each.low, each.high) == (0, 0, 0)


def test_rests_on_the_images_that_all_have_and_says_how_many_were_left_out(first, second):
    heard = []
    fewer = second[second["image_id"] != "T000003"]
    moved = first.copy()
    moved.loc[moved["image_id"] == "T000007", "part"] = "train"
    found = compare(
        {"first": moved, "second": fewer, "all": first}, replicates=0, listen=heard.append
    )
    assert found.images == 498
    assert found.left_out == {"first": 1, "second": 1, "all": 2}
    said = [each.text for each in heard if isinstance(each, Notice)]
    assert any("all: 2 images of part test were left out" in text for text in said)
    rest = second[~second["image_id"].isin(["T000003", "T000007"])]
    alone = evaluate(rest, replicates=0)
    assert found.figures["second", "accuracy"].value == alone["accuracy"].value
    assert len(found.differences) == 3 * len(METRICS)


def test_order_of_rows_and_classes_does_not_matter(found, first, second):
    columns = [name for name in second if name.startswith("p_")]
    rest = [name for name in second if name not in columns]
    crooked = second[[*columns[::-1], *rest]].sample(frac=1, random_state=0)
    again = compare({"first": first, "second": crooked}, replicates=200, seed=3)
    pd.testing.assert_frame_equal(again.table(), found.table())


def test_an_automl_csv_without_part_and_lesions_works(first, second, tmp_path):
    own = second[second["part"] == "test"].drop(columns=["part", "lesion_id"])
    write_csv(tmp_path / "automl.csv", own)
    found = compare({"ours": first, "automl": tmp_path / "automl.csv"}, replicates=100)
    whole = compare({"ours": first, "automl": second}, replicates=100)
    key = "automl", "ours", "balanced_accuracy"
    assert found.differences[key] == whole.differences[key]  # lesions are known from ours
    assert found.lesions == first[first["part"] == "test"]["lesion_id"].nunique()
    turned = compare({"automl": own, "ours": first}, replicates=100)
    assert turned.lesions == found.lesions
    point = "sensitivity_at_90_specificity/mel"
    assert ("ours", point) in found.figures
    assert ("automl", point) not in found.figures
    assert ("automl", "ours", point) not in found.differences
    assert any(text.startswith("automl: Sensitivity at fixed") for text in found.notes)
    alone = compare([own, own], replicates=20)
    assert any("Lesion ids are missing" in text for text in alone.warnings)


def test_says_all_disagreements_at_once(first, second):
    wrong = second.copy()
    here = wrong["image_id"].isin(["T000001", "T000002"])
    wrong.loc[here, "target"] = "df"
    wrong.loc[wrong["image_id"] == "T000005", "lesion_id"] = "elsewhere"
    truth = first.set_index("image_id")["target"]
    differing = sum(truth[name] != "df" for name in ("T000001", "T000002"))
    with pytest.raises(FindingsError) as error:
        compare([first, wrong], replicates=0)
    assert list(error.value.findings["kind"]).count("other_target") == differing > 0
    assert "elsewhere in table 2" in str(error.value)


def test_refuses_what_cannot_be_compared(first, second):
    with pytest.raises(SettingsError, match="two or more"):
        compare([first])
    with pytest.raises(SettingsError, match=r"no metric 'recal/mel'. Choose among balanced_acc"):
        compare([first, second], metrics=["recal/mel"], replicates=0)
    with pytest.raises(SettingsError, match="no class 'wart'"):
        compare([first, second], positive="wart", replicates=0)
    with pytest.raises(DataError, match=r"No image is in part 'test' of every table \(table 1 has"):
        compare([first, second.assign(image_id="x" + second["image_id"])], replicates=0)
    two = read_as(second, "malignant-benign")
    with pytest.raises(FindingsError, match=r"(?s)table 2 lacks akiec.*--as malig") as error:
        compare([first, two], replicates=0)
    assert len(error.value.findings) == 1


def test_warns_of_each_model_and_of_what_holds_for_all_once(first, second):
    collapsed = second.copy()
    columns = [name for name in second if name.startswith("p_")]
    collapsed[columns] = [0.94 if name == "p_nv" else 0.01 for name in columns]
    heard = []
    found = compare({"good": first, "all nv": collapsed}, replicates=20, listen=heard.append)
    assert any(
        text.startswith("all nv: 100.0% of the predictions are nv") for text in found.warnings
    )
    assert not any(text.startswith("good:") for text in found.warnings)
    few = [table[table["image_id"] < "T000100"] for table in (first, second)]
    shared = compare(few, replicates=0, part="test").warnings
    assert sum("Fewer than 20 lesions" in text for text in shared) == 1
    warned = [each.text for each in heard if isinstance(each, Notice) and each.level == "warning"]
    assert warned == found.warnings


def test_other_metrics_by_name(first, second):
    wanted = ["recall/mel", "macro_f1", "specificity_at_95_specificity", "recall/mel"]
    found = compare([first, second], metrics=wanted, replicates=20)
    assert found.metrics == ("recall/mel", "macro_f1", "specificity_at_95_specificity/mel")
    mel = (first["part"] == "test") & (first["target"] == "mel")
    assert found.differences["table 2", "table 1", "recall/mel"].n == mel.sum()


def test_table_and_words(found, tmp_path):
    table = found.table()
    assert list(table["reference"].unique()) == ["", "first"]
    assert len(table[table["test"].isin(["", "bootstrap"])]) == 3 * len(METRICS)
    row = table[(table["reference"] == "first") & (table["metric"] == "accuracy")].iloc[0]
    each = found.differences["second", "first", "accuracy"]
    assert (row["model"], row["value"], row["low"]) == ("second", each.value, each.low)
    found.save(tmp_path / "table.csv")
    assert len(pd.read_csv(tmp_path / "table.csv")) == len(table)
    assert shown(each, signed=True).startswith("+0.")
    bare = compare([found_table := answers_of(table), found_table], replicates=0)
    one = bare.differences["table 2", "table 1", "accuracy"]
    assert shown(one, signed=True) == "+0.000 (no interval)"
    assert shown(None) == "none"


def test_reads_like_a_page(found, first, second):
    (title, figures), (_, differences), (_, tests) = found.shown()
    assert title == f"Part test: 500 images of {found.lesions} lesions"
    for metric, row in zip(found.metrics, figures.to_dict("records"), strict=True):
        assert row == {"metric": metric.replace("_", " ")} | {
            m: found.figures[m, metric] for m in found.models
        }
    assert list(differences["difference"]) == list(found.differences.values())
    assert list(differences["adjusted p"]) == list(found.adjusted.values())
    assert list(tests["metric"]) == ["accuracy", "recall/mel", "auroc/mel"]
    assert list(tests["test"]) == ["McNemar", "McNemar", "DeLong"]
    text = str(found)
    for each in found.figures.values():
        assert str(each) in text
    assert shown(found.differences["second", "first", "accuracy"], signed=True) in text
    assert "Differences, second - first" in text
    assert "Adjusted p (Holm): over the 5 differences" in text
    own = second[second["part"] == "test"]
    text = str(compare({"first": first, "bare": own}, replicates=20))
    assert re.search(r"\nsensitivity at 90 specificity/mel +\S+ \(\S+\) +–\n", text)
    assert "Note: bare: Sensitivity at fixed" in text
    few = [table[table["image_id"] < "T000100"] for table in (first, second)]
    assert "\nWARNING: Fewer than 20 lesions" in str(compare(few, replicates=0))


def test_any_name_will_do(found, first, second):
    again = compare({"a|x": first, "a": blend([second])}, replicates=200, seed=3)
    for metric in found.metrics:
        assert again.figures["a|x", metric] == found.figures["first", metric]
        assert again.figures["a", metric] == found.figures["second", metric]
    assert list(again.differences.values()) == list(found.differences.values())


def answers_of(_):
    rng = np.random.default_rng(0)
    values = rng.dirichlet(np.ones(2), 20)
    return pd.DataFrame(
        {
            "image_id": [f"I{i}" for i in range(20)],
            "target": ["mel", "nv"] * 10,
            "p_mel": values[:, 0],
            "p_nv": values[:, 1],
        }
    )


# Malignant or benign


def test_seven_classes_are_read_as_two_by_adding_up(first):
    two = read_as(first, "malignant-benign")
    assert [name for name in two if name.startswith("p_")] == ["p_benign", "p_malignant"]
    want = first["p_mel"] + first["p_bcc"] + first["p_akiec"]
    assert two["p_malignant"].to_numpy() == pytest.approx(want.to_numpy())
    malignant = first["target"].isin(["mel", "bcc", "akiec"])
    assert ((two["target"] == "malignant").to_numpy() == malignant.to_numpy()).all()
    pd.testing.assert_frame_equal(read_as(two, "malignant-benign"), two)


def test_the_printed_rule_is_the_rule():
    groups = GROUPINGS["malignant-benign"].groups
    for side in MALIGNANT_RULE.split(";"):
        name, _, classes = side.partition("=")
        for label in classes.split("+"):
            assert groups[label.strip()] == name.strip()
    assert set(groups) == {*HAM7, "scc", "malignant", "benign"}


def test_classes_outside_the_rule_are_refused(first):
    table = first.rename(columns={"p_df": "p_wart"}).replace({"target": {"df": "wart"}})
    with pytest.raises(DataError, match="does not say what wart would be"):
        evaluate(table, as_="malignant-benign")
    sided = first[first["target"].isin(["nv", "bkl"])]
    sided = sided.drop(columns=[f"p_{each}" for each in ("akiec", "bcc", "df", "mel", "vasc")])
    sided["p_bkl"] = 1 - sided["p_nv"]
    with pytest.raises(DataError, match=r"All classes of this table \(bkl, nv\) are benign when"):
        evaluate(sided, as_="malignant-benign", replicates=0)
    with pytest.raises(SettingsError, match="no grouping 'good-bad'"):
        evaluate(first, as_="good-bad")


def test_evaluate_as_two_classes_prints_the_rule_and_takes_malignant(first):
    heard = []
    found = evaluate(first, as_="malignant-benign", replicates=20, listen=heard.append)
    assert found.classes == ("benign", "malignant")
    assert found.positive == "malignant"
    assert (
        found["sensitivity_at_90_specificity/malignant"].n
        == found.support.loc["malignant", "images"]
    )
    assert any(MALIGNANT_RULE in each.text for each in heard if isinstance(each, Notice))
    assert any(MALIGNANT_RULE in text for text in found.notes)
    assert evaluate(first, replicates=0).positive == "mel"


def test_a_seven_class_model_beside_a_two_class_one(first, second):
    two = read_as(second, "malignant-benign")
    heard = []
    found = compare(
        {"seven": first, "two": two}, as_="malignant-benign", replicates=50, listen=heard.append
    )
    whole = compare({"seven": first, "two": second}, as_="malignant-benign", replicates=50)
    pd.testing.assert_frame_equal(found.table(), whole.table())
    assert ("seven", "sensitivity_at_90_specificity/malignant") in found.figures
    assert any(MALIGNANT_RULE in each.text for each in heard if isinstance(each, Notice))


def test_the_verbs(first, second, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "first.csv", first)
    write_csv(tmp_path / "second.csv", second)
    words = ["compare", "first.csv", "second.csv", "--replicates", "50", "--out", "table.csv"]
    assert main(words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "500 images of" in out
    assert "second - first" in out
    saved = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    assert saved["test"].value_counts().to_dict() == {
        "": 2 * len(METRICS), "bootstrap": len(METRICS), "mcnemar": 8, "delong": 7
    }  # fmt: skip
    assert "Differences, second - first" in out
    assert "p by image" in out
    assert main([*words, "--metrics", "accuracy", "recall/mel", "--as", "malignant-benign"]) == 2
    assert "recall/mel" in capsys.readouterr().err
    assert main([*words, "--metrics", "accuracy", "--as", "malignant-benign"]) == 0
    captured = capsys.readouterr()
    assert MALIGNANT_RULE in " ".join(captured.err.split())
    saved = pd.read_csv(tmp_path / "table.csv")
    asked = saved["test"].fillna("").isin(["", "bootstrap"])
    assert list(saved[asked]["metric"].unique()) == ["accuracy"]
    assert main(["evaluate", "first.csv", "--as", "malignant-benign", "--replicates", "0"]) == 0
    captured = capsys.readouterr()
    assert MALIGNANT_RULE in " ".join(captured.err.split())
    assert "malignant sensitivity" in captured.out
    assert not math.isnan(saved["value"].iloc[0])


def test_the_how_to_for_an_automl_does_what_it_says(ham, tmp_path, monkeypatch):
    page = Path(__file__).parents[3] / "docs" / "how-to" / "compare-automl.md"
    before, after = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    data = catalogue(ham, out="data/ham10000")
    parts = split(data, folds=2)
    parts.save("data/ham10000/split.csv")
    exec(before, {})
    given = pd.read_csv("automl_input.csv")
    assert list(given) == ["image_id", "path", "target", "part"]
    assert given["part"].value_counts()["validation"] == (parts.parts() == "val").sum()
    # a service that answers line by line, best classes only
    rng = np.random.default_rng(0)
    lines = []
    for row in given.to_dict("records"):
        others = rng.choice(data.classes, 2, replace=False)
        lines += [(f"store/{row['image_id']}.jpg", label, 0.3) for label in others]
        if row["target"] not in others:
            lines.append((f"store/{row['image_id']}.jpg", row["target"], 0.35))
    pd.DataFrame(lines, columns=["image", "label", "score"]).to_csv("automl_output.csv")
    exec(after, {})
    automl = pd.read_csv("automl.csv")
    assert len(automl) == len(data)
    ours = automl.drop(columns=[name for name in automl if name.startswith("p_")])
    ours = ours.assign(
        lesion_id=ours["image_id"].map(data.table.set_index("image_id")["lesion_id"]),
        **{f"p_{label}": np.where(ours["target"] == label, 0.4, 0.1) for label in data.classes},
    )
    found = compare({"ours": ours, "automl": "automl.csv"}, replicates=10)
    assert found.images == (parts.parts() == "test").sum()
    assert ("automl", "sensitivity_at_90_specificity/mel") in found.figures
    assert found.figures["ours", "accuracy"].value == 1
    assert 0.5 < found.figures["automl", "accuracy"].value < 1
