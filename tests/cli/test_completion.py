"""Tab completion, in real shells where they are installed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from lesionlab.cli.app import COMMANDS
from lesionlab.cli.completion import script

CASES = [
    ("ev", {"evaluate"}),
    ("audit la", {"labels"}),
    ("audit --ne", {"--near"}),
    ("audit labels --pa", {"--part", "--page"}),
    ("train --fo", {"--fold", "--folds"}),
    ("train --folds --on", {"--only"}),
    ("train --device ", {"auto", "cpu", "cuda"}),
    ("explain --check runs --substitute ", {"blur", "mean"}),
    ("completion ", {"bash", "zsh", "fish"}),
    ("outliers s", {"score"}),
    ("evaluate so", {"some.csv", "some folder"}),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "some.csv").touch()
    (tmp_path / "some folder").mkdir()
    return tmp_path


def needs(shell: str):
    return pytest.mark.skipif(not shutil.which(shell), reason=f"{shell} is not installed")


def run(shell: str, code: str, folder) -> str:
    (folder / ".script").write_text(script(shell))
    done = subprocess.run([shell, "-c", code], cwd=folder, capture_output=True, text=True)
    assert not done.stderr
    return done.stdout


@needs("bash")
def test_bash_completes(folder):
    typed = [line + '""' * line.endswith(" ") for line, _ in CASES]
    calls = "\n".join(
        f"COMP_WORDS=(lesionlab {line}); "
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=(); _lesionlab; "
        'printf "%s|" "${COMPREPLY[@]}"; echo'
        for line in typed
    )
    lines = run("bash", f"source .script\n{calls}", folder).splitlines()
    for (line, expected), found in zip(CASES, lines, strict=True):
        assert set(found.rstrip("|").split("|")) >= expected, line
        assert len(set(found.rstrip("|").split("|")) - expected) <= 2, (line, found)


@needs("bash")
def test_bash_knows_every_command(folder):
    call = 'COMP_WORDS=(lesionlab ""); COMP_CWORD=1; _lesionlab; printf "%s\\n" "${COMPREPLY[@]}"'
    words = run("bash", f"source .script\n{call}", folder).split()
    assert {name.partition(" ")[0] for name in COMMANDS} | {"--help", "--version"} == set(words)


@needs("fish")
def test_fish_completes(folder):
    for line, expected in CASES:
        code = f"source .script; complete -C 'lesionlab {line}'"
        lines = run("fish", code, folder).splitlines()
        found = {each.partition("\t")[0].rstrip("/") for each in lines}
        assert found >= expected, (line, found)


@needs("zsh")
def test_zsh_takes_the_script(folder):
    code = "autoload -Uz compinit; compinit -u -D; source .script; echo $_comps[lesionlab]"
    assert run("zsh", code, folder).strip() == "_lesionlab"
