"""The rules of the house: what may import what, and how fast the face answers."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from blocking import TORCH, blocking

import lesionlab

SOURCE = Path(lesionlab.__file__).parent
TORCH_ROOMS = ("augmentation", "models", "training", "prediction", "explanation", "deployment")
TORCH_FREE = {
    f"lesionlab.prediction.{name}"
    for name in (
        "adapt",
        "answer",
        "bundle",
        "predict",
        "predictor",
        "run_inputs",
        "running_drift",
        "test_time_views",
    )
}
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
    """Modules that a file imports; `at_top` leaves out those inside functions and conditions."""
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
    assert "lesionlab[train]" in done.stderr
    assert not any(tmp_path.iterdir())


def test_data_imports_no_room_but_the_settings():
    for name, path in MODULES.items():
        if room(name) == "data":
            wrong = {
                each
                for each in imports(path, at_top=False)
                if each.startswith("lesionlab.") and room(each) not in ("", "data", "recipe")
            }
            assert not wrong, f"{name} imports {wrong}"


def test_evaluation_never_imports_training_or_torch():
    for name, path in MODULES.items():
        if room(name) == "evaluation":
            found = imports(path, at_top=False)
            assert not any(each.startswith("lesionlab.training") for each in found), name
            assert not any(each.split(".")[0] == "torch" for each in found), name


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A way through the graph that comes back to where it began; [] if there is none."""
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name not in done:
            for other in sorted(graph[name]):
                if way := walk(other, (*trail, name)):
                    return way
            done.add(name)
        return []

    for name in sorted(graph):
        if way := walk(name, ()):
            return way
    return []


def imported_files(name: str) -> set[str]:
    """Modules that a module imports, wherever the import stands; the public names are none."""
    return {
        each
        for each in imports(MODULES[name], at_top=False)
        if each in MODULES and each not in (name, "lesionlab") and not is_package(each)
    }


def is_package(name: str) -> bool:
    return MODULES[name].name == "__init__.py"


def test_no_circle_between_files():
    graph = {name: imported_files(name) for name in MODULES if name != "lesionlab"}
    assert circle(graph) == []


def test_no_circle_between_folders():
    """Files at the top of the house stand for themselves: every room may use them."""

    def place(name: str) -> str:
        folder = MODULES[name].parent
        return name if folder == SOURCE else ".".join(folder.relative_to(SOURCE).parts)

    graph: dict[str, set[str]] = {}
    for name in MODULES:
        if name != "lesionlab":
            others = {place(each) for each in imported_files(name)} - {place(name)}
            graph[place(name)] = graph.get(place(name), set()) | others
    assert circle(graph) == []


def test_no_folder_holds_more_than_sixteen_modules():
    for folder in {path.parent for path in MODULES.values()}:
        modules = [
            path
            for path in folder.glob("*.py")
            if not (path.name.startswith("_") or path.with_suffix(".pyi").is_file())  # names alone
        ]
        assert len(modules) <= 16, folder


WHOLE_ROOMS = {  # what no single module answers for: a contract, a page, a file of references
    "cli/test_predict.py",
    "data/catalogue/test_properties.py",
    "data/test_cases.py",
    "data/test_regrouping.py",
    "evaluation/test_collapse.py",
    "evaluation/test_references.py",
    "evaluation/test_robustness.py",
    "models/test_counts.py",
    "prediction/test_one_preprocessing.py",
    "recipe/test_presets.py",
    "training/test_depths.py",
    "training/test_worst_of.py",
    "web/test_contract.py",
    "web/test_deploy.py",
    "web/test_page.py",
    "web/test_strange_files.py",
}


def test_tests_mirror_the_house():
    """tests/ROOM/test_NAME.py tests src/lesionlab/ROOM/NAME.py, but for tests of whole rooms."""
    tests = Path(__file__).parent
    found = {path.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")}
    rooms = {name for name in found if "/" in name}
    astray = {
        name
        for name in rooms - WHOLE_ROOMS
        if not (SOURCE / Path(name).with_name(Path(name).name.removeprefix("test_"))).is_file()
    }
    assert not astray
    assert rooms >= WHOLE_ROOMS


def test_nothing_but_the_command_line_prints():
    for name, path in MODULES.items():
        if name not in ("lesionlab.cli.app", "lesionlab.cli.screen"):
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


def test_the_public_names_load_on_first_use_and_fast():
    code = """
import sys, time
before = time.process_time()
import lesionlab
print(time.process_time() - before)
heavy = {'numpy', 'pandas', 'matplotlib', 'torch'} & set(sys.modules)
assert not heavy, heavy
assert {'evaluate', 'Run', 'isic', 'results'} <= set(dir(lesionlab))
assert not {'numpy', 'torch'} & set(sys.modules)
"""
    done = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        for _ in range(3)
    ]
    assert not any(each.returncode for each in done), done[0].stderr
    assert min(float(each.stdout) for each in done) < 0.1


@pytest.mark.parametrize("room", [lesionlab, lesionlab.results])
def test_every_public_name_is_there_with_help(room):
    for name in room.__all__:  # here, where torch is loaded for other tests anyway
        assert getattr(room, name).__doc__ or name == "__version__", name
    assert len(lesionlab.__all__) <= 53


def test_methods_are_public_functions_with_their_help_and_signature(drawn):
    data, _ = drawn
    assert inspect.getdoc(data.split) == inspect.getdoc(lesionlab.split)
    assert "kind" in inspect.signature(data.split).parameters
    assert "data" not in inspect.signature(data.split).parameters
    code = "import lesionlab, sys\nhelp(lesionlab.Run)\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lesionlab.explain" in done.stdout
