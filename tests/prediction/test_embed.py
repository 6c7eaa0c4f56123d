from __future__ import annotations

import numpy as np
import pytest
import torch

from lesionlab.augmentation.random_views import normalise
from lesionlab.cli.app import main
from lesionlab.data.images.reader import Reader
from lesionlab.errors import DataError, RunError, SettingsError
from lesionlab.models import factory
from lesionlab.models.heads import attach, head_of
from lesionlab.models.listing import ZOO
from lesionlab.models.metadata_encoder import MetadataEncoder
from lesionlab.prediction import embed as module
from lesionlab.prediction.embed import Embeddings, embed, features_of
from lesionlab.progress import Notice, silent
from lesionlab.recipe.schema import (
    Concatenation,
    Dense,
    Gating,
    Images,
    LogisticProbe,
    Model,
    NeighboursProbe,
)


class Killed(Exception):
    """Stands for a process that ends in the middle."""


def refuse(*_, **__):
    raise Killed


@pytest.fixture(scope="module")
def embedded(trained, drawn, tmp_path_factory):
    """The embeddings of a run."""
    return embed(trained, drawn[0], out=tmp_path_factory.mktemp("embedded") / "features")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("test_resnet", 64),
        ("test_vit", 160),
        ("test_convnext", 64),
        ("test_efficientnet", 64),
        ("lenet", 32),
        ("cnn_64", 64),
        ("dpn68", 64),  # its classifier is a convolution
    ],
)
def test_features_are_what_the_classifier_gets(name, size):
    architecture = factory.Architecture.of(Model(name=name), ("a", "b"), Images(size=(size, size)))
    network = factory.build(architecture).eval()
    images = torch.rand(3, 3, size, size)
    with torch.inference_mode():
        features = features_of(network, images)
        assert features.ndim == 2
        head = head_of(network)
        shape = (*features.shape, 1, 1) if isinstance(head, torch.nn.Conv2d) else features.shape
        torch.testing.assert_close(head(features.reshape(shape)).flatten(1), network(images))


@pytest.mark.slow
@pytest.mark.parametrize("entry", ZOO, ids=lambda each: each.name)
def test_every_network_of_the_zoo_has_embeddings(entry):
    with torch.device("meta"):  # shapes alone
        side = entry.smallest
        model = Model(name=entry.name, head=LogisticProbe())
        architecture = factory.Architecture.of(model, ("a", "b"), Images(size=(side, side)))
        network = factory._timms(architecture, False, silent)
        features = features_of(network.eval(), torch.zeros(2, 3, side, side))
        attach(network, NeighboursProbe(), 2, entry.name)
        assert features.shape == (2, head_of(network).in_features)
        assert network(torch.zeros(2, 3, side, side)).shape == (2, 2)


def test_features_lie_before_dense_heads():
    model = Model(name="test_resnet", head=Dense(widths=(5,)))
    network = factory.build(
        factory.Architecture.of(model, ("a", "b"), Images(size=(64, 64)))
    ).eval()
    assert features_of(network, torch.rand(2, 3, 64, 64)).shape[1] > 5


@pytest.mark.parametrize("fusion", [Concatenation(), Gating()])
def test_features_know_no_metadata(drawn, fusion):
    encoder = MetadataEncoder.fit(drawn[0].table).to_dict()
    model = Model(name="test_resnet", fusion=fusion)
    architecture = factory.Architecture.of(model, ("a", "b"), Images(size=(64, 64)), encoder)
    network = factory.build(architecture).eval()
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(features_of(network, images), features_of(network.image_net, images))


def test_a_network_with_two_classifiers_has_no_embeddings():
    name = "deit_tiny_distilled_patch16_224"
    network = factory.build(
        factory.Architecture.of(Model(name=name), ("a", "b"), Images(size=(32, 32)))
    )
    with pytest.raises(SettingsError, match="one classifier"):
        features_of(network, torch.rand(1, 3, 32, 32), name)


def test_every_row_is_its_image(embedded, trained, drawn):
    data, parts = drawn
    assert embedded.vectors.dtype == np.float32
    assert embedded.vectors.shape == (len(data.table), 84)
    table = embedded.table
    assert list(table["image_id"]) == list(data.table["image_id"])
    assert list(table["target"]) == list(data.table["target"])
    assert list(table["lesion_id"]) == list(data.table["lesion_id"])
    given = parts.parts()
    assert list(table["part"]) == list(given[table["image_id"]])
    network, architecture = factory.load(trained.folder)
    for row in (0, 17, len(table) - 1):
        pixels = Reader(data.root).pixels(data.table["path"].iloc[row], architecture.images)
        one = normalise(torch.from_numpy(pixels[None].copy()), *architecture.normalisation)
        with torch.inference_mode():
            alone = features_of(network, one)[0].numpy()
        np.testing.assert_allclose(embedded.vectors[row], alone, rtol=1e-3, atol=1e-4)


def test_logits_are_those_of_the_run(embedded, trained):
    expected = trained.predictions.set_index("image_id").loc[embedded.table["image_id"]]
    columns = [f"logit_{name}" for name in trained.classes]
    np.testing.assert_allclose(
        embedded.logits, expected[columns].astype(float), rtol=1e-3, atol=1e-4
    )


def test_files_are_embedded_like_the_catalogue_that_lists_them(embedded, trained, drawn, tmp_path):
    data, _ = drawn
    files = [data.root / path for path in data.table["path"].iloc[:5]]
    made = embed(trained, images=files, out=tmp_path / "files")
    assert list(made.table["image_id"]) == [path.stem for path in files]
    assert set(made.table["part"]) == {""}
    np.testing.assert_allclose(made.vectors, embedded.vectors[:5], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(made.logits, embedded.logits[:5], rtol=1e-3, atol=1e-4)
    assert made.info["head"] == embedded.info["head"]
    with pytest.raises(RunError, match="catalogue"):
        embed(trained, images=files[:4], out=tmp_path / "files")
    for number in (1, 2):
        (tmp_path / f"broken{number}.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 of 2 images .*broken1.*broken2"):
        embed(trained, images=sorted(tmp_path.glob("*.jpg")), out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_name_has_no_logits_and_takes_no_files(trained, drawn, tmp_path):
    weights = trained.folder / "model.safetensors"
    made = embed("lenet", drawn[0], out=tmp_path / "y", pretrained=str(weights), size=(32, 32))
    with pytest.raises(RunError, match="only a run has logits"):
        _ = made.logits
    for given in ({"images": ["a.jpg"]}, {}, {"data": drawn[0], "images": ["a.jpg"]}):
        with pytest.raises(SettingsError, match="Say what to embed"):
            embed("lenet", out=tmp_path / "z", **given)


def test_the_same_call_again_computes_nothing(embedded, trained, drawn, monkeypatch):
    monkeypatch.setattr(module, "embed_rows", refuse)
    said = []
    again = embed(trained, drawn[0], out=embedded.folder, listen=said.append)
    assert np.array_equal(again.vectors, embedded.vectors)
    assert any(isinstance(each, Notice) and "is complete" in each.text for each in said)


def test_other_embeddings_are_refused_by_name_and_discarded_only_when_told(
    embedded, trained, drawn, tmp_path, monkeypatch
):
    data, _ = drawn
    weights = tmp_path / "other.safetensors"
    network, _ = factory.load(trained.folder)
    with torch.no_grad():
        next(iter(network.parameters())).add_(1)
    factory.save_weights(network, weights)
    out = tmp_path / "features"
    embed(trained, data, out=out)
    with pytest.raises(RunError, match=r"(?s)normalisation.*weights: \w+ -> \w+.*--fresh"):
        embed("lenet", data, out=out, pretrained=str(weights), size=(32, 32))
    with monkeypatch.context() as patch:
        patch.setattr(module, "embed_rows", refuse)
        with pytest.raises(Killed):
            embed("lenet", data, out=out, pretrained=str(weights), size=(32, 32), fresh=True)
    assert np.array_equal(Embeddings.open(out).vectors, embedded.vectors)  # not lost before
    (out.parent / f".{out.name}.old" / "inside").mkdir(parents=True)  # of a --fresh, killed
    new = embed("lenet", data, out=out, pretrained=str(weights), size=(32, 32), fresh=True)
    assert not np.allclose(new.vectors, embedded.vectors)
    assert set(new.table["part"]) == {""}
    with pytest.raises(RunError, match=r"parts: + -> fold 0 of split"):
        embed(trained, data, out=out)
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_stopped_call_leaves_nothing(trained, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "write_json", refuse)
    with pytest.raises(Killed):
        embed(trained, drawn[0], out=tmp_path / "features")
    assert not (tmp_path / "features").exists()
    monkeypatch.undo()
    assert embed(trained, drawn[0], out=tmp_path / "features").vectors.shape[1] == 84


def test_a_folder_of_other_files_is_left_alone(trained, drawn, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="other files"):
        embed(trained, drawn[0], out=tmp_path, fresh=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_what_cannot_be_embedded_is_refused(trained, drawn, tmp_path):
    data, _ = drawn
    with pytest.raises(SettingsError, match="Random weights"):
        embed("lenet", data, out=tmp_path / "x")
    with pytest.raises(SettingsError, match="leave --pretrained"):
        embed(trained, data, out=tmp_path / "x", size=(40, 40))
    with pytest.raises(SettingsError, match="no model"):
        embed("lonet", data, out=tmp_path / "x", pretrained=True)
    with pytest.raises(RunError, match="no run folder"):
        embed(tmp_path, data, out=tmp_path / "x")


def test_the_verb_embeds_and_says_so(trained, drawn, tmp_path, capsys):
    words = ["embed", str(trained.folder), "--data", str(drawn[0].home)]
    assert main([*words, "--out", str(tmp_path / "features")]) == 0
    assert "84 features of each of 80 images" in capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path / "features"), "--pretrained", "true"]) == 2
    assert "weights and a size of its own" in capsys.readouterr().err
