"""Which words of the command line belong to which option."""

from __future__ import annotations

import re
from argparse import SUPPRESS, ArgumentParser
from pathlib import Path

import pytest

from lesionlab.cli.app import declared, main
from lesionlab.cli.options import Several, one_word_each, parse, recipe_flags
from lesionlab.errors import SettingsError
from lesionlab.recipe.schema import Recipe


def parsed(words: str, positional: str | None = "?") -> dict:
    parser = ArgumentParser(argument_default=SUPPRESS)
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


@pytest.mark.parametrize("command", ["serve --port 9000", "predict --age 55"])
def test_an_argument_that_is_left_out_is_not_given(command):
    name, *words = command.split()
    assert list(parse(name, declared(name), words)) == [words[0].removeprefix("--")]


@pytest.mark.parametrize("typed", ["56 75", "56,75", "56x75", "[56,75]"])
def test_two_numbers_are_taken_as_people_type_them(typed):
    assert parsed(f"--size {typed} here") == {"size": [56, 75], "where": "here"}


@pytest.mark.parametrize("typed", ["56 75", "56,75", "56x75", "[56,75]", "=56x75", "=[56,75]"])
@pytest.mark.parametrize("words", ["--images.size {} r.yaml", "r.yaml --images.size {} --loud"])
def test_a_list_of_a_recipe_is_taken_as_people_type_it(typed, words):
    line = words.format(typed).replace("size =", "size=")
    changes, rest = recipe_flags(line.split())
    assert Recipe().but(changes).images.size == (56, 75)
    assert rest[0] == "r.yaml"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("images.size", "56", "images.size: expects 2 numbers, such as [56, 75]"),
        ("images.size", "56x75x3", "images.size: expects 2 numbers"),
        ("images.size", "56xa", "images.size.1: expects a whole number, got 'a'"),
        ("images.size", "8,75", "images.size.0: 8 is out of range"),
        ("batch", "16 32", "batch: expects a whole number, got [16, 32]"),
    ],
)
def test_the_fault_of_a_list_is_named_where_it_is(key, value, expected):
    changes, _ = recipe_flags([f"--{key}", *value.split()])
    with pytest.raises(SettingsError, match=re.escape(expected)):
        Recipe().but(changes)


def test_words_of_a_recipe_are_joined_by_commas():
    changes, _ = recipe_flags(["--model.fusion.kind", "gating", "--model.fusion.fields", "age,sex"])
    assert Recipe().but(changes).model.fusion.fields == ("age", "sex")
