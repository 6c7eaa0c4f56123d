"""The verbs as a user types them, on drawn lesions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from lesionlab.cli.app import COMMANDS, RENAMED, TOPICS, main

TINY = """\
images: {size: [32, 40]}
model: {name: test_efficientnet}
phases: [{epochs: 2, optim: {lr: 2.0e-3}}]
average: {decay: 0.9}
batch: 16
"""


@pytest.fixture
def workshop(ham, tmp_path, monkeypatch):
    """A working folder with a catalogue, a split and a recipe."""
    monkeypatch.chdir(tmp_path)
    assert main(["catalogue", str(ham), "--out", "data"]) == 0
    assert main(["split", "data", "--kind", "holdout", "--shares", "0.6", "0.2", "0.2"]) == 0
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def said(capsys):
    """What came on standard output and standard error, with line breaks of the terminal undone."""
    captured = capsys.readouterr()
    return " ".join(captured.out.split()), " ".join(captured.err.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name, capsys):
    assert main([*name.split(), "--help"]) == 0
    out, _ = said(capsys)
    assert f"Example: lesionlab {name.partition(' ')[0]}" in out
    assert "Not a medical device" in out
    assert "<class '" not in out
    assert "None" not in out


def test_the_overview_has_every_command_by_topic_and_the_first_run(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for topic in TOPICS:
        assert f"\n{topic} " in out
    for name, entry in COMMANDS.items():
        assert bool(re.search(rf"\b{name.partition(' ')[0]}\b", out)) == bool(entry.topic)
    assert "first run:  lesionlab demo" in out
    assert len(out.splitlines()) <= 24
    assert main(["--help", "all"]) == 0
    out = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(entry.text)}$", out, re.MULTILINE)


@pytest.mark.parametrize("old", RENAMED)
def test_an_earlier_spelling_ends_in_the_new_one(old, capsys):
    assert RENAMED[old] in COMMANDS
    assert main([old, "runs/first"]) == 2
    assert said(capsys)[1] == f"lesionlab: `lesionlab {old}` is now `lesionlab {RENAMED[old]}`."


@pytest.mark.parametrize(("word", "names"), [("isic", ["submit", "score"]), ("outliers", ["fit"])])
def test_a_word_that_needs_another_one_lists_them(word, names, capsys):
    assert main([word, "runs/first"]) == 2
    err = said(capsys)[1]
    for name in names:
        assert f"lesionlab {word} {name}" in err


def test_the_readme_names_every_command():
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    section = readme.split("## Commands")[1].split("```")[1]
    listed = [name for line in section.splitlines()[1:] for name in re.split(" {2,}", line)[1:]]
    assert sorted(listed) == sorted(name for name, entry in COMMANDS.items() if entry.topic)


def test_the_help_of_train_lists_every_setting(capsys):
    main(["train", "--help"])
    out, _ = said(capsys)
    for key in ("--images.size", "--phases.0.optim.lr", "--loss.tau", "--average.decay", "--seed"):
        assert key in out


def test_a_mistyped_command_names_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "'train'" in said(capsys)[1]


def test_the_whole_chain(workshop, capsys):
    train = ["train", "tiny.yaml", "--data", "data", "--out", "run", "--seed", "1"]
    assert main(train) == 0
    out, err = said(capsys)
    assert "balanced accuracy (mean recall)" in out
    assert "Kept epoch" in out
    for epoch in (1, 2):
        assert err.count(f"epoch {epoch}/2: train loss ") == 1
    assert main(train) == 0
    assert "is complete" in said(capsys)[1]
    assert main([*train, "--batch", "8"]) == 2
    assert "batch: 16 -> 8" in said(capsys)[1]
    assert main(["evaluate", "run", "--out", "figures.json", "--replicates", "50"]) == 0
    figures = json.loads((workshop / "figures.json").read_text())
    assert "balanced_accuracy" in json.dumps(figures)
    assert main(["report", "run", "--out", "report.html"]) == 0
    assert "Not a medical device" in (workshop / "report.html").read_text()
    image = next((workshop / "data").parent.rglob("*.csv"))
    assert image
    table = pd.read_csv(workshop / "data" / "catalogue.csv")
    root = json.loads((workshop / "data" / "catalogue.json").read_text())["root"]
    files = [str(workshop / "data" / root / path) for path in table["path"][:3]]
    assert main(["predict", "run", *files, "--out", "answers.csv"]) == 0
    assert len(pd.read_csv(workshop / "answers.csv")) == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--modle.name", "x"], "did you mean 'model'"),
        (["--model.nam", "x"], "did you mean 'name'"),
        (["--batch", "many"], "expects a whole number"),
        (["--phases.0.optim.lr", "-1"], "out of range"),
        (["--loss.kind", "focus"], "not one of cross_entropy"),
        (["--loss.tau", "1"], "belongs to kind logit_adjusted"),
        (["--model.name", "resnet19"], "did you mean 'resnet18'"),
        (["--data", "nowhere"], "nowhere does not exist"),
        (["--split", "nowhere.csv"], "lesionlab split"),
    ],
)
def test_what_train_refuses_leaves_nothing(workshop, capsys, words, expected):
    base = ["train", "tiny.yaml", "--out", "run", "--data", "data"]
    assert main([*base, *words]) == 2
    assert expected in said(capsys)[1]
    assert not (workshop / "run").exists()


def test_all_faults_of_a_recipe_come_at_once(workshop, capsys):
    (workshop / "bad.yaml").write_text("modle: {}\nbatch: -3\nloss: {kind: focus}\n")
    assert main(["train", "bad.yaml", "--data", "data", "--out", "run", "--seed", "x"]) == 2
    err = said(capsys)[1]
    for words in ("4 faults", "modle", "batch", "loss.kind", "seed"):
        assert words in err


def test_audit_lists_all_and_exclude_mends(ham_copy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = sorted(ham_copy.rglob("*.jpg"))
    images[0].write_bytes(b"")
    images[1].write_bytes(images[1].read_bytes()[:900])
    images[2].unlink()
    assert main(["catalogue", str(ham_copy), "--out", "data"]) == 2
    _, err = said(capsys)
    for kind in ("empty_file", "truncated", "missing_image", "--exclude"):
        assert kind in err
    assert not (tmp_path / "data").exists()
    assert main(["audit", str(ham_copy), "--out", "findings.csv"]) == 1
    out, _ = said(capsys)
    for kind in ("empty_file", "truncated", "missing_image"):
        assert kind in out
    assert main(["catalogue", str(ham_copy), "--out", "data", "--exclude", "findings.csv"]) == 0
    total = len(pd.read_csv(ham_copy / "HAM10000_metadata.csv"))
    assert len(pd.read_csv(tmp_path / "data" / "catalogue.csv")) == total - 3


def test_a_full_disk_is_one_message(workshop, capsys, monkeypatch):
    import errno
    import os

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert main(["cache", "data", "--size", "40", "50"]) == 2
    assert "disk is full" in said(capsys)[1]
    assert not list((workshop / "data").rglob("images.npy"))


def test_ctrl_c_is_one_message(workshop, capsys, monkeypatch):
    from lesionlab.data.audit import audit

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "audit", stop)
    assert main(["audit", "data"]) == 130
    assert "Stopped" in said(capsys)[1]


def test_the_bar_of_a_task_that_starts_over_runs_again(monkeypatch):
    from lesionlab.cli.screen import Screen
    from lesionlab.progress import Step

    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, to rich
    with Screen() as screen:
        for done in (1, 2, 1):
            screen(Step("training", done, 2, "epochs"))
        (task,) = screen._bars().tasks
        assert (task.completed, task.total, task.finished) == (1, 2, False)
        screen(Step("training", 2, 2, "epochs"))
        assert task.finished_time >= 0
