"""The page at /docs, in a real browser too."""

import gzip
import os
import re
import shutil
from pathlib import Path

import pytest
from servers import listening, picture

CHROMIUM = os.environ.get("LESIONLAB_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"


def test_docs_are_a_page_of_our_own_files_by_a_list_of_names(client):
    page = client.get("/docs")
    names = re.findall(r'(?:href|src)="docs/([^"]+)"', page.text)
    assert len(names) == 3
    for name in names:
        assert client.get(f"/docs/{name}").status_code == 200
    assert not re.search(r"https?://", page.text)
    assert client.get("/docs/LICENSE.txt").status_code == 404
    assert client.get("/redoc").status_code == 404


def test_a_packed_file_is_unpacked_for_who_cannot(client):
    packed = client.get("/docs/swagger-ui.css", headers={"Accept-Encoding": "gzip"})
    plain = client.get("/docs/swagger-ui.css", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert plain.content == packed.content == gzip.decompress(packed_file("swagger-ui.css"))
    for answer in (packed, plain):
        assert answer.headers["vary"] == "Accept-Encoding"
    known = {"If-None-Match": packed.headers["etag"]}
    assert client.get("/docs/swagger-ui.css", headers=known).status_code == 304


def packed_file(name):
    import lesionlab.web

    return (Path(lesionlab.web.__file__).parent / "swagger" / f"{name}.gz").read_bytes()


def test_docs_ask_the_server_and_nobody_else(bundle_file, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="the page needs playwright")
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"there is no Chromium at {CHROMIUM}; LESIONLAB_CHROMIUM names another")
    (tmp_path / "photo.jpg").write_bytes(picture())
    addresses, faults = [], []
    with listening(bundle_file) as (address, _, _), sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: addresses.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: message.type == "error" and faults.append(message.text))
        page.goto(f"{address}/docs")
        page.locator("[id$=predict_post] .opblock-summary-control").click()
        page.locator("input[type=file]").set_input_files(tmp_path / "photo.jpg")
        with page.expect_response("**/v1/predict") as asked:
            page.locator("button.execute").click()
        assert asked.value.status == 200
        browser.close()
    assert faults == []  # a policy that blocks something is told of here
    assert {each.startswith(f"{address}/") for each in addresses} == {True}
