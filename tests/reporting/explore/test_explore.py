from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from pages import Page
from PIL import Image

from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
from lesionlab.data.splits import split
from lesionlab.data.summary import metadata_tables
from lesionlab.errors import DataError, FindingsError
from lesionlab.reporting.explore.cautions import cautions
from lesionlab.reporting.explore.explore import explore
from lesionlab.reporting.figures import distributions
from lesionlab.reporting.figures.model import WIDTH
from lesionlab.reporting.figures.style import standalone
from lesionlab.tables import CATALOGUE


@pytest.fixture(scope="module")
def data(ham, tmp_path_factory):
    return catalogue(ham, out=tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="module")
def parts(data):
    return split(data, kind="holdout", shares=(0.6, 0.2, 0.2))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def page(data, parts, home):
    return page_of(data, home / "explore.html", svg=home / "svg", split=parts)


def page_of(*args, **kwargs) -> Page:
    page = Page(explore(*args, **kwargs).read_text(encoding="utf-8"))
    assert page.faults == []
    assert page.open == []
    return page


DRAWN = "<svg role='img' aria-label='x'></svg>"


@pytest.fixture
def plain(monkeypatch):
    """Spare a test that looks at words the drawing of figures."""
    for name in ("bars", "stacks", "heat", "boxes", "histogram", "spikes", "grouped"):
        monkeypatch.setattr(
            f"lesionlab.reporting.figures.distributions.{name}", lambda *_, **__: DRAWN
        )


def bare(**columns) -> Catalogue:
    """A catalogue in memory that knows nothing but images, classes and what is given."""
    n = len(columns["target"])
    table = pd.DataFrame({name: [""] * n for name in CATALOGUE})
    table["image_id"] = [f"i{number:03}" for number in range(n)]
    table["path"] = table["image_id"] + ".jpg"
    table[["age", "width", "height", "bytes"]] = np.nan
    for name, values in columns.items():
        table[name] = pd.to_numeric(values) if name == "age" else list(values)
    return Catalogue(table, tuple(sorted(set(columns["target"]))), Path("nowhere"))


def test_loads_nothing_from_elsewhere_and_is_not_large(page, home):
    for tag, attrs in page.elements:
        for name in ("src", "href", "srcset", "action"):
            if name in attrs:
                assert attrs[name].startswith(("data:", "#")), (tag, attrs[name])
    assert page.all("script") == []
    text = (home / "explore.html").read_text(encoding="utf-8")
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text
    assert str(home) not in text
    assert len(text) < 3_000_000


def test_has_every_section_in_order(page):
    wanted = [
        "Research and education only",
        "Where to take care",
        "The diagnoses",
        "Class weights",
        "The patients",
        "Malignant share by sex, within age groups",
        "Where on the body",
        "How it was established",
        "Lesions, and the leak",
        "The image files",
        "The parts side by side",
        "Lesions across the parts",
        "What is known, and what is missing",
        "Every column",
        "Drawn at random (seed 0)",
    ]
    body = page.text[page.text.index("images of 60 lesions") :]
    found = [body.find(text) for text in wanted]
    assert -1 not in found
    assert found == sorted(found)
    assert "malignant = mel + bcc + akiec + scc; benign = nv + bkl + df + vasc" in body
    assert "These lesions are drawn" in body or "drawn by a program" in body


FIGURES = {
    "classes", "malignancy", "age", "age_values", "age_by_class", "class_by_age_group", "sex",
    "class_by_sex", "site", "site_by_class", "dx_type", "class_by_dx_type", "images_per_lesion",
    "leak", "aspect_ratios", "parts_by_class", "parts_by_age", "parts_by_sex", "missing",
    "age_group_by_class_counts", "sex_by_class_counts",
}  # fmt: skip
TABLES = {
    "class_weights", "class_weights_unscaled", "malignant_by_sex_and_age", "columns", "numbers",
    "unknown_by_class", "age_histogram", "age_curves", "parts_leak", "class_by_sex_shares",
    "site_by_class_shares", "class_by_dx_type_shares", "parts_by_class_shares",
}  # fmt: skip


def test_every_figure_is_a_file_that_stands_alone_with_its_table_beside_it(page, home):
    drawn = {path.stem for path in (home / "svg").glob("*.svg")}
    assert drawn == FIGURES
    tables = {path.stem for path in (home / "svg").glob("*.csv")}
    assert tables >= FIGURES | TABLES
    for path in (home / "svg").glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        title = root.find("{http://www.w3.org/2000/svg}title").text
        assert re.search(r"n = (train )?\d", title) or path.stem == "missing", title
        assert not re.search(r"var\(|currentColor|#01020|#04050|#07080", text)
        width = float(root.get("viewBox").split()[2])
        assert width == pytest.approx(WIDTH * 72, abs=1)


def test_every_figure_says_in_words_what_it_shows_and_of_how_many(page):
    figures = [attrs for attrs in page.all("svg") if attrs.get("role") == "img"]
    assert len(figures) == len(page.all("svg")) == len(FIGURES)
    for attrs in figures:
        assert "n = " in attrs["aria-label"]
        assert len(attrs["aria-label"]) > 60


def test_the_data_links_hold_what_the_files_hold(page, home):
    links = {attrs["download"]: attrs["href"] for attrs in page.all("a") if "download" in attrs}
    assert set(links) == {path.name for path in (home / "svg").glob("*.csv")}
    for name, link in links.items():
        text = base64.b64decode(link.partition("base64,")[2]).decode()
        assert text == (home / "svg" / name).read_text(encoding="utf-8"), name


def test_the_page_shows_the_numbers_of_the_tables(page, data):
    frame = metadata_tables.prepare(data)
    text = "".join(page.texts)
    whole = frame["age"].dropna()
    assert f"mean {whole.mean():.2f}, sd {whole.std():.2f}, median {whole.median():g} years" in text
    row = metadata_tables.classes(frame).set_index("class").loc["nv"]
    assert f"{100 * row['share']:.1f}\u00a0%" in text
    assert f"{row['times_rarer']:,.0f}" in text
    shared = (frame["siblings"] > 1).mean()
    assert f"{100 * shared:.1f}\u00a0% of the images share their lesion" in text


def test_is_accessible(page):
    assert page.all("html")[0]["lang"] == "en"
    assert all(attrs.get("alt") for attrs in page.all("img"))
    assert all(attrs.get("scope") for attrs in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [attrs["id"] for tag, attrs in page.elements if "id" in attrs and tag != "path"]
    assert len(ids) == len(set(ids))
    links = {attrs["href"][1:] for attrs in page.all("a") if attrs["href"].startswith("#")}
    assert links <= set(ids)


def test_pictures_are_five_of_each_class_and_five_of_any(page, data):
    pictures = page.all("img")
    expected = 5 + sum(min(5, lesions) for lesions in data.counts()["lesions"])
    assert len(pictures) == expected
    for attrs in pictures:
        content = base64.b64decode(attrs["src"].removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(content)) as image:
            assert image.format == "JPEG"
            assert max(image.size) <= 160


def test_same_catalogue_same_bytes_and_another_seed_other_examples(plain, data, tmp_path):
    first, again, other = (
        explore(data, tmp_path / f"{number}.html", seed=seed).read_bytes()
        for number, seed in enumerate((0, 0, 1))
    )
    assert first == again
    assert first != other


def test_a_catalogue_that_knows_nothing_says_what_it_lacks(tmp_path):
    data = bare(target=["wart", "nv"] * 6)
    page = page_of(data, tmp_path / "x.html", svg=tmp_path / "svg")
    for words in (
        "No image has an age",
        "No image has a sex",
        "No image has a site.",
        "No image says how its diagnosis was confirmed",
        "No image names its lesion",
        "No image's size is known",
        "the rule knows other classes",
        "Pictures are left out",
    ):
        assert words in page.text
    assert {path.stem for path in (tmp_path / "svg").glob("*.svg")} == {"classes", "missing"}


def test_one_image_is_enough(tmp_path):
    data = bare(
        target=["nv"], age=[0.0], sex=["male"], site=["back"], dx_type=["histo"], lesion_id=["a"],
        width=[600], height=[450], source=["x"],
    )  # fmt: skip
    page = page_of(data, tmp_path / "x.html")
    assert "mean 0.00" in page.text


def test_many_sites_sources_and_sizes_stay_readable(tmp_path):
    n = 300
    data = bare(
        target=["mel", "nv"] * (n // 2),
        site=[f"a site with a long name {number % 60}" for number in range(n)],
        source=["clinic one", "clinic two"] * (n // 2),
        width=range(600, 600 + n),
        height=[450] * n,
        lesion_id=["l"] * 20 + [f"l{number}" for number in range(n - 20)],
    )
    page = page_of(data, tmp_path / "x.html", svg=tmp_path / "svg")
    assert "The figure has the 24 commonest of 60 rows; the table has all." in page.text
    assert len(pd.read_csv(tmp_path / "svg" / "site.csv")) == 60
    assert (tmp_path / "svg" / "class_by_source.svg").is_file()
    assert "The source hints at the class" in page.text


def test_hostile_names_stay_text(plain, tmp_path):
    hostile = ("<script>alert(1)</script>", "{{ 7*7 }}", "$x_{")
    data = bare(
        target=[*hostile, *hostile], site=['"><img src=x onerror=alert(1)>'] * 6,
        source=["</title><script>"] * 6, lesion_id=["<b>"] * 6,
    )  # fmt: skip
    page = page_of(data, tmp_path / "x.html")
    assert page.all("script") == page.all("img") == []
    assert hostile[0] in page.text
    assert "{{ 7*7 }}" in page.text


def test_a_split_by_image_sets_off_the_alarm(plain, data, tmp_path):
    leaky = pd.DataFrame({"image_id": data.table["image_id"]})
    leaky["part"] = np.where(np.arange(len(leaky)) % 4 == 0, "test", "train")
    leaky.to_csv(tmp_path / "leaky.csv", index=False)
    page = page_of(data, tmp_path / "x.html", split=tmp_path / "leaky.csv")
    assert "Read this first" in page.text
    assert re.search(r"LEAK: \d+\.\d\s% of the images in part test", "".join(page.texts))


def test_a_good_split_sets_off_none(page):
    assert "LEAK" not in page.text


def test_the_sources_own_parts_are_compared_without_being_asked(plain, data, tmp_path):
    table = data.table.assign(part="train")
    table.loc[table.index[::5], "part"] = "test"
    assert "LEAK" in page_of(replace(data, table=table), tmp_path / "x.html").text
    assert "The parts side by side" not in page_of(data, tmp_path / "y.html").text


def test_a_split_of_other_images_is_refused(data, tmp_path):
    pd.DataFrame({"image_id": ["other"], "part": ["train"]}).to_csv(tmp_path / "s.csv", index=False)
    with pytest.raises(FindingsError, match="is in no part"):
        explore(data, tmp_path / "x.html", split=tmp_path / "s.csv")
    with pytest.raises(DataError, match="holds no catalogue"):
        explore(tmp_path, tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


# --- Where to take care


def told(data: Catalogue) -> dict[str, str]:
    return dict(cautions(metadata_tables.prepare(data)))


def test_says_that_the_confirmation_gives_the_diagnosis_away():
    n = 40
    data = bare(target=["mel", "nv"] * n, dx_type=["histo", "follow_up"] * n)
    assert "all 40 images confirmed by follow_up are nv" in " ".join(
        text[0].lower() + text[1:] for text in told(data).values()
    )
    mixed = bare(
        target=["mel", "nv"] * n, dx_type=["histo", "histo", "consensus", "consensus"] * 20
    )
    assert "dx_type gives the diagnosis away" not in told(mixed)


def test_says_how_wide_the_interval_of_a_small_class_would_be(real_ham):
    raw = pd.read_csv(real_ham / "HAM10000_metadata.csv").replace("unknown", "")
    names = {"dx": "target", "localization": "site"}
    said = told(bare(**raw.drop(columns="image_id").rename(columns=names)))
    assert "df (73), vasc (98)" in said["Small classes"]
    assert (
        "23 images: of a recall of 80 % measured on them the 95 % interval would be 60 to 91 %"
        in (said["Small classes"])
    )
    assert "44.9\u00a0% of the images" in said["Images are not independent"]
    assert "38.7\u00a0%" in said["Images are not independent"]
    assert (
        "All 3,704 images confirmed by follow_up are nv" in said["dx_type gives the diagnosis away"]
    )
    assert "the other way round" in said["Groups mix other groups"]
    assert "39 images are of age 0" in said["Ages are coarse"]


def test_cautions_are_only_those_that_apply():
    data = bare(
        target=["mel", "nv"] * 300,
        lesion_id=[f"l{number}" for number in range(600)],
        age=[31.0, 47.0, 31.5] * 200,
        dx_type=["histo"] * 600,
        source=["a", "a", "b", "b"] * 150,
    )
    assert set(told(data)) == {"Shares are not risks", "dx_type gives the diagnosis away"}


def test_unknown_that_leans_on_the_class_is_said():
    data = bare(target=["mel", "nv"] * 50, site=["back", ""] * 50)
    assert (
        "Site is unknown for 100.0\u00a0% of nv"
        in told(data)["What is missing is not missing at random"]
    )


# --- Charts


@pytest.mark.parametrize(
    "labels",
    [tuple(f"class number {i}" for i in range(12)), ("<b>&'\"", "$x_{$", "é—")],
)
def test_charts_are_well_formed_whatever_the_names(labels):
    rng = np.random.default_rng(0)
    names = [str(label) for label in labels]
    palette = distributions.shades(names)
    counts = pd.DataFrame(rng.integers(0, 50, (3, len(names))), ["r1", "r2", "unknown"], names)
    counts.loc["r2"] = 0
    groups = {name: rng.integers(0, 90, 20).astype(float) for name in names}
    groups[names[0]] = np.array([])
    series = pd.Series(rng.integers(1, 9, len(names)), names)
    drawn = [
        distributions.bars(series, "Title", "images", inner=(series // 2).rename("lesions")),
        distributions.stacks(counts, "Title", "row", palette),
        distributions.heat(counts, "Title", "row", "class"),
        distributions.boxes(groups, "Title", "age (years)", "class", palette),
        distributions.grouped(
            counts.T / 50, "Title", "share", distributions.shades(list(counts.index))
        ),
    ]
    for text in drawn:
        for root in (ElementTree.fromstring(text), ElementTree.fromstring(standalone(text))):
            assert float(root.get("viewBox").split()[2]) == pytest.approx(WIDTH * 72, abs=1)
        assert "Title." in text.partition(">")[0]


def test_unknown_is_grey_in_every_chart_and_known_colours_are_kept():
    made = distributions.shades(["female", "unknown", "other"], {"female": "#123456"})
    assert made["female"] == "#123456"
    assert made["unknown"] == distributions.shades(["unknown"])["unknown"] == "#8A949E"
    assert len(set(made.values())) == 3


# --- The verb


def test_the_verb(plain, data, parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    parts.save("split.csv")
    words = ["explore", str(data.home), "--out", "e.html", "--svg", "figures"]
    assert main([*words, "--split", "split.csv", "--per-class", "0"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "of 60 lesions" in out
    assert "Written: e.html" in out
    assert "Not a medical device" in (tmp_path / "e.html").read_text(encoding="utf-8")
    assert len(list((tmp_path / "figures").glob("*.svg"))) == len(FIGURES)
