from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lesionlab.errors import DataError, SettingsError
from lesionlab.explanation.choosing import check_words, choose, wanted_classes

CLASSES = ("df", "mel", "nv")


def predictions(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """Three quarters nv, two images a lesion, about half of the answers right."""
    rng = np.random.default_rng(seed)
    target = np.repeat(rng.choice(CLASSES, n // 2, p=[0.05, 0.2, 0.75]), 2)
    chances = rng.dirichlet(np.ones(3), n)
    chances[np.arange(n), [CLASSES.index(each) for each in target]] += 0.2
    table = pd.DataFrame(
        {
            "image_id": [f"i{number:03}" for number in range(n)],
            "lesion_id": [f"l{number // 2:03}" for number in range(n)],
            "target": target,
            "part": np.where(np.arange(n) < n // 5, "train", "test"),
        }
    )
    table[[f"p_{label}" for label in CLASSES]] = chances / chances.sum(axis=1, keepdims=True)
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
