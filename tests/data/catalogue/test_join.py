"""Several collections as one: what they share stands once, and no lesion is on two sides."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import lesionlab as ll
from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
from lesionlab.data.catalogue.join import join
from lesionlab.data.images.reader import Reader
from lesionlab.data.splits import split
from lesionlab.errors import DataError, FindingsError, SettingsError
from lesionlab.files import hash_file
from lesionlab.recipe.schema import Recipe
from lesionlab.tables import lesions_of
from lesionlab.taxonomy import MALIGNANT_RULE

COLUMNS = ("image_id", "target", "lesion_id", "patient_id", "age", "sex", "source")


def collection(folder, rows):
    """Save a catalogue: rows of photograph (its content), image_id, target, lesion_id, ...

    Its classes are mel and nv if it has no other.
    """
    folder.mkdir(parents=True)
    table = (
        pd.DataFrame([dict(zip(COLUMNS, each, strict=False)) for _, *each in rows], columns=COLUMNS)
        .astype(object)
        .fillna("")
    )
    table.to_csv(folder / "own.csv", index=False)
    for photograph, image_id, *_ in rows:
        pixels = np.random.default_rng(photograph).integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{image_id}.png")
    made = catalogue(folder)
    classes = ("mel", "nv") if set(made.classes) <= {"mel", "nv"} else made.classes
    return replace(made, classes=classes).save(folder)


def told(heard):
    return " ".join(getattr(each, "text", "") for each in heard)


def lesion_of(data):
    return dict(zip(data.table["image_id"], data.table["lesion_id"], strict=True))


def crossings(data, lesions, folds=3):
    """Lesions on two sides of a split of `data`, by somebody else's knowledge of lesions."""
    table = split(data, folds=folds).table
    own = table["image_id"].map(lesions)
    return [
        lesion
        for fold in range(folds)
        for lesion, parts in table.groupby(own)[f"fold_{fold}"].unique().items()
        if len(parts) > 1
    ]


@pytest.fixture(scope="module")
def whole(ham):
    return catalogue(ham)


def rows_of(data, chosen, home):
    return replace(data, table=data.table[chosen].reset_index(drop=True)).save(home)


def sharing_lesions(data, common, home):
    """Two parts of a catalogue: images of many lesions in both; `common` of them the same ones."""
    draw = np.random.default_rng(0).permutation(len(data)) / len(data)
    halves = draw < 0.5 + common / 2, draw >= 0.5 - common / 2
    return [rows_of(data, half, home / name) for name, half in zip("ab", halves, strict=True)]


@pytest.mark.parametrize("common", [0.0, 0.3])
def test_halves_that_share_lesions_make_the_whole_again(whole, tmp_path, common):
    one, other = sharing_lesions(whole, common, tmp_path)
    assert set(one.table["lesion_id"]) & set(other.table["lesion_id"])
    assert len(one) + len(other) == pytest.approx((1 + common) * len(whole), abs=2)
    both = join([one, other])
    assert both.fingerprint == whole.fingerprint == join([other, one]).fingerprint
    pd.testing.assert_frame_equal(both.counts(), whole.counts())
    pd.testing.assert_frame_equal(both.table[whole.table.columns], whole.table)
    assert both.root == whole.root
    assert crossings(both, lesion_of(whole)) == []


def test_the_split_of_lesions_that_are_not_joined_would_leak(whole, tmp_path):
    """What the test above sees if lesions of both are taken for two."""
    one, other = sharing_lesions(whole, 0.3, tmp_path)
    table = pd.concat([one.table, other.table.assign(lesion_id="b" + other.table["lesion_id"])])
    table = table.drop_duplicates("image_id").reset_index(drop=True)
    assert crossings(replace(whole, table=table), lesion_of(whole))


def test_copies_under_other_ids_link_lesions_and_patients_through_any_number_of_images(tmp_path):
    one = collection(
        tmp_path / "one",
        [(1, "a1", "nv", "L1", "P1"), (2, "a2", "nv", "L1", "P1"), (9, "a9", "mel", "L9", "P9")],
    )
    two = collection(
        tmp_path / "two", [(2, "b2", "nv", "M", ""), (3, "b3", "nv", "M", ""), (8, "b8", "mel")]
    )
    three = collection(
        tmp_path / "three",
        [(3, "c3", "nv", "N", "Q"), (4, "c4", "nv", "N", "Q"), (5, "c5", "mel", "O", "Q")],
    )
    made = join([one, two, three])
    assert list(made.table["image_id"]) == ["a1", "a2", "a9", "b3", "b8", "c4", "c5"]
    lesions = lesion_of(made)
    assert lesion_of(join([three, two, one]))["a1"] == "N"  # as the first one calls it
    assert lesions == {
        "a1": "L1", "a2": "L1", "b3": "L1", "c4": "L1", "a9": "L9", "b8": "", "c5": "O"
    }  # fmt: skip
    patients = dict(zip(made.table["image_id"], made.table["patient_id"], strict=True))
    assert patients == {
        "a1": "P1", "a2": "P1", "b3": "P1", "c4": "P1", "c5": "P1", "a9": "P9", "b8": ""
    }  # fmt: skip
    # what the joined table names is what lies there
    reader = Reader(made.root)
    for row in made.table.itertuples():
        reader.pixels(row.path, Recipe().images, row.sha256)
    assert made.table["path"].str.split("/").str[0].tolist() == [
        *3 * ["one"], *2 * ["two"], *2 * ["three"]
    ]  # fmt: skip


def test_ids_that_only_look_alike_are_told_apart_and_said_to_be(tmp_path):
    one = collection(tmp_path / "one", [(1, "a1", "nv", "1"), (2, "a2", "mel", "2")])
    two = collection(tmp_path / "two", [(3, "b1", "nv", "1"), (4, "b2", "mel", "7")])
    heard = []
    made = join([one, two], listen=heard.append)
    assert lesion_of(made) == {"a1": "1@one", "a2": "2", "b1": "1@two", "b2": "7"}
    assert "1 lesion ids stand in several catalogues" in told(heard)
    assert "--ids shared" in told(heard)
    heard = []
    shared = join([one, two], ids="shared", listen=heard.append)
    assert lesion_of(shared) == {"a1": "1", "a2": "2", "b1": "1", "b2": "7"}
    assert not heard


def test_common_images_show_whether_two_numberings_are_one(tmp_path):
    old = [(1, "a1", "nv", "1"), (2, "a2", "mel", "2"), (3, "a3", "nv", "3")]
    one = collection(tmp_path / "one", old)
    same = collection(tmp_path / "same", [(1, "b1", "nv", "1"), (4, "b4", "mel", "2")])
    assert lesion_of(join([one, same])) == {"a1": "1", "a2": "2", "a3": "3", "b4": "2"}
    assert lesion_of(join([one, same], ids="own"))["b4"] == "2@same"
    other = collection(tmp_path / "other", [(1, "b1", "nv", "2"), (4, "b4", "nv", "3")])
    made = lesion_of(join([one, other]))
    assert made == {"a1": "1", "a2": "2@one", "a3": "3@one", "b4": "3@other"}


def test_one_source_is_one_numbering_and_a_collection_is_one_whatever_its_sources(tmp_path):
    one = collection(
        tmp_path / "one", [(1, "a1", "nv", "1", "", "", "", "Vienna"), (2, "a2", "nv", "1")]
    )
    two = collection(tmp_path / "two", [(3, "b1", "nv", "1", "", "", "", "Vienna")])
    assert set(lesion_of(join([one, two])).values()) == {"1"}
    assert lesion_of(join([one, two], ids="own")) == {"a1": "1@one", "a2": "1@one", "b1": "1@two"}


def test_ids_of_the_archive_mean_the_same_everywhere(tmp_path):
    one = collection(
        tmp_path / "one", [(1, "ISIC_0000001", "nv", "HAM_0000001"), (2, "x", "nv", "BCN_0000002")]
    )
    two = collection(
        tmp_path / "two",
        [
            (5, "ISIC_0000001_downsampled", "nv", "IL_1234567", "IP_0000001"),  # other bytes
            (6, "ISIC_0000006", "nv", "IL_1234567", "IP_0000001"),
            (7, "y", "nv", "BCN_0000002"),
        ],
    )
    heard = []
    for ids in ("auto", "own"):
        made = join([one, two], ids=ids, listen=heard.append)
        assert lesion_of(made) == {
            "ISIC_0000001": "HAM_0000001", "ISIC_0000006": "HAM_0000001",
            "x": "BCN_0000002", "y": "BCN_0000002",
        }  # fmt: skip
    assert not heard
    assert made.table.set_index("image_id").loc["ISIC_0000001", "patient_id"] == "IP_0000001"
    assert made.table["path"][0] == "one/ISIC_0000001.png"


def test_an_image_id_with_two_contents_is_asked_about(tmp_path):
    one = collection(tmp_path / "one", [(n, f"00{n}", "nv", f"L{n}") for n in (1, 2, 3)])
    two = collection(
        tmp_path / "two", [(n, f"00{n - 10 * (n > 3)}", "nv", f"L{n}") for n in (3, 11, 12)]
    )
    with pytest.raises(FindingsError, match="--ids own") as caught:
        join([one, two], clashes="leave-out")
    assert list(caught.value.findings["image_id"]) == ["001", "002"]
    own = join([one, two], ids="own")
    assert list(own.table["image_id"]) == ["001@one", "001@two", "002@one", "002@two", "003"]
    assert own.table["sha256"].is_unique
    shared = join([one, two], ids="shared")
    assert list(shared.table["image_id"]) == ["001", "002", "003"]
    assert (shared.table["source"] == "one").all()
    assert lesion_of(shared)["001"] == "L1"


def test_a_lesion_called_like_an_image_without_lesion_is_another(tmp_path):
    one = collection(tmp_path / "one", [(1, "a1", "nv", "17"), (2, "a2", "nv", "17")])
    two = collection(tmp_path / "two", [(3, "17", "mel"), (4, "18", "nv")])
    made = join([one, two])
    assert lesions_of(made.table).nunique() == 3
    assert lesion_of(made)["a1"] == "17@one"


def test_two_lesions_of_one_catalogue_that_another_calls_one_are_one_and_named(tmp_path):
    one = collection(tmp_path / "one", [(1, "a1", "nv", "K"), (2, "a2", "nv", "L")])
    two = collection(tmp_path / "two", [(1, "b1", "nv", "M"), (2, "b2", "nv", "M")])
    heard = []
    assert set(lesion_of(join([one, two], listen=heard.append)).values()) == {"K"}
    assert "1 lesions have several ids in one catalogue" in told(heard)


def test_two_diagnoses_are_refused_by_name_or_left_out_with_their_lesions(tmp_path):
    one = collection(
        tmp_path / "one",
        [
            (1, "a1", "nv", "1"),
            (2, "a2", "nv", "1"),
            (3, "a3", "nv", "HAM_0000003"),
            (4, "a4", "mel", "4"),
        ],
    )
    two = collection(
        tmp_path / "two",
        [(1, "b1", "mel"), (5, "b5", "mel", "HAM_0000003"), (6, "b6", "nv", "N")],
    )
    with pytest.raises(FindingsError, match="--clashes leave-out") as caught:
        join([one, two], out=tmp_path / "both")
    assert not (tmp_path / "both").exists()
    found = caught.value.findings
    assert set(found["kind"]) == {"image_with_two_diagnoses", "lesion_with_two_diagnoses"}
    assert set(found["image_id"]) == {"a1", "a3", "b5"}
    assert "a1 is nv in one, mel in two" in str(caught.value)
    made = join([one, two], clashes="leave-out", out=tmp_path / "both")
    assert list(made.table["image_id"]) == ["a4", "b6"]
    assert "4 images of 2 lesions are left out" in made.notes[-1]
    assert Catalogue.open(tmp_path / "both").fingerprint == made.fingerprint


@pytest.fixture
def unlike(tmp_path):
    one = collection(tmp_path / "one", [(1, "a1", "nv"), (2, "a2", "mel"), (3, "a3", "akiec")])
    two = collection(tmp_path / "two", [(4, "b1", "naevus"), (5, "b2", "mel"), (6, "b3", "wart")])
    return [one, two]


def test_classes_that_are_not_the_same_are_all_named(unlike):
    with pytest.raises(DataError) as caught:
        join(unlike)
    for line in ("nv: only in one", "akiec: only in one", "naevus: only in two", "wart: only in"):
        assert line in str(caught.value)
    assert "mel: only" not in str(caught.value)
    with pytest.raises(
        DataError, match=r"(?s)rule \(malignant = .*naevus: only in two.*wart: only"
    ):
        join(unlike, classes="malignant-benign")
    with pytest.raises(SettingsError, match=r"no catalogue has nevi, squamous\."):
        join(unlike, relabel={"squamous": "akiec", "nevi": "nv", "wart": "akiec"})


def test_classes_are_joined_as_the_user_says(unlike):
    every = join(unlike, classes="union")
    assert every.classes == ("akiec", "mel", "naevus", "nv", "wart")
    assert any("Only two has images of naevus, wart" in note for note in every.notes)
    relabel = {"naevus": "nv", "wart": "akiec"}
    same = join(unlike, relabel=relabel)
    assert same.classes == ("akiec", "mel", "nv")
    assert same.table["target"].tolist() == ["nv", "mel", "akiec", "nv", "mel", "akiec"]
    assert "two: naevus counts as nv, wart counts as akiec." in same.notes
    two = join(unlike, relabel=relabel, classes="malignant-benign")
    assert two.classes == ("benign", "malignant")
    assert two.notes.count(MALIGNANT_RULE) == 1
    assert unlike[1].classes == ("mel", "naevus", "wart")  # they stay as they are


def test_spellings_of_the_taxonomy_are_one_class(tmp_path):
    one = collection(tmp_path / "one", [(1, "a1", "nv"), (2, "a2", "mel")])
    two = collection(tmp_path / "two", [(3, "b1", "nv"), (4, "b2", "mel")])
    spelt = replace(two, table=two.table.replace("nv", "Nevus"), classes=("Nevus", "mel"))
    made = join({"one": one, "two": spelt})
    assert made.classes == ("mel", "nv")
    assert made.table["target"].tolist() == ["nv", "mel", "nv", "mel"]


def test_an_image_keeps_what_any_copy_knows_and_what_none_knows_stays_unknown(tmp_path):
    one = collection(
        tmp_path / "one", [(1, "a1", "nv", "", "", "", "male"), (2, "a2", "mel", "", "", "0")]
    )
    two = collection(
        tmp_path / "two",
        [(1, "b1", "nv", "", "", "45", "female", "Graz"), (3, "b3", "mel", "", "", "", "", "Graz")],
    )
    one, two = replace(one, notes=("Of both.", "Of one.")), replace(two, notes=("Of both.",))
    made = join({"one": one, "two": two})
    table = made.table.set_index("image_id")
    assert table["age"].tolist()[:2] == [45, 0]
    assert np.isnan(table["age"].iloc[2])
    assert table["sex"].tolist() == ["male", "", ""]
    assert table["source"].tolist() == ["one", "one", "Graz"]
    assert list(made.notes) == [
        "Of both.",
        "one: Of one.",
        "Joined from one (2 images) and two (2 images); 1 that stand in several are kept once.",
    ]
    # the collection can be read off the table, and can never be a feature
    with pytest.raises(SettingsError, match="source"):
        Recipe().but({"model.fusion": {"kind": "concatenation", "fields": ["age", "source"]}})


def test_what_cannot_be_joined(whole, tmp_path):
    one = collection(tmp_path / "one" / "data", [(1, "a1", "nv")])
    two = collection(tmp_path / "two" / "data", [(2, "b1", "nv")])
    with pytest.raises(SettingsError, match="two catalogues or more"):
        join([one])
    with pytest.raises(SettingsError, match=r"called data.*--names"):
        join([one, two])
    with pytest.raises(SettingsError, match=r"(?s)classes: 'all'.*ids: 'some'.*clashes: 'win'"):
        join([one, two], classes="all", ids="some", clashes="win")
    with pytest.raises(DataError, match="--out"):
        join({"one": one, "two": two}, out=tmp_path / "one" / "data")
    with pytest.raises(DataError, match="lesionlab catalogue"):
        join({"one": one, "two": tmp_path})
    heard = []
    made = join({"one": one.home, "two": str(two.home / "catalogue.csv")}, listen=heard.append)
    assert made.table["source"].tolist() == ["one", "two"]


def test_joined_catalogues_survive_a_move_with_and_without_their_images(tmp_path):
    data = tmp_path / "data"
    one = collection(data / "one", [(1, "a1", "nv", "1")])
    two = collection(data / "deep" / "two", [(2, "b1", "nv", "2")])
    join([one, two], out=data / "both")
    assert not list((data / "both").rglob("*.png"))
    # the catalogue alone
    shutil.move(data / "both", tmp_path / "alone")
    opened = Catalogue.open(tmp_path / "alone")
    assert all((opened.root / path).is_file() for path in opened.table["path"])
    shutil.move(tmp_path / "alone", data / "both")
    # all of it, with the old place gone and with another one there
    for again in (False, True):
        shutil.copytree(data, tmp_path / f"moved{again}")
        opened = Catalogue.open(tmp_path / f"moved{again}" / "both")
        assert opened.root == tmp_path / f"moved{again}"
        assert all((opened.root / path).is_file() for path in opened.table["path"])
        shutil.rmtree(data, ignore_errors=True)
        data = tmp_path / "movedFalse"
    assert join([opened, collection(tmp_path / "c", [(3, "c1", "nv", "3")])]).lesions == 3


def test_every_verb_takes_a_joined_catalogue(whole, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sharing_lesions(whole, 0.3, tmp_path)
    assert main(["join", "a", "b", "--out", "both", "--names", "x"]) == 2
    assert "--names takes 2" in capsys.readouterr().err
    assert main(["join", "a", "b", "--relabel", "scc", "--out", "both"]) == 2
    assert "--relabel: it takes pairs such as key=value, not 'scc'" in capsys.readouterr().err
    assert main(["join", "a", "b", "--out", "both"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"{len(whole)} images of {whole.lesions} lesions" in out
    assert "Next: lesionlab audit both" in out
    assert main(["audit", "both"]) == 0
    findings = pd.read_csv("findings.csv").head(1)
    gone = whole.table["image_id"][0]
    findings.assign(image_id=gone, exclude=True).to_csv("findings.csv", index=False)
    assert main(["catalogue", "both", "--exclude", "findings.csv"]) == 0
    fewer = Catalogue.open("both")
    assert list(fewer.table["image_id"]) == list(whole.table["image_id"][1:])
    assert fewer.layout == "joined"
    assert any(note.startswith("Joined from a") for note in fewer.notes)
    assert main(["split", "both", "--folds", "3"]) == 0
    assert crossings(fewer, lesion_of(whole)) == []
    assert main(["clean", "both", "--sex", "fill", "--out", "cleaned"]) == 0
    assert main(["explore", "both", "--split", "both/split.csv", "--per-class", "0"]) == 0
    assert main(["cache", "both", "--size", "24", "32", "--out", "cache"]) == 0
    words = ["catalogue", "both", "--classes", "malignant-benign", "--out", "two"]
    assert main(words) == 0


def test_what_was_learnt_from_both_is_no_test_for_one_alone(whole, tmp_path):
    """External validation: copies under other ids, and ids that were changed, are known again."""
    pytest.importorskip("torch")
    whole = replace(
        whole,
        table=whole.table.assign(image_id=whole.table["image_id"].str.replace("SYNTH", "ISIC")),
    )
    one, other = sharing_lesions(whole, 0.4, tmp_path)
    clinic = other.table.assign(
        image_id=[f"{number:04}" for number in range(len(other))],
        lesion_id=other.table["lesion_id"].str.replace("SYN", "OTHER"),
        source="clinic",
    )
    small = other.table["image_id"].isin(one.table["image_id"]).to_numpy().nonzero()[0][:9]
    for row in small:  # as ISIC 2019 has some: the same image in another file
        file = tmp_path / f"{row}.jpg"
        file.write_bytes((other.root / other.table["path"][row]).read_bytes() + b"smaller")
        clinic.loc[row, "path"] = os.path.relpath(file, other.root)
        clinic.loc[row, "sha256"] = hash_file(file)
        clinic.loc[row, "image_id"] = other.table["image_id"][row] + "_downsampled"
        clinic.loc[row, "lesion_id"] = ""
    other = replace(other, table=clinic).save(tmp_path / "clinic")
    third = collection(tmp_path / "third", [(n, f"{n + 20:04}", "nv", f"T{n}") for n in range(9)])
    third = replace(third, classes=whole.classes)
    both = join([one, other, third], ids="own", out=tmp_path / "both")
    assert set(both.table["image_id"]) >= {"0020@third", "0028@third"}
    assert len(both) == len(whole) + 9
    parts = split(both, kind="holdout", shares=(0.5, 0.2, 0.3))
    recipe = Recipe().but(
        {"images.size": [32, 32], "model.name": "lenet", "phases.0.epochs": 1, "batch": 64}
    )
    run = ll.train(recipe, both, parts, out=tmp_path / "run", device="cpu")
    part_of = dict(zip(both.table["sha256"], parts.parts()[both.table["image_id"]], strict=True))
    originals = other.table["sha256"].where(
        ~other.table.index.isin(small),
        other.table["image_id"]
        .str.removesuffix("_downsampled")
        .map(whole.table.set_index("image_id")["sha256"]),
    )
    shown = ((one, one.table["sha256"]), (other, originals), (third, third.table["sha256"]))
    for data, content in shown:
        table = ll.predict(model=run, data=data).predictions
        assert table["part"].tolist() == [part_of[each] for each in content]
        assert set(table["part"]) == {"train", "val", "test"}


@pytest.mark.slow
def test_halves_of_the_real_ham10000_make_the_whole_again(real_ham, tmp_path):
    whole = catalogue(real_ham)
    draw = np.random.default_rng(0).random(len(whole))
    twins = whole.table["sha256"].duplicated(keep=False).to_numpy()  # they stand once if apart
    one = rows_of(whole, (draw < 0.6) | twins, tmp_path / "a")
    other = rows_of(whole, (draw > 0.4) | twins, tmp_path / "b")
    shared = set(one.table["lesion_id"]) & set(other.table["lesion_id"])
    assert len(shared) > 1500
    both = join([one, other])
    assert both.fingerprint == whole.fingerprint
    pd.testing.assert_frame_equal(both.counts(), whole.counts())
    assert crossings(both, lesion_of(whole), folds=5) == []
    archive = catalogue(real_ham, layout="isic-archive", table="isic_metadata.csv")
    joined = join({"ham": whole, "archive": archive})
    assert joined.fingerprint == whole.fingerprint  # IL_ ids and HAM_ ids are found to be the same
