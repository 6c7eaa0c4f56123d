"""Take the pictures of docs/gallery from real pages: those of a run, and the served page.

    python tools/gallery.py demo/run --data demo/catalogue

The run should be one of drawn lesions (`make demo`): no image of a data set belongs into the tree.
Needs playwright and a Chromium (LESIONLAB_CHROMIUM names another than the system's).
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import lesionlab as ll

GALLERY = Path(__file__).resolve().parents[1] / "docs" / "gallery"
WIDTH, HEIGHT = 1180, 860
PATIENCE = 120_000  # milliseconds


def pages_of(run: Path, data: ll.Catalogue, folder: Path) -> dict[str, Path]:
    """Every page that a run and its catalogue have, by the name of its picture."""
    ll.card(run, data=data).save(folder / "card.html")
    ll.trust(run, data=data, count=60, out=folder / "trust")
    return {
        "report": ll.report([run], folder / "report.html", data=data),
        "card": folder / "card.html",
        "explore": ll.explore(data, folder / "explore.html"),
        "explain": _explained(run, data, folder / "explain.html"),
        "trust": folder / "trust" / "trust.html",
    }


def _explained(run: Path, data: ll.Catalogue, out: Path) -> Path:
    ll.explain(run, data=data, count=6, untrained=True, out=out)
    return out


def picture_of_served(browser: Any, images: list[Path], out: Path) -> None:
    """The page with some answers, one of them with its map."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lesionlab", "serve", "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + PATIENCE / 1000
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if time.monotonic() > until or server.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} does not answer")
            time.sleep(0.2)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"http://127.0.0.1:{port}/")
        page.set_input_files("#choose", [str(image) for image in images])
        page.wait_for_selector("#map-toggle:not([hidden])", timeout=PATIENCE)
        page.click("#map-toggle")
        page.wait_for_selector("#map:not([hidden])", timeout=PATIENCE)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=out)
    finally:
        server.terminate()
        server.wait()


def main() -> int:
    """Make the pages and write their pictures, small, as PNG of 128 colours."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the run's catalogue")
    words = parser.parse_args()
    data = ll.Catalogue.open(words.data)
    chromium = os.environ.get("LESIONLAB_CHROMIUM") or shutil.which("chromium")
    GALLERY.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        pages = pages_of(words.run, data, Path(temporary))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        for name, path in pages.items():
            tab.goto(path.as_uri())
            tab.screenshot(path=GALLERY / f"{name}.png")
        images = [data.root / path for path in data.table["path"].iloc[:4]]
        picture_of_served(browser, images, GALLERY / "page.png")
        browser.close()
    for path in GALLERY.glob("*.png"):
        with Image.open(path) as image:
            small = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
