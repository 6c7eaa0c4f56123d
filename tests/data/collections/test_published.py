"""Every known collection in a miniature of its true layout, read by its folder alone."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.images.reader import Reader
from lesionlab.data.splits import split
from lesionlab.errors import DataError


def photo(path, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = [*path.as_posix().encode()]
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def table(path, *rows, separator=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as handle:
        csv.writer(handle, delimiter=separator).writerows(rows)


def hot(columns, chosen):
    return [f"{float(name == chosen)}" for name in columns]


def column(data, name):
    return dict(zip(data.table["image_id"], data.table[name], strict=True))


def read(folder, layout):
    """The catalogue of a folder, whose account adds up."""
    data = catalogue(folder)
    assert data.layout == layout
    files, rows = data.account["files"], data.account["rows"]
    assert files["seen"] == sum(each.is_file() for each in folder.rglob("*"))
    assert files["seen"] == files["taken"] + sum(files["left_out"].values())
    assert rows["read"] == rows["taken"] + sum(rows["left_out"].values())
    assert rows["taken"] == len(data)
    return data


def test_isic2016_has_tables_without_a_head(tmp_path):
    name = "ISBI2016_ISIC_Part3_{}_GroundTruth.csv"
    table(tmp_path / name.format("Training"), ("ISIC_1", "benign"), ("ISIC_2", "malignant"))
    table(tmp_path / name.format("Test"), ("ISIC_3", "0.0"), ("ISIC_4", "1.0"))
    for image, part in (("1", "Training"), ("2", "Training"), ("3", "Test"), ("4", "Test")):
        photo(tmp_path / f"ISBI2016_ISIC_Part3_{part}_Data" / f"ISIC_{image}.jpg")
    data = read(tmp_path, "isic2016")
    assert list(data.table["target"]) == ["benign", "malignant"] * 2
    assert list(data.table["part"]) == ["train", "train", "test", "test"]


def test_isic2017_calls_the_rest_nevi_and_has_superpixels_beside(tmp_path):
    head = ("image_id", "melanoma", "seborrheic_keratosis")
    rows = {"ISIC_1": ("1.0", "0.0"), "ISIC_2": ("0.0", "1.0"), "ISIC_3": ("0.0", "0.0")}
    for part, image in (("Training", "ISIC_1"), ("Validation", "ISIC_2"), ("Test_v2", "ISIC_3")):
        truth = f"ISIC-2017_{part}_Part3_GroundTruth.csv"
        table(tmp_path / truth, head, (image, *rows[image]))
        photo(tmp_path / f"ISIC-2017_{part}_Data" / f"{image}.jpg")
        photo(tmp_path / f"ISIC-2017_{part}_Data" / f"{image}_superpixels.png")
        meta = tmp_path / f"ISIC-2017_{part}_Data" / f"ISIC-2017_{part}_Data_metadata.csv"
        table(meta, ("image_id", "age_approximate", "sex"), (image, "55", "female"))
    data = read(tmp_path, "isic2017")
    assert column(data, "target") == {"ISIC_1": "mel", "ISIC_2": "bkl", "ISIC_3": "nv"}
    assert list(data.table["part"]) == ["train", "val", "test"]
    assert set(data.table["age"]) == {55}
    assert data.account["files"]["left_out"]["a mask"] == 3


CODES_2019 = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")


def test_isic2019_joins_truth_and_metadata_of_both_parts(tmp_path):
    for part, image, code in (("Training", "ISIC_1", "SCC"), ("Training", "ISIC_2", "AK"),
                              ("Test", "ISIC_3", "UNK")):  # fmt: skip
        photo(tmp_path / f"ISIC_2019_{part}_Input" / f"{image}.jpg")
        truth = tmp_path / f"ISIC_2019_{part}_GroundTruth.csv"
        rows = (
            list(csv.reader(truth.read_text().splitlines()))
            if truth.exists()
            else [("image", *CODES_2019)]
        )
        table(truth, *rows, (image, *hot(CODES_2019, code)))
    head = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
    meta = (("ISIC_1", "50.0", "head/neck", "BCN_1", "male"), ("ISIC_2", "", "", "", ""))
    table(tmp_path / "ISIC_2019_Training_Metadata.csv", head, *meta)
    table(tmp_path / "ISIC_2019_Test_Metadata.csv", (*head[:3], "sex"), ("ISIC_3", "5", "", ""))
    data = read(tmp_path, "isic2019")
    assert column(data, "target") == {"ISIC_1": "scc", "ISIC_2": "akiec", "ISIC_3": "unk"}
    assert column(data, "lesion_id") == {"ISIC_1": "BCN_1", "ISIC_2": "", "ISIC_3": ""}
    assert list(data.table["part"]) == ["train", "train", "test"]
    assert column(data, "age")["ISIC_3"] == 5


HEAD_2020 = ("image_name", "patient_id", "sex", "age_approx", "anatom_site_general_challenge",
             "diagnosis", "benign_malignant", "target")  # fmt: skip


def test_isic2020_takes_jpegs_before_dicom_and_splits_by_patient(tmp_path):
    rows = []
    for n in range(16):
        kind = ("benign", "malignant")[n % 4 == 0]
        row = (f"ISIC_{n}", f"IP_{n // 2}", "male", "45.0", "torso", "unknown", kind, n % 4 == 0)
        rows.append(row)
        photo(tmp_path / "jpeg/train" / f"ISIC_{n}.jpg")
        (tmp_path / "train").mkdir(exist_ok=True)
        (tmp_path / "train" / f"ISIC_{n}.dcm").write_bytes(bytes([n]) * 200)
    table(tmp_path / "train.csv", HEAD_2020, *rows)
    table(tmp_path / "test.csv", HEAD_2020[:5], ("ISIC_99", "IP_9", "male", "1", "torso"))
    photo(tmp_path / "jpeg/test/ISIC_99.jpg")
    data = read(tmp_path, "isic2020")
    assert set(data.table["path"].str.rpartition("/")[0]) == {"jpeg/train"}
    assert any("1 of 33 photographs" in note or "no row" in note for note in data.notes)
    said = []
    made = split(data, folds=4, listen=lambda event: said.append(event.text))
    assert made.by == "patient_id"
    assert made.proof(data) == "No patient is in two parts"
    patients = data.table.set_index("image_id")["patient_id"]
    assert made.parts().groupby(patients).nunique().max() == 1
    by_lesion = split(data, folds=4, by="lesion_id")
    assert by_lesion.by == ""
    assert "cannot be checked" in by_lesion.proof(data)


def test_isic2024_as_files_and_as_one_hdf5(tmp_path):
    head = ("isic_id", "target", "patient_id", "age_approx", "sex", "anatom_site_general",
            "iddx_full", "lesion_id", "tbp_lv_H")  # fmt: skip
    rows = [
        (f"ISIC_{n}", n % 2, f"IP_{n // 2}", "60.0", "male", "posterior torso", "Benign", "", "1")
        for n in range(4)
    ]
    for kind in ("files", "hdf5"):
        table(tmp_path / kind / "train-metadata.csv", head, *rows)
        table(tmp_path / kind / "test-metadata.csv", (head[0], *head[2:]), ("ISIC_9", *"abcdefg"))
    for row in rows:
        photo(tmp_path / "files/train-image/image" / f"{row[0]}.jpg")
    data = read(tmp_path / "files", "isic2024")
    expected = {
        "ISIC_0": "benign",
        "ISIC_1": "malignant",
        "ISIC_2": "benign",
        "ISIC_3": "malignant",
    }
    assert column(data, "target") == expected
    assert data.table["patient_id"].nunique() == 2

    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "hdf5/train-image.hdf5", "w") as store:
        for row in rows:
            content = (tmp_path / "files/train-image/image" / f"{row[0]}.jpg").read_bytes()
            store[row[0]] = np.void(content)
    stored = read(tmp_path / "hdf5", "isic2024")
    assert column(stored, "target") == expected
    assert list(stored.table["sha256"]) == list(data.table["sha256"])
    one, other = Reader(stored.root), Reader(data.root)
    for a, b in zip(stored.table["path"], data.table["path"], strict=True):
        np.testing.assert_array_equal(np.asarray(one.open(a)), np.asarray(other.open(b)))


KINDS = ("clinical: close-up", "dermoscopic")


def test_milk10k_takes_the_dermoscopic_image_of_each_lesion(tmp_path):
    codes = ("AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC")
    truth = [("IL_1", *hot(codes, "MEL")), ("IL_2", *hot(codes, "SCCKA"))]
    table(tmp_path / "MILK10k_Training_GroundTruth.csv", ("lesion_id", *codes), *truth)
    head = ("lesion_id", "image_type", "isic_id", "age_approx", "sex", "skin_tone_class", "site")
    rows = []
    for number, (lesion, kind) in enumerate(
        (lesion, kind) for lesion in ("IL_1", "IL_2") for kind in KINDS
    ):  # fmt: skip
        rows.append((lesion, kind, f"ISIC_{number}", "55", "female", "2", "trunk"))
        photo(tmp_path / "MILK10k_Training_Input" / lesion / f"ISIC_{number}.jpg")
    table(tmp_path / "MILK10k_Training_Metadata.csv", head, *rows)
    data = read(tmp_path, "milk10k")
    assert column(data, "target") == {"ISIC_1": "mel", "ISIC_3": "sccka"}
    assert column(data, "lesion_id") == {"ISIC_1": "IL_1", "ISIC_3": "IL_2"}
    assert data.account["files"]["left_out"]["a clinical photograph"] == 2


ARCHIVE = ("isic_id", "attribution", "age_approx", "anatom_site_general", "diagnosis_1",
           "diagnosis_2", "diagnosis_3", "diagnosis_confirm_type", "image_type", "lesion_id",
           "patient_id", "sex")  # fmt: skip
SCC = ("Malignant", "Malignant epidermal proliferations", "Squamous cell carcinoma, NOS")
NEVUS = ("Benign", "Benign melanocytic proliferations", "Nevus")


@pytest.mark.parametrize(
    ("attribution", "source"),
    [
        ("Hospital Italiano de Buenos Aires", "hiba"),
        ("Department of Dermatology, Hospital Clínic de Barcelona", "bcn20000"),
        ("Memorial Sloan Kettering Cancer Center", "msk"),
    ],
)
def test_exports_of_the_archive_tell_their_collection(tmp_path, attribution, source):
    rest = ("histopathology", "dermoscopic", "IL_1", "IP_1", "male")
    rows = [
        (f"ISIC_900000{n}", attribution, "85+", "head/neck", *path, *rest)
        for n, path in enumerate((SCC, SCC, NEVUS))
    ]
    rows[2] = (*rows[2][:9], "IL_2", "IP_1", "male")
    table(tmp_path / "metadata.csv", ARCHIVE, *rows)
    for row in rows:
        photo(tmp_path / f"{row[0]}.jpg")
    data = read(tmp_path, "isic-archive")
    assert list(data.table["target"]) == ["scc", "scc", "nv"]
    assert set(data.table["source"]) == {source}
    assert set(data.table["age"]) == {85}
    assert set(data.table["dx_type"]) == {"histo"}
    assert set(data.table["patient_id"]) == {"IP_1"}


def test_bcn20000_of_its_own_download(tmp_path):
    head = ("bcn_filename", "age_approx", "anatom_site_general", "diagnosis", "lesion_id",
            "capture_date", "sex", "split")  # fmt: skip
    rows = [("BCN_1.jpg", "55", "oral/genital", "SCC", "L1", "2012-05-16", "male", "train"),
            ("BCN_2.jpg", "55", "torso", "MEL", "L2", "2012-05-16", "male", "train"),
            ("BCN_3.jpg", "55", "torso", "OTHER", "L3", "2012-05-16", "male", "train")]  # fmt: skip
    table(tmp_path / "bcn_20k_train.csv", head, *rows)
    for row in rows:
        photo(tmp_path / "BCN_20k_train/bcn_20k_train" / row[0])
    data = read(tmp_path, "bcn20000")
    assert column(data, "target") == {"BCN_1": "scc", "BCN_2": "mel"}
    assert any("OTHER (1)" in note for note in data.notes)


def test_pad_ufes_20_has_lesion_ids_that_repeat_among_patients(tmp_path):
    head = ("patient_id", "lesion_id", "age", "gender", "region", "diagnostic", "img_id", "biopsed")
    rows = [("PAT_1", "7", "55", "FEMALE", "ARM", "NEV", "PAT_1_7_1.png", "False"),
            ("PAT_1", "7", "55", "FEMALE", "ARM", "NEV", "PAT_1_7_2.png", "False"),
            ("PAT_2", "7", "60", "MALE", "FACE", "SCC", "PAT_2_7_3.png", "True")]  # fmt: skip
    table(tmp_path / "metadata.csv", head, *rows)
    for number, row in enumerate(rows):
        photo(tmp_path / f"images/imgs_part_{number % 3 + 1}" / row[6], "RGBA")
    data = read(tmp_path, "pad-ufes-20")
    assert list(data.table["lesion_id"]) == ["PAT_1/7", "PAT_1/7", "PAT_2/7"]
    assert list(data.table["target"]) == ["nv", "nv", "scc"]
    assert list(data.table["dx_type"]) == ["", "", "histo"]
    assert list(data.table["sex"]) == ["female", "female", "male"]


def test_ph2_has_a_folder_per_case_and_a_drawn_table(tmp_path):
    home = tmp_path / "PH2Dataset"
    cells = ("Name", "Histological Diagnosis", "Clinical Diagnosis", "Asymmetry")
    lines = ["|| " + " || ".join(cells) + " ||"]
    for name, kind in (("IMD002", 0), ("IMD003", 1), ("IMD058", 2)):
        lines.append(f"|| {name} ||                        ||       {kind}            ||    0 ||")
        case = home / "PH2 Dataset images" / name
        photo(case / f"{name}_Dermoscopic_Image" / f"{name}.bmp")
        photo(case / f"{name}_lesion" / f"{name}_lesion.bmp", "1")
        photo(case / f"{name}_roi" / f"{name}_R1_Label3.bmp", "1")
    lines += [
        "",
        "Legend",
        "Clinical Diagnosis: 0 - Common Nevus; 1 - Atypical Nevus; 2 - Melanoma",
    ]
    (home / "PH2_dataset.txt").write_text("\n".join(lines))
    data = read(tmp_path, "ph2")
    assert column(data, "target") == {"IMD002": "nv", "IMD003": "nv", "IMD058": "mel"}
    assert data.table["path"].str.contains("Dermoscopic_Image").all()


def test_derm7pt_keeps_its_official_parts(tmp_path):
    head = ("case_num", "diagnosis", "location", "sex", "clinic", "derm", "case_id")
    kinds = ("clark nevus", "melanoma (0.76 to 1.5 mm)", "lentigo", "vascular lesion")
    rows = []
    for n, kind in enumerate(kinds):
        rows.append((n + 1, kind, "back", "male", f"NEL/Nel{n}c.jpg", f"NEL/Nel{n}.jpg", f"NEL{n}"))
        photo(tmp_path / "images" / f"NEL/Nel{n}.jpg")
        photo(tmp_path / "images" / f"NEL/Nel{n}c.jpg")
    table(tmp_path / "meta/meta.csv", head, *rows)
    for part, row in (("train", 0), ("valid", 1), ("test", 3)):
        table(tmp_path / f"meta/{part}_indexes.csv", ("indexes",), (row,))
    data = read(tmp_path, "derm7pt")
    assert list(data.table["target"]) == ["nv", "mel", "vasc"]
    assert list(data.table["part"]) == ["train", "val", "test"]
    assert any("lentigo (1)" in note for note in data.notes)


def test_fitzpatrick17k_counts_what_could_not_be_downloaded(tmp_path):
    head = ("md5hash", "fitzpatrick_scale", "label", "three_partition_label")
    rows = [("a1", 1, "psoriasis", "non-neoplastic"), ("b2", 5, "melanoma", "malignant"),
            ("c3", 3, "nevus", "benign")]  # fmt: skip
    table(tmp_path / "fitzpatrick17k.csv", head, *rows)
    photo(tmp_path / "images/a1.jpg"), photo(tmp_path / "images/b2.jpg")
    data = read(tmp_path, "fitzpatrick17k")
    assert column(data, "target") == {"a1": "non-neoplastic", "b2": "malignant"}
    assert data.account["rows"]["left_out"] == {"no file": 1}


def test_ddi_is_benign_or_malignant(tmp_path):
    head = ("", "DDI_ID", "DDI_file", "skin_tone", "malignant", "disease")
    table(tmp_path / "ddi_metadata.csv", head, (0, 1, "000001.png", 56, "True", "melanoma-in-situ"),
          (1, 2, "000002.png", 12, "False", "acrochordon"))  # fmt: skip
    for name in ("000001.png", "000002.png"):
        photo(tmp_path / name)
    data = read(tmp_path, "ddi")
    assert column(data, "target") == {"000001": "malignant", "000002": "benign"}


def test_ham10000_in_the_columns_of_an_export_by_part(tmp_path):
    head = ("file_name", "lesion_id", "dx", "dx_type", "age", "sex", "localization")
    for part, image, kind in (("train", "a", "melanocytic_Nevi"), ("test", "b", "melanoma")):
        row = (f"{image}.png", f"HAM_{image}", kind, "histo", "50", "male", "back")
        table(tmp_path / "data" / part / "metadata.csv", head, row)
        photo(tmp_path / "data" / part / f"{image}.png")
    data = read(tmp_path, "ham10000")
    assert column(data, "target") == {"a": "nv", "b": "mel"}
    assert column(data, "part") == {"a": "train", "b": "test"}


def test_kaggles_ham10000_has_each_image_twice(tmp_path):
    head = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
    rows = [("HAM_1", "ISIC_1", "bkl", "histo", "80.0", "male", "scalp")]
    table(tmp_path / "HAM10000_metadata.csv", head, *rows)
    photo(tmp_path / "HAM10000_images_part_1/ISIC_1.jpg")
    copy = tmp_path / "ham10000_images_part_1_again" / "ISIC_1.jpg"
    copy.parent.mkdir()
    copy.write_bytes((tmp_path / "HAM10000_images_part_1/ISIC_1.jpg").read_bytes())
    data = read(tmp_path, "ham10000")
    assert len(data) == 1
    assert data.account["files"]["left_out"]["a copy of an image taken"] == 1


def test_one_picture_in_two_class_folders_is_left_out_of_both(tmp_path):
    for name in ("nevus", "seborrheic keratosis"):
        for n in range(3):
            photo(tmp_path / "Train" / name / f"{name[0]}{n}.jpg")
    content = (tmp_path / "Train/nevus/n0.jpg").read_bytes()
    (tmp_path / "Train/seborrheic keratosis/n0.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"2 diagnoses \(nv, seborrheic keratosis\)"):
        catalogue(tmp_path)


def test_heic_is_read_where_pillow_heif_is_there(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    for label in ("mole", "wart"):
        for n in range(2):
            photo(tmp_path / label / f"{n}{label}.png")
    picture = Image.open(tmp_path / "mole/0mole.png").convert("RGB").resize((64, 48))
    written = io.BytesIO()
    heif.from_pillow(picture).save(written, quality=90)
    (tmp_path / "mole/IMG_1.HEIC").write_bytes(written.getvalue())
    data = read(tmp_path, "folders")
    row = data.table.set_index("image_id").loc["IMG_1"]
    assert (row["target"], row["width"], row["height"]) == ("mole", 64, 48)
