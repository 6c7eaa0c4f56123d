"""Every metric that `evaluate` gives: against scikit-learn, and against really drawn lesions."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from lesionlab.evaluation.evaluate import evaluate
from lesionlab.evaluation.evaluation_result import METRICS
from lesionlab.evaluation.intervals.bootstrap import estimates, lesion_weights, replicate
from lesionlab.evaluation.intervals.estimate import estimate
from lesionlab.evaluation.metrics import classification as m
from lesionlab.evaluation.metrics.operating_points import operating_points
from lesionlab.evaluation.predictions.load import arrays_of

POSITIVE = "mel"
LACKING = {
    "majority_accuracy": "test_the_share_of_the_most_frequent_class",
    "pauc_above_80_sensitivity": "test_both_areas_above_80_sensitivity_by_hand",
    "auc_sens_80": "test_both_areas_above_80_sensitivity_by_hand",
}
"""What scikit-learn has not, and the test that works it out by hand."""


def _labels(rows):
    classes = [name[2:] for name in rows if name.startswith("p_")]
    p = rows[[f"p_{name}" for name in classes]].to_numpy()
    truth = rows["target"].map(classes.index).to_numpy()
    return classes, truth, p, p.argmax(axis=1)


def _of_answers(function, **options):
    """Of truth and decision: both as numbers of classes, or of one class against the rest."""

    def value(rows, label, threshold):
        classes, truth, _, answer = _labels(rows)
        if label:
            truth, answer = (each == classes.index(label) for each in (truth, answer))
        return function(truth, answer, **options)

    return value


def _of_scores(function, **options):
    """Of truth and probabilities: of all classes, or of one against the rest."""

    def value(rows, label, threshold):
        classes, truth, p, _ = _labels(rows)
        if label:
            at = classes.index(label)
            return function(truth == at, p[:, at], **options)
        return function(truth, p, **options)

    return value


def _macro_average_precision(truth, p):
    return np.mean([sk.average_precision_score(truth == i, p[:, i]) for i in range(p.shape[1])])


def _top(truth, p, k):
    # scikit-learn takes the last of equals, lesionlab the first
    return sk.top_k_accuracy_score(truth, p - 1e-9 * np.arange(p.shape[1]), k=k)


def _at(sensitivity):
    def value(rows, label, threshold):
        called = rows[f"p_{label}"] >= threshold
        return sk.recall_score(rows["target"] == label, called, pos_label=bool(sensitivity))

    return value


REFERENCES = {
    "balanced_accuracy": _of_answers(sk.balanced_accuracy_score),
    "macro_auroc": _of_scores(sk.roc_auc_score, multi_class="ovr"),
    "macro_f1": _of_answers(sk.f1_score, average="macro"),
    "macro_precision": _of_answers(sk.precision_score, average="macro"),
    "weighted_f1": _of_answers(sk.f1_score, average="weighted"),
    "weighted_precision": _of_answers(sk.precision_score, average="weighted"),
    "macro_average_precision": _of_scores(_macro_average_precision),
    "accuracy": _of_answers(sk.accuracy_score),
    "log_loss": _of_scores(sk.log_loss),
    "brier": _of_scores(sk.brier_score_loss, scale_by_half=False),
    "cohen_kappa": _of_answers(sk.cohen_kappa_score),
    "matthews": _of_answers(sk.matthews_corrcoef),
    "top_2_accuracy": _of_scores(_top, k=2),
    "top_3_accuracy": _of_scores(_top, k=3),
    "recall": _of_answers(sk.recall_score),
    "precision": _of_answers(sk.precision_score),
    "f1": _of_answers(sk.f1_score),
    "specificity": _of_answers(sk.recall_score, pos_label=False),
    "auroc": _of_scores(sk.roc_auc_score),
    "average_precision": _of_scores(sk.average_precision_score),
} | {
    f"{kind}_at_{share}_{fixed}": _at(kind == "sensitivity")
    for kind in ("sensitivity", "specificity")
    for fixed in ("sensitivity", "specificity")
    for share in (80, 90, 95)
}


@pytest.mark.parametrize("digits", [None, 2])
def test_every_metric_equals_scikit_learn_or_is_worked_out_by_hand(fake, digits):
    rows = fake(400, seed=3, digits=digits)
    found = evaluate(
        pd.concat([rows, fake(150, seed=4, part="val", prefix="V", digits=digits)]), replicates=0
    )
    names = {name.partition("/")[0] for name in found}
    assert names == set(METRICS) == set(REFERENCES) | set(LACKING)
    assert not set(REFERENCES) & set(LACKING)
    for name, each in found.items():
        base, _, label = name.partition("/")
        if base in REFERENCES:
            threshold = found.thresholds.get(name.partition("_")[2])
            expected = REFERENCES[base](rows, label, threshold)
            assert each.value == pytest.approx(expected, abs=1e-12, rel=0), name


def test_what_scikit_learn_lacks_has_a_test_of_its_own():
    assert set(LACKING.values()) <= set(globals())


def test_the_share_of_the_most_frequent_class():
    p = np.full((5, 3), 1 / 3)
    weights = np.array([[1.0, 1, 1, 1, 1], [0, 0, 3, 1, 2], [2, 2, 0, 0, 0]])
    found = m.classification(np.array([0, 0, 1, 1, 1]), p, "xyz").compute(weights)
    assert found["majority_accuracy"].tolist() == [3 / 5, 1, 1]


def test_both_areas_above_80_sensitivity_by_hand():
    # going down the scores, P P P N P N N P N N: the curve goes (0, 0.6), (0.2, 0.6), (0.2, 0.8),
    # (0.6, 0.8), (0.6, 1), (1, 1)
    order = np.array([1, 1, 1, 0, 1, 0, 0, 1, 0, 0])
    scores = np.linspace(0.95, 0.05, 10)
    p = np.stack([1 - scores, scores], axis=1)
    found = m.classification(order, p, ("n", "p")).compute(np.ones((1, 10)))
    assert found["pauc_above_80_sensitivity/p"][0] == pytest.approx(0.4 * 0.2, abs=1e-15)
    assert found["auc_sens_80/p"][0] == pytest.approx(0.4 * 0.8 + 0.4, abs=1e-15)
    # the last five of one score: a straight line from (0.2, 0.8) to (1, 1)
    tied = np.where(np.arange(10) < 5, scores, 0.1)
    p = np.stack([1 - tied, tied], axis=1)
    found = m.classification(order, p, ("n", "p")).compute(np.ones((1, 10)))
    assert found["pauc_above_80_sensitivity/p"][0] == pytest.approx(0.8 * 0.2 / 2, abs=1e-15)
    assert found["auc_sens_80/p"][0] == pytest.approx(0.8 * 0.9, abs=1e-15)


def drawn(rows, times):
    """The rows as often as they were drawn, under new names."""
    again = rows.loc[rows.index.repeat(times)].reset_index(drop=True)
    return again.assign(image_id=[f"D{i:06d}" for i in range(len(again))])


@pytest.mark.parametrize("single", [False, True])
def test_the_bootstrap_of_every_metric_equals_a_naive_loop(fake, single):
    rows = fake(150, seed=5, per_lesion=2).sort_values("image_id").reset_index(drop=True)
    if single:
        rows["lesion_id"] = rows["image_id"]
    val = fake(150, seed=6, part="val", prefix="V")
    found = evaluate(pd.concat([rows, val]), replicates=25, seed=8)
    targets, p = arrays_of(rows)
    at = found.classes.index(POSITIVE)
    measures = [
        m.classification(targets, p, found.classes),
        operating_points(targets == at, p[:, at], found.thresholds),
    ]
    values = replicate(measures, rows["lesion_id"], replicates=25, seed=8).values
    assert set(values) == set(found)
    loop = {name: [each.value] for name, each in found.items()}
    rng = np.random.default_rng(8)
    lesions = sorted(set(rows["lesion_id"]))
    for _ in range(25):
        chosen = rng.integers(len(lesions), size=len(lesions))
        times = rows["lesion_id"].map(dict.fromkeys(lesions, 0)).to_numpy()
        for number in chosen:  # image by image: the ordinary bootstrap where lesions are single
            times = times + (rows["lesion_id"] == lesions[number]).to_numpy()
        again = drawn(rows, times)
        scored = evaluate(pd.concat([again, val]), replicates=0)
        whole = set(again["target"]) == set(rows["target"])
        for name in loop:
            left_out = name.startswith(("macro", "balanced")) and not whole
            loop[name].append(np.nan if left_out else scored[name].value)
    sizes = estimates(measures, rows["lesion_id"], replicates=25, seed=8)
    assert dict(sizes) == dict(found)
    for name, each in loop.items():
        assert values[name] == pytest.approx(np.array(each), abs=1e-12, nan_ok=True), name


def test_single_lesions_of_every_metric_are_the_ordinary_bootstrap(fake):
    rows = fake(80, seed=7)
    both = pd.concat([rows, fake(80, seed=6, part="val", prefix="V")])
    named = evaluate(both.assign(lesion_id=both["image_id"]), replicates=30, seed=1)
    blank = evaluate(both.assign(lesion_id=""), replicates=30, seed=1)
    assert dict(named) == dict(blank)
    rng = np.random.default_rng(1)
    weights = lesion_weights(rows["image_id"], 30, 1)
    for row in weights[1:]:
        assert (row == np.bincount(rng.integers(80, size=80), minlength=80)).all()
    targets, p = arrays_of(rows.sort_values("image_id"))
    hits = (targets == p.argmax(axis=1)).astype(float)
    accuracy = estimate((weights @ hits) / 80, 80, 80, proportion=True)
    assert named["accuracy"] == accuracy
