"""Another photograph of a lesion under another id is found; photographs of others are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from lesionlab.data.audit.audit import audit
from lesionlab.data.audit.local_features import NOTHING, SIDE, fit, patches
from lesionlab.data.audit.near_duplicates import OTHER_PHOTOGRAPH, PAIRS, findings
from lesionlab.data.audit.other_photographs import (
    other_photographs,
    probability,
    squeezed,
)
from lesionlab.data.catalogue.catalogue import Catalogue, catalogue
from lesionlab.data.images.reader import Reader
from lesionlab.data.synthetic.dataset import synthetic


def photographed_again(image, turn, zoom, hairs=0, seed=0):
    """The same skin from elsewhere: turned and enlarged about its middle, in other light."""
    rng = np.random.default_rng(seed)
    width, height = image.size
    angle = np.deg2rad(turn)
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    x, y = width / 2, height / 2
    matrix = (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)
    made = image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=(0, 0, 0)
    )
    draw = ImageDraw.Draw(made)
    for _ in range(hairs):
        ends = rng.uniform(0, 1, 4) * (width, height, width, height)
        draw.line(tuple(ends), fill=(40, 25, 20), width=2)
    light = rng.uniform(0.8, 1.2) * rng.uniform(0.9, 1.1, 3)
    return Image.fromarray(np.clip(np.asarray(made) * light, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = synthetic(tmp_path_factory.mktemp("drawn"), lesions=24, size=(240, 320))
    return catalogue(folder)


def picture(data, row):
    with Image.open(data.root / data.table["path"].iloc[row]) as image:
        return image.convert("RGB")


def test_the_transform_between_two_photographs_is_found(drawn):
    image = picture(drawn, 0)
    again = np.asarray(photographed_again(image, 12, 1.2, hairs=6).reduce(2))
    found = fit(patches(np.asarray(image.reduce(2))), patches(again))
    assert found.patches >= 12
    assert found.turn == pytest.approx(12, abs=1.5) or found.turn == pytest.approx(-12, abs=1.5)
    assert found.size == pytest.approx(1.2, abs=0.03)


def test_two_lesions_side_by_side_are_no_sure_pair(drawn):
    image = picture(drawn, 0).resize((640, 480))
    left, right = image.crop((0, 0, 360, 480)), image.crop((280, 0, 640, 480))
    one, other = (patches(np.asarray(each.resize((180, 240)))) for each in (left, right))
    found = fit(one, other)
    assert found.apart > 0.3
    assert probability(found) <= 0.5
    assert probability(fit(one, one)) > 0.9


def test_mirrored_patches_are_those_of_the_mirrored_picture(drawn):
    pixels = squeezed(Reader(drawn.root), drawn.table["path"].iloc[0])
    own = patches(pixels)
    mirrored = patches(np.ascontiguousarray(pixels[:, ::-1]))
    assert fit(own.mirrored(), mirrored).patches > 0.8 * len(mirrored)
    assert fit(own, mirrored).patches < 0.2 * len(mirrored)


def test_a_picture_without_structure_has_no_patches_and_fits_nothing():
    flat = patches(np.full((SIDE * 3 // 4, SIDE, 3), 200, np.uint8))
    assert len(flat) == 0
    assert fit(flat, NOTHING).patches == 0


@pytest.fixture(scope="module")
def planted(drawn, tmp_path_factory):
    """Eight lesions stand in the table a second time, under ids of their own."""
    folder = tmp_path_factory.mktemp("again")
    firsts = drawn.table.drop_duplicates("lesion_id").head(8)
    rows = []
    for number, row in enumerate(firsts.itertuples()):
        turn, zoom = (-15, -8, 6, 15)[number % 4], (0.8, 1.25, 1.1, 0.9)[number % 4]
        place = drawn.table.index[drawn.table["image_id"] == row.image_id][0]
        made = photographed_again(picture(drawn, place), turn, zoom, 5 * (number % 2), number)
        made.save(folder / f"again_{number}.jpg", quality=92)
        again = drawn.table.iloc[place].copy()
        again[["image_id", "lesion_id"]] = [f"zz_again_{number}", f"lesion_again_{number}"]
        again["path"] = str(folder / f"again_{number}.jpg")
        rows.append(again)
    table = pd.concat([drawn.table, pd.DataFrame(rows)], ignore_index=True)
    return table, set(zip(firsts["image_id"], [f"zz_again_{k}" for k in range(8)], strict=True))


def test_planted_second_photographs_are_found_and_nothing_else(drawn, planted):
    table, wanted = planted
    pairs = other_photographs(table, drawn.root, workers=2)
    assert list(pairs.columns) == list(PAIRS)
    assert set(pairs["kind"]) == {OTHER_PHOTOGRAPH}
    assert pairs["probability"].is_monotonic_decreasing
    sure = pairs[pairs["probability"] > 0.9]
    found = set(zip(sure["image_id"], sure["other"], strict=True))
    assert wanted <= found
    assert sure["other"].head(len(wanted)).str.startswith("zz_again").all()
    assert len(other_photographs(table, drawn.root, most=3)) == 3
    left = other_photographs(table, drawn.root, known=sure)
    assert not set(zip(left["image_id"], left["other"], strict=True)) & found


def test_one_lesion_id_is_never_proposed(drawn, planted):
    table, _ = planted
    assert other_photographs(table.assign(lesion_id="one"), drawn.root).empty


def test_a_finding_names_the_probability_and_two_diagnoses(drawn, planted):
    table, _ = planted
    pairs = other_photographs(table, drawn.root, most=1)
    (found,) = findings(pairs)
    assert (found.kind, found.severity) == ("same_lesion", "warning")
    assert "probable" in found.detail
    (clash,) = findings(pairs.assign(other_target="mel", target="nv"))
    assert clash.kind == "same_lesion_with_two_diagnoses"
    (doubtful,) = findings(pairs.assign(probability=0.2))
    assert doubtful.severity == "note"
    assert not findings(pairs.assign(verdict="different"))


def test_an_audit_lists_them_behind_the_near_duplicates(drawn, planted):
    table, wanted = planted
    result = audit(Catalogue(table, drawn.classes, drawn.root))
    kinds = result.pairs["kind"].tolist()
    assert OTHER_PHOTOGRAPH in kinds
    found = set(zip(result.pairs["image_id"], result.pairs["other"], strict=True))
    assert wanted <= found
