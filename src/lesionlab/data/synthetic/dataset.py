"""Drawn skin lesions in HAM10000's layout, from a seed: for demonstrations, tests and teaching.

The table of lesions and images, the folders, the settings and the drawing on several threads. How
one lesion is drawn stands in `lesions`, how it is photographed in `photographs`.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lesionlab.data.synthetic.lesion_drawing import (
    REACH,
    Canvas,
    actinic,
    basal,
    dermatofibroma,
    keratosis,
    melanoma,
    nevus,
    vascular,
)
from lesionlab.data.synthetic.photo_rendering import Skin, photograph
from lesionlab.errors import DataError, SettingsError
from lesionlab.files import cannot_write, read_json
from lesionlab.progress import Listener, Notice, Step, silent

COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
MASKS = "HAM10000_segmentations_lesion_tschandl"
PARTS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
SETTINGS = "synthetic.json"
_VERSION = 1  # raise it whenever the same seed draws other pixels
_README = """These images are DRAWN BY A PROGRAM. They are not photographs and show no patient.

lesionlab drew them from a random seed (synthetic.json), in the layout of HAM10000, so that
software can be tried where no data set is at hand. Diagnoses, ages, sexes and sites are made up.
A classifier that does well here has shown nothing about real skin.
"""

_VIEWS = (0.740, 0.195, 0.047, 0.018)  # lesions with 1, 2, 3, 4 images: 45 % of images share one
_SITES: Mapping[str, float] = {
    "back": 22, "lower extremity": 21, "trunk": 14, "upper extremity": 11, "abdomen": 10,
    "face": 7, "chest": 4, "foot": 3, "unknown": 2.5, "neck": 1.7, "scalp": 1.3, "hand": 1,
    "ear": 0.6, "genital": 0.5, "acral": 0.2,
}  # fmt: skip


@dataclass(frozen=True)
class _Kind:
    """How a class is drawn and what its rows say.

    Attributes:
        share: of all lesions; HAM10000's imbalance, softened.
        radius: smallest and greatest, as a share of the image's height.
        age: mean and standard deviation, years.
        proof: share of each dx_type.
        sites: how much more often than usual a site is affected.
    """

    draw: Callable[[Canvas], None]
    share: float
    radius: tuple[float, float]
    age: tuple[float, float]
    proof: Mapping[str, float]
    sites: Mapping[str, float] = field(default_factory=dict)


_SUN = {"face": 4.0, "ear": 3.0, "scalp": 4.0, "hand": 3.0, "neck": 2.0, "genital": 0.0}
_KINDS: Mapping[str, _Kind] = {
    "akiec": _Kind(actinic, 0.09, (0.28, 0.38), (67, 11), {"histo": 1}, _SUN),
    "bcc": _Kind(basal, 0.12, (0.26, 0.38), (67, 13), {"histo": 1}, _SUN),
    "bkl": _Kind(
        keratosis, 0.15, (0.26, 0.40), (64, 14),
        {"histo": 0.7, "consensus": 0.24, "confocal": 0.06}, {"face": 3.0, "scalp": 2.0},
    ),
    "df": _Kind(
        dermatofibroma, 0.07, (0.25, 0.34), (52, 13),
        {"histo": 0.48, "consensus": 0.52}, {"lower extremity": 4.0, "face": 0.1},
    ),
    "mel": _Kind(melanoma, 0.16, (0.28, 0.41), (61, 15), {"histo": 1}, {"back": 1.3}),
    "nv": _Kind(
        nevus, 0.34, (0.25, 0.37), (45, 15),
        {"follow_up": 0.55, "histo": 0.37, "consensus": 0.08}, {"face": 0.4},
    ),
    "vasc": _Kind(vascular, 0.07, (0.24, 0.34), (51, 21), {"histo": 0.47, "consensus": 0.53}),
}  # fmt: skip


@dataclass(frozen=True)
class _Case:
    """One lesion: its number, its images' numbers and its row of the table."""

    number: int
    images: tuple[int, ...]
    dx: str
    dx_type: str
    age: str
    sex: str
    site: str


def _pick(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    share = np.array(list(weights.values()), dtype=np.float64)
    return str(rng.choice(list(weights), p=share / share.sum()))


def _cases(lesions: int, seed: int) -> list[_Case]:
    """The table: which lesions there are, of which class, with how many images."""
    rng = np.random.default_rng([seed, 0])
    counts = {code: max(1, int(kind.share * lesions)) for code, kind in _KINDS.items()}
    counts["nv"] += lesions - sum(counts.values())
    labels = rng.permutation([code for code, count in counts.items() for _ in range(count)])
    cases, first = [], 1
    for number, dx in enumerate(map(str, labels), start=1):
        kind = _KINDS[dx]
        views = int(rng.choice(len(_VIEWS), p=_VIEWS)) + 1
        age = float(np.clip(5 * np.round(rng.normal(*kind.age) / 5), 5, 85))
        cases.append(
            _Case(
                number=number,
                images=tuple(range(first, first + views)),
                dx=dx,
                dx_type=_pick(rng, kind.proof),
                age="" if rng.random() < 0.02 else f"{age:.1f}",
                sex=_pick(rng, {"male": 0.54, "female": 0.44, "unknown": 0.02}),
                site=_pick(rng, {site: n * kind.sites.get(site, 1) for site, n in _SITES.items()}),
            )
        )
        first += views
    return cases


def _table(cases: list[_Case]) -> str:
    """The metadata as CSV text, one row per image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in cases:
        for image in case.images:
            row = (case.dx, case.dx_type, case.age, case.sex, case.site)
            writer.writerow((f"SYN_{case.number:07d}", _name(image), *row))
    return text.getvalue()


def _name(image: int) -> str:
    return f"SYNTH_{image:07d}"


def _draw(case: _Case, *, folder: Path, total: int, size: tuple[int, int], seed: int) -> int:
    """Draw all images of one lesion; return how many they are."""
    height, width = size
    kind = _KINDS[case.dx]
    rng = np.random.default_rng([seed, case.number, 0])
    tone = float(rng.choice([0.35, 1.4], p=[0.65, 0.35]) * rng.beta(1.2, 1.6))
    skin = Skin(tone, float(rng.uniform(0.0, 0.22)) * (1 - 0.6 * tone))
    reach = float(rng.uniform(*kind.radius))
    lesion = Canvas(rng, 16 * max(4, round(2 * REACH * reach * height / 16)), reach)
    kind.draw(lesion)
    lesion.weather(float(rng.beta(1, 2)) * 0.5)
    for view, image in enumerate(case.images, start=1):
        stream = np.random.default_rng([seed, case.number, view])
        picture, mask = photograph(lesion, skin, stream, height, width)
        part = PARTS[0] if image <= (total + 1) // 2 else PARTS[1]
        note = b"Drawn by lesionlab; not a photograph."
        picture.save(folder / part / f"{_name(image)}.jpg", quality=90, comment=note)
        mask.save(folder / MASKS / f"{_name(image)}_segmentation.png")
    return len(case.images)


def _already_there(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether `folder` holds this very set; False where nothing stands in the way.

    Raises:
        DataError: if it holds anything else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if not (folder / SETTINGS).is_file():
        raise DataError(
            f"{folder} already holds something that lesionlab did not draw, and stays as it is. "
            "Choose a folder that does not exist yet."
        )
    found = read_json(folder / SETTINGS)
    if found == settings:
        return True
    found = found if isinstance(found, dict) else {}
    keys = [key for key in settings if found.get(key) != settings[key]]
    differ = ", ".join(f"{key} {found.get(key)} instead of {settings[key]}" for key in keys)
    raise DataError(
        f"{folder} holds a synthetic set drawn with other settings ({differ or 'unknown ones'}). "
        "Choose another folder, or delete this one first."
    )


def synthetic(
    to: str | Path,
    *,
    lesions: int = 300,
    size: tuple[int, int] = (225, 300),
    seed: int = 0,
    listen: Listener = silent,
) -> Path:
    """Draw a synthetic data set of seven classes of lesions in HAM10000's layout.

    The folder gets `HAM10000_metadata.csv`, two folders of JPEG images, a folder of masks (PNG, 0
    outside and 255 inside), a README and the settings. About 1.34 images per lesion; images of one
    lesion show the same lesion at another angle, scale and light. The rarest class has 7 % of the
    lesions. Skin tone, hair, rulers, bubbles and dark corners do not depend on the class. The same
    arguments give the same files. Everything is drawn beside the folder and moved there at the end.

    Args:
        to: the folder to make.
        lesions: how many lesions, 7 or more.
        size: height and width of the images, pixels, 48 or more each.
        seed: of all random draws, 0 or more.
        listen: hears of the progress.

    Returns:
        The folder.

    Raises:
        SettingsError: if an argument is out of range.
        DataError: if the folder holds anything but this very set, or cannot be written.
    """
    folder = Path(to)
    if lesions < len(_KINDS) or seed < 0 or min(size) < 48:
        raise SettingsError(
            f"synthetic needs lesions >= {len(_KINDS)} (one per class), seed >= 0 and a size of at "
            f"least 48 x 48 pixels, not lesions={lesions}, seed={seed}, size={tuple(size)}."
        )
    settings = {"version": _VERSION, "lesions": lesions, "size": [*map(int, size)], "seed": seed}
    if _already_there(folder, settings):
        listen(Notice(f"{folder} already holds these drawings; nothing to do."))
        return folder
    cases = _cases(lesions, seed)
    total = cases[-1].images[-1]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=folder.parent, prefix=f".{folder.name}.", suffix=".part", ignore_cleanup_errors=True
        ) as temporary:
            part = Path(temporary) / "set"
            for name in (*PARTS, MASKS):
                (part / name).mkdir(parents=True)
            _draw_all(cases, part, total, size, seed, listen)
            (part / "HAM10000_metadata.csv").write_text(_table(cases), "utf-8", newline="\n")
            (part / "README.txt").write_text(_README, "utf-8", newline="\n")
            (part / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
            if folder.is_dir():
                folder.rmdir()
            part.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


def _draw_all(
    cases: list[_Case], folder: Path, total: int, size: tuple[int, int], seed: int, listen: Listener
) -> None:
    """Draw every lesion on a few threads, telling of the progress in the cases' order."""
    draw = partial(_draw, folder=folder, total=total, size=size, seed=seed)
    done = 0
    listen(Step("drawing lesions", done, total, "images"))
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        try:
            for drawn in pool.map(draw, cases):
                done += drawn
                listen(Step("drawing lesions", done, total, "images"))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
