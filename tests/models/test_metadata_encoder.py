from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from lesionlab.errors import SettingsError
from lesionlab.models.metadata_encoder import MetadataEncoder, hidden, numbers_of
from lesionlab.progress import Notice
from lesionlab.recipe.schema import Recipe
from lesionlab.tables import CATALOGUE

NAN = float("nan")
TRAIN = pd.DataFrame(
    {
        "image_id": ["a", "b", "c", "d"],
        "age": [0.0, 45.0, 85.0, NAN],
        "sex": ["male", "female", "", "male"],
        "site": ["back", "", "face", "back"],
        "dx_type": ["histo", "histo", "consensus", "confocal"],
        "target": ["nv", "mel", "nv", "mel"],
    }
)


def notices(collected):
    return lambda event: collected.append(event.text) if isinstance(event, Notice) else None


@pytest.mark.parametrize("name", [each for each in CATALOGUE if each not in ("age", "sex", "site")])
def test_m4_nothing_but_age_sex_and_site_can_be_a_feature(name):
    with pytest.raises(SettingsError, match=f"{name} cannot be a feature.*dx_type says how"):
        MetadataEncoder.fit(TRAIN.assign(**{name: "x"}), ["age", name])
    tampered = MetadataEncoder.fit(TRAIN).to_dict()
    tampered["categories"][name] = ["histo"]
    with pytest.raises(SettingsError, match="cannot be a feature"):
        MetadataEncoder.from_dict(tampered)
    with pytest.raises(SettingsError) as caught:
        Recipe().but({"model.fusion": {"kind": "gating", "fields": ["age", name]}})
    assert f"model.fusion.fields.1: '{name}' is not one of age, sex, site" in str(caught.value)
    assert "dx_type says how a diagnosis was confirmed" in str(caught.value)


def test_m4_other_columns_change_no_number():
    encoder = MetadataEncoder.fit(TRAIN)
    other = TRAIN.assign(dx_type="histo", target="nv", image_id="z", path="p", bytes=3)
    assert MetadataEncoder.fit(other) == encoder
    assert np.array_equal(encoder.encode(other), encoder.encode(TRAIN))
    assert encoder.encode(TRAIN).shape == (4, 3)


def test_m24_age_0_is_an_age_and_unknown_is_0():
    encoder = MetadataEncoder.fit(TRAIN)
    assert list(encoder.encode(TRAIN)[:, 0]) == [1, 2, 3, 0]
    assert encoder.categories["age"] == (0, 40, 80)


def test_m24_on_the_real_table(real_ham):
    table = pd.read_csv(real_ham / "HAM10000_metadata.csv").rename(columns={"localization": "site"})
    table = table.replace({"sex": {"unknown": ""}, "site": {"unknown": ""}})
    numbers = MetadataEncoder.fit(table).encode(table)
    assert list((numbers == 0).sum(axis=0)) == [57, 57, 234]
    assert ((numbers[:, 0] == 1) == (table["age"] < 10)).all()
    assert (table["age"] == 0).sum() == 39


def test_numbers_by_hand():
    encoder = MetadataEncoder.fit(TRAIN, ["site", "sex", "age"], years=5)
    assert encoder.fields == ("site", "sex", "age")
    assert encoder.sizes == (3, 3, 4)
    assert encoder.encode(TRAIN).tolist() == [[1, 2, 1], [0, 1, 2], [2, 0, 3], [1, 2, 0]]


def test_words_that_the_training_part_never_had_are_unknown_and_ages_count_to_the_nearest():
    encoder = MetadataEncoder.fit(TRAIN)
    other = pd.DataFrame({"age": [60.0, 7.0], "sex": ["other", " Male"], "site": ["knee", "BACK "]})
    assert encoder.encode(other).tolist() == [[2, 0, 0], [1, 2, 1]]  # ages to the nearest group
    oldest = pd.DataFrame({"age": [80.0, 90.0, 120.0]})
    assert len(set(encoder.encode(oldest)[:, 0])) == 1
    assert encoder.encode(pd.DataFrame({"image_id": ["x"]})).tolist() == [[0, 0, 0]]
    texts = pd.DataFrame({"age": ["45", "", "0.0"]})
    assert encoder.encode(texts)[:, 0].tolist() == [2, 0, 1]


def test_it_comes_back_from_json():
    encoder = MetadataEncoder.fit(TRAIN)
    again = MetadataEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert again == encoder
    numbers = numbers_of(encoder.to_dict(), TRAIN)
    assert np.array_equal(numbers, encoder.encode(TRAIN))
    assert numbers.dtype == np.int64
    assert numbers_of(None, TRAIN).shape == (4, 0)


def test_a_field_that_nobody_knows_is_refused():
    table = TRAIN.assign(age=NAN, site="")
    with pytest.raises(SettingsError, match="knows no age and no site"):
        MetadataEncoder.fit(table)


def test_age_groups_of_another_width_are_refused():
    with pytest.raises(SettingsError, match="5 or 10 years"):
        MetadataEncoder.fit(TRAIN, years=7)


def test_metadata_are_hidden_as_often_as_asked():
    drawn = hidden(20_000, 3, 0.4, np.random.default_rng(0))
    whole = drawn.all(axis=1)
    assert whole.mean() == pytest.approx(0.4 + 0.6 * 0.2**3, abs=0.01)
    assert drawn[~whole].mean(axis=0) == pytest.approx(
        [0.6 * (0.2 - 0.2**3) / 0.5952] * 3, abs=0.01
    )
    assert not hidden(100, 3, 0.0, np.random.default_rng(0)).any()
    assert hidden(100, 3, 1.0, np.random.default_rng(0)).all()
