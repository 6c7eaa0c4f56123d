"""The page of near-duplicates, and the way from an audit through verdicts to merged lesions."""

from __future__ import annotations

import re

import pandas as pd
from PIL import Image

from lesionlab.cli.app import main
from lesionlab.data.audit.audit import audit
from lesionlab.data.audit.near_duplicates import PAIRS
from lesionlab.reporting.explore import near_duplicates_page


def plant(folder):
    """Make the last image of a class a mirrored copy of the first one of another lesion."""
    meta = pd.read_csv(folder / "HAM10000_metadata.csv")
    rows = meta[meta["dx"] == "nv"].drop_duplicates("lesion_id")["image_id"]
    files = {path.stem: path for path in folder.rglob("*.jpg")}
    with Image.open(files[rows.iloc[0]]) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(files[rows.iloc[-1]], quality=90)
    return rows.iloc[0], rows.iloc[-1]


def test_audit_judge_merge(ham_copy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    one, other = plant(ham_copy)
    assert main(["audit", str(ham_copy), "--out", "found/findings.csv"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "look like one lesion: 1." in said
    assert "--merge found/pairs.csv" in said
    pairs = pd.read_csv("found/pairs.csv", keep_default_na=False)
    assert list(pairs.columns) == list(PAIRS)
    assert pairs.loc[0, ["image_id", "other"]].tolist() == [one, other]
    assert pairs.loc[0, "transform"] == "turned 90° left"
    page = (tmp_path / "found" / "pairs.html").read_text()
    for words in (one, other, "turned 90° left", "turned back", "Not a medical device", "--merge"):
        assert words in page
    assert page.count("data:image/jpeg;base64,") == 3
    assert not re.search(r"(src|href)=\"(?!data:)", page)

    pairs.loc[0, "verdict"] = "same"
    pairs.to_csv("found/pairs.csv", index=False)
    words = ["catalogue", str(ham_copy), "--out", "data", "--merge", "found/pairs.csv"]
    assert main(words) == 0
    lesion = pd.read_csv("data/catalogue.csv").set_index("image_id")["lesion_id"]
    assert lesion[one] == lesion[other]
    main(["audit", "data", "--out", "again/findings.csv"])
    assert not (tmp_path / "again" / "pairs.html").exists()
    assert "near_duplicate_within_a_lesion" in (tmp_path / "again" / "findings.csv").read_text()

    main(["audit", str(ham_copy), "--out", "found/findings.csv"])
    assert pd.read_csv("found/pairs.csv")["verdict"].dropna().tolist() == ["same"]
    assert "judged same" in (tmp_path / "found" / "pairs.html").read_text()
    before = (tmp_path / "found" / "pairs.csv").read_text()
    main(["audit", str(ham_copy), "--out", "found/findings.csv", "--no-near"])
    assert (tmp_path / "found" / "pairs.csv").read_text() == before
    assert "near_duplicate" not in (tmp_path / "found" / "findings.csv").read_text()


def test_pairs_that_were_judged_different_are_no_fault(ham_copy, tmp_path):
    plant(ham_copy)
    first = audit(ham_copy)
    first.pairs.assign(verdict="different").to_csv(tmp_path / "pairs.csv", index=False)
    second = audit(ham_copy, judged=tmp_path / "pairs.csv")
    assert "near_duplicate" in set(first.findings["kind"])
    assert "near_duplicate" not in set(second.findings["kind"])
    assert set(second.pairs["verdict"]) == {"different"}


def test_a_page_escapes_and_stands_a_lost_picture(drawn, tmp_path):
    data, _ = drawn
    ids = data.table["image_id"]
    kind = "same photograph"
    row = (ids[0], ids[1], "<b>x", "", "nv", "mel", kind, "same view", 0.7, float("nan"), "")
    table = data.table.assign(path=data.table["path"].where(ids != ids[1], "gone.jpg"))
    broken = type(data)(table, data.classes, data.root)
    pairs = pd.DataFrame([row], columns=list(PAIRS))
    assert near_duplicates_page.write(pairs, broken, tmp_path / "pairs.html") == 1
    page = (tmp_path / "pairs.html").read_text()
    assert "&lt;b&gt;x" in page
    assert "<b>x" not in page
    assert "no picture" in page
    assert "two diagnoses" in page
    assert near_duplicates_page.write(pairs.head(0), broken, tmp_path / "pairs.html") == 0
    assert not (tmp_path / "pairs.html").exists()
