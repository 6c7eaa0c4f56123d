import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from lesionlab.evaluation.intervals import bootstrap
from lesionlab.evaluation.metrics import classification as m
from lesionlab.evaluation.predictions.load import arrays_of

CLASSES = tuple("abcd")


def compute(targets, probabilities, weights, classes=CLASSES):
    return m.classification(targets, probabilities, classes).compute(weights)


def areas(positive, scores):
    """auc_sens_80 and pauc_above_80_sensitivity of the points of scikit-learn's ROC curve."""
    if positive.all() or not positive.any():
        return np.nan, np.nan
    fpr, tpr, _ = sk.roc_curve(positive, scores, drop_intermediate=False)
    at = tpr.searchsorted(0.8)
    x = np.append(np.interp(0.8, tpr[at - 1 : at + 1], fpr[at - 1 : at + 1]), fpr[at:])
    y = np.append(0.8, tpr[at:])
    return sk.auc(x, y), sk.auc(x, y - 0.8)


def sklearn_values(targets, p, classes=CLASSES):
    """Every metric by scikit-learn on the rows given, nan where it is not defined."""
    predicted, k = p.argmax(axis=1), len(classes)
    labels = np.arange(k)
    present = np.isin(labels, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall, f1, _ = sk.precision_recall_fscore_support(
            targets, predicted, labels=labels, zero_division=np.nan
        )
        out = {
            "balanced_accuracy": sk.balanced_accuracy_score(targets, predicted),
            "accuracy": sk.accuracy_score(targets, predicted),
            "macro_f1": sk.f1_score(
                targets, predicted, labels=labels[present], average="macro", zero_division=np.nan
            ),
            "macro_precision": precision[present].mean(),
            "weighted_f1": sk.f1_score(
                targets, predicted, labels=labels[present], average="weighted"
            ),
            "weighted_precision": np.average(
                precision[present], weights=np.bincount(targets, minlength=k)[present]
            ),
            "majority_accuracy": np.bincount(targets).max() / len(targets),
            "log_loss": sk.log_loss(targets, p, labels=labels),
            "brier": sk.brier_score_loss(targets, p, labels=labels, scale_by_half=False),
            "cohen_kappa": sk.cohen_kappa_score(targets, predicted, labels=labels),
            "matthews": sk.matthews_corrcoef(targets, predicted),
        }
        if np.isnan(out["cohen_kappa"]):  # all in one cell: scikit-learn's correlation is 0
            out["matthews"] = np.nan
        # scikit-learn takes the last of equals, lesionlab the first
        lowered = p - 1e-9 * labels
        for most in range(2, min(4, k)):
            out[f"top_{most}_accuracy"] = sk.top_k_accuracy_score(
                targets, lowered, k=most, labels=labels
            )
    counts = sk.multilabel_confusion_matrix(targets, predicted, labels=labels)
    area, average = np.full(k, np.nan), np.full(k, np.nan)
    for i, label in enumerate(classes):
        out[f"specificity/{label}"] = (
            counts[i, 0, 0] / counts[i, 0].sum() if counts[i, 0].any() else np.nan
        )
        full, above = areas(targets == i, p[:, i])
        out[f"auc_sens_80/{label}"] = full
        out[f"pauc_above_80_sensitivity/{label}"] = above
        if 0 < (targets == i).sum() < len(targets):
            area[i] = sk.roc_auc_score(targets == i, p[:, i])
        if present[i]:
            average[i] = sk.average_precision_score(targets == i, p[:, i])
    if present.all():
        out["macro_auroc"] = sk.roc_auc_score(targets, p, multi_class="ovr", average="macro")
    out["macro_average_precision"] = average[present].mean()
    for i, label in enumerate(classes):
        out[f"recall/{label}"] = recall[i] if present[i] else np.nan
        out[f"precision/{label}"] = precision[i]
        out[f"f1/{label}"] = f1[i]
        out[f"auroc/{label}"] = area[i]
        out[f"average_precision/{label}"] = average[i]
    return out


@pytest.mark.parametrize("digits", [None, 2, 1])
@pytest.mark.parametrize("seed", range(3))
def test_unit_weights_equal_scikit_learn(fake, digits, seed):
    table = fake(300, seed=seed, classes=CLASSES, digits=digits)
    targets, p = arrays_of(table)
    found = compute(targets, p, np.ones((1, len(p))))
    expected = sklearn_values(targets, p)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_scores_that_are_all_equal():
    p = np.full((8, 4), 0.25)
    targets = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    found = compute(targets, p, np.ones((1, 8)))
    assert found["macro_auroc"] == 0.5
    assert found["balanced_accuracy"] == 0.25  # of equals, the first class
    assert found["recall/a"] == 1
    assert np.isnan(found["precision/b"])
    assert np.isnan(found["macro_precision"])
    assert found["macro_average_precision"] == 0.25


@pytest.mark.parametrize("block_bytes", [100, bootstrap.BLOCK_BYTES])
@pytest.mark.parametrize("digits", [None, 1])
def test_weights_equal_really_resampled_rows(fake, monkeypatch, digits, block_bytes):
    monkeypatch.setattr(bootstrap, "BLOCK_BYTES", block_bytes)
    table = fake(30, seed=3, classes=CLASSES, digits=digits, per_lesion=2)
    targets, p = arrays_of(table)
    weights = bootstrap.lesion_weights(table["lesion_id"], 40, 5)
    found = compute(targets, p, weights)
    everyone = set(range(4))
    lost = 0
    for row, weight in enumerate(weights):
        drawn = np.repeat(np.arange(30), weight.astype(int))
        expected = sklearn_values(targets[drawn], p[drawn])
        whole = set(targets[drawn]) == everyone
        lost += not whole
        for name, value in expected.items():
            if name.startswith(("macro", "balanced")) and not whole:
                value = np.nan
            assert found[name][row] == pytest.approx(value, abs=1e-12, nan_ok=True), (name, row)
    assert 0 < lost < 30


def test_a_replicate_without_a_class_is_not_defined():
    targets = np.array([0, 0, 1, 1])
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    found = compute(targets, p, np.array([[1.0, 1, 1, 1], [1, 1, 0, 0]]), ("x", "y"))
    for name in ("balanced_accuracy", "macro_auroc", "macro_f1", "macro_precision"):
        assert np.isnan(found[name]).tolist() == [False, True]
    assert found["recall/x"].tolist() == [0.5, 0.5]
    assert found["accuracy"].tolist() == [0.75, 0.5]
    counts = m.confusion(np.array([[1.0, 1, 0, 0]]), targets, m.decide(p), 2)
    assert m.balanced_accuracy(counts) == 0.5  # without a list of classes: those that are there
    assert m.majority_accuracy(counts) == 1


def test_absent_class_is_nan_and_means_run_over_the_others():
    targets = np.array([0, 0, 1, 1])
    p = np.array([[0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])
    found = compute(targets, p, np.ones((1, 4)), ("x", "y", "z"))
    assert np.isnan(found["recall/z"][0])
    assert np.isnan(found["auroc/z"][0])
    assert found["precision/z"][0] == 0
    assert found["balanced_accuracy"][0] == 0.5
    assert found["macro_auroc"][0] == pytest.approx(
        (found["auroc/x"][0] + found["auroc/y"][0]) / 2, abs=1e-15
    )


def test_no_weight_at_all_is_nan():
    found = compute(np.array([0, 1]), np.eye(2), np.zeros((1, 2)), ("x", "y"))
    assert all(np.isnan(values).all() for values in found.values())


def test_of_equal_probabilities_the_first_classes_are_the_likeliest():
    p = np.full((4, 4), 0.25)
    found = compute(np.arange(4), p, np.ones((1, 4)))
    assert found["accuracy"] == 0.25
    assert found["top_2_accuracy"] == 0.5
    assert found["top_3_accuracy"] == 0.75
    two = compute(np.array([0, 1]), np.eye(2), np.ones((1, 2)), ("x", "y"))
    assert not any(name.startswith("top") for name in two)  # two of two are always right


def test_the_two_areas_of_a_perfect_and_of_a_useless_score():
    truth = np.array([0, 0, 1, 1])
    for p, full, above in ((np.eye(2)[truth], 1.0, 0.2), (np.full((4, 2), 0.5), 0.18, 0.02)):
        found = compute(truth, p, np.ones((1, 4)), ("x", "y"))
        assert found["auc_sens_80/x"] == pytest.approx(full, abs=1e-15)
        assert found["pauc_above_80_sensitivity/x"] == pytest.approx(above, abs=1e-15)


@st.composite
def tables(draw):
    n, k = draw(st.integers(2, 25)), draw(st.integers(2, 4))
    targets = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    scores = draw(st.lists(st.integers(0, 4), min_size=n * k, max_size=n * k))
    p = np.array(scores, float).reshape(n, k) + 0.5
    weights = draw(st.lists(st.integers(0, 3), min_size=3 * n, max_size=3 * n))
    return np.array(targets), p / p.sum(axis=1, keepdims=True), np.array(weights, float), k


@given(tables(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_bounds_and_order_of_rows(case, random):
    targets, p, flat, k = case
    weights = flat.reshape(3, -1)
    found = compute(targets, p, weights, CLASSES[:k])
    for name, values in found.items():
        known = values[~np.isnan(values)]
        head = name.partition("/")[0]
        least, most = {
            "log_loss": (0, 37),
            "brier": (0, 2),
            "cohen_kappa": (-1, 1),
            "matthews": (-1, 1),
            "pauc_above_80_sensitivity": (0, 0.2),
        }.get(head, (0, 1))
        assert ((known >= least - 1e-12) & (known <= most + 1e-12)).all(), name
    order = list(range(len(targets)))
    random.shuffle(order)
    again = compute(targets[order], p[order], weights[:, order], CLASSES[:k])
    for name, values in found.items():
        np.testing.assert_allclose(again[name], values, atol=1e-12)


@given(tables(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_of_classes(case, random):
    targets, p, flat, k = case
    p = p + np.linspace(0, 1e-3, p.size).reshape(p.shape) ** 2  # no row with equal probabilities
    weights = flat.reshape(3, -1)
    order = list(range(k))
    random.shuffle(order)
    found = compute(targets, p, weights, CLASSES[:k])
    again = compute(np.argsort(order)[targets], p[:, order], weights, [CLASSES[i] for i in order])
    for name, values in found.items():
        np.testing.assert_allclose(again[name], values, atol=1e-12)


@given(tables())
@settings(max_examples=40, deadline=None)
def test_a_weight_is_as_good_as_a_copy(case):
    targets, p, flat, k = case
    weights = flat.reshape(3, -1)
    found = compute(targets, p, weights, CLASSES[:k])
    rows = np.repeat(np.arange(len(targets)), weights[0].astype(int))
    if set(targets) != set(targets[rows]):
        return
    again = compute(targets[rows], p[rows], np.ones((1, len(rows))), CLASSES[:k])
    for name, values in found.items():
        np.testing.assert_allclose(again[name][0], values[0], atol=1e-12)
