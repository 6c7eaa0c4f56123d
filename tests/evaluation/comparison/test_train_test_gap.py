import numpy as np
import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.comparison.train_test_gap import GAP, METRICS, train_test_gap
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.files import write_csv
from lesionlab.progress import Notice
from lesionlab.tables import classes_of


def knowing(table, share, seed):
    """The same images, a share of them answered by heart."""
    made = table.copy().reset_index(drop=True)
    known = np.random.default_rng(seed).random(len(made)) < share
    for label in classes_of(made):
        exact = np.where(made["target"] == label, 0.94, 0.06 / (len(classes_of(made)) - 1))
        made[f"p_{label}"] = np.where(known, exact, made[f"p_{label}"])
    return made


@pytest.fixture(scope="module")
def overfitted(fake):
    return pd.concat(
        [
            knowing(fake(600, seed=1, part="train", prefix="A"), 0.7, 1),
            fake(200, seed=2, part="val", prefix="V"),
            fake(400, seed=3, part="test"),
        ]
    )


def of(table, metric, part):
    return table[(table["metric"] == metric) & (table["part"] == part)].iloc[0]


def test_every_part_has_the_figures_of_evaluate(overfitted):
    table = train_test_gap({"mine": overfitted}, replicates=100, seed=4)
    for part in ("train", "val", "test"):
        alone = evaluate(overfitted, part=part, replicates=100, seed=4)
        for metric in METRICS:
            row = of(table, metric, part)
            assert row["value"] == alone[metric].value
            assert (row["images"], row["lesions"]) == (alone[metric].n, alone[metric].groups)
            if part == "test":  # its intervals, too
                assert (row["low"], row["high"]) == (alone[metric].low, alone[metric].high)


def test_the_gap_is_the_difference_and_its_interval_excludes_0_for_what_was_learned_by_heart(
    overfitted,
):
    table = train_test_gap({"mine": overfitted}, replicates=200)
    for metric in METRICS:
        gap = of(table, metric, GAP)
        ends = [of(table, metric, part) for part in ("train", "test")]
        assert gap["value"] == pytest.approx(ends[0]["value"] - ends[1]["value"])
        assert gap["images"] == ends[0]["images"] + ends[1]["images"]
        spread = sum((end["high"] - end["low"]) ** 2 for end in ends) ** 0.5  # independent parts
        assert gap["high"] - gap["low"] == pytest.approx(spread, rel=0.2)
        assert gap["low"] > 0 or gap["high"] < 0
    assert of(table, "log_loss", GAP)["value"] < 0  # less is better


def test_a_model_that_knows_nothing_by_heart_has_no_gap(fake):
    table = pd.concat([fake(600, seed=1, part="train", prefix="A"), fake(600, seed=3)])
    gap = of(train_test_gap([table], metrics=["accuracy"], replicates=200), "accuracy", GAP)
    assert gap["low"] < 0 < gap["high"]


def test_lesions_on_both_sides_are_warned_about(overfitted):
    leaky = overfitted.assign(lesion_id=overfitted["lesion_id"].str.replace("AL", "TL"))
    told = []
    train_test_gap([leaky], metrics=["accuracy"], replicates=0, listen=told.append)
    shared = set(leaky.loc[leaky["part"] == "train", "lesion_id"]) & set(
        leaky.loc[leaky["part"] == "test", "lesion_id"]
    )
    warnings = [n.text for n in told if isinstance(n, Notice) and n.level == "warning"]
    assert shared
    assert any(f"{len(shared)} lesions are in train and in test" in text for text in warnings)


def test_what_is_missing_is_named(overfitted):
    with pytest.raises(DataError, match="no images of part train"):
        train_test_gap([overfitted[overfitted["part"] != "train"]])
    with pytest.raises(SettingsError, match=r"no metric 'speed' here. Choose among .*accuracy"):
        train_test_gap([overfitted], metrics=["speed"], replicates=0)


def test_on_the_command_line(overfitted, tmp_path, capsys):
    write_csv(tmp_path / "mine.csv", overfitted)
    words = ["--metrics", "accuracy", "--replicates", "50", "--out", str(tmp_path / "gaps.csv")]
    assert main(["compare", "--parts", str(tmp_path / "mine.csv"), *words]) == 0
    assert "train - test" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "gaps.csv")["part"].tolist() == ["train", "val", "test", GAP]
