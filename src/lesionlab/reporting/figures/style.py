"""The one style of all figures, and how a figure becomes an SVG element of a page.

Letters are drawn as paths of the font that matplotlib ships, so a figure looks the same on every
machine. Text and lines take their colours from the page (`currentColor`, `--muted`, `--line`), so
one figure serves a light and a dark page. Every figure carries a label that says in words what it
shows.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from lesionlab.files import fingerprint

WIDTH = 4.4
"""Inches, 317 SVG units: about what a phone shows at its own scale."""

# Stand-ins that become colours of the page when a figure is written.
TEXT, MUTED, LINE = "#010203", "#040506", "#070809"
_PAGE_COLOURS = {
    TEXT: "currentColor",
    MUTED: "var(--muted, #59636f)",
    LINE: "var(--line, #d5dae0)",
}
_PRINTED, _PAPER = "#18212b", "#ffffff"  # text and ground of a figure in a file of its own
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": TEXT,
    "text.parse_math": False,  # a class may be called "$x$"
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "path",
    "svg.hashsalt": "lesionlab",
}


@contextmanager
def canvas(height: float, grid: str = "both", *, arranged: bool = True) -> Iterator[Figure]:
    """An empty figure of the page's width; what is drawn within is in the report's style.

    Args:
        height: in inches.
        grid: "x", "y", "both", or "" for none.
        arranged: matplotlib finds places for axes and legends; otherwise the caller does.
    """
    make: Callable[..., Figure] = Figure
    if _figures.get() is not None:
        from matplotlib import pyplot

        make = pyplot.figure  # a notebook shows what pyplot knows
    with mpl.rc_context({**STYLE, "axes.grid": bool(grid), "axes.grid.axis": grid or "both"}):
        figure = make(figsize=(WIDTH, height), layout="constrained" if arranged else None)
        interactive = mpl.is_interactive()
        yield figure
    mpl.interactive(interactive)  # Jupyter's backend turns it on while the first figure is made


_figures: ContextVar[list[Figure] | None] = ContextVar("figures", default=None)


def figures_of(draw: Callable[[], object]) -> list[Figure]:
    """The figures that a call draws, as matplotlib's instead of SVG text, in colours of paper.

    So `lesionlab.plot` and the pages have one implementation of every figure.

    Args:
        draw: calls functions that draw with `canvas` and `to_svg`.
    """
    made: list[Figure] = []
    token = _figures.set(made)
    try:
        draw()
    finally:
        _figures.reset(token)
    return made


def _on_paper(figure: Figure) -> None:
    """Give all artists colours of paper in place of those that stand for colours of a page."""
    paper = {TEXT: _PRINTED, MUTED: "#59636f", LINE: "#d5dae0"}
    for axes in figure.axes:
        axes.tick_params(color=paper[LINE], grid_color=paper[LINE])
    for artist in figure.findobj():
        for name in ("color", "edgecolor", "facecolor", "markeredgecolor", "markerfacecolor"):
            with suppress(AttributeError, TypeError, ValueError):  # not every artist has every one
                now = getattr(artist, f"get_{name}")()
                if (colour := to_hex(now)) in paper:
                    getattr(artist, f"set_{name}")(paper[colour])


def to_svg(figure: Figure, label: str) -> str:
    """Write a figure as an SVG element for a page: no namespaces, own ids, the page's colours."""
    if (figures := _figures.get()) is not None:
        _on_paper(figure)
        figures.append(figure)
        return ""
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    buffer = io.StringIO()
    figure.savefig(
        buffer,
        format="svg",
        metadata={"Date": None, "Creator": None},
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]*)"', text)
    head = f'<svg class="figure" viewBox="{box.group(1) if box else ""}" role="img" '
    text = re.sub(r"<svg[^>]*>", lambda _: f'{head}aria-label="{escape(label)}">', text, count=1)
    text = re.sub(r' d="([^"]*)"', lambda found: f' d="{_rounded(found.group(1))}"', text)
    mine = f"f{fingerprint(text)[:8]}-"  # ids must differ between the figures of a page
    text = re.sub(r'(\bid=")', rf"\1{mine}", text)
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{mine}', text)
    text = text.replace("url(#", f"url(#{mine}")
    for stand_in, colour in _PAGE_COLOURS.items():
        text = text.replace(stand_in, colour)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def standalone(text: str) -> str:
    """Make a file of an SVG element that `to_svg` wrote: own namespaces, light colours, a title."""
    label = re.search(r'aria-label="([^"]*)"', text)
    box = re.search(r'viewBox="([^"]*)"', text)
    width, height = box.group(1).split()[2:] if box else ("100%", "100%")
    head = (
        f'xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" '
        f'color="{_PRINTED}">\n<title>{label.group(1) if label else ""}</title>\n'
        f'<rect width="100%" height="100%" fill="{_PAPER}"/>'
    )
    text = re.sub(r"(<svg[^>]*)>", lambda found: f"{found.group(1)} {head}", text, count=1)
    return re.sub(r"var\(--\w+, (#\w+)\)", r"\1", text).replace("currentColor", _PRINTED) + "\n"


def _rounded(path: str) -> str:
    """Round a path's coordinates to hundredths of a unit."""
    text = re.sub(
        r"-?\d+\.\d+", lambda found: f"{float(found.group()):.2f}".rstrip("0").rstrip("."), path
    )
    return " ".join(text.split())
