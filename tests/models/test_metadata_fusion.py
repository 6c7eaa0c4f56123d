from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import catalogue
from lesionlab.data.imputation import clean
from lesionlab.data.splits import split
from lesionlab.errors import RunError, SettingsError
from lesionlab.evaluation.evaluate import evaluate
from lesionlab.models import factory, layer_groups
from lesionlab.models.metadata_encoder import MetadataEncoder
from lesionlab.models.metadata_fusion import Fused, count, image_net, logits_of
from lesionlab.prediction.run_predictor import predict_run
from lesionlab.progress import Notice, Step
from lesionlab.recipe.schema import (
    Concatenation,
    Dense,
    Gating,
    Images,
    Model,
    NaiveBayes,
    NoFusion,
    Recipe,
)
from lesionlab.run import PREDICTIONS
from lesionlab.training.datasets import TrainingImages
from lesionlab.training.train import train

CLASSES = ("akiec", "bcc", "mel")
KINDS = {"concatenation": Concatenation(width=4), "gating": Gating(width=4)}
ENCODER = MetadataEncoder({"age": (0, 40, 80), "sex": ("female", "male"), "site": ("back", "face")})
NETS = ("test_resnet", "mobilenetv4_conv_small", "test_vit", "resnetv2_18")


def architecture(name, fusion, **more):
    model = Model(name=name, fusion=fusion, **more)
    metadata = None if isinstance(fusion, NoFusion) else ENCODER.to_dict()
    return factory.Architecture.of(model, CLASSES, Images(size=(64, 64)), metadata)


def fused(name, kind, **more):
    """A fused network whose branch has come to say something."""
    torch.manual_seed(0)
    network = factory.build(architecture(name, KINDS[kind], **more)).eval()
    torch.nn.init.normal_(network.branch[-1].weight)
    return network


def images(count=5, seed=1):
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


KNOWN = torch.tensor([[1, 1, 1], [2, 2, 2], [3, 1, 0], [0, 2, 0], [0, 0, 0]])
UNKNOWN = torch.zeros(5, 3, dtype=torch.int64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETS)
def test_with_all_metadata_unknown_logits_are_the_image_nets_bit_for_bit(name, kind):
    network, x = fused(name, kind), images()
    with torch.inference_mode():
        alone = network.image_net(x)
        assert torch.equal(network(x, UNKNOWN), alone)
        assert torch.equal(network(x), alone)
        told = network(x, KNOWN)
    assert torch.equal(told[4], alone[4])
    assert ((told - alone)[:4].abs().amax(dim=1) > 1e-4).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("optim", [torch.optim.AdamW, torch.optim.SGD])
def test_bit_for_bit_after_training_too(name, kind, optim):
    torch.manual_seed(0)
    network = factory.build(architecture(name, KINDS[kind])).train()
    steps = optim(network.parameters(), lr=0.05, weight_decay=0.1)
    for step in range(4):
        loss = torch.nn.functional.cross_entropy(
            network(images(seed=step), KNOWN), torch.tensor([0, 1, 2, 0, 1])
        )
        steps.zero_grad()
        loss.backward()
        steps.step()
    assert network.branch[-1].weight.abs().max() > 0
    assert network.embeddings[0].weight[1].abs().max() > 0
    network.eval()
    with torch.inference_mode():
        assert torch.equal(network(images(), UNKNOWN), network.image_net(images()))
        assert not torch.equal(network(images(), KNOWN), network.image_net(images()))


@pytest.mark.parametrize("kind", KINDS)
def test_either_kind_learns_what_only_the_metadata_say(kind):
    torch.manual_seed(0)
    network = factory.build(architecture("test_resnet", KINDS[kind])).train()
    steps = torch.optim.AdamW(network.parameters(), lr=0.02)
    targets = torch.tensor([0, 1, 2] * 2)
    told = torch.stack([targets + 1, targets * 0, targets * 0], dim=1)
    for step in range(30):
        loss = torch.nn.functional.cross_entropy(network(images(6, seed=step), told), targets)
        steps.zero_grad()
        loss.backward()
        steps.step()
    assert loss < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_branch_changes_nothing(kind):
    network = factory.build(architecture("test_resnet", KINDS[kind])).eval()
    with torch.inference_mode():
        assert torch.equal(network(images(), KNOWN), network.image_net(images()))


def test_concatenation_is_the_last_layer_over_features_and_metadata_side_by_side():
    network, x = fused("test_resnet", "concatenation"), images()
    with torch.inference_mode():
        features = network.forward_head(network.forward_features(x), pre_logits=True)
        looked_up = [each(KNOWN[:, i]) for i, each in enumerate(network.embeddings)]
        told = network.branch[:-1](torch.cat(looked_up, dim=1))
        head, last = network.get_classifier(), network.branch[-1]
        both = torch.cat([features, told], dim=1)
        expected = both @ torch.cat([head.weight, last.weight], dim=1).T + head.bias
        torch.testing.assert_close(network(x, KNOWN), expected)


def test_gates_lie_between_0_and_2():
    network = fused("test_resnet", "gating")
    torch.nn.init.constant_(network.branch[-1].weight, 1e3)
    torch.nn.init.constant_(network.branch[0].weight, 1.0)
    torch.nn.init.ones_(network.embeddings[0].weight)
    with torch.inference_mode():
        features = network.forward_head(network.forward_features(images()), pre_logits=True)
        expected = network.get_classifier()(2 * features)
        told = network(images(), torch.tensor([[1, 0, 0]] * 5))
    torch.testing.assert_close(told, expected)


def test_a_dense_head_is_gated_before_its_first_layer():
    network = fused("test_resnet", "gating", head=Dense(widths=(8,)))
    assert network.branch[-1].out_features == network.get_classifier().in_features != 8
    with torch.inference_mode():
        assert torch.equal(network(images(), UNKNOWN), network.image_net(images()))
        assert not torch.equal(network(images(), KNOWN), network.image_net(images()))


def test_an_architecture_with_two_heads_cannot_be_gated():
    made = factory.Architecture.of(
        Model(name="levit_128s", fusion=KINDS["gating"]),
        CLASSES,
        Images(size=(64, 64)),
        ENCODER.to_dict(),
    )
    with pytest.raises(SettingsError, match="Take concatenation"):
        factory.build(made)


def test_a_fused_network_needs_an_encoder():
    made = factory.Architecture.of(
        Model(name="test_resnet", fusion=Gating()), CLASSES, Images(size=(64, 64))
    )
    with pytest.raises(SettingsError, match="come from a training part"):
        factory.build(made)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_fused_network_comes_back(tmp_path, kind):
    network = fused("test_resnet", kind)
    made = architecture("test_resnet", KINDS[kind])
    factory.save(network, made, tmp_path)
    again, description = factory.load(tmp_path)
    assert description == made
    assert MetadataEncoder.from_dict(description.metadata) == ENCODER
    with torch.inference_mode():
        assert torch.equal(again(images(), KNOWN), network(images(), KNOWN))


def test_image_weights_start_a_fused_network_and_the_other_way_round(tmp_path):
    plain = architecture("test_resnet", NoFusion())
    both = architecture("test_resnet", KINDS["gating"])
    torch.manual_seed(5)
    factory.save(factory.build(plain), plain, tmp_path / "plain")
    factory.save(fused("test_resnet", "gating"), both, tmp_path / "fused")
    for source, target in (("plain", both), ("fused", plain), ("fused", both)):
        weights = image_net(factory.load(tmp_path / source)[0]).state_dict()
        started = factory.build(target, str(tmp_path / source / factory.WEIGHTS))
        for name, value in image_net(started).state_dict().items():
            assert torch.equal(value, weights[name]), (source, name)


def test_depth_cuts_a_fused_network_where_it_cuts_the_image_net():
    network = fused("test_resnet", "concatenation")
    inside, whole = layer_groups.groups(network.image_net), layer_groups.groups(network)
    assert [each.name for each in whole] == [each.name for each in inside]
    named = dict(network.named_parameters())
    assert sorted(name for group in whole for name in group.parameters) == sorted(named)
    layer_groups.freeze(network, "head")
    learns = {name for name, each in named.items() if each.requires_grad}
    head = {f"image_net.{name}" for name in inside[-1].parameters}
    assert learns == head | {name for name in named if name.startswith(("embeddings", "branch"))}
    assert set(layer_groups.layer_scales(network, 0.5)) == set(named)
    assert layer_groups.layer_scales(network, 0.5)["branch.0.weight"] == 1.0


def test_a_plain_network_leaves_metadata_alone():
    network = factory.build(architecture("test_resnet", NoFusion())).eval()
    assert not isinstance(network, Fused)
    with torch.inference_mode():
        assert torch.equal(logits_of(network, images(), KNOWN), network(images()))


def test_metadata_go_with_their_images_and_are_hidden_as_a_function_of_the_epoch():
    targets = np.arange(50) % 3
    numbers = np.stack([np.arange(1, 51), targets + 1], axis=1)
    sampling = Recipe().sampling

    def batch(epochs, hide):
        made = TrainingImages(
            np.zeros((50, 2, 2, 3), np.uint8),
            np.arange(50),
            targets,
            sampling,
            7,
            (),
            numbers,
            hide,
        )
        for epoch in epochs:
            made.set_epoch(epoch)
        return made[np.arange(50)]

    shown = batch([3], 0.0)
    assert torch.equal(shown["metadata"][:, 1], shown["target"] + 1)
    assert sorted(shown["metadata"][:, 0].tolist()) == list(range(1, 51))
    some = batch([3], 0.5)
    assert torch.equal(some["image"], shown["image"])
    assert torch.equal(some["draws"], shown["draws"])  # hiding takes nobody else's numbers
    kept = some["metadata"] > 0
    assert torch.equal(some["metadata"][kept], shown["metadata"][kept])
    assert 0.2 < kept.double().mean() < 0.6
    assert torch.equal(batch([0, 1, 2, 3], 0.5)["metadata"], some["metadata"])
    assert not torch.equal(batch([4], 0.5)["metadata"], some["metadata"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"augment.mixup": 0.4}, "nobody knows one age"),
        ({"augment.cutmix": 1.0}, "nobody knows one age"),
        ({"model.fusion.fields": []}, "needs one of age, sex, site"),
        ({"model.fusion.fields": ["age", "age"]}, "names a field twice"),
    ],
)
def test_what_makes_no_sense_with_metadata_is_refused(change, words):
    with pytest.raises(SettingsError, match=words):
        Recipe().but({"model.fusion.kind": "gating", **change})


SMALL = Recipe().but(
    {
        "images.size": [32, 40],
        "model.name": "test_efficientnet",
        "phases.0.epochs": 3,
        "phases.0.optim.lr": 5e-3,
        "average.kind": "none",
        "batch": 16,
    }
)


class Killed(Exception):
    pass


def kill(event):
    if isinstance(event, Step) and event.task == "training" and event.done > 1.5:
        raise Killed


@pytest.mark.parametrize("kind", KINDS)
def test_a_fused_run_from_training_to_prediction(drawn, tmp_path, kind, capsys):
    data, parts = drawn
    recipe = SMALL.but({"model.fusion.kind": kind})
    run = train(recipe, data, parts, out=tmp_path / "run")
    with pytest.raises(Killed):
        train(recipe, data, parts, out=tmp_path / "killed", listen=kill)
    again = train(recipe, data, parts, out=tmp_path / "killed")
    assert (again.folder / PREDICTIONS).read_bytes() == (run.folder / PREDICTIONS).read_bytes()

    network, description = factory.load(run.folder)
    in_train = data.table[data.table["image_id"].map(parts.parts()) == "train"]
    assert description.metadata == MetadataEncoder.fit(in_train).to_dict()
    assert network.branch[-1].weight.abs().max() > 0

    val = run.predictions[run.predictions["part"] == "val"]
    again = predict_run(run)
    columns = [f"p_{name}" for name in run.classes]
    np.testing.assert_array_equal(again[columns], run.predictions[columns])
    unknown = predict_run(run, data=data, metadata=data.table[["image_id"]])
    assert (unknown[columns].to_numpy() != again[columns].to_numpy()).any()

    chosen = data.table.set_index("image_id").loc[val["image_id"]].iloc[:4]
    files = [data.root / path for path in chosen["path"]]
    said = []
    listen = lambda e: said.append(e.text) if isinstance(e, Notice) else None  # noqa: E731
    nothing = predict_run(run, files, listen=listen)
    assert any("--metadata FILE" in text for text in said)
    hidden = unknown.set_index("image_id").loc[chosen.index, columns]
    np.testing.assert_allclose(nothing[columns], hidden, atol=1e-5)
    own = chosen.reset_index()[["image_id", "site", "age", "sex", "dx_type"]]
    own[::-1].to_csv(tmp_path / "own.csv", index=False)
    words = ["predict", str(run.folder), *map(str, files), "--out", str(tmp_path / "p.csv")]
    assert main([*words, "--metadata", str(tmp_path / "own.csv")]) == 0
    assert "Not used of the metadata: dx_type" in " ".join(capsys.readouterr().err.split())
    told = pd.read_csv(tmp_path / "p.csv")
    expected = run.predictions.set_index("image_id").loc[chosen.index, columns]
    np.testing.assert_allclose(told[columns], expected, atol=1e-5)


def test_a_run_learns_what_only_the_metadata_say(ham_copy, tmp_path):
    """Lesions whose site tells the diagnosis, under a frozen random image net."""
    path = ham_copy / "HAM10000_metadata.csv"
    raw = pd.read_csv(path)
    raw["localization"] = "at the " + raw["dx"]
    raw.to_csv(path, index=False)
    data = catalogue(ham_copy, out=tmp_path / "data")
    parts = split(data, kind="holdout", shares=(0.6, 0.2, 0.2))
    phase = {"depth": "head", "epochs": 20, "optim": {"lr": 0.05}}
    fusion = {"kind": "concatenation", "fields": ["site"]}
    recipe = SMALL.but({"model.fusion": fusion, "phases": [phase], "augment": "none"})
    run = train(recipe, data, parts, out=tmp_path / "run")
    hidden = predict_run(run, data=data, metadata=data.table[["image_id"]])
    told, blind = (
        evaluate(table, part="val", replicates=0)["balanced_accuracy"].value
        for table in (run.predictions, hidden)
    )
    assert told == 1.0
    assert blind < 0.5


def test_metadata_for_a_run_without_fusion_are_refused(drawn, tmp_path):
    data, parts = drawn
    run = train(SMALL.but({"phases.0.epochs": 1}), data, parts, out=tmp_path / "run")
    with pytest.raises(SettingsError, match="trained on images alone"):
        predict_run(run, [data.root / data.table["path"][0]], metadata=data.table)


def test_a_run_on_other_metadata_is_another_run(drawn, tmp_path):
    data, parts = drawn
    blank = data.table.assign(site=data.table["site"].where(data.table.index % 3 > 0, ""))
    gaps = type(data)(blank, data.classes, data.root, home=tmp_path)
    filled = clean(gaps, parts, site="fill").data
    filled = type(data)(filled.table, data.classes, data.root, home=tmp_path)
    assert filled.fingerprint == gaps.fingerprint
    recipe = SMALL.but({"model.fusion.kind": "gating", "phases.0.epochs": 1})
    train(recipe, gaps, parts, out=tmp_path / "run")
    with pytest.raises(RunError, match="metadata: "):
        train(recipe, filled, parts, out=tmp_path / "run")


def counted(strength=1.0):
    """Naive Bayes over a training part in which every young face is a melanoma."""
    numbers = np.array([[1, 1, 2]] * 30 + [[2, 2, 1]] * 60 + [[3, 1, 0]] * 30)
    targets = np.array([2] * 30 + [0] * 60 + [1] * 30)
    network = factory.build(architecture("test_resnet", NaiveBayes(strength=strength))).eval()
    count(network, NaiveBayes(strength=strength), numbers, targets)
    return network


def test_naive_bayes_adds_how_much_likelier_a_value_is_in_a_class():
    network, x = counted(), images()
    with torch.inference_mode():
        alone, told = network.image_net(x), network(x, KNOWN)
    assert torch.equal(told[4], alone[4])  # nothing is known
    added = (told - alone)[0]  # young, female, face's number 1 is the back
    # age group 1: 30 of 120, all of them melanomas, and 20 more of each class as all are
    age = np.array([5 / 80, 5 / 50, 35 / 50]) / (30 / 120)
    sex = np.array([10 / 80, 40 / 50, 40 / 50]) / (60 / 120)
    site = np.array([60 + 20 * 2 / 3, 20 * 2 / 3, 20 * 2 / 3]) / [80, 20, 50] / (60 / 90)
    # and 100 images more of each value that are as all are
    age, sex, site = (
        np.log((n * each + 100) / (n + 100)) for n, each in ((30, age), (60, sex), (60, site))
    )
    np.testing.assert_allclose(added, age + sex + site, rtol=1e-4)
    half = counted(0.5)
    with torch.inference_mode():
        weaker = half(x, KNOWN) - half.image_net(x)
    np.testing.assert_allclose(weaker, (told - alone) / 2, atol=1e-5)


def test_naive_bayes_takes_no_site_of_few_images_for_harmless():
    """HAM10000 has 48 genital images, none of them malignant."""
    numbers = np.array([[1, 1, 1]] * 48 + [[1, 1, 2]] * 952)
    targets = np.array([0] * 48 + [1, 0] * 476)
    network = factory.build(architecture("test_resnet", NaiveBayes(strength=1.0))).eval()
    count(network, NaiveBayes(strength=1.0), numbers, targets)
    rare = network.ratios[network.starts[2] + 1].exp()
    assert 0.65 < rare[1] < 1


def test_naive_bayes_leaves_the_image_network_as_it_is_without_metadata(drawn, tmp_path):
    """What `train` makes with it is the network of a run without fusion, and a table beside it."""
    recipe = Recipe.from_dict(
        {
            "images": {"size": [32, 32]},
            "model": {"name": "test_resnet"},
            "phases": [{"epochs": 1}],
            "batch": 16,
        }
    )
    with_metadata = recipe.but({"model.fusion.kind": "naive_bayes"})
    plain = train(recipe, *drawn, out=tmp_path / "plain")
    fused_run = train(with_metadata, *drawn, out=tmp_path / "fused")
    alone, beside = factory.load(plain.folder)[0], factory.load(fused_run.folder)[0]
    mine = image_net(beside).state_dict()
    assert all(torch.equal(mine[name], each) for name, each in alone.state_dict().items())
    assert beside.ratios.abs().max() > 0
    assert not plain.predictions.equals(fused_run.predictions)


def test_naive_bayes_may_go_with_mixed_images():
    Recipe().but({"model.fusion.kind": "naive_bayes", "augment.mixup": 0.2})
