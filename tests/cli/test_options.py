"""Which words of the command line belong to which option."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import pytest

from lesionlab.cli.app import main
from lesionlab.cli.options import Several, one_word_each


def parsed(words: str, positional: str | None = "?") -> dict:
    parser = ArgumentParser()
    if positional is not None:
        parser.add_argument("where", nargs=positional or None)
    parser.add_argument("--names", nargs="+", action=Several)
    parser.add_argument("--files", nargs="+", type=Path, action=Several)
    parser.add_argument("--size", nargs=2, type=int)
    parser.add_argument("--loud", action="store_true")
    return vars(parser.parse_intermixed_args(one_word_each(parser, words.split())))


@pytest.mark.parametrize("positional", ["?", "", "*", "+"])
@pytest.mark.parametrize(
    "words",
    [
        "--names a b",
        "--names=a b",
        "--loud --names a b",
        "--size 3 4 --names a b",
        "b --names a",
        "--names a --loud b",
        "b --loud --names a",
    ],
)
def test_a_list_option_never_takes_the_word_that_is_an_argument(words, positional):
    options = parsed(words, positional)
    where = options["where"]
    assert (where if isinstance(where, list) else [where]) == ["b"]
    assert options["names"] == ["a"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("here --names a b", ["a", "b"]),
        ("--names a,b here", ["a", "b"]),
        ("--names a --names b here", ["a", "b"]),
        ("here --names a b --loud --names c", ["a", "b", "c"]),
        ("here --names mel=a,b nv=c", ["mel=a,b", "nv=c"]),
    ],
)
def test_a_list_is_taken_as_people_type_it(words, names):
    options = parsed(words)
    assert (options["names"], options["where"]) == (names, "here")


def test_a_comma_may_stand_in_a_path():
    assert parsed("here --files a,b.csv c.csv")["files"] == [Path("a,b.csv"), Path("c.csv")]


def test_a_list_of_a_command_without_arguments_takes_every_word():
    assert parsed("--names a b", None)["names"] == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--hosts", "derm.example", "mole.bundle"], "mole.bundle does not exist"),
        (["--hosts", "derm.example", "other.example"], "other.example does not exist"),
        (["--hosts=mole.bundle"], "'mole.bundle' is not a name like derm.example"),
        (["--hosts", "models/mole"], "'models/mole' is not a name like derm.example"),
        (["mole.bundle"], "mole.bundle does not exist"),
    ],
)
def test_serve_serves_what_was_named_or_fails(words, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "lesionlab.web.server.Server.listen", lambda _: pytest.fail("it serves something else")
    )
    assert main(["serve", "--port", "0", *words]) == 2
    assert expected in " ".join(capsys.readouterr().err.split())
