"""The audit trail."""

import hashlib
import json
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from servers import ask, picture, refused, serving

from lesionlab.cli.app import main
from lesionlab.errors import DataError
from lesionlab.prediction.bundle import Bundle
from lesionlab.web.audit_log import COLUMNS, Trail, short_hash, trail_table

KEY = "first-key-of-the-clinic"


def answered(client, *contents):
    return ask(client, *contents, headers={"X-API-Key": KEY}).json()["results"]


def test_who_when_what_by_which_and_the_answer(bundle_file, tmp_path):
    path, content = tmp_path / "new" / "audit.sqlite", picture(4)
    begun = datetime.now(UTC)
    with serving(bundle_file, audit=path, api_keys=(KEY,)) as client:
        results = answered(client, content, b"nothing")
        refused(ask(client, content), 401, "no_key")  # no answer, no row
    table = trail_table(path)
    assert list(table.columns) == list(COLUMNS)
    assert list(table["sha256"]) == [
        hashlib.sha256(each).hexdigest() for each in (content, b"nothing")
    ]
    assert set(table["key"]) == {short_hash(KEY)}
    assert set(table["model"]) == {Bundle.open(bundle_file).fingerprint}
    assert list(table["predicted"]) == [results[0]["predicted"], ""]
    assert list(table["reason"]) == [results[0]["reason"], "unreadable"]
    assert list(table["error"]) == ["", "unreadable"]
    kept = json.loads(table["answer"][0])
    sent = {each["label"]: each["probability"] for each in results[0]["classes"]}
    assert kept == {"probabilities": sent, "set": results[0]["set"]}
    for told in pd.to_datetime(table["time"]):
        assert abs(told - begun) < timedelta(minutes=1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_holds_no_image_no_name_and_no_key(bundle_file, tmp_path):
    path, content = tmp_path / "audit.sqlite", picture(4)
    with serving(bundle_file, audit=path, api_keys=(KEY,)) as client:
        client.post(
            "/v1/predict",
            files=[("images", ("mueller.jpg", content))],
            headers={"X-API-Key": KEY},
        )
        written = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    written += path.read_bytes()
    assert hashlib.sha256(content).hexdigest().encode() in written
    for secret in (KEY.encode(), b"mueller", content[200:260]):
        assert secret not in written


def test_nothing_is_kept_unless_it_is_asked_for(bundle_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with serving(bundle_file) as client:
        ask(client, picture())
    assert not list(tmp_path.iterdir())


def test_many_at_once_lose_no_row(bundle_file, tmp_path):
    path = tmp_path / "audit.sqlite"
    with serving(bundle_file, audit=path) as client, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: ask(client, picture(seed)), range(24)))
    assert trail_table(path)["sha256"].nunique() == 24


def test_old_rows_are_forgotten(bundle_file, tmp_path):
    path = tmp_path / "audit.sqlite"
    with serving(bundle_file, audit=path) as client:
        ask(client, picture(1))
        ask(client, picture(2))
    old = hashlib.sha256(picture(1)).hexdigest()
    with closing(sqlite3.connect(path)) as base, base:
        then = (datetime.now(UTC) - timedelta(days=31)).isoformat(timespec="milliseconds")
        base.execute("UPDATE answers SET time = ? WHERE sha256 = ?", (then, old))
    Trail(path, retention=32).close()
    assert len(trail_table(path)) == 2
    assert len(trail_table(path, datetime.now(UTC) - timedelta(days=30))) == 1
    Trail(path, retention=30).close()
    assert list(trail_table(path)["sha256"]) == [hashlib.sha256(picture(2)).hexdigest()]
    assert old.encode() not in b"".join(each.read_bytes() for each in tmp_path.iterdir())


def test_old_rows_are_forgotten_while_it_runs(bundle_file, tmp_path, monkeypatch):
    path = tmp_path / "audit.sqlite"
    with serving(bundle_file, audit=path) as client:
        ask(client, picture(1))
        with closing(sqlite3.connect(path)) as base, base:
            base.execute("UPDATE answers SET time = '2020-01-01'")
        monkeypatch.setattr("lesionlab.web.audit_log._SWEEP", -1)
        ask(client, picture(2))
        assert len(trail_table(path)) == 1


def test_without_a_record_there_is_no_answer(bundle_file, tmp_path):
    path = tmp_path / "audit.sqlite"
    with serving(bundle_file, audit=path) as client:
        with closing(sqlite3.connect(path)) as base, base:
            base.execute("DROP TABLE answers")
        answer = ask(client, picture())
        refused(answer, 503, "no_trail")
        assert client.service.gate.images == 0


def test_what_is_no_trail(tmp_path):
    (tmp_path / "text").write_text("no database at all, but long enough to look like one" * 50)
    with pytest.raises(DataError, match="cannot be used"):
        Trail(tmp_path / "text", 1)
    with pytest.raises(DataError, match="cannot be used"):
        trail_table(tmp_path / "text")
    with pytest.raises(DataError, match="serve --audit"):
        trail_table(tmp_path / "missing")


def test_it_becomes_a_table(bundle_file, tmp_path, capsys):
    path, out = tmp_path / "audit.sqlite", tmp_path / "audit.csv"
    with serving(bundle_file, audit=path) as client:
        ask(client, picture(1), picture(2), b"nothing")
        assert main(["serve", "log", str(path), "--out", str(out)]) == 0  # while it runs
    assert list(pd.read_csv(out, keep_default_na=False)["error"]) == ["", "", "unreadable"]
    assert "3 answers" in capsys.readouterr().out
