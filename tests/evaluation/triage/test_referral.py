import json

import numpy as np
import pandas as pd
import pytest

from lesionlab.cli.app import main
from lesionlab.errors import DataError, FindingsError, SettingsError
from lesionlab.evaluation.calibration.prevalence import reweight
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.intervals.bootstrap import lesion_weights
from lesionlab.evaluation.predictions.binary_target import question_of, units_of
from lesionlab.evaluation.triage.decision_costs import decision_costs, read_costs
from lesionlab.evaluation.triage.decision_curve import decision_curve, shift
from lesionlab.evaluation.triage.patient_flow import zones
from lesionlab.evaluation.triage.referral import referral
from lesionlab.evaluation.triage.risk_coverage import (
    Curve,
    confidence,
    threshold_at_coverage,
    threshold_at_risk,
)
from lesionlab.evaluation.triage.rule_in_rule_out import threshold_at_ppv, two_thresholds
from lesionlab.files import write_csv


@pytest.fixture(scope="module")
def table(fake):
    """Val and test with many ties."""
    parts = [
        fake(400, seed=0, part="val", prefix="V"),
        fake(600, seed=1, part="test", prefix="T"),
    ]
    return pd.concat(parts, ignore_index=True)


# Risk and coverage


def naive_aurc(sureness, losses, weights=None):
    """Let images in one by one, the surest first; of equal ones, equal parts."""
    weights = np.ones(len(losses)) if weights is None else weights
    total = 0.0
    for image in range(len(losses)):
        before = sureness > sureness[image]
        same = np.flatnonzero(sureness == sureness[image])
        place = 1 + int(np.flatnonzero(same == image)[0])
        share = place / len(same)
        lost = (weights * losses)[before].sum() + share * (weights * losses)[same].sum()
        total += lost / (weights[before].sum() + share * weights[same].sum())
    return total / len(losses)


@pytest.mark.parametrize("digits", [1, 8])
@pytest.mark.parametrize("balanced", [False, True])
def test_aurc_is_that_of_a_loop(digits, balanced):
    rng = np.random.default_rng(digits)
    sureness = rng.random(60).round(digits)
    losses = (rng.random(60) < 1 - sureness).astype(float)
    classes = rng.integers(0, 3, 60) if balanced else None
    curve = Curve.of(sureness, losses, classes)
    weights = lesion_weights(np.arange(60) // 2, replicates=5, seed=0)
    found, best = curve.aurc(weights), curve.best_aurc(weights)
    for row, each in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(60), each)
        heavy = None
        if classes is not None:
            of = classes[drawn]
            heavy = len(of) / (len(np.unique(of)) * np.bincount(of)[of])
        assert found[row] == pytest.approx(naive_aurc(sureness[drawn], losses[drawn], heavy))
        # the best order: right ones first, then the errors that weigh least
        order = -losses[drawn] * (1 if heavy is None else heavy)
        assert best[row] == pytest.approx(naive_aurc(order, losses[drawn], heavy))
        assert best[row] <= found[row] + 1e-12


def test_a_perfect_order_has_no_excess_and_no_order_at_all_has_the_mean_risk():
    losses = np.array([0.0] * 7 + [1.0] * 3)
    ones = np.ones((1, 10))
    perfect, none = Curve.of(-losses, losses), Curve.of(np.zeros(10), losses)
    assert perfect.aurc(ones)[0] == pytest.approx(perfect.best_aurc(ones)[0])
    assert perfect.aurc(ones)[0] == pytest.approx((1 / 8 + 2 / 9 + 3 / 10) / 10)
    assert none.aurc(ones)[0] == pytest.approx(0.3)
    worst = Curve.of(losses, losses).aurc(ones)[0]
    assert worst == pytest.approx((3 + sum(3 / n for n in range(4, 11))) / 10)
    # Geifman et al. 2019: for many images the best area is near r + (1 - r) ln (1 - r)
    many = np.repeat(losses, 1000)
    best = Curve.of(-many, many).best_aurc(np.ones((1, 10000)))[0]
    assert best == pytest.approx(0.3 + 0.7 * np.log(0.7), abs=1e-3)


def test_confidence_of_each_kind():
    p = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    assert confidence(p, "max").tolist() == [0.5, 1]
    assert confidence(p, "margin") == pytest.approx([0.2, 1])
    entropy = 0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2)
    assert confidence(p, "entropy") == pytest.approx([entropy, 0])


def test_thresholds_reach_what_is_wanted_and_no_more():
    sureness = np.array([0.9, 0.8, 0.8, 0.7, 0.6])
    losses = np.array([0.0, 0, 1, 0, 1])
    assert threshold_at_coverage(sureness, 0.4) == 0.8
    assert threshold_at_coverage(sureness, 0.8) == 0.7
    curve = Curve.of(sureness, losses)
    assert threshold_at_risk(curve, sureness, 0.25) == 0.7  # although 0.8 alone has 1 / 3
    assert threshold_at_risk(curve, sureness, 0.1) == 0.9
    wrong = Curve.of(sureness, np.ones(5))
    assert threshold_at_risk(wrong, sureness, 0.5) > 0.9


def test_at_full_coverage_the_risk_is_what_evaluate_says(table):
    scored = evaluate(table, replicates=0)
    plain = referral(table, replicates=0, coverages=())
    assert plain.curve()["risk"].iloc[-1] == pytest.approx(1 - scored["accuracy"].value)
    wrong = 1 - scored["accuracy"].value
    curve = plain.curve()
    best = (curve["coverage"] - (1 - wrong)).clip(0) / curve["coverage"]
    assert curve["best"].to_numpy() == pytest.approx(best.to_numpy())
    balanced = referral(table, replicates=0, coverages=(), loss="balanced")
    assert (balanced.curve()["best"] <= balanced.curve()["risk"] + 1e-12).all()
    assert balanced.curve()["risk"].iloc[-1] == pytest.approx(1 - scored["balanced_accuracy"].value)


def test_what_a_threshold_did_is_counted(table):
    found = referral(table, coverages=[0.7], risks=[0.2], replicates=20)
    val, test = (table[table["part"] == part] for part in ("val", "test"))
    columns = [name for name in table if name.startswith("p_")]
    row = found.points.iloc[0]
    assert (val[columns].max(axis=1) >= row["threshold"]).mean() == row["val_coverage"] >= 0.7
    kept = test[test[columns].max(axis=1) >= row["threshold"]]
    wrong = kept[columns].idxmax(axis=1).str[2:] != kept["target"]
    assert row["coverage"] == pytest.approx(len(kept) / len(test))
    assert row["risk"] == pytest.approx(wrong.mean())
    assert row["risk_low"] < row["risk"] < row["risk_high"]
    mel = (kept["target"] == "mel").sum() / (test["target"] == "mel").sum()
    assert row["coverage/mel"] == pytest.approx(mel)
    assert found.points["val_risk"].iloc[1] <= 0.2


def test_thresholds_come_from_val_alone(table):
    def fitted(of):
        two = two_thresholds(of, replicates=0)
        points = referral(of, risks=[0.2], replicates=0).points
        return [two.rule_out, two.rule_in, *points["threshold"]]

    before = fitted(table)
    test = table["part"] == "test"
    other = table.copy()
    other.loc[test, "target"] = np.roll(table.loc[test, "target"], 1)
    other["lesion_id"] = other["image_id"]  # else lesions had two targets
    alone = table.assign(lesion_id=table["image_id"])
    assert fitted(other) == fitted(alone)
    assert two_thresholds(other, replicates=0)["ppv"] != two_thresholds(alone, replicates=0)["ppv"]
    other = table.copy()
    names = [name for name in table if name.startswith("p_")]
    other.loc[~test, names] = other.loc[~test, names[::-1]].to_numpy()
    assert fitted(other) != before


# Decision curves


def test_net_benefit_by_hand():
    #                 treated at 0.2: 3 of 4 cases, 2 of 6 others
    risks = [0.9, 0.6, 0.2, 0.1, 0.7, 0.3, 0.1, 0.05, 0.0, 0.15]
    targets = ["mel"] * 4 + ["nv"] * 6
    table = pd.DataFrame({"image_id": list("abcdefghij"), "target": targets, "p_mel": risks})
    table["p_nv"] = 1 - table["p_mel"]
    found = decision_curve(table, positive="mel", thresholds=[0.2, 0.5], replicates=0).table
    first, second = found.iloc[0], found.iloc[1]
    assert first["model"] == pytest.approx(3 / 10 - 2 / 10 * 0.2 / 0.8)
    assert first["all"] == pytest.approx(4 / 10 - 6 / 10 * 0.2 / 0.8)
    assert first["gain"] == pytest.approx(0)
    assert first["standardised"] == pytest.approx(0.25 / 0.4)
    assert second["model"] == pytest.approx(2 / 10 - 1 / 10)
    assert second["all"] == pytest.approx(-0.2)
    assert second["gain"] == pytest.approx(0.1)
    assert second["spared"] == pytest.approx(1000 * 0.3)
    assert (second["sensitivity"], second["specificity"]) == (0.5, pytest.approx(5 / 6))


def test_at_another_prevalence_risks_are_reweighted(table):
    at = 0.02
    found = decision_curve(table, thresholds=[0.05], prevalence=at, replicates=20).table.iloc[0]
    from lesionlab.evaluation.predictions.load import read_as

    two = read_as(table, "malignant-benign")
    moved = reweight(two, {"malignant": at, "benign": 1 - at})
    rows = moved[moved["part"] == "test"]
    treated, sick = rows["p_malignant"] >= 0.05, rows["target"] == "malignant"
    se, sp = treated[sick].mean(), (~treated[~sick]).mean()
    assert found["sensitivity"] == pytest.approx(se)
    assert found["model"] == pytest.approx(se * at - (1 - sp) * (1 - at) * 0.05 / 0.95)
    assert found["all"] == pytest.approx(at - (1 - at) * 0.05 / 0.95)
    assert found["all_low"] == found["all_high"]  # nothing of it is measured
    assert found["model_low"] < found["model"] < found["model_high"]
    assert shift(np.array([0.3]), 0.2, 0.2) == pytest.approx([0.3])


def test_where_a_model_is_of_use(table):
    good = decision_curve(table, thresholds=[0.1, 0.2, 0.3, 0.4], replicates=50)
    assert good.useful() == [(0.2, 0.4)] or good.useful() == [(0.1, 0.4)]
    blind = table.copy()
    names = [name for name in table if name.startswith("p_")]
    blind[names] = 1 / 7
    assert decision_curve(blind, thresholds=[0.1, 0.2, 0.6], replicates=50).useful() == []


# Costs


COSTS = pd.DataFrame(
    {"class": ["malignant", "benign"], "leave": [50, 0], "refer": [3, 1], "excise": [2, 4]}
)


def test_costs_by_hand():
    table = pd.DataFrame(
        {"image_id": list("abc"), "target": ["mel", "nv", "nv"], "p_mel": [0.04, 0.6, 0.005]}
    )
    table["p_nv"] = 1 - table["p_mel"]
    # expected: leave 2, refer 1.08, excise 3.92 / leave 30, refer 2.2, excise 2.8 / leave 0.25
    found = decision_costs(table, COSTS, replicates=0).set_index("way")
    assert found.loc["cheapest", "cost"] == pytest.approx((3 + 1 + 0) / 3)
    assert found.loc["cheapest", "referred"] == pytest.approx(2 / 3)
    assert found.loc["never refer", "cost"] == pytest.approx((50 + 4 + 0) / 3)
    assert found.loc["likeliest class", "cost"] == pytest.approx((50 + 4 + 0) / 3)
    assert found.loc["always refer", "cost"] == pytest.approx(5 / 3)
    assert found.loc["always leave", "saved"] == pytest.approx(50 / 3 - 4 / 3)
    found = decision_costs(table, COSTS.drop(columns="refer"), replicates=0)
    assert list(found["way"]) == ["cheapest", "likeliest class", "always leave", "always excise"]


def test_costs_of_the_right_class_alone_are_the_error(fake):
    table = fake(300, digits=None)  # a sum of costs would part what is equally likely
    names = [name[2:] for name in table if name.startswith("p_")]
    square = pd.DataFrame(1 - np.eye(7), columns=names).assign(**{"class": names})
    plain = referral(table, coverages=(), replicates=0)
    cost = referral(table, coverages=(), replicates=0, loss="cost", costs=square, confidence="cost")
    assert cost["aurc"].value == pytest.approx(plain["aurc"].value)
    spent = decision_costs(table, square, replicates=0).set_index("way")["cost"]
    assert spent["cheapest"] == pytest.approx(1 - evaluate(table, replicates=0)["accuracy"].value)


def test_a_wrong_table_of_costs_is_refused_with_all_its_faults(tmp_path):
    wrong = pd.DataFrame({"class": ["mel", "mel", "x"], "leave": ["1", "y", ""], "go": [1, 2, 3]})
    with pytest.raises(DataError) as told:
        read_costs(wrong, ("mel", "nv"))
    for part in ("mel stands twice", "nv is missing", "no class x", "leave of x is no number"):
        assert part in str(told.value)
    write_csv(tmp_path / "costs.csv", wrong.iloc[:1])
    with pytest.raises(DataError, match=r"costs.csv.*nv is missing"):
        read_costs(tmp_path / "costs.csv", ("mel", "nv"))
    with pytest.raises(DataError, match="no column class"):
        read_costs(wrong.drop(columns="class"), ("mel", "nv"))


# Two thresholds


def by_hand(table, low, high, prevalence):
    test = units_of(table, "test", "lesion")
    sick = test["target"].isin(["akiec", "bcc", "mel"])
    risk = test[["p_akiec", "p_bcc", "p_mel"]].sum(axis=1)
    out, into = risk < low, risk >= high
    n_sick, n_well = 1000 * prevalence, 1000 * (1 - prevalence)
    missed, false = n_sick * out[sick].mean(), n_well * into[~sick].mean()
    ruled_out = missed + n_well * out[~sick].mean()
    ruled_in = false + n_sick * into[sick].mean()
    return {
        "below the lower threshold": ruled_out,
        "of whom missed cases": missed,
        "above the upper threshold": ruled_in,
        "of whom not a case": false,
        "left for the doctor in between": 1000 - ruled_out - ruled_in,
        "of whom cases": n_sick * (~out & ~into)[sick].mean(),
    }


def test_patients_by_hand(table):
    found = two_thresholds(table, sensitivity=0.9, specificity=0.9, prevalence=0.03, replicates=50)
    told = found.table().set_index("zone")
    expected = by_hand(table, found.rule_out, found.rule_in, 0.03)
    assert told["patients"].to_dict() == pytest.approx(expected)
    assert ((told["low"] <= told["patients"]) & (told["patients"] <= told["high"])).all()
    missed, out = told["patients"].iloc[1], told["patients"].iloc[0]
    assert found["npv"].value == pytest.approx(1 - missed / out)
    assert found["sensitivity_out"].value == pytest.approx(1 - missed / 30)
    assert found["sensitivity_out"].high == pytest.approx(1 - told["low"].iloc[1] / 30)
    assert found.chosen["sensitivity_out"] >= 0.9
    assert found.chosen["specificity_in"] >= 0.9


def test_patients_are_those_of_the_rows_really_drawn(table):
    rows = units_of(table, "test")
    question = question_of(table)
    risks, cases = question.risks(rows), question.positive(rows)
    low, high = 0.3, 0.6
    weights = lesion_weights(rows["lesion_id"], replicates=4, seed=3)
    found = zones(cases, risks < low, risks >= high, 0.05, 1000).compute(weights)
    for row, each in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(len(rows)), each)
        of, sick = risks[drawn], cases[drawn]
        out = 50 * (of < low)[sick].mean() + 950 * (of < low)[~sick].mean()
        into = 50 * (of >= high)[sick].mean() + 950 * (of >= high)[~sick].mean()
        assert found["ruled_out"][row] == pytest.approx(out)
        assert found["ruled_in"][row] == pytest.approx(into)
        assert found["between"][row] == pytest.approx(1000 - out - into)


def test_no_case_missed_is_no_proof_that_none_would_be():
    rng = np.random.default_rng(0)
    sick = np.arange(400) % 4 == 0
    table = pd.DataFrame(
        {
            "image_id": [f"i{i:03}" for i in range(400)],
            "target": np.where(sick, "mel", "nv"),
            "part": np.where(np.arange(400) < 200, "val", "test"),
            "p_mel": np.where(sick, 0.7, 0) + 0.3 * rng.random(400),
        }
    )
    table["p_nv"] = 1 - table["p_mel"]
    found = two_thresholds(table, sensitivity=1.0, replicates=50)
    assert any("overlap" in text for text in found.warnings)
    assert found.rule_out == found.rule_in >= 0.7
    assert found["between"].value == 0
    assert found["false"].value == found["false"].low == 0 < found["false"].high < 30
    exact = table.assign(p_mel=np.where(sick, 0.8, 0.1), p_nv=np.where(sick, 0.2, 0.9))
    found = two_thresholds(exact, replicates=50)
    assert found["missed"].value == 0 < found["missed"].high < 4  # Wilson: of 50 cases none
    assert found["npv"].value == found["npv"].high == 1 > found["npv"].low > 0.99
    assert found["ppv"].low < found["ppv"].value == 1
    assert found["ruled_out"].low < found["ruled_out"].value < found["ruled_out"].high
    missed, kept = found["cases_out"].high, found["others_out"].value
    assert found["npv"].low <= 0.95 * kept / (0.95 * kept + 0.05 * missed) + 1e-12


def test_a_ppv_is_reached_on_val_at_the_prevalence(table):
    found = two_thresholds(table, ppv=0.3, prevalence=0.05, unit="image", replicates=0)
    val = table[table["part"] == "val"]
    sick = val["target"].isin(["akiec", "bcc", "mel"]).to_numpy()
    risk = val[["p_akiec", "p_bcc", "p_mel"]].sum(axis=1).to_numpy()

    def ppv(threshold):
        tp, fp = 0.05 * (risk[sick] >= threshold).mean(), 0.95 * (risk[~sick] >= threshold).mean()
        return tp / (tp + fp)

    if found.rule_in > found.rule_out:
        assert ppv(found.rule_in) >= 0.3 > ppv(np.max(risk[risk < found.rule_in]))
    never = threshold_at_ppv(np.array([True, False]), np.array([0.2, 0.7]), 0.9, 0.05)
    assert never > 0.7
    silent = two_thresholds(table, ppv=1.0, prevalence=0.001, unit="image", replicates=0)
    assert ("nothing is above the upper threshold" in " ".join(silent.warnings)) == (
        silent.rule_in > risk.max()
    )


def test_a_lesion_is_decided_once_by_its_mean(table):
    lesions = units_of(table, "test", "lesion")
    rows = table[table["part"] == "test"]
    assert len(lesions) == rows["lesion_id"].nunique() < len(rows)
    one = rows["lesion_id"].value_counts().index[0]
    mean = rows.loc[rows["lesion_id"] == one, "p_mel"].mean()
    assert lesions.set_index("lesion_id").loc[one, "p_mel"] == pytest.approx(mean)
    clash = rows.copy()
    clash.loc[clash["lesion_id"] == one, "target"] = ["mel", *["nv"] * (len(clash) - 1)][
        : (clash["lesion_id"] == one).sum()
    ]
    with pytest.raises(DataError, match=f"different targets .*{one}"):
        units_of(clash, "test", "lesion")


# Refusals


def test_what_makes_no_sense_is_refused(table):
    test = table[table["part"] == "test"]
    with pytest.raises(DataError, match="no images of part 'val'"):
        two_thresholds(test)
    with pytest.raises(DataError, match="no images of part 'val'"):
        referral(test)
    with pytest.raises(DataError, match="no images of part 'val'"):
        decision_curve(test, prevalence=0.1)
    assert referral(test, coverages=(), replicates=0)["aurc"].value > 0
    benign = table[table["target"].isin(["nv", "bkl"])]
    with pytest.raises(DataError, match=r"0 of the .* are malignant"):
        two_thresholds(benign)
    with pytest.raises(DataError, match=r"0 of the .* are malignant"):
        decision_curve(benign)
    with pytest.raises(SettingsError, match="no class 'x'"):
        decision_curve(table, positive="mel+x")
    with pytest.raises(SettingsError, match="nothing to find"):
        decision_curve(table, positive="akiec+bcc+bkl+df+mel+nv+vasc")
    with pytest.raises(SettingsError, match=r"(?s)sensitivity is 0.*ppv is 2.*chosen on val"):
        two_thresholds(table, sensitivity=0, ppv=2, part="val")
    with pytest.raises(SettingsError, match="prevalence is 1"):
        two_thresholds(table, prevalence=1)
    with pytest.raises(SettingsError, match=r"(?s)no confidence 'x'.*table of costs.*coverages"):
        referral(table, confidence="x", loss="cost", coverages=[2])
    with pytest.raises(SettingsError, match="above 0 and below 1"):
        decision_curve(table, thresholds=[1.0])
    spoilt = table.copy()
    spoilt.loc[3, "p_mel"] = np.nan
    with pytest.raises(FindingsError, match="p_mel"):
        two_thresholds(spoilt)


def test_questions():
    table = pd.DataFrame({"p_mel": [0.2], "p_nv": [0.5], "p_bcc": [0.3], "target": ["bcc"]})
    assert question_of(table).members == ("mel", "bcc")
    assert question_of(table).risks(table) == pytest.approx([0.5])
    assert question_of(table, "bcc").risks(table) == pytest.approx([0.3])
    two = pd.DataFrame({"p_benign": [0.2], "p_malignant": [0.8], "target": ["benign"]})
    assert question_of(two).members == ("malignant",)
    other = pd.DataFrame({"p_mel": [0.2], "p_merkel": [0.8], "target": ["merkel"]})
    assert question_of(other).members == ("mel",)  # the rule does not know merkel


def test_the_verb_tells_and_writes_all(table, tmp_path, capsys):
    write_csv(tmp_path / "p.csv", table)
    write_csv(tmp_path / "costs.csv", COSTS)
    words = ["triage", str(tmp_path / "p.csv"), "--replicates", "20", "--risks", "0.2"]
    words += ["--costs", str(tmp_path / "costs.csv"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    for text in ("Refer or decide", "Of 1,000 patients, 5.0%", "Net benefit", "Mean cost per"):
        assert text in said
    told = json.loads((tmp_path / "out" / "two_thresholds.json").read_text())
    found = two_thresholds(table, replicates=0)
    assert told["rule_out_below"] == found.rule_out
    patients = pd.read_csv(tmp_path / "out" / "patients.csv")
    assert patients["patients"].to_list() == pytest.approx(found.table()["patients"].to_list())
    listed = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert listed == [
        "costs.csv",
        "decision_curve.csv",
        "patients.csv",
        "promises.csv",
        "promises.json",
        "refer_or_decide.csv",
        "refer_or_decide.json",
        "refer_or_decide_points.csv",
        "two_thresholds.csv",
        "two_thresholds.json",
    ]
    assert main(["triage", str(tmp_path / "p.csv"), "--loss", "cost"]) == 2
