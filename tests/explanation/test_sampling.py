from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lesionlab.errors import DataError, SettingsError
from lesionlab.explanation.sampling import check_words, choose, sample, wanted_classes

CLASSES = ("df", "mel", "nv")


def predictions(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """Three quarters nv, two images a lesion, about half of the answers right."""
    rng = np.random.default_rng(seed)
    target = np.repeat(rng.choice(CLASSES, n // 2, p=[0.05, 0.2, 0.75]), 2)
    probabilities = rng.dirichlet(np.ones(3), n)
    probabilities[np.arange(n), [CLASSES.index(each) for each in target]] += 0.2
    table = pd.DataFrame(
        {
            "image_id": [f"i{number:03}" for number in range(n)],
            "lesion_id": [f"l{number // 2:03}" for number in range(n)],
            "target": target,
            "part": np.where(np.arange(n) < n // 5, "train", "test"),
        }
    )
    table[[f"p_{label}" for label in CLASSES]] = probabilities / probabilities.sum(
        axis=1, keepdims=True
    )
    return table


def right(table: pd.DataFrame) -> pd.Series:
    answers = table[[f"p_{label}" for label in CLASSES]].idxmax(axis=1).str[2:]
    return answers == table["target"]


def test_half_right_half_wrong_even_over_classes_no_lesion_twice():
    table = predictions()
    chosen = table.set_index("image_id").loc[choose(table, "test", 12, seed=1)]
    assert set(chosen["part"]) == {"test"}
    assert chosen["lesion_id"].is_unique
    assert right(chosen).sum() == 6
    assert (chosen.groupby([right(chosen), "target"]).size() == 2).all()
    assert len(chosen.groupby([right(chosen), "target"])) == 6


def test_few_images_pair_right_and_wrong_answers_of_the_same_classes():
    table = predictions()
    chosen = table.set_index("image_id").loc[choose(table, "test", 4, seed=1)]
    pairs = {label: sorted(right(rows)) for label, rows in chosen.groupby("target")}
    assert list(pairs.values()) == [[False, True]] * 2


def test_a_class_with_right_and_wrong_answers_goes_first():
    table = predictions()
    table = table[(table["target"] == "mel") | (right(table) == (table["target"] == "nv"))]
    for seed in range(6):
        chosen = table.set_index("image_id").loc[choose(table, "test", 2, seed)]
        assert set(chosen["target"]) == {"mel"}


def test_the_seed_draws_and_the_order_of_the_table_does_not():
    table = predictions()
    once = choose(table, "test", 9, seed=1)
    assert choose(table.sample(frac=1, random_state=0), "test", 9, seed=1) == once
    assert choose(table, "test", 9, seed=2) != once


def test_what_one_kind_lacks_the_other_fills():
    table = predictions()
    perfect = table[right(table)]
    assert len(choose(perfect, "test", 8, seed=0)) == 8
    assert (
        len(choose(table, "test", 10_000, seed=0))
        == table.query("part == 'test'")["lesion_id"].nunique()
    )


def test_images_without_a_lesion_id_are_lesions_of_their_own():
    table = predictions().assign(lesion_id="")
    assert len(choose(table, "test", 50, seed=0)) == 50


def test_an_empty_part_and_a_count_of_none_are_told():
    with pytest.raises(DataError, match="no image of part 'val', only of train, test"):
        choose(predictions(), "val", 6, seed=0)
    with pytest.raises(SettingsError, match="count: 0"):
        choose(predictions(), "test", 0, seed=0)


@pytest.mark.parametrize(
    ("words", "target", "meant"),
    [
        (("predicted", "target"), "nv", ("mel", "nv")),
        (("predicted", "target"), "mel", ("mel",)),
        (("predicted", "target"), "", ("mel",)),
        (("target",), "unheard of", ()),
        (("df", "predicted"), "nv", ("df", "mel")),
        (("all", "mel"), "nv", CLASSES),
    ],
)
def test_words_become_classes(words, target, meant):
    assert wanted_classes(words, CLASSES, "mel", target) == meant


def test_wrong_words_are_named_all_at_once():
    check_words(("predicted", "mel"), CLASSES)
    with pytest.raises(SettingsError, match="'mole', 'true' is none of predicted, target, all, df"):
        check_words(("mole", "df", "true"), CLASSES)
    with pytest.raises(SettingsError, match="nothing"):
        check_words((), CLASSES)


def test_a_sample_has_every_kind_and_its_weights_undo_the_draw():
    table = predictions()
    drawn = sample(table, CLASSES, 40, seed=0)
    assert len(drawn) == 40
    assert drawn["image_id"].is_unique
    for own in (table, drawn):
        own["kind"] = own["target"] + right(own).astype(str)
    assert set(drawn["kind"]) == set(table["kind"])
    sizes = table["kind"].value_counts()
    np.testing.assert_allclose(drawn.groupby("kind")["weight"].sum()[sizes.index], sizes)
    # So a weighted share of right answers is that of the whole table.
    assert np.average(right(drawn), weights=drawn["weight"]) == pytest.approx(right(table).mean())
    shares = drawn["kind"].value_counts()[sizes.index] / sizes
    assert shares[sizes.idxmin()] > 2 * shares[sizes.idxmax()]  # rare kinds are not lost


def test_a_sample_is_of_its_seed_and_in_random_order():
    table = predictions()
    first = sample(table, CLASSES, 40, seed=0)
    pd.testing.assert_frame_equal(first, sample(table.iloc[::-1], CLASSES, 40, seed=0))
    assert set(sample(table, CLASSES, 40, seed=1)["image_id"]) != set(first["image_id"])
    assert list(first["image_id"]) != sorted(first["image_id"])


def test_all_of_them_weigh_one():
    table = predictions()
    for count in (None, 300, 1000):
        drawn = sample(table, CLASSES, count, seed=0)
        assert set(drawn["image_id"]) == set(table["image_id"])
        assert (drawn["weight"] == 1).all()


def test_too_few_to_stand_for_every_kind():
    with pytest.raises(SettingsError, match="5 images cannot stand for 6 kinds"):
        sample(predictions(), CLASSES, 5, seed=0)
