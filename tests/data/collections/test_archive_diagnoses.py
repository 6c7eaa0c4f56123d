"""The ISIC Archive's taxonomy, node by node: by branch, never by a word."""

import pytest

from lesionlab.data.collections.archive_diagnoses import class_of, nodes
from lesionlab.taxonomy import GROUPINGS

MALIGNANT_CLASSES = {"mel", "bcc", "akiec", "scc"}


def test_the_table_has_every_node_of_the_archives_package():
    enum = pytest.importorskip("isic_metadata.diagnosis_hierarchical").DiagnosisEnum
    assert {each.value for each in enum} <= set(nodes())


def test_no_malignant_node_is_benign_and_no_benign_one_malignant():
    malignant = {path: label for path, label in nodes().items() if path.startswith("Malignant")}
    benign = {path: label for path, label in nodes().items() if path.startswith("Benign")}
    assert len(malignant) > 100
    assert set(malignant.values()) <= {"", *MALIGNANT_CLASSES}
    assert set(benign.values()) <= {"", "nv", "bkl", "df", "vasc"}
    two = GROUPINGS["malignant-benign"].groups
    assert {two[label] for label in malignant.values() if label in two} == {"malignant"}


def test_each_class_is_whole_branches_of_the_tree():
    """A node below one that has a class has the same class."""
    for path, label in nodes().items():
        above = nodes().get(path.rpartition(":")[0], "")
        assert not above or above == label, path


@pytest.mark.parametrize(
    "path",
    [
        "Malignant:Malignant soft tissue proliferations - Vascular:Kaposi sarcoma",
        "Malignant:Malignant soft tissue proliferations - Vascular:Angiosarcoma",  # not a node
        "Benign:Flat melanotic pigmentations - not melanocytic nevus:Lentigo NOS",
        "Benign:Flat melanotic pigmentations - not melanocytic nevus:Ephelis",
        "Benign:Benign epidermal proliferations:Epidermal nevus",
        "Benign:Benign adnexal epithelial proliferations:Nevus sebaceus",
        "Indeterminate:Indeterminate melanocytic proliferations:"
        "Proliferative nodules in congenital melanocytic nevus",
        "Benign",
        "Malignant:something new:melanoma-like nevus",
        "",
    ],
)
def test_what_is_none_of_the_classes_gets_none(path):
    assert class_of(path) == ""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Benign:Benign melanocytic proliferations:Nevus", "nv"),
        ("benign:benign melanocytic proliferations:nevus:blue nevus", "nv"),
        ("Benign:Hemorrhage", "vasc"),  # the second level of another release
        ("Malignant:Malignant adnexal epithelial proliferations:Basal cell carcinoma", "bcc"),
        ("Malignant:Malignant melanocytic proliferations (Melanoma):Melanoma Invasive", "mel"),
        ("Malignant:Malignant epidermal proliferations:Squamous cell carcinoma, NOS", "scc"),
    ],
)
def test_spellings_of_other_releases_keep_their_branch(path, expected):
    assert class_of(path) == expected
