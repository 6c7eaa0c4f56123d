"""One photograph under two names is found whatever was done to it, and nothing else is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from lesionlab.data.audit.audit import audit
from lesionlab.data.audit.dct_index import CROPS, Descriptions, coefficients, inverse, posed
from lesionlab.data.audit.near_duplicates import (
    PAIRS,
    SAME_PHOTOGRAPH,
    findings,
    near_duplicates,
    position,
)
from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.synthetic.dataset import synthetic

POSE = Image.Transpose


def cropped(image, rng, share=0.8):
    width, height = round(share * image.width), round(share * image.height)
    x = int(rng.integers(image.width - width + 1))
    y = int(rng.integers(image.height - height + 1))
    part = image.crop((x, y, x + width, y + height))
    return part.resize(image.size) if rng.random() < 0.5 else part


def relit(image, rng):
    factors = rng.uniform(0.7, 1.3) * rng.uniform(0.85, 1.15, 3)
    return Image.fromarray(np.clip(np.asarray(image) * factors, 0, 255).astype(np.uint8))


KINDS = {
    "mirrored": lambda image, _: image.transpose(POSE.FLIP_LEFT_RIGHT),
    "upside down": lambda image, _: image.transpose(POSE.FLIP_TOP_BOTTOM),
    "turned left": lambda image, _: image.transpose(POSE.ROTATE_90),
    "turned right": lambda image, _: image.transpose(POSE.ROTATE_270),
    "half a turn": lambda image, _: image.transpose(POSE.ROTATE_180),
    "turned on its canvas": lambda image, _: image.rotate(90),
    "cut to a square": lambda image, _: ImageOps.fit(image, (image.height, image.height)),
    "cropped": cropped,
    "light": relit,
    "JPEG 40": lambda image, _: image,
    "half size": lambda image, _: image.resize((image.width // 2, image.height // 2)),
}
SAID = {
    "mirrored": "mirrored left to right",
    "upside down": "mirrored top to bottom",
    "turned left": "turned 90° left",
    "turned right": "turned 90° right",
    "half a turn": "turned 180°",
    "turned on its canvas": "turned 90° left, middle squares alike",
    "cut to a square": "middle squares alike",
}


def plant(table, root, folder, kinds, each, seed=0):
    """Rows of copies, `each` of every kind, as files in a folder; their kinds and sources."""
    rng = np.random.default_rng(seed)
    rows, about = [], {}
    sources = table.iloc[rng.permutation(len(table))[: each * len(kinds)]]
    for number, source in enumerate(sources.itertuples()):
        kind = list(kinds)[number % len(kinds)]
        with Image.open(root / source.path) as image:
            made = kinds[kind](image.convert("RGB"), rng)
        name = f"copy_{number:03d}"
        made.save(folder / f"{name}.jpg", quality=40 if kind == "JPEG 40" else 92)
        row = table.iloc[0].copy()
        row[["image_id", "lesion_id", "path"]] = [name, f"of_{name}", str(folder / f"{name}.jpg")]
        row[["width", "height"]] = made.size
        rows.append(row)
        about[name] = (kind, source.image_id)
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True), about


def found(pairs, about):
    """By copy, the transform and similarity of its pair with its source."""
    own = [
        about[row.other][1] == row.image_id if row.other in about else False
        for row in pairs.itertuples()
    ]
    return pairs[own].set_index("other")


@pytest.fixture(scope="module")
def lesions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("larger")
    return catalogue(synthetic(folder / "ham", lesions=50, size=(120, 160), seed=3))


@pytest.fixture(scope="module")
def searched(lesions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies")
    table, about = plant(lesions.table, lesions.root, folder, KINDS, each=5)
    return near_duplicates(table, lesions.root), about


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_copy_is_found_and_named(searched, kind):
    pairs, about = searched
    planted = [name for name, (of, _) in about.items() if of == kind]
    mine = found(pairs, about).reindex(planted)
    assert len(planted) == 5
    assert mine["similarity"].notna().all()
    assert (mine["similarity"] > 0.7).all()
    if kind in SAID:
        assert (mine["transform"] == SAID[kind]).all()
    elif kind == "cropped":
        shares = mine["transform"].str.extract(r"^other cropped to (\d+) %$")[0].astype(float)
        assert shares.between(76, 84).all()
    elif kind == "light":
        assert (
            mine["transform"]
            .str.fullmatch("same view|(brighter|darker)?(, )?(other colours)?")
            .all()
        )
    else:
        assert (mine["transform"] == "same view").all()


def test_nothing_else_is_found_and_pairs_have_their_columns(searched):
    pairs, about = searched
    assert list(pairs.columns) == list(PAIRS)
    assert len(pairs) == len(found(pairs, about)) == len(about)
    assert (pairs["verdict"] == "").all()
    assert pairs["similarity"].is_monotonic_decreasing


def test_distinct_drawn_images_are_no_duplicates(lesions):
    assert near_duplicates(lesions.table, lesions.root).empty


def test_a_search_does_not_depend_on_the_number_of_threads(lesions, tmp_path):
    table, _ = plant(lesions.table.head(20), lesions.root, tmp_path, KINDS, each=1)
    one, three = (near_duplicates(table, lesions.root, workers=number) for number in (1, 3))
    assert len(one)
    pd.testing.assert_frame_equal(one, three)


def test_blank_dark_tiny_and_unreadable_images_do_no_harm(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)
    pictures = {
        "white": np.full((60, 80, 3), 255, np.uint8),
        "white_2": np.full((60, 90, 3), 255, np.uint8),
        "black": np.zeros((60, 80, 3), np.uint8),
        "ramp": np.tile(np.arange(80, dtype=np.uint8)[None, :, None], (60, 1, 3)),
        "tiny": noise[:2, :2],
        "tiny_2": noise[:2, :2],
        "noise": noise,
        "noise_2": noise[::-1].copy(),
    }
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    table = pd.DataFrame(
        [
            {"image_id": name, "path": f"{name}.png", "lesion_id": "", "target": "nv"}
            | {"width": pixels.shape[1], "height": pixels.shape[0]}
            for name, pixels in pictures.items()
        ]
        + [{"image_id": "broken", "path": "broken.png", "lesion_id": "", "target": "nv"}]
        + [
            {
                "image_id": "gone",
                "path": "gone.png",
                "lesion_id": "",
                "target": "nv",
                "width": 80,
                "height": 80,
            }
        ]
    )
    pairs = near_duplicates(table, tmp_path)
    assert pairs[["image_id", "other"]].to_numpy().tolist() == [["noise", "noise_2"]]
    assert pairs["transform"].tolist() == ["mirrored top to bottom"]
    for rows in (0, 1, 2):
        assert near_duplicates(table.head(rows), tmp_path).empty


def test_a_position_and_its_inverse_undo_each_other():
    picture = np.arange(16).reshape(4, 4)
    for symmetry in range(8):
        back = posed(posed(picture, symmetry), inverse(symmetry))
        np.testing.assert_array_equal(back, picture)
    assert (posed(picture, 5) == np.rot90(picture)).all()
    assert position("turned 90° left, other cropped to 80 %") == 5
    assert position("mirrored left to right, turned 90° right") == 7
    assert position("same view") == position("other cropped to 80 %") == 0


def test_crops_are_described_without_being_cut_out():
    rng = np.random.default_rng(1)
    small = rng.integers(20, 230, (7, 7, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(small).resize((100, 100), Image.Resampling.BICUBIC))
    whole = coefficients(picture[None])
    for number, (top, left, side) in enumerate(CROPS):
        y, x, edge = round(100 * top), round(100 * left), round(100 * side)
        part = coefficients(np.ascontiguousarray(picture[None, y : y + edge, x : x + edge]))
        np.testing.assert_allclose(whole[number, 0], part[0, 0], atol=2e-4)


def test_a_posed_picture_is_asked_for_as_it_is_described():
    rng = np.random.default_rng(2)
    pictures = rng.integers(0, 256, (8, 24, 24, 3), dtype=np.uint8)
    turned = np.stack(
        [posed(pictures[0].transpose(2, 0, 1), g).transpose(1, 2, 0) for g in range(8)]
    )
    index = Descriptions(coefficients(np.concatenate([pictures, turned])))
    cosines = np.einsum("sv,sv->s", index.asked(np.array([0]))[0], index.index[0, 8:])
    np.testing.assert_allclose(cosines, 1, atol=0.02)


def test_findings_tell_lesions_and_diagnoses():
    rows = [
        ("a", "b", "l1", "l2", "nv", "nv", "turned 180°", 0.9, ""),
        ("a", "c", "l1", "l3", "nv", "mel", "same view", 0.8, ""),
        ("a", "d", "l1", "l4", "nv", "nv", "same view", 0.8, "different"),
        ("a", "e", "l1", "l1", "nv", "nv", "same view", 0.8, ""),
        ("f", "g", "", "", "nv", "nv", "same view", 1.0, ""),
        ("h", "i", "", "l9", "nv", "nv", "same view", 0.7, ""),
    ]
    rows = [(*row[:6], SAME_PHOTOGRAPH, *row[6:8], np.nan, row[8]) for row in rows]
    pairs = pd.DataFrame(rows, columns=list(PAIRS))
    same = dict.fromkeys("abcdehi", "") | {"f": "x", "g": "x"}
    made = findings(pairs, same)
    assert [(each.kind, each.severity, each.image_id) for each in made] == [
        ("near_duplicate", "warning", "b"),
        ("near_duplicate_with_two_diagnoses", "warning", "c"),
        ("near_duplicate", "warning", "i"),
        ("near_duplicate_within_a_lesion", "note", ""),
    ]
    assert "b looks like a (turned 180°; similarity 0.90)" in made[0].detail
    assert "mel and nv" in made[1].detail
    assert not any(each.exclude for each in made)


def test_audit_looks_for_them_unless_told_not_to(ham_copy, tmp_path, monkeypatch):
    from lesionlab.data.audit import near_duplicates

    first, *_, last = sorted(ham_copy.rglob("*.jpg"))
    with Image.open(first) as image:
        image.transpose(POSE.ROTATE_180).save(last, quality=90)
    kinds = set(audit(ham_copy).findings["kind"])
    assert kinds & {"near_duplicate", "near_duplicate_with_two_diagnoses"}
    off = audit(ham_copy, near=False)
    assert off.pairs is None
    assert not any(kind.startswith("near") for kind in off.findings["kind"])
    monkeypatch.setattr(near_duplicates, "UP_TO", 3)
    told = []
    assert audit(ham_copy, listen=told.append).pairs is None
    assert any("--near" in getattr(event, "text", "") for event in told)
    pairs = audit(ham_copy, near=True).pairs
    assert pairs["other"][pairs["lesion_id"] != pairs["other_lesion"]].tolist() == [last.stem]


@pytest.mark.slow
def test_real_photographs(real, tmp_path):
    rng = np.random.default_rng(5)
    lesions = rng.permutation(real.table["lesion_id"].unique())[:230]
    table = real.table[real.table["lesion_id"].isin(lesions)].reset_index(drop=True)
    table, about = plant(table, real.root, tmp_path, KINDS, each=5)
    pairs = near_duplicates(table, real.root)
    assert len(found(pairs, about)) >= 0.95 * len(about)
    true = pd.Series(
        {name: table.set_index("image_id")["lesion_id"][of] for name, (_, of) in about.items()}
    )
    ends = [("image_id", "lesion_id"), ("other", "other_lesion")]
    one, other = (pairs[i].map(true).fillna(pairs[lesion]) for i, lesion in ends)
    assert (one != other).sum() <= 2
