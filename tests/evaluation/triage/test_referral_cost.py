import numpy as np
import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.errors import DataError, SettingsError
from lesionlab.evaluation.triage.referral_cost import (
    measure_referral,
    referral_costs,
    referred_by_set_size,
)
from lesionlab.evaluation.triage.risk_control import ReferralRule, RiskLimit
from lesionlab.files import write_csv


@pytest.fixture(scope="module")
def table(fake):
    """Val and test of mel, nv and the others, several images per lesion."""
    parts = [
        fake(900, seed=0, part="val", prefix="V"),
        fake(900, seed=1, part="test", prefix="T"),
    ]
    return pd.concat(parts, ignore_index=True)


def by_hand(rule, rows):
    """Shares of lesions, each with the mean of its images, without weights."""
    classes = [str(name)[2:] for name in rows.columns if str(name).startswith("p_")]
    referred = rule.refers(rows[[f"p_{label}" for label in classes]].to_numpy())
    by_lesion = rows.assign(referred=referred).groupby("lesion_id")
    share, target = by_lesion["referred"].mean(), by_lesion["target"].first()
    malignant = target.isin(rule.malignant)
    return (
        1 - share[malignant].mean(),
        1 - share[target == "mel"].mean(),
        share[~malignant].mean(),
    )


def test_what_a_rule_does_is_counted_lesion_by_lesion(table):
    found = referral_costs(table, promises=(0.1,), replicates=20)
    test = table[table["part"] == "test"]
    missed, melanomas, referred = by_hand(found.rule, test)
    assert found.measured["missed"].value == pytest.approx(missed)
    assert found.measured["missed_melanoma"].value == pytest.approx(melanomas)
    assert found.measured["referred"].value == pytest.approx(referred)
    assert (
        found.measured.to_json()["benign"]["lesions"]
        == test.loc[~test["target"].isin(found.rule.malignant), "lesion_id"].nunique()
    )
    row = found.table.iloc[0]
    assert row["promise"] == "both"
    assert row["patients_missed"] == pytest.approx(1000 * 0.05 * missed)
    assert row["patients_referred"] == pytest.approx(1000 * (0.05 * (1 - missed) + 0.95 * referred))
    assert list(found.table["promise"]) == ["both", "malignancy 10 %", "melanoma 10 %"]
    assert f"left {100 * missed:.1f} of 100 malignant lesions" in found.measured.text
    again = measure_referral(found.rule, table, replicates=0)
    assert again["missed"].value == pytest.approx(missed)


def test_a_looser_promise_refers_no_more(table):
    costs = referral_costs(table, replicates=0).table.set_index("promise")
    for name in ("malignancy", "melanoma"):
        rows = costs[costs.index.str.startswith(name)]
        assert (np.diff(rows["referred"]) <= 0).all()
        assert (np.diff(rows["missed"]) >= 0).all()


def test_sets_are_compared_at_the_same_share_of_benign_lesions():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(4, 0.5), 4000)
    benign = np.ones(4000, dtype=bool)
    for share in (0.3, 0.5, 0.8):
        referred = referred_by_set_size(probabilities, benign, np.ones(4000), share)
        assert share <= referred.mean() < share + 0.01


def test_what_cannot_be_promised_is_said(table):
    with pytest.raises(SettingsError, match="fitted on val"):
        referral_costs(table, part="val")
    with pytest.raises(SettingsError, match="prevalence"):
        referral_costs(table, prevalence=2)
    with pytest.raises(DataError, match="no images of part 'val'"):
        referral_costs(table[table["part"] == "test"])
    named = table.rename(columns={"p_bcc": "p_merkel"}).replace({"target": {"bcc": "merkel"}})
    with pytest.raises(SettingsError, match="whether merkel is malignant was not said"):
        referral_costs(named)
    assert (
        "merkel" in referral_costs(named, malignant=["mel", "merkel"], replicates=0).rule.malignant
    )
    rule = ReferralRule(("mel", "nv"), ("mel",), (), (RiskLimit("x", ("mel",), 0.1, 0.05, 50),))
    harmless = pd.DataFrame(
        {"image_id": ["a"], "lesion_id": ["a"], "target": ["nv"], "part": ["test"],
         "p_mel": [0.2], "p_nv": [0.8]}
    )  # fmt: skip
    with pytest.raises(DataError, match="0 of the 1 images"):
        measure_referral(rule, harmless)


def test_the_command_shows_every_promise_and_writes_the_rule(table, tmp_path, capsys):
    write_csv(tmp_path / "p.csv", table)
    words = ["triage", str(tmp_path / "p.csv"), "--replicates", "0", "--miss", "0.1"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "at most 10 of 100 malignant lesions and 3 of 100 melanomas" in shown
    assert "benign" in shown
    costs = pd.read_csv(tmp_path / "out" / "promises.csv")
    assert "malignancy 5 %" in set(costs["promise"])
    assert (tmp_path / "out" / "promises.json").is_file()
    assert "ruled out" not in shown
    assert main([*words[:-1], "2"]) == 2
