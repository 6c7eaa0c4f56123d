"""Every layout that public collections lie in, drawn small; and the real one if at hand."""

import csv
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.catalogue.layouts import Reading, read_layout
from lesionlab.data.images.reader import Reader
from lesionlab.data.splits import split
from lesionlab.errors import DataError, FindingsError
from lesionlab.taxonomy import HAM7


def photos(folder, names, suffix=".jpg"):
    """Draw one distinct image per name."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        seed = [number, *f"{folder.name}/{name}".encode()]
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}{suffix}")


def table(path, header, *rows, separator=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as handle:
        csv.writer(handle, delimiter=separator).writerows([header, *rows])
    return path


def column(data, name):
    return dict(zip(data.table["image_id"], data.table[name], strict=True))


# --- HAM10000

HAM = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
ROWS = (
    ("HAM_1", "ISIC_1", "mel", "histo", "80.0", "male", "scalp"),
    ("HAM_1", "ISIC_2", "mel", "histo", "80.0", "male", "scalp"),
    ("HAM_2", "ISIC_3", "NV", "follow_up", "0.0", "female", "back"),
    ("HAM_3", "ISIC_4", "bkl", "consensus", "", "unknown", "unknown"),
    ("HAM_4", "ISIC_5", "vasc", "", "NaN", "", "NaN"),
)


def test_the_drawn_set_is_read_whole(ham):
    rows = list(csv.DictReader((ham / "HAM10000_metadata.csv").read_text().splitlines()))
    data = catalogue(ham)
    assert data.layout == "ham10000"
    assert data.classes == HAM7
    assert column(data, "target") == {row["image_id"]: row["dx"] for row in rows}
    assert column(data, "lesion_id") == {row["image_id"]: row["lesion_id"] for row in rows}
    assert data.lesions == 60 == data.counts()["lesions"].sum()
    assert all((data.root / path).is_file() for path in data.table["path"])
    assert not data.table["path"].str.contains("segmentation").any()
    assert any("drawn by a program" in note for note in data.notes)
    assert set(data.table["source"]) == {"drawn by lesionlab"}


@pytest.mark.parametrize(
    ("name", "separator"),
    [
        ("HAM10000_metadata.csv", ","),
        ("HAM10000_metadata", ","),
        ("HAM10000_metadata.tab", "\t"),
        ("ham10000_metadata.TAB", "\t"),
        ("HAM10000metadata.txt", "\t"),
        ("dataverse_files/HAM10000_metadata.csv", ","),
    ],
)
@pytest.mark.parametrize("folders", [("images",), ("HAM10000_images_part_1", "elsewhere/part_2")])
@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".png"])
def test_ham10000_under_other_names(tmp_path, name, separator, folders, suffix):
    table(tmp_path / name, HAM, *ROWS, separator=separator)
    names = [row[1] for row in ROWS]
    photos(tmp_path / folders[0], names[:2], suffix)
    photos(tmp_path / folders[-1], names[2:], suffix)
    photos(tmp_path / "__MACOSX" / folders[0], [f"._{each}" for each in names])
    photos(tmp_path / "masks", [f"{each}_segmentation" for each in names], ".png")
    draft = read_layout(Reading(tmp_path))
    assert draft.layout == "ham10000"
    assert list(draft.table["target"]) == ["mel", "mel", "nv", "bkl", "vasc"]
    assert list(draft.table["path"]) == [
        *(f"{folders[0]}/{each}{suffix}" for each in names[:2]),
        *(f"{folders[-1]}/{each}{suffix}" for each in names[2:]),
    ]


def test_unknown_stays_unknown_and_zero_is_an_age(tmp_path):
    table(tmp_path / "HAM10000_metadata.csv", HAM, *ROWS)
    photos(tmp_path / "images", [row[1] for row in ROWS])
    data = catalogue(tmp_path)
    age = column(data, "age")
    assert age["ISIC_3"] == 0
    assert [image for image, years in age.items() if np.isnan(years)] == ["ISIC_4", "ISIC_5"]
    assert column(data, "sex") | {"ISIC_1": "", "ISIC_2": ""} == dict.fromkeys(age, "") | {
        "ISIC_3": "female"
    }
    assert column(data, "site")["ISIC_4"] == column(data, "site")["ISIC_5"] == ""
    assert column(data, "dx_type")["ISIC_5"] == ""
    assert set(data.table["patient_id"]) == {""}


@pytest.mark.parametrize("word", ["unknown", "", "NaN", "Unknown", " n/a "])
def test_lesions_without_a_name_are_not_one_lesion(tmp_path, word):
    rows = [(word, f"ISIC_{n}", ("mel", "nv")[n % 2], "", "", "", "") for n in range(4)]
    table(tmp_path / "HAM10000_metadata.csv", HAM, *rows)
    photos(tmp_path / "images", [row[1] for row in rows])
    data = catalogue(tmp_path)
    assert set(data.table["lesion_id"]) == {""}
    assert data.lesions == 4


def test_the_eighth_column_names_the_source(tmp_path):
    row = (*ROWS[0], "vidir_modern")
    table(tmp_path / "HAM10000_metadata.tab", (*HAM, "dataset"), row, separator="\t")
    assert list(read_layout(Reading(tmp_path)).table["source"]) == ["vidir_modern"]


# --- ISIC 2018 task 3

ONE_HOT = ("image", "MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def hot(image, code):
    return (image, *(f"{float(name == code)}" for name in ONE_HOT[1:]))


def isic2018(folder):
    for part, images in {
        "Training": ("ISIC_1", "ISIC_2", "ISIC_3"),
        "Validation": ("ISIC_4",),
        "Test": ("ISIC_5",),
    }.items():
        rows = [hot(image, ONE_HOT[int(image[-1])]) for image in images]
        truth = f"ISIC2018_Task3_{part}_GroundTruth"
        table(folder / truth / f"{truth}.csv", ONE_HOT, *rows)
        photos(folder / f"ISIC2018_Task3_{part}_Input", images)
    table(
        folder / "ISIC2018_Task3_Training_LesionGroupings.csv",
        ("image", "lesion_id", "diagnosis_confirm_type"),
        ("ISIC_1", "HAM_1", "histopathology"),
        ("ISIC_2", "HAM_2", "serial imaging showing no change"),
        ("ISIC_3", "HAM_2", "single image expert consensus"),
    )


def test_isic2018_with_its_parts_and_lesions(tmp_path):
    isic2018(tmp_path)
    draft = read_layout(Reading(tmp_path))
    assert draft.layout == "isic2018"
    rows = draft.table.set_index("image_id").sort_index()
    assert list(rows["target"]) == ["mel", "nv", "bcc", "akiec", "bkl"]
    assert list(rows["part"]) == ["train", "train", "train", "val", "test"]
    assert list(rows["lesion_id"]) == ["HAM_1", "HAM_2", "HAM_2", "", ""]
    assert list(rows["dx_type"]) == ["histo", "follow_up", "consensus", "", ""]
    assert rows.loc["ISIC_4", "path"] == "ISIC2018_Task3_Validation_Input/ISIC_4.jpg"
    assert any("no lesion id" in note for note in draft.notes)


def test_isic2018_has_an_official_split(tmp_path):
    isic2018(tmp_path)
    groupings = tmp_path / "ISIC2018_Task3_Training_LesionGroupings.csv"
    groupings.write_text("image,lesion_id\nISIC_1.jpg,HAM_1\n")
    made = split(catalogue(tmp_path), kind="official")
    assert list(made.parts()) == ["train", "train", "train", "val", "test"]
    assert made.kind == "official"


@pytest.mark.parametrize("cells", [("1", "1"), ("0", "0"), ("0.9", "0.1"), ("", "1"), ("x", "1")])
def test_a_row_that_is_not_one_hot_is_no_diagnosis(tmp_path, cells):
    path = tmp_path / "ISIC2018_Task3_Training_GroundTruth.csv"
    table(path, ONE_HOT, ("ISIC_1.jpg", *cells, *"00000"), hot("ISIC_2", "DF"))
    photos(tmp_path / "ISIC2018_Task3_Training_Input", ["ISIC_1", "ISIC_2"])
    with pytest.raises(FindingsError, match="not one-hot") as caught:
        catalogue(tmp_path)
    assert list(caught.value.findings["image_id"]) == ["ISIC_1"]


# --- The ISIC Archive's export

HAM_ID, OTHER_ID = "ISIC_0024306", "ISIC_0000001"


@pytest.mark.parametrize(
    ("trail", "expected"),
    [
        ("Benign|Benign melanocytic proliferations|Nevus", "nv"),
        ("Malignant|Malignant melanocytic proliferations (Melanoma)|Melanoma Invasive", "mel"),
        ("Malignant|Malignant melanocytic proliferations (Melanoma)|Melanoma in situ", "mel"),
        ("Malignant|Malignant melanocytic proliferations (Melanoma)|Melanoma, NOS", "mel"),
        ("Malignant|Malignant adnexal epithelial proliferations|Basal cell carcinoma", "bcc"),
        (
            "Indeterminate|Indeterminate epidermal proliferations|Solar or actinic keratosis",
            "akiec",
        ),
        ("Malignant|Malignant epidermal proliferations|Squamous cell carcinoma in situ", "akiec"),
        ("Benign|Benign epidermal proliferations|Seborrheic keratosis", "bkl"),
        ("Benign|Benign epidermal proliferations|Solar lentigo", "bkl"),
        ("Benign|Benign epidermal proliferations|Lichen planus like keratosis", "bkl"),
        ("Benign|Benign epidermal proliferations|Pigmented benign keratosis", "bkl"),
        ("Benign|Benign soft tissue proliferations - Fibro-histiocytic|Dermatofibroma", "df"),
        ("Benign|Benign soft tissue proliferations - Vascular|", "vasc"),
        ("Benign|Benign soft tissue proliferations - Vascular|Hemangioma", "vasc"),
        ("Benign|Benign soft tissue proliferations - Vascular|Angiokeratoma", "vasc"),
        ("Benign|Benign soft tissue proliferations - Vascular|Pyogenic granuloma", "vasc"),
        ("Benign|Hemorrhage|", "vasc"),
    ],
)
def test_archive_diagnoses(tmp_path, trail, expected):
    header = ("isic_id", "diagnosis_1", "diagnosis_2", "diagnosis_3")
    rows = [(image, *trail.split("|")) for image in (HAM_ID, OTHER_ID)]
    table(tmp_path / "metadata.csv", header, *rows)
    assert list(read_layout(Reading(tmp_path)).table["target"]) == [expected, expected]


def test_invasive_carcinoma_is_akiec_in_ham10000_and_scc_elsewhere(tmp_path):
    trail = ("Malignant", "Malignant epidermal proliferations", "Squamous cell carcinoma, NOS")
    header = ("isic_id", "diagnosis_1", "diagnosis_2", "diagnosis_3")
    images = ("ISIC_0024305", "ISIC_0024306", "ISIC_0034320", "ISIC_0034321")
    table(tmp_path / "metadata.csv", header, *[(image, *trail) for image in images])
    photos(tmp_path, images)
    draft = read_layout(Reading(tmp_path))
    assert list(draft.table["target"]) == ["scc", "akiec", "akiec", "scc"]
    assert draft.classes == (*HAM7[:6], "scc", "vasc")


def test_a_diagnosis_that_stops_short_is_not_guessed(tmp_path):
    header = ("isic_id", "diagnosis_1", "diagnosis_2", "diagnosis_3")
    table(tmp_path / "metadata.csv", header, (HAM_ID, "Benign", "", ""), (OTHER_ID, "", "", ""))
    draft = read_layout(Reading(tmp_path))
    assert list(draft.table["image_id"]) == [OTHER_ID]
    assert list(draft.table["target"]) == [""]
    assert draft.rows_left_out == {"none of the classes": 1}
    assert "Benign (1)" in draft.notes[-1]


def test_archive_metadata_keep_their_meaning(tmp_path):
    header = ("isic_id", "diagnosis_1", "diagnosis_2", "diagnosis_3", "age_approx", "sex")
    header += ("anatom_site_general", "lesion_id", "patient_id", "diagnosis_confirm_type")
    nevus = ("Benign", "Benign melanocytic proliferations", "Nevus")
    words = (
        "histopathology",
        "serial imaging showing no change",
        "single image expert consensus",
        "confocal microscopy with consensus dermoscopy",
    )
    rows = [
        (f"ISIC_002430{n}", *nevus, "0", "male", "Posterior torso", "IL_1", "IP_1", words[n])
        for n in range(4)
    ]
    table(tmp_path / "metadata.csv", header, *rows, (OTHER_ID, *nevus, *[""] * 6))
    rows = read_layout(Reading(tmp_path)).table
    assert list(rows["dx_type"]) == ["histo", "follow_up", "consensus", "confocal", ""]
    assert list(rows["age"]) == ["0"] * 4 + [""]
    assert rows["site"][0] == "posterior torso"
    assert list(rows["patient_id"]) == ["IP_1"] * 4 + [""]


def test_an_old_export_is_read_by_its_whole_words(tmp_path):
    rows = [(HAM_ID, "nevus"), (OTHER_ID, "solar lentigo"), ("ISIC_0000002", "epidermal nevus")]
    table(tmp_path / "metadata.csv", ("isic_id", "diagnosis"), *rows)
    photos(tmp_path, [row[0] for row in rows])
    data = catalogue(tmp_path)
    assert column(data, "target") == {HAM_ID: "nv", OTHER_ID: "bkl"}
    assert data.account["rows"]["left_out"] == {"none of the classes": 1}


# --- Class folders


def test_one_folder_per_class(tmp_path):
    photos(tmp_path / "Melanoma", ["a", "b"], ".JPG")
    photos(tmp_path / "melanocytic_nevi", ["c"], ".png")
    photos(tmp_path / "scar", ["d"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "scar" / "notes.txt").write_text("no image")
    (tmp_path / "scar" / "._d.jpg").write_bytes(b"macOS")
    data = catalogue(tmp_path)
    assert data.layout == "folders"
    assert data.classes == ("mel", "nv", "scar")
    assert column(data, "target") == {"a": "mel", "b": "mel", "c": "nv", "d": "scar"}
    assert any("no lesions" in note for note in data.notes)


def test_parts_below_their_class_are_parts(tmp_path):
    for label in ("mel", "nv"):
        for part in ("train", "test"):
            photos(tmp_path / label / part, [f"{label} {part}"])
    data = catalogue(tmp_path)
    assert data.classes == ("mel", "nv")
    assert column(data, "part") == {
        f"{label} {part}": part for label in data.classes for part in ("train", "test")
    }


def test_labels_that_are_lists_are_refused_and_empty_ones_are_none(tmp_path):
    rows = [("a", "x"), ("b", "[]"), ("c", "y")]
    table(tmp_path / "labels.csv", ("image_id", "target"), *rows)
    photos(tmp_path, "abc")
    with pytest.raises(FindingsError, match="no diagnosis"):
        catalogue(tmp_path)
    table(tmp_path / "labels.csv", ("image_id", "target"), *rows[::2], ("b", "['x', 'y']"))
    with pytest.raises(DataError, match=r"1 labels are lists, such as \['x', 'y'\]"):
        catalogue(tmp_path)


def test_words_that_are_read_as_something_are_told(tmp_path):
    rows = [("a", "Squamous cell carcinoma", "w"), ("b", "nevus", "m"), ("c", "scar", "divers")]
    table(tmp_path / "labels.csv", ("image_id", "target", "sex"), *rows)
    photos(tmp_path, "abc")
    data = catalogue(tmp_path)
    assert column(data, "target") == {"a": "scc", "b": "nv", "c": "scar"}
    assert column(data, "sex") == {"a": "female", "b": "male", "c": "divers"}
    assert any("Squamous cell carcinoma as scc" in note for note in data.notes)
    assert any("1 words for a sex are not known" in note for note in data.notes)
    table(tmp_path / "labels.csv", ("image_id", "target", "sex"), ("a", "x", "h"), ("b", "y", "m"))
    assert column(catalogue(tmp_path), "sex") == {"a": "h", "b": "m"}  # mujer, or male


def test_ham10000_image_folders_without_a_table_are_no_classes(tmp_path):
    photos(tmp_path / "HAM10000_images_part_1", ["a"])
    photos(tmp_path / "HAM10000_images_part_2", ["b"])
    with pytest.raises(DataError, match="in no layout that lesionlab knows"):
        catalogue(tmp_path)


# --- MedMNIST


def medmnist(path, counts=(6, 2, 3), shape=(28, 28, 3), labels=7):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, *shape), np.uint8)
        arrays[f"{part}_labels"] = rng.integers(0, labels, (count, 1)).astype(np.uint8)
    np.savez(path, **arrays)
    return arrays


@pytest.mark.parametrize("shape", [(28, 28, 3), (28, 28)])
def test_medmnist_rows_are_images_of_official_parts(tmp_path, shape):
    arrays = medmnist(tmp_path / "dermamnist.npz", shape=shape)
    data = catalogue(tmp_path)
    assert data.layout == "medmnist"
    assert data.classes == HAM7
    assert data.table["part"].value_counts().to_dict() == {"train": 6, "test": 3, "val": 2}
    reader = Reader(data.root)
    for row in data.table.itertuples():
        number = int(row.image_id[-5:])
        assert row.target == HAM7[arrays[f"{row.part}_labels"][number, 0]]
        pixels = np.asarray(reader.open(row.path))
        np.testing.assert_array_equal(pixels, arrays[f"{row.part}_images"][number])
    made = split(data, kind="official")
    assert made.parts().to_dict() == column(data, "part")
    assert made.by == ""


def arrays_of(folder, labels, part=""):
    """X.npy and y.npy as Keras notebooks save them."""
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 24, 32, 3), np.uint8)
    np.save(folder / f"X{part}.npy", images)
    np.save(folder / f"y{part}.npy", labels)
    return images


def test_arrays_of_images_and_labels_are_read_row_by_row(tmp_path):
    images = arrays_of(tmp_path, np.array([1, 0, 2, 1, 0, 2]))
    data = catalogue(tmp_path, relabel={"class_0": "nv", "class_1": "mel"})
    assert data.layout == "npy"
    assert list(data.table["target"]) == ["mel", "nv", "class_2"] * 2
    reader = Reader(data.root)
    for image, path in zip(images, data.table["path"], strict=True):
        np.testing.assert_array_equal(np.asarray(reader.open(path)), image)
    assert split(data, folds=2).by == ""


def test_arrays_of_parts_with_a_column_per_class_are_official_parts(tmp_path):
    for part in ("_train", "_val", "_test"):
        arrays_of(tmp_path, np.eye(3)[[0, 1, 2, 2]], part)
    data = catalogue(tmp_path)
    assert list(data.table["target"].value_counts()[["class_0", "class_2"]]) == [3, 6]
    assert set(split(data, kind="official").parts()) == {"train", "val", "test"}


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    images = arrays_of(tmp_path, np.zeros(4, int))
    np.save(tmp_path / "X.npy", images / 255)
    with pytest.raises(DataError, match=r"\* 255"):
        catalogue(tmp_path)
    np.save(tmp_path / "X.npy", images[:3])
    with pytest.raises(DataError, match=r"3 images and y\.npy 4 labels"):
        catalogue(tmp_path)


def test_another_medmnist_set_keeps_its_own_classes(tmp_path):
    medmnist(tmp_path / "bloodmnist.npz", labels=3, counts=(20, 5, 5))
    draft = read_layout(Reading(tmp_path / "bloodmnist.npz"))
    assert draft.classes == ("class_0", "class_1", "class_2")


def test_an_npz_cut_short_is_told(tmp_path):
    medmnist(tmp_path / "dermamnist.npz")
    content = (tmp_path / "dermamnist.npz").read_bytes()
    (tmp_path / "dermamnist.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"dermamnist\.npz is not a whole \.npz"):
        catalogue(tmp_path)


# --- Kaggle's pixel tables

HMNIST = ("akiec", "bcc", "bkl", "df", "nv", "vasc", "mel")


def hmnist(folder, labels, channels):
    side = 28
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (len(labels), side * side * channels), np.uint8)
    frame = pd.DataFrame(pixels, columns=[f"pixel{n:04d}" for n in range(pixels.shape[1])])
    kind = "RGB" if channels == 3 else "L"
    folder.mkdir(exist_ok=True)
    frame.assign(label=labels).to_csv(folder / f"hmnist_28_28_{kind}.csv", index=False)
    return pixels.reshape(len(labels), side, side, *([3] if channels == 3 else []))


@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_tables_are_read_row_by_row(tmp_path, channels):
    pixels = hmnist(tmp_path, range(7), channels)
    data = catalogue(tmp_path)
    assert data.layout == "hmnist"
    assert list(data.table["target"]) == list(HMNIST)
    reader = Reader(data.root)
    for row, path in enumerate(data.table["path"]):
        np.testing.assert_array_equal(np.asarray(reader.open(path)), pixels[row])


def test_pixel_tables_take_lesions_from_metadata_that_agree(tmp_path):
    hmnist(tmp_path, [6, 6, 4, 2, 5], 3)
    table(tmp_path / "HAM10000_metadata.csv", HAM, *ROWS)
    draft = read_layout(Reading(tmp_path))
    assert draft.layout == "hmnist"
    assert list(draft.table["lesion_id"]) == ["HAM_1", "HAM_1", "HAM_2", "HAM_3", "HAM_4"]
    assert list(draft.table["age"]) == ["80.0", "80.0", "0.0", "", ""]


def test_pixel_tables_take_nothing_from_metadata_that_disagree(tmp_path):
    hmnist(tmp_path, [6, 6, 4, 5, 2], 3)
    table(tmp_path / "HAM10000_metadata.csv", HAM, *ROWS)
    draft = read_layout(Reading(tmp_path))
    assert "lesion_id" not in draft.table.columns
    assert any("no lesions" in note for note in draft.notes)


def test_images_go_before_pixel_tables(tmp_path):
    hmnist(tmp_path, [6, 6, 4, 2, 5], 3)
    table(tmp_path / "HAM10000_metadata.csv", HAM, *ROWS)
    photos(tmp_path / "HAM10000_images_part_1", [row[1] for row in ROWS])
    assert catalogue(tmp_path).layout == "ham10000"
    assert catalogue(tmp_path, layout="hmnist").layout == "hmnist"
    assert catalogue(tmp_path / "hmnist_28_28_RGB.csv").layout == "hmnist"


# --- Tables of one's own


def own(folder):
    path = table(
        folder / "mine.csv",
        ("file", "label", "mole", "years", "gender", "kind"),
        ("a.jpg", "Melanoma", "7", "50", "F", "unknown"),
        ("b.JPG", "scar", "8", "unknown", "", ""),
        ("c", "scar", "unknown", "0", "male", "histo"),
    )
    photos(folder / "pictures", "abc")
    return path


COLUMNS = {"image_id": "file", "target": "label", "lesion_id": "mole", "age": "years"}


@pytest.mark.parametrize("named", [True, False])
def test_a_table_of_ones_own(tmp_path, named):
    path = own(tmp_path)
    columns = COLUMNS | {"dx_type": "kind"}
    data = catalogue(tmp_path, table=path if named else None, columns=columns)
    assert data.layout == "csv"
    assert data.classes == ("mel", "scar")
    assert column(data, "path") == {each: f"pictures/{each}.jpg" for each in "abc"}
    assert column(data, "lesion_id") == {"a": "7", "b": "8", "c": ""}
    assert column(data, "dx_type") == {"a": "", "b": "", "c": "histo"}
    ages = data.table["age"]
    assert ages[0] == 50
    assert np.isnan(ages[1])
    assert ages[2] == 0


def test_our_own_column_names_need_no_mapping(tmp_path):
    header = ("image_id", "target", "patient_id", "part", "path")
    rows = [("a", "x", "p", "train", "pictures/c.jpg"), ("b", "y", "q", "test", "pictures/a.jpg")]
    table(tmp_path / "labels.csv", header, *rows)
    photos(tmp_path / "pictures", "abc")
    data = catalogue(tmp_path)
    assert column(data, "path") == {"a": "pictures/c.jpg", "b": "pictures/a.jpg"}
    assert column(data, "patient_id") == {"a": "p", "b": "q"}
    assert list(split(data, kind="official").parts()) == ["train", "test"]


@pytest.mark.parametrize("word", ["unknown", "", "NaN", "None"])
def test_an_unknown_diagnosis_is_no_class(tmp_path, word):
    table(tmp_path / "labels.csv", ("image_id", "target"), ("a", "x"), ("b", word), ("c", "y"))
    photos(tmp_path, "abc")
    with pytest.raises(FindingsError, match="no diagnosis") as caught:
        catalogue(tmp_path)
    assert list(caught.value.findings["image_id"]) == ["b"]


def test_a_mapping_that_names_no_column_of_ours(tmp_path):
    own(tmp_path)
    with pytest.raises(DataError, match=r"lable, siet are none of ours\. Ours: image_id, path"):
        catalogue(tmp_path, columns={"image_id": "file", "lable": "label", "siet": "x"})


def test_a_mapping_to_columns_that_are_not_there(tmp_path):
    own(tmp_path)
    with pytest.raises(FindingsError, match="lacks 2 of the columns it needs: name, diagnosis"):
        catalogue(tmp_path, columns={"image_id": "name", "target": "diagnosis"})


def test_of_several_tables_the_one_that_fits_is_read(tmp_path):
    own(tmp_path)
    table(tmp_path / "other.csv", ("file", "price"), ("a", "3"))
    assert len(catalogue(tmp_path, columns=COLUMNS)) == 3
    shutil.copy(tmp_path / "mine.csv", tmp_path / "copy.csv")
    with pytest.raises(DataError, match=r"copy\.csv, mine\.csv.*--table FILE"):
        catalogue(tmp_path, columns=COLUMNS)


def test_a_table_that_is_named_but_of_no_known_kind_says_what_it_lacks(tmp_path):
    path = own(tmp_path)
    with pytest.raises(
        DataError, match=r"no image_id and no target: it has file, label.*--columns"
    ):
        catalogue(tmp_path, table=path)
    with pytest.raises(DataError, match="does not exist, neither here nor in"):
        catalogue(tmp_path, table="nothing.csv")


# --- The real thing


def test_real_ham10000(real):
    assert real.layout == "ham10000"
    assert len(real) == 10_015
    assert real.lesions == 7_470
    counts = real.counts().set_index("class")
    assert counts["images"].to_dict() == {
        "akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142,
    }  # fmt: skip
    assert counts["lesions"].to_dict() == {
        "akiec": 228, "bcc": 327, "bkl": 727, "df": 73, "mel": 614, "nv": 5403, "vasc": 98,
    }  # fmt: skip
    assert (real.table["age"] == 0).sum() == 39
    assert real.table["age"].isna().sum() == 57
    assert set(real.table["sex"]) == {"male", "female", ""}
    assert any("names lesions, not patients" in note for note in real.notes)


def test_the_real_export_says_the_same(real, real_ham):
    draft = read_layout(Reading(real_ham / "isic_metadata.csv"))
    assert draft.layout == "isic-archive"
    export = draft.table.sort_values("image_id")
    for name in ("image_id", "path", "target", "dx_type"):
        assert list(export[name]) == list(real.table[name])
    pairs = set(zip(real.table["lesion_id"], export["lesion_id"], strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) == 7_470


@pytest.fixture(scope="module")
def five_folds(real):
    return split(real, folds=5, seed=0)


def test_m25_lesions_with_several_images_are_in_every_part(real, five_folds):
    """Some keep them all in train: leak-free, but val is then easier than life."""
    size = real.table.groupby("lesion_id")["image_id"].transform("size")
    several = dict(zip(real.table["image_id"], size > 1, strict=True))
    parts = five_folds.table.assign(several=five_folds.table["image_id"].map(several))
    shares = parts.groupby("fold_0")["several"].mean()
    assert set(shares.index) == {"train", "val", "test"}
    assert shares.max() - shares.min() < 0.06
    assert shares.min() > 0.38  # of all images 45 %


def test_five_folds_of_the_real_set(real, five_folds):
    lesion = real.table.set_index("image_id")["lesion_id"]
    largest = lesion.groupby(lesion).size().max()
    tested = []
    for fold in range(5):
        parts = five_folds.parts(fold)
        assert parts.groupby(lesion).nunique().max() == 1
        tested.append(real.table[real.table["image_id"].map(parts) == "test"])
    assert sorted(pd.concat(tested)["image_id"]) == sorted(real.table["image_id"])
    for name, whole in real.table.groupby("target"):
        of_class = [part[part["target"] == name] for part in tested]
        lesions = [part["lesion_id"].nunique() for part in of_class]
        assert max(lesions) - min(lesions) <= 1
        assert all(abs(each - whole["lesion_id"].nunique() / 5) < 1 for each in lesions)
        images = [len(part) for part in of_class]
        assert max(abs(each - len(whole) / 5) for each in images) <= largest
