"""Embeddings: what a frozen backbone makes of every image, computed once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lesionlab.augmentation.batch import normalise
from lesionlab.data.catalogues import Catalogue
from lesionlab.data.images import cache, preprocessing_fingerprint
from lesionlab.data.splitting import Split
from lesionlab.errors import RunError, SettingsError
from lesionlab.files import discard, new_folder, replacing, write_csv, write_json
from lesionlab.models import zoo
from lesionlab.models.fusion import image_net
from lesionlab.models.heads import head_of
from lesionlab.prediction.from_run import CHUNK, Device, choose_device
from lesionlab.prediction.inputs import cache_home
from lesionlab.progress import Listener, Notice, Step, silent
from lesionlab.recipe import Images, Model
from lesionlab.run import SPLIT, Folder, Run, holds, refuse_differences
from lesionlab.tables import read_csv

VECTORS = "embeddings.npy"
TABLE = "embeddings.csv"
INFO = "embeddings.json"


@dataclass(frozen=True)
class Embeddings(Folder):
    """A folder of embeddings.

    Files: embeddings.npy (float32, shape (n, features)), embeddings.csv (one row per row of it:
    image_id, target, lesion_id, patient_id, part) and embeddings.json (what they were made of:
    identity, classes, model and size).
    """

    marker = INFO
    kind = "folder of embeddings"
    hint = "Make them first: lesionlab embed"

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """The embeddings, memory-mapped read-only, shape (n, features)."""
        return np.load(self.folder / VECTORS, mmap_mode="r")  # type: ignore[no-any-return]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per embedding: image_id, target, lesion_id, patient_id, part ("": not known)."""
        return read_csv(self.folder / TABLE)


def embed(
    model: str | Path | Run,
    data: Catalogue,
    *,
    out: str | Path,
    pretrained: bool | str = False,
    size: tuple[int, int] | None = None,
    cache_to: str | Path | None = None,
    device: Device = "auto",
    fresh: bool = False,
    listen: Listener = silent,
) -> Embeddings:
    """Write what a frozen backbone makes of every image of a catalogue: its pooled features.

    They are what the classifier would get, before it and before any metadata. The same call again
    finds them complete, or refuses a folder that holds others.

    Args:
        model: a finished run or its folder, or a model's name.
        data: the catalogue.
        out: the folder to write.
        pretrained: of a model's name: True for timm's weights from its hub, or a local .safetensors
            or .pth file. A run has weights of its own.
        size: of a model's name: height and width in pixels; by default those that it was designed
            for. A run has a size of its own.
        cache_to: folder of the image caches; by default `cache` beside the catalogue.
        device: "auto" takes CUDA where there is one.
        fresh: discard other embeddings in that folder.
        listen: told of the progress.

    Raises:
        SettingsError: if the model's name or its weights are unknown or missing, or if a run is
            given weights or a size.
        RunError: if the run is not finished, or the folder holds something else; the differences
            are named.
    """
    out = Path(out)
    run = _run_of(model)
    if run is None:
        network, architecture = _from_name(str(model), data, pretrained, size)
    elif pretrained is not False or size is not None:
        raise SettingsError(
            f"{run.folder} is a run, with weights and a size of its own: leave --pretrained and "
            "--size out, or give a model's name."
        )
    else:
        network, architecture = zoo.load(run.folder)
    identity = {
        "catalogue": data.fingerprint,
        "preprocessing": preprocessing_fingerprint(architecture.images),
        "normalisation": list(map(str, architecture.normalisation)),
        "model": architecture.name,
        "weights": _weights_fingerprint(network),
        "parts": _split_of(run, data),
    }
    if _finished(out, identity, fresh, listen):
        return Embeddings.open(out)
    home = cache_home(data, cache_to)
    pixels = cache(data.table, data.root, architecture.images, home, listen=listen)
    rows = pixels.rows(list(data.table["sha256"]))
    network.to(choose_device(device))
    table = data.table[["image_id", "target", "lesion_id", "patient_id"]]
    info: dict[str, Any] = {
        "identity": identity,
        "model": str(run.folder) if run else str(model),
        "pretrained": True if run else pretrained,
        "size": list(architecture.images.size),
        "classes": list(data.classes),
    }
    with new_folder(out) as part:
        vectors = embed_rows(network, architecture, pixels.pixels, rows, listen=listen)
        info |= {"images": len(vectors), "features": vectors.shape[1]}
        with replacing(part / VECTORS) as path, path.open("wb") as handle:
            np.save(handle, vectors)
        write_csv(part / TABLE, table.assign(part=_parts(run, data)))
        write_json(part / INFO, info)
        discard(out)
    return Embeddings.open(out)


def embed_rows(
    network: nn.Module,
    architecture: zoo.Architecture,
    pixels: NDArray[np.uint8],
    rows: NDArray[np.int64],
    *,
    listen: Listener = silent,
) -> NDArray[np.float32]:
    """Embeddings of decoded images.

    Args:
        network: from `zoo.build` or `zoo.load`; set to evaluation mode here.
        architecture: its normalisation.
        pixels: uint8, shape (images, height, width, 3).
        rows: which of them, shape (n,).
        listen: told of the progress.

    Returns:
        float32, shape (n, features).

    Raises:
        SettingsError: if the network has no pooled features.
    """
    network.eval()
    device = next(network.parameters()).device
    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), CHUNK):
            images = torch.from_numpy(pixels[rows[start : start + CHUNK]]).to(device)
            views = normalise(images, *architecture.normalisation)
            views = views.contiguous(memory_format=torch.channels_last)
            found.append(features_of(network, views, architecture.name).float().cpu().numpy())
            listen(Step("embedding", min(start + CHUNK, len(rows)), len(rows), "images"))
    return np.concatenate(found)


def features_of(network: nn.Module, images: Tensor, name: str = "the model") -> Tensor:
    """What the classifier of a network gets for images, without any metadata.

    Args:
        network: from images to logits, fused or not.
        images: float32, shape (n, 3, height, width).
        name: what to call the network in messages.

    Returns:
        Shape (n, features).

    Raises:
        SettingsError: if the network has no single classifier, or one that gets a map of features.
    """
    seen: list[Tensor] = []
    handle = head_of(network).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        network(images)
    finally:
        handle.remove()
    if len(seen) != 1 or seen[0].flatten(1).shape[1] != seen[0].shape[1]:
        raise SettingsError(
            f"{name} does not end in one classifier of pooled features, so it has no embeddings: "
            "choose another model."
        )
    return seen[0].flatten(1)


def _run_of(model: str | Path | Run) -> Run | None:
    """The finished run that is meant; None for a model's name."""
    if not isinstance(model, Run):
        if not Path(model).exists():
            return None
        model = Run.open(model)
    if not model.complete:
        raise RunError(
            f"{model.folder} is not finished: give the same `lesionlab train` command again first."
        )
    return model


def _from_name(
    name: str, data: Catalogue, pretrained: bool | str, size: tuple[int, int] | None
) -> tuple[nn.Module, zoo.Architecture]:
    zoo.check_name(name)
    if pretrained is False:
        raise SettingsError(
            f"Random weights of {name} say nothing about an image. Give weights: --pretrained "
            "FILE.safetensors, or --pretrained true for timm's from its hub."
        )
    config = timm.get_pretrained_cfg(name)
    _, height, width = config.input_size if config else (3, 224, 224)
    model = Model(name=name, pretrained=pretrained)
    architecture = zoo.Architecture.of(model, data.classes, Images(size=size or (height, width)))
    with torch.random.fork_rng(devices=[]):  # an untrained classifier is drawn, and not used
        return zoo.build(architecture, pretrained), architecture


def _weights_fingerprint(network: nn.Module) -> str:
    """16 hexadecimal digits over all weights below the classifier."""
    network = image_net(network)
    head = {id(each) for each in head_of(network).state_dict(keep_vars=True).values()}
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict(keep_vars=True).items()):
        if id(value) not in head:
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _finished(out: Path, identity: dict[str, Any], fresh: bool, listen: Listener) -> bool:
    """Whether the folder holds these embeddings; refuses a folder of anything else."""
    if not holds(out, INFO):
        return False
    if fresh:
        listen(Notice(f"Discarding what {out} held."))
        return False
    theirs = Embeddings.open(out).info["identity"]
    lines = [
        f"{name}: {theirs.get(name)} -> {mine}"
        for name, mine in identity.items()
        if theirs.get(name) != mine
    ]
    refuse_differences(out, lines)
    listen(Notice(f"{out} is complete: nothing to do. --fresh would compute it again."))
    return True


def _split_of(run: Run | None, data: Catalogue) -> str:
    """Split and fold of a run on this catalogue; "" where there is none."""
    identity = run.info["identity"] if run else {}
    if identity.get("catalogue") != data.fingerprint:
        return ""
    return f"fold {identity['fold']} of split {identity['split']}"


def _parts(run: Run | None, data: Catalogue) -> pd.Series[str] | str:
    """The part of each image in the run's own split; "" where the run knows no part of it."""
    if run is None or not _split_of(run, data):
        return ""
    parts = Split.open(run.folder / SPLIT).parts(run.info["identity"]["fold"])
    return data.table["image_id"].map(parts)
