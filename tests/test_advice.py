"""Commands that are printed as the next step are run in the state in which they were printed."""

import re
import shlex

import numpy as np
import pytest
from PIL import Image

from lesionlab.advice import command
from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue

HEAD = "photo,kind,mole,person\n"
ROWS = "".join(f"{n},{('mel', 'nv', 'SCC')[n % 3]},{n // 2},{n // 4}\n" for n in range(12))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a blank in its name, and a table in words of its own."""
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "my photos"
    (home / "images").mkdir(parents=True)
    for n in range(12):
        pixels = np.random.default_rng(n).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(home / "images" / f"{n}.png")
    (home / "labels.csv").write_text(HEAD.replace("photo,kind", "image,diagnosis") + ROWS)
    return home


def said(capsys, *words):
    """What a command prints, as one line, and its exit code."""
    code = main([str(each) for each in words])
    printed = capsys.readouterr()
    return " ".join((printed.out + printed.err).split()), code


def advised(text, verb, end=r"(?=, then| If |\.? [A-Z]|\.?$)"):
    """The first command of that verb in a text, as words behind "lesionlab"."""
    found = re.search(rf"lesionlab {verb} .*?{end}", text)
    assert found, text
    return shlex.split(found[0])[1:]


def test_a_command_is_quoted_and_leaves_out_what_is_not_given():
    line = command("catalogue", "my data", columns={"a": "b c"}, table=None, near=True, ignore=[])
    assert line == "lesionlab catalogue 'my data' --columns 'a=b c' --near"
    assert shlex.split(line)[2] == "my data"


def test_a_table_in_other_words_is_read_by_the_command_that_is_printed(folder, capsys):
    text, code = said(capsys, "catalogue", folder)
    assert code == 2
    assert "no image_id and no target" in text
    text, code = said(capsys, *advised(text, "catalogue", end=r"(?= Known layouts)"))
    assert code == 0, text
    assert len(Catalogue.open(folder)) == 12


def test_faults_are_left_out_by_the_commands_that_are_printed(folder, capsys):
    (folder / "images/0.png").unlink()
    columns = ("--columns", "image_id=image", "target=diagnosis", "lesion_id=image")
    text, code = said(capsys, "catalogue", folder, *columns)
    assert code == 2
    first, second = advised(text, "audit"), advised(text, "catalogue")
    assert said(capsys, *first, "--no-near")[1] == 1
    text, code = said(capsys, *second)
    assert code == 0, text
    data = Catalogue.open(folder)
    assert data.table["target"].value_counts().to_dict() == {"nv": 4, "SCC": 4, "mel": 3}
    assert said(capsys, *advised(text, "audit"), "--no-near")[1] == 0
    (folder / "images/1.png").unlink()
    text, code = said(capsys, "audit", folder, "--no-near")
    assert code == 1
    text, code = said(capsys, *advised(text, "catalogue"))
    assert code == 0, text
    data = Catalogue.open(folder)  # read with the columns of the first time
    assert data.table["target"].value_counts().to_dict() == {"SCC": 4, "mel": 3, "nv": 3}


def test_where_nothing_would_be_left_nothing_is_advised(folder, capsys):
    for path in (folder / "images").iterdir():
        path.rename(path.with_name(f"photo {path.name}"))
    columns = ("--columns", "image_id=image", "target=diagnosis")
    text, code = said(capsys, "catalogue", folder, *columns)
    assert code == 2
    assert "None of the table's images" in text
    assert "--exclude" not in text


def test_lesion_ids_that_repeat_among_patients_are_offered_together(folder, capsys):
    rows = "".join(f"{n},nv,{n % 2},{n // 4}\n" for n in range(12))
    head = HEAD.replace("photo,kind,mole,person", "image_id,target,lesion_id,patient_id")
    (folder / "labels.csv").write_text(head + rows)
    text, code = said(capsys, "catalogue", folder)
    assert code == 2
    assert "lesion 0 has 3 patients" in text
    text, code = said(capsys, *advised(text, "catalogue", end=r"(?= Mend| Every)"))
    assert code == 0, text
    assert Catalogue.open(folder).lesions == 6


def test_the_way_from_classes_to_split_is_whole(folder, capsys, tmp_path):
    columns = ("--columns", "image_id=image", "target=diagnosis")
    two = ("--relabel", "SCC=scc", "--classes", "malignant-benign", "--out", tmp_path / "two 2")
    text, code = said(capsys, "catalogue", folder, *columns, *two)
    assert code == 0, text
    words = advised(text, "split")
    assert "--like" not in words  # there is no split of the seven classes
    assert said(capsys, *words, "--folds", "2")[1] == 0
