"""Pictures side by side, as one figure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lesionlab.reporting.figures.style import canvas, to_svg


def pictures(rows: Sequence[tuple[str, Mapping[str, NDArray[np.uint8]]]]) -> str:
    """Draw a grid of pictures.

    Args:
        rows: a name, and pictures of shape (height, width, 3) by caption; the captions of the first
            row stand above the columns.

    Returns:
        An `<svg>` element.
    """
    columns = max(len(row) for _, row in rows)
    height, width = next(iter(rows[0][1].values())).shape[:2]
    with canvas(0.4 + len(rows) * 4.4 / columns * height / width, grid="") as figure:
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for place, ((name, row), line) in enumerate(zip(rows, grid, strict=True)):
            line[0].set_ylabel(name)
            for (caption, pixels), axes in zip(row.items(), line, strict=False):
                axes.imshow(pixels)
                if not place:
                    axes.set_title(textwrap.fill(caption, 70 // columns), fontsize=8)
        return to_svg(figure, f"{len(rows)} rows of pictures: {', '.join(rows[0][1])}")
