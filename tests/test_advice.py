"""Commands that are printed as the next step are run in the state in which they were printed."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import zipfile
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bundles import adaptable_bundle, drawn_pixels
from drawn_runs import draw_predictions
from PIL import Image

import lesionlab
from lesionlab.advice import command
from lesionlab.cli.app import COMMANDS, command_of, declared, main
from lesionlab.cli.options import parse
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.synthetic.dataset import synthetic
from lesionlab.embeddings import Embeddings
from lesionlab.errors import LesionlabError
from lesionlab.evaluation.comparison.runs import list_runs
from lesionlab.run import Folds, Run
from lesionlab.taxonomy import HAM7
from lesionlab.training.run_folders import check_predicted

SOURCE = Path(lesionlab.__file__).parent
TINY = """\
images: {size: [32, 40]}
model: {name: lenet}
phases: [{epochs: 1, optim: {lr: 2.0e-3}}]
average: {kind: none}
batch: 16
"""

ELSEWHERE = {"environment.py demo": "test_slow.py"}
"""Places whose command another file of tests runs."""

RUN_BY: Counter[str] = Counter()
"""The places of the source whose commands a test below runs, as often as there are such."""


def runs(*places):
    """Mark a test with the places whose commands it runs, such as "cli/outcome.py split"."""
    RUN_BY.update(places)
    return lambda test: test


# --- None is forgotten


def _literals(tree):
    """Texts of a module that are no docstrings, the computed pieces of f-strings left out."""
    passed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(node.value)
        if isinstance(node, ast.JoinedStr):
            passed.update(node.values)
    for node in ast.walk(tree):
        if node in passed:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        if isinstance(node, ast.JoinedStr):
            yield "".join(getattr(each, "value", "?") if isinstance(each, ast.Constant) else "?"
                          for each in node.values)  # fmt: skip


def _printed(tree):
    """The verbs of all commands that a module makes by `advice.command`."""
    names = {
        each.asname or each.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "lesionlab.advice"
        for each in node.names
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        method = isinstance(node.func, ast.Attribute) and node.func.attr == "command"
        if (method or getattr(node.func, "id", "") in names) and isinstance(
            node.args[0], ast.Constant
        ):
            yield node.args[0].value


MODULES = {
    path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text("utf-8"))
    for path in sorted(SOURCE.rglob("*.py"))
}


def test_every_place_that_prints_a_command_is_tried_here():
    places = Counter(f"{name} {verb}" for name, tree in MODULES.items() for verb in _printed(tree))
    assert places == RUN_BY + Counter(dict.fromkeys(ELSEWHERE, 1))


def test_no_command_with_words_of_its_own_is_written_by_hand():
    """`advice.command` quotes, and what it makes is found by the test above."""
    verbs = {name.partition(" ")[0] for name in COMMANDS}
    faults = [
        (name, match[0])
        for name, tree in MODULES.items()
        if name not in ("cli/app.py", "cli/completion.py")
        for text in _literals(tree)
        for match in re.finditer(r"lesionlab (\w+)( [^\s`).,:]+)*", text)
        if match[1] in verbs
        and not re.fullmatch(r"lesionlab [\w ]+ [12]", match[0])  # the kind of a file
        and text[match.start() - 1 : match.start()] != "`"
    ]
    assert not faults


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_and_names_of_commands_are_such(name):
    for example in declared(name).examples:
        verb, rest = command_of(shlex.split(example.partition(" > ")[0]))
        assert verb == name
        parse(verb, declared(verb), rest)


def test_what_stands_in_backticks_is_a_command():
    for tree in MODULES.values():
        for text in _literals(tree):
            for match in re.finditer(r"`lesionlab (\w[^`]*)`", text):
                name, rest = command_of(match[1].split())
                options = {each.flag for each in declared(name).parameters().values()}
                assert {word for word in rest if word.startswith("--")} - {"--help"} <= options


# --- Helpers


def cli(*words):
    """What a command prints, and its exit code."""
    heard = StringIO()
    with redirect_stdout(heard), redirect_stderr(heard):
        code = main([str(each) for each in words])
    return heard.getvalue(), code


def advised(text, verb):
    """The first command of that verb in a text, as words behind "lesionlab"."""
    end = r"(?=, then lesionlab| If [a-z]|\.? [A-Z][a-z]|[.)]?$)"
    found = re.search(rf"lesionlab {verb}\b.*?{end}", text, re.MULTILINE)
    assert found, text
    return shlex.split(found[0])[1:]


def follow(text, verb, code=0, **filled):
    """Run the command of that verb that a text advises, its capital words filled in."""
    words = [str(filled.get(each, each)) for each in advised(text, verb)]
    assert not {each for each in words if re.fullmatch("[A-Z_]{3,}", each)}
    said, found = cli(*words)
    assert found == code, said
    return said


@pytest.fixture(autouse=True)
def _wide(tmp_path, monkeypatch):
    """A working folder, and a terminal in which no command is broken into lines."""
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path):
    """A folder with a blank in its name, and a table in words of its own."""
    home = tmp_path / "my photos"
    (home / "images").mkdir(parents=True)
    for n in range(12):
        pixels = np.random.default_rng(n).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(home / "images" / f"{n}.png")
    (home / "labels.csv").write_text(HEAD.replace("photo,kind", "image,diagnosis") + ROWS)
    return home


HEAD = "photo,kind,mole,person\n"
ROWS = "".join(f"{n},{('mel', 'nv', 'SCC')[n % 3]},{n // 2},{n // 4}\n" for n in range(12))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A catalogue, a split and a run, each made by the command that was printed before."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("my lab")
    patch.setenv("COLUMNS", "1000")
    patch.chdir(home)
    images = synthetic(home / "my images", lesions=60, size=(60, 80), seed=1)
    (home / "tiny.yaml").write_text(TINY)
    told = {"none": cli("split", images)[0]}
    told["catalogue"] = follow(told["none"], "catalogue")
    train = ("train", "tiny.yaml", "--data", images, "--out", home / "run 1")
    told["train without split"] = cli(*train)[0]
    told["split"] = follow(told["train without split"], "split")
    shares = ("--kind", "holdout", "--shares", 0.4, 0.4, 0.2)  # val as large as detectors want it
    assert cli("split", images, *shares)[1] == 0
    told["train"], code = cli(*train)
    assert code == 0, told["train"]
    patch.undo()
    return home, told


def own_split(images, table, path, part):
    """A split of one's own: the part of every lesion by its number."""
    lesions = sorted(set(table["lesion_id"]))
    rows = table[["image_id"]].assign(
        part=[part(lesions.index(each)) for each in table["lesion_id"]]
    )
    rows.to_csv(path, index=False)
    return path


# --- From images to a run


@runs("data/catalogue/catalogue.py catalogue", "cli/outcome.py split", "cli/commands/data.py audit")
def test_each_step_names_the_next(lab):
    home, told = lab
    assert "no catalogue.csv" in told["none"]
    assert len(Catalogue.open(home / "my images")) > 60
    assert "split.csv does not exist" in told["train without split"]
    assert "No lesion is in two parts" in told["split"] or "lesion" in told["split"]
    assert Run.open(home / "run 1").complete
    assert "No faults" in follow(told["catalogue"], "audit")


@runs("cli/commands/training.py report")
def test_a_training_names_its_report(lab, tmp_path):
    follow(lab[1]["train"], "report")
    assert "balanced accuracy" in (tmp_path / "report.html").read_text().lower()


@runs("reporting/page/wording.py train")
def test_a_report_says_how_to_train_the_same_again(lab, tmp_path, monkeypatch):
    home, _ = lab
    cli("report", home / "run 1", "--out", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text().replace("</", "\n</")
    monkeypatch.chdir(home / "run 1")
    follow(text, "train", DATA=home / "my images", NEW_FOLDER=tmp_path / "again")
    mine, again = (Run.open(each).info["identity"] for each in (home / "run 1", tmp_path / "again"))
    assert mine == again


@runs("run.py train", "evaluation/comparison/runs.py train")
def test_what_is_no_run_says_how_to_train_one(lab, tmp_path):
    home, _ = lab
    text, code = cli("evaluate", tmp_path)
    assert code == 2
    text, code = cli("export", tmp_path, "--out", "a.bundle")
    filled = {"RECIPE": home / "tiny.yaml", "DATA": home / "my images"}
    follow(text, "train", **filled, NEW_FOLDER=tmp_path / "run")
    assert Run.open(tmp_path / "run").complete
    (tmp_path / "my runs").mkdir()
    with pytest.raises(LesionlabError) as error:
        list_runs(tmp_path / "my runs")
    follow(str(error.value), "train", **filled)
    assert list(list_runs(tmp_path / "my runs")["run"]) == ["first"]


@runs("data/splits.py split", "data/splits.py split", "training/train.py split")
def test_a_split_that_does_not_fit_names_the_way_to_one_that_does(lab, tmp_path):
    home, _ = lab
    data = tmp_path / "some"
    assert cli("catalogue", home / "my images", "--limit", 40, "--out", data)[1] == 0
    table = Catalogue.open(data).table
    train = ("train", home / "tiny.yaml", "--data", data, "--out", tmp_path / "run", "--split")
    others = home / "my images" / "split.csv"
    leaks = tmp_path / "leaks.csv"
    table[["image_id"]].assign(part=["train", "val"] * (len(table) // 2) + ["test"] * (
        len(table) % 2)).to_csv(leaks, index=False)  # fmt: skip
    for split, what in ((others, "another catalogue"), (leaks, "cannot be used")):
        text, code = cli(*train, split)
        assert code == 2
        assert what in text
        (data / "split.csv").unlink(missing_ok=True)
        follow(text, "split")
        assert (data / "split.csv").is_file()
    split = own_split(data, table, tmp_path / "no val.csv", lambda n: ("train", "test")[n % 3 == 0])
    text, _ = cli(*train, split)
    assert "no val part" in text
    follow(text, "split", DATA=data)
    assert cli(*train[:-1])[1] == 0


@runs("training/cross_validation.py split", "training/cross_validation.py split")
def test_folds_want_a_split_of_several(lab, tmp_path):
    home, _ = lab
    data = home / "my images"
    train = ("train", "--folds", home / "tiny.yaml", "--data", data, "--out", "cv", "--only", "0")
    text, code = cli(*train)
    assert (code, "single fold" in text) == (2, True)
    words = advised(text, "split")
    assert cli(*[{"DATA": data}.get(each, each) for each in words], "--out", "five.csv")[1] == 0
    twice = pd.read_csv("five.csv").rename(columns={"group": "lesion_id"})
    twice = twice.drop(columns="lesion_id", errors="ignore").assign(fold_1=twice["fold_0"])
    twice.to_csv("twice.csv", index=False)
    text, code = cli(*train, "--split", "twice.csv")
    assert (code, "more than once" in text) == (2, True)
    assert advised(text, "split") == words
    assert cli(*train, "--split", "five.csv")[1] == 0


@pytest.mark.slow
@runs("run.py train --folds", "cli/commands/training.py report")
def test_what_is_no_run_of_folds_says_how_to_make_one(lab, tmp_path):
    home, _ = lab
    data = shutil.copytree(home / "my images", tmp_path / "data")
    assert cli("split", data, "--folds", 2)[1] == 0
    with pytest.raises(LesionlabError) as error:
        Folds.open(tmp_path)
    filled = {"RECIPE": home / "tiny.yaml", "DATA": data, "NEW_FOLDER": tmp_path / "my cv"}
    text = follow(str(error.value), "train --folds", **filled)
    follow(text, "report")
    assert (tmp_path / "report.html").is_file()


@pytest.mark.slow
@runs(
    "cli/commands/training.py train",
    "training/tuning/tune.py train",
    "training/run_folders.py train",
)
def test_a_search_says_how_to_score_its_best(lab, tmp_path, monkeypatch):
    home, _ = lab
    data, split = home / "my images", home / "folds.csv"
    assert cli("split", data, "--folds", 2, "--out", split)[1] == 0
    search = ("--data", data, "--split", split, "--fold", 1, "--out", "my search", "--trials", 2)
    text, code = cli("tune", home / "tiny.yaml", *search, "--try", "phases.0.optim.lr=1e-3,1e-2")
    assert code == 0, text
    follow(text, "train", NEW_FOLDER="best 1")
    out = tmp_path / "my search"
    comment = "\n".join(line[2:] for line in (out / "best.yaml").read_text().splitlines())
    monkeypatch.chdir(out)
    follow(comment, "train", DATA=data, NEW_FOLDER=tmp_path / "best 2")
    monkeypatch.chdir(tmp_path)
    best = [Run.open(name).info["identity"] for name in ("best 1", "best 2")]
    assert best[0] == best[1]
    assert best[0]["fold"] == 1
    trial = next(out.glob("trial_*"))
    with pytest.raises(LesionlabError) as error:
        check_predicted(Run.open(trial), {"test"})
    follow(str(error.value), "train", NEW_FOLDER="trial again")
    assert "test" in set(Run.open("trial again").predictions["part"])


# --- Answers


@runs("cli/commands/predict.py evaluate")
def test_predictions_of_a_run_are_scored(lab):
    home, _ = lab
    text, code = cli("predict", home / "run 1", "--out", "my answers.csv")
    assert code == 0, text
    assert "my answers.csv, part test" in follow(text, "evaluate")


@runs(
    "cli/commands/predict.py evaluate",
    "cli/commands/predict.py audit",
    "cli/commands/predict.py predict",
)
def test_predictions_of_a_bundle_are_scored_once_every_image_is_answered(
    bundle_file, ham_copy, tmp_path
):
    model = Path(shutil.copy(bundle_file, tmp_path / "my model.bundle"))
    text, code = cli("predict", "--model", model)
    assert (code, "Give images" in text) == (2, True)
    photo = next(ham_copy.rglob("*.jpg"))
    shutil.copy(photo, "photo.jpg")
    shutil.copytree(photo.parent, "more_photos")
    follow(text, "predict")
    data = tmp_path / "my data"
    assert cli("catalogue", ham_copy, "--out", data)[1] == 0
    photo.write_bytes(b"no image")
    text, code = cli("predict", "--model", model, "--data", data, "--out", "answers.csv")
    assert code == 0, text
    text = follow(text, "audit", code=1)
    follow(text, "catalogue")
    text, code = cli("predict", "--model", model, "--data", data, "--out", "again.csv")
    assert code == 0, text
    assert "again.csv, part test" in follow(text, "evaluate")


@runs("cli/commands/isic.py isic score", "cli/commands/isic.py evaluate")
def test_a_submission_is_scored_and_comes_back(tmp_path):
    draw_predictions(classes=HAM7).to_csv("p.csv", index=False)
    text, code = cli("isic", "submit", "p.csv", "--out", "my s.csv", "--truth", "my t.csv")
    assert code == 0, text
    assert "Ranked" in follow(text, "isic score")
    text, _ = cli("isic", "score", "my t.csv", "my s.csv", "--predictions", "my p.csv")
    assert "my p.csv, part test" in follow(text, "evaluate")


@runs("cli/commands/deployment.py predict")
def test_an_adapted_bundle_answers_about_a_photo(tmp_path):
    (tmp_path / "my clinic").mkdir()
    for place, pixels in enumerate(drawn_pixels(50, 2)):
        Image.fromarray(pixels).save(tmp_path / "my clinic" / f"{place}.png")
    bundle = adaptable_bundle(tmp_path)
    text, code = cli("adapt", bundle.path, "my clinic", "--out", "our mole.bundle")
    assert code == 0, text
    Image.fromarray(drawn_pixels(1, 3)[0]).save("photo.jpg")
    assert "Model: " in follow(text, "predict")


@pytest.mark.slow
@runs("cli/commands/deployment.py predict")
def test_a_bundle_answers_about_a_photo(lab, tmp_path):
    home, _ = lab
    text, code = cli("export", home / "run 1", "--out", "my mole.bundle")
    assert code == 0, text
    shutil.copy(next((home / "my images").rglob("*.jpg")), "photo.jpg")
    assert "Model: " in follow(text, "predict")


@runs("evaluation/comparison/baselines.py audit")
def test_a_damaged_image_is_found_by_the_audit(lab, tmp_path):
    home, _ = lab
    data = shutil.copytree(home / "my images", tmp_path / "data")
    opened = Catalogue.open(data)
    (opened.root / opened.table["path"][0]).write_bytes(b"no image")
    text, code = cli("compare", "--baselines", home / "run 1", "--data", data, "--out", "b")
    assert code == 2
    assert "unreadable" in follow(text, "audit", code=1)


# --- Features and outliers


@runs("embeddings.py embed", "embeddings.py embed", "evaluation/outliers/benchmark.py embed")
def test_features_are_made_of_what_has_them(lab, tmp_path):
    home, _ = lab
    with pytest.raises(LesionlabError) as error:
        Embeddings.open(tmp_path)
    filled = {"RUN": home / "run 1", "DATA": home / "my images"}
    follow(str(error.value), "embed", **filled, NEW_FOLDER="my features")
    assert len(Embeddings.open("my features").logits)
    import timm
    import torch

    torch.save(timm.create_model("test_resnet").state_dict(), "weights.pth")
    weights = ("--pretrained", "weights.pth", "--data", home / "my images", "--out", "bare")
    text, code = cli("embed", "test_resnet", *weights)
    assert code == 0, text
    with pytest.raises(LesionlabError) as error:
        _ = Embeddings.open("bare").logits
    follow(str(error.value), "embed", **filled)
    assert len(Embeddings.open("bare").logits)
    photos = next((home / "my images").rglob("*.jpg")).parent
    assert cli("embed", home / "run 1", photos, "--out", "of photos")[1] == 0
    text, code = cli("outliers", "fit", "of photos", "--out", "detectors")
    assert (code, "no images of part" in text) == (2, True)
    follow(text, "embed", **filled, NEW_FOLDER="of the catalogue")
    assert cli("outliers", "fit", "of the catalogue", "--out", "detectors")[1] == 0


@runs("cli/commands/triage.py outliers fit", "cli/commands/triage.py outliers score")
def test_detectors_are_fitted_and_asked(lab, tmp_path):
    home, _ = lab
    photos = next((home / "my images").rglob("*.jpg")).parent
    Path("my detectors").mkdir()
    text, code = cli("outliers", "score", "my detectors", photos)
    assert code == 2
    text = follow(text, "outliers fit", RUN=home / "run 1")
    shutil.copytree(photos, "photos")
    follow(text, "outliers score")


@pytest.mark.slow
@runs("retrieval/case_index.py index", "retrieval/case_index.py index",
      "retrieval/case_index.py index", "cli/commands/retrieval.py similar")  # fmt: skip
def test_an_index_of_cases_is_made_and_asked(lab, bundle_file):
    data = lab[0] / "my images"
    shutil.copy(next(data.rglob("*.jpg")), "photo.jpg")
    with zipfile.ZipFile("my old.index", "w") as archive:
        archive.writestr("cases.json", '{"kind": "lesionlab cases 0"}')
    for name in ("my old.index", "my new.index"):
        text, code = cli("similar", "photo.jpg", "--index", name)
        assert code == 2
        text = follow(text, "index", DATA=data)
        follow(text, "similar")
    text, code = cli("similar", "photo.jpg", "--index", "my new.index", "--model", bundle_file)
    assert (code, "was made with" in text) == (2, True)
    text = follow(text, "index", DATA=data)
    follow(text, "similar")


# --- Pages


@runs("reporting/card/author_answers.py card", "reporting/card/author_answers.py card")
def test_answers_of_a_card_are_asked_for_and_read(lab, tmp_path):
    run = lab[0] / "run 1"
    text, code = cli("card", run, "--answers", "my answers.yaml", "--out", "a.html")
    assert code == 2
    follow(text, "card", RUN=run)
    first = Path("my answers.yaml").read_text().splitlines()[0]
    follow(first, "card", RUN=run)
    assert Path("card.html").is_file()


@runs("reporting/explore/explore.py split")
def test_a_leak_is_mended_by_a_split(lab, tmp_path):
    home, _ = lab
    data = shutil.copytree(home / "my images", tmp_path / "data")
    table = Catalogue.open(data).table[["image_id"]]
    table.assign(part=[("train", "val", "test")[n % 3] for n in range(len(table))]).to_csv(
        "leaky.csv", index=False)  # fmt: skip
    explore = ("explore", data, "--out", "page.html", "--split")
    assert cli(*explore, "leaky.csv")[1] == 0
    follow(Path("page.html").read_text().replace("</", "\n</"), "split", DATA=data)
    assert cli(*explore, data / "split.csv")[1] == 0
    assert "LEAK" not in Path("page.html").read_text()


@pytest.mark.slow
@runs(
    "reporting/report/report.py explain --check",
    "reporting/report/explanation_trust.py explain --check",
)
def test_a_report_says_how_to_check_maps(lab, tmp_path):
    home, _ = lab
    run = shutil.copytree(home / "run 1", tmp_path / "run")
    opened = Catalogue.open(home / "my images")
    masks = tmp_path / "my masks"
    masks.mkdir()
    for name in opened.table["image_id"]:
        mask = np.zeros((60, 80), np.uint8)
        mask[20:40, 25:55] = 255
        Image.fromarray(mask).save(masks / f"{name}_segmentation.png")
    report = ("report", run, "--data", home / "my images", "--out", "page.html")
    assert cli(*report)[1] == 0
    page = Path("page.html").read_text().replace("</", "\n</")
    words = [{"RUN": run, "FOLDER": masks}.get(each, each) for each in advised(page, "explain")]
    assert cli(*words)[1] in (0, 1)  # 1: maps do not change with the weights
    next((run / "trust").glob("curves.*")).unlink()
    text, code = cli(*report)
    assert code == 2
    words = [{"RUN": run, "FOLDER": masks}.get(each, each) for each in advised(text, "explain")]
    assert cli(*words)[1] in (0, 1)
    assert cli(*report)[1] == 0


@runs("cli/render.py models", "cli/render.py models", "environment.py predict")
def test_lists_say_how_to_see_more(lab):
    text, _ = cli("models")
    assert "resnet18" in follow(text, "models NAME", NAME="resnet18")
    assert "test_resnet" in follow(text, "models --filter", TEXT="test_")
    shutil.copy(next((lab[0] / "my images").rglob("*.jpg")), "photo.jpg")
    text, _ = cli("doctor")
    follow(text, "predict")


# --- Servers


@runs("web/audit_log.py serve", "web/server_settings.py serve", "demo.py serve")
def test_a_server_is_started_as_advised(bundle_file, tmp_path, monkeypatch):
    from lesionlab import demo
    from lesionlab.web import server

    started = []
    monkeypatch.setattr(server.Server, "listen", lambda self: started.append(self._listener))
    text, code = cli("serve", "log", "my trail.sqlite")
    assert code == 2
    follow(text, "serve")
    shutil.copy(bundle_file, "mole.bundle")
    text, code = cli("serve", "--hosts", "derm.example,mole.bundle")
    assert code == 2
    follow(text, "serve")
    follow(demo.PAGE, "serve")
    assert len(started) == 3
    for listener in started:
        listener.close()


# --- Reading what people have


def test_a_command_is_quoted_and_leaves_out_what_is_not_given():
    line = command("catalogue", "my data", columns={"a": "b c"}, table=None, near=True, ignore=[])
    assert line == "lesionlab catalogue 'my data' --columns 'a=b c' --near"
    assert shlex.split(line)[2] == "my data"


@runs("data/catalogue/layouts.py catalogue", "data/catalogue/layouts.py catalogue")
def test_a_table_in_other_words_is_read_by_the_command_that_is_printed(folder):
    text, code = cli("catalogue", folder)
    assert code == 2
    assert "no image_id and no target" in text
    words = advised(text, "catalogue")
    text, code = cli("catalogue", folder, "--table", folder / "labels.csv")
    assert code == 2
    follow(text, "catalogue")
    (folder / "catalogue.csv").unlink()
    (folder / "catalogue.json").unlink()
    text, code = cli(*words)
    assert code == 0, text
    assert len(Catalogue.open(folder)) == 12


@runs(
    "data/catalogue/catalogue.py audit",
    "data/catalogue/catalogue.py catalogue",
    "cli/commands/data.py catalogue",
    "cli/commands/data.py split",
)
def test_faults_are_left_out_by_the_commands_that_are_printed(folder):
    (folder / "images/0.png").unlink()
    columns = ("--columns", "image_id=image", "target=diagnosis", "lesion_id=image")
    text, code = cli("catalogue", folder, *columns)
    assert code == 2
    first, second = advised(text, "audit"), advised(text, "catalogue")
    assert cli(*first, "--no-near")[1] == 1
    text, code = cli(*second)
    assert code == 0, text
    data = Catalogue.open(folder)
    assert data.table["target"].value_counts().to_dict() == {"nv": 4, "SCC": 4, "mel": 3}
    text, code = cli(*advised(text, "audit"), "--no-near")
    assert code == 0
    assert advised(text, "split") == ["split", str(folder)]
    (folder / "images/1.png").unlink()
    text, code = cli("audit", folder, "--no-near")
    assert code == 1
    text = follow(text, "catalogue")
    data = Catalogue.open(folder)  # read with the columns of the first time
    assert data.table["target"].value_counts().to_dict() == {"SCC": 4, "mel": 3, "nv": 3}


@runs("data/catalogue/catalogue.py catalogue")
def test_a_folder_is_read_as_before_by_the_command_that_is_printed(folder):
    columns = ("--columns", "image_id=image", "target=diagnosis", "lesion_id=image")
    assert cli("catalogue", folder, *columns, "--relabel", "SCC=scc")[1] == 0
    before = (folder / "catalogue.csv").read_bytes()
    text, code = cli("catalogue", folder, "--out", folder)
    assert code == 0, text
    text = text[text.index("Read as before") :]
    assert (folder / "catalogue.csv").read_bytes() == before
    (folder / "catalogue.csv").unlink()
    (folder / "catalogue.json").unlink()
    follow(text, "catalogue")
    assert (folder / "catalogue.csv").read_bytes() == before


def test_where_nothing_would_be_left_nothing_is_advised(folder):
    for path in (folder / "images").iterdir():
        path.rename(path.with_name(f"photo {path.name}"))
    text, code = cli("catalogue", folder, "--columns", "image_id=image", "target=diagnosis")
    assert code == 2
    assert "None of the table's images" in text
    assert "--exclude" not in text


@runs("data/catalogue/class_folders.py catalogue")
def test_a_folder_above_the_class_folders_names_those_to_give(folder, tmp_path):
    shutil.rmtree(folder / "images")
    places = ("Original/fold 1/Train/pox", "Original/fold 1/Test/rash",
              "Augmented/fold 1/Train/pox", "Augmented/fold 1/Train/rash")  # fmt: skip
    for n, place in enumerate(places):
        home = tmp_path / "set" / place
        home.mkdir(parents=True)
        pixels = np.random.default_rng(n).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(home / f"{n}.png")
    text, code = cli("catalogue", "set")
    assert code == 2
    assert "Original/fold 1' (2 images)" in text
    words = shlex.split(text[text.rindex("lesionlab") :].partition(" (")[0])[1:]
    text, code = cli(*words)
    assert code == 0, text
    data = Catalogue.open("set/Original/fold 1")
    assert dict(zip(data.table["target"], data.table["part"], strict=True)) == {
        "pox": "train",
        "rash": "test",
    }


@runs("data/catalogue/catalogue.py catalogue")
def test_lesion_ids_that_repeat_among_patients_are_offered_together(folder):
    rows = "".join(f"{n},nv,{n % 2},{n // 4}\n" for n in range(12))
    head = HEAD.replace("photo,kind,mole,person", "image_id,target,lesion_id,patient_id")
    (folder / "labels.csv").write_text(head + rows)
    text, code = cli("catalogue", folder)
    assert code == 2
    assert "lesion 0 has 3 patients" in text
    follow(text, "catalogue")
    assert Catalogue.open(folder).lesions == 6


@runs("cli/commands/data.py split")
def test_the_way_from_classes_to_split_is_whole(folder, tmp_path):
    columns = ("--columns", "image_id=image", "target=diagnosis")
    two = ("--relabel", "SCC=scc", "--classes", "malignant-benign", "--out", tmp_path / "two 2")
    text, code = cli("catalogue", folder, *columns, *two)
    assert code == 0, text
    words = advised(text, "split")
    assert "--like" not in words  # there is no split of the seven classes
    assert cli(*words, "--folds", "2")[1] == 0
    assert cli("catalogue", folder, *columns, "--relabel", "SCC=scc")[1] == 0
    assert cli("split", folder, "--folds", "2")[1] == 0
    text, code = cli("catalogue", folder, "--classes", "malignant-benign", "--out", "two 3")
    assert code == 0, text
    assert "--like" in advised(text, "split")
    follow(text, "split")


@runs("cli/commands/data.py catalogue")
def test_an_audit_without_faults_names_the_catalogue(folder):
    columns = ("--columns", "image_id=image", "target=diagnosis")
    text, code = cli("audit", folder, *columns, "--no-near")
    assert code == 0, text
    follow(text, "catalogue")
    assert len(Catalogue.open(folder)) == 12


@runs("cli/commands/data.py catalogue")
def test_pairs_that_were_judged_are_merged_as_printed(folder, tmp_path):
    shutil.copy(folder / "images/0.png", "copy.png")
    pixels = np.asarray(Image.open("copy.png").resize((240, 200), Image.Resampling.BICUBIC))
    Image.fromarray(pixels).save(folder / "images/0.png")
    Image.fromarray(pixels[:, ::-1]).save(folder / "images/6.png")
    columns = ("--columns", "image_id=image", "target=diagnosis")
    text, _ = cli("audit", folder, *columns, "--near")
    pairs = pd.read_csv("pairs.csv", dtype=str).assign(verdict="same")
    pairs.to_csv("pairs.csv", index=False)
    text = follow(text[text.index("write same or different") :], "catalogue")
    data = Catalogue.open(folder)
    assert data.table.set_index("image_id")["lesion_id"][["0", "6"]].nunique() == 1


@runs("cli/commands/data.py audit")
def test_joined_catalogues_are_audited(folder, lab):
    columns = ("--columns", "image_id=image", "target=diagnosis", "--relabel", "SCC=scc")
    assert cli("catalogue", folder, *columns)[1] == 0
    text, code = cli("join", folder, lab[0] / "my images", "--classes", "union", "--out", "my both")
    assert code == 0, text
    follow(text, "audit")


@runs(
    "cli/commands/data.py catalogue",
    "data/catalogue/layouts.py fetch",
    "data/collections/fetch.py catalogue",
)
def test_the_way_from_a_download_to_a_catalogue(ham, tmp_path, monkeypatch):
    from lesionlab.data.collections import fetch

    empty = tmp_path / "my empty folder"
    empty.mkdir()
    text, code = cli("catalogue", empty)
    assert code == 2
    with monkeypatch.context() as patch:
        patch.setattr(fetch, "fetch", lambda **given: shutil.copytree(ham, given["to"]))
        text = follow(text, "fetch")
    follow(text, "catalogue")
    assert len(Catalogue.open("data/ham10000"))
    text, code = cli("fetch", "ph2", "--to", "my ph2")
    assert code == 2
    shutil.copytree(ham, "my ph2")
    follow(text, "catalogue")


@runs("demo.py audit")
def test_a_demo_of_faulty_images_names_the_audit(ham_copy):
    photo = next(ham_copy.rglob("*.jpg"))
    with Image.open(photo) as image:
        image.save("whole.png")
    content = bytearray(Path("whole.png").read_bytes())
    content[len(content) // 2] ^= 255
    photo.unlink()
    photo.with_suffix(".png").write_bytes(content)
    text, code = cli("demo", "--data", ham_copy, "--out", "my demo")
    assert code == 2
    follow(text, "audit", code=1)
