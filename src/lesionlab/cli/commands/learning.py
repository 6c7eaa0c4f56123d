"""Verbs that train.

Signatures are the options, docstrings the help. Rooms are imported when a verb is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lesionlab.cli.outcome import (
    Outcome,
    WarningsLast,
    catalogue_and_split,
    headline,
    training_room,
)
from lesionlab.errors import SettingsError
from lesionlab.progress import Listener


def train(
    recipe: Path,
    *,
    data: Path,
    out: Path,
    split: Path | None = None,
    fold: int = 0,
    cache: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    fresh: bool = False,
    changes: Mapping[str, Any],
    listen: Listener,
) -> Outcome:
    """Train a network, keep the epoch that is best on val, and predict train, val and test.

    The same command again goes on where a stopped run was. Any setting of the recipe can be changed
    with its dotted name; the file comes first, flags win over it.

    Example: lesionlab train recipes/mobilenetv4_conv_small.yaml --data data/ham10000 --out run

    Args:
        recipe: a YAML file of settings.
        data: the catalogue's folder.
        out: the run's folder, new or unfinished.
        split: the split's CSV; by default split.csv beside the catalogue.
        fold: which fold is the test part.
        cache: folder of caches; by default `cache` beside the catalogue.
        device: auto takes CUDA where there is one.
        fresh: discard an earlier run in that folder.
    """
    from lesionlab.recipe.schema import Recipe

    settings = Recipe.load_with(recipe, changes)
    opened, parts = catalogue_and_split(data, split)
    training = training_room()
    run = training.train(
        settings,
        opened,
        parts,
        out=out,
        fold=fold,
        cache_to=cache,
        device=device,
        fresh=fresh,
        listen=listen,
    )
    from lesionlab.evaluation.evaluate import evaluate as score

    info = run.info
    how = "the last" if run.recipe.select.keep == "last" else "chosen on val"
    kept = f"Kept {run.kept}, {how}; {info['minutes']:.1f} minutes."
    if (run.predictions["part"] == "test").any():
        result = score(run.predictions, listen=WarningsLast(listen))  # the headline brings them
        outcome = headline(result, f"{out}, part test")
    else:
        outcome = Outcome(lines=["The split has no test part, so nothing was scored."])
    outcome.lines += [kept, f"Written: {out}. Next: lesionlab report {out} --out report.html"]
    return outcome


def embed(
    model: str,
    images: list[Path] | None = None,
    *,
    out: Path,
    data: Path | None = None,
    pretrained: str | None = None,
    size: tuple[int, int] | None = None,
    cache: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    fresh: bool = False,
    listen: Listener,
) -> Outcome:
    """Write the frozen features of a backbone for every image of a catalogue, once.

    They go into embeddings.npy, one row per row of embeddings.csv; embeddings.json says what they
    were made of. A run's logits go into logits.npy, and a run takes images too. To train a
    classifier on them, take a recipe with a probe as its head.

    Example: lesionlab embed resnet18 --pretrained resnet18.pth --data data/ham10000 --out features

    Args:
        model: a run's folder, or a name of `lesionlab models`.
        images: of a run, image files or folders of them, instead of a catalogue.
        out: the folder to write.
        data: the catalogue's folder.
        pretrained: of a model's name: a local .safetensors or .pth file, or `true` for timm's
            weights from its hub.
        size: of a model's name: height and width in pixels; by default its own.
        cache: folder of caches; by default `cache` beside the catalogue.
        device: auto takes CUDA where there is one.
        fresh: discard other embeddings in that folder.
    """
    from lesionlab.data.catalogue.catalogue import Catalogue

    found = training_room("prediction.embed").embed(
        model,
        Catalogue.open(data) if data else None,
        images or (),
        out=out,
        pretrained={None: False, "true": True}.get(pretrained, pretrained),
        size=size,
        cache_to=cache,
        device=device,
        fresh=fresh,
        listen=listen,
    )
    count, features = found.vectors.shape
    return Outcome(lines=[f"{out} holds {features} features of each of {count:,} images."])


def models(
    name: str | None = None,
    *,
    filter: str | None = None,
    listen: Listener,  # noqa: ARG001 - quick enough to say nothing
) -> Outcome:
    """List the networks to choose from, or show one: its groups of layers, input and weights.

    Parameters are counted with a linear head for seven classes. Depth is the number of convolutions
    and linear layers on the longest way from the image to the logits; the smallest input is the
    side of the smallest square image, of 16, 24, 32, ... 224 pixels, that the network takes.

    Example: lesionlab models densenet201

    Args:
        name: any network, those of timm included, to see its groups: where `phases.0.depth` can
            cut it, so that the groups below are frozen.
        filter: list all of timm's networks with this text in their names instead.
    """
    from lesionlab.cli.outcome import network, zoo

    listing = training_room("models.listing")
    if filter is not None:
        found = listing.list_others(filter)
        if found.empty:
            raise SettingsError(f"timm has no network with {filter!r} in its name.")
        return Outcome([(f"Networks with {filter!r} in their names", found)])
    return zoo(listing.list_models()) if name is None else network(listing.describe(name))
