"""The rules of the house: what may import what, and how fast the face answers."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from blocking import TORCH, blocking

import lesionlab

SOURCE = Path(lesionlab.__file__).parent
TORCH_ROOMS = ("augmentation", "models", "training", "prediction", "explanation", "deployment")
TORCH_FREE = {f"lesionlab.prediction.{name}" for name in ("bundle", "predictor", "inputs", "views")}
"""What of those rooms answers from a bundle."""
MODULES = {
    ".".join(("lesionlab", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(SOURCE.rglob("*.py"))
}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, *, at_top: bool) -> set[str]:
    """Modules that a file imports; `at_top` leaves out those inside functions."""
    nodes = parsed(path).body if at_top else ast.walk(parsed(path))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{each.name}" for each in node.names}
    return found


def room(name: str) -> str:
    """The room of a module or of a name in one; "" for the files that every room may use."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and (SOURCE / parts[1]).is_dir() else ""


BLOCK = blocking(*TORCH)


def test_the_base_install_works_with_torch_blocked(tmp_path):
    base = [
        name for name in MODULES if room(name) not in TORCH_ROOMS and not name.endswith("__main__")
    ]
    base = [name for name in base if name.removeprefix("lesionlab.") not in TORCH_ROOMS]
    base += sorted(TORCH_FREE)
    code = BLOCK + "import importlib\n" + "\n".join(f"importlib.import_module({n!r})" for n in base)
    code += f"""
import lesionlab as ll
folder = ll.synthetic({str(tmp_path / "drawn")!r}, lesions=21, size=(48, 64))
data = ll.catalogue(folder, out={str(tmp_path / "catalogue")!r})
ll.audit(data)
ll.split(data, kind="holdout", shares=(0.4, 0.3, 0.3)).save({str(tmp_path / "split.csv")!r})
from lesionlab.cli.app import main
assert main(["cache", {str(tmp_path / "catalogue")!r}, "--size", "24", "32"]) == 0
assert main(["train", "x.yaml", "--data", "y", "--out", "z"]) == 2
assert main(["doctor"]) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "not exist" in done.stderr  # the missing recipe, before anything of torch is touched


def test_a_verb_that_needs_torch_says_how_to_get_it(tmp_path):
    code = BLOCK + "from lesionlab.cli.app import main\nraise SystemExit(main(['demo']))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert ".[train]" in done.stderr
    assert not any(tmp_path.iterdir())


def test_data_imports_no_other_room():
    for name, path in MODULES.items():
        if room(name) == "data":
            wrong = {
                each
                for each in imports(path, at_top=False)
                if each.startswith("lesionlab.") and room(each) not in ("", "data")
            }
            assert not wrong, f"{name} imports {wrong}"


def test_evaluation_never_imports_training_or_torch():
    for name, path in MODULES.items():
        if room(name) == "evaluation":
            found = imports(path, at_top=False)
            assert not any(each.startswith("lesionlab.training") for each in found), name
            assert not any(each.split(".")[0] == "torch" for each in found), name


def test_no_circle_between_files():
    graph = {
        name: {each for each in imports(path, at_top=True) if each in MODULES and each != name}
        for name, path in MODULES.items()
    }
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for each in graph[name]:
                walk(each, (*trail, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_nothing_but_the_command_line_prints():
    for name, path in MODULES.items():
        if name not in ("lesionlab.cli.app",):
            calls = [
                node.func.id
                for node in ast.walk(parsed(path))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            ]
            assert "print" not in calls, name


@pytest.mark.parametrize("words", [["--help"], [], ["--version"]])
def test_the_face_imports_nothing_heavy(words):
    code = (
        "import sys\nfrom lesionlab.cli.app import main\n"
        f"main({words!r})\n"
        "heavy = {'numpy', 'pandas', 'rich', 'yaml', 'torch', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there_and_none_is_loaded_early():
    code = "import sys, lesionlab\nassert 'numpy' not in sys.modules, 'loaded early'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(lesionlab.__all__) <= set(dir(lesionlab))
    for name in lesionlab.__all__:  # here, where torch is loaded for other tests anyway
        assert getattr(lesionlab, name)
