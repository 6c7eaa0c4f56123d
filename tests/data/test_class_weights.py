from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesionlab.data.class_weights import class_weights, mean_one
from lesionlab.errors import DataError

SCHEMES = ("inverse", "sqrt", "effective", "median")


def test_source_e_table_comes_out_of_the_metadata(real_ham):
    table = pd.read_csv(real_ham / "HAM10000_metadata.csv")
    counts = table["dx"].value_counts()
    weights = dict(zip(counts.index, class_weights(counts.to_numpy(), "median"), strict=True))
    printed = {
        "akiec": "1.572",
        "bcc": "1.000",
        "bkl": "0.468",
        "df": "4.470",
        "mel": "0.462",
        "nv": "0.0767",
        "vasc": "3.620",
    }
    decimals = {name: len(text.partition(".")[2]) for name, text in printed.items()}
    assert {name: f"{weights[name]:.{decimals[name]}f}" for name in printed} == printed


@pytest.mark.parametrize("scheme", SCHEMES)
@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=9), st.floats(0, 0.999999))
def test_m11_no_class_weighs_more_than_a_rarer_one(scheme, counts, beta):
    weights = class_weights(np.array(counts), scheme, beta)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    by_size = weights[np.argsort(counts)]
    assert (np.diff(by_size) <= 0).all()
    if scheme != "effective" and len(set(counts)) == len(counts):
        assert (np.diff(by_size) < 0).all()
    assert mean_one(weights).mean() == pytest.approx(1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_m11_the_rarest_of_ham10000_weighs_most_and_the_most_frequent_least(scheme):
    counts = np.array([327, 514, 1099, 115, 1113, 6705, 142])
    assert np.argsort(class_weights(counts, scheme)).tolist() == np.argsort(-counts).tolist()


def test_ratios_are_those_of_the_papers():
    counts = np.array([6705, 115])
    inverse = class_weights(counts, "inverse")
    assert inverse[1] / inverse[0] == pytest.approx(6705 / 115)
    root = class_weights(counts, "sqrt")
    assert root[1] / root[0] == pytest.approx((6705 / 115) ** 0.5)
    effective = class_weights(counts, "effective", 0.99)
    assert effective[1] / effective[0] == pytest.approx((1 - 0.99**6705) / (1 - 0.99**115))
    assert class_weights(counts, "effective", 0.0).tolist() == [1, 1]
    nearly = class_weights(counts, "effective", 0.999999)
    assert nearly[1] / nearly[0] == pytest.approx(6705 / 115, rel=0.01)
    assert class_weights(counts, "none").tolist() == [1, 1]


def test_a_class_without_images_has_no_weight():
    with pytest.raises(DataError, match="leave it out"):
        class_weights(np.array([3, 0]), "inverse")
