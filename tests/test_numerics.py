from __future__ import annotations

import numpy as np
import pytest

from lesionlab.numerics import log_softmax, softmax


def test_probabilities_are_exponentials_by_their_sum_in_float64():
    logits = np.random.default_rng(0).normal(0, 3, (2, 4, 7)).astype(np.float32)
    raw = np.exp(logits.astype(np.float64))
    probabilities = softmax(logits)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, raw / raw.sum(axis=2, keepdims=True), rtol=1e-13)
    np.testing.assert_allclose(np.exp(log_softmax(logits)), probabilities, rtol=1e-13)


@pytest.mark.parametrize("far", [1e4, -1e4])
def test_large_logits_neither_overflow_nor_vanish(far):
    logits = np.array([[0.0, far]])
    assert softmax(logits).tolist() == [[float(far < 0), float(far > 0)]]
    assert log_softmax(logits).min() == -1e4


def test_an_unreadable_image_stays_without_an_answer():
    assert np.isnan(softmax(np.full((1, 3), np.nan))).all()
