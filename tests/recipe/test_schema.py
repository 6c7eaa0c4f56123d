import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionlab.errors import SettingsError
from lesionlab.recipe.schema import (
    Adam,
    AdamW,
    CrossEntropy,
    Ema,
    LogitAdjusted,
    NoAverage,
    Oversampled,
    Phase,
    Plateau,
    Recipe,
    Sgd,
)
from lesionlab.recipe.validation import describe

CHANGES = {
    "model.name": st.sampled_from(["resnet18", "densenet201"]),
    "model.pretrained": st.sampled_from([True, False, "weights.safetensors"]),
    "images.size": st.tuples(st.integers(16, 2048), st.integers(16, 2048)).map(list),
    "augment.flip": st.sampled_from(["none", "both", "horizontal"]),
    "augment.rotate": st.floats(0, 180),
    "loss": st.sampled_from(["cross_entropy", {"kind": "logit_adjusted", "tau": 2}]),
    "phases.0.epochs": st.integers(1, 99),
    "phases.0.optim.kind": st.sampled_from(["adam", "adamw", "sgd"]),
    "phases.0.optim.lr": st.floats(1e-6, 1),
    "phases.0.schedule.kind": st.sampled_from(["cosine", "plateau", "constant"]),
    "average.kind": st.sampled_from(["ema", "none"]),
    "seed": st.integers(0, 2**31 - 1),
}


def write(path, text):
    path.write_text(text)
    return path


def faults(call, *args):
    with pytest.raises(SettingsError) as caught:
        call(*args)
    return str(caught.value)


@settings(max_examples=60, deadline=None)
@given(changes=st.fixed_dictionaries({}, optional=CHANGES))
def test_a_recipe_comes_back_from_its_file(tmp_path_factory, changes):
    recipe = Recipe().but(changes)
    path = tmp_path_factory.mktemp("recipe") / "r.yaml"
    recipe.save(path)
    back = Recipe.load(path)
    assert back == recipe
    assert back.fingerprint() == recipe.fingerprint()
    assert recipe.differences(back) == []
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@settings(max_examples=60, deadline=None)
@given(
    first=st.fixed_dictionaries({}, optional=CHANGES),
    second=st.fixed_dictionaries({}, optional=CHANGES),
)
def test_fingerprints_differ_just_where_recipes_do(first, second):
    one, two = Recipe().but(first), Recipe().but(second)
    assert (one.fingerprint() == two.fingerprint()) == (one == two)
    assert (one.differences(two) == []) == (one == two)


def test_a_knob_that_is_added_leaves_the_fingerprints_of_earlier_runs():
    """They go on, and are complete: a change of these needs another SCHEMA."""
    assert Recipe().fingerprint() == "150112abf3ef8cf1"
    small = Recipe().but({"model.name": "lenet", "augment.mixup": 0.3, "loss.kind": "focal"})
    assert small.fingerprint() == "fe294a25387ddfe9"


def test_kinds_with_all_their_defaults_are_not_the_same():
    kinds = [Recipe(phases=(Phase(optim=kind()),)) for kind in (AdamW, Adam, Sgd)]
    assert len({each.fingerprint() for each in kinds}) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "batch: 64",
        "{}",
        "loss: cross_entropy",
        "loss: {weights: none}",
        "average: {decay: 0.998}",
        "phases: [{depth: all}]",
        "phases: [{optim: {kind: adamw, lr: 0.001}, schedule: {kind: cosine, warmup: 5e-2}}]",
        "augment: {rotate: 180, scale: 1.25}",
        "images: {size: [225, 300], fit: stretch}",
    ],
)
def test_defaults_written_or_not_are_the_same_recipe(tmp_path, text):
    recipe = Recipe.load(write(tmp_path / "r.yaml", text))
    assert recipe == Recipe()
    assert recipe.fingerprint() == Recipe().fingerprint()


def test_a_part_of_a_recipe_keeps_the_defaults_of_its_kind():
    recipe = Recipe.from_dict({"average": {"decay": 0.9}, "loss": {"kind": "logit_adjusted"}})
    assert recipe.average == Ema(decay=0.9)
    assert recipe.loss == LogitAdjusted()


def test_all_faults_come_at_once(tmp_path):
    text = """
        model: {nmae: resnet18, drop: 2}
        loss: {kind: logit_adjustd}
        sampling: 5
        batch: many
        images: {size: [225, 300, 3]}
        phases: [{depth: 5, epochs: 0}, {optim: {kind: adam, momentum: 0.9}}]
        sede: 3
    """
    told = faults(Recipe.load, write(tmp_path / "r.yaml", text))
    assert "r.yaml has 10 faults" in told
    for line in (
        "model.nmae: no such setting; did you mean 'name'?",
        "model.drop: 2 is out of range (at least 0, at most 0.95)",
        "loss.kind: 'logit_adjustd' is not one of cross_entropy, focal, ldam, logit_adjusted, "
        "own; "
        "did you mean 'logit_adjusted'?",
        "sampling: expects a mapping with a kind, got 5",
        "batch: expects a whole number, got 'many'",
        "images.size: expects 2 numbers, such as [56, 75], 56,75 or 56x75, got [225, 300, 3]",
        "phases.0.depth: expects text, got 5",
        "phases.0.epochs: 0 is out of range (at least 1, at most 10000)",
        "phases.1.optim.momentum: belongs to kind sgd, not to adam",
        "sede: no such setting; did you mean 'seed'?",
    ):
        assert f"  {line}\n" in told
    assert "lesionlab train --help" in told


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("loss: {tau: 2}", "loss.tau: belongs to kind logit_adjusted, not to cross_entropy"),
        ("loss: {kind: [a]}", "loss.kind: ['a'] is not one of"),
        ("loss: {kind: null}", "loss.kind: None is not one of"),
        ("batch: true", "batch: expects a whole number, got True"),
        ("batch: 64.0", "batch: expects a whole number, got 64.0"),
        ("batch: null", "batch: expects a whole number, got None"),
        (
            "augment: {flip: true}",
            "augment.flip: True is not one of none, horizontal, vertical, both",
        ),
        ("augment: {rotate: true}", "augment.rotate: expects a number, got True"),
        ("augment: {rotate: .nan}", "augment.rotate: nan is out of range"),
        ("augment: {rotate: .inf}", "augment.rotate: inf is out of range"),
        ("model: {name: 18}", "model.name: expects text, got 18"),
        ("model: {pretrained: 1}", "model.pretrained: expects true or false or text, got 1"),
        ("model: null", "model: expects a mapping of settings, got None"),
        ("images: {size: 224}", "images.size: expects 2 numbers, such as [56, 75], 56,75 or 56x75"),
        ("images: {size: [8, 300]}", "images.size.0: 8 is out of range (at least 16, at most"),
        ("images: {size: [225, '300']}", "images.size.1: expects a whole number, got '300'"),
        ("phases: []", "phases: needs at least one phase"),
        ("phases: {depth: all}", "phases: expects a list, got"),
        (
            "phases: [{optim: {lr: 0}}]",
            "phases.0.optim.lr: 0 is out of range (above 0, at most 10)",
        ),
        ("seed: -1", "seed: -1 is out of range"),
        ("7: 8", "7: no such setting"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, text, fault):
    told = faults(Recipe.load, write(tmp_path / "r.yaml", text))
    assert "has 1 fault:" in told
    assert f"  {fault}" in told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"- a\n- b\n", "is not a recipe: it holds list"),
        (b"model: {name: [}\n", "is not YAML"),
        (b"\xff\xd8\xff\xe0", "is not YAML"),
    ],
)
def test_what_is_no_recipe_file(tmp_path, content, told):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    assert told in faults(Recipe.load, path)


def test_a_recipe_that_is_not_there(tmp_path):
    assert "nothing.yaml does not exist" in faults(Recipe.load, tmp_path / "nothing.yaml")


def test_numbers_that_yaml_reads_as_text(tmp_path):
    text = "phases: [{optim: {lr: 1e-3, weight_decay: 5E-2}}]\naugment: {rotate: 90}"
    recipe = Recipe.load(write(tmp_path / "r.yaml", text))
    assert recipe.phases[0].optim == AdamW(lr=0.001, weight_decay=0.05)
    assert recipe.augment.rotate == 90.0
    assert isinstance(recipe.augment.rotate, float)


def test_flags_win_over_the_file(tmp_path):
    path = write(tmp_path / "r.yaml", "model: {name: resnet18, drop: 0.1}\nbatch: 32")
    recipe = Recipe.load_with(path, {"model.name": "resnet50", "seed": 7})
    assert (recipe.model.name, recipe.model.drop) == ("resnet50", 0.1)
    assert (recipe.batch, recipe.seed) == (32, 7)


def test_faults_of_file_and_flags_come_together(tmp_path):
    path = write(tmp_path / "r.yaml", "bach: 32")
    told = faults(Recipe.load_with, path, {"modl.name": "x", "seed": "one"})
    assert "has 3 faults" in told
    assert "bach: no such setting; did you mean 'batch'?" in told
    assert "modl.name: no such setting; did you mean 'model'?" in told
    assert "seed: expects a whole number, got 'one'" in told


def test_another_kind_keeps_what_both_have_and_drops_the_rest():
    recipe = Recipe().but({"loss.smoothing": 0.1, "loss.weights": "inverse"})
    changed = recipe.but({"loss.kind": "logit_adjusted", "loss.tau": 2})
    assert changed.loss == LogitAdjusted(tau=2.0, smoothing=0.1)
    assert recipe.loss == CrossEntropy(weights="inverse", smoothing=0.1)
    assert recipe.but({"average.kind": "none"}).average == NoAverage()


def test_another_kind_starts_from_its_own_defaults_as_in_a_file():
    for kind in ("sgd", "adam"):
        written = Recipe.from_dict({"phases": [{"optim": {"kind": kind}}]})
        assert Recipe().but({"phases.0.optim.kind": kind}) == written
    assert Recipe().but({"phases.0.schedule.kind": "plateau"}).phases[0].schedule == Plateau()
    changes = {"phases.0.optim.lr": 0.001, "phases.0.optim.kind": "sgd"}  # AdamW's, but asked for
    for each in (changes, dict(reversed(changes.items()))):
        assert Recipe().but(each).phases[0].optim == Sgd(lr=0.001)
    slow = Recipe().but({"phases.0.optim.lr": 0.002})
    assert slow.but({"phases.0.optim.kind": "sgd"}).phases[0].optim == Sgd(lr=0.002)


def test_a_mapping_can_be_filled_entry_by_entry():
    changes = {"sampling.times.df": 5, "sampling.kind": "oversampled", "sampling.times.vasc": 2}
    assert Recipe().but(changes).sampling == Oversampled(times={"df": 5, "vasc": 2})
    told = faults(Recipe().but, {"sampling.times.df": 5})
    assert "sampling.times.df: no such setting" in told
    assert "sampling.times: oversampled needs the classes" in faults(
        Recipe().but, {"sampling.kind": "oversampled"}
    )


def test_a_change_leaves_the_recipe_and_the_values_that_it_was_given_alone():
    given = {"kind": "oversampled", "times": {"df": 5}}
    recipe = Recipe().but({"sampling": given, "sampling.times.vasc": 2})
    changed = recipe.but({"sampling.times.df": 50})
    assert changed.sampling == Oversampled(times={"df": 50, "vasc": 2})
    assert recipe.sampling == Oversampled(times={"df": 5, "vasc": 2})
    assert given == {"kind": "oversampled", "times": {"df": 5}}


def test_the_order_of_changes_does_not_matter():
    one = Recipe().but({"loss.tau": 2, "loss.kind": "logit_adjusted"})
    assert one == Recipe().but({"loss.kind": "logit_adjusted", "loss.tau": 2})


def test_a_knob_of_another_kind_is_refused_as_a_change():
    told = faults(Recipe().but, {"phases.0.optim.momentum": 0.9})
    assert "phases.0.optim.momentum: belongs to kind sgd, not to adamw" in told


def test_a_kind_in_short_can_be_changed_further(tmp_path):
    path = write(tmp_path / "r.yaml", "loss: logit_adjusted")
    assert Recipe.load_with(path, {"loss.tau": 3}).loss == LogitAdjusted(tau=3.0)


def test_phases_do_not_share_what_the_file_leaves_out(tmp_path):
    path = write(tmp_path / "r.yaml", "phases: [{depth: head}, {depth: all}]")
    recipe = Recipe.load_with(path, {"phases.0.optim.lr": 0.5, "phases.1.optim.kind": "adam"})
    assert recipe.phases[0].optim == AdamW(lr=0.5)
    assert recipe.phases[1].optim == Adam(lr=0.001)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("batch.x", "batch.x: no such setting"),
        ("batch.x.y", "batch.x.y: no such setting"),
        ("images.size.0", "images.size.0: no such setting"),
        ("phases.epochs", "phases.epochs: no such setting; write phases.0.epochs"),
        ("phases.1.epochs", "phases.1.epochs: no such setting"),
        ("model.kind", "model.kind: no such setting"),
        ("loss.taus", "loss.taus: no such setting"),
    ],
)
def test_a_change_that_leads_nowhere(key, told):
    assert told in faults(Recipe().but, {key: 1})


def test_differences_name_settings_from_old_to_new():
    old = Recipe()
    new = old.but({"model.name": "resnet18", "average.kind": "none", "images.size": [112, 150]})
    assert old.differences(new) == [
        "images.size: [225, 300] -> [112, 150]",
        "model.name: mobilenetv4_conv_small -> resnet18",
        "average.kind: ema -> none",
        "average.decay: 0.998 -> (absent)",
    ]
    longer = Recipe(phases=(Phase(), Phase("head", 2)))
    assert "phases.1.depth: (absent) -> head" in old.differences(longer)


def test_yaml_says_every_setting_and_help_describes_it():
    written = yaml.safe_load(Recipe().to_yaml())
    assert written == Recipe().to_dict()
    told = {key: text for key, _, text in describe(Recipe)}
    assert {"model.name", "phases.0.optim.lr", "loss.tau", "loss.kind", "seed"} <= set(told)
    assert all(told.values())
