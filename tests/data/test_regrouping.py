"""Another question to the same images: malignant or benign."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
from lesionlab.data.splits import Split, like, split
from lesionlab.errors import DataError, FindingsError
from lesionlab.taxonomy import GROUPINGS, MALIGNANT_RULE

TWO = GROUPINGS["malignant-benign"]


@pytest.fixture(scope="module")
def seven(ham):
    return catalogue(ham)


def test_a_regrouped_catalogue_is_the_same_images_with_two_classes(seven, tmp_path):
    two = seven.regrouped(TWO.groups, TWO.rule)
    assert two.classes == ("benign", "malignant")
    malignant = seven.table["target"].isin(["mel", "bcc", "akiec"])
    assert (two.table["target"] == "malignant").tolist() == malignant.tolist()
    for name in ("image_id", "lesion_id", "sha256", "age", "path"):
        assert two.table[name].equals(seven.table[name])
    assert two.fingerprint != seven.fingerprint
    assert two.notes[-1] == MALIGNANT_RULE
    assert "malignant" not in set(seven.table["target"])  # the old one stays as it is
    again = Catalogue.open(two.save(tmp_path / "two").home)
    assert again.fingerprint == two.fingerprint
    assert again.classes == two.classes
    assert (again.root / again.table["path"][0]).is_file()


def test_a_class_that_the_rule_does_not_know_is_refused(seven):
    other = replace(seven, classes=(*seven.classes, "wart", "unk"))
    with pytest.raises(DataError, match=r"what wart, unk would be \(malignant = mel"):
        other.regrouped(TWO.groups, TWO.rule)


def test_a_split_is_carried_over_lesion_by_lesion(seven):
    two = seven.regrouped(TWO.groups, TWO.rule)
    parts = split(seven, folds=3)
    carried = like(two, parts)
    for fold in range(3):
        assert carried.parts(fold).equals(parts.parts(fold))
    assert carried.catalogue == two.fingerprint
    assert set(carried.table["target"]) == {"benign", "malignant"}
    assert (carried.by, carried.kind, carried.seed) == (parts.by, parts.kind, parts.seed)
    carried.check(two)
    with pytest.raises(DataError, match="another catalogue"):
        parts.check(two)


def test_a_split_carried_over_to_fewer_or_other_images(seven):
    heard = []
    parts = split(seven, kind="holdout")
    fewer = replace(seven, table=seven.table.iloc[5:].reset_index(drop=True))
    carried = like(fewer, parts, listen=heard.append)
    assert list(carried.table["image_id"]) == list(fewer.table["image_id"])
    assert "5 images of the split" in heard[0].text
    carried.check(fewer)
    lacking = like(fewer, parts)
    with pytest.raises(FindingsError, match="is in no part"):
        like(seven, lacking)
    # lesions that were merged since may cross: refused
    merged = replace(seven, table=seven.table.assign(lesion_id="one"))
    with pytest.raises(FindingsError, match="one is in"):
        like(merged, parts)


def test_the_verbs(ham, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["catalogue", str(ham), "--out", "seven"]) == 0
    assert main(["split", "seven", "--kind", "holdout"]) == 0
    assert main(["catalogue", "seven", "--classes", "malignant-benign"]) == 2
    assert "--out" in capsys.readouterr().err
    words = ["catalogue", "seven", "--classes", "malignant-benign", "--out", "two"]
    assert main(words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert MALIGNANT_RULE in out
    assert "Next: lesionlab split two --like seven/split.csv" in out
    assert main(["split", "two", "--like", "seven/split.csv"]) == 0
    assert "No lesion is in two parts" in " ".join(capsys.readouterr().out.split())
    old, new = Split.open("seven/split.csv"), Split.open("two/split.csv")
    assert old.parts().equals(new.parts())
    new.check(Catalogue.open("two"))
    assert Catalogue.open("seven").fingerprint == catalogue(ham).fingerprint
    # straight from a raw folder, too
    assert main(["catalogue", str(ham), "--classes", "malignant-benign", "--out", "again"]) == 0
    assert Catalogue.open("again").fingerprint == Catalogue.open("two").fingerprint


def test_two_classes_go_through_a_whole_run(ham, tmp_path):
    from lesionlab.evaluation.comparison.compare import compare
    from lesionlab.evaluation.evaluate import evaluate
    from lesionlab.recipe.schema import Recipe
    from lesionlab.training.train import train

    two = catalogue(ham).regrouped(TWO.groups, TWO.rule)
    recipe = Recipe().but(
        {
            "images.size": [32, 40],
            "model.name": "test_efficientnet",
            "phases.0.epochs": 1,
            "batch": 32,
        }
    )
    parts = split(two, kind="holdout", shares=(0.5, 0.2, 0.3))
    run = train(recipe, two, parts, out=tmp_path / "run", cache_to=tmp_path / "cache", device="cpu")
    found = evaluate(run, replicates=0)
    assert found.positive == "malignant"
    assert "sensitivity_at_90_specificity/malignant" in found
    assert run.info["notes"][-1] == MALIGNANT_RULE
    both = compare({"a": run, "b": run.predictions}, as_="malignant-benign", replicates=0)
    assert both.differences["b", "a", "accuracy"].value == 0
