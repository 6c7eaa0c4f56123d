"""The page in a real browser, against a stand-in of the server that can fail on demand."""

from __future__ import annotations

import base64
import csv
import io
import os
import re
import shutil
import socket
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from stand_in import NAMES, NOTICE, STATIC, Planned, StandIn, answer, model

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


def question(server, name=None, **fields):
    """The latest question with these fields; one that was dropped may have come in behind it."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for each in reversed(server.asked):
            same = all(each.fields.get(key) == value for key, value in fields.items())
            if same and name in (None, each.name):
                return each
        time.sleep(0.02)
    raise AssertionError(f"nobody asked about {name or 'an image'} with {fields}")


def open_crop(page):
    page.click("#crop")
    page.wait_for_selector("#cropper[open]")


def use_crop(page, button="#crop-use"):
    page.click(button)
    page.wait_for_selector("#cropper", state="hidden")
    settle(page)


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


def test_three_files_that_a_strict_policy_lets_through():
    assert sorted(each.name for each in STATIC.iterdir()) == ["index.html", "page.css", "page.js"]
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:", html)
    for each in STATIC.iterdir():
        assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]{2,}", each.read_text("utf-8")), each


# ---- one image


def test_an_image_is_answered(visit, server, photograph):
    page = visit()
    give(page, photograph)
    right = answer(photograph.name, photograph.read_bytes(), "all")
    [asked] = server.asked
    assert asked.content == photograph.read_bytes()
    assert asked.fields == {"maps": "all"}

    rows = page.locator("#classes li").all()
    assert [row.locator(".name").inner_text() for row in rows] == [
        each["name"] for each in right["classes"]
    ]
    values = [row.locator(".value").inner_text().replace("\u00a0", " ") for row in rows]
    assert values == [shown_percent(each["probability"]) for each in right["classes"]]
    bars = [row.locator("progress") for row in rows]
    for bar, each in zip(bars, right["classes"], strict=True):
        assert float(bar.get_attribute("value")) == pytest.approx(each["probability"])
        assert bar.get_attribute("aria-label") == each["name"]
    inside = [each["name"] for each in right["classes"] if each["in_set"]]
    marks = [row.locator(".mark").inner_text() for row in rows]
    assert marks == ["in the set"] * len(inside) + [""] * (7 - len(inside))

    first = right["classes"][0]
    assert text(page, "#likeliest-name") == first["name"]
    assert text(page, "#likeliest-value") == shown_percent(first["probability"])
    assert text(page, "#notice") == NOTICE
    assert page.locator("#size").inner_text() == "160 × 120 pixels"
    assert first["name"].lower() in said(page)
    assert page.locator("#card").get_attribute("href") == "v1/card"
    assert "fingerprint 0123456789abcdef" in text(page, "#about")


def test_verdict_and_set_in_words(visit, server, photograph, monkeypatch):
    page = visit()
    label = list(NAMES)

    def asked_with(inside, reason):
        changed = answer(photograph.name, photograph.read_bytes(), "all")
        for each in changed["classes"]:
            each["in_set"] = each["label"] in inside
        refer = reason not in ("", "benign_undecided")
        changed.update(reason=reason, set=list(inside), refer=refer, reason_text="Said why.")
        monkeypatch.setattr("stand_in.answer", lambda *_: changed)
        give(page, photograph)
        verdict, sentence = text(page, "#verdict"), text(page, "#set")
        page.click("#remove")
        return verdict, sentence

    promise = "For lesions like those tested, at most 5 of 100 malignant lesions are missed"
    verdict, sentence = asked_with(["mel", "nv"], "malignancy_likely")
    assert verdict.startswith("Refer: malignancy likely")
    assert "Said why." in verdict
    assert sentence in (
        "With 90 % coverage: melanoma or melanocytic nevus.",
        "With 90 % coverage: melanocytic nevus or melanoma.",
    )
    verdict, sentence = asked_with(["nv"], "")
    assert verdict.startswith("Nothing malignant suspected")
    assert promise in verdict
    assert "it left 3.1 of 100 malignant lesions unreferred" in verdict
    assert sentence == "With 90 % coverage: melanocytic nevus."
    verdict, sentence = asked_with([], "benign_undecided")
    assert verdict.startswith("Nothing malignant suspected; which class it is stays undecided")
    assert promise in verdict
    assert sentence.startswith("With 90 % coverage: no class.")
    assert (
        asked_with(label, "malignancy_possible")[1] == "With 90 % coverage: any of the 7 classes."
    )


def test_unlike_and_unreadable_show_no_answer(visit, grey, broken):
    page = visit()
    give(page, grey)
    assert text(page, "#verdict-title") == "Refer: cannot judge this image"
    assert "does not look like a dermatoscopic image; no answer is shown" in text(page, "#verdict")
    for each in ("#first", "#figures", "#mapping", "#map"):
        assert not page.is_visible(each), each
    assert "melanoma" not in page.inner_text("#items, #detail").lower()
    page.click("#reveal summary")
    page.wait_for_selector("#figures", state="visible")
    assert page.is_visible("#map")
    page.click("#reveal summary")
    page.wait_for_selector("#figures", state="hidden")

    page.click("#remove")
    give(page, broken)
    assert text(page, "#verdict-title") == "Refer: cannot judge this image"
    assert "cannot be read as an image" in text(page, "#verdict-words")
    assert not page.is_visible("#figures")
    assert page.is_visible("#no-picture")
    assert not page.is_visible("#crop")


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
    assert text(page, "#detail-title") == "pasted-1.png"
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
    assert not visit().is_visible(".photo")
    page = visit(390, 844, touch=True)
    assert page.is_visible(".photo")
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
    assert "from 0 to 120" in text(page, "#age-fault")
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
    assert page.is_visible("#age")
    assert not page.is_visible("#sex")
    assert not page.is_visible("#site")
    server.model = model(fields=[])
    page = visit()
    give(page, photograph)
    assert not page.is_visible("#patient")


# ---- the map


def pixels(page):
    """The map's canvas, shape (height, width, 4)."""
    drawn = page.evaluate("document.querySelector('#map').toDataURL()").partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn))), dtype=float)


def test_map_slider_and_class(visit, photograph):
    page = visit()
    give(page, photograph)
    right = {each["label"]: each for each in answer("", photograph.read_bytes(), "all")["maps"]}
    first = page.input_value("#map-class")
    assert _differs(pixels(page), right[first]) < 12
    assert page.evaluate("getComputedStyle(document.querySelector('#map')).opacity") == "0.5"
    page.fill("#opacity", "20")
    assert page.evaluate("getComputedStyle(document.querySelector('#map')).opacity") == "0.2"
    assert text(page, "#opacity-words") == "20 %"

    other = next(each for each in ("bcc", "mel") if right[each]["values"] != right[first]["values"])
    assert _differs(pixels(page), right[other]) > 40
    page.select_option("#map-class", other)
    assert _differs(pixels(page), right[other]) < 12
    assert NAMES[other].lower() in text(page, "#map-words")
    assert said(page) == text(page, "#map-words")
    page.select_option("#map-class", "vasc")
    assert text(page, "#map-words").startswith("The map is blank: no part of the image speaks for")
    assert not page.is_visible("#map")


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
    assert not page.is_visible("#mapping")


# ---- cropping


def frame_of(page):
    return [int(page.input_value(f"#crop-{side}")) for side in ("x", "y", "width", "height")]


def test_crop_sends_the_pixels_themselves(visit, server, photograph):
    page = visit()
    give(page, photograph)
    open_crop(page)
    assert page.evaluate("document.activeElement.id") == "board"
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
    assert text(page, "#size") == f"{width} × {height} pixels, cropped from 160 × 120"
    assert page.evaluate("document.activeElement.id") == "crop"
    open_crop(page)
    assert frame_of(page) == [x, y, width, height]
    use_crop(page, "#crop-whole")
    assert server.asked[-1].content == photograph.read_bytes()


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
    assert not page.is_visible("#cropper")
    assert text(page, "#size") == "160 × 120 pixels"


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
    assert text(page, "#size") == "120 × 160 pixels"
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
    assert items[1].locator(".first").inner_text() == right["classes"][0]["name"]
    second = items[1].locator(".second").inner_text().replace("\u00a0", " ")
    assert second.startswith(shown_percent(right["classes"][0]["probability"]))
    for each in items[2:4]:
        assert each.locator(".first").inner_text() == "Refer: cannot judge"
    assert items[0].get_attribute("aria-current") == "true"
    items[1].click()
    assert items[0].get_attribute("aria-current") is None
    assert text(page, "#detail-title") == lesions[1].name
    page.keyboard.press("Tab")

    rows = exported(page)
    labels = list(NAMES)
    assert list(rows[0]) == [
        "image", "predicted", *[f"p_{label}" for label in labels], "set", "reason",
        "model_fingerprint",
    ]  # fmt: skip
    assert rows[0]["image"] == lesions[0].name
    assert rows[1]["predicted"] == right["predicted"]
    probabilities = {each["label"]: each["probability"] for each in right["classes"]}
    assert {label: float(rows[1][f"p_{label}"]) for label in labels} == probabilities
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
    assert text(page, "#detail-title") == lesions[1].name
    assert text(page, "#place") == "2 of 3"
    page.click("#next")
    assert page.is_disabled("#next")
    assert page.evaluate("document.activeElement.id") == "detail-title"  # not lost
    page.click("#remove")
    assert text(page, "#detail-title") == lesions[1].name
    assert page.locator(".item").count() == 2
    page.click("#clear")
    assert not page.is_visible("#work")
    assert page.evaluate("document.activeElement.id") == "choose"


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
        assert text(page, "#verdict-title") == title
        assert text(page, "#verdict-words") == f"Do this after {status}."
        assert title in said(page)
        assert page.is_visible("#again") == (status not in (413, 415, 422))
        assert page.is_visible("#crop-hint") == (status == 413)
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
    page.wait_for_function("() => document.querySelector('#verdict').innerText.includes('busy')")
    assert text(page, "#verdict-title") == "The server is busy"
    assert text(page, "#verdict-words") == "Trying again by itself in 2 seconds."
    assert "Trying again" in said(page)
    page.wait_for_selector("#figures", state="visible")
    assert time.monotonic() - begun >= 2
    assert len(server.asked) == 2


@pytest.mark.slow
def test_an_api_key_is_asked_for_and_kept_in_memory_only(visit, server, photograph):
    server.key = "open-sesame-0123456789"
    page = visit()
    page.wait_for_selector("#asking-key[open]")
    assert page.evaluate("document.activeElement.id") == "key"
    page.fill("#key", "wrong")
    page.click("#key-use")
    page.wait_for_function("() => document.querySelector('#key-fault').innerText")
    assert "does not know this key" in text(page, "#key-fault")
    page.fill("#key", server.key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#asking-key", state="hidden")
    give(page, photograph)
    assert page.is_visible("#figures")
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
    assert "asks for an API key" in text(page, "#alarm")


@pytest.mark.slow
def test_a_server_that_went_away_and_came_back(visit, server, lesions):
    page = visit()
    give(page, lesions[0])
    port = server.server_address[1]
    server.shutdown()
    server.server_close()
    give(page, lesions[1], lesions[2])
    page.click(".item >> nth=1")
    assert text(page, "#verdict-title") == "The server does not answer."
    assert "lesionlab serve" in text(page, "#alarm")
    with StandIn(port):
        page.click("#alarm-again")
        settle(page)
        assert page.locator('.item[data-look="stop"]').count() == 0
        assert not page.is_visible("#alarm")
        assert page.is_visible("#figures")


@pytest.mark.slow
def test_a_page_without_its_server_says_so(visit, server, photograph):
    page = visit()
    page.route("**/v1/model", lambda route: route.abort())
    page.reload()
    page.wait_for_selector("#alarm", state="visible")
    page.set_input_files("#choose", [str(photograph)])
    assert text(page, "#verdict-title") == "Waiting for the server …"
    page.unroute("**/v1/model")
    page.click("#alarm-again")
    settle(page)
    assert page.is_visible("#figures")


@pytest.mark.slow
def test_a_refusal_in_the_middle_of_an_upload(visit, server, photograph):
    server.plan = [Planned(hang_up=True)] * 4  # browsers ask again by themselves
    page = visit()
    give(page, photograph)
    assert text(page, "#verdict-title") == "The connection broke off while the image was sent"
    assert "too large" in text(page, "#verdict-words")


@pytest.mark.slow
def test_no_answer_in_time(visit, server, photograph):
    server.plan = [Planned(delay=4)]
    page = visit()
    page.clock.install()
    page.reload()
    page.wait_for_function("() => document.querySelector('#about').innerText")
    page.set_input_files("#choose", [str(photograph)])
    page.wait_for_function("() => document.querySelector('#verdict').innerText.includes('Asking')")
    for _ in range(100):
        if server.asked:
            break
        time.sleep(0.05)
    page.clock.fast_forward(61_000)
    settle(page)
    assert text(page, "#verdict-title") == "No answer in time"
    assert "60 seconds" in text(page, "#verdict-words")


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
    page.wait_for_timeout(2000)
    assert len(made) == 2
    assert question(server, sex="male")
    assert text(page, "#likeliest-name") == "Answer 1"  # the second question's came first
    assert page.is_visible("#figures")
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


def states(page, server, lesions, grey, broken):
    """Bring the page from state to state; yields the name of each."""
    yield "empty"
    give(page, lesions[0])
    page.click("#points summary")
    yield "one"
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
    page = visit(theme=theme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == (theme == "dark")
    for state in states(page, server, lesions, grey, broken):
        page.wait_for_timeout(200)  # transitions
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
            " && !e.closest('.unseen, svg, #map, .skip') && e.getBoundingClientRect().right >"
            " document.documentElement.clientWidth + 1).map((e) => e.outerHTML.slice(0, 60))"
        )
        assert wide == [], state
        assert scroll <= inner == width, state


@pytest.mark.slow
def test_themes_follow_the_system_and_the_button(visit):
    page = visit(theme="dark")
    assert text(page, "#theme") == "Light theme"
    page.click("#theme")
    assert text(page, "#theme") == "Dark theme"
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
    assert text(page, "#detail-title") == lesions[1].name
    assert page.evaluate("document.activeElement.className") == "item"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "detail-title"
    tab_to(page, "crop")
    page.keyboard.press("Enter")
    page.wait_for_selector("#cropper[open]")
    page.keyboard.press("ArrowDown")
    tab_to(page, "crop-use")
    page.keyboard.press("Enter")
    page.wait_for_selector("#cropper", state="hidden")
    settle(page)
    passed = tab_to(page, "age")
    assert {"map-class", "opacity"} <= set(passed)
    page.keyboard.type("44")
    tab_to(page, "sex")
    page.keyboard.press("f")
    assert question(server, lesions[1].name, age="44", sex="female")
    settle(page)
    page.wait_for_function("() => document.querySelector('#answer').ariaBusy === 'false'")
    for _ in range(120):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.id") == "export":
            break
    assert page.evaluate("document.activeElement.id") == "export"
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
    assert text(page, "#progress") == "60 images"


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
    assert page.is_visible("#map")
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
        page.select_option("#map-class", shown["label"])
        assert page.is_visible("#map")
    give(page, broken)
    page.click(".item >> nth=1")
    assert text(page, "#verdict-title") == "Refer: cannot judge this image"
    rows = exported(page)
    assert rows[0]["predicted"] == result["predicted"]
    assert rows[1]["reason"] == "unreadable"
    with page.context.expect_page() as card:
        page.click("#card")
    card.value.wait_for_load_state()
    assert card.value.url == f"{real_server}v1/card"
