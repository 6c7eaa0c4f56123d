import errno
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from lesionlab.errors import DataError
from lesionlab.files import (
    discard,
    fingerprint,
    hash_file,
    locked,
    new_folder,
    read_json,
    replacing,
    write_csv,
    write_json,
    write_text,
)


def names(folder):
    return [each.name for each in folder.iterdir()]


def test_replacing_writes_the_new_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")
    write_text(path, "neu\nzwei")
    assert path.read_bytes() == b"neu\nzwei"
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("failure", [ValueError("bad"), KeyboardInterrupt()])
def test_the_old_file_survives_what_goes_wrong_in_the_middle(tmp_path, failure):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half():
        with replacing(path) as part:
            part.write_text("half")
            raise failure

    with pytest.raises(type(failure)):
        write_half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DataError, match=r"disk is full: .*file\.txt.*Free some space"):
        write_text(tmp_path / "file.txt", "text")
    assert names(tmp_path) == []


def test_a_folder_that_is_a_file_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="could not be written"):
        write_text(tmp_path / "file" / "table.csv", "text")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_without_permission_is_told(tmp_path, monkeypatch):
    def forbidden(**kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", forbidden)
    with pytest.raises(DataError, match=r"may not be written.*--out"):
        write_json(tmp_path / "file.json", {})


def test_json_comes_back(tmp_path):
    value = {"b": [1, 2.5, None], "a": "Läsion"}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


def test_json_that_is_none_is_refused(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DataError, match=r"x\.json is not the JSON"):
        read_json(tmp_path / "x.json")
    with pytest.raises(DataError, match="does not exist"):
        read_json(tmp_path / "y.json")


def test_csv_keeps_every_digit(tmp_path):
    table = pd.DataFrame({"p": [0.1 + 0.2, 1 / 3, 1e-300], "text": ["a,b", 'say "x"', ""]})
    write_csv(tmp_path / "t.csv", table)
    back = pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False)
    assert list(back["p"].map(float)) == list(table["p"])
    assert list(back["text"]) == list(table["text"])


def test_fingerprint_sees_values_and_not_the_order_of_keys():
    value = {"a": 1, "b": [1, 2]}
    assert fingerprint(value) == fingerprint(json.loads('{"b": [1, 2], "a": 1}'))
    assert fingerprint(value) != fingerprint({"a": 1, "b": [2, 1]})
    assert len(fingerprint(value)) == 16


def test_hash_of_a_file_is_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_file(tmp_path / "x") == expected


def test_a_folder_is_discarded_even_after_a_removal_that_was_killed(tmp_path, monkeypatch):
    for name in ("run", ".run.old"):
        (tmp_path / name / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    discard(Path("run"))
    assert not list(tmp_path.iterdir())
    discard(Path("run"))


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def killed():
        with new_folder(tmp_path / "run") as part:
            write_text(part / "half", "")
            raise KeyError

    with pytest.raises(KeyError):
        killed()
    assert not (tmp_path / "run").exists()
    with new_folder(tmp_path / "run") as part:
        write_text(part / "whole", "")
    assert [each.name for each in (tmp_path / "run").iterdir()] == ["whole"]


def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for refused in (lambda: discard(Path()), lambda: new_folder(Path()).__enter__()):
        with pytest.raises(DataError, match="current folder"):
            refused()


def test_a_lock_keeps_others_out_until_its_end(tmp_path):
    inside, waited = [], []

    def work(number):
        with locked(tmp_path / "lock", lambda: waited.append(number)):
            inside.append(number)
            assert len(inside) == 1
            time.sleep(0.02)
            inside.remove(number)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert waited
    assert not list(tmp_path.iterdir())
