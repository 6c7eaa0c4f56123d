"""Known collections as data: what to fetch, how to check it, whom to thank, under which licence.

Checksums are those that the publishers print. Where a publisher prints none, `md5` is None: a
checksum taken from somebody's copy proves only that the copies agree.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from lesionlab.data.collections.other_sources import OTHERS
from lesionlab.data.collections.source import CC_BY_NC, RemoteFile, Source
from lesionlab.errors import SettingsError


def find(name: str) -> Source:
    """The known collection called `name`.

    Raises:
        SettingsError: if there is none; the message lists the known ones.
    """
    if name in SOURCES:
        return SOURCES[name]
    raise SettingsError(unknown("collection", name, SOURCES))


def unknown(kind: str, name: str, known: Mapping[str, object]) -> str:
    """Say that `name` is not one of `known`, and which one may have been meant."""
    by_lower_case = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    hint = f" Did you mean {by_lower_case[close[0]]!r}?" if close else ""
    return f"There is no {kind} called {name!r}.{hint} Known: {', '.join(known)}."


_HAM_CITATION = (
    "Tschandl P., Rosendahl C., Kittler H. The HAM10000 dataset, a large collection of "
    "multi-source dermatoscopic images of common pigmented skin lesions. Sci. Data 5, 180161 "
    "(2018). https://doi.org/10.1038/sdata.2018.161"
)
_HAM_ATTRIBUTION = (
    "HAM10000: ViDIR Group, Department of Dermatology, Medical University of Vienna, "
    "and Cliff Rosendahl, Faculty of Medicine, University of Queensland"
)


def _dataverse(
    number: int, name: str, md5: str | None = None, about_bytes: int | None = None, *,
    unpack: bool = False, optional: bool = False, original: bool = False,
) -> RemoteFile:  # fmt: skip
    """A file of Harvard Dataverse; `original` asks for the CSV as deposited, not the .tab."""
    url = f"https://dataverse.harvard.edu/api/access/datafile/{number}"
    url += "?format=original" if original else ""
    return RemoteFile(name, url, md5, about_bytes, unpack, optional, number)


HAM10000 = Source(
    key="ham10000",
    title="HAM10000: 10,015 dermatoscopic images of pigmented lesions, seven diagnoses",
    homepage="https://doi.org/10.7910/DVN/DBW86T",
    licence=CC_BY_NC,
    attribution=_HAM_ATTRIBUTION,
    citation=_HAM_CITATION
    + "\nThe segmentation masks: Tschandl P. et al. Human-computer collaboration for skin cancer "
    "recognition. Nat. Med. 26, 1229-1234 (2020). https://doi.org/10.1038/s41591-020-0942-0",
    files=(
        _dataverse(
            4338392, "HAM10000_metadata.csv", original=True  # 8 columns: the 7 of v1 and `dataset`
        ),
        _dataverse(
            3838943, "HAM10000_segmentations_lesion_tschandl.zip",
            "6e8d252e09cfdb0189199f15985a5b84", 10_800_000, unpack=True,
        ),
        _dataverse(
            3172585, "HAM10000_images_part_1.zip",
            "4639bfa73ab251610530a97c898e6e46", 1_300_000_000, unpack=True,
        ),
        _dataverse(
            3172584, "HAM10000_images_part_2.zip",
            "da43d6cc50f6613013be07e8986b384b", 1_300_000_000, unpack=True,
        ),
        # The test set of ISIC 2018 task 3, which lies in the same Dataverse.
        _dataverse(
            3855824, "ISIC2018_Task3_Test_Images.zip", None, 400_000_000, unpack=True, optional=True
        ),
        _dataverse(
            6924466, "ISIC2018_Task3_Test_GroundTruth.csv", optional=True, original=True
        ),
    ),
    layout="ham10000",
    labelled="more than half by histopathology; others by follow-up, consensus or confocal "
    "microscopy",
    checksums=(
        "https://dataverse.harvard.edu/api/datasets/:persistentId/"
        "?persistentId=doi:10.7910/DVN/DBW86T"
    ),
    notes=(
        "Images of one lesion share a lesion_id: split by it. The metadata are version 2 (datafile "
        "4338392), which adds the column `dataset`; version 1, with seven columns, is datafile "
        "3172582 (UNF:6:iQT15Cb+3EzwZ95U5r0hnQ==). The test set of ISIC 2018 is optional here."
    ),
)  # fmt: skip


def _isic(name: str, about_bytes: int | None = None, *, optional: bool = False) -> RemoteFile:
    return RemoteFile(
        name=name,
        url=f"https://isic-challenge-data.s3.amazonaws.com/2018/{name}",
        about_bytes=about_bytes,
        unpack=name.endswith(".zip"),
        optional=optional,
    )


ISIC2018 = Source(
    key="isic2018",
    title="ISIC 2018 challenge, task 3: HAM10000 for training, and the official test set",
    homepage="https://challenge.isic-archive.com/data/#2018",
    licence=CC_BY_NC,
    attribution=_HAM_ATTRIBUTION + "; International Skin Imaging Collaboration",
    citation=_HAM_CITATION
    + "\nCodella N. et al. Skin lesion analysis toward melanoma detection 2018: a challenge hosted "
    "by the International Skin Imaging Collaboration (ISIC). https://arxiv.org/abs/1902.03368",
    files=(
        _isic("ISIC2018_Task3_Training_LesionGroupings.csv"),
        _isic("ISIC2018_Task3_Training_GroundTruth.zip"),
        _isic("ISIC2018_Task3_Test_GroundTruth.zip"),
        _isic("ISIC2018_Task3_Test_Input.zip", 400_000_000),
        _isic("ISIC2018_Task3_Training_Input.zip", 2_800_000_000),
        _isic("ISIC2018_Task3_Validation_GroundTruth.zip", optional=True),
        _isic("ISIC2018_Task3_Validation_Input.zip", optional=True),
    ),
    layout="isic2018",
    notes=(
        "The publisher prints no checksums. The validation set (193 images) is optional: no lesion "
        "groupings were published for it, so nobody can tell whether it shares lesions with the "
        "training set."
    ),
)


def _medmnist(size: int, name: str, md5: str) -> Source:
    return Source(
        key=f"dermamnist-{size}",
        title=f"DermaMNIST, {size} x {size} pixels: HAM10000 as arrays with an official split",
        homepage="https://doi.org/10.5281/zenodo.10519652",
        licence=CC_BY_NC,
        attribution=_HAM_ATTRIBUTION + "; resized and split by MedMNIST",
        citation=_HAM_CITATION
        + "\nYang J. et al. MedMNIST v2 - a large-scale lightweight benchmark for 2D and 3D "
        "biomedical image classification. Sci. Data 10, 41 (2023). "
        "https://doi.org/10.1038/s41597-022-01721-8",
        files=(
            RemoteFile(
                name=name,
                url=f"https://zenodo.org/records/10519652/files/{name}?download=1",
                md5=md5,
                about_bytes=10_015 * size * size * 3,  # uncompressed: at most this
            ),
        ),
        layout="medmnist",
        notes=(
            "The official split leaks: 693 of the 2,005 test images show a lesion that is in the "
            "training part as well. dermamnist-c and dermamnist-e mend this."
        ),
    )


def _corrected(letter: str, word: str, images: int, size: int, md5: str, notes: str) -> Source:
    name = f"dermamnist_{word}_{size}.npz"
    return Source(
        key=f"dermamnist-{letter.lower()}-{size}",
        title=f"DermaMNIST-{letter}, {size} x {size} pixels: DermaMNIST {word}",
        homepage="https://doi.org/10.5281/zenodo.11101337",
        licence=CC_BY_NC,
        attribution=_HAM_ATTRIBUTION + "; resized and split by K. Abhishek, A. Jain, G. Hamarneh",
        citation=_HAM_CITATION
        + "\nAbhishek K., Jain A., Hamarneh G. Investigating the quality of DermaMNIST and "
        "Fitzpatrick17k dermatological image datasets. https://arxiv.org/abs/2401.14497",
        files=(
            RemoteFile(
                name=name,
                # The DOI 11101337 stands for all versions; these checksums are of version 1.1.
                url=f"https://zenodo.org/records/12739457/files/{name}?download=1",
                md5=md5,
                about_bytes=images * size * size * 3,
            ),
        ),
        layout="medmnist",
        notes=notes,
    )


_C_NOTES = (
    "No lesion lies in two parts. The test part (1,227 images) holds mostly lesions with a single "
    "image and few melanomas, so a score on it must not be compared with one on DermaMNIST."
)
_E_NOTES = (
    "Trained on HAM10000, tested on the 1,511 test images of ISIC 2018: the hardest and most "
    "honest of the three. Scores must not be compared with those on DermaMNIST or DermaMNIST-C."
)
_ALL = (
    HAM10000,
    ISIC2018,
    _medmnist(28, "dermamnist.npz", "0744692d530f8e62ec473284d019b0c7"),
    _medmnist(64, "dermamnist_64.npz", "b70a2f5635c6199aeaa28c31d7202e1f"),
    _medmnist(128, "dermamnist_128.npz", "2defd784463fa5243564e855ed717de1"),
    _medmnist(224, "dermamnist_224.npz", "8974907d8e169bef5f5b96bc506ae45d"),
    _corrected("C", "corrected", 10_015, 28, "96e2862980877d45d9cacb5c25de6950", _C_NOTES),
    _corrected("C", "corrected", 10_015, 224, "84920fb70c83b234c295b6f0d4ae2bc0", _C_NOTES),
    _corrected("E", "extended", 11_719, 28, "ecacbf37d9cc79340226bd19bd4c7463", _E_NOTES),
    _corrected("E", "extended", 11_719, 224, "b59d6a78a036a0bb48a1eff13d94333c", _E_NOTES),
    *OTHERS,
)

SOURCES: Mapping[str, Source] = MappingProxyType({source.key: source for source in _ALL})
"""Every collection that `fetch` downloads, or says where to ask for, by its key."""
