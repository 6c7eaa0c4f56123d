"""Run the course's notebooks and keep what they show: docs/course/*.ipynb, in place.

    python tools/course.py --data data/ham10000 [docs/course/2_first_net.ipynb ...]

Without --data they run on drawn lesions, which is what a reader without HAM10000 sees; what the
repository keeps is made with it. Needs lesionlab[train,weights,notebooks].
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import resource
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from lesionlab.files import fingerprint

COURSE = Path(__file__).resolve().parents[1] / "docs" / "course"
PATIENCE = 600  # seconds for a cell
LOCAL = re.compile(r"(?<![\w:/.])/(?:tmp|home|root|work|var|private|Users)/[\w.-]+|[A-Z]:\\\\")
"""A path of the machine that ran a cell."""
EXECUTED = "executed"


def execute(path: Path, data: Path | None) -> NotebookNode:
    """Run a notebook on one core in a kernel of its own.

    Args:
        path: the notebook; it is not changed.
        data: HAM10000's folder; None for drawn lesions.

    Returns:
        The notebook with its new outputs.

    Raises:
        CellExecutionError: if a cell fails.
        SystemExit: if an output has a warning of Python's, or a path of this machine.
    """
    notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LESIONLAB_HAM10000": str(data or "")}
    environment.pop("MPLBACKEND", None)  # the kernel draws into the notebook
    client = NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3")
    client.coalesce_streams = True  # else a slow machine breaks what a cell prints into pieces
    client.extra_arguments = ["--log-level=ERROR"]  # not that it listens on this machine's TCP
    client.execute(env=environment, cwd=str(path.parent))
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            _tidy(output)
            if fault := _fault(output):
                raise SystemExit(f"{path.name}, cell {cell.id}: {fault}")
        cell.metadata.pop("execution", None)
    notebook.metadata["lesionlab"] = {EXECUTED: sources(notebook)}
    return notebook


def sources(notebook: NotebookNode) -> str:
    """A fingerprint of the code, whatever a formatter does: outputs of another one are stale."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return fingerprint([re.sub(r"[\s(),'\"]", "", source) for source in code])


def _tidy(output: NotebookNode) -> None:
    """Pictures of few colours, and no text that only stands in for a picture or a table."""
    data = output.get("data", {})
    if "image/png" in data:
        with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as image:
            small = image.convert("RGB").quantize(192, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        small.save(buffer, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
    if {"image/png", "text/html"} & set(data):
        data.pop("text/plain", None)


def _fault(output: NotebookNode) -> str:
    if output.get("name") == "stderr":
        return f"written to stderr: {output.text[:300]}"
    texts = [output.get("text", ""), *(str(each) for each in output.get("data", {}).values())]
    found = next((found for text in texts if (found := LOCAL.search(text))), None)
    return f"a path of this machine: {found[0]}" if found else ""


def _processor_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def main() -> int:
    """Run all or the named ones, and say what each took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", type=Path, nargs="*")
    parser.add_argument("--data", type=Path, help="folder of HAM10000; without, drawn lesions")
    words = parser.parse_args()
    for path in words.notebooks or sorted(COURSE.glob("*.ipynb")):
        begin, used = time.monotonic(), _processor_seconds()
        notebook = execute(path.resolve(), words.data and words.data.resolve())
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
        size = path.stat().st_size / 1000
        took = f"{time.monotonic() - begin:.0f} s, {_processor_seconds() - used:.0f} s of a core"
        print(f"{path.name}: {took}, {size:.0f} kB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
