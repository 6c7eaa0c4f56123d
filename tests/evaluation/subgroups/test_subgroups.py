"""Subgroups: against filtering by hand, with small groups, class mixes and many groups at once."""

import math

import numpy as np
import pandas as pd
import pytest

import lesionlab as ll
from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.intervals.bootstrap import lesion_weights
from lesionlab.evaluation.intervals.p_values import holm
from lesionlab.evaluation.metrics.classification import classification, confusion, decide, recall
from lesionlab.evaluation.predictions.load import arrays_of, rows_of
from lesionlab.evaluation.subgroups.grouping import group_by
from lesionlab.evaluation.subgroups.subgroups import subgroups
from lesionlab.files import write_csv
from lesionlab.progress import Notice
from lesionlab.tables import CATALOGUE, classes_of

POINT = "at_90_specificity/mel"


def catalogue_for(table, seed=0, **columns):
    """A catalogue with patients for the images of a predictions table."""
    rng = np.random.default_rng(seed)
    made = table[["image_id", "lesion_id", "target"]].reset_index(drop=True)
    lesion = pd.factorize(made["lesion_id"])[0]
    count = lesion.max() + 1
    own = {
        "age": rng.choice(
            [np.nan, 0.0, 15, 35, 55, 75, 90], count, p=[0.02] * 2 + [0.1] * 4 + [0.56]
        ),
        "sex": rng.choice(["", "female", "male"], count, p=[0.03, 0.5, 0.47]),
        "site": rng.choice(["back", "face", "scalp"], count, p=[0.6, 0.39, 0.01]),
        "dx_type": rng.choice(["histo", "follow_up"], count),
        "source": np.full(count, "drawn"),
    } | columns
    for name in CATALOGUE:
        if name not in made:
            made[name] = own[name][lesion] if name in own else ""
    made["sha256"] = made["image_id"]
    for name in ("width", "height", "bytes"):
        made[name] = 1.0
    return Catalogue(made[list(CATALOGUE)], classes_of(table), root=None, layout="drawn")


@pytest.fixture(scope="module")
def table(fake):
    return pd.concat([fake(900, seed=1), fake(300, seed=2, part="val", prefix="V")])


@pytest.fixture(scope="module")
def data(table):
    return catalogue_for(table)


@pytest.fixture(scope="module")
def found(table, data):
    return subgroups(table, data, by=["age", "sex", "site", "age+sex"], replicates=150, seed=5)


def test_a_group_scores_what_its_images_alone_score(found, table, data):
    patients = data.table.set_index("image_id")["sex"]
    women = table["image_id"].map(patients) == "female"
    alone = evaluate(table[women | (table["part"] == "val")], replicates=0)
    whole = evaluate(table, replicates=0)
    for group, scored in ((("sex", "female"), alone), (None, whole)):
        for metric in found.metrics:
            if metric.startswith("mean_spec") or metric == "overconfidence":
                continue
            if "_at_" in metric:  # the threshold is the whole val part's
                continue
            each = found.figures[(*group, metric)] if group else found.whole[metric]
            assert each.value == pytest.approx(scored[metric].value, abs=1e-12)
    assert found.whole[f"sensitivity_{POINT}"].value == whole[f"sensitivity_{POINT}"].value
    rows = rows_of(table[women | (table["part"] == "val")], "test")
    called = rows["p_mel"] >= whole.thresholds[POINT]
    mel = rows["target"] == "mel"
    own = found.figures["sex", "female", f"sensitivity_{POINT}"]
    assert own.value == pytest.approx(called[mel].mean())
    assert own.n == mel.sum()
    others = ~called[~mel]
    means = others.groupby(rows["target"][~mel]).mean()
    assert found.figures["sex", "female", f"specificity_{POINT}"].value == pytest.approx(
        others.mean()
    )
    assert found.figures["sex", "female", f"mean_specificity_{POINT}"].value == pytest.approx(
        means.mean()
    )
    probabilities = rows[[f"p_{label}" for label in classes_of(rows)]].to_numpy()
    over = probabilities.max(axis=1).mean() - alone["accuracy"].value
    assert found.figures["sex", "female", "overconfidence"].value == pytest.approx(over)


def test_gaps_come_from_the_same_replicates_of_all_lesions(found, table, data):
    rows = rows_of(table, "test")
    weights = lesion_weights(rows["lesion_id"], 150, 5)
    mask = (rows["image_id"].map(data.table.set_index("image_id")["sex"]) == "female").to_numpy()
    targets, probabilities = arrays_of(rows)
    both = []
    for here in (mask, ~mask):
        counts = confusion(weights[:, here], targets[here], decide(probabilities[here]), 7)
        both.append(recall(counts).mean(axis=1))
    gap = both[0] - both[1]
    each = found.gaps["sex", "female", "balanced_accuracy"]
    low, high = np.nanquantile(gap[1:], [0.025, 0.975])
    assert (each.estimate.value, each.estimate.low, each.estimate.high) == pytest.approx(
        (gap[0], low, high)
    )
    assert each.classes == classes_of(table)
    side = min((gap[1:] <= 0).sum(), (gap[1:] >= 0).sum())
    assert each.p == pytest.approx(min(1, 2 * (side + 1) / 151))
    areas = classification(targets[mask], probabilities[mask], classes_of(table)).compute(
        weights[:, mask]
    )
    figure = found.figures["sex", "female", "macro_auroc"]
    assert figure.low == pytest.approx(np.nanquantile(areas["macro_auroc"][1:], 0.025))


def test_p_values_are_adjusted_over_all_groups_of_a_metric(found):
    for metric in found.metrics:
        family = [gap for key, gap in found.gaps.items() if key[2] == metric]
        assert [gap.adjusted for gap in family] == pytest.approx(
            holm([gap.p for gap in family]), nan_ok=True
        )
        assert len(family) > 6
    pairs = [gap for (_, metric), (_, gap) in found.widest.items() if metric == "accuracy"]
    assert [gap.adjusted for gap in pairs] == holm([gap.p for gap in pairs])
    assert any("Take" in text and "replicates or more" in text for text in found.notes)


def test_small_groups_are_suppressed_and_said_so(found, table, data):
    assert found.groups["site"] == ("back", "face", "scalp")
    assert found.suppressed["site", "scalp", ""].endswith("lesions, fewer than 20")
    assert not any(key[:2] == ("site", "scalp") for key in found.figures)
    assert not any(key[:2] == ("site", "scalp") for key in found.gaps)
    assert any("scalp (site)" in text for text in found.notes)
    assert found.groups["age"][-1] == found.groups["sex"][-1] == "unknown"
    assert found.groups["age"][0] == "0–20"  # age 0 is an age
    images, lesions, mel = found.sizes["age", "0–20"]
    assert lesions >= 20 > 10 > mel
    for metric in ("auroc/mel", f"sensitivity_{POINT}"):
        assert found.suppressed["age", "0–20", metric] == f"{mel} lesions of mel, fewer than 10"
        assert ("age", "0–20", metric) not in found.gaps
    assert ("age", "0–20", "accuracy") in found.figures
    saved = found.table()
    silent = saved[saved["kind"] == "suppressed"]
    assert len(silent) == len(found.suppressed)
    assert silent["value"].isna().all()
    assert images == silent[(silent["group"] == "0–20")]["images"].iloc[0]


def test_a_gap_of_class_mix_is_none_once_classes_are_compared(fake):
    """Easy nevi in one group only: it is right more often, and no better at anything."""
    table = pd.concat([fake(3000, seed=3), fake(300, seed=4, part="val", prefix="V")])
    rows = table["part"] == "test"
    rng = np.random.default_rng(0)
    easy = rows & (table["target"] == "nv")
    columns = [name for name in table if name.startswith("p_")]
    table.loc[easy, columns] = [0.94 if name == "p_nv" else 0.01 for name in columns]
    lesion = table["lesion_id"].to_numpy()
    first = {name: rng.random() for name in np.unique(lesion)}
    draw = np.array([first[name] for name in lesion])
    group = np.where(table["target"] == "nv", draw < 0.95, draw < 0.2)
    data = catalogue_for(table)
    by_image = dict(zip(table["image_id"], np.where(group, "follow_up", "histo"), strict=True))
    data.table["dx_type"] = data.table["image_id"].map(by_image)
    found = subgroups(table, data, by=["dx_type"], replicates=400)
    raw = found.gaps["dx_type", "follow_up", "accuracy"]
    assert raw.estimate.low > 0.1
    assert raw.differs
    highest, widest = found.widest["dx_type", "accuracy"]
    assert (highest, widest.against) == ("follow_up", "histo")
    assert widest.estimate.value == pytest.approx(raw.estimate.value)
    assert widest.differs
    assert (widest.estimate.low, widest.estimate.high) == pytest.approx(
        (raw.estimate.low, raw.estimate.high), abs=0.02
    )
    alike = found.gaps["dx_type", "follow_up", "balanced_accuracy"]
    assert alike.estimate.low < 0 < alike.estimate.high
    assert not alike.differs
    assert any("depends on the diagnosis" in text for text in found.notes)


def test_means_run_over_common_classes_only_and_say_which(fake):
    table = pd.concat([fake(1400, seed=3), fake(300, seed=4, part="val", prefix="V")])
    table = table.reset_index(drop=True)
    data = catalogue_for(table)
    lesion = pd.factorize(table["lesion_id"])[0]
    young = (table["target"] == "nv").to_numpy() & (lesion % 2 == 0)
    old = (lesion % 5 == 0) & ~young & (table["target"] != "df").to_numpy()
    data.table["age"] = np.select([young, old], [10.0, 90.0], 50.0)
    found = subgroups(table, data, by=["age"], replicates=60)
    gap = found.gaps["age", "0–20", "balanced_accuracy"]
    assert gap.classes == ("nv",)
    rows = table["part"] == "test"
    columns = [name for name in table if name.startswith("p_")]
    right = "p_" + table["target"] == table[columns].idxmax(axis=1)
    nv = rows & (table["target"] == "nv")
    rates = [right[nv & mask].mean() for mask in (young, ~young)]
    assert gap.estimate.value == pytest.approx(rates[0] - rates[1])
    why = found.suppressed["age", "0–20", "macro_auroc"]
    assert why == "a single class: nothing to rank it against"
    assert set(found.classes["age", "81–100"]) == set(classes_of(table)) - {"df"}
    middle = found.gaps["age", "41–60", "balanced_accuracy"]  # the rest has no df
    assert set(middle.classes) == set(classes_of(table)) - {"df"}
    assert "df" in found.classes["age", "41–60"]
    highest, widest = found.widest["age", "balanced_accuracy"]
    assert widest.classes == ("nv",)
    assert {highest, widest.against} <= {"0–20", "41–60", "81–100"}


def test_without_truth_behind_them_gaps_are_seldom_called_real():
    """Groups at random: 5 % of tests at most, and the widest gap's interval holds 0."""
    rng = np.random.default_rng(1)
    called = widest = 0
    runs = 30
    for seed in range(runs):
        lesion = np.repeat(np.arange(100), 2)
        truth = lesion % 2
        chance = 1 / (1 + np.exp(-(truth * 2 - 1 + np.repeat(rng.normal(size=100), 2))))
        table = pd.DataFrame(
            {
                "image_id": [f"I{i}" for i in range(200)],
                "lesion_id": [f"L{i}" for i in lesion],
                "target": np.where(truth, "mel", "nv"),
                "p_mel": chance,
                "p_nv": 1 - chance,
            }
        )
        site = rng.choice(["a", "b", "c"], 100)
        data = catalogue_for(table, site=site)
        found = subgroups(table, data, by=["site"], replicates=100, seed=seed)
        gaps = [gap for key, gap in found.gaps.items() if key[2] == "balanced_accuracy"]
        assert len(gaps) == 3
        called += any(gap.differs for gap in gaps)
        _, gap = found.widest["site", "balanced_accuracy"]
        widest += gap.p < 0.05
        assert (gap.p < 0.05) == (gap.estimate.low > 0) or 0.03 < gap.p < 0.07
    assert called / runs <= 0.1
    assert widest / runs <= 0.1


def test_a_small_group_without_a_fault_is_not_called_better():
    """22 of 22 is 1 in every replicate, and yet no proof that the others are worse."""
    rng = np.random.default_rng(0)
    right = rng.random(300) < 0.93
    right[:22] = True
    truth = np.arange(300) % 2
    chance = np.where(right == (truth == 1), 0.9, 0.1)
    table = pd.DataFrame(
        {
            "image_id": [f"I{i}" for i in range(300)],
            "lesion_id": "",
            "target": np.where(truth, "mel", "nv"),
            "p_mel": chance,
            "p_nv": 1 - chance,
        }
    )
    data = catalogue_for(table.assign(lesion_id=table["image_id"]))
    data.table["site"] = np.where(np.arange(300) < 22, "neck", "back")
    found = subgroups(table, data, by=["site"], replicates=400)
    for metric in ("accuracy", "balanced_accuracy"):
        gap = found.gaps["site", "neck", metric]
        assert found.figures["site", "neck", metric].value == 1
        assert gap.estimate.low < 0 < gap.estimate.value
        assert gap.p > 0.05
        _, widest = found.widest["site", metric]
        assert widest.p > 0.05


def test_what_images_can_be_grouped_by(table, data):
    with pytest.raises(
        SettingsError, match=r"by 'diagnosis', 'age\+age', 'age\+sex\+site'. Choose"
    ):
        subgroups(table, data, by=["diagnosis", "age+age", "age+sex+site"])
    assert group_by(data.table, ["source"])[1] == ["No groups by source: all images are drawn."]
    nobody = data.table.assign(sex="")
    assert group_by(nobody, ["sex"]) == ([], ["No groups by sex: no image has a known sex."])
    (sites,), _ = group_by(data.table.replace({"site": {"back": "trunk"}}), ["site"])
    assert sites.groups == ("trunk", "face", "scalp")  # by size
    (both,), _ = group_by(data.table, ["sex+age"])
    assert both.groups[0] == "female, 0–20"
    index = both.groups.index("male, 81–100")
    here = (data.table["sex"] == "male") & (data.table["age"] == 90)
    assert ((both.codes == index) == here.to_numpy()).all()
    with pytest.raises(SettingsError, match="no class 'wart'"):
        subgroups(table, data, positive="wart")


def test_without_a_catalogue_it_says_how_to_name_one(table, data, tmp_path):
    with pytest.raises(DataError, match=r"does not say who its patients are.*--data FOLDER"):
        subgroups(table)
    write_csv(tmp_path / "table.csv", table)
    with pytest.raises(DataError, match="--data FOLDER"):
        subgroups(tmp_path / "table.csv")
    strange = table.assign(image_id="x" + table["image_id"])
    with pytest.raises(DataError, match=r"900 of 900 images are not in the catalogue \(xT000000, "):
        subgroups(strange, data)
    (tmp_path / "run").mkdir()
    write_csv(tmp_path / "run" / "predictions.csv", table)
    (tmp_path / "run" / "run.json").write_text('{"state": "complete", "catalogue": "/nowhere"}')
    with pytest.raises(DataError, match=r"cannot be opened where it was.*--data FOLDER"):
        subgroups(tmp_path / "run")


def test_without_val_and_without_melanoma(table, data):
    test = table[table["part"] == "test"]
    heard = []
    found = subgroups(test, data, by=["sex"], replicates=0, listen=heard.append)
    assert not any("sensitivity" in metric for metric in found.metrics)
    assert any("there is no val part" in each.text for each in heard if isinstance(each, Notice))
    assert math.isnan(found.gaps["sex", "male", "accuracy"].p)
    two = subgroups(table, data, by=["sex"], as_="malignant-benign", replicates=20)
    assert two.positive == "malignant"
    assert "auroc/malignant" in two.metrics
    other = table.rename(columns={"p_mel": "p_x"}).replace({"target": {"mel": "x"}})
    assert "auroc/mel" not in subgroups(other, data, by=["sex"], replicates=0).metrics


def test_the_verb(table, data, ham, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real = ll.catalogue(ham, out="data")
    rng = np.random.default_rng(0)
    labels = real.classes
    probabilities = rng.dirichlet(np.ones(len(labels)), len(real))
    own = real.table[["image_id", "lesion_id", "target"]].assign(
        part=np.where(np.arange(len(real)) % 4 == 0, "val", "test")
    )
    for label, column in zip(labels, probabilities.T, strict=True):
        own[f"p_{label}"] = column
    write_csv(tmp_path / "own.csv", own)
    words = ["subgroups", "own.csv", "--replicates", "50", "--by", "sex", "dx_type"]
    assert main(words) == 2
    assert "--data FOLDER" in " ".join(capsys.readouterr().err.split())
    assert main([*words, "--data", "data", "--out", "groups.csv"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "balanced_accuracy by sex" in out
    assert "minus the rest" in out
    saved = pd.read_csv("groups.csv")
    assert set(saved["grouping"].dropna()) == {"sex", "dx_type"}
    assert main([*words, "--data", "data", "--metrics", "beauty"]) == 2
    assert "no metric 'beauty'" in " ".join(capsys.readouterr().err.split())
    assert main([*words, "--data", "data", "--metrics", "accuracy"]) == 0
    assert "accuracy by dx_type" in capsys.readouterr().out
