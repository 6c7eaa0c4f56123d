"""The page in a real browser, against a stand-in of the server that can fail on demand."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
import socket
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from stand_in import NAMES, NOTICE, REFERRAL, STATIC, Planned, StandIn, answer, model

CHROMIUM = os.environ.get("LESIONLAB_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
ACCESSIBLE, CONTRASTS, FOCUS = (
    (HERE / name).read_text("utf-8") for name in ("accessible.js", "contrasts.js", "focus.js")
)
PATIENCE = 20_000  # milliseconds; machines may be busy


@pytest.fixture(scope="module")
def browser():
    """One Chromium for all tests of the module."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the page needs playwright")
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"there is no Chromium at {CHROMIUM}; LESIONLAB_CHROMIUM names another")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def server():
    with StandIn() as running:
        yield running


@pytest.fixture
def visit(browser, server):
    """Opens the page; afterwards: no script failed, nothing was blocked, nothing went elsewhere."""
    contexts, faults, addresses = [], [], []

    def opened(width=1280, height=860, theme="light", touch=False, url=None, **more):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            has_touch=touch,
            is_mobile=touch,
            **more,
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: _note(message, faults))
        page.on("request", lambda request: addresses.append(request.url))
        page.goto(url or server.url)
        page.wait_for_function("() => document.querySelector('#theme')?.textContent.trim()")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults
    home = re.compile(r"(http://127\.0\.0\.1:\d+/|blob:http://127\.0\.0\.1:\d+/|data:)")
    assert [each for each in addresses if not home.match(each)] == []


def _note(message, faults):
    """A console error is a fault, but for statuses and refused connections, which tests ask for."""
    if message.type == "error" and "Failed to load resource" not in message.text:
        faults.append(message.text)


@pytest.fixture(scope="module")
def lesions(ham):
    """Drawn lesions."""
    return sorted(ham.glob("*/*.jpg"))


@pytest.fixture(scope="module")
def photograph(lesions, tmp_path_factory):
    """A drawn lesion as PNG, 160 x 120 pixels."""
    path = tmp_path_factory.mktemp("drawn") / "lesion.png"
    Image.open(lesions[0]).resize((160, 120), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """What does not look like skin: the stand-in calls it unlike."""
    path = tmp_path_factory.mktemp("grey") / "desk.png"
    Image.linear_gradient("L").resize((80, 60)).convert("RGB").save(path)
    return path


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A file that is no image."""
    path = tmp_path_factory.mktemp("broken") / "broken.jpg"
    path.write_bytes(b"\xff\xd8 not an image")
    return path


def give(page, *paths):
    """Choose files and wait for all answers."""
    page.set_input_files("#choose", [str(each) for each in paths])
    settle(page)


def settle(page):
    """Wait until every image is answered or has failed."""
    page.wait_for_function(
        "() => { const looks = [...document.querySelectorAll('.item')].map(e => e.dataset.look);"
        " return looks.length && looks.every(look => look && look !== 'wait'); }"
    )


def seen(page, *selectors):
    """Wait until something is visible; asked at once, a busy machine has often not drawn it yet."""
    for each in selectors:
        page.wait_for_selector(each, state="visible")


def hidden(page, *selectors):
    """Wait until something is not visible."""
    for each in selectors:
        page.wait_for_selector(each, state="hidden")


def focused(page, wanted):
    """Wait until an element has the focus."""
    page.wait_for_function("(wanted) => document.activeElement.id === wanted", arg=wanted)


def reads(page, selector, wanted):
    """Wait until an element reads so; the last text stands in the failure."""
    script = (
        "([selector, wanted]) => document.querySelector(selector)"
        "?.innerText.replaceAll('\\u00a0', ' ').trim() === wanted"
    )
    from playwright.sync_api import TimeoutError as Late

    with suppress(Late):
        page.wait_for_function(script, arg=[selector, wanted])
    assert text(page, selector) == wanted


def until(found):
    """Wait until a function finds something, and give that."""
    late = time.monotonic() + PATIENCE / 1000
    while not (last := found()) and time.monotonic() < late:
        time.sleep(0.02)
    return last


def question(server, name=None, **fields):
    """The latest question with these fields; one that was dropped may have come in behind it."""

    def found():
        for each in reversed(server.asked):
            same = all(each.fields.get(key) == value for key, value in fields.items())
            if same and name in (None, each.name):
                return each
        return None

    asked = until(found)
    assert asked, f"nobody asked about {name or 'an image'} with {fields}"
    return asked


def open_crop(page):
    page.click("#crop")
    page.wait_for_selector("#cropper[open]")


def use_crop(page, button="#crop-use"):
    page.click(button)
    page.wait_for_selector("#cropper", state="hidden")
    settle(page)


def tells(page, selector, part):
    """Wait until an element's visible text has this part; the last text is in the failure."""
    from playwright.sync_api import TimeoutError as Late

    with suppress(Late):
        page.wait_for_function(
            "([selector, part]) => document.querySelector(selector)"
            "?.innerText.replaceAll('\\u00a0', ' ').includes(part)",
            arg=[selector, part],
        )
    assert part in text(page, selector)


def text(page, selector):
    """Visible text, with plain spaces."""
    return page.inner_text(selector).replace("\u00a0", " ").strip()


def said(page):
    """What screen readers are told."""
    return page.text_content("#live").replace("\u00a0", " ")


def shown_percent(value):
    if value < 0.01:
        return "< 1 %"
    return "> 99 %" if value >= 0.995 else f"{round(100 * value)} %"


# ---- what ships


def test_every_file_is_served_and_a_strict_policy_lets_it_through():
    app = pytest.importorskip("lesionlab.web.app", reason="the server is not installed")
    assert sorted(each.name for each in STATIC.iterdir()) == sorted(app.STATIC)
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:", html)
    for each in STATIC.iterdir():
        if each.suffix != ".jpg":
            found = re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]{2,}", each.read_text("utf-8"))
            assert not found, each


def test_six_samples_are_small():
    samples = sorted(STATIC.glob("sample-*.jpg"))
    assert len(samples) == 6
    assert sum(each.stat().st_size for each in samples) <= 150_000


LANGUAGES = {code: json.loads((STATIC / f"{code}.json").read_text("utf-8")) for code in
             ("en", "de", "es", "fr")}  # fmt: skip


def marks(entry):
    """The values and terms that a text, or each of its plural forms, holds."""
    forms = [entry] if isinstance(entry, str) else list(entry.values())
    assert isinstance(entry, str) or set(entry) == {"one", "other"}
    return [sorted(set(re.findall(r"\{\w+\}|\[\[\w+", form))) for form in forms]


def test_languages_say_the_same_things():
    english = LANGUAGES["en"]
    code = "".join(each.read_text("utf-8") for each in STATIC.glob("*.[hj]*") if "." in each.name
                   and each.suffix in (".js", ".html"))  # fmt: skip
    asked = set(re.findall(r'(?:\bt\(|data-(?:text|label|title)=)"([\w.]+)"', code))
    assert asked <= set(english)
    families = set(re.findall(r"t\(\s*`([\w.]+[._])\$\{", code))
    families |= {"class.", "sex.", "site.", "samples.", "verdict.", "promise.", "measured."}
    families |= {"confirmed."}
    unused = {key for key in english if key not in asked and key not in code
              and not any(key.startswith(family) for family in families)}  # fmt: skip
    assert unused == set()
    for texts in LANGUAGES.values():
        assert list(texts) == list(english)
        assert {key: marks(text) for key, text in texts.items()} == {
            key: marks(text) for key, text in english.items()
        }
        terms = {each for text in texts.values() for each in re.findall(r"\[\[(\w+)", str(text))}
        assert {f"term.{each}" for each in terms} == {key for key in texts if key[:5] == "term."}


def test_no_language_promises_what_is_not_promised():
    for texts in LANGUAGES.values():
        told = str(texts).lower()
        for word in ("ruled out", "ausgeschlossen", "descartad", "écarté", "✓", "✔"):
            assert word not in told
    html = (STATIC / "index.html").read_text("utf-8")
    assert "m7 12.5 3.5 3.5" not in html  # the tick of old


def test_classes_sexes_and_sites_of_the_default_model_have_a_name_in_every_language():
    from lesionlab.prediction.bundle import Bundle

    bundle = Bundle.open()
    wanted = {f"class.{each}" for each in bundle.full_names.values()}
    wanted |= {f"sex.{each}" for each in bundle.sexes} | {f"site.{each}" for each in bundle.sites}
    for texts in LANGUAGES.values():
        assert wanted <= set(texts)


# ---- one image


def test_an_image_is_answered(visit, server, photograph):
    page = visit()
    give(page, photograph)
    right = answer(photograph.name, photograph.read_bytes(), "all")
    [asked] = server.asked
    assert asked.content == photograph.read_bytes()
    assert asked.fields == {"maps": "all"}

    rows = page.locator("#classes > li").all()
    assert [row.locator(".name").inner_text() for row in rows] == [
        each["name"] for each in right["classes"]
    ]
    values = [row.locator(".value").inner_text().replace("\u00a0", " ") for row in rows]
    assert values == [shown_percent(each["probability"]) for each in right["classes"]]
    bars = [row.locator("progress") for row in rows]
    for bar, each in zip(bars, right["classes"], strict=True):
        assert float(bar.get_attribute("value")) == pytest.approx(each["probability"])
        assert bar.get_attribute("aria-label") == each["name"]
    for row, each in zip(rows, right["classes"], strict=True):
        words = [each["malignant"] and "malignant", each["in_set"] and "in the set"]
        assert row.locator(".mark").inner_text() == " · ".join(filter(None, words))
        point = row.locator(".points").inner_text()
        assert ("the threshold that found 90 of 100" in point) == (each["label"] == "mel")
        assert ("This class alone refers from" in point) == each["malignant"]

    first = right["classes"][0]
    reads(page, "#likeliest-name", first["name"])
    reads(page, "#likeliest-value", shown_percent(first["probability"]))
    reads(page, "#notice", NOTICE)
    assert page.locator("#size").inner_text() == "160 × 120 pixels"
    assert first["name"].lower() in said(page)
    assert page.locator("#card").get_attribute("href") == "v1/card"
    assert page.locator("#docs").get_attribute("href") == "docs"
    tells(page, "#about", "fingerprint 0123456789abcdef")
    quality = text(page, "#quality")
    assert quality.startswith(f"Of 100 images of {first['name'].lower()} this model calls 63")
    assert "49 are (in its test, where 11 of 100 images were" in quality
    *limits, point = [each.replace("\u00a0", " ")
                      for each in page.locator("#malignancy li").all_inner_texts()]  # fmt: skip
    for each, limit in zip(limits, right["malignancy"]["limits"], strict=True):
        assert f"{round(100 * limit['probability'], 1):g} %; the promise refers from" in each
    [reached] = [each["reached"] for each in right["thresholds"] if each["sensitivity"] == 0.95]
    assert point == (
        "For comparison, the threshold that found 95 of 100 melanomas when it was chosen: 7 %, "
        + ("reached." if reached else "not reached.")
    )


def answered_with(monkeypatch, photograph, inside, reason):
    """Let the stand-in answer with a set and a reason."""
    changed = answer(photograph.name, photograph.read_bytes(), "all")
    for each in changed["classes"]:
        each["in_set"] = each["label"] in inside
    refer = reason not in ("", "benign_undecided")
    changed.update(reason=reason, set=list(inside), refer=refer)
    monkeypatch.setattr("stand_in.answer", lambda *_: changed)


PROMISE = (
    "For lesions like those tested, this rule misses at most 5 of 100 malignant lesions and 3 of "
    "100 melanomas."
)
MEASURED = (
    "Measured on 7,470 lesions: it left 3.1 (2.2 to 4.3) of 100 malignant lesions and 2.1 (1.2 to "
    "3.6) of 100 melanomas unreferred and referred 33.5 of 100 benign ones."
)


def test_verdict_and_set_in_words(visit, server, photograph, monkeypatch):
    page = visit()

    def asked_with(inside, reason):
        answered_with(monkeypatch, photograph, inside, reason)
        give(page, photograph)
        found = [text(page, "#verdict"), text(page, "#set"), page.get_attribute("#sign", "href")]
        page.click("#remove")
        return found

    verdict, sentence, sign = asked_with(["mel", "nv"], "malignancy_likely")
    assert verdict.startswith("Refer: malignancy likely")
    assert PROMISE not in verdict
    assert sentence in (
        "With 90 % coverage: melanoma or melanocytic nevus.",
        "With 90 % coverage: melanocytic nevus or melanoma.",
    )
    assert sign == "#sign-alarm"
    verdict, sentence, sign = asked_with(list(NAMES), "malignancy_possible")
    assert verdict.startswith("Refer: malignancy possible")
    assert sentence == "With 90 % coverage: any of the 7 classes."
    assert sign == "#sign-ask"
    verdict, sentence, sign = asked_with(["nv"], "")
    assert verdict.startswith("Nothing malignant suspected")
    assert PROMISE in verdict
    assert MEASURED in verdict
    assert sentence == "With 90 % coverage: melanocytic nevus."
    assert sign == "#sign-calm"
    verdict, sentence, sign = asked_with([], "benign_undecided")
    assert verdict.startswith("Nothing malignant suspected; class undecided")
    assert PROMISE in verdict
    assert MEASURED in verdict
    assert sentence.startswith("With 90 % coverage: no class.")
    assert sign == "#sign-calm"


def test_nothing_is_green_without_a_risk_beside_it(visit, server, photograph, monkeypatch):
    page = visit()
    answered_with(monkeypatch, photograph, ["nv"], "")
    for referral in (None, {**REFERRAL, "limits": []}):
        server.model = model(referral=referral)
        give(page, photograph)
        reads(page, "#verdict-title", "Undecided: no risk is stated")
        assert page.get_attribute("#verdict", "data-look") == "ask"
        page.click("#remove")
    server.model = model(referral={**REFERRAL, "measured": None})
    give(page, photograph)
    assert page.get_attribute("#verdict", "data-look") == "calm"
    tells(page, "#verdict", PROMISE)
    page.click("#remove")
    why = "At 5 of 100 too few lesions are known, so all are referred."
    server.model = model(referral={**REFERRAL, "promise": why, "refers_all": True})
    answered_with(monkeypatch, photograph, ["nv"], "malignancy_possible")
    give(page, photograph)
    tells(page, "#verdict", why)


def test_unlike_and_unreadable_show_no_answer(visit, grey, broken):
    page = visit()
    give(page, grey)
    reads(page, "#verdict-title", "Refer: cannot judge this image")
    tells(page, "#verdict", "does not look like the dermatoscopic images")
    hidden(page, "#first", "#figures", "#mapping", "#map")
    assert "melanoma" not in page.inner_text("#items, #detail").lower()
    page.click("#reveal summary")
    page.wait_for_selector("#figures", state="visible")
    seen(page, "#map-toggle")
    page.click("#reveal summary")
    page.wait_for_selector("#figures", state="hidden")

    page.click("#remove")
    give(page, broken)
    reads(page, "#verdict-title", "Refer: cannot be read")
    tells(page, "#verdict-words", "cannot be read as an image")
    hidden(page, "#figures")
    seen(page, "#no-picture")
    hidden(page, "#crop")


@pytest.mark.slow
def test_dropped_and_pasted_images(visit, server, photograph):
    page = visit()
    page.evaluate(
        "bytes => { window.given = new Uint8Array(bytes) }", list(photograph.read_bytes())
    )
    carried = (
        "const data = new DataTransfer();"
        "data.items.add(new File([window.given], '{}', {{type: 'image/png'}}));"
    )
    page.evaluate(
        carried.format("image.png")
        + "document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))"
    )
    settle(page)
    reads(page, "#detail-title", "pasted-1.png")
    over = (
        "document.body.dispatchEvent(new DragEvent('{}',"
        " {{dataTransfer: data, bubbles: true, cancelable: true}}))"
    )
    assert page.evaluate(carried.format("a.png") + "!" + over.format("dragover"))
    assert "dropping" in page.get_attribute("body", "class")
    assert page.evaluate(carried.format("a.png") + "!" + over.format("drop"))
    settle(page)
    assert [each.name for each in server.asked] == ["pasted-1.png", "a.png"]
    assert all(each.content == photograph.read_bytes() for each in server.asked)
    assert "dropping" not in (page.get_attribute("body", "class") or "")


@pytest.mark.slow
def test_a_photograph_is_offered_where_fingers_point(visit):
    page = visit()
    hidden(page, ".photo")
    hidden(page, "#photo-note")
    page = visit(390, 844, touch=True)
    seen(page, ".photo")
    tells(page, "#photo-note", "contact dermatoscopy")
    assert page.get_attribute("#photo", "capture") == "environment"
    assert page.get_attribute("#choose", "multiple") is not None


@pytest.mark.slow
def test_age_sex_and_site_go_along_where_the_model_takes_them(visit, server, lesions):
    page = visit()
    give(page, *lesions[:2])
    page.fill("#age", "57")
    page.press("#age", "Tab")
    page.select_option("#sex", "female")
    page.select_option("#site", "lower extremity")
    settle(page)
    page.wait_for_function("() => document.querySelector('#answer').ariaBusy === 'false'")
    told = question(server, lesions[0].name, site="lower extremity")
    assert told.fields == {"age": "57", "sex": "female", "site": "lower extremity", "maps": "all"}
    before = sum("site" in each.fields for each in server.asked)
    page.fill("#age", "570")
    page.press("#age", "Tab")
    tells(page, "#age-fault", "from 0 to 120")
    page.fill("#age", "57")
    page.press("#age", "Tab")
    assert sum("site" in each.fields for each in server.asked) == before
    page.click("#share")
    settle(page)
    told = question(server, lesions[1].name, age="57", sex="female")
    assert told.fields == {"age": "57", "sex": "female", "maps": "all"}  # a site is one lesion's


@pytest.mark.slow
def test_fields_that_the_model_does_not_take_are_hidden(visit, server, photograph):
    server.model = model(fields=["age"])
    page = visit()
    give(page, photograph)
    seen(page, "#age")
    hidden(page, "#sex")
    hidden(page, "#site")
    server.model = model(fields=[])
    page = visit()
    give(page, photograph)
    hidden(page, "#patient")


# ---- the map


def pixels(page):
    """The map's canvas, shape (height, width, 4)."""
    drawn = page.evaluate("document.querySelector('#map').toDataURL()").partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn))), dtype=float)


def test_the_map_is_off_until_asked_for(visit, lesions):
    page = visit()
    give(page, *lesions[:2])
    hidden(page, "#map")
    hidden(page, "#mapping")
    page.click("#map-toggle")
    seen(page, "#map")
    reads(page, "#map-toggle", "Hide map")
    page.keyboard.press("m")
    hidden(page, "#map")
    page.keyboard.press("m")
    seen(page, "#map")
    page.click("#next")  # the next lesion comes first as well
    hidden(page, "#map")


def test_map_slider_and_class(visit, photograph):
    page = visit()
    give(page, photograph)
    page.click("#map-toggle")
    right = {each["label"]: each for each in answer("", photograph.read_bytes(), "all")["maps"]}
    first = page.input_value("#map-class")
    assert _differs(pixels(page), right[first]) < 12
    assert page.evaluate("getComputedStyle(document.querySelector('#map')).opacity") == "0.5"
    page.fill("#opacity", "20")
    assert page.evaluate("getComputedStyle(document.querySelector('#map')).opacity") == "0.2"
    reads(page, "#opacity-words", "20 %")

    other = next(each for each in ("bcc", "mel") if right[each]["values"] != right[first]["values"])
    assert _differs(pixels(page), right[other]) > 40
    page.select_option("#map-class", other)
    assert _differs(pixels(page), right[other]) < 12
    tells(page, "#map-words", NAMES[other].lower())
    assert said(page) == text(page, "#map-words")
    page.select_option("#map-class", "vasc")
    assert text(page, "#map-words").startswith("The map is blank: no part of the image speaks for")
    hidden(page, "#map")


def _differs(shown, sent):
    """Largest difference in colour from matplotlib's viridis of the grid, read bilinearly."""
    import matplotlib
    from scipy.ndimage import map_coordinates

    height, width = shown.shape[:2]
    grid = np.reshape(sent["values"], (sent["rows"], sent["columns"]))
    y = (np.arange(height) + 0.5) / height * sent["rows"] - 0.5
    x = (np.arange(width) + 0.5) / width * sent["columns"] - 0.5
    value = map_coordinates(grid, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest")
    clear = value > 0.45  # weaker values are partly transparent
    wanted = 255 * matplotlib.colormaps["viridis"](value)  # fully opaque
    return float(np.abs(shown - wanted)[clear].max())


@pytest.mark.slow
def test_map_lies_where_the_model_looked(visit, server, photograph):
    server.model = model(input={"height": 224, "width": 224, "fit": "crop"})
    page = visit()
    give(page, photograph)  # 4:3, so the square in the middle takes 3/4 of the width
    page.click("#map-toggle")
    seen = pixels(page)[..., 3].max(axis=0) > 0
    assert not seen[: int(0.124 * len(seen))].any()
    assert not seen[int(0.876 * len(seen)) :].any()
    assert seen[int(0.2 * len(seen)) : int(0.8 * len(seen))].mean() > 0.5
    stretched = visit()
    server.model = model(input={"height": 224, "width": 224, "fit": "pad"})
    page = visit()
    give(page, photograph)  # the grid's outer eighths lie on what was padded
    give(stretched, photograph)
    assert np.abs(pixels(page) - pixels(stretched)).max() > 20


@pytest.mark.slow
def test_a_model_without_maps(visit, server, photograph):
    server.model = model(maps=False)
    page = visit()
    give(page, photograph)
    assert server.asked[0].fields["maps"] == "none"
    hidden(page, "#map-toggle")


# ---- the picture


def shown(page):
    """Scale and place of the picture in its frame: (scale, x, y)."""
    matrix = page.evaluate(
        "() => { const style = getComputedStyle(document.querySelector('#view'));"
        " return [...new DOMMatrix(style.transform).toFloat32Array()]; }"
    )
    return matrix[0], matrix[12], matrix[13]


def test_wheel_buttons_and_keys_zoom(visit, photograph):
    page = visit()
    give(page, photograph)
    box = page.locator("#frame").bounding_box()
    assert shown(page) == (1, 0, 0)
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -200)
    page.wait_for_function("() => document.querySelector('#frame').matches('.zoomed')")
    scale, x, _ = shown(page)
    assert scale > 1.2
    assert x == pytest.approx(-(scale - 1) * box["width"] / 4, rel=0.02)  # the point stays
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4 - 20, box["y"] + box["height"] / 2)
    page.mouse.up()
    assert shown(page)[1] == pytest.approx(x - 20, abs=1)
    page.click("#zoom-in")
    assert shown(page)[0] == pytest.approx(1.5 * scale, rel=0.01)
    page.focus("#frame")
    page.keyboard.press("0")
    assert shown(page) == (1, 0, 0)
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    assert shown(page)[0] == pytest.approx(1.5)


@pytest.mark.slow
def test_two_fingers_zoom(visit, photograph):
    page = visit(390, 844, touch=True)
    give(page, photograph)
    box = page.locator("#frame").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    touch = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 20), ("touchMove", 30), ("touchMove", 40)):
        points = [{"x": middle[0] + side * apart, "y": middle[1], "id": i}
                  for i, side in enumerate((-1, 1))]  # fmt: skip
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.wait_for_timeout(60)
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert shown(page)[0] == pytest.approx(2, rel=0.15)


@pytest.mark.slow
def test_full_screen_and_back(visit, photograph):
    page = visit()
    give(page, photograph)
    page.click("#full-open")
    page.wait_for_selector("#full[open]")
    assert page.locator("#frame").bounding_box()["height"] > 700
    page.keyboard.press("m")
    seen(page, "#map")
    page.click("#full-close")
    page.wait_for_selector("#full", state="hidden")
    seen(page, "#stage #frame")
    focused(page, "full-open")


# ---- cropping


def frame_of(page):
    return [int(page.input_value(f"#crop-{side}")) for side in ("x", "y", "width", "height")]


def test_crop_sends_the_pixels_themselves(visit, server, photograph):
    page = visit()
    give(page, photograph)
    open_crop(page)
    focused(page, "board")
    assert frame_of(page) == [16, 12, 128, 96]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    x, y, width, height = frame_of(page)
    assert x > 16
    assert y == 12
    assert width == 128
    assert height < 96
    page.fill("#crop-width", "71")
    page.press("#crop-width", "Tab")
    x, y, width, height = frame_of(page)
    assert width == 71
    use_crop(page)
    sent = Image.open(io.BytesIO(server.asked[-1].content))
    whole = np.asarray(Image.open(photograph).convert("RGB"))
    assert sent.format == "PNG"
    assert np.array_equal(sent.convert("RGB"), whole[y : y + height, x : x + width])
    reads(page, "#size", f"{width} × {height} pixels, cropped from 160 × 120")
    focused(page, "crop")
    open_crop(page)
    assert frame_of(page) == [x, y, width, height]
    use_crop(page, "#crop-whole")
    assert server.asked[-1].content == photograph.read_bytes()


@pytest.mark.slow
def test_a_crop_is_never_called_harmless(visit, photograph, monkeypatch):
    answered_with(monkeypatch, photograph, ["nv"], "")
    page = visit()
    give(page, photograph)
    assert text(page, "#verdict").startswith("Nothing malignant suspected")
    open_crop(page)
    use_crop(page)
    page.wait_for_function("() => document.querySelector('#size').innerText.includes('cropped')")
    verdict = text(page, "#verdict")
    assert verdict.startswith("No answer from a crop")
    assert PROMISE not in verdict
    assert page.get_attribute("#sign", "href") == "#sign-ask"
    [row] = exported(page)
    assert row["refer"] == "true"
    assert row["reason"] == "cropped"


@pytest.mark.slow
def test_crop_with_a_finger_and_a_square(visit, photograph):
    page = visit(390, 480, touch=True)  # so low that the dialog scrolls, but not under the frame
    give(page, photograph)
    open_crop(page)
    before = frame_of(page)
    box = page.locator("#board").bounding_box()
    touch = page.context.new_cdp_session(page)

    def drag(start, end):
        way = [np.add(start, np.subtract(end, start) * share) for share in np.linspace(0, 1, 6)]
        kinds = ["touchStart"] + ["touchMove"] * 5
        for kind, (x, y) in zip(kinds, np.array(way).tolist(), strict=True):
            touch.send(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]}
            )
            page.wait_for_timeout(30)
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    scale = 160 / box["width"]
    centre = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    drag(centre, (centre[0] + 10 / scale, centre[1] + 5 / scale))
    moved = frame_of(page)
    assert moved == pytest.approx([before[0] + 10, before[1] + 5, before[2], before[3]], abs=1)
    corner = (box["x"] + (moved[0] + moved[2]) / scale, box["y"] + (moved[1] + moved[3]) / scale)
    drag(corner, (corner[0] - 30 / scale, corner[1] - 20 / scale))
    smaller = frame_of(page)
    assert smaller[:2] == moved[:2]
    assert smaller[2:] == pytest.approx([moved[2] - 30, moved[3] - 20], abs=1)
    page.check("[value=square]")
    assert frame_of(page)[2] == frame_of(page)[3]
    page.focus("#board")
    page.keyboard.press("Shift+ArrowRight")
    assert frame_of(page)[2] == frame_of(page)[3]
    for _ in range(80):
        page.keyboard.press("ArrowRight")
    assert frame_of(page)[0] + frame_of(page)[2] == 160  # it stays inside
    page.keyboard.press("Escape")
    hidden(page, "#cropper")
    reads(page, "#size", "160 × 120 pixels")


@pytest.mark.slow
def test_crop_leaves_the_stored_colours_alone(visit, server, photograph, tmp_path):
    """As the server does, which reads pixels and no colour profile."""
    wide = PngInfo()  # the primaries of Adobe RGB, and no gamma
    primaries = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
    wide.add(b"gAMA", struct.pack(">I", 100000))
    wide.add(b"cHRM", struct.pack(">8I", *primaries))
    image = Image.open(photograph)
    image.save(tmp_path / "wide.png", pnginfo=wide)
    page = visit()
    give(page, tmp_path / "wide.png")
    open_crop(page)
    x, y, width, height = frame_of(page)
    use_crop(page)
    sent = Image.open(io.BytesIO(server.asked[-1].content)).convert("RGB")
    assert np.array_equal(sent, np.asarray(image)[y : y + height, x : x + width])


@pytest.mark.slow
def test_crop_of_a_photograph_lying_on_its_side(visit, server, photograph, tmp_path):
    image = Image.open(photograph)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees: upright it is 120 wide and 160 high
    image.save(tmp_path / "side.jpg", exif=exif)
    page = visit()
    give(page, tmp_path / "side.jpg")
    reads(page, "#size", "120 × 160 pixels")
    page.click("#map-toggle")
    picture, drawn = (page.locator(each).bounding_box() for each in ("#picture", "#map"))
    assert picture["width"] / picture["height"] == pytest.approx(0.75, abs=0.01)
    assert drawn == picture
    open_crop(page)
    assert frame_of(page)[2:] == [96, 128]
    use_crop(page)
    assert server.asked[-1].size == (96, 128)


# ---- several images


def exported(page):
    with page.expect_download() as download:
        page.click("#export")
    content = Path(download.value.path()).read_bytes().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(content, newline="")))


def test_several_images_and_their_table(visit, server, lesions, grey, broken, tmp_path):
    named = tmp_path / '=cmd(1), "x".jpg'
    shutil.copy(lesions[2], named)
    page = visit()
    give(page, lesions[0], lesions[1], grey, broken, named)
    items = page.locator(".item").all()
    assert len(items) == 5
    right = answer(lesions[1].name, lesions[1].read_bytes())
    second = items[1].locator(".second").inner_text().replace("\u00a0", " ")
    first = right["classes"][0]
    assert second == f"{first['name']} {shown_percent(first['probability'])}"
    firsts = [each.locator(".first").inner_text() for each in items]
    assert firsts[2:4] == ["Refer: cannot judge", "Refer: cannot be read"]
    assert items[0].get_attribute("aria-current") == "true"
    items[1].click()
    assert items[0].get_attribute("aria-current") is None
    reads(page, "#detail-title", lesions[1].name)
    page.keyboard.press("Tab")

    rows = exported(page)
    labels = list(NAMES)
    assert list(rows[0]) == [
        "image", "age", "sex", "site", "predicted", *[f"p_{label}" for label in labels], "set",
        "malignancy", "refer", "reason", "model_fingerprint",
    ]  # fmt: skip
    assert rows[0]["image"] == lesions[0].name
    assert rows[1]["predicted"] == right["predicted"]
    probabilities = {each["label"]: each["probability"] for each in right["classes"]}
    assert {label: float(rows[1][f"p_{label}"]) for label in labels} == probabilities
    assert float(rows[1]["malignancy"]) == right["malignancy"]["probability"]
    assert rows[1]["refer"] == str(right["refer"]).lower()
    assert rows[1]["set"] == " ".join(right["set"])
    assert rows[1]["reason"] == right["reason"]
    assert rows[2]["reason"] == "unlike"
    assert rows[3]["reason"] == "unreadable"
    assert rows[3]["p_mel"] == ""
    assert rows[4]["image"] == '\'=cmd(1), "x".jpg'  # no formula
    assert {row["model_fingerprint"] for row in rows} == {"0123456789abcdef"}


@pytest.mark.slow
def test_table_tells_what_was_cropped_and_what_failed(visit, server, lesions, photograph):
    page = visit()
    give(page, photograph)
    open_crop(page)
    use_crop(page)
    server.plan = [Planned(413, "Too large.")]
    give(page, lesions[0])
    cropped, failed = exported(page)
    assert cropped["image"] == "lesion.png#xywh=16,12,128,96"
    assert failed["reason"] == "failed"
    assert failed["predicted"] == ""


@pytest.mark.slow
def test_removing_and_stepping(visit, lesions):
    page = visit()
    give(page, *lesions[:3])
    page.click("#next")
    reads(page, "#detail-title", lesions[1].name)
    reads(page, "#place", "2 of 3")
    page.click("#next")
    assert page.is_disabled("#next")
    focused(page, "detail-title")  # not lost
    page.click("#remove")
    reads(page, "#detail-title", lesions[1].name)
    assert page.locator(".item").count() == 2
    page.click("#clear")
    hidden(page, "#work")
    focused(page, "choose")


# ---- before the answer, languages, terms, what stays, paper


@pytest.mark.slow
def test_what_is_known_of_the_patient_goes_along_from_the_start(visit, server, photograph):
    page = visit()
    page.wait_for_selector("#before-age", state="visible")
    worth = "the model was right on 66.7 of 100 images of its test with them and on 57.4 without"
    tells(page, "#before-worth", worth)
    tells(page, "#before-worth", "9.3; 95 % interval 7.8 to 10.8")
    page.fill("#before-age", "61")
    page.select_option("#before-sex", "male")
    page.select_option("#before-site", "back")
    give(page, photograph)
    [asked] = server.asked
    assert asked.fields == {"age": "61", "sex": "male", "site": "back", "maps": "all"}
    tells(page, "#verdict-asked", "Asked with: Age in years 61, Sex Male, Site Back.")
    assert page.input_value("#age") == "61"
    tells(page, "#patient", worth)
    give(page, photograph)  # of the next patient, of whom nothing was told
    assert server.asked[1].fields == {"maps": "all"}
    tells(page, "#verdict-asked", "Asked without age, sex and site.")
    assert page.input_value("#before-age") == ""
    server.model = model(metadata_worth=None)
    page = visit()
    page.wait_for_selector("#before-age", state="visible")
    tells(page, "#before-worth", "may do worse without")
    reads(page, "#patient-worth", "")


@pytest.mark.slow
def test_a_drawn_sample_says_that_it_is_drawn(visit, server):
    page = visit()
    page.click(".sample >> nth=1")
    settle(page)
    [asked] = server.asked
    assert asked.content == (STATIC / "sample-2.jpg").read_bytes()
    tells(page, "#verdict", "shows how the page works and nothing else")


def test_what_the_audit_log_keeps_is_said(visit, server):
    page = visit()
    page.wait_for_function("() => document.querySelector('#about').innerText")
    tells(page, "#keeps", "no image is kept there")
    assert "audit" not in text(page, "#keeps")
    server.model = model(audit_days=30)
    page.reload()
    page.wait_for_function("() => document.querySelector('#about').innerText")
    tells(page, "#keeps", "Its audit log keeps for 30 days: the time, the answer")


def cases_like(nearest):
    """Six known cases, and the commonest diagnosis of the nearest lesions."""
    buffer = io.BytesIO()
    Image.new("RGB", (112, 84), (180, 120, 110)).save(buffer, "JPEG")
    picture = base64.b64encode(buffer.getvalue()).decode()
    cases = [
        {"image_id": f"case{place}", "target": label, "name": NAMES[label], "distance": place / 10}
        | {"confirmed": confirmed, "picture": picture}
        for place, (label, confirmed) in enumerate(
            zip(
                ("nv", "mel", "nv", "bkl", "nv", "df"),
                ("follow_up", "histo", "consensus", "confocal", "histo", ""),
                strict=True,
            )
        )
    ]
    told = {"nearest": nearest, "nearest_name": NAMES[nearest], "share": 0.6}
    return {"cases": cases, **told, "agree": nearest == "nv"}


def test_known_cases_stand_below_the_answer_and_disagreement_is_said(visit, server, photograph):
    page = visit(width=390, height=844)
    give(page, photograph)
    assert not page.is_visible("#similar")
    server.similar = cases_like("mel")
    page = visit(width=390, height=844)
    give(page, photograph)
    tells(page, "#similar-words", "disagree with the model: 60 % of the nearest lesions are mel")
    assert page.locator("#cases li").count() == 6
    tells(page, "#cases li:nth-child(2)", "Melanoma\nHistology\ndistance 0.1")
    tells(page, "#cases li:nth-child(6)", "Dermatofibroma\ndistance 0.5")
    loaded = "() => [...document.querySelectorAll('#cases img')].every(e => e.naturalWidth)"
    page.wait_for_function(loaded)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    page.reload()  # what this tab remembers has no pictures of other people's lesions
    tells(page, "#cases li:nth-child(2)", "Melanoma")
    assert page.locator("#cases img").count() == 0
    page.select_option("#language", "de")
    tells(page, "#cases li:nth-child(1)", "Verlaufskontrolle\nAbstand 0")


def test_drift_is_said_where_there_is_some(visit, server):
    drift = {"images": 500, "distances": {"novelty": 0.1}, "drifted": False}
    server.model = model(drift=drift)
    page = visit()
    page.wait_for_function("() => document.querySelector('#about').innerText")
    assert not page.is_visible("#drift")
    server.model = model(drift={**drift, "drifted": True})
    page.reload()
    tells(page, "#drift", "The last 500 images that this server was shown look otherwise")


@pytest.mark.slow
def test_the_browser_wishes_for_a_language_and_the_reader_chooses(visit, server, photograph):
    page = visit(locale="de-AT")
    give(page, photograph)
    assert page.get_attribute("html", "lang") == "de"
    reads(page, "#likeliest-name", "Melanozytärer Nävus")
    assert text(page, "#verdict-title") in {
        LANGUAGES["de"][f"verdict.{each}.title"]
        for each in ("malignancy_likely", "malignancy_possible", "benign_undecided", "none")
    }
    for address in ("**/v1/predict", "**/healthz"):
        page.route(address, lambda route: route.abort())
    page.select_option("#language", "fr")
    page.wait_for_function("() => document.documentElement.lang === 'fr'")
    reads(page, "#likeliest-name", "Nævus mélanocytaire")
    assert server.asked[0].language == "de"
    give(page, photograph)
    reads(page, "#alarm-title", LANGUAGES["fr"]["fault.gone"])
    page.select_option("#language", "es")  # what stands there already changes with the rest
    reads(page, "#alarm-title", LANGUAGES["es"]["fault.gone"])
    page.click("#clear")
    hidden(page, "#alarm")
    page.fill("#before-age", "570")
    page.select_option("#language", "fr")
    reads(page, "#before-fault", LANGUAGES["fr"]["field.age_fault"])
    page.reload()
    page.wait_for_function("() => document.documentElement.lang === 'fr'")
    assert visit(locale="pt-BR").get_attribute("html", "lang") == "en"
    for locale in ("en-GB", "es-MX"):
        assert visit(locale=locale).get_attribute("html", "lang") == locale[:2]


@pytest.mark.slow
def test_terms_are_explained_on_hover_and_on_tap(visit, photograph):
    page = visit()
    give(page, photograph)
    page.hover("#set .term")
    page.wait_for_selector("#tip", state="visible")
    tells(page, "#tip", "90 % coverage in 9 of 10")
    page.hover("#classes-title")
    page.wait_for_selector("#tip", state="hidden")
    page.focus("#promise .term")
    page.keyboard.press("Enter")
    page.wait_for_selector("#tip", state="visible")
    assert page.get_attribute("#promise .term", "aria-expanded") == "true"
    page.keyboard.press("Escape")
    hidden(page, "#tip")
    page = visit(390, 844, touch=True)
    give(page, photograph)
    page.tap("#set .term")
    page.wait_for_selector("#tip", state="visible")


@pytest.mark.slow
def test_a_reload_keeps_the_answers_and_one_button_clears_them(visit, server, lesions, grey):
    page = visit()
    page.wait_for_function("() => document.querySelector('#about').innerText")
    page.fill("#before-age", "61")
    give(page, lesions[0], grey)
    page.wait_for_function("() => Object.keys(sessionStorage).length === 2")
    before = page.locator(".item .words").all_inner_texts()
    figures = text(page, "#figures")
    page.reload()
    settle(page)
    assert page.locator(".item .words").all_inner_texts() == before
    reads(page, "#figures", figures)
    assert len(server.asked) == 2  # nobody was asked again
    assert page.input_value("#age") == "61"
    assert page.is_disabled("#age")
    hidden(page, "#crop")
    page.wait_for_function("() => document.querySelector('#picture').naturalWidth > 0")
    page.click("#map-toggle")
    seen(page, "#map")
    assert len(exported(page)) == 2
    page.click("#clear")
    assert page.evaluate("sessionStorage.length") == 0
    page.reload()
    page.wait_for_function("() => document.querySelector('#about').innerText")
    hidden(page, "#work")


@pytest.mark.slow
def test_where_there_is_no_room_the_oldest_copies_go_first(visit, lesions):
    page = visit()
    give(page, lesions[0])
    page.wait_for_function("() => sessionStorage.length === 1")
    page.evaluate(  # leave room for two more and a half
        "() => { const size = sessionStorage[sessionStorage.key(0)].length;"
        " const fill = (count) => sessionStorage.setItem('other', 'x'.repeat(count));"
        " let most = 0; for (let step = 2 ** 25; step > 1000; step /= 2)"
        " try { fill(most + step); most += step; } catch { continue; }"
        " fill(most - 2.5 * size); }"
    )
    give(page, *lesions[1:4])
    copies = (
        "Object.keys(sessionStorage).filter((each) => each !== 'other').sort()"
        ".map((each) => JSON.parse(sessionStorage[each]).copy?.length > 0)"
    )
    page.wait_for_function(f"() => {{ const all = {copies}; return all.length === 4 && all[3]; }}")
    page.reload()
    settle(page)
    assert page.locator(".item").count() == 4
    assert page.evaluate(copies)[0] is False


@pytest.mark.slow
def test_a_huge_photograph_is_made_smaller(visit, server, tmp_path):
    image = Image.effect_noise((4096, 3072), 60).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = 6  # lying on its side
    image.save(tmp_path / "huge.jpg", quality=90, exif=exif)
    assert (tmp_path / "huge.jpg").stat().st_size > 3e6
    page = visit()
    give(page, tmp_path / "huge.jpg")
    [asked] = server.asked
    assert asked.size == (1800, 2400)
    reads(page, "#size", "3072 × 4096 pixels, sent as 1800 × 2400")


@pytest.mark.slow
def test_the_sheet_is_about_one_patient(visit, server, lesions, grey):
    page = visit()
    give(page, lesions[0], lesions[1])
    page.fill("#age", "57")
    page.press("#age", "Tab")
    page.wait_for_function("() => document.querySelector('#answer').ariaBusy === 'false'")
    page.evaluate("window.print = () => { window.dispatchEvent(new Event('beforeprint')) }")
    page.click("#print")
    page.emulate_media(media="print")
    sheet = text(page, "#sheet")
    host = server.url.removeprefix("http://").rstrip("/")
    verdict = page.text_content("#verdict-title")
    for each in (lesions[0].name, "57", "Not given", host, "stand-in 1", "0123456789abcdef",
                 verdict, NOTICE, str(time.localtime().tm_year)):  # fmt: skip
        assert each in sheet
    assert page.locator("#sheet progress").count() == 7
    assert page.locator("#sheet canvas").bounding_box()["width"] > 100
    assert lesions[1].name not in page.inner_text("body")
    hidden(page, "main")
    page.emulate_media(media="screen")
    seen(page, "main")


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["en-GB", "de-DE", "es-ES", "fr-FR"])
def test_lesion_and_verdict_on_a_phones_first_screen(
    visit, lesions, photograph, locale, monkeypatch
):
    answered_with(monkeypatch, photograph, ["nv"], "")
    page = visit(390, 844, touch=True, locale=locale)
    give(page, *lesions[:6])
    notice = page.locator("#notice").bounding_box()["y"]
    frame, title, promise = (
        page.locator(each).bounding_box()
        for each in ("#frame", "#verdict-title", "#verdict-promise")
    )
    assert 0 < frame["y"] < title["y"]
    assert frame["height"] > 200
    assert promise["y"] + promise["height"] < notice


# ---- failures

FAILURES = {
    400: "The server did not understand this request",
    413: "This image is too large for the server",
    415: "The server does not take this kind of file",
    422: "The server cannot use this image",
    500: "The server failed",
    503: "The server is not ready",
}


def test_refusals_in_words(visit, server, photograph):
    page = visit()
    for status, title in FAILURES.items():
        server.plan = [Planned(status, f"Do this after {status}.")]
        give(page, photograph)
        reads(page, "#verdict-title", title)
        reads(page, "#verdict-words", f"Do this after {status}.")
        assert title in said(page)
        (hidden if status in (413, 415, 422) else seen)(page, "#again")
        (seen if status == 413 else hidden)(page, "#crop-hint")
        page.click("#remove")
    server.plan = [Planned(500, "Once.")]
    give(page, photograph)
    page.click("#again")
    page.wait_for_selector("#figures", state="visible")


@pytest.mark.slow
def test_a_busy_server_is_asked_again_in_time(visit, server, lesions):
    page = visit()
    server.plan = [Planned(429, "Busy.", {"Retry-After": "2"})]
    begun = time.monotonic()
    page.set_input_files("#choose", [str(lesions[0])])
    told = page.wait_for_function(  # all at once: it does not stay so for long
        "() => { const read = (id) => document.getElementById(id).innerText;"
        " return read('verdict').includes('busy') && ["
        "   read('verdict-title'), read('verdict-words'), read('live')]; }"
    ).json_value()
    assert told[:2] == ["The server is busy", "Trying again by itself in 2 seconds."]
    assert "Trying again" in told[2]
    page.wait_for_selector("#figures", state="visible")
    assert time.monotonic() - begun >= 2
    assert len(server.asked) == 2


@pytest.mark.slow
def test_an_api_key_is_asked_for_and_kept_in_memory_only(visit, server, photograph):
    server.key = "open-sesame-0123456789"
    page = visit()
    page.wait_for_selector("#asking-key[open]")
    focused(page, "key")
    page.fill("#key", "wrong")
    page.click("#key-use")
    page.wait_for_function("() => document.querySelector('#key-fault').innerText")
    tells(page, "#key-fault", "does not know this key")
    page.fill("#key", server.key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#asking-key", state="hidden")
    give(page, photograph)
    seen(page, "#figures")
    assert server.asked[0].key == server.key
    stored = page.evaluate(
        "() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie,"
        " location.href, document.querySelector('#key').value])"
    )
    assert server.key not in stored
    server.key = "another-key-0123456789"  # changed meanwhile: asked for again, nothing is lost
    page.set_input_files("#choose", [str(photograph)])
    page.wait_for_selector("#asking-key[open]")
    page.fill("#key", server.key)
    page.click("#key-use")
    settle(page)
    assert page.locator('.item[data-look="stop"]').count() == 0
    page.reload()
    page.wait_for_selector("#asking-key[open]")
    page.keyboard.press("Escape")
    tells(page, "#alarm", "asks for an API key")


@pytest.mark.slow
def test_a_server_that_went_away_and_came_back(visit, server, lesions):
    page = visit()
    give(page, lesions[0])
    port = server.server_address[1]
    server.shutdown()
    server.server_close()
    give(page, lesions[1], lesions[2])
    page.click(".item >> nth=1")
    reads(page, "#verdict-title", "The server does not answer.")
    tells(page, "#alarm", "lesionlab serve")
    with StandIn(port):
        page.click("#alarm-again")
        settle(page)
        assert page.locator('.item[data-look="stop"]').count() == 0
        hidden(page, "#alarm")
        seen(page, "#figures")


@pytest.mark.slow
def test_a_page_without_its_server_says_so(visit, server, photograph):
    page = visit()
    page.route("**/v1/model", lambda route: route.abort())
    page.reload()
    page.wait_for_selector("#alarm", state="visible")
    page.set_input_files("#choose", [str(photograph)])
    reads(page, "#verdict-title", "Waiting for the server …")
    page.unroute("**/v1/model")
    page.click("#alarm-again")
    settle(page)
    seen(page, "#figures")


@pytest.mark.slow
def test_a_refusal_in_the_middle_of_an_upload(visit, server, photograph):
    server.plan = [Planned(hang_up=True)] * 4  # browsers ask again by themselves
    page = visit()
    give(page, photograph)
    reads(page, "#verdict-title", "The connection broke off while the image was sent")
    tells(page, "#verdict-words", "too large")


@pytest.mark.slow
def test_no_answer_in_time(visit, server, photograph):
    server.plan = [Planned(delay=4)]
    page = visit()
    page.clock.install()
    page.reload()
    page.wait_for_function("() => document.querySelector('#about').innerText")
    page.set_input_files("#choose", [str(photograph)])
    page.wait_for_function("() => document.querySelector('#verdict').innerText.includes('Asking')")
    assert until(lambda: server.asked)
    page.clock.fast_forward(61_000)
    settle(page)
    reads(page, "#verdict-title", "No answer in time")
    tells(page, "#verdict-words", "60 seconds")


@pytest.mark.slow
def test_an_answer_to_an_older_question_is_dropped(visit, server, photograph, monkeypatch):
    made = []

    def numbered(*asked):
        made.append(answer(*asked))
        made[-1]["classes"][0]["name"] = f"answer {len(made)}"
        return made[-1]

    monkeypatch.setattr("stand_in.answer", numbered)
    server.plan = [Planned(delay=1.5), Planned()]
    page = visit()
    page.set_input_files("#choose", [str(photograph)])
    page.wait_for_selector("#patient", state="visible")
    page.select_option("#sex", "male")
    settle(page)
    assert question(server, sex="male")
    assert until(lambda: len(made) == 2 and not server.now)  # the first was answered, too
    reads(page, "#likeliest-name", "Answer 1")  # the second question's came first
    seen(page, "#figures")
    assert page.input_value("#sex") == "male"


# ---- for everybody


def test_names_headings_and_live_regions(visit, lesions, grey):
    page = visit()
    assert page.evaluate(ACCESSIBLE) == []
    give(page, lesions[0], grey)
    assert page.evaluate(ACCESSIBLE) == []
    open_crop(page)
    assert page.evaluate(ACCESSIBLE) == []
    page.keyboard.press("Escape")
    page.click(".item >> nth=1")
    page.click("#reveal summary")
    assert page.evaluate(ACCESSIBLE) == []


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(visit, server, lesions, grey, broken, theme):
    """`npm install axe-core` here, or somewhere else: LESIONLAB_AXE names its axe.min.js."""
    axe = Path(os.environ.get("LESIONLAB_AXE") or ROOT / "node_modules/axe-core/axe.min.js")
    if not axe.is_file():
        pytest.skip(f"{axe}, of the npm package axe-core, is not there")
    page = visit(theme=theme, reduced_motion="reduce")
    for state in states(page, server, lesions, grey, broken):
        page.evaluate(axe.read_text("utf-8"))
        found = page.evaluate(
            "async () => (await axe.run()).violations.map("
            "(each) => [each.id, each.nodes.map((node) => node.html)])"
        )
        assert found == [], state


def states(page, server, lesions, grey, broken):
    """Bring the page from state to state; yields the name of each."""
    yield "empty"
    give(page, lesions[0])
    page.click("#map-toggle")
    yield "one"
    page.hover("#set .term")
    page.wait_for_selector("#tip", state="visible")
    yield "term"
    page.mouse.move(0, 0)
    page.click("#remove")
    page.route("**/v1/predict", lambda route: route.abort())
    page.route("**/healthz", lambda route: route.abort())
    give(page, lesions[1], lesions[2])
    yield "gone"
    page.unroute("**/v1/predict")
    page.unroute("**/healthz")
    page.click("#clear")
    give(page, lesions[0], grey, broken)
    page.click(".item >> nth=2")
    yield "unreadable"
    page.click(".item >> nth=1")
    page.click("#reveal summary")
    yield "unlike"
    open_crop(page)
    yield "crop"
    page.keyboard.press("Escape")
    server.plan = [Planned(429, "Busy.", {"Retry-After": "60"})]
    page.set_input_files("#choose", [str(lesions[1])])
    page.wait_for_function(
        "() => document.querySelectorAll('.item')[3]?.innerText.includes('busy')"
    )
    page.click(".item >> nth=3")
    yield "busy"


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_of_actual_colours(visit, server, lesions, grey, broken, theme):
    page = visit(theme=theme, reduced_motion="reduce")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == (theme == "dark")
    for state in states(page, server, lesions, grey, broken):
        found = page.evaluate(CONTRASTS)
        assert len(found) > 5
        poor = [
            (state, what, name, round(ratio, 2))
            for what, name, ratio in found
            if ratio < (4.5 if what == "text" else 3)
        ]
        assert poor == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_scrolls_sideways(visit, server, lesions, grey, broken, width):
    page = visit(width, 844, touch=width < 500)
    for state in states(page, server, lesions, grey, broken):
        scroll, inner = page.evaluate(
            "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        wide = page.evaluate(
            "() => [...document.querySelectorAll('body *')].filter((e) => e.getClientRects().length"
            " && !e.closest('.unseen, svg, #map, .skip, #items')"
            " && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)"
            ".map((e) => e.outerHTML.slice(0, 60))"
        )
        assert wide == [], state
        assert scroll <= inner == width, state


@pytest.mark.slow
def test_themes_follow_the_system_and_the_button(visit):
    page = visit(theme="dark")
    reads(page, "#theme", "Light theme")
    page.click("#theme")
    reads(page, "#theme", "Dark theme")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == light  # remembered
    page = visit(theme="light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


@pytest.mark.slow
def test_no_motion_where_none_is_wanted(visit):
    moving = "() => getComputedStyle(document.querySelector('#theme')).transitionDuration"
    assert visit(reduced_motion="no-preference").evaluate(moving) != "0s"
    assert visit(reduced_motion="reduce").evaluate(moving) == "0s"


def tab_to(page, wanted, limit=40):
    """Press Tab until something has the focus; every stop on the way must be seen."""
    passed = []
    for _ in range(limit):
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUS)
        if focus["id"] != "BODY":
            assert focus["outline"], focus
            assert focus["visible"], focus
        passed.append(focus["id"])
        if focus["id"] == wanted:
            return passed
    raise AssertionError(f"{wanted} is not reached: {passed}")


@pytest.mark.slow
def test_keyboard_alone(visit, server, lesions):
    page = visit()
    page.on("filechooser", lambda _: None)  # the browser hands them over a while after it is asked
    page.wait_for_function("() => document.querySelector('#about').innerText")
    assert tab_to(page, "choose")[0] == "skip"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([str(each) for each in lesions[:3]])
    settle(page)
    tab_to(page, "item")
    page.keyboard.press("ArrowDown")
    reads(page, "#detail-title", lesions[1].name)
    assert page.evaluate("document.activeElement.className") == "item"
    page.keyboard.press("Enter")
    focused(page, "detail-title")
    tab_to(page, "map-toggle")
    page.keyboard.press("Enter")
    assert {"map-class", "opacity"} <= set(tab_to(page, "crop"))
    page.keyboard.press("Enter")
    page.wait_for_selector("#cropper[open]")
    page.keyboard.press("ArrowDown")
    tab_to(page, "crop-use")
    page.keyboard.press("Enter")
    page.wait_for_selector("#cropper", state="hidden")
    settle(page)
    tab_to(page, "age")
    page.keyboard.type("44")
    tab_to(page, "sex")
    page.keyboard.press("f")
    assert question(server, lesions[1].name, age="44", sex="female")
    settle(page)
    page.wait_for_function("() => document.querySelector('#answer').ariaBusy === 'false'")
    for _ in range(140):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.id") == "export":
            break
    focused(page, "export")
    with page.expect_download():
        page.keyboard.press("Enter")


@pytest.mark.slow
def test_colour_is_never_alone(visit, server, lesions, grey):
    """Each verdict has a shape and words of its own besides its colour."""
    page = visit()
    give(page, lesions[0], grey)
    signs = {page.get_attribute("#sign", "href")}
    titles = {text(page, "#verdict-title")}
    page.click(".item >> nth=1")
    signs.add(page.get_attribute("#sign", "href"))
    titles.add(text(page, "#verdict-title"))
    assert len(signs) == len(titles) == 2


# ---- many and real images


@pytest.mark.slow
def test_many_images_two_at_a_time(visit, server, lesions):
    page = visit()
    give(page, *(lesions * 2)[:60])
    assert len(server.asked) == 60
    assert server.most <= 2
    reads(page, "#progress", "60 images")


@pytest.fixture(scope="module")
def photographs():
    """Dermatoscopic photographs in full size, to be read only."""
    default = ROOT.parent / "shared" / "ham10000-fullsize"
    folder = Path(os.environ.get("LESIONLAB_HAM10000_FULLSIZE") or default).resolve()
    found = sorted(folder.glob("*.jpg"))
    if not found:
        pytest.skip(f"there are no full-size photographs at {folder}")
    return found


@pytest.mark.slow
def test_real_photographs(visit, server, photographs):
    page = visit(390, 844, touch=True)
    give(page, *photographs[:3])
    assert [each.content for each in sorted(server.asked, key=lambda each: each.name)] == [
        each.read_bytes() for each in photographs[:3]
    ]
    page.keyboard.press("m")
    seen(page, "#map")
    open_crop(page)
    use_crop(page)
    width, height = Image.open(io.BytesIO(photographs[0].read_bytes())).size
    assert server.asked[-1].size == (round(width * 0.8), round(height * 0.8))


# ---- the server itself


@pytest.fixture
def real_server(bundle_file):
    """The application with a tiny bundle, on a free port."""
    app = pytest.importorskip("lesionlab.web.app", reason="the server is not installed")
    uvicorn = pytest.importorskip("uvicorn", reason="the server is not installed")
    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(app.create_app(bundle_file), log_level="error"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    running.should_exit = True
    thread.join(20)
    listening.close()


@pytest.mark.slow
def test_with_the_server_itself(visit, real_server, photograph, broken):
    page = visit(url=real_server)
    page.wait_for_function("() => document.querySelector('#about').innerText")
    with page.expect_response("**/v1/predict") as response:
        page.set_input_files("#choose", [str(photograph)])
    [result] = response.value.json()["results"]
    settle(page)
    if result["reason"] == "unlike":
        page.click("#reveal summary")
    page.wait_for_selector("#figures", state="visible")
    names = [each["name"] for each in result["classes"]]
    assert page.locator("#classes .name").all_inner_texts() == [
        name[:1].upper() + name[1:] for name in names
    ]
    if not all(each["blank"] for each in result["maps"]):
        shown = next(each for each in result["maps"] if not each["blank"])
        page.click("#map-toggle")
        page.select_option("#map-class", shown["label"])
        seen(page, "#map")
    give(page, broken)
    page.click(".item >> nth=1")
    reads(page, "#verdict-title", "Refer: cannot be read")
    rows = exported(page)
    assert rows[0]["predicted"] == result["predicted"]
    assert rows[1]["reason"] == "unreadable"
    with page.context.expect_page() as card:
        page.click("#card")
    card.value.wait_for_load_state()
    assert card.value.url == f"{real_server}v1/card"
