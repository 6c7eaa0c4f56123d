"""Known collections: what is written down is well formed, and is what the publishers say."""

from __future__ import annotations

import dataclasses
import re
import runpy
from pathlib import Path

import pytest

from lesionlab.data.catalogue.layouts import LAYOUTS
from lesionlab.data.collections import registry
from lesionlab.data.collections.fetch import fetch
from lesionlab.data.collections.registry import SOURCES
from lesionlab.errors import SettingsError

FILES = [(source.key, file) for source in SOURCES.values() for file in source.files]

PUBLISHED = {  # the MD5s that the publishers print
    "HAM10000_images_part_1.zip": "4639bfa73ab251610530a97c898e6e46",
    "HAM10000_images_part_2.zip": "da43d6cc50f6613013be07e8986b384b",
    "HAM10000_segmentations_lesion_tschandl.zip": "6e8d252e09cfdb0189199f15985a5b84",
    "dermamnist.npz": "0744692d530f8e62ec473284d019b0c7",
    "dermamnist_64.npz": "b70a2f5635c6199aeaa28c31d7202e1f",
    "dermamnist_128.npz": "2defd784463fa5243564e855ed717de1",
    "dermamnist_224.npz": "8974907d8e169bef5f5b96bc506ae45d",
    "dermamnist_corrected_28.npz": "96e2862980877d45d9cacb5c25de6950",
    "dermamnist_corrected_224.npz": "84920fb70c83b234c295b6f0d4ae2bc0",
    "dermamnist_extended_28.npz": "ecacbf37d9cc79340226bd19bd4c7463",
    "dermamnist_extended_224.npz": "b59d6a78a036a0bb48a1eff13d94333c",
}


def test_checksums_are_those_published_and_no_others():
    assert {file.name: file.md5 for _, file in FILES if file.md5} == PUBLISHED


@pytest.mark.parametrize(("key", "file"), FILES, ids=lambda value: getattr(value, "name", value))
def test_every_file_is_well_formed(key, file):
    assert re.fullmatch(r"[\w.-]+", file.name)
    assert file.url.startswith("https://")
    assert file.md5 is None or re.fullmatch(r"[0-9a-f]{32}", file.md5)
    assert file.unpack == file.name.endswith(".zip")
    assert file.about_bytes is None or file.about_bytes > 0
    if "dataverse" in file.url:
        assert f"/datafile/{file.dataverse_id}" in file.url


def test_dataverse_numbers():
    numbers = {file.name: file.dataverse_id for file in SOURCES["ham10000"].files}
    assert numbers["HAM10000_images_part_1.zip"] == 3172585
    assert numbers["HAM10000_images_part_2.zip"] == 3172584
    assert numbers["HAM10000_segmentations_lesion_tschandl.zip"] == 3838943
    assert numbers["HAM10000_metadata.csv"] == 4338392
    assert "3172582" in SOURCES["ham10000"].notes  # version 1 of the metadata


def test_tables_of_dataverse_are_asked_for_as_deposited():
    for file in SOURCES["ham10000"].files:
        assert file.url.endswith("?format=original") == file.name.endswith(".csv")


def test_every_collection_says_whom_to_thank():
    for key, source in SOURCES.items():
        assert source.key == key
        assert source.attribution
        assert "https://" in source.citation
        assert source.homepage.startswith("https://")
        assert source.licence.url.startswith("https://")
        assert source.layout in LAYOUTS
        assert any(not file.optional for file in source.files) != bool(source.ask)
        if source.layout in ("ham10000", "isic2018", "medmnist"):
            assert "HAM10000" in source.attribution
            assert "10.1038/sdata.2018.161" in source.citation
            assert source.licence.key == "CC-BY-NC-4.0"


def test_what_is_not_downloaded_says_where_to_ask(tmp_path):
    with pytest.raises(SettingsError, match=r"register with Stanford.*lesionlab catalogue"):
        fetch("ddi", tmp_path / "ddi")
    assert not (tmp_path / "ddi").exists()


def test_the_page_of_data_sets_is_what_the_registry_says():
    root = Path(__file__).parents[3]
    made = runpy.run_path(str(root / "tools" / "data_sets.py"))["page"]()
    assert (root / "docs" / "data-sets.md").read_text("utf-8") == made


def test_file_names_are_unique_so_that_collections_may_share_a_folder():
    names = [file.name for _, file in FILES]
    twice = {name for name in names if names.count(name) > 1}
    assert twice == set()


def test_nothing_can_be_changed():
    with pytest.raises(TypeError):
        SOURCES["mine"] = SOURCES["ham10000"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        SOURCES["ham10000"].files[0].md5 = "0" * 32


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("ham1000", "ham10000"), ("HAM10000", "ham10000"), ("dermamnist-c", "dermamnist-c-28")],
)
def test_unknown_names_are_answered_with_the_known(typed, meant):
    with pytest.raises(SettingsError, match=f"Did you mean '{meant}'") as caught:
        registry.find(typed)
    assert all(key in str(caught.value) for key in SOURCES)


def test_nonsense_gets_no_guess():
    with pytest.raises(SettingsError) as caught:
        registry.find("zzzzzz")
    assert "Did you mean" not in str(caught.value)
