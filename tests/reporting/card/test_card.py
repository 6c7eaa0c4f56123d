"""The model card: what it knows, what it says it does not know, and the three standards."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from drawn_runs import draw_predictions, make_run
from hypothesis import given
from hypothesis import strategies as st
from pages import Page

from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.errors import RunError, SettingsError
from lesionlab.files import write_csv, write_json
from lesionlab.recipe.schema import Recipe
from lesionlab.reporting.card.author_answers import FIELDS, AuthorAnswers, write_template
from lesionlab.reporting.card.card import answer, card
from lesionlab.reporting.card.data_facts import published
from lesionlab.reporting.card.outline import OUTLINE, Fact
from lesionlab.reporting.card.standards import STATUSES, WHO, Item, standards
from lesionlab.run import Folds, Run

KEYS = [key for heading in OUTLINE for key in heading.labels]


def made(source, **more):
    return card(source, **{"replicates": 20, **more})


@pytest.fixture(scope="module")
def whole(same_run):
    return made(same_run)


# --- the standards -------------------------------------------------------------------------------


def test_the_standards_are_complete():
    counts = {"clear_derm": 25, "claim": 44, "tripod_ai": 52}
    assert {key: len(each.items) for key, each in standards().items()} == counts
    for key in ("clear_derm", "claim"):
        ids = [item.id for item in standards()[key].items]
        assert ids == [str(number) for number in range(1, counts[key] + 1)]
    tripod = [item.id for item in standards()["tripod_ai"].items]
    letters: dict[int, str] = {}
    for each in tripod:
        number = int(each.rstrip("abcdefg"))
        letters[number] = letters.get(number, "") + each.removeprefix(str(number))
    assert list(letters) == list(range(1, 28))
    assert all(found == "abcdefg"[: len(found)] for found in letters.values())
    assert {n: len(found) for n, found in letters.items() if found} == {
        3: 3, 5: 2, 6: 3, 8: 3, 9: 3, 12: 7, 18: 6, 20: 3, 23: 2, 27: 3,
    }  # fmt: skip


def test_the_groups_of_clear_derm_are_its_four():
    groups = dict.fromkeys(item.group for item in standards()["clear_derm"].items)
    assert list(groups) == ["Data", "Technique", "Technical assessment", "Application"]


def test_every_item_asks_something_that_a_card_can_hold():
    asked = []
    for standard in standards().values():
        for item in standard.items:
            assert item.needs, item.id
            assert set(item.needs + item.helps) <= set(KEYS), item
            assert item.ask.endswith("?")
            assert item.who in WHO
            asked.append((standard.key, item.ask))
    assert len(asked) == len(set(asked))
    assert len(KEYS) == len(set(KEYS))
    assert {f"author.{name}" for name in FIELDS} <= set(KEYS)


# --- what a card knows ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("model.architecture", "mobilenetv4_conv_small (as timm and lesionlab name it), 2,500,000"),
        ("model.classes", "bcc (Basal cell carcinoma), mel (Melanoma), nv (Melanocytic nevus)"),
        ("model.predictors", "the image alone"),
        ("model.weights", "random, from seed 0"),
        ("model.input", "225 × 300 pixels (height × width)"),
        ("split.how", "5 folds, grouped by lesion, seed 7; fold 2 is the test part"),
        ("split.sizes", "train 30 images of 15 lesions; val 30 images of 15 lesions; test 60"),
        ("split.disjoint", "none of the 60 lesions is in two parts"),
        ("split.patients", "not excluded"),
        ("training.loss", "cross entropy (weights none, smoothing 0)"),
        ("training.selection", "epoch 5 of 6, the best on validation by balanced accuracy (0.550)"),
        ("training.time", "12.5 minutes on a drawing board"),
        ("training.software", "torch 2.9.9"),
        ("data.files", "400 × 300 pixels"),
        ("data.missing", "age unknown for 120, sex unknown for 120"),
        ("results.intervals", "20 bootstrap samples of whole lesions"),
        ("legal.notice", "Not a medical device"),
    ],
)
def test_what_the_run_says_stands_in_the_card(whole, key, text):
    assert text in whole.facts[key].text
    assert whole.facts[key].by == "run"


def test_what_nothing_says_is_not_known(whole):
    for key in (
        *(f"author.{name}" for name in FIELDS),
        *("data.licence", "data.citation", "data.kind", "data.centres", "data.period"),
        *("data.confirmation", "data.histology", "data.demographics", "results.subgroups"),
        *("preprocessing.normalisation", "model.file"),
    ):
        assert not whole.facts[key].known, key
        assert whole.facts[key].by is None
        assert whole.to_json()["facts"][key]["text"] is None
    skin = next(each for each in whole.standards["clear_derm"] if each.item.id == "8")
    assert skin.status == "not_known"
    assert skin.lacking == ("skin tones",)
    assert WHO[skin.item.who] == "those who collected the images"


def test_figures_are_those_of_the_evaluation(whole, same_run):
    from lesionlab.evaluation.evaluate import evaluate

    result = evaluate(same_run.predictions, replicates=20)
    assert whole.facts["results.headline"].text.startswith(
        f"balanced accuracy {result['balanced_accuracy']}, macro AUROC {result['macro_auroc']}"
    )
    assert whole.evaluation == result.to_json()
    table = whole.tables["figures"].data.set_index("metric")["value"]
    assert table["balanced_accuracy"] == result["balanced_accuracy"].value
    confusion = whole.tables["confusion"].data.set_index("truth")
    assert (confusion.to_numpy() == result.confusion.to_numpy()).all()


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (
            {
                "minutes": 99.0,
                "parameters": 77,
                "kept_epoch": 3,
                "split": {"kind": "holdout", "by": "", "folds": 1},
                "environment": {"torch": "9.8.7"},
                "finished": "2031-02-03",
            },
            {
                "training.time": "99.0 minutes on a machine that is not recorded, finished on 2031",
                "model.architecture": "77 parameters",
                "training.selection": "epoch 3 of 6",
                "split.how": "holdout, not grouped",
                "training.software": "torch 9.8.7",
            },
        ),
        (
            {"split": {"kind": "official", "by": ""}, "environment": {}},
            {"split.same": "", "training.software": ""},
        ),
    ],
)
def test_another_fact_in_the_run_is_another_fact_in_the_card(
    tmp_path, catalogue, whole, change, wanted
):
    run = make_run(tmp_path / "other", draw_predictions(), catalogue, **change)
    changed = made(run, replicates=0)
    for key, text in wanted.items():
        assert text in changed.facts[key].text, key
        assert changed.facts[key].text != whole.facts[key].text
        assert changed.facts[key].known == bool(text)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (
            {
                "loss": {"kind": "focal", "weights": "median"},
                "images": {"size": [64, 48], "colour_constancy": "grey_world"},
                "model.pretrained": True,
                "augment.mixup": 0.4,
                "phases.0.optim.kind": "sgd",
                "select.patience": 4,
            },
            {
                "training.loss": "focal (gamma 2",
                "training.imbalance": "class weights: median",
                "preprocessing.images": "64 × 48 pixels, stretched where the shape differs; colour "
                "constancy by grey world",
                "model.weights": "published weights of mobilenetv4_conv_small, which",
                "training.synthetic": "mixtures of two (mixup)",
                "training.phases": "sgd (lr 0.05",
                "training.settings": "stopped after 4 epochs",
            },
        ),
        (
            {
                "loss.kind": "logit_adjusted",
                "sampling.kind": "balanced",
                "model": {"pretrained": "/home/me/best.pth", "fusion": "gating"},
                "augment": "none",
            },
            {
                "training.imbalance": "sampling: balanced; loss: logit adjusted (tau 1",
                "model.weights": "a local file, best.pth",
                "model.predictors": "age, sex, site of the patient",
                "model.architecture": "gating with age, sex, site",
                "preprocessing.missing": "a value of its own",
                "training.augment": "none",
            },
        ),
        (
            {"model.head.kind": "logistic_probe", "sampling.kind": "capped"},
            {
                "model.architecture": "logistic probe head (strength 0",
                "training.phases": "the backbone is frozen",
                "training.synthetic": "real images alone",
                "training.imbalance": "an upper limit per class: capped (images 50); the probe",
                "preprocessing.left_out": "at most 50 images per class",
            },
        ),
    ],
)
def test_another_recipe_is_another_card(tmp_path, catalogue, whole, changes, wanted):
    run = make_run(tmp_path / "other", draw_predictions(), catalogue)
    flat = {
        f"{key}.{name}" if isinstance(value, dict) else key: x
        for key, value in changes.items()
        for name, x in (value.items() if isinstance(value, dict) else [("", value)])
    }
    Recipe().but(flat).save(run.folder / "recipe.yaml")
    changed = made(Run.open(run.folder), replicates=0)
    for key, text in wanted.items():
        assert text in changed.facts[key].text, key
        assert changed.facts[key].text != whole.facts[key].text
    assert "/home/me" not in json.dumps(changed.to_json())


def test_patients_fused_or_not(tmp_path, catalogue, whole):
    judged = next(each for each in whole.standards["tripod_ai"] if each.item.id == "9c")
    assert judged.status == "not_applicable"
    run = make_run(tmp_path / "fused", draw_predictions(), catalogue)
    Recipe().but({"model.fusion.kind": "gating"}).save(run.folder / "recipe.yaml")
    fused = made(Run.open(run.folder), replicates=0)
    assert next(e for e in fused.standards["tripod_ai"] if e.item.id == "9c").status == "not_known"


def test_people_are_counted_from_the_catalogue(tmp_path, catalogue):
    table = catalogue.table.copy()
    number = np.arange(len(table))
    table["sex"] = np.where(number < 30, "female", "male")
    table["age"] = np.where(number < 60, 40.0, 85.0)
    table["site"] = np.where(number < 90, "back", "")
    table["dx_type"] = np.where(table["target"] == "mel", "histo", "consensus")
    data = replace(catalogue, table=table)
    full = made(make_run(tmp_path / "run", draw_predictions(), catalogue), data=data)
    people = full.facts["data.demographics"].text
    assert "age 40 to 85 years, median 62" in people
    assert "male 75.0\u00a0%, female 25.0\u00a0%" in people
    assert "site: back 100.0\u00a0%" in people
    assert "site unknown for 30" in full.facts["data.missing"].text
    assert "consensus 66.7\u00a0%, histo 33.3\u00a0%" in full.facts["data.confirmation"].text
    assert "histo for 40 of 80 malignant images" in full.facts["data.histology"].text
    counted = full.tables["people"].data
    women = counted[(counted["characteristic"] == "sex") & (counted["value"] == "female")]
    parts = draw_predictions()["part"][:30].value_counts()
    assert women[["train", "val", "test"]].to_numpy().tolist()[0] == [
        int(parts.get(part, 0)) for part in ("train", "val", "test")
    ]


def test_only_known_collections_have_a_licence_and_a_publication():
    told = dict(published(["ham10000"]))
    assert "CC-BY-NC-4.0" in told["data.licence"].text
    assert "180161" in told["data.citation"].text
    assert "Vienna" in told["data.centres"].text
    assert {each.by for each in told.values()} == {"publication"}
    assert dict(published(["vidir_modern", "rosendahl"])) == told  # its parts in version 2
    assert "10519652" in dict(published(["dermamnist_64"]))["data.homepage"].text
    assert dict(published(["drawn by lesionlab"])) == dict(published([])) == {}
    mixed = dict(published(["ham10000", "clinic"]))
    assert mixed["data.licence"].text.endswith("Of clinic it is not known.")
    assert "data.centres" not in dict(published(["ham10000", "isic2018"]))


def test_the_sources_in_the_run_stand_in_for_a_catalogue_that_is_gone(tmp_path):
    heard = []
    run = make_run(tmp_path / "run", draw_predictions(), None, sources=["ham10000"])
    alone = made(run, listen=heard.append)
    assert "CC-BY-NC-4.0" in alone.facts["data.licence"].text
    assert not alone.facts["data.missing"].known
    assert any("no longer where it was" in getattr(each, "text", "") for each in heard)


def test_a_catalogue_of_other_images_is_not_used(same_run, catalogue):
    other = replace(catalogue, table=catalogue.table.iloc[1:].reset_index(drop=True))
    heard = []
    told = made(same_run, data=other, listen=heard.append)
    assert not told.facts["data.missing"].known
    assert any("not the one" in getattr(each, "text", "") for each in heard)


def test_a_leak_is_said(tmp_path, catalogue):
    table = draw_predictions()
    table.loc[table["part"] == "train", "lesion_id"] = "les_059"
    leaky = made(make_run(tmp_path / "leaky", table, catalogue), replicates=0)
    assert leaky.facts["split.disjoint"].text.startswith("LEAK: 1 lesion")
    assert "trained on" not in leaky.facts["card.summary"].text


# --- tables of others, folds, subgroups ----------------------------------------------------------


def test_of_a_bare_table_little_is_known(tmp_path, whole):
    path = tmp_path / "theirs.csv"
    write_csv(path, draw_predictions())
    bare = made(path)
    assert bare.name == "theirs"
    assert made(draw_predictions()).facts == bare.facts
    for key in KEYS:
        if key.startswith(("training.", "preprocessing.", "author.", "legal.code")):
            assert not bare.facts[key].known, key
    for key in standards():
        assert bare.counts(key)["not_known"] > whole.counts(key)["not_known"]
        assert bare.counts(key)["run"] < whole.counts(key)["run"]
    assert "nothing is known of the model" in " ".join(bare.caveats)
    assert bare.facts["results.headline"] == whole.facts["results.headline"]


def test_folds_are_described_as_one(tmp_path, catalogue):
    folder = tmp_path / "five"
    both = draw_predictions().assign(part="test", fold=0)
    for fold in range(2):
        make_run(folder / f"fold_{fold}", draw_predictions(), catalogue, minutes=10.0 + fold)
    write_csv(folder / "predictions.csv", both)
    write_csv(folder / "summary.csv", pd.DataFrame({"fold": [0, 1]}))
    write_json(folder / "folds.json", {"folds": 2})
    Recipe().save(folder / "recipe.yaml")
    split = both[["image_id", "target"]].assign(group=both["lesion_id"])
    split["fold_0"] = np.where(np.arange(120) < 60, "train", "test")
    split["fold_1"] = np.where(np.arange(120) < 60, "test", "train")
    write_csv(folder / "split.csv", split)
    told = made(folder).facts
    assert (
        told["split.disjoint"].text == "Checked in 2 folds: none of the 60 lesions is in two parts."
    )
    assert told["training.time"].text.startswith("21.0 minutes")
    assert told["training.selection"].text.endswith("fold 0: epoch 5 of 6; fold 1: epoch 5 of 6")
    assert "no part of its lesion" in told["training.ensemble"].text
    assert (
        told["split.how"].text
        == "5 folds, grouped by lesion, seed 7; each fold is the test part once"
    )
    split.loc[0, "fold_1"] = "train"
    write_csv(folder / "split.csv", split)
    assert made(Folds.open(folder)).facts["split.disjoint"].text.startswith("LEAK: 1 lesion")


def test_a_run_that_is_not_finished_has_no_card(tmp_path, catalogue):
    run = make_run(tmp_path / "half", draw_predictions(), catalogue, state="training")
    with pytest.raises(RunError, match="not finished"):
        card(run)


def test_subgroups_from_a_file_are_the_authors_word(tmp_path, same_run):
    table = pd.DataFrame({"group": ["men", "women"], "recall": [0.5, 0.25]})
    assert made(same_run, subgroups=table).facts["results.subgroups"].by == "run"
    write_csv(tmp_path / "groups.csv", table)
    told = made(same_run, subgroups=tmp_path / "groups.csv")
    assert told.facts["results.subgroups"].by == "author"
    assert told.tables["subgroups"].shown["recall"].tolist() == ["0.5", "0.25"]
    assert "women" in told.to_html()


# --- every item resolves -------------------------------------------------------------------------


def check(answered):
    assert answered.status in STATUSES
    if answered.status == "not_known":
        assert not answered.facts
        assert not answered.author
        assert answered.lacking
    elif answered.status == "part":
        assert answered.facts
        assert answered.lacking
        assert not answered.author
    else:
        assert not answered.lacking
        assert answered.facts or answered.author
    assert all(fact.known for fact in answered.facts)


def test_every_item_is_answered_or_not_known(whole):
    written = whole.to_json()["standards"]
    for key, answers in whole.standards.items():
        assert [each.item for each in answers] == list(standards()[key].items)
        assert sum(whole.counts(key).values()) == len(answers)
        for each, told in zip(answers, written[key]["items"], strict=True):
            check(each)
            silent = told["answer"] is None and told["author"] is None
            assert silent == (told["status"] == "not_known")
            assert (told["ask"] is not None) == (told["status"] in ("not_known", "part"))


facts_of_any_kind = st.builds(
    lambda known, by, applies: Fact(
        "", "label", "text" if known else "", by if known else None, applies
    ),
    st.booleans(),
    st.sampled_from(["run", "publication", "author"]),
    st.booleans(),
)


@given(
    st.lists(facts_of_any_kind, min_size=1, max_size=3),
    st.lists(facts_of_any_kind, max_size=2),
    st.sampled_from(["", "something"]),
    st.sampled_from(["", "so it is", "Not applicable: no people"]),
)
def test_whatever_is_known_an_item_resolves(needs, helps, lacks, author):
    known = {f"n{i}": fact for i, fact in enumerate(needs)}
    known |= {f"h{i}": fact for i, fact in enumerate(helps)}
    names = [tuple(key for key in known if key.startswith(kind)) for kind in "nh"]
    item = Item("1", "", "?", *names, lacks)
    answered = answer(item, known, author)
    check(answered)
    if answered.status == "run":
        assert all(fact.known for fact in needs)
        assert any(fact.by != "author" for fact in needs)
        assert not lacks
    if author.startswith("Not"):
        assert answered.status == "not_applicable"


# --- the author's answers ------------------------------------------------------------------------


def test_an_author_answers_fields_and_items(same_run, tmp_path, whole):
    path = tmp_path / "answers.yaml"
    path.write_text(
        "fields: {funding: Nobody paid., skin_tone: Not recorded by anybody.}\n"
        "standards:\n"
        "  clear_derm: {2: 'Hair in a tenth of them.'}\n"
        "  tripod_ai: {6c: 'not applicable: images were taken before any treatment'}\n"
    )
    told = made(same_run, answers=path)
    assert told.facts["author.funding"].text == "Nobody paid."
    assert told.facts["author.funding"].by == "author"
    found = {(key, e.item.id): e for key, all_ in told.standards.items() for e in all_}
    assert found["claim", "44"].status == "author"
    assert found["tripod_ai", "18a"].status == "author"
    assert found["clear_derm", "8"].status == "author"
    assert found["clear_derm", "2"].author == "Hair in a tenth of them."
    assert found["clear_derm", "2"].status == "author"
    assert found["tripod_ai", "6c"].status == "not_applicable"
    assert found["clear_derm", "23"].status == "part"  # skin tones alone are no subgroup figures
    changed = {k for k, e in found.items() if e.status != _status(whole, k)}
    assert changed == {("claim", "44"), ("tripod_ai", "18a"), ("clear_derm", "8"),
                       ("clear_derm", "2"), ("tripod_ai", "6c"), ("clear_derm", "23")}  # fmt: skip
    assert "Nobody paid." in told.to_html()
    assert "the author says: Hair in a tenth of them." in told.to_markdown()


def _status(whole, key):
    return next(e.status for e in whole.standards[key[0]] if e.item.id == key[1])


def test_an_author_cannot_turn_a_known_item_into_his_word(same_run, whole):
    given = AuthorAnswers(items={"claim": {"24": "From heaven."}})
    told = next(e for e in made(same_run, answers=given).standards["claim"] if e.item.id == "24")
    assert _status(whole, ("claim", "24")) == told.status == "run"
    assert told.author == "From heaven."
    assert "random, from seed 0" in told.facts[0].text


def test_all_faults_of_answers_come_at_once(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "fields: {etics: x, funding: 3, contacts: [a]}\n"
        "standards: {claim: {45: x, 5: 'not applicable:'}, clear: {}, tripod_ai: 7}\n"
        "bar: 1\n"
    )
    with pytest.raises(SettingsError) as caught:
        AuthorAnswers.load(path)
    assert len(caught.value.faults) == 8
    for text in (
        "fields.etics: no such entry; did you mean 'ethics'?",
        "fields.funding: expects text, got 3",
        "fields.contacts: expects text",
        "standards.claim.45: no such entry",
        "standards.claim.5: 'not applicable:' does not say why",
        "standards.clear: no such entry; did you mean 'clear_derm'?",
        "standards.tripod_ai: expects a mapping",
        "bar: no such entry",
    ):
        assert text in str(caught.value)
    path.write_text("a: [")
    with pytest.raises(SettingsError, match="is not YAML"):
        AuthorAnswers.load(path)
    with pytest.raises(SettingsError, match="--template"):
        AuthorAnswers.load(tmp_path / "none.yaml")


def test_a_template_asks_what_is_open_and_keeps_what_was_said(tmp_path, same_run, whole):
    path = write_template(tmp_path / "t.yaml", whole.name, whole.unanswered(), whole.given)
    asked = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert list(asked["fields"]) == list(FIELDS)
    for key, answers in whole.standards.items():
        wanted = [e.item.id for e in answers if e.status in ("not_known", "part")]
        assert list(asked["standards"][key]) == wanted
    assert AuthorAnswers.load(path) == AuthorAnswers({}, {key: {} for key in standards()})
    asked["fields"]["ethics"] = 'Board "A": yes \\ #1'
    asked["standards"]["claim"]["44"] = "nobody"
    given = AuthorAnswers.from_dict(asked)
    second = made(same_run, answers=given)
    again = write_template(tmp_path / "u.yaml", "x", second.unanswered(), given)
    assert AuthorAnswers.load(again) == given
    with pytest.raises(SettingsError, match="there already"):
        write_template(path, "x", {}, given)


# --- the forms -----------------------------------------------------------------------------------


def test_the_page_is_whole_and_loads_nothing(whole, same_run):
    text = whole.to_html()
    page = Page(text)
    assert page.faults == []
    assert page.open == []
    for _, attrs in page.elements:
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("data:", "#"))
    assert page.all("script") == []
    assert "default-src 'none'" in text
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    assert {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")} <= ids
    assert "Not a medical device" in page.text
    assert "not known" in page.text
    for form in (text, whole.to_markdown(), json.dumps(whole.to_json())):
        assert str(same_run.folder.parent) not in form


def test_every_table_can_be_had_as_csv(whole):
    page = Page(whole.to_html())
    links = {a["download"]: a["href"] for a in page.all("a") if "download" in a}
    assert set(links) == {f"{name}.csv" for name in (*whole.tables, *standards())}
    text = base64.b64decode(links["by_class.csv"].partition("base64,")[2]).decode()
    assert len(pd.read_csv(io.StringIO(text))) == len(whole.tables["by_class"].data)
    text = base64.b64decode(links["claim.csv"].partition("base64,")[2]).decode()
    items = pd.read_csv(io.StringIO(text), dtype=str)
    assert items["item"].tolist() == [str(n) for n in range(1, 45)]
    assert items["status"].tolist() == [each.status for each in whole.standards["claim"]]


def test_nothing_in_a_text_becomes_markup(tmp_path, catalogue):
    evil = '<script>alert("x")</script> | <img src=x onerror=y> `*[z](http://w)*`'
    table = draw_predictions()
    table["image_id"] = table["image_id"] + "<b>|"
    run = make_run(tmp_path / "a&b", table, catalogue, notes=[evil])
    told = made(
        run, answers=AuthorAnswers({"contacts": evil}, {"claim": {"44": evil}}), replicates=0
    )
    page = Page(told.to_html())
    assert page.faults == []
    assert page.all("script") == []
    assert page.all("img") == []
    assert page.text.count("<script>alert") == 3
    marked = told.to_markdown()
    assert "<script" not in marked
    assert "<b>" not in marked
    assert "[z](" not in marked
    rows = [line for line in marked.splitlines() if line.startswith("| 44 |")]
    assert len(rows) == 1
    assert rows[0].replace("\\|", "").count("|") == 5


def test_the_json_form_has_stable_keys(whole, tmp_path):
    path = whole.save(tmp_path / "card.json")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found == json.loads(json.dumps(whole.to_json(), allow_nan=False))
    assert found["kind"] == "lesionlab card 1"
    assert list(found["facts"]) == KEYS
    assert [section["name"] for section in found["sections"]] == [h.name for h in OUTLINE]
    assert found["standards"]["claim"]["counts"] == whole.counts("claim")
    table = found["tables"]["classes"]
    assert table["columns"] == ["class", "train", "val", "test"]
    assert table["rows"][0] == ["bcc", 10, 10, 20]
    assert whole.tables["classes"].shown.iloc[0].tolist() == [
        "bcc", "10 / 5", "10 / 5", "20 / 10", "40 / 20",
    ]  # fmt: skip
    assert "compared with the publication" in found["standards"]["clear_derm"]["note"]
    assert found["standards"]["claim"]["note"] is None


def test_the_same_run_gives_the_same_card(whole, same_run):
    again = made(same_run)
    assert again.to_html() == whole.to_html()
    assert again.to_json() == whole.to_json()


def test_the_verb_writes_every_form(same_run, tmp_path, capsys):
    out = [str(tmp_path / f"card.{suffix}") for suffix in ("html", "md", "json")]
    words = ["card", str(same_run.folder), "--replicates", "0"]
    assert main([*words, "--out", *out, "--template", str(tmp_path / "a.yaml")]) == 0
    said = capsys.readouterr().out
    assert "CLAIM" in said
    assert (tmp_path / "card.md").read_text().startswith("# Model card: drawn_net\n")
    assert Page((tmp_path / "card.html").read_text()).faults == []
    assert json.loads((tmp_path / "card.json").read_text())["name"] == "drawn_net"
    assert (
        main([*words, "--out", str(tmp_path / "n.html"), "--answers", str(tmp_path / "a.yaml")])
        == 0
    )
    assert main(words) == 2
    assert main([*words, "--out", str(tmp_path / "card.pdf")]) == 2
    assert ".html, .md or .json" in capsys.readouterr().err


def test_a_catalogue_may_be_given_by_hand(same_run, catalogue, whole):
    assert made(same_run, data=Catalogue.open(catalogue.home)).facts == whole.facts
