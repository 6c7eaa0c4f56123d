import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesionlab.data.artefacts import artefacts as room
from lesionlab.data.artefacts.artefacts import ARTEFACTS, measure, measure_artefacts
from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.errors import DataError, FindingsError
from lesionlab.progress import Step

SKIN = (214, 168, 150)


def skin(seed=0, colour=SKIN):
    noise = np.random.default_rng(seed).normal(0, 1.5, (240, 320, 1))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def line(pixels, start, stop, width=2, colour=(40, 25, 20)):
    """Draw a dark line from one (x, y) to another."""
    (x0, y0), (x1, y1) = start, stop
    steps = int(4 * max(abs(x1 - x0), abs(y1 - y0), 1))
    for x, y in zip(np.linspace(x0, x1, steps), np.linspace(y0, y1, steps), strict=True):
        x, y = round(x), round(y)
        pixels[max(y, 0) : y + width, max(x, 0) : x + width] = colour


def test_plain_skin_has_no_marks_and_its_own_colour():
    found = measure(skin())
    assert [
        found[name] for name in ("black_frame", "hair", "fine_ruler", "coarse_ruler", "ink")
    ] == [0] * 5
    assert found["skin_brightness"] == pytest.approx(
        (0.299 * 214 + 0.587 * 168 + 0.114 * 150) / 255, abs=0.01
    )
    assert found["warmth"] == pytest.approx(np.log2(214 / 150), abs=0.02)
    assert found["greenness"] == pytest.approx(np.log2(168 / np.sqrt(214 * 150)), abs=0.02)
    assert found["vignette"] == pytest.approx(0, abs=0.02)


def test_a_dark_lesion_in_the_middle_changes_nothing():
    plain, spotted = skin(), skin()
    y, x = np.mgrid[:240, :320]
    spotted[np.hypot(y - 120, x - 160) < 60] = (70, 40, 35)
    before, after = measure(plain), measure(spotted)
    for name in before:
        assert after[name] == pytest.approx(before[name], abs=0.02), name


def test_a_black_frame_is_measured_and_leaves_the_skin_as_it_is():
    pixels = skin()
    y, x = np.mgrid[:240, :320]
    outside = np.hypot(y - 119.5, x - 159.5) > 112
    pixels[outside] = 5
    found = measure(pixels)
    assert found["black_frame"] == pytest.approx(1.0)
    assert found["warmth"] == pytest.approx(measure(skin())["warmth"], abs=0.02)
    assert np.isnan(found["vignette"])  # of what is not black nothing is left there


def test_a_vignette_is_told_in_octaves():
    y, x = np.mgrid[:240, :320]
    fall = np.where(np.hypot(y - 119.5, x - 159.5) > 160, 0.5, 1.0)[..., None]
    assert measure((skin() * fall).astype(np.uint8))["vignette"] == pytest.approx(1, abs=0.05)


def test_long_thin_dark_lines_are_hair_and_short_ones_are_not():
    hairy, dotted = skin(), skin()
    for k in range(4):
        line(hairy, (5, 5 + 8 * k), (250, 12 + 8 * k))
        line(dotted, (10 + 40 * k, 8), (22 + 40 * k, 12))
    # four lines of 245 pixels, 2 to 3 wide, in a band of 38,016
    assert 0.03 < measure(hairy)["hair"] < 0.12
    assert measure(dotted)["hair"] == 0


@pytest.mark.parametrize(
    ("shade", "name"), [((20, 20, 20), "coarse_ruler"), ((196, 150, 132), "fine_ruler")]
)
def test_rulers_are_counted_mark_by_mark(shade, name):
    pixels = skin()
    for k in range(9):  # every third one longer, as on a scale
        line(pixels, (8, 30 + 14 * k), (24 if k % 3 == 0 else 18, 30 + 14 * k), colour=shade)
    assert measure(pixels)[name] == 9


def test_marks_at_random_are_no_ruler():
    rng = np.random.default_rng(1)
    pixels = skin()
    for _ in range(12):
        x, y, turn = rng.integers(5, 50), rng.integers(5, 230), rng.uniform(0, np.pi)
        line(pixels, (x, y), (x + 12 * np.cos(turn), y + 12 * np.sin(turn)))
    found = measure(pixels)
    assert found["coarse_ruler"] <= 3
    assert found["fine_ruler"] <= 4


def test_a_row_of_marks_that_are_not_parallel_is_no_ruler():
    pixels = skin()
    for k in range(9):
        up = 12 * (k % 2)
        line(pixels, (8, 30 + 16 * k), (20, 30 + 16 * k + up), colour=(20, 20, 20))
    assert measure(pixels)["coarse_ruler"] <= 5  # every second one is parallel
    assert measure(pixels)["fine_ruler"] <= 5


def test_a_network_of_pigment_is_no_hair():
    pixels = skin()
    for k in range(0, 61, 8):
        line(pixels, (5, 5 + k), (65, 5 + k))
        line(pixels, (5 + k, 5), (5 + k, 65))
    assert measure(pixels)["hair"] == 0


def test_ink_at_the_border_counts_a_blue_lesion_and_blue_light_do_not():
    inked, lesion = skin(), skin()
    inked[:20, :80] = (60, 60, 190)
    y, x = np.mgrid[:240, :320]
    lesion[np.hypot(y - 120, x - 160) < 115] = (60, 60, 190)  # into the border band
    assert measure(inked)["ink"] == pytest.approx(
        20 * 80 / room._zones(240, 320).band.sum(), rel=0.05
    )
    assert measure(lesion)["ink"] == 0
    assert measure(skin(colour=(120, 120, 200)))["ink"] == 0


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "raw"
    home.mkdir()
    rows = []
    for number in range(6):
        pixels = np.asarray(Image.fromarray(skin(number)).resize((640, 480)))
        if number == 5:
            pixels = pixels[:60, :80]
        Image.fromarray(pixels).save(home / f"a{number}.jpg", quality=60 + 5 * number)
        rows.append(
            {
                "image_id": f"a{number}",
                "target": "mel" if number % 2 else "nv",
                "path": f"a{number}.jpg",
            }
        )
    pd.DataFrame(rows).to_csv(home / "table.csv", index=False)
    return home


def test_a_catalogue_is_measured_once(folder, tmp_path, monkeypatch):
    data = catalogue(folder, table=folder / "table.csv", layout="csv")
    told = []
    made = measure_artefacts(data, out=tmp_path / "kept.csv", listen=told.append)
    assert list(made.columns) == ["image_id", *ARTEFACTS]
    assert made["image_id"].tolist() == data.table["image_id"].tolist()
    assert made["width"].tolist() == [640] * 5 + [80]
    assert made["jpeg_quantisation"].is_monotonic_decreasing  # finer and finer
    assert made["warmth"].notna().tolist() == [True] * 5 + [False]  # too small to be measured
    assert [step.done for step in told if isinstance(step, Step)][-1] == 6
    monkeypatch.setattr(room, "_one", None)
    again = measure_artefacts(data, out=tmp_path / "kept.csv")
    pd.testing.assert_frame_equal(made, again)


def test_the_same_photograph_at_twice_the_size_measures_the_same(folder):
    data = catalogue(folder, table=folder / "table.csv", layout="csv")
    made = measure_artefacts(data).set_index("image_id")
    assert made.loc["a0", "warmth"] == pytest.approx(measure(skin(0))["warmth"], abs=0.02)


def test_what_cannot_be_read_is_named_and_the_rest_is_kept(folder, tmp_path):
    data = catalogue(folder, table=folder / "table.csv", layout="csv")
    (folder / "a2.jpg").write_bytes(b"")
    with pytest.raises(FindingsError, match="1 of 6 images cannot be measured"):
        measure_artefacts(data, out=tmp_path / "kept.csv")
    assert len(pd.read_csv(tmp_path / "kept.csv")) == 5
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no table of measured artefacts"):
        measure_artefacts(data, out=tmp_path / "other.csv")
