from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
from lesionlab.data.splits import Split, split
from lesionlab.errors import DataError, FindingsError
from lesionlab.progress import Notice
from lesionlab.tables import CATALOGUE

CLASSES = ("mel", "nv", "vasc")


def made_up(rows, classes=CLASSES):
    """A catalogue in memory from dicts with at least target."""
    table = pd.DataFrame(rows).reindex(columns=list(CATALOGUE))
    table["image_id"] = [f"i{n:04d}" for n in range(len(table))]
    for name in ("lesion_id", "patient_id", "part", "sha256"):
        table[name] = table[name].astype(object).fillna("").astype(str)
    return Catalogue(table, classes, Path())


def of_lesions(lesions, named=True):
    """A catalogue from (class, number of images) of each lesion."""
    return made_up(
        {"target": label, "lesion_id": f"L{n:03d}" if named else ""}
        for n, (label, size) in enumerate(lesions)
        for _ in range(size)
    )


LESIONS = st.lists(st.tuples(st.sampled_from(CLASSES), st.integers(1, 6)), min_size=6, max_size=40)
QUICK = settings(max_examples=25, deadline=None)


def groups_of(data, made, fold=0, column="lesion_id"):
    """The groups of each part, images without one apart."""
    part = data.table["image_id"].map(made.parts(fold))
    known = data.table[column] != ""
    return data.table[known].groupby(part[known])[column].agg(set).to_dict()


def assert_apart(data, made, column="lesion_id"):
    for fold in range(made.folds):
        found = list(groups_of(data, made, fold, column).values())
        assert sum(map(len, found)) == len(set().union(*found))


@QUICK
@given(lesions=LESIONS, folds=st.integers(2, 6), seed=st.integers(0, 99))
def test_folds_keep_lesions_together_and_classes_even(lesions, folds, seed):
    data = of_lesions(lesions)
    made = split(data, folds=folds, seed=seed)
    assert made.folds == folds
    assert_apart(data, made)
    tested = Counter()
    of_class = {label: [] for label in CLASSES}
    for fold in range(folds):
        parts = made.parts(fold)
        assert list(parts.index) == list(data.table["image_id"])
        assert set(parts) <= {"train", "val", "test"}
        tests = data.table[(parts == "test").to_numpy()]
        tested.update(tests["image_id"])
        for label in CLASSES:
            of_class[label].append(tests["lesion_id"][tests["target"] == label].nunique())
    assert tested == Counter(dict.fromkeys(data.table["image_id"], 1))
    for counts in of_class.values():
        assert max(counts) - min(counts) <= 1


@QUICK
@given(
    lesions=LESIONS,
    seed=st.integers(0, 99),
    shares=st.sampled_from([(0.6, 0.15, 0.25), (0.9, 0.1, 0)]),
)
def test_holdout_gives_each_part_its_share_of_every_class(lesions, seed, shares):
    data = of_lesions(lesions)
    made = split(data, kind="holdout", shares=shares, seed=seed)
    assert_apart(data, made)
    classes = dict(zip(data.table["lesion_id"], data.table["target"], strict=True))
    found = groups_of(data, made)
    for part, share in zip(("train", "val", "test"), shares, strict=True):
        counts = Counter(classes[each] for each in found.get(part, ()))
        for label, total in Counter(classes.values()).items():
            assert abs(counts[label] - share * total) < 1


@QUICK
@given(lesions=LESIONS, seed=st.integers(0, 99))
def test_images_are_as_even_as_lesions_of_that_size_can_be(lesions, seed):
    data = of_lesions([("nv", size) for _, size in lesions])
    largest = max(size for _, size in lesions)
    made = split(data, folds=3, seed=seed)
    images = [(made.parts(fold) == "test").sum() for fold in range(3)]
    assert max(abs(each - len(data) / 3) for each in images) <= largest


def test_a_share_of_the_rest_is_val(ham):
    data = catalogue(ham)
    made = split(data, folds=4, val=0.2, seed=1)
    for fold in range(4):
        found = groups_of(data, made, fold)
        rest = len(found["train"]) + len(found["val"])
        assert abs(len(found["val"]) / rest - 0.2) < 7 / rest  # within a lesion of each class


def test_the_seed_decides(ham):
    data = catalogue(ham)
    for kind in ("folds", "holdout"):
        one, again, other = (split(data, kind=kind, seed=seed) for seed in (3, 3, 4))
        pd.testing.assert_frame_equal(one.table, again.table)
        assert one.fingerprint == again.fingerprint != other.fingerprint
        assert not one.table.equals(other.table)


def test_rows_in_another_order_are_the_same_lesions_apart(ham):
    data = catalogue(ham)
    mixed = Catalogue(data.table.sample(frac=1, random_state=0), data.classes, data.root)
    assert split(mixed, seed=2).parts(0).to_dict() == split(data, seed=2).parts(0).to_dict()


# --- Patients


@QUICK
@given(
    images=st.lists(
        st.tuples(st.sampled_from(CLASSES), st.integers(0, 14)), min_size=12, max_size=80
    ),
    folds=st.integers(2, 4),
    kind=st.sampled_from(["folds", "holdout"]),
    seed=st.integers(0, 9),
)
def test_patients_of_several_classes_stay_on_one_side(images, folds, kind, seed):
    counts = Counter(label for label, _ in images)
    assume(max(counts.values()) >= 8)
    assume(len({patient for _, patient in images}) >= 8)
    data = made_up({"target": label, "patient_id": f"P{number}"} for label, number in images)
    made = split(data, kind=kind, by="patient_id", folds=folds, seed=seed)
    assert_apart(data, made, "patient_id")
    if kind == "folds":
        tests = sum((made.parts(fold) == "test").to_numpy().astype(int) for fold in range(folds))
        assert (tests == 1).all()


def test_many_patients_of_several_classes_are_shared_out_evenly():
    rng = np.random.default_rng(0)
    data = made_up(
        {"target": CLASSES[rng.choice(3, p=[0.2, 0.7, 0.1])], "patient_id": f"P{n % 200}"}
        for n in range(600)
    )
    made = split(data, kind="holdout", by="patient_id", shares=(0.7, 0.1, 0.2))
    shares = made.parts().value_counts(normalize=True)
    for part, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        assert shares[part] == pytest.approx(share, abs=0.03)


def test_images_without_a_patient_go_with_their_lesion():
    data = made_up(
        {"target": "nv", "lesion_id": f"L{n // 3}", "patient_id": f"P{n // 6}" if n % 3 else ""}
        for n in range(60)
    )
    made = split(data, by="patient_id", folds=3)
    assert_apart(data, made, "lesion_id")
    assert_apart(data, made, "patient_id")


def test_too_few_patients_are_told():
    data = made_up(
        {"target": c, "patient_id": p} for c, p in [("mel", "a"), ("nv", "a"), ("nv", "b")]
    )
    with pytest.raises(DataError, match="too few for 3 parts"):
        split(data, kind="holdout", by="patient_id")


# --- What cannot be


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"by": "age"}, "grouped by lesion_id or patient_id, not by 'age'"),
        ({"kind": "random"}, "Kinds: folds, holdout, official"),
        ({"folds": 1}, "1 folds are impossible"),
        ({"folds": 61}, "61 folds are impossible with 60 groups"),
        ({"val": 0.95}, "above 0 and below 0.9"),
        ({"kind": "holdout", "shares": (0.8, 0.2)}, "three numbers above 0"),
        ({"kind": "holdout", "shares": (0.8, 0, 0.2)}, "or 0 for test"),
        ({"kind": "holdout", "shares": (1.2, 0.1, -0.3)}, "three numbers above 0"),
        ({"kind": "official"}, "no official split"),
    ],
)
def test_what_cannot_be_split_is_refused(ham, options, told):
    with pytest.raises(DataError, match=told):
        split(catalogue(ham), **options)


def test_images_without_lesions_are_told_to_be_at_risk():
    heard = []
    split(of_lesions([("nv", 1)] * 20, named=False), folds=2, listen=heard.append)
    assert any(
        isinstance(each, Notice) and each.level == "warning" and "may leak" in each.text
        for each in heard
    )


def test_reports_are_told_that_patients_may_cross(ham_copy):
    (ham_copy / "synthetic.json").unlink()  # what is left is HAM10000's own layout
    heard = []
    split(catalogue(ham_copy), listen=heard.append)
    assert any("patients" in each.text for each in heard)


# --- The source's own parts


def test_official_parts_are_taken_as_they_are():
    parts = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    data = made_up({"target": "nv", "part": part} for part in parts)
    made = split(data, kind="official", seed=5)
    assert list(made.parts()) == parts
    assert (made.kind, made.seed, made.folds) == ("official", -1, 1)


def test_official_parts_that_leak_are_refused():
    data = made_up(
        {"target": "nv", "part": part, "lesion_id": lesion}
        for part, lesion in [("train", "A"), ("train", "B"), ("test", "B"), ("val", "C")]
    )
    with pytest.raises(FindingsError, match="B is in test and train of fold 0"):
        split(data, kind="official")


@pytest.mark.parametrize("parts", [("train", "test", ""), ("train", "val"), ("train", "test", "x")])
def test_official_parts_that_are_not_whole(parts):
    data = made_up({"target": "nv", "part": part} for part in parts)
    with pytest.raises(DataError, match=r"no official split.*--kind folds"):
        split(data, kind="official")


# --- On disk


@pytest.fixture(scope="module")
def data(ham):
    return catalogue(ham)


@pytest.mark.parametrize("kind", ["folds", "holdout"])
def test_a_split_comes_back_from_its_file(data, tmp_path, kind):
    made = split(data, kind=kind, folds=3, seed=7)
    made.save(tmp_path / "split.csv")
    back = Split.open(tmp_path / "split.csv")
    pd.testing.assert_frame_equal(back.table, made.table)
    assert back.fingerprint == made.fingerprint
    assert (back.by, back.kind, back.seed, back.catalogue) == (
        "lesion_id",
        kind,
        7,
        data.fingerprint,
    )
    back.check(data)


def test_an_edited_split_is_refused(data, tmp_path):
    path = tmp_path / "split.csv"
    split(data, kind="holdout").save(path)
    path.write_text(path.read_text().replace(",train\n", ",test\n", 1))
    with pytest.raises(DataError, match=r"was changed .*lesionlab split.*delete split\.json"):
        Split.open(path)


def test_a_split_of_another_catalogue_is_refused(data):
    fewer = Catalogue(data.table[:-1], data.classes, data.root)
    told = rf"another catalogue \({fewer.fingerprint}, not {data.fingerprint}\)"
    with pytest.raises(DataError, match=told):
        split(fewer).check(data)


def test_a_split_made_elsewhere_is_used_if_it_is_sound(data, tmp_path):
    made = split(data, kind="holdout")
    own = pd.DataFrame({"image_id": made.table["image_id"], "part": made.table["fold_0"]})
    own.to_csv(tmp_path / "own.csv", index=False)
    back = Split.open(tmp_path / "own.csv")
    back.check(data)
    assert back.parts().to_dict() == made.parts().to_dict()
    assert back.kind == "own"
    back.save(tmp_path / "again.csv")
    assert Split.open(tmp_path / "again.csv").fingerprint == back.fingerprint


def test_a_split_made_elsewhere_that_leaks_is_refused_by_name(data, tmp_path):
    sizes = data.table["lesion_id"].value_counts()
    lesions = sorted(sizes.index[sizes > 1])[:2]
    parts = data.table["lesion_id"].isin(lesions).map({True: "train", False: "test"})
    for lesion in lesions:
        parts[data.table.index[data.table["lesion_id"] == lesion][0]] = "val"
    own = data.table[["image_id", "lesion_id"]].assign(part=parts)
    own.to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(FindingsError, match="This split cannot be used") as caught:
        Split.open(tmp_path / "own.csv").check(data)
    assert list(caught.value.findings["kind"]) == ["group_crosses"] * 2
    for lesion in lesions:
        assert f"{lesion} is in train and val of fold 0" in str(caught.value)
    assert "lesionlab split" in str(caught.value)


def test_a_leak_in_any_fold_is_seen(data):
    made = split(data, folds=3)
    table = made.table.copy()
    lesion = table["group"].value_counts().index[0]
    row = table.index[table["group"] == lesion][0]
    table.loc[row, "fold_2"] = "train" if table.loc[row, "fold_2"] != "train" else "test"
    with pytest.raises(FindingsError, match=rf"{lesion} is in .* of fold 2"):
        Split(table, "lesion_id", "own", -1, "").check(data)


def test_images_that_one_of_the_two_lacks_are_all_named(data):
    table = split(data, kind="holdout").table
    lost = table["image_id"][0]
    extra = table.iloc[[1, 2]].assign(image_id=["ISIC_X", table["image_id"][2]])
    other = Split(pd.concat([table[1:], extra]), "lesion_id", "own", -1, "")
    with pytest.raises(FindingsError) as caught:
        other.check(data)
    assert dict(
        zip(caught.value.findings["kind"], caught.value.findings["image_id"], strict=True)
    ) == {
        "no_part": lost,
        "no_image": "ISIC_X",
        "duplicate_image_id": table["image_id"][2],
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image_id,fold\na,1\n", "no column 'part' and no 'fold_0'"),
        ("image_id,fold_1\na,train\n", "no column 'part' and no 'fold_0'"),
        ("image_id,part\na,train\nb,exam\n", "parts other than train, val and test: exam"),
        ("name,part\na,train\n", "lacks 1 of the columns it needs: image_id"),
        ("", "is not a CSV table"),
    ],
)
def test_what_is_no_split(tmp_path, text, told):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError, match=told):
        Split.open(tmp_path / "s.csv")


def test_a_fold_that_is_not_there(data):
    made = split(data, folds=3)
    for fold in (-1, 3):
        with pytest.raises(DataError, match=rf"There is no fold {fold}: .* folds 0 to 2"):
            made.parts(fold)
        with pytest.raises(DataError, match="There is no fold"):
            made.counts(fold)


def test_counts_add_up(data):
    counts = split(data, folds=3).counts(1)
    assert counts["images"].sum() == len(data)
    assert counts["lesions"].sum() == data.lesions
    assert set(counts["part"]) == {"train", "val", "test"}
