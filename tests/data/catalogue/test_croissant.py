"""The Croissant description of a catalogue: valid, and its records are the table's."""

import json

import pytest

from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.catalogue.croissant import CROISSANT, write_croissant
from lesionlab.errors import DataError


def test_a_catalogue_is_described_beside_its_table(ham_copy, capsys):
    assert main(["catalogue", str(ham_copy), "--croissant"]) == 0
    assert str(ham_copy / CROISSANT) in "".join(capsys.readouterr().out.split("\n"))
    described = json.loads((ham_copy / CROISSANT).read_text("utf-8"))
    data = Catalogue.open(ham_copy)
    columns = [each["source"]["extract"]["column"] for each in described["recordSet"][0]["field"]]
    assert columns == list(data.table.columns)
    with pytest.raises(DataError, match="only in memory"):
        write_croissant(data.regrouped({name: name for name in data.classes}))


def test_its_own_validator_finds_no_fault_and_reads_the_rows(ham_copy):
    mlcroissant = pytest.importorskip("mlcroissant")
    assert main(["catalogue", str(ham_copy), "--croissant"]) == 0
    dataset = mlcroissant.Dataset(jsonld=ham_copy / CROISSANT)
    assert not dataset.metadata.ctx.issues.errors
    data = Catalogue.open(ham_copy)
    first = next(iter(dataset.records("images")))
    assert first["images/image_id"].decode() == data.table["image_id"][0]
    assert first["images/target"].decode() == data.table["target"][0]
