"""Every fault of files and tables: refused at once, listed by audit, left out on request."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesionlab.data.audit.audit import audit
from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.catalogue.validation import check_table
from lesionlab.errors import DataError, FindingsError

METADATA = "HAM10000_metadata.csv"


class Damaged:
    """A copy of the drawn set with its table in hand, to be broken in one way or another."""

    def __init__(self, folder):
        self.folder = folder
        self.table = pd.read_csv(folder / METADATA, dtype=str, keep_default_na=False)
        sizes = self.table.groupby("lesion_id")["image_id"].transform("size")
        self.single = list(self.table["image_id"][sizes == 1])
        self.pairs = [list(g["image_id"]) for _, g in self.table[sizes == 2].groupby("lesion_id")]

    def file(self, image):
        return next(self.folder.glob(f"HAM10000_images_part_*/{image}.jpg"))

    def put(self, image, column, value):
        self.table.loc[self.table["image_id"] == image, column] = value

    def repeat(self, image, **changes):
        row = self.table[self.table["image_id"] == image].assign(**changes)
        self.table = pd.concat([self.table, row], ignore_index=True)

    def save(self):
        self.table.to_csv(self.folder / METADATA, index=False)
        return self.folder


@pytest.fixture
def damaged(ham_copy):
    return Damaged(ham_copy)


def missing_image(d):
    d.file(d.single[0]).unlink()
    return {d.single[0]}


def truncated(d):
    file = d.file(d.single[1])
    file.write_bytes(file.read_bytes()[:-200])
    return {d.single[1]}


def empty_file(d):
    d.file(d.single[2]).write_bytes(b"")
    return {d.single[2]}


def unreadable(d):
    d.file(d.single[3]).write_bytes(b"<html>404, not found</html>" * 20)
    return {d.single[3]}


def unknown_diagnosis(d):
    d.put(d.single[4], "dx", "scc")
    d.put(d.single[5], "dx", "")
    return {d.single[4], d.single[5]}


def duplicate_image_id(d):
    d.repeat(d.single[6], age="33.0")
    return {d.single[6]}


def lesion_with_two_diagnoses(d):
    d.put(d.pairs[0][0], "dx", "nv")
    d.put(d.pairs[0][1], "dx", "df")
    return set(d.pairs[0])


FAULTS = {
    missing_image: ("path", r"{0}\.jpg does not exist"),
    truncated: ("path", r"{0}\.jpg is a JPEG without its end: the file is cut off"),
    empty_file: ("path", r"{0}\.jpg has 0 bytes"),
    unreadable: (
        "path",
        r"{0}\.jpg is not a JPEG, PNG, BMP, TIFF, WebP or GIF image that can be read",
    ),
    unknown_diagnosis: ("target", r"'scc'; known: akiec, bcc, bkl, df, mel, nv, vasc"),
    duplicate_image_id: ("image_id", r"{0} stands in 2 rows"),
    lesion_with_two_diagnoses: ("lesion_id", r"has 2 diagnoses: df, nv"),
}


def errors(findings):
    return findings[findings["severity"] == "error"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.__name__)
def test_a_fault_is_refused_listed_and_left_out(damaged, tmp_path, fault):
    images = fault(damaged)
    folder = damaged.save()
    column, text = FAULTS[fault]
    out = tmp_path / "out"

    with pytest.raises(FindingsError, match=text.format(*sorted(images))) as caught:
        catalogue(folder, out=out)
    assert not out.exists()
    found = caught.value.findings
    assert set(found["kind"]) == {fault.__name__}
    assert set(found["column"]) == {column}
    assert set(found["image_id"]) == images
    for word in (f"  {column}\n", "lesionlab audit", "--out findings.csv", "--exclude"):
        assert word in str(caught.value)

    listed = errors(audit(folder).findings)
    assert set(listed["image_id"]) == images
    assert set(listed["kind"]) == {fault.__name__}

    audit(folder).save(tmp_path / "findings.csv")
    clean = catalogue(folder, exclude=tmp_path / "findings.csv", out=out)
    assert set(clean.table["image_id"]) == set(damaged.table["image_id"]) - images
    assert any("left out after an audit" in note for note in clean.notes)
    assert not len(errors(audit(clean).findings))


def test_all_faults_at_once(damaged, tmp_path):
    spoiled = set().union(*(fault(damaged) for fault in FAULTS))
    damaged.table.loc[len(damaged.table)] = dict.fromkeys(damaged.table.columns, "") | {"dx": "nv"}
    folder = damaged.save()
    with pytest.raises(FindingsError) as caught:
        catalogue(folder, out=tmp_path / "out")
    kinds = {fault.__name__ for fault in FAULTS} | {"no_image_id"}
    assert kinds <= set(caught.value.findings["kind"])
    assert all(kind in str(caught.value) for kind in kinds)
    assert f"has {len(caught.value.findings)} faults" in str(caught.value)

    found = audit(folder)
    assert kinds <= set(found.findings["kind"])
    assert found.images == len(damaged.table)
    found.save(tmp_path / "findings.csv")
    clean = catalogue(folder, exclude=tmp_path / "findings.csv")
    assert set(clean.table["image_id"]) == set(damaged.table["image_id"]) - spoiled - {""}


def test_a_row_repeated_word_for_word_is_kept_once(damaged, tmp_path):
    damaged.repeat(damaged.single[0])
    folder = damaged.save()
    with pytest.raises(FindingsError, match="stands in 2 rows"):
        catalogue(folder)
    audit(folder).save(tmp_path / "findings.csv")
    clean = catalogue(folder, exclude=tmp_path / "findings.csv")
    assert sorted(clean.table["image_id"]) == sorted(set(damaged.table["image_id"]))


def test_a_lesion_of_two_patients_can_be_left_out(tmp_path):
    header = "image_id,target,lesion_id,patient_id\n"
    (tmp_path / "t.csv").write_text(header + "a,x,1,p\nb,x,1,q\nc,x,2,p\nd,y,3,\n")
    for number, name in enumerate("abcd"):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / f"{name}.png")
    with pytest.raises(FindingsError, match="lesion 1 has 2 patients: p, q"):
        catalogue(tmp_path)
    audit(tmp_path).save(tmp_path / "findings.csv")
    clean = catalogue(tmp_path, exclude=tmp_path / "findings.csv")
    assert list(clean.table["image_id"]) == ["c", "d"]


def test_a_missing_column(damaged, tmp_path):
    damaged.table = damaged.table.drop(columns=["dx", "lesion_id"])
    folder = damaged.save()
    for verb in (catalogue, audit):
        with pytest.raises(FindingsError, match="lacks 2 of the columns it needs: lesion_id, dx"):
            verb(folder)


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    for verb in (catalogue, audit):
        with pytest.raises(DataError, match=r"holds no images and no table.*lesionlab fetch"):
            verb(tmp_path / "empty")
        with pytest.raises(DataError, match="nowhere does not exist"):
            verb(tmp_path / "nowhere")


def test_a_table_without_rows(damaged):
    damaged.table = damaged.table.iloc[:0]
    with pytest.raises(DataError, match="lists no images"):
        catalogue(damaged.save())


@pytest.mark.parametrize("kind", ["jpeg", "binary", "html"])
def test_what_is_not_a_csv(ham_copy, tmp_path, kind):
    jpeg = next(ham_copy.glob("HAM10000_images_part_1/*.jpg")).read_bytes()
    page = b"<!doctype html>\n<html><title>404, Not Found</title></html>\n"
    content = {"jpeg": jpeg, "binary": bytes(range(256)) * 9, "html": page}[kind]
    (ham_copy / METADATA).write_bytes(content)
    for verb in (catalogue, audit):
        with pytest.raises(DataError, match=rf"{METADATA} is not a CSV table .*Save it as"):
            verb(ham_copy)
    (ham_copy / METADATA).rename(ham_copy / "labels.csv")
    with pytest.raises(DataError, match=r"labels\.csv is not a CSV table"):
        catalogue(ham_copy, table="labels.csv")


# --- One image twice


@pytest.mark.parametrize("clash", [False, True])
def test_identical_files_under_two_ids(damaged, tmp_path, clash):
    same = damaged.table.groupby("dx")["image_id"].agg(list)
    first = damaged.single[0]
    label = damaged.table.set_index("image_id")["dx"][first]
    others = [name for dx, names in same.items() if (dx != label) == clash for name in names]
    second = next(each for each in others if each != first and each in damaged.single)
    shutil.copy(damaged.file(first), damaged.file(second))
    folder = damaged.save()
    if clash:
        with pytest.raises(FindingsError, match=r"under 2 ids.* with 2 diagnoses"):
            catalogue(folder)
    else:
        assert len(catalogue(folder)) == len(damaged.table)  # odd, but no error
    found = audit(folder).faults
    twins = found[found["kind"] == "identical_files"]
    assert set(twins["image_id"]) == {first, second}
    assert twins["detail"].str.contains("2 diagnoses").all() == clash
    audit(folder).save(tmp_path / "findings.csv")
    clean = catalogue(folder, exclude=tmp_path / "findings.csv")
    left = {first, second} & set(clean.table["image_id"])
    assert left == (
        set() if clash else {min(first, second, key=list(damaged.table.image_id).index)}
    )


def test_identical_pixels_in_different_files(tmp_path):
    noise = np.random.default_rng(0)
    for label in ("x", "y"):
        (tmp_path / label).mkdir()
        for n in range(2):
            picture = Image.fromarray(noise.integers(0, 256, (30, 40, 3), np.uint8))
            picture.save(tmp_path / label / f"{label}{n}.png", compress_level=9)
    Image.open(tmp_path / "x" / "x0.png").save(tmp_path / "x" / "x9.png", compress_level=0)
    assert not len(errors(audit(tmp_path).findings))
    found = audit(tmp_path).faults
    assert list(found["kind"]) == ["identical_pixels", "identical_pixels"]
    assert dict(zip(found["image_id"], found["exclude"], strict=True)) == {"x0": False, "x9": True}


def test_sixteen_bit_images_are_neither_blank_nor_alike(tmp_path):
    noise = np.random.default_rng(0)
    for label in ("x", "y"):
        (tmp_path / label).mkdir()
        pixels = noise.integers(1000, 65536, (30, 40)).astype(np.uint16)
        Image.fromarray(pixels).save(tmp_path / label / f"{label}.png")
    assert not len(audit(tmp_path).faults)


# --- Odd, but no error


def test_odd_images_are_warnings(damaged):
    names = damaged.single[:4]
    Image.new("RGB", (80, 60), (9, 9, 9)).save(damaged.file(names[0]))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 40, 3), np.uint8)).save(
        damaged.file(names[1])
    )
    Image.new("RGB", (8, 6)).save(damaged.file(names[2]))
    Image.new("L", (80, 60)).save(damaged.file(names[3]))
    damaged.put(names[0], "sex", "X")
    damaged.put(names[1], "age", "forty")
    damaged.put(names[2], "age", "180")
    found = audit(damaged.save()).faults
    assert set(found["severity"]) == {"warning"}
    kinds = found.groupby("kind")["image_id"].agg(set).to_dict()
    assert kinds["blank"] == {names[0], names[2], names[3]}
    assert kinds["odd_shape"] == {names[1]}
    assert kinds["tiny"] == {names[2]}
    assert kinds["odd_sex"] == {names[0]}
    assert kinds["age_not_known"] == {names[1], names[2]}
    data = catalogue(damaged.folder)
    assert len(data) == len(damaged.table)
    ages = data.table.set_index("image_id")["age"]
    assert ages[[names[1], names[2]]].isna().all()
    assert any("'forty', '180'" in note for note in data.notes)


def test_a_sound_set_has_no_faults_and_its_notes_count(ham):
    found = audit(ham)
    assert not len(found.faults)
    data = catalogue(ham)
    notes = found.findings.set_index("kind")["detail"]
    if unknown := int((data.table["site"] == "").sum()):
        assert notes["site_unknown"] == f"{unknown} images"
    assert (found.images, found.lesions) == (len(data), 60)
    pd.testing.assert_frame_equal(found.counts, data.counts())
    assert {text.split()[0] for text in notes[["small_class"]]} == {
        row["class"] for _, row in data.counts().iterrows() if row["lesions"] < 20
    }


def test_age_zero_is_known_and_no_age_is_not():
    table = pd.DataFrame(
        {"image_id": list("abcd"), "target": "nv", "lesion_id": "", "age": ["0.0", "", "85", "0"]}
    )
    found = {each.kind: each for each in check_table(table, ["nv"])}
    assert found["age_zero"].detail.startswith("2 images")
    assert found["age_unknown"].detail == "1 images"
    assert {each.severity for each in found.values()} == {"note"}


def test_images_of_a_lesion_that_disagree_on_age_and_sex_are_noted():
    table = pd.DataFrame(
        {
            "image_id": list("abc"),
            "target": "nv",
            "lesion_id": "1",
            "age": ["50", "", "55"],
            "sex": ["male", "male", ""],
        }
    )
    found = {each.kind: each for each in check_table(table, ["nv"])}
    assert found["lesion_with_two_ages"].detail == "lesion 1 has 2 ages: 50, 55"
    assert "lesion_with_two_sexes" not in found
