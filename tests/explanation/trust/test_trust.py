"""`trust`, from a run's folder to a page and a section of a report."""

from __future__ import annotations

import copy
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import lesionlab as ll
from lesionlab.cli.app import main
from lesionlab.data.synthetic.dataset import MASKS
from lesionlab.errors import DataError, RunError, SettingsError
from lesionlab.explanation.explain import explain
from lesionlab.explanation.grad_cam import spread
from lesionlab.explanation.lesion_masks import Masks, framed
from lesionlab.explanation.trust import image_metrics
from lesionlab.progress import Notice
from lesionlab.recipe.schema import Images
from lesionlab.reporting.report.explanation_trust import section
from lesionlab.run import Run

FILES = {"trust.html", "trust.csv", "summary.csv", "curves.csv", "randomised.csv", "trust.json"}


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    """All of part test, and the folder."""
    folder = tmp_path_factory.mktemp("out")
    return ll.trust(run, count=None, steps=4, replicates=40, out=folder), folder


def test_answers_are_those_of_the_run(run, made):
    table = made[0].table.set_index("image_id")
    rows = run.predictions.query("part == 'test'").set_index("image_id").loc[table.index]
    probabilities = rows[[f"p_{label}" for label in run.classes]]
    np.testing.assert_allclose(table["probability"], probabilities.max(axis=1), atol=1e-5)
    assert (table["predicted"] == probabilities.idxmax(axis=1).str[2:]).all()
    assert (table["right"] == (table["predicted"] == rows["target"])).all()
    assert len(table) == len(run.predictions.query("part == 'test'"))
    assert (table["weight"] == 1).all()
    assert made[0]["right_whole"].value == pytest.approx(table["right"].mean())


def test_figures_are_of_the_map_that_explain_shows_and_of_the_mask_as_it_is_framed(run, made):
    table = made[0].table.set_index("image_id")
    root = ll.Catalogue.open(run.info["catalogue"]).root
    masks = Masks.beside(root)
    names = list(table.index[:4])
    for image in explain(run, names, classes=["predicted"]).images:
        file = masks.file(image.image_id)
        mask = framed(np.asarray(Image.open(file).convert("L")) > 127, Images(size=(64, 96)))
        row = table.loc[image.image_id]
        assert row["area"] == pytest.approx(mask.mean())
        heat = spread(image.maps[0].grid[None], (64, 96))[0]
        if heat.any():
            assert row["inside"] == pytest.approx(heat[mask].sum() / heat.sum(), rel=1e-4)
            assert row["enrichment"] == pytest.approx(row["inside"] / row["area"])


def test_the_folder_holds_tables_that_say_the_same(made):
    told, folder = made
    assert {each.name for each in folder.iterdir()} == FILES
    summary = pd.read_csv(folder / "summary.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(summary, told.summary)
    assert len(pd.read_csv(folder / "trust.csv")) == told.facts["images"]
    curves = pd.read_csv(folder / "curves.csv")
    assert set(curves["order"]) == {"map", "centre", "random"}
    assert sorted(curves["share"].unique()) == [0, 0.25, 0.5, 0.75, 1]
    whole = curves.query("curve == 'deletion' and group == 'all'")
    starts = whole.query("share == 0")["probability"].to_numpy()
    np.testing.assert_allclose(starts, starts[0])  # of the whole picture, whatever the order
    forgetting = pd.read_csv(folder / "randomised.csv")
    assert forgetting["random_from"].iloc[0] == "head"
    assert list(forgetting["random_from"].tail(2)) == ["everything", "another picture"]


def test_the_page_needs_nothing_else_and_shows_right_beside_wrong(made):
    told, folder = made
    text = (folder / "trust.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', text)
    assert len(sources) > 8
    assert all(each.startswith(("data:", "#")) for each in sources)
    assert "<script" not in text
    assert "What may not be concluded" in text
    assert "Not for diagnosis" in text
    assert text.count('class="answer"') == len(told.answers) == 9
    kinds = told.table.groupby(["target", "right"]).size()
    assert text.count("✓ right") == sum(right for _, right in kinds.index)
    assert text.count("✗ called") == sum(not right for _, right in kinds.index)
    assert text.count('alt="') >= 4 * (len(kinds) - told.facts["blank"])
    assert str(folder) not in text


def test_the_section_of_a_report_comes_from_the_tables_alone(made):
    told, folder = made
    found = section(folder)
    assert found.name == "explanations"
    names = [each.name for each in found.exhibits]
    assert names[:2] == ["explanations_answers", "explanations_inside"]
    assert len(names) == len(set(names)) == 6
    assert sum(each.svg.startswith("<svg") for each in found.exhibits) == 4
    for each in found.exhibits:
        assert each.reading
        assert len(each.table)
        if each.svg:
            assert 'aria-label="' in each.svg
    assert found.absent == told.warnings
    questions = found.exhibits[0].table
    assert list(questions["answer"]) == [each.verdict for each in told.answers]
    with pytest.raises(DataError, match=r"holds no summary\.csv.*lesionlab explain --check"):
        section(folder.parent)


def test_a_drawn_part_is_weighted_and_repeats_itself(run, monkeypatch):
    def table():
        return ll.trust(run, count=14, steps=2, replicates=0, seed=3).table

    first = table()
    assert len(first) == 14
    kinds = run.predictions.query("part == 'test'")
    assert first["weight"].sum() == pytest.approx(len(kinds))
    monkeypatch.setattr(image_metrics, "_CHUNK", 5)  # batches change nothing but rounding
    pd.testing.assert_frame_equal(first, table(), rtol=1e-3, atol=1e-5)


def test_masks_of_other_names_and_missing_ones(run, tmp_path):
    source = ll.Catalogue.open(run.info["catalogue"]).root / MASKS
    ids = sorted(run.predictions.query("part == 'test'")["image_id"])
    (tmp_path / "masks").mkdir()
    for name in ids[3:]:
        shutil.copy(source / f"{name}_segmentation.png", tmp_path / "masks" / f"{name}.png")
    empty = Image.new("L", (80, 60))
    empty.save(tmp_path / "masks" / f"{ids[4]}.png")
    heard = []
    told = ll.trust(
        run, masks=tmp_path / "masks", count=None, steps=2, replicates=0, listen=heard.append
    )
    assert not set(ids[:3]) & set(told.table["image_id"])
    assert len(told.table) == len(ids) - 3
    row = told.table.set_index("image_id").loc[ids[4]]
    assert np.isnan(row[["inside", "area", "right_lesion", "overlap"]].astype(float)).all()
    assert not np.isnan(row["deletion"]) or row["blank"]
    texts = [each.text for each in heard if isinstance(each, Notice)]
    assert any("3 images of part test have no mask" in each for each in texts)
    assert any("1 masks are empty" in each for each in texts)
    with pytest.raises(DataError, match="belongs to any of the"):
        ll.trust(run, masks=_others(tmp_path / "others"), steps=2)


def _others(folder):
    folder.mkdir()
    Image.new("L", (80, 60)).save(folder / "nobody.png")
    return folder


def test_a_mask_of_another_shape_stops_it(run, tmp_path):
    source = ll.Catalogue.open(run.info["catalogue"]).root / MASKS
    folder = shutil.copytree(source, tmp_path / "masks")
    name = run.predictions.query("part == 'test'")["image_id"].iloc[0]
    Image.new("L", (80, 80)).save(folder / f"{name}_segmentation.png")
    with pytest.raises(DataError, match=r"80 x 80 pixels, its photograph 60 x 80.*--masks"):
        ll.trust(run, masks=folder, count=None, steps=2, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_asked_in_vain(run, tmp_path):
    with pytest.raises(SettingsError, match="steps: 1"):
        ll.trust(run, steps=1)
    with pytest.raises(SettingsError, match="count: 2"):
        ll.trust(run, count=2)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    for name in ("run.json", "recipe.yaml"):
        (unfinished / name).write_bytes((run.folder / name).read_bytes())
    Run.open(unfinished).update(state="training")
    with pytest.raises(RunError, match="not finished"):
        ll.trust(unfinished)


def test_the_verb_and_a_failed_check(run, tmp_path, capsys, monkeypatch):
    words = ["explain", "--check", str(run.folder), "--all", "--steps", "2", "--replicates", "20"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Do the maps change" in shown
    assert f"Written: {tmp_path / 'out' / 'trust.html'}" in shown.replace("│", "")
    assert "Read this first" not in (tmp_path / "out/trust.html").read_text()
    # A network that is its own random one: nothing has changed.
    monkeypatch.setattr(image_metrics, "untrained_like", lambda network, *_: copy.deepcopy(network))
    assert main([*words, "--out", str(tmp_path / "failed")]) == 1
    assert "Read this first" in (tmp_path / "failed/trust.html").read_text()
