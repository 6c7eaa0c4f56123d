"""Judged pairs merge their lesions, whatever the way round and however long the chain."""

from __future__ import annotations

import pandas as pd
import pytest

from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
from lesionlab.data.catalogue.merge_lesions import merge_lesions, read_verdicts, with_verdicts
from lesionlab.data.splits import split
from lesionlab.errors import FindingsError
from lesionlab.tables import lesions_of


def judged(*rows):
    return pd.DataFrame(rows, columns=["image_id", "other", "verdict"])


def images(**lesion):
    patients = {"a": "p2", "b": "p1"}
    return pd.DataFrame(
        {
            "image_id": list(lesion),
            "lesion_id": list(lesion.values()),
            "patient_id": [patients.get(name, "") for name in lesion],
        }
    )


def test_chains_merge_and_siblings_come_along():
    table = images(a="L3", b="L1", c="L2", d="L2", e="L4", f="")
    made, lost = merge_lesions(
        table,
        judged(("c", "a", "same"), ("b", "a", "same"), ("e", "a", "different"), ("e", "d", "")),
    )
    assert made["lesion_id"].tolist() == ["L1", "L1", "L1", "L1", "L4", ""]
    assert made["patient_id"].tolist() == ["p1", "p1", "", "", "", ""]
    assert lost == 2
    assert table["lesion_id"].tolist() == ["L3", "L1", "L2", "L2", "L4", ""]


def test_images_without_a_lesion_become_one():
    made, lost = merge_lesions(
        images(x="", y="", z="M"), judged(("x", "y", "same"), ("gone", "z", "same"))
    )
    assert lesions_of(made).tolist() == ["x", "x", "M"]
    assert lost == 1


def test_nothing_judged_changes_nothing():
    table = images(a="L3", b="L1")
    made, lost = merge_lesions(table, judged(("a", "b", ""), ("a", "b", "different")))
    pd.testing.assert_frame_equal(made, table)
    assert lost == 0


def test_verdicts_are_read_in_any_case_and_odd_ones_refused(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("image_id,other,verdict\na,b,Same \nc,d,\n")
    assert read_verdicts(path)["verdict"].tolist() == ["same", ""]
    path.write_text("image_id,other,verdict\na,b,yes\nc,d,maybe\n")
    with pytest.raises(FindingsError, match=r"(?s)2 verdicts.*'yes'.*'maybe'.*Write same") as error:
        read_verdicts(path)
    assert len(error.value.findings) == 2


def test_verdicts_are_carried_over_either_way_round():
    old = judged(("b", "a", "different"), ("c", "d", "same"))
    new = judged(("a", "b", ""), ("d", "c", ""), ("a", "c", ""))
    assert with_verdicts(new, old)["verdict"].tolist() == ["different", "same", ""]


def two_lesions(table, alike):
    """Image ids of two lesions of one class, or of two classes."""
    firsts = table.drop_duplicates("lesion_id")
    one = firsts.iloc[0]
    rest = firsts[(firsts["target"] == one["target"]) == alike].iloc[1]
    return one["image_id"], rest["image_id"]


def test_a_catalogue_with_merged_lesions_is_split_by_them(ham, tmp_path):
    before = catalogue(ham)
    one, other = two_lesions(before.table, alike=True)
    judged((one, other, "same")).to_csv(tmp_path / "pairs.csv", index=False)
    catalogue(ham, merge=tmp_path / "pairs.csv", out=tmp_path / "new")
    made = Catalogue.open(tmp_path / "new")
    assert made.lesions == before.lesions - 1
    assert made.fingerprint != before.fingerprint
    assert "near-duplicates show, too: 1." in " ".join(made.notes)
    of = made.table.set_index("image_id")["lesion_id"]
    assert of[one] == of[other]
    parts = split(made, kind="folds", folds=3).table.set_index("image_id")
    names = [name for name in parts.columns if name.startswith("fold_")]
    assert parts.loc[one, names].tolist() == parts.loc[other, names].tolist()
    again = catalogue(tmp_path / "new", merge=tmp_path / "pairs.csv")
    assert again.fingerprint == made.fingerprint


def test_two_diagnoses_are_refused_until_one_is_left_out(ham, tmp_path):
    before = catalogue(ham).table
    one, other = two_lesions(before, alike=False)
    judged((one, other, "same")).to_csv(tmp_path / "pairs.csv", index=False)
    with pytest.raises(FindingsError, match=r"(?s)two diagnoses.*different.*exclude") as error:
        catalogue(ham, merge=tmp_path / "pairs.csv", out=tmp_path / "new")
    assert set(error.value.findings["kind"]) == {"merged_lesion_with_two_diagnoses"}
    assert one in error.value.findings["detail"][0]
    assert other in error.value.findings["detail"][0]
    assert not (tmp_path / "new").exists()
    lesion = before.set_index("image_id")["lesion_id"][other]
    wrong = before["image_id"][before["lesion_id"] == lesion]
    pd.DataFrame({"image_id": wrong, "kind": "mislabelled", "exclude": True}).to_csv(
        tmp_path / "findings.csv", index=False
    )
    made = catalogue(ham, merge=tmp_path / "pairs.csv", exclude=tmp_path / "findings.csv")
    assert len(made) == len(before) - len(wrong)


def test_an_image_that_is_left_out_still_links_two_others(ham, tmp_path):
    before = catalogue(ham).table
    label = before["target"].mode()[0]
    a, b, c = before[before["target"] == label].drop_duplicates("lesion_id")["image_id"][:3]
    judged((a, b, "same"), (b, c, "same")).to_csv(tmp_path / "pairs.csv", index=False)
    pd.DataFrame({"image_id": [b], "kind": ["x"], "exclude": [True]}).to_csv(
        tmp_path / "findings.csv", index=False
    )
    made = catalogue(ham, merge=tmp_path / "pairs.csv", exclude=tmp_path / "findings.csv")
    of = made.table.set_index("image_id")["lesion_id"]
    assert b not in of.index
    assert of[a] == of[c]
