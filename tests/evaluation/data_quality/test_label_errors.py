import numpy as np
import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import leave_out
from lesionlab.data.catalogue.layouts import Draft
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.data_quality.label_errors import (
    by_lesion,
    confident,
    label_errors,
    thresholds,
)
from lesionlab.files import write_csv
from lesionlab.tables import FINDINGS, classes_of, read_csv


def right(n=900, seed=0, lesions=None):
    """Labels drawn from the probabilities themselves: all right, the model calibrated."""
    rng = np.random.default_rng(seed)
    classes = ("bcc", "mel", "nv")
    probabilities = rng.dirichlet([0.25, 0.25, 0.5], n)
    target = [classes[rng.choice(3, p=each)] for each in probabilities]
    table = pd.DataFrame(
        {"image_id": [f"i{k:05}" for k in range(n)], "target": target, "part": "test"}
    )
    table["lesion_id"] = table["image_id"] if lesions is None else lesions
    for name, column in zip(classes, probabilities.T, strict=True):
        table[f"p_{name}"] = column / probabilities.sum(axis=1)
    return table


def swapped(table, share, seed):
    """A share of the labels exchanged for another class; which they were."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(table), round(share * len(table)), replace=False)
    classes = list(classes_of(table))
    target = table["target"].to_numpy(dtype=object).copy()
    for row in rows:
        target[row] = rng.choice([each for each in classes if each != target[row]])
    return table.assign(target=target), set(table["image_id"].iloc[rows])


def naive(targets, probabilities):
    """Confident learning as the paper's equations 1 and 2 have it, image by image."""
    limits = [
        np.mean([p[j] for t, p in zip(targets, probabilities, strict=True) if t == j])
        for j in range(probabilities.shape[1])
    ]
    made = []
    for p in probabilities:
        reached = [j for j in range(len(p)) if p[j] >= limits[j]]
        made.append(max(reached, key=lambda j: p[j]) if reached else -1)
    return np.array(limits), np.array(made)


def test_thresholds_and_confident_classes_are_those_of_the_paper(fake):
    table = fake(300, seed=2)
    classes = classes_of(table)
    targets = np.array([classes.index(each) for each in table["target"]])
    probabilities = table[[f"p_{each}" for each in classes]].to_numpy()
    limits, found = naive(targets, probabilities)
    np.testing.assert_allclose(thresholds(targets, probabilities), limits)
    assert confident(targets, probabilities).tolist() == found.tolist()
    made = label_errors(table, replicates=0)
    assert len(made.images) == ((found >= 0) & (found != targets)).sum()
    assert made.joint.to_numpy().sum() == (found >= 0).sum()
    assert np.trace(made.joint.to_numpy()) == (found == targets).sum()


def test_planted_swaps_come_first():
    table, wrong = swapped(right(1200, seed=3), 0.05, seed=4)
    made = label_errors(table, replicates=0)
    planted = made.table["image_id"].isin(wrong)
    found = planted[made.table["suspect"]].sum() / len(wrong)
    precision_at = planted.head(len(wrong)).mean()
    ranks = made.table["rank"][planted]
    area = 1 - (ranks.sum() - len(wrong) * (len(wrong) + 1) / 2) / (
        len(wrong) * (len(table) - len(wrong))
    )
    assert found > 0.7
    assert precision_at > 0.4  # at random 0.05
    assert area > 0.85
    assert made.table["margin"].is_monotonic_increasing


def test_right_labels_of_a_calibrated_model_give_as_many_as_expected():
    inside, counts = 0, []
    for seed in range(12):
        made = label_errors(right(600, seed=seed), replicates=100)
        counts.append(len(made.images) - made.expected.mean)
        inside += made.expected.low <= len(made.images) <= made.expected.high
    assert inside >= 10  # 95 % of 12
    assert abs(np.mean(counts)) < 4
    table, _ = swapped(right(600, seed=1), 0.1, seed=1)
    more = label_errors(table, replicates=100)
    assert len(more.images) > more.expected.high


def test_a_lesion_is_judged_by_all_its_images():
    lesions = [f"L{k // 3}" for k in range(900)]
    table = right(900, seed=5, lesions=lesions)
    table["target"] = table.groupby("lesion_id")["target"].transform("first")
    made = label_errors(table, replicates=0)
    assert len(made.lesions) == 300
    assert made.lesions["images"].tolist() == [3] * 300
    one = made.lesions.iloc[0]
    own = table[table["lesion_id"] == one["lesion_id"]]
    assert own[f"p_{one['target']}"].mean() == pytest.approx(one["p_target"])
    row = made.table[made.table["lesion_id"] == one["lesion_id"]].iloc[0]
    assert row["lesion_rank"] == 1
    assert row["lesion_suspect"] == one["suspect"]
    owner, targets, _ = by_lesion(np.array([0, 0]), np.array([1, 2]), np.eye(3)[:2])
    assert owner.tolist() == [0, 1]  # two labels of one lesion are two units
    assert targets.tolist() == [1, 2]


def test_shares_are_set_beside_histology():
    table = right(1500, seed=6)
    rng = np.random.default_rng(0)
    kind = rng.choice(["histo", "follow_up"], len(table))
    poor, _ = swapped(table[kind == "follow_up"], 0.3, seed=7)
    mixed = pd.concat([table[kind == "histo"], poor])
    data = pd.DataFrame({"image_id": table["image_id"], "dx_type": kind})
    made = label_errors(mixed, data=data, replicates=200)
    assert set(made.differences["dx_type"]) == {"follow_up"}
    assert (made.differences["low"] > 0).all()
    assert (made.differences["p_adjusted"] >= made.differences["p"]).all()
    row = made.by_dx_type.iloc[0]
    of = made.table[
        (made.table["target"] == row["class"]) & (made.table["dx_type"] == row["dx_type"])
    ]
    assert row["suspects"] == of["suspect"].sum()
    assert row["low"] < row["share"] < row["high"]
    false = 0
    for seed in range(20, 26):  # right labels everywhere: of six, one may err
        even = label_errors(right(1500, seed=seed), data=data, replicates=200).differences
        false += (even["p_adjusted"] < 0.05).any()
    assert false <= 1


def test_what_cannot_be_judged_is_said(fake):
    table = fake(200, part="train")
    with pytest.raises(DataError, match="no images of part 'test'"):
        label_errors(table)
    with pytest.raises(SettingsError, match="knows by heart"):
        label_errors(table, part="train")
    with pytest.raises(DataError, match="none of the predicted images"):
        label_errors(fake(200), data=pd.DataFrame({"image_id": ["x"], "dx_type": ["histo"]}))


def test_both_parts_and_the_order_of_rows_do_not_matter(fake):
    both = pd.concat(
        [
            fake(200, seed=1),
            fake(100, seed=2, part="val", prefix="V"),
            fake(50, seed=3, part="train", prefix="A"),
        ]
    )
    made = label_errors(both, part="both", replicates=20)
    assert len(made.table) == 300
    turned = label_errors(both.sample(frac=1, random_state=0), part="both", replicates=20)
    pd.testing.assert_frame_equal(made.table, turned.table)


def test_findings_leave_nothing_out_until_somebody_says_so(tmp_path):
    table, _ = swapped(right(300, seed=8), 0.05, seed=8)
    found = label_errors(table, replicates=0).findings({"i00000": "a.jpg"})
    assert list(found.columns) == list(FINDINGS)
    assert not found["exclude"].any()
    assert set(found["severity"]) == {"note"}
    draft = Draft(
        table[["image_id", "target"]].assign(path="x"), ("bcc", "mel", "nv"), tmp_path, "csv", []
    )
    write_csv(tmp_path / "f.csv", found)
    assert len(leave_out(draft, read_csv(tmp_path / "f.csv")).table) == 300
    found.loc[0, "exclude"] = True
    write_csv(tmp_path / "f.csv", found)
    kept = leave_out(draft, read_csv(tmp_path / "f.csv")).table
    assert set(table["image_id"]) - set(kept["image_id"]) == {found.loc[0, "image_id"]}


def test_on_the_command_line(drawn, tmp_path, capsys):
    data, _ = drawn
    rng = np.random.default_rng(0)
    table = data.table[["image_id", "lesion_id", "target"]].assign(part="test")
    probabilities = rng.dirichlet(np.ones(len(data.classes)), len(table))
    for name, column in zip(data.classes, probabilities.T, strict=True):
        table[f"p_{name}"] = column
    write_csv(tmp_path / "p.csv", table)
    words = ["--data", str(data.home), "--out", str(tmp_path / "s.csv"), "--replicates", "30"]
    words += [
        "--findings",
        str(tmp_path / "f.csv"),
        "--page",
        str(tmp_path / "s.html"),
        "--most",
        "3",
    ]
    assert main(["audit", "labels", str(tmp_path / "p.csv"), *words]) == 0
    shown = capsys.readouterr().out
    assert "request to look, not a mistake" in shown
    assert "if labels and probabilities were right" in shown
    ranked = pd.read_csv(tmp_path / "s.csv")
    assert ranked["rank"].tolist() == list(range(1, len(table) + 1))
    paths = pd.read_csv(tmp_path / "f.csv").set_index("image_id")["path"]
    known = data.table.set_index("image_id")["path"]
    assert (paths == known[paths.index]).all()
    page = (tmp_path / "s.html").read_text()
    assert page.count("data:image/jpeg") == 3
    assert ranked["image_id"][ranked["suspect"]].iloc[0] in page
    assert main(["audit", "labels", str(tmp_path / "p.csv"), "--page", "x.html"]) == 2
