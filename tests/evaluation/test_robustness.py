"""Every function that reads predictions, on tables with something wrong: an error or the truth."""

import re
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lesionlab as ll
from lesionlab.cli.app import main
from lesionlab.errors import DataError, LesionlabError, SettingsError
from lesionlab.evaluation.calibration.calibrate import calibrate
from lesionlab.evaluation.calibration.prevalence import estimate, reweight
from lesionlab.evaluation.calibration.reliability_diagram import reliability_curve
from lesionlab.evaluation.calibration.report import calibration_errors
from lesionlab.evaluation.comparison.compare import compare
from lesionlab.evaluation.comparison.train_test_gap import train_test_gap
from lesionlab.evaluation.conformal.prediction_sets import conformal
from lesionlab.evaluation.ensembles.blend import blend
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.intervals.estimate import Estimate, wilson
from lesionlab.evaluation.isic.files import write
from lesionlab.evaluation.roc_curve import roc
from lesionlab.tables import classes_of

CLASSES = ("bcc", "df", "mel", "nv")
COLUMNS = [f"p_{name}" for name in CLASSES]
REPLICATES = 4
EVEN = dict.fromkeys(CLASSES, 0.25)

VERBS = {
    "evaluate": lambda t, r: evaluate(t, replicates=r),
    "evaluate as": lambda t, r: evaluate(t, replicates=r, as_="malignant-benign"),
    "compare": lambda t, r: compare({"a": t, "b": t}, replicates=r).table(),
    "gaps": lambda t, r: train_test_gap({"a": t}, replicates=r),
    "blend": lambda t, _: blend({"a": t, "b": t}).predictions,
    "blend rank": lambda t, _: blend({"a": t, "b": t}, method="rank").predictions,
    "blend weighted": lambda t, _: blend({"a": t, "b": t}, method="weighted").predictions,
    "blend greedy": lambda t, _: (
        blend({"a": t, "b": t}, method="greedy", metric="macro_auroc").predictions
    ),
    "blend stacking": lambda t, _: blend({"a": t, "b": t}, method="stacking").predictions,
    "calibration": lambda t, r: calibration_errors(t, replicates=r).table(),
    "reliability": lambda t, r: reliability_curve(t, replicates=r),
    "calibrate": lambda t, _: calibrate(t).predictions,
    "calibrate vector": lambda t, _: calibrate(t, method="vector").predictions,
    "conformal": lambda t, r: conformal(t, replicates=r),
    "conformal by class": lambda t, r: conformal(t, method="aps", by_class=True, replicates=r),
    "prevalence em": lambda t, r: estimate(t, replicates=r).shares,
    "prevalence bbse": lambda t, r: estimate(t, method="bbse", replicates=r).shares,
    "reweight": lambda t, _: reweight(t, EVEN),
    "roc": lambda t, _: roc(t, "mel"),
}
NEED_REPLICATES = [name for name, call in VERBS.items() if "r" in call.__code__.co_varnames]


@pytest.fixture(scope="module")
def usual(good):
    return {verb: plain(ran(verb, good)) for verb in VERBS}


@pytest.fixture(scope="module")
def good(fake):
    parts = [
        fake(60, seed=seed, classes=CLASSES, part=part, prefix=prefix)
        for seed, part, prefix in ((1, "test", "T"), (2, "val", "V"), (3, "train", "R"))
    ]
    return pd.concat(parts, ignore_index=True)


def but(table, column, value, row=3):
    changed = table.assign(**{column: table[column].astype(object)})
    changed.loc[row, column] = value
    return changed


def answers(table, p):
    return table.assign(**dict(zip(COLUMNS, np.asarray(p, float).T, strict=True)))


def sure(table):
    return (table["target"].to_numpy()[:, None] == np.array(CLASSES)).astype(float)


REFUSED = {
    "nan": (lambda t: but(t, "p_mel", np.nan), r"1 rows outside 0-1, first T000003 \(nan\)"),
    "no cell": (lambda t: but(t, "p_mel", ""), r"first T000003 \(empty\)"),
    "infinite": (lambda t: but(t, "p_mel", np.inf), r"T000003 \(inf\)"),
    "negative": (lambda t: but(t, "p_mel", -0.2), r"T000003 \(-0.2\)"),
    "words": (lambda t: but(t, "p_mel", "high"), r"T000003 \(high\)"),
    "complex": (lambda t: t.assign(p_mel=t["p_mel"] + 0j), "60 rows|180 rows"),
    "percent": (lambda t: t.assign(**{c: t[c] * 100 for c in COLUMNS}), "outside 0-1"),
    "sum": (lambda t: but(t, "p_mel", 0.9999), "1 rows do not add up to 1, first T000003"),
    "logits": (lambda t: t.assign(**{c: np.log(t[c] + 0.1) for c in COLUMNS}), "outside 0-1"),
    "a class without column": (lambda t: t.drop(columns="p_df"), "'df' has no column p_df"),
    "one class": (lambda t: t.drop(columns=COLUMNS[1:]), "two or more p_<class> columns, has 1"),
    "a column without class": (lambda t: t.assign(p_=0.0), "p_ names no class"),
    "same id": (lambda t: pd.concat([t, t[:1]]), "T000000 stands twice"),
    "no id": (lambda t: but(t, "image_id", np.nan), "1 rows have none"),
    "no target": (lambda t: but(t, "target", np.nan), "1 rows have none"),
    "unknown target": (lambda t: but(t, "target", "wart"), "'wart' has no column"),
    "other case": (lambda t: t.assign(target=t["target"].str.upper()), "'MEL' has no column"),
    "blank before": (lambda t: t.assign(target=" " + t["target"]), "' mel' has no column"),
    "unknown part": (lambda t: t.replace({"part": {"val": "valid"}}), "'valid' is not train"),
    "no part": (lambda t: but(t, "part", None), "'' is not train"),
    "column twice": (lambda t: pd.concat([t, t[["p_mel"]]], axis=1), "'p_mel' stands there twice"),
    "target twice": (lambda t: pd.concat([t, t[["target"]]], axis=1), "stands there twice"),
    "no columns": (lambda t: t[[]], "no column 'image_id'"),
    "no rows": (lambda t: t[:0], "no rows at all|no images of part|No part"),
}
ANSWERED = {
    "a class that nobody has": lambda t: t[t["target"] != "df"],
    "a class missing in test": lambda t: t[(t["target"] != "df") | (t["part"] != "test")],
    "a class missing in val": lambda t: t[(t["target"] != "df") | (t["part"] != "val")],
    "no positives": lambda t: t[(t["target"] != "mel") | (t["part"] != "test")],
    "only positives": lambda t: t[t["target"] == "mel"],
    "one lesion": lambda t: t.assign(lesion_id=t["part"]),
    "one image": lambda t: t.groupby("part").head(1),
    "constant": lambda t: answers(t, np.full((len(t), 4), 0.25)),
    "constant and sure": lambda t: answers(t, np.tile([1.0, 0, 0, 0], (len(t), 1))),
    "perfect": lambda t: answers(t, sure(t)),
    "all wrong and sure": lambda t: answers(t, np.roll(sure(t), 1, axis=1)),
    "no val": lambda t: t[t["part"] != "val"],
    "no test": lambda t: t[t["part"] != "test"],
    "lesions in all parts": lambda t: t.assign(lesion_id=(t.index % 20).astype(str)),
    "logits of something else": lambda t: t.assign(**{f"logit_{c}": 0.0 for c in CLASSES}),
    "logits that are words": lambda t: t.assign(**{f"logit_{c}": "x" for c in CLASSES}),
}
"""What is no fault of a table: some verbs can do with it and others say what they lack."""

SAME = {
    "shuffled": lambda t: t.sample(frac=1, random_state=0),
    "an index of zeros": lambda t: t.set_index(np.zeros(len(t), dtype=int)),
    "categories": lambda t: t.astype(dict.fromkeys(["target", "part", "lesion_id"], "category")),
    "text": lambda t: t.astype(str),
    "other columns": lambda t: t.assign(note="x", p=1.0),
}
"""What changes nothing."""


def ran(verb, table, replicates=REPLICATES):
    """The answer, or the error that it ended in, one of ours that says something."""
    try:
        return VERBS[verb](table, replicates)
    except LesionlabError as error:
        refused = error
    assert re.search(r"\w\. |\w\.$", str(refused)), str(refused)
    return refused


def estimates_of(found):
    if isinstance(found, Mapping):
        return list(found.values())
    if isinstance(found, pd.DataFrame) and {"value", "low", "high"} <= set(found):
        return [Estimate(r.value, r.low, r.high, 1, 1) for r in found.itertuples()]
    return list(getattr(found, "estimates", {}).values())


def plain(found):
    """An answer in a form that compares; tables sorted by image, as files need not be."""
    if isinstance(found, pd.DataFrame):
        rows = found.sort_values("image_id") if "image_id" in found else found
        names = [name for name in rows if name not in ("note", "p")]
        return rows[names].reset_index(drop=True).astype(str)
    if isinstance(found, LesionlabError):
        return pd.DataFrame([str(found)])
    return pd.DataFrame([str(found), *map(repr, estimates_of(found))])


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_wrong_is_refused_and_named_by_every_verb(good, fault):
    change, words = REFUSED[fault]
    table = change(good)
    for verb in VERBS:
        error = ran(verb, table)
        assert isinstance(error, LesionlabError), verb
        assert re.search(words, str(error)), (verb, str(error))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("oddity", ANSWERED)
def test_what_is_odd_gets_a_sound_answer_or_an_error_that_says_why(good, oddity):
    table = ANSWERED[oddity](good)
    answered = 0
    for verb in VERBS:
        found = ran(verb, table)
        if isinstance(found, LesionlabError):
            continue
        answered += 1
        if isinstance(found, pd.DataFrame) and set(COLUMNS) <= set(found):
            p = found[COLUMNS].to_numpy()
            assert ((p >= 0) & (p <= 1)).all(), verb
            assert p.sum(axis=1) == pytest.approx(1), verb
        for each in estimates_of(found):
            if not np.isnan(each.low):
                assert each.low <= each.high, verb
                assert not np.isnan(each.value), verb
    assert answered >= 5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", SAME)
def test_what_changes_nothing_changes_no_digit(good, usual, form):
    table = SAME[form](good)
    for verb in VERBS:
        pd.testing.assert_frame_equal(plain(ran(verb, table)), usual[verb])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("replicates", [0, 1, -1])
@pytest.mark.parametrize("verb", NEED_REPLICATES)
def test_few_replicates_make_no_interval_and_fewer_than_none_an_error(good, verb, replicates):
    found = ran(verb, good, replicates)
    if replicates < 0:
        assert isinstance(found, SettingsError)
        return
    assert not isinstance(found, LesionlabError)
    for each in estimates_of(found):
        spread = each.high - each.low
        assert np.isnan(spread) or spread > 0.01 or each.low == 0  # Wilson's


def test_a_constant_answer_is_worth_what_chance_is_worth(good):
    found = evaluate(ANSWERED["constant"](good), replicates=50)
    for name, value in (
        ("balanced_accuracy", 0.25),
        ("macro_auroc", 0.5),
        ("log_loss", np.log(4)),
        ("cohen_kappa", 0.0),
    ):
        assert found[name].value == pytest.approx(value, abs=1e-12), name
    assert found["recall/bcc"].value == 1  # of equals, the first class
    assert found["recall/mel"].value == 0
    assert np.isnan(found["precision/mel"].value)


def test_a_perfect_score_has_an_interval_with_the_lesions_for_trials(good):
    found = evaluate(ANSWERED["perfect"](good), replicates=50)
    lesions = found.support["lesions"]
    assert found["balanced_accuracy"].value == found["macro_auroc"].value == 1
    trials = 16 / sum(1 / n for n in lesions)
    assert found["balanced_accuracy"].low == pytest.approx(wilson(1.0, trials)[0])
    assert found["balanced_accuracy"].low < 1 == found["balanced_accuracy"].high
    pairs = sum(1 / n + 1 / (lesions.sum() - n) for n in lesions)
    assert found["macro_auroc"].low == pytest.approx(wilson(1.0, 16 / pairs)[0])
    assert np.isnan(found["cohen_kappa"].low)  # nobody knows
    assert any("the same in all of them" in note for note in found.notes)


def test_one_lesion_makes_no_interval(good):
    found = evaluate(ANSWERED["one lesion"](good), replicates=50)
    for name in ("balanced_accuracy", "macro_auroc", "accuracy", "log_loss"):
        assert found[name].defined
        assert np.isnan(found[name].low)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("a mark", {"encoding": "utf-8-sig"}),
        ("semicolons", {"sep": ";"}),
        ("tabs", {"sep": "\t"}),
        ("Windows", {"lineterminator": "\r\n"}),
        ("an index", {"index": True}),
    ],
)
def test_files_of_other_programs_give_the_same_numbers(good, tmp_path, form, options):
    assert form
    path = tmp_path / "p.csv"
    good.to_csv(path, **({"index": False} | options))
    assert dict(evaluate(path, replicates=20)) == dict(evaluate(good, replicates=20))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "first line is not a header"),
        ("\n\n", "first line is not a header"),
        ("image_id,target,p_mel,p_nv\n", "no rows at all"),
        ("a,b\n1,2\n", "lacks 2 of the columns"),
        ('image_id,target,p_mel,p_nv\n"a,mel,1,0\n', "not a CSV table"),
        ("image_id,target,p_mel,p_nv\na,mel,1,0,7\n", "not a CSV table"),
        ("image_id,target,p_mel,p_nv\na,mel,1\n", r"first a \(empty\)"),
        ("image_id,target,p_mel,p_mel,p_nv\na,mel,.5,0,.5\n", "two columns called 'p_mel'"),
        ("image_id;target;p_mel;p_nv\na;mel;0,5;0,5\n", r"first a \(0,5\)"),
        ("image_id,target,p_mel,p_nv\na,mel,50%,50%\n", r"\(50%\)"),
        (b"\xff\xfei\x00m\x00", "lacks 2 of the columns"),
        (b"image_id,target,p_mel,p_nv\n\xe9,mel,1,0\n", "UTF-8"),
        (b"\x00\x01\x02\x03", "not a header"),
    ],
)
def test_files_that_are_no_tables(tmp_path, content, words):
    path = tmp_path / "p.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=words):
        evaluate(path)


def test_parquet_that_is_none(tmp_path, monkeypatch):
    def broken(path):
        raise ValueError(f"magic bytes not found in {path}")

    monkeypatch.setattr(pd, "read_parquet", broken)
    with pytest.raises(DataError, match=r"cannot be read as Parquet \(magic bytes"):
        evaluate(tmp_path / "p.parquet")


def test_ids_are_words_whatever_they_look_like(good, tmp_path):
    ids = [f"{i:05d}" for i in range(len(good))]
    named = good.assign(image_id=ids, lesion_id=[f"Läsion {i // 2}" for i in range(len(good))])
    named.to_csv(tmp_path / "p.csv", index=False)
    read = blend([tmp_path / "p.csv"]).predictions
    assert list(read["image_id"]) == ids
    assert dict(evaluate(tmp_path / "p.csv", replicates=9)) == dict(evaluate(named, replicates=9))
    numbers = good.assign(image_id=range(len(good)))
    with pytest.raises(DataError, match="No image is in part 'test' of every table"):
        compare({"words": named, "numbers": numbers}, replicates=0)
    # a lesion number beside an unknown one is read as 7.0 by pandas
    gaps_in = np.where(np.arange(len(good)) % 3, np.arange(len(good)) // 2, np.nan)
    lesions = blend([good.assign(lesion_id=gaps_in)]).predictions["lesion_id"]
    assert set(lesions[:4]) == {"", "0", "1"}


@pytest.mark.parametrize(
    "verb", ["evaluate", "compare", "compare --parts", "blend", "calibrate", "conformal"]
)
def test_the_command_line_says_it_without_a_traceback(good, tmp_path, verb, capsys):
    path = tmp_path / "p.csv"
    but(good, "p_mel", "high").to_csv(path, index=False)
    out = ["--out", str(tmp_path / "out")] if verb in ("blend", "calibrate") else []
    files = [str(path)] * (2 if verb in ("compare", "blend") else 1)
    assert main([*verb.split(), *files, *out]) == 2
    said = capsys.readouterr()
    assert "first T000003 (high)" in said.err
    assert "Traceback" not in said.err + said.out


@pytest.mark.parametrize("fault", ["nan", "same id", "sum", "no rows"])
def test_submissions_and_reports_refuse_them_too(good, tmp_path, fault):
    change, words = REFUSED[fault]
    path = tmp_path / "p.csv"
    change(good).to_csv(path, index=False)
    with pytest.raises(LesionlabError, match=words.replace("nan", "empty")):
        write(path, tmp_path / "out.csv")
    with pytest.raises(LesionlabError, match=words.replace("nan", "empty")):
        ll.report([path], out=tmp_path / "r.html")
    assert sorted(Path(tmp_path).iterdir()) == [path]


@pytest.mark.slow
def test_400_000_rows_in_little_memory(fake):
    rows = fake(400_000, seed=1)
    tracemalloc.start()
    start = time.perf_counter()
    found = evaluate(rows, replicates=20)
    seconds = time.perf_counter() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["accuracy"].n == 400_000
    hits = rows[[f"p_{c}" for c in classes_of(rows)]].idxmax(axis=1).str[2:] == rows["target"]
    assert found["accuracy"].value == pytest.approx(hits.mean(), abs=1e-12)
    assert found["accuracy"].high - found["accuracy"].low < 0.01
    assert peak < 2 * 2**30
    assert seconds < 600
